// shard_worker/worker.c: unlearn-worker, one rank: joins the coordinator, trains what it is lent.
//
// It keeps nothing on disk and answers no client; it may die at any moment. Started by
// unlearn-fleet through mpirun.
//
// Exit codes: 0 asked to leave, 1 failed, 2 usage, 4 refused by the coordinator: not to be tried
// again at once.
#include <argp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/build.h"
#include "base/check.h"
#include "base/guard.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/text.h"
#include "model/profile.h"
#include "proto/address.h"
#include "shard_worker/group.h"
#include "shard_worker/peerkeys.h"
#include "shard_worker/ranks.h"
#include "shard_worker/session.h"

enum { EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_REFUSED = 4, TURN_MS = 100, WORKER_NICE = 5 };

const char *argp_program_version;

static volatile sig_atomic_t stop_asked = 0;

static void on_signal(int signal)
{
    (void)signal;
    stop_asked = 1;
}

static void catch_signals(void)
{
    const struct sigaction leave = {.sa_handler = on_signal};
    sigaction(SIGTERM, &leave, NULL);
    sigaction(SIGINT, &leave, NULL);
    const struct sigaction ignore = {.sa_handler = SIG_IGN};
    sigaction(SIGPIPE, &ignore, NULL);
}

// A bug ends this rank alone and at once; it holds no lock and no file that others wait for.
static void leave_after_bug(void)
{
    ranks_leave(EXIT_FAILED);
}

struct arguments {
    const char *coordinator;
    uint8_t fleet[ID_BYTES];
    bool has_fleet;
    uint64_t cache_mib;
    struct peerkeys keys;
};

