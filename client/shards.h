// client/shards.h: the tensors of one model, in one safetensors file or in several.
//
// One file is model.safetensors; several are named by model.safetensors.index.json, whose weight_map
// tells for each tensor which file of the same directory holds it.
//
// Lifetime  shards_open to shards_close.
// Threads   One.
// Source    transformers.utils.hub (get_checkpoint_shard_files).
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "client/safetensors.h"

struct shard_entry {
    const char *name; // Borrowed until shards_close.
    const struct safetensors *file;
    const struct safetensors_tensor *tensor;
    bool used; // The caller's.
};
struct shards {
    char dir[1024];
    struct safetensors **files;
    size_t file_count;
    struct shard_entry *entries;
    size_t entry_count;
};

// On error there is nothing to close.
//   ERR_NOT_FOUND  neither file is there.
//   ERR_INVALID    a pickle or another format instead; an index that does not fit its files; a bad file.
//   ERR_LIMIT      more than LIMIT_SAFETENSORS_FILES files, or as safetensors_open.   ERR_IO  as there.
MUST_USE enum err shards_open(const char *dir, struct shards *shards_out);
void shards_close(struct shards *shards); // Accepts {0}.

struct shard_entry *shards_find(const struct shards *shards, const char *name); // NULL: none.
