// tests/unit/test_import.c: an import lands whole or not at all, and brings nobody back.
//
// Method: small imports of numbered records into one dataset, with everything that can happen
// between begin and commit; after each step the visible records are compared with a list. The
// tables themselves are counted at the end: nothing may be left behind.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// cmocka needs the four above first.
#include <cmocka.h>

#include "base/risk.h"
#include "store/record.h"
#include "tests/unit/people.h"

static struct people people;

static int set_up(void **state)
{
    (void)state;
    people_open(&people);
    people_begin(&people);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    people_commit(&people);
    people_close(&people);
    return 0;
}

static void next_txn(void)
{
    people_commit(&people);
    people_begin(&people);
}

static uint64_t begin(uint32_t generation, bool readmit)
{
    uint64_t import = 0;
    assert_int_equal(import_begin(people.txn, PEOPLE_DATASET, generation, readmit, &import), OK);
    assert_true(import > 0);
    return import;
}

// Record `number` of subject `who`, whose h is its number; class 0.
static enum err stage(uint64_t import, uint32_t number, uint8_t who, const char *values)
{
    return people_stage(&people, import, number, who, who, 0, values);
}

static void commits(uint64_t import, uint64_t records, uint64_t subjects, uint64_t skipped)
{
    struct import_counts counts;
    assert_int_equal(import_commit(people.txn, import, &counts), OK);
    assert_int_equal(counts.records, records);
    assert_int_equal(counts.subjects, subjects);
    assert_int_equal(counts.skipped, skipped);
}

static struct dataset_row dataset(void)
{
    struct dataset_row row;
    assert_int_equal(dataset_get(people.txn, PEOPLE_DATASET, &row), OK);
    return row;
}

static bool count_one(void *context, const struct record *record)
{
    (void)record;
    ++*(size_t *)context;
    return true;
}

// The visible records of generation 1 and 2, by count with and without values, by each number, and
// through their subjects.
static void sees(size_t count, const uint32_t *numbers)
{
    size_t full = 0, keys = 0;
    for (uint32_t g = 1; g <= 2; g++) {
        assert_int_equal(record_walk(people.txn, PEOPLE_DATASET,
                                     &(struct record_range){g, 0, UINT8_MAX, 0, UINT64_MAX}, NULL,
                                     false, count_one, &full),
                         OK);
        assert_int_equal(record_walk(people.txn, PEOPLE_DATASET,
                                     &(struct record_range){g, 0, UINT8_MAX, 0, UINT64_MAX}, NULL,
                                     true, count_one, &keys),
                         OK);
    }
    assert_int_equal(full, count);
    assert_int_equal(keys, count);
    for (size_t i = 0; i < count; i++) {
        const struct id128 rid = people_rid(numbers[i]);
        struct record record;
        assert_int_equal(record_find(people.txn, PEOPLE_DATASET, &rid, &record), OK);
        size_t of_subject = 0;
        assert_int_equal(record_walk_subject(people.txn, PEOPLE_DATASET, 3, &record.key.sid,
                                             count_one, &of_subject),
                         OK);
        assert_true(of_subject > 0);
    }
}
#define SEES(...)                                                                                  \
    sees(sizeof((uint32_t[]){__VA_ARGS__}) / sizeof(uint32_t), (uint32_t[]){__VA_ARGS__})
#define SEES_NOTHING() sees(0, NULL)

static size_t rows_in(enum kv_table table)
{
    struct kv_cursor cursor;
    size_t count = 0;
    assert_int_equal(kv_cursor_open(&people.txn->kv, table, &cursor), OK);
    assert_int_equal(kv_cursor_seek(&cursor, span_of("", 0)), OK);
    while (!cursor.at_end) {
        count++;
        assert_int_equal(kv_cursor_next(&cursor), OK);
    }
    kv_cursor_close(&cursor);
    return count;
}

// Tidies to the end, a few rows a call, each in a transaction of its own.
static void tidy(size_t row_count_max)
{
    bool more = true;
    for (int i = 0; more; i++) {
        assert_true(i < 100);
        assert_int_equal(import_tidy(people.txn, row_count_max, &more), OK);
        next_txn();
    }
    assert_int_equal(rows_in(KV_STAGED), 0);
    assert_int_equal(rows_in(KV_MARK), 0);
    assert_int_equal(rows_in(KV_IMPORT), 0);
    assert_int_equal(rows_in(KV_INDEX), rows_in(KV_RECORD));
}

