// Goal: unlearn-fleet keeps real ranks running through real mpirun: it starts anew when the
// coordinator says so, when mpirun is killed and when the coordinator moves, and leaves no process
// and no file when it is told to end.
// Method: the test plays the coordinator over ZeroMQ. Programs: $UNLEARN_BIN, else bin/.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/mem.h"
#include "proto/link.h"
#include "proto/wire.h"

enum { RANKS = 2, WAIT_MS = 40000, RUNS_MAX = 16 };

struct world {
    char dir[64];
    char rendezvous[128];
    struct link_context *context;
    struct link *router;
    struct wire_arena arena;
    struct buf frame;
    pid_t fleet_pid;
    uint8_t fleet[ID_BYTES]; // Of the last FleetHello.
    uint32_t joined;         // Ranks of that fleet that said hello,
    pid_t rank_pid[RANKS];   // and their processes.
    bool order_restart;
    bool refuse;
    uint32_t runs; // Fleet hellos of different runs.
    uint32_t refusals;
};

static void write_rendezvous(struct world *world, const char *endpoint)
{
    char fresh[160];
    snprintf(fresh, sizeof fresh, "%s.tmp", world->rendezvous);
    FILE *const file = fopen(fresh, "w");
    assert_non_null(file);
    fprintf(file, "%s insecure\n", endpoint); // The test's coordinator has no keys.
    assert_int_equal(fclose(file), 0);
    assert_int_equal(rename(fresh, world->rendezvous), 0);
}

static void open_router(struct world *world)
{
    char endpoint[LINK_ENDPOINT_BYTES];
    assert_int_equal(link_open(world->context, LINK_ROUTER, NULL, &world->router), OK);
    assert_int_equal(link_bind(world->router, "tcp://127.0.0.1:*", endpoint), OK);
    write_rendezvous(world, endpoint);
}

static const char *bin_dir(void)
{
    const char *const given = getenv("UNLEARN_BIN");
    return given != NULL ? given : "bin";
}

static void start_fleet(struct world *world)
{
    char program[512], ranks[8];
    snprintf(program, sizeof program, "%s/unlearn-fleet", bin_dir());
    snprintf(ranks, sizeof ranks, "%d", RANKS);
    world->fleet_pid = fork();
    assert_true(world->fleet_pid >= 0);
    if (world->fleet_pid == 0) {
        char log[128];
        snprintf(log, sizeof log, "%s/log", world->dir);
        const int fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
        dup2(fd, STDOUT_FILENO);
        dup2(fd, STDERR_FILENO);
        execl(program, program, "--rendezvous", world->rendezvous, "--ranks", ranks,
              "--insecure-loopback", (char *)NULL);
        _exit(127);
    }
}

static void tell(struct world *world, const struct link_peer *peer, Unlearn__ToWorker *message)
{
    message->version = WIRE_VERSION;
    wire_put(&message->base, &world->frame);
    (void)!link_send(world->router, peer, buf_span(&world->frame), span_of(NULL, 0));
}

static void take_hello(struct world *world, const struct link_peer *peer,
                       const Unlearn__WorkerHello *hello)
{
    Unlearn__ToWorker message = UNLEARN__TO_WORKER__INIT;
    Unlearn__Welcome welcome = UNLEARN__WELCOME__INIT;
    Unlearn__Refused refused;
    static char reason[] = "a test";
    unlearn__refused__init(&refused);
    refused.reason = reason;
    welcome.worker = hello->rank + 1;
    welcome.beat_ms = 200;
    assert_int_equal(hello->ranks, RANKS);
    assert_in_range(hello->rank, 0, RANKS - 1);
    if (world->refuse) {
        world->refusals++;
        message.body_case = UNLEARN__TO_WORKER__BODY_REFUSED;
        message.refused = &refused;
    } else {
        message.body_case = UNLEARN__TO_WORKER__BODY_WELCOME;
        message.welcome = &welcome;
        if (memcmp(hello->fleet.data, world->fleet, ID_BYTES) != 0) {
            return; // Before its fleet, or of the last one; it says hello again.
        }
        if (world->rank_pid[hello->rank] != (pid_t)hello->pid) {
            world->rank_pid[hello->rank] = (pid_t)hello->pid;
            world->joined++;
        }
    }
    tell(world, peer, &message);
}

static void take_fleet_hello(struct world *world, const Unlearn__FleetHello *hello)
{
    assert_int_equal(hello->ranks, RANKS);
    assert_int_equal(hello->pid, world->fleet_pid);
    if (memcmp(world->fleet, hello->fleet.data, ID_BYTES) != 0) {
        memcpy(world->fleet, hello->fleet.data, ID_BYTES);
        world->runs++;
        world->joined = 0;
        world->order_restart = false;
        memset(world->rank_pid, 0, sizeof world->rank_pid);
    }
}

