// tests/unit/test_risk_cost.c: what risk classes save: the samples that deletions cause to be trained again.
//
// A twentieth of the people ask for four fifths of the deletions. Expectations are computed with plain
// arithmetic from the placement's ranges, and held against deletions that are drawn and placed one by one.
//
// One sequence, so a deletion in slice r of a shard trains the stages from r on again, each over all slices
// up to its own; what K deletions at once have in common is trained once.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/mem.h"
#include "scheduler/placement.h"
#include "scheduler/trie.h"
#include "tests/unit/draw.h"

enum { SHARDS = 16, SLICES = 4, EPOCHS = 20, PEOPLE = 100000 };
static const double share[2] = {0.95, 0.05};   // Of the people.
static const double deletions[2] = {0.2, 0.8}; // Of the deletions.

struct cells {
    double records[SHARDS][SLICES];
    double hit[SHARDS][SLICES]; // Probability that a deletion is there.
};

static struct placement placement_with(const char *table)
{
    struct placement placement = placement_uniform(SHARDS, SLICES, 1);
    assert_int_equal(risk_get("risk", table, &placement.risk), OK);
    assert_int_equal(risk_check("risk", &placement.risk, SHARDS, SLICES), OK);
    return placement;
}

static struct cells cells_expected(const struct placement *placement)
{
    struct cells cells = {0};
    for (uint32_t shard = 0; shard < SHARDS; shard++) {
        for (uint32_t slice = 0; slice < SLICES; slice++) {
            struct cell_range range;
            uint32_t from = 0;
            const struct cell cell = {shard, slice};
            for (; placement_range(placement, cell, from, &range); from = range.risk_last + 1U) {
                const double width = ldexp((double)(range.high - range.low), -64);
                for (uint32_t risk = range.risk_first; risk <= range.risk_last && risk < 2;
                     risk++) {
                    cells.records[shard][slice] += PEOPLE * share[risk] * width;
                    cells.hit[shard][slice] += deletions[risk] * width;
                }
            }
        }
    }
    return cells;
}

// Samples of the stages from slice `first` on.
static double stages_from(const double records[static SLICES], uint32_t first)
{
    double seen = 0, samples = 0;
    for (uint32_t slice = 0; slice < SLICES; slice++) {
        seen += records[slice];
        if (slice >= first) {
            samples += seen * trie_passes(false, EPOCHS, SLICES, slice + 1);
        }
    }
    return samples;
}

// Samples per deletion, where `count` are repaired at once.
static double cost_expected(const struct cells *cells, uint32_t count)
{
    double samples = 0;
    for (uint32_t shard = 0; shard < SHARDS; shard++) {
        double before = 0; // Probability of a hit in an earlier slice, of one deletion.
        for (uint32_t slice = 0; slice < SLICES; slice++) {
            const double here = before + cells->hit[shard][slice];
            const double first = pow(1 - before, count) - pow(1 - here, count);
            samples += first * stages_from(cells->records[shard], slice);
            before = here;
        }
    }
    return samples / count;
}

static double cost_drawn(const struct placement *placement, uint32_t count, struct draw *draw)
{
    double records[SHARDS][SLICES] = {{0}};
    for (uint32_t i = 0; i < PEOPLE; i++) {
        const uint8_t risk = i < PEOPLE * share[1] ? 1 : 0;
        const struct cell cell = placement_cell(placement, 0, risk, draw_u64(draw));
        records[cell.shard][cell.slice]++;
    }
    enum { ROUNDS = 4000 };
    double samples = 0;
    for (uint32_t round = 0; round < ROUNDS; round++) {
        uint32_t first[SHARDS];
        for (uint32_t shard = 0; shard < SHARDS; shard++) {
            first[shard] = SLICES;
        }
        for (uint32_t k = 0; k < count; k++) {
            const uint8_t risk = draw_below(draw, 1000) < 1000 * deletions[1] ? 1 : 0;
            const struct cell cell = placement_cell(placement, 0, risk, draw_u64(draw));
            first[cell.shard] = cell.slice < first[cell.shard] ? cell.slice : first[cell.shard];
        }
        for (uint32_t shard = 0; shard < SHARDS; shard++) {
            samples += stages_from(records[shard], first[shard]);
        }
    }
    return samples / ROUNDS / count;
}

static const struct {
    const char *what, *table;
} cases[] = {
    {"uniform", "uniform"},
    {"in the last slice of all shards", "1=*/3"},
    {"alone in the last slice of all shards", "0=*/0-2,1=*/3"},
    {"alone in two small shards", "0=0-13/*,1=14-15/*"},
};
enum { CASES = sizeof cases / sizeof *cases };
static const uint32_t counts[] = {1, 10, 100};
enum { COUNTS = sizeof counts / sizeof *counts };

static void test_classes_save_what_arithmetic_says(void **state)
{
    (void)state;
    struct draw draw = draw_new("test_risk_cost");
    double cost[CASES][COUNTS];
    printf("%d people, S %d, L %d, B 1, e0 %d: 5 %% of the people make 80 %% of the deletions\n",
           PEOPLE, SHARDS, SLICES, EPOCHS);
    printf("samples retrained per deletion, by how many are repaired at once: %u, %u, %u\n",
           counts[0], counts[1], counts[2]);
    for (size_t i = 0; i < CASES; i++) {
        const struct placement placement = placement_with(cases[i].table);
        const struct cells cells = cells_expected(&placement);
        printf("%-40s", cases[i].what);
        for (size_t j = 0; j < COUNTS; j++) {
            cost[i][j] = cost_expected(&cells, counts[j]);
            const double drawn = cost_drawn(&placement, counts[j], &draw);
            printf(" %9.0f (%.2f)", cost[i][j], cost[i][j] / cost[0][j]);
            if (fabs(drawn - cost[i][j]) > 0.03 * cost[i][j]) {
                fail_msg("%s, %u at once: drawn %g, expected %g", cases[i].what, counts[j], drawn,
                         cost[i][j]);
            }
        }
        printf("\n");
    }
    // Each table saves, however many are repaired at once, and small shards save most.
    for (size_t j = 0; j < COUNTS; j++) {
        assert_true(cost[1][j] < cost[0][j] && cost[2][j] < cost[0][j]);
        assert_true(cost[3][j] < cost[1][j]);
    }
}

// The whole of a training, and a deletion in the first slice of a model of one shard: by hand.
static void test_the_count_by_hand(void **state)
{
    (void)state;
    const double records[SLICES] = {10, 20, 30, 40};
    // Passes of e0 20, L 4: floor(40 i / 5) = 8, 16, 24, 32: 8 each.
    assert_true(stages_from(records, 0) == 8 * (10 + 30 + 60 + 100));
    assert_true(stages_from(records, 3) == 8 * 100);
    assert_true(stages_from(records, SLICES) == 0);
    struct cells cells = {0};
    cells.records[2][3] = 5;
    cells.hit[2][3] = 0.5;
    assert_true(cost_expected(&cells, 1) == 0.5 * 8 * 5);
    assert_true(cost_expected(&cells, 2) == 0.75 * 8 * 5 / 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_count_by_hand),
        cmocka_unit_test(test_classes_save_what_arithmetic_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
