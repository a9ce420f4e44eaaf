// scheduler/sequence.c: see sequence.h. The matching is the Hungarian method in whole numbers, so that
// ties are ties; what it leaves open is decided among the edges that its prices leave tight, which
// are exactly those of all best matchings.
#include "scheduler/sequence.h"

#include <string.h>

#include "base/check.h"
#include "base/mem.h"

const char *sequence_policy_name(enum sequence_policy policy)
{
    static const char *const names[] = {SEQUENCE_POLICY_NAMES};
    CHECK((size_t)policy < sizeof names / sizeof names[0]);
    return names[policy];
}

bool sequence_fits(uint32_t slices, uint32_t wanted)
{
    uint64_t orders = 1; // Stops long before it overflows.
    for (uint64_t i = 2; i <= slices && orders < wanted; i++) {
        orders *= i;
    }
    return wanted <= orders;
}

static void check_arguments(uint32_t slices, uint32_t wanted)
{
    CHECK(slices > 0 && slices <= LIMIT_SLICES && wanted > 0 && sequence_fits(slices, wanted));
}

// Appends the order unless it is among the first *count. Returns whether it was new.
static bool add_order(uint16_t *orders, uint32_t *count, uint32_t slices, const uint16_t *order)
{
    for (uint32_t i = 0; i < *count; i++) {
        if (memcmp(orders + (size_t)i * slices, order, slices * sizeof *order) == 0) {
            return false;
        }
    }
    memcpy(orders + (size_t)*count * slices, order, slices * sizeof *order);
    (*count)++;
    return true;
}

// --- Rotation ---

// out = first `keep` entries of `from`, then its rest rotated left by `by`.
static void rotate_rest(const uint16_t *from, uint32_t slices, uint32_t keep, uint32_t by,
                        uint16_t *out)
{
    const uint32_t rest = slices - keep;
    for (uint32_t i = 0; i < slices; i++) {
        out[i] = i < keep ? from[i] : from[keep + (i - keep + by) % rest];
    }
}

void sequence_rotation(uint32_t slices, uint32_t wanted, uint16_t *orders_out)
{
    check_arguments(slices, wanted);
    uint16_t order[LIMIT_SLICES], rotated[LIMIT_SLICES];
    for (uint32_t i = 0; i < slices; i++) {
        order[i] = (uint16_t)i;
    }
    uint32_t count = 0;
    for (uint32_t j = 0; j < slices && count < wanted; j++) {
        rotate_rest(order, slices, 0, j, rotated);
        add_order(orders_out, &count, slices, rotated);
    }
    for (uint32_t keep = 1; keep + 1 < slices && count < wanted; keep++) {
        const uint32_t earlier = count;
        for (uint32_t j = 1; j < slices - keep && count < wanted; j++) {
            for (uint32_t i = 0; i < earlier && count < wanted; i++) {
                rotate_rest(orders_out + (size_t)i * slices, slices, keep, j, rotated);
                add_order(orders_out, &count, slices, rotated);
            }
        }
    }
    CHECK(count == wanted); // The rounds reach every permutation.
}

// --- Probabilities in whole numbers ---

struct shares {
    uint64_t of[LIMIT_SLICES];
    uint64_t total; // Their sum, about 2^32.
};

static void shares_of(uint32_t slices, const double *probabilities, struct shares *out)
{
    double sum = 0;
    for (uint32_t i = 0; i < slices; i++) {
        sum += probabilities == NULL ? 1.0 : probabilities[i];
    }
    CHECK(sum > 0);
    out->total = 0;
    for (uint32_t i = 0; i < slices; i++) {
        const double p = (probabilities == NULL ? 1.0 : probabilities[i]) / sum;
        CHECK(p >= 0 && p <= 1);
        out->of[i] = (uint64_t)(p * 0x1p32 + 0.5);
        out->total += out->of[i];
    }
}

// --- Matching ---

static const int64_t NO_EDGE = -1;

// One level: rows are orders, columns the slices that may come next.
struct matching {
    uint32_t n;
    int64_t *gain;                       // [n][n], 0 .. 2^40, or NO_EDGE.
    int64_t row_price[LIMIT_SLICES + 1]; // gain <= row_price + column_price; both from 1.
    int64_t column_price[LIMIT_SLICES + 1];
    uint32_t row_of[LIMIT_SLICES + 1]; // Of each column, from 1; 0: free. Column 0: the new row.
};

static int64_t gain_of(const struct matching *m, uint32_t row, uint32_t column)
{
    return m->gain[(size_t)(row - 1) * m->n + (column - 1)];
}

// What the prices exceed the gain by, >= 0; only for edges.
static int64_t slack_of(const struct matching *m, uint32_t row, uint32_t column)
{
    return m->row_price[row] + m->column_price[column] - gain_of(m, row, column);
}

