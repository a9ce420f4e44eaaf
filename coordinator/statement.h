// coordinator/statement.h: what receipts say, read from what the store holds.
//
// Threads   The store thread.
#pragma once

#include "base/sign.h"
#include "store/request.h"

// The body of the accepted receipt of a journaled request, from its row: the same at the ack and
// ever after, as long as build and profile stay. Replaces *body: empty while the request does not stand
// (request_stands), which nothing is to be signed of. Errors: the store's.
MUST_USE enum err statement_accepted(struct txn *txn, const struct request_row *row,
                                     struct buf *body);

// Completes a request whose other work is done: composes the completed receipt, appends it to the
// log, drops what the request still kept, and puts the row (which gets state, times and log entry).
// Nothing is written before the receipt stands.
//   ERR_CONFLICT  a component that it awaits is not valid again: not yet.
//   ERR_LIMIT     the receipt is longer than LIMIT_RECEIPT_BYTES.
MUST_USE enum err statement_complete(struct txn *txn, const struct signer *signer,
                                     struct request_row *row);
