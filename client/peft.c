// client/peft.c: see peft.h. adapter_model.safetensors also has texts in its __metadata__, which PEFT does
// not look at, with what its settings do not tell: which targets became which blocks.
#include "client/peft.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "base/mem.h"
#include "base/text.h"
#include "client/files.h"
#include "client/peftmap.h"
#include "client/safetensors.h"
#include "client/settings.h"

static const char config_name[] = "adapter_config.json";
static const char model_name[] = "adapter_model.safetensors";
static const char head_name[] = "head.safetensors";
static const char classifier_weight[] = "base_model.model.classifier.weight";
static const char classifier_bias[] = "base_model.model.classifier.bias";
static const char head_weight[] = "weight"; // In head.safetensors.

enum { TEXT_COUNT = 7, CLASSIFIER_PARTS = 2 };

// ---------------------------------------------------------------- writing

struct writing {
    struct peftmap_module modules[LORA_TARGETS_MAX];
    uint32_t module_count;
    struct safetensors_part *parts;
    char (*names)[PEFTMAP_NAME_BYTES]; // [layer parts]
    size_t part_count;
    float *joined; // Room for what is not written as it lies; NULL where all is.
};

static uint32_t layers_with_adapters(const struct peft *peft)
{
    uint32_t count = 0;
    for (uint32_t layer = 0; layer < peft->shape.layers; layer++) {
        count += peft->adapters[layer] != NULL;
    }
    return count;
}

static uint64_t joined_count(const struct peftmap_module *module, const struct lora *lora)
{
    return peftmap_is_plain(module, lora)
               ? 0
               : (uint64_t)module->rank * ((uint64_t)module->in + module->rows);
}

static void add_part(struct writing *writing, const char *name, uint64_t rows, uint64_t cols,
                     const float *values)
{
    writing->parts[writing->part_count++] = (struct safetensors_part){
        .name = name, .dimensions = cols == 0 ? 1 : 2, .shape = {rows, cols}, .values = values};
}

static void add_module(const struct peft *peft, struct writing *writing, uint32_t layer,
                       const struct peftmap_module *module, float **room)
{
    const float *const adapters = peft->adapters[layer];
    const float *a = adapters + lora_at(&peft->lora, module->targets[0]);
    const size_t a_count = (size_t)module->rank * module->in;
    if (!peftmap_is_plain(module, &peft->lora)) {
        peftmap_join(module, &peft->lora, adapters, *room, *room + a_count);
        a = *room;
        *room += joined_count(module, &peft->lora);
    }
    char *const name_a = writing->names[writing->part_count];
    peftmap_name(peft->shape.kind, layer, module, 'A', name_a);
    add_part(writing, name_a, module->rank, module->in, a);
    char *const name_b = writing->names[writing->part_count];
    peftmap_name(peft->shape.kind, layer, module, 'B', name_b);
    add_part(writing, name_b, module->rows, module->rank, a + a_count);
}

static void add_layers(const struct peft *peft, struct writing *writing)
{
    float *room = writing->joined;
    for (uint32_t layer = 0; layer < peft->shape.layers; layer++) {
        for (uint32_t i = 0; i < writing->module_count && peft->adapters[layer] != NULL; i++) {
            add_module(peft, writing, layer, &writing->modules[i], &room);
        }
    }
}

static enum err write_model(const char *path, const struct peft *peft, struct writing *writing)
{
    char rank[16], alpha[TEXT_NUMBER_BYTES], digest[DIGEST_HEX_BYTES];
    (void)snprintf(rank, sizeof rank, "%u", peft->lora.rank);
    text_f64_put(peft->alpha, alpha);
    hex_put(digest, peft->base_digest.bytes, DIGEST_BYTES);
    const struct safetensors_text texts[TEXT_COUNT] = {
        {"format", "pt"},
        {"unlearnd.alpha", alpha},
        {"unlearnd.base", digest},
        {"unlearnd.format", "1"},
        {"unlearnd.rank", rank},
        {"unlearnd.rslora", peft->rslora ? "true" : "false"},
        {"unlearnd.targets", peft->targets},
    };
    uint64_t room = 0;
    for (uint32_t i = 0; i < writing->module_count; i++) {
        room += joined_count(&writing->modules[i], &peft->lora);
    }
    if (room > 0) {
        TRY(mem_try_aligned(room * layers_with_adapters(peft), sizeof(float), &writing->joined));
    }
    add_layers(peft, writing);
    if (peft->shape.kind == BASE_VIT) {
        add_part(writing, classifier_weight, peft->head_rows, peft->shape.width, peft->head_weight);
        add_part(writing, classifier_bias, peft->head_rows, 0, peft->head_bias);
    }
    return safetensors_write(path, writing->parts, writing->part_count, texts, TEXT_COUNT);
}

