// client/cmd_key.c: key add, key list, key revoke: who may do what. The cluster's own key files are
// cmd_rotate.c.
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/curvekey.h"
#include "base/digest.h"
#include "base/limits.h"
#include "base/role.h"
#include "base/text.h"
#include "client/commands.h"
#include "client/grid.h"
#include "proto/wire.h"

enum { PATH_BYTES = LIMIT_NAME_BYTES + sizeof ".key", PRINT_BYTES = 16 };

// What two people compare to see that they mean the same key.
static json_t *fingerprint_json(ProtobufCBinaryData public)
{
    char text[2 * PRINT_BYTES + 1];
    const struct span key = wire_span(public);
    const struct digest digest = digest_of("unlearnd-print", &key, 1);
    hex_put(text, digest.bytes, PRINT_BYTES);
    return json_string(text);
}

static void add_names(json_t *names, char *const *texts, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        json_array_append_new(names, json_string(texts[i]));
    }
}

// datasets: null: all.
static json_t *key_json(const Unlearn__KeyState *key)
{
    json_t *const answer =
        json_pack("{s:s, s:s}", "name", key->name, "role", role_name((enum role)key->role));
    const size_t limits = key->n_datasets + key->n_promised + key->n_removed;
    json_t *const datasets = json_array(), *const promised = json_array(),
                  *const removed = json_array();
    add_names(datasets, key->datasets, key->n_datasets);
    add_names(promised, key->promised, key->n_promised);
    add_names(removed, key->removed, key->n_removed);
    json_object_set_new(answer, "datasets", limits == 0 ? json_null() : json_incref(datasets));
    json_decref(datasets);
    json_object_set_new(answer, "promised", promised);
    json_object_set_new(answer, "removed", removed);
    json_object_set_new(answer, "added_at", ctl_time(key->added_us));
    json_object_set_new(answer, "revoked_at", ctl_time(key->revoked_us));
    json_object_set_new(answer, "fingerprint", fingerprint_json(key->public_));
    json_object_set_new(answer, "public", ctl_hex(key->public_));
    return answer;
}

static void put_names(struct buf *text, char *const *names, size_t count, const char *mark)
{
    for (size_t i = 0; i < count; i++) {
        buf_put(text, span_text(text->bytes == 0 ? "" : ", "));
        buf_put(text, span_text(names[i]));
        buf_put(text, span_text(mark));
    }
}

// "people, later (not there yet)", or "all"; the caller frees it.
static struct buf scope_text(const Unlearn__KeyState *key)
{
    struct buf text = {0};
    put_names(&text, key->datasets, key->n_datasets, "");
    put_names(&text, key->promised, key->n_promised, " (not there yet)");
    put_names(&text, key->removed, key->n_removed, " (removed)");
    if (text.bytes == 0) {
        buf_put(&text, span_text("all"));
    }
    buf_u8(&text, 0);
    return text;
}

// --- key add ---

struct key_add {
    struct ctl_globals globals;
    const char *role, *file, *public;
    struct args_list datasets;
};

static const struct args_option add_options[] = {
    CTL_GLOBAL_OPTIONS,
    {"role", 1200, "ROLE", "What it may do: " ROLE_NAMES, ARGS_TEXT, offsetof(struct key_add, role),
     0},
    {"dataset", 1201, "D", "Only in this dataset; may come several times (default: all)", ARGS_LIST,
     offsetof(struct key_add, datasets), 0},
    {"output", 'o', "FILE", "The file of the new pair (default: NAME.key)", ARGS_TEXT,
     offsetof(struct key_add, file), 0},
    {"public", 1202, "KEY",
     "Take this public key, 64 hex digits or a file of `key make`, instead of making a pair",
     ARGS_TEXT, offsetof(struct key_add, public), 0},
};

static bool is_hex(const char *text)
{
    const size_t bytes = strlen(text);
    return bytes == CURVEKEY_HEX_BYTES - 1 && strspn(text, "0123456789abcdefABCDEF") == bytes;
}

static enum err take_public(const char *text, uint8_t key_out[static CURVEKEY_BYTES])
{
    if (is_hex(text)) {
        return hex_get(key_out, CURVEKEY_BYTES, text);
    }
    const enum err err = curvekey_read_public(text, key_out);
    return err == ERR_NOT_FOUND ? err_context(err, "--public is neither 64 hex digits nor a file")
                                : err;
}

static enum err make_pair(const char *file, uint8_t public_out[static CURVEKEY_BYTES])
{
    struct curvekey pair;
    curvekey_make(&pair);
    memcpy(public_out, pair.public, CURVEKEY_BYTES);
    const enum err err = curvekey_write(file, &pair);
    curvekey_wipe(&pair);
    return err;
}

