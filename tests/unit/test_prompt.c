// tests/unit/test_prompt.c: a prompt thread asks for short turns, its children do, and it can stop.
//
// What the kernel holds of a thread is asked from the kernel. Older ones keep nothing of it: then only
// that nothing else was changed is looked at.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// cmocka needs the four above first.
#include <pthread.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/prompt.h"

struct attributes {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period;
};

static struct attributes now(void)
{
    struct attributes found = {.size = 0};
    assert_int_equal(syscall(SYS_sched_getattr, 0, &found, sizeof found, 0), 0);
    return found;
}

static void *ask(void *found)
{
    *(struct attributes *)found = now();
    return NULL;
}

static void test_short_turns(void **state)
{
    (void)state;
    pthread_t child;
    struct attributes inherited;
    const struct attributes before = now();
    assert_true(prompt_set(true));
    const struct attributes prompt = now();
    assert_int_equal(pthread_create(&child, NULL, ask, &inherited), 0);
    pthread_join(child, NULL);
    assert_int_equal(prompt.policy, before.policy);
    assert_int_equal(prompt.nice, before.nice);
    if (before.runtime != 0) { // It tells the length of a turn: Linux 6.12 on.
        assert_true(prompt.runtime < before.runtime);
        assert_true(inherited.runtime == prompt.runtime);
    }
    assert_true(prompt_set(false));
    assert_true(now().runtime == before.runtime);
    assert_int_equal(now().nice, before.nice);
}

static void test_niceness_stays(void **state)
{
    (void)state;
    const int nicer = getpriority(PRIO_PROCESS, 0) + 1; // Less than ours is a privilege.
    assert_int_equal(setpriority(PRIO_PROCESS, 0, nicer), 0);
    assert_true(prompt_set(true));
    assert_int_equal(now().nice, getpriority(PRIO_PROCESS, 0));
    assert_true(now().nice == nicer || nicer > 19); // 19: the nicest.
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_short_turns),
        cmocka_unit_test(test_niceness_stays),
    };
    return cmocka_run_group_tests_name("prompt", tests, NULL, NULL);
}
