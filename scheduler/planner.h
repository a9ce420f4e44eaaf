// scheduler/planner.h: which stage is trained next, over all models.
//
// Pure: what happened and the time come in, what to do comes out; no I/O, no clock. The coordinator,
// `plan` and the simulator decide by the same functions.
//
// Repairs come before first trainings. Among these, the principal that got least so far comes first,
// so that none delays another by asking for much (start-time fair queueing: Goyal, Vin, Cheng,
// SIGCOMM 1996; whoever was idle begins where the others stand). Among the models of one principal,
// the stage that is due first; among those, the order of ensemble.h. So a due date orders the work of
// one principal, and does not take from others.
//
// A model with the policy batch:N holds repairs back until they are released (repair.h); what became
// invalid after that is held back for the next time. All else is work-conserving: while something can be trained and a rank is idle, planner_next gives it.
//
// Lifetime  planner_init to planner_deinit; a model is known from planner_add to planner_remove.
// Threads   One at a time.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/repair.h"
#include "scheduler/cost.h"
#include "scheduler/ensemble.h"

// Due at once: asked for in haste, or the policy is eager.
#define PLANNER_AT_ONCE INT64_MIN

struct churn { // Of one shard: stages that deletions cancelled, since one was last completed in it.
    uint32_t cancelled;
    int64_t since_us;
};

struct planned {               // A model.
    struct ensemble *ensemble; // Borrowed.
    uint32_t principal;        // Whose work it is.
    bool paused;               // Nothing of it is leased.
    struct repair_policy policy;
    struct cost cost;
    // batch:N only.
    uint32_t gathered; // Deletions that hit it since its repairs were last released.
    bool hasty;        // One of these asked for haste.
    // What deletions made void, since planned_init.
    uint64_t cancelled_stages, cancelled_samples;
    struct churn *churn; // [shards] Owned.
};

struct principal {
    uint32_t number;
    double served; // Seconds of ranks; where nothing was measured, a microsecond a sample.
};

struct planner {
    struct planned **models; // Borrowed, in the order in which they were added.
    uint32_t model_count;
    struct principal *principals; // By number. Owned.
    uint32_t principal_count;
    double now; // What the principal whose turn it was last had got until then.
};

struct grant { // One stage, and whose turn it is.
    struct planned *model;
    uint32_t shard, node;
    bool repair;
    int64_t due;
};

void planner_init(struct planner *planner);
void planner_deinit(struct planner *planner);
void planned_init(struct planned *model, struct ensemble *ensemble, uint32_t principal);
void planned_deinit(struct planned *model);
void planner_add(struct planner *planner, struct planned *model);
void planner_remove(struct planner *planner, const struct planned *model); // OK if it is not there.

// --- Events

// What a deletion that is due at due_us (haste: at once) tells ensemble_lose of this model. To be asked
// right before: what that makes invalid is held back, or is not, by the policy as it is now.
int64_t planned_due(const struct planned *model, int64_t due_us, bool haste);
// A deletion has hit components of the model, or one that did so earlier now asks for haste.
void planned_hit(struct planned *model, bool haste);
// Repairs may go on whatever the policy: held back is only what comes from now on.
void planned_resume(struct planned *model);
// A stage of it was trained, in so many seconds of ranks.
void planned_trained(struct planned *model, uint32_t shard, uint32_t depth, uint64_t samples,
                     double seconds);
// A deletion made a stage void that had come so far.
void planned_cancelled(struct planned *model, uint32_t shard, uint64_t samples_done,
                       int64_t now_us);

// --- Decisions

// The stage to lease next; false: none. `ranks`: how many there are, at least 1 (batch:N: how long the
// repairs would take).
bool planner_next(struct planner *planner, int64_t now_us, uint32_t ranks, struct grant *grant_out);
// The same for a rank that may train some models only: those that `may` says. `may` NULL: all.
bool planner_next_of(struct planner *planner, int64_t now_us, uint32_t ranks,
                     bool (*may)(const void *context, const struct planned *model),
                     const void *context, struct grant *grant_out);
// It was leased. Shared by several ranks, a stage takes as many seconds of ranks, or not much more.
void planner_granted(struct planner *planner, const struct grant *grant);
// Stages that could be leased now; counts to `most`.
uint32_t planner_count_ready(const struct planner *planner, uint32_t most);

// Seconds of ranks that a deletion takes of which ensemble_plan told the cost; of those, what must
// follow each other; and by which share the first may be off, as a rule. False: nothing is known.
bool planned_cost(const struct planned *model, const struct ensemble_cost *cost,
                  double *seconds_out, double *longest_out, double *error_out);

// Whether the model holds its repairs back.
bool planned_holds(const struct planned *model, int64_t now_us, uint32_t ranks);
// A shard in which CHURN_STAGES or more stages in a row were cancelled by deletions, so that nothing
// gets done there: the worst one, and how many a second. False: there is none.
enum { CHURN_STAGES = 3 };
bool planned_churns(const struct planned *model, int64_t now_us, uint32_t *shard_out,
                    double *per_second_out);
