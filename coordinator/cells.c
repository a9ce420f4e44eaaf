// coordinator/cells.c: see cells.h.
#include "coordinator/cells.h"

#include <string.h>

void model_placement(const struct spec *spec, struct placement *placement_out)
{
    *placement_out = placement_uniform(spec->shards, spec->slices, spec->append_slices);
    placement_out->risk = spec->risk;
}

enum err model_placement_of(struct span text, struct placement *placement_out,
                            struct digest *digest_out)
{
    enum { REMEMBERED = 16 };
    static _Thread_local struct {
        bool filled;
        struct digest spec;
        struct placement placement;
    } known[REMEMBERED];
    static _Thread_local uint32_t next;
    struct spec spec;
    *digest_out = digest_of("unlearnd-spec", &text, 1); // As spec_digest: the text is canonical.
    for (uint32_t i = 0; i < REMEMBERED; i++) {
        if (known[i].filled && memcmp(&known[i].spec, digest_out, sizeof *digest_out) == 0) {
            *placement_out = known[i].placement;
            return OK;
        }
    }
    TRY(spec_get(text, &spec));
    model_placement(&spec, placement_out);
    known[next].filled = true;
    known[next].spec = *digest_out;
    known[next].placement = *placement_out;
    next = (next + 1) % REMEMBERED;
    return OK;
}

struct cell cell_of_record(const struct placement *placement, const struct record_key *key)
{
    return placement_cell(placement, key->generation, key->risk, record_hash(&key->sid));
}

// A walk over several ranges must end where `each` stops the first of them.
struct walking {
    bool (*each)(void *context, const struct record *record);
    void *context;
    bool stopped;
};

static bool pass_on(void *walking_, const struct record *record)
{
    struct walking *const walking = walking_;
    walking->stopped = !walking->each(walking->context, record);
    return !walking->stopped;
}

enum err cell_walk(struct txn *txn, uint32_t dataset, const struct placement *placement,
                   struct cell cell, const struct record_key *after, bool keys_only,
                   bool (*each)(void *context, const struct record *record), void *context)
{
    struct walking walking = {each, context, false};
    struct cell_range range;
    uint32_t risk = after == NULL ? 0 : after->risk;
    for (; placement_range(placement, cell, risk, &range); risk = range.risk_last + 1U) {
        const struct record_range part = {range.generation, range.risk_first, range.risk_last,
                                          range.low, range.high};
        TRY(record_walk(txn, dataset, &part, after, keys_only, pass_on, &walking));
        if (walking.stopped) {
            break;
        }
        after = NULL;
    }
    return OK;
}
