// coordinator/bulk.h: requests to delete many, which one transaction would be too long for.
//
// Their parts are journaled as they come (store/bulk.h). With the last one the request is sealed: what it
// names is then gone through in steps of a few milliseconds, each a transaction that others share, so
// that single deletions and predictions go on meanwhile. Each step is a whole fence of the records that it
// finds (fence_part): what it has fenced is in no answer from then on. The ack follows the last step, whose
// transaction puts the request into the journal with the answer to each id.
//
// After a crash a sealed request goes on by itself, from its first id on: what it has fenced already
// is known by its tombstones. One that was not sealed has done nothing and is dropped. Ids are answered as
// if they had been asked at once: the same one ten times gets the same answer ten times.
//
// While a request is being fenced nothing is leased in the models of its dataset (repairs would be
// cancelled by the next step), and neither the dataset's removal nor a base of it is accepted.
//
// Threads   The main loop.
#pragma once

#include "coordinator/core.h"
#include "store/bulk.h"

// At start, before leases are given: reads what is there. Errors: the store's.
MUST_USE enum err bulk_open(struct core *core);
void bulk_resume(struct core *core); // Goes on with it, and drops leftovers.
void bulk_free(struct core *core);
void bulk_tick(struct core *core); // Gives up uploads that stand still; tries again what failed.
// The process ends: no further step, the next start goes on.
void bulk_stop(struct core *core);

struct bulk_part {
    struct id128 uuid;
    struct dataset *dataset;
    uint32_t part;
    bool more, eager;
    const char *due; // As it was asked for, borrowed; of part 0, as is
    int64_t accepted_us, due_us;
    const struct asked *asked; // Borrowed.
    uint32_t count;
};
// Takes one part and answers it; of the last one when the fence is done.
void bulk_take(struct core *core, const struct caller *caller, const struct bulk_part *part);

// Whether a request of this UUID is being fenced. Then, if `body` is its own, the caller is answered with its
// ack, else refused. eager: from here on it is so, too.
bool bulk_joins(struct core *core, const struct caller *caller, const struct id128 *uuid,
                const struct id128 *body, bool eager);
// Whether a request of this UUID is being uploaded by the caller, or fenced in what it sees, and how far it is.
bool bulk_find(const struct core *core, const struct caller *caller, const struct id128 *uuid,
               uint32_t *done_out, uint32_t *ids_out);
// Of a body that goes on from `before` (zeros: its first part) with this part, so that the same UUID with
// another body is noticed.
struct id128 bulk_digest(const struct core *core, uint32_t dataset, const struct id128 *before,
                         const struct bulk_part *part);
