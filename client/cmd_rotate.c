// client/cmd_rotate.c: key init and key rotate: the key files of a cluster on this machine.
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "client/cluster.h"
#include "client/commands.h"
#include "client/keyset.h"
#include "client/process.h"

// --- key init ---

static enum err run_key_init(struct ctl *ctl, const void *options, const struct args_list *words)
{
    (void)options;
    const char *dir;
    uint32_t ranks;
    struct keyset_made made;
    TRY(ctl_dir(ctl, words, &dir));
    TRY(cluster_ranks(dir, &ranks)); // Says where no cluster is.
    TRY(keyset_complete(dir, &made));
    if (ctl->json) {
        ctl_print(json_pack("{s:b, s:b, s:b}", "server", (int)made.server, "worker",
                            (int)made.worker, "admin", (int)made.admin));
        return OK;
    }
    const struct {
        bool made;
        const char *tail, *what;
    } rows[] = {
        {made.server, "/keys/server.key", "the coordinator's"},
        {made.server_public, ".client/server.pub", "its public half"},
        {made.worker, "/keys/worker.key", "the workers'"},
        {made.admin, ".client/admin.key", "the first client's, who may do everything"},
        {made.admin_public, "/keys/admin.pub", "its public half"},
    };
    bool any = false;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (rows[i].made) {
            printf("made %s%s: %s\n", dir, rows[i].tail, rows[i].what);
            any = true;
        }
    }
    if (!any) {
        printf("nothing was missing\n");
    }
    return OK;
}

const struct ctl_command cmd_key_init = {
    .name = "key init",
    .summary = "Make the key files that a cluster lacks",
    .words = "DIR",
    .words_max = 1,
    .help =
        "init makes them all. This is for a cluster that was made before programs had keys, and "
        "after a file was lost: only what is missing is made. A coordinator that runs reads them "
        "at its next start.\n\n"
        "Example:\n  unlearnctl key init cluster",
    .run = run_key_init,
};

// --- key rotate ---

struct rotate {
    struct ctl_globals globals;
    bool allow_unsafe_fs;
};

static const struct args_option rotate_options[] = {
    CTL_GLOBAL_OPTIONS,
    {"allow-unsafe-fs", 1200, NULL,
     "Also where the overwritten old key may stay on the disk: as for up", ARGS_FLAG,
     offsetof(struct rotate, allow_unsafe_fs), 0},
};

static enum err rotate_server(struct ctl *ctl, const char *dir)
{
    TRY(cluster_check_stopped(dir, "its key can be changed"));
    TRY(keyset_rotate_server(dir));
    if (ctl->json) {
        ctl_print(json_pack("{s:s}", "rotated", "server"));
    } else {
        printf(
            "%s/keys/server.key is new. Clients and workers elsewhere are refused until they have "
            "the new %s.client/server.pub\n",
            dir, dir);
    }
    return OK;
}

// unlearnd does it, which alone opens the store.
static enum err rotate_by_unlearnd(struct ctl *ctl, const char *dir, const char *which,
                                   bool allow_unsafe_fs)
{
    char program[PROCESS_PATH_BYTES], log[PROCESS_PATH_BYTES], tail[PROCESS_TAIL_BYTES];
    TRY(cluster_check_stopped(dir, "its key can be changed"));
    TRY(process_beside("unlearnd", program));
    snprintf(log, sizeof log, "%.4000s/run/unlearnd.log", dir);
    const int64_t from = process_log_bytes(log);
    const char *args[8] = {"unlearnd", "--rotate", which, dir};
    args[4] = allow_unsafe_fs ? "--allow-unsafe-fs" : NULL;
    pid_t pid = 0;
    int code = 0;
    TRY(process_start(&(struct process_start){.program = program, .args = args, .log = log}, &pid));
    while (!process_ended(pid, &code)) {
        nanosleep(&(struct timespec){.tv_nsec = 20000000L}, NULL);
    }
    if (code != 0) {
        process_log_tail(log, from, tail);
        FAIL(code == 4 ? ERR_CONFLICT : ERR_IO, "the %s key was not changed; %s ends with:%s",
             which, log, tail);
    }
    if (ctl->json) {
        ctl_print(json_pack("{s:s}", "rotated", which));
    } else if (strcmp(which, "signing") == 0) {
        printf("%s/keys/signing.key is new. Hand out the new %s.client/receipt.pub; receipts of "
               "before are "
               "checked by the newest receipt-N.pub beside it\n",
               dir, dir);
    } else {
        printf(
            "%s.master has a new key, by which every key of the keyring is wrapped; the old one is "
            "overwritten\n",
            dir);
    }
    return OK;
}

static enum err run_key_rotate(struct ctl *ctl, const void *options, const struct args_list *words)
{
    const struct rotate *const rotate = options;
    if (ctl->dir == NULL) {
        FAIL(ERR_INVALID, "no cluster is named: give --dir DIR or set UNLEARN_DIR");
    }
    if (strcmp(words->texts[0], "server") == 0) {
        return rotate_server(ctl, ctl->dir);
    }
    if (strcmp(words->texts[0], "signing") == 0 || strcmp(words->texts[0], "master") == 0) {
        return rotate_by_unlearnd(ctl, ctl->dir, words->texts[0], rotate->allow_unsafe_fs);
    }
    FAIL(ERR_INVALID, "there is no key \"%.40s\" to change, expected server, signing or master",
         words->texts[0]);
}

const struct ctl_command cmd_key_rotate = {
    .name = "key rotate",
    .summary = "Put a new key in the place of one of the cluster's own",
    .words = "server|signing|master",
    .words_min = 1,
    .words_max = 1,
    .help = "On the coordinator's machine, while it does not run.\n\n"
            "server: the key by which clients and workers know the coordinator. What connects is "
            "refused after the next start until it has the new DIR.client/server.pub.\n"
            "signing: the key of receipts and of their log. What was signed before is checked by "
            "the old "
            "public key, which stays as DIR.client/receipt-N.pub.\n"
            "master: the key that every key of records and weights is wrapped by. The old one is "
            "overwritten: an old copy of the keyring opens no more without an old copy of "
            "DIR.master.\n\n"
            "Example:\n  unlearnctl --dir cluster key rotate server",
    .options = rotate_options,
    .option_count = sizeof rotate_options / sizeof rotate_options[0],
    .options_bytes = sizeof(struct rotate),
    .run = run_key_rotate,
};
