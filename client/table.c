// client/table.c: see table.h.
#include "client/table.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/limits.h"
#include "base/mem.h"
#include "base/text.h"

void table_deinit(struct table *table)
{
    for (uint32_t i = 0; i < table->column_count; i++) {
        mem_free(table->columns[i].name);
    }
    mem_free(table->columns);
    mem_free(table->values);
    *table = (struct table){0};
}

enum err table_add(struct table *table, struct span name)
{
    TRY(text_check_name("a column name", name));
    if (table->column_count >= LIMIT_COLUMNS) {
        FAIL(ERR_LIMIT, "more than %d columns", (int)LIMIT_COLUMNS);
    }
    if (table->column_count == table->capacity) {
        table->capacity = table->capacity == 0 ? 16 : 2 * table->capacity;
        table->columns = mem_resize(table->columns, table->capacity, sizeof *table->columns);
        table->values = mem_resize(table->values, table->capacity, sizeof *table->values);
    }
    char *const copy = mem_alloc(name.bytes + 1, 1);
    memcpy(copy, name.data, name.bytes);
    table->values[table->column_count] = (struct value){0};
    table->columns[table->column_count++] =
        (struct table_column){.name = copy, .kind = VALUE_FIELD, .width = 1};
    return OK;
}

int64_t table_find(const struct table *table, struct span name, uint32_t hint)
{
    for (uint32_t i = 0; i < table->column_count; i++) {
        const uint32_t at = (uint32_t)(((uint64_t)hint + i) % table->column_count);
        if (span_equal(span_text(table->columns[at].name), name)) {
            return at;
        }
    }
    return -1;
}

void table_clear_row(struct table *table)
{
    if (table->column_count > 0) {
        memset(table->values, 0, table->column_count * sizeof *table->values);
    }
}

bool table_is_number(const struct value *value, double *number_out)
{
    if (value->kind == VALUE_NUMBER) {
        *number_out = value->number;
        return true;
    }
    return value->kind == VALUE_FIELD && text_f64(value->text, number_out) == OK;
}

struct span table_number_text(double number, char out[static TABLE_NUMBER_BYTES])
{
    CHECK(isfinite(number));
    const bool whole = fabs(number) < 0x1p53 && trunc(number) == number;
    const int bytes = whole ? snprintf(out, TABLE_NUMBER_BYTES, "%lld", (long long)number)
                            : snprintf(out, TABLE_NUMBER_BYTES, "%.17g", number);
    return span_of(out, (size_t)bytes);
}

void table_list(const struct table *table, char *out, size_t capacity)
{
    enum { SHOWN = 8 };
    size_t at = 0;
    out[0] = '\0';
    for (uint32_t i = 0; i < table->column_count && i < SHOWN && at < capacity; i++) {
        const int put = snprintf(out + at, capacity - at, "%s\"%.40s\"", i > 0 ? ", " : "",
                                 table->columns[i].name);
        at += put > 0 ? (size_t)put : 0;
    }
    if (table->column_count > SHOWN && at < capacity) {
        snprintf(out + at, capacity - at, " and %u more", table->column_count - SHOWN);
    }
}
