// proto/wire.c: see wire.h.
#include "proto/wire.h"

#include <math.h>
#include <string.h>

#include "base/check.h"
#include "base/component.h"
#include "base/limits.h"
#include "base/mem.h"
#include "base/text.h"

enum { ALIGN = 16 };

static void *arena_take(void *data, size_t bytes)
{
    struct wire_arena *const arena = data;
    const size_t need = (bytes + ALIGN - 1) / ALIGN * ALIGN;
    if (need < bytes || need > LIMIT_UNPACK_BYTES - arena->used) {
        return NULL; // protobuf-c then gives up and frees: unpack returns NULL.
    }
    void *const at = arena->data + arena->used;
    arena->used += need;
    return at;
}

static void arena_keep(void *data, void *memory)
{
    (void)data;
    (void)memory; // All is taken back at once, at the arena's next use.
}

void wire_arena_clear(struct wire_arena *arena)
{
    mem_wipe(arena->data, arena->used);
    arena->used = 0;
}

void wire_arena_deinit(struct wire_arena *arena)
{
    mem_free(arena->data);
    *arena = (struct wire_arena){0};
}

static enum err check_text(const char *text, const ProtobufCFieldDescriptor *field,
                           size_t bytes_max)
{
    const size_t bytes = strlen(text);
    if (bytes > bytes_max || !text_is_clean(span_of(text, bytes))) {
        FAIL(ERR_INVALID, "field %s is not UTF-8 of at most %zu bytes without control characters",
             field->name, bytes_max);
    }
    return OK;
}

static enum err check_message(const ProtobufCMessage *message, size_t text_bytes_max);

// Checks one value of a field at `at`.
static enum err check_value(const ProtobufCFieldDescriptor *field, const void *at,
                            size_t text_bytes_max)
{
    switch (field->type) {
    case PROTOBUF_C_TYPE_STRING: {
        const char *text;
        memcpy(&text, at, sizeof text);
        return check_text(text, field, text_bytes_max);
    }
    case PROTOBUF_C_TYPE_MESSAGE: {
        const ProtobufCMessage *inner;
        memcpy(&inner, at, sizeof inner);
        return inner == NULL ? OK : check_message(inner, text_bytes_max);
    }
    case PROTOBUF_C_TYPE_DOUBLE: {
        double value;
        memcpy(&value, at, sizeof value);
        if (!isfinite(value)) {
            FAIL(ERR_INVALID, "field %s is not finite", field->name);
        }
        return OK;
    }
    case PROTOBUF_C_TYPE_FLOAT: {
        float value;
        memcpy(&value, at, sizeof value);
        if (!isfinite(value)) {
            FAIL(ERR_INVALID, "field %s is not finite", field->name);
        }
        return OK;
    }
    case PROTOBUF_C_TYPE_ENUM: {
        int32_t value; // protobuf-c stores enums as int.
        memcpy(&value, at, sizeof value);
        if (value == 0 || protobuf_c_enum_descriptor_get_value(field->descriptor, value) == NULL) {
            FAIL(ERR_INVALID, "field %s is %d, which is none of its values", field->name, value);
        }
        return OK;
    }
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_BOOL:
    case PROTOBUF_C_TYPE_BYTES:
    default:
        return OK;
    }
}

static size_t element_bytes(ProtobufCType type)
{
    return type == PROTOBUF_C_TYPE_STRING || type == PROTOBUF_C_TYPE_MESSAGE ? sizeof(void *)
           : type == PROTOBUF_C_TYPE_BYTES  ? sizeof(ProtobufCBinaryData)
           : type == PROTOBUF_C_TYPE_DOUBLE ? sizeof(double)
           : type == PROTOBUF_C_TYPE_FLOAT || type == PROTOBUF_C_TYPE_ENUM ? 4
                                                                           : 0; // Not looked at.
}

