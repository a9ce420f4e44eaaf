// base/risk.c: see risk.h.
#include "base/risk.h"

#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/text.h"

// --- Reading ---

enum { PART_BYTES = 16 }; // The longest part of an entry is a range: "4095-4095".

// Copies from *at up to one of the characters `ends` or the end of the text, blanks left out, and stands
// on what ended it. False: nothing, or too much.
static bool take_part(const char **at, const char *ends, char out[static PART_BYTES])
{
    size_t bytes = 0;
    for (; **at != '\0' && strchr(ends, **at) == NULL; ++*at) {
        if (**at != ' ' && bytes + 1 == PART_BYTES) {
            return false;
        }
        if (**at != ' ') {
            out[bytes++] = **at;
        }
    }
    out[bytes] = '\0';
    return bytes > 0;
}

// "3", "3-5" or "*" as first and count, 0 for all. False: none of them.
static bool range_get(const char *text, uint16_t *first_out, uint16_t *count_out)
{
    char low[PART_BYTES];
    uint64_t first = 0, last = 0;
    *first_out = *count_out = 0;
    if (strcmp(text, "*") == 0) {
        return true;
    }
    const char *at = text;
    if (!take_part(&at, "-", low) || text_u64(low, UINT16_MAX - 1, &first) != OK) {
        return false;
    }
    last = first;
    if (*at == '-' && text_u64(at + 1, UINT16_MAX - 1, &last) != OK) {
        return false;
    }
    if (last < first) {
        return false;
    }
    *first_out = (uint16_t)first;
    *count_out = (uint16_t)(last - first + 1);
    return true;
}

enum err risk_class(const char *text, uint8_t *risk_out)
{
    uint64_t number;
    if (text_u64(text, LIMIT_RISK_CLASSES - 1, &number) != OK) {
        FAIL(ERR_INVALID, "a risk class is a whole number from 0 to %d",
             (int)LIMIT_RISK_CLASSES - 1);
    }
    *risk_out = (uint8_t)number;
    return OK;
}

// One entry from *at on, up to a comma, a bracket or the end.
static bool entry_get(const char **at, uint8_t *risk_out, struct risk_share *share_out)
{
    char part[PART_BYTES];
    if (!take_part(at, "=", part) || *(*at)++ != '=' || risk_class(part, risk_out) != OK) {
        return false;
    }
    if (!take_part(at, "/", part) || *(*at)++ != '/' ||
        !range_get(part, &share_out->shard_first, &share_out->shard_count)) {
        return false;
    }
    return take_part(at, ",]", part) &&
           range_get(part, &share_out->slice_first, &share_out->slice_count);
}

enum err risk_get(const char *what, const char *text, struct risk_table *table_out)
{
    struct risk_table table = {0};
    bool seen[LIMIT_RISK_CLASSES] = {false};
    const char *at = text + strspn(text, " ");
    const bool bracket = *at == '[';
    bool more = strcmp(text, "uniform") != 0;
    at += bracket ? 1 : 0;
    while (more) {
        uint8_t risk = 0;
        struct risk_share share = {0};
        if (!entry_get(&at, &risk, &share) || (*at == ']' && (!bracket || at[1] != '\0'))) {
            FAIL(ERR_INVALID,
                 "%s is %.40s, expected uniform or CLASS=SHARDS/SLICES joined by commas, as "
                 "1=6-7/3,2=*/3: classes 0 to %d, each a number, a range or * for all",
                 what, text, (int)LIMIT_RISK_CLASSES - 1);
        }
        if (seen[risk]) {
            FAIL(ERR_INVALID, "%s names class %u twice, expected each class once", what, risk);
        }
        seen[risk] = true;
        table.of[risk] = share;
        more = *at == ',';
        at += more ? 1 : 0;
    }
    if (bracket && *at != ']') {
        FAIL(ERR_INVALID, "%s is %.40s, expected a ] at its end", what, text);
    }
    *table_out = table;
    return OK;
}

// --- Writing ---

static bool is_all(uint32_t first, uint32_t count, uint32_t all)
{
    return count == 0 || (first == 0 && count == all);
}

static void range_put(uint32_t first, uint32_t count, uint32_t all, char out[static PART_BYTES])
{
    if (is_all(first, count, all)) {
        snprintf(out, PART_BYTES, "*");
    } else if (count == 1) {
        snprintf(out, PART_BYTES, "%u", first);
    } else {
        snprintf(out, PART_BYTES, "%u-%u", first, first + count - 1);
    }
}

void risk_put(const struct risk_table *table, uint32_t shards, uint32_t slices,
              char out[static RISK_TEXT_BYTES])
{
    size_t used = 0;
    for (uint32_t risk = 0; risk < LIMIT_RISK_CLASSES; risk++) {
        const struct risk_share *const share = &table->of[risk];
        if (is_all(share->shard_first, share->shard_count, shards) &&
            is_all(share->slice_first, share->slice_count, slices)) {
            continue;
        }
        char at_shards[PART_BYTES], at_slices[PART_BYTES];
        range_put(share->shard_first, share->shard_count, shards, at_shards);
        range_put(share->slice_first, share->slice_count, slices, at_slices);
        used += (size_t)snprintf(out + used, RISK_TEXT_BYTES - used, "%s%u=%s/%s",
                                 used == 0 ? "" : ",", risk, at_shards, at_slices);
        CHECK(used < RISK_TEXT_BYTES);
    }
    if (used == 0) {
        snprintf(out, RISK_TEXT_BYTES, "uniform");
    }
}

// --- Checking ---

static enum err range_check(const char *what, uint32_t risk, const char *things, uint32_t first,
                            uint32_t count, uint32_t all)
{
    if (first + count > all) {
        FAIL(ERR_INVALID, "%s puts class %u into %s %u to %u, expected some of 0 to %u", what, risk,
             things, first, first + count - 1, all - 1);
    }
    return OK;
}

enum err risk_check(const char *what, const struct risk_table *table, uint32_t shards,
                    uint32_t slices)
{
    for (uint32_t risk = 0; risk < LIMIT_RISK_CLASSES; risk++) {
        const struct risk_share *const share = &table->of[risk];
        TRY(range_check(what, risk, "shards", share->shard_first, share->shard_count, shards));
        TRY(range_check(what, risk, "slices", share->slice_first, share->slice_count, slices));
    }
    return OK;
}
