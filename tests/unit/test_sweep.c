// Goal: what dead jobs left goes, and nothing of a living job, of another user or behind a link does.
// Method: directories of the test's own stand for /dev/shm, $TMPDIR and /proc.
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "shard_worker/backoff.h"
#include "shard_worker/sweep.h"

enum { NOW_S = 2000000000 }; // Later than the files that the test makes.

struct world {
    char dir[64];
    char shm[128], tmp[128], proc[128];
    struct sweep_places places;
};

static const char *path_in(const char *dir, const char *name)
{
    static char paths[2][512]; // Two may be in use at once.
    static int turn;
    turn = 1 - turn;
    snprintf(paths[turn], sizeof paths[turn], "%s/%s", dir, name);
    return paths[turn];
}

static void make_dir(const char *dir, const char *name)
{
    assert_int_equal(mkdir(path_in(dir, name), 0700), 0);
}

static void make_file(const char *dir, const char *name, const char *text)
{
    FILE *const file = fopen(path_in(dir, name), "w");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
}

static bool there(const char *dir, const char *name)
{
    struct stat stat;
    return lstat(path_in(dir, name), &stat) == 0;
}

// Name of a segment of this user; `host` and `rest` as given. Two may be in use at once.
static const char *segment(const char *host, const char *rest)
{
    static char names[2][128];
    static int turn;
    turn = 1 - turn;
    snprintf(names[turn], sizeof names[turn], "vader_segment.%s.%u.%s", host, getuid(), rest);
    return names[turn];
}

static int setup(void **state)
{
    static struct world world;
    snprintf(world.dir, sizeof world.dir, "/tmp/test_sweep.XXXXXX");
    assert_non_null(mkdtemp(world.dir));
    snprintf(world.shm, sizeof world.shm, "%s/shm", world.dir);
    snprintf(world.tmp, sizeof world.tmp, "%s/tmp", world.dir);
    snprintf(world.proc, sizeof world.proc, "%s/proc", world.dir);
    make_dir(world.dir, "shm");
    make_dir(world.dir, "tmp");
    make_dir(world.dir, "proc");
    world.places = (struct sweep_places){world.shm, world.tmp, world.proc, "box", getuid()};
    // A living process, 41, which maps nothing of Open MPI, and what /proc holds beside processes.
    make_dir(world.proc, "41");
    make_file(world.proc, "41/maps", "7f00-7f01 r--p 00000000 00:01 12 /usr/lib/libc.so.6\n");
    make_dir(world.proc, "sys");
    make_file(world.proc, "uptime", "1 1\n");
    *state = &world;
    return 0;
}

static int teardown(void **state)
{
    struct world *const world = *state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", world->dir);
    return system(command);
}

static void test_segments_of_the_dead_go(void **state)
{
    struct world *const world = *state;
    make_file(world->shm, segment("box", "aa0001.0"), "x");
    make_file(world->shm, segment("box", "aa0001.1"), "x");
    make_file(world->shm, "PostgreSQL.1", "x");
    make_file(world->shm, segment("boxer", "aa0001.0"), "x");
    make_file(world->shm, "vader_segment.box.123456.aa0001.0", "x"); // Another user's, by its name.
    assert_int_equal(sweep_leftovers(&world->places, NOW_S), 2);
    assert_false(there(world->shm, segment("box", "aa0001.0")));
    assert_false(there(world->shm, segment("box", "aa0001.1")));
    assert_true(there(world->shm, "PostgreSQL.1"));
    assert_true(there(world->shm, segment("boxer", "aa0001.0")));
    assert_true(there(world->shm, "vader_segment.box.123456.aa0001.0"));
    assert_int_equal(sweep_leftovers(&world->places, NOW_S), 0);
}

static void test_mapped_segments_stay(void **state)
{
    struct world *const world = *state;
    char maps[512];
    make_file(world->shm, segment("box", "bb0001.1"), "x");
    make_file(world->shm, segment("box", "bb0001.10"), "x"); // A name that begins like another.
    make_dir(world->proc, "42");
    snprintf(maps, sizeof maps, "7f00-7f01 rw-s 00000000 00:01 12      /dev/shm/%s\n",
             segment("box", "bb0001.10"));
    make_file(world->proc, "42/maps", maps);
    assert_int_equal(sweep_leftovers(&world->places, NOW_S), 1);
    assert_false(there(world->shm, segment("box", "bb0001.1")));
    assert_true(there(world->shm, segment("box", "bb0001.10")));
    // Control: the process ends.
    assert_int_equal(unlink(path_in(world->proc, "42/maps")), 0);
    assert_int_equal(rmdir(path_in(world->proc, "42")), 0);
    assert_int_equal(sweep_leftovers(&world->places, NOW_S), 1);
    assert_false(there(world->shm, segment("box", "bb0001.10")));
}

static void test_young_segments_stay(void **state)
{
    struct world *const world = *state;
    make_file(world->shm, segment("box", "cc0001.0"), "x");
    struct stat stat_of;
    assert_int_equal(stat(path_in(world->shm, segment("box", "cc0001.0")), &stat_of), 0);
    assert_int_equal(sweep_leftovers(&world->places, stat_of.st_mtime), 0);
    assert_true(there(world->shm, segment("box", "cc0001.0")));
    assert_int_equal(sweep_leftovers(&world->places, stat_of.st_mtime + SWEEP_AGE_S), 1);
}

