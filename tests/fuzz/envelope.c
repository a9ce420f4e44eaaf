// tests/fuzz/envelope.c: see envelope.h.
#include "tests/fuzz/envelope.h"

#include <math.h>
#include <string.h>

#include "base/check.h"
#include "base/limits.h"
#include "base/text.h"

static const struct wire_arena *arena; // Of the message that is walked.

static void within(const void *at, size_t bytes)
{
    const uint8_t *const begin = at;
    CHECK(begin >= arena->data && begin + bytes <= arena->data + arena->used);
}

static void walk(const ProtobufCMessage *message, int depth);

static void check_one(const ProtobufCFieldDescriptor *field, const void *at, int depth)
{
    const void *pointer = NULL;
    switch ((int)field->type) {
    case PROTOBUF_C_TYPE_STRING:
        memcpy(&pointer, at, sizeof pointer);
        if (pointer != field->default_value && *(const char *)pointer != '\0') {
            within(pointer, strlen(pointer) + 1);
        }
        CHECK(text_is_clean(span_text(pointer)));
        CHECK(strlen(pointer) < 2048);
        break;
    case PROTOBUF_C_TYPE_BYTES: {
        ProtobufCBinaryData bytes;
        memcpy(&bytes, at, sizeof bytes);
        if (bytes.len > 0) {
            within(bytes.data, bytes.len);
        }
        break;
    }
    case PROTOBUF_C_TYPE_MESSAGE:
        memcpy(&pointer, at, sizeof pointer);
        if (pointer != NULL) {
            walk(pointer, depth + 1);
        }
        break;
    case PROTOBUF_C_TYPE_DOUBLE: {
        double number;
        memcpy(&number, at, sizeof number);
        CHECK(isfinite(number));
        break;
    }
    case PROTOBUF_C_TYPE_FLOAT: {
        float number;
        memcpy(&number, at, sizeof number);
        CHECK(isfinite(number));
        break;
    }
    case PROTOBUF_C_TYPE_ENUM: {
        int value;
        memcpy(&value, at, sizeof value);
        CHECK(value != 0);
        CHECK(protobuf_c_enum_descriptor_get_value(field->descriptor, value) != NULL);
        break;
    }
    case PROTOBUF_C_TYPE_BOOL: {
        protobuf_c_boolean value;
        memcpy(&value, at, sizeof value);
        CHECK(value == 0 || value == 1);
        break;
    }
    default:
        break;
    }
}

static size_t size_of(ProtobufCType type)
{
    switch ((int)type) {
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_MESSAGE:
        return sizeof(void *);
    case PROTOBUF_C_TYPE_BYTES:
        return sizeof(ProtobufCBinaryData);
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_DOUBLE:
        return 8;
    default:
        return 4;
    }
}

static void walk(const ProtobufCMessage *message, int depth)
{
    CHECK(depth <= 4);
    CHECK(message->n_unknown_fields == 0);
    const uint8_t *const base = (const uint8_t *)message;
    within(message, message->descriptor->sizeof_message);
    for (unsigned i = 0; i < message->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *const field = &message->descriptor->fields[i];
        if ((field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0) {
            uint32_t which;
            memcpy(&which, base + field->quantifier_offset, sizeof which);
            if (which == field->id) {
                check_one(field, base + field->offset, depth);
            }
        } else if (field->label == PROTOBUF_C_LABEL_REPEATED) {
            size_t count;
            const uint8_t *elements;
            memcpy(&count, base + field->quantifier_offset, sizeof count);
            memcpy(&elements, base + field->offset, sizeof elements);
            if (count > 0) {
                within(elements, count * size_of(field->type));
            }
            for (size_t j = 0; j < count; j++) {
                check_one(field, elements + j * size_of(field->type), depth);
            }
        } else {
            check_one(field, base + field->offset, depth);
        }
    }
}

void envelope_check(const struct wire_arena *used, struct span frame, enum err err,
                    const ProtobufCMessage *message)
{
    arena = used;
    CHECK(arena->used <= LIMIT_UNPACK_BYTES);
    if (err != OK) {
        return;
    }
    CHECK(message != NULL && frame.bytes <= LIMIT_CONTROL_BYTES);
    walk(message, 1);
    struct buf again = {0};
    wire_put(message, &again);
    CHECK(again.bytes == frame.bytes);
    buf_deinit(&again);
}