// Matches one more row along a shortest path of slack; the prices stay feasible.
static void match_row(struct matching *m, uint32_t row)
{
    int64_t least[LIMIT_SLICES + 1];
    uint32_t from[LIMIT_SLICES + 1] = {0};
    bool done[LIMIT_SLICES + 1] = {false};
    for (uint32_t j = 0; j <= m->n; j++) {
        least[j] = INT64_MAX;
    }
    m->row_of[0] = row;
    uint32_t at = 0;
    while (m->row_of[at] != 0) {
        done[at] = true;
        const uint32_t r = m->row_of[at];
        uint32_t next = 0;
        for (uint32_t j = 1; j <= m->n; j++) {
            if (done[j]) {
                continue;
            }
            if (gain_of(m, r, j) != NO_EDGE && slack_of(m, r, j) < least[j]) {
                least[j] = slack_of(m, r, j);
                from[j] = at;
            }
            if (least[j] != INT64_MAX && (next == 0 || least[j] < least[next])) {
                next = j;
            }
        }
        CHECK(next != 0); // Orders and slices left have the same degree each: there is a matching.
        const int64_t step = least[next];
        for (uint32_t j = 0; j <= m->n; j++) {
            if (done[j]) {
                m->row_price[m->row_of[j]] -= step;
                m->column_price[j] += step;
            } else if (least[j] != INT64_MAX) {
                least[j] -= step;
            }
        }
        at = next;
    }
    while (at != 0) {
        m->row_of[at] = m->row_of[from[at]];
        at = from[at];
    }
}

// Gives `row` the lowest column that some best matching gives it which agrees with this one in the
// rows before. The others move on along tight edges.
static void settle_row(struct matching *m, uint32_t row)
{
    uint32_t queue[LIMIT_SLICES + 1], to[LIMIT_SLICES + 1] = {0}, head = 0, tail = 0;
    uint32_t column_of[LIMIT_SLICES + 1] = {0};
    bool reached[LIMIT_SLICES + 1] = {false}; // Columns that can be freed for `row`.
    for (uint32_t j = 1; j <= m->n; j++) {
        column_of[m->row_of[j]] = j;
    }
    const uint32_t own = column_of[row];
    reached[own] = true;
    queue[tail++] = own;
    while (head < tail) {
        const uint32_t freed = queue[head++];
        for (uint32_t r = row + 1; r <= m->n; r++) {
            const uint32_t column = column_of[r];
            if (!reached[column] && gain_of(m, r, freed) != NO_EDGE && slack_of(m, r, freed) == 0) {
                reached[column] = true;
                to[column] = freed;
                queue[tail++] = column;
            }
        }
    }
    uint32_t best = 1;
    while (!reached[best] || gain_of(m, row, best) == NO_EDGE || slack_of(m, row, best) != 0) {
        best++; // Ends at `own` at the latest.
    }
    uint32_t mover = row;
    for (uint32_t column = best;; column = to[column]) {
        const uint32_t displaced = m->row_of[column];
        m->row_of[column] = mover;
        mover = displaced;
        if (column == own) {
            break;
        }
    }
}

// All orders of one BMS under construction.
struct growth {
    uint32_t slices;
    uint16_t *orders;             // [slices][slices]
    uint64_t taken[LIMIT_SLICES]; // Shares of the slices in each order.
    double score[LIMIT_SLICES];
    bool has[LIMIT_SLICES][LIMIT_SLICES]; // Whether an order holds a slice.
};

// n * (1 - taken / total)^t.
static double term_of(uint32_t n, uint64_t taken, uint64_t total)
{
    const double base = (double)(total - taken) / (double)total;
    double power = 1;
    for (int i = 0; i < SEQUENCE_EXPONENT; i++) {
        power *= base;
    }
    return n * power;
}

static void append(struct growth *growth, uint32_t order, uint32_t depth, uint32_t slice,
                   const struct shares *shares)
{
    growth->orders[(size_t)order * growth->slices + depth] = (uint16_t)slice;
    growth->has[order][slice] = true;
    growth->taken[order] += shares->of[slice];
    growth->score[order] += term_of(depth + 1, growth->taken[order], shares->total);
}

// Terms shrink quickly with depth, so each level has a scale of its own.
static void fill_gains(const struct growth *growth, uint32_t depth, const struct shares *shares,
                       double *terms, struct matching *m)
{
    const uint32_t n = growth->slices;
    double greatest = 0;
    for (uint32_t i = 0; i < n; i++) {
        for (uint32_t j = 0; j < n; j++) {
            if (!growth->has[i][j]) {
                const double term =
                    term_of(depth + 1, growth->taken[i] + shares->of[j], shares->total);
                terms[(size_t)i * n + j] = term;
                greatest = term > greatest ? term : greatest;
            }
        }
    }
    for (uint32_t i = 0; i < n; i++) {
        for (uint32_t j = 0; j < n; j++) {
            const double share = greatest > 0 ? terms[(size_t)i * n + j] / greatest : 0;
            m->gain[(size_t)i * n + j] = growth->has[i][j] ? NO_EDGE : (int64_t)(share * 0x1p40);
        }
    }
}