static void delete_record(uint32_t number, uint8_t who, uint32_t generation)
{
    const struct record_key key = people_key(number, generation, who, who, 0);
    assert_int_equal(record_remove(people.txn, &key), OK);
    assert_int_equal(tombstone_put(people.txn, PEOPLE_DATASET, TOMBSTONE_RECORD, &key.rid, number),
                     OK);
}

// --- Landing ---

static void test_rows_are_seen_from_the_commit_on(void **state)
{
    (void)state;
    const uint64_t import = begin(1, false);
    assert_int_equal(stage(import, 1, 1, "a"), OK);
    next_txn();
    assert_int_equal(stage(import, 2, 1, "b"), OK);
    assert_int_equal(stage(import, 3, 2, "c"), OK);
    SEES_NOTHING();
    next_txn();
    SEES_NOTHING();
    const struct id128 rid = people_rid(1);
    struct record record;
    assert_int_equal(record_find(people.txn, PEOPLE_DATASET, &rid, &record), ERR_NOT_FOUND);
    commits(import, 3, 2, 0);
    SEES(1, 2, 3);
    next_txn();
    SEES(1, 2, 3);
    assert_int_equal(dataset().record_count, 3);
    assert_int_equal(dataset().generation_next, 2);
    assert_int_equal(dataset().generation_closed, 1);
    tidy(2);
    SEES(1, 2, 3);
}

static void test_rolled_back_steps_leave_the_import_as_it_was(void **state)
{
    (void)state;
    uint64_t import = begin(1, false);
    people_roll_back(&people); // The beginning itself.
    people_begin(&people);
    assert_int_equal(stage(import, 1, 1, "a"), ERR_NOT_FOUND);
    import = begin(1, false);
    next_txn();
    assert_int_equal(stage(import, 1, 1, "a"), OK);
    people_roll_back(&people); // A staging.
    people_begin(&people);
    assert_int_equal(stage(import, 2, 1, "b"), OK);
    next_txn();
    struct import_counts counts;
    assert_int_equal(import_commit(people.txn, import, &counts), OK);
    SEES(2);
    people_roll_back(&people); // The commit: open again, and hidden again.
    people_begin(&people);
    SEES_NOTHING();
    assert_int_equal(import_abort(people.txn, import), OK);
    people_roll_back(&people); // The giving up.
    people_begin(&people);
    assert_int_equal(stage(import, 3, 1, "c"), OK);
    commits(import, 2, 1, 0);
    next_txn();
    SEES(2, 3);
    bool more;
    assert_int_equal(import_tidy(people.txn, 100, &more), OK);
    assert_false(more);
    people_roll_back(&people); // The tidying.
    people_begin(&people);
    assert_int_equal(rows_in(KV_IMPORT), 1);
    tidy(100);
    SEES(2, 3);
}

// The row of a new dataset comes in the transaction of its first commit, so that a refused first
// import leaves no dataset behind.
static void test_a_first_import_needs_no_dataset_before_its_commit(void **state)
{
    (void)state;
    uint64_t import;
    struct import_counts counts;
    assert_int_equal(import_begin(people.txn, 99, 0, false, &import), OK);
    assert_int_equal(import_commit(people.txn, import, &counts), ERR_NOT_FOUND);
    const struct dataset_row row = {.number = 99, .name = "new"};
    assert_int_equal(dataset_put(people.txn, &row), OK); // Control.
    assert_int_equal(import_commit(people.txn, import, &counts), OK);
}

