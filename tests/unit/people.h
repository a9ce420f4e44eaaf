// tests/unit/people.h: a store with one dataset, and records made from small numbers.
#pragma once

#include "base/mem.h"
#include "store/dataset.h"
#include "store/private.h"
#include "tests/unit/scratch.h"

enum { PEOPLE_MAP_BYTES = 32 << 20, PEOPLE_DATASET = 1 };

struct people {
    char dir[SCRATCH_BYTES];
    struct store *store;
    struct txn *txn;
};

// Ends the program: what a test stands on is not there.
static inline void people_must(enum err err, const char *what)
{
    if (err != OK) {
        fprintf(stderr, "%s: %s: %s\n", what, err_name(err), err_text());
        abort();
    }
}
#define MUST(expr) people_must((expr), #expr)

static inline void people_begin(struct people *people)
{
    MUST(txn_begin(people->store, true, &people->txn));
}
static inline void people_commit(struct people *people)
{
    MUST(txn_end(people->txn, OK));
}
static inline void people_roll_back(struct people *people)
{
    (void)!txn_end(people->txn, ERR_CANCELLED);
}
static inline void people_reopen(struct people *people)
{
    store_close(people->store);
    MUST(store_open(people->dir, PEOPLE_MAP_BYTES, &people->store));
}

// Puts a row, sealed as its table wants it: for values of a wrong shape.
static inline enum err people_put(struct people *people, enum kv_table table, struct span key,
                                  struct span value)
{
    struct key_name name;
    uint8_t seal_key[SEAL_KEY_BYTES];
    uint64_t run = 0;
    if (table != KV_RECORD && table != KV_WEIGHTS) {
        return value_put(people->txn, table, key, value);
    }
    keyring_reserve(people->store->keyring, 1, &run);
    keyring_make(people->store->keyring, run, &name, seal_key);
    return value_put_under(people->txn, table, key, &name, seal_key, value);
}

static inline void people_open(struct people *people)
{
    MUST(scratch_make(people->dir) ? OK : ERR_IO);
    MUST(store_create(people->dir));
    MUST(store_open(people->dir, PEOPLE_MAP_BYTES, &people->store));
    people_begin(people);
    const struct dataset_row row = {
        .number = PEOPLE_DATASET, .name = "people", .generation_closed = 1, .generation_next = 1};
    MUST(dataset_put(people->txn, &row));
    people_commit(people);
}
static inline void people_close(struct people *people)
{
    store_close(people->store);
    scratch_remove(people->dir);
}

// A record: `hash` is the h of its sid, `person` the rest of it, `number` its rid and id.
struct person {
    struct import_row row;
    char id[24], subject[24], values[24];
};
static inline struct id128 people_sid(uint64_t hash, uint8_t person)
{
    struct id128 sid = {{0}};
    be_put64(sid.bytes, hash);
    sid.bytes[ID_BYTES - 1] = person;
    return sid;
}
static inline struct id128 people_rid(uint32_t number)
{
    struct id128 rid = {{0}};
    be_put32(rid.bytes, number * 2654435761u); // Spread, so that rid order is not number order.
    be_put32(rid.bytes + 4, number);
    return rid;
}
static inline void people_make(struct person *person, uint32_t number, uint64_t hash, uint8_t who,
                               uint8_t risk, const char *values)
{
    snprintf(person->id, sizeof person->id, "%u", number);
    snprintf(person->subject, sizeof person->subject, "s%u", who);
    snprintf(person->values, sizeof person->values, "%s", values);
    person->row = (struct import_row){.id = span_text(person->id),
                                      .subject = span_text(person->subject),
                                      .row = span_text(person->values),
                                      .rid = people_rid(number),
                                      .sid = people_sid(hash, who),
                                      .risk = risk};
}
// Stages one record into an open import; the transaction is the caller's.
static inline enum err people_stage(struct people *people, uint64_t import, uint32_t number,
                                    uint64_t hash, uint8_t who, uint8_t risk, const char *values)
{
    struct person person = {.id = {0}};
    people_make(&person, number, hash, who, risk, values);
    return import_stage(people->txn, import, &person.row, 1, number);
}
static inline struct record_key people_key(uint32_t number, uint32_t generation, uint64_t hash,
                                           uint8_t who, uint8_t risk)
{
    return (struct record_key){.dataset = PEOPLE_DATASET,
                               .generation = generation,
                               .risk = risk,
                               .sid = people_sid(hash, who),
                               .rid = people_rid(number)};
}
