// client/cmd_base.c: the commands for bases: base import, pretrain, list, show, retire.
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/text.h"
#include "client/ack.h"
#include "client/commands.h"
#include "client/grid.h"
#include "client/huggingface.h"
#include "client/interrupt.h"
#include "client/training.h"
#include "proto/wire.h"

// --- What a base is ---

static const char *state_of(const Unlearn__BaseInfo *info)
{
    return info->state == UNLEARN__BASE_STATE__BASE_STATE_VALID ? "valid" : "retired";
}

// The value of a key of the shape's canonical text, which may be longer than it should; "" when it is
// not there or has no effect.
static struct span shape_value(const Unlearn__BaseInfo *info, const char *key)
{
    const char *at = (const char *)info->shape.data, *const end = at + info->shape.len;
    const size_t key_bytes = strlen(key);
    while (at < end) {
        const char *const line_end = memchr(at, '\n', (size_t)(end - at));
        const size_t bytes = (size_t)((line_end == NULL ? end : line_end) - at);
        if (bytes > key_bytes && memcmp(at, key, key_bytes) == 0 && at[key_bytes] == '=') {
            const struct span value = span_of(at + key_bytes + 1, bytes - key_bytes - 1);
            return span_equal(value, span_text("-")) ? span_of("", 0) : value;
        }
        at += bytes + 1;
    }
    return span_of("", 0);
}

static const char *const shape_keys[] = {"kind",  "gelu",    "layers",    "width",  "heads",
                                         "inner", "epsilon", "rows",      "cols",   "channels",
                                         "patch", "mean",    "deviation", "context"};
enum { SHAPE_KEY_COUNT = sizeof shape_keys / sizeof shape_keys[0] };

// Numbers as numbers; lists and names as text.
static json_t *shape_json(const Unlearn__BaseInfo *info)
{
    json_t *const shape = json_object();
    for (int i = 0; i < SHAPE_KEY_COUNT; i++) {
        const struct span value = shape_value(info, shape_keys[i]);
        char text[TEXT_TIME_BYTES];
        uint64_t whole = 0;
        double real = 0;
        snprintf(text, sizeof text, "%.*s", (int)value.bytes, (const char *)value.data);
        if (value.bytes == 0) {
            continue;
        }
        json_object_set_new(shape, shape_keys[i],
                            text_u64(text, INT64_MAX, &whole) == OK
                                ? json_integer((json_int_t)whole)
                            : text_f64(value, &real) == OK ? json_real(real)
                                                           : json_stringn(value.data, value.bytes));
    }
    return shape;
}

static json_t *base_json(const Unlearn__BaseInfo *info)
{
    const struct span kind = shape_value(info, "kind");
    json_t *const row = json_pack(
        "{s:s, s:s, s:s%, s:I, s:I, s:b, s:o, s:o, s:o, s:o}", "base", info->name, "state",
        state_of(info), "kind", (const char *)kind.data, kind.bytes, "weights",
        (json_int_t)info->weight_count, "models_total", (json_int_t)info->models_total,
        "pretrained", (int)info->pretrained, "digest", ctl_hex(info->digest), "created_at",
        ctl_time(info->created_us), "retired_at", ctl_time(info->retired_us), "dataset",
        info->dataset[0] == '\0' ? json_null() : json_string(info->dataset));
    return row;
}

static json_t *base_json_full(const Unlearn__BaseInfo *info)
{
    json_t *const row = base_json(info), *const models = json_array();
    for (size_t i = 0; i < info->n_models; i++) {
        json_array_append_new(models, json_string(info->models[i]));
    }
    json_object_set_new(row, "models", models);
    json_object_set_new(row, "shape", shape_json(info));
    json_object_set_new(row, "spec_digest", ctl_hex(info->spec_digest));
    return row;
}

static void print_base(const Unlearn__BaseInfo *info)
{
    char hex[DIGEST_HEX_BYTES] = "-", time[TEXT_TIME_BYTES];
    if (info->digest.len == DIGEST_BYTES) {
        hex_put(hex, info->digest.data, DIGEST_BYTES);
    }
    text_time(info->created_us, time);
    printf("base       %s (%s)\n", info->name, state_of(info));
    printf("digest     %s\n", hex);
    printf("weights    %llu\n", (unsigned long long)info->weight_count);
    printf("made       %s %s%s\n", time, info->pretrained ? "on dataset " : "by import",
           info->pretrained ? (info->dataset[0] == '\0' ? "that is gone" : info->dataset) : "");
    if (info->retired_us != 0) {
        text_time(info->retired_us, time);
        printf("retired    %s\n", time);
    }
    for (int i = 0; i < SHAPE_KEY_COUNT; i++) {
        const struct span value = shape_value(info, shape_keys[i]);
        if (value.bytes > 0) {
            printf("%-10s %.*s\n", shape_keys[i], (int)value.bytes, (const char *)value.data);
        }
    }
    printf("models    ");
    for (size_t i = 0; i < info->n_models; i++) {
        printf(" %s", info->models[i]);
    }
    if (info->models_total > info->n_models) {
        printf(" and %zu more", info->models_total - info->n_models);
    }
    printf("%s\n", info->models_total == 0 ? " none" : "");
}