static error_t take_argument(int key, char *value, struct argp_state *state)
{
    struct arguments *const arguments = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &arguments->keys;
        return 0;
    case 'c':
        arguments->coordinator = value;
        return 0;
    case 'f':
        if (hex_get(arguments->fleet, sizeof arguments->fleet, value) != OK) {
            argp_error(state, "--fleet: %s", err_text());
        }
        arguments->has_fleet = true;
        return 0;
    case 'm':
        if (text_u64(value, LIMIT_CACHE_MIB, &arguments->cache_mib) != OK) {
            argp_error(state, "--cache is %s, expected 0 to %d MiB", value, (int)LIMIT_CACHE_MIB);
        }
        return 0;
    case ARGP_KEY_END:
        if (arguments->coordinator == NULL || !arguments->has_fleet) {
            argp_error(state, "--coordinator and --fleet are required");
        }
        if (peerkeys_check(&arguments->keys) != OK ||
            (arguments->keys.insecure &&
             address_check_loopback("--coordinator", arguments->coordinator) != OK)) {
            argp_error(state, "%s", err_text());
        }
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option options[] = {
    {"coordinator", 'c', "ENDPOINT", 0, "Where the coordinator takes workers, tcp://HOST:PORT", 0},
    {"fleet", 'f', "HEX", 0, "32 hex digits that name this run of mpirun", 0},
    {"cache", 'm', "MIB", 0, "Memory for cells and parents kept between stages (256); 0: none", 0},
    {0},
};

static const struct argp_child children[] = {{&peerkeys_argp, 0, NULL, 0}, {0}};

static const struct argp parser = {
    .options = options,
    .parser = take_argument,
    .children = children,
    .doc =
        "Trains stages for unlearnd. Started by unlearn-fleet, once for each rank."
        "\vFor tests of what happens when a rank dies: where UNLEARN_FAILPOINTS names a "
        "directory, rank R kills itself at a point P as soon as it can remove the file P-R "
        "there. Points: group-ready (before it tells the other members of a group that it is "
        "ready), group-create (before their communicator is made), group-step (inside an "
        "exchange of gradients).\n\nExamples:\n"
        "  unlearn-fleet --rendezvous cluster/run/workers --ranks 4 --key cluster/keys/worker.key "
        "--server-key cluster.client/server.pub\n"
        "  mpirun -np 4 unlearn-worker --coordinator tcp://10.0.0.1:7001 --fleet "
        "00112233445566778899aabbccddeeff --key worker.key --server-key server.pub",
};

static enum err open_session(struct link_context *context, struct session_options *who,
                             const struct peerkeys *keys, struct session **session_out)
{
    struct link_security security;
    if (keys->insecure) {
        return session_open(context, who, session_out);
    }
    TRY(peerkeys_read(keys, &security));
    who->security = &security;
    const enum err err = session_open(context, who, session_out);
    who->security = NULL;
    curvekey_wipe(&security.own);
    return err;
}

static enum err work(struct link_context *context, struct session_options *who,
                     const struct peerkeys *keys)
{
    struct session *session = NULL;
    TRY(open_session(context, who, keys, &session));
    enum err err = OK;
    while (err == OK) {
        err = session_turn(session, TURN_MS);
    }
    char why[ERR_TEXT_BYTES]; // The goodbye may fail too, and is not the reason.
    snprintf(why, sizeof why, "%s", err_text());
    session_close(session);
    return err_raise(err, "%s", why);
}

static enum err run(const struct arguments *arguments)
{
    struct session_options who = {
        .endpoint = arguments->coordinator,
        .pid = (uint32_t)getpid(),
        .rank = ranks_index(),
        .ranks = ranks_count(),
        .core = profile_core(),
        .build = build_id,
        .stop = &stop_asked,
        .groups = &group_mpi,
        .cache_bytes = arguments->cache_mib << 20,
    };
    memcpy(who.fleet, arguments->fleet, sizeof who.fleet);
    char host[256] = "";
    if (gethostname(host, sizeof host - 1) != 0) {
        FAIL(ERR_IO, "the name of this host could not be read");
    }
    who.host = host;
    TRY_AS(profile_probe(&who.profile), "the numeric probe");
    struct link_context *context = NULL;
    TRY(link_context_open(&context));
    const enum err err = work(context, &who, &arguments->keys);
    link_context_close(context); // Waits until the goodbye is sent, half a second at most.
    return err;
}

int main(int argc, char **argv)
{
    log_start("worker", LOG_INFO);
    if (profile_pin(argv) != OK || digest_start() != OK) {
        log_error("start_failed", "reason=\"%s\"", err_text());
        return EXIT_FAILED;
    }
    argp_program_version = build_id;
    argp_err_exit_status = EXIT_USAGE;
    struct arguments arguments = {.cache_mib = CACHE_MIB};
    argp_parse(&parser, argc, argv, 0, NULL, &arguments);
    const bool locked = guard_process(); // Records and weights are to come.
    // Where coordinator and ranks share a machine, whoever waits for an answer goes first.
    (void)setpriority(PRIO_PROCESS, 0, WORKER_NICE);
    check_hook(leave_after_bug);
    if (ranks_start(&argc, &argv) != OK || group_start() != OK) {
        log_error("start_failed", "reason=\"%s\"", err_text());
        ranks_leave(EXIT_FAILED);
    }
    catch_signals(); // After MPI, which installs handlers of its own.
    char who[32];
    snprintf(who, sizeof who, "worker/%u", ranks_index());
    log_start(who, LOG_INFO);
    if (!locked) {
        log_info(
            "memory_not_locked",
            "reason=\"plain records and weights may be swapped out: raise LimitMEMLOCK (ulimit "
            "-l unlimited), or encrypt the swap\"");
    }
    const enum err err = run(&arguments);
    if (err == ERR_CANCELLED) {
        log_info("left", "reason=\"%s\"", err_text());
        ranks_leave(EXIT_SUCCESS);
    }
    log_error(err == ERR_DENIED ? "refused" : "failed", "reason=\"%s\"", err_text());
    ranks_leave(err == ERR_DENIED ? EXIT_REFUSED : EXIT_FAILED);
}
