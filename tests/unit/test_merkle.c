// tests/unit/test_merkle.c: the tree of RFC 9162 and its proofs.
//
// Method: the roots of Certificate Transparency's published test tree; and a second verifier, written
// straight from the recursive definitions of RFC 9162 (2.1.1 to 2.1.4) over the list of leaves, which
// shares nothing with base/merkle.c but SHA-256 itself. Both must agree for all trees of up to 64
// leaves: every leaf, every pair of sizes; and every damaged proof must be refused.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// cmocka needs the four above first.
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/merkle.h"

enum { LEAVES = 64, LEVELS = 8, PROOF_MAX = 16 };

// --- The definitions, as the RFC writes them ---

struct proof {
    struct digest hashes[PROOF_MAX];
    size_t count;
};

static struct digest rfc_leaf(const char *data, size_t bytes)
{
    uint8_t input[64] = {0x00};
    assert_true(bytes < sizeof input);
    memcpy(input + 1, data, bytes);
    const struct span whole = {input, bytes + 1};
    return digest_sha256(&whole, 1);
}

static struct digest rfc_pair(struct digest left, struct digest right)
{
    uint8_t input[65] = {0x01};
    memcpy(input + 1, left.bytes, 32);
    memcpy(input + 33, right.bytes, 32);
    const struct span whole = {input, sizeof input};
    return digest_sha256(&whole, 1);
}

static size_t rfc_k(size_t n) // The largest power of two smaller than n.
{
    size_t k = 1;
    while (2 * k < n) {
        k *= 2;
    }
    return k;
}

// MTH(D[first:end]) where leaves[] are already hashed.
static struct digest rfc_mth(const struct digest *leaves, size_t n)
{
    if (n == 0) {
        return digest_sha256(NULL, 0);
    }
    if (n == 1) {
        return leaves[0];
    }
    const size_t k = rfc_k(n);
    return rfc_pair(rfc_mth(leaves, k), rfc_mth(leaves + k, n - k));
}

static void add(struct proof *proof, struct digest hash)
{
    assert_true(proof->count < PROOF_MAX);
    proof->hashes[proof->count++] = hash;
}

// PATH(m, D_n), 2.1.3.1.
static void rfc_path(size_t m, const struct digest *leaves, size_t n, struct proof *proof)
{
    if (n == 1) {
        return;
    }
    const size_t k = rfc_k(n);
    if (m < k) {
        rfc_path(m, leaves, k, proof);
        add(proof, rfc_mth(leaves + k, n - k));
    } else {
        rfc_path(m - k, leaves + k, n - k, proof);
        add(proof, rfc_mth(leaves, k));
    }
}

// SUBPROOF(m, D_n, b), 2.1.4.1.
static void rfc_subproof(size_t m, const struct digest *leaves, size_t n, bool b,
                         struct proof *proof)
{
    if (m == n) {
        if (!b) {
            add(proof, rfc_mth(leaves, n));
        }
        return;
    }
    const size_t k = rfc_k(n);
    if (m <= k) {
        rfc_subproof(m, leaves, k, b, proof);
        add(proof, rfc_mth(leaves + k, n - k));
    } else {
        rfc_subproof(m - k, leaves + k, n - k, false, proof);
        add(proof, rfc_mth(leaves, k));
    }
}

// A verifier by the same recursion: the root that a path leads to. Takes hashes from its end.
static bool rfc_root_of_path(size_t m, size_t n, struct digest leaf, struct proof *proof,
                             struct digest *root_out)
{
    if (n == 1) {
        *root_out = leaf;
        return true;
    }
    if (proof->count == 0) {
        return false;
    }
    const struct digest other = proof->hashes[--proof->count];
    const size_t k = rfc_k(n);
    struct digest inner;
    if (m < k) {
        if (!rfc_root_of_path(m, k, leaf, proof, &inner)) {
            return false;
        }
        *root_out = rfc_pair(inner, other);
    } else {
        if (!rfc_root_of_path(m - k, n - k, leaf, proof, &inner)) {
            return false;
        }
        *root_out = rfc_pair(other, inner);
    }
    return true;
}

