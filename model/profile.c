// model/profile.c: see profile.h.
//
// The probe trains four small models that between them reach every kernel that training uses: sgd
// and adamw, each activation's code, attention full and causal, norms, products wide and narrow,
// whole and partial batches.
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

enum { PROBE_ROWS = 75, PROBE_PIXELS = 20, PROBE_CLASSES = 10, PROBE_TEXT_BYTES = 60 };
enum { PROBES = 4, SETTINGS = 12 };

static const struct probe {
    enum column_kind content;
    bool number; // Beside it, standardised.
    const char *settings[SETTINGS][2];
} probes[PROBES] = {
    {COLUMN_PIXELS,
     true,
     {{"learner", "mlp"},
      {"hidden", "96,33"},
      {"activation", "gelu"},
      {"dropout", "0.25"},
      {"batch", "32"},
      {"gradient_chunks", "2"},
      {"optimizer.kind", "adamw"},
      {"optimizer.rate", "0.001"},
      {"optimizer.weight_decay", "0.01"},
      {"seed", "11"}}},
    {COLUMN_PIXELS,
     true,
     {{"learner", "mlp"},
      {"hidden", "130"},
      {"dropout", "0"},
      {"activation", "tanh"},
      {"batch", "16"},
      {"optimizer.kind", "sgd"},
      {"optimizer.rate", "0.05"},
      {"optimizer.momentum", "0.9"},
      {"optimizer.weight_decay", "0.001"},
      {"seed", "11"}}},
    {COLUMN_PIXELS,
     false,
     {{"learner", "vit"},
      {"layers", "2"},
      {"width", "36"},
      {"heads", "3"},
      {"inner", "70"},
      {"patch", "5"},
      {"batch", "16"},
      {"optimizer.kind", "adamw"},
      {"optimizer.rate", "0.001"},
      {"seed", "11"}}},
    {COLUMN_TEXT,
     false,
     {{"learner", "text"},
      {"layers", "2"},
      {"width", "36"},
      {"heads", "4"},
      {"inner", "70"},
      {"context", "33"},
      {"batch", "32"},
      {"gradient_chunks", "2"},
      {"optimizer.kind", "sgd"},
      {"optimizer.rate", "0.05"},
      {"seed", "11"}}},
};

static void build_schema(const struct probe *probe, struct schema *schema)
{
    const bool image = probe->content == COLUMN_PIXELS;
    schema->task = TASK_CLASSES;
    schema->label = mem_text("label");
    schema->class_count = PROBE_CLASSES;
    schema->classes = mem_alloc(PROBE_CLASSES, sizeof *schema->classes);
    for (uint32_t i = 0; i < PROBE_CLASSES; i++) {
        const char name[2] = {(char)('0' + i), '\0'};
        schema->classes[i] = mem_text(name);
    }
    schema->column_count = probe->number ? 2 : 1;
    schema->columns = mem_alloc(2, sizeof *schema->columns);
    schema->columns[0] = (struct column){.name = mem_text("content"),
                                         .kind = probe->content,
                                         .width = image ? PROBE_PIXELS * PROBE_PIXELS : 1,
                                         .rows = image ? PROBE_PIXELS : 0,
                                         .cols = image ? PROBE_PIXELS : 0,
                                         .scale = 1};
    if (probe->number) {
        schema->columns[1] = (struct column){.name = mem_text("number"),
                                             .kind = COLUMN_NUMERIC,
                                             .width = 1,
                                             .standardise = true,
                                             .scale = 1};
    }
}

// Rows drawn by Philox: a class, its pixels or a text, perhaps a number.
static void build_rows(const struct probe *probe, struct buf *bytes,
                       struct span rows[static PROBE_ROWS], struct id128 rids[static PROBE_ROWS])
{
    const struct rng_key key = rng_key_of("unlearnd-probe", span_text(""));
    enum { ROW_BYTES_MAX = 2 + PROBE_PIXELS * PROBE_PIXELS + 4 };
    buf_reserve(bytes, (size_t)ROW_BYTES_MAX * PROBE_ROWS);
    const bool image = probe->content == COLUMN_PIXELS;
    for (uint32_t row = 0; row < PROBE_ROWS; row++) {
        const size_t start = bytes->bytes;
        const uint32_t count = image ? PROBE_PIXELS * PROBE_PIXELS : row % (PROBE_TEXT_BYTES + 1);
        uint32_t words[4] = {0};
        buf_u16(bytes, (uint16_t)(row % PROBE_CLASSES));
        if (!image) {
            buf_u32(bytes, count);
        }
        for (uint32_t i = 0; i < count; i++) {
            if (i % 4 == 0) {
                rng_philox(key, (uint32_t[4]){row, i / 4, 0, 0}, words);
            }
            buf_u8(bytes, (uint8_t)(words[i % 4] >> 24));
        }
        if (probe->number) {
            buf_f32(bytes, rng_unit(words[0]));
        }
        CHECK(bytes->bytes - start <= ROW_BYTES_MAX);
        rows[row] = span_of(bytes->data + start, bytes->bytes - start);
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

// The digest of what one training gives: of the weights alone, so that a new default elsewhere in the
// spec is no new profile.
static enum err run_probe(const struct probe *probe, const struct schema *schema,
                          const struct stage_data *data, struct digest *digest_out)
{
    struct spec spec = spec_default();
    for (int i = 0; i < SETTINGS && probe->settings[i][0] != NULL; i++) {
        CHECK(spec_set(&spec, probe->settings[i][0], probe->settings[i][1]) == OK);
    }
    float *params = NULL;
    uint64_t count = 0;
    const enum err err = train_one(&spec, schema, data, &params, &count);
    if (err == OK) {
        const struct span weights = span_of(params, count * sizeof *params);
        *digest_out = digest_of("unlearnd-profile", &weights, 1);
    }
    mem_free(params);
    return err;
}

static enum err build_and_run(const struct probe *probe, struct digest *digest_out)
{
    struct schema schema = {0};
    struct buf bytes = {0};
    struct span rows[PROBE_ROWS];
    struct id128 rids[PROBE_ROWS];
    build_schema(probe, &schema);
    build_rows(probe, &bytes, rows, rids);
    const uint64_t slice_count[1] = {PROBE_ROWS};
    const struct stage_data data = {rows, rids, slice_count, PROBE_ROWS};
    const enum err err = run_probe(probe, &schema, &data, digest_out);
    buf_deinit(&bytes);
    schema_deinit(&schema);
    return err;
}

enum err profile_probe(struct digest *digest_out)
{
    struct digest parts[PROBES];
    struct span spans[PROBES];
    for (int i = 0; i < PROBES; i++) {
        TRY(build_and_run(&probes[i], &parts[i]));
        spans[i] = span_of(parts[i].bytes, sizeof parts[i].bytes);
    }
    *digest_out = digest_of("unlearnd-profile", spans, PROBES);
    return OK;
}
