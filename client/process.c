// client/process.c: see process.h.
#include "client/process.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <stdnoreturn.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/text.h"

enum { PAUSE_MS = 20, KILL_WAIT_MS = 5000, TAIL_BYTES = 700, TAIL_LINES = 5 };
// In a tail each line brings a line end and two blanks of its own.
_Static_assert(TAIL_BYTES + 3 * TAIL_LINES + 1 <= PROCESS_TAIL_BYTES, "a tail fits");

static void pause_ms(int64_t ms)
{
    nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000}, NULL);
}

enum err process_beside(const char *name, char path_out[static PROCESS_PATH_BYTES])
{
    const ssize_t bytes = readlink("/proc/self/exe", path_out, PROCESS_PATH_BYTES - 1);
    if (bytes <= 0) {
        FAIL(ERR_IO, "cannot read /proc/self/exe: %s", strerror(errno));
    }
    path_out[bytes] = '\0';
    char *const slash = strrchr(path_out, '/');
    const size_t room = PROCESS_PATH_BYTES - (size_t)(slash + 1 - path_out);
    if ((size_t)snprintf(slash + 1, room, "%s", name) >= room) {
        FAIL(ERR_IO, "the path of %s is too long", name);
    }
    if (access(path_out, X_OK) != 0) {
        FAIL(ERR_UNAVAILABLE, "the program %s is missing: expected it beside unlearnctl, at %s",
             name, path_out);
    }
    return OK;
}

// --- Starting ---

// In the child: sets the stage and becomes the program. `report` tells the parent why not.
static noreturn void become(const struct process_start *start, int log, int report)
{
    sigset_t none;
    sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    (void)setsid();
    if (!start->lives_on) {
        (void)prctl(PR_SET_PDEATHSIG, SIGTERM);
    }
    const int nothing = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (nothing >= 0 && dup2(nothing, STDIN_FILENO) >= 0 && dup2(log, STDOUT_FILENO) >= 0 &&
        dup2(log, STDERR_FILENO) >= 0) {
        // execv's argument has no const; it does not write.
        execv(start->program, (char *const *)(uintptr_t)start->args);
    }
    const int why = errno;
    const ssize_t sent = write(report, &why, sizeof why);
    _exit(sent == (ssize_t)sizeof why ? 127 : 126);
}

static enum err start_with(const struct process_start *start, int log, int report[2],
                           pid_t *pid_out)
{
    const pid_t pid = fork();
    if (pid < 0) {
        FAIL(ERR_IO, "cannot start %s: %s", start->program, strerror(errno));
    }
    if (pid == 0) {
        become(start, log, report[1]);
    }
    close(report[1]);
    report[1] = -1;
    int why = 0;
    // Ends without a byte when exec closes the other end.
    const ssize_t got = read(report[0], &why, sizeof why);
    if (got > 0) {
        (void)waitpid(pid, NULL, 0);
        FAIL(ERR_IO, "cannot start %s: %s", start->program, strerror(why));
    }
    *pid_out = pid;
    return OK;
}

enum err process_start(const struct process_start *start, pid_t *pid_out)
{
    const int log = open(start->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (log < 0) {
        FAIL(ERR_IO, "cannot open %s: %s", start->log, strerror(errno));
    }
    int report[2];
    enum err err = OK;
    if (pipe2(report, O_CLOEXEC) != 0) {
        err = err_raise(ERR_IO, "cannot make a pipe: %s", strerror(errno));
    } else {
        err = start_with(start, log, report, pid_out);
        close(report[0]);
        if (report[1] >= 0) {
            close(report[1]);
        }
    }
    close(log);
    return err;
}

bool process_ended(pid_t pid, int *code_out)
{
    int status;
    if (waitpid(pid, &status, WNOHANG) != pid) {
        return false;
    }
    *code_out = WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
    return true;
}

// --- Finding ---

// Reads a small file whole, with a NUL behind it; 0 bytes when it cannot be read.
static size_t read_small(const char *path, char *out, size_t capacity)
{
    out[0] = '\0';
    const int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) {
        return 0;
    }
    size_t bytes = 0;
    for (ssize_t got = 1; got > 0 && bytes < capacity - 1; bytes += (size_t)(got > 0 ? got : 0)) {
        got = read(file, out + bytes, capacity - 1 - bytes);
    }
    close(file);
    out[bytes] = '\0';
    return bytes;
}

// The name that the kernel keeps, of which it cuts what is longer; and the user must be ours.
static bool is_called(pid_t pid, const char *name)
{
    char path[64], found[32], status[2048];
    snprintf(path, sizeof path, "/proc/%d/comm", (int)pid);
    read_small(path, found, sizeof found);
    found[strcspn(found, "\n")] = '\0';
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    read_small(path, status, sizeof status);
    const char *const line = strstr(status, "\nUid:\t");
    const bool ours = line != NULL && strtoul(line + 6, NULL, 10) == getuid();
    return ours && found[0] != '\0' && strncmp(found, name, 15) == 0;
}