static void grow_level(struct growth *growth, uint32_t depth, const struct shares *shares,
                       double *terms, struct matching *m)
{
    fill_gains(growth, depth, shares, terms, m);
    for (uint32_t i = 0; i <= m->n; i++) {
        m->row_price[i] = (int64_t)1 << 40; // Feasible: no gain is above it.
        m->column_price[i] = 0;
        m->row_of[i] = 0;
    }
    for (uint32_t i = 1; i <= m->n; i++) {
        match_row(m, i);
    }
    for (uint32_t i = 1; i <= m->n; i++) {
        settle_row(m, i);
    }
    for (uint32_t j = 1; j <= m->n; j++) {
        append(growth, m->row_of[j] - 1, depth, j - 1, shares);
    }
}

uint32_t sequence_matching(uint32_t slices, uint32_t wanted, const double *probabilities,
                           uint16_t *orders_out)
{
    check_arguments(slices, wanted);
    struct shares shares = {0};
    shares_of(slices, probabilities, &shares);
    const size_t cells = (size_t)slices * slices;
    struct growth *const growth = mem_alloc(1, sizeof *growth);
    growth->slices = slices;
    growth->orders = mem_alloc(cells, sizeof *growth->orders);
    struct matching *const m = mem_alloc(1, sizeof *m);
    m->n = slices;
    m->gain = mem_alloc(cells, sizeof *m->gain);
    double *const terms = mem_alloc(cells, sizeof *terms);
    for (uint32_t i = 0; i < slices; i++) {
        append(growth, i, 0, i, &shares);
    }
    for (uint32_t depth = 1; depth < slices; depth++) {
        grow_level(growth, depth, &shares, terms, m);
    }
    const uint32_t count = wanted < slices ? wanted : slices;
    for (uint32_t k = 0; k < count; k++) {
        uint32_t best = 0;
        for (uint32_t i = 1; i < slices; i++) {
            best = growth->score[i] > growth->score[best] ? i : best;
        }
        memcpy(orders_out + (size_t)k * slices, growth->orders + (size_t)best * slices,
               slices * sizeof *orders_out);
        growth->score[best] = -1; // Taken.
    }
    mem_free(terms);
    mem_free(m->gain);
    mem_free(m);
    mem_free(growth->orders);
    mem_free(growth);
    return count;
}

// --- Sampling ---

// Uniform in 0 .. below-1, without bias.
static uint64_t uniform_below(struct rng_key key, uint32_t draw, uint32_t position, uint64_t below)
{
    const uint64_t rest = (UINT64_MAX % below + 1) % below; // 2^64 mod below
    for (uint32_t again = 0;; again++) {
        const uint32_t counter[4] = {draw, position, again, 0};
        uint32_t words[4];
        rng_philox(key, counter, words);
        const uint64_t value = (uint64_t)words[1] << 32 | words[0];
        if (value <= UINT64_MAX - rest) {
            return value % below;
        }
    }
}

static void draw_order(uint32_t slices, const struct shares *shares, struct rng_key key,
                       uint32_t draw, uint16_t *order)
{
    uint64_t weight[LIMIT_SLICES] = {0}, sum = 0;
    uint16_t left[LIMIT_SLICES] = {0};
    for (uint32_t i = 0; i < slices; i++) {
        left[i] = (uint16_t)i;
        weight[i] = shares->total - shares->of[i];
        sum += weight[i];
    }
    for (uint32_t at = 0; at < slices; at++) {
        uint32_t chosen = 0;
        if (sum > 0) { // Else one slice is left, and everything is deleted from it.
            uint64_t value = uniform_below(key, draw, at, sum);
            while (value >= weight[chosen]) {
                value -= weight[chosen++];
            }
        }
        order[at] = left[chosen];
        sum -= weight[chosen];
        for (uint32_t i = chosen; i + 1 < slices - at; i++) {
            left[i] = left[i + 1];
            weight[i] = weight[i + 1];
        }
    }
}

uint32_t sequence_sampling(uint32_t slices, uint32_t wanted, const double *probabilities,
                           struct rng_key key, uint16_t *orders_out)
{
    check_arguments(slices, wanted);
    struct shares shares = {0};
    shares_of(slices, probabilities, &shares);
    uint32_t count = 0;
    for (uint64_t i = 0; i < (uint64_t)SEQUENCE_DRAWS_PER_ORDER * wanted && count < wanted; i++) {
        uint16_t order[LIMIT_SLICES];
        draw_order(slices, &shares, key, (uint32_t)i, order);
        add_order(orders_out, &count, slices, order);
    }
    return count;
}

uint32_t sequence_make(enum sequence_policy policy, uint32_t slices, uint32_t wanted,
                       const double *probabilities, struct rng_key key, uint16_t *orders_out)
{
    switch (policy) {
    case SEQUENCE_RANDOM:
        return sequence_sampling(slices, wanted, NULL, key, orders_out);
    case SEQUENCE_BMS:
        return sequence_matching(slices, wanted, probabilities, orders_out);
    case SEQUENCE_SAMPLING:
        return sequence_sampling(slices, wanted, probabilities, key, orders_out);
    case SEQUENCE_ROTATION:
    default:
        sequence_rotation(slices, wanted, orders_out);
        return wanted;
    }
}
