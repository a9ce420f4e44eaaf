// bench/deletions.c: acks and predictions under deletions, against limits (make bench-deletions).
//
// A real cluster on loopback: a data set of small records, a softmax of 16 shards and 4 slices over it, one
// worker. Clients are threads of this process with libunlearn.
//
// Predictions are asked of a second model over a data set of its own: a flood leaves nothing valid in the
// first one, and a refusal costs less than an answer. Quiet and flooded, the same client asks the same.
//
//   flood  64 clients delete single records, one at a time each; another client predicts meanwhile
//   bulk   one request of many ids (unlearnd was started anew before, so that the longest turn of its loop is
//          of this time); one client predicts, another deletes single records
//
// The reference of the flood is bare LMDB in this process, beside the cluster's directory: 64 threads
// hand in requests and wait; one thread takes all that waits (at most 64: the coordinator's bound of 256 is
// never reached), puts for each the rows of
// `rows` below (tables, key and value sizes as the coordinator's own transaction of an ack writes
// them; keys of hashes are drawn, keys of numbers count up) and commits with sync, with the flags of
// store/kv.c. It looks nothing up, hashes and signs nothing, has no network, and neither erases nor
// repairs afterwards, all of which the coordinator does on the same processors during the flood.
//
// Ends with 1 when a limit is missed. Usage: deletions DIR [quick]; UNLEARN_BIN: the programs.
#include <limits.h>
#include <lmdb.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"
#include "client/unlearn.h"
#include "model/profile.h"
#include "model/schema.h"
#include "model/spec.h"

enum {
    CLIENTS = 64,
    FEATURES = 4,
    ROW_BYTES = 2 + 4 * FEATURES,
    PROBES = 16,
    PATH_BYTES = 512,
    SAMPLES_MAX = 1 << 20,
    TABLES = 11,
    OTHER = 20000,
};

static uint32_t records = 400000, each = 100, bulk_ids = 100000, quiet = 500;
static char dir[PATH_BYTES];

static double now_s(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static void must(bool good, const char *what)
{
    if (!good) {
        fprintf(stderr, "bench: %s: %s\n", what, err_text());
        _exit(2);
    }
}
#define MUST(expr) must((expr) == OK, #expr)

static void ctl(const char *arguments)
{
    char command[2 * PATH_BYTES];
    const char *const bin = getenv("UNLEARN_BIN");
    snprintf(command, sizeof command, "UNLEARN_DIR=%s/c '%s/unlearnctl' %s >%s/out 2>&1", dir,
             bin == NULL ? "bin" : bin, arguments, dir);
    must(system(command) == 0, arguments); // NOLINT(cert-env33-c)
}

// ---------------------------------------------------------------- times

struct times {
    double *at;
    size_t count;
};

static void times_add(struct times *times, double value)
{
    if (times->at == NULL) {
        times->at = mem_alloc(SAMPLES_MAX, sizeof *times->at);
    }
    if (times->count < SAMPLES_MAX) {
        times->at[times->count++] = value;
    }
}
static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}
static double quantile(struct times *times, double q)
{
    must(times->count > 0, "nothing was measured");
    qsort(times->at, times->count, sizeof *times->at, compare);
    return times->at[(size_t)(q * (double)(times->count - 1))];
}
static void describe(const char *what, struct times *times)
{
    printf("  %-34s n %6zu   p50 %8.2f   p99 %8.2f   longest %8.2f ms\n", what, times->count,
           1e3 * quantile(times, 0.5), 1e3 * quantile(times, 0.99), 1e3 * quantile(times, 1));
}

static bool line(const char *what, double ours, double reference, double limit, bool least)
{
    const double ratio = ours / reference;
    const bool good = least ? ratio >= limit : ratio <= limit;
    printf("%-34s ours %9.2f   reference %9.2f   ratio %6.2f   limit %5.2f   %s\n", what, ours,
           reference, ratio, limit, good ? "ok" : "MISSED");
    fflush(stdout);
    return good;
}