static void test_begin_refuses_what_must_not_be(void **state)
{
    (void)state;
    uint64_t import;
    assert_int_equal(import_begin(people.txn, PEOPLE_DATASET, 0, false, &import), ERR_CONFLICT);
    assert_non_null(strstr(err_text(), "generation 0 is closed"));
    assert_int_equal(import_begin(people.txn, PEOPLE_DATASET, LIMIT_GENERATION, false, &import),
                     ERR_LIMIT);
    const uint64_t first = begin(1, false); // Control.
    assert_int_equal(import_begin(people.txn, PEOPLE_DATASET, 1, false, &import), ERR_CONFLICT);
    assert_non_null(strstr(err_text(), "under way"));
    assert_int_equal(import_abort(people.txn, first), OK);
    for (uint32_t i = 0; i <= LIMIT_IMPORTS_OPEN; i++) {
        const struct dataset_row row = {.number = 100 + i, .name = "more"};
        assert_int_equal(dataset_put(people.txn, &row), OK);
        assert_int_equal(import_begin(people.txn, 100 + i, 1, false, &import),
                         i < LIMIT_IMPORTS_OPEN ? OK : ERR_LIMIT);
    }
}

static void test_only_open_imports_go_on(void **state)
{
    (void)state;
    struct import_counts counts;
    const uint64_t import = begin(1, false);
    assert_int_equal(stage(import + 1, 1, 1, "a"), ERR_NOT_FOUND);
    assert_int_equal(import_commit(people.txn, import + 1, &counts), ERR_NOT_FOUND);
    assert_int_equal(import_abort(people.txn, import + 1), ERR_NOT_FOUND);
    commits(import, 0, 0, 0);
    assert_int_equal(stage(import, 1, 1, "a"), ERR_NOT_FOUND);
    assert_int_equal(import_commit(people.txn, import, &counts), ERR_NOT_FOUND);
    assert_int_equal(import_abort(people.txn, import), ERR_NOT_FOUND);
}

static void test_commit_into_a_closed_generation_is_refused(void **state)
{
    (void)state;
    const uint64_t import = begin(1, false);
    assert_int_equal(stage(import, 1, 1, "a"), OK);
    struct dataset_row row = dataset();
    row.generation_closed = 2;
    assert_int_equal(dataset_put(people.txn, &row), OK);
    struct import_counts counts;
    assert_int_equal(import_commit(people.txn, import, &counts), ERR_CONFLICT);
    assert_non_null(strstr(err_text(), "was closed"));
    row.generation_closed = 1; // Control.
    assert_int_equal(dataset_put(people.txn, &row), OK);
    commits(import, 1, 1, 0);
}

// A cluster that leaves all records of a wave out must still come to the same generations.
static void test_empty_import_takes_its_generation(void **state)
{
    (void)state;
    commits(begin(4, false), 0, 0, 0);
    assert_int_equal(dataset().generation_next, 5);
    commits(begin(2, false), 0, 0, 0);
    assert_int_equal(dataset().generation_next, 5);
}

// --- Meeting what is there ---

static void test_equal_records_are_skipped_and_others_conflict(void **state)
{
    (void)state;
    uint64_t import = begin(1, false);
    assert_int_equal(stage(import, 1, 1, "a"), OK);
    assert_int_equal(stage(import, 1, 1, "a"), OK); // Twice in this import.
    assert_int_equal(stage(import, 1, 1, "b"), ERR_CONFLICT);
    assert_int_equal(stage(import, 2, 1, "b"), OK);
    commits(import, 2, 1, 1);
    import = begin(2, false);
    assert_int_equal(stage(import, 1, 1, "a"), OK); // In an earlier one.
    assert_int_equal(stage(import, 3, 3, "c"), OK);
    assert_int_equal(stage(import, 2, 1, "a"), ERR_CONFLICT); // Other values.
    assert_int_equal(stage(import, 2, 2, "b"), ERR_CONFLICT); // Another subject.
    struct person row;
    people_make(&row, 2, 1, 1, 0, "bb");
    assert_int_equal(import_stage(people.txn, import, &row.row, 1, 4711), ERR_CONFLICT);
    assert_non_null(strstr(err_text(), "row 4711"));
    assert_non_null(strstr(err_text(), "--id COL"));
    assert_non_null(strstr(err_text(), "--id-prefix TEXT"));
    commits(import, 1, 1, 1);
    SEES(1, 2, 3);
    struct record record; // The first one stays where it was.
    const struct id128 rid = people_rid(1);
    assert_int_equal(record_find(people.txn, PEOPLE_DATASET, &rid, &record), OK);
    assert_int_equal(record.key.generation, 1);
    assert_int_equal(dataset().record_count, 3);
}

