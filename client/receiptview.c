// client/receiptview.c: see receiptview.h.
#include "client/receiptview.h"

#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "client/grid.h"
#include "proto/wire.h"

static const char *kind_of(const struct receipt *receipt)
{
    return receipt->kind == RECEIPT_COMPLETED ? "completed" : "accepted";
}

static const char *what_of(const struct receipt *receipt)
{
    return receipt->request == RECEIPT_DELETE           ? "delete"
           : receipt->request == RECEIPT_REMOVE_DATASET ? "remove dataset"
                                                        : "remove model";
}

static const char *fate_of(enum receipt_fate fate)
{
    return fate == RECEIPT_REPAIRED ? "repaired" : fate == RECEIPT_EMPTY ? "empty" : "removed";
}

static bool has_earlier(const struct receipt *receipt)
{
    static const struct id128 none;
    return id128_compare(&receipt->earlier, &none) != 0;
}

// --- JSON ---

static json_t *hex_of(const void *data, size_t bytes)
{
    return ctl_hex(wire_bytes(span_of(data, bytes)));
}

static json_t *component_json(const struct receipt *receipt, uint32_t index)
{
    const struct receipt_component *const component = &receipt->components[index];
    return json_pack(
        "{s:s, s:b, s:s, s:o, s:o}", "name", receipt_component_name(receipt, index), "invalidated",
        component->was_valid, "state", fate_of(component->fate), "commitment_before",
        component->was_valid ? hex_of(component->before.bytes, DIGEST_BYTES) : json_null(),
        "commitment_after",
        component->fate == RECEIPT_REPAIRED ? hex_of(component->after.bytes, DIGEST_BYTES)
                                            : json_null());
}

static json_t *models_json(const struct receipt *receipt)
{
    json_t *const models = json_array();
    for (uint32_t i = 0; i < receipt->model_count; i++) {
        const struct receipt_model *const model = &receipt->models[i];
        json_t *const components = json_array();
        for (uint32_t j = model->first; j < model->first + model->count; j++) {
            json_array_append_new(components, component_json(receipt, j));
        }
        json_array_append_new(models, json_pack("{s:s, s:o, s:o, s:o}", "model", model->name,
                                                "spec", hex_of(model->spec.bytes, DIGEST_BYTES),
                                                "schema", hex_of(model->schema.bytes, DIGEST_BYTES),
                                                "components", components));
    }
    return models;
}

json_t *receiptview_head_json(const struct head *head)
{
    return json_pack("{s:I, s:o, s:o, s:o, s:o}", "size", (json_int_t)head->size, "root",
                     hex_of(head->root.bytes, DIGEST_BYTES), "time", ctl_time(head->time_us), "key",
                     hex_of(head->key.bytes, SIGN_ID_BYTES), "signature",
                     hex_of(head->signature.bytes, SIGN_BYTES));
}

json_t *receiptview_json(const struct receipt *receipt, const struct receipt_file *file)
{
    json_t *const answer = json_pack(
        "{s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:I}", "kind", kind_of(receipt), "what",
        what_of(receipt), "name", receipt->name, "build", receipt->build, "records_deleted",
        (json_int_t)receipt->records_deleted, "components_invalidated",
        (json_int_t)receipt->components_invalidated, "epoch_before",
        (json_int_t)receipt->epoch_before, "epoch_after", (json_int_t)receipt->epoch_after);
    const bool completed = receipt->kind == RECEIPT_COMPLETED;
    json_object_set_new(answer, "request", ctl_uuid(wire_bytes(span_of(&receipt->uuid, ID_BYTES))));
    json_object_set_new(answer, "earlier",
                        has_earlier(receipt)
                            ? ctl_uuid(wire_bytes(span_of(&receipt->earlier, ID_BYTES)))
                            : json_null());
    json_object_set_new(answer, "profile", hex_of(receipt->profile.bytes, DIGEST_BYTES));
    json_object_set_new(answer, "accepted_at", ctl_time(receipt->accepted_us));
    json_object_set_new(answer, "fenced_at", ctl_time(receipt->fenced_us));
    json_object_set_new(answer, "erased_at", ctl_time(receipt->erased_us));
    json_object_set_new(answer, "repaired_at", ctl_time(receipt->repaired_us));
    json_object_set_new(answer, "completed_at", ctl_time(receipt->completed_us));
    json_object_set_new(answer, "keys_destroyed",
                        completed ? json_integer((json_int_t)receipt->keys_destroyed)
                                  : json_null());
    json_object_set_new(answer, "log_index",
                        completed ? json_integer((json_int_t)receipt->log_index) : json_null());
    json_object_set_new(answer, "models", completed ? models_json(receipt) : json_null());
    json_object_set_new(answer, "head", receiptview_head_json(&file->head));
    return answer;
}

