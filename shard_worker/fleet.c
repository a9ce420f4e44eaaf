// shard_worker/fleet.c: unlearn-fleet: keeps one mpirun of workers running, in the foreground.
//
// Each run of mpirun has a random fleet id, under which its ranks register and this program beats.
// mpirun says little about its ranks (killed or refused, it exits 0), so the coordinator does: its
// order tells how many ranks joined, and when to start anew because some were lost. What a killed
// mpirun leaves behind is swept after each run.
//
// SIGTERM ends it: ranks give back what they were lent. SIGHUP starts mpirun anew, for another worker or other
// hosts, without losing work: the coordinator lends these ranks nothing more, and says when all are idle. A
// second SIGHUP does not wait for that.
//
// Exit codes: 0 asked to leave, 1 failed, 2 usage, 4 a key file that others may read, or keys where the
// coordinator takes none, 5 mpirun, the worker or the coordinator is not there.
#include <argp.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/build.h"
#include "base/clock.h"
#include "base/guard.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/notify.h"
#include "base/text.h"
#include "proto/address.h"
#include "proto/link.h"
#include "proto/wire.h"
#include "shard_worker/backoff.h"
#include "shard_worker/hostfile.h"
#include "shard_worker/launch.h"
#include "shard_worker/peerkeys.h"
#include "shard_worker/sweep.h"

enum {
    EXIT_FAILED = 1,
    EXIT_USAGE = 2,
    EXIT_REFUSED = 4,
    EXIT_UNAVAILABLE = 5,
    BEAT_MS = 500,
    CONNECT_MS = 50, // Between hellos that the link does not take, for want of a connection.
    TURN_MS = 100,
    RENDEZVOUS_MS = 30000,     // The coordinator opens its store before it writes the file.
    RENDEZVOUS_LOOK_MS = 1000, // Between looks whether the coordinator has moved.
    ORDER_MS = 5000,           // A coordinator that is silent for so long has no part in a restart.
};

const char *argp_program_version;

static volatile sig_atomic_t stop_asked = 0;
static volatile sig_atomic_t restarts_asked = 0; // Since mpirun was started.

// The kernel says SIGHUP when a terminal closes: that ends it, too.
static void on_signal(int signal, siginfo_t *info, void *context)
{
    (void)context;
    if (signal == SIGHUP && info->si_code != SI_KERNEL) {
        restarts_asked = restarts_asked == 0 ? 1 : 2;
    } else {
        stop_asked = 1;
    }
}

enum outcome {
    OUTCOME_LEAVE,   // A signal came.
    OUTCOME_ENDED,   // mpirun ended by itself: its ranks were refused, or it could not start them.
    OUTCOME_KILLED,  // mpirun was killed: that says nothing about its ranks.
    OUTCOME_RESTART, // The coordinator said so.
    OUTCOME_ASKED,   // A signal asked for it.
    OUTCOME_MOVED,   // The coordinator has another endpoint.
    OUTCOME_BROKEN,  // ZeroMQ refused.
};

struct fleet {
    const char *rendezvous; // NULL: the endpoint was given.
    char endpoint[LINK_ENDPOINT_BYTES];
    char mpirun[LAUNCH_PATH_BYTES], worker[LAUNCH_PATH_BYTES];
    const char *worker_given;
    bool ready; // Every rank has joined, once.
    struct peerkeys keys;
    struct launch_plan plan;
    char host[256];
    struct link_context *context;
    struct wire_arena arena;
    struct buf frame;

    // Of the current run:
    struct link *link;
    pid_t pid;
    bool said_hello;     // Beats follow, until the coordinator does not know us.
    bool restart;        // It ordered one.
    bool refused;        // It refused this fleet.
    uint32_t joined;     // Ranks that it counts now, and
    uint32_t joined_max; // the most that it ever counted.
    bool draining;       // It was told that a restart is asked for.
    int64_t due_ms, look_ms, order_ms;
};

