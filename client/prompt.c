// client/prompt.c: see prompt.h.
#include "client/prompt.h"

#include <stdio.h>

#include "base/clock.h"
#include "base/text.h"
#include "client/interrupt.h"
#include "client/show.h"
#include "client/token.h"

struct prompt {
    struct ctl *ctl;
    uint64_t token_count;
    struct progress progress;
    struct buf text; // What was added.
    uint64_t taken;
    json_t *predictions;
};

// --temperature as a number: finite and above 0.
static enum err get_temperature(const struct prompt_options *options, double *temperature_out)
{
    *temperature_out = 1;
    if (options->temperature == NULL) {
        return OK;
    }
    TRY_AS(text_f64(span_text(options->temperature), temperature_out), "--temperature");
    if (!(*temperature_out >= 0.01 && *temperature_out <= 100)) {
        FAIL(ERR_INVALID, "--temperature is %g, expected 0.01 to 100", *temperature_out);
    }
    return OK;
}

enum err prompt_check(const struct prompt_options *options, size_t file_count)
{
    double temperature;
    const bool more = options->tokens.given || options->seed.given || options->temperature != NULL;
    if (options->text == NULL && more) {
        FAIL(ERR_INVALID, "--tokens, --seed or --temperature is given, expected --prompt with it");
    }
    if (options->text != NULL && file_count > 0) {
        FAIL(ERR_INVALID, "a FILE and --prompt are both given, expected one of them");
    }
    if (options->temperature != NULL && !options->seed.given) {
        FAIL(ERR_INVALID, "--temperature is given, expected --seed with it: else nothing is drawn");
    }
    if (options->tokens.given && options->tokens.value == 0) {
        FAIL(ERR_INVALID, "--tokens is 0, expected 1 to %d", (int)LIMIT_PROMPT_TOKENS);
    }
    return get_temperature(options, &temperature);
}

static enum err take(void *context, uint32_t token, float probability)
{
    struct prompt *const prompt = context;
    char label[TOKEN_LABEL_BYTES];
    TRY(interrupt_check());
    token_label(token, label);
    json_array_append_new(
        prompt->predictions,
        json_pack("{s:s, s:o}", "label", label, "probability", ctl_real((double)probability)));
    if (token != TOKEN_END) {
        buf_u8(&prompt->text, (uint8_t)token);
    }
    progress_step(&prompt->progress, ++prompt->taken, prompt->token_count, clock_mono_ms());
    return OK;
}

static void print(const struct prompt *prompt, const char *model, const Unlearn__Prediction *served)
{
    struct buf shown = {0};
    text_put_visible(buf_span(&prompt->text), &shown);
    const char *const text = shown.bytes == 0 ? "" : (const char *)shown.data;
    if (prompt->ctl->json) {
        json_t *const answer = json_pack("{s:s, s:O, s:s%}", "model", model, "predictions",
                                         prompt->predictions, "text", text, shown.bytes);
        show_served(served, answer);
        ctl_print(answer);
    } else {
        printf("%.*s\n", (int)shown.bytes, text);
        fprintf(stderr, "%llu tokens, ", (unsigned long long)prompt->taken);
        show_served_line(served, stderr);
    }
    buf_deinit(&shown);
}

enum err prompt_run(struct ctl *ctl, const char *model, const struct prompt_options *options)
{
    struct prompt prompt = {.ctl = ctl,
                            .token_count = options->tokens.given ? options->tokens.value
                                                                 : PROMPT_TOKENS_DEFAULT};
    struct unlearn_continue how = {.prompt = span_text(options->text),
                                   .token_count = (uint32_t)prompt.token_count,
                                   .sampled = options->seed.given,
                                   .seed = options->seed.value,
                                   .take = take,
                                   .context = &prompt};
    TRY(get_temperature(options, &how.temperature));
    TRY(ctl_connect(ctl));
    interrupt_watch();
    progress_init(&prompt.progress, "continuing", "tokens", ctl_progress(ctl));
    prompt.predictions = json_array();
    const Unlearn__Prediction *served;
    const enum err err = unlearn_continue_text(ctl->client, model, &how, &served);
    progress_end(&prompt.progress);
    if (err == OK) {
        print(&prompt, model, served);
    }
    json_decref(prompt.predictions);
    buf_deinit(&prompt.text);
    return err;
}
