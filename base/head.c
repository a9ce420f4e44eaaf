// base/head.c: see head.h.
#include "base/head.h"

#include <string.h>

#include "base/check.h"

enum { SIGNED_BYTES = HEAD_BYTES - SIGN_BYTES };

static const char *domain_of(enum head_kind kind)
{
    return kind == HEAD_LOG ? "unlearnd-loghead" : "unlearnd-accept";
}

void head_put(const struct head *head, uint8_t out[static HEAD_BYTES])
{
    struct buf buf = {0};
    buf_u64(&buf, head->size);
    buf_put(&buf, span_of(head->root.bytes, DIGEST_BYTES));
    buf_u64(&buf, (uint64_t)head->time_us);
    buf_put(&buf, span_of(head->key.bytes, SIGN_ID_BYTES));
    buf_put(&buf, span_of(head->signature.bytes, SIGN_BYTES));
    CHECK(buf.bytes == HEAD_BYTES);
    memcpy(out, buf.data, HEAD_BYTES);
    buf_deinit(&buf);
}

void head_get(const uint8_t in[static HEAD_BYTES], struct head *head_out)
{
    struct cursor cursor = cursor_of(span_of(in, HEAD_BYTES));
    head_out->size = cursor_u64(&cursor);
    memcpy(head_out->root.bytes, cursor_take(&cursor, DIGEST_BYTES).data, DIGEST_BYTES);
    head_out->time_us = (int64_t)cursor_u64(&cursor);
    memcpy(head_out->key.bytes, cursor_take(&cursor, SIGN_ID_BYTES).data, SIGN_ID_BYTES);
    memcpy(head_out->signature.bytes, cursor_take(&cursor, SIGN_BYTES).data, SIGN_BYTES);
}

enum err head_of(struct span bytes, struct head *head_out)
{
    if (bytes.bytes != HEAD_BYTES) {
        FAIL(ERR_CORRUPT, "a tree head of %zu bytes, expected %d", bytes.bytes, (int)HEAD_BYTES);
    }
    head_get(bytes.data, head_out);
    return OK;
}

void head_sign(struct head *head, enum head_kind kind, const struct signer *signer)
{
    uint8_t bytes[HEAD_BYTES];
    head->key = sign_id_of(sign_public_of(signer));
    head->signature = (struct signature){{0}};
    head_put(head, bytes);
    head->signature = sign_message(signer, domain_of(kind), span_of(bytes, SIGNED_BYTES));
}

enum err head_check(const struct head *head, enum head_kind kind, const struct sign_public *key)
{
    const struct sign_id id = sign_id_of(key);
    if (memcmp(id.bytes, head->key.bytes, SIGN_ID_BYTES) != 0) {
        char told[SIGN_ID_HEX_BYTES], given[SIGN_ID_HEX_BYTES];
        hex_put(told, head->key.bytes, SIGN_ID_BYTES);
        hex_put(given, id.bytes, SIGN_ID_BYTES);
        FAIL(ERR_CORRUPT, "the tree head names the key %s, and the key given is %s", told, given);
    }
    uint8_t bytes[HEAD_BYTES];
    head_put(head, bytes);
    if (!sign_check(key, domain_of(kind), span_of(bytes, SIGNED_BYTES), &head->signature)) {
        FAIL(ERR_CORRUPT, "the signature of the tree head does not verify");
    }
    return OK;
}