static enum err write_head(const char *path, const struct peft *peft)
{
    static const struct safetensors_text texts[] = {{"format", "pt"}};
    const struct safetensors_part part = {.name = head_weight,
                                          .dimensions = 2,
                                          .shape = {peft->head_rows, peft->shape.width},
                                          .values = peft->head_weight};
    return safetensors_write(path, &part, 1, texts, 1);
}

static enum err write_config(const char *path, const struct peft *peft)
{
    struct buf json = {0};
    peftmap_config(peft, &json);
    const enum err err = files_write(path, buf_span(&json));
    buf_deinit(&json);
    return err;
}

static enum err write_files(const char *dir, const struct peft *peft, struct writing *writing)
{
    char path[SETTINGS_PATH_BYTES];
    TRY(settings_path(dir, model_name, path));
    TRY(write_model(path, peft, writing));
    if (peft->shape.kind == BASE_TEXT) {
        TRY(settings_path(dir, head_name, path));
        TRY(write_head(path, peft));
    }
    TRY(settings_path(dir, config_name, path));
    return write_config(path, peft);
}

void peft_remove(const char *dir)
{
    const char *const names[] = {config_name, model_name, head_name};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char path[SETTINGS_PATH_BYTES];
        if (settings_path(dir, names[i], path) == OK) {
            (void)unlink(path);
        }
    }
    (void)rmdir(dir);
}

enum err peft_write(const char *dir, const struct peft *peft)
{
    const uint32_t layers = layers_with_adapters(peft);
    CHECK(layers > 0 && peft->head_rows > 0 && peft->head_weight != NULL);
    CHECK((peft->shape.kind == BASE_VIT) == (peft->head_bias != NULL));
    CHECK(peftmap_scale(peft->alpha, peft->lora.rank, peft->rslora) == peft->lora.scale);
    char path[SETTINGS_PATH_BYTES];
    TRY(settings_path(dir, model_name,
                      path)); // Room for the longest name, before anything is made.
    if (mkdir(dir, 0700) != 0) {
        FAIL(errno == EEXIST ? ERR_CONFLICT : ERR_IO, "cannot make %.200s: %s", dir,
             errno == EEXIST ? "it exists already" : strerror(errno));
    }
    struct writing writing = {.part_count = 0};
    writing.module_count = peftmap_modules(&peft->shape, &peft->lora, writing.modules);
    const size_t most = (size_t)layers * writing.module_count * 2 + CLASSIFIER_PARTS;
    writing.parts = mem_alloc(most, sizeof *writing.parts);
    writing.names = mem_alloc(most, sizeof *writing.names);
    const enum err err = write_files(dir, peft, &writing);
    mem_free(writing.joined);
    mem_free(writing.names);
    mem_free(writing.parts);
    if (err != OK) {
        peft_remove(dir);
    }
    return err;
}

// ---------------------------------------------------------------- reading

struct reading {
    struct safetensors *model;
    struct safetensors *head; // NULL with vit
    struct settings config;
    struct buf expected; // What adapter_config.json must say.
    struct peftmap_module modules[LORA_TARGETS_MAX];
    uint32_t module_count;
    size_t used; // Tensors of the model that were asked for.
    float *module_values;
};

static enum err take_text(const struct reading *reading, const char *key, const char **text_out)
{
    *text_out = safetensors_note(reading->model, key);
    if (*text_out == NULL) {
        FAIL(ERR_INVALID, "%.200s has no \"%s\": it was not written by unlearnctl",
             safetensors_path(reading->model), key);
    }
    return OK;
}