static void take_fleet_beat(struct world *world, const struct link_peer *peer)
{
    Unlearn__ToWorker message = UNLEARN__TO_WORKER__INIT;
    Unlearn__FleetOrder order;
    unlearn__fleet_order__init(&order);
    order.action = world->order_restart ? UNLEARN__FLEET_ACTION__FLEET_ACTION_RESTART
                                        : UNLEARN__FLEET_ACTION__FLEET_ACTION_RUN;
    order.ranks_joined = world->joined;
    message.body_case = UNLEARN__TO_WORKER__BODY_FLEET_ORDER;
    message.fleet_order = &order;
    tell(world, peer, &message);
}

// Serves what comes for at most 100 ms.
static void serve(struct world *world)
{
    bool ready = false;
    struct link_message message;
    assert_int_equal(link_wait(&world->router, &ready, 1, NULL, 0, 100), OK);
    while (link_receive(world->router, &message) == OK) {
        const Unlearn__FromWorker *from = NULL;
        assert_int_equal(wire_get_from_worker(&world->arena, message.envelope, &from), OK);
        if (from->body_case == UNLEARN__FROM_WORKER__BODY_HELLO) {
            take_hello(world, &message.peer, from->hello);
        } else if (from->body_case == UNLEARN__FROM_WORKER__BODY_FLEET_HELLO) {
            take_fleet_hello(world, from->fleet_hello);
        } else if (from->body_case == UNLEARN__FROM_WORKER__BODY_FLEET_BEAT) {
            take_fleet_beat(world, &message.peer);
        }
    }
}

// Serves until run number `run` has all its ranks.
static void serve_until_joined(struct world *world, uint32_t run)
{
    const int64_t end_ms = clock_mono_ms() + WAIT_MS;
    while (world->runs < run || world->joined < RANKS) {
        serve(world);
        if (clock_mono_ms() > end_ms) {
            fail_msg("run %u has %u ranks, expected run %u with %d", world->runs, world->joined,
                     run, RANKS);
        }
    }
    assert_int_equal(world->runs, run);
}

