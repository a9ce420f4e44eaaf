// model/profile.c: see profile.h.
//
// The probe trains two small models that between them reach every kernel that training uses:
// sgd and adamw, each activation's code, products wide and narrow, whole and partial batches.
#include "model/profile.h"

#include <string.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/mem.h"
#include "base/rng.h"
#include "model/blas.h"
#include "model/learner.h"

const char *profile_core(void)
{
    return blas_core();
}

// --- The probe ---

enum { PROBE_ROWS = 75, PROBE_PIXELS = 20, PROBE_CLASSES = 10 };

static const char *const settings[2][10][2] = {
    {{"learner", "mlp"},
     {"hidden", "96,33"},
     {"activation", "gelu"},
     {"dropout", "0.25"},
     {"batch", "32"},
     {"gradient_chunks", "2"},
     {"optimizer.kind", "adamw"},
     {"optimizer.rate", "0.001"},
     {"optimizer.weight_decay", "0.01"},
     {"seed", "11"}},
    {{"learner", "mlp"},
     {"hidden", "130"},
     {"dropout", "0"},
     {"activation", "tanh"},
     {"batch", "16"},
     {"optimizer.kind", "sgd"},
     {"optimizer.rate", "0.05"},
     {"optimizer.momentum", "0.9"},
     {"optimizer.weight_decay", "0.001"},
     {"seed", "11"}},
};

static void build_schema(struct schema *schema)
{
    schema->task = TASK_CLASSES;
    schema->label = mem_text("label");
    schema->class_count = PROBE_CLASSES;
    schema->classes = mem_alloc(PROBE_CLASSES, sizeof *schema->classes);
    for (uint32_t i = 0; i < PROBE_CLASSES; i++) {
        const char name[2] = {(char)('0' + i), '\0'};
        schema->classes[i] = mem_text(name);
    }
    schema->column_count = 2;
    schema->columns = mem_alloc(2, sizeof *schema->columns);
    schema->columns[0] = (struct column){.name = mem_text("image"),
                                         .kind = COLUMN_PIXELS,
                                         .width = PROBE_PIXELS * PROBE_PIXELS,
                                         .rows = PROBE_PIXELS,
                                         .cols = PROBE_PIXELS,
                                         .scale = 1};
    schema->columns[1] = (struct column){.name = mem_text("number"),
                                         .kind = COLUMN_NUMERIC,
                                         .width = 1,
                                         .standardise = true,
                                         .scale = 1};
}

// Rows drawn by Philox: a class, its pixels, a number.
static void build_rows(struct buf *bytes, struct span rows[static PROBE_ROWS],
                       struct id128 rids[static PROBE_ROWS])
{
    const struct rng_key key = rng_key_of("unlearnd-probe", span_text(""));
    enum { ROW_BYTES = 2 + PROBE_PIXELS * PROBE_PIXELS + 4 };
    buf_reserve(bytes, (size_t)ROW_BYTES * PROBE_ROWS);
    for (uint32_t row = 0; row < PROBE_ROWS; row++) {
        const size_t start = bytes->bytes;
        uint32_t words[4] = {0};
        buf_u16(bytes, (uint16_t)(row % PROBE_CLASSES));
        for (uint32_t i = 0; i < PROBE_PIXELS * PROBE_PIXELS; i++) {
            if (i % 4 == 0) {
                rng_philox(key, (uint32_t[4]){row, i / 4, 0, 0}, words);
            }
            buf_u8(bytes, (uint8_t)(words[i % 4] >> 24));
        }
        buf_f32(bytes, rng_unit(words[0]));
        CHECK(bytes->bytes - start == ROW_BYTES);
        rows[row] = span_of(bytes->data + start, ROW_BYTES);
        rng_philox(key, (uint32_t[4]){row, 0, 1, 0}, words);
        memcpy(rids[row].bytes, words, sizeof rids[row].bytes);
    }
}

static enum err train_one(const struct spec *spec, const struct schema *schema,
                          const struct stage_data *data, float **params_out, uint64_t *count_out)
{
    const uint16_t list[1] = {0};
    const struct stage stage = {
        .recipe = {.spec = spec, .schema = schema}, .list = list, .list_count = 1, .passes = 2};
    TRY(learner_param_count(&stage.recipe, 1, count_out));
    TRY(mem_try_aligned(*count_out, sizeof **params_out, params_out));
    return stage_train(&stage, data, NULL, NULL, *params_out);
}

static enum err train_all(const struct schema *schema, const struct stage_data *data,
                          struct digest *digest_out)
{
    struct digest parts[2];
    struct span spans[2];
    for (int i = 0; i < 2; i++) {
        struct spec spec = spec_default();
        for (int j = 0; j < 10; j++) {
            CHECK(spec_set(&spec, settings[i][j][0], settings[i][j][1]) == OK);
        }
        float *params = NULL;
        uint64_t count = 0;
        const enum err err = train_one(&spec, schema, data, &params, &count);
        if (err == OK) {
            // The weights alone: a new default elsewhere in the spec is no new profile.
            const struct span weights = span_of(params, count * sizeof *params);
            parts[i] = digest_of("unlearnd-profile", &weights, 1);
            spans[i] = span_of(parts[i].bytes, sizeof parts[i].bytes);
        }
        mem_free(params);
        TRY(err);
    }
    *digest_out = digest_of("unlearnd-profile", spans, 2);
    return OK;
}

enum err profile_probe(struct digest *digest_out)
{
    struct schema schema = {0};
    struct buf bytes = {0};
    struct span rows[PROBE_ROWS];
    struct id128 rids[PROBE_ROWS];
    build_schema(&schema);
    build_rows(&bytes, rows, rids);
    const uint64_t slice_count[1] = {PROBE_ROWS};
    const struct stage_data data = {rows, rids, slice_count, PROBE_ROWS};
    const enum err err = train_all(&schema, &data, digest_out);
    buf_deinit(&bytes);
    schema_deinit(&schema);
    return err;
}
