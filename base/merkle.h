// base/merkle.h: the Merkle tree of RFC 9162 (2.1) over SHA-256, and its proofs.
//
//   leaf   SHA-256(0x00 | data)          node   SHA-256(0x01 | left | right)
//   root   of 0 leaves SHA-256(""); of 1 the leaf; of n the node over the first k and the rest, k the
//          largest power of two below n
//
// What never changes again are the complete subtrees: (level, index) covers the leaves index * 2^level
// to (index + 1) * 2^level - 1. They are all that is stored, each once; every root and proof of every
// earlier size is made of them. An append writes one leaf and, on average, one subtree above it, and
// reads O(log n); a root reads O(log n), a proof O(log^2 n).
//
// Lifetime  Stateless: hashes lie with the caller, behind the callbacks of a struct merkle.
// Threads   Any.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/digest.h"
#include "base/err.h"

// Hashes of one proof: log2 of the greatest size, and one more for consistency.
enum { MERKLE_PATH_MAX = 65 };

struct merkle {
    void *context;
    // The hash of a complete subtree that lies within the leaves added so far.
    enum err (*get)(void *context, uint32_t level, uint64_t index, struct digest *hash_out);
    // Keeps one; may be NULL where nothing is appended.
    enum err (*put)(void *context, uint32_t level, uint64_t index, const struct digest *hash);
};

struct merkle_path {
    struct digest hashes[MERKLE_PATH_MAX];
    uint32_t count;
};

struct digest merkle_leaf(struct span data);
struct digest merkle_node(const struct digest *left, const struct digest *right);

// Adds leaf number `size`. Errors: those of the callbacks.
MUST_USE enum err merkle_append(const struct merkle *merkle, uint64_t size,
                                const struct digest *leaf);

// The root of the first `size` leaves.
MUST_USE enum err merkle_root(const struct merkle *merkle, uint64_t size, struct digest *root_out);

// That leaf `index` is in the tree of the first `size` leaves (RFC 9162, 2.1.3).
// ERR_INVALID: index is not below size.
MUST_USE enum err merkle_inclusion(const struct merkle *merkle, uint64_t index, uint64_t size,
                                   struct merkle_path *path_out);

// That the tree of the first `from` leaves is the beginning of that of the first `to` (2.1.4). Empty
// where from is 0 or equals to. ERR_INVALID: from is above to.
MUST_USE enum err merkle_consistency(const struct merkle *merkle, uint64_t from, uint64_t to,
                                     struct merkle_path *path_out);

// The verifiers. ERR_CORRUPT says what fails: the place, the number of hashes, or the root.
MUST_USE enum err merkle_check_inclusion(const struct digest *leaf, uint64_t index, uint64_t size,
                                         const struct merkle_path *path, const struct digest *root);
MUST_USE enum err merkle_check_consistency(uint64_t from, uint64_t to,
                                           const struct digest *root_from,
                                           const struct digest *root_to,
                                           const struct merkle_path *path);

// A small tree whose leaves lie side by side: its root, and the paths of all its leaves.
//   leaves      [count], 1 <= count
//   paths_out   [count], or NULL
void merkle_small(const struct digest *leaves, uint32_t count, struct digest *root_out,
                  struct merkle_path *paths_out);
