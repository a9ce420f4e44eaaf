// base/role.h: what the holder of a key may be. What each role may do is coordinator/rights.h.
#pragma once

#include "base/err.h"

enum role {         // Numbers of the store's format and of the wire.
    ROLE_ADMIN = 1, // Keys, configuration, models: everything a client can ask for.
    ROLE_OWNER,     // The records of its datasets: import and delete.
    ROLE_PREDICT,   // Asks models.
    ROLE_AUDITOR,   // Checks what is claimed.
    ROLE_WORKER,    // Trains; no client.
    ROLE_COUNT_,
};

#define ROLE_NAMES "admin, owner, predict, auditor or worker"

const char *role_name(enum role role); // Static storage.
// ERR_INVALID: no such role.
MUST_USE enum err role_parse(const char *name, enum role *role_out);