static enum err check_add(const struct key_add *add, const char *name, enum role *role_out)
{
    TRY(text_check_label("the key's name", name));
    if (add->role == NULL) {
        FAIL(ERR_INVALID, "no role is given: --role " ROLE_NAMES);
    }
    TRY(role_parse(add->role, role_out));
    if (add->file != NULL && add->public != NULL) {
        FAIL(ERR_INVALID, "with --public no pair is made: there is nothing for -o to hold");
    }
    for (size_t i = 0; i < add->datasets.count; i++) {
        TRY(text_check_label("the dataset's name", add->datasets.texts[i]));
    }
    return OK;
}

static void print_added(const struct ctl *ctl, const Unlearn__KeyState *key, const char *file)
{
    if (ctl->json) {
        json_t *const answer = key_json(key);
        json_object_set_new(answer, "file", file == NULL ? json_null() : json_string(file));
        ctl_print(answer);
        return;
    }
    struct buf scope = scope_text(key);
    printf("%s may connect as %s; datasets: %s\n", key->name, role_name((enum role)key->role),
           (const char *)scope.data);
    buf_deinit(&scope);
    const bool worker = key->role == UNLEARN__ROLE__ROLE_WORKER;
    if (file != NULL) {
        printf("hand over, unseen by others: %s (the key itself: whoever has it is %s)\n", file,
               key->name);
    }
    printf("hand over: %s.client/server.pub%s\n", ctl->dir,
           worker ? " (unlearn-fleet --key FILE --server-key server.pub)"
                  : " and address (unlearnctl --dir DIR --key FILE, with both in DIR.client)");
}

static enum err run_add(struct ctl *ctl, const void *options, const struct args_list *words)
{
    const struct key_add *const add = options;
    const char *const name = words->texts[0];
    const bool makes = add->public == NULL;
    const Unlearn__KeyState *state = NULL;
    uint8_t public[CURVEKEY_BYTES];
    char path[PATH_BYTES];
    enum role role;
    TRY(check_add(add, name, &role));
    TRY(ctl_connect(ctl));
    snprintf(path, sizeof path, "%s.key", name);
    const char *const file = !makes ? NULL : add->file != NULL ? add->file : path;
    if (makes) {
        TRY(make_pair(file, public));
    } else {
        TRY(take_public(add->public, public));
    }
    const enum err err = unlearn_key_add(ctl->client, name, role, add->datasets.texts,
                                         add->datasets.count, public, &state);
    if (err == ERR_UNAVAILABLE && makes) { // It may have come to the disk.
        return err_context(
            err, "whether the key was given out is not known (see key list), and %s is kept", file);
    }
    if (err != OK && makes) {
        (void)unlink(file);
    }
    TRY(err);
    print_added(ctl, state, file);
    return OK;
}

const struct ctl_command cmd_key_add = {
    .name = "key add",
    .summary = "Give out a key: who may connect, as what, and to which datasets",
    .words = "NAME",
    .words_min = 1,
    .words_max = 1,
    .help =
        "Makes a key pair, registers its public half under NAME and writes the pair to a file that "
        "only you can "
        "read. Or, with --public, takes the public half of a pair that somebody else made and "
        "keeps: then no secret travels.\n\n"
        "Roles (docs/security.md has every command):\n"
        "  admin    everything, keys too\n"
        "  owner    the records of its datasets: import, delete, plan, show, export, receipts\n"
        "  predict  predict and evaluate; lists and shows models\n"
        "  auditor  verify, components, receipts, log, status, report; no records\n"
        "  worker   trains: for unlearn-fleet, and no command of unlearnctl\n\n"
        "--dataset limits a key: what is outside is not there for it. An owner's datasets may be "
        "named before they are there: its first import makes them. A dataset that is made anew "
        "after a removal is another one, and not the key's. NAME and key stand for one holder for "
        "ever, also when "
        "revoked.\n\n"
        "Exit codes: 3 a dataset is not there, 4 the name or the key was given out before.\n\n"
        "Examples:\n"
        "  unlearnctl key add alice --role owner --dataset people\n"
        "  unlearnctl key add web --role predict --dataset people -o web.key\n"
        "  unlearnctl key add bob --role auditor --public bob.pub\n"
        "  unlearnctl key add lab2 --role worker --dataset people",
    .options = add_options,
    .option_count = sizeof add_options / sizeof add_options[0],
    .options_bytes = sizeof(struct key_add),
    .run = run_add,
};

// --- key make ---

