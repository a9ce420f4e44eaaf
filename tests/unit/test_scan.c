// tests/unit/test_scan.c: a needle is found wherever it lies, and counted once.
//
// Method: files with needles across the edges of blocks; this process's own memory.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// cmocka needs the four above first.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "base/digest.h"
#include "base/mem.h"
#include "client/scan.h"
#include "tests/unit/scratch.h"

enum { BLOCK = 1 << 22, PLACES = 64 };

static char dir[SCRATCH_BYTES];
static struct scan *scan;
static uint64_t offsets[PLACES];
static size_t needles[PLACES], place_count;

static void note(void *context, const struct scan_place *place)
{
    (void)context;
    if (place_count < PLACES) {
        offsets[place_count] = place->offset;
        needles[place_count] = place->needle;
    }
    place_count++;
}

static int set_up(void **state)
{
    (void)state;
    place_count = 0;
    scan = scan_new(note, NULL);
    return scratch_make(dir) ? 0 : -1;
}
static int tear_down(void **state)
{
    (void)state;
    scan_free(scan);
    scratch_remove(dir);
    return 0;
}

static const char *path_in(const char *name)
{
    static char paths[2][SCRATCH_BYTES + 32];
    static int which;
    which = 1 - which;
    snprintf(paths[which], sizeof paths[which], "%s/%s", dir, name);
    return paths[which];
}
static void put(const char *name, uint64_t at, const void *bytes, size_t count)
{
    const int fd = open(path_in(name), O_WRONLY | O_CREAT, 0600);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, bytes, count, (off_t)at), count);
    close(fd);
}
static void needle(const char *name, const void *bytes, size_t count)
{
    put(name, 0, bytes, count);
    assert_int_equal(scan_add_file(scan, path_in(name)), OK);
}

static void test_edges_of_blocks(void **state)
{
    (void)state;
    static const uint64_t places[] = {0,         1,         BLOCK - 9,     BLOCK - 8,
                                      BLOCK - 1, BLOCK + 7, 2 * BLOCK - 3, 3 * BLOCK + 100};
    needle("needle", "\1NEEDLE\2", 8);
    needle("other", "\1NEEDLE\3 is longer, and is not there", 36);
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        place_count = 0;
        assert_int_equal(unlink(path_in("hay")) == 0 || i == 0, 1);
        put("hay", 3 * BLOCK + 200, "end", 3); // Longer than what is read at once.
        put("hay", places[i], "\1NEEDLE\2", 8);
        assert_int_equal(scan_path(scan, path_in("hay")), OK);
        assert_int_equal(place_count, 1);
        assert_int_equal(offsets[0], places[i]);
        assert_int_equal(needles[0], 0);
    }
    place_count = 0; // At the very end of a file; and one byte short of it.
    put("end", 1000, "\1NEEDLE\2", 8);
    put("short", 1000, "\1NEEDLE", 7);
    assert_int_equal(scan_path(scan, path_in("end")), OK);
    assert_int_equal(scan_path(scan, path_in("short")), OK);
    assert_int_equal(place_count, 1);
    assert_int_equal(offsets[0], 1000);
}

static void test_lines_and_overlaps(void **state)
{
    (void)state;
    needle("lines", "aaaa\nbabab\r\n\n", 13); // A text: a needle a line.
    assert_int_equal(scan_needle_count(scan), 2);
    put("hay", 0, "aaaaaa babababa", 15);
    assert_int_equal(scan_path(scan, path_in("hay")), OK);
    assert_int_equal(place_count, 3 + 2);
    assert_int_equal(scan_counts(scan).found, 5);
    assert_int_equal(scan_counts(scan).bytes, 15);
}