static void test_rows_beyond_their_bounds_are_refused(void **state)
{
    (void)state;
    const uint64_t import = begin(1, false);
    uint8_t *const big = mem_alloc(LIMIT_RECORD_BYTES + 1, 1);
    struct person good;
    people_make(&good, 1, 1, 1, 0, "");
    struct import_row rows[4] = {good.row, good.row, good.row, good.row};
    rows[0].id.bytes = 0;
    rows[1].id = span_of(big, LIMIT_NAME_BYTES + 1);
    rows[2].subject = span_of(big, LIMIT_NAME_BYTES + 1);
    rows[3].row = span_of(big, LIMIT_RECORD_BYTES + 1);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(import_stage(people.txn, import, &rows[i], 1, 7), ERR_INVALID);
        assert_non_null(strstr(err_text(), "row 7"));
    }
    good.row.id = span_of(big, LIMIT_NAME_BYTES); // Control: the greatest that may be.
    good.row.subject = span_of(big, LIMIT_NAME_BYTES);
    good.row.row = span_of(big, LIMIT_RECORD_BYTES);
    assert_int_equal(import_stage(people.txn, import, &good.row, 1, 7), OK);
    commits(import, 1, 1, 0);
    struct record record;
    assert_int_equal(record_find(people.txn, PEOPLE_DATASET, &good.row.rid, &record), OK);
    assert_true(span_equal(record.row, good.row.row));
    assert_true(span_equal(record.id, good.row.id));
    mem_free(big);
}

// --- Risk classes ---

// Record `number` of subject `who` in a class, in row 100 + number of its file.
static enum err declare(uint64_t import, uint32_t number, uint8_t who, uint8_t risk)
{
    struct person person = {.id = {0}};
    people_make(&person, number, who, who, risk, "a");
    return import_stage(people.txn, import, &person.row, 1, 100 + number);
}

static void conflicts(uint64_t import, uint32_t number, uint8_t who, uint8_t risk, uint8_t has)
{
    char text[160];
    snprintf(
        text, sizeof text,
        "row %u: it declares risk class %u for its subject, of which another record has class %u",
        100 + number, risk, has);
    assert_int_equal(declare(import, number, who, risk), ERR_CONFLICT);
    assert_string_equal(err_text(), text);
}

static void has_class(uint32_t number, uint8_t risk)
{
    const struct id128 rid = people_rid(number);
    struct record record;
    assert_int_equal(record_find(people.txn, PEOPLE_DATASET, &rid, &record), OK);
    assert_int_equal(record.key.risk, risk);
}

static void counts_by_class(uint8_t first, uint64_t of_first, uint8_t second, uint64_t of_second)
{
    const struct dataset_row row = dataset();
    for (uint8_t risk = 0; risk < LIMIT_RISK_CLASSES; risk++) {
        assert_int_equal(row.risk_records[risk], risk == first    ? of_first
                                                 : risk == second ? of_second
                                                                  : 0);
    }
    assert_int_equal(row.record_count, of_first + of_second);
}

static void test_a_subject_has_one_class(void **state)
{
    (void)state;
    uint64_t import = begin(1, false);
    assert_int_equal(declare(import, 1, 1, 15), OK);
    assert_int_equal(declare(import, 1, 1, 15), OK);              // The same once more.
    assert_int_equal(declare(import, 2, 1, RISK_UNDECLARED), OK); // Takes it.
    assert_int_equal(declare(import, 3, 2, RISK_UNDECLARED), OK); // 0
    conflicts(import, 1, 1, 3, 15);                               // The same id, other class.
    conflicts(import, 4, 1, 0, 15);
    conflicts(import, 4, 2, 15, 0);
    next_txn();
    assert_int_equal(declare(import, 5, 2, 0), OK);
    commits(import, 4, 2, 1);
    has_class(1, 15);
    has_class(2, 15);
    has_class(3, 0);
    counts_by_class(15, 2, 0, 2);
    import = begin(2, false); // Another import, another generation.
    conflicts(import, 1, 1, 14, 15);
    conflicts(import, 6, 1, 14, 15);
    conflicts(import, 6, 2, 1, 0);
    assert_int_equal(declare(import, 1, 1, 15), OK);
    assert_int_equal(declare(import, 1, 1, RISK_UNDECLARED), OK);
    assert_int_equal(declare(import, 6, 1, RISK_UNDECLARED), OK);
    assert_int_equal(declare(import, 7, 2, RISK_UNDECLARED), OK);
    assert_int_equal(declare(import, 8, 3, 15), OK);
    next_txn();
    commits(import, 3, 3, 2);
    has_class(6, 15);
    has_class(7, 0);
    counts_by_class(15, 4, 0, 3);
    tidy(100);
}

