// bench/count.c: a library to be loaded before a program (LD_PRELOAD) that counts what the program has
// LMDB write: rows, their sizes, commits, by table. deletions.c learns from it what its reference must
// write. It changes nothing that the program does, but for its session: the cluster stays in that of the
// bench, since a kernel that shares the processors between sessions (autogroup: sched(7)) knows no clients that
// give way (clients.h) across them.
//
// UNLEARN_COUNTS names the file, which must have the size of struct counts.
#include "bench/count.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <lmdb.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static struct counts *counts;
static uint64_t writes, requests; // Of the transaction that is open: there is one at a time.

__attribute__((constructor)) static void map_file(void)
{
    const char *const path = getenv("UNLEARN_COUNTS");
    const int fd = path == NULL ? -1 : open(path, O_RDWR | O_CLOEXEC);
    if (fd >= 0) {
        void *const at = mmap(NULL, sizeof *counts, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        counts = at == MAP_FAILED ? NULL : at;
        (void)close(fd);
    }
}

// The library's own function of that name.
static void *real(const char *name)
{
    void *const at = dlsym(RTLD_NEXT, name);
    if (at == NULL) {
        abort();
    }
    return at;
}
#define REAL(name)                                                                                 \
    static __typeof__(&(name)) next;                                                               \
    if (next == NULL) {                                                                            \
        void *const at = real(#name);                                                              \
        memcpy(&next, &at, sizeof next);                                                           \
    }

// A group of its own it has all the same: what a terminal sends to ours does not reach it.
pid_t setsid(void)
{
    (void)setpgid(0, 0);
    return getpid();
}

int mdb_dbi_open(MDB_txn *txn, const char *name, unsigned flags, MDB_dbi *dbi)
{
    REAL(mdb_dbi_open)
    const int rc = next(txn, name, flags, dbi);
    if (rc == 0 && counts != NULL && name != NULL && *dbi < COUNT_TABLES) {
        strncpy(counts->tables[*dbi].name, name, COUNT_NAME_BYTES - 1);
    }
    return rc;
}

int mdb_put(MDB_txn *txn, MDB_dbi dbi, MDB_val *key, MDB_val *data, unsigned flags)
{
    REAL(mdb_put)
    if (counts != NULL && dbi < COUNT_TABLES) {
        struct count_table *const table = &counts->tables[dbi];
        atomic_fetch_add(&table->puts, 1);
        atomic_fetch_add(&table->put_key_bytes, key->mv_size);
        atomic_fetch_add(&table->put_value_bytes, data->mv_size);
        writes++;
        requests += strcmp(table->name, "request_uuid") == 0;
    }
    return next(txn, dbi, key, data, flags);
}

int mdb_del(MDB_txn *txn, MDB_dbi dbi, MDB_val *key, MDB_val *data)
{
    REAL(mdb_del)
    const int rc = next(txn, dbi, key, data);
    if (rc == 0 && counts != NULL && dbi < COUNT_TABLES) {
        atomic_fetch_add(&counts->tables[dbi].drops, 1);
        writes++;
    }
    return rc;
}

int mdb_txn_commit(MDB_txn *txn)
{
    REAL(mdb_txn_commit)
    if (counts != NULL && writes > 0) {
        atomic_fetch_add(&counts->commits, 1);
        atomic_fetch_add(&counts->ack_commits, requests > 0);
    }
    writes = requests = 0;
    return next(txn);
}