// Walks one level; our messages are at most three deep and never recursive (a test checks that).
static enum err check_message(const ProtobufCMessage *message, size_t text_bytes_max)
{
    const uint8_t *const base = (const uint8_t *)message;
    if (message->n_unknown_fields != 0) {
        FAIL(ERR_INVALID, "field %u of %s is not known here", message->unknown_fields[0].tag,
             message->descriptor->short_name);
    }
    for (unsigned i = 0; i < message->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *const field = &message->descriptor->fields[i];
        const uint8_t *const at = base + field->offset;
        if ((field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0) {
            uint32_t which;
            memcpy(&which, base + field->quantifier_offset, sizeof which);
            if (which == field->id) {
                TRY(check_value(field, at, text_bytes_max));
            }
        } else if (field->label == PROTOBUF_C_LABEL_REPEATED) {
            size_t count;
            const uint8_t *elements;
            memcpy(&count, base + field->quantifier_offset, sizeof count);
            memcpy(&elements, at, sizeof elements);
            const size_t bytes = element_bytes(field->type);
            for (size_t j = 0; bytes > 0 && j < count; j++) {
                TRY(check_value(field, elements + j * bytes, text_bytes_max));
            }
        } else {
            TRY(check_value(field, at, text_bytes_max));
        }
    }
    return OK;
}

static enum err get(struct wire_arena *arena, struct span frame,
                    const ProtobufCMessageDescriptor *kind, size_t text_bytes_max,
                    ProtobufCMessage **out)
{
    if (frame.bytes > LIMIT_CONTROL_BYTES) {
        FAIL(ERR_INVALID, "an envelope of %zu bytes, expected at most %d", frame.bytes,
             (int)LIMIT_CONTROL_BYTES);
    }
    if (arena->data == NULL) {
        arena->data = mem_alloc(LIMIT_UNPACK_BYTES, 1);
    }
    wire_arena_clear(arena);
    ProtobufCAllocator allocator = {arena_take, arena_keep, arena};
    ProtobufCMessage *const message =
        protobuf_c_message_unpack(kind, &allocator, frame.bytes, frame.data);
    if (message == NULL) {
        FAIL(ERR_INVALID, "not an envelope of kind %s, or one that unpacks to more than %d bytes",
             kind->name, (int)LIMIT_UNPACK_BYTES);
    }
    *out = message;
    if (protobuf_c_message_get_packed_size(message) != frame.bytes) {
        FAIL(ERR_INVALID,
             "an envelope of kind %s that is not in canonical form: a field twice, a default "
             "written out, or a NUL in a text",
             kind->name);
    }
    return check_message(message, text_bytes_max);
}

static enum err check_head(uint32_t version, int body, const char *kind)
{
    if (version != WIRE_VERSION) {
        FAIL(ERR_INVALID, "%s of protocol version %u, expected %d", kind, version,
             (int)WIRE_VERSION);
    }
    if (body == 0) {
        FAIL(ERR_INVALID, "%s without a body", kind);
    }
    return OK;
}

enum err wire_get_request(struct wire_arena *arena, struct span frame, const Unlearn__Request **out)
{
    ProtobufCMessage *message = NULL;
    const enum err err =
        get(arena, frame, &unlearn__request__descriptor, LIMIT_NAME_BYTES, &message);
    *out = (const Unlearn__Request *)message;
    TRY(err);
    return check_head((*out)->version, (int)(*out)->body_case, "a request");
}

enum err wire_get_reply(struct wire_arena *arena, struct span frame, const Unlearn__Reply **out)
{
    ProtobufCMessage *message = NULL;
    const enum err err =
        get(arena, frame, &unlearn__reply__descriptor, COMPONENT_TEXT_BYTES, &message);
    *out = (const Unlearn__Reply *)message;
    TRY(err);
    const bool ok = (*out)->status == UNLEARN__STATUS__STATUS_OK;
    return check_head((*out)->version, ok ? (int)(*out)->body_case : 1, "a reply");
}

enum err wire_get_from_worker(struct wire_arena *arena, struct span frame,
                              const Unlearn__FromWorker **out)
{
    ProtobufCMessage *message = NULL;
    const enum err err =
        get(arena, frame, &unlearn__from_worker__descriptor, WIRE_MESSAGE_BYTES_MAX, &message);
    *out = (const Unlearn__FromWorker *)message;
    TRY(err);
    return check_head((*out)->version, (int)(*out)->body_case, "a worker's message");
}

enum err wire_get_to_worker(struct wire_arena *arena, struct span frame,
                            const Unlearn__ToWorker **out)
{
    ProtobufCMessage *message = NULL;
    const enum err err =
        get(arena, frame, &unlearn__to_worker__descriptor, COMPONENT_TEXT_BYTES, &message);
    *out = (const Unlearn__ToWorker *)message;
    TRY(err);
    return check_head((*out)->version, (int)(*out)->body_case, "a coordinator's message");
}

void wire_put(const ProtobufCMessage *message, struct buf *frame_out)
{
    const size_t bytes = protobuf_c_message_get_packed_size(message);
    CHECK(bytes <= LIMIT_CONTROL_BYTES);
    buf_clear(frame_out);
    CHECK(protobuf_c_message_pack(message, buf_room(frame_out, bytes)) == bytes);
}

Unlearn__Status wire_status(enum err err)
{
    switch (err) {
    case OK:
        return UNLEARN__STATUS__STATUS_OK;
    case ERR_INVALID:
        return UNLEARN__STATUS__STATUS_INVALID_ARGUMENT;
    case ERR_NOT_FOUND:
        return UNLEARN__STATUS__STATUS_NOT_FOUND;
    case ERR_CONFLICT:
        return UNLEARN__STATUS__STATUS_CONFLICT;
    case ERR_DENIED:
        return UNLEARN__STATUS__STATUS_PERMISSION_DENIED;
    case ERR_LIMIT:
        return UNLEARN__STATUS__STATUS_RESOURCE_EXHAUSTED;
    case ERR_UNAVAILABLE:
        return UNLEARN__STATUS__STATUS_UNAVAILABLE;
    case ERR_CORRUPT:
    case ERR_INCOMPATIBLE:
    case ERR_IO:
    case ERR_CANCELLED:
    case ERR_COUNT_:
    default:
        return UNLEARN__STATUS__STATUS_INTERNAL;
    }
}

enum err wire_err(Unlearn__Status status)
{
    static const enum err errs[] = {
        [UNLEARN__STATUS__STATUS_UNSPECIFIED] = ERR_IO,
        [UNLEARN__STATUS__STATUS_OK] = OK,
        [UNLEARN__STATUS__STATUS_INVALID_ARGUMENT] = ERR_INVALID,
        [UNLEARN__STATUS__STATUS_NOT_FOUND] = ERR_NOT_FOUND,
        [UNLEARN__STATUS__STATUS_CONFLICT] = ERR_CONFLICT,
        [UNLEARN__STATUS__STATUS_PERMISSION_DENIED] = ERR_DENIED,
        [UNLEARN__STATUS__STATUS_RESOURCE_EXHAUSTED] = ERR_LIMIT,
        [UNLEARN__STATUS__STATUS_UNAVAILABLE] = ERR_UNAVAILABLE,
        [UNLEARN__STATUS__STATUS_INTERNAL] = ERR_IO,
    };
    const size_t index = (size_t)status;
    return index < sizeof errs / sizeof errs[0] ? errs[index] : ERR_IO;
}

enum err wire_copy(ProtobufCBinaryData field, void *out, size_t bytes, const char *what)
{
    if (field.len != bytes) {
        FAIL(ERR_INVALID, "%s has %zu bytes, expected %zu", what, field.len, bytes);
    }
    memcpy(out, field.data, bytes);
    return OK;
}
