// tests/unit/test_wire.c: whatever bytes come, an envelope is taken as it was meant or refused.
//
// Method: every body of every envelope is filled from its descriptor, packed and taken back; then the
// same bytes are cut, flipped and spoilt. Single rules are tried on envelopes written out by hand,
// each beside the undamaged one. Run under AddressSanitizer this also shows that nothing crashes.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// cmocka needs the four above first.
#include <math.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/component.h"
#include "base/limits.h"
#include "base/mem.h"
#include "proto/wire.h"
#include "tests/unit/draw.h"

static struct wire_arena arena;

enum kind { REQUEST, REPLY, FROM_WORKER, TO_WORKER, KINDS };

static const ProtobufCMessageDescriptor *descriptor_of(enum kind kind)
{
    return kind == REQUEST       ? &unlearn__request__descriptor
           : kind == REPLY       ? &unlearn__reply__descriptor
           : kind == FROM_WORKER ? &unlearn__from_worker__descriptor
                                 : &unlearn__to_worker__descriptor;
}

static enum err get(enum kind kind, struct span frame, const ProtobufCMessage **out)
{
    const Unlearn__Request *request = NULL;
    const Unlearn__Reply *reply = NULL;
    const Unlearn__FromWorker *from = NULL;
    const Unlearn__ToWorker *to = NULL;
    enum err err = OK;
    switch (kind) {
    case REQUEST:
        err = wire_get_request(&arena, frame, &request);
        *out = (const ProtobufCMessage *)request;
        return err;
    case REPLY:
        err = wire_get_reply(&arena, frame, &reply);
        *out = (const ProtobufCMessage *)reply;
        return err;
    case FROM_WORKER:
        err = wire_get_from_worker(&arena, frame, &from);
        *out = (const ProtobufCMessage *)from;
        return err;
    case TO_WORKER:
    case KINDS:
    default:
        err = wire_get_to_worker(&arena, frame, &to);
        *out = (const ProtobufCMessage *)to;
        return err;
    }
}

// ---------------------------------------------------------------- messages from descriptors

static void *taken[256]; // Freed together.
static uint32_t taken_count;

static void *take(size_t count, size_t bytes)
{
    assert_true(taken_count < 256);
    return taken[taken_count++] = mem_alloc(count, bytes);
}

static void give_back(void)
{
    while (taken_count > 0) {
        mem_free(taken[--taken_count]);
    }
}

static ProtobufCMessage *filled(const ProtobufCMessageDescriptor *kind, uint32_t body);

// Writes a value that is not the default.
static void fill_value(const ProtobufCFieldDescriptor *field, uint8_t *at)
{
    static uint8_t three[3] = {1, 0, 255};
    const int32_t one = 1;
    const int64_t wide = 1;
    const double number = 0.25;
    const protobuf_c_boolean yes = 1;
    char *text = wire_text("s0:[0,1] \xc3\xa9");
    const ProtobufCBinaryData bytes = {sizeof three, three};
    ProtobufCMessage *inner = NULL;
    switch ((int)field->type) {
    case PROTOBUF_C_TYPE_STRING:
        memcpy(at, &text, sizeof text);
        return;
    case PROTOBUF_C_TYPE_BYTES:
        memcpy(at, &bytes, sizeof bytes);
        return;
    case PROTOBUF_C_TYPE_MESSAGE:
        inner = filled(field->descriptor, 0);
        memcpy(at, &inner, sizeof inner);
        return;
    case PROTOBUF_C_TYPE_BOOL:
        memcpy(at, &yes, sizeof yes);
        return;
    case PROTOBUF_C_TYPE_DOUBLE:
        memcpy(at, &number, sizeof number);
        return;
    case PROTOBUF_C_TYPE_ENUM:
    case PROTOBUF_C_TYPE_UINT32:
        memcpy(at, &one, sizeof one);
        return;
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_INT64:
        memcpy(at, &wide, sizeof wide);
        return;
    default:
        fail_msg("%s has a type that this test does not know", field->name);
    }
}

static size_t bytes_of(const ProtobufCFieldDescriptor *field)
{
    return field->type == PROTOBUF_C_TYPE_UINT64  ? sizeof(uint64_t)
           : field->type == PROTOBUF_C_TYPE_BYTES ? sizeof(ProtobufCBinaryData)
                                                  : sizeof(void *);
}