// Where no row declares any, none is looked for; but one class anywhere in the dataset, and it is.
static void test_undeclared_rows_take_a_class_of_any_generation(void **state)
{
    (void)state;
    uint64_t import = begin(1, false);
    assert_int_equal(declare(import, 1, 1, 0), OK);
    assert_int_equal(declare(import, 2, 2, 9), OK);
    commits(import, 2, 2, 0);
    import = begin(4, false);
    assert_int_equal(declare(import, 3, 2, RISK_UNDECLARED), OK);
    assert_int_equal(declare(import, 4, 1, RISK_UNDECLARED), OK);
    commits(import, 2, 2, 0);
    has_class(3, 9);
    has_class(4, 0);
    struct import_row rows[2]; // Both in one call, the second before the class is in the store.
    struct person first, second;
    people_make(&first, 5, 50, 50, 7, "a");
    people_make(&second, 6, 50, 50, RISK_UNDECLARED, "a");
    rows[0] = first.row;
    rows[1] = second.row;
    import = begin(4, false);
    assert_int_equal(import_stage(people.txn, import, rows, 2, 0), OK);
    commits(import, 2, 1, 0);
    has_class(6, 7);
}

static void test_deleted_records_have_no_say_in_the_class(void **state)
{
    (void)state;
    uint64_t import = begin(1, false);
    assert_int_equal(declare(import, 1, 1, 4), OK);
    assert_int_equal(declare(import, 2, 2, 4), OK);
    assert_int_equal(declare(import, 3, 2, 4), OK);
    commits(import, 3, 2, 0);
    // Acknowledged, not yet erased: deleted all the same.
    const struct record_key keys[2] = {people_key(1, 1, 1, 1, 4), people_key(2, 1, 2, 2, 4)};
    struct dataset_row row = dataset();
    dataset_lose(&row, keys, 2);
    assert_int_equal(dataset_put(people.txn, &row), OK);
    counts_by_class(4, 1, 0, 0);
    for (size_t i = 0; i < 2; i++) {
        record_deny(people.store, &keys[i]);
        assert_int_equal(
            tombstone_put(people.txn, PEOPLE_DATASET, TOMBSTONE_RECORD, &keys[i].rid, 1), OK);
    }
    next_txn();
    import = begin(1, false);
    assert_int_equal(declare(import, 1, 1, 6), OK); // Skipped; it would be free to have it.
    assert_int_equal(declare(import, 4, 1, 6), OK);
    conflicts(import, 5, 2, 6, 4); // Record 3 is there.
    commits(import, 1, 1, 1);
    has_class(4, 6);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(record_remove(people.txn, &keys[i]), OK);
    }
    next_txn();
    import = begin(1, true);
    conflicts(import, 1, 1, 4, 6); // Not the class it had: its subject has another now.
    assert_int_equal(declare(import, 1, 1, 6), OK);
    assert_int_equal(declare(import, 2, 2, RISK_UNDECLARED), OK);
    commits(import, 2, 2, 0);
    has_class(1, 6);
    has_class(2, 4);
    counts_by_class(6, 2, 4, 2);
}

static void test_refused_imports_have_no_say_in_the_class(void **state)
{
    (void)state;
    uint64_t import = begin(1, false);
    assert_int_equal(declare(import, 1, 1, 4), OK);
    next_txn();
    assert_int_equal(import_abort(people.txn, import), OK);
    next_txn();
    import = begin(1, false); // Its rows are hidden and not yet erased.
    assert_int_equal(declare(import, 1, 1, 5), OK);
    assert_int_equal(declare(import, 2, 1, RISK_UNDECLARED), OK);
    commits(import, 2, 1, 0);
    tidy(1);
    has_class(1, 5);
    has_class(2, 5);
    counts_by_class(5, 2, 0, 0);
}

