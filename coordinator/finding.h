// coordinator/finding.h: which records the ids and subjects of a deletion name, and what each of them is
// answered: what is visible and not on hold is to go.
//
//   struct finding finding = {.dataset = number};
//   TRY(finding_begin(&finding, txn));
//   for each: TRY(finding_record(&finding, txn, &rid, &answer));
//   key_list_sort(&finding.keys);
//
// Writes nothing. What was found is true in its transaction.
//
// Lifetime  finding_deinit frees the lists. Errors: the store's, beside those named.
// Threads   The store thread.
#pragma once

#include "store/hold.h"
#include "store/record.h"
#include "store/request.h"

struct key_list {
    struct record_key *at; // Owned.
    uint32_t count, capacity;
};
// In storage order, each once.
void key_list_sort(struct key_list *list);

// Where a subject has more records than are taken at once: how far it was looked through.
struct finding_at {
    bool within; // The subject: `after` is its record that was looked at last, and of those before
    struct record_key after;
    bool deleted, held; // some are to go, some stay.
};

// Why something that was asked for stays: of the first.
struct hold_why {
    bool approval; // Another request has hidden it, and waits for a second person's word.
    char text[LIMIT_REASON_BYTES + 1]; // "": nothing stays.
};

struct finding {
    uint32_t dataset; // Given: its number.
    bool approvals;   // Given: what a request hides that is still being fenced may come back.
    uint64_t own;     // Given: what this request has deleted already is its own; 0: nothing.
    struct finding_at at;
    struct key_list keys; // To be deleted; a record may be there twice.
    struct key_list kept; // On hold.
    uint64_t earlier;     // The request that deleted the first thing that is gone; 0: none is.
    struct hold_why why;
    // Of the dataset.
    uint32_t generations;
    bool any_hold;
};
// Forgets what was found before, but not `at`.
//   ERR_CONFLICT  the dataset is being removed.
MUST_USE enum err finding_begin(struct finding *finding, struct txn *txn);
void finding_deinit(struct finding *finding);

MUST_USE enum err finding_record(struct finding *finding, struct txn *txn, const struct id128 *rid,
                                 enum id_answer *answer_out);
// Looks at `most` records of the subject. *more_out: there may be others, and there is no answer yet; call
// again, from `at` on.
MUST_USE enum err finding_subject(struct finding *finding, struct txn *txn, const struct id128 *sid,
                                  uint32_t most, bool *more_out, enum id_answer *answer_out);