// The roots of the old and the new tree that a consistency proof leads to.
static bool rfc_roots_of_proof(size_t m, size_t n, bool b, struct digest old_root,
                               struct proof *proof, struct digest *old_out, struct digest *new_out)
{
    if (m == n) {
        if (b) {
            *old_out = *new_out = old_root;
            return true;
        }
        if (proof->count == 0) {
            return false;
        }
        *old_out = *new_out = proof->hashes[--proof->count];
        return true;
    }
    if (proof->count == 0) {
        return false;
    }
    const struct digest other = proof->hashes[--proof->count];
    const size_t k = rfc_k(n);
    struct digest inner_old, inner_new;
    if (m <= k) {
        if (!rfc_roots_of_proof(m, k, b, old_root, proof, &inner_old, &inner_new)) {
            return false;
        }
        *old_out = inner_old;
        *new_out = rfc_pair(inner_new, other);
    } else {
        if (!rfc_roots_of_proof(m - k, n - k, false, old_root, proof, &inner_old, &inner_new)) {
            return false;
        }
        *old_out = rfc_pair(other, inner_old);
        *new_out = rfc_pair(other, inner_new);
    }
    return true;
}

// --- The tree under test ---

struct tree {
    struct digest nodes[LEVELS][LEAVES];
    bool there[LEVELS][LEAVES];
    enum err fail; // Of every callback, unless OK.
};

static enum err get(void *context, uint32_t level, uint64_t index, struct digest *hash_out)
{
    struct tree *const tree = context;
    if (tree->fail != OK) {
        return err_raise(tree->fail, "told to");
    }
    assert_true(level < LEVELS && index < LEAVES && tree->there[level][index]);
    *hash_out = tree->nodes[level][index];
    return OK;
}

static enum err put(void *context, uint32_t level, uint64_t index, const struct digest *hash)
{
    struct tree *const tree = context;
    if (tree->fail != OK) {
        return err_raise(tree->fail, "told to");
    }
    assert_true(level < LEVELS && index < LEAVES && !tree->there[level][index]); // Once.
    tree->nodes[level][index] = *hash;
    tree->there[level][index] = true;
    return OK;
}

static struct tree tree;
static const struct merkle merkle = {&tree, get, put};
static struct digest leaves[LEAVES];

static int fill(void **state)
{
    (void)state;
    tree = (struct tree){.fail = OK};
    for (uint32_t i = 0; i < LEAVES; i++) {
        char text[16];
        const int bytes = snprintf(text, sizeof text, "leaf %u", i);
        leaves[i] = merkle_leaf(span_of(text, (size_t)bytes));
        const struct digest again = rfc_leaf(text, (size_t)bytes);
        if (memcmp(&leaves[i], &again, sizeof again) != 0 ||
            merkle_append(&merkle, i, &leaves[i]) != OK) {
            return -1;
        }
    }
    return 0;
}

static void same(const struct digest *found, const struct digest *expected)
{
    assert_memory_equal(found->bytes, expected->bytes, DIGEST_BYTES);
}

static void test_known_answers(void **state)
{
    (void)state;
    // The test tree of Certificate Transparency (RFC 6962's reference implementation).
    static const struct span data[8] = {
        {"", 0},         {"\x00", 1}, {"\x10", 1},     {"\x20\x21", 2},
        {"\x30\x31", 2}, {"@ABC", 4}, {"PQRSTUVW", 8}, {"`abcdefghijklmno", 16},
    };
    static const char *const roots[9] = {
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    };
    tree = (struct tree){.fail = OK};
    for (uint64_t size = 0; size <= 8; size++) {
        struct digest root, expected;
        assert_int_equal(merkle_root(&merkle, size, &root), OK);
        assert_int_equal(hex_get(expected.bytes, DIGEST_BYTES, roots[size]), OK);
        same(&root, &expected);
        if (size < 8) {
            const struct digest leaf = merkle_leaf(data[size]);
            assert_int_equal(merkle_append(&merkle, size, &leaf), OK);
        }
    }
}

static void test_roots_of_all_sizes(void **state)
{
    (void)state;
    for (size_t size = 0; size <= LEAVES; size++) {
        const struct digest expected = rfc_mth(leaves, size);
        struct digest root;
        assert_int_equal(merkle_root(&merkle, size, &root), OK);
        same(&root, &expected);
        if (size > 0) {
            merkle_small(leaves, (uint32_t)size, &root, NULL);
            same(&root, &expected);
        }
    }
}

static void same_proof(const struct merkle_path *path, const struct proof *expected)
{
    assert_int_equal(path->count, expected->count);
    for (size_t i = 0; i < expected->count; i++) {
        same(&path->hashes[i], &expected->hashes[i]);
    }
}

static struct proof copy_of(const struct merkle_path *path)
{
    struct proof proof = {.count = path->count};
    assert_true(path->count <= PROOF_MAX);
    memcpy(proof.hashes, path->hashes, path->count * sizeof *proof.hashes);
    return proof;
}

