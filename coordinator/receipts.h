// coordinator/receipts.h: signing receipts, and answering about them and their log.
#pragma once

#include "coordinator/core.h"

// Opens DIR/keys/signing.key, checks that it is the one that clients know (DIR.client/receipt.pub)
// and that the store's log is its own, and has the store thread sign what it commits from here on.
// After storage_open, before the loop.
//   ERR_NOT_FOUND  no signing key, or no receipt.pub.   ERR_DENIED  others may read the key.
//   ERR_CORRUPT    the key or the log is damaged.
//   ERR_CONFLICT   receipt.pub or the log is another key's.
MUST_USE enum err receipts_open(struct core *core);
void receipts_free(struct core *core); // After storage_close.
