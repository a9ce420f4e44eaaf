// client/cmd_server.c: commands for whoever runs the coordinator, on its machine: logs, reload.
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "client/cluster.h"
#include "client/commands.h"
#include "client/interrupt.h"
#include "client/process.h"

enum {
    LINES = 20, // Without --lines.
    LINES_MAX = 10000,
    LINE_BYTES = 2048, // The longest that base/log.c writes.
    LOOK_MS = 100,
    RELOAD_MS = 10000,
    ANSWER_BYTES = 512,
};

static void pause_ms(int64_t ms)
{
    nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000}, NULL);
}

// DIR as unlearnd's arguments name it. ERR_NOT_FOUND: no cluster there. *dir_out: free with free.
static enum err home_of(const struct ctl *ctl, const struct args_list *words, char **dir_out)
{
    const char *dir;
    uint32_t ranks;
    TRY(ctl_dir(ctl, words, &dir));
    TRY(cluster_ranks(dir, &ranks)); // Says where no cluster is.
    *dir_out = realpath(dir, NULL);
    if (*dir_out == NULL || strlen(*dir_out) > PROCESS_PATH_BYTES - 100) {
        const int why = *dir_out == NULL ? errno : ENAMETOOLONG;
        free(*dir_out);
        FAIL(ERR_IO, "cannot find %s: %s", dir, strerror(why));
    }
    return OK;
}

// --- logs ---

struct logs {
    struct ctl_globals globals;
    bool follow, fleet;
    struct args_u64 lines;
};

static const struct args_option logs_options[] = {
    CTL_GLOBAL_OPTIONS,
    {"fleet", 1200, NULL, "The log of the fleet and its workers", ARGS_FLAG,
     offsetof(struct logs, fleet), 0},
    {"follow", 'f', NULL, "Go on as it grows, until Ctrl-C", ARGS_FLAG,
     offsetof(struct logs, follow), 0},
    {"lines", 'n', "N", "So many of its last lines (20)", ARGS_U64, offsetof(struct logs, lines),
     LINES_MAX},
};

static enum err open_log(const char *path, int *fd_out)
{
    *fd_out = open(path, O_RDONLY | O_CLOEXEC);
    if (*fd_out < 0) {
        FAIL(errno == ENOENT ? ERR_NOT_FOUND : ERR_IO,
             "%s: %s: unlearnctl up writes it; what systemd started logs to its journal "
             "(journalctl -u unlearnd)",
             path, strerror(errno));
    }
    return OK;
}

// The last lines, in memory to be freed with mem_free; ends before *end_out.
static enum err read_tail(int fd, uint64_t lines, char **text_out, size_t *bytes_out,
                          off_t *end_out)
{
    struct stat stat_of;
    if (fstat(fd, &stat_of) != 0) {
        FAIL(ERR_IO, "the log cannot be read: %s", strerror(errno));
    }
    const off_t most = (off_t)(lines * LINE_BYTES);
    const off_t from = stat_of.st_size > most ? stat_of.st_size - most : 0;
    size_t bytes = (size_t)(stat_of.st_size - from);
    char *const text = mem_alloc(bytes + 1, 1);
    const ssize_t got = pread(fd, text, bytes, from);
    bytes = got < 0 ? 0 : (size_t)got;
    size_t at = bytes;
    for (uint64_t left = lines; at > 0; at--) {
        // The line end before the first of them; the last line's own does not count.
        if (text[at - 1] == '\n' && at < bytes && --left == 0) {
            break;
        }
    }
    if (at == 0 && from > 0) { // What was cut off is no line.
        const char *const end = memchr(text, '\n', bytes);
        at = end == NULL ? 0 : (size_t)(end - text) + 1;
    }
    if (lines == 0) {
        at = bytes;
    }
    memmove(text, text + at, bytes - at);
    *text_out = text;
    *bytes_out = bytes - at;
    *end_out = from + (off_t)bytes;
    return OK;
}

