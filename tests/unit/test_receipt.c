// tests/unit/test_receipt.c: receipts as files: what verifies, and that nothing else does.
//
// Method: one accepted and one completed receipt with every kind of field, in trees of several
// leaves. Every bit of every byte is flipped in turn, the file is cut at every length and made
// longer; each must be refused, and by the right name. The vectors of docs/format.md were made by
// another program (Python's hashlib and cryptography).
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// cmocka needs the four above first.
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/clock.h"
#include "client/files.h"
#include "proto/receipt.h"
#include "tests/unit/scratch.h"
#include "tests/unit/signers.h"

enum { LEAVES = 5, HEX_BYTES = 4096 };

static char dir[SCRATCH_BYTES];
static struct signer *signer;
static struct buf accepted, completed; // Whole files.

// The receipt of docs/format.md.
static struct receipt example(enum receipt_kind kind)
{
    struct receipt receipt = {.kind = kind,
                              .request = RECEIPT_DELETE,
                              .name = "people",
                              .build = "build",
                              .accepted_us = 1,
                              .fenced_us = 2,
                              .records_deleted = 3,
                              .components_invalidated = 2,
                              .epoch_before = 5,
                              .epoch_after = 6};
    for (uint8_t i = 0; i < ID_BYTES; i++) {
        receipt.uuid.bytes[i] = i;
    }
    memset(receipt.profile.bytes, 0x11, DIGEST_BYTES);
    if (kind == RECEIPT_COMPLETED) {
        struct digest spec, schema;
        struct receipt_component repaired = {.was_valid = true, .fate = RECEIPT_REPAIRED};
        const struct receipt_component empty = {.fate = RECEIPT_EMPTY};
        const struct receipt_component gone = {.fate = RECEIPT_GONE};
        receipt.erased_us = 7;
        receipt.repaired_us = 8;
        receipt.completed_us = 9;
        receipt.keys_destroyed = 1;
        memset(spec.bytes, 0x22, DIGEST_BYTES);
        memset(schema.bytes, 0x33, DIGEST_BYTES);
        memset(repaired.before.bytes, 0x44, DIGEST_BYTES);
        memset(repaired.after.bytes, 0x55, DIGEST_BYTES);
        receipt_add_model(&receipt, "m", &spec, &schema);
        receipt_add_component(&receipt, "s0:[1]", &repaired);
        receipt_add_component(&receipt, "s0:[1,0]", &empty);
        receipt_add_component(&receipt, "s3:[1]", &gone);
    }
    return receipt;
}

// Puts a body as leaf `index` of a tree of `leaves` and signs it.
static void make_file(struct span body, uint32_t index, uint32_t leaves, enum head_kind kind,
                      const struct signer *key, struct buf *file)
{
    struct digest hashes[LEAVES];
    struct merkle_path paths[LEAVES];
    struct head head = {.size = leaves, .time_us = 10};
    struct buf tail = {0};
    for (uint32_t i = 0; i < leaves; i++) {
        hashes[i] = i == index ? merkle_leaf(body) : merkle_leaf(span_of(&i, sizeof i));
    }
    merkle_small(hashes, leaves, &head.root, paths);
    head_sign(&head, kind, key);
    receipt_put_tail(index, &paths[index], &head, &tail);
    buf_clear(file);
    assert_int_equal(receipt_put_file(body, buf_span(&tail), file), OK);
    buf_deinit(&tail);
}

static void make_example(enum receipt_kind kind, uint64_t log_index, uint32_t index,
                         enum head_kind head, struct buf *file)
{
    struct buf body = {0};
    struct receipt receipt = example(kind);
    receipt.log_index = log_index;
    assert_int_equal(receipt_put(&receipt, &body), OK);
    receipt_deinit(&receipt);
    make_file(buf_span(&body), index, LEAVES, head, signer, file);
    buf_deinit(&body);
}

static int set_up(void **state)
{
    (void)state;
    if (!scratch_make(dir)) {
        return -1;
    }
    signer = signers_open(dir, "one");
    make_example(RECEIPT_ACCEPTED, 0, 2, HEAD_BATCH, &accepted);
    make_example(RECEIPT_COMPLETED, 3, 3, HEAD_LOG, &completed);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    sign_close(signer);
    buf_deinit(&accepted);
    buf_deinit(&completed);
    scratch_remove(dir);
    return 0;
}

static enum err verify(struct span file)
{
    struct receipt receipt;
    struct receipt_file parts;
    const enum err err = receipt_verify(file, sign_public_of(signer), &receipt, &parts);
    receipt_deinit(&receipt);
    return err;
}

static void refused(struct span file, const char *words)
{
    assert_int_equal(verify(file), ERR_CORRUPT);
    assert_non_null(strstr(err_text(), words));
}

