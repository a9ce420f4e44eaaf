// base/bytes.c: see bytes.h.
#include "base/bytes.h"

#include <endian.h>

#include "base/check.h"
#include "base/mem.h"

_Static_assert(BYTE_ORDER == LITTLE_ENDIAN, "weights and records are copied as they lie");
_Static_assert(sizeof(float) == 4 && sizeof(double) == 8, "IEEE 754 binary32 and binary64");

void buf_deinit(struct buf *buf)
{
    mem_free(buf->data);
    *buf = (struct buf){0};
}

void buf_clear(struct buf *buf)
{
    mem_wipe(buf->data, buf->bytes);
    buf->bytes = 0;
}

void buf_reserve(struct buf *buf, size_t more)
{
    CHECK(more <= SIZE_MAX / 4 - buf->bytes);
    const size_t need = buf->bytes + more;
    if (need <= buf->capacity) {
        return;
    }
    size_t capacity = buf->capacity < 64 ? 64 : buf->capacity;
    while (capacity < need) {
        capacity += capacity / 2;
    }
    buf->data = mem_resize(buf->data, capacity, 1);
    buf->capacity = capacity;
}

uint8_t *buf_room(struct buf *buf, size_t bytes)
{
    buf_reserve(buf, bytes == 0 ? 1 : bytes);
    uint8_t *const at = buf->data + buf->bytes;
    buf->bytes += bytes;
    return at;
}

void buf_put(struct buf *buf, struct span span)
{
    if (span.bytes > 0) {
        memcpy(buf_room(buf, span.bytes), span.data, span.bytes);
    }
}

void buf_u8(struct buf *buf, uint8_t value)
{
    buf_put(buf, span_of(&value, sizeof value));
}

void buf_u16(struct buf *buf, uint16_t value)
{
    buf_put(buf, span_of(&value, sizeof value));
}

void buf_u32(struct buf *buf, uint32_t value)
{
    buf_put(buf, span_of(&value, sizeof value));
}

void buf_u64(struct buf *buf, uint64_t value)
{
    buf_put(buf, span_of(&value, sizeof value));
}

void buf_f32(struct buf *buf, float value)
{
    buf_put(buf, span_of(&value, sizeof value));
}

void buf_f64(struct buf *buf, double value)
{
    buf_put(buf, span_of(&value, sizeof value));
}

void buf_short_text(struct buf *buf, const char *text)
{
    const size_t bytes = strlen(text);
    CHECK(bytes <= UINT16_MAX);
    buf_u16(buf, (uint16_t)bytes);
    buf_put(buf, span_of(text, bytes));
}

struct span cursor_take(struct cursor *cursor, size_t bytes)
{
    if (cursor->bad || bytes > cursor->left) {
        cursor->bad = true;
        return (struct span){NULL, 0};
    }
    const struct span taken = {cursor->at, bytes};
    cursor->at += bytes;
    cursor->left -= bytes;
    return taken;
}

// Copies `bytes` bytes out, or zeros when the cursor is short.
static void take_into(struct cursor *cursor, void *out, size_t bytes)
{
    const struct span taken = cursor_take(cursor, bytes);
    if (taken.bytes == bytes) {
        memcpy(out, taken.data, bytes);
    } else {
        memset(out, 0, bytes);
    }
}

uint8_t cursor_u8(struct cursor *cursor)
{
    uint8_t value;
    take_into(cursor, &value, sizeof value);
    return value;
}

uint16_t cursor_u16(struct cursor *cursor)
{
    uint16_t value;
    take_into(cursor, &value, sizeof value);
    return value;
}

uint32_t cursor_u32(struct cursor *cursor)
{
    uint32_t value;
    take_into(cursor, &value, sizeof value);
    return value;
}

uint64_t cursor_u64(struct cursor *cursor)
{
    uint64_t value;
    take_into(cursor, &value, sizeof value);
    return value;
}

float cursor_f32(struct cursor *cursor)
{
    float value;
    take_into(cursor, &value, sizeof value);
    return value;
}

double cursor_f64(struct cursor *cursor)
{
    double value;
    take_into(cursor, &value, sizeof value);
    return value;
}

void cursor_short_text(struct cursor *cursor, char *text_out, size_t capacity)
{
    CHECK(capacity > 0);
    const struct span text = cursor_take(cursor, cursor_u16(cursor));
    if (text.bytes >= capacity || (text.bytes > 0 && memchr(text.data, 0, text.bytes) != NULL)) {
        cursor->bad = true;
        text_out[0] = '\0';
        return;
    }
    if (text.bytes > 0) {
        memcpy(text_out, text.data, text.bytes);
    }
    text_out[text.bytes] = '\0';
}

enum err cursor_done(const struct cursor *cursor, const char *what)
{
    if (cursor->bad) {
        FAIL(ERR_CORRUPT, "%s ends too early", what);
    }
    if (cursor->left != 0) {
        FAIL(ERR_CORRUPT, "%s has %zu bytes more than expected", what, cursor->left);
    }
    return OK;
}

void be_put32(uint8_t out[static 4], uint32_t value)
{
    const uint32_t be = htobe32(value);
    memcpy(out, &be, sizeof be);
}

void be_put64(uint8_t out[static 8], uint64_t value)
{
    const uint64_t be = htobe64(value);
    memcpy(out, &be, sizeof be);
}

uint32_t be_get32(const uint8_t in[static 4])
{
    uint32_t be;
    memcpy(&be, in, sizeof be);
    return be32toh(be);
}

uint64_t be_get64(const uint8_t in[static 8])
{
    uint64_t be;
    memcpy(&be, in, sizeof be);
    return be64toh(be);
}