// --- base import ---

static void step(void *context, uint64_t done, uint64_t total)
{
    progress_step(context, done, total, clock_mono_ms());
}

static void print_made(const struct ctl *ctl, const Unlearn__BaseInfo *info, bool there)
{
    if (ctl->json) {
        json_t *const answer = base_json_full(info);
        json_object_set_new(answer, "already_there", json_boolean(there));
        ctl_print(answer);
        return;
    }
    if (there) {
        printf("the same base is there already\n");
    }
    print_base(info);
}

static enum err import_base(struct ctl *ctl, const char *name, const struct base *base)
{
    struct progress progress;
    const Unlearn__BaseInfo *info;
    bool there = false;
    progress_init(&progress, "importing", "B", ctl_progress(ctl));
    const struct unlearn_watch watch = {step, &progress};
    const enum err err = unlearn_base_import(ctl->client, name, base, &watch, &there, &info);
    progress_end(&progress);
    TRY(err);
    print_made(ctl, info, there);
    return OK;
}

static enum err run_import(struct ctl *ctl, const void *options, const struct args_list *words)
{
    (void)options;
    struct base_shape shape;
    float *weights = NULL;
    TRY(text_check_label("the base's name", words->texts[0]));
    TRY(huggingface_read(words->texts[1], &shape, &weights));
    struct base *const base = base_new(&shape, weights);
    enum err err = ctl_connect(ctl);
    if (err == OK) {
        interrupt_watch();
        err = import_base(ctl, words->texts[0], base);
    }
    base_release(base);
    return err;
}

const struct ctl_command cmd_base_import = {
    .name = "base import",
    .summary = "Import a frozen base from Hugging Face files",
    .words = "NAME DIR",
    .words_min = 2,
    .words_max = 2,
    .help =
        "DIR holds config.json (model_type vit or gpt2) and the weights as safetensors; a pickle "
        "is refused. Models of the learners vit and text stand on a base and train adapters. "
        "A base never changes, and its name stands for it for ever: the same import again finds "
        "it there, another one of that name is refused. It lands whole or not at all.\n\n"
        "Text is taken byte by byte: of a GPT-2's tokens the 256 single bytes and the end are "
        "used, and its BPE is not.\n\n"
        "Example:\n"
        "  unlearnctl base import vit-small models/vit-small-patch16-224",
    .run = run_import,
};

// --- base pretrain ---

struct pretrain {
    struct ctl_globals globals;
    const char *dataset, *spec_file;
    struct args_list set;
};

static const struct args_option pretrain_options[] = {
    CTL_GLOBAL_OPTIONS,
    {"dataset", 1200, "DATASET", "The public dataset to train on", ARGS_TEXT,
     offsetof(struct pretrain, dataset), 0},
    {"spec", 1201, "FILE.yaml", "The transformer's spec: learner vit or text, base none", ARGS_TEXT,
     offsetof(struct pretrain, spec_file), 0},
    {"set", 1202, "KEY=VALUE", "Set a key of the spec, after --spec; may be repeated", ARGS_LIST,
     offsetof(struct pretrain, set), 0},
};

// Whether the base is there already, made of the same dataset with the same spec. ERR_CONFLICT: one of
// this name is, but is another one.
static enum err look_for(struct ctl *ctl, const char *name, const char *dataset,
                         const struct digest *spec, bool *there_out)
{
    const Unlearn__BaseInfo *info;
    const enum err err = unlearn_base_show(ctl->client, name, &info);
    *there_out = err == OK;
    if (err == ERR_NOT_FOUND) {
        return OK;
    }
    TRY(err);
    if (info->state != UNLEARN__BASE_STATE__BASE_STATE_VALID) {
        FAIL(ERR_CONFLICT,
             "base \"%s\" was retired, and its name stands for it for ever: choose another", name);
    }
    if (!info->pretrained || strcmp(info->dataset, dataset) != 0 ||
        !span_equal(wire_span(info->spec_digest), span_of(spec->bytes, DIGEST_BYTES))) {
        FAIL(ERR_CONFLICT, "there is a base \"%s\" already, made otherwise: choose another name",
             name);
    }
    return OK;
}