// ---------------------------------------------------------------- the reference

enum kind { ONE, CELL, HASH, NUMBER }; // Keys: one; of 64; drawn; counting up.

// The rows that one request's transaction puts in the coordinator, counted at mdb_put: a record of a
// slice after which 3 components come, all of them valid before. Sizes are as stored.
static const struct row {
    unsigned table, key, value;
    enum kind kind;
} rows[] = {
    {0, 12, 83, NUMBER}, {1, 21, 49, HASH},   {2, 4, 280, ONE},     {3, 12, 49, CELL},
    {4, 12, 154, CELL},  {0, 12, 50, NUMBER}, {4, 14, 154, CELL},   {0, 12, 50, NUMBER},
    {4, 16, 154, CELL},  {0, 12, 50, NUMBER}, {5, 12, 108, NUMBER}, {6, 20, 73, NUMBER},
    {6, 22, 73, NUMBER}, {6, 24, 73, NUMBER}, {7, 1, 49, ONE},      {8, 8, 183, NUMBER},
    {9, 16, 49, HASH},   {10, 8, 41, NUMBER},
};

struct ask {
    pthread_cond_t done;
    bool ready;
};
static struct {
    pthread_mutex_t lock;
    pthread_cond_t some;
    struct ask *waiting[CLIENTS];
    uint32_t count;
    bool end;
    MDB_env *env;
    MDB_dbi dbi[TABLES];
    uint64_t number;
} bare = {.lock = PTHREAD_MUTEX_INITIALIZER, .some = PTHREAD_COND_INITIALIZER};

static void bare_key(const struct row *row, uint8_t which, uint8_t key_out[static 511])
{
    memset(key_out, 0, row->key);
    if (row->kind == HASH) {
        digest_random(key_out, row->key);
    } else if (row->kind == CELL) {
        digest_random(key_out, 1);
        key_out[0] &= 63;
    } else if (row->kind == NUMBER) { // Big-endian, then which of the request's rows.
        for (unsigned i = 0; i < 8; i++) {
            key_out[i] = (uint8_t)(bare.number >> (56 - 8 * i));
        }
        if (row->key > 8) {
            key_out[row->key - 1] = which;
        }
    }
}

static void bare_commit(uint32_t count)
{
    static uint8_t key[511], value[4096];
    MDB_txn *txn = NULL;
    must(mdb_txn_begin(bare.env, NULL, 0, &txn) == 0, "mdb_txn_begin");
    for (uint32_t i = 0; i < count; i++) {
        bare.number++;
        for (size_t r = 0; r < sizeof rows / sizeof rows[0]; r++) {
            const struct row *const row = &rows[r];
            MDB_val k = {row->key, key}, v = {row->value, value};
            bare_key(row, (uint8_t)r, key);
            must(mdb_put(txn, bare.dbi[row->table], &k, &v, 0) == 0, "mdb_put");
        }
    }
    must(mdb_txn_commit(txn) == 0, "mdb_txn_commit");
}

static void *bare_store(void *unused)
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
        struct ask *taken[CLIENTS];
        const uint32_t count = bare.count;
        memcpy(taken, bare.waiting, sizeof taken);
        bare.count = 0;
        pthread_mutex_unlock(&bare.lock);
        bare_commit(count);
        pthread_mutex_lock(&bare.lock);
        for (uint32_t i = 0; i < count; i++) {
            taken[i]->ready = true;
            pthread_cond_signal(&taken[i]->done);
        }
    }
}

static void *bare_client(void *times)
{
    struct ask ask = {.done = PTHREAD_COND_INITIALIZER};
    for (uint32_t i = 0; i < each; i++) {
        const double start = now_s();
        pthread_mutex_lock(&bare.lock);
        ask.ready = false;
        bare.waiting[bare.count++] = &ask;
        pthread_cond_signal(&bare.some);
        while (!ask.ready) {
            pthread_cond_wait(&ask.done, &bare.lock);
        }
        pthread_mutex_unlock(&bare.lock);
        times_add(times, now_s() - start);
    }
    return NULL;
}

