// client/exportpeft.c: see exportpeft.h.
#include "client/exportpeft.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/component.h"
#include "base/mem.h"
#include "client/adapters.h"
#include "client/interrupt.h"
#include "client/peft.h"
#include "proto/wire.h"

enum { PATH_BYTES = 1100 };

// A component as it came.
struct fetched {
    char name[COMPONENT_TEXT_BYTES];
    struct component component;
    struct spec spec;
    struct schema schema;
    struct base base; // Its shape and digest alone; no weights.
    struct digest digest;
    uint64_t instance, param_count;
    float *params;
};

// ---------------------------------------------------------------- one component

static enum err take_answer(const Unlearn__Exported *answer, struct fetched *fetched)
{
    TRY(component_get(answer->component, &fetched->component));
    component_put(&fetched->component, fetched->name);
    TRY(spec_get(wire_span(answer->spec), &fetched->spec));
    TRY(schema_get(wire_span(answer->schema), &fetched->schema));
    TRY(wire_copy(answer->digest, fetched->digest.bytes, DIGEST_BYTES, "the digest"));
    fetched->instance = answer->instance;
    fetched->param_count = answer->param_count;
    if (spec_has_base(&fetched->spec)) {
        TRY_AS(base_shape_get(wire_span(answer->base_shape), &fetched->base.shape),
               "the shape of the base");
        TRY(wire_copy(answer->base_digest, fetched->base.digest.bytes, DIGEST_BYTES,
                      "the base's digest"));
    }
    return OK;
}

static struct recipe recipe_of(const struct fetched *fetched)
{
    return (struct recipe){.spec = &fetched->spec,
                           .schema = &fetched->schema,
                           .base = spec_has_base(&fetched->spec) ? &fetched->base : NULL};
}

static enum err check_digest(const struct fetched *fetched)
{
    const struct recipe recipe = recipe_of(fetched);
    const struct digest spec = spec_digest(&fetched->spec);
    const struct digest schema = schema_digest(&fetched->schema);
    const struct digest digest = component_digest(fetched->name, &spec, &schema, recipe.base,
                                                  fetched->params, fetched->param_count);
    if (memcmp(&digest, &fetched->digest, sizeof digest) != 0) {
        FAIL(ERR_CORRUPT, "the parameters came with another digest than the coordinator names");
    }
    return OK;
}

static bool same_floats(const float *a, const float *b, uint64_t count)
{
    return (a == NULL) == (b == NULL) && (a == NULL || memcmp(a, b, count * sizeof *a) == 0);
}

static enum err read_back(const char *dir, const struct peft *peft)
{
    struct peft got;
    TRY(peft_read(dir, &peft->shape, &got));
    const uint64_t d = peft->shape.width;
    bool same = got.head_rows == peft->head_rows &&
                same_floats(got.head_weight, peft->head_weight, d * peft->head_rows) &&
                same_floats(got.head_bias, peft->head_bias, peft->head_rows);
    for (uint32_t layer = 0; layer < peft->shape.layers; layer++) {
        same = same &&
               same_floats(got.adapters[layer], peft->adapters[layer], lora_count(&peft->lora));
    }
    peft_deinit(&got);
    if (!same) {
        FAIL(ERR_CORRUPT, "%.200s does not read back as it was written", dir);
    }
    return OK;
}

static json_t *row_of(const struct fetched *fetched, const char *dir, const struct peft *peft)
{
    json_t *const layers = json_array();
    for (uint32_t layer = 0; layer < peft->shape.layers; layer++) {
        if (peft->adapters[layer] != NULL) {
            json_array_append_new(layers, json_integer(layer));
        }
    }
    return json_pack("{s:s, s:s, s:o}", "component", fetched->name, "dir", dir, "layers", layers);
}