static void test_every_field_comes_back(void **state)
{
    (void)state;
    struct receipt expected = example(RECEIPT_COMPLETED), found;
    struct receipt_file file;
    assert_int_equal(receipt_verify(buf_span(&completed), sign_public_of(signer), &found, &file),
                     OK);
    assert_int_equal(found.kind, RECEIPT_COMPLETED);
    assert_int_equal(found.request, RECEIPT_DELETE);
    assert_memory_equal(&found.uuid, &expected.uuid, ID_BYTES);
    assert_string_equal(found.name, "people");
    assert_string_equal(found.build, "build");
    assert_int_equal(found.fenced_us, 2);
    assert_int_equal(found.completed_us, 9);
    assert_int_equal(found.epoch_after, 6);
    assert_int_equal(found.log_index, 3);
    assert_int_equal(found.model_count, 1);
    assert_string_equal(found.models[0].name, "m");
    assert_int_equal(found.component_count, 3);
    assert_string_equal(receipt_component_name(&found, 1), "s0:[1,0]");
    assert_true(found.components[0].was_valid && !found.components[1].was_valid);
    assert_int_equal(found.components[2].fate, RECEIPT_GONE);
    assert_memory_equal(&found.components[0].after, &expected.components[0].after, DIGEST_BYTES);
    assert_int_equal(file.index, 3);
    assert_int_equal(file.head.size, LEAVES);
    receipt_deinit(&found);
    receipt_deinit(&expected);
}

static void flip_all(struct buf *file)
{
    assert_int_equal(verify(buf_span(file)), OK); // Control.
    for (size_t i = 0; i < file->bytes; i++) {
        for (int bit = 0; bit < 8; bit++) {
            file->data[i] ^= (uint8_t)(1 << bit);
            assert_int_equal(verify(buf_span(file)), ERR_CORRUPT);
            file->data[i] ^= (uint8_t)(1 << bit);
        }
        file->data[i] ^= 0xFF;
        assert_int_equal(verify(buf_span(file)), ERR_CORRUPT);
        file->data[i] ^= 0xFF;
    }
    assert_int_equal(verify(buf_span(file)), OK);
}

static void test_every_flipped_byte_is_refused(void **state)
{
    (void)state;
    flip_all(&accepted);
    flip_all(&completed);
}

static void test_other_lengths_are_refused(void **state)
{
    (void)state;
    struct buf *const files[] = {&accepted, &completed};
    for (int f = 0; f < 2; f++) {
        for (size_t bytes = 0; bytes < files[f]->bytes; bytes++) {
            struct buf cut = {0}; // Of its own, so that a read past the end is seen.
            buf_put(&cut, span_of(files[f]->data, bytes));
            assert_int_equal(verify(buf_span(&cut)), ERR_CORRUPT);
            buf_deinit(&cut);
        }
        struct buf more = {0};
        buf_put(&more, buf_span(files[f]));
        assert_int_equal(verify(buf_span(&more)), OK);
        buf_u8(&more, 0);
        refused(buf_span(&more), "1 bytes follow the end of the receipt");
        buf_deinit(&more);
    }
}

