// client/replay.h: a component trained again from nothing, from an export alone.
//
// No coordinator, no store, no network: model/ and the records. The whole chain is trained, each
// stage from the one before, so equal bytes at the end speak of all of it.
//
// Lifetime  {0}, replay_load or replay_collect, replay_deinit. Threads  One; BLAS pinned (profile.h).
#pragma once

#include "client/export.h"
#include "client/reader.h"
#include "model/learner.h"

// Records in the order of training (model/learner.h, stage_data).
struct replay_data {
    struct span *rows; // Into `bytes`. Owned array.
    struct id128 *rids;
    uint64_t slice_records[LIMIT_SLICES];
    uint64_t count;
    struct buf bytes;
};
void replay_deinit(struct replay_data *data); // Accepts {0}.

// Takes records.bin of `dir`. Checks head, size, every row against the schema, that each record lies
// in its slice (docs/format.md, Ids), that they are in the order of the store and none comes twice,
// and, where ids are there, that they give rid and sid.
//   ERR_CORRUPT    otherwise; the message has the number of the record.
//   ERR_NOT_FOUND  there is no such file.   ERR_LIMIT  not enough memory.
MUST_USE enum err replay_load(const char *dir, const struct export *export,
                              struct replay_data *data_out);

// Takes the auditor's own copy: of the records in `files`, imported as `generation`, those that
// belong to the component's slices. Ids and subjects are named as the import named them; deleted
// records are left out by --except.
//   ERR_INVALID  the export has no placement key; a slice of the list is of another generation; the
//                same id comes twice; what reader.h and encode.h refuse.
//   ERR_LIMIT    more than LIMIT_STAGE_RECORDS.
MUST_USE enum err replay_collect(const struct reader_options *files, uint32_t generation,
                                 const struct export *export, struct replay_data *data_out);

// Takes the base from `dir`, which another export wrote (base.bin) or Hugging Face's transformers.
//   ERR_INVALID  the component stands on no base, or on another one. Else as basefile_read and
//                huggingface_read.
MUST_USE enum err replay_take_base(struct export *export, const char *dir);

// That spec and schema can be learnt, and make as many parameters as the export says.
// ERR_INVALID: the base is not there. ERR_CORRUPT: otherwise.
MUST_USE enum err replay_check(const struct export *export);

// True when every slice has as many records as the component was trained on; else *position_out is
// the first in the list that has not.
bool replay_fits(const struct replay_data *data, const struct export *export,
                 uint32_t *position_out);

// Samples of the whole chain.
uint64_t replay_samples(const struct export *export);

// Trains the chain. `watch` may be NULL: done and total count over all stages. Errors: stage_train's.
MUST_USE enum err replay_train(const struct export *export, const struct replay_data *data,
                               const struct stage_watch *watch, struct digest *digest_out);