static void test_inclusion_of_every_leaf(void **state)
{
    (void)state;
    struct merkle_path small[LEAVES];
    for (size_t size = 1; size <= LEAVES; size++) {
        const struct digest root = rfc_mth(leaves, size);
        struct digest small_root;
        merkle_small(leaves, (uint32_t)size, &small_root, small);
        for (size_t i = 0; i < size; i++) {
            struct merkle_path path;
            struct proof expected = {.count = 0};
            struct digest led;
            assert_int_equal(merkle_inclusion(&merkle, i, size, &path), OK);
            rfc_path(i, leaves, size, &expected);
            same_proof(&path, &expected);
            same_proof(&small[i], &expected);
            // Ours by the other verifier; and by ours.
            struct proof ours = copy_of(&path);
            assert_true(rfc_root_of_path(i, size, leaves[i], &ours, &led) && ours.count == 0);
            same(&led, &root);
            assert_int_equal(merkle_check_inclusion(&leaves[i], i, size, &path, &root), OK);
        }
    }
}

static void test_consistency_of_every_pair(void **state)
{
    (void)state;
    for (size_t to = 0; to <= LEAVES; to++) {
        const struct digest root_to = rfc_mth(leaves, to);
        for (size_t from = 0; from <= to; from++) {
            const struct digest root_from = rfc_mth(leaves, from);
            struct merkle_path path;
            struct proof expected = {.count = 0};
            struct digest led_old, led_new;
            assert_int_equal(merkle_consistency(&merkle, from, to, &path), OK);
            if (from > 0) {
                rfc_subproof(from, leaves, to, true, &expected);
                struct proof ours = copy_of(&path);
                assert_true(
                    rfc_roots_of_proof(from, to, true, root_from, &ours, &led_old, &led_new) &&
                    ours.count == 0);
                same(&led_old, &root_from);
                same(&led_new, &root_to);
            }
            same_proof(&path, &expected);
            assert_int_equal(merkle_check_consistency(from, to, &root_from, &root_to, &path), OK);
        }
    }
}

// --- What is refused ---

static void refused_as(enum err err, const char *words)
{
    assert_int_equal(err, ERR_CORRUPT);
    assert_non_null(strstr(err_text(), words));
}

static void test_a_wrong_place_is_refused(void **state)
{
    (void)state;
    for (size_t size = 2; size <= 33; size++) {
        const struct digest root = rfc_mth(leaves, size);
        for (size_t i = 0; i < size; i++) {
            struct merkle_path path;
            assert_int_equal(merkle_inclusion(&merkle, i, size, &path), OK);
            for (size_t j = 0; j < size + 3; j++) {
                const enum err err = merkle_check_inclusion(&leaves[i], j, size, &path, &root);
                assert_int_equal(err, j == i ? OK : ERR_CORRUPT);
            }
        }
    }
    const struct merkle_path none = {.count = 0};
    refused_as(merkle_check_inclusion(&leaves[0], 5, 5, &none, &leaves[0]),
               "entry 5 of a log of 5");
    refused_as(merkle_check_inclusion(&leaves[0], 0, 0, &none, &leaves[0]), "of a log of 0");
    assert_int_equal(merkle_check_inclusion(&leaves[0], 0, 1, &none, &leaves[0]), OK);
}

static void test_damaged_proofs_are_refused(void **state)
{
    (void)state;
    const size_t sizes[] = {2, 3, 4, 7, 8, 20, 64};
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        const size_t size = sizes[s], index = size / 3, from = size / 2 + (size > 4);
        const struct digest root = rfc_mth(leaves, size), root_from = rfc_mth(leaves, from);
        struct merkle_path in, grown;
        assert_int_equal(merkle_inclusion(&merkle, index, size, &in), OK);
        assert_int_equal(merkle_consistency(&merkle, from, size, &grown), OK);
        for (uint32_t i = 0; i < in.count; i++) {
            struct merkle_path bad = in;
            bad.hashes[i].bytes[i % DIGEST_BYTES] ^= 1;
            refused_as(merkle_check_inclusion(&leaves[index], index, size, &bad, &root),
                       "does not lead to the signed root");
        }
        for (uint32_t i = 0; i < grown.count; i++) {
            struct merkle_path bad = grown;
            bad.hashes[i].bytes[31] ^= 0x80;
            assert_int_equal(merkle_check_consistency(from, size, &root_from, &root, &bad),
                             ERR_CORRUPT);
        }
        struct merkle_path cut = in, more = in;
        cut.count--;
        refused_as(merkle_check_inclusion(&leaves[index], index, size, &cut, &root), "too few");
        more.hashes[more.count++] = root;
        refused_as(merkle_check_inclusion(&leaves[index], index, size, &more, &root), "too many");
        cut = more = grown;
        cut.count--;
        refused_as(merkle_check_consistency(from, size, &root_from, &root, &cut), "too few");
        more.hashes[more.count++] = root;
        refused_as(merkle_check_consistency(from, size, &root_from, &root, &more), "too many");
        // Controls.
        assert_int_equal(merkle_check_inclusion(&leaves[index], index, size, &in, &root), OK);
        assert_int_equal(merkle_check_consistency(from, size, &root_from, &root, &grown), OK);
    }
}