static int end_fleet(struct world *world)
{
    int status = 0;
    kill(world->fleet_pid, SIGTERM);
    assert_int_equal(waitpid(world->fleet_pid, &status, 0), world->fleet_pid);
    world->fleet_pid = 0;
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

// It has ended; nobody may have asked how (in a container without an init process nobody asks after orphans).
static bool is_gone(pid_t pid)
{
    char path[64], state = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *const file = fopen(path, "re");
    if (file == NULL) {
        return true;
    }
    const int got = fscanf(file, "%*d (%*[^)]) %c", &state);
    fclose(file);
    return got != 1 || state == 'Z';
}

static void assert_gone(pid_t pid)
{
    const int64_t end_ms = clock_mono_ms() + WAIT_MS;
    while (!is_gone(pid)) {
        assert_true(clock_mono_ms() < end_ms);
        nanosleep(&(struct timespec){0, 20000000}, NULL);
    }
}

// The parent of a rank: its mpirun.
static pid_t parent_of(pid_t pid)
{
    char path[64], line[512] = "";
    int parent = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *const file = fopen(path, "r");
    assert_non_null(file);
    assert_non_null(fgets(line, sizeof line, file));
    fclose(file);
    assert_int_equal(sscanf(strrchr(line, ')') + 1, " %*c %d", &parent), 1);
    return parent;
}

static int setup(void **state)
{
    struct world *const world = mem_alloc(1, sizeof *world);
    snprintf(world->dir, sizeof world->dir, "/tmp/test_fleet.XXXXXX");
    assert_non_null(mkdtemp(world->dir));
    snprintf(world->rendezvous, sizeof world->rendezvous, "%s/workers", world->dir);
    setenv("TMPDIR", world->dir, 1); // Where Open MPI puts its session directories.
    assert_int_equal(link_context_open(&world->context), OK);
    *state = world;
    return 0;
}

static int teardown(void **state)
{
    struct world *const world = *state;
    if (world->fleet_pid > 0) { // The test failed on the way.
        kill(world->fleet_pid, SIGTERM);
        waitpid(world->fleet_pid, NULL, 0);
    }
    link_close(world->router);
    link_context_close(world->context);
    wire_arena_deinit(&world->arena);
    buf_deinit(&world->frame);
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", world->dir);
    mem_free(world);
    return system(command);
}

static bool session_left(const struct world *world)
{
    DIR *const dir = opendir(world->dir);
    assert_non_null(dir);
    bool found = false;
    for (const struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        found = found || strncmp(entry->d_name, "ompi.", 5) == 0;
    }
    closedir(dir);
    return found;
}

static void test_ranks_join_and_end_with_the_fleet(void **state)
{
    struct world *const world = *state;
    start_fleet(world); // Before the coordinator: the fleet waits for its file.
    nanosleep(&(struct timespec){0, 300000000}, NULL);
    open_router(world);
    serve_until_joined(world, 1);
    const pid_t mpirun = parent_of(world->rank_pid[0]);
    assert_int_equal(end_fleet(world), 0);
    assert_gone(mpirun);
    assert_gone(world->rank_pid[0]);
    assert_gone(world->rank_pid[1]);
    assert_false(session_left(world));
}

static void test_restart_is_obeyed_after_a_rank_died(void **state)
{
    struct world *const world = *state;
    open_router(world);
    start_fleet(world);
    serve_until_joined(world, 1);
    const pid_t other = world->rank_pid[0];
    assert_int_equal(kill(world->rank_pid[1], SIGKILL), 0);
    const int64_t end_ms = clock_mono_ms() + 1500;
    while (clock_mono_ms() < end_ms) { // Nobody says so: the other rank goes on.
        serve(world);
    }
    assert_int_equal(world->runs, 1);
    assert_int_equal(kill(other, 0), 0);
    world->order_restart = true;
    serve_until_joined(world, 2);
    assert_gone(other);
    assert_int_equal(end_fleet(world), 0);
}

static void test_killed_mpirun_is_started_anew(void **state)
{
    struct world *const world = *state;
    open_router(world);
    start_fleet(world);
    serve_until_joined(world, 1);
    const pid_t first = world->rank_pid[0];
    assert_int_equal(kill(first, SIGSTOP), 0); // Does not notice that its mpirun dies.
    assert_int_equal(kill(parent_of(first), SIGKILL), 0);
    serve_until_joined(world, 2);
    assert_gone(first);
    const pid_t mpirun = parent_of(world->rank_pid[0]);
    assert_int_equal(end_fleet(world), 0);
    assert_gone(mpirun);
    assert_false(session_left(world)); // Also what the killed one left.
}

static void test_moved_coordinator_is_followed(void **state)
{
    struct world *const world = *state;
    open_router(world);
    start_fleet(world);
    serve_until_joined(world, 1);
    link_close(world->router);
    open_router(world); // At another port.
    serve_until_joined(world, 2);
    assert_int_equal(end_fleet(world), 0);
}

static void test_refused_ranks_are_reported_and_not_tried_at_once(void **state)
{
    struct world *const world = *state;
    world->refuse = true;
    open_router(world);
    start_fleet(world);
    const int64_t end_ms = clock_mono_ms() + WAIT_MS;
    while (world->refusals < RANKS && clock_mono_ms() < end_ms) {
        serve(world);
    }
    const int64_t still_ms = clock_mono_ms() + 2000;
    while (clock_mono_ms() < still_ms) {
        serve(world);
    }
    assert_int_equal(world->runs, 1);
    assert_int_equal(world->refusals, RANKS);
    char command[256];
    snprintf(command, sizeof command,
             "grep -q 'who=fleet event=no_rank_joined' %s/log && grep -q 'event=refused' %s/log",
             world->dir, world->dir);
    assert_int_equal(system(command), 0);
    assert_int_equal(end_fleet(world), 0);
}

static void test_ranks_die_with_a_killed_fleet(void **state)
{
    struct world *const world = *state;
    open_router(world);
    start_fleet(world);
    serve_until_joined(world, 1);
    const pid_t mpirun = parent_of(world->rank_pid[0]);
    kill(world->fleet_pid, SIGKILL);
    assert_int_equal(waitpid(world->fleet_pid, NULL, 0), world->fleet_pid);
    world->fleet_pid = 0;
    assert_gone(world->rank_pid[0]);
    assert_gone(world->rank_pid[1]);
    assert_gone(mpirun);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_ranks_join_and_end_with_the_fleet, setup, teardown),
        cmocka_unit_test_setup_teardown(test_restart_is_obeyed_after_a_rank_died, setup, teardown),
        cmocka_unit_test_setup_teardown(test_killed_mpirun_is_started_anew, setup, teardown),
        cmocka_unit_test_setup_teardown(test_moved_coordinator_is_followed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refused_ranks_are_reported_and_not_tried_at_once,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_ranks_die_with_a_killed_fleet, setup, teardown),
    };
    return digest_start() == OK ? cmocka_run_group_tests(tests, NULL, NULL) : 1;
}
