// tests/unit/test_ledger.c: the receipt log: it grows under one signed head, and what was done to it
// behind our back is noticed at the next start.
//
// Method: a log of some entries in a store of its own; its rows are then dropped, swapped and changed
// as somebody with a hex editor would; roots are compared with a tree built from scratch.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// cmocka needs the four above first.
#include <cmocka.h>

#include "base/head.h"
#include "store/ledger.h"
#include "tests/unit/people.h"
#include "tests/unit/signers.h"

enum { ENTRIES = 21 };

static struct people people;
static struct signer *signer;

static struct span entry_of(uint32_t i, char text[static 32])
{
    return span_of(text, (size_t)snprintf(text, 32, "entry %u", i));
}

static void append(uint32_t i)
{
    char text[32];
    assert_int_equal(ledger_append(people.txn, signer, entry_of(i, text), 100 + i), OK);
}

static int set_up(void **state)
{
    (void)state;
    people_open(&people);
    people_begin(&people);
    signer = signers_open(people.dir, "one");
    assert_int_equal(ledger_start(people.txn, signer), OK);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    people_commit(&people);
    sign_close(signer);
    people_close(&people);
    return 0;
}

static void test_it_grows_under_a_signed_head(void **state)
{
    (void)state;
    struct digest leaves[ENTRIES], root;
    struct head head;
    char text[32];
    for (uint32_t i = 0; i <= ENTRIES; i++) {
        assert_int_equal(ledger_head(people.txn, &head), OK);
        assert_int_equal(head.size, i);
        assert_int_equal(head_check(&head, HEAD_LOG, sign_public_of(signer)), OK);
        if (i > 0) {
            merkle_small(leaves, i, &root, NULL);
            assert_memory_equal(&head.root, &root, sizeof root);
            assert_int_equal(head.time_us, 100 + i - 1);
        }
        if (i < ENTRIES) {
            leaves[i] = merkle_leaf(entry_of(i, text));
            append(i);
        }
    }
    people_commit(&people);
    people_reopen(&people);
    people_begin(&people);
    assert_int_equal(ledger_start(people.txn, signer), OK);
    for (uint32_t i = 0; i < ENTRIES; i++) {
        struct span entry;
        struct merkle_path path;
        assert_int_equal(ledger_entry(people.txn, i, &entry), OK);
        assert_true(span_equal(entry, entry_of(i, text)));
        assert_int_equal(ledger_inclusion(people.txn, i, ENTRIES, &path), OK);
        assert_int_equal(merkle_check_inclusion(&leaves[i], i, ENTRIES, &path, &head.root), OK);
        assert_int_equal(ledger_root(people.txn, i, &root), OK);
        assert_int_equal(ledger_consistency(people.txn, i, ENTRIES, &path), OK);
        assert_int_equal(merkle_check_consistency(i, ENTRIES, &root, &head.root, &path), OK);
    }
}

static void test_a_rolled_back_append_leaves_no_trace(void **state)
{
    (void)state;
    struct head before, after;
    append(0);
    people_commit(&people);
    people_begin(&people);
    assert_int_equal(ledger_head(people.txn, &before), OK);
    append(1);
    people_roll_back(&people);
    people_begin(&people);
    assert_int_equal(ledger_head(people.txn, &after), OK);
    assert_memory_equal(&before, &after, sizeof before);
    assert_int_equal(ledger_start(people.txn, signer), OK);
}

static void test_what_is_not_there(void **state)
{
    (void)state;
    struct span entry;
    struct merkle_path path;
    append(0);
    assert_int_equal(ledger_entry(people.txn, 1, &entry), ERR_NOT_FOUND);
    assert_int_equal(ledger_inclusion(people.txn, 0, 2, &path), ERR_INVALID);
    assert_non_null(strstr(err_text(), "has 1 entries, and a proof for 2"));
    assert_int_equal(ledger_inclusion(people.txn, 1, 1, &path), ERR_INVALID);
    assert_int_equal(ledger_consistency(people.txn, 0, 2, &path), ERR_INVALID);
    assert_int_equal(ledger_inclusion(people.txn, 0, 1, &path), OK);
    static const uint8_t head_key = META_LOG_HEAD;
    struct head head;
    assert_int_equal(kv_drop(&people.txn->kv, KV_META, span_of(&head_key, 1)), OK);
    assert_int_equal(ledger_head(people.txn, &head), ERR_NOT_FOUND);
}

static void test_another_key_is_refused(void **state)
{
    (void)state;
    struct signer *other = NULL;
    append(0);
    other = signers_open(people.dir, "other");
    assert_int_equal(ledger_start(people.txn, other), ERR_CONFLICT);
    assert_non_null(strstr(err_text(), "the receipt log is signed with the key"));
    sign_close(other);
    assert_int_equal(ledger_start(people.txn, signer), OK);
}

// --- Rows changed behind our back ---

static struct kv_key node(uint8_t level, uint64_t index)
{
    struct kv_key key = {0};
    kv_key_u8(&key, level);
    kv_key_u64(&key, index);
    return key;
}
static struct kv_key entry_row(uint64_t index)
{
    struct kv_key key = {0};
    kv_key_u64(&key, index);
    return key;
}

