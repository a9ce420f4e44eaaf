// tests/e2e/oracle.h: what each component of a small cluster must be at each moment, trained here.
//
// The records, whom they belong to and in which order they will be deleted are known beforehand, so a
// component is a function of its name and of how many deletions have been acknowledged: bits(component)
// = F(name, spec, schema, records then in its slices). The oracle computes it with model/ alone, keeps
// it, and tells what it answers to the probe rows.
#pragma once

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "coordinator/core.h"
#include "model/aggregate.h"
#include "model/learner.h"
#include "scheduler/trie.h"
#include "tests/unit/draw.h"

enum {
    SUBJECTS = 96,
    EACH = 4, // Records of a subject.
    ITEMS = SUBJECTS * EACH,
    FEATURES = 8,
    CLASSES = 3,
    ROW_BYTES = 2 + 4 * FEATURES,
    PROBES = 16,
    VALUES = PROBES * CLASSES,
    CELLS_MAX = 8,
    DELETIONS = 24,
    ORACLE_SLICES = 4,
    ORACLE_SEQUENCES = 4,
};

struct item { // A record.
    struct id128 sid, rid;
    uint32_t subject, number;
    uint32_t gone; // By which deletion, from 1; 0: by none.
    uint8_t row[ROW_BYTES];
};

struct history { // Records and deletions.
    uint8_t placement_key[KEY_BYTES];
    struct buf schema_bytes;
    struct schema schema;
    struct item items[ITEMS]; // By (sid, rid): the order of the store.
    uint8_t probes[PROBES][ROW_BYTES];
    struct {
        uint32_t subject;
        bool record;            // Its record 0 alone.
    } deletions[DELETIONS + 1]; // From 1.
};

static inline void item_names(uint32_t subject, uint32_t number, char id_out[static 32],
                              char subject_out[static 32])
{
    snprintf(id_out, 32, "r%u.%u", subject, number);
    snprintf(subject_out, 32, "u%u", subject);
}

static inline uint64_t item_hash(const struct item *item)
{
    return record_hash(&item->sid);
}

static inline void draw_row(struct draw *draw, uint8_t row_out[static ROW_BYTES])
{
    struct buf row = {0};
    float x[FEATURES], score = 0;
    for (uint32_t i = 0; i < FEATURES; i++) {
        x[i] = rng_unit((uint32_t)draw_u64(draw)) * 2 - 1;
        score += i % 2 == 0 ? x[i] : -x[i] * x[i];
    }
    const uint32_t fair = score < -1.5f ? 0 : score < -0.5f ? 1 : 2;
    // Every third label is drawn: probabilities then stay away from 0 and 1, and each record shows.
    buf_u16(&row, (uint16_t)(draw_below(draw, 3) == 0 ? draw_below(draw, CLASSES) : fair));
    for (uint32_t i = 0; i < FEATURES; i++) {
        buf_f32(&row, x[i]);
    }
    memcpy(row_out, row.data, ROW_BYTES);
    buf_deinit(&row);
}

static inline int compare_items(const void *a_, const void *b_)
{
    const struct item *const a = a_, *const b = b_;
    const int order = id128_compare(&a->sid, &b->sid);
    return order != 0 ? order : id128_compare(&a->rid, &b->rid);
}

static inline void history_schema(struct history *history)
{
    static char names[FEATURES][4], label[] = "y", classes[CLASSES][2] = {"a", "b", "c"};
    static char *class_names[CLASSES] = {classes[0], classes[1], classes[2]};
    struct column columns[FEATURES];
    for (uint32_t i = 0; i < FEATURES; i++) {
        snprintf(names[i], sizeof names[i], "x%u", i);
        columns[i] =
            (struct column){.name = names[i], .kind = COLUMN_NUMERIC, .width = 1, .scale = 1};
    }
    const struct schema schema = {.columns = columns,
                                  .column_count = FEATURES,
                                  .task = TASK_CLASSES,
                                  .label = label,
                                  .classes = class_names,
                                  .class_count = CLASSES};
    assert_int_equal(schema_check(&schema), OK);
    schema_put(&schema, &history->schema_bytes);
    assert_int_equal(schema_get(buf_span(&history->schema_bytes), &history->schema), OK);
}

// Deletes the subject, or one record of it, as number `which`.
static inline void history_delete(struct history *history, uint32_t which, uint32_t subject,
                                  bool record)
{
    history->deletions[which].subject = subject;
    history->deletions[which].record = record;
    for (uint32_t i = 0; i < ITEMS; i++) {
        struct item *const item = &history->items[i];
        if (item->subject == subject && item->gone == 0 && (!record || item->number == 0)) {
            item->gone = which;
        }
    }
}

