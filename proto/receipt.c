// proto/receipt.c: see receipt.h.
#include "proto/receipt.h"

#include <string.h>

#include "base/check.h"
#include "base/component.h"
#include "base/mem.h"
#include "base/text.h"

enum { FORMAT = 1, MAGIC_BYTES = 8, COMPONENT_BYTES_MIN = 2 + 6 + 1 + 1 };
static const char magic[MAGIC_BYTES] = {'U', 'N', 'L', 'R', 'C', 'T', '0', '1'};

// ---------------------------------------------------------------- building

void receipt_deinit(struct receipt *receipt)
{
    mem_free(receipt->models);
    mem_free(receipt->components);
    buf_deinit(&receipt->names);
    *receipt = (struct receipt){0};
}

const char *receipt_component_name(const struct receipt *receipt, uint32_t component)
{
    return (const char *)receipt->names.data + receipt->components[component].name_at;
}

// Arrays grow to the next power of two: full when the count is one.
static bool is_full(uint32_t count)
{
    return (count & (count - 1)) == 0;
}

void receipt_add_model(struct receipt *receipt, const char *name, const struct digest *spec,
                       const struct digest *schema)
{
    if (is_full(receipt->model_count)) {
        receipt->models = mem_resize(receipt->models, (size_t)2 * receipt->model_count + 1,
                                     sizeof *receipt->models);
    }
    struct receipt_model *const model = &receipt->models[receipt->model_count++];
    *model =
        (struct receipt_model){.spec = *spec, .schema = *schema, .first = receipt->component_count};
    CHECK(strlen(name) < sizeof model->name);
    memcpy(model->name, name, strlen(name));
}

void receipt_add_component(struct receipt *receipt, const char *name,
                           const struct receipt_component *component)
{
    CHECK(receipt->model_count > 0);
    if (is_full(receipt->component_count)) {
        receipt->components =
            mem_resize(receipt->components, (size_t)2 * receipt->component_count + 1,
                       sizeof *receipt->components);
    }
    struct receipt_component *const added = &receipt->components[receipt->component_count++];
    *added = *component;
    added->name_at = receipt->names.bytes;
    buf_put(&receipt->names, span_of(name, strlen(name) + 1));
    receipt->models[receipt->model_count - 1].count++;
}

// ---------------------------------------------------------------- body

static void put_digest(struct buf *buf, const struct digest *digest)
{
    buf_put(buf, span_of(digest->bytes, DIGEST_BYTES));
}

static void put_model(const struct receipt *receipt, const struct receipt_model *model,
                      struct buf *body)
{
    buf_short_text(body, model->name);
    put_digest(body, &model->spec);
    put_digest(body, &model->schema);
    buf_u32(body, model->count);
    for (uint32_t i = model->first; i < model->first + model->count; i++) {
        const struct receipt_component *const component = &receipt->components[i];
        buf_short_text(body, receipt_component_name(receipt, i));
        buf_u8(body, component->was_valid ? 1 : 0);
        if (component->was_valid) {
            put_digest(body, &component->before);
        }
        buf_u8(body, (uint8_t)component->fate);
        if (component->fate == RECEIPT_REPAIRED) {
            put_digest(body, &component->after);
        }
    }
}

enum err receipt_put(const struct receipt *receipt, struct buf *body)
{
    const size_t start = body->bytes;
    buf_u16(body, FORMAT);
    buf_u8(body, (uint8_t)receipt->kind);
    buf_u8(body, (uint8_t)receipt->request);
    buf_put(body, span_of(receipt->uuid.bytes, ID_BYTES));
    buf_put(body, span_of(receipt->earlier.bytes, ID_BYTES));
    buf_short_text(body, receipt->name);
    buf_short_text(body, receipt->build);
    put_digest(body, &receipt->profile);
    buf_u64(body, (uint64_t)receipt->accepted_us);
    buf_u64(body, (uint64_t)receipt->fenced_us);
    buf_u64(body, receipt->records_deleted);
    buf_u64(body, receipt->components_invalidated);
    buf_u64(body, receipt->epoch_before);
    buf_u64(body, receipt->epoch_after);
    if (receipt->kind == RECEIPT_COMPLETED) {
        buf_u64(body, (uint64_t)receipt->erased_us);
        buf_u64(body, (uint64_t)receipt->repaired_us);
        buf_u64(body, (uint64_t)receipt->completed_us);
        buf_u64(body, receipt->keys_destroyed);
        buf_u64(body, receipt->log_index);
        buf_u32(body, receipt->model_count);
        for (uint32_t i = 0; i < receipt->model_count; i++) {
            put_model(receipt, &receipt->models[i], body);
        }
    }
    if (body->bytes - start > LIMIT_RECEIPT_BYTES) {
        FAIL(ERR_LIMIT, "the receipt has %zu bytes, expected at most %d", body->bytes - start,
             (int)LIMIT_RECEIPT_BYTES);
    }
    return OK;
}

