// scheduler/simulate.c: see simulate.h.
//
// A trial of 10 shards and 8 slices is some 400 deletions, so a deletion must cost a few
// nanoseconds. Several cells are therefore cut out of one 64-bit word: a word is a fraction, times n
// its whole part is a cell and what is left is a fraction again. That stays exactly uniform if words
// are refused whose last rest is below 2^64 mod n^k.
//
// Source    Brackett-Rozinsky, Lemire, "Batched Ranged Random Integer Generation", Software: Practice
//           and Experience 55, 2025; Walker's alias method in Vose's form, IEEE Trans. Software
//           Eng. 17, 1991.
#include "scheduler/simulate.h"

#include <math.h>
#include <string.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/mem.h"

__extension__ typedef unsigned __int128 wide; // Standard C has no product of two 64-bit numbers.

struct stream { // The words of one trial.
    struct rng_key key;
    uint64_t trial;
    uint64_t spare;
    uint32_t block;
    bool has_spare;
};

struct batch { // So many cells come out of one word.
    uint32_t size;
    uint64_t refuse_below; // 2^64 mod cells^size
    uint64_t power;        // cells^size
};

struct alias {     // Of one slice: itself if a 32-bit draw is below `keep`, else `other`.
    uint64_t keep; // Up to 2^32.
    uint32_t other;
};

struct running { // Welford's mean and sum of squared distances.
    double mean, squares;
};

struct simulate {
    struct simulate_setup setup; // `probabilities` is ours.
    struct rng_key key;
    uint32_t cells; // shards * slices; cell = shard * slices + slice
    struct batch batch;
    struct alias *alias;   // [slices]
    double *probabilities; // [slices], or NULL
    uint16_t *orders;      // [budget][slices]
    uint16_t *shard_of;    // [cells]
    uint8_t *alive_first;  // [slices]: what a shard's part of `alive` begins with.
    uint8_t *alive;        // [cells]: an order begins there and it was not hit.
    uint16_t *left;        // [shards]: alive cells
    uint32_t *untouched;   // [cells], for WITHOUT: a permutation; behind `deletions` not hit yet.
    uint32_t firsts;       // Alive cells of a shard at first.
    uint64_t trials;
    struct running exhausted, first_lost;
    // The trial under way.
    struct stream stream;
    uint32_t shards_left;
    uint64_t deletions;
    uint64_t lost_at; // 0: no shard is lost yet.
};

// --- Random numbers ---

static uint64_t next_word(struct stream *stream)
{
    if (stream->has_spare) {
        stream->has_spare = false;
        return stream->spare;
    }
    const uint32_t counter[4] = {stream->block++, (uint32_t)stream->trial,
                                 (uint32_t)(stream->trial >> 32), 0};
    uint32_t words[4];
    rng_philox(stream->key, counter, words);
    stream->spare = (uint64_t)words[3] << 32 | words[2];
    stream->has_spare = true;
    return (uint64_t)words[1] << 32 | words[0];
}

// 0 .. below-1. *rest_out: a fraction that is left, coarser by `below`.
static uint32_t cut(uint64_t word, uint32_t below, uint64_t *rest_out)
{
    const wide product = (wide)word * below;
    *rest_out = (uint64_t)product;
    return (uint32_t)(product >> 64);
}

static uint32_t uniform_below(struct stream *stream, uint32_t below)
{
    for (;;) {
        uint64_t rest;
        const uint32_t value = cut(next_word(stream), below, &rest);
        if (rest >= below || rest >= (UINT64_MAX % below + 1) % below) { // Almost always the first.
            return value;
        }
    }
}

static void batch_init(struct batch *batch, uint32_t cells)
{
    batch->power = cells;
    batch->size = 1;
    while (cells > 1 && batch->power <= ((uint64_t)1 << 56) / cells) { // Refuses 1 word of 256.
        batch->power *= cells;
        batch->size++;
    }
    batch->refuse_below = (UINT64_MAX % batch->power + 1) % batch->power;
}

enum { BATCH_MAX = 56 }; // Cells = 2

