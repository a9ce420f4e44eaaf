// tests/unit/test_sign.c: signing keys and signed tree heads: what is refused, and by what name.
//
// Method: a key pair in a scratch directory; each way to spoil its files beside the undamaged
// control. The vector of docs/format.md is checked against a key of known seed.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// cmocka needs the four above first.
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/digest.h"
#include "base/head.h"
#include "base/sign.h"
#include "client/files.h"
#include "tests/unit/scratch.h"

enum { PATH_BYTES = 300, KEY_FILE_BYTES = 72 };
static char dir[SCRATCH_BYTES], secret[PATH_BYTES], public[PATH_BYTES];
static struct signer *signer;

static int set_up(void **state)
{
    (void)state;
    if (!scratch_make(dir)) {
        return -1;
    }
    snprintf(secret, sizeof secret, "%s/signing.key", dir);
    snprintf(public, sizeof public, "%s/receipt.pub", dir);
    return sign_create(secret, public) == OK && sign_open(secret, &signer) == OK ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    sign_close(signer);
    scratch_remove(dir);
    return 0;
}

static void write_key(const uint8_t *bytes, size_t count)
{
    assert_int_equal(files_write(secret, span_of(bytes, count)), OK);
    assert_int_equal(chmod(secret, 0600), 0);
}

static void open_is(enum err expected, const char *words)
{
    struct signer *other = NULL;
    const enum err err = sign_open(secret, &other);
    assert_int_equal(err, expected);
    if (err == OK) {
        sign_close(other);
    } else {
        assert_null(other);
        assert_non_null(strstr(err_text(), words));
    }
}

static void test_key_files(void **state)
{
    (void)state;
    struct stat found;
    assert_int_equal(stat(secret, &found), 0);
    assert_int_equal(found.st_mode & 07777, 0600);
    assert_int_equal(sign_create(secret, public), ERR_CONFLICT);
    open_is(OK, "");
    assert_int_equal(chmod(secret, 0640), 0);
    open_is(ERR_DENIED, "has mode 0640, expected 0600");
    assert_int_equal(chmod(secret, 0604), 0);
    open_is(ERR_DENIED, "others may read it");
    assert_int_equal(chmod(secret, 0400), 0);
    open_is(OK, "");
    char other[PATH_BYTES];
    snprintf(other, sizeof other, "%s/other", dir);
    assert_int_equal(rename(secret, other), 0);
    open_is(ERR_NOT_FOUND, "signing.key");
    assert_int_equal(symlink(other, secret), 0);
    open_is(ERR_DENIED, "is a symbolic link");
    assert_int_equal(unlink(secret), 0);
    assert_int_equal(mkdir(secret, 0700), 0);
    open_is(ERR_DENIED, "no plain file");
    // The public half is there: no secret one may be left.
    assert_int_equal(rmdir(secret), 0);
    assert_int_equal(sign_create(secret, public), ERR_CONFLICT);
    assert_int_not_equal(access(secret, F_OK), 0);
    snprintf(other, sizeof other, "%s/none/key", dir);
    assert_int_equal(sign_create(other, public), ERR_IO);
}

static void test_damaged_keys(void **state)
{
    (void)state;
    struct buf file = {0};
    assert_int_equal(files_read(secret, 1000, &file), OK);
    assert_int_equal(file.bytes, KEY_FILE_BYTES);
    for (size_t i = 0; i < file.bytes; i++) {
        file.data[i] ^= 4;
        write_key(file.data, file.bytes);
        open_is(ERR_CORRUPT, i < 8 ? "is not a signing key" : "is damaged");
        file.data[i] ^= 4;
    }
    write_key(file.data, file.bytes - 1);
    open_is(ERR_CORRUPT, "is not a signing key");
    buf_u8(&file, 0);
    write_key(file.data, file.bytes);
    open_is(ERR_CORRUPT, "is not a signing key");
    write_key(file.data, KEY_FILE_BYTES);
    open_is(OK, "");
    buf_deinit(&file);
}

static void test_public_keys(void **state)
{
    (void)state;
    struct sign_public key;
    char hex[2 * SIGN_PUBLIC_BYTES + 1], text[200], path[PATH_BYTES];
    assert_int_equal(sign_public_read(public, &key), OK);
    assert_memory_equal(key.bytes, sign_public_of(signer)->bytes, sizeof key.bytes);
    hex_put(hex, key.bytes, sizeof key.bytes);
    key = (struct sign_public){{0}};
    assert_int_equal(sign_public_read(hex, &key), OK);
    assert_memory_equal(key.bytes, sign_public_of(signer)->bytes, sizeof key.bytes);

    snprintf(path, sizeof path, "%s/none", dir);
    assert_int_equal(sign_public_read(path, &key), ERR_NOT_FOUND);
    assert_int_equal(sign_public_read(dir, &key), ERR_INVALID);
    const struct sign_id id = sign_id_of(&key);
    char id_hex[SIGN_ID_HEX_BYTES];
    hex_put(id_hex, id.bytes, sizeof id.bytes);
    id_hex[0] = id_hex[0] == 'a' ? 'b' : 'a';
    snprintf(text, sizeof text, "%s %s\n", hex, id_hex);
    assert_int_equal(files_write(path, span_text(text)), OK);
    assert_int_equal(sign_public_read(path, &key), ERR_INVALID);
    assert_non_null(strstr(err_text(), "the key id beside the key is not its own"));
    snprintf(text, sizeof text, "%s\n", hex); // The key alone will do.
    assert_int_equal(files_write(path, span_text(text)), OK);
    assert_int_equal(sign_public_read(path, &key), OK);
    snprintf(text, sizeof text, "%s more than that, and longer than any key", hex);
    assert_int_equal(files_write(path, span_text(text)), OK);
    assert_int_equal(sign_public_read(path, &key), ERR_INVALID);
    assert_int_equal(files_write(path, span_text("abc\n")), OK);
    assert_int_equal(sign_public_read(path, &key), ERR_INVALID);
    assert_non_null(strstr(err_text(), "expected 64 hex digits"));
}