static bool runs(pid_t pid, const char *name)
{
    char path[64], program[PROCESS_PATH_BYTES];
    snprintf(path, sizeof path, "/proc/%d/exe", (int)pid);
    const ssize_t bytes = readlink(path, program, sizeof program - 1);
    if (bytes <= 0 && (errno == EACCES || errno == EPERM)) {
        return is_called(pid, name); // Ours are not dumpable: the kernel hides the link of those.
    }
    if (bytes <= 0) {
        return false; // A zombie, or gone: in no case ours to end.
    }
    program[bytes] = '\0';
    char *const deleted = strstr(program, " (deleted)"); // Built anew since.
    if (deleted != NULL) {
        *deleted = '\0';
    }
    const char *const slash = strrchr(program, '/');
    return slash != NULL && strcmp(slash + 1, name) == 0;
}

static bool lies_in(const char *path, const char *dir)
{
    char real[PATH_MAX];
    const size_t dir_bytes = strlen(dir);
    return realpath(path, real) != NULL && strncmp(real, dir, dir_bytes) == 0 &&
           (real[dir_bytes] == '\0' || real[dir_bytes] == '/');
}

// Whether an argument of the process, seen from its working directory, lies in `dir`.
static bool names(pid_t pid, const char *dir)
{
    char path[PROCESS_PATH_BYTES], args[4 * PROCESS_PATH_BYTES], real_dir[PATH_MAX];
    snprintf(path, sizeof path, "/proc/%d/cmdline", (int)pid);
    const size_t bytes = read_small(path, args, sizeof args);
    if (realpath(dir, real_dir) == NULL) {
        return false;
    }
    for (size_t at = 0; at < bytes; at += strlen(args + at) + 1) {
        snprintf(path, sizeof path, "/proc/%d/cwd/%s", (int)pid, args + at);
        if (lies_in(args[at] == '/' ? args + at : path, real_dir)) {
            return true;
        }
    }
    return false;
}

pid_t process_find(const char *path, const char *name, const char *dir)
{
    char text[32];
    uint64_t pid;
    read_small(path, text, sizeof text);
    text[strcspn(text, "\n")] = '\0';
    if (text_u64(text, INT32_MAX, &pid) != OK || pid <= 1) {
        return 0;
    }
    return runs((pid_t)pid, name) && names((pid_t)pid, dir) ? (pid_t)pid : 0;
}

// --- Ending ---

// Gone, or a zombie that only its parent can take away.
static bool is_gone(pid_t pid)
{
    (void)waitpid(pid, NULL, WNOHANG);
    char path[64], stat[512];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    if (read_small(path, stat, sizeof stat) == 0) {
        return true;
    }
    const char *const state = strrchr(stat, ')');
    return state != NULL && state[1] == ' ' && state[2] == 'Z';
}

static bool wait_gone(pid_t pid, int64_t until_ms)
{
    while (!is_gone(pid)) {
        if (clock_mono_ms() >= until_ms) {
            return false;
        }
        pause_ms(PAUSE_MS);
    }
    return true;
}

bool process_stop(pid_t pid, int patience_ms)
{
    (void)kill(pid, SIGTERM);
    if (wait_gone(pid, clock_mono_ms() + patience_ms)) {
        return true;
    }
    (void)kill(pid, SIGKILL);
    (void)wait_gone(pid, clock_mono_ms() + KILL_WAIT_MS);
    return false;
}

enum err process_write_pid(const char *path, pid_t pid)
{
    char fresh[PROCESS_PATH_BYTES];
    snprintf(fresh, sizeof fresh, "%s.new", path);
    FILE *const file = fopen(fresh, "we");
    const bool written = file != NULL && fprintf(file, "%d\n", (int)pid) > 0;
    if ((file != NULL && fclose(file) != 0) || !written || rename(fresh, path) != 0) {
        FAIL(ERR_IO, "cannot write %s: %s", path, strerror(errno));
    }
    return OK;
}

int64_t process_log_bytes(const char *path)
{
    struct stat found;
    return stat(path, &found) == 0 ? (int64_t)found.st_size : 0;
}

void process_log_tail(const char *path, int64_t from_bytes, char out[static PROCESS_TAIL_BYTES])
{
    char text[TAIL_BYTES + 1];
    ssize_t got = 0;
    const int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file >= 0) {
        const off_t end = lseek(file, 0, SEEK_END);
        from_bytes = end - from_bytes > TAIL_BYTES ? end - TAIL_BYTES : from_bytes;
        got = pread(file, text, TAIL_BYTES, from_bytes);
        close(file);
    }
    const size_t bytes = got > 0 ? (size_t)got : 0;
    text[bytes] = '\0';
    size_t at = bytes; // Goes back to the start of the last lines.
    for (int lines = 0; at > 0; at--) {
        if (text[at - 1] == '\n' && at < bytes && ++lines == TAIL_LINES) {
            break;
        }
    }
    size_t used = 0;
    snprintf(out, PROCESS_TAIL_BYTES, " nothing");
    char *rest = text + at;
    for (char *line; (line = strsep(&rest, "\n")) != NULL;) {
        if (line[0] != '\0') {
            used += (size_t)snprintf(out + used, PROCESS_TAIL_BYTES - used, "\n  %s", line);
        }
    }
}
