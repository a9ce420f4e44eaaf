// tests/fuzz/fuzz_receipt.c: receipt files, their bodies, and Merkle proofs.
#include "base/check.h"
#include "base/sign.h"
#include "proto/receipt.h"
#include "tests/fuzz/fuzz.h"

static void body(struct span bytes)
{
    struct receipt receipt;
    if (receipt_get(bytes, &receipt) != OK) {
        return;
    }
    for (uint32_t i = 0; i < receipt.component_count; i++) {
        (void)strlen(receipt_component_name(&receipt, i));
    }
    struct buf again = {0};
    CHECK(receipt_put(&receipt, &again) == OK);
    CHECK(span_equal(buf_span(&again), bytes)); // There is one way to write each.
    buf_deinit(&again);
    receipt_deinit(&receipt);
}

static void proofs(struct span bytes)
{
    struct cursor cursor = cursor_of(bytes);
    const uint64_t a = cursor_u64(&cursor), b = cursor_u64(&cursor);
    struct digest roots[2];
    struct merkle_path path = {.count = 0};
    for (unsigned i = 0; i < 2 + MERKLE_PATH_MAX && cursor.left >= DIGEST_BYTES; i++) {
        struct digest *const hash = i < 2 ? &roots[i] : &path.hashes[path.count++];
        memcpy(hash->bytes, cursor_take(&cursor, DIGEST_BYTES).data, DIGEST_BYTES);
    }
    if (bytes.bytes >= 16 + 2 * DIGEST_BYTES) {
        fuzz_either(merkle_check_inclusion(&roots[0], a, b, &path, &roots[1]));
        fuzz_either(merkle_check_consistency(a, b, &roots[0], &roots[1], &path));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct sign_public key = {{1}};
    struct span rest = span_of(data, size);
    const struct span file = fuzz_part(&rest);
    struct receipt_file parts;
    struct receipt receipt;
    body(file);
    if (receipt_get_file(file, &parts) == OK) {
        body(parts.body);
        struct buf tail = {0}, again = {0};
        receipt_put_tail(parts.index, &parts.path, &parts.head, &tail);
        CHECK(receipt_put_file(parts.body, buf_span(&tail), &again) == OK);
        CHECK(span_equal(buf_span(&again), file));
        buf_deinit(&tail);
        buf_deinit(&again);
    }
    CHECK(receipt_verify(file, &key, &receipt, &parts) != OK); // Nobody has this key.
    proofs(rest);
    return 0;
}