// --- For people ---

static void print_hex(const char *what, const void *data, size_t bytes)
{
    char hex[2 * DIGEST_BYTES + 1];
    hex_put(hex, data, bytes);
    printf("%-12s%s\n", what, hex);
}

static void print_time(const char *what, int64_t time_us)
{
    char text[TEXT_TIME_BYTES];
    text_time(time_us, text);
    if (time_us != 0) {
        printf("%-12s%s\n", what, text);
    }
}

static void print_uuid(const char *what, const struct id128 *uuid)
{
    char text[TEXT_UUID_BYTES];
    text_uuid_put(uuid, text);
    printf("%-12s%s\n", what, text);
}

void receiptview_head_print(const struct head *head)
{
    printf("%-12s%llu\n", "entries", (unsigned long long)head->size);
    print_hex("root", head->root.bytes, DIGEST_BYTES);
    print_time("signed", head->time_us);
    print_hex("key", head->key.bytes, SIGN_ID_BYTES);
}

// The first 16 digits tell commitments apart; --json has them whole.
static void commitment_cell(struct grid *grid, bool there, const struct digest *commitment)
{
    char hex[2 * 8 + 1];
    hex_put(hex, commitment->bytes, 8);
    grid_cell(grid, "%s", there ? hex : "-");
}

static void print_models(const struct receipt *receipt)
{
    for (uint32_t i = 0; i < receipt->model_count; i++) {
        const struct receipt_model *const model = &receipt->models[i];
        printf("\n%-12s%s\n", "model", model->name);
        print_hex("spec", model->spec.bytes, DIGEST_BYTES);
        print_hex("schema", model->schema.bytes, DIGEST_BYTES);
        struct grid *const grid = grid_new("COMPONENT|STATE|COMMITMENT BEFORE|AFTER");
        for (uint32_t j = model->first; j < model->first + model->count; j++) {
            const struct receipt_component *const component = &receipt->components[j];
            grid_cell(grid, "%s", receipt_component_name(receipt, j));
            grid_cell(grid, "%s", fate_of(component->fate));
            commitment_cell(grid, component->was_valid, &component->before);
            commitment_cell(grid, component->fate == RECEIPT_REPAIRED, &component->after);
        }
        grid_print(grid, stdout);
        grid_free(grid);
    }
}

void receiptview_show(const struct ctl *ctl, const struct receipt *receipt,
                      const struct receipt_file *file)
{
    if (ctl->json) {
        ctl_print(receiptview_json(receipt, file));
        return;
    }
    printf("%-12s%s\n", "receipt", kind_of(receipt));
    print_uuid("request", &receipt->uuid);
    printf("%-12s%s %s\n", "what", what_of(receipt), receipt->name);
    printf("%-12s%llu records, %llu components invalidated, epoch %llu to %llu\n", "effect",
           (unsigned long long)receipt->records_deleted,
           (unsigned long long)receipt->components_invalidated,
           (unsigned long long)receipt->epoch_before, (unsigned long long)receipt->epoch_after);
    if (has_earlier(receipt)) {
        print_uuid("earlier", &receipt->earlier);
    }
    print_time("accepted", receipt->accepted_us);
    print_time("fenced", receipt->fenced_us);
    print_time("erased", receipt->erased_us);
    print_time("repaired", receipt->repaired_us);
    print_time("completed", receipt->completed_us);
    print_hex("profile", receipt->profile.bytes, DIGEST_BYTES);
    printf("%-12s%s\n", "build", receipt->build);
    if (receipt->kind == RECEIPT_COMPLETED) {
        printf("%-12s%llu keys\n", "destroyed",
               (unsigned long long)receipt->keys_destroyed);
        printf("%-12sentry %llu of %llu\n", "log", (unsigned long long)receipt->log_index,
               (unsigned long long)file->head.size);
        print_models(receipt);
    } else {
        printf("%-12s%llu of %llu of its commit\n", "leaf", (unsigned long long)file->index + 1,
               (unsigned long long)file->head.size);
    }
    print_time("signed", file->head.time_us);
    print_hex("key", file->head.key.bytes, SIGN_ID_BYTES);
}
