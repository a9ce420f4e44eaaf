// client/overview.c: see overview.h.
#include "client/overview.h"

#include <string.h>

#include "base/mem.h"

// --- Requests ---

static bool is_before(const struct overview_request *a, const struct overview_request *b)
{
    const int64_t a_due = a->due_us == 0 ? INT64_MAX : a->due_us;
    const int64_t b_due = b->due_us == 0 ? INT64_MAX : b->due_us;
    return a_due != b_due ? a_due < b_due : a->accepted_us < b->accepted_us;
}

static void take_first(struct overview_requests *requests, const Unlearn__RequestBrief *brief)
{
    struct overview_request request = {.kind = brief->kind,
                                       .phase = brief->phase,
                                       .accepted_us = brief->accepted_us,
                                       .due_us = brief->due_us,
                                       .expected_us = brief->expected_us,
                                       .late = brief->late};
    if (brief->uuid.len != ID_BYTES || strlen(brief->name) > LIMIT_NAME_BYTES) {
        return;
    }
    memcpy(request.uuid.bytes, brief->uuid.data, ID_BYTES);
    memcpy(request.name, brief->name, strlen(brief->name) + 1);
    uint32_t at = requests->first_count;
    if (at == OVERVIEW_NAMED && !is_before(&request, &requests->first[at - 1])) {
        return;
    }
    at -= at == OVERVIEW_NAMED;
    for (; at > 0 && is_before(&request, &requests->first[at - 1]); at--) {
        requests->first[at] = requests->first[at - 1];
    }
    requests->first[at] = request;
    requests->first_count += requests->first_count < OVERVIEW_NAMED;
}

void overview_add(struct overview_requests *requests, const Unlearn__RequestPage *page)
{
    requests->total = page->total;
    for (size_t i = 0; i < page->n_counts; i++) {
        const Unlearn__RequestCount *const count = page->counts[i];
        if ((uint32_t)count->phase >= OVERVIEW_PHASES) {
            continue;
        }
        const uint32_t phase = (uint32_t)count->phase;
        int64_t *const oldest = &requests->phases[phase].oldest_us;
        int64_t *const due = &requests->phases[phase].due_us;
        *oldest = requests->phases[phase].count == 0 || count->oldest_us < *oldest
                      ? count->oldest_us
                      : *oldest;
        *due = count->due_us != 0 && (*due == 0 || count->due_us < *due) ? count->due_us : *due;
        requests->phases[phase].count += count->count;
    }
    for (size_t i = 0; i < page->n_first; i++) {
        take_first(requests, page->first[i]);
    }
}

static enum err ask_details(struct unlearn *client, struct overview_request *request)
{
    const Unlearn__RequestState *state;
    const struct id128 uuid = request->uuid;
    TRY(unlearn_request_show(client, &uuid, &state));
    request->phase = state->phase;
    request->components_awaited = state->components_awaited;
    request->samples_left = state->samples_left;
    request->more = state->awaited_more;
    return OK;
}

enum err overview_requests(struct unlearn *client, struct overview_requests *out)
{
    *out = (struct overview_requests){0};
    const Unlearn__RequestPage *page;
    uint32_t offset = 0;
    do {
        TRY(unlearn_request_list(client, offset, &page));
        overview_add(out, page);
        const uint32_t next = page->next;
        if (next != 0 && next <= offset) {
            FAIL(ERR_CORRUPT, "the page of requests after %u begins at %u", offset, next);
        }
        offset = next;
    } while (offset != 0);
    for (uint32_t i = 0; i < out->first_count; i++) {
        TRY(ask_details(client, &out->first[i]));
    }
    return OK;
}

// --- Cells ---

enum err overview_cells_add(struct overview_cells *cells, const Unlearn__CellPage *page)
{
    const uint64_t all = (uint64_t)page->shards * page->slices;
    if (cells->counts[0] == NULL) {
        if (page->shards > LIMIT_SHARDS || page->slices > LIMIT_SLICES || all == 0) {
            FAIL(ERR_CORRUPT, "a model of %u shards and %u slices", page->shards, page->slices);
        }
        cells->components = page->components;
        cells->shards = page->shards;
        cells->slices = page->slices;
        for (int i = 0; i < CELL_STATES; i++) {
            cells->counts[i] = mem_alloc((size_t)all, sizeof *cells->counts[i]);
        }
    }
    const size_t count = page->n_valid;
    const uint64_t first = (uint64_t)page->first_shard * page->slices;
    if (page->components != cells->components || page->shards != cells->shards ||
        page->slices != cells->slices || page->n_training != count || page->n_waiting != count ||
        page->n_empty != count || first + count > all) {
        FAIL(ERR_CORRUPT, "the model changed while it was looked at: ask again");
    }
    const uint32_t *const counts[CELL_STATES] = {page->valid, page->training, page->waiting,
                                                 page->empty};
    for (int state = 0; state < CELL_STATES; state++) {
        for (size_t i = 0; i < count; i++) {
            cells->counts[state][first + i] += counts[state][i];
        }
    }
    return OK;
}

enum err overview_cells(struct unlearn *client, const char *model, struct overview_cells *out)
{
    *out = (struct overview_cells){0};
    uint32_t offset = 0;
    enum err err = OK;
    do {
        const Unlearn__CellPage *page = NULL;
        err = unlearn_model_cells(client, model, offset, &page);
        err = err == OK ? overview_cells_add(out, page) : err;
        if (err == OK && page->next != 0 && page->next <= offset) {
            err = err_raise(ERR_CORRUPT, "the page of components after %u begins at %u", offset,
                            page->next);
        }
        offset = err == OK ? page->next : 0;
    } while (offset != 0);
    if (err != OK) {
        overview_cells_deinit(out);
    }
    return err;
}

uint64_t overview_shard(const struct overview_cells *cells, enum overview_state state,
                        uint32_t shard)
{
    uint64_t sum = 0;
    for (uint32_t slice = 0; slice < cells->slices; slice++) {
        sum += cells->counts[state][(size_t)shard * cells->slices + slice];
    }
    return sum;
}

void overview_cells_deinit(struct overview_cells *cells)
{
    for (int i = 0; i < CELL_STATES; i++) {
        mem_free(cells->counts[i]);
    }
    *cells = (struct overview_cells){0};
}