static enum err take_texts(const struct reading *reading, struct peft *peft)
{
    const char *text;
    uint64_t rank;
    TRY(take_text(reading, "unlearnd.format", &text));
    if (strcmp(text, "1") != 0) {
        FAIL(ERR_INVALID, "the adapters are of another format than 1");
    }
    TRY(take_text(reading, "unlearnd.rank", &text));
    TRY_AS(text_u64(text, LIMIT_LORA_RANK, &rank), "\"unlearnd.rank\"");
    peft->lora.rank = (uint32_t)rank;
    TRY(take_text(reading, "unlearnd.alpha", &text));
    TRY_AS(text_f64(span_text(text), &peft->alpha), "\"unlearnd.alpha\"");
    TRY(take_text(reading, "unlearnd.rslora", &text));
    peft->rslora = strcmp(text, "true") == 0;
    TRY(take_text(reading, "unlearnd.base", &text));
    TRY_AS(hex_get(peft->base_digest.bytes, DIGEST_BYTES, text), "\"unlearnd.base\"");
    TRY(take_text(reading, "unlearnd.targets", &text));
    if (strlen(text) >= sizeof peft->targets) {
        FAIL(ERR_INVALID, "\"unlearnd.targets\" has more than %zu bytes", sizeof peft->targets - 1);
    }
    (void)snprintf(peft->targets, sizeof peft->targets, "%s", text);
    return lora_targets(&peft->shape, peft->targets, &peft->lora);
}

// A place to point to until the values are there: which layers have adapters.
static const float pending[1];

static enum err take_layers(const struct settings *config, struct peft *peft)
{
    const json_t *const layers = json_object_get(config->object, "layers_to_transform");
    for (size_t i = 0; i < json_array_size(layers); i++) {
        const json_t *const layer = json_array_get(layers, i);
        if (!json_is_integer(layer) || json_integer_value(layer) < 0 ||
            json_integer_value(layer) >= peft->shape.layers) {
            FAIL(ERR_INVALID, "%.200s: \"layers_to_transform\" names a layer that is not below %u",
                 config->path, peft->shape.layers);
        }
        peft->adapters[json_integer_value(layer)] = pending;
    }
    if (layers_with_adapters(peft) == 0) {
        FAIL(ERR_INVALID, "%.200s: \"layers_to_transform\" names no layer", config->path);
    }
    return OK;
}

// The scale by the rank and lora_alpha that stand there: with it all else must agree.
static enum err take_scale(const struct settings *config, struct peft *peft)
{
    double alpha, dropout;
    uint32_t rank;
    TRY(settings_f64(config, "lora_alpha", NAN, &alpha));
    TRY(settings_f64(config, "lora_dropout", NAN, &dropout));
    TRY(settings_u32(config, "r", NULL, 0, &rank));
    peft->lora.scale = peftmap_scale(alpha, rank, peft->rslora);
    peft->lora.dropout = (float)dropout;
    TRY_AS(lora_check(&peft->lora), "%.200s", config->path);
    if (peftmap_scale(peft->alpha, peft->lora.rank, peft->rslora) != peft->lora.scale) {
        FAIL(ERR_INVALID, "%.200s: \"lora_alpha\" and \"r\" do not fit what %s says", config->path,
             model_name);
    }
    return OK;
}

static enum err compare_config(struct reading *reading, const struct peft *peft)
{
    peftmap_config(peft, &reading->expected);
    json_error_t error;
    json_t *const expected = json_loadb((const char *)reading->expected.data,
                                        reading->expected.bytes, JSON_REJECT_DUPLICATES, &error);
    CHECK(expected != NULL);
    const char *key;
    json_t *value;
    enum err err = OK;
    json_object_foreach(expected, key, value)
    {
        if (err == OK && !json_equal(value, json_object_get(reading->config.object, key))) {
            err = err_raise(ERR_INVALID, "%.200s: \"%s\" does not fit what %s says",
                            reading->config.path, key, model_name);
        }
    }
    if (err == OK && json_object_size(reading->config.object) != json_object_size(expected)) {
        err = err_raise(ERR_INVALID, "%.200s has keys that peft_write does not write",
                        reading->config.path);
    }
    json_decref(expected);
    return err;
}