// Whoever rewrites the log must rewrite its tree too; the head he cannot sign.
static void rebuild_tree(const uint32_t *order, uint32_t count)
{
    size_t dropped;
    char text[32];
    assert_int_equal(
        kv_drop_prefix(&people.txn->kv, KV_LOG_NODE, span_of("", 0), SIZE_MAX, &dropped), OK);
    assert_int_equal(
        kv_drop_prefix(&people.txn->kv, KV_LOG_ENTRY, span_of("", 0), SIZE_MAX, &dropped), OK);
    static const uint8_t head_key = META_LOG_HEAD;
    struct span value;
    assert_int_equal(value_get(people.txn, KV_META, span_of(&head_key, 1), &value), OK);
    uint8_t head[HEAD_BYTES];
    memcpy(head, value.data, sizeof head);
    struct signer *forger = NULL;
    static int number;
    char name[16];
    snprintf(name, sizeof name, "forger%d", number++);
    forger = signers_open(people.dir, name);
    assert_int_equal(kv_drop(&people.txn->kv, KV_META, span_of(&head_key, 1)), OK);
    assert_int_equal(ledger_start(people.txn, forger), OK);
    for (uint32_t i = 0; i < count; i++) {
        assert_int_equal(ledger_append(people.txn, forger, entry_of(order[i], text), 100), OK);
    }
    sign_close(forger);
    assert_int_equal( // The old head is put back: the only one with our signature.
        value_put(people.txn, KV_META, span_of(&head_key, 1), span_of(head, sizeof head)), OK);
}

static void start_is_corrupt(const char *words)
{
    assert_int_equal(ledger_start(people.txn, signer), ERR_CORRUPT);
    assert_non_null(strstr(err_text(), words));
}

static void test_a_rewritten_log_is_noticed(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 5; i++) {
        append(i);
    }
    static const uint32_t same[] = {0, 1, 2, 3, 4}, swapped[] = {0, 2, 1, 3, 4},
                          forked[] = {0, 1, 2, 3, 9}, dropped[] = {0, 1, 3, 4},
                          longer[] = {0, 1, 2, 3, 4, 5};
    rebuild_tree(same, 5); // Control.
    assert_int_equal(ledger_start(people.txn, signer), OK);
    rebuild_tree(swapped, 5);
    start_is_corrupt("does not lead to its signed root");
    rebuild_tree(forked, 5);
    start_is_corrupt("does not lead to its signed root");
    rebuild_tree(dropped, 4);
    start_is_corrupt("the receipt log: table log_node: subtree");
    rebuild_tree(longer, 6);
    start_is_corrupt("has an entry 5 beyond its signed head");
    rebuild_tree(same, 5);
    assert_int_equal(ledger_start(people.txn, signer), OK);
}

static void test_damaged_rows_are_corrupt(void **state)
{
    (void)state;
    struct merkle_path path;
    for (uint32_t i = 0; i < 4; i++) {
        append(i);
    }
    const struct kv_key root = node(2, 0), leaf = node(0, 0), last = entry_row(3);
    static const uint8_t head_key = META_LOG_HEAD;
    assert_int_equal(kv_drop(&people.txn->kv, KV_LOG_ENTRY, kv_key_span(&last)), OK);
    start_is_corrupt("last entry, 3, is missing");
    append(4); // Whatever comes later: entry 3 has its leaf, and no body.
    struct span entry;
    assert_int_equal(ledger_entry(people.txn, 3, &entry), ERR_NOT_FOUND);
    assert_int_equal(value_put(people.txn, KV_LOG_NODE, kv_key_span(&leaf), span_of("x", 1)), OK);
    assert_int_equal(ledger_inclusion(people.txn, 1, 5, &path), ERR_CORRUPT);
    assert_int_equal(kv_drop(&people.txn->kv, KV_LOG_NODE, kv_key_span(&root)), OK);
    assert_int_equal(ledger_root(people.txn, 4, &(struct digest){{0}}), ERR_CORRUPT);
    // Nothing is signed on top of it, and nothing written.
    assert_int_equal(ledger_append(people.txn, signer, span_of("y", 1), 1), ERR_CORRUPT);
    assert_int_equal(ledger_entry(people.txn, 5, &entry), ERR_NOT_FOUND);
    struct span value;
    uint8_t head[HEAD_BYTES];
    assert_int_equal(value_get(people.txn, KV_META, span_of(&head_key, 1), &value), OK);
    memcpy(head, value.data, sizeof head);
    head[0] ^= 1;
    assert_int_equal(
        value_put(people.txn, KV_META, span_of(&head_key, 1), span_of(head, sizeof head)), OK);
    start_is_corrupt("the signature of the tree head does not verify");
    assert_int_equal(
        value_put(people.txn, KV_META, span_of(&head_key, 1), span_of(head, sizeof head - 1)), OK);
    start_is_corrupt("a tree head of 119 bytes");
}

int main(void)
{
    if (digest_start() != OK) {
        return 1;
    }
#define CASE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(test_it_grows_under_a_signed_head),
        CASE(test_a_rolled_back_append_leaves_no_trace),
        CASE(test_what_is_not_there),
        CASE(test_another_key_is_refused),
        CASE(test_a_rewritten_log_is_noticed),
        CASE(test_damaged_rows_are_corrupt),
    };
#undef CASE
    return cmocka_run_group_tests_name("ledger", tests, NULL, NULL);
}
