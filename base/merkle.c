// base/merkle.c: see merkle.h.
#include "base/merkle.h"

#include "base/check.h"
#include "base/mem.h"

struct digest merkle_leaf(struct span data)
{
    const struct span parts[] = {span_of("\0", 1), data};
    return digest_sha256(parts, 2);
}

struct digest merkle_node(const struct digest *left, const struct digest *right)
{
    const struct span parts[] = {span_of("\1", 1), span_of(left->bytes, DIGEST_BYTES),
                                 span_of(right->bytes, DIGEST_BYTES)};
    return digest_sha256(parts, 3);
}

enum err merkle_append(const struct merkle *merkle, uint64_t size, const struct digest *leaf)
{
    struct digest hash = *leaf, left;
    uint64_t index = size;
    TRY(merkle->put(merkle->context, 0, index, &hash));
    for (uint32_t level = 0; (index & 1) == 1; level++) { // It completes the subtree above.
        TRY(merkle->get(merkle->context, level, index - 1, &left));
        hash = merkle_node(&left, &hash);
        index >>= 1;
        TRY(merkle->put(merkle->context, level + 1, index, &hash));
    }
    return OK;
}

// The largest power of two below n, n > 1, as its exponent.
static uint32_t split_level(uint64_t n)
{
    return 63 - (uint32_t)__builtin_clzll(n - 1);
}

// The root of `count` > 0 leaves from `first`, which is a multiple of the power of two at or above
// count: so every left half is a complete subtree.
static enum err range_hash(const struct merkle *merkle, uint64_t first, uint64_t count,
                           struct digest *hash_out)
{
    if ((count & (count - 1)) == 0) {
        const uint32_t level = (uint32_t)__builtin_ctzll(count);
        return merkle->get(merkle->context, level, first >> level, hash_out);
    }
    const uint32_t level = split_level(count);
    const uint64_t half = (uint64_t)1 << level;
    struct digest left, right;
    TRY(merkle->get(merkle->context, level, first >> level, &left));
    TRY(range_hash(merkle, first + half, count - half, &right)); // At most 63 deep.
    *hash_out = merkle_node(&left, &right);
    return OK;
}

enum err merkle_root(const struct merkle *merkle, uint64_t size, struct digest *root_out)
{
    if (size == 0) {
        *root_out = digest_sha256(NULL, 0);
        return OK;
    }
    return range_hash(merkle, 0, size, root_out);
}

static void reverse(struct merkle_path *path)
{
    for (uint32_t i = 0; i < path->count / 2; i++) {
        const struct digest kept = path->hashes[i];
        path->hashes[i] = path->hashes[path->count - 1 - i];
        path->hashes[path->count - 1 - i] = kept;
    }
}

enum err merkle_inclusion(const struct merkle *merkle, uint64_t index, uint64_t size,
                          struct merkle_path *path_out)
{
    path_out->count = 0;
    if (index >= size) {
        FAIL(ERR_INVALID, "entry %llu of a log of %llu", (unsigned long long)index,
             (unsigned long long)size);
    }
    uint64_t first = 0, count = size;
    while (count > 1) { // From the root down; the path runs from the leaf up.
        const uint64_t half = (uint64_t)1 << split_level(count);
        struct digest *const sibling = &path_out->hashes[path_out->count++];
        if (index - first < half) {
            TRY(range_hash(merkle, first + half, count - half, sibling));
            count = half;
        } else {
            TRY(range_hash(merkle, first, half, sibling));
            first += half;
            count -= half;
        }
    }
    reverse(path_out);
    return OK;
}

enum err merkle_consistency(const struct merkle *merkle, uint64_t from, uint64_t to,
                            struct merkle_path *path_out)
{
    path_out->count = 0;
    if (from > to) {
        FAIL(ERR_INVALID, "from size %llu to the smaller size %llu", (unsigned long long)from,
             (unsigned long long)to);
    }
    if (from == 0 || from == to) {
        return OK;
    }
    uint64_t first = 0, count = to;
    bool whole = true; // What is left of the old tree is all of the old tree: its root is known.
    while (from - first != count) {
        const uint64_t half = (uint64_t)1 << split_level(count);
        struct digest *const sibling = &path_out->hashes[path_out->count++];
        if (from - first <= half) {
            TRY(range_hash(merkle, first + half, count - half, sibling));
            count = half;
        } else {
            TRY(range_hash(merkle, first, half, sibling));
            first += half;
            count -= half;
            whole = false;
        }
    }
    if (!whole) {
        TRY(range_hash(merkle, first, count, &path_out->hashes[path_out->count++]));
    }
    reverse(path_out);
    return OK;
}

// --- Verifiers: RFC 9162, 2.1.3.2 and 2.1.4.2 ---

static enum err wrong_count(const char *what, uint32_t found, const char *expected)
{
    FAIL(ERR_CORRUPT, "the %s proof has %u hashes, which is too %s for its place and size", what,
         found, expected);
}

