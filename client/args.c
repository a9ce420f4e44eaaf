// client/args.c: see args.h. The table becomes argp's own, and one parser serves every command.
#include "client/args.h"

#include <argp.h>
#include <string.h>

#include "base/mem.h"
#include "base/text.h"

struct parse {
    const struct args_syntax *syntax;
    char *target;
    struct args_list *words;
    struct args_list *open; // The list that takes the next word; NULL: the command's own words.
};

void args_list_add(struct args_list *list, const char *text)
{
    if ((list->count & (list->count + 1)) == 0) { // Full at 0, 1, 3, 7, ...
        list->texts = mem_resize(list->texts, 2 * list->count + 1, sizeof *list->texts);
    }
    list->texts[list->count++] = text;
}

void args_deinit(const struct args_syntax *syntax, void *target, struct args_list *words)
{
    for (size_t i = 0; i < syntax->option_count; i++) {
        if (syntax->options[i].kind == ARGS_LIST) {
            void *const field = (char *)target + syntax->options[i].offset;
            mem_free(((struct args_list *)field)->texts);
        }
    }
    mem_free(words->texts);
    *words = (struct args_list){0};
}

static error_t set_u64(const struct args_option *option, const char *text, void *field,
                       struct argp_state *state)
{
    struct args_u64 *const number = field;
    const uint64_t max = option->max == 0 ? UINT64_MAX : option->max;
    if (text_u64(text, max, &number->value) != OK) {
        argp_error(state, "--%s is \"%s\", expected a whole number from 0 to %llu", option->name,
                   text, (unsigned long long)max);
        return EINVAL;
    }
    number->given = true;
    return 0;
}

static error_t set_option(struct parse *parse, const struct args_option *option, const char *text,
                          struct argp_state *state)
{
    void *const field = parse->target + option->offset;
    parse->open = option->kind == ARGS_LIST ? field : NULL;
    switch (option->kind) {
    case ARGS_FLAG:
        *(bool *)field = true;
        return 0;
    case ARGS_TEXT:
        *(const char **)field = text;
        return 0;
    case ARGS_U64:
        return set_u64(option, text, field, state);
    case ARGS_LIST:
    default:
        args_list_add(field, text);
        return 0;
    }
}

static error_t end_of_words(const struct parse *parse, struct argp_state *state)
{
    const struct args_syntax *const syntax = parse->syntax;
    if (parse->words->count < syntax->words_min) {
        argp_error(state, "expected %s, found %zu word%s", syntax->words, parse->words->count,
                   parse->words->count == 1 ? "" : "s");
        return EINVAL;
    }
    if (parse->words->count > syntax->words_max) {
        argp_error(state, "\"%s\" is one word too many, expected %s",
                   parse->words->texts[syntax->words_max],
                   syntax->words == NULL ? "none" : syntax->words);
        return EINVAL;
    }
    return 0;
}

static error_t take(int key, char *text, struct argp_state *state)
{
    struct parse *const parse = state->input;
    if (key == ARGP_KEY_ARG) {
        args_list_add(parse->open == NULL ? parse->words : parse->open, text);
        return 0;
    }
    if (key == ARGP_KEY_END) {
        return end_of_words(parse, state);
    }
    for (size_t i = 0; i < parse->syntax->option_count; i++) {
        if (parse->syntax->options[i].key == key) {
            return set_option(parse, &parse->syntax->options[i], text, state);
        }
    }
    return ARGP_ERR_UNKNOWN;
}

enum err args_parse(const struct args_syntax *syntax, unsigned flags, int argc, char **argv,
                    void *target, struct args_list *words_out)
{
    struct argp_option *const options = mem_alloc(syntax->option_count + 1, sizeof *options);
    for (size_t i = 0; i < syntax->option_count; i++) {
        const struct args_option *const from = &syntax->options[i];
        options[i] = (struct argp_option){
            .name = from->name, .key = from->key, .arg = from->value, .doc = from->help};
    }
    const struct argp argp = {
        .options = options, .parser = take, .args_doc = syntax->words, .doc = syntax->doc};
    *words_out = (struct args_list){0};
    struct parse parse = {.syntax = syntax, .target = target, .words = words_out};
    // In order, so that a word belongs to the option before it.
    const error_t error = argp_parse(&argp, argc, argv, flags | ARGP_IN_ORDER, NULL, &parse);
    mem_free(options);
    return error == 0 ? OK : ERR_INVALID;
}
