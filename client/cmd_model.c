// client/cmd_model.c: the commands for models: train, model list|show|remove, components, verify.
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"
#include "client/ack.h"
#include "client/advice.h"
#include "client/commands.h"
#include "client/grid.h"
#include "client/interrupt.h"
#include "client/show.h"
#include "client/training.h"
#include "client/watch.h"
#include "model/spec.h"
#include "proto/wire.h"

// --- train ---

struct train {
    struct ctl_globals globals;
    const char *dataset, *spec_file, *policy;
    struct args_list set;
    bool wait, reprofile;
};

static const struct args_option train_options[] = {
    CTL_GLOBAL_OPTIONS,
    {"dataset", 1200, "DATASET", "What to train on (an existing model has one)", ARGS_TEXT,
     offsetof(struct train, dataset), 0},
    {"spec", 1201, "FILE.yaml", "The model's spec", ARGS_TEXT, offsetof(struct train, spec_file),
     0},
    {"set", 1202, "KEY=VALUE", "Set a key of the spec, after --spec; may be repeated", ARGS_LIST,
     offsetof(struct train, set), 0},
    {"wait", 1203, NULL, "Wait until everything is trained", ARGS_FLAG,
     offsetof(struct train, wait), 0},
    {"policy", 1205, "POLICY",
     "When repairs are done: deadline (default: at once, what is due first goes first), eager or "
     "batch:N (when N deletions have gathered)",
     ARGS_TEXT, offsetof(struct train, policy), 0},
    {"reprofile", 1204, NULL,
     "Train all of it from nothing where a part has an older numeric profile", ARGS_FLAG,
     offsetof(struct train, reprofile), 0},
};

static enum err spec_of(const struct train *train, struct buf *text_out)
{
    const struct spec from = spec_default();
    return training_spec(&from, train->spec_file, &train->set, text_out);
}

// What the request needs: the spec, empty where an existing model goes on, and the dataset.
// `dataset_out` has room for LIMIT_NAME_BYTES + 1.
static enum err what_to_train(struct ctl *ctl, const struct train *train, const char *model,
                              char *dataset_out, struct buf *spec_out)
{
    const bool spec_given = train->spec_file != NULL || train->set.count > 0;
    snprintf(dataset_out, LIMIT_NAME_BYTES + 1, "%s", train->dataset == NULL ? "" : train->dataset);
    if (spec_given && train->dataset != NULL) {
        return spec_of(train, spec_out);
    }
    const Unlearn__Model *known;
    const enum err err = unlearn_model_show(ctl->client, model, &known);
    if (err != OK && err != ERR_NOT_FOUND) {
        return err;
    }
    if (err == ERR_NOT_FOUND && train->dataset == NULL) {
        FAIL(ERR_INVALID, "the model does not exist yet: expected --dataset DATASET");
    }
    if (train->dataset == NULL) {
        snprintf(dataset_out, LIMIT_NAME_BYTES + 1, "%s", known->dataset);
    }
    return spec_given || err == ERR_NOT_FOUND ? spec_of(train, spec_out) : OK;
}

// The warning about empty cells, or "".
static void empty_cells_text(const Unlearn__Trained *trained, const Unlearn__Model *model,
                             char *out, size_t capacity)
{
    struct spec spec;
    uint32_t shards, slices;
    char table[RISK_TEXT_BYTES];
    out[0] = '\0';
    if (spec_get(wire_span(model->spec), &spec) != OK ||
        !advice_cells(spec.shards, spec.slices, trained->cells, trained->cells_empty, &shards,
                      &slices)) {
        return;
    }
    risk_put(&spec.risk, spec.shards, spec.slices, table);
    if (strcmp(table, "uniform") !=
        0) { // How many people there are in each class is not known here.
        snprintf(out, capacity,
                 "%u of %u cells (shard x slice) have no record: risk keeps more shards or slices "
                 "for a class than its people fill",
                 trained->cells_empty, trained->cells);
    } else {
        snprintf(out, capacity,
                 "%u of %u cells (shard x slice) have no record: with so few people, shards: %u "
                 "and slices: %u would fit better",
                 trained->cells_empty, trained->cells, shards, slices);
    }
}

