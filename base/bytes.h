// base/bytes.h: runs of bytes, and the little-endian cursor that every layout of ours is read with.
//
// Whatever is saved, sent or hashed is written by a `struct buf` and read by a `struct cursor`, so
// that no struct is ever copied as it lies. A cursor never reads past its end: the first short read
// marks it bad, later reads give zeros, and one cursor_done at the end tells.
//
// Lifetime  A span and a cursor borrow; a buf owns its bytes until buf_deinit.
// Threads   No sharing without the caller's lock.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/err.h"

struct span {
    const void *data;
    size_t bytes;
};

static inline struct span span_of(const void *data, size_t bytes)
{
    return (struct span){data, bytes};
}
static inline struct span span_text(const char *text)
{
    return (struct span){text, strlen(text)};
}
static inline bool span_equal(struct span a, struct span b)
{
    return a.bytes == b.bytes && (a.bytes == 0 || memcmp(a.data, b.data, a.bytes) == 0);
}

// A growing run of bytes. {0} is empty and ready for use.
struct buf {
    uint8_t *data;
    size_t bytes;
    size_t capacity;
};

void buf_deinit(struct buf *buf);                 // Frees and empties; may be used again.
void buf_clear(struct buf *buf);                  // Empties and wipes; keeps the memory.
void buf_reserve(struct buf *buf, size_t more);   // Room for `more` bytes without moving.
uint8_t *buf_room(struct buf *buf, size_t bytes); // Appends `bytes` unset bytes; borrowed.
void buf_put(struct buf *buf, struct span span);
void buf_u8(struct buf *buf, uint8_t value);
void buf_u16(struct buf *buf, uint16_t value);
void buf_u32(struct buf *buf, uint32_t value);
void buf_u64(struct buf *buf, uint64_t value);
void buf_f32(struct buf *buf, float value);
void buf_f64(struct buf *buf, double value);
void buf_short_text(struct buf *buf, const char *text); // u16 length, bytes; length <= 65535.
static inline struct span buf_span(const struct buf *buf)
{
    return (struct span){buf->data, buf->bytes};
}

struct cursor {
    const uint8_t *at;
    size_t left;
    bool bad; // A read went past the end.
};

static inline struct cursor cursor_of(struct span span)
{
    return (struct cursor){span.data, span.bytes, false};
}
struct span cursor_take(struct cursor *cursor, size_t bytes); // Empty span when short.
uint8_t cursor_u8(struct cursor *cursor);
uint16_t cursor_u16(struct cursor *cursor);
uint32_t cursor_u32(struct cursor *cursor);
uint64_t cursor_u64(struct cursor *cursor);
float cursor_f32(struct cursor *cursor);
double cursor_f64(struct cursor *cursor);
// Reads u16 length and bytes into text_out[capacity] with a terminating NUL. Marks the cursor bad
// when it does not fit or holds a NUL.
void cursor_short_text(struct cursor *cursor, char *text_out, size_t capacity);

// ERR_CORRUPT: a read was short or bytes are left over. `what` names the thing that was read.
MUST_USE enum err cursor_done(const struct cursor *cursor, const char *what);

// Big-endian integers, for LMDB keys whose byte order is their number order.
void be_put32(uint8_t out[static 4], uint32_t value);
void be_put64(uint8_t out[static 8], uint64_t value);
uint32_t be_get32(const uint8_t in[static 4]);
uint64_t be_get64(const uint8_t in[static 8]);
