// store/keyring_file.h: the keyring's file, for keyring.c alone: header, pages, slots as they lie.
#pragma once

#include "base/bytes.h"
#include "store/keyring.h"

enum {
    PAGE_BYTES = 4096,
    SLOT_BYTES = 64,
    GROW_SLOTS = 16384, // The file grows by 1 MiB of written zeros.
    RUN_SLOTS_MAX = 16384,
    RUN_BYTES_MAX = RUN_SLOTS_MAX * SLOT_BYTES,
    DIRECT_PAGES = 256,
    WINDOWS = 4, // A data set's key is asked for again and again, between records anywhere.
};

struct fresh_slot { // Reserved since the last keyring_end.
    uint64_t slot;
    bool made;
    uint8_t bytes[SLOT_BYTES];
};

struct fresh_run { // Slots slot .. slot + count - 1 are fresh[first ..].
    uint64_t slot, count;
    size_t first;
};

// Pages read lately, through the page cache.
struct window {
    uint8_t *bytes;
    uint64_t at, pages; // 0 pages: nothing.
    uint64_t used;      // When; the least goes first.
};

struct keyring {
    const struct master *master;
    int fd;
    int direct_fd; // Opened with O_DIRECT; -1: the file system has none.
    uint8_t master_number;
    uint64_t counter;
    uint64_t slot_count; // In the file.
    uint64_t *used;      // Bitmap of `bits`.
    uint64_t bits;
    uint64_t hint; // Every slot before it is used.
    uint64_t generation, generation_end;
    struct fresh_slot *fresh;
    size_t fresh_count, fresh_capacity;
    struct fresh_run *runs;
    size_t run_count, run_capacity;
    bool flushed;
    uint64_t *gone; // Erased since the last keyring_end.
    size_t gone_count;
    uint64_t *expected; // While starting: generation << 1 | doomed.
    struct window windows[WINDOWS];
    uint64_t page_last; // That was read into one.
    uint64_t looks;
    uint8_t *direct; // For reading back.
};

static inline uint64_t slot_offset(uint64_t slot)
{
    return PAGE_BYTES + slot * SLOT_BYTES;
}
uint64_t slot_generation(const uint8_t bytes[static SLOT_BYTES]); // 0: free.
uint8_t slot_master(const uint8_t bytes[static SLOT_BYTES]);
void slot_wrap(const struct master *master, uint8_t number, const struct key_name *name,
               const uint8_t key[static SEAL_KEY_BYTES], uint8_t out[static SLOT_BYTES]);
MUST_USE enum err slot_unwrap(const struct master *master, const struct key_name *name,
                              const uint8_t bytes[static SLOT_BYTES],
                              uint8_t key_out[static SEAL_KEY_BYTES]);

// A slot as it lies, borrowed until the next look or write.
MUST_USE enum err keyring_look(struct keyring *keyring, uint64_t slot, const uint8_t **bytes_out);
MUST_USE enum err keyring_write(struct keyring *keyring, uint64_t offset, struct span bytes);
MUST_USE enum err keyring_sync(struct keyring *keyring);
// Makes the file long enough for the slot.
MUST_USE enum err keyring_grow(struct keyring *keyring, uint64_t slot);
MUST_USE enum err keyring_header_write(struct keyring *keyring, uint8_t master_number,
                                       uint64_t counter);
// Up to DIRECT_PAGES pages from the disk, not from the page cache; borrowed until the next call.
MUST_USE enum err keyring_read_direct(struct keyring *keyring, uint64_t page, uint64_t count,
                                      const uint8_t **pages_out);