static void draw_batch(const struct batch *batch, uint32_t cells, struct stream *stream,
                       uint32_t out[static BATCH_MAX])
{
    uint64_t rest;
    do {
        rest = next_word(stream);
        for (uint32_t i = 0; i < batch->size; i++) {
            out[i] = cut(rest, cells, &rest);
        }
    } while (rest < batch->refuse_below);
}

// --- One trial ---

static void hit(struct simulate *s, uint32_t cell)
{
    if (!s->alive[cell]) {
        return;
    }
    s->alive[cell] = 0;
    if (--s->left[s->shard_of[cell]] == 0) {
        s->lost_at = s->lost_at == 0 ? s->deletions : s->lost_at;
        s->shards_left--;
    }
}

static void run_with(struct simulate *s)
{
    uint32_t cells[BATCH_MAX] = {0};
    while (s->shards_left > 0) {
        draw_batch(&s->batch, s->cells, &s->stream, cells);
        for (uint32_t i = 0; i < s->batch.size && s->shards_left > 0; i++) {
            s->deletions++;
            hit(s, cells[i]);
        }
    }
}

static void run_without(struct simulate *s)
{
    for (uint32_t i = 0; i < s->cells; i++) {
        s->untouched[i] = i;
    }
    while (s->shards_left > 0) {
        const uint32_t at = (uint32_t)s->deletions;
        const uint32_t chosen = at + uniform_below(&s->stream, s->cells - at);
        const uint32_t cell = s->untouched[chosen];
        s->untouched[chosen] = s->untouched[at];
        s->deletions++;
        hit(s, cell);
    }
}

static void run_given(struct simulate *s)
{
    const uint32_t slices = s->setup.slices;
    while (s->shards_left > 0) {
        uint32_t cell = uniform_below(&s->stream, s->cells);
        const uint32_t slice = cell % slices;
        if (next_word(&s->stream) >> 32 >= s->alias[slice].keep) {
            cell = cell - slice + s->alias[slice].other;
        }
        s->deletions++;
        hit(s, cell);
    }
}

static void run_subjects(struct simulate *s)
{
    uint32_t cells[BATCH_MAX] = {0}, at = s->batch.size;
    while (s->shards_left > 0) {
        s->deletions++;
        for (uint32_t record = 0; record < s->setup.records; record++) {
            if (at == s->batch.size) {
                draw_batch(&s->batch, s->cells, &s->stream, cells);
                at = 0;
            }
            hit(s, cells[at++]);
        }
    }
}

// Which cells the orders begin with.
static void choose_firsts(struct simulate *s, uint64_t trial)
{
    const struct simulate_setup *const setup = &s->setup;
    struct buf name = {0};
    buf_u64(&name, setup->seed);
    buf_u64(&name, trial);
    const struct rng_key key = rng_key_of("unlearnd-simord", buf_span(&name));
    buf_deinit(&name);
    const uint32_t count = sequence_make(setup->policy, setup->slices, setup->budget,
                                         s->probabilities, key, s->orders);
    memset(s->alive_first, 0, setup->slices);
    s->firsts = 0;
    for (uint32_t b = 0; b < count; b++) {
        uint8_t *const first = &s->alive_first[s->orders[(size_t)b * setup->slices]];
        s->firsts += *first == 0;
        *first = 1;
    }
}

static void begin_trial(struct simulate *s)
{
    const struct simulate_setup *const setup = &s->setup;
    if (s->trials == 0 || setup->policy == SEQUENCE_RANDOM || setup->policy == SEQUENCE_SAMPLING) {
        choose_firsts(s, s->trials);
    }
    for (uint32_t shard = 0; shard < setup->shards; shard++) {
        memcpy(s->alive + (size_t)shard * setup->slices, s->alive_first, setup->slices);
        s->left[shard] = (uint16_t)s->firsts;
    }
    s->stream = (struct stream){.key = s->key, .trial = s->trials};
    s->shards_left = setup->shards;
    s->deletions = 0;
    s->lost_at = 0;
}

static void add(struct running *running, double value, uint64_t count)
{
    const double away = value - running->mean;
    running->mean += away / (double)count;
    running->squares += away * (value - running->mean);
}

