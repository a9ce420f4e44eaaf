// client/cmd_receipt.c: receipt and receipt verify: what a deletion did, signed; checked offline.
#include <stdio.h>
#include <string.h>

#include "base/limits.h"
#include "base/text.h"
#include "client/commands.h"
#include "client/files.h"
#include "client/history.h"
#include "client/receiptview.h"
#include "proto/receipt.h"

enum { FILE_BYTES_MAX = LIMIT_RECEIPT_BYTES + 4096 }; // With its proof and head.

// --- receipt ---

struct receipt_options {
    struct ctl_globals globals;
    const char *out;
};

static const struct args_option receipt_option_list[] = {
    CTL_GLOBAL_OPTIONS,
    {"out", 'o', "FILE", "Also write the receipt to FILE, for receipt verify", ARGS_TEXT,
     offsetof(struct receipt_options, out), 0},
};

static enum err show_file(const struct ctl *ctl, const struct history *history, struct span bytes,
                          const struct id128 *uuid)
{
    struct receipt receipt;
    struct receipt_file file;
    struct head now;
    TRY_AS(receipt_verify(bytes, &history->key, &receipt, &file), "the coordinator's receipt");
    enum err err = OK;
    if (id128_compare(&receipt.uuid, uuid) != 0) {
        err = err_raise(ERR_CORRUPT, "the coordinator's receipt is of another request");
    }
    if (err == OK) {
        err = history_check(history, ctl->client, &now);
    }
    if (err == OK && receipt.kind == RECEIPT_COMPLETED) {
        err = history_compare(ctl->client, &file.head, &now);
    }
    if (err == OK) {
        receiptview_show(ctl, &receipt, &file);
    }
    receipt_deinit(&receipt);
    return err;
}

static enum err run_receipt(struct ctl *ctl, const void *options, const struct args_list *words)
{
    const struct receipt_options *const receipt = options;
    struct history history;
    struct id128 uuid;
    struct buf file = {0};
    bool completed;
    TRY_AS(text_uuid(words->texts[0], &uuid), "REQUEST");
    TRY(ctl_connect(ctl));
    TRY(history_open(ctl->dir, &history));
    enum err err = unlearn_receipt_get(ctl->client, &uuid, &file, &completed);
    if (err == OK && receipt->out != NULL) { // Also one that fails: it is evidence.
        err = files_write(receipt->out, buf_span(&file));
    }
    if (err == OK) {
        err = show_file(ctl, &history, buf_span(&file), &uuid);
    }
    buf_deinit(&file);
    return err;
}

const struct ctl_command cmd_receipt = {
    .name = "receipt",
    .summary = "Show the signed receipt of a deletion or removal",
    .words = "REQUEST",
    .words_min = 1,
    .words_max = 1,
    .help = "REQUEST is the UUID that delete and remove print. Until everything is repaired the "
            "receipt is the `accepted` one; then the `completed` one, an entry of the receipt log. "
            "What stands for weights in it is a commitment: a keyed digest whose key is destroyed "
            "with them.\n\n"
            "Examples:\n"
            "  unlearnctl receipt 7f1d1a52-2c55-4c0e-9d61-0c5a3b0f8a11\n"
            "  unlearnctl receipt 7f1d1a52-2c55-4c0e-9d61-0c5a3b0f8a11 -o alice.receipt",
    .options = receipt_option_list,
    .option_count = sizeof receipt_option_list / sizeof receipt_option_list[0],
    .options_bytes = sizeof(struct receipt_options),
    .run = run_receipt,
};

// --- receipt verify ---

struct verify_options {
    struct ctl_globals globals;
    const char *key;
};

static const struct args_option verify_option_list[] = {
    CTL_GLOBAL_OPTIONS_BUT_KEY,
    {"key", 1200, "PUBLIC", "The public key: a receipt.pub, or 64 hex digits", ARGS_TEXT,
     offsetof(struct verify_options, key), 0},
};

static void tell(struct ctl *ctl, enum err err, const struct receipt *receipt,
                 const struct receipt_file *file)
{
    const char *const reason = err == OK ? "" : err_text();
    ctl->different = err != OK;
    if (ctl->json) {
        json_t *const answer = json_pack("{s:b}", "valid", err == OK);
        json_t *const text = json_string(reason);
        json_object_set_new(answer, "reason", text == NULL ? json_string("not UTF-8") : text);
        json_object_set_new(answer, "receipt",
                            err == OK ? receiptview_json(receipt, file) : json_null());
        ctl_print(answer);
    } else if (err == OK) {
        printf("valid\n\n");
        receiptview_show(ctl, receipt, file);
    } else {
        printf("not valid: %s\n", reason);
    }
}

static enum err run_receipt_verify(struct ctl *ctl, const void *options,
                                   const struct args_list *words)
{
    const struct verify_options *const verify = options;
    struct sign_public key;
    struct receipt receipt = {0};
    struct receipt_file parts;
    struct buf file = {0};
    if (verify->key == NULL) {
        FAIL(ERR_INVALID, "no public key: give --key receipt.pub, or --key with 64 hex digits");
    }
    TRY_AS(sign_public_read(verify->key, &key), "--key");
    enum err err = files_read(words->texts[0], FILE_BYTES_MAX, &file);
    if (err == OK || err == ERR_LIMIT) { // What is too long is no receipt.
        err = err == OK ? receipt_verify(buf_span(&file), &key, &receipt, &parts) : err;
        tell(ctl, err, &receipt, &parts);
        err = OK;
    }
    receipt_deinit(&receipt);
    buf_deinit(&file);
    return err;
}

const struct ctl_command cmd_receipt_verify = {
    .name = "receipt verify",
    .summary = "Check a receipt file; needs no server",
    .words = "FILE",
    .words_min = 1,
    .words_max = 1,
    .help = "Checks the form, the signature, and that the receipt is in the tree that was signed. "
            "Exit code 1 where one of them fails; the reason says which. Take the public key from "
            "the operator by a way you trust: DIR.client/receipt.pub is it.\n\n"
            "Examples:\n"
            "  unlearnctl receipt verify alice.receipt --key cluster.client/receipt.pub\n"
            "  unlearnctl receipt verify alice.receipt --json --key "
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
    .options = verify_option_list,
    .option_count = sizeof verify_option_list / sizeof verify_option_list[0],
    .options_bytes = sizeof(struct verify_options),
    .run = run_receipt_verify,
};