// Waits for the model that becomes the base, and makes it one. A deletion may reach it in the last
// moment: then it is waited for again.
static enum err wait_and_make(struct ctl *ctl, const char *name, const char *model,
                              const Unlearn__BaseInfo **info_out)
{
    const Unlearn__Model *state;
    for (;;) {
        TRY(training_wait(ctl, model, &state));
        const enum err err = unlearn_base_from_model(ctl->client, name, info_out);
        if (err != ERR_CONFLICT) {
            return err;
        }
        char why[ERR_TEXT_BYTES];
        snprintf(why, sizeof why, "%s", err_text());
        TRY(unlearn_model_show(ctl->client, model, &state));
        if (!state->training) {
            return err_raise(ERR_CONFLICT, "%s", why);
        }
    }
}

// Trains the model, or goes on with what an earlier call has begun. Where another client that waits for
// the same is faster, the model is gone and the base is there.
static enum err pretrain(struct ctl *ctl, const char *name, const char *dataset, struct span spec,
                         const struct digest *spec_digest)
{
    char model[LIMIT_NAME_BYTES + 8];
    const Unlearn__Trained *trained;
    const Unlearn__BaseInfo *info = NULL;
    snprintf(model, sizeof model, "base:%s", name);
    TRY(unlearn_train(ctl->client, model, dataset, spec, false, "", &trained));
    enum err err = wait_and_make(ctl, name, model, &info);
    if (err == ERR_NOT_FOUND) {
        char why[ERR_TEXT_BYTES];
        bool there = false;
        snprintf(why, sizeof why, "%s", err_text());
        TRY(look_for(ctl, name, dataset, spec_digest, &there));
        if (!there) {
            return err_raise(ERR_NOT_FOUND, "%s", why);
        }
        err = unlearn_base_show(ctl->client, name, &info);
    }
    TRY(err);
    print_made(ctl, info, false);
    return OK;
}

static enum err pretrain_with(struct ctl *ctl, const struct pretrain *options, const char *name,
                              struct span spec)
{
    const struct digest digest = digest_of("unlearnd-spec", &spec, 1);
    const Unlearn__BaseInfo *info;
    bool there;
    TRY(ctl_connect(ctl));
    interrupt_watch();
    TRY(look_for(ctl, name, options->dataset, &digest, &there));
    if (!there) {
        return pretrain(ctl, name, options->dataset, spec, &digest);
    }
    TRY(unlearn_base_show(ctl->client, name, &info));
    print_made(ctl, info, true);
    return OK;
}

static enum err run_pretrain(struct ctl *ctl, const void *options_, const struct args_list *words)
{
    const struct pretrain *const options = options_;
    struct spec spec = spec_default();
    struct buf text = {0};
    TRY(text_check_label("the base's name", words->texts[0]));
    if (options->dataset == NULL) {
        FAIL(ERR_INVALID, "expected --dataset DATASET");
    }
    spec.shards = spec.slices = spec.sequences = 1; // In one piece, unless the file says otherwise.
    enum err err = training_spec(&spec, options->spec_file, &options->set, &text);
    err = err != OK ? err : pretrain_with(ctl, options, words->texts[0], buf_span(&text));
    buf_deinit(&text);
    return err;
}

const struct ctl_command cmd_base_pretrain = {
    .name = "base pretrain",
    .summary = "Train a base from nothing on a public dataset",
    .words = "NAME",
    .words_min = 1,
    .words_max = 1,
    .help =
        "Trains all weights of a transformer: learner vit or text with base none, and layers, "
        "width, "
        "heads, inner, patch or context. The dataset must have been imported with --public, since "
        "what a base has learnt cannot be unlearnt: while the base is in use, nothing can be "
        "deleted "
        "from it. While it trains, the model is called base:NAME; where the command is "
        "interrupted, "
        "the same again goes on.\n\n"
        "Examples:\n"
        "  unlearnctl base pretrain small --dataset pictures --spec small.yaml\n"
        "  unlearnctl base pretrain tiny --dataset pictures --set learner=vit layers=4 width=64 "
        "patch=7",
    .options = pretrain_options,
    .option_count = sizeof pretrain_options / sizeof pretrain_options[0],
    .options_bytes = sizeof(struct pretrain),
    .run = run_pretrain,
};

// --- base list, show ---

