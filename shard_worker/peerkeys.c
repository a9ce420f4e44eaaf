// shard_worker/peerkeys.c: see peerkeys.h.
#include "shard_worker/peerkeys.h"

#include <stddef.h>

// NOLINTNEXTLINE(readability-non-const-parameter): argp's.
static error_t take(int key, char *value, struct argp_state *state)
{
    struct peerkeys *const keys = state->input;
    switch (key) {
    case 'k':
        keys->own = value;
        return 0;
    case 's':
        keys->server = value;
        return 0;
    case 'i':
        keys->insecure = true;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option options[] = {
    {"key", 'k', "FILE", 0,
     "The workers' key pair: DIR/keys/worker.key of the cluster, at the same path on every host",
     0},
    {"server-key", 's', "FILE", 0,
     "The coordinator's public key: DIR.client/server.pub, at the same path on every host", 0},
    {"insecure-loopback", 'i', NULL, 0,
     "Without keys, to a coordinator of this machine that was started so", 0},
    {0},
};

const struct argp peerkeys_argp = {.options = options, .parser = take};

enum err peerkeys_check(const struct peerkeys *keys)
{
    const bool both = keys->own != NULL && keys->server != NULL;
    const bool none = keys->own == NULL && keys->server == NULL;
    if (keys->insecure ? !none : !both) {
        FAIL(ERR_INVALID, "%s",
             keys->insecure ? "--insecure-loopback goes without --key and --server-key"
                            : "--key and --server-key are required: DIR/keys/worker.key and "
                              "DIR.client/server.pub of the cluster");
    }
    return OK;
}

enum err peerkeys_read(const struct peerkeys *keys, struct link_security *security_out)
{
    *security_out = (struct link_security){0};
    TRY(curvekey_read(keys->own, &security_out->own));
    const enum err err = curvekey_read_public(keys->server, security_out->server);
    if (err != OK) {
        curvekey_wipe(&security_out->own);
    }
    return err;
}
