// client/history.h: what this client has seen of the receipt log, and that it is still so.
//
// DIR.client/log.head holds the last signed head that was seen. Every command that learns of the log
// asks for its head, checks the signature with DIR.client/receipt.pub, and has the coordinator prove
// that the log still begins with what was seen. So a log that was rewritten, forked or rolled back
// (with the whole data directory, even) is noticed by every client that had seen more.
//
// Threads   One; several processes may share DIR.client.
#pragma once

#include "base/head.h"
#include "client/unlearn.h"

struct history {
    struct sign_public key;
    struct head last; // Size 0 and no signature: nothing was seen yet.
    bool seen;
    char path[4200];
};

// Reads DIR.client/receipt.pub and log.head.
//   ERR_NOT_FOUND  no receipt.pub.   ERR_INVALID  it is damaged.
//   ERR_CORRUPT    log.head is damaged, or of another key.
MUST_USE enum err history_open(const char *dir, struct history *history_out);

// Asks for the head of now, checks it against what was seen when the history was opened, and
// remembers it. Errors: those of a call, and
//   ERR_CORRUPT  the log was rolled back, rewritten or forked, or its head is not signed by the key;
//                what was remembered stays.
MUST_USE enum err history_check(const struct history *history, struct unlearn *client,
                                struct head *head_out);

// Checks two heads of one key and their consistency proof, which the client asks for.
//   ERR_CORRUPT  as above.
MUST_USE enum err history_compare(struct unlearn *client, const struct head *before,
                                  const struct head *now);