static void print_trained(const struct ctl *ctl, const Unlearn__Model *model, bool waited,
                          uint32_t components_waiting, const char *warning)
{
    if (ctl->json) {
        json_t *const answer =
            json_pack("{s:s, s:I, s:I, s:f, s:s, s:I, s:I}", "model", model->name,
                      "components_trained", (json_int_t)(waited ? model->run_components : 0),
                      "samples_trained", (json_int_t)(waited ? model->run_samples : 0), "seconds",
                      waited ? model->run_seconds : 0.0, "state", waited ? "trained" : "training",
                      "shards_used", (json_int_t)model->shards_used, "shards_total",
                      (json_int_t)model->shards_total);
        if (warning[0] != '\0') {
            json_object_set_new(answer, "warning", json_string(warning));
        }
        ctl_print(answer);
        return;
    }
    if (warning[0] != '\0') {
        fprintf(stderr, "warning: %s\n", warning);
    }
    if (waited) {
        printf("trained %u components with %llu samples in %.2f s: %u of %u shards answer\n",
               model->run_components, (unsigned long long)model->run_samples, model->run_seconds,
               model->shards_used, model->shards_total);
    } else {
        printf("training %s: %u components to train; unlearnctl status %s shows how far it is\n",
               model->name, components_waiting, model->name);
    }
}

static enum err train_with(struct ctl *ctl, const struct train *train, const char *name,
                           struct buf *spec)
{
    char dataset[LIMIT_NAME_BYTES + 1];
    TRY(what_to_train(ctl, train, name, dataset, spec));
    const Unlearn__Trained *answer;
    TRY(unlearn_train(ctl->client, name, dataset, buf_span(spec), train->reprofile,
                      train->policy == NULL ? "" : train->policy, &answer));
    const Unlearn__Trained trained = *answer; // Numbers only: it may outlive the reply.
    const Unlearn__Model *model;
    TRY(unlearn_model_show(ctl->client, name, &model));
    char warning[256];
    empty_cells_text(&trained, model, warning, sizeof warning);
    if (train->wait) {
        TRY(training_wait(ctl, name, &model));
    }
    print_trained(ctl, model, train->wait, trained.components_waiting, warning);
    return OK;
}

static enum err run_train(struct ctl *ctl, const void *options, const struct args_list *words)
{
    const struct train *const train = options;
    struct buf spec = {0};
    // A spec that is wrong is told before anything else is looked at.
    TRY(text_check_label("the model's name", words->texts[0]));
    enum err err = spec_of(train, &spec);
    buf_clear(&spec);
    if (err == OK) {
        err = ctl_connect(ctl);
    }
    if (err == OK) {
        interrupt_watch();
        err = train_with(ctl, train, words->texts[0], &spec);
    }
    buf_deinit(&spec);
    return err;
}

// One key in two columns; what does not fit a line goes on below, in the second.
static void put_key(void *doc, const char *key, const char *values, const char *fallback)
{
    enum { FIRST_COLUMNS = 26, LINE_COLUMNS = 77 };
    char text[1024], line[128];
    snprintf(text, sizeof text, "%s (%s)", values, fallback);
    size_t used = (size_t)snprintf(line, sizeof line, "  %-*s", FIRST_COLUMNS - 3, key);
    char *save = NULL;
    for (const char *word = strtok_r(text, " ", &save); word != NULL;
         word = strtok_r(NULL, " ", &save)) {
        if (used + 1 + strlen(word) > LINE_COLUMNS) {
            buf_u8(doc, '\n');
            buf_put(doc, span_text(line));
            used = (size_t)snprintf(line, sizeof line, "%*s", FIRST_COLUMNS - 1, "");
        }
        used += (size_t)snprintf(line + used, sizeof line - used, " %s", word);
    }
    buf_u8(doc, '\n');
    buf_put(doc, span_text(line));
}

static void put_keys(struct buf *doc)
{
    buf_put(doc, span_text("\n\nKeys of a spec, with their values (and defaults):"));
    spec_each(put_key, doc);
}

