// client/riskfile.h: risk classes of people as a file beside the data: a line NAME,CLASS each.
//
// NAME is a subject, or the id of a record that has no subject; CLASS is what stands behind the last
// comma, a whole number from 0 to 15. Who is not named has no class declared.
//
// Lifetime  {0} is empty and ready; riskfile_deinit frees.
// Threads   One; a const one may be read by many.
#pragma once

#include <stdint.h>

#include "base/risk.h"
#include "client/textset.h"

struct riskfile {
    struct textset names[LIMIT_RISK_CLASSES];
};

void riskfile_deinit(struct riskfile *file);

// Messages name the line, never what it says.
//   ERR_INVALID  a line of another form; a name in two classes.
//   ERR_LIMIT    more than LIMIT_RISK_NAMES names. Else as source.h.
MUST_USE enum err riskfile_read(struct riskfile *file, const char *path);

// The class of a name, or RISK_UNDECLARED.
uint8_t riskfile_class(const struct riskfile *file, struct span name);
