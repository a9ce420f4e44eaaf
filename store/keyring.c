// store/keyring.c: see keyring.h. The file's header and its opening are in keyring_file.c.
//
//   slot    generation u64 | master key's number u8 | zeros [7] | wrapped key [32] | tag [16]
//           all zeros: free. Bound: what stands before the wrapped key, then the slot's number u64
//           nonce: generation u64 | slot u64 | zeros [8]
//
// The free list is a bitmap in memory. Nothing but whole slots is written, so a write that power loss
// tears (a disk writes whole sectors of 512 bytes) never harms a neighbour.
#include "store/keyring.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/mem.h"
#include "store/keyring_file.h"

// --- The bitmap ---

static bool is_used(const struct keyring *keyring, uint64_t slot)
{
    return slot < keyring->bits && (keyring->used[slot / 64] >> (slot % 64) & 1) != 0;
}

static void set_used(struct keyring *keyring, uint64_t slot, bool used)
{
    if (slot >= keyring->bits) {
        const uint64_t words_now = keyring->bits / 64;
        uint64_t words = words_now < 256 ? 256 : words_now;
        while (words * 64 <= slot) {
            words += words / 2;
        }
        keyring->used = mem_resize(keyring->used, words, sizeof *keyring->used);
        memset(keyring->used + words_now, 0, (words - words_now) * sizeof *keyring->used);
        keyring->bits = words * 64;
    }
    const uint64_t bit = (uint64_t)1 << (slot % 64);
    if (used) {
        keyring->used[slot / 64] |= bit;
    } else {
        keyring->used[slot / 64] &= ~bit;
        keyring->hint = slot < keyring->hint ? slot : keyring->hint;
    }
}

// The first of `count` free slots in a row; beyond the last used one all are.
static uint64_t find_run(const struct keyring *keyring, uint64_t count)
{
    uint64_t first = keyring->hint;
    for (uint64_t slot = first; slot < keyring->bits && slot - first < count;) {
        if (slot % 64 == 0 && keyring->used[slot / 64] == UINT64_MAX) {
            slot += 64;
            first = slot;
        } else if (is_used(keyring, slot)) {
            first = ++slot;
        } else {
            slot++;
        }
    }
    return first;
}

// --- New keys ---

void keyring_generations(struct keyring *keyring, uint64_t first, uint64_t end)
{
    CHECK(first >= keyring->generation && first < end);
    keyring->generation = first;
    keyring->generation_end = end;
}

uint64_t keyring_generations_left(const struct keyring *keyring)
{
    return keyring->generation_end - keyring->generation;
}

static void note_run(struct keyring *keyring, uint64_t slot, uint64_t count)
{
    const size_t runs = keyring->run_count;
    if (runs > 0 && keyring->runs[runs - 1].slot + keyring->runs[runs - 1].count == slot) {
        keyring->runs[runs - 1].count += count;
        return;
    }
    if (keyring->run_count == keyring->run_capacity) {
        keyring->run_capacity = 2 * keyring->run_capacity + 16;
        keyring->runs = mem_resize(keyring->runs, keyring->run_capacity, sizeof *keyring->runs);
    }
    keyring->runs[keyring->run_count++] = (struct fresh_run){slot, count, keyring->fresh_count};
}

void keyring_reserve(struct keyring *keyring, uint64_t count, uint64_t *run_out)
{
    const uint64_t first = find_run(keyring, count);
    note_run(keyring, first, count);
    if (keyring->fresh_count + count > keyring->fresh_capacity) {
        keyring->fresh_capacity = 2 * (keyring->fresh_count + count);
        keyring->fresh =
            mem_resize(keyring->fresh, keyring->fresh_capacity, sizeof *keyring->fresh);
    }
    *run_out = keyring->fresh_count;
    for (uint64_t i = 0; i < count; i++) {
        keyring->fresh[keyring->fresh_count++] = (struct fresh_slot){.slot = first + i};
        set_used(keyring, first + i, true);
    }
    // What a wide run skipped is for narrow ones: only a run of one moves the hint.
    keyring->hint = count == 1 || first == keyring->hint ? first + count : keyring->hint;
}

void keyring_make(struct keyring *keyring, uint64_t run, struct key_name *name_out,
                  uint8_t key_out[static SEAL_KEY_BYTES])
{
    CHECK(run < keyring->fresh_count && !keyring->fresh[run].made &&
          keyring->generation < keyring->generation_end);
    struct fresh_slot *const fresh = &keyring->fresh[run];
    *name_out = (struct key_name){fresh->slot, keyring->generation++};
    digest_random(key_out, SEAL_KEY_BYTES);
    slot_wrap(keyring->master, keyring->master_number, name_out, key_out, fresh->bytes);
    fresh->made = true;
}