static enum err take_config(struct reading *reading, struct peft *peft)
{
    const struct settings *const config = &reading->config;
    const char *const name =
        json_string_value(json_object_get(config->object, "base_model_name_or_path"));
    TRY_AS(text_check_name("\"base_model_name_or_path\"", span_text(name == NULL ? "" : name)),
           "%.200s", config->path);
    (void)snprintf(peft->base_name, sizeof peft->base_name, "%s", name);
    TRY(take_layers(config, peft));
    TRY(take_scale(config, peft));
    return compare_config(reading, peft);
}

static enum err find(const struct safetensors *file, const char *name, uint64_t rows, uint64_t cols,
                     const struct safetensors_tensor **tensor_out)
{
    const struct safetensors_tensor *const tensor = safetensors_find(file, name);
    if (tensor == NULL) {
        FAIL(ERR_INVALID, "%.200s: tensor %s is missing", safetensors_path(file), name);
    }
    const uint64_t shape[2] = {rows, cols};
    const uint32_t dimensions = cols == 0 ? 1 : 2;
    if (tensor->dimensions != dimensions ||
        memcmp(tensor->shape, shape, dimensions * sizeof shape[0]) != 0 ||
        strcmp(tensor->type, "F32") != 0) {
        char found[SAFETENSORS_SHAPE_BYTES], expected[SAFETENSORS_SHAPE_BYTES];
        safetensors_shape_text(tensor->dimensions, tensor->shape, found);
        safetensors_shape_text(dimensions, shape, expected);
        FAIL(ERR_INVALID, "%.200s: tensor %s is %s %s, expected F32 %s", safetensors_path(file),
             name, tensor->type, found, expected);
    }
    *tensor_out = tensor;
    return OK;
}

// Before memory for the values is asked for: all tensors are there, with their shapes, and no others.
static enum err check_tensors(struct reading *reading, const struct peft *peft)
{
    const struct safetensors_tensor *tensor;
    for (uint32_t layer = 0; layer < peft->shape.layers; layer++) {
        for (uint32_t i = 0; i < reading->module_count && peft->adapters[layer] != NULL; i++) {
            const struct peftmap_module *const module = &reading->modules[i];
            char name[PEFTMAP_NAME_BYTES];
            peftmap_name(peft->shape.kind, layer, module, 'A', name);
            TRY(find(reading->model, name, module->rank, module->in, &tensor));
            peftmap_name(peft->shape.kind, layer, module, 'B', name);
            TRY(find(reading->model, name, module->rows, module->rank, &tensor));
            reading->used += 2;
        }
    }
    if (safetensors_count(reading->model) != reading->used) {
        FAIL(ERR_INVALID, "%.200s has %zu tensors, expected %zu", safetensors_path(reading->model),
             safetensors_count(reading->model), reading->used);
    }
    return OK;
}

static enum err read_module(const struct reading *reading, const struct peft *peft, uint32_t layer,
                            const struct peftmap_module *module, float *adapters)
{
    char name[PEFTMAP_NAME_BYTES];
    float *const a = reading->module_values;
    float *const b = a + (uint64_t)module->rank * module->in;
    peftmap_name(peft->shape.kind, layer, module, 'A', name);
    const struct safetensors_tensor *tensor = safetensors_find(reading->model, name);
    TRY(safetensors_read(reading->model, tensor, 0, tensor->count, a));
    peftmap_name(peft->shape.kind, layer, module, 'B', name);
    tensor = safetensors_find(reading->model, name);
    TRY(safetensors_read(reading->model, tensor, 0, tensor->count, b));
    if (!peftmap_split(module, &peft->lora, a, b, adapters)) {
        FAIL(ERR_INVALID, "%.200s: tensor %s has values outside the blocks of its targets",
             safetensors_path(reading->model), name);
    }
    return OK;
}

