// coordinator/account.h: what is reported of the deletions of some days: counts, and how long they took.
//
// Pure. Shown are all requests of the journal and then all tallies; medians need up to three looks
// (base/median.h). Nothing that is counted names anybody.
//
// Received in the time are: what was accepted in it (journaled), and what was refused in it (tallies).
// A request is complied with when it is completed; until then it is open, and past due once its due
// date has come. What a request looked like at `as_of_us` counts, so that what happens while the journal
// is looked through, changes nothing.
//
// Lifetime  {0} with what is asked. account_deinit frees. Threads  One at a time.
#pragma once

#include "base/median.h"
#include "store/request.h"
#include "store/tally.h"

struct account_days { // From accepted on, of those that got so far.
    struct median us;
    uint64_t days, rest_us; // Their sum.
};

struct account {
    // Asked.
    int64_t since_us,
        until_us; // The first time that counts, and the first that does not. Whole days.
    int64_t as_of_us;
    char dataset[LIMIT_NAME_BYTES + 1]; // "": all.
    // Found.
    uint64_t completed;                  // Of these
    uint64_t nothing_left;               // all had been deleted before, by another request.
    uint64_t completed_late;             // After their due date.
    uint64_t open;                       // Of these
    uint64_t past_due;                   // the due date has come.
    uint64_t records_deleted;            // Of completed and open ones.
    uint64_t refused[TALLY_REFUSED + 1]; // By reason.
    struct account_days to_fenced, to_erased, to_completed;
    uint32_t looks; // Over.
};

// due_us: when it has to be completed by; 0: it has no due date.
void account_request(struct account *account, const struct request_row *row, int64_t due_us);
bool account_again(struct account *account); // Every request was shown. True: show them once more.
void account_tally(struct account *account, const struct tally *tally); // Each once.
bool account_any(const struct account *account);                        // Anything was found.
double account_mean(const struct account_days *days);                   // In days; of none 0.
double account_median(const struct account_days *days);
void account_deinit(struct account *account);
