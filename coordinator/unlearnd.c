// coordinator/unlearnd.c: the coordinator's program: start, the one loop, end.
//
// The loop owns both ZeroMQ sockets and all memory of core.h; it never touches the disk. The store
// thread and the prediction threads hand their results back through mailboxes that the loop waits
// for beside its sockets.
#include <argp.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/build.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/confine.h"
#include "base/guard.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/notify.h"
#include "base/prompt.h"
#include "base/text.h"
#include "coordinator/access.h"
#include "coordinator/approval.h"
#include "coordinator/bulk.h"
#include "coordinator/core.h"
#include "coordinator/erasure.h"
#include "coordinator/gate.h"
#include "coordinator/quota.h"
#include "coordinator/receipts.h"
#include "coordinator/recheck.h"
#include "coordinator/rotation.h"
#include "model/profile.h"
#include "store/compact.h"
#include "store/disk.h"
#include "store/rotate.h"

enum {
    TICK_MS = 50,
    MESSAGES_A_TURN = 64,
    // Of a turn, so that who comes behind others waits for a few short ones.
    JOBS_US = 250,
    MESSAGES_US = 250, // Of each socket.
    // Before it ends: what came before the signal is answered, and no new work begun.
    DRAIN_QUIET_MS =
        100,          // Nobody has asked for so long: who asks now asks again after the restart.
    DRAIN_MS = 10000, // At most.
    TELL_MS = 1000,   // How often a service manager is told how things stand.
    EXIT_USAGE = 2,
    EXIT_NOT_FOUND = 3,
    EXIT_REFUSED = 4,
};

const char *argp_program_version;

struct options {
    const char *dir, *user;
    enum log_level level;
    bool level_given;
    bool allow_unsafe_fs;
    bool rotate_master_key;
    const char *rotate; // "master" or "signing": and end.
    bool insecure;
};