static void bare_open(void)
{
    char path[PATH_BYTES + 16], name[16];
    MDB_txn *txn = NULL;
    snprintf(path, sizeof path, "%s/bare", dir);
    must(mkdir(path, 0700) == 0 && mdb_env_create(&bare.env) == 0 &&
             mdb_env_set_mapsize(bare.env, (size_t)4 << 30) == 0 &&
             mdb_env_set_maxdbs(bare.env, TABLES) == 0 &&
             mdb_env_open(bare.env, path, 0, 0600) == 0 &&
             mdb_txn_begin(bare.env, NULL, 0, &txn) == 0,
         "bare LMDB");
    for (int i = 0; i < TABLES; i++) {
        snprintf(name, sizeof name, "t%d", i);
        must(mdb_dbi_open(txn, name, MDB_CREATE, &bare.dbi[i]) == 0, "mdb_dbi_open");
    }
    must(mdb_txn_commit(txn) == 0, "mdb_txn_commit");
}

// Runs 64 clients and returns the requests a second; their times into `all`.
static double run_clients(void *(*client)(void *), struct times *all)
{
    pthread_t threads[CLIENTS];
    static struct times mine[CLIENTS];
    const double start = now_s();
    for (int i = 0; i < CLIENTS; i++) {
        must(pthread_create(&threads[i], NULL, client, &mine[i]) == 0, "pthread_create");
    }
    for (int i = 0; i < CLIENTS; i++) {
        pthread_join(threads[i], NULL);
    }
    const double took = now_s() - start;
    for (int i = 0; i < CLIENTS; i++) {
        for (size_t n = 0; n < mine[i].count; n++) {
            times_add(all, mine[i].at[n]);
        }
        mem_free(mine[i].at);
        mine[i] = (struct times){0};
    }
    return (double)all->count / took;
}

// ---------------------------------------------------------------- ours

static _Atomic uint32_t next_id;
static atomic_bool stop;
static uint8_t probe[ROW_BYTES];

static void connect_to(struct unlearn **client)
{
    char path[PATH_BYTES + 8];
    snprintf(path, sizeof path, "%s/c", dir);
    MUST(unlearn_open_dir(path, client));
}

static void delete_one(struct unlearn *client, struct times *times)
{
    char id[16];
    const char *const text = id;
    const struct id128 uuid = text_uuid_new();
    const Unlearn__RequestState *state;
    snprintf(id, sizeof id, "r%u", atomic_fetch_add(&next_id, 1));
    const double start = now_s();
    MUST(unlearn_delete(client, "d", &uuid, (struct unlearn_ids){&text, 1},
                        (struct unlearn_ids){NULL, 0}, NULL, &state));
    times_add(times, now_s() - start);
}

static void *our_client(void *times)
{
    struct unlearn *client;
    connect_to(&client);
    for (uint32_t i = 0; i < each; i++) {
        delete_one(client, times);
    }
    unlearn_close(client);
    return NULL;
}

static void *single_client(void *times)
{
    struct unlearn *client;
    connect_to(&client);
    while (!stop) {
        delete_one(client, times);
    }
    unlearn_close(client);
    return NULL;
}

static void predict_one(struct unlearn *client, struct unlearn_batch *batch, struct times *times)
{
    const Unlearn__Prediction *prediction;
    const float *values;
    const double start = now_s();
    MUST(unlearn_predict(client, "n", batch, &prediction, &values));
    times_add(times, now_s() - start);
}

