// scheduler/minset.c: see minset.h. Bit i of level l stands for word i of level l - 1.
#include "scheduler/minset.h"

#include "base/check.h"
#include "base/mem.h"

static uint32_t words_at(const struct minset *set, uint32_t level)
{
    uint64_t bits = set->bound;
    for (uint32_t i = 0; i <= level; i++) {
        bits = (bits + 63) / 64;
    }
    return (uint32_t)bits;
}

void minset_init(struct minset *set, uint32_t bound)
{
    CHECK(bound > 0);
    *set = (struct minset){.bound = bound};
    do {
        CHECK(set->levels < MINSET_LEVELS);
        set->words[set->levels] = mem_alloc(words_at(set, set->levels), sizeof **set->words);
        set->levels++;
    } while (words_at(set, set->levels - 1) > 1);
}

void minset_deinit(struct minset *set)
{
    for (uint32_t level = 0; level < set->levels; level++) {
        mem_free(set->words[level]);
    }
    *set = (struct minset){0};
}

bool minset_has(const struct minset *set, uint32_t member)
{
    CHECK(member < set->bound);
    return (set->words[0][member / 64] >> member % 64 & 1) != 0;
}

void minset_add(struct minset *set, uint32_t member)
{
    CHECK(!minset_has(set, member));
    set->count++;
    for (uint32_t level = 0; level < set->levels; level++) {
        uint64_t *const word = &set->words[level][member / 64];
        const bool known = *word != 0; // Then the levels above know it, too.
        *word |= (uint64_t)1 << member % 64;
        if (known) {
            return;
        }
        member /= 64;
    }
}

void minset_remove(struct minset *set, uint32_t member)
{
    CHECK(minset_has(set, member));
    set->count--;
    for (uint32_t level = 0; level < set->levels; level++) {
        uint64_t *const word = &set->words[level][member / 64];
        *word &= ~((uint64_t)1 << member % 64);
        if (*word != 0) {
            return;
        }
        member /= 64;
    }
}

uint32_t minset_from(const struct minset *set, uint32_t from)
{
    CHECK(from <= set->bound);
    uint32_t at = from, level = 0;
    for (;; level++) { // Up, until something lies at or behind `at`.
        if (level == set->levels || at / 64 >= words_at(set, level)) {
            return set->bound;
        }
        const uint64_t word = set->words[level][at / 64] & ~(uint64_t)0 << at % 64;
        if (word != 0) {
            at = at / 64 * 64 + (uint32_t)__builtin_ctzll(word);
            break;
        }
        at = at / 64 + 1;
    }
    while (level > 0) { // And down to the least below it.
        level--;
        at = at * 64 + (uint32_t)__builtin_ctzll(set->words[level][at]);
    }
    return at;
}