const struct ctl_command cmd_train = {
    .name = "train",
    .summary = "Train a model, or what is missing of it",
    .words = "MODEL",
    .words_min = 1,
    .words_max = 1,
    .help = "A name that exists already, with the same spec or with none, trains what is missing; "
            "another spec is refused. Without --wait training goes on by itself.\n\n"
            "After a change of blas_core or of the build, what is trained goes on serving, but "
            "nothing is trained on top of it: --reprofile trains the model from nothing beside the "
            "old components and swaps shard by shard.\n\n"
            "Examples:\n"
            "  unlearnctl train income --dataset adult --set hidden=64 shards=4 slices=4 --wait\n"
            "  unlearnctl train digits --dataset digits --spec digits.yaml --wait\n"
            "  unlearnctl train digits --wait\n"
            "  unlearnctl train digits --reprofile --wait",
    .more_help = put_keys,
    .options = train_options,
    .option_count = sizeof train_options / sizeof train_options[0],
    .options_bytes = sizeof(struct train),
    .run = run_train,
};

// --- model list, show, remove ---

static enum err run_model_list(struct ctl *ctl, const void *options, const struct args_list *words)
{
    (void)options, (void)words;
    TRY(ctl_connect(ctl));
    json_t *const rows = json_array();
    struct grid *const grid = grid_new("MODEL|DATASET|STATE|>COMPONENTS|>VALID|>SHARDS");
    enum err err = OK;
    for (uint32_t at = 0, total = 1; at < total;) {
        const Unlearn__ModelPage *page;
        err = unlearn_model_list(ctl->client, at, &page);
        if (err != OK || page->n_models == 0) {
            break;
        }
        for (size_t i = 0; i < page->n_models; i++) {
            const Unlearn__Model *const model = page->models[i];
            json_array_append_new(
                rows, json_pack("{s:s, s:s, s:s, s:I, s:I, s:I, s:I}", "model", model->name,
                                "dataset", model->dataset, "state", show_training(model),
                                "components", (json_int_t)model->components_total,
                                "components_valid", (json_int_t)model->components_valid,
                                "shards_used", (json_int_t)model->shards_used, "shards_total",
                                (json_int_t)model->shards_total));
            grid_cell(grid, "%s", model->name);
            grid_cell(grid, "%s", model->dataset);
            grid_cell(grid, "%s", show_training(model));
            grid_cell(grid, "%u", model->components_total);
            grid_cell(grid, "%u", model->components_valid);
            grid_cell(grid, "%u of %u", model->shards_used, model->shards_total);
        }
        at += (uint32_t)page->n_models;
        total = page->total;
    }
    ctl_finish_list(ctl, err, json_pack("{s:o}", "models", rows), grid);
    return err;
}

const struct ctl_command cmd_model_list = {
    .name = "model list",
    .summary = "List the models",
    .help = "Example:\n  unlearnctl model list",
    .run = run_model_list,
};

static enum err run_model_show(struct ctl *ctl, const void *options, const struct args_list *words)
{
    (void)options;
    TRY(ctl_connect(ctl));
    const Unlearn__Model *model;
    TRY(unlearn_model_show(ctl->client, words->texts[0], &model));
    show_model(ctl, model);
    return OK;
}

const struct ctl_command cmd_model_show = {
    .name = "model show",
    .summary = "Show a model: its components and its spec",
    .words = "MODEL",
    .words_min = 1,
    .words_max = 1,
    .help = "Example:\n  unlearnctl model show digits",
    .run = run_model_show,
};

static enum err run_model_remove(struct ctl *ctl, const void *options,
                                 const struct args_list *words)
{
    (void)options;
    TRY(ctl_connect(ctl));
    const struct id128 uuid = text_uuid_new();
    const Unlearn__RequestState *state;
    TRY(unlearn_model_remove(ctl->client, words->texts[0], &uuid, &state));
    ack_check(ctl, &uuid, state->accepted);
    show_request(ctl, state);
    ack_check_history(ctl);
    return OK;
}

