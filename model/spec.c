// model/spec.c: see spec.h. Reading, writing, checking and help all walk the table of speckey.h.
//
// A key that has no effect on the model (momentum with adamw, hidden with softmax) is written as
// "-" in the canonical text, so that specs which train the same model have the same digest.
#include "model/spec.h"

#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/text.h"
#include "model/speckey.h"

// The longest value is a list of LIMIT_SLICES numbers, each written in at most 24 characters.
enum { VALUE_BYTES = 25 * LIMIT_SLICES + 120 };

// --- Reading one value ---

static int64_t choice_of(const struct speckey *key, const char *value)
{
    for (int64_t i = 0; key->choices[i] != NULL; i++) {
        if (strcmp(key->choices[i], value) == 0) {
            return i;
        }
    }
    return -1;
}

static enum err set_choice(const struct speckey *key, const char *value, void *field)
{
    const int64_t found = choice_of(key, value);
    if (found < 0) {
        char all[VALUE_BYTES] = "";
        for (size_t i = 0, used = 0; key->choices[i] != NULL && used < sizeof all; i++) {
            used += (size_t)snprintf(all + used, sizeof all - used, "%s%s", i == 0 ? "" : ", ",
                                     key->choices[i]);
        }
        FAIL(ERR_INVALID, "%s is %.40s, expected one of %s", key->name, value, all);
    }
    if (key->type == TYPE_LEARNER) {
        struct spec *const spec = field; // The learner is the first field.
        memset(spec->learner, 0, sizeof spec->learner);
        memcpy(spec->learner, value, strlen(value));
    } else if (key->type == TYPE_BOOL) {
        *(bool *)field = found == 1;
    } else {
        const uint32_t code = (uint32_t)found;
        memcpy(field, &code, sizeof code);
    }
    return OK;
}
_Static_assert(offsetof(struct spec, learner) == 0, "set_choice relies on it");

static enum err set_u32(const struct speckey *key, const char *value, void *field)
{
    uint64_t number = 0;
    if (text_u64(value, (uint64_t)key->high, &number) != OK || number < (uint64_t)key->low ||
        (key->power_of_two && (number & (number - 1)) != 0)) {
        FAIL(ERR_INVALID, "%s is %.40s, expected %s%.0f to %.0f", key->name, value,
             key->power_of_two ? "a power of two from " : "", key->low, key->high);
    }
    *(uint32_t *)field = (uint32_t)number;
    return OK;
}

static enum err set_u64(const struct speckey *key, const char *value, void *field)
{
    uint64_t number = 0;
    if (text_u64(value, UINT64_MAX, &number) != OK) {
        FAIL(ERR_INVALID, "%s is %.40s, expected 0 to %llu", key->name, value,
             (unsigned long long)UINT64_MAX);
    }
    *(uint64_t *)field = number;
    return OK;
}

static enum err set_f64(const struct speckey *key, const char *value, void *field)
{
    double number = 0;
    if (text_f64(span_text(value), &number) != OK || number < key->low || number > key->high ||
        (key->range == OPEN_LOW && number <= key->low) ||
        (key->range == OPEN_HIGH && number >= key->high)) {
        FAIL(ERR_INVALID, "%s is %.40s, expected %s%g to %s%g", key->name, value,
             key->range == OPEN_LOW ? "above " : "", key->low,
             key->range == OPEN_HIGH ? "below " : "", key->high);
    }
    *(double *)field = number + 0.0; // -0 becomes 0: one text for one value.
    return OK;
}

static enum err set_name(const struct speckey *key, const char *value, char *field)
{
    TRY(text_check_label(key->name, value));
    memset(field, 0, LIMIT_NAME_BYTES + 1);
    memcpy(field, value, strlen(value) + 1);
    return OK;
}