// A message of the kind with every field set, and of its oneof the field number `body`.
static ProtobufCMessage *filled(const ProtobufCMessageDescriptor *kind, uint32_t body)
{
    ProtobufCMessage *const message = take(1, kind->sizeof_message);
    kind->message_init(message);
    for (uint32_t i = 0; i < kind->n_fields; i++) {
        const ProtobufCFieldDescriptor *const field = &kind->fields[i];
        uint8_t *const at = (uint8_t *)message + field->offset;
        uint8_t *const quantifier = (uint8_t *)message + field->quantifier_offset;
        if ((field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0) {
            if (field->id == body) {
                memcpy(quantifier, &body, sizeof body);
                fill_value(field, at);
            }
        } else if (field->label == PROTOBUF_C_LABEL_REPEATED) {
            const size_t count = 2, bytes = bytes_of(field);
            uint8_t *const elements = take(count, bytes);
            fill_value(field, elements);
            fill_value(field, elements + bytes);
            memcpy(quantifier, &count, sizeof count);
            memcpy(at, &elements, sizeof elements);
        } else {
            fill_value(field, at);
        }
    }
    return message;
}

// Calls `each` with every body of every envelope, packed.
static void each_body(void (*each)(enum kind kind, const ProtobufCFieldDescriptor *body,
                                   struct span frame))
{
    uint32_t bodies = 0;
    for (enum kind kind = REQUEST; kind < KINDS; kind++) {
        const ProtobufCMessageDescriptor *const descriptor = descriptor_of(kind);
        for (uint32_t i = 0; i < descriptor->n_fields; i++) {
            const ProtobufCFieldDescriptor *const body = &descriptor->fields[i];
            if ((body->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0) {
                struct buf frame = {0};
                wire_put(filled(descriptor, body->id), &frame);
                each(kind, body, buf_span(&frame));
                buf_deinit(&frame);
                give_back();
                bodies++;
            }
        }
    }
    assert_true(bodies > 40);
}

static void round_trip(enum kind kind, const ProtobufCFieldDescriptor *body, struct span frame)
{
    const ProtobufCMessage *message = NULL;
    if (get(kind, frame, &message) != OK) {
        fail_msg("%s: %s", body->name, err_text());
    }
    struct buf again = {0};
    wire_put(message, &again);
    assert_true(span_equal(buf_span(&again), frame));
    buf_deinit(&again);
}

static void test_every_body_comes_back(void **state)
{
    (void)state;
    each_body(round_trip);
}

static void cut(enum kind kind, const ProtobufCFieldDescriptor *body, struct span frame)
{
    (void)body;
    const ProtobufCMessage *message = NULL;
    for (size_t bytes = 0; bytes < frame.bytes; bytes++) {
        uint8_t *const copy = mem_alloc(bytes, 1); // So that asan sees a read past the end.
        memcpy(copy, frame.data, bytes);
        assert_int_equal(get(kind, span_of(copy, bytes), &message), ERR_INVALID);
        mem_free(copy);
    }
}

static void test_every_truncation_is_refused(void **state)
{
    (void)state;
    each_body(cut);
}

static void flip(enum kind kind, const ProtobufCFieldDescriptor *body, struct span frame)
{
    (void)body;
    uint8_t *const copy = mem_alloc(frame.bytes, 1);
    memcpy(copy, frame.data, frame.bytes);
    for (size_t bit = 0; bit < 8 * frame.bytes; bit++) {
        const ProtobufCMessage *message = NULL;
        copy[bit / 8] ^= (uint8_t)(1u << bit % 8);
        const enum err err = get(kind, span_of(copy, frame.bytes), &message);
        assert_true(err == OK || err == ERR_INVALID);
        if (err == OK) { // What was taken can be read and packed.
            struct buf again = {0};
            wire_put(message, &again);
            assert_int_equal(again.bytes, frame.bytes);
            buf_deinit(&again);
        }
        copy[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    mem_free(copy);
}

static void test_flipped_bits_never_crash(void **state)
{
    (void)state;
    each_body(flip);
}

static void test_noise_never_crashes(void **state)
{
    (void)state;
    struct draw draw = draw_new("noise");
    for (int i = 0; i < 20000; i++) {
        uint8_t noise[64];
        const size_t bytes = draw_below(&draw, sizeof noise + 1);
        for (size_t j = 0; j < bytes; j++) {
            noise[j] = (uint8_t)draw_u64(&draw);
        }
        const ProtobufCMessage *message = NULL;
        const enum err err = get((enum kind)(i % KINDS), span_of(noise, bytes), &message);
        assert_true(err == OK || err == ERR_INVALID);
    }
}

// ---------------------------------------------------------------- single rules, by hand

#define BYTES(...) span_of((const uint8_t[]){__VA_ARGS__}, sizeof(const uint8_t[]){__VA_ARGS__})
// version 1, request_id 5
#define HEAD 0x08, 1, 0x10, 5

static void refused(enum kind kind, struct span frame, const char *sentence)
{
    const ProtobufCMessage *message = NULL;
    assert_int_equal(get(kind, frame, &message), ERR_INVALID);
    if (strstr(err_text(), sentence) == NULL) {
        fail_msg("\"%s\" does not say \"%s\"", err_text(), sentence);
    }
}

static void taken_as_it_is(enum kind kind, struct span frame)
{
    const ProtobufCMessage *message = NULL;
    if (get(kind, frame, &message) != OK) {
        fail_msg("refused: %s", err_text());
    }
}

static void test_canonical_form(void **state)
{
    (void)state;
    taken_as_it_is(REQUEST, BYTES(HEAD, 0x52, 0));               // control: ping
    taken_as_it_is(REQUEST, BYTES(0x52, 0, 0x10, 5, 0x08, 1));   // The order is free.
    taken_as_it_is(REQUEST, BYTES(HEAD, 0x62, 3, 0x0a, 1, 'd')); // control: dataset_show "d"
    refused(REQUEST, BYTES(HEAD, 0x52, 0, 0x98, 6, 1), "field 99 of Request is not known");
    refused(REQUEST, BYTES(HEAD, 0x62, 6, 0x0a, 1, 'd', 0x98, 6, 1),
            "field 99 of DatasetShow is not known");
    refused(REQUEST, BYTES(HEAD, 0x08, 1, 0x52, 0), "canonical");               // version twice
    refused(REQUEST, BYTES(HEAD, 0x52, 0, 0x52, 0), "canonical");               // body twice
    refused(REQUEST, BYTES(HEAD, 0x62, 3, 0x0a, 1, 'd', 0x52, 0), "canonical"); // two bodies
    refused(REQUEST, BYTES(0x08, 1, 0x10, 0, 0x52, 0), "canonical");            // a default
    refused(REQUEST, BYTES(0x08, 0x81, 0, 0x10, 5, 0x52, 0), "canonical");      // a long 1
    refused(REQUEST, BYTES(HEAD, 0x62, 2, 0x0a, 0), "canonical");               // an empty text
    refused(REQUEST, BYTES(HEAD, 0x62, 5, 0x0a, 3, 'a', 0, 'b'), "canonical");  // NUL inside
    refused(REQUEST, BYTES(0x0b, 0x0c), "not an envelope of kind");             // a group
    refused(REQUEST, span_of(NULL, 0), "version 0");
}

static void test_head(void **state)
{
    (void)state;
    taken_as_it_is(REQUEST, BYTES(HEAD, 0x52, 0)); // control
    refused(REQUEST, BYTES(0x08, 2, 0x10, 5, 0x52, 0),
            "a request of protocol version 2, expected 1");
    refused(REQUEST, BYTES(0x10, 5, 0x52, 0), "version 0");
    refused(REQUEST, BYTES(HEAD), "a request without a body");
    refused(FROM_WORKER, BYTES(0x08, 1), "a worker's message without a body");
    refused(FROM_WORKER, BYTES(0x08, 9, 0x92, 1, 0), "a worker's message of protocol version 9");
    taken_as_it_is(FROM_WORKER, BYTES(0x08, 1, 0x92, 1, 0)); // control: bye
    refused(TO_WORKER, BYTES(0x08, 1), "a coordinator's message without a body");
    taken_as_it_is(TO_WORKER, BYTES(0x08, 1, 0x82, 1, 0)); // control: unknown
    // A reply has a body with OK and may have none with an error.
    refused(REPLY, BYTES(HEAD, 0x18, 1), "a reply without a body");
    taken_as_it_is(REPLY, BYTES(HEAD, 0x18, 1, 0x8a, 1, 0)); // control: done
    taken_as_it_is(REPLY, BYTES(HEAD, 0x18, 3, 0x22, 2, 'n', 'o'));
}

// What could be unpacked tells whom to answer.
static void test_a_refused_request_keeps_its_number(void **state)
{
    (void)state;
    const Unlearn__Request *request = NULL;
    assert_int_equal(wire_get_request(&arena, BYTES(0x08, 2, 0x10, 5, 0x52, 0), &request),
                     ERR_INVALID);
    assert_non_null(request);
    assert_int_equal(request->request_id, 5);
    assert_int_equal(wire_get_request(&arena, BYTES(HEAD, 0x62, 3, 0x0a, 1, 7), &request),
                     ERR_INVALID);
    assert_non_null(request);
    assert_int_equal(request->request_id, 5);
    assert_int_equal(wire_get_request(&arena, BYTES(0x0b), &request), ERR_INVALID);
    assert_null(request);
}

static void test_enums(void **state)
{
    (void)state;
    // WorkerPull: lease 1, stream.
    taken_as_it_is(FROM_WORKER, BYTES(0x08, 1, 0x62, 4, 0x08, 1, 0x10, 2)); // control: PARENT
    refused(FROM_WORKER, BYTES(0x08, 1, 0x62, 2, 0x08, 1), "field stream is 0");
    refused(FROM_WORKER, BYTES(0x08, 1, 0x62, 4, 0x08, 1, 0x10, 4), "field stream is 4");
    refused(FROM_WORKER, BYTES(0x08, 1, 0x62, 8, 0x08, 1, 0x10, 0xff, 0xff, 0xff, 0xff, 0x0f),
            "canonical"); // -1 in five bytes, not ten
    refused(REPLY, BYTES(HEAD, 0x8a, 1, 0), "field status is 0");
    refused(REPLY, BYTES(HEAD, 0x18, 99, 0x8a, 1, 0), "field status is 99");
}

static void test_numbers_are_finite(void **state)
{
    (void)state;
    static const double numbers[] = {1.5, -1e300, NAN, INFINITY, -INFINITY};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        uint8_t frame[] = {0x08, 1, 0x6a, 9, 0x21, 0, 0, 0, 0, 0, 0, 0, 0}; // StageDone.seconds
        memcpy(frame + 5, &numbers[i], sizeof numbers[i]);
        if (i < 2) {
            taken_as_it_is(FROM_WORKER, span_of(frame, sizeof frame)); // control
        } else {
            refused(FROM_WORKER, span_of(frame, sizeof frame), "field seconds is not finite");
        }
    }
}

// A request for dataset_show with these bytes as its name.
static enum err show(enum kind kind, const void *name, size_t bytes)
{
    struct buf frame = {0};
    const ProtobufCMessage *message = NULL;
    buf_put(&frame, BYTES(0x08, 1));
    buf_u8(&frame, kind == REQUEST ? 0x62 : 0x5a); // dataset_show; Refused
    buf_u8(&frame, (uint8_t)((bytes + 3) & 0x7f) | 0x80);
    buf_u8(&frame, (uint8_t)((bytes + 3) >> 7));
    buf_u8(&frame, 0x0a);
    buf_u8(&frame, (uint8_t)(bytes & 0x7f) | 0x80);
    buf_u8(&frame, (uint8_t)(bytes >> 7));
    buf_put(&frame, span_of(name, bytes));
    const enum err err = get(kind, buf_span(&frame), &message);
    buf_deinit(&frame);
    return err;
}

static void test_texts(void **state)
{
    (void)state;
    char text[2000];
    memset(text, 'x', sizeof text);
    assert_int_equal(show(REQUEST, text, LIMIT_NAME_BYTES), OK); // control
    assert_int_equal(show(REQUEST, text, LIMIT_NAME_BYTES + 1), ERR_INVALID);
    assert_non_null(strstr(err_text(), "field dataset is not UTF-8 of at most 255 bytes"));
    assert_int_equal(show(TO_WORKER, text, WIRE_MESSAGE_BYTES_MAX), OK); // control: a reason
    assert_int_equal(show(TO_WORKER, text, COMPONENT_TEXT_BYTES + 1), ERR_INVALID);
    static const char *const bad[] = {
        "\x01",     "\x1f",         "\x7f",     "\xc2\x85", "\xff",
        "\xc0\xaf", "\xed\xa0\x80", "\xe2\x82", "\x80",     "\xf4\x90\x80\x80"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        memset(text, 'x', 200);
        memcpy(text + 150, bad[i], strlen(bad[i]));
        assert_int_equal(show(REQUEST, text, 200), ERR_INVALID);
        assert_non_null(strstr(err_text(), "field dataset"));
        assert_null(strstr(err_text(), "xxx")); // Never the text itself.
    }
    memcpy(text + 150, "\xf0\x9f\x8c\xb3", 4); // control
    assert_int_equal(show(REQUEST, text, 200), OK);
}

// ---------------------------------------------------------------- bounds

static void test_oversize(void **state)
{
    (void)state;
    // ImportBegin with a schema that makes the frame exactly as long as it may be, then one more.
    uint8_t *const schema = mem_alloc(LIMIT_CONTROL_BYTES, 1);
    Unlearn__Request request = UNLEARN__REQUEST__INIT;
    Unlearn__ImportBegin begin = UNLEARN__IMPORT_BEGIN__INIT;
    request.version = WIRE_VERSION;
    request.body_case = UNLEARN__REQUEST__BODY_IMPORT_BEGIN;
    request.import_begin = &begin;
    begin.schema = wire_bytes(span_of(schema, LIMIT_CONTROL_BYTES - 10));
    struct buf frame = {0};
    wire_put(&request.base, &frame);
    assert_int_equal(frame.bytes, LIMIT_CONTROL_BYTES);
    taken_as_it_is(REQUEST, buf_span(&frame)); // control
    buf_u8(&frame, 0);
    refused(REQUEST, buf_span(&frame), "an envelope of 262145 bytes, expected at most 262144");
    buf_deinit(&frame);
    mem_free(schema);
}

// Two bytes on the wire, dozens in memory: the budget ends it.
static void test_amplification_is_refused(void **state)
{
    (void)state;
    struct buf frame = {0};
    const uint32_t inside = LIMIT_CONTROL_BYTES - 64;
    buf_put(&frame, BYTES(0x08, 1, 0xca, 1, 0x80 | (inside & 0x7f), 0x80 | (inside >> 7 & 0x7f),
                          inside >> 14)); // Delete
    for (uint32_t i = 0; i < inside / 2; i++) {
        buf_put(&frame, BYTES(0x1a, 0)); // records: ""
    }
    refused(REQUEST, buf_span(&frame), "unpacks to more than");
    assert_true(arena.used <= LIMIT_UNPACK_BYTES);
    buf_deinit(&frame);

    // control: ids of the usual length fill a frame and are taken.
    char *ids[30000];
    Unlearn__Request request = UNLEARN__REQUEST__INIT;
    Unlearn__Delete body = UNLEARN__DELETE__INIT;
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        ids[i] = wire_text("123456");
    }
    request.version = WIRE_VERSION;
    request.body_case = UNLEARN__REQUEST__BODY_DELETE;
    request.delete_ = &body;
    body.records = ids;
    body.n_records = sizeof ids / sizeof *ids;
    wire_put(&request.base, &frame);
    taken_as_it_is(REQUEST, buf_span(&frame));
    buf_deinit(&frame);
}

// A message lives until the arena's next use, which takes all memory back.
static void test_the_arena_is_used_again(void **state)
{
    (void)state;
    taken_as_it_is(REQUEST, BYTES(HEAD, 0x62, 3, 0x0a, 1, 'd'));
    const size_t used = arena.used;
    for (int i = 0; i < 3; i++) {
        taken_as_it_is(REQUEST, BYTES(HEAD, 0x62, 3, 0x0a, 1, 'd'));
        assert_int_equal(arena.used, used);
    }
    wire_arena_deinit(&arena);
    assert_true(arena.data == NULL && arena.used == 0);
    taken_as_it_is(REQUEST, BYTES(HEAD, 0x62, 3, 0x0a, 1, 'd'));
}

// ---------------------------------------------------------------- the protocol itself

enum { DEPTH_MAX = 3 }; // wire.c: "at most three deep".

static uint32_t deepest, enums_seen;

static void walk(const ProtobufCMessageDescriptor **path, uint32_t depth)
{
    const ProtobufCMessageDescriptor *const message = path[depth - 1];
    deepest = depth > deepest ? depth : deepest;
    assert_true(depth <= DEPTH_MAX);
    for (uint32_t i = 0; i + 1 < depth; i++) {
        assert_ptr_not_equal(path[i], message); // A message inside itself.
    }
    for (uint32_t i = 0; i < message->n_fields; i++) {
        const ProtobufCFieldDescriptor *const field = &message->fields[i];
        if (field->type == PROTOBUF_C_TYPE_MESSAGE) {
            path[depth] = field->descriptor;
            walk(path, depth + 1);
        } else if (field->type == PROTOBUF_C_TYPE_ENUM) {
            const ProtobufCEnumDescriptor *const list = field->descriptor;
            const ProtobufCEnumValue *const zero = protobuf_c_enum_descriptor_get_value(list, 0);
            assert_non_null(zero);
            assert_non_null(strstr(zero->name, "_UNSPECIFIED"));
            enums_seen++;
        }
    }
}

static void test_no_message_is_recursive_or_deep(void **state)
{
    (void)state;
    for (enum kind kind = REQUEST; kind < KINDS; kind++) {
        const ProtobufCMessageDescriptor *path[DEPTH_MAX + 2] = {descriptor_of(kind)};
        walk(path, 1);
    }
    assert_int_equal(deepest, DEPTH_MAX); // The comment is not too pessimistic either.
    assert_true(enums_seen > 0);
}

static void test_statuses(void **state)
{
    (void)state;
    static const enum err kept[] = {OK,         ERR_INVALID, ERR_NOT_FOUND,  ERR_CONFLICT,
                                    ERR_DENIED, ERR_LIMIT,   ERR_UNAVAILABLE};
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++) {
        assert_int_equal(wire_err(wire_status(kept[i])), kept[i]);
    }
    static const enum err internal[] = {ERR_CORRUPT, ERR_INCOMPATIBLE, ERR_IO, ERR_CANCELLED};
    for (size_t i = 0; i < sizeof internal / sizeof *internal; i++) {
        assert_int_equal(wire_status(internal[i]), UNLEARN__STATUS__STATUS_INTERNAL);
    }
    assert_int_equal(wire_err(UNLEARN__STATUS__STATUS_INTERNAL), ERR_IO);
    assert_int_equal(wire_err(UNLEARN__STATUS__STATUS_UNSPECIFIED), ERR_IO);
    assert_int_equal(wire_err((Unlearn__Status)99), ERR_IO);
    assert_int_equal(wire_err((Unlearn__Status)-1), ERR_IO);
}

static void test_copy_wants_the_exact_length(void **state)
{
    (void)state;
    static const uint8_t five[5] = {1, 2, 3, 4, 5};
    uint8_t out[5] = {0};
    assert_int_equal(wire_copy(wire_bytes(span_of(five, 5)), out, 5, "the five"), OK); // control
    assert_memory_equal(out, five, 5);
    assert_int_equal(wire_copy(wire_bytes(span_of(five, 4)), out, 5, "the five"), ERR_INVALID);
    assert_string_equal(err_text(), "the five has 4 bytes, expected 5");
    assert_int_equal(wire_copy(wire_bytes(span_of(NULL, 0)), out, 5, "the five"), ERR_INVALID);
}

static int tear_down(void **state)
{
    (void)state;
    wire_arena_deinit(&arena);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_body_comes_back),
        cmocka_unit_test(test_every_truncation_is_refused),
        cmocka_unit_test(test_flipped_bits_never_crash),
        cmocka_unit_test(test_noise_never_crashes),
        cmocka_unit_test(test_canonical_form),
        cmocka_unit_test(test_head),
        cmocka_unit_test(test_a_refused_request_keeps_its_number),
        cmocka_unit_test(test_enums),
        cmocka_unit_test(test_numbers_are_finite),
        cmocka_unit_test(test_texts),
        cmocka_unit_test(test_oversize),
        cmocka_unit_test(test_amplification_is_refused),
        cmocka_unit_test(test_the_arena_is_used_again),
        cmocka_unit_test(test_no_message_is_recursive_or_deep),
        cmocka_unit_test(test_statuses),
        cmocka_unit_test(test_copy_wants_the_exact_length),
    };
    return cmocka_run_group_tests(tests, NULL, tear_down);
}