// --- Rendezvous

// Reads the endpoint from the rendezvous file. ERR_UNAVAILABLE: not there, or not one line. ERR_DENIED: a
// coordinator that takes keys, and we have none, or the other way round.
static enum err read_rendezvous(const struct fleet *fleet,
                                char endpoint_out[static LINK_ENDPOINT_BYTES])
{
    const char *const path = fleet->rendezvous;
    FILE *const file = fopen(path, "re");
    if (file == NULL) {
        FAIL(ERR_UNAVAILABLE, "the coordinator's file %s cannot be read: %s", path,
             strerror(errno));
    }
    char line[ADDRESS_LINE_BYTES + 1] = "";
    struct address address;
    const bool got = fgets(line, sizeof line, file) != NULL;
    fclose(file);
    if (!got || address_get(line, &address) != OK) {
        FAIL(ERR_UNAVAILABLE, "the coordinator's file %s does not hold one line with an endpoint",
             path);
    }
    if (address.insecure != fleet->keys.insecure) {
        FAIL(ERR_DENIED, "by %s the coordinator %s", path,
             address.insecure ? "takes no keys: start the fleet with --insecure-loopback, or the "
                                "coordinator without it"
                              : "takes keys: start the fleet with --key and --server-key");
    }
    if (address.insecure) {
        TRY_AS(address_check_loopback("the address", address.endpoint), "%s", path);
    }
    snprintf(endpoint_out, LINK_ENDPOINT_BYTES, "%s", address.endpoint);
    return OK;
}

static void sleep_ms(int64_t ms)
{
    const int64_t end_ms = clock_mono_ms() + ms;
    for (int64_t left = ms; left > 0 && !stop_asked; left = end_ms - clock_mono_ms()) {
        notify_alive(clock_mono_ms());
        const int64_t part = left < TURN_MS ? left : TURN_MS;
        nanosleep(&(struct timespec){0, part * 1000000}, NULL);
    }
}

// Waits at most wait_ms (-1: for ever) for the endpoint.
static enum err find_coordinator(struct fleet *fleet, int64_t wait_ms)
{
    if (fleet->rendezvous == NULL) {
        return OK;
    }
    const int64_t start_ms = clock_mono_ms();
    enum err err;
    while ((err = read_rendezvous(fleet, fleet->endpoint)) != OK && !stop_asked) {
        if (err != ERR_UNAVAILABLE) {
            return err;
        }
        if (wait_ms >= 0 && clock_mono_ms() - start_ms >= wait_ms) {
            return err_context(err, "no coordinator within %d s", (int)(wait_ms / 1000));
        }
        sleep_ms(TURN_MS);
    }
    return OK;
}

static bool has_moved(struct fleet *fleet, int64_t now_ms)
{
    if (fleet->rendezvous == NULL || now_ms < fleet->look_ms) {
        return false;
    }
    fleet->look_ms = now_ms + RENDEZVOUS_LOOK_MS;
    char endpoint[LINK_ENDPOINT_BYTES];
    // A file that is gone says nothing: the coordinator may be on its way back.
    return read_rendezvous(fleet, endpoint) == OK && strcmp(endpoint, fleet->endpoint) != 0;
}

// --- Talking to the coordinator

static enum err send_sign_of_life(struct fleet *fleet)
{
    Unlearn__FromWorker message = UNLEARN__FROM_WORKER__INIT;
    Unlearn__FleetHello hello;
    Unlearn__FleetBeat beat = UNLEARN__FLEET_BEAT__INIT;
    unlearn__fleet_hello__init(&hello);
    hello.fleet = wire_bytes(span_of(fleet->plan.fleet, sizeof fleet->plan.fleet));
    hello.ranks = fleet->plan.ranks;
    hello.host = fleet->host;
    hello.pid = (uint32_t)getpid();
    beat.fleet = hello.fleet;
    beat.drain = fleet->draining;
    message.version = WIRE_VERSION;
    if (fleet->said_hello) {
        message.body_case = UNLEARN__FROM_WORKER__BODY_FLEET_BEAT;
        message.fleet_beat = &beat;
    } else {
        message.body_case = UNLEARN__FROM_WORKER__BODY_FLEET_HELLO;
        message.fleet_hello = &hello;
    }
    wire_put(&message.base, &fleet->frame);
    const enum err err = link_send(fleet->link, NULL, buf_span(&fleet->frame), span_of(NULL, 0));
    fleet->said_hello = fleet->said_hello || err == OK;
    return err == ERR_UNAVAILABLE ? OK : err; // The next one is due in half a second.
}