static void test_classes_beyond_the_last_are_refused(void **state)
{
    (void)state;
    const uint64_t import = begin(1, false);
    assert_int_equal(declare(import, 1, 1, LIMIT_RISK_CLASSES), ERR_INVALID);
    assert_string_equal(err_text(), "row 101: risk class 16, expected 0 to 15");
    assert_int_equal(declare(import, 1, 1, RISK_UNDECLARED - 1), ERR_INVALID);
    assert_int_equal(declare(import, 1, 1, LIMIT_RISK_CLASSES - 1), OK); // Control.
}

// --- Tombstones ---

static void test_tombstoned_stay_out_unless_readmitted(void **state)
{
    (void)state;
    uint64_t import = begin(1, false);
    for (uint32_t i = 1; i <= 4; i++) {
        assert_int_equal(stage(import, i, (uint8_t)(i <= 2 ? 1 : i), "a"), OK);
    }
    commits(import, 4, 3, 0);
    delete_record(3, 3, 1); // One record.
    delete_record(1, 1, 1); // A subject with its two.
    delete_record(2, 1, 1);
    const struct id128 sid = people_sid(1, 1);
    assert_int_equal(tombstone_put(people.txn, PEOPLE_DATASET, TOMBSTONE_SUBJECT, &sid, 9), OK);
    next_txn();
    SEES(4);
    import = begin(2, false);
    assert_int_equal(stage(import, 1, 1, "a"), OK);
    assert_int_equal(stage(import, 3, 3, "changed"), OK); // Even with other bytes.
    assert_int_equal(stage(import, 4, 4, "a"), OK);
    assert_int_equal(stage(import, 5, 1, "a"), OK); // New, but of the deleted subject.
    assert_int_equal(stage(import, 6, 3, "a"), OK); // New, and its subject was not deleted.
    commits(import, 1, 1, 4);
    SEES(4, 6);
    import = begin(2, true);
    assert_int_equal(stage(import, 1, 1, "a"), OK);
    assert_int_equal(stage(import, 3, 3, "changed"), OK);
    assert_int_equal(stage(import, 4, 4, "a"), OK);
    commits(import, 2, 2, 1);
    SEES(1, 3, 4, 6);
    struct record record; // A new record of the open generation.
    const struct id128 rid = people_rid(3);
    assert_int_equal(record_find(people.txn, PEOPLE_DATASET, &rid, &record), OK);
    assert_int_equal(record.key.generation, 2);
    // Readmission removed the tombstones of record and subject, and left record 2's.
    import = begin(2, false);
    assert_int_equal(stage(import, 7, 1, "a"), OK);
    assert_int_equal(stage(import, 2, 1, "a"), OK);
    commits(import, 1, 1, 1);
    SEES(1, 3, 4, 6, 7);
    tidy(3);
    assert_int_equal(rows_in(KV_TOMBSTONE), 1);
}

static void test_rolled_back_readmission_keeps_tombstones(void **state)
{
    (void)state;
    uint64_t import = begin(1, false);
    assert_int_equal(stage(import, 1, 1, "a"), OK);
    commits(import, 1, 1, 0);
    delete_record(1, 1, 1);
    next_txn();
    import = begin(1, true);
    assert_int_equal(stage(import, 1, 1, "a"), OK);
    next_txn();
    assert_int_equal(import_abort(people.txn, import), OK);
    tidy(1);
    assert_int_equal(rows_in(KV_TOMBSTONE), 1);
    import = begin(1, false);
    assert_int_equal(stage(import, 1, 1, "a"), OK);
    commits(import, 0, 0, 1);
}

