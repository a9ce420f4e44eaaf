// shard_worker/launch.c: see launch.h.
#include "shard_worker/launch.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/text.h"

enum { POLL_MS = 20, ORPHAN_TERM_MS = 2000, EXIT_NO_EXEC = 127 };

enum err launch_check(const char *path)
{
    struct stat stat_of;
    if (stat(path, &stat_of) != 0 || !S_ISREG(stat_of.st_mode) || access(path, X_OK) != 0) {
        FAIL(ERR_UNAVAILABLE, "%s is not a program that may be executed", path);
    }
    return OK;
}

enum err launch_find(const char *name, char path_out[static LAUNCH_PATH_BYTES])
{
    const char *at = getenv("PATH");
    at = at == NULL ? "/usr/local/bin:/usr/bin:/bin" : at;
    while (*at != '\0') {
        const size_t bytes = strcspn(at, ":");
        const int used = snprintf(path_out, LAUNCH_PATH_BYTES, "%.*s/%s", (int)bytes, at, name);
        if (bytes > 0 && used < LAUNCH_PATH_BYTES && launch_check(path_out) == OK) {
            return OK;
        }
        at += bytes + (at[bytes] == ':' ? 1 : 0);
    }
    FAIL(ERR_UNAVAILABLE, "no program %s was found in the directories of PATH", name);
}

enum err launch_beside(const char *name, char path_out[static LAUNCH_PATH_BYTES])
{
    char self[LAUNCH_PATH_BYTES];
    const ssize_t bytes = readlink("/proc/self/exe", self, sizeof self - 1);
    char *const slash = bytes > 0 ? memrchr(self, '/', (size_t)bytes) : NULL;
    if (slash == NULL) {
        FAIL(ERR_IO, "the path of this program could not be read from /proc/self/exe");
    }
    *slash = '\0';
    if (snprintf(path_out, LAUNCH_PATH_BYTES, "%s/%s", self, name) >= LAUNCH_PATH_BYTES) {
        FAIL(ERR_IO, "the path of this program is longer than %d bytes", (int)LAUNCH_PATH_BYTES);
    }
    return OK;
}

void launch_adopt(void)
{
    CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0);
}

// In the child: only calls that are safe after a fork of a program with threads.
static void become(const char *path, const char *const argv[], pid_t parent)
{
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0);
    if (getppid() != parent) {
        _exit(EXIT_NO_EXEC); // The fleet died before it could be told to us.
    }
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    const int nothing = open("/dev/null", O_RDONLY);
    if (nothing >= 0) {
        dup2(nothing, STDIN_FILENO); // mpirun must not eat the terminal's input.
    }
    close_range(STDERR_FILENO + 1, ~0U, 0);
    execv(path, (char *const *)(uintptr_t)argv);
    _exit(EXIT_NO_EXEC);
}

enum err launch_start(const struct launch_plan *plan, pid_t *pid_out)
{
    char ranks[16], cache[24];
    char fleet[2 * ID_BYTES + 1];
    snprintf(ranks, sizeof ranks, "%u", plan->ranks);
    snprintf(cache, sizeof cache, "%llu", (unsigned long long)plan->cache_mib);
    hex_put(fleet, plan->fleet, sizeof plan->fleet);
    // Recovery keeps the other ranks when one dies; the rest is for hosts with fewer cores than
    // ranks, and for containers, where one process may not read another's memory.
    const char *argv[40] = {plan->mpirun,
                            "--enable-recovery",
                            "--oversubscribe",
                            "--bind-to",
                            "none",
                            "--mca",
                            "mpi_yield_when_idle",
                            "1",
                            "--mca",
                            "btl_vader_single_copy_mechanism",
                            "none",
                            "-np",
                            ranks};
    size_t count = 13;
    if (plan->hostfile != NULL) {
        argv[count++] = "--hostfile";
        argv[count++] = plan->hostfile;
    }
    if (getenv("OPENBLAS_CORETYPE") != NULL) { // Ranks on other hosts must compute alike.
        argv[count++] = "-x";
        argv[count++] = "OPENBLAS_CORETYPE";
    }
    const char *const rest[] = {plan->worker, "--coordinator", plan->endpoint, "--fleet",
                                fleet,        "--cache",       cache};
    memcpy(argv + count, rest, sizeof rest);
    count += sizeof rest / sizeof rest[0];
    // Paths alone: everybody can read a command line.
    const char *const keys[] = {"--key", plan->key, "--server-key", plan->server_key};
    if (plan->key == NULL) {
        argv[count] = "--insecure-loopback";
    } else {
        memcpy(argv + count, keys, sizeof keys);
    }
    const pid_t parent = getpid();
    const pid_t pid = fork();
    if (pid < 0) {
        FAIL(ERR_IO, "mpirun could not be started: %s", strerror(errno));
    }
    if (pid == 0) {
        become(plan->mpirun, argv, parent);
    }
    setpgid(pid,
            pid); // Also here: whichever process comes first. It fails after the exec, rightly.
    *pid_out = pid;
    return OK;
}

bool launch_ended(pid_t pid, int *status_out)
{
    pid_t got;
    do {
        got = waitpid(pid, status_out, WNOHANG);
    } while (got < 0 && errno == EINTR);
    if (got < 0) {
        *status_out = 0; // Not our child any more: nothing to wait for.
    }
    return got != 0;
}

static void pause_ms(int64_t ms)
{
    const struct timespec time = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&time, NULL);
}

// Sends `signal` to every child of this process.
static void signal_children(int signal)
{
    DIR *const proc = opendir("/proc");
    if (proc == NULL) {
        return;
    }
    const struct dirent *entry;
    while ((entry = readdir(proc)) != NULL) {
        char path[300];
        snprintf(path, sizeof path, "/proc/%s/stat", entry->d_name);
        uint64_t pid = 0;
        const bool process = text_u64(entry->d_name, INT32_MAX, &pid) == OK;
        FILE *const file = process ? fopen(path, "re") : NULL;
        if (file != NULL) {
            char line[512] = "";
            // "pid (name) state ppid ...": the name may hold anything, so from its last bracket on.
            const char *const at =
                fgets(line, sizeof line, file) == NULL ? NULL : strrchr(line, ')');
            if (at != NULL && strlen(at) > 4 && strtol(at + 4, NULL, 10) == getpid()) {
                kill((pid_t)pid, signal);
            }
            fclose(file);
        }
    }
    closedir(proc);
}

// Ends and reaps every child that is left: ranks of a dead mpirun, adopted.
static void end_children(void)
{
    const int64_t start_ms = clock_mono_ms();
    signal_children(SIGTERM);
    signal_children(SIGCONT); // A stopped rank would not see it.
    for (bool killed = false;;) {
        const pid_t got = waitpid(-1, NULL, WNOHANG);
        if (got < 0 && errno == ECHILD) {
            return;
        }
        if (got == 0) {
            killed = killed || clock_mono_ms() - start_ms >= ORPHAN_TERM_MS;
            if (killed) {
                signal_children(SIGKILL);
            }
            pause_ms(POLL_MS);
        }
    }
}

void launch_end(pid_t pid, bool ended)
{
    const int64_t start_ms = clock_mono_ms();
    int status = 0;
    if (!ended) {
        kill(-pid, SIGTERM);
    }
    while (!ended) {
        ended = launch_ended(pid, &status);
        if (!ended && clock_mono_ms() - start_ms >= LAUNCH_TERM_MS) {
            kill(-pid, SIGKILL);
        }
        pause_ms(ended ? 0 : POLL_MS);
    }
    end_children();
}