static int compare_fresh(const void *a_, const void *b_)
{
    const struct fresh_slot *const a = a_, *const b = b_;
    return a->slot < b->slot ? -1 : a->slot > b->slot;
}

enum err keyring_flush(struct keyring *keyring)
{
    if (keyring->fresh_count == 0) {
        return OK;
    }
    // In order of slots, so that neighbours go into one write; they are read from the file then.
    keyring->run_count = 0;
    qsort(keyring->fresh, keyring->fresh_count, sizeof *keyring->fresh, compare_fresh);
    TRY(keyring_grow(keyring, keyring->fresh[keyring->fresh_count - 1].slot));
    keyring->flushed = true;
    struct buf run = {0};
    enum err err = OK;
    for (size_t i = 0; i < keyring->fresh_count && err == OK;) {
        buf_clear(&run);
        const uint64_t first = keyring->fresh[i].slot;
        for (; i < keyring->fresh_count && run.bytes < RUN_BYTES_MAX &&
               keyring->fresh[i].slot == first + run.bytes / SLOT_BYTES;
             i++) { // A slot that was reserved and not made is written as zeros, which it is.
            buf_put(&run, span_of(keyring->fresh[i].bytes, SLOT_BYTES));
        }
        err = keyring_write(keyring, slot_offset(first), buf_span(&run));
    }
    buf_deinit(&run);
    TRY(err);
    return keyring_sync(keyring);
}

// Zeroes what was flushed for a commit that did not come to stand. Best effort: nobody names these
// slots, so the next start finds and zeroes what is left.
static void take_back(struct keyring *keyring)
{
    static const uint8_t zeros[SLOT_BYTES];
    for (size_t i = 0; i < keyring->fresh_count; i++) {
        if (keyring->fresh[i].made) {
            (void)!keyring_write(keyring, slot_offset(keyring->fresh[i].slot),
                                 span_of(zeros, SLOT_BYTES));
        }
    }
    (void)!keyring_sync(keyring);
}

void keyring_end(struct keyring *keyring, bool stands)
{
    if (!stands && keyring->flushed) {
        take_back(keyring);
    }
    for (size_t i = 0; i < keyring->fresh_count; i++) {
        if (!stands || !keyring->fresh[i].made) {
            set_used(keyring, keyring->fresh[i].slot, false);
        }
    }
    for (size_t i = 0; i < keyring->gone_count && stands; i++) {
        set_used(keyring, keyring->gone[i], false);
    }
    if (keyring->fresh_count > 0) {
        mem_wipe(keyring->fresh, keyring->fresh_count * sizeof *keyring->fresh);
    }
    keyring->fresh_count = keyring->gone_count = keyring->run_count = 0;
    keyring->flushed = false;
}

// --- Reading ---

// A key made since the last keyring_end lies in memory alone.
static const uint8_t *find_fresh(const struct keyring *keyring, uint64_t slot)
{
    for (size_t i = keyring->run_count; i-- > 0;) {
        const struct fresh_run *const run = &keyring->runs[i];
        if (slot >= run->slot && slot - run->slot < run->count) {
            return keyring->fresh[run->first + (slot - run->slot)].bytes;
        }
    }
    return NULL;
}

enum err keyring_key(struct keyring *keyring, const struct key_name *name,
                     uint8_t key_out[static SEAL_KEY_BYTES])
{
    const uint8_t *bytes = find_fresh(keyring, name->slot);
    if (bytes == NULL) {
        TRY(keyring_look(keyring, name->slot, &bytes));
    }
    return slot_unwrap(keyring->master, name, bytes, key_out);
}

// --- Erasing ---

static int compare_names(const void *a_, const void *b_)
{
    const struct key_name *const a = a_, *const b = b_;
    return a->slot < b->slot ? -1 : a->slot > b->slot;
}

// Zeroes a run of slots.
static enum err zero_run(struct keyring *keyring, uint64_t first, uint64_t count)
{
    static const uint8_t zeros[RUN_BYTES_MAX];
    while (count > 0) {
        const uint64_t now = count < RUN_SLOTS_MAX ? count : RUN_SLOTS_MAX;
        TRY(keyring_write(keyring, slot_offset(first), span_of(zeros, now * SLOT_BYTES)));
        first += now;
        count -= now;
    }
    return OK;
}

