// tests/unit/test_address.c: the line that says where a coordinator is, and what is this machine alone.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// cmocka needs the four above first.
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "proto/address.h"

static void test_lines(void **state)
{
    (void)state;
    static const struct {
        const char *text, *endpoint;
        bool insecure;
    } good[] = {
        {"tcp://127.0.0.1:7070", "tcp://127.0.0.1:7070", false},
        {"tcp://127.0.0.1:7070\n", "tcp://127.0.0.1:7070", false},
        {"tcp://host.example:1\r\n", "tcp://host.example:1", false},
        {"tcp://127.0.0.1:7070 insecure", "tcp://127.0.0.1:7070", true},
        {"tcp://127.0.0.1:7070 insecure\n", "tcp://127.0.0.1:7070", true},
    };
    struct address address;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_int_equal(address_get(good[i].text, &address), OK);
        assert_string_equal(address.endpoint, good[i].endpoint);
        assert_int_equal(address.insecure, good[i].insecure);
        char line[ADDRESS_LINE_BYTES];
        address_put(&address, line);
        struct address again;
        assert_int_equal(address_get(line, &again), OK);
        assert_memory_equal(&again, &address, sizeof again);
    }
    static const char *const bad[] = {
        "",
        "\n",
        " insecure",
        "tcp://a:1 ",
        "tcp://a:1 secure",
        "tcp://a:1 insecure ",
        "tcp://a:1  insecure",
        "tcp://a:1 insecurex",
        "tcp://a:1 insecure x",
        "tcp://a:1 INSECURE",
        "tcp://a:1\ninsecure",
        "tcp://a:1\ntcp://b:2\n",
        "tcp://\x01:1",
        "tcp://\xff:1",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(address_get(bad[i], &address), ERR_INVALID);
    }
    char longest[LINK_ENDPOINT_BYTES + 1];
    memset(longest, 'a', sizeof longest);
    longest[LINK_ENDPOINT_BYTES - 1] = '\0';
    assert_int_equal(address_get(longest, &address), OK);
    longest[LINK_ENDPOINT_BYTES - 1] = 'a';
    longest[LINK_ENDPOINT_BYTES] = '\0';
    assert_int_equal(address_get(longest, &address), ERR_INVALID);
}

static void test_loopback(void **state)
{
    (void)state;
    static const char *const good[] = {"tcp://127.0.0.1:7070", "tcp://127.0.0.1:*",
                                       "tcp://127.255.3.4:1"};
    static const char *const bad[] = {
        "tcp://0.0.0.0:7070",
        "tcp://*:7070",
        "tcp://10.0.0.1:7070",
        "tcp://128.0.0.1:1",
        "tcp://localhost:1",
        "tcp://127.0.0.1.example:1",
        "tcp://127.1:1",
        "tcp://lo:1",
        "tcp://0x7f.0.0.1:1",
        "tcp://[::1]:1",
        "tcp://127.0.0.1",
        "tcp://:1",
        "tcp:",
        "tcp://",
        "",
        "ipc:///tmp/x",
        "tcp://eth0;127.0.0.1:1",
        "udp://127.0.0.1:1",
        "tcp://127.0.0.1:1;10.0.0.1:2",
        "tcp://127.0.0.1111111111111111111111111:1",
    };
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_true(address_is_loopback(good[i]));
        assert_int_equal(address_check_loopback("listen", good[i]), OK);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_false(address_is_loopback(bad[i]));
        assert_int_equal(address_check_loopback("listen", bad[i]), ERR_INVALID);
        assert_non_null(strstr(err_text(), "listen"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_loopback),
    };
    return cmocka_run_group_tests_name("address", tests, NULL, NULL);
}
