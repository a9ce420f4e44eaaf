// client/cmd_scan.c: the command scan: bytes that should be gone, are they?
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "client/commands.h"
#include "client/scan.h"

enum { PLACES_SHOWN = 1000 };

struct scan_options {
    struct ctl_globals globals;
    struct args_list needles, pids;
};

static const struct args_option option_table[] = {
    CTL_GLOBAL_OPTIONS,
    {"needle", 'n', "FILE", "What to look for: each line of a text, any other file as it is",
     ARGS_LIST, offsetof(struct scan_options, needles), 0},
    {"pid", 'p', "PID", "Look into the memory of this process, too", ARGS_LIST,
     offsetof(struct scan_options, pids), 0},
};

struct report {
    const struct ctl *ctl;
    json_t *places;
    size_t shown;
};

static void note(void *context, const struct scan_place *place)
{
    struct report *const report = context;
    if (report->shown++ >= PLACES_SHOWN) {
        return;
    }
    if (report->ctl->json) {
        json_array_append_new(report->places, json_pack("{s:s, s:I, s:I}", "where", place->where,
                                                        "offset", (json_int_t)place->offset,
                                                        "needle", (json_int_t)place->needle + 1));
    } else {
        printf("%s: needle %zu at %llu\n", place->where, place->needle + 1,
               (unsigned long long)place->offset);
    }
}

static enum err scan_all(struct scan *scan, const struct scan_options *given,
                         const struct args_list *words)
{
    for (size_t i = 0; i < given->needles.count; i++) {
        TRY(scan_add_file(scan, given->needles.texts[i]));
    }
    for (size_t i = 0; i < words->count; i++) {
        TRY(scan_path(scan, words->texts[i]));
    }
    for (size_t i = 0; i < given->pids.count; i++) {
        uint64_t pid = 0;
        TRY_AS(text_u64(given->pids.texts[i], INT_MAX, &pid), "--pid");
        TRY(scan_process(scan, (pid_t)pid));
    }
    return OK;
}

static void print_counts(struct ctl *ctl, const struct scan *scan, struct report *report)
{
    const struct scan_counts counts = scan_counts(scan);
    if (ctl->json) {
        ctl_print(json_pack("{s:I, s:I, s:I, s:I, s:O}", "files", (json_int_t)counts.files, "bytes",
                            (json_int_t)counts.bytes, "found", (json_int_t)counts.found, "needles",
                            (json_int_t)scan_needle_count(scan), "places", report->places));
    } else {
        printf("%llu found in %llu bytes of %llu files and mappings\n",
               (unsigned long long)counts.found, (unsigned long long)counts.bytes,
               (unsigned long long)counts.files);
    }
    ctl->different = counts.found > 0;
}

static enum err run_scan(struct ctl *ctl, const void *options, const struct args_list *words)
{
    const struct scan_options *const given = options;
    if (given->needles.count == 0) {
        FAIL(ERR_INVALID, "nothing to look for: name a file with --needle");
    }
    if (words->count + given->pids.count == 0) {
        FAIL(ERR_INVALID, "nowhere to look: name a PATH or a --pid");
    }
    struct report report = {.ctl = ctl, .places = json_array()};
    struct scan *const scan = scan_new(note, &report);
    const enum err err = scan_all(scan, given, words);
    if (err == OK) {
        print_counts(ctl, scan, &report);
    }
    scan_free(scan);
    json_decref(report.places);
    return err;
}

const struct ctl_command cmd_scan = {
    .name = "scan",
    .summary = "Look for bytes that should be gone",
    .words = "PATH...",
    .words_max = SIZE_MAX,
    .help =
        "Reads files, directories, devices and images as they lie, and the memory of processes "
        "with "
        "--pid (root's right, for ours). Overwritten data, keys and what was learnt from them are "
        "found only where they still lie plain. Exit code 1 where anything was found. Needle files "
        "are left out themselves.\n\n"
        "Examples:\n"
        "  unlearnctl scan cluster cluster.client /tmp /dev/shm --needle gone.txt\n"
        "  unlearnctl scan disk.img --needle row.bin --needle names.txt --json\n"
        "  unlearnctl scan --needle gone.txt --pid $(cat cluster/run/unlearnd.pid)",
    .options = option_table,
    .option_count = sizeof option_table / sizeof option_table[0],
    .options_bytes = sizeof(struct scan_options),
    .run = run_scan,
};