// Keeps in `names` what is ours to zero: the slots that hold the generation that is named, or nothing.
static enum err choose(struct keyring *keyring, struct key_name *names, size_t *count,
                       uint64_t *destroyed_out)
{
    size_t kept = 0;
    *destroyed_out = 0;
    for (size_t i = 0; i < *count; i++) {
        const uint8_t *bytes = NULL;
        TRY(keyring_look(keyring, names[i].slot, &bytes));
        const uint64_t holds = slot_generation(bytes);
        if (kept > 0 && names[kept - 1].slot == names[i].slot) {
            continue;
        }
        if (holds == names[i].generation || holds == 0) {
            *destroyed_out += holds != 0;
            names[kept++] = names[i];
        }
    }
    *count = kept;
    return OK;
}

static enum err zero_all(struct keyring *keyring, const struct key_name *names, size_t count)
{
    for (size_t i = 0; i < count;) {
        const uint64_t first = names[i].slot;
        uint64_t run = 0;
        while (i < count && names[i].slot == first + run) {
            run++;
            i++;
        }
        TRY(zero_run(keyring, first, run));
    }
    return OK;
}

// Reads what was zeroed from the disk, page by page.
static enum err read_back(struct keyring *keyring, const struct key_name *names, size_t count)
{
    static const uint8_t zeros[SLOT_BYTES];
    const uint8_t *pages = NULL;
    uint64_t first_page = 0, page_count = 0;
    for (size_t i = 0; i < count; i++) {
        const uint64_t page = slot_offset(names[i].slot) / PAGE_BYTES;
        if (i == 0 || page >= first_page + page_count) {
            // On as far as the next names lie in the pages that follow.
            size_t last = i;
            uint64_t end = page + 1;
            while (last + 1 < count && end - page < DIRECT_PAGES) {
                const uint64_t next = slot_offset(names[last + 1].slot) / PAGE_BYTES;
                if (next > end) {
                    break;
                }
                end = next + 1;
                last++;
            }
            first_page = page;
            page_count = end - page < DIRECT_PAGES ? end - page : DIRECT_PAGES;
            TRY(keyring_read_direct(keyring, first_page, page_count, &pages));
        }
        const uint64_t at = slot_offset(names[i].slot) - first_page * PAGE_BYTES;
        if (memcmp(pages + at, zeros, SLOT_BYTES) != 0) {
            FAIL(ERR_IO,
                 "slot %llu of the keyring was overwritten, and the disk still gives other bytes",
                 (unsigned long long)names[i].slot);
        }
    }
    return OK;
}

enum err keyring_erase(struct keyring *keyring, struct key_name *names, size_t count,
                       uint64_t counter, uint64_t *destroyed_out)
{
    CHECK(count <= KEYRING_BATCH && counter >= keyring->counter);
    *destroyed_out = 0;
    if (count > 1) {
        qsort(names, count, sizeof *names, compare_names);
    }
    TRY(choose(keyring, names, &count, destroyed_out));
    TRY(zero_all(keyring, names, count));
    TRY(keyring_header_write(keyring, keyring->master_number, counter));
    TRY(keyring_sync(keyring));
    TRY(read_back(keyring, names, count));
    keyring->gone =
        mem_resize(keyring->gone, keyring->gone_count + count + 1, sizeof *keyring->gone);
    for (size_t i = 0; i < count; i++) {
        keyring->gone[keyring->gone_count++] = names[i].slot;
    }
    return OK;
}

// --- Start ---

enum err keyring_expect(struct keyring *keyring, const struct key_name *name, bool doomed)
{
    if (name->slot >= keyring->slot_count || name->generation == 0) {
        FAIL(ERR_CORRUPT,
             "slot %llu of the keyring is named, and it has %llu: it was cut off, or "
             "is another store's",
             (unsigned long long)name->slot, (unsigned long long)keyring->slot_count);
    }
    if (keyring->expected == NULL) {
        TRY(mem_try_aligned(keyring->slot_count, sizeof *keyring->expected, &keyring->expected));
    }
    uint64_t *const expected = &keyring->expected[name->slot];
    if (*expected != 0 && *expected >> 1 != name->generation) {
        FAIL(ERR_CORRUPT,
             "slot %llu of the keyring is named by two rows, with generations %llu "
             "and %llu",
             (unsigned long long)name->slot, (unsigned long long)(*expected >> 1),
             (unsigned long long)name->generation);
    }
    *expected = name->generation << 1 | (doomed ? 1 : 0);
    return OK;
}

