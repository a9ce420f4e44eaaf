// shard_worker/ranks.c: see ranks.h.
#include "shard_worker/ranks.h"

#include <mpi.h>
#include <stdio.h>
#include <unistd.h>

static MPI_Comm all = MPI_COMM_NULL; // Ours alone: errors on it come back as codes.
static int index_of_this = 0;
static int count = 1;

static enum err refused(const char *what, int code)
{
    char words[MPI_MAX_ERROR_STRING + 1] = "";
    int bytes = 0;
    if (MPI_Error_string(code, words, &bytes) != MPI_SUCCESS) {
        snprintf(words, sizeof words, "error %d", code);
    }
    FAIL(ERR_IO, "MPI: %s: %s", what, words);
}

enum err ranks_start(int *argc, char ***argv)
{
    int provided = 0;
    int code = MPI_Init_thread(argc, argv, MPI_THREAD_FUNNELED, &provided);
    if (code != MPI_SUCCESS) {
        return refused("start", code);
    }
    if (provided < MPI_THREAD_FUNNELED) {
        FAIL(ERR_IO, "MPI: thread support of level %d, expected at least MPI_THREAD_FUNNELED",
             provided);
    }
    code = MPI_Comm_dup(MPI_COMM_WORLD, &all);
    if (code != MPI_SUCCESS) {
        return refused("communicator", code);
    }
    code = MPI_Comm_set_errhandler(all, MPI_ERRORS_RETURN);
    code = code != MPI_SUCCESS ? code : MPI_Comm_rank(all, &index_of_this);
    code = code != MPI_SUCCESS ? code : MPI_Comm_size(all, &count);
    return code == MPI_SUCCESS ? OK : refused("rank and size", code);
}

uint32_t ranks_index(void)
{
    return (uint32_t)index_of_this;
}

uint32_t ranks_count(void)
{
    return (uint32_t)count;
}

noreturn void ranks_leave(int code)
{
    _exit(code);
}