// Prints what comes after `end`; begins again where the file was cut or another took its place.
static enum err follow(const char *path, int *fd, off_t end)
{
    static char bytes[65536];
    enum err err;
    while ((err = interrupt_check()) == OK) {
        struct stat now, open_one;
        const ssize_t got = pread(*fd, bytes, sizeof bytes, end);
        if (got > 0) {
            fwrite(bytes, 1, (size_t)got, stdout);
            end += got;
            continue;
        }
        fflush(stdout);
        if (ferror(stdout)) {
            FAIL(ERR_IO, "cannot write the log: %s", strerror(errno));
        }
        if (fstat(*fd, &open_one) == 0 && open_one.st_size < end) {
            end = 0;
        }
        if (stat(path, &now) == 0 && now.st_ino != open_one.st_ino) {
            int fresh;
            TRY(open_log(path, &fresh));
            close(*fd);
            *fd = fresh;
            end = 0;
        }
        pause_ms(LOOK_MS);
    }
    return err == ERR_CANCELLED ? OK : err; // Ctrl-C is how it ends.
}

static void print_lines(char *text)
{
    json_t *const lines = json_array();
    char *rest = text;
    for (char *line; (line = strsep(&rest, "\n")) != NULL && rest != NULL;) {
        json_t *const one = json_string(line);
        json_array_append_new(lines, one == NULL ? json_string("(not UTF-8)") : one);
    }
    ctl_print(json_pack("{s:o}", "lines", lines));
}

static enum err show_log(const struct ctl *ctl, const struct logs *logs, const char *path, int *fd)
{
    char *text;
    size_t bytes;
    off_t end;
    TRY(read_tail(*fd, logs->lines.given ? logs->lines.value : LINES, &text, &bytes, &end));
    text[bytes] = '\0';
    if (ctl->json) {
        print_lines(text);
    } else {
        fwrite(text, 1, bytes, stdout);
    }
    mem_free(text);
    return logs->follow ? follow(path, fd, end) : OK;
}

static enum err run_logs(struct ctl *ctl, const void *options, const struct args_list *words)
{
    const struct logs *const logs = options;
    char *dir, path[PROCESS_PATH_BYTES];
    if (logs->follow && ctl->json) {
        FAIL(ERR_INVALID, "--json prints one object, and --follow has no end: give one of them");
    }
    TRY(home_of(ctl, words, &dir));
    snprintf(path, sizeof path, "%s/run/%s.log", dir, logs->fleet ? "fleet" : "unlearnd");
    free(dir); // realpath's own.
    int fd;
    TRY(open_log(path, &fd));
    interrupt_watch();
    const enum err err = show_log(ctl, logs, path, &fd);
    close(fd);
    return err;
}

const struct ctl_command cmd_logs = {
    .name = "logs",
    .summary = "Show the log of the coordinator, or of the fleet",
    .words = "DIR",
    .words_max = 1,
    .help =
        "On the coordinator's machine, for what `unlearnctl up` started: DIR/run/unlearnd.log and "
        "DIR/run/fleet.log. A line is an event, as key=value. Under systemd: journalctl -u "
        "unlearnd, journalctl -u unlearn-fleet.\n\n"
        "Examples:\n"
        "  unlearnctl logs cluster --lines 100\n"
        "  unlearnctl logs --fleet --follow",
    .options = logs_options,
    .option_count = sizeof logs_options / sizeof logs_options[0],
    .options_bytes = sizeof(struct logs),
    .run = run_logs,
};

// --- reload ---