// A log that is not the continuation of what was seen: no proof of it passes.
static void other_log_is_refused(const struct digest *other, size_t from, size_t to)
{
    tree = (struct tree){.fail = OK};
    for (size_t i = 0; i < to; i++) {
        assert_int_equal(merkle_append(&merkle, i, &other[i]), OK);
    }
    const struct digest seen = rfc_mth(leaves, from), now = rfc_mth(other, to);
    struct merkle_path path;
    assert_int_equal(merkle_consistency(&merkle, from, to, &path), OK);
    refused_as(merkle_check_consistency(from, to, &seen, &now, &path), "");
}

static void test_a_rewritten_log_is_refused(void **state)
{
    (void)state;
    struct digest other[LEAVES];
    for (size_t from = 1; from < 20; from++) {
        for (size_t i = 0; i < from; i++) { // Entry i dropped.
            memcpy(other, leaves, i * sizeof *other);
            memcpy(other + i, leaves + i + 1, (LEAVES - 1 - i) * sizeof *other);
            other_log_is_refused(other, from, 30);
        }
        for (size_t i = 0; i + 1 < from; i++) { // Entries i and i + 1 swapped.
            memcpy(other, leaves, sizeof other);
            other[i] = leaves[i + 1];
            other[i + 1] = leaves[i];
            other_log_is_refused(other, from, 30);
        }
        memcpy(other, leaves, sizeof other); // Forked at the last entry that was seen.
        other[from - 1] = leaves[LEAVES - 1];
        other_log_is_refused(other, from, 30);
        const struct merkle_path none = {.count = 0};
        const struct digest a = rfc_mth(leaves, from), b = rfc_mth(other, from);
        refused_as(merkle_check_consistency(from, from, &a, &b, &none), "have different roots");
        assert_int_equal(merkle_check_consistency(from, from, &a, &a, &none), OK);
    }
    const struct merkle_path none = {.count = 0};
    refused_as(merkle_check_consistency(5, 4, &leaves[0], &leaves[1], &none), "fewer than the 5");
    refused_as(merkle_check_consistency(0, 4, &leaves[0], &leaves[1], &none), "different roots");
}

static void test_errors_of_proofs_and_callbacks(void **state)
{
    (void)state;
    struct merkle_path path;
    struct digest root;
    assert_int_equal(merkle_inclusion(&merkle, 5, 5, &path), ERR_INVALID);
    assert_int_equal(merkle_inclusion(&merkle, 4, 5, &path), OK);
    assert_int_equal(merkle_consistency(&merkle, 6, 5, &path), ERR_INVALID);
    tree.fail = ERR_IO;
    assert_int_equal(merkle_root(&merkle, 7, &root), ERR_IO);
    assert_int_equal(merkle_inclusion(&merkle, 4, 5, &path), ERR_IO);
    assert_int_equal(merkle_consistency(&merkle, 3, 5, &path), ERR_IO);
    assert_int_equal(merkle_append(&merkle, 5, &leaves[0]), ERR_IO);
}

int main(void)
{
    if (digest_start() != OK) {
        return 1;
    }
#define CASE(test) cmocka_unit_test_setup(test, fill)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_answers),  CASE(test_roots_of_all_sizes),
        CASE(test_inclusion_of_every_leaf),    CASE(test_consistency_of_every_pair),
        CASE(test_a_wrong_place_is_refused),   CASE(test_damaged_proofs_are_refused),
        CASE(test_a_rewritten_log_is_refused), CASE(test_errors_of_proofs_and_callbacks),
    };
#undef CASE
    return cmocka_run_group_tests_name("merkle", tests, NULL, NULL);
}