static void test_tombstoned_while_open_are_left_out(void **state)
{
    (void)state;
    const uint64_t import = begin(1, false);
    for (uint32_t i = 1; i <= 3; i++) { // A subject among neighbours in other risk classes.
        assert_int_equal(people_stage(&people, import, i, 50, 1, 7, "a"), OK);
        assert_int_equal(people_stage(&people, import, 10 + i, 50, 2, 0, "a"), OK);
        assert_int_equal(people_stage(&people, import, 20 + i, 49, 1, 15, "a"), OK);
    }
    assert_int_equal(stage(import, 30, 60, "a"), OK);
    assert_int_equal(stage(import, 31, 60, "a"), OK);
    assert_int_equal(stage(import, 32, 61, "a"), OK);
    next_txn();
    const struct id128 sid = people_sid(50, 1), none = people_sid(1, 1);
    const struct id128 first = people_rid(30), last = people_rid(32), unknown = people_rid(99);
    const uint32_t d = PEOPLE_DATASET;
    assert_int_equal(tombstone_put(people.txn, d, TOMBSTONE_SUBJECT, &sid, 1), OK);
    assert_int_equal(tombstone_put(people.txn, d, TOMBSTONE_SUBJECT, &none, 1), OK);
    assert_int_equal(tombstone_put(people.txn, d, TOMBSTONE_RECORD, &first, 2), OK);
    assert_int_equal(tombstone_put(people.txn, d, TOMBSTONE_RECORD, &last, 2), OK);
    assert_int_equal(tombstone_put(people.txn, d, TOMBSTONE_RECORD, &unknown, 2), OK);
    assert_int_equal(tombstone_put(people.txn, d + 1, TOMBSTONE_RECORD, &unknown, 2), OK);
    next_txn();
    assert_int_equal(stage(import, 33, 60, "a"), OK);                       // Goes in.
    assert_int_equal(stage(import, 99, 62, "a"), OK);                       // Does not.
    assert_int_equal(people_stage(&people, import, 34, 50, 1, 7, "a"), OK); // Nor this.
    commits(import, 8, 3, 7);
    next_txn();
    SEES(11, 12, 13, 21, 22, 23, 31, 33);
    assert_int_equal(dataset().record_count, 8);
    counts_by_class(0, 5, 15, 3);
    tidy(1);
    assert_int_equal(rows_in(KV_RECORD), 8); // Those left out are erased with the commit.
    assert_int_equal(rows_in(KV_TOMBSTONE), 6);
}

static void test_deleted_again_while_readmitted_stay_out(void **state)
{
    (void)state;
    uint64_t import = begin(1, false);
    for (uint32_t i = 1; i <= 3; i++) {
        assert_int_equal(stage(import, i, (uint8_t)i, "a"), OK);
    }
    commits(import, 3, 3, 0);
    for (uint32_t i = 1; i <= 3; i++) {
        delete_record(i, (uint8_t)i, 1);
    }
    next_txn();
    import = begin(1, true);
    assert_int_equal(stage(import, 1, 1, "a"), OK);
    assert_int_equal(stage(import, 2, 2, "a"), OK);
    next_txn();
    const struct id128 rid = people_rid(1), later = people_rid(3);
    assert_int_equal(tombstone_put(people.txn, PEOPLE_DATASET, TOMBSTONE_RECORD, &rid, 5), OK);
    assert_int_equal(tombstone_put(people.txn, PEOPLE_DATASET, TOMBSTONE_RECORD, &later, 5), OK);
    assert_int_equal(stage(import, 3, 3, "a"), OK);
    commits(import, 1, 1, 2);
    SEES(2);
    uint64_t request;
    assert_int_equal(tombstone_get(people.txn, PEOPLE_DATASET, TOMBSTONE_RECORD, &rid, &request),
                     OK);
    assert_int_equal(request, 5);
    const struct id128 back = people_rid(2);
    assert_int_equal(tombstone_get(people.txn, PEOPLE_DATASET, TOMBSTONE_RECORD, &back, &request),
                     ERR_NOT_FOUND);
    tidy(100);
}

static void test_fenced_records_count_as_tombstoned(void **state)
{
    (void)state;
    uint64_t import = begin(1, false);
    assert_int_equal(stage(import, 1, 1, "a"), OK);
    commits(import, 1, 1, 0);
    const struct record_key key = people_key(1, 1, 1, 1, 0);
    record_deny(people.store, &key);
    import = begin(1, false);
    assert_int_equal(stage(import, 1, 1, "other bytes"), OK);
    commits(import, 0, 0, 1);
    assert_int_equal(tombstone_put(people.txn, PEOPLE_DATASET, TOMBSTONE_RECORD, &key.rid, 1), OK);
    import = begin(1, true);
    assert_int_equal(stage(import, 1, 1, "a"), ERR_UNAVAILABLE);
    assert_non_null(strstr(err_text(), "erasure is under way"));
    next_txn();
    assert_int_equal(record_remove(people.txn, &key), OK);
    next_txn(); // Control: once it is erased, it may come back.
    assert_int_equal(stage(import, 1, 1, "a"), OK);
    commits(import, 1, 1, 0);
    SEES(1);
}