static void *predict_client(void *times)
{
    struct unlearn *client;
    struct unlearn_batch batch = {.width = 2};
    connect_to(&client);
    for (int i = 0; i < PROBES; i++) {
        must(unlearn_batch_add(&batch, span_of(probe, ROW_BYTES)), "batch");
    }
    for (uint32_t i = 0; stop ? i < quiet : true; i++) {
        predict_one(client, &batch, times);
    }
    unlearn_batch_deinit(&batch);
    unlearn_close(client);
    return NULL;
}

static void import_all(struct unlearn *client, const char *dataset, uint32_t count)
{
    static char names[FEATURES][4], label[] = "y", classes[2][2] = {"a", "b"};
    static char *class_names[2] = {classes[0], classes[1]};
    struct column columns[FEATURES];
    struct buf bytes = {0};
    for (int i = 0; i < FEATURES; i++) {
        snprintf(names[i], sizeof names[i], "x%d", i);
        columns[i] =
            (struct column){.name = names[i], .kind = COLUMN_NUMERIC, .width = 1, .scale = 1};
    }
    const struct schema schema = {.columns = columns,
                                  .column_count = FEATURES,
                                  .task = TASK_CLASSES,
                                  .label = label,
                                  .classes = class_names,
                                  .class_count = 2};
    schema_put(&schema, &bytes);
    const struct unlearn_import_options options = {.dataset = dataset, .schema = buf_span(&bytes)};
    struct unlearn_import *import;
    const Unlearn__ImportDone *done;
    MUST(unlearn_import_begin(client, &options, &import));
    for (uint32_t i = 0; i < count; i++) {
        char id[16];
        struct buf row = {0};
        snprintf(id, sizeof id, "r%u", i);
        buf_u16(&row, (uint16_t)(i % 2));
        for (int x = 0; x < FEATURES; x++) {
            buf_f32(&row, (float)((i * 7 + (uint32_t)x * 13) % 101) / 101);
        }
        MUST(unlearn_import_add(import, span_text(id), span_of(NULL, 0), 0, buf_span(&row)));
        buf_deinit(&row);
    }
    MUST(unlearn_import_commit(import, &done));
    unlearn_import_end(import);
    buf_deinit(&bytes);
}

static void train(struct unlearn *client, const char *model, const char *dataset)
{
    struct spec spec = spec_default();
    struct buf text = {0};
    const Unlearn__Trained *trained;
    MUST(spec_set(&spec, "learner", "softmax"));
    MUST(spec_set(&spec, "shards", "16"));
    MUST(spec_set(&spec, "slices", "4"));
    MUST(spec_set(&spec, "epochs", "1"));
    spec_put(&spec, &text);
    MUST(unlearn_train(client, model, dataset, buf_span(&text), false, "", &trained));
    buf_deinit(&text);
    char wait[64];
    snprintf(wait, sizeof wait, "train %s --wait", model);
    ctl(wait);
}

static bool bench_flood(struct times *calm)
{
    struct times theirs = {0}, ours = {0}, predicted = {0};
    pthread_t predictor, store;
    must(pthread_create(&store, NULL, bare_store, NULL) == 0, "pthread_create");
    const double bare_rate = run_clients(bare_client, &theirs);
    pthread_mutex_lock(&bare.lock);
    bare.end = true;
    pthread_cond_signal(&bare.some);
    pthread_mutex_unlock(&bare.lock);
    pthread_join(store, NULL);
    stop = false;
    must(pthread_create(&predictor, NULL, predict_client, &predicted) == 0, "pthread_create");
    fprintf(stderr, "FLOOD\n");
    const double rate = run_clients(our_client, &ours);
    fprintf(stderr, "END\n");
    quiet = 0;
    stop = true;
    pthread_join(predictor, NULL);
    describe("bare LMDB, 64 producers", &theirs);
    describe("acks, 64 clients", &ours);
    describe("predictions, quiet", calm);
    describe("predictions, flood", &predicted);
    bool good = line("acks a second, 64 clients", rate, bare_rate, 0.5, true);
    good &= line("p99 of acks, ms", 1e3 * quantile(&ours, 0.99), 1e3 * quantile(&theirs, 0.99), 3,
                 false);
    return line("p99 of predictions, flood, ms", 1e3 * quantile(&predicted, 0.99),
                1e3 * quantile(calm, 0.99), 3, false) &&
           good;
}

