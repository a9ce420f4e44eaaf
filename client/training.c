// client/training.c: see training.h.
#include "client/training.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "client/specfile.h"
#include "client/watch.h"

static enum err set_pair(struct spec *spec, const char *pair)
{
    char key[64];
    const char *const equals = strchr(pair, '=');
    if (equals == NULL || (size_t)(equals - pair) >= sizeof key) {
        FAIL(ERR_INVALID, "--set \"%.60s\": expected KEY=VALUE", pair);
    }
    snprintf(key, sizeof key, "%.*s", (int)(equals - pair), pair);
    TRY_AS(spec_set(spec, key, equals + 1), "--set");
    return OK;
}

enum err training_spec(const struct spec *from, const char *file, const struct args_list *set,
                       struct buf *text_out)
{
    struct spec spec = *from;
    if (file != NULL) {
        TRY(specfile_read(file, &spec));
    }
    for (size_t i = 0; i < set->count; i++) {
        TRY(set_pair(&spec, set->texts[i]));
    }
    TRY_AS(spec_check(&spec), "the spec");
    spec_put(&spec, text_out);
    return OK;
}

enum err training_wait(struct ctl *ctl, const char *name, const Unlearn__Model **model_out)
{
    struct progress progress;
    struct watch watch;
    progress_init(&progress, "training", "samples", ctl_progress(ctl));
    watch_init(&watch);
    enum err err;
    for (;;) {
        err = unlearn_model_show(ctl->client, name, model_out);
        if (err != OK || !(*model_out)->training) {
            break;
        }
        const Unlearn__Model *const model = *model_out;
        if (model->problem[0] != '\0' && model->components_training == 0) {
            err = err_raise(ERR_IO, "training does not get on: %s", model->problem);
            break;
        }
        progress_step(&progress, model->samples_done, model->samples_done + model->samples_left,
                      clock_mono_ms());
        err = watch_pause(&watch, ctl->client, true);
        if (err != OK) {
            break;
        }
    }
    progress_end(&progress);
    return err;
}