// --- Giving up ---

static void test_aborted_rows_are_hidden_then_erased(void **state)
{
    (void)state;
    uint64_t import = begin(1, false);
    for (uint32_t i = 1; i <= 5; i++) {
        assert_int_equal(stage(import, i, (uint8_t)i, "a"), OK);
    }
    next_txn();
    assert_int_equal(import_abort(people.txn, import), OK);
    next_txn();
    SEES_NOTHING();
    bool more = false;
    assert_int_equal(import_tidy(people.txn, 2, &more), OK);
    assert_true(more);
    next_txn();
    assert_int_equal(rows_in(KV_RECORD), 3);
    SEES_NOTHING(); // Half tidied is hidden as well.
    // The next import takes over ids that are still there, with other bytes and places.
    import = begin(1, false);
    for (uint32_t i = 1; i <= 5; i++) {
        assert_int_equal(stage(import, i, (uint8_t)(i % 2 == 0 ? i : i + 10), "b"), OK);
    }
    next_txn();
    assert_int_equal(import_tidy(people.txn, 100, &more), OK); // With the other one still open.
    assert_false(more);
    next_txn();
    assert_int_equal(rows_in(KV_RECORD), 5);
    commits(import, 5, 5, 0);
    SEES(1, 2, 3, 4, 5);
    tidy(1);
    SEES(1, 2, 3, 4, 5);
}

static void test_imports_of_a_dead_process_are_aborted(void **state)
{
    (void)state;
    const uint64_t landed = begin(1, false);
    assert_int_equal(stage(landed, 1, 1, "a"), OK);
    commits(landed, 1, 1, 0);
    const uint64_t open = begin(1, false);
    assert_int_equal(stage(open, 2, 2, "a"), OK);
    people_commit(&people);
    people_reopen(&people);
    people_begin(&people);
    SEES(1);
    struct import_counts counts;
    assert_int_equal(import_commit(people.txn, open, &counts), ERR_NOT_FOUND);
    const uint64_t import = begin(1, false); // Nothing is in its way, and its number is new.
    assert_true(import > open);
    assert_int_equal(stage(import, 3, 3, "a"), OK);
    people_commit(&people);
    people_reopen(&people);
    people_begin(&people);
    SEES(1);
    tidy(1);
    assert_int_equal(rows_in(KV_RECORD), 1);
    SEES(1);
}

int main(void)
{
    if (digest_start() != OK) {
        return 1;
    }
#define CASE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(test_rows_are_seen_from_the_commit_on),
        CASE(test_rolled_back_steps_leave_the_import_as_it_was),
        CASE(test_a_first_import_needs_no_dataset_before_its_commit),
        CASE(test_begin_refuses_what_must_not_be),
        CASE(test_only_open_imports_go_on),
        CASE(test_commit_into_a_closed_generation_is_refused),
        CASE(test_empty_import_takes_its_generation),
        CASE(test_equal_records_are_skipped_and_others_conflict),
        CASE(test_rows_beyond_their_bounds_are_refused),
        CASE(test_a_subject_has_one_class),
        CASE(test_undeclared_rows_take_a_class_of_any_generation),
        CASE(test_deleted_records_have_no_say_in_the_class),
        CASE(test_refused_imports_have_no_say_in_the_class),
        CASE(test_classes_beyond_the_last_are_refused),
        CASE(test_tombstoned_stay_out_unless_readmitted),
        CASE(test_rolled_back_readmission_keeps_tombstones),
        CASE(test_tombstoned_while_open_are_left_out),
        CASE(test_deleted_again_while_readmitted_stay_out),
        CASE(test_fenced_records_count_as_tombstoned),
        CASE(test_aborted_rows_are_hidden_then_erased),
        CASE(test_imports_of_a_dead_process_are_aborted),
    };
#undef CASE
    return cmocka_run_group_tests_name("import", tests, NULL, NULL);
}
