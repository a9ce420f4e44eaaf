// coordinator/cells.h: the records of a cell: where spec, placement and the store's order meet.
//
// Threads   cell_walk the store thread, the others any.
#pragma once

#include "model/spec.h"
#include "scheduler/placement.h"
#include "store/record.h"

void model_placement(const struct spec *spec, struct placement *placement_out);

// The same from a spec's canonical text, and the spec's digest. A thread remembers the texts that it read last,
// by their digests: every deletion asks for those of its models. Errors as of spec_get.
MUST_USE enum err model_placement_of(struct span text, struct placement *placement_out,
                                     struct digest *digest_out);

struct cell cell_of_record(const struct placement *placement, const struct record_key *key);

// Walks the visible, not denied records of one cell in the order of storage: class by class, in each by
// sid, then rid. That order decides bits (the constants of standardised columns), so it is the one
// order in which a cell's records are ever read.
//
//   after, keys_only, each   as of record_walk; `after` is a record of this cell.
MUST_USE enum err cell_walk(struct txn *txn, uint32_t dataset, const struct placement *placement,
                            struct cell cell, const struct record_key *after, bool keys_only,
                            bool (*each)(void *context, const struct record *record),
                            void *context);
