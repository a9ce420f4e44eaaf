// tests/unit/test_basefile.c: a base comes back from its file with the same bits, and nothing else does.
//
// Method: a tiny base is written and read; then every byte of the file is changed in turn and the file
// is cut at every length: what still opens has another digest.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// cmocka needs the four above first.
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/mem.h"
#include "client/basefile.h"
#include "client/files.h"
#include "tests/unit/scratch.h"

static char dir[SCRATCH_BYTES], path[SCRATCH_BYTES + 16];
static struct base *base;
static struct buf file; // As it was written.

static int set_up(void **state)
{
    (void)state;
    static const struct base_shape shape = {.kind = BASE_TEXT,
                                            .layers = 1,
                                            .width = 2,
                                            .heads = 1,
                                            .inner = 2,
                                            .epsilon = 1e-5,
                                            .context = 2};
    const uint64_t count = base_at(&shape).count;
    float *weights = NULL;
    assert_int_equal(mem_try_aligned((size_t)count, sizeof *weights, &weights), OK);
    for (uint64_t i = 0; i < count; i++) {
        weights[i] = (float)i / 8 - 3;
    }
    base = base_new(&shape, weights);
    assert_true(scratch_make(dir));
    snprintf(path, sizeof path, "%s/" BASEFILE_NAME, dir);
    assert_int_equal(basefile_write(dir, base), OK);
    assert_int_equal(files_read(path, 1 << 20, &file), OK);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    base_release(base);
    buf_deinit(&file);
    scratch_remove(dir);
    return 0;
}

static enum err read_bytes(struct span bytes, struct base **base_out)
{
    *base_out = NULL;
    assert_int_equal(files_write(path, bytes), OK);
    return basefile_read(dir, base_out);
}

static void test_the_same_comes_back(void **state)
{
    (void)state;
    struct base *found = NULL;
    assert_int_equal(basefile_read(dir, &found), OK);
    assert_memory_equal(&found->digest, &base->digest, sizeof base->digest);
    assert_int_equal(found->weight_count, base->weight_count);
    assert_memory_equal(found->weights, base->weights, base->weight_count * sizeof(float));
    base_release(found);
    struct stat stat_of;
    assert_int_equal(stat(path, &stat_of), 0);
    assert_int_equal(stat_of.st_mode & 0777, 0600);
    assert_int_equal(basefile_write(dir, base), ERR_IO); // It is there already.
    assert_non_null(strstr(err_text(), "File exists"));
}

static void test_any_other_byte_is_another_base_or_none(void **state)
{
    (void)state;
    size_t opened = 0;
    for (size_t i = 0; i < file.bytes; i++) {
        struct base *found;
        file.data[i] ^= 0x41;
        const enum err err = read_bytes(buf_span(&file), &found);
        file.data[i] ^= 0x41;
        if (err == OK) {
            assert_memory_not_equal(&found->digest, &base->digest, sizeof base->digest);
            base_release(found);
            opened++;
        } else {
            assert_true(err == ERR_CORRUPT || err == ERR_INCOMPATIBLE);
            assert_non_null(strstr(err_text(), BASEFILE_NAME));
        }
    }
    assert_in_range(opened, 1, base->weight_count * sizeof(float) + 32);
}

static void test_any_other_length_is_refused(void **state)
{
    (void)state;
    struct base *found;
    for (size_t bytes = 0; bytes < file.bytes; bytes++) {
        assert_int_equal(read_bytes(span_of(file.data, bytes), &found), ERR_CORRUPT);
    }
    buf_u8(&file, 0);
    assert_int_equal(read_bytes(buf_span(&file), &found), ERR_CORRUPT);
    assert_non_null(strstr(err_text(), "a base of its shape"));
    file.bytes--;
    assert_int_equal(read_bytes(buf_span(&file), &found), OK); // control
    base_release(found);
}

static void test_what_is_no_file_of_ours(void **state)
{
    (void)state;
    struct base *found;
    file.data[8] = 2; // The format.
    assert_int_equal(read_bytes(buf_span(&file), &found), ERR_INCOMPATIBLE);
    file.data[8] = 1;
    memset(file.data + file.bytes - 4, 0xff, 4); // NaN
    assert_int_equal(read_bytes(buf_span(&file), &found), ERR_CORRUPT);
    assert_non_null(strstr(err_text(), "is not finite"));
    assert_int_equal(remove(path), 0);
    assert_int_equal(basefile_read(dir, &found), ERR_NOT_FOUND);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(basefile_read(dir, &found), ERR_CORRUPT);
    assert_non_null(strstr(err_text(), "not a regular file"));
    assert_int_equal(remove(path), 0);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(basefile_read(dir, &found), ERR_CORRUPT);
    assert_non_null(strstr(err_text(), "not a regular file"));
}

int main(void)
{
#define CASE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(test_the_same_comes_back),
        CASE(test_any_other_byte_is_another_base_or_none),
        CASE(test_any_other_length_is_refused),
        CASE(test_what_is_no_file_of_ours),
    };
#undef CASE
    return digest_start() != OK || cmocka_run_group_tests_name("basefile", tests, NULL, NULL) != 0;
}
