// tests/unit/test_schema.c: a schema's bytes are one to one, rows are checked byte for byte, and
// dense learners see what schema.h says.
//
// Method: one schema with every kind of column. Its bytes are cut at every length and changed at
// every byte: whatever is still accepted must be written back as the same bytes. Each rule is
// broken once.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/limits.h"
#include "base/mem.h"
#include "model/schema.h"

enum { AGE, JOB, FACE, NOTE, SPARE, PLACE, COLUMNS };

// A schema owns writable texts; these are only read.
static char *text(const char *literal)
{
    return (char *)(uintptr_t)literal;
}

static char *jobs[2];
static char *classes[3];
static struct column columns[COLUMNS];
static struct schema schema;

static int reset(void **state)
{
    (void)state;
    jobs[0] = text("baker");
    jobs[1] = text("smith");
    classes[0] = text("no");
    classes[1] = text("yes");
    classes[2] = text("maybe");
    const struct column fresh[COLUMNS] = {
        [AGE] = {.name = text("age"),
                 .kind = COLUMN_NUMERIC,
                 .width = 2,
                 .missing = true,
                 .standardise = true,
                 .offset = 10,
                 .scale = 0.5f},
        [JOB] = {.name = text("job"),
                 .kind = COLUMN_CATEGORY,
                 .width = 1,
                 .categories = jobs,
                 .category_count = 2,
                 .scale = 1},
        [FACE] = {.name = text("face"),
                  .kind = COLUMN_PIXELS,
                  .width = 6,
                  .rows = 2,
                  .cols = 3,
                  .scale = 1},
        [NOTE] = {.name = text("note"), .kind = COLUMN_TEXT, .width = 1, .scale = 1},
        [SPARE] = {.name = text("spare"), .kind = COLUMN_IGNORED, .width = 1, .scale = 1},
        [PLACE] =
            {.name = text("place"), .kind = COLUMN_NUMERIC, .width = 1, .offset = 1, .scale = 2},
    };
    memcpy(columns, fresh, sizeof columns);
    schema = (struct schema){.columns = columns,
                             .column_count = COLUMNS,
                             .task = TASK_CLASSES,
                             .label = text("income"),
                             .classes = classes,
                             .class_count = 3};
    return 0;
}

static void assert_invalid(const char *message)
{
    assert_int_equal(schema_check(&schema), ERR_INVALID);
    if (strstr(err_text(), message) == NULL) {
        fail_msg("found \"%s\", expected \"%s\"", err_text(), message);
    }
    reset(NULL);
    assert_int_equal(schema_check(&schema), OK);
}

static void test_every_rule_is_checked(void **state)
{
    (void)state;
    assert_int_equal(schema_check(&schema), OK);
    columns[AGE].name = text("");
    assert_invalid("column 1: its name has 0 bytes");
    columns[AGE].name = text("job");
    assert_invalid("same name");
    columns[AGE].name = text("income");
    assert_invalid("same name");
    columns[JOB].kind = (enum column_kind)9;
    assert_invalid("column 2 (job): kind is 9");
    columns[AGE].width = 0;
    assert_invalid("column 1 (age): width is 0");
    columns[AGE].scale = 0;
    assert_invalid("scale not 0");
    columns[AGE].offset = NAN;
    assert_invalid("must be finite");
    columns[JOB].width = 2;
    assert_invalid("column 2 (job): width is 2, expected 1");
    columns[JOB].missing = true;
    assert_invalid("only a numeric column");
    columns[FACE].rows = 3;
    assert_invalid("column 3 (face): rows x cols is 3 x 3, which does not fit width 6");
    columns[AGE].rows = 1;
    assert_invalid("column 1 (age): rows x cols");
    columns[NOTE].category_count = 1;
    assert_invalid("column 4 (note): lists categories");
    columns[JOB].categories = (char *[]){text("smith"), text("baker")};
    assert_invalid("not sorted");
    columns[JOB].categories = (char *[]){text("baker"), text("baker")};
    assert_invalid("not sorted");
    columns[JOB].categories = (char *[]){text("a\n"), text("b")};
    assert_invalid("column 2 (job): the name of a category");
    columns[JOB].category_count = LIMIT_CATEGORIES + 1;
    assert_invalid("expected at most 1024");
    columns[FACE] =
        (struct column){.name = text("face"), .kind = COLUMN_NUMERIC, .width = 600000, .scale = 1};
    assert_invalid("a row has 600006 values in 2400022 bytes");
    schema.column_count = 0;
    assert_invalid("0 columns");
    schema.task = (enum task)3;
    assert_invalid("task is 3");
    schema.task = TASK_NONE;
    assert_invalid("names a label column");
    schema.task = TASK_NUMBER;
    assert_invalid("lists 3 classes");
    schema.label = text("");
    assert_invalid("label column has 0 bytes");
    schema.label_standardise = true;
    assert_invalid("label that is no number");
    schema.class_count = 0;
    assert_invalid("0 classes");
    schema.classes = (char *[]){text("a"), text("b"), text("a")};
    assert_invalid("same class twice");
    schema.classes = (char *[]){text("a"), text(""), text("c")};
    assert_invalid("class 1: its name has 0 bytes");
}