// Checks one slot; true in *stray_out: nobody names it and it is not empty.
static enum err check_slot(struct keyring *keyring, uint64_t slot, const uint8_t *bytes,
                           uint64_t reserved, bool *stray_out)
{
    static const uint8_t zeros[SLOT_BYTES];
    const uint64_t expected = keyring->expected == NULL ? 0 : keyring->expected[slot];
    const struct key_name holds = {slot, slot_generation(bytes)};
    const bool doomed = (expected & 1) != 0;
    *stray_out = expected == 0 && memcmp(bytes, zeros, SLOT_BYTES) != 0;
    if (*stray_out && holds.generation >= reserved) {
        uint8_t key[SEAL_KEY_BYTES];
        const enum err err = slot_unwrap(keyring->master, &holds, bytes, key);
        mem_wipe(key, sizeof key);
        if (err == OK) {
            FAIL(ERR_CONFLICT,
                 "the store was put back from a copy: slot %llu of the keyring has generation "
                 "%llu, and the store has given out none from %llu on",
                 (unsigned long long)slot, (unsigned long long)holds.generation,
                 (unsigned long long)reserved);
        }
    }
    if (expected != 0 && holds.generation != expected >> 1 && !(doomed && holds.generation == 0)) {
        FAIL(ERR_CORRUPT,
             "slot %llu of the keyring holds generation %llu, and the store names %llu: one of "
             "them is damaged, or was put back from a copy",
             (unsigned long long)slot, (unsigned long long)holds.generation,
             (unsigned long long)(expected >> 1));
    }
    if (expected != 0) {
        set_used(keyring, slot, true);
    }
    return OK;
}

// `zero` false: checks everything and counts strays; true: zeroes them.
static enum err settle_all(struct keyring *keyring, uint64_t reserved, bool zero, uint64_t *strays)
{
    static const uint8_t zeros[SLOT_BYTES];
    *strays = 0;
    for (uint64_t slot = 0; slot < keyring->slot_count; slot++) {
        const uint8_t *bytes = NULL;
        bool stray = false;
        TRY(keyring_look(keyring, slot, &bytes));
        TRY(check_slot(keyring, slot, bytes, reserved, &stray));
        *strays += stray;
        if (stray && zero) {
            TRY(keyring_write(keyring, slot_offset(slot), span_of(zeros, SLOT_BYTES)));
        }
    }
    return OK;
}

enum err keyring_settle(struct keyring *keyring, uint64_t reserved, uint64_t *zeroed_out)
{
    // All is checked before anything is zeroed: a start that is refused changes nothing.
    enum err err = settle_all(keyring, reserved, false, zeroed_out);
    if (err == OK && *zeroed_out > 0) {
        err = settle_all(keyring, reserved, true, zeroed_out);
        err = err == OK ? keyring_sync(keyring) : err;
    }
    mem_free(keyring->expected);
    keyring->expected = NULL;
    return err;
}

// --- Change of the master key ---

enum err keyring_turn(struct keyring *keyring, uint8_t number)
{
    CHECK(master_key(keyring->master, number) != NULL);
    TRY(keyring_header_write(keyring, number, keyring->counter));
    keyring->master_number = number;
    return keyring_sync(keyring);
}

static enum err rewrap_slot(struct keyring *keyring, uint64_t slot, const uint8_t *bytes)
{
    const struct key_name name = {slot, slot_generation(bytes)};
    uint8_t key[SEAL_KEY_BYTES], fresh[SLOT_BYTES];
    if (name.generation == 0 || slot_master(bytes) == keyring->master_number) {
        return OK;
    }
    TRY(slot_unwrap(keyring->master, &name, bytes, key));
    slot_wrap(keyring->master, keyring->master_number, &name, key, fresh);
    mem_wipe(key, sizeof key);
    return keyring_write(keyring, slot_offset(slot), span_of(fresh, sizeof fresh));
}

enum err keyring_rewrap(struct keyring *keyring, uint64_t first, uint64_t *next_out, bool *done_out)
{
    uint64_t slot = first;
    for (; slot < keyring->slot_count && slot < first + KEYRING_BATCH; slot++) {
        const uint8_t *bytes = NULL;
        TRY(keyring_look(keyring, slot, &bytes));
        TRY(rewrap_slot(keyring, slot, bytes));
    }
    *next_out = slot;
    *done_out = slot >= keyring->slot_count;
    return keyring_sync(keyring);
}
