// bench/erasure.c: what erasing and sealing cost, against limits (make bench-erasure).
//
//   erase   the keys of 10,000 records of one import, against bare pwrite, fdatasync and pread
//           (O_DIRECT) of the same pages; at most 3 times
//   open    a stage of mlp 784-256-10 over 2,000 records, each opened once: what the worker spends on
//           opening against its whole stage in a single pass, the least that there can be; and all there
//           is on the way (opening in the store, sealing for the lease, opening at the worker) against
//           the whole in the 4 passes of the default spec; at most 10 %
//
// Ends with 1 when a limit is missed. DIR (default: the working directory) is where files are made:
// ext4 or xfs, else the figures say little.
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/rng.h"
#include "model/learner.h"
#include "model/profile.h"
#include "model/stage.h"
#include "proto/cover.h"
#include "store/dataset.h"
#include "store/doom.h"
#include "store/private.h"

enum {
    KEYS = 10000,
    ROUNDS = 9,
    RECORDS = 2000,
    PASSES = 4, // Of each stage of the default spec: 10 epochs, 4 slices.
    PIXELS = 784,
    ROW_BYTES = 2 + PIXELS,
    SLOT = 64,
    PAGE = 4096,
    PATH_BYTES = 512,
};

static double now_s(clockid_t clock)
{
    struct timespec time;
    clock_gettime(clock, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static void must(enum err err, const char *what)
{
    if (err != OK) {
        fprintf(stderr, "bench: %s: %s\n", what, err_text());
        exit(2);
    }
}
#define MUST(expr) must((expr), #expr)

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}
static double median(double *times)
{
    qsort(times, ROUNDS, sizeof *times, compare);
    return times[ROUNDS / 2];
}

static bool line(const char *what, double ours, double reference, const char *of, double limit)
{
    const double ratio = ours / reference;
    printf("%-28s %9.2f ms   %s %9.2f ms   ratio %5.2f   limit %5.2f   %s\n", what, 1e3 * ours, of,
           1e3 * reference, ratio, limit, ratio <= limit ? "ok" : "MISSED");
    return ratio <= limit;
}

// ---------------------------------------------------------------- erasing

static double bare_once(const char *path, uint64_t first_page, uint64_t pages)
{
    static uint8_t zeros[1 << 20];
    uint8_t *back = NULL;
    const size_t bytes = pages * PAGE;
    const off_t at = (off_t)(first_page * PAGE);
    const int fd = open(path, O_RDWR), direct = open(path, O_RDONLY | O_DIRECT);
    if (fd < 0 || bytes > sizeof zeros || posix_memalign((void **)&back, PAGE, bytes) != 0) {
        exit(2);
    }
    const double start = now_s(CLOCK_MONOTONIC);
    const bool good = pwrite(fd, zeros, bytes, at) == (ssize_t)bytes && fdatasync(fd) == 0 &&
                      pread(direct >= 0 ? direct : fd, back, bytes, at) == (ssize_t)bytes &&
                      memcmp(back, zeros, bytes) == 0;
    const double took = now_s(CLOCK_MONOTONIC) - start;
    close(fd);
    close(direct);
    free(back);
    if (!good) {
        perror("bench: bare");
        exit(2);
    }
    return took;
}

// Fills the file with what is not zero, synced, as the keyring's is before.
static void bare_fill(const char *path)
{
    static uint8_t bytes[1 << 20];
    memset(bytes, 0xAB, sizeof bytes);
    const int fd = open(path, O_RDWR | O_CREAT, 0600);
    if (fd < 0 || pwrite(fd, bytes, sizeof bytes, 0) != (ssize_t)sizeof bytes ||
        fdatasync(fd) != 0) {
        perror("bench: bare");
        exit(2);
    }
    close(fd);
}

static bool bench_erase(const char *dir)
{
    char path[PATH_BYTES], bare[PATH_BYTES];
    struct master *master = NULL;
    struct keyring *keyring = NULL;
    struct key_name *const names = mem_alloc(KEYS, sizeof *names);
    uint64_t zeroed = 0, run = 0, destroyed = 0;
    double ours[ROUNDS], theirs[ROUNDS];
    snprintf(path, sizeof path, "%s/keyring.bench", dir);
    snprintf(bare, sizeof bare, "%s/bare.bench", dir);
    MUST(master_open(dir, &master));
    MUST(keyring_create(path, master));
    MUST(keyring_open(path, master, &keyring));
    MUST(keyring_settle(keyring, UINT64_MAX, &zeroed));
    keyring_generations(keyring, 1, UINT64_MAX / 2);
    for (uint64_t round = 0; round < ROUNDS; round++) { // In turn, so that the disk is the same.
        keyring_reserve(keyring, KEYS, &run);
        for (size_t i = 0; i < KEYS; i++) {
            uint8_t key[SEAL_KEY_BYTES];
            keyring_make(keyring, run + i, &names[i], key);
        }
        MUST(keyring_flush(keyring));
        keyring_end(keyring, true);
        bare_fill(bare);
        const uint64_t first = (PAGE + names[0].slot * SLOT) / PAGE;
        const uint64_t last = (PAGE + names[KEYS - 1].slot * SLOT) / PAGE;
        theirs[round] = bare_once(bare, first, last - first + 1);
        const double start = now_s(CLOCK_MONOTONIC);
        MUST(keyring_erase(keyring, names, KEYS, round + 1, &destroyed));
        ours[round] = now_s(CLOCK_MONOTONIC) - start;
        keyring_end(keyring, true);
        if (destroyed != KEYS) {
            exit(2);
        }
    }
    keyring_close(keyring);
    master_close(master);
    mem_free(names);
    return line("erase 10,000 keys", median(ours), median(theirs), "bare", 3);
}

// ---------------------------------------------------------------- opening

static void make_schema(struct schema *schema_out)
{
    static char digits[10][2], name[] = "x", label[] = "y";
    char *classes[10];
    struct column column = {
        .name = name, .kind = COLUMN_PIXELS, .width = PIXELS, .rows = 28, .cols = 28, .scale = 1};
    for (int i = 0; i < 10; i++) {
        digits[i][0] = (char)('0' + i);
        classes[i] = digits[i];
    }
    const struct schema schema = {.columns = &column,
                                  .column_count = 1,
                                  .task = TASK_CLASSES,
                                  .label = label,
                                  .classes = classes,
                                  .class_count = 10};
    struct buf bytes = {0};
    schema_put(&schema, &bytes);
    MUST(schema_get(buf_span(&bytes), schema_out));
    buf_deinit(&bytes);
}

static void import_all(struct store *store)
{
    static uint8_t row[ROW_BYTES];
    struct txn *txn;
    struct import_counts counts;
    uint64_t import = 0;
    struct dataset_row dataset = {.number = 1, .name = "bench", .generation_closed = 1};
    MUST(txn_begin(store, true, &txn));
    MUST(dataset_put(txn, &dataset));
    MUST(import_begin(txn, 1, 1, false, &import));
    for (uint32_t i = 0; i < RECORDS; i++) {
        char id[16];
        struct import_row one = {.row = span_of(row, sizeof row)};
        snprintf(id, sizeof id, "%u", i);
        one.id = span_text(id);
        digest_random(row, sizeof row);
        row[0] = (uint8_t)(i % 10);
        row[1] = 0;
        digest_random(one.rid.bytes, ID_BYTES);
        digest_random(one.sid.bytes, ID_BYTES);
        MUST(import_stage(txn, import, &one, 1, i));
    }
    MUST(import_commit(txn, import, &counts));
    MUST(txn_end(txn, OK));
}

static bool take(void *context, const struct record *record)
{
    struct buf *const bytes = context;
    buf_put(bytes, span_of(record->key.rid.bytes, ID_BYTES));
    buf_put(bytes, record->row);
    return true;
}

static bool bench_open(const char *dir)
{
    struct store *store = NULL;
    struct txn *txn;
    struct schema schema;
    struct spec spec = spec_default();
    struct buf plain = {0}, sealed = {0};
    const uint8_t key[SEAL_KEY_BYTES] = {1};
    const struct cover cover = {.lease = 1, .stream = 1};
    static const uint16_t list[1] = {0};
    uint64_t count = RECORDS, param_count = 0;
    double worker[ROUNDS], worker_stage[ROUNDS], way[ROUNDS], way_stage[ROUNDS];
    MUST(store_open(dir, (uint64_t)1 << 30, &store));
    import_all(store);
    make_schema(&schema);
    MUST(spec_set(&spec, "hidden", "256"));
    MUST(spec_set(&spec, "batch", "32"));
    MUST(spec_set(&spec, "shards", "1"));
    MUST(spec_set(&spec, "slices", "1"));
    const struct recipe recipe = {&spec, &schema, NULL};
    MUST(learner_param_count(&recipe, 1, &param_count));
    struct span *const rows = mem_alloc(RECORDS, sizeof *rows);
    struct id128 *const rids = mem_alloc(RECORDS, sizeof *rids);
    float *params = NULL;
    MUST(mem_try_aligned(param_count, sizeof *params, &params));
    buf_reserve(&plain, (size_t)RECORDS * (ID_BYTES + ROW_BYTES));
    uint8_t *const opened = mem_alloc(RECORDS, ID_BYTES + ROW_BYTES);
    // Time of this thread: all of it is computing, and other processes do not count.
    for (int round = 0; round < ROUNDS; round++) {
        const double start = now_s(CLOCK_THREAD_CPUTIME_ID);
        buf_clear(&plain);
        MUST(txn_begin(store, false, &txn));
        MUST(record_walk(txn, 1, &(struct record_range){1, 0, UINT8_MAX, 0, UINT64_MAX}, NULL,
                         false, take, &plain));
        MUST(txn_end(txn, OK));
        cover_put(key, &cover, buf_span(&plain), &sealed);
        const double sent = now_s(CLOCK_THREAD_CPUTIME_ID);
        MUST(cover_get(key, &cover, buf_span(&sealed), opened));
        const double came = now_s(CLOCK_THREAD_CPUTIME_ID);
        for (size_t i = 0; i < RECORDS; i++) {
            const uint8_t *const at = opened + i * (ID_BYTES + ROW_BYTES);
            memcpy(rids[i].bytes, at, ID_BYTES);
            rows[i] = span_of(at + ID_BYTES, ROW_BYTES);
        }
        const struct stage_data data = {rows, rids, &count, RECORDS};
        struct stage stage = {
            .recipe = recipe, .shard = 0, .list = list, .list_count = 1, .passes = 1};
        MUST(stage_train(&stage, &data, NULL, NULL, params));
        const double once = now_s(CLOCK_THREAD_CPUTIME_ID);
        stage.passes = PASSES;
        MUST(stage_train(&stage, &data, NULL, NULL, params));
        const double passes = now_s(CLOCK_THREAD_CPUTIME_ID) - once;
        worker[round] = came - sent;
        worker_stage[round] = once - sent;
        way[round] = came - start;
        way_stage[round] = came - start + passes;
    }
    store_close(store);
    schema_deinit(&schema);
    buf_deinit(&plain);
    buf_deinit(&sealed);
    mem_free(rows);
    mem_free(rids);
    mem_free(params);
    mem_free(opened);
    const bool first =
        line("open at the worker, 1 pass", median(worker), median(worker_stage), "stage", 0.10);
    return line("open on all the way, 4", median(way), median(way_stage), "stage", 0.10) && first;
}

int main(int argc, char **argv)
{
    char dir[PATH_BYTES], command[3 * PATH_BYTES];
    if (profile_pin(argv) != OK || digest_start() != OK) {
        return 2;
    }
    snprintf(dir, sizeof dir, "%.200s/erasure.XXXXXX", argc > 1 ? argv[1] : ".");
    if (mkdtemp(dir) == NULL) {
        perror("bench");
        return 2;
    }
    MUST(store_create(dir));
    const bool erased = bench_erase(dir);
    const bool opened = bench_open(dir);
    snprintf(command, sizeof command, "rm -rf '%s' '%s.master'", dir, dir);
    return system(command) == 0 && erased && opened ? 0 : 1; // NOLINT(cert-env33-c)
}
