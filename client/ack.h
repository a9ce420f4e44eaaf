// client/ack.h: what a command does with the proofs that come with a deletion or removal.
//
// A failed check does not undo the work: it is said on stderr, and the command ends with exit code 1.
#pragma once

#include "base/digest.h"
#include "client/ctl.h"

// Checks the accepted receipt that came with the ack of request `uuid`: its signature, and that it
// speaks of this request. Sets ctl->different where it does not.
void ack_check(struct ctl *ctl, const struct id128 *uuid, ProtobufCBinaryData accepted);

// Checks that the receipt log still begins with what this client has seen (client/history.h) and
// remembers its head. Sets ctl->different where it does not. Makes calls: answers of earlier ones
// are no longer borrowed.
void ack_check_history(struct ctl *ctl);
