// store/deny.h: a set of records, by key, in memory.
//
// Holds what readers must not see. It is asked once for every record read, so it is a hash table;
// rids are keyed hashes already and need no further hashing.
//
// Lifetime  {0} is empty and ready for use; deny_deinit frees. Threads  The store thread.
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct record_key;
struct deny_slot;

struct deny {
    struct deny_slot *slots; // capacity of them, a power of two; NULL when capacity is 0.
    size_t capacity;
    size_t count;
};

void deny_deinit(struct deny *deny);                             // Empties; may be used again.
void deny_add(struct deny *deny, const struct record_key *key);  // No change when it is there.
void deny_drop(struct deny *deny, const struct record_key *key); // No change when it is not.
bool deny_has(const struct deny *deny, const struct record_key *key);
// Takes every member of `others` out of `deny`.
void deny_drop_all(struct deny *deny, const struct deny *others);