static void test_schema_must_fit_a_frame(void **state)
{
    (void)state;
    enum { MANY = 2000 };
    struct column *const many = mem_alloc(MANY, sizeof *many);
    char(*const names)[200] = mem_alloc(MANY, sizeof *names);
    for (int i = 0; i < MANY; i++) {
        snprintf(names[i], sizeof names[i], "%0150d", i);
        many[i] = (struct column){.name = names[i], .kind = COLUMN_IGNORED, .width = 1, .scale = 1};
    }
    schema.columns = many;
    schema.column_count = 1000;
    assert_int_equal(schema_check(&schema), OK);
    schema.column_count = MANY;
    assert_int_equal(schema_check(&schema), ERR_INVALID);
    assert_non_null(strstr(err_text(), "expected at most 245760"));
    mem_free(many);
    mem_free(names);
}

// Compares with a vector of docs/format.md.
static void assert_hex(struct span bytes, const char *expected)
{
    char hex[1024];
    assert_true(2 * bytes.bytes < sizeof hex);
    hex_put(hex, bytes.data, bytes.bytes);
    assert_string_equal(hex, expected);
}

static void test_bytes_come_back(void **state)
{
    (void)state;
    struct buf bytes = {0}, again = {0};
    struct schema back;
    schema_put(&schema, &bytes);
    assert_hex(buf_span(&bytes),
               "0100010600696e636f6d65000300000002006e6f030079657305006d617962650600000003006167650"
               "10200000003000020410000003f03006a6f620202000000050062616b65720500736d69746804006661"
               "636503020000000300000004006e6f74650405007370617265050500706c61636501010000000000008"
               "03f00000040");
    const struct digest digest = schema_digest(&schema);
    assert_hex(span_of(digest.bytes, sizeof digest.bytes),
               "98c40fd50c4d650c8a680440c5ec160d44ccfcc1267734599f20c72bae07a63b");
    assert_int_equal(schema_get(buf_span(&bytes), &back), OK);
    schema_put(&back, &again);
    assert_true(span_equal(buf_span(&bytes), buf_span(&again)));
    assert_int_equal(back.column_count, COLUMNS);
    assert_string_equal(back.label, "income");
    assert_string_equal(back.classes[2], "maybe");
    assert_string_equal(back.columns[JOB].categories[1], "smith");
    assert_true(back.columns[AGE].missing && back.columns[AGE].standardise);
    assert_true(back.columns[AGE].offset == 10 && back.columns[AGE].scale == 0.5f);
    assert_int_equal(back.columns[FACE].width, 6);
    schema_deinit(&back);
    schema_deinit(&back); // {0} is accepted.
    buf_deinit(&bytes);
    buf_deinit(&again);
}