static void get_bytes(struct cursor *cursor, void *out, size_t bytes)
{
    const struct span span = cursor_take(cursor, bytes);
    if (span.bytes == bytes) {
        memcpy(out, span.data, bytes);
    }
}

static enum err get_text(struct cursor *cursor, const char *what, char *out, size_t capacity)
{
    cursor_short_text(cursor, out, capacity);
    if (cursor->bad || out[0] == '\0' || !text_is_clean(span_text(out))) {
        FAIL(ERR_CORRUPT, "the receipt's body: %s is not a text of 1 to %zu bytes", what,
             capacity - 1);
    }
    return OK;
}

static enum err get_component(struct cursor *cursor, struct receipt *receipt)
{
    char name[COMPONENT_TEXT_BYTES], again[COMPONENT_TEXT_BYTES];
    struct component parsed;
    struct receipt_component component = {0};
    TRY(get_text(cursor, "a component's name", name, sizeof name));
    if (component_get(name, &parsed) != OK) {
        FAIL(ERR_CORRUPT, "the receipt's body: a component's name is none");
    }
    component_put(&parsed, again);
    const uint8_t was_valid = cursor_u8(cursor);
    component.was_valid = was_valid == 1;
    if (component.was_valid) {
        get_bytes(cursor, component.before.bytes, DIGEST_BYTES);
    }
    const uint8_t fate = cursor_u8(cursor);
    if (fate == RECEIPT_REPAIRED) {
        get_bytes(cursor, component.after.bytes, DIGEST_BYTES);
    }
    if (cursor->bad || strcmp(name, again) != 0 || was_valid > 1 || fate < RECEIPT_REPAIRED ||
        fate > RECEIPT_GONE) {
        FAIL(ERR_CORRUPT, "the receipt's body: component %u is not in its form",
             receipt->component_count);
    }
    component.fate = (enum receipt_fate)fate;
    receipt_add_component(receipt, name, &component);
    return OK;
}

static enum err get_model(struct cursor *cursor, struct receipt *receipt)
{
    char name[LIMIT_NAME_BYTES + 1];
    struct digest spec = {{0}}, schema = {{0}};
    TRY(get_text(cursor, "a model's name", name, sizeof name));
    get_bytes(cursor, spec.bytes, DIGEST_BYTES);
    get_bytes(cursor, schema.bytes, DIGEST_BYTES);
    const uint32_t count = cursor_u32(cursor);
    if (cursor->bad || count > cursor->left / COMPONENT_BYTES_MIN) {
        FAIL(ERR_CORRUPT, "the receipt's body: it ends inside a model of %u components", count);
    }
    receipt_add_model(receipt, name, &spec, &schema);
    for (uint32_t i = 0; i < count; i++) {
        TRY(get_component(cursor, receipt));
    }
    return OK;
}

static enum err get_completed(struct cursor *cursor, struct receipt *receipt)
{
    receipt->erased_us = (int64_t)cursor_u64(cursor);
    receipt->repaired_us = (int64_t)cursor_u64(cursor);
    receipt->completed_us = (int64_t)cursor_u64(cursor);
    receipt->keys_destroyed = cursor_u64(cursor);
    receipt->log_index = cursor_u64(cursor);
    const uint32_t count = cursor_u32(cursor);
    if (cursor->bad || count > LIMIT_MODELS) {
        FAIL(ERR_CORRUPT, "the receipt's body: %u models, expected at most %d", count,
             (int)LIMIT_MODELS);
    }
    for (uint32_t i = 0; i < count; i++) {
        TRY(get_model(cursor, receipt));
    }
    return OK;
}

static enum err get_body(struct span body, struct receipt *receipt)
{
    struct cursor cursor = cursor_of(body);
    const uint16_t format = cursor_u16(&cursor);
    const uint8_t kind = cursor_u8(&cursor), request = cursor_u8(&cursor);
    if (cursor.bad || format != FORMAT) {
        FAIL(ERR_CORRUPT, "the receipt's body has format %u, expected %d", format, (int)FORMAT);
    }
    if (kind < RECEIPT_ACCEPTED || kind > RECEIPT_COMPLETED || request < RECEIPT_DELETE ||
        request > RECEIPT_REMOVE_MODEL) {
        FAIL(ERR_CORRUPT, "the receipt's body is of kind %u of request %u, which are not known",
             kind, request);
    }
    receipt->kind = (enum receipt_kind)kind;
    receipt->request = (enum receipt_request)request;
    get_bytes(&cursor, receipt->uuid.bytes, ID_BYTES);
    get_bytes(&cursor, receipt->earlier.bytes, ID_BYTES);
    TRY(get_text(&cursor, "the name", receipt->name, sizeof receipt->name));
    TRY(get_text(&cursor, "the build", receipt->build, sizeof receipt->build));
    get_bytes(&cursor, receipt->profile.bytes, DIGEST_BYTES);
    receipt->accepted_us = (int64_t)cursor_u64(&cursor);
    receipt->fenced_us = (int64_t)cursor_u64(&cursor);
    receipt->records_deleted = cursor_u64(&cursor);
    receipt->components_invalidated = cursor_u64(&cursor);
    receipt->epoch_before = cursor_u64(&cursor);
    receipt->epoch_after = cursor_u64(&cursor);
    if (kind == RECEIPT_COMPLETED) {
        TRY(get_completed(&cursor, receipt));
    }
    return cursor_done(&cursor, "the receipt's body");
}