// Reads "query,value" or "[query, value]": names of letters, digits, "_" and ".", each once. What they
// mean is for the learner.
static enum err set_names(const struct speckey *key, const char *value, char *field)
{
    char names[LIMIT_LORA_TARGETS_BYTES] = {0};
    size_t used = 0;
    for (const char *at = value; *at != '\0'; at++) {
        const bool word = (*at >= 'a' && *at <= 'z') || (*at >= 'A' && *at <= 'Z') ||
                          (*at >= '0' && *at <= '9') || *at == '_' || *at == '.' || *at == ',';
        if (!word && strchr(" []", *at) == NULL) {
            FAIL(ERR_INVALID, "%s is %.40s, expected names joined by commas", key->name, value);
        }
        if (word && used + 1 < sizeof names) {
            names[used++] = *at;
        } else if (word) {
            FAIL(ERR_INVALID, "%s has more than %zu bytes", key->name, sizeof names - 1);
        }
    }
    const bool gap =
        used == 0 || names[0] == ',' || names[used - 1] == ',' || strstr(names, ",,") != NULL;
    if (gap) {
        FAIL(ERR_INVALID, "%s is %.40s, expected at least one name, and none empty", key->name,
             value);
    }
    memcpy(field, names, sizeof names);
    return OK;
}

// "64,32" or "[64, 32]", element by element.
struct list {
    const char *at, *end; // at: NULL behind the last element.
};

static struct list list_of(const char *value)
{
    const size_t bytes = strlen(value);
    const bool bracket = bytes >= 2 && value[0] == '[' && value[bytes - 1] == ']';
    return (struct list){value + (bracket ? 1 : 0), value + bytes - (bracket ? 1 : 0)};
}

// The next element without the blanks around it; "" for one that is too long for any number. False:
// there is none.
static bool list_next(struct list *list, char out[static TEXT_NUMBER_BYTES])
{
    if (list->at == NULL) {
        return false;
    }
    const char *const comma = memchr(list->at, ',', (size_t)(list->end - list->at));
    const char *at = list->at, *stop = comma == NULL ? list->end : comma;
    while (at < stop && *at == ' ') {
        at++;
    }
    while (stop > at && stop[-1] == ' ') {
        stop--;
    }
    const size_t bytes = (size_t)(stop - at) < TEXT_NUMBER_BYTES ? (size_t)(stop - at) : 0;
    memcpy(out, at, bytes);
    out[bytes] = '\0';
    list->at = comma == NULL ? NULL : comma + 1;
    return true;
}

static enum err set_widths(const struct speckey *key, const char *value, struct spec *spec)
{
    uint32_t widths[LIMIT_LAYERS] = {0};
    uint32_t count = 0;
    struct list list = list_of(value);
    for (char number[TEXT_NUMBER_BYTES]; list_next(&list, number); count++) {
        if (count == LIMIT_LAYERS) {
            FAIL(ERR_INVALID, "hidden is %.40s, expected 1 to %d widths", value, (int)LIMIT_LAYERS);
        }
        if (set_u32(key, number, &widths[count]) != OK) {
            FAIL(ERR_INVALID, "hidden is %.40s, expected widths from %.0f to %.0f", value, key->low,
                 key->high);
        }
    }
    memset(spec->hidden, 0, sizeof spec->hidden);
    memcpy(spec->hidden, widths, count * sizeof *widths);
    spec->hidden_count = count;
    return OK;
}

static enum err set_probabilities(const struct speckey *key, const char *value, struct spec *spec)
{
    double probabilities[LIMIT_SLICES] = {0};
    uint32_t count = 0;
    struct list list = list_of(value);
    const bool equal = strcmp(value, "equal") == 0;
    for (char number[TEXT_NUMBER_BYTES]; !equal && list_next(&list, number); count++) {
        if (count == LIMIT_SLICES) {
            FAIL(ERR_INVALID, "%s has more than %d numbers, expected one for each slice", key->name,
                 (int)LIMIT_SLICES);
        }
        if (set_f64(key, number, &probabilities[count]) != OK) {
            FAIL(ERR_INVALID, "%s is %.40s, expected equal or numbers from %g to %g", key->name,
                 value, key->low, key->high);
        }
    }
    memcpy(spec->probabilities, probabilities, sizeof probabilities);
    spec->probability_count = count;
    return OK;
}