static enum err run_make(struct ctl *ctl, const void *options, const struct args_list *words)
{
    (void)options;
    const char *const name = words->texts[0];
    char path[PATH_BYTES], public_path[PATH_BYTES];
    uint8_t public[CURVEKEY_BYTES];
    TRY(text_check_label("the key's name", name));
    snprintf(path, sizeof path, "%s.key", name);
    snprintf(public_path, sizeof public_path, "%s.pub", name);
    TRY(make_pair(path, public));
    const enum err err = curvekey_write_public(public_path, public);
    if (err != OK) {
        (void)unlink(path);
        return err;
    }
    if (ctl->json) {
        ctl_print(json_pack("{s:s, s:s, s:o}", "file", path, "public_file", public_path, "public",
                            ctl_hex(wire_bytes(span_of(public, sizeof public)))));
        return OK;
    }
    printf("%s: keep it to yourself\n%s: hand it to an admin, for unlearnctl key add NAME --public "
           "%s\n",
           path, public_path, public_path);
    return OK;
}

const struct ctl_command cmd_key_make = {
    .name = "key make",
    .summary = "Make a key pair for oneself, to have its public half registered",
    .words = "NAME",
    .words_min = 1,
    .words_max = 1,
    .help =
        "Writes NAME.key, which only you can read, and NAME.pub into the current directory, and "
        "connects to nobody.\n\n"
        "Example:\n  unlearnctl key make bob",
    .run = run_make,
};

// --- key list ---

static enum err list_all(struct ctl *ctl, json_t *rows, struct grid *grid)
{
    uint32_t offset = 0;
    do {
        const Unlearn__KeyPage *page;
        TRY(unlearn_key_list(ctl->client, offset, &page));
        for (size_t i = 0; i < page->n_keys; i++) {
            const Unlearn__KeyState *const key = page->keys[i];
            char added[TEXT_TIME_BYTES], revoked[TEXT_TIME_BYTES] = "";
            struct buf scope = scope_text(key);
            json_t *const row = key_json(key);
            text_time(key->added_us, added);
            if (key->revoked_us != 0) {
                text_time(key->revoked_us, revoked);
            }
            grid_cell(grid, "%s", key->name);
            grid_cell(grid, "%s", role_name((enum role)key->role));
            grid_cell(grid, "%s", (const char *)scope.data);
            grid_cell(grid, "%s", added);
            grid_cell(grid, "%s", revoked);
            grid_cell(grid, "%s", json_string_value(json_object_get(row, "fingerprint")));
            json_array_append_new(rows, row);
            buf_deinit(&scope);
        }
        if (page->next != 0 && page->next <= offset) {
            FAIL(ERR_CORRUPT, "the page of keys after %u begins at %u", offset, page->next);
        }
        offset = page->next;
    } while (offset != 0);
    return OK;
}

static enum err run_list(struct ctl *ctl, const void *options, const struct args_list *words)
{
    (void)options;
    (void)words;
    TRY(ctl_connect(ctl));
    json_t *const rows = json_array();
    struct grid *const grid = grid_new("NAME|ROLE|DATASETS|ADDED|REVOKED|FINGERPRINT");
    const enum err err = list_all(ctl, rows, grid);
    ctl_finish_list(ctl, err, json_pack("{s:o}", "keys", rows), grid);
    return err;
}

const struct ctl_command cmd_key_list = {
    .name = "key list",
    .summary = "List the keys that were given out, revoked ones too",
    .help = "Of each: name, role, the datasets that it is limited to, when it was added and "
            "revoked, and the fingerprint of its public half.\n\n"
            "Example:\n  unlearnctl key list --json",
    .run = run_list,
};

// --- key revoke ---

static enum err run_revoke(struct ctl *ctl, const void *options, const struct args_list *words)
{
    (void)options;
    const Unlearn__KeyState *key;
    TRY(ctl_connect(ctl));
    TRY(unlearn_key_revoke(ctl->client, words->texts[0], &key));
    if (ctl->json) {
        ctl_print(key_json(key));
        return OK;
    }
    char since[TEXT_TIME_BYTES];
    text_time(key->revoked_us, since);
    printf("revoked since %s: nothing that %s asks for from now on is done, also over connections "
           "that stand\n",
           since, key->name);
    return OK;
}

const struct ctl_command cmd_key_revoke = {
    .name = "key revoke",
    .summary = "Take all rights from a key, for ever",
    .words = "NAME",
    .words_min = 1,
    .words_max = 1,
    .help = "When this returns, nothing that the key asks for is done any more, whether it was "
            "connected or not; what was acknowledged before stands. The last admin's key cannot be "
            "revoked (exit code 4).\n\n"
            "Example:\n  unlearnctl key revoke web",
    .run = run_revoke,
};
