// tests/unit/test_curvekey.c: key pairs and their files: what is read back, and what is refused by what
// name.
//
// Method: a pair in a scratch directory; each way to spoil its file beside the undamaged control.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// cmocka needs the four above first.
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <zmq.h>

#include <cmocka.h>

#include "base/curvekey.h"
#include "base/digest.h"
#include "client/files.h"
#include "tests/unit/scratch.h"

enum { PATH_BYTES = 300, PUBLIC_FILE_BYTES = 15 + 72, FILE_BYTES = 15 + 2 * 72 };
static char dir[SCRATCH_BYTES], secret[PATH_BYTES], public[PATH_BYTES];
static struct curvekey key;

static int set_up(void **state)
{
    (void)state;
    if (!scratch_make(dir)) {
        return -1;
    }
    snprintf(secret, sizeof secret, "%s/admin.key", dir);
    snprintf(public, sizeof public, "%s/admin.pub", dir);
    curvekey_make(&key);
    return curvekey_write(secret, &key) == OK && curvekey_write_public(public, key.public) == OK
               ? 0
               : -1;
}

static int tear_down(void **state)
{
    (void)state;
    scratch_remove(dir);
    return 0;
}

static void read_is(enum err expected, const char *words)
{
    static const struct curvekey wiped;
    struct curvekey other;
    memset(&other, 0xAA, sizeof other);
    assert_int_equal(curvekey_read(secret, &other), expected);
    if (expected == OK) {
        assert_memory_equal(&other, &key, sizeof key);
    } else {
        assert_memory_equal(&other, &wiped, sizeof wiped);
        assert_non_null(strstr(err_text(), words));
        assert_non_null(strstr(err_text(), secret));
    }
}

static void public_is(enum err expected, const char *words)
{
    uint8_t other[CURVEKEY_BYTES] = {0};
    assert_int_equal(curvekey_read_public(public, other), expected);
    if (expected == OK) {
        assert_memory_equal(other, key.public, sizeof other);
    } else {
        assert_non_null(strstr(err_text(), words));
        assert_non_null(strstr(err_text(), public));
    }
}

static void test_files(void **state)
{
    (void)state;
    struct stat found;
    struct buf text = {0};
    char hex[CURVEKEY_HEX_BYTES], expected[FILE_BYTES + 1];
    read_is(OK, "");
    public_is(OK, "");
    assert_int_equal(stat(secret, &found), 0);
    assert_int_equal(found.st_mode & 07777, 0600);
    hex_put(hex, key.public, sizeof key.public);
    snprintf(expected, sizeof expected, "unlearnd-key-1\npublic %s\n", hex);
    assert_int_equal(files_read(public, 1000, &text), OK);
    assert_true(span_equal(buf_span(&text), span_text(expected)));
    hex_put(hex, key.secret, sizeof key.secret);
    snprintf(expected + PUBLIC_FILE_BYTES, sizeof expected - PUBLIC_FILE_BYTES, "secret %s\n", hex);
    buf_clear(&text);
    assert_int_equal(files_read(secret, 1000, &text), OK);
    assert_true(span_equal(buf_span(&text), span_text(expected)));
    buf_deinit(&text);
    // Nothing is overwritten.
    assert_int_equal(curvekey_write(secret, &key), ERR_CONFLICT);
    assert_int_equal(curvekey_write_public(public, key.public), ERR_CONFLICT);
    char nowhere[PATH_BYTES];
    snprintf(nowhere, sizeof nowhere, "%s/none/key", dir);
    assert_int_equal(curvekey_write(nowhere, &key), ERR_IO);
    assert_int_equal(curvekey_read(nowhere, &key), ERR_NOT_FOUND);
}

// The pair is one that ZeroMQ takes for its own: it derives the same public half.
static void test_zeromq_agrees(void **state)
{
    (void)state;
    char public_text[41], secret_text[41];
    uint8_t derived[CURVEKEY_BYTES];
    assert_non_null(zmq_z85_encode(secret_text, key.secret, sizeof key.secret));
    assert_int_equal(zmq_curve_public(public_text, secret_text), 0);
    assert_non_null(zmq_z85_decode(derived, public_text));
    assert_memory_equal(derived, key.public, sizeof derived);
    struct curvekey other;
    curvekey_make(&other);
    assert_memory_not_equal(other.secret, key.secret, sizeof other.secret);
    curvekey_wipe(&other);
    static const struct curvekey wiped;
    assert_memory_equal(&other, &wiped, sizeof other);
}