static enum err set_key(const struct speckey *key, const char *value, struct spec *spec)
{
    if (strlen(value) >= VALUE_BYTES || !text_is_clean(span_text(value))) {
        FAIL(ERR_INVALID, "the value of %s is not a short text", key->name);
    }
    void *const field = (uint8_t *)spec + key->offset;
    switch (key->type) {
    case TYPE_NAME:
        return set_name(key, value, field);
    case TYPE_NAMES:
        return set_names(key, value, field);
    case TYPE_WIDTHS:
        return set_widths(key, value, spec);
    case TYPE_PROBABILITIES:
        return set_probabilities(key, value, spec);
    case TYPE_RISK:
        return risk_get(key->name, value, field);
    case TYPE_U32:
        return set_u32(key, value, field);
    case TYPE_U64:
        return set_u64(key, value, field);
    case TYPE_F64:
        return set_f64(key, value, field);
    case TYPE_LEARNER:
    case TYPE_CHOICE:
    case TYPE_BOOL:
        break;
    }
    return set_choice(key, value, field);
}

// --- Writing one value ---

static void put_probabilities(const struct spec *spec, char out[static VALUE_BYTES])
{
    size_t used =
        (size_t)snprintf(out, VALUE_BYTES, "%s", spec->probability_count == 0 ? "equal" : "");
    for (uint32_t i = 0; i < spec->probability_count; i++) {
        char number[TEXT_NUMBER_BYTES];
        text_f64_put(spec->probabilities[i], number);
        used += (size_t)snprintf(out + used, VALUE_BYTES - used, "%s%s", i == 0 ? "" : ",", number);
    }
    CHECK(used < VALUE_BYTES);
}

static void put_value(const struct speckey *key, const struct spec *spec,
                      char out[static VALUE_BYTES])
{
    if (key->in_effect != NULL && !key->in_effect(spec)) {
        snprintf(out, VALUE_BYTES, "-");
        return;
    }
    const void *const field = (const uint8_t *)spec + key->offset;
    uint32_t code = 0;
    switch (key->type) {
    case TYPE_LEARNER:
    case TYPE_NAME:
    case TYPE_NAMES:
        snprintf(out, VALUE_BYTES, "%s", (const char *)field);
        break;
    case TYPE_WIDTHS:
        out[0] = '\0';
        for (uint32_t i = 0, used = 0; i < spec->hidden_count; i++) {
            used += (uint32_t)snprintf(out + used, VALUE_BYTES - used, "%s%u", i == 0 ? "" : ",",
                                       spec->hidden[i]);
        }
        break;
    case TYPE_PROBABILITIES:
        put_probabilities(spec, out);
        break;
    case TYPE_RISK:
        risk_put(&spec->risk, spec->shards, spec->slices, out);
        break;
    case TYPE_CHOICE:
        memcpy(&code, field, sizeof code);
        snprintf(out, VALUE_BYTES, "%s", key->choices[code]);
        break;
    case TYPE_BOOL:
        snprintf(out, VALUE_BYTES, "%s", key->choices[*(const bool *)field ? 1 : 0]);
        break;
    case TYPE_U32:
        snprintf(out, VALUE_BYTES, "%u", *(const uint32_t *)field);
        break;
    case TYPE_U64:
        snprintf(out, VALUE_BYTES, "%llu", (unsigned long long)*(const uint64_t *)field);
        break;
    case TYPE_F64:
        text_f64_put(*(const double *)field, out);
        break;
    }
}
_Static_assert(LIMIT_LAYERS * 6 < VALUE_BYTES, "the widths of all layers fit a value");
_Static_assert((int)RISK_TEXT_BYTES <= (int)VALUE_BYTES, "a table of risk classes fits a value");
_Static_assert((int)TEXT_NUMBER_BYTES <= (int)VALUE_BYTES, "a number fits a value");

// --- Unknown keys ---

