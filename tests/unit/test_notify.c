// tests/unit/test_notify.c: what a service manager hears, and which environments are refused.
//
// Each test runs in a child, since notify.c speaks to one manager in its life.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/notify.h"

static int ear;                // The manager's socket.
static char name[64], dir[64]; // Its name.

static void listen_at(const char *where)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memcpy(address.sun_path, where, strlen(where));
    if (where[0] == '@') {
        address.sun_path[0] = '\0';
    }
    ear = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    assert_true(ear >= 0);
    const size_t bytes = offsetof(struct sockaddr_un, sun_path) + strlen(where);
    assert_int_equal(bind(ear, (const struct sockaddr *)&address, (socklen_t)bytes), 0);
    assert_int_equal(setenv("NOTIFY_SOCKET", where, 1), 0);
}

// What has come since the last call, messages separated by '|'.
static const char *heard(void)
{
    static char all[1024];
    size_t used = 0;
    all[0] = '\0';
    for (ssize_t got; used + 1 < sizeof all; used += (size_t)got) {
        if (used > 0) {
            all[used++] = '|';
        }
        got = recv(ear, all + used, sizeof all - 1 - used, 0);
        if (got <= 0) {
            all[used > 0 ? used - 1 : 0] = '\0';
            return all;
        }
        all[used + (size_t)got] = '\0';
    }
    return all;
}

// Runs `body` in a child; it has failed when that dies of an assertion.
static void apart(void (*body)(void))
{
    fflush(stdout);
    const pid_t pid = fork();
    if (pid == 0) {
        body();
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static void must(int truth, const char *what, int line)
{
    if (!truth) {
        fprintf(stderr, "test_notify.c:%d: %s\n", line, what);
        _exit(1);
    }
}
#define MUST(truth) must((truth), #truth, __LINE__)

static void says_all(void)
{
    MUST(notify_start() == OK);
    MUST(getenv("NOTIFY_SOCKET") == NULL && getenv("WATCHDOG_USEC") == NULL);
    notify_ready();
    notify_status("%d of %d", 1, 2);
    notify_status("%d of %d", 1, 2);
    MUST(strcmp(heard(), "READY=1|STATUS=1 of 2") == 0);
    notify_reloading();
    const char *const reloading = heard();
    MUST(strncmp(reloading, "RELOADING=1\nMONOTONIC_USEC=", 27) == 0 && strlen(reloading) > 27);
    notify_stopping();
    MUST(strcmp(heard(), "STOPPING=1") == 0);
    notify_alive(1000); // Nobody asked for it.
    MUST(strcmp(heard(), "") == 0);
}

static void beats(void)
{
    MUST(notify_start() == OK);
    const char *const expected[] = {"WATCHDOG=1", "", "", "WATCHDOG=1", ""};
    const int64_t at_ms[] = {5000, 5001, 5999, 6000, 6999}; // 2 s are allowed.
    for (int i = 0; i < 5; i++) {
        notify_alive(at_ms[i]);
        MUST(strcmp(heard(), expected[i]) == 0);
    }
}

static void is_silent(void)
{
    MUST(notify_start() == OK);
    notify_alive(1000);
    MUST(strcmp(heard(), "") == 0);
}

static void refuses(void)
{
    MUST(notify_start() == ERR_INVALID);
    MUST(getenv("NOTIFY_SOCKET") == NULL);
    notify_ready();
    notify_alive(1000);
    MUST(strcmp(heard(), "") == 0);
}

static void finds_nobody(void)
{
    MUST(notify_start() == ERR_IO);
    notify_ready();
    MUST(strcmp(heard(), "") == 0);
}

static void test_a_manager_hears_all_in_order(void **state)
{
    (void)state;
    apart(says_all);
}

static void test_signs_of_life_come_at_half_the_time(void **state)
{
    (void)state;
    setenv("WATCHDOG_USEC", "2000000", 1);
    apart(beats);
    unsetenv("WATCHDOG_USEC");
}

static void test_another_process_is_watched(void **state)
{
    (void)state;
    setenv("WATCHDOG_USEC", "2000000", 1);
    setenv("WATCHDOG_PID", "1", 1);
    apart(is_silent);
    unsetenv("WATCHDOG_USEC");
    unsetenv("WATCHDOG_PID");
}

static void test_nonsense_is_refused(void **state)
{
    (void)state;
    static const char *const bad[][2] = {
        {"NOTIFY_SOCKET", "relative"},   {"NOTIFY_SOCKET", "/"},  {"NOTIFY_SOCKET", "@"},
        {"WATCHDOG_USEC", "soon"},       {"WATCHDOG_USEC", "-1"}, {"WATCHDOG_PID", "x"},
        {"WATCHDOG_PID", "99999999999"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        setenv("NOTIFY_SOCKET", name, 1);
        setenv("WATCHDOG_USEC", "2000000", 1);
        setenv(bad[i][0], bad[i][1], 1);
        apart(refuses);
        unsetenv("WATCHDOG_USEC");
        unsetenv("WATCHDOG_PID");
    }
    char longest[200] = "/";
    memset(longest + 1, 'x', sizeof longest - 2);
    setenv("NOTIFY_SOCKET", longest, 1);
    apart(refuses);
    setenv("NOTIFY_SOCKET", "/nonexistent/socket", 1);
    apart(finds_nobody);
    unsetenv("NOTIFY_SOCKET");
}

static int listen_on_path(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/test_notify.XXXXXX");
    assert_non_null(mkdtemp(dir));
    snprintf(name, sizeof name, "%.50s/manager", dir);
    listen_at(name);
    return 0;
}
static int listen_on_abstract(void **state)
{
    (void)state;
    snprintf(name, sizeof name, "@test_notify.%d", (int)getpid());
    listen_at(name);
    return 0;
}
static int close_ear(void **state)
{
    (void)state;
    close(ear);
    unsetenv("NOTIFY_SOCKET");
    if (name[0] == '/') {
        unlink(name);
        rmdir(dir);
    }
    return 0;
}

int main(void)
{
#define BOTH(test)                                                                                 \
    cmocka_unit_test_setup_teardown(test, listen_on_path, close_ear),                              \
        cmocka_unit_test_setup_teardown(test, listen_on_abstract, close_ear)
    const struct CMUnitTest tests[] = {
        BOTH(test_a_manager_hears_all_in_order),
        BOTH(test_signs_of_life_come_at_half_the_time),
        BOTH(test_another_process_is_watched),
        BOTH(test_nonsense_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