const struct ctl_command cmd_model_remove = {
    .name = "model remove",
    .summary = "Remove a model and all its components",
    .words = "MODEL",
    .words_min = 1,
    .words_max = 1,
    .help = "Nothing is asked: what is removed is gone.\n\nExample:\n  unlearnctl model remove "
            "digits",
    .run = run_model_remove,
};

// --- model set ---

struct set {
    struct ctl_globals globals;
    const char *policy;
};

static const struct args_option set_options[] = {
    CTL_GLOBAL_OPTIONS,
    {"policy", 1200, "POLICY", "When repairs are done: deadline, eager or batch:N", ARGS_TEXT,
     offsetof(struct set, policy), 0},
};

static enum err run_model_set(struct ctl *ctl, const void *options, const struct args_list *words)
{
    const struct set *const set = options;
    if (set->policy == NULL) {
        FAIL(ERR_INVALID, "nothing is to be set, expected --policy POLICY");
    }
    TRY(ctl_connect(ctl));
    TRY(unlearn_model_set(ctl->client, words->texts[0], set->policy));
    return run_model_show(ctl, options, words);
}

const struct ctl_command cmd_model_set = {
    .name = "model set",
    .summary = "Change when the repairs of a model are done",
    .words = "MODEL",
    .words_min = 1,
    .words_max = 1,
    .help =
        "deadline: at once, by idle ranks; what is due first goes first. eager: at once, short "
        "lists first, whatever their due dates. batch:N: when N deletions have gathered, or one "
        "asks for haste (delete --wait repaired) or would else become late; deletions that hit "
        "the same slices then share their repairs. The records of a deletion are never served "
        "after its ack, whatever the policy.\n\n"
        "Example:\n  unlearnctl model set digits --policy batch:100",
    .options = set_options,
    .option_count = sizeof set_options / sizeof set_options[0],
    .options_bytes = sizeof(struct set),
    .run = run_model_set,
};

// --- components ---

static void add_component(json_t *rows, struct grid *grid, const Unlearn__Component *component)
{
    const char *const state = show_component_state(component->state);
    json_t *const row = json_pack("{s:s, s:s, s:I}", "name", component->name, "state", state,
                                  "records", (json_int_t)component->records);
    json_object_set_new(
        row, "parent", component->parent[0] == '\0' ? json_null() : json_string(component->parent));
    json_object_set_new(row, "digest", ctl_hex(component->digest));
    json_object_set_new(row, "profile", ctl_hex(component->profile));
    json_object_set_new(row, "core",
                        component->core[0] == '\0' ? json_null() : json_string(component->core));
    json_object_set_new(row, "outdated", json_boolean(component->outdated));
    json_object_set_new(row, "serving", json_boolean(component->serving));
    json_array_append_new(rows, row);
    char hex[DIGEST_HEX_BYTES] = "";
    if (component->digest.len == DIGEST_BYTES) {
        hex_put(hex, component->digest.data, DIGEST_BYTES);
    }
    grid_cell(grid, "%s", component->name);
    grid_cell(grid, "%s", component->parent[0] == '\0' ? "-" : component->parent);
    grid_cell(grid, "%s", state);
    grid_cell(grid, "%llu", (unsigned long long)component->records);
    grid_cell(grid, "%.16s", hex[0] == '\0' ? "-" : hex);
    grid_cell(grid, "%s%s", component->core[0] == '\0' ? "-" : component->core,
              component->outdated ? " (older)" : "");
}

static enum err run_components(struct ctl *ctl, const void *options, const struct args_list *words)
{
    (void)options;
    TRY(ctl_connect(ctl));
    json_t *const rows = json_array();
    struct grid *const grid = grid_new("COMPONENT|PARENT|STATE|>RECORDS|DIGEST|PROFILE");
    enum err err = OK;
    for (uint32_t at = 0, total = 1; at < total;) {
        const Unlearn__ComponentPage *page;
        err = unlearn_components(ctl->client, words->texts[0], at, &page);
        if (err != OK || page->n_components == 0) {
            break;
        }
        for (size_t i = 0; i < page->n_components; i++) {
            add_component(rows, grid, page->components[i]);
        }
        at += (uint32_t)page->n_components;
        total = page->total;
    }
    ctl_finish_list(ctl, err, json_pack("{s:o}", "components", rows), grid);
    return err;
}

