// store/keyring.h: DIR/keyring: one file of 64-byte slots, each a key that seals something of ours,
// wrapped by the master key. Overwriting a slot is what makes a deletion final.
//
// LMDB keeps old bytes in free pages and in the slack of live ones; a file that is overwritten in
// place does not (ext4, xfs: store/disk.h). So everything in LMDB is sealed, and the keys lie here.
//
// A slot's generation comes from a counter of the store, is reserved there before it is used, and
// never comes again: (slot, generation) names one key for ever. The nonce that wraps it is made of
// both.
//
// New keys. keyring_reserve gives a run of free slots, keyring_make puts a new key into each; both
// only in memory. keyring_flush writes and syncs them, before LMDB commits the rows that name them;
// keyring_end tells how that commit went. A crash in between leaves keys that no row names:
// keyring_settle zeroes them at the next start.
//
// Erasing. The rows that name the keys are gone, the names are committed as a list of their own, and
// then keyring_erase zeroes, syncs, and reads back past the page cache. It raises the erase counter of
// the header with the same sync; the store's own counter follows in the commit that clears the list. A
// slot whose generation is another's has a new owner and is not touched.
//
// Errors    ERR_CORRUPT  a slot or the header does not have its tag; the message gives its number.
//           ERR_LIMIT    the disk is full: nothing of what was asked stands.
//           ERR_IO       the kernel refused.
// Threads   The store thread.
// Source    DESIGN of the store: docs/architecture.md, "Keys"; layout: docs/format.md, "Keyring".
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/seal.h"
#include "store/master.h"

struct keyring;

struct key_name {
    uint64_t slot;
    uint64_t generation; // From 1.
};

enum {
    KEYRING_BATCH = 16384
}; // Slots of one keyring_erase at most: 256 pages when they are in a row.

// Makes an empty keyring under master key 1. ERR_CONFLICT: the file is there.
MUST_USE enum err keyring_create(const char *path, const struct master *master);

//   ERR_NOT_FOUND      no such file.
//   ERR_DENIED         no plain file, another user's, or others may read it.
//   ERR_CORRUPT        not a keyring of ours, or its header is damaged.
//   ERR_CONFLICT       made under a master key that is not there.
//   ERR_INCOMPATIBLE   of a newer format.
// The master is borrowed. After it: keyring_expect for every name, then keyring_settle.
MUST_USE enum err keyring_open(const char *path, const struct master *master,
                               struct keyring **keyring_out);
void keyring_close(struct keyring *keyring); // Accepts NULL.

uint64_t keyring_erase_counter(const struct keyring *keyring);
uint8_t keyring_master_number(const struct keyring *keyring); // Of the key that wraps new ones.

// --- Start ---

// A row names this key. `doomed`: it is to be erased and may be gone already.
// ERR_CORRUPT: beyond the end of the file, or named with two generations.
MUST_USE enum err keyring_expect(struct keyring *keyring, const struct key_name *name, bool doomed);
// Reads the whole file against what is expected; zeroes what nobody names; builds the free list.
// `reserved`: generations below it may have been used. On error nothing was changed.
//   ERR_CORRUPT   a slot that a row names holds another generation, or nothing.
//   ERR_CONFLICT  a key that nobody names has a generation which the store never gave out: the store
//                 was put back from a copy, and the key is not to be lost.
MUST_USE enum err keyring_settle(struct keyring *keyring, uint64_t reserved, uint64_t *zeroed_out);
// The generations from `first` up to but not including `end` may be used from now on.
void keyring_generations(struct keyring *keyring, uint64_t first, uint64_t end);
uint64_t keyring_generations_left(const struct keyring *keyring);

// --- Keys ---

// Reserves `count` free slots in a row. *run_out is the number that keyring_make takes, rising by one
// from slot to slot.
void keyring_reserve(struct keyring *keyring, uint64_t count, uint64_t *run_out);
// Draws the key of a reserved slot. What is reserved and never made is free again at keyring_end.
void keyring_make(struct keyring *keyring, uint64_t run, struct key_name *name_out,
                  uint8_t key_out[static SEAL_KEY_BYTES]);
MUST_USE enum err keyring_flush(struct keyring *keyring);
// After the commit, or instead of it. stands: the rows are committed. Else the new keys are zeroed.
void keyring_end(struct keyring *keyring, bool stands);

// Unwraps a key. ERR_CORRUPT also when the slot holds another generation, or nothing.
MUST_USE enum err keyring_key(struct keyring *keyring, const struct key_name *name,
                              uint8_t key_out[static SEAL_KEY_BYTES]);

// Zeroes up to KEYRING_BATCH keys, sets the header's erase counter, syncs, reads back. `names` is
// sorted by slot in place. *destroyed_out: those that were still there. The slots are free after the
// next keyring_end(true).
//   ERR_IO  also when a slot is read back and is not zero: it must not be called erased.
MUST_USE enum err keyring_erase(struct keyring *keyring, struct key_name *names, size_t count,
                                uint64_t counter, uint64_t *destroyed_out);

// --- Change of the master key ---

// New keys are wrapped by master key `number` from here on; the header says so.
MUST_USE enum err keyring_turn(struct keyring *keyring, uint8_t number);
// Wraps the keys of up to KEYRING_BATCH slots from `first` on anew where another master key has
// wrapped them, and syncs. *next_out: where to go on; *done_out: the end of the file was reached.
MUST_USE enum err keyring_rewrap(struct keyring *keyring, uint64_t first, uint64_t *next_out,
                                 bool *done_out);