static void take_order(struct fleet *fleet, const Unlearn__FleetOrder *order)
{
    fleet->restart = order->action == UNLEARN__FLEET_ACTION__FLEET_ACTION_RESTART;
    fleet->order_ms = clock_mono_ms();
    if (order->ranks_joined != fleet->joined) {
        fleet->joined = order->ranks_joined;
        log_info("ranks_joined", "joined=%u ranks=%u", fleet->joined, fleet->plan.ranks);
        notify_status("%u of %u ranks have joined", fleet->joined, fleet->plan.ranks);
        if (fleet->joined >= fleet->plan.ranks && !fleet->ready) {
            fleet->ready = true;
            notify_ready();
        }
    }
    if (fleet->joined > fleet->joined_max) {
        fleet->joined_max = fleet->joined;
    }
}

static void take_message(struct fleet *fleet, struct span envelope)
{
    const Unlearn__ToWorker *message = NULL;
    if (wire_get_to_worker(&fleet->arena, envelope, &message) != OK) {
        log_error("message_dropped", "reason=\"%s\"", err_text());
    } else if (message->body_case == UNLEARN__TO_WORKER__BODY_FLEET_ORDER) {
        take_order(fleet, message->fleet_order);
    } else if (message->body_case == UNLEARN__TO_WORKER__BODY_UNKNOWN) {
        fleet->said_hello = false;
        fleet->due_ms = 0;
    } else if (message->body_case == UNLEARN__TO_WORKER__BODY_REFUSED && !fleet->refused) {
        fleet->refused = true;
        log_error("refused", "reason=\"%s\"", message->refused->reason);
    }
}

static enum err converse(struct fleet *fleet)
{
    const int64_t now_ms = clock_mono_ms();
    if (now_ms >= fleet->due_ms) {
        TRY(send_sign_of_life(fleet));
        fleet->due_ms = now_ms + (fleet->said_hello ? BEAT_MS : CONNECT_MS);
    }
    bool ready = false;
    TRY(link_wait(&fleet->link, &ready, 1, NULL, 0, TURN_MS));
    struct link_message message;
    enum err err;
    while ((err = link_receive(fleet->link, &message)) == OK) {
        take_message(fleet, message.envelope);
    }
    if (link_trouble(fleet->link) == LINK_REFUSED && !fleet->refused) {
        fleet->refused = true;
        log_error("refused", "reason=\"the coordinator does not know the key in %s\"",
                  fleet->keys.own);
    }
    return err == ERR_UNAVAILABLE ? OK : err;
}

// --- One run of mpirun

// Whether mpirun is to be started anew because somebody asks for it, and nothing is lost by it.
static bool restart_is_due(struct fleet *fleet, int64_t now_ms)
{
    if (restarts_asked == 0) {
        return false;
    }
    if (!fleet->draining) {
        if (fleet->plan.hostfile != NULL && hostfile_check(fleet->plan.hostfile) != OK) {
            log_error("restart_refused", "reason=\"%s\"", err_text());
            restarts_asked = 0;
            return false; // The ranks that run are better than none.
        }
        fleet->draining = true;
        log_info("restart_asked", "joined=%u ranks=%u", fleet->joined, fleet->plan.ranks);
    }
    return fleet->restart || restarts_asked > 1 || now_ms - fleet->order_ms >= ORDER_MS;
}

