// client/process.h: the processes of a local cluster: starting them, finding them, ending them.
//
// A process is found again by its pid file, and only believed to be ours when it runs the program
// expected and its arguments name the cluster: pids are reused.
//
// Threads   One.
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

enum { PROCESS_PATH_BYTES = 4096 };

// The path of the program `name` beside this one's own.
// ERR_UNAVAILABLE: there is none that can be executed.
MUST_USE enum err process_beside(const char *name, char path_out[static PROCESS_PATH_BYTES]);

struct process_start {
    const char *program;     // Path.
    const char *const *args; // [.. NULL], the program's name first.
    const char *log;         // stdout and stderr are appended to it; made 0600.
    bool lives_on;           // Else it gets SIGTERM when this process dies.
};
// Starts it in a session of its own. ERR_IO: the kernel refused.
MUST_USE enum err process_start(const struct process_start *start, pid_t *pid_out);

// Whether a child of ours has ended; then its exit code, or minus the signal that ended it.
bool process_ended(pid_t pid, int *code_out);

// The pid in `path`, if that process lives, runs a program called `name`, and has an argument that
// lies in the directory `dir`. Else 0.
pid_t process_find(const char *path, const char *name, const char *dir);

// Sends SIGTERM, after patience_ms SIGKILL, and waits until it is gone. True: it went by itself.
bool process_stop(pid_t pid, int patience_ms);

// Writes the pid as one line, whole or not at all.
MUST_USE enum err process_write_pid(const char *path, pid_t pid);

// Copies the last lines that a log has beyond its first from_bytes, each after a line end and two
// blanks; " nothing" if there is none.
enum { PROCESS_TAIL_BYTES = 768 };
void process_log_tail(const char *path, int64_t from_bytes, char out[static PROCESS_TAIL_BYTES]);

int64_t process_log_bytes(const char *path); // 0 where there is none.