void simulate_run(struct simulate *simulate, uint64_t trials)
{
    static void (*const run[])(struct simulate *) = {[SIMULATE_WITH] = run_with,
                                                     [SIMULATE_WITHOUT] = run_without,
                                                     [SIMULATE_GIVEN] = run_given,
                                                     [SIMULATE_SUBJECTS] = run_subjects};
    for (uint64_t i = 0; i < trials; i++) {
        begin_trial(simulate);
        run[simulate->setup.deletions](simulate);
        simulate->trials++;
        add(&simulate->exhausted, (double)simulate->deletions, simulate->trials);
        add(&simulate->first_lost, (double)simulate->lost_at, simulate->trials);
    }
}

static struct simulate_mean mean_of(const struct running *running, uint64_t count)
{
    const double n = (double)count;
    return (struct simulate_mean){
        .mean = running->mean,
        .sem = count < 2 ? (double)NAN : sqrt(running->squares / (n - 1) / n),
    };
}

struct simulate_result simulate_result(const struct simulate *simulate)
{
    CHECK(simulate->trials > 0);
    return (struct simulate_result){
        .trials = simulate->trials,
        .until_exhausted = mean_of(&simulate->exhausted, simulate->trials),
        .until_first_lost = mean_of(&simulate->first_lost, simulate->trials),
    };
}

// --- Setting up ---

static enum err check_count(const char *what, uint32_t found, uint32_t max)
{
    if (found == 0 || found > max) {
        FAIL(ERR_INVALID, "%s is %u, expected 1 to %u", what, found, max);
    }
    return OK;
}

static enum err check_probabilities(const struct simulate_setup *setup)
{
    double sum = 0;
    for (uint32_t i = 0; i < setup->slices; i++) {
        const double p = setup->probabilities[i];
        if (!isfinite(p) || p <= 0) {
            FAIL(ERR_INVALID, "the probability of slice %u is %g, expected a number above 0", i, p);
        }
        sum += p;
    }
    for (uint32_t i = 0; i < setup->slices; i++) {
        if (!(setup->probabilities[i] / sum >= SIMULATE_PROBABILITY_MIN)) {
            FAIL(ERR_INVALID,
                 "the probability of slice %u is %g of their sum, expected at least %g", i,
                 setup->probabilities[i] / sum, SIMULATE_PROBABILITY_MIN);
        }
    }
    return OK;
}

static enum err check(const struct simulate_setup *setup)
{
    TRY(check_count("shards", setup->shards, LIMIT_SHARDS));
    TRY(check_count("slices", setup->slices, LIMIT_SLICES));
    TRY(check_count("budget", setup->budget, LIMIT_SEQUENCES));
    if (!sequence_fits(setup->slices, setup->budget)) {
        FAIL(ERR_INVALID, "budget is %u, expected at most the number of orders of %u slices",
             setup->budget, setup->slices);
    }
    if (setup->policy == SEQUENCE_BMS && setup->budget > setup->slices) {
        FAIL(ERR_INVALID, "budget is %u, expected at most the number of slices, %u, with bms",
             setup->budget, setup->slices);
    }
    if (setup->deletions == SIMULATE_SUBJECTS) {
        TRY(check_count("records", setup->records, SIMULATE_RECORDS_MAX));
    }
    return setup->probabilities == NULL ? OK : check_probabilities(setup);
}

// Vose: what a slice lacks to the mean is filled up by one that has more.
static void alias_init(struct alias *alias, uint32_t slices, const double *probabilities)
{
    double scaled[LIMIT_SLICES], sum = 0;
    uint32_t small[LIMIT_SLICES] = {0}, large[LIMIT_SLICES] = {0}, small_count = 0, large_count = 0;
    for (uint32_t i = 0; i < slices; i++) {
        sum += probabilities == NULL ? 1.0 : probabilities[i];
    }
    for (uint32_t i = 0; i < slices; i++) {
        scaled[i] = (probabilities == NULL ? 1.0 : probabilities[i]) / sum * slices;
        alias[i] = (struct alias){.keep = (uint64_t)1 << 32, .other = i};
        if (scaled[i] < 1) {
            small[small_count++] = i;
        } else {
            large[large_count++] = i;
        }
    }
    while (small_count > 0 && large_count > 0) {
        const uint32_t poor = small[--small_count], rich = large[large_count - 1];
        alias[poor] = (struct alias){.keep = (uint64_t)(scaled[poor] * 0x1p32), .other = rich};
        scaled[rich] -= 1 - scaled[poor];
        if (scaled[rich] < 1) {
            large_count--;
            small[small_count++] = rich;
        }
    }
}