// Where each part is: magic 8, u32, body, index 8, count 2, path, head.
static void test_what_failed_is_named(void **state)
{
    (void)state;
    struct receipt_file parts;
    assert_int_equal(receipt_get_file(buf_span(&completed), &parts), OK);
    const size_t body = 12, index = body + parts.body.bytes, path = index + 10;
    const size_t head = path + (size_t)parts.path.count * DIGEST_BYTES;
    const struct {
        size_t at;
        const char *words;
    } cases[] = {
        {0, "does not begin as a receipt does"},
        {11, "the file is cut short"},
        {body, "body has format"},
        {body + 2, "are not known"},
        {body + 40, "does not lead to the signed root"},
        {index, "does not lead to the signed root"},
        {index + 7, "of a log of 5"},
        {index + 8, "32 bytes follow the end of the receipt"},
        {path, "does not lead to the signed root"},
        {head, "the signature of the tree head does not verify"},
        {head + 8, "the signature of the tree head does not verify"},
        {head + 40, "the signature of the tree head does not verify"},
        {head + 48, "names the key"},
        {head + 60, "the signature of the tree head does not verify"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        completed.data[cases[i].at] ^= 0x01;
        refused(buf_span(&completed), cases[i].words);
        completed.data[cases[i].at] ^= 0x01;
    }
    assert_int_equal(verify(buf_span(&completed)), OK);
}

static void test_another_key_is_named(void **state)
{
    (void)state;
    struct signer *other = NULL;
    struct receipt receipt;
    struct receipt_file parts;
    other = signers_open(dir, "other");
    assert_int_equal(receipt_verify(buf_span(&completed), sign_public_of(other), &receipt, &parts),
                     ERR_CORRUPT);
    assert_non_null(strstr(err_text(), "names the key"));
    assert_non_null(strstr(err_text(), "and the key given is"));
    sign_close(other);
}

static void test_a_shortened_proof_is_named(void **state)
{
    (void)state;
    struct receipt_file parts;
    struct buf tail = {0}, file = {0};
    assert_int_equal(receipt_get_file(buf_span(&completed), &parts), OK);
    parts.path.count--;
    receipt_put_tail(parts.index, &parts.path, &parts.head, &tail);
    assert_int_equal(receipt_put_file(parts.body, buf_span(&tail), &file), OK);
    refused(buf_span(&file), "the inclusion proof has 2 hashes, which is too few");
    buf_deinit(&tail);
    buf_deinit(&file);
}

// An accepted receipt cannot pass for a completed one, whoever signed its head for what.
static void test_kinds_do_not_mix(void **state)
{
    (void)state;
    struct buf file = {0};
    make_example(RECEIPT_COMPLETED, 3, 3, HEAD_BATCH, &file);
    refused(buf_span(&file), "the signature of the tree head does not verify");
    make_example(RECEIPT_ACCEPTED, 0, 3, HEAD_LOG, &file);
    refused(buf_span(&file), "the signature of the tree head does not verify");
    make_example(RECEIPT_COMPLETED, 2, 3, HEAD_LOG, &file);
    refused(buf_span(&file), "the receipt says log entry 2 and its proof says 3");
    buf_deinit(&file);
}

// Bodies that are signed and yet not in form: a coordinator's bug must not crash a reader.
static void test_bodies_out_of_form(void **state)
{
    (void)state;
    struct buf good = {0};
    struct receipt receipt = example(RECEIPT_COMPLETED), found;
    assert_int_equal(receipt_put(&receipt, &good), OK);
    assert_int_equal(receipt_get(buf_span(&good), &found), OK);
    receipt_deinit(&found);
    for (size_t i = 0; i < good.bytes; i++) { // Nothing but the address sanitizer to answer to.
        good.data[i] ^= 0xFF;
        if (receipt_get(buf_span(&good), &found) == OK) {
            receipt_deinit(&found);
        }
        good.data[i] ^= 0xFF;
    }
    for (size_t bytes = 0; bytes < good.bytes; bytes++) {
        struct buf cut = {0};
        buf_put(&cut, span_of(good.data, bytes));
        assert_int_equal(receipt_get(buf_span(&cut), &found), ERR_CORRUPT);
        buf_deinit(&cut);
    }
    // Texts: "s0:[1]" begins where the first component is.
    uint8_t *const name = memmem(good.data, good.bytes, "s0:[1]", 6);
    assert_non_null(name);
    name[1] = 'x';
    assert_int_equal(receipt_get(buf_span(&good), &found), ERR_CORRUPT);
    assert_non_null(strstr(err_text(), "a component's name is none"));
    name[1] = '0';
    name[6] = 2; // was_valid
    assert_int_equal(receipt_get(buf_span(&good), &found), ERR_CORRUPT);
    assert_non_null(strstr(err_text(), "component 0 is not in its form"));
    name[6] = 1;
    uint8_t *const people = memmem(good.data, good.bytes, "people", 6);
    people[0] = 1;
    assert_int_equal(receipt_get(buf_span(&good), &found), ERR_CORRUPT);
    assert_non_null(strstr(err_text(), "the name is not a text"));
    people[0] = 'p';
    assert_int_equal(receipt_get(buf_span(&good), &found), OK);
    receipt_deinit(&found);
    receipt_deinit(&receipt);
    buf_deinit(&good);
}

// docs/format.md, "Receipts".
static void is_vector(enum receipt_kind kind, const char *body_hex, const char *tail_hex)
{
    uint8_t key[72];
    char path[SCRATCH_BYTES + 64], hex[2 * HEX_BYTES + 1];
    struct signer *known = NULL;
    struct buf body = {0}, file = {0};
    struct receipt receipt = example(kind);
    snprintf(path, sizeof path, "%s/known.key", dir);
    memcpy(key, "UNLRSK01", 8);
    for (uint8_t i = 0; i < 32; i++) {
        key[8 + i] = i;
    }
    assert_int_equal(hex_get(key + 40, 32,
                             "03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664"
                             "125531b8"),
                     OK);
    assert_int_equal(files_write(path, span_of(key, sizeof key)), OK);
    assert_int_equal(chmod(path, 0600), 0);
    assert_int_equal(sign_open(path, &known), OK);
    assert_int_equal(receipt_put(&receipt, &body), OK);
    make_file(buf_span(&body), 0, 1, kind == RECEIPT_COMPLETED ? HEAD_LOG : HEAD_BATCH, known,
              &file);
    assert_true(file.bytes <= HEX_BYTES);
    hex_put(hex, body.data, body.bytes);
    assert_string_equal(hex, body_hex);
    hex_put(hex, file.data + 12 + body.bytes, file.bytes - 12 - body.bytes);
    assert_string_equal(hex, tail_hex);
    receipt_deinit(&receipt);
    sign_close(known);
    buf_deinit(&body);
    buf_deinit(&file);
}

static void test_vectors(void **state)
{
    (void)state;
    is_vector(RECEIPT_ACCEPTED,
              "01000101000102030405060708090a0b0c0d0e0f0000000000000000000000000000000006007065"
              "6f706c6505006275696c641111111111111111111111111111111111111111111111111111111111"
              "11111101000000000000000200000000000000030000000000000002000000000000000500000000"
              "0000000600000000000000",
              "000000000000000000000100000000000000d5e7b7f58fd782f49ed90a6b2907a85df6ef85cc5001"
              "54bbbb02cdb5b256641f0a000000000000004786f631ebc9834d544f819ad2266af2dacc70dfc6fa"
              "04afc68876aae2389d0f88ce8e3af80cf15adfccc42e5dd65741e7a51428bb0668ac4d254d74d6bc"
              "054627c751dde5f63401");
    is_vector(RECEIPT_COMPLETED,
              "01000201000102030405060708090a0b0c0d0e0f0000000000000000000000000000000006007065"
              "6f706c6505006275696c641111111111111111111111111111111111111111111111111111111111"
              "11111101000000000000000200000000000000030000000000000002000000000000000500000000"
              "00000006000000000000000700000000000000080000000000000009000000000000000100000000"
              "00000000000000000000000100000001006d22222222222222222222222222222222222222222222"
              "22222222222222222222333333333333333333333333333333333333333333333333333333333333"
              "333303000000060073303a5b315d0144444444444444444444444444444444444444444444444444"
              "44444444444444015555555555555555555555555555555555555555555555555555555555555555"
              "080073303a5b312c305d0002060073333a5b315d0003",
              "000000000000000000000100000000000000d89c285ae8b86594eecbacf926df8a611a00a68e2a73"
              "c5021904ad2919ac4e520a000000000000004786f631ebc9834def70ab16890336c916d6d4509e85"
              "b1eede0d25f1916be050722d8b409d7b2885608409ac5cb1f2d8651df4c44d36c493677fe092e265"
              "006b8f5c1bb8d3647007");
}

// Not a check: how many accepted receipts one thread makes, by requests that share a commit.
static void test_rate_of_accepted_receipts(void **state)
{
    (void)state;
    static const uint32_t batches[] = {1, 16, 256};
    struct receipt receipt = example(RECEIPT_ACCEPTED);
    struct digest leaves[256];
    struct merkle_path paths[256];
    for (size_t b = 0; b < 3; b++) {
        const uint32_t count = batches[b];
        uint64_t made = 0;
        const int64_t began_ms = clock_mono_ms();
        int64_t now_ms = began_ms;
        while (now_ms - began_ms < 100) {
            struct head head = {.size = count, .time_us = 10};
            struct buf bodies = {0};
            for (uint32_t i = 0; i < count; i++) {
                const size_t start = bodies.bytes;
                assert_int_equal(receipt_put(&receipt, &bodies), OK);
                leaves[i] = merkle_leaf(span_of(bodies.data + start, bodies.bytes - start));
            }
            merkle_small(leaves, count, &head.root, paths);
            head_sign(&head, HEAD_BATCH, signer);
            const size_t each = bodies.bytes / count;
            for (uint32_t i = 0; i < count; i++) {
                struct buf tail = {0}, file = {0};
                receipt_put_tail(i, &paths[i], &head, &tail);
                assert_int_equal(
                    receipt_put_file(span_of(bodies.data + i * each, each), buf_span(&tail), &file),
                    OK);
                buf_deinit(&tail);
                buf_deinit(&file);
            }
            buf_deinit(&bodies);
            made += count;
            now_ms = clock_mono_ms();
        }
        print_message("%u requests a commit: %llu accepted receipts per second\n", count,
                      (unsigned long long)made * 1000 / (unsigned long long)(now_ms - began_ms));
    }
    receipt_deinit(&receipt);
}

int main(void)
{
    if (digest_start() != OK) {
        return 1;
    }
#define CASE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(test_every_field_comes_back),
        CASE(test_every_flipped_byte_is_refused),
        CASE(test_other_lengths_are_refused),
        CASE(test_what_failed_is_named),
        CASE(test_another_key_is_named),
        CASE(test_a_shortened_proof_is_named),
        CASE(test_kinds_do_not_mix),
        CASE(test_bodies_out_of_form),
        CASE(test_vectors),
        CASE(test_rate_of_accepted_receipts),
    };
#undef CASE
    return cmocka_run_group_tests_name("receipt", tests, NULL, NULL);
}