static error_t parse_option(int key, char *value, struct argp_state *state)
{
    struct options *const options = state->input;
    switch (key) {
    case 'l':
        if (log_level_get(value, &options->level) != OK) {
            argp_error(state, "--log-level is \"%s\", expected debug, info or error", value);
        }
        options->level_given = true;
        return 0;
    case 'U':
        options->user = value;
        return 0;
    case 'u':
        options->allow_unsafe_fs = true;
        return 0;
    case 'r':
        options->rotate_master_key = true;
        return 0;
    case 'k':
        if (strcmp(value, "master") != 0 && strcmp(value, "signing") != 0) {
            argp_error(state, "--rotate is \"%s\", expected master or signing", value);
        }
        options->rotate = value;
        return 0;
    case 'i':
        options->insecure = true;
        return 0;
    case ARGP_KEY_ARG:
        if (options->dir != NULL) {
            argp_error(state, "more than one DIR");
        }
        options->dir = value;
        return 0;
    case ARGP_KEY_NO_ARGS:
        argp_error(state, "no DIR: name the data directory that unlearnctl init made");
        return EINVAL;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option option_list[] = {
    {"log-level", 'l', "LEVEL", 0, "debug, info or error (default: log_level of config.yaml)", 0},
    {"user", 'U', "NAME", 0, "When started as root: run as this user, who owns DIR", 0},
    {"allow-unsafe-fs", 'u', NULL, 0,
     "Start also where overwritten keys may stay on the disk: not ext4 or xfs, or with "
     "data=journal",
     0},
    {"rotate", 'k', "KEY", 0,
     "Put a new key in the place of the master or the signing key, and end; "
     "what unlearnctl key rotate does",
     0},
    {"rotate-master-key", 'r', NULL, 0,
     "Before anything else wrap every key of the keyring by a new master key and destroy the old "
     "one",
     0},
    {"insecure-loopback", 'i', NULL, 0,
     "Take no keys and encrypt nothing: for trials on one machine. Refused unless both listen "
     "addresses are 127.x.x.x",
     0},
    {0},
};

static const struct argp argp = {
    option_list,
    parse_option,
    "DIR",
    "The unlearnd coordinator: keeps the records, hands out training, answers predictions and "
    "deletions.\v"
    "Runs in the foreground and logs one line an event to stderr. SIGTERM ends it in order; SIGHUP "
    "has it read config.yaml again, for what can change while it runs (unlearnctl reload tells "
    "what did). `unlearnctl up DIR` starts it together with a local fleet of workers. Whoever "
    "connects proves by a key who it is: DIR/keys holds the server's and the workers', DIR.client "
    "the first client's; without them it does not start.\n\n"
    "Exit codes: 0 ended on request, 1 failed, 2 usage, 3 DIR is no data directory, 4 refused "
    "(another coordinator has DIR open, it was written by a newer version or put back from a copy, "
    "its disk keeps what is overwritten, a key file is missing or others may read it, too few "
    "files may be open).",
    NULL,
    NULL,
    NULL,
};

// ---------------------------------------------------------------- files that others read

// Writes `text` and a line end to `path` so that a reader sees all of it or none.
static enum err publish(const char *path, const char *text)
{
    char fresh[4300], line[512];
    snprintf(fresh, sizeof fresh, "%s.new", path);
    const int bytes = snprintf(line, sizeof line, "%s\n", text);
    const int fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        FAIL(ERR_IO, "%s: %s", fresh, strerror(errno));
    }
    const bool written = write(fd, line, (size_t)bytes) == bytes;
    close(fd);
    if (!written || rename(fresh, path) != 0) {
        FAIL(ERR_IO, "%s: %s", path, strerror(errno));
    }
    return OK;
}

static enum err publish_all(const struct core *core, const struct address *clients,
                            const struct address *workers)
{
    char path[4200], pid[32], line[ADDRESS_LINE_BYTES];
    snprintf(pid, sizeof pid, "%d", (int)getpid());
    snprintf(path, sizeof path, "%s/run/unlearnd.pid", core->dir);
    TRY(publish(path, pid));
    snprintf(path, sizeof path, "%s/run/workers", core->dir);
    address_put(workers, line);
    TRY(publish(path, line));
    snprintf(path, sizeof path, "%s.client/address", core->dir);
    address_put(clients, line);
    return publish(path, line);
}

// What would send people to a coordinator that is gone.
static void unpublish(const struct core *core)
{
    static const char *const names[] = {"%s/run/unlearnd.pid", "%s/run/workers",
                                        "%s.client/address"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char path[4200];
        snprintf(path, sizeof path, "%.4000s%s", core->dir, names[i] + 2);
        unlink(path);
    }
}

// ---------------------------------------------------------------- the loop

static bool take_messages(struct core *core, struct link *link,
                          void (*take)(struct core *, const struct link_message *))
{
    struct link_message message;
    const int64_t until_us = clock_mono_us() + MESSAGES_US;
    for (int i = 0; i < MESSAGES_A_TURN; i++) {
        const enum err err = link_receive(link, &message);
        if (err == ERR_UNAVAILABLE) {
            return true; // The frames of the last one are released by now.
        }
        if (err != OK) {
            log_error("receive_failed", "reason=\"%s\"", err_text());
            return false;
        }
        take(core, &message);
        wire_arena_clear(&core->arena); // A client's message holds ids and subjects.
        predict_finished(core);         // Its client has waited longer.
        if (clock_mono_us() >= until_us) {
            break;
        }
    }
    link_release(link); // Not only with the next message.
    return true;
}

// The rest waits for the next turn: as long as it was not told, no ack of it has gone out, either.
static void take_jobs(struct core *core)
{
    const int64_t until_us = clock_mono_us() + JOBS_US;
    for (struct job *job; (job = storage_finished(core->storage)) != NULL;) {
        job->done(job, core);
        predict_finished(
            core); // Without what is not told yet: no ack of that has gone out, either.
        if (clock_mono_us() >= until_us) {
            return;
        }
    }
}

static void tick(struct core *core)
{
    leases_tick(core);
    outlook_tick(core);
    uploads_tick(core);
    base_uploads_tick(core);
    bulk_tick(core);
    approval_tick(core);
    erasure_tick(core);
}

// Reads the settings again, and tells in the log and in DIR/run/reload, where `unlearnctl reload` looks:
//   taken KEY...; restart KEY...      or      refused REASON
static void reload(struct core *core)
{
    char path[4200], answer[500];
    struct config fresh;
    struct buf taken = {0}, waiting = {0};
    notify_reloading();
    if (config_load(core->dir, &fresh) != OK) {
        log_error("settings_refused", "reason=\"%s\"", err_text());
        snprintf(answer, sizeof answer, "refused %.480s", err_text());
    } else {
        config_take(&core->config, &fresh, &taken, &waiting);
        buf_u8(&taken, 0);
        buf_u8(&waiting, 0);
        log_info("settings_read", "taken=\"%s\" restart=\"%s\"", (const char *)taken.data,
                 (const char *)waiting.data);
        snprintf(answer, sizeof answer, "taken%s; restart%s", (const char *)taken.data,
                 (const char *)waiting.data);
    }
    buf_deinit(&taken);
    buf_deinit(&waiting);
    snprintf(path, sizeof path, "%.4000s/run/reload", core->dir);
    if (publish(path, answer) != OK) {
        log_error("reload_not_told", "reason=\"%s\"", err_text());
    }
    notify_ready();
}

// False: it was asked to end before, and ends at once.
// SIGHUP from the kernel is a terminal that closes: that ends it, too.
static bool take_signal(struct core *core, int signals)
{
    struct signalfd_siginfo info;
    if (read(signals, &info, sizeof info) != sizeof info) {
        return false;
    }
    if (info.ssi_signo == SIGHUP && info.ssi_code != SI_KERNEL && core->draining_ms == 0) {
        reload(core);
        return true;
    }
    if (core->draining_ms != 0) {
        return false;
    }
    core->draining_ms = core->now_ms;
    notify_stopping();
    leases_return(core);
    erasure_stop(core); // It goes on after the restart.
    log_info("coordinator_draining", "signal=%u jobs=%u predictions=%u", info.ssi_signo,
             storage_count(core->storage), predict_count(core));
    return true;
}

// Who has just come in is about to ask.
static void watch_connections(struct core *core)
{
    const uint64_t connected = core->zap == NULL ? 0 : zap_counts(core->zap).allowed;
    core->asked_ms = connected == core->connected ? core->asked_ms : core->now_ms;
    core->connected = connected;
}

static bool is_drained(const struct core *core)
{
    const bool idle = storage_count(core->storage) == 0 && predict_count(core) == 0 &&
                      core->now_ms - core->asked_ms >= DRAIN_QUIET_MS;
    return core->draining_ms != 0 && core->now_ms - core->draining_ms >= DRAIN_QUIET_MS &&
           (idle || core->now_ms - core->draining_ms >= DRAIN_MS);
}

// How things stand, for `systemctl status`, and that the loop turns. When it is told next.
static int64_t tell_manager(const struct core *core, int64_t due_ms)
{
    notify_alive(core->now_ms);
    if (core->now_ms < due_ms) {
        return due_ms;
    }
    notify_status("%s%u workers, %u open requests",
                  core->draining_ms == 0 ? "" : "about to end: ", leases_worker_count(core),
                  core->request_count);
    return core->now_ms + TELL_MS;
}

static enum err loop(struct core *core, int signals)
{
    int64_t tell_ms = 0;
    struct link *const links[2] = {core->clients, core->workers_link};
    for (;;) {
        bool ready[2];
        struct link_wait_fd fds[3] = {
            {.fd = storage_fd(core->storage)}, {.fd = predict_fd(core)}, {.fd = signals}};
        TRY(link_wait(links, ready, 2, fds, 3, erasure_is_due(core) ? 0 : TICK_MS));
        const int64_t began_us = clock_mono_us();
        core->now_ms = began_us / 1000;
        core->wall_us = clock_wall_us();
        if (fds[2].ready && !take_signal(core, signals)) {
            return OK;
        }
        // First what was committed, so that nothing below answers from an older state.
        take_jobs(core);
        predict_finished(core);
        if (!take_messages(core, core->workers_link, leases_message) ||
            !take_messages(core, core->clients, clients_message)) {
            FAIL(ERR_IO, "a socket failed");
        }
        watch_connections(core);
        tick(core);
        tell_ms = tell_manager(core, tell_ms);
        storage_flush(core->storage);
        peak_add(&core->activity.turn_us, core->now_ms, (uint64_t)(clock_mono_us() - began_us));
        if (is_drained(core)) {
            return OK;
        }
    }
}

// ---------------------------------------------------------------- start and end

static int block_signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

// Erasing is overwriting: that must mean something on this disk.
static enum err check_disk(const struct core *core, bool allow)
{
    const enum err err = disk_check(core->dir);
    if (err == ERR_DENIED && allow) {
        log_info("unsafe_fs_allowed", "reason=\"%s\"", err_text());
        return OK;
    }
    return err;
}

// From here on it writes in its own three directories alone, and reads what a program needs.
static enum err confine(const struct core *core)
{
    char client[4200], master[4200], program[4200];
    snprintf(client, sizeof client, "%.4000s.client", core->dir);
    snprintf(master, sizeof master, "%.4000s.master", core->dir);
    const ssize_t bytes = readlink("/proc/self/exe", program, sizeof program - 1);
    program[bytes < 0 ? 0 : bytes] = '\0';
    char *const end = strrchr(program, '/'); // compact executes it anew.
    if (end != NULL) {
        *end = '\0';
    }
    const struct confine_path paths[] = {
        {core->dir, true}, {client, true},  {master, true},    {program, false},
        {"/usr", false},   {"/lib", false}, {"/lib64", false}, {"/etc", false},
        {"/proc", false},  {"/sys", false}, {"/dev", false},
    };
    bool files = false;
    TRY(confine_process(paths, sizeof paths / sizeof paths[0], &files));
    if (!files) {
        log_info("files_not_confined", "reason=\"this kernel has no Landlock, or it is off\"");
    }
    return OK;
}

static enum err change_master_key(const struct core *core)
{
    struct store *store = NULL;
    TRY(store_open(core->dir, core->config.map_bytes, &store));
    const enum err err = rotate_master(store);
    store_close(store);
    return err;
}

static enum err open_all(struct core *core, bool rotate_master_key)
{
    struct address clients, workers;
    snprintf(core->core_type, sizeof core->core_type, "%s", profile_core());
    if (core->config.blas_core[0] != '\0' &&
        strcasecmp(core->config.blas_core, core->core_type) != 0) {
        FAIL(ERR_INVALID,
             "%s/config.yaml asks for blas_core: %s, but OpenBLAS computes as %s: this processor, "
             "or "
             "this OpenBLAS, has no such core type",
             core->dir, core->config.blas_core, core->core_type);
    }
    TRY(profile_probe(&core->profile));
    if (rotate_master_key) {
        TRY(change_master_key(core));
    }
    TRY(rotation_signing_resume(core->dir, core->config.map_bytes));
    TRY(storage_open(core->dir, core->config.map_bytes, &core->storage));
    storage_body_key(core->storage, core->body_key);
    TRY(receipts_open(core));
    TRY(access_open(core));
    TRY(catalog_load(core));
    TRY(bulk_open(core));
    TRY(predict_open(core));
    TRY(leases_open(core));
    TRY(gate_open(core, &clients, &workers));
    imports_tidy(core);
    bases_tidy(core);
    erasure_resume(core);
    bulk_resume(core);
    TRY(publish_all(core, &clients, &workers));
    log_info("coordinator_started", "clients=%s workers=%s keys=%s core=%s boot=%llu",
             clients.endpoint, workers.endpoint, core->insecure ? "none" : "curve", core->core_type,
             (unsigned long long)storage_boot(core->storage));
    return OK;
}

static void close_all(struct core *core)
{
    // The threads first: what they still finish is dropped with the loop's memory.
    predict_free(core);
    if (core->storage != NULL) {
        erasure_stop(core);
        bulk_stop(core);
        approval_stop(core);
        storage_drain(core->storage, core);
    }
    leases_free(core);
    gate_close(core);
    verify_free(core);
    recheck_free(core);
    bulk_free(core);
    quota_free(core);
    approval_free(core);
    erasure_free(core);
    upkeep_free(core);
    uploads_free(core);
    base_uploads_free(core);
    catalog_free(core);
    buf_deinit(&core->frame);
    wire_arena_deinit(&core->arena);
    access_free(core);
    storage_close(core->storage);
    receipts_free(core);
}

static int exit_code(enum err err)
{
    return err == OK                                                             ? EXIT_SUCCESS
           : err == ERR_INVALID                                                  ? EXIT_USAGE
           : err == ERR_NOT_FOUND                                                ? EXIT_NOT_FOUND
           : err == ERR_CONFLICT || err == ERR_INCOMPATIBLE || err == ERR_DENIED ? EXIT_REFUSED
                                                                                 : EXIT_FAILURE;
}

// What store_compact executes: a process that never held what was deleted.
static int copy_store(char **argv)
{
    uint64_t map_bytes = 0;
    log_start("compact", LOG_INFO);
    enum err err = text_u64(argv[4], UINT64_MAX, &map_bytes);
    err = err == OK ? compact_copy(argv[2], argv[3], map_bytes) : err;
    if (err != OK) {
        log_error("copy_failed", "reason=\"%s\"", err_text());
    }
    return err == OK ? EXIT_SUCCESS : err == ERR_LIMIT ? EXIT_REFUSED : EXIT_FAILURE;
}

int main(int argc, char **argv)
{
    if (argc == 5 && strcmp(argv[1], "--compact-copy") == 0) {
        return copy_store(argv);
    }
    struct options options = {.level = LOG_INFO};
    argp_program_version = build_id;
    argp_parse(&argp, argc, argv, 0, NULL, &options);
    umask(077);
    // Before any thread. With an arena for each of them, what a hostile peer made one keep stays with it: memory is
    // locked, and of that malloc gives back nothing but the end of the first arena.
    (void)mallopt(M_ARENA_MAX, 1);
    log_start("unlearnd", options.level);
    (void)prompt_set(true); // And so are the threads of ZeroMQ and of predictions; not the store's.
    if (options.user != NULL && guard_become(options.user) != OK) {
        log_error("start_failed", "reason=\"%s\"", err_text());
        return EXIT_USAGE;
    }
    struct core *const core = mem_alloc(1, sizeof *core);
    if (strlen(options.dir) > 3900 || realpath(options.dir, core->dir) == NULL) {
        log_error("start_failed",
                  "reason=\"%.200s: %s: make a data directory with unlearnctl init\"", options.dir,
                  strerror(errno));
        mem_free(core);
        return EXIT_NOT_FOUND;
    }
    const int signals = block_signals();
    core->insecure = options.insecure;
    core->started_ms = core->now_ms = clock_mono_ms();
    core->wall_us = clock_wall_us();
    enum err err = config_load(core->dir, &core->config);
    if (err == OK && !options.level_given) {
        log_level_set(core->config.log_level);
    }
    if (err == OK) { // Before anything else: the program may be executed anew.
        err = core->config.blas_core[0] == '\0' ? profile_pin(argv)
                                                : profile_pin_to(argv, core->config.blas_core);
    }
    if (err == OK && notify_start() != OK) { // Not worth to stay away for.
        log_error("manager_not_told", "reason=\"%s\"", err_text());
    }
    if (err == OK) {
        err = digest_start();
    }
    if (err == OK && !guard_process()) {
        log_info("memory_not_locked",
                 "reason=\"keys are locked, but plain records and weights may be swapped out: "
                 "raise LimitMEMLOCK (ulimit -l unlimited), or encrypt the swap\"");
    }
    if (err == OK) {
        err = check_disk(core, options.allow_unsafe_fs);
    }
    if (err == OK) {
        err = confine(core);
    }
    if (err == OK && options.rotate != NULL) {
        err = strcmp(options.rotate, "master") == 0
                  ? change_master_key(core)
                  : rotation_signing(core->dir, core->config.map_bytes);
    } else if (err == OK) {
        err = open_all(core, options.rotate_master_key);
    }
    const bool started = err == OK && options.rotate == NULL;
    if (started) {
        notify_ready();
        err = loop(core, signals);
    }
    if (err != OK) {
        log_error(started ? "coordinator_failed" : "start_failed", "reason=\"%s\"", err_text());
    }
    if (started) {
        unpublish(core);
    }
    close_all(core);
    close(signals);
    log_info("coordinator_ended", "code=%d", exit_code(err));
    mem_free(core);
    return exit_code(err);
}
