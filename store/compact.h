// store/compact.h: the second line behind erased keys: a new database file without old pages.
//
// LMDB's own compaction can carry deleted bytes over in the slack of its buffers. So a fresh process, which
// never held one, walks the live rows and puts them, sealed as they are, into a new environment
// DIR/store.compact. Then the two directories change names in one step of the kernel (RENAME_EXCHANGE),
// and what is called store.compact, now the old one, is overwritten and removed. At any instant exactly
// one environment is called `store` and is whole; what else is found at a start is overwritten and removed.
//
// Threads   The store thread. Source: notes on LMDB, docs/architecture.md, "Store".
#pragma once

#include "store/store.h"

// Does all of it; the store is closed for readers and writers meanwhile, and no transaction may be open.
// `program` is executed as: program --compact-copy FROM TO MAP_BYTES, and must call compact_copy.
// *before_out and *after_out: bytes of the file.
//   ERR_LIMIT  no room for the copy, or the map is too small: nothing has changed.
//   ERR_IO     the copy failed; nothing has changed. Or the swap did, and what is true is read at the
//              next start: the process must end (*lost_out).
MUST_USE enum err store_compact(struct store *store, const char *program, uint64_t *before_out,
                                uint64_t *after_out, bool *lost_out);

// In the fresh process.
MUST_USE enum err compact_copy(const char *from, const char *to, uint64_t map_bytes);

// Overwrites and removes what an earlier compaction left in DIR. Before the store is opened.
MUST_USE enum err compact_clean(const char *dir);