static enum err run_list(struct ctl *ctl, const void *options, const struct args_list *words)
{
    (void)options, (void)words;
    TRY(ctl_connect(ctl));
    json_t *const rows = json_array();
    struct grid *const grid = grid_new("BASE|KIND|STATE|>WEIGHTS|DATASET|>MODELS|DIGEST");
    enum err err = OK;
    for (uint32_t at = 0, total = 1; at < total;) {
        const Unlearn__BasePage *page;
        err = unlearn_base_list(ctl->client, at, &page);
        if (err != OK || page->n_bases == 0) {
            break;
        }
        for (size_t i = 0; i < page->n_bases; i++) {
            const Unlearn__BaseInfo *const info = page->bases[i];
            const struct span kind = shape_value(info, "kind");
            char hex[DIGEST_HEX_BYTES] = "-";
            if (info->digest.len == DIGEST_BYTES) {
                hex_put(hex, info->digest.data, DIGEST_BYTES);
            }
            json_array_append_new(rows, base_json(info));
            grid_cell(grid, "%s", info->name);
            grid_cell(grid, "%.*s", (int)kind.bytes, (const char *)kind.data);
            grid_cell(grid, "%s", state_of(info));
            grid_cell(grid, "%llu", (unsigned long long)info->weight_count);
            grid_cell(grid, "%s", info->dataset[0] == '\0' ? "-" : info->dataset);
            grid_cell(grid, "%u", info->models_total);
            grid_cell(grid, "%.16s", hex);
        }
        at += (uint32_t)page->n_bases;
        total = page->total;
    }
    ctl_finish_list(ctl, err, json_pack("{s:o}", "bases", rows), grid);
    return err;
}

const struct ctl_command cmd_base_list = {
    .name = "base list",
    .summary = "List the bases, also those that are retired",
    .help = "Example:\n  unlearnctl base list",
    .run = run_list,
};

static enum err run_show(struct ctl *ctl, const void *options, const struct args_list *words)
{
    (void)options;
    TRY(ctl_connect(ctl));
    const Unlearn__BaseInfo *info;
    TRY(unlearn_base_show(ctl->client, words->texts[0], &info));
    if (ctl->json) {
        ctl_print(base_json_full(info));
    } else {
        print_base(info);
    }
    return OK;
}

const struct ctl_command cmd_base_show = {
    .name = "base show",
    .summary = "Show a base: its shape, its digest, the models on it",
    .words = "NAME",
    .words_min = 1,
    .words_max = 1,
    .help = "Example:\n  unlearnctl base show vit-small",
    .run = run_show,
};

// --- base retire ---

static json_t *requests_json(const Unlearn__BaseRetired *retired)
{
    json_t *const requests = json_array();
    for (size_t i = 0; i < retired->n_requests; i++) {
        json_array_append_new(requests, ctl_uuid(retired->requests[i]));
    }
    return requests;
}

static void print_retired(const Unlearn__BaseRetired *retired)
{
    printf("base %s is retired; %zu models on it were removed\n", retired->info->name,
           retired->n_requests);
    for (size_t i = 0; i < retired->n_requests; i++) {
        struct id128 uuid;
        char text[TEXT_UUID_BYTES];
        if (retired->requests[i].len == ID_BYTES) {
            memcpy(uuid.bytes, retired->requests[i].data, ID_BYTES);
            text_uuid_put(&uuid, text);
            printf("request %s\n", text);
        }
    }
    if (retired->n_requests > 0) {
        printf("hint: unlearnctl receipt REQUEST\n");
    }
}

static enum err run_retire(struct ctl *ctl, const void *options, const struct args_list *words)
{
    (void)options;
    TRY(ctl_connect(ctl));
    const Unlearn__BaseRetired *retired;
    TRY(unlearn_base_retire(ctl->client, words->texts[0], &retired));
    if (retired->info == NULL) {
        FAIL(ERR_CORRUPT, "the coordinator does not say which base it retired");
    }
    if (ctl->json) {
        json_t *const answer = base_json(retired->info);
        json_object_set_new(answer, "models_removed",
                            json_integer((json_int_t)retired->n_requests));
        json_object_set_new(answer, "requests", requests_json(retired));
        ctl_print(answer);
    } else {
        print_retired(retired);
    }
    ack_check_history(ctl);
    return OK;
}

const struct ctl_command cmd_base_retire = {
    .name = "base retire",
    .summary = "Retire a base and remove the models on it",
    .words = "NAME",
    .words_min = 1,
    .words_max = 1,
    .help =
        "Nothing is asked: what stood on the base is gone. Base and models go in one commit; each "
        "removal is a request of its own, with a receipt. The name stays listed, with the digest, "
        "and is never given to another base. After that, records of a dataset that the base was "
        "pre-trained on can be deleted again.\n\n"
        "Example:\n  unlearnctl base retire vit-small",
    .run = run_retire,
};