// The first deletions hit each of `cells` cells (h cut into so many) once; the others anybody, every
// fourth of them one record.
static inline void history_plan(struct history *history, uint32_t cells, struct draw *draw)
{
    bool used[SUBJECTS] = {false};
    uint32_t order[CELLS_MAX] = {0};
    for (uint32_t i = 0; i < cells; i++) { // A random order of the cells.
        const uint32_t at = draw_below(draw, i + 1);
        order[i] = order[at];
        order[at] = i;
    }
    for (uint32_t which = 1; which <= DELETIONS; which++) {
        uint32_t at = draw_below(draw, ITEMS);
        while (used[history->items[at].subject] ||
               (which <= cells &&
                item_hash(&history->items[at]) / (UINT64_MAX / cells + 1) != order[which - 1])) {
            at = (at + 1) % ITEMS;
        }
        const uint32_t subject = history->items[at].subject;
        used[subject] = true;
        history_delete(history, which, subject, which > cells && which % 4 == 0);
    }
}

static inline void history_make(struct history *history, uint32_t cells)
{
    struct draw draw = draw_new("history");
    *history = (struct history){0};
    history->placement_key[0] = 7;
    history_schema(history);
    for (uint32_t i = 0; i < ITEMS; i++) {
        struct item *const item = &history->items[i];
        char id[32], subject[32];
        item->subject = i / EACH;
        item->number = i % EACH;
        item_names(item->subject, item->number, id, subject);
        dataset_ids(history->placement_key, span_text(id), span_text(subject), &item->rid,
                    &item->sid);
        draw_row(&draw, item->row);
    }
    qsort(history->items, ITEMS, sizeof history->items[0], compare_items);
    for (uint32_t i = 0; i < PROBES; i++) {
        draw_row(&draw, history->probes[i]);
    }
    history_plan(history, cells, &draw);
}

// ---------------------------------------------------------------- one model

struct version { // A component after some deletions; `params` NULL: it is empty.
    bool known;
    float *params;
    float logits[VALUES], answer[VALUES]; // What it answers to the probes, and alone as a model.
};

struct oracle {
    const struct history *history;
    char name[16];
    struct spec spec;
    struct recipe recipe;
    struct placement placement;
    struct trie trie;
    uint64_t param_count;
    struct version *versions; // [shards][nodes][DELETIONS + 1]
    uint8_t *last_hit;        // The same: the last of so many deletions that hit the component.
};

static inline struct cell oracle_cell(const struct oracle *oracle, const struct item *item)
{
    return placement_cell(&oracle->placement, 0, 0, item_hash(item));
}

static inline size_t oracle_at(const struct oracle *oracle, uint32_t shard, uint32_t node,
                               uint32_t deletions)
{
    return ((size_t)shard * oracle->trie.count + node) * (DELETIONS + 1) + deletions;
}

// Of the first `deletions`; 0: none hit the component, its first version is still valid.
static inline uint32_t oracle_last_hit(const struct oracle *oracle, uint32_t shard, uint32_t node,
                                       uint32_t deletions)
{
    return oracle->last_hit[oracle_at(oracle, shard, node, deletions)];
}

static inline void find_hits(struct oracle *oracle)
{
    for (uint32_t i = 0; i < ITEMS; i++) {
        const struct item *const item = &oracle->history->items[i];
        const struct cell cell = oracle_cell(oracle, item);
        for (uint32_t node = 0; node < oracle->trie.count && item->gone > 0; node++) {
            struct component name;
            trie_name(&oracle->trie, cell.shard, node, &name);
            for (uint32_t n = item->gone; n <= DELETIONS && component_contains(&name, cell.slice);
                 n++) {
                uint8_t *const last = &oracle->last_hit[oracle_at(oracle, cell.shard, node, n)];
                *last = item->gone > *last ? (uint8_t)item->gone : *last;
            }
        }
    }
}

static inline void oracle_init(struct oracle *oracle, const struct history *history,
                               const char *name, uint32_t shards, const uint16_t *orders)
{
    *oracle = (struct oracle){.history = history, .spec = spec_default()};
    snprintf(oracle->name, sizeof oracle->name, "%s", name);
    oracle->spec.hidden[0] = 32;
    oracle->spec.shards = shards;
    oracle->spec.slices = ORACLE_SLICES;
    oracle->spec.sequences = ORACLE_SEQUENCES;
    oracle->spec.epochs = 40;
    oracle->spec.rate = 0.05;
    oracle->recipe = (struct recipe){.spec = &oracle->spec, .schema = &history->schema};
    model_placement(&oracle->spec, &oracle->placement);
    trie_init(&oracle->trie, ORACLE_SLICES, ORACLE_SLICES, ORACLE_SEQUENCES, orders);
    assert_int_equal(learner_param_count(&oracle->recipe, 1, &oracle->param_count), OK);
    const size_t count = oracle_at(oracle, shards, 0, 0);
    oracle->versions = mem_alloc(count, sizeof *oracle->versions);
    oracle->last_hit = mem_alloc(count, sizeof *oracle->last_hit);
    find_hits(oracle);
}