static bool bench_bulk(struct times *calm)
{
    struct times predicted = {0}, acks = {0};
    struct unlearn *client;
    pthread_t predictor, single;
    const Unlearn__RequestState *state;
    const Unlearn__Cluster *cluster;
    const struct id128 uuid = text_uuid_new();
    char(*const ids)[16] = mem_alloc(bulk_ids, sizeof *ids);
    const char **const texts = mem_alloc(bulk_ids, sizeof *texts);
    for (uint32_t i = 0; i < bulk_ids; i++) {
        snprintf(ids[i], sizeof ids[i], "r%u", records - 1 - i);
        texts[i] = ids[i];
    }
    ctl("down");
    char up[PATH_BYTES + 64];
    snprintf(up, sizeof up, "up %s/c --ranks 1 --detach", dir);
    ctl(up); // The longest turn is of what follows.
    connect_to(&client);
    unlearn_set_timeout(client, 600000);
    stop = false;
    must(pthread_create(&predictor, NULL, predict_client, &predicted) == 0 &&
             pthread_create(&single, NULL, single_client, &acks) == 0,
         "pthread_create");
    const double start = now_s();
    MUST(unlearn_delete(client, "d", &uuid, (struct unlearn_ids){texts, bulk_ids},
                        (struct unlearn_ids){NULL, 0}, NULL, &state));
    const double took = now_s() - start;
    stop = true;
    pthread_join(predictor, NULL);
    pthread_join(single, NULL);
    MUST(unlearn_cluster_show(client, &cluster));
    printf("  bulk of %u ids: acknowledged after %.2f s\n", bulk_ids, took);
    describe("acks during the bulk", &acks);
    describe("predictions during the bulk", &predicted);
    bool good = line("longest turn in the bulk, ms", (double)cluster->activity->turn_us / 1e3, 20,
                     1, false);
    good &= line("p99 of predictions, bulk, ms", 1e3 * quantile(&predicted, 0.99),
                 1e3 * quantile(calm, 0.99), 3, false);
    unlearn_close(client);
    mem_free(ids);
    mem_free(texts);
    return good;
}

int main(int argc, char **argv)
{
    struct times calm = {0};
    struct unlearn *client;
    char text[PATH_BYTES + 64], command[3 * PATH_BYTES];
    if (profile_pin(argv) != OK || digest_start() != OK) {
        return 2;
    }
    if (argc > 2 && strcmp(argv[2], "quick") == 0) {
        records = 120000;
        each = 20;
        bulk_ids = 50000;
    }
    if (getenv("EACH") != NULL) {
        each = (uint32_t)atoi(getenv("EACH"));
    }
    static char base[PATH_MAX];
    must(realpath(argc > 1 ? argv[1] : ".", base) != NULL && strlen(base) < 200, "DIR");
    snprintf(dir, sizeof dir, "%.200s/deletions.XXXXXX", base);
    must(mkdtemp(dir) != NULL, "mkdtemp");
    snprintf(text, sizeof text, "init %s/c", dir);
    ctl(text);
    snprintf(text, sizeof text, "up %s/c --ranks 1 --detach", dir);
    ctl(text);
    bare_open();
    connect_to(&client);
    import_all(client, "d", records);
    train(client, "m", "d");
    import_all(client, "e", OTHER);
    train(client, "n", "e");
    unlearn_close(client);
    stop = true; // As many as `quiet` says.
    predict_client(&calm);
    const bool flood = bench_flood(&calm);
    const bool bulk = bench_bulk(&calm);
    ctl("down");
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    return system(command) == 0 && flood && bulk ? 0 : 1; // NOLINT(cert-env33-c)
}