// Insertions, deletions and replacements that turn a into b.
static size_t edits(const char *a, const char *b)
{
    size_t row[SPECKEY_NAME_BYTES + 1];
    const size_t b_bytes = strlen(b);
    CHECK(b_bytes <= SPECKEY_NAME_BYTES);
    for (size_t j = 0; j <= b_bytes; j++) {
        row[j] = j;
    }
    for (size_t i = 0; a[i] != '\0'; i++) {
        size_t diagonal = row[0];
        row[0] = i + 1;
        for (size_t j = 0; j < b_bytes; j++) {
            const size_t replaced = diagonal + (a[i] == b[j] ? 0 : 1);
            const size_t added = (row[j] < row[j + 1] ? row[j] : row[j + 1]) + 1;
            diagonal = row[j + 1];
            row[j + 1] = replaced < added ? replaced : added;
        }
    }
    return row[b_bytes];
}

// "rate" is meant for optimizer.rate: the part behind the dot counts as a name too.
static const char *nearest(const char *name)
{
    const char *best = speckey_table[0].name;
    size_t best_edits = SIZE_MAX;
    for (size_t i = 0; i < speckey_count; i++) {
        const char *const dot = strchr(speckey_table[i].name, '.');
        const size_t whole = edits(name, speckey_table[i].name);
        const size_t tail = dot == NULL ? SIZE_MAX : edits(name, dot + 1);
        const size_t count = whole < tail ? whole : tail;
        if (count < best_edits) {
            best_edits = count;
            best = speckey_table[i].name;
        }
    }
    return best;
}

static const struct speckey *find(const char *name)
{
    for (size_t i = 0; i < speckey_count; i++) {
        if (strcmp(speckey_table[i].name, name) == 0) {
            return &speckey_table[i];
        }
    }
    return NULL;
}

// --- The contract ---

struct spec spec_default(void)
{
    struct spec spec = {0};
    for (size_t i = 0; i < speckey_count; i++) {
        CHECK(set_key(&speckey_table[i], speckey_table[i].fallback, &spec) == OK);
    }
    return spec;
}

enum err spec_set(struct spec *spec, const char *key, const char *value)
{
    if (strlen(key) > SPECKEY_NAME_BYTES || !text_is_clean(span_text(key))) {
        FAIL(ERR_INVALID,
             "a key of the spec has %zu bytes or is no clean text, expected a key of "
             "at most %d bytes",
             strlen(key), (int)SPECKEY_NAME_BYTES);
    }
    const struct speckey *const found = find(key);
    if (found == NULL) {
        FAIL(ERR_INVALID, "unknown key \"%s\" in the spec, the nearest known one is %s", key,
             nearest(key));
    }
    return set_key(found, value, spec);
}

// True when B <= L!. 6! is above every B in its range, so the product stays small.
static bool sequences_fit(uint32_t sequences, uint32_t slices)
{
    uint64_t orders = 1;
    for (uint64_t i = 2; i <= slices && orders < sequences; i++) {
        orders *= i;
    }
    return sequences <= orders;
}

static enum err check_policy(const struct spec *spec)
{
    const bool bms = spec->policy == SEQUENCE_BMS;
    if (bms && spec->sequences > spec->slices) {
        FAIL(ERR_INVALID,
             "sequences is %u, expected at most the number of slices, %u, with sequence_policy bms",
             spec->sequences, spec->slices);
    }
    if (bms && spec->slices > LIMIT_BMS_SLICES) {
        FAIL(ERR_INVALID, "slices is %u, expected at most %d with sequence_policy bms",
             spec->slices, (int)LIMIT_BMS_SLICES);
    }
    if (!speckey_has_probabilities(spec) || spec->probability_count == 0) {
        return OK;
    }
    if (spec->probability_count != spec->slices) {
        FAIL(ERR_INVALID, "slice_probabilities has %u numbers, expected one for each of %u slices",
             spec->probability_count, spec->slices);
    }
    double sum = 0;
    for (uint32_t i = 0; i < spec->slices; i++) {
        sum += spec->probabilities[i];
    }
    if (!(sum > 0)) {
        FAIL(ERR_INVALID, "slice_probabilities are all 0, expected one above 0");
    }
    return OK;
}

