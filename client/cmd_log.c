// client/cmd_log.c: log head, log prove, log consistency: the receipt log, and that it only grows.
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "client/commands.h"
#include "client/files.h"
#include "client/history.h"
#include "client/receiptview.h"
#include "proto/receipt.h"

struct log_options {
    struct ctl_globals globals;
    const char *out;
};

static enum err open_history(struct ctl *ctl, struct history *history)
{
    TRY(ctl_connect(ctl));
    return history_open(ctl->dir, history);
}

// --- log head ---

static enum err run_log_head(struct ctl *ctl, const void *options, const struct args_list *words)
{
    (void)options;
    (void)words;
    struct history history;
    struct head head;
    TRY(open_history(ctl, &history));
    TRY(history_check(&history, ctl->client, &head));
    if (ctl->json) {
        ctl_print(receiptview_head_json(&head));
    } else {
        receiptview_head_print(&head);
    }
    return OK;
}

const struct ctl_command cmd_log_head = {
    .name = "log head",
    .summary = "Show the signed head of the receipt log",
    .help = "Checks the signature, and that the log still begins with what this client has seen. "
            "Exit code 1 where it does not: the log was rolled back, rewritten or forked.\n\n"
            "Example:\n  unlearnctl log head --json",
    .run = run_log_head,
};

// --- log prove ---

static const struct args_option prove_options[] = {
    CTL_GLOBAL_OPTIONS,
    {"out", 'o', "FILE", "Also write the entry as a receipt to FILE, for receipt verify", ARGS_TEXT,
     offsetof(struct log_options, out), 0},
};

static enum err prove(const struct ctl *ctl, const struct history *history, uint64_t index,
                      struct span bytes)
{
    struct receipt receipt;
    struct receipt_file file;
    struct head now;
    TRY_AS(receipt_verify(bytes, &history->key, &receipt, &file), "the coordinator's proof");
    enum err err = OK;
    if (receipt.kind != RECEIPT_COMPLETED || file.index != index) {
        err = err_raise(ERR_CORRUPT, "the coordinator's proof is of another entry");
    }
    if (err == OK) {
        err = history_check(history, ctl->client, &now);
    }
    if (err == OK) {
        err = history_compare(ctl->client, &file.head, &now);
    }
    if (err == OK) {
        receiptview_show(ctl, &receipt, &file);
    }
    receipt_deinit(&receipt);
    return err;
}

static enum err run_log_prove(struct ctl *ctl, const void *options, const struct args_list *words)
{
    const struct log_options *const log = options;
    struct history history;
    struct buf file = {0};
    uint64_t index;
    TRY_AS(text_u64(words->texts[0], UINT64_MAX, &index), "INDEX");
    TRY(open_history(ctl, &history));
    enum err err = unlearn_log_inclusion(ctl->client, index, &file);
    if (err == OK && log->out != NULL) {
        err = files_write(log->out, buf_span(&file));
    }
    if (err == OK) {
        err = prove(ctl, &history, index, buf_span(&file));
    }
    buf_deinit(&file);
    return err;
}

const struct ctl_command cmd_log_prove = {
    .name = "log prove",
    .summary = "Prove that an entry is in the receipt log",
    .words = "INDEX",
    .words_min = 1,
    .words_max = 1,
    .help = "Entries are completed receipts, numbered from 0. The proof is checked; with -o it is "
            "kept, as a receipt that anybody can check offline.\n\n"
            "Example:\n  unlearnctl log prove 0 -o first.receipt",
    .options = prove_options,
    .option_count = sizeof prove_options / sizeof prove_options[0],
    .options_bytes = sizeof(struct log_options),
    .run = run_log_prove,
};

// --- log consistency ---

// The head that a completed receipt was proved under.
static enum err head_of_receipt(const char *path, const struct sign_public *key,
                                struct head *head_out)
{
    struct receipt receipt;
    struct receipt_file parts;
    struct buf file = {0};
    enum err err = files_read(path, LIMIT_RECEIPT_BYTES, &file);
    if (err == OK) {
        err = receipt_verify(buf_span(&file), key, &receipt, &parts);
        err = err == OK ? OK : err_context(err, "%.200s", path);
    }
    if (err == OK) {
        *head_out = parts.head;
        if (receipt.kind != RECEIPT_COMPLETED) {
            err = err_raise(ERR_INVALID,
                            "%.200s is an accepted receipt: only completed ones are in the log",
                            path);
        }
        receipt_deinit(&receipt);
    }
    buf_deinit(&file);
    return err;
}

// What is compared with the log of now: what was seen, the head of a receipt, or what the
// coordinator says of an earlier size, which alone no signature vouches for.
static enum err choose_before(const struct ctl *ctl, const struct history *history,
                              const char *from, const struct head *now, struct head *before_out)
{
    uint64_t size = 0;
    *before_out = history->last;
    if (from == NULL) {
        return OK;
    }
    if (text_u64(from, UINT64_MAX, &size) != OK) {
        return head_of_receipt(from, &history->key, before_out);
    }
    struct merkle_path path;
    *before_out = (struct head){.size = size};
    if (size > now->size) {
        return OK; // The comparison says so.
    }
    return unlearn_log_consistency(ctl->client, size, now->size, &path, &before_out->root);
}

static enum err run_log_consistency(struct ctl *ctl, const void *options,
                                    const struct args_list *words)
{
    (void)options;
    struct history history;
    struct head before, now;
    TRY(open_history(ctl, &history));
    TRY(history_check(&history, ctl->client, &now));
    TRY(choose_before(ctl, &history, words->count > 0 ? words->texts[0] : NULL, &now, &before));
    TRY(history_compare(ctl->client, &before, &now));
    if (ctl->json) {
        ctl_print(json_pack("{s:b, s:I, s:I, s:o}", "consistent", 1, "from",
                            (json_int_t)before.size, "to", (json_int_t)now.size, "head",
                            receiptview_head_json(&now)));
    } else {
        printf("consistent  the first %llu entries are what they were\n",
               (unsigned long long)before.size);
        receiptview_head_print(&now);
    }
    return OK;
}

const struct ctl_command cmd_log_consistency = {
    .name = "log consistency",
    .summary = "Check that the receipt log has only grown",
    .words = "[FROM]",
    .words_max = 1,
    .help =
        "FROM is what the log of now must begin with: a receipt file, whose signed head counts, "
        "or a number of entries, for which the coordinator's word is taken. Without FROM it is "
        "the head that this client saw last. Exit code 1 where the log was rolled back, "
        "rewritten or forked.\n\n"
        "Examples:\n"
        "  unlearnctl log consistency\n"
        "  unlearnctl log consistency last-year.receipt",
    .run = run_log_consistency,
};
