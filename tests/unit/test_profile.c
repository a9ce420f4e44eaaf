// tests/unit/test_profile.c: the probe repeats, and tells another kernel apart.
//
// The program runs itself anew: with "probe" it prints its probe's digest after pinning.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "model/profile.h"

static const char *self;

static int print_probe(void)
{
    struct digest digest;
    char hex[DIGEST_HEX_BYTES];
    if (profile_probe(&digest) != OK) {
        return 1;
    }
    hex_put(hex, digest.bytes, sizeof digest.bytes);
    printf("%s %s %s\n", hex, profile_core(), getenv("OPENBLAS_NUM_THREADS"));
    return 0;
}

// Runs `<settings> self probe` and reads the digest, the core type and the thread count.
static void probe_with(const char *settings, char hex[static 65], char core[static 32],
                       char threads[static 8])
{
    char command[4096], line[256] = "";
    snprintf(command, sizeof command,
             "env -u OPENBLAS_NUM_THREADS -u OPENBLAS_CORETYPE %s '%s' probe", settings, self);
    FILE *const pipe = popen(command, "r");
    assert_non_null(pipe);
    assert_non_null(fgets(line, sizeof line, pipe));
    assert_int_equal(pclose(pipe), 0);
    assert_int_equal(sscanf(line, "%64s %31s %7s", hex, core, threads), 3);
}

static void test_probe_repeats(void **state)
{
    (void)state;
    struct digest a, b;
    assert_int_equal(profile_probe(&a), OK);
    assert_int_equal(profile_probe(&b), OK);
    assert_memory_equal(&a, &b, sizeof a);
    char hex[65], core[32], threads[8], again[65];
    probe_with("", hex, core, threads);
    probe_with("", again, core, threads);
    assert_string_equal(hex, again);
}

static void test_pin_sets_one_thread_and_keeps_a_given_core(void **state)
{
    (void)state;
    char hex[65], core[32], threads[8];
    probe_with("OPENBLAS_NUM_THREADS=2", hex, core, threads);
    assert_string_equal(threads, "1");
#ifdef __x86_64__
    const int modern = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    assert_string_equal(core, modern ? "Haswell" : "Prescott");
    probe_with("OPENBLAS_CORETYPE=Nehalem", hex, core, threads);
    assert_string_equal(core, "Nehalem");
    assert_string_equal(threads, "1");
#endif
}

static void test_another_kernel_gives_another_probe(void **state)
{
    (void)state;
#ifdef __x86_64__
    if (!__builtin_cpu_supports("avx2")) {
        skip();
    }
    char ours[65], other[65], core[32], threads[8];
    probe_with("OPENBLAS_CORETYPE=Haswell", ours, core, threads);
    probe_with("OPENBLAS_CORETYPE=Nehalem", other, core, threads);
    assert_string_not_equal(ours, other);
#else
    skip();
#endif
}

// Settings count, whatever the environment says; without any, the environment is kept.
static void test_pin_to_sets_the_core_that_is_asked_for(void **state)
{
    (void)state;
#ifdef __x86_64__
    char hex[65], core[32], threads[8];
    probe_with("PIN_TO=Nehalem OPENBLAS_CORETYPE=Prescott OPENBLAS_NUM_THREADS=3", hex, core,
               threads);
    assert_string_equal(core, "Nehalem");
    assert_string_equal(threads, "1");
    probe_with("PIN_TO= OPENBLAS_CORETYPE=Prescott", hex, core, threads);
    assert_string_equal(core, "Prescott");
    assert_true(profile_core_is_name(profile_default()));
#else
    skip();
#endif
}

static void test_names_of_core_types(void **state)
{
    (void)state;
    static const char *const good[] = {"Haswell", "SKYLAKEX", "ARMV8", "Core_2",
                                       "1234567890123456789012345678901"};
    static const char *const bad[] = {
        "", "a b", "x-y", "a;b", "Haswell\n", "\xc3\xa9", "12345678901234567890123456789012"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_true(profile_core_is_name(good[i]));
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_false(profile_core_is_name(bad[i]));
    }
}

// Without the environment set, pinning must start the program anew; an argument beyond what the
// kernel takes (128 KiB) makes that fail.
static void test_pin_reports_a_refused_start(void **state)
{
    (void)state;
    static char longer[200000];
    memset(longer, 'x', sizeof longer - 1);
    char *const name = longer + sizeof longer - 2;
    char *arguments[] = {name, longer, NULL};
    assert_int_equal(unsetenv("OPENBLAS_NUM_THREADS"), 0);
    assert_int_equal(profile_pin(arguments), ERR_IO);
    assert_non_null(strstr(err_text(), "could not be executed anew"));
    assert_int_equal(profile_pin(arguments), OK); // Control: now set, so nothing is started.
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "probe") == 0) {
        const char *const core = getenv("PIN_TO");
        const enum err pinned = core == NULL ? profile_pin(argv) : profile_pin_to(argv, core);
        return pinned == OK && digest_start() == OK ? print_probe() : 1;
    }
    static char path[2048];
    const ssize_t bytes = readlink("/proc/self/exe", path, sizeof path - 1);
    if (digest_start() != OK || bytes <= 0) {
        return 1;
    }
    path[bytes] = '\0';
    self = path;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_probe_repeats),
        cmocka_unit_test(test_pin_sets_one_thread_and_keeps_a_given_core),
        cmocka_unit_test(test_pin_to_sets_the_core_that_is_asked_for),
        cmocka_unit_test(test_names_of_core_types),
        cmocka_unit_test(test_another_kernel_gives_another_probe),
        cmocka_unit_test(test_pin_reports_a_refused_start),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
