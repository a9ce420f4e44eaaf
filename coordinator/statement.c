// coordinator/statement.c: see statement.h.
#include "coordinator/statement.h"

#include <string.h>

#include "base/build.h"
#include "base/clock.h"
#include "coordinator/cells.h"
#include "proto/receipt.h"
#include "store/bulk.h"
#include "store/component.h"
#include "store/ledger.h"
#include "store/record.h"

_Static_assert((int)RECEIPT_REMOVE_MODEL == (int)REQUEST_REMOVE_MODEL &&
                   (int)RECEIPT_DELETE == (int)REQUEST_DELETE,
               "the journal's numbers are the receipt's");

// The profile that the store's components are trained under; zeros while there is none.
static enum err store_profile(struct txn *txn, struct digest *profile_out)
{
    *profile_out = (struct digest){{0}};
    const enum err err = profile_get(txn, profile_out);
    return err == ERR_NOT_FOUND ? OK : err;
}

static enum err begin(struct txn *txn, const struct request_row *row, enum receipt_kind kind,
                      struct receipt *receipt)
{
    *receipt = (struct receipt){
        .kind = kind,
        .request = (enum receipt_request)row->kind,
        .uuid = row->uuid,
        .accepted_us = row->accepted_us,
        .fenced_us = row->fenced_us,
        .records_deleted = row->records_deleted,
        .components_invalidated = row->components_invalidated,
        .epoch_before = row->epoch_before,
        .epoch_after = row->epoch,
    };
    memcpy(receipt->name, row->name, sizeof receipt->name);
    const size_t bytes = strnlen(build_id, sizeof receipt->build - 1);
    memcpy(receipt->build, build_id, bytes);
    TRY(bulk_earlier(txn, row, &receipt->earlier));
    return store_profile(txn, &receipt->profile);
}

enum err statement_accepted(struct txn *txn, const struct request_row *row, struct buf *body)
{
    struct receipt receipt;
    buf_clear(body);
    if (!request_stands(row)) {
        return OK;
    }
    TRY(begin(txn, row, RECEIPT_ACCEPTED, &receipt));
    return receipt_put(&receipt, body);
}

// ---------------------------------------------------------------- completed

struct completing {
    struct txn *txn;
    struct receipt *receipt;
    struct request_model model; // Of the components that are being added; number 0: none yet.
    bool there;                 // It still stands.
    struct placement placement;
    uint32_t dataset;
};

static enum err look_at_model(struct completing *completing, uint64_t sequence, uint32_t number)
{
    TRY(request_model_get(completing->txn, sequence, number, &completing->model));
    receipt_add_model(completing->receipt, completing->model.name, &completing->model.spec,
                      &completing->model.schema);
    struct model_row row = {0};
    const enum err err = model_get(completing->txn, number, &row);
    completing->there = err == OK && !row.removing;
    struct digest spec;
    enum err known = OK;
    if (completing->there) {
        completing->dataset = row.dataset;
        known = model_placement_of(buf_span(&row.spec), &completing->placement, &spec);
    }
    model_row_deinit(&row);
    TRY_AS(known, "model %u", number);
    return err == ERR_NOT_FOUND ? OK : err;
}

static bool stop_at_first(void *context, const struct record *record)
{
    (void)record;
    *(bool *)context = true;
    return false;
}

// Whether any record is left in the slices of a component.
static enum err has_records(const struct completing *completing, const struct component *name,
                            bool *has_out)
{
    *has_out = false;
    for (uint32_t i = 0; i < name->count && !*has_out; i++) {
        const struct cell cell = {name->shard, name->list[i]};
        TRY(cell_walk(completing->txn, completing->dataset, &completing->placement, cell, NULL,
                      true, stop_at_first, has_out));
    }
    return OK;
}

static enum err look_at_component(const struct completing *completing,
                                  const struct awaited *awaited, const char *text,
                                  struct receipt_component *component)
{
    if (!completing->there) {
        component->fate = RECEIPT_GONE;
        return OK;
    }
    struct component_row row;
    TRY(component_row_get(completing->txn, awaited->model, &awaited->name, &row));
    if (row.state == COMPONENT_VALID) {
        component->fate = RECEIPT_REPAIRED;
        component->after = row.commitment;
        return OK;
    }
    bool has = true;
    TRY(has_records(completing, &awaited->name, &has));
    if (has) {
        FAIL(ERR_CONFLICT, "component %s of model %u is not repaired yet", text, awaited->model);
    }
    component->fate = RECEIPT_EMPTY;
    return OK;
}

static enum err add_awaited(void *context, uint64_t sequence, const struct awaited *awaited)
{
    struct completing *const completing = context;
    char text[COMPONENT_TEXT_BYTES];
    struct receipt_component component = {.was_valid = awaited->was_valid,
                                          .before = awaited->commitment};
    if (completing->model.model != awaited->model) {
        TRY(look_at_model(completing, sequence, awaited->model));
    }
    component_put(&awaited->name, text);
    TRY(look_at_component(completing, awaited, text, &component));
    receipt_add_component(completing->receipt, text, &component);
    return OK;
}

static enum err compose(struct txn *txn, const struct request_row *row, struct receipt *receipt,
                        struct buf *body)
{
    struct head head;
    struct completing completing = {.txn = txn, .receipt = receipt};
    TRY(begin(txn, row, RECEIPT_COMPLETED, receipt));
    TRY(ledger_head(txn, &head));
    receipt->log_index = head.size;
    receipt->keys_destroyed = row->keys_destroyed;
    receipt->erased_us = row->erased_us;
    receipt->repaired_us = row->repaired_us;
    receipt->completed_us = row->completed_us;
    TRY(awaited_walk(txn, row->sequence, add_awaited, &completing));
    return receipt_put(receipt, body);
}

enum err statement_complete(struct txn *txn, const struct signer *signer, struct request_row *row)
{
    struct receipt receipt = {0};
    struct buf body = {0};
    const int64_t now_us = clock_wall_us();
    row->repaired_us = row->repaired_us == 0 ? now_us : row->repaired_us;
    row->completed_us = now_us;
    enum err err = compose(txn, row, &receipt, &body);
    if (err == OK) {
        err = ledger_append(txn, signer, buf_span(&body), now_us);
    }
    row->log_entry = receipt.log_index + 1;
    receipt_deinit(&receipt);
    buf_deinit(&body);
    TRY(err);
    TRY(awaited_drop_all(txn, row->sequence));
    TRY(request_model_drop_all(txn, row->sequence));
    row->state = REQUEST_COMPLETED;
    return request_put(txn, row);
}