enum err simulate_open(const struct simulate_setup *setup, struct simulate **simulate_out)
{
    *simulate_out = NULL;
    TRY(check(setup));
    struct simulate *const s = mem_alloc(1, sizeof *s);
    s->setup = *setup;
    s->cells = setup->shards * setup->slices;
    struct buf name = {0};
    buf_u64(&name, setup->seed);
    s->key = rng_key_of("unlearnd-simdel", buf_span(&name));
    buf_deinit(&name);
    batch_init(&s->batch, s->cells);
    s->alias = mem_alloc(setup->slices, sizeof *s->alias);
    alias_init(s->alias, setup->slices, setup->probabilities);
    if (setup->probabilities != NULL) {
        s->probabilities = mem_alloc(setup->slices, sizeof *s->probabilities);
        memcpy(s->probabilities, setup->probabilities, setup->slices * sizeof *s->probabilities);
    }
    s->setup.probabilities = s->probabilities;
    s->orders = mem_alloc((size_t)setup->budget * setup->slices, sizeof *s->orders);
    s->alive_first = mem_alloc(setup->slices, sizeof *s->alive_first);
    s->alive = mem_alloc(s->cells, sizeof *s->alive);
    s->left = mem_alloc(setup->shards, sizeof *s->left);
    s->untouched = mem_alloc(s->cells, sizeof *s->untouched);
    s->shard_of = mem_alloc(s->cells, sizeof *s->shard_of);
    for (uint32_t cell = 0; cell < s->cells; cell++) {
        s->shard_of[cell] = (uint16_t)(cell / setup->slices);
    }
    *simulate_out = s;
    return OK;
}

void simulate_close(struct simulate *simulate)
{
    if (simulate == NULL) {
        return;
    }
    mem_free(simulate->alias);
    mem_free(simulate->probabilities);
    mem_free(simulate->orders);
    mem_free(simulate->alive_first);
    mem_free(simulate->alive);
    mem_free(simulate->left);
    mem_free(simulate->untouched);
    mem_free(simulate->shard_of);
    mem_free(simulate);
}

static double harmonic(uint32_t n)
{
    double sum = 0;
    for (uint32_t i = n; i > 0; i--) { // Small terms first.
        sum += 1.0 / i;
    }
    return sum;
}

// Beta(x, n) of a whole n >= 1.
static double beta(double x, uint32_t n)
{
    double product = 1 / x;
    for (uint32_t k = 1; k < n; k++) {
        product *= k / (x + k);
    }
    return product;
}

struct simulate_theory simulate_theory(const struct simulate_setup *setup)
{
    struct simulate_theory theory = {(double)NAN, (double)NAN};
    const uint32_t m = setup->shards;
    const uint32_t firsts = setup->budget < setup->slices ? setup->budget : setup->slices;
    const double cells = (double)m * setup->slices, alive = (double)m * firsts;
    if (setup->policy != SEQUENCE_ROTATION && setup->policy != SEQUENCE_BMS) {
        return theory;
    }
    if (setup->deletions == SIMULATE_WITH) {
        theory.until_exhausted = cells * harmonic(m * firsts);
        theory.until_first_lost = 0;
        for (uint32_t j = 1; j <= firsts; j++) {
            theory.until_first_lost += cells / firsts * beta((double)j / firsts, m);
        }
    } else if (setup->deletions == SIMULATE_WITHOUT) {
        theory.until_exhausted = alive * (cells + 1) / (alive + 1);
    }
    return theory;
}

const char *simulate_deletions_name(enum simulate_deletions deletions)
{
    static const char *const names[] = {[SIMULATE_WITH] = "with",
                                        [SIMULATE_WITHOUT] = "without",
                                        [SIMULATE_GIVEN] = "given",
                                        [SIMULATE_SUBJECTS] = "subjects"};
    CHECK((size_t)deletions < sizeof names / sizeof names[0]);
    return names[deletions];
}
