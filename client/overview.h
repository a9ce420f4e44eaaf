// client/overview.h: how a cluster's requests and a model's cells stand, gathered from pages.
//
// The coordinator looks at a bounded part for each message, so what comes together here is of several
// moments: what ended between two pages may be missing, and what moved may be counted twice.
//
// Lifetime  Filled by one call. overview_cells_deinit frees. Threads  One, the client's.
#pragma once

#include "base/digest.h"
#include "base/limits.h"
#include "client/unlearn.h"

enum { OVERVIEW_NAMED = 20, OVERVIEW_PHASES = 8 };

struct overview_request {
    struct id128 uuid;
    Unlearn__RequestKind kind;
    Unlearn__RequestPhase phase;
    char name[LIMIT_NAME_BYTES + 1]; // Of the dataset; of the model that is being removed.
    int64_t accepted_us, due_us;     // due_us 0: none.
    int64_t expected_us;             // When it is expected to be repaired; 0: not known.
    bool late;                       // It will be, or is, repaired after it is due.
    // Asked for one by one:
    uint32_t components_awaited;
    uint64_t samples_left;
    bool more; // There are more than these two say.
};

struct overview_requests {
    uint32_t total;
    struct {
        uint32_t count;
        int64_t oldest_us, due_us;                 // Of the oldest; the earliest due date, or 0.
    } phases[OVERVIEW_PHASES];                     // By RequestPhase.
    struct overview_request first[OVERVIEW_NAMED]; // Due first, then oldest.
    uint32_t first_count;
};

// All pages, and then what each of the first ones still waits for.
MUST_USE enum err overview_requests(struct unlearn *client, struct overview_requests *out);
// Adds one page.
void overview_add(struct overview_requests *requests, const Unlearn__RequestPage *page);

enum overview_state { CELL_VALID, CELL_TRAINING, CELL_WAITING, CELL_EMPTY, CELL_STATES };

struct overview_cells {
    uint32_t components, shards, slices;
    uint32_t *counts[CELL_STATES]; // [shards * slices], shard by shard. Owned.
};
// Adds one page; {0} before the first. ERR_CORRUPT: it does not fit those before it; also where the model
// was replaced meanwhile.
MUST_USE enum err overview_cells_add(struct overview_cells *cells, const Unlearn__CellPage *page);
// All pages. On an error there is nothing to free.
MUST_USE enum err overview_cells(struct unlearn *client, const char *model,
                                 struct overview_cells *out);
// The components of a shard that are in the state.
uint64_t overview_shard(const struct overview_cells *cells, enum overview_state state,
                        uint32_t shard);
void overview_cells_deinit(struct overview_cells *cells);
