// shard_worker/peerkeys.c: see peerkeys.h.
#include "shard_worker/peerkeys.h"

#include <stddef.h>

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
