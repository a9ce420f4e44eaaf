// tests/unit/test_guard.c: a process that becomes another user cannot go back.
//
// Method: children, as root; elsewhere only what is refused.
#include <grp.h>
#include <pwd.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/guard.h"

static int in_child(int (*what)(void))
{
    const pid_t child = fork();
    if (child == 0) {
        _exit(what());
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static int become_nobody(void)
{
    const struct passwd *const nobody = getpwnam("nobody");
    if (nobody == NULL || guard_become("nobody") != OK) {
        return 1;
    }
    uid_t real, effective, saved;
    gid_t group[3];
    if (getresuid(&real, &effective, &saved) != 0 || real != nobody->pw_uid || effective != real ||
        saved != real) {
        return 2;
    }
    if (getresgid(&group[0], &group[1], &group[2]) != 0 || group[0] != nobody->pw_gid ||
        group[1] != group[0] || group[2] != group[0] || getgroups(0, NULL) != 0) {
        return 3;
    }
    if (seteuid(0) == 0 || setgid(0) == 0 || access("/etc/shadow", R_OK) == 0) {
        return 4;
    }
    // The same once more is nothing to do; another is refused.
    return guard_become("nobody") == OK && guard_become("root") == ERR_DENIED ? 0 : 5;
}

static void test_root_becomes_another_for_good(void **state)
{
    (void)state;
    if (geteuid() != 0) {
        skip();
    }
    assert_int_equal(in_child(become_nobody), 0);
}

static int ask_for_nonsense(void)
{
    return guard_become("no such user") == ERR_INVALID &&
                   strstr(err_text(), "no user \"no such user\"") != NULL
               ? 0
               : 1;
}

static void test_an_unknown_user(void **state)
{
    (void)state;
    assert_int_equal(in_child(ask_for_nonsense), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_root_becomes_another_for_good),
        cmocka_unit_test(test_an_unknown_user),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
