// shard_worker/lease.h: one stage, from the offer to the result: what is fetched, trained, returned.
//
// The coordinator's words are checked here before anything is allocated or computed: a lease whose
// parts do not fit each other is refused, a stream that does not bring what the lease announced
// fails the stage. Nothing here sends, waits or looks at a clock, so it can be tested alone.
//
// Cells and parent come from the cache where it has them; what was fetched is given to it. A comparison
// does without: it says what training from the store gives. All else lives in this struct alone; inputs
// go as soon as the stage is trained, the rest with lease_free.
//
// Lifetime  lease_begin to lease_free.
// Threads   One.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/digest.h"
#include "base/err.h"
#include "base/limits.h"
#include "base/seal.h"
#include "model/learner.h"
#include "proto/unlearn.pb-c.h"
#include "shard_worker/bases.h"
#include "shard_worker/cache.h"

struct lease;
struct inputs; // shard_worker/inputs.h

// Reads the coordinator's offer; keeps nothing of it. `bases` and `cache` are borrowed until lease_free:
// what is there is not fetched, what was fetched is kept there.
//   ERR_INVALID  its parts are not readable or do not fit each other: the message says which.
//                Another attempt would fail too.
//   ERR_LIMIT    it asks for more than limits.h allows, or than the machine has.
MUST_USE enum err lease_begin(const Unlearn__Lease *offer, struct bases *bases, struct cache *cache,
                              struct lease **lease_out);

// Frees everything that the lease holds. Accepts NULL.
void lease_free(struct lease *lease);

uint64_t lease_number(const struct lease *lease);           // The fencing number.
const uint8_t *lease_stream_key(const struct lease *lease); // [SEAL_KEY_BYTES]; borrowed.
bool lease_compare_only(const struct lease *lease);         // The result is a digest, not weights.
const char *lease_model(const struct lease *lease);         // For messages; borrowed.
const char *lease_component(const struct lease *lease);     // Canonical name; borrowed.
uint64_t lease_records(const struct lease *lease);
uint64_t lease_samples(const struct lease *lease); // Records times passes.

// Who trains the stage together.
struct lease_group {
    uint32_t count;                        // 1: this rank alone.
    uint32_t index;                        // Of this rank; 0 leads and returns the weights.
    uint32_t ranks[LIMIT_GRADIENT_CHUNKS]; // [count] ranks of the fleet, ascending; count > 1.
};
const struct lease_group *lease_group(const struct lease *lease); // Borrowed.

// --- Fetching: the base's weights where they are needed and not kept, the parent's where there is one,
// then the records.

// Tells the chunk to ask for next. False: all is asked for that may be for now: LIMIT_CREDIT are
// unanswered, or nothing is missing. Records have no announced number of chunks: up to
// LIMIT_CREDIT - 1 pulls may point past the last one; answers to them are ignored.
bool lease_wants(const struct lease *lease, Unlearn__StreamKind *stream_out,
                 uint32_t *sequence_out);
// That chunk has been asked for.
void lease_asked(struct lease *lease);
// Which cells of the list are not asked for: bit i of byte i / 8, up to *bytes_out bytes; 0: none.
// Borrowed until lease_free. Goes with the first pull of records.
const uint8_t *lease_skips(const struct lease *lease, size_t *bytes_out);

// Takes one chunk; every row in it is checked. The bytes are copied.
//   ERR_CORRUPT  out of order, not asked for, of a wrong length or count, or a row that is not one
//                of the schema. The stage has failed; only lease_free remains.
//   ERR_LIMIT    no memory for it; the same.
MUST_USE enum err lease_take(struct lease *lease, const Unlearn__Chunk *chunk, struct span raw);

// True when everything is there and lease_train may be called.
bool lease_complete(const struct lease *lease);

// --- Training and returning

// Trains the stage, once, and frees its inputs. `peers`: of lease_group; NULL where its count is 1.
// Errors as stage_train_shared.
MUST_USE enum err lease_train(struct lease *lease, const struct stage_watch *watch,
                              const struct stage_peers *peers);

// After lease_train returned OK: the digest of the result.
struct digest lease_digest(const struct lease *lease);
// Chunk `sequence` of the result, LIMIT_CHUNK_BYTES long, the last one shorter; empty past the
// last. Borrowed until lease_free.
struct span lease_weights(const struct lease *lease, uint32_t sequence);

// --- What it holds

// Gives the result to the cache, as that instance. After lease_train returned OK; there is no
// lease_weights any more.
void lease_keep_result(struct lease *lease, uint64_t instance);
const struct inputs *lease_inputs(const struct lease *lease); // Borrowed.