static inline void oracle_deinit(struct oracle *oracle)
{
    for (size_t i = 0; i < oracle_at(oracle, oracle->spec.shards, 0, 0); i++) {
        mem_free(oracle->versions[i].params);
    }
    mem_free(oracle->versions);
    mem_free(oracle->last_hit);
    trie_deinit(&oracle->trie);
}

// The records of one slice after so many deletions.
static inline uint64_t add_slice(const struct oracle *oracle, struct cell cell, uint32_t deletions,
                                 struct stage_data *data, struct span *rows, struct id128 *rids)
{
    const uint64_t before = data->count;
    for (uint32_t i = 0; i < ITEMS; i++) {
        const struct item *const item = &oracle->history->items[i];
        const struct cell at = oracle_cell(oracle, item);
        if (at.shard == cell.shard && at.slice == cell.slice &&
            (item->gone == 0 || item->gone > deletions)) {
            rows[data->count] = span_of(item->row, ROW_BYTES);
            rids[data->count++] = item->rid;
        }
    }
    return data->count - before;
}

static inline const struct version *oracle_version(struct oracle *oracle, uint32_t shard,
                                                   uint32_t node, uint32_t deletions);

static inline void train_version(struct oracle *oracle, const struct component *name, uint32_t node,
                                 uint32_t deletions, struct version *version)
{
    struct span rows[ITEMS];
    struct id128 rids[ITEMS];
    uint64_t slice_count[LIMIT_SLICES] = {0};
    struct stage_data data = {.rows = rows, .rids = rids, .slice_count = slice_count};
    const int32_t parent_node = oracle->trie.nodes[node].parent;
    const struct version *const parent =
        parent_node < 0 ? NULL
                        : oracle_version(oracle, name->shard, (uint32_t)parent_node, deletions);
    for (uint32_t i = 0; i < name->count; i++) {
        const struct cell cell = {name->shard, name->list[i]};
        slice_count[i] = add_slice(oracle, cell, deletions, &data, rows, rids);
    }
    if (data.count == 0) {
        return;
    }
    const struct stage stage = {
        .recipe = oracle->recipe,
        .shard = name->shard,
        .list = name->list,
        .list_count = name->count,
        .passes = trie_passes(false, oracle->spec.epochs, ORACLE_SLICES, name->count)};
    struct span probes[PROBES];
    for (uint32_t i = 0; i < PROBES; i++) {
        probes[i] = span_of(oracle->history->probes[i], ROW_BYTES);
    }
    assert_int_equal(mem_try_aligned((size_t)oracle->param_count, sizeof(float), &version->params),
                     OK);
    assert_int_equal(
        stage_train(&stage, &data, parent == NULL ? NULL : parent->params, NULL, version->params),
        OK);
    assert_int_equal(learner_predict(&oracle->recipe, name->count, version->params, probes, PROBES,
                                     version->logits),
                     OK);
    const float *const logits = version->logits;
    aggregate_rows(oracle->spec.aggregate, true, &logits, NULL, 1, PROBES, CLASSES,
                   version->answer);
}

// The component as it is, when valid, after the first `deletions` deletions.
static inline const struct version *oracle_version(struct oracle *oracle, uint32_t shard,
                                                   uint32_t node, uint32_t deletions)
{
    const uint32_t last = oracle_last_hit(oracle, shard, node, deletions);
    struct version *const version = &oracle->versions[oracle_at(oracle, shard, node, last)];
    if (!version->known) {
        struct component name;
        trie_name(&oracle->trie, shard, node, &name);
        train_version(oracle, &name, node, last, version);
        version->known = true;
    }
    return version;
}

static inline struct digest oracle_digest(const struct oracle *oracle, uint32_t shard,
                                          uint32_t node, const struct version *version)
{
    struct component name;
    char text[COMPONENT_TEXT_BYTES];
    trie_name(&oracle->trie, shard, node, &name);
    component_put(&name, text);
    const struct digest spec = spec_digest(&oracle->spec);
    const struct digest schema = schema_digest(&oracle->history->schema);
    return component_digest(text, &spec, &schema, NULL, version->params, oracle->param_count);
}

// The greatest difference between an answer and the mean of what `count` versions (1 or 2) answer.
static inline double oracle_distance(const float *answer, const struct version *const *versions,
                                     uint32_t count, double enough)
{
    double most = 0;
    for (uint32_t i = 0; i < VALUES && most <= enough; i++) {
        double mean = versions[0]->answer[i];
        mean = count == 2 ? (mean + (double)versions[1]->answer[i]) / 2 : mean;
        most = fmax(most, fabs((double)answer[i] - mean));
    }
    return most;
}