// The head's tensors: weight, bias (vit). With vit the rows are as many as the file says.
static enum err find_head(struct reading *reading, const struct peft *peft,
                          const struct safetensors_tensor *tensors_out[static 2])
{
    tensors_out[1] = NULL;
    if (peft->shape.kind == BASE_TEXT) {
        TRY(find(reading->head, head_weight, BASE_BYTES + 1, peft->shape.width, &tensors_out[0]));
        if (safetensors_count(reading->head) != 1) {
            FAIL(ERR_INVALID, "%.200s has tensors beside the head",
                 safetensors_path(reading->head));
        }
        return OK;
    }
    const struct safetensors_tensor *const found =
        safetensors_find(reading->model, classifier_weight);
    const uint64_t rows = found == NULL ? 0 : found->shape[0];
    if (rows < 1 || rows > LIMIT_CLASSES) {
        FAIL(ERR_INVALID, "%.200s has no classifier of 1 to %d rows",
             safetensors_path(reading->model), (int)LIMIT_CLASSES);
    }
    reading->used += CLASSIFIER_PARTS;
    TRY(find(reading->model, classifier_weight, rows, peft->shape.width, &tensors_out[0]));
    return find(reading->model, classifier_bias, rows, 0, &tensors_out[1]);
}

static enum err read_head(const struct reading *reading, struct peft *peft,
                          const struct safetensors_tensor *const tensors[static 2], float *out)
{
    const struct safetensors *const file =
        peft->shape.kind == BASE_VIT ? reading->model : reading->head;
    peft->head_rows = (uint32_t)tensors[0]->shape[0];
    peft->head_weight = out;
    TRY(safetensors_read(file, tensors[0], 0, tensors[0]->count, out));
    if (tensors[1] != NULL) {
        peft->head_bias = out + tensors[0]->count;
        TRY(safetensors_read(file, tensors[1], 0, tensors[1]->count, out + tensors[0]->count));
    }
    return OK;
}

static enum err read_values(struct reading *reading, struct peft *peft)
{
    const struct safetensors_tensor *head[2];
    const uint64_t layer_count = lora_count(&peft->lora);
    const uint64_t all = layer_count * layers_with_adapters(peft);
    uint64_t largest = 0;
    if (all > LIMIT_PARAM_COUNT) {
        FAIL(ERR_LIMIT, "the adapters would have %llu values, expected at most %d",
             (unsigned long long)all, (int)LIMIT_PARAM_COUNT);
    }
    reading->module_count = peftmap_modules(&peft->shape, &peft->lora, reading->modules);
    for (uint32_t i = 0; i < reading->module_count; i++) {
        const struct peftmap_module *const module = &reading->modules[i];
        const uint64_t count = (uint64_t)module->rank * ((uint64_t)module->in + module->rows);
        largest = count > largest ? count : largest;
    }
    TRY(find_head(reading, peft, head));
    TRY(check_tensors(reading, peft));
    TRY(mem_try_aligned(largest, sizeof(float), &reading->module_values));
    TRY(mem_try_aligned(all + head[0]->count + head[0]->shape[0], sizeof(float), &peft->owned));
    float *at = peft->owned;
    for (uint32_t layer = 0; layer < peft->shape.layers; layer++) {
        if (peft->adapters[layer] == NULL) {
            continue;
        }
        for (uint32_t i = 0; i < reading->module_count; i++) {
            TRY(read_module(reading, peft, layer, &reading->modules[i], at));
        }
        peft->adapters[layer] = at;
        at += layer_count;
    }
    return read_head(reading, peft, head, at);
}

static enum err read_all(const char *dir, struct reading *reading, struct peft *peft)
{
    char path[SETTINGS_PATH_BYTES];
    TRY(settings_open(dir, config_name, &reading->config));
    TRY(settings_path(dir, model_name, path));
    TRY(safetensors_open(path, &reading->model));
    if (peft->shape.kind == BASE_TEXT) {
        TRY(settings_path(dir, head_name, path));
        TRY(safetensors_open(path, &reading->head));
    }
    TRY(take_texts(reading, peft));
    TRY(take_config(reading, peft));
    return read_values(reading, peft);
}

enum err peft_read(const char *dir, const struct base_shape *shape, struct peft *peft_out)
{
    struct reading reading = {.used = 0};
    *peft_out = (struct peft){.shape = *shape};
    const enum err err = read_all(dir, &reading, peft_out);
    safetensors_close(reading.model);
    safetensors_close(reading.head);
    settings_close(&reading.config);
    buf_deinit(&reading.expected);
    mem_free(reading.module_values);
    if (err != OK) {
        peft_deinit(peft_out);
    }
    return err;
}

void peft_deinit(struct peft *peft)
{
    mem_free(peft->owned);
    *peft = (struct peft){.head_rows = 0};
}
