// tests/unit/test_config.c: DIR/config.yaml is read as written, and what is wrong is named.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// cmocka needs the four above first.
#include <sys/stat.h>

#include <cmocka.h>

#include "coordinator/core.h"
#include "tests/unit/scratch.h"

static char dir[SCRATCH_BYTES];

static int set_up(void **state)
{
    (void)state;
    assert_true(scratch_make(dir));
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    scratch_remove(dir);
    return 0;
}

static enum err load(const char *text, size_t bytes, struct config *config_out)
{
    char path[SCRATCH_BYTES + 32];
    snprintf(path, sizeof path, "%s/config.yaml", dir);
    FILE *const file = fopen(path, "we");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, bytes, file), bytes);
    assert_int_equal(fclose(file), 0);
    return config_load(dir, config_out);
}

static void accepts(const char *text, struct config *config_out)
{
    if (load(text, strlen(text), config_out) != OK) {
        fail_msg("%s", err_text());
    }
}

static void refuses(const char *text, const char *sentence)
{
    struct config config;
    assert_int_equal(load(text, strlen(text), &config), ERR_INVALID);
    if (strstr(err_text(), sentence) == NULL || strstr(err_text(), "config.yaml") == NULL) {
        fail_msg("\"%s\" does not name the file and \"%s\"", err_text(), sentence);
    }
}

static void test_what_is_left_out_has_its_default(void **state)
{
    (void)state;
    struct config config;
    accepts("# nothing but a comment\n", &config);
    assert_string_equal(config.listen, "tcp://127.0.0.1:*");
    assert_string_equal(config.listen_workers, "tcp://127.0.0.1:*");
    assert_true(config.map_bytes == (uint64_t)64 << 30);
    assert_int_equal(config.predict_threads, 2);
    assert_int_equal(config.ranks, 2);
    assert_int_equal(config.lease_ms, 4000);
    assert_true(config.approve_above == 0 && config.approve_hours == 72);
    assert_string_equal(config.blas_core, ""); // Left to the environment.
    accepts("blas_core:\n", &config);
    assert_string_equal(config.blas_core, "");
}

static void test_every_key(void **state)
{
    (void)state;
    struct config config;
    accepts("listen: tcp://0.0.0.0:7000\n"
            "listen_workers: \"tcp://*:7001\"\n"
            "map_bytes: 70368744177664\n" // 2^46, more than 32 bits
            "predict_threads: 3\n"
            "ranks: 4096\n"
            "lease_ms: 500\n"
            "approve_above: 1000\n"
            "approve_hours: 24\n"
            "recheck_percent: 7\n"
            "blas_core: SkylakeX\n",
            &config);
    assert_string_equal(config.listen, "tcp://0.0.0.0:7000");
    assert_string_equal(config.listen_workers, "tcp://*:7001");
    assert_true(config.map_bytes == (uint64_t)1 << 46);
    assert_int_equal(config.predict_threads, 3);
    assert_int_equal(config.ranks, 4096);
    assert_int_equal(config.lease_ms, 500);
    assert_int_equal(config.approve_above, 1000);
    assert_int_equal(config.approve_hours, 24);
    assert_int_equal(config.recheck_percent, 7);
    assert_string_equal(config.blas_core, "SkylakeX");
}