// Reads damaged bytes. Nothing may leak or crash; what is accepted must be canonical.
static void read_damaged(struct span bytes)
{
    struct schema back;
    const enum err err = schema_get(bytes, &back);
    if (err == OK) {
        struct buf again = {0};
        schema_put(&back, &again);
        assert_true(span_equal(bytes, buf_span(&again)));
        buf_deinit(&again);
        schema_deinit(&back);
        return;
    }
    assert_true(err == ERR_CORRUPT || err == ERR_INVALID);
    assert_null(back.columns);
    assert_null(back.label);
}

static void test_damaged_bytes_are_refused(void **state)
{
    (void)state;
    struct buf bytes = {0};
    schema_put(&schema, &bytes);
    for (size_t length = 0; length < bytes.bytes; length++) {
        struct schema back;
        assert_int_equal(schema_get(span_of(bytes.data, length), &back), ERR_CORRUPT);
    }
    for (size_t at = 0; at < bytes.bytes; at++) {
        const uint8_t before = bytes.data[at];
        for (int value = 0; value < 256; value++) {
            bytes.data[at] = (uint8_t)value;
            read_damaged(buf_span(&bytes));
        }
        bytes.data[at] = before;
    }
    struct schema back;
    buf_u8(&bytes, 0); // Something behind the end.
    assert_int_equal(schema_get(buf_span(&bytes), &back), ERR_CORRUPT);
    bytes.bytes--;
    bytes.data[0] = 2; // Another format.
    assert_int_equal(schema_get(buf_span(&bytes), &back), ERR_CORRUPT);
    assert_non_null(strstr(err_text(), "format 2, expected 1"));
    buf_deinit(&bytes);
    static const uint8_t huge[LIMIT_SCHEMA_BYTES + 1];
    assert_int_equal(schema_get(span_of(huge, sizeof huge), &back), ERR_INVALID);
}

// --- Rows ---

struct values {
    uint16_t label;
    uint32_t age[2]; // Bits.
    uint16_t job;
    uint32_t note_bytes;
    float place;
};

static const struct values plain = {2, {0x41a00000, 0x42200000}, 1, 3, 4.0f}; // 20, 40
static const uint32_t missing = 0x7fc00000;

static void put_row(const struct values *values, struct buf *row)
{
    buf_clear(row);
    buf_u16(row, values->label);
    buf_u32(row, values->age[0]);
    buf_u32(row, values->age[1]);
    buf_u16(row, values->job);
    for (int i = 0; i < 6; i++) {
        buf_u8(row, (uint8_t)(51 * i));
    }
    buf_u32(row, values->note_bytes);
    buf_put(row, span_text("abc"));
    buf_f32(row, values->place);
}

static void assert_row(const struct values *values, const char *message)
{
    struct buf row = {0};
    put_row(values, &row);
    const enum err err = schema_check_row(&schema, buf_span(&row));
    if (message == NULL) {
        assert_int_equal(err, OK);
    } else {
        assert_int_equal(err, ERR_INVALID);
        if (strstr(err_text(), message) == NULL) {
            fail_msg("found \"%s\", expected \"%s\"", err_text(), message);
        }
    }
    buf_deinit(&row);
}

static void test_rows_are_checked(void **state)
{
    (void)state;
    struct values v = plain;
    assert_row(&v, NULL);
    v.label = 3;
    assert_row(&v, "label (income): no such class");
    v = plain;
    v.age[1] = missing;
    assert_row(&v, NULL);
    v.age[1] = 0x7fc00001;
    assert_row(&v, "column 1 (age): holds an infinite number or a NaN");
    v.age[1] = 0x7f800000;
    assert_row(&v, "column 1 (age): holds an infinite number");
    v = plain;
    v.job = 3; // Missing.
    assert_row(&v, NULL);
    v.job = 4;
    assert_row(&v, "column 2 (job): holds a code beyond");
    v = plain;
    memcpy(&v.place, &missing, sizeof v.place);
    assert_row(&v, "column 6 (place): a value is missing");
    v = plain;
    v.note_bytes = 0xffffffff;
    assert_row(&v, "column 4 (note): the row ends too early");
    v.note_bytes = 2;
    assert_row(&v, "the row has 1 bytes more");

    struct buf row = {0};
    put_row(&plain, &row);
    assert_hex(buf_span(&row), "02000000a04100002042010000336699ccff0300000061626300008040");
    for (size_t length = 0; length < row.bytes; length++) {
        assert_int_equal(schema_check_row(&schema, span_of(row.data, length)), ERR_INVALID);
    }
    buf_deinit(&row);
    static const uint8_t huge[LIMIT_RECORD_BYTES + 1];
    assert_int_equal(schema_check_row(&schema, span_of(huge, sizeof huge)), ERR_INVALID);
    assert_non_null(strstr(err_text(), "expected at most"));
}

