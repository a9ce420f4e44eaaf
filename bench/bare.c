// bench/bare.c: see bare.h.
#include "bench/bare.h"

#include <lmdb.h>
#include <math.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/mem.h"
#include "bench/clients.h"
#include "store/kv.h"

enum { CLIENTS_MAX = 1024, VALUE_BYTES_MAX = 1 << 20, KNOWN_MAX = 1 << 20, OWN_MAX = 1 << 16 };

// How the keys of a table come about.
enum kind {
    DRAWN,   // A hash behind a fixed beginning of `head` bytes.
    COUNTED, // The request's number, then which of its rows.
    THERE,   // One that is there: overwritten or dropped.
    OTHER,   // Not written: what training stores, imports.
};

static const struct {
    enum kind kind;
    size_t head;
} kinds[KV_TABLE_COUNT_] = {
    [KV_META] = {THERE, 0},           [KV_DATASET] = {THERE, 0},
    [KV_MODEL] = {OTHER, 0},          [KV_COMPONENT] = {THERE, 0},
    [KV_CELL] = {THERE, 0},           [KV_WEIGHTS] = {OTHER, 0},
    [KV_RECORD] = {THERE, 0},         [KV_INDEX] = {THERE, 0},
    [KV_TOMBSTONE] = {DRAWN, 5},      [KV_IMPORT] = {OTHER, 0},
    [KV_STAGED] = {OTHER, 0},         [KV_MARK] = {OTHER, 0},
    [KV_REQUEST] = {COUNTED, 0},      [KV_REQUEST_UUID] = {DRAWN, 0},
    [KV_REQUEST_OPEN] = {COUNTED, 0}, [KV_PENDING] = {COUNTED, 0},
    [KV_AWAITED] = {COUNTED, 0},      [KV_REQUEST_MODEL] = {COUNTED, 0},
    [KV_LOG_ENTRY] = {COUNTED, 0},    [KV_LOG_NODE] = {COUNTED, 0},
    [KV_BASE] = {OTHER, 0},           [KV_DOOMED] = {DRAWN, 4},
    [KV_TALLY] = {OTHER, 0},
};

struct key {
    uint8_t bytes;
    uint8_t at[63];
};

struct table {
    enum kind kind;
    MDB_dbi dbi;
    double puts, drops; // Per request.
    size_t key_bytes, value_bytes;
    struct key *known; // THERE: keys of the copy, shuffled. Else a ring of what was put.
    size_t known_count, dropped, put;
};

struct ask { // Of a client.
    uint32_t share;
    double began_s;
};

struct share { // Of the clients: those that one thread carries.
    pthread_cond_t some;
    uint32_t number;
    struct ask *done[CLIENTS_MAX];
    uint32_t count;
};

static struct {
    MDB_env *env;
    struct table tables[KV_TABLE_COUNT_];
    uint64_t number; // Of the request.
    pthread_mutex_t lock;
    pthread_cond_t some;
    struct ask *waiting[CLIENTS_MAX];
    uint32_t count;
    bool end;
    const struct bare_load *load;
    struct share shares[CLIENTS_THREADS];
} bare = {.lock = PTHREAD_MUTEX_INITIALIZER, .some = PTHREAD_COND_INITIALIZER};

static void must(int rc, const char *what)
{
    if (rc != 0) {
        fprintf(stderr, "bench: bare LMDB: %s: %s\n", what, mdb_strerror(rc));
        exit(2); // NOLINT(concurrency-mt-unsafe)
    }
}