static void test_signatures(void **state)
{
    (void)state;
    const struct sign_public *const key = sign_public_of(signer);
    const struct span message = span_text("message");
    struct signature good = sign_message(signer, "unlearnd-test", message);
    assert_true(sign_check(key, "unlearnd-test", message, &good));
    assert_false(sign_check(key, "unlearnd-tesu", message, &good)); // Another domain.
    assert_false(sign_check(key, "unlearnd-test", span_text("messagf"), &good));
    // A domain is not a prefix: what follows it cannot move into it.
    assert_false(sign_check(key, "unlearnd-testm", span_text("essage"), &good));
    for (size_t i = 0; i < sizeof good.bytes; i++) {
        for (int bit = 0; bit < 8; bit++) {
            good.bytes[i] ^= (uint8_t)(1 << bit);
            assert_false(sign_check(key, "unlearnd-test", message, &good));
            good.bytes[i] ^= (uint8_t)(1 << bit);
        }
    }
    assert_true(sign_check(key, "unlearnd-test", message, &good));
}

static void test_heads(void **state)
{
    (void)state;
    const struct sign_public *const key = sign_public_of(signer);
    struct head head = {.size = 3, .root = {{7}}, .time_us = 5}, back;
    uint8_t bytes[HEAD_BYTES];
    head_sign(&head, HEAD_LOG, signer);
    assert_int_equal(head_check(&head, HEAD_LOG, key), OK);
    assert_int_equal(head_check(&head, HEAD_BATCH, key), ERR_CORRUPT); // Another domain.
    assert_non_null(strstr(err_text(), "the signature of the tree head does not verify"));
    head_put(&head, bytes);
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] ^= 1;
        assert_int_equal(head_of(span_of(bytes, sizeof bytes), &back), OK);
        assert_int_equal(head_check(&back, HEAD_LOG, key), ERR_CORRUPT);
        bytes[i] ^= 1;
    }
    assert_int_equal(head_of(span_of(bytes, sizeof bytes), &back), OK);
    assert_int_equal(head_check(&back, HEAD_LOG, key), OK);
    assert_int_equal(head_of(span_of(bytes, sizeof bytes - 1), &back), ERR_CORRUPT);
    const struct sign_public other = {{1}};
    assert_int_equal(head_check(&head, HEAD_LOG, &other), ERR_CORRUPT);
    assert_non_null(strstr(err_text(), "names the key"));
}

// docs/format.md, "Receipts".
static void test_vector(void **state)
{
    (void)state;
    uint8_t file[KEY_FILE_BYTES];
    struct signer *known = NULL;
    struct head head = {.size = 2, .time_us = 3};
    uint8_t bytes[HEAD_BYTES];
    char hex[2 * HEAD_BYTES + 1];
    memcpy(file, "UNLRSK01", 8);
    for (uint8_t i = 0; i < 32; i++) {
        file[8 + i] = i;
    }
    // RFC 8032's algorithm on the seed 00 01 .. 1f.
    assert_int_equal(
        hex_get(file + 40, 32, "03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8"),
        OK);
    write_key(file, sizeof file);
    assert_int_equal(sign_open(secret, &known), OK);
    memset(head.root.bytes, 0xAB, DIGEST_BYTES);
    head_sign(&head, HEAD_LOG, known);
    head_put(&head, bytes);
    sign_close(known);
    hex_put(hex, bytes, sizeof bytes);
    assert_string_equal(
        hex, "0200000000000000abababababababababababababababababababababababababababababababab"
             "03000000000000004786f631ebc9834d1e646ee66089c9b5d4066826084e6e235e3252804796136c"
             "906ded6e1dfca696a23394766d49908b2da57472b204b21ddaa38446953dc5e844e6270e25dfb10f");
}

int main(void)
{
    if (digest_start() != OK) {
        return 1;
    }
#define CASE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(test_key_files),  CASE(test_damaged_keys), CASE(test_public_keys),
        CASE(test_signatures), CASE(test_heads),        CASE(test_vector),
    };
#undef CASE
    return cmocka_run_group_tests_name("sign", tests, NULL, NULL);
}
