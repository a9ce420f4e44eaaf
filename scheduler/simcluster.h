// scheduler/simcluster.h: a cluster that repairs one model, simulated: what its ranks do from one event
// to the next.
//
// Decisions are those of the coordinator: planner.h says what is trained next, lend.h by how many ranks,
// ensemble.h what a deletion invalidates and which component answers. Around them stands a clock that
// jumps from event to event:
//
//   a stage is trained   after samples * seconds_per_sample / ranks; then its component is valid
//   a deletion           is fenced at once; stages that have read the record stop at once, and wait
//   a rank fails         the stage that it trains, alone or in a group, is lost at once, and waits; the
//                        rank is back after `back_us`
//
// Stages begin again from the start. A deletion is repaired when every component whose list contains its
// slice is valid or empty: at one moment, as in the coordinator.
//
// Left out: starting fleets anew, moving records and weights, groups that are slower than their share.
// No state for records: a cell is a count.
//
// Lifetime  simcluster_open to simcluster_close. Threads  One for each struct.
#pragma once

#include "scheduler/planner.h"
#include "scheduler/simspread.h"

struct simcluster_setup { // Borrowed until simcluster_open returns.
    struct placement placement;
    uint32_t sequences;
    const uint16_t *orders; // [sequences][slices]: scheduler/sequence.h
    bool passes_each;
    uint32_t epochs;
    const uint64_t
        *cells; // [shards * slices] Records; all that they give is trained at the beginning.
    struct repair_policy policy;
    uint32_t ranks;            // 1 .. LIMIT_WORKERS
    uint32_t chunks;           // 1 ..: a group of more ranks does not help (lend.h).
    double seconds_per_sample; // Of one rank, > 0.
    int64_t back_us;           // After a failure, >= 0.
    int64_t begin_us;          // The clock at the beginning.
};

enum simrank { SIMRANK_IDLE, SIMRANK_BUSY, SIMRANK_DOWN };

struct simcluster_share { // Of what there is, over time.
    double mean, least;
};

struct simcluster_result {
    int64_t now_us;
    uint64_t deletions; // They are repaired or open, and
    uint64_t repaired, open;
    uint64_t late,
        open_late;   // of these so many were repaired after their due date, or are open after it.
    struct simwork { // Of stages; seconds are of ranks, so of a group all of its ranks' together.
        uint64_t stages, samples;
        int64_t rank_us;
    } trained, cancelled, lost; // To the end; until a deletion or a failure.
    // Of ranks. With the three above this makes ranks * (now - begin).
    int64_t idle_us, down_us, training_us; // training: what is being trained now.
    uint64_t failures;
    uint32_t
        cancelled_in_a_row; // The most stages of one shard between two that were trained there.
    // From fence to repair, of the repaired.
    double repair_mean_us;
    uint64_t repair_median_us, repair_p99_us, repair_most_us;
    double
        due_used; // The greatest part of the time that was allowed, of the repaired; 1: just in time.
    // Of components that answer: records in their lists, of all records; slices in them, of all slices;
    // shards with one, of all shards.
    struct simcluster_share records, slices, shards;
};

struct simcluster;

void simcluster_open(const struct simcluster_setup *setup, struct simcluster **cluster_out);
void simcluster_close(struct simcluster *cluster); // Accepts NULL.

// Time goes on to `to_us`, which is not before now, and what ends until then, that moment included, has
// happened. Only here ranks are given work: events at one moment are seen together.
void simcluster_advance(struct simcluster *cluster, int64_t to_us);

// Now a record of the cell, which has one, is deleted; the repair is due at `due_us`.
void simcluster_delete(struct simcluster *cluster, struct cell cell, int64_t due_us);
// Now a rank fails that is not down already.
void simcluster_fail(struct simcluster *cluster, uint32_t rank);

enum simrank simcluster_rank(const struct simcluster *cluster, uint32_t rank);
const struct ensemble *simcluster_ensemble(const struct simcluster *cluster);
struct simcluster_result simcluster_result(const struct simcluster *cluster);