static void test_bounds(void **state)
{
    (void)state;
    static const struct {
        const char *good, *bad, *sentence;
    } bounds[] = {
        {"ranks: 1\n", "ranks: 0\n", "ranks is 0, expected at least 1"},
        {"ranks: 4096\n", "ranks: 4097\n", "ranks"},
        {"predict_threads: 256\n", "predict_threads: 257\n", "predict_threads"},
        {"lease_ms: 500\n", "lease_ms: 499\n", "lease_ms is 499, expected at least 500"},
        {"approve_hours: 1\n", "approve_hours: 0\n", "approve_hours is 0, expected at least 1"},
        {"approve_hours: 744\n", "approve_hours: 745\n", "approve_hours"},
        {"recheck_percent: 100\n", "recheck_percent: 101\n", "recheck_percent"},
        {"approve_above: 0\n", "approve_above: -1\n", "approve_above"},
        {"lease_ms: 600000\n", "lease_ms: 600001\n", "lease_ms"},
        {"due: ccpa\n", "due: soon\n", "none of gdpr, ccpa"},
        {"due: 20d\n", "due: 2099-12-24\n", "due is a date"},
        {"due: 24h\n", "due: 0h\n", "not in the future"},
        {"map_bytes: 1048576\n", "map_bytes: 1048575\n", "map_bytes is 1048575"},
        {"map_bytes: 70368744177664\n", "map_bytes: 70368744177665\n", "map_bytes"},
        {"ranks: 2\n", "ranks: -1\n", "ranks"},
        {"ranks: 2\n", "ranks: two\n", "ranks"},
        {"ranks: 2\n", "ranks: 2.0\n", "ranks"},
        {"ranks: 2\n", "ranks: 18446744073709551618\n", "ranks"}, // 2^64 + 2
        {"listen: tcp://127.0.0.1:1\n", "listen: ipc:///tmp/x\n", "expected tcp://ADDRESS:PORT"},
        {"listen: tcp://127.0.0.1:1\n", "listen: 127.0.0.1:1\n", "listen is \"127.0.0.1:1\""},
        {"blas_core: Core_2\n", "blas_core: x-y\n", "blas_core is \"x-y\", expected a core type"},
        {"blas_core: 1234567890123456789012345678901\n",
         "blas_core: 12345678901234567890123456789012\n", "expected a core type"},
        {"ranks: 2\n", "rank: 2\n", "unknown key \"rank\", expected listen"},
        {"ranks: 2\n", "ranks: {a: 2}\n", "unknown key \"ranks.a\""},
        {"ranks: 2\n", "ranks: 2\nranks: 3\n", "ranks"},
        {"ranks: 2\n", "lease_ms: 5000\nranks: 0\n", "line 2"},
        {"ranks: 2\n", "ranks: [\n", "config.yaml"},
    };
    struct config config;
    for (size_t i = 0; i < sizeof bounds / sizeof *bounds; i++) {
        accepts(bounds[i].good, &config);
        refuses(bounds[i].bad, bounds[i].sentence);
    }
}

static void test_an_endpoint_too_long(void **state)
{
    (void)state;
    char text[600] = "listen: tcp://";
    struct config config;
    memset(text + 14, 'a', LINK_ENDPOINT_BYTES - 1 - 6);
    accepts(text, &config); // control: exactly as long as there is room
    assert_int_equal(strlen(config.listen), LINK_ENDPOINT_BYTES - 1);
    text[strlen(text)] = 'a';
    refuses(text, "listen is \"tcp://aaa");
}

static void test_a_file_too_long(void **state)
{
    (void)state;
    enum { MOST = 16 * 1024 };
    static char text[MOST + 2];
    struct config config;
    memset(text, '#', MOST);
    assert_int_equal(load(text, MOST, &config), OK); // control
    text[MOST] = '#';
    refuses(text, "longer than 16384 bytes");
}

static void test_no_data_directory(void **state)
{
    (void)state;
    struct config config;
    char path[SCRATCH_BYTES + 32];
    assert_int_equal(config_load(dir, &config), ERR_NOT_FOUND);
    assert_non_null(strstr(err_text(), "unlearnctl init"));
    snprintf(path, sizeof path, "%s/none", dir);
    assert_int_equal(config_load(path, &config), ERR_NOT_FOUND);
    snprintf(path, sizeof path, "%s/config.yaml", dir);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(config_load(dir, &config), ERR_INVALID);
    assert_non_null(strstr(err_text(), "cannot be read"));
    assert_int_equal(rmdir(path), 0);
    accepts("ranks: 2\n", &config); // control
}

int main(void)
{
#define WITH_DIR(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        WITH_DIR(test_what_is_left_out_has_its_default),
        WITH_DIR(test_every_key),
        WITH_DIR(test_bounds),
        WITH_DIR(test_an_endpoint_too_long),
        WITH_DIR(test_a_file_too_long),
        WITH_DIR(test_no_data_directory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