static void test_directories(void **state)
{
    (void)state;
    needle("lines", "NEEDLE", 6);
    put("hay", 5, "NEEDLE", 6);
    assert_int_equal(mkdir(path_in("inner"), 0700), 0);
    put("inner/hay", 0, "NEEDLENEEDLE", 12);
    assert_int_equal(symlink(path_in("hay"), path_in("inner/link")), 0);
    assert_int_equal(mkfifo(path_in("inner/pipe"), 0600), 0);
    assert_int_equal(scan_path(scan, dir),
                     OK); // The needle's own file, link and pipe are left out.
    assert_int_equal(place_count, 3);
    assert_int_equal(scan_counts(scan).files, 2);
    place_count = 0;
    assert_int_equal(scan_path(scan, path_in("inner/link")),
                     OK); // A link that is named is followed.
    assert_int_equal(place_count, 1);
    assert_int_equal(scan_path(scan, path_in("nowhere")), ERR_NOT_FOUND);
}

static void test_needles_that_are_refused(void **state)
{
    (void)state;
    put("short", 0, "abc\n", 4);
    assert_int_equal(scan_add_file(scan, path_in("short")), ERR_INVALID);
    assert_non_null(strstr(err_text(), "a needle of 3 bytes, expected 4"));
    put("empty", 0, "\n\n", 2);
    assert_int_equal(scan_add_file(scan, path_in("empty")), ERR_INVALID);
    assert_non_null(strstr(err_text(), "holds no needle"));
    assert_int_equal(scan_add_file(scan, path_in("nowhere")), ERR_NOT_FOUND);
}

static volatile uint8_t first = 0xC0; // So that no compiler makes the pattern a constant.

// A child that holds the pattern in its heap, or has wiped it; it waits until `stay` is closed.
static pid_t holder(bool wiped, int ready, int stay)
{
    const pid_t child = fork();
    if (child == 0) {
        char byte = 0;
        uint8_t *const memory = mem_alloc(100000, 1);
        for (size_t i = 0; i < 16; i++) { // Made here, so that it lies nowhere else.
            memory[50000 + i] = (uint8_t)(first + 7 * i);
        }
        if (wiped) {
            mem_wipe(memory, 100000);
        }
        (void)!write(ready, "x", 1);
        (void)!read(stay, &byte, 1);
        _exit(memory[0]);
    }
    return child;
}

static void test_memory(void **state)
{
    (void)state;
#ifdef __SANITIZE_ADDRESS__
    skip(); // Its shadow is a mapping of 16 TiB, all of it readable.
#endif
    for (int wiped = 0; wiped < 2; wiped++) {
        int ready[2], stay[2];
        uint8_t pattern[16];
        char byte = 0;
        assert_int_equal(pipe(ready), 0);
        assert_int_equal(pipe(stay), 0);
        // Before this process makes the pattern for itself: a child inherits its memory.
        const pid_t child = holder(wiped == 1, ready[1], stay[0]);
        assert_int_equal(read(ready[0], &byte, 1), 1);
        for (size_t i = 0; i < sizeof pattern; i++) {
            pattern[i] = (uint8_t)(first + 7 * i);
        }
        scan_free(scan);
        scan = scan_new(note, NULL);
        needle("needle", pattern, sizeof pattern);
        mem_wipe(pattern, sizeof pattern);
        place_count = 0;
        const enum err err = scan_process(scan, child);
        scan_free(scan);
        scan = scan_new(note, NULL);
        assert_int_equal(write(stay[1], "x", 1), 1);
        assert_int_equal(waitpid(child, NULL, 0), child);
        assert_int_equal(close(ready[0]) | close(ready[1]) | close(stay[0]) | close(stay[1]), 0);
        assert_int_equal(err, OK);
        assert_int_equal(place_count, 1 - wiped);
    }
    assert_int_equal(scan_process(scan, 0x3FFFFFFF), ERR_NOT_FOUND);
}

int main(void)
{
    if (digest_start() != OK) {
        return 1;
    }
#define CASE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(test_edges_of_blocks), CASE(test_lines_and_overlaps),
        CASE(test_directories),     CASE(test_needles_that_are_refused),
        CASE(test_memory),
    };
#undef CASE
    return cmocka_run_group_tests_name("scan", tests, NULL, NULL);
}
