// store/deny.c: see deny.h. Open addressing with linear probing, at most three quarters full; a
// member is taken out by moving the followers of its run back, so there are no dead slots.
#include "store/deny.h"

#include <string.h>

#include "base/mem.h"
#include "store/record.h"

enum { CAPACITY_LEAST = 64 };

struct deny_slot {
    bool used;
    struct record_key key;
};

static size_t home_of(const struct deny *deny, const struct record_key *key)
{
    uint64_t hash;
    memcpy(&hash, key->rid.bytes, sizeof hash);
    return (size_t)hash & (deny->capacity - 1);
}

static bool same_key(const struct record_key *a, const struct record_key *b)
{
    return id128_compare(&a->rid, &b->rid) == 0 && a->dataset == b->dataset &&
           a->generation == b->generation && a->risk == b->risk &&
           id128_compare(&a->sid, &b->sid) == 0;
}

// The slot of `key`, or the free one where it would go. The table is never full.
static size_t find(const struct deny *deny, const struct record_key *key)
{
    size_t at = home_of(deny, key);
    while (deny->slots[at].used && !same_key(&deny->slots[at].key, key)) {
        at = (at + 1) & (deny->capacity - 1);
    }
    return at;
}

void deny_deinit(struct deny *deny)
{
    mem_free(deny->slots);
    *deny = (struct deny){0};
}

static void grow(struct deny *deny)
{
    struct deny wider = {.capacity = deny->capacity == 0 ? CAPACITY_LEAST : 2 * deny->capacity};
    wider.slots = mem_alloc(wider.capacity, sizeof *wider.slots);
    for (size_t i = 0; i < deny->capacity; i++) {
        if (deny->slots[i].used) {
            wider.slots[find(&wider, &deny->slots[i].key)] = deny->slots[i];
        }
    }
    wider.count = deny->count;
    mem_free(deny->slots);
    *deny = wider;
}

void deny_add(struct deny *deny, const struct record_key *key)
{
    if (deny->count >= deny->capacity / 4 * 3) {
        grow(deny);
    }
    struct deny_slot *const slot = &deny->slots[find(deny, key)];
    if (!slot->used) {
        *slot = (struct deny_slot){true, *key};
        deny->count++;
    }
}

void deny_drop(struct deny *deny, const struct record_key *key)
{
    if (deny->count == 0) {
        return;
    }
    size_t hole = find(deny, key);
    if (!deny->slots[hole].used) {
        return;
    }
    const size_t mask = deny->capacity - 1;
    for (size_t at = (hole + 1) & mask; deny->slots[at].used; at = (at + 1) & mask) {
        // A follower may move into the hole unless its home lies behind the hole.
        const size_t home = home_of(deny, &deny->slots[at].key);
        if (((at - home) & mask) >= ((at - hole) & mask)) {
            deny->slots[hole] = deny->slots[at];
            hole = at;
        }
    }
    deny->slots[hole] = (struct deny_slot){0};
    deny->count--;
}

bool deny_has(const struct deny *deny, const struct record_key *key)
{
    return deny->count > 0 && deny->slots[find(deny, key)].used;
}

void deny_drop_all(struct deny *deny, const struct deny *others)
{
    for (size_t i = 0; i < others->capacity; i++) {
        if (others->slots[i].used) {
            deny_drop(deny, &others->slots[i].key);
        }
    }
}