static double now_s(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

// ---------------------------------------------------------------- what is written

static const struct count_table *counted(const struct counts *counts, int table)
{
    static const struct count_table none;
    for (int i = 0; i < COUNT_TABLES; i++) {
        if (strcmp(counts->tables[i].name, kv_table_name((enum kv_table)table)) == 0) {
            return &counts->tables[i];
        }
    }
    return &none;
}

static void plan_table(const struct bare_load *load, int number, struct table *table)
{
    const struct count_table *const from = counted(load->from, number);
    const struct count_table *const to = counted(load->to, number);
    const double puts = (double)(to->puts - from->puts);
    *table = (struct table){.kind = kinds[number].kind};
    if (table->kind == OTHER) {
        return;
    }
    table->puts = puts / load->requests;
    table->drops = (double)(to->drops - from->drops) / load->requests;
    if (puts > 0) {
        table->key_bytes = (size_t)((double)(to->put_key_bytes - from->put_key_bytes) / puts + 0.5);
        table->value_bytes =
            (size_t)((double)(to->put_value_bytes - from->put_value_bytes) / puts + 0.5);
    }
}

void bare_describe(const struct bare_load *load)
{
    double puts = 0, drops = 0, bytes = 0;
    for (int i = 0; i < KV_TABLE_COUNT_; i++) {
        struct table table;
        plan_table(load, i, &table);
        if (table.puts + table.drops >= 0.005) {
            printf("  %-14s %6.2f put  %6.2f dropped   key %3zu  value %4zu bytes\n",
                   kv_table_name((enum kv_table)i), table.puts, table.drops, table.key_bytes,
                   table.value_bytes);
        }
        puts += table.puts;
        drops += table.drops;
        bytes += table.puts * (double)(table.key_bytes + table.value_bytes);
    }
    printf("  a request      %6.2f put  %6.2f dropped   %.0f bytes; %u requests a commit at most\n",
           puts, drops, bytes, load->batch);
}

// ---------------------------------------------------------------- keys

static uint64_t draw(uint64_t below)
{
    uint64_t value;
    digest_random(&value, sizeof value);
    return value % below;
}

// The keys that the copy has, in any order.
static void learn(MDB_txn *txn, struct table *table)
{
    MDB_cursor *cursor = NULL;
    MDB_val key, value;
    must(mdb_cursor_open(txn, table->dbi, &cursor), "mdb_cursor_open");
    table->known = mem_alloc(KNOWN_MAX, sizeof *table->known);
    while (table->known_count < KNOWN_MAX && mdb_cursor_get(cursor, &key, &value, MDB_NEXT) == 0) {
        struct key *const known = &table->known[table->known_count];
        if (key.mv_size <= sizeof known->at) {
            known->bytes = (uint8_t)key.mv_size;
            memcpy(known->at, key.mv_data, key.mv_size);
            table->known_count++;
        }
    }
    mdb_cursor_close(cursor);
    for (size_t i = table->known_count; i > 1; i--) {
        const size_t other = draw(i);
        const struct key key_of_other = table->known[other];
        table->known[other] = table->known[i - 1];
        table->known[i - 1] = key_of_other;
    }
}

static void open_all(const struct bare_load *load)
{
    MDB_txn *txn = NULL;
    must(mdb_env_create(&bare.env), "mdb_env_create");
    must(mdb_env_set_mapsize(bare.env, (size_t)8 << 30), "mdb_env_set_mapsize");
    must(mdb_env_set_maxdbs(bare.env, KV_TABLE_COUNT_), "mdb_env_set_maxdbs");
    must(mdb_env_open(bare.env, load->store, 0, 0600), "mdb_env_open");
    must(mdb_txn_begin(bare.env, NULL, 0, &txn), "mdb_txn_begin");
    for (int i = 0; i < KV_TABLE_COUNT_; i++) {
        struct table *const table = &bare.tables[i];
        plan_table(load, i, table);
        must(mdb_dbi_open(txn, kv_table_name((enum kv_table)i), 0, &table->dbi), "mdb_dbi_open");
        if (table->kind == THERE && table->puts + table->drops > 0) {
            learn(txn, table);
        } else {
            table->known = mem_alloc(OWN_MAX, sizeof *table->known);
        }
    }
    must(mdb_txn_commit(txn), "mdb_txn_commit");
}

static struct key key_of(int number, uint32_t row)
{
    struct table *const table = &bare.tables[number];
    struct key key = {.bytes = (uint8_t)table->key_bytes};
    if (table->kind == THERE) {
        return table->known_count == 0 ? key : table->known[draw(table->known_count)];
    }
    if (table->kind == DRAWN) {
        key.at[3] = 1;
        digest_random(key.at + kinds[number].head, key.bytes - kinds[number].head);
        return key;
    }
    for (unsigned i = 0; i < 8; i++) { // Big-endian, beyond what the copy has.
        key.at[i] = (uint8_t)((bare.number + (1 << 20)) >> (56 - 8 * i));
    }
    if (key.bytes > 8) {
        key.at[key.bytes - 1] = (uint8_t)row;
    }
    return key;
}

// ---------------------------------------------------------------- the transaction

// How many of `rate` a request are due at request n: none is lost to rounding.
static uint32_t due(double rate, uint64_t n)
{
    return (uint32_t)(floor(rate * (double)(n + 1)) - floor(rate * (double)n));
}

static void put_rows(MDB_txn *txn, int number)
{
    static uint8_t value[VALUE_BYTES_MAX];
    struct table *const table = &bare.tables[number];
    const uint32_t count = due(table->puts, bare.number);
    for (uint32_t row = 0; row < count; row++) {
        struct key key = key_of(number, row);
        MDB_val k = {key.bytes, key.at}, v = {table->value_bytes, value};
        if (key.bytes == 0) {
            continue;
        }
        must(mdb_put(txn, table->dbi, &k, &v, 0), "mdb_put");
        if (table->kind != THERE) {
            table->known[table->put++ % OWN_MAX] = key;
        }
    }
}

static void drop_rows(MDB_txn *txn, int number)
{
    struct table *const table = &bare.tables[number];
    const uint32_t count = due(table->drops, bare.number);
    for (uint32_t row = 0; row < count; row++) {
        const bool own = table->kind != THERE;
        if (table->dropped >= (own ? table->put : table->known_count)) {
            return;
        }
        struct key key = table->known[own ? table->dropped % OWN_MAX : table->dropped];
        MDB_val k = {key.bytes, key.at};
        const int rc = mdb_del(txn, table->dbi, &k, NULL);
        must(rc == MDB_NOTFOUND ? 0 : rc, "mdb_del");
        table->dropped++;
    }
}

static void commit(uint32_t count)
{
    MDB_txn *txn = NULL;
    must(mdb_txn_begin(bare.env, NULL, 0, &txn), "mdb_txn_begin");
    for (uint32_t i = 0; i < count; i++, bare.number++) {
        for (int table = 0; table < KV_TABLE_COUNT_; table++) {
            put_rows(txn, table);
            drop_rows(txn, table);
        }
    }
    must(mdb_txn_commit(txn), "mdb_txn_commit");
}

// ---------------------------------------------------------------- threads

static void *store(void *unused)
{
    pthread_mutex_lock(&bare.lock);
    for (;;) {
        while (bare.count == 0 && !bare.end) {
            pthread_cond_wait(&bare.some, &bare.lock);
        }
        if (bare.count == 0) {
            pthread_mutex_unlock(&bare.lock);
            return unused;
        }
        struct ask *taken[CLIENTS_MAX];
        const uint32_t count = bare.count < bare.load->batch ? bare.count : bare.load->batch;
        memcpy(taken, bare.waiting, count * sizeof *taken);
        bare.count -= count; // The oldest go first.
        memmove(bare.waiting, bare.waiting + count, bare.count * sizeof *taken);
        pthread_mutex_unlock(&bare.lock);
        commit(count);
        pthread_mutex_lock(&bare.lock);
        for (uint32_t i = 0; i < count; i++) {
            struct share *const share = &bare.shares[taken[i]->share];
            share->done[share->count++] = taken[i];
            pthread_cond_signal(&share->some);
        }
    }
}

// The lock is held.
static void hand_in(struct ask *ask)
{
    ask->began_s = now_s();
    bare.waiting[bare.count++] = ask;
    pthread_cond_signal(&bare.some);
}

static void *carry(void *argument)
{
    struct share *const share = argument;
    struct ask asks[CLIENTS_MAX], *done[CLIENTS_MAX];
    const uint32_t clients = bare.load->clients / CLIENTS_THREADS;
    const uint32_t total = clients * bare.load->each;
    uint32_t sent = 0, acks = 0;
    pthread_mutex_lock(&bare.lock);
    for (; sent < clients; sent++) {
        asks[sent].share = share->number;
        hand_in(&asks[sent]);
    }
    while (acks < total) {
        while (share->count == 0) {
            pthread_cond_wait(&share->some, &bare.lock);
        }
        const uint32_t count = share->count;
        memcpy(done, share->done, count * sizeof *done);
        share->count = 0;
        pthread_mutex_unlock(&bare.lock);
        const double ended_s = now_s();
        for (uint32_t i = 0; i < count; i++) {
            bare.load->time_of(bare.load->context, share->number, ended_s - done[i]->began_s);
        }
        acks += count;
        pthread_mutex_lock(&bare.lock);
        for (uint32_t i = 0; i < count && sent < total; i++, sent++) {
            hand_in(done[i]);
        }
    }
    pthread_mutex_unlock(&bare.lock);
    return NULL;
}

double bare_run(const struct bare_load *load)
{
    pthread_t writer, clients[CLIENTS_THREADS];
    bare.load = load;
    bare.end = false;
    open_all(load);
    must(pthread_create(&writer, NULL, store, NULL), "pthread_create");
    const double start = now_s();
    for (uint32_t i = 0; i < CLIENTS_THREADS; i++) {
        bare.shares[i] = (struct share){.some = PTHREAD_COND_INITIALIZER, .number = i};
        must(pthread_create(&clients[i], NULL, carry, &bare.shares[i]), "pthread_create");
    }
    for (uint32_t i = 0; i < CLIENTS_THREADS; i++) {
        pthread_join(clients[i], NULL);
    }
    const double took = now_s() - start;
    pthread_mutex_lock(&bare.lock);
    bare.end = true;
    pthread_cond_signal(&bare.some);
    pthread_mutex_unlock(&bare.lock);
    pthread_join(writer, NULL);
    mdb_env_close(bare.env);
    for (int i = 0; i < KV_TABLE_COUNT_; i++) {
        mem_free(bare.tables[i].known);
    }
    return (double)load->clients * load->each / took;
}