static void test_who_may_touch_it(void **state)
{
    (void)state;
    static const struct {
        mode_t mode;
        const char *words; // "": it is read.
    } secrets[] = {
        {0600, ""},          {0400, ""},          {0640, "has mode 0640, expected 0600"},
        {0604, "mode 0604"}, {0644, "mode 0644"}, {0620, "mode 0620"},
        {0602, "mode 0602"},
    };
    for (size_t i = 0; i < sizeof secrets / sizeof secrets[0]; i++) {
        assert_int_equal(chmod(secret, secrets[i].mode), 0);
        read_is(secrets[i].words[0] == '\0' ? OK : ERR_DENIED, secrets[i].words);
    }
    assert_int_equal(chmod(public, 0644), 0);
    public_is(OK, "");
    assert_int_equal(chmod(public, 0664), 0);
    public_is(ERR_DENIED, "has mode 0664, expected 0644: others may write it");
    assert_int_equal(chmod(public, 0646), 0);
    public_is(ERR_DENIED, "mode 0646");
}

static void test_another_users(void **state)
{
    (void)state;
    if (geteuid() != 0) {
        skip(); // Only root can give a file away.
    }
    assert_int_equal(chown(secret, 4711, (gid_t)-1), 0);
    read_is(ERR_DENIED, "belongs to user 4711, expected 0 or root");
    assert_int_equal(chown(public, 4711, (gid_t)-1), 0);
    public_is(ERR_DENIED, "belongs to user 4711");
    // Another user reads root's, where the mode lets it.
    assert_int_equal(chown(public, 0, (gid_t)-1), 0);
    assert_int_equal(chmod(public, 0644), 0);
    assert_int_equal(chmod(dir, 0755), 0);
    assert_int_equal(seteuid(4711), 0);
    uint8_t got[CURVEKEY_BYTES];
    const enum err err = curvekey_read_public(public, got);
    assert_int_equal(seteuid(0), 0);
    assert_int_equal(err, OK);
}

static void test_not_plain_files(void **state)
{
    (void)state;
    char other[PATH_BYTES];
    snprintf(other, sizeof other, "%s/other", dir);
    assert_int_equal(rename(secret, other), 0);
    read_is(ERR_NOT_FOUND, "No such file");
    assert_int_equal(symlink(other, secret), 0);
    read_is(ERR_DENIED, "is a symbolic link, expected a plain file");
    assert_int_equal(unlink(secret), 0);
    assert_int_equal(mkdir(secret, 0700), 0);
    read_is(ERR_DENIED, "no plain file");
    assert_int_equal(rmdir(secret), 0);
    assert_int_equal(mkfifo(secret, 0600), 0); // Opening it must not wait for a writer.
    read_is(ERR_DENIED, "no plain file");
    assert_int_equal(unlink(public), 0);
    assert_int_equal(symlink(other, public), 0);
    public_is(ERR_DENIED, "symbolic link");
}

static void put(const char *path, const uint8_t *bytes, size_t count)
{
    assert_int_equal(files_write(path, span_of(bytes, count)), OK);
    assert_int_equal(chmod(path, 0600), 0);
}

static void test_damaged(void **state)
{
    (void)state;
    struct buf file = {0};
    assert_int_equal(files_read(secret, 1000, &file), OK);
    assert_int_equal(file.bytes, FILE_BYTES);
    for (size_t i = 0; i < file.bytes; i++) {
        const uint8_t was = file.data[i];
        file.data[i] = was == '1' ? '2' : '1'; // Also where the result is a hex digit.
        put(secret, file.data, file.bytes);
        if (i >= PUBLIC_FILE_BYTES || (i >= 15 + 7 && i < PUBLIC_FILE_BYTES - 1)) {
            // Five bits of a secret key do not count (RFC 7748), of its first and its last byte.
            const bool counts = i != PUBLIC_FILE_BYTES + 7 + 1 && i != PUBLIC_FILE_BYTES + 7 + 62;
            struct curvekey got;
            const enum err err = curvekey_read(secret, &got);
            assert_true(err == ERR_CORRUPT || (err == OK && !counts));
            assert_true(err == OK || strstr(err_text(), "is damaged") != NULL);
        } else {
            read_is(ERR_CORRUPT, "is no key file of ours");
        }
        file.data[i] = was;
    }
    for (size_t bytes = 0; bytes < file.bytes; bytes++) {
        put(secret, file.data, bytes);
        read_is(ERR_CORRUPT,
                bytes == PUBLIC_FILE_BYTES ? "holds a public key alone" : "no key file");
    }
    put(secret, file.data, file.bytes);
    read_is(OK, "");
    // A pair's file stands for its public half, but never one that others may read.
    put(public, file.data, file.bytes);
    public_is(OK, "");
    assert_int_equal(chmod(public, 0644), 0);
    public_is(ERR_DENIED, "has mode 0644, expected 0600");
    buf_u8(&file, '\n');
    put(secret, file.data, file.bytes);
    read_is(ERR_CORRUPT, "is no key file of ours");
    buf_deinit(&file);
}

int main(void)
{
    if (digest_start() != OK) {
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_files, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_zeromq_agrees, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_who_may_touch_it, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_another_users, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_not_plain_files, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_damaged, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("curvekey", tests, NULL, NULL);
}