enum err merkle_check_inclusion(const struct digest *leaf, uint64_t index, uint64_t size,
                                const struct merkle_path *path, const struct digest *root)
{
    if (index >= size) {
        FAIL(ERR_CORRUPT, "the inclusion proof is for entry %llu of a log of %llu",
             (unsigned long long)index, (unsigned long long)size);
    }
    uint64_t node = index, last = size - 1;
    struct digest hash = *leaf;
    for (uint32_t i = 0; i < path->count; i++) {
        if (last == 0) {
            return wrong_count("inclusion", path->count, "many");
        }
        if ((node & 1) == 1 || node == last) {
            hash = merkle_node(&path->hashes[i], &hash);
            while ((node & 1) == 0 && node != 0) {
                node >>= 1;
                last >>= 1;
            }
        } else {
            hash = merkle_node(&hash, &path->hashes[i]);
        }
        node >>= 1;
        last >>= 1;
    }
    if (last != 0) {
        return wrong_count("inclusion", path->count, "few");
    }
    if (memcmp(hash.bytes, root->bytes, DIGEST_BYTES) != 0) {
        FAIL(ERR_CORRUPT, "the inclusion proof does not lead to the signed root");
    }
    return OK;
}

// Walks up from the last complete subtree of the old tree; both roots come out at once.
static enum err walk_consistency(uint64_t from, uint64_t to, const struct digest *hashes,
                                 uint32_t count, uint32_t path_count, struct digest *old_out,
                                 struct digest *new_out)
{
    uint64_t node = from - 1, last = to - 1;
    while ((node & 1) == 1) {
        node >>= 1;
        last >>= 1;
    }
    *old_out = *new_out = hashes[0];
    for (uint32_t i = 1; i < count; i++) {
        if (last == 0) {
            return wrong_count("consistency", path_count, "many");
        }
        if ((node & 1) == 1 || node == last) {
            *old_out = merkle_node(&hashes[i], old_out);
            *new_out = merkle_node(&hashes[i], new_out);
            while ((node & 1) == 0 && node != 0) {
                node >>= 1;
                last >>= 1;
            }
        } else {
            *new_out = merkle_node(new_out, &hashes[i]);
        }
        node >>= 1;
        last >>= 1;
    }
    return last == 0 ? OK : wrong_count("consistency", path_count, "few");
}

enum err merkle_check_consistency(uint64_t from, uint64_t to, const struct digest *root_from,
                                  const struct digest *root_to, const struct merkle_path *path)
{
    if (from > to) {
        FAIL(ERR_CORRUPT, "the log has %llu entries, fewer than the %llu of before",
             (unsigned long long)to, (unsigned long long)from);
    }
    if (from == 0 || from == to) {
        if (path->count != 0) {
            return wrong_count("consistency", path->count, "many");
        }
        const struct digest empty = digest_sha256(NULL, 0);
        const struct digest *const expected = from == 0 && to > 0 ? &empty : root_to;
        if (memcmp(root_from->bytes, expected->bytes, DIGEST_BYTES) != 0) {
            FAIL(ERR_CORRUPT, "two logs of %llu entries have different roots",
                 (unsigned long long)from);
        }
        return OK;
    }
    struct digest hashes[MERKLE_PATH_MAX + 1], old, new;
    uint32_t count = 0;
    if ((from & (from - 1)) == 0) {
        hashes[count++] = *root_from; // Complete: the proof leaves it out.
    }
    if (path->count == 0) {
        return wrong_count("consistency", path->count, "few");
    }
    memcpy(hashes + count, path->hashes, path->count * sizeof *hashes);
    count += path->count;
    TRY(walk_consistency(from, to, hashes, count, path->count, &old, &new));
    if (memcmp(old.bytes, root_from->bytes, DIGEST_BYTES) != 0) {
        FAIL(ERR_CORRUPT,
             "the consistency proof does not lead to the root of the %llu entries of "
             "before",
             (unsigned long long)from);
    }
    if (memcmp(new.bytes, root_to->bytes, DIGEST_BYTES) != 0) {
        FAIL(ERR_CORRUPT,
             "the consistency proof does not lead to the root of the %llu entries of "
             "now",
             (unsigned long long)to);
    }
    return OK;
}

// --- Small trees ---

struct small {
    struct digest *nodes; // Level by level, each of `count` places.
    uint32_t count;
};

static enum err small_get(void *context, uint32_t level, uint64_t index, struct digest *hash_out)
{
    const struct small *const small = context;
    *hash_out = small->nodes[(size_t)level * small->count + index];
    return OK;
}

static enum err small_put(void *context, uint32_t level, uint64_t index, const struct digest *hash)
{
    const struct small *const small = context;
    small->nodes[(size_t)level * small->count + index] = *hash;
    return OK;
}

void merkle_small(const struct digest *leaves, uint32_t count, struct digest *root_out,
                  struct merkle_path *paths_out)
{
    CHECK(count > 0);
    struct small small = {.count = count};
    const uint32_t levels = 32 - (uint32_t)__builtin_clz(count);
    small.nodes = mem_alloc((size_t)levels * count, sizeof *small.nodes);
    const struct merkle merkle = {&small, small_get, small_put};
    enum err err = OK; // The callbacks cannot fail.
    for (uint32_t i = 0; i < count && err == OK; i++) {
        err = merkle_append(&merkle, i, &leaves[i]);
    }
    if (err == OK) {
        err = merkle_root(&merkle, count, root_out);
    }
    for (uint32_t i = 0; paths_out != NULL && i < count && err == OK; i++) {
        err = merkle_inclusion(&merkle, i, count, &paths_out[i]);
    }
    CHECK(err == OK);
    mem_free(small.nodes);
}
