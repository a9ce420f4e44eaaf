// coordinator/account.c: see account.h.
#include "coordinator/account.h"

#include <string.h>

static const int64_t DAY_US = (int64_t)86400 * 1000000;

static bool is_asked_for(const struct account *account, const char *name)
{
    return account->dataset[0] == '\0' || strcmp(account->dataset, name) == 0;
}

// Whether the request had got to the state of this time when the account was taken.
static bool had(const struct account *account, int64_t time_us)
{
    return time_us != 0 && time_us <= account->as_of_us;
}

static void took(const struct account *account, struct account_days *days, int64_t from_us,
                 int64_t to_us)
{
    if (had(account, to_us)) {
        const uint64_t us = to_us > from_us ? (uint64_t)(to_us - from_us) : 0; // A clock set back.
        median_add(&days->us, us);
        if (account->looks == 0) {
            days->days += us / (uint64_t)DAY_US;
            days->rest_us += us % (uint64_t)DAY_US;
        }
    }
}

static void count(struct account *account, const struct request_row *row, int64_t due_us)
{
    const bool has_due = due_us != 0;
    account->records_deleted += row->records_deleted;
    if (had(account, row->completed_us)) {
        account->completed++;
        account->nothing_left += row->earlier != 0;
        account->completed_late += has_due && row->completed_us > due_us;
    } else {
        account->open++;
        account->past_due += has_due && account->as_of_us > due_us;
    }
}

void account_request(struct account *account, const struct request_row *row, int64_t due_us)
{
    const bool in_time = row->accepted_us >= account->since_us &&
                         row->accepted_us < account->until_us &&
                         row->accepted_us <= account->as_of_us;
    const bool refused =
        row->state == REQUEST_RETURNING || row->state == REQUEST_REFUSED; // Tallied.
    if (row->kind != REQUEST_DELETE || refused || !in_time || !is_asked_for(account, row->name)) {
        return;
    }
    if (account->looks == 0) {
        count(account, row, due_us);
    }
    took(account, &account->to_fenced, row->accepted_us, row->fenced_us);
    took(account, &account->to_erased, row->accepted_us, row->erased_us);
    took(account, &account->to_completed, row->accepted_us, row->completed_us);
}

bool account_again(struct account *account)
{
    account->looks++;
    const bool fenced = median_again(&account->to_fenced.us);
    const bool erased = median_again(&account->to_erased.us);
    const bool completed = median_again(&account->to_completed.us);
    return fenced || erased || completed;
}

void account_tally(struct account *account, const struct tally *tally)
{
    const int64_t day_us = tally->day * DAY_US;
    if (day_us >= account->since_us && day_us < account->until_us &&
        is_asked_for(account, tally->name) && tally->reason <= TALLY_REFUSED) {
        account->refused[tally->reason] += tally->count;
    }
}

bool account_any(const struct account *account)
{
    uint64_t any = account->completed + account->open;
    for (int i = 0; i <= TALLY_REFUSED; i++) {
        any += account->refused[i];
    }
    return any > 0;
}

double account_mean(const struct account_days *days)
{
    return days->us.count == 0 ? 0
                               : ((double)days->days + (double)days->rest_us / (double)DAY_US) /
                                     (double)days->us.count;
}

double account_median(const struct account_days *days)
{
    return median_value(&days->us) / (double)DAY_US;
}

void account_deinit(struct account *account)
{
    median_deinit(&account->to_fenced.us);
    median_deinit(&account->to_erased.us);
    median_deinit(&account->to_completed.us);
}