static enum outcome watch_run(struct fleet *fleet, bool *ended_out)
{
    for (;;) {
        notify_alive(clock_mono_ms());
        int status = 0;
        *ended_out = launch_ended(fleet->pid, &status);
        if (stop_asked) {
            return OUTCOME_LEAVE;
        }
        if (*ended_out) {
            log_info("mpirun_ended", "%s=%d", WIFSIGNALED(status) ? "signal" : "exit",
                     WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
            return WIFSIGNALED(status) ? OUTCOME_KILLED : OUTCOME_ENDED;
        }
        if (has_moved(fleet, clock_mono_ms())) {
            log_info("coordinator_moved", "endpoint_was=%s", fleet->endpoint);
            return OUTCOME_MOVED;
        }
        if (converse(fleet) != OK) {
            log_error("link_failed", "reason=\"%s\"", err_text());
            return OUTCOME_BROKEN;
        }
        if (restart_is_due(fleet, clock_mono_ms())) {
            return OUTCOME_ASKED;
        }
        if (fleet->restart) {
            log_info("restart_ordered", "joined=%u ranks=%u", fleet->joined, fleet->plan.ranks);
            return OUTCOME_RESTART;
        }
    }
}

static const char *tmp_dir(void)
{
    // The order in which Open MPI looks.
    static const char *const names[] = {"TMPDIR", "TEMP", "TMP"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const char *const value = getenv(names[i]);
        if (value != NULL && value[0] != '\0') {
            return value;
        }
    }
    return "/tmp";
}

static void sweep(const struct fleet *fleet)
{
    char host[sizeof fleet->host];
    snprintf(host, sizeof host, "%.*s", (int)strcspn(fleet->host, "."), fleet->host);
    const struct sweep_places places = {"/dev/shm", tmp_dir(), "/proc", host, (uint32_t)geteuid()};
    const uint32_t removed = sweep_leftovers(&places, clock_wall_us() / 1000000);
    if (removed > 0) {
        log_info("swept", "leftovers=%u", removed);
    }
}

static enum err open_link(struct fleet *fleet)
{
    struct link_security security;
    if (fleet->keys.insecure) {
        return link_open(fleet->context, LINK_DEALER, NULL, &fleet->link);
    }
    TRY(peerkeys_read(&fleet->keys, &security));
    const enum err err = link_open(fleet->context, LINK_DEALER, &security, &fleet->link);
    curvekey_wipe(&security.own);
    return err;
}

// Opens a link for this run alone, so that an order meant for the last one cannot reach it.
static enum err start_run(struct fleet *fleet)
{
    digest_random(fleet->plan.fleet, sizeof fleet->plan.fleet);
    fleet->said_hello = fleet->restart = fleet->refused = fleet->draining = false;
    restarts_asked = 0;
    fleet->joined = fleet->joined_max = 0;
    fleet->due_ms = fleet->look_ms = 0;
    fleet->order_ms = clock_mono_ms();
    TRY(open_link(fleet));
    TRY(link_connect(fleet->link, fleet->endpoint));
    TRY(launch_check(fleet->worker)); // An upgrade may have taken it away.
    TRY(launch_start(&fleet->plan, &fleet->pid));
    char name[9];
    hex_put(name, fleet->plan.fleet, 4);
    log_info("mpirun_started", "pid=%d fleet=%s ranks=%u coordinator=%s", (int)fleet->pid, name,
             fleet->plan.ranks, fleet->endpoint);
    return OK;
}

static enum err one_run(struct fleet *fleet, enum outcome *outcome_out)
{
    fleet->link = NULL;
    enum err err = start_run(fleet);
    if (err == OK) {
        bool ended = false;
        *outcome_out = watch_run(fleet, &ended);
        launch_end(fleet->pid, ended);
        if (*outcome_out == OUTCOME_BROKEN) {
            err = err_raise(ERR_IO, "the link to the coordinator failed");
        }
    }
    link_close(fleet->link);
    return err;
}

static enum err keep_running(struct fleet *fleet)
{
    struct backoff backoff = {0};
    int64_t rendezvous_ms = RENDEZVOUS_MS; // Later a coordinator that is away is waited for.
    for (;;) {
        sweep(fleet); // Again, after a pause: what was too young to be touched is no longer.
        TRY(find_coordinator(fleet, rendezvous_ms));
        rendezvous_ms = -1;
        if (stop_asked) {
            return OK;
        }
        enum outcome outcome = OUTCOME_LEAVE;
        const int64_t start_ms = clock_mono_ms();
        TRY(one_run(fleet, &outcome));
        sweep(fleet);
        if (outcome == OUTCOME_LEAVE) {
            return OK;
        }
        const bool joined = fleet->joined_max > 0;
        if (outcome == OUTCOME_ENDED && !joined) {
            log_error("no_rank_joined",
                      "reason=\"mpirun ended before the coordinator counted a rank: the lines of "
                      "the ranks above say why (refused, or mpirun could not start them)\"");
        }
        if (outcome != OUTCOME_MOVED && outcome != OUTCOME_ASKED) {
            const int64_t wait_ms = backoff_next_ms(&backoff, clock_mono_ms() - start_ms,
                                                    joined || outcome != OUTCOME_ENDED);
            log_info("waiting", "ms=%" PRId64, wait_ms);
            sleep_ms(wait_ms);
        }
    }
}

// --- The program

static error_t take_argument(int key, char *value, struct argp_state *state)
{
    struct fleet *const fleet = state->input;
    uint64_t ranks = 0;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &fleet->keys;
        return 0;
    case 'r':
        fleet->rendezvous = value;
        return 0;
    case 'c':
        if (value[0] == '\0' || strlen(value) >= LINK_ENDPOINT_BYTES) {
            argp_error(state, "--coordinator: expected an endpoint, tcp://HOST:PORT");
        }
        snprintf(fleet->endpoint, sizeof fleet->endpoint, "%s", value);
        return 0;
    case 'n':
        if (text_u64(value, LIMIT_WORKERS, &ranks) != OK || ranks == 0) {
            argp_error(state, "--ranks is %s, expected 1 to %d", value, (int)LIMIT_WORKERS);
        }
        fleet->plan.ranks = (uint32_t)ranks;
        return 0;
    case 'm':
        if (text_u64(value, LIMIT_CACHE_MIB, &fleet->plan.cache_mib) != OK) {
            argp_error(state, "--cache is %s, expected 0 to %d MiB", value, (int)LIMIT_CACHE_MIB);
        }
        return 0;
    case 'w':
        fleet->worker_given = value;
        return 0;
    case 'h':
        fleet->plan.hostfile = value;
        return 0;
    case ARGP_KEY_END:
        if ((fleet->rendezvous != NULL) == (fleet->endpoint[0] != '\0')) {
            argp_error(state, "one of --rendezvous and --coordinator is required");
        }
        if (fleet->plan.ranks == 0) {
            argp_error(state, "--ranks is required");
        }
        if (peerkeys_check(&fleet->keys) != OK ||
            (fleet->keys.insecure && fleet->rendezvous == NULL &&
             address_check_loopback("--coordinator", fleet->endpoint) != OK)) {
            argp_error(state, "%s", err_text());
        }
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option options[] = {
    {"rendezvous", 'r', "FILE", 0, "File in which the coordinator names its endpoint", 0},
    {"coordinator", 'c', "ENDPOINT", 0, "The endpoint itself, tcp://HOST:PORT", 0},
    {"ranks", 'n', "N", 0, "Ranks to start", 0},
    {"cache", 'm', "MIB", 0,
     "Memory of each rank for cells and parents kept between stages (256); 0: none", 0},
    {"worker", 'w', "PATH", 0, "The worker; default: unlearn-worker beside this program", 0},
    {"hostfile", 'h', "FILE", 0, "Hosts to start ranks on, as mpirun reads it", 0},
    {0},
};

static const struct argp_child children[] = {{&peerkeys_argp, 0, NULL, 0}, {0}};

static const struct argp parser = {
    .options = options,
    .parser = take_argument,
    .children = children,
    .doc = "Keeps the workers of unlearnd running, through mpirun.\v"
           "Runs in the foreground and logs one line an event to stderr. SIGTERM ends it; SIGHUP "
           "starts mpirun "
           "anew, which reads the host file and the worker again: first its ranks end what they "
           "are at, while others "
           "go on; a second SIGHUP does not wait for that.\n\n"
           "Exit codes: 0 ended on request, 1 failed, 2 usage, 5 mpirun, the worker or the "
           "coordinator is not "
           "there.\n\n"
           "Examples:\n"
           "  unlearn-fleet --rendezvous cluster/run/workers --ranks 4\n"
           "  unlearn-fleet --coordinator tcp://10.0.0.1:7071 --hostfile hosts --ranks 16",
};

static enum err find_programs(struct fleet *fleet)
{
    TRY_AS(launch_find("mpirun", fleet->mpirun), "Open MPI is needed");
    if (fleet->worker_given == NULL) {
        TRY(launch_beside("unlearn-worker", fleet->worker));
    } else {
        snprintf(fleet->worker, sizeof fleet->worker, "%s", fleet->worker_given);
    }
    TRY_AS(launch_check(fleet->worker), "the worker is missing");
    if (fleet->plan.hostfile != NULL) {
        TRY(hostfile_check(fleet->plan.hostfile));
    }
    fleet->plan.mpirun = fleet->mpirun;
    fleet->plan.worker = fleet->worker;
    fleet->plan.endpoint = fleet->endpoint;
    fleet->plan.key = fleet->keys.own;
    fleet->plan.server_key = fleet->keys.server;
    return OK;
}

static enum err run(struct fleet *fleet)
{
    TRY(digest_start());
    TRY(find_programs(fleet));
    if (gethostname(fleet->host, sizeof fleet->host - 1) != 0) {
        FAIL(ERR_IO, "the name of this host could not be read");
    }
    if (geteuid() == 0) { // Containers run everything as root; mpirun wants to be told twice.
        setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 1);
        setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 1);
    }
    launch_adopt();
    if (notify_start() != OK) { // Not worth to stay away for.
        log_error("manager_not_told", "reason=\"%s\"", err_text());
    }
    TRY(link_context_open(&fleet->context));
    const enum err err = keep_running(fleet);
    notify_stopping();
    link_context_close(fleet->context);
    return err;
}

static void catch_signals(void)
{
    const struct sigaction heed = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO};
    sigaction(SIGTERM, &heed, NULL);
    sigaction(SIGINT, &heed, NULL);
    sigaction(SIGHUP, &heed, NULL);
    const struct sigaction ignore = {.sa_handler = SIG_IGN};
    sigaction(SIGPIPE, &ignore, NULL);
}

int main(int argc, char **argv)
{
    guard_no_core();
    log_start("fleet", LOG_INFO);
    argp_program_version = build_id;
    argp_err_exit_status = EXIT_USAGE;
    struct fleet fleet = {.plan.cache_mib = CACHE_MIB};
    argp_parse(&parser, argc, argv, 0, NULL, &fleet);
    catch_signals();
    const enum err err = run(&fleet);
    buf_deinit(&fleet.frame);
    wire_arena_deinit(&fleet.arena);
    if (err != OK) {
        log_error("failed", "reason=\"%s\"", err_text());
        return err == ERR_UNAVAILABLE ? EXIT_UNAVAILABLE
               : err == ERR_DENIED    ? EXIT_REFUSED
                                      : EXIT_FAILED;
    }
    log_info("fleet_ended", "reason=\"asked to leave\"");
    return EXIT_SUCCESS;
}