static void test_a_hidden_process_keeps_all_segments(void **state)
{
    struct world *const world = *state;
    char status[64];
    make_file(world->shm, segment("box", "dd0001.0"), "x");
    make_dir(world->proc, "43");
    make_dir(world->proc, "1"); // The first process hides too, and is no rank.
    assert_int_equal(symlink("maps", path_in(world->proc, "1/maps")), 0);
    snprintf(status, sizeof status, "Name:\tinit\nUid:\t%u\t0\t0\t0\n", getuid());
    make_file(world->proc, "1/status", status);
    // A link to itself cannot be opened by anybody, root included, as a refused file by others.
    assert_int_equal(symlink("maps", path_in(world->proc, "43/maps")), 0);
    snprintf(status, sizeof status, "Name:\tx\nUid:\t%u\t0\t0\t0\n", getuid() + 1);
    make_file(world->proc, "43/status", status); // Another user's may hide what it wants.
    assert_int_equal(sweep_leftovers(&world->places, NOW_S), 1);
    make_file(world->shm, segment("box", "dd0001.0"), "x");
    snprintf(status, sizeof status, "Name:\tx\nUid:\t%u\t0\t0\t0\n", getuid());
    make_file(world->proc, "43/status", status);
    assert_int_equal(sweep_leftovers(&world->places, NOW_S), 0);
    assert_true(there(world->shm, segment("box", "dd0001.0")));
}

static void test_sessions_of_the_dead_go_whole(void **state)
{
    struct world *const world = *state;
    char ompi[256], dead[300], outside[300];
    snprintf(ompi, sizeof ompi, "%s/ompi.box.%u", world->tmp, getuid());
    snprintf(dead, sizeof dead, "%s/pid.40", ompi);
    snprintf(outside, sizeof outside, "%s/outside", world->dir);
    make_dir(ompi, "");
    make_dir(dead, "");
    make_dir(dead, "0");
    make_dir(dead, "0/0");
    make_file(dead, "0/0/segment", "x");
    make_file(dead, "contact.txt", "x");
    assert_int_equal(mkfifo(path_in(dead, "0/debugger_attach_fifo"), 0600), 0);
    make_dir(outside, "");
    make_file(outside, "precious", "x");
    assert_int_equal(symlink(outside, path_in(dead, "link")), 0);
    make_dir(ompi, "pid.41"); // Lives.
    make_file(ompi, "pid.41/contact.txt", "x");
    make_dir(ompi, "pid.40x"); // Not a pid.
    assert_int_equal(sweep_leftovers(&world->places, NOW_S), 1);
    assert_false(there(ompi, "pid.40"));
    assert_true(there(ompi, "pid.41/contact.txt"));
    assert_true(there(ompi, "pid.40x"));
    assert_true(there(outside, "precious"));
    // When the last one has gone, the directory of all goes too.
    assert_int_equal(rmdir(path_in(ompi, "pid.40x")), 0);
    assert_int_equal(unlink(path_in(world->proc, "41/maps")), 0);
    assert_int_equal(rmdir(path_in(world->proc, "41")), 0);
    assert_int_equal(sweep_leftovers(&world->places, NOW_S), 1);
    assert_false(there(ompi, ""));
}

static void test_linked_sessions_are_not_followed(void **state)
{
    struct world *const world = *state;
    char outside[256], name[64];
    snprintf(outside, sizeof outside, "%s/outside", world->dir);
    snprintf(name, sizeof name, "ompi.box.%u", getuid());
    make_dir(outside, "");
    make_dir(outside, "pid.40");
    assert_int_equal(symlink(outside, path_in(world->tmp, name)), 0);
    assert_int_equal(sweep_leftovers(&world->places, NOW_S), 0);
    assert_true(there(outside, "pid.40"));
    assert_int_equal(unlink(path_in(world->tmp, name)), 0);
    make_dir(world->tmp, name); // A link one level deeper.
    char ompi[256];
    snprintf(ompi, sizeof ompi, "%s/%s", world->tmp, name);
    assert_int_equal(symlink(path_in(outside, "pid.40"), path_in(ompi, "pid.39")), 0);
    assert_int_equal(sweep_leftovers(&world->places, NOW_S), 0);
    assert_true(there(outside, "pid.40"));
}

static void test_missing_places_are_nothing(void **state)
{
    struct world *const world = *state;
    world->places.shm_dir = world->places.tmp_dir = world->places.proc_dir = "/nonexistent/place";
    assert_int_equal(sweep_leftovers(&world->places, NOW_S), 0);
}

// --- back-off

static void test_backoff_doubles_and_starts_again_after_health(void **state)
{
    (void)state;
    struct backoff backoff = {0};
    static const int64_t expected[] = {200, 400, 800, 1600, 3200, 6400, 10000, 10000};
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++) {
        assert_int_equal(backoff_next_ms(&backoff, 59999, true), expected[i]);
    }
    assert_int_equal(backoff_next_ms(&backoff, 60000, true), 200);
    assert_int_equal(backoff_next_ms(&backoff, 0, true), 400);
}

static void test_backoff_is_longest_when_nobody_joined(void **state)
{
    (void)state;
    struct backoff backoff = {0};
    assert_int_equal(backoff_next_ms(&backoff, 500, false), 10000);
    assert_int_equal(backoff_next_ms(&backoff, 3600000, false), 10000);
    assert_int_equal(backoff_next_ms(&backoff, 60000, true), 200);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_segments_of_the_dead_go, setup, teardown),
        cmocka_unit_test_setup_teardown(test_mapped_segments_stay, setup, teardown),
        cmocka_unit_test_setup_teardown(test_young_segments_stay, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_hidden_process_keeps_all_segments, setup, teardown),
        cmocka_unit_test_setup_teardown(test_sessions_of_the_dead_go_whole, setup, teardown),
        cmocka_unit_test_setup_teardown(test_linked_sessions_are_not_followed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_missing_places_are_nothing, setup, teardown),
        cmocka_unit_test(test_backoff_doubles_and_starts_again_after_health),
        cmocka_unit_test(test_backoff_is_longest_when_nobody_joined),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
