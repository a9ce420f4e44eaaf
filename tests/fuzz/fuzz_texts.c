// tests/fuzz/fuzz_texts.c: the small texts of command lines, files and messages: due dates, repair policies,
// risk tables, component names, UUIDs, hex, days, numbers, labels, public keys, signed heads.
//
// What is written back from what was read reads as the same.
#include <math.h>
#include <strings.h>

#include "base/check.h"
#include "base/component.h"
#include "base/head.h"
#include "base/mem.h"
#include "base/repair.h"
#include "base/risk.h"
#include "base/sign.h"
#include "base/text.h"
#include "scheduler/due.h"
#include "tests/fuzz/fuzz.h"

static void times(const char *text)
{
    const int64_t now = INT64_C(1700000000000000);
    int64_t time = 0;
    char out[TEXT_TIME_BYTES];
    if (due_parse(text, now, &time) == OK) {
        CHECK(time > now && time <= now + (int64_t)LIMIT_DUE_DAYS * 86400 * 1000000);
        text_time(time, out);
    }
    if (text_date(text, &time) == OK) {
        CHECK(time >= 0);
        text_time(time, out);
        CHECK(time == 0 || strncmp(out, text, 10) == 0);
    }
}

static void numbers(const char *text)
{
    uint64_t whole = 0;
    double number = 0, again = 0;
    char out[TEXT_NUMBER_BYTES];
    CHECK(text_u64(text, 1000, &whole) != OK || whole <= 1000);
    fuzz_either(text_u64(text, UINT64_MAX, &whole));
    if (text_f64(span_text(text), &number) == OK) {
        CHECK(isfinite(number));
        text_f64_put(number, out);
        CHECK(text_f64(span_text(out), &again) == OK && again == number);
    }
}

static void policies(const char *text)
{
    struct repair_policy policy, again;
    char out[REPAIR_TEXT_BYTES], table_out[RISK_TEXT_BYTES];
    struct risk_table table = {0}, same = {0};
    uint8_t class;
    if (repair_parse(text, &policy) == OK) {
        repair_put(&policy, out);
        CHECK(repair_parse(out, &again) == OK && again.kind == policy.kind);
        CHECK(again.batch == policy.batch);
    }
    if (risk_get("risk", text, &table) == OK && risk_check("risk", &table, 16, 8) == OK) {
        char table_again[RISK_TEXT_BYTES];
        risk_put(&table, 16, 8, table_out);
        CHECK(risk_get("risk", table_out, &same) == OK);
        risk_put(&same, 16, 8, table_again);
        CHECK(strcmp(table_out, table_again) == 0);
    }
    CHECK(risk_class(text, &class) != OK || class < LIMIT_RISK_CLASSES);
}

static void names(const char *text)
{
    struct component component;
    struct id128 uuid, same;
    uint8_t bytes[16];
    char out[COMPONENT_TEXT_BYTES], uuid_out[TEXT_UUID_BYTES], hex_out[33];
    if (component_get(text, &component) == OK) {
        component_put(&component, out);
        CHECK(strcmp(out, text) == 0);
    }
    if (text_uuid(text, &uuid) == OK) {
        text_uuid_put(&uuid, uuid_out);
        CHECK(text_uuid(uuid_out, &same) == OK && id128_compare(&uuid, &same) == 0);
    }
    if (hex_get(bytes, sizeof bytes, text) == OK) {
        hex_put(hex_out, bytes, sizeof bytes);
        CHECK(strcasecmp(hex_out, text) == 0);
    }
    if (text_check_label("label", text) == OK) {
        CHECK(text_check_name("label", span_text(text)) == OK);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct span all = span_of(data, size);
    char *const text = fuzz_text(all);
    times(text);
    numbers(text);
    policies(text);
    names(text);
    struct buf shown = {0};
    text_put_visible(all, &shown);
    CHECK(shown.bytes <= 4 * size);
    buf_deinit(&shown);
    struct sign_public key;
    fuzz_either(sign_public_read(fuzz_file(0, all), &key));
    struct head head;
    if (head_of(all, &head) == OK) {
        uint8_t again[HEAD_BYTES];
        head_put(&head, again);
        CHECK(span_equal(span_of(again, sizeof again), all));
    }
    mem_free(text);
    return 0;
}
