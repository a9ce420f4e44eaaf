// client/ack.c: see ack.h.
#include "client/ack.h"

#include <stdio.h>
#include <string.h>

#include "client/history.h"
#include "proto/receipt.h"
#include "proto/wire.h"

static void complain(struct ctl *ctl, const char *what)
{
    fprintf(stderr, "unlearnctl: %s: %s\n", what, err_text());
    ctl->different = true;
}

static enum err check(const struct ctl *ctl, const struct id128 *uuid, struct span file)
{
    struct history history;
    struct receipt receipt;
    struct receipt_file parts;
    const enum err opened = history_open(ctl->dir, &history);
    if (opened != OK && opened != ERR_CORRUPT) { // A damaged log.head is the history's to tell.
        return opened;
    }
    TRY(receipt_verify(file, &history.key, &receipt, &parts));
    const bool ours = id128_compare(&receipt.uuid, uuid) == 0 && receipt.kind == RECEIPT_ACCEPTED;
    receipt_deinit(&receipt);
    if (!ours) {
        FAIL(ERR_CORRUPT, "it is the receipt of another request");
    }
    return OK;
}

void ack_check(struct ctl *ctl, const struct id128 *uuid, ProtobufCBinaryData accepted)
{
    if (check(ctl, uuid, wire_span(accepted)) != OK) {
        complain(ctl, "the request is accepted, but its receipt cannot be trusted");
    }
}

void ack_check_history(struct ctl *ctl)
{
    struct history history;
    struct head head;
    enum err err = history_open(ctl->dir, &history);
    if (err == OK) {
        err = history_check(&history, ctl->client, &head);
    }
    if (err != OK) {
        complain(ctl, "the request is accepted, but the receipt log cannot be trusted");
    }
}