static void test_number_labels_must_be_finite(void **state)
{
    (void)state;
    struct column one = {
        .name = text("x"), .kind = COLUMN_PIXELS, .width = 1, .rows = 1, .cols = 1, .scale = 1};
    const struct schema s = {
        .columns = &one, .column_count = 1, .task = TASK_NUMBER, .label = text("y")};
    assert_int_equal(schema_check(&s), OK);
    struct buf row = {0};
    buf_f32(&row, 1);
    buf_u8(&row, 1);
    assert_int_equal(schema_check_row(&s, buf_span(&row)), OK);
    buf_clear(&row);
    buf_f32(&row, NAN);
    buf_u8(&row, 1);
    assert_int_equal(schema_check_row(&s, buf_span(&row)), ERR_INVALID);
    assert_int_equal(schema_output_width(&s), 1);
    buf_deinit(&row);
}

static void test_texts_are_found(void **state)
{
    (void)state;
    assert_int_equal(schema_category(&columns[JOB], span_text("baker")), 0);
    assert_int_equal(schema_category(&columns[JOB], span_text("smith")), 1);
    assert_int_equal(schema_category(&columns[JOB], span_text("smit")), -1);
    assert_int_equal(schema_category(&columns[JOB], span_text("smiths")), -1);
    assert_int_equal(schema_category(&columns[JOB], span_text("")), -1);
    assert_int_equal(schema_class(&schema, span_text("maybe")), 2);
    assert_int_equal(schema_class(&schema, span_text("Maybe")), -1);
    assert_int_equal(schema_output_width(&schema), 3);
}

// --- Features ---

static void test_input_width(void **state)
{
    (void)state;
    uint32_t width = 0;
    assert_int_equal(schema_input_width(&schema, "mlp", &width), ERR_INVALID);
    assert_non_null(strstr(err_text(), "learner mlp cannot learn from text: column 4 (note)"));
    columns[NOTE].kind = COLUMN_IGNORED;
    assert_int_equal(schema_input_width(&schema, "mlp", &width), OK);
    assert_int_equal(width, 2 * 2 + 4 + 6 + 1);
    schema.task = TASK_NONE;
    assert_int_equal(schema_input_width(&schema, "mlp", &width), ERR_INVALID);
    assert_non_null(strstr(err_text(), "needs a label"));
    reset(NULL);
    schema.columns = &columns[SPARE];
    schema.column_count = 1;
    assert_int_equal(schema_input_width(&schema, "mlp", &width), ERR_INVALID);
    assert_non_null(strstr(err_text(), "all are ignored"));
}

static uint32_t bits_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

