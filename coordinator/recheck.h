// coordinator/recheck.h: a share of the stages is trained a second time, on another host, and compared: so a
// worker that returns other weights than the records give is found out.
//
// `recheck_percent` of the settings says how many. Which ones, no worker can know beforehand: a keyed digest of
// the instance decides when its weights are stored. They serve meanwhile. A comparison goes to a rank of
// another host than the one that trained it; where no such rank has come within ten seconds, to any, which
// still finds broken memory. Where the bytes differ nobody can say who was wrong: both hosts are told in the log,
// in `status` and in the model's `problem`, the component and all that stands on it is invalid at once and
// trained anew, and what is trained then is compared, too, until two agree; after five times its stage is given
// up like one that fails.
//
// What waits is in memory alone: a restart forgets it.
//
// Threads   The main loop.
#pragma once

#include "coordinator/fleetdom.h"

enum { RECHECK_JOB = 0 }; // In verify_task.job: no verification has this number.

// The component's weights were stored as `instance`; trainer: the name of the worker ("host/pid").
void recheck_stored(struct core *core, uint32_t model, const struct component *name,
                    uint64_t instance, const char *trainer);
// The next comparison for this rank; false: none.
bool recheck_next(struct core *core, const struct worker *worker, struct verify_task *task_out);
bool recheck_waits(const struct core *core); // For whichever rank.
void recheck_compared(struct core *core, uint32_t model, const struct component *name,
                      enum comparison result);
void recheck_free(struct core *core);

struct recheck_counts {
    uint64_t same, different;
    uint64_t same_host; // Of these, on the host that had trained it.
    uint64_t skipped;   // Invalid before they were compared, or the list was full.
    uint32_t waiting;
    char last[160]; // The last that differed: component and both hosts, or "".
};
struct recheck_counts recheck_counts(const struct core *core);