// Waits for the answer that unlearnd writes; see reload() in coordinator/unlearnd.c.
static enum err await_answer(const char *path, pid_t pid, char answer_out[static ANSWER_BYTES])
{
    const int64_t until_ms = clock_mono_ms() + RELOAD_MS;
    for (;;) {
        FILE *const file = fopen(path, "re");
        const bool got = file != NULL && fgets(answer_out, ANSWER_BYTES, file) != NULL;
        if (file != NULL) {
            fclose(file);
        }
        if (got) {
            answer_out[strcspn(answer_out, "\n")] = '\0';
            return OK;
        }
        if (kill(pid, 0) != 0 || clock_mono_ms() >= until_ms) {
            FAIL(ERR_UNAVAILABLE, "the coordinator, process %d, %s", (int)pid,
                 kill(pid, 0) != 0 ? "has ended" : "does not answer, or is about to end");
        }
        TRY(interrupt_check());
        pause_ms(LOOK_MS);
    }
}

static enum err ask_reload(const char *dir, char answer_out[static ANSWER_BYTES])
{
    char pid_path[PROCESS_PATH_BYTES], path[PROCESS_PATH_BYTES];
    snprintf(pid_path, sizeof pid_path, "%s/run/unlearnd.pid", dir);
    snprintf(path, sizeof path, "%s/run/reload", dir);
    const pid_t pid = process_find(pid_path, "unlearnd", dir);
    if (pid == 0) {
        FAIL(ERR_UNAVAILABLE, "no coordinator runs on %s: its settings are read when it starts",
             dir);
    }
    if (unlink(path) != 0 && errno != ENOENT) { // An earlier answer.
        FAIL(ERR_IO, "%s: %s", path, strerror(errno));
    }
    if (kill(pid, SIGHUP) != 0) {
        FAIL(errno == EPERM ? ERR_DENIED : ERR_IO,
             "the coordinator, process %d, cannot be told: %s", (int)pid, strerror(errno));
    }
    return await_answer(path, pid, answer_out);
}

static json_t *words_of(char *text)
{
    json_t *const list = json_array();
    for (char *at = text, *word; (word = strsep(&at, " ")) != NULL;) {
        if (word[0] != '\0') {
            json_array_append_new(list, json_string(word));
        }
    }
    return list;
}

static enum err run_reload(struct ctl *ctl, const void *options, const struct args_list *words)
{
    (void)options;
    char *dir, answer[ANSWER_BYTES] = "";
    TRY(home_of(ctl, words, &dir));
    interrupt_watch();
    const enum err err = ask_reload(dir, answer);
    free(dir); // realpath's own.
    TRY(err);
    if (strncmp(answer, "refused ", 8) == 0) {
        FAIL(ERR_INVALID, "nothing was changed: %s", answer + 8);
    }
    char *const taken = answer + strcspn(answer, " ;"); // "taken due; restart listen"
    char *const middle = strchr(answer, ';');
    char *const waiting = middle == NULL ? NULL : strstr(middle, "restart");
    if (strncmp(answer, "taken", 5) != 0 || waiting == NULL) {
        FAIL(ERR_IO, "the coordinator's answer is \"%.100s\", expected \"taken ...; restart ...\"",
             answer);
    }
    *middle = '\0';
    if (ctl->json) {
        ctl_print(
            json_pack("{s:o, s:o}", "taken", words_of(taken), "restart", words_of(waiting + 7)));
    } else if (taken[0] == '\0' && waiting[7] == '\0') {
        printf("nothing has changed\n");
    } else {
        printf("%s%s%s%s%s\n", taken[0] == '\0' ? "" : "changed:", taken,
               taken[0] != '\0' && waiting[7] != '\0' ? "; " : "",
               waiting[7] == '\0' ? "" : "waits for a restart:", waiting + 7);
    }
    return OK;
}

const struct ctl_command cmd_reload = {
    .name = "reload",
    .summary = "Have the coordinator read its settings again",
    .words = "DIR",
    .words_max = 1,
    .help = "On the coordinator's machine. What DIR/config.yaml marks with (reload) changes at "
            "once; of "
            "the rest it says what waits for a restart. A file that is not valid changes nothing "
            "(exit code 2). SIGHUP and `systemctl reload unlearnd` do the same; the log tells.\n\n"
            "Example:\n  unlearnctl reload cluster",
    .run = run_reload,
};
