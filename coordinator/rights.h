// coordinator/rights.h: which role may use which verb, and what bounds a verb to one's datasets.
//
// Pure: one table over the bodies of Request (docs/security.md, "Roles"). A body without an entry is reached
// by nobody.
#pragma once

#include <stdbool.h>

#include "base/role.h"

enum rights_scope {
    SCOPE_NONE,    // It is about nothing that belongs to a dataset.
    SCOPE_DATASET, // It names a dataset, or
    SCOPE_MODEL,   // a model: looked up on behalf of the caller (catalog_dataset, catalog_model).
    SCOPE_REQUEST, // A request's UUID: the row tells its dataset.
    SCOPE_JOB, // The number of something that is under way: known to who began it, or sees its dataset.
    SCOPE_FILTERED, // It tells of many things: only of those that the caller sees, totals too.
    SCOPE_CLUSTER,  // It is about all there is: nothing for a key that is limited to datasets.
};

struct rights {
    unsigned roles; // Bit 1 << role.
    enum rights_scope scope;
    bool records; // Its answer holds records of people: each use is logged.
};

// verb: a body case of Unlearn__Request. NULL: there is no such verb.
const struct rights *rights_of(int verb);
const char *rights_verb(int verb); // "import_begin"; static storage.
static inline bool rights_allow(const struct rights *rights, enum role role)
{
    return (rights->roles >> role & 1) != 0;
}