// `answer` is gone with the next call.
static enum err fetch(struct ctl *ctl, const char *model, const char *component,
                      struct fetched *fetched, struct peft *peft)
{
    const Unlearn__Exported *answer;
    uint64_t count;
    TRY(unlearn_export(ctl->client, model, component, &answer));
    TRY(take_answer(answer, fetched));
    const struct recipe recipe = recipe_of(fetched);
    TRY(learner_param_count(&recipe, fetched->component.count, &count));
    if (count != fetched->param_count) {
        FAIL(ERR_CORRUPT, "the component has %llu parameters, expected %llu",
             (unsigned long long)fetched->param_count, (unsigned long long)count);
    }
    TRY(mem_try_aligned((size_t)count, sizeof *fetched->params, &fetched->params));
    TRY(adapters_of(&recipe, fetched->component.count, fetched->params,
                    peft)); // Only points there.
    TRY(unlearn_params_pull(ctl->client, model, component, fetched->instance, count,
                            fetched->params));
    return check_digest(fetched);
}

static enum err export_one(struct ctl *ctl, const char *model, const char *component,
                           const char *dir, json_t *rows)
{
    struct fetched fetched = {.params = NULL};
    struct peft *const peft = mem_alloc(1, sizeof *peft);
    enum err err = fetch(ctl, model, component, &fetched, peft);
    if (err == OK) {
        err = peft_write(dir, peft);
        if (err == OK && (err = read_back(dir, peft)) != OK) {
            peft_remove(dir);
        }
    }
    if (err == OK) {
        json_array_append_new(rows, row_of(&fetched, dir, peft));
    }
    schema_deinit(&fetched.schema);
    mem_free(fetched.params);
    mem_free(peft);
    return err;
}

// ---------------------------------------------------------------- those that serve

// Appends the names, each with its end.
static enum err list_serving(struct ctl *ctl, const char *model, struct buf *names)
{
    for (uint32_t at = 0, total = 1; at < total;) {
        const Unlearn__ComponentPage *page;
        TRY(unlearn_components(ctl->client, model, at, &page));
        for (size_t i = 0; i < page->n_components; i++) {
            if (page->components[i]->serving) {
                const char *const name = page->components[i]->name;
                buf_put(names, span_of(name, strlen(name) + 1));
            }
        }
        total = page->n_components == 0 ? at : page->total;
        at += (uint32_t)page->n_components;
    }
    if (names->bytes == 0) {
        FAIL(ERR_CONFLICT, "no shard of model \"%s\" has a component that serves", model);
    }
    return OK;
}

static enum err export_each(struct ctl *ctl, const char *model, const struct buf *names,
                            const char *dir, json_t *rows)
{
    const char *const end = (const char *)names->data + names->bytes;
    for (const char *name = (const char *)names->data; name < end; name += strlen(name) + 1) {
        char path[PATH_BYTES];
        struct component component;
        TRY(component_get(name, &component));
        if (snprintf(path, sizeof path, "%s/s%u", dir, component.shard) >= (int)sizeof path) {
            FAIL(ERR_INVALID, "a path is longer than %d bytes", (int)PATH_BYTES - 1);
        }
        TRY(interrupt_check());
        TRY(export_one(ctl, model, name, path, rows));
    }
    return OK;
}

static void remove_each(const char *dir, const json_t *rows)
{
    size_t i;
    json_t *row;
    json_array_foreach(rows, i, row)
    {
        peft_remove(json_string_value(json_object_get(row, "dir")));
    }
    (void)rmdir(dir);
}

static enum err export_serving(struct ctl *ctl, const char *model, const char *dir, json_t *rows)
{
    struct buf names = {0};
    enum err err = list_serving(ctl, model, &names);
    if (err == OK && mkdir(dir, 0700) != 0) {
        err = err_raise(errno == EEXIST ? ERR_CONFLICT : ERR_IO, "cannot make %.200s: %s", dir,
                        errno == EEXIST ? "it exists already" : strerror(errno));
    } else if (err == OK) {
        err = export_each(ctl, model, &names, dir, rows);
        if (err != OK) {
            remove_each(dir, rows);
        }
    }
    buf_deinit(&names);
    return err;
}

enum err exportpeft_run(struct ctl *ctl, const char *model, const char *component, const char *dir,
                        json_t **components_out)
{
    *components_out = json_array();
    const enum err err = component != NULL ? export_one(ctl, model, component, dir, *components_out)
                                           : export_serving(ctl, model, dir, *components_out);
    if (err != OK) {
        json_decref(*components_out);
        *components_out = NULL;
    }
    return err;
}