// Values 20, 30, missing, 1e6 in age[0]; age[1] is always 40 (constant) or missing.
static void test_constants_and_expansion(void **state)
{
    (void)state;
    const float ages[4] = {20, 30, NAN, 40};
    struct buf rows[4] = {{0}};
    struct span spans[4];
    for (int i = 0; i < 4; i++) {
        struct values v = plain;
        v.age[0] = i == 2 ? missing : bits_of(ages[i]);
        v.age[1] = i == 1 ? missing : bits_of(40);
        v.job = (uint16_t)i;
        put_row(&v, &rows[i]);
        spans[i] = buf_span(&rows[i]);
    }
    assert_int_equal(schema_constant_count(&schema), 2);
    float constants[4];
    schema_constants(&schema, spans, 4, constants);
    // (x - 10) / 2: 5, 10, 15: mean 10, deviation sqrt(50 / 3); 15 thrice: deviation 0.
    const float deviation = (float)sqrt(50.0 / 3.0);
    const float expected[4] = {10, deviation, 15, 0};
    assert_memory_equal(constants, expected, sizeof constants);

    float x[15], y;
    schema_expand(&schema, constants, spans[0], x, &y);
    const float first[15] = {
        -5 / deviation, 0, 0, 0, 1, 0, 0, 0, 0, 51 / 255.0f, 102 / 255.0f, 153 / 255.0f,
        204 / 255.0f,   1, 6};
    assert_memory_equal(x, first, sizeof x);
    assert_true(y == 2);
    schema_expand(&schema, constants, spans[2], x, NULL); // Missing, and the code for other.
    assert_true(x[0] == 0 && x[1] == 0 && x[2] == 1 && x[3] == 0);
    assert_true(x[4] == 0 && x[5] == 0 && x[6] == 1 && x[7] == 0);

    struct values far = plain;
    far.age[0] = bits_of(-3e38f);
    put_row(&far, &rows[0]);
    schema_expand(&schema, constants, buf_span(&rows[0]), x, NULL);
    assert_true(x[0] == -8); // Clamped.
    far.age[0] = bits_of(3e38f);
    put_row(&far, &rows[0]);
    columns[AGE].scale = 10; // The scaled value overflows, and stays finite.
    schema_expand(&schema, constants, buf_span(&rows[0]), x, NULL);
    assert_true(x[0] == 8);
    spans[0] = buf_span(&rows[0]);
    schema_constants(&schema, spans, 4, constants);
    assert_true(isfinite(constants[0]) && isfinite(constants[1]));
    schema_constants(&schema, spans + 2, 1, constants); // age[0] never occurs.
    assert_true(constants[0] == 0 && constants[1] == 0);
    for (int i = 0; i < 4; i++) {
        buf_deinit(&rows[i]);
    }
}

static void test_standardised_label(void **state)
{
    (void)state;
    struct column one = {
        .name = text("x"), .kind = COLUMN_NUMERIC, .width = 1, .standardise = true, .scale = 1};
    const struct schema s = {.columns = &one,
                             .column_count = 1,
                             .task = TASK_NUMBER,
                             .label = text("y"),
                             .label_standardise = true};
    struct buf rows = {0};
    const float numbers[2][2] = {{100, 1}, {300, 5}}; // label, x
    for (int i = 0; i < 2; i++) {
        buf_f32(&rows, numbers[i][0]);
        buf_f32(&rows, numbers[i][1]);
    }
    const struct span spans[2] = {{rows.data, 8}, {rows.data + 8, 8}};
    assert_int_equal(schema_constant_count(&s), 2);
    float constants[4], x, y;
    schema_constants(&s, spans, 2, constants);
    const float expected[4] = {3, 2, 200, 100};
    assert_memory_equal(constants, expected, sizeof constants);
    schema_expand(&s, constants, spans[1], &x, &y);
    assert_true(x == 1 && y == 1);
    buf_deinit(&rows);
}

int main(void)
{
    if (digest_start() != OK) {
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_every_rule_is_checked, reset),
        cmocka_unit_test_setup(test_schema_must_fit_a_frame, reset),
        cmocka_unit_test_setup(test_bytes_come_back, reset),
        cmocka_unit_test_setup(test_damaged_bytes_are_refused, reset),
        cmocka_unit_test_setup(test_rows_are_checked, reset),
        cmocka_unit_test_setup(test_number_labels_must_be_finite, reset),
        cmocka_unit_test_setup(test_texts_are_found, reset),
        cmocka_unit_test_setup(test_input_width, reset),
        cmocka_unit_test_setup(test_constants_and_expansion, reset),
        cmocka_unit_test_setup(test_standardised_label, reset),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
