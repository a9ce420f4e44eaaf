// base/repair.c: see repair.h.
#include "base/repair.h"

#include <stdio.h>
#include <string.h>

#include "base/limits.h"
#include "base/text.h"

static const char BATCH[] = "batch:";

enum err repair_parse(const char *text, struct repair_policy *policy_out)
{
    uint64_t batch = 0;
    if (strcmp(text, "deadline") == 0 || strcmp(text, "eager") == 0) {
        *policy_out = (struct repair_policy){text[0] == 'e' ? REPAIR_EAGER : REPAIR_DEADLINE, 0};
        return OK;
    }
    if (strncmp(text, BATCH, sizeof BATCH - 1) == 0 &&
        text_u64(text + sizeof BATCH - 1, LIMIT_REPAIR_BATCH, &batch) == OK && batch > 0) {
        *policy_out = (struct repair_policy){REPAIR_BATCH, (uint32_t)batch};
        return OK;
    }
    FAIL(ERR_INVALID, "the repair policy is none of deadline, eager and batch:N, N from 1 to %d",
         (int)LIMIT_REPAIR_BATCH);
}

void repair_put(const struct repair_policy *policy, char out[static REPAIR_TEXT_BYTES])
{
    if (policy->kind == REPAIR_BATCH) {
        snprintf(out, REPAIR_TEXT_BYTES, "%s%u", BATCH, policy->batch);
    } else {
        snprintf(out, REPAIR_TEXT_BYTES, "%s", policy->kind == REPAIR_EAGER ? "eager" : "deadline");
    }
}