const struct ctl_command cmd_components = {
    .name = "components",
    .summary = "List every component of a model",
    .words = "MODEL",
    .words_min = 1,
    .words_max = 1,
    .help = "s3:[2,0,1] is shard 3 after its slices 2, 0, 1. Deleting a record of slice 0 in shard "
            "3 invalidates it. The digest names its content; people see the first 16 digits, "
            "--json has all.\n\nExample:\n  unlearnctl components digits",
    .run = run_components,
};

// --- verify ---

struct verify {
    struct ctl_globals globals;
    const char *components;
};

static const struct args_option verify_options[] = {
    CTL_GLOBAL_OPTIONS,
    {"components", 1200, "N|all", "How many, spread evenly over the model (default: all)",
     ARGS_TEXT, offsetof(struct verify, components), 0},
};

static enum err component_count(const char *text, uint32_t *count_out)
{
    uint64_t count = 0;
    *count_out = 0;
    if (text == NULL || strcmp(text, "all") == 0) {
        return OK;
    }
    if (text_u64(text, LIMIT_COMPONENTS, &count) != OK || count == 0) {
        FAIL(ERR_INVALID, "--components is \"%.40s\", expected all or 1 to %d", text,
             (int)LIMIT_COMPONENTS);
    }
    *count_out = (uint32_t)count;
    return OK;
}

static enum err wait_verified(struct ctl *ctl, const Unlearn__VerifyState **state)
{
    struct progress progress;
    struct watch watch;
    progress_init(&progress, "verifying", "samples", ctl_progress(ctl));
    watch_init(&watch);
    enum err err = OK;
    while (err == OK && !(*state)->finished) {
        const uint64_t job = (*state)->job;
        progress_step(&progress, (*state)->samples_done, (*state)->samples_total, clock_mono_ms());
        err = watch_pause(&watch, ctl->client, true);
        if (err == OK) {
            err = unlearn_verify_show(ctl->client, job, state);
        }
    }
    progress_end(&progress);
    return err;
}

static enum err run_verify(struct ctl *ctl, const void *options, const struct args_list *words)
{
    const struct verify *const verify = options;
    uint32_t count;
    TRY(component_count(verify->components, &count));
    TRY(ctl_connect(ctl));
    interrupt_watch();
    const Unlearn__VerifyState *state;
    TRY(unlearn_verify(ctl->client, words->texts[0], count, &state));
    TRY(wait_verified(ctl, &state));
    ctl->different = state->different > 0;
    if (ctl->json) {
        ctl_print(json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:f}", "model", words->texts[0],
                            "components", (json_int_t)state->components, "identical",
                            (json_int_t)state->identical, "different", (json_int_t)state->different,
                            "skipped", (json_int_t)state->skipped, "skipped_outdated",
                            (json_int_t)state->skipped_outdated, "seconds", state->seconds));
        return OK;
    }
    printf("%u components trained again from nothing: %u identical, %u different, %u skipped "
           "(%.2f s)\n",
           state->components, state->identical, state->different, state->skipped, state->seconds);
    if (state->skipped_outdated > 0) {
        printf(
            "%u were skipped because they were trained under an older numeric profile, which the "
            "workers do not have: unlearnctl train %s --reprofile\n",
            state->skipped_outdated, words->texts[0]);
    }
    return OK;
}

const struct ctl_command cmd_verify = {
    .name = "verify",
    .summary = "Train components again from nothing and compare the bytes",
    .words = "MODEL",
    .words_min = 1,
    .words_max = 1,
    .help = "Exit code 1 where a component differs. Skipped are those that a deletion or a repair "
            "touched meanwhile.\n\nExample:\n  unlearnctl verify digits --components 10",
    .options = verify_options,
    .option_count = sizeof verify_options / sizeof verify_options[0],
    .options_bytes = sizeof(struct verify),
    .run = run_verify,
};
