// base/role.c: see role.h.
#include "base/role.h"

#include <string.h>

#include "base/check.h"

static const char *const names[ROLE_COUNT_] = {
    [ROLE_ADMIN] = "admin",     [ROLE_OWNER] = "owner",   [ROLE_PREDICT] = "predict",
    [ROLE_AUDITOR] = "auditor", [ROLE_WORKER] = "worker",
};

const char *role_name(enum role role)
{
    CHECK(role > 0 && role < ROLE_COUNT_);
    return names[role];
}

enum err role_parse(const char *name, enum role *role_out)
{
    for (int role = ROLE_ADMIN; role < ROLE_COUNT_; role++) {
        if (strcmp(names[role], name) == 0) {
            *role_out = (enum role)role;
            return OK;
        }
    }
    FAIL(ERR_INVALID, "there is no role \"%.64s\", expected " ROLE_NAMES, name);
}