enum err spec_check(const struct spec *spec)
{
    if (spec->gradient_chunks > spec->batch) {
        FAIL(ERR_INVALID, "gradient_chunks is %u, expected at most batch, which is %u",
             spec->gradient_chunks, spec->batch);
    }
    if (strcmp(spec->learner, "text") == 0 && spec->aggregate != AGGREGATE_MEAN_PROBABILITY) {
        const struct speckey *const key = find("aggregate");
        CHECK(key != NULL);
        FAIL(ERR_INVALID, "aggregate is %s, expected mean_probability with learner text",
             key->choices[spec->aggregate]);
    }
    if (!sequences_fit(spec->sequences, spec->slices)) {
        FAIL(ERR_INVALID, "sequences is %u, expected at most the number of orders of %u slices",
             spec->sequences, spec->slices);
    }
    TRY(check_policy(spec));
    TRY(risk_check("risk", &spec->risk, spec->shards, spec->slices));
    // Sequences that begin alike share components, so this is the most there can be.
    const uint64_t components = (uint64_t)spec->shards * spec->slices * spec->sequences;
    if (components > LIMIT_COMPONENTS) {
        FAIL(ERR_INVALID, "shards * slices * sequences is %llu, expected at most %d components",
             (unsigned long long)components, (int)LIMIT_COMPONENTS);
    }
    return OK;
}

void spec_put(const struct spec *spec, struct buf *text_out)
{
    for (size_t i = 0; i < speckey_count; i++) {
        char value[VALUE_BYTES];
        put_value(&speckey_table[i], spec, value);
        buf_put(text_out, span_text(speckey_table[i].name));
        buf_u8(text_out, '=');
        buf_put(text_out, span_text(value));
        buf_u8(text_out, '\n');
    }
}

static enum err get_line(struct cursor *text, const struct speckey *key, struct spec *spec)
{
    const uint8_t *const end = text->left == 0 ? NULL : memchr(text->at, '\n', text->left);
    const size_t name_bytes = strlen(key->name);
    const size_t bytes = end == NULL ? 0 : (size_t)(end - text->at);
    if (bytes <= name_bytes || bytes - name_bytes > VALUE_BYTES ||
        memcmp(text->at, key->name, name_bytes) != 0 || text->at[name_bytes] != '=') {
        FAIL(ERR_INVALID, "the spec is not in canonical form: expected the line of %s", key->name);
    }
    char value[VALUE_BYTES];
    const size_t value_bytes = bytes - name_bytes - 1;
    memcpy(value, text->at + name_bytes + 1, value_bytes);
    value[value_bytes] = '\0';
    cursor_take(text, bytes + 1);
    if (strlen(value) != value_bytes) {
        FAIL(ERR_INVALID, "the value of %s is not a short text", key->name);
    }
    if (key->in_effect != NULL && strcmp(value, "-") == 0) {
        return OK; // Keeps the default; whether it may stand here shows when written again.
    }
    return set_key(key, value, spec);
}

enum err spec_get(struct span text, struct spec *spec_out)
{
    if (text.bytes > LIMIT_SPEC_BYTES) {
        FAIL(ERR_INVALID, "the spec has %zu bytes, expected at most %d", text.bytes,
             (int)LIMIT_SPEC_BYTES);
    }
    *spec_out = spec_default();
    struct cursor cursor = cursor_of(text);
    for (size_t i = 0; i < speckey_count; i++) {
        TRY(get_line(&cursor, &speckey_table[i], spec_out));
    }
    struct buf again = {0};
    spec_put(spec_out, &again);
    const bool same = span_equal(buf_span(&again), text);
    buf_deinit(&again);
    if (!same) {
        FAIL(ERR_INVALID, "the spec is not in canonical form: a value is written differently or "
                          "something follows the last line");
    }
    return spec_check(spec_out);
}

struct digest spec_digest(const struct spec *spec)
{
    struct buf text = {0};
    spec_put(spec, &text);
    const struct span span = buf_span(&text);
    const struct digest digest = digest_of("unlearnd-spec", &span, 1);
    buf_deinit(&text);
    return digest;
}

void spec_each(void (*each)(void *context, const char *key, const char *values,
                            const char *fallback),
               void *context)
{
    for (size_t i = 0; i < speckey_count; i++) {
        each(context, speckey_table[i].name, speckey_table[i].values, speckey_table[i].fallback);
    }
}