enum err receipt_get(struct span body, struct receipt *receipt_out)
{
    *receipt_out = (struct receipt){0};
    const enum err err = get_body(body, receipt_out);
    if (err != OK) {
        receipt_deinit(receipt_out);
    }
    return err;
}

// ---------------------------------------------------------------- file

void receipt_put_tail(uint64_t index, const struct merkle_path *path, const struct head *head,
                      struct buf *tail)
{
    buf_u64(tail, index);
    buf_u16(tail, (uint16_t)path->count);
    for (uint32_t i = 0; i < path->count; i++) {
        put_digest(tail, &path->hashes[i]);
    }
    head_put(head, buf_room(tail, HEAD_BYTES));
}

enum err receipt_put_file(struct span body, struct span tail, struct buf *file)
{
    if (body.bytes > LIMIT_RECEIPT_BYTES) {
        FAIL(ERR_LIMIT, "the receipt has %zu bytes, expected at most %d", body.bytes,
             (int)LIMIT_RECEIPT_BYTES);
    }
    buf_put(file, span_of(magic, sizeof magic));
    buf_u32(file, (uint32_t)body.bytes);
    buf_put(file, body);
    buf_put(file, tail);
    return OK;
}

static enum err get_tail(struct cursor *cursor, struct receipt_file *out)
{
    out->index = cursor_u64(cursor);
    out->path.count = cursor_u16(cursor);
    if (cursor->bad || out->path.count > MERKLE_PATH_MAX) {
        FAIL(ERR_CORRUPT, "the inclusion proof is cut short, or has more than %d hashes",
             (int)MERKLE_PATH_MAX);
    }
    for (uint32_t i = 0; i < out->path.count; i++) {
        get_bytes(cursor, out->path.hashes[i].bytes, DIGEST_BYTES);
    }
    if (cursor->bad) {
        FAIL(ERR_CORRUPT, "the inclusion proof is cut short: it says %u hashes", out->path.count);
    }
    const struct span head = cursor_take(cursor, HEAD_BYTES);
    if (cursor->bad) {
        FAIL(ERR_CORRUPT, "the tree head is cut short: %d bytes expected", (int)HEAD_BYTES);
    }
    return head_of(head, &out->head);
}

enum err receipt_get_file(struct span file, struct receipt_file *out)
{
    struct cursor cursor = cursor_of(file);
    const struct span start = cursor_take(&cursor, MAGIC_BYTES);
    if (!span_equal(start, span_of(magic, MAGIC_BYTES))) {
        FAIL(ERR_CORRUPT, "the file does not begin as a receipt does");
    }
    const uint32_t bytes = cursor_u32(&cursor);
    out->body = cursor_take(&cursor, bytes);
    if (cursor.bad || bytes > LIMIT_RECEIPT_BYTES) {
        FAIL(ERR_CORRUPT, "the file is cut short: a body of %u bytes is announced", bytes);
    }
    TRY(get_tail(&cursor, out));
    if (cursor.left > 0) {
        FAIL(ERR_CORRUPT, "%zu bytes follow the end of the receipt", cursor.left);
    }
    return OK;
}

static enum err check(const struct receipt_file *file, const struct sign_public *key,
                      const struct receipt *receipt)
{
    const bool completed = receipt->kind == RECEIPT_COMPLETED;
    TRY(head_check(&file->head, completed ? HEAD_LOG : HEAD_BATCH, key));
    const struct digest leaf = merkle_leaf(file->body);
    TRY(merkle_check_inclusion(&leaf, file->index, file->head.size, &file->path, &file->head.root));
    if (completed && receipt->log_index != file->index) {
        FAIL(ERR_CORRUPT, "the receipt says log entry %llu and its proof says %llu",
             (unsigned long long)receipt->log_index, (unsigned long long)file->index);
    }
    return OK;
}

enum err receipt_verify(struct span file, const struct sign_public *key,
                        struct receipt *receipt_out, struct receipt_file *file_out)
{
    *receipt_out = (struct receipt){0};
    TRY(receipt_get_file(file, file_out));
    TRY(receipt_get(file_out->body, receipt_out));
    const enum err err = check(file_out, key, receipt_out);
    if (err != OK) {
        receipt_deinit(receipt_out);
    }
    return err;
}
