// coordinator/orders.c: the orders in which a model's slices are trained; see core.h.
//
// Where the spec (model/) and what makes orders (scheduler/) meet. The same spec must give the same
// orders for ever: they name the components in the store. docs/format.md, "Orders".
#include "base/mem.h"
#include "coordinator/core.h"
#include "scheduler/sequence.h"

enum err orders_make(const struct spec *spec, uint16_t **orders_out)
{
    struct buf name = {0};
    buf_u64(&name, spec->seed);
    const struct rng_key key = rng_key_of("unlearnd-orders", buf_span(&name));
    buf_deinit(&name);
    uint16_t *const orders = mem_alloc((size_t)spec->sequences * spec->slices, sizeof *orders);
    const uint32_t count =
        sequence_make(spec->policy, spec->slices, spec->sequences,
                      spec->probability_count == 0 ? NULL : spec->probabilities, key, orders);
    if (count < spec->sequences) {
        mem_free(orders);
        FAIL(ERR_INVALID,
             "sequence_policy %s found %u different orders of %u slices, expected %u: set fewer "
             "sequences, or slice_probabilities that differ less",
             sequence_policy_name(spec->policy), count, spec->slices, spec->sequences);
    }
    *orders_out = orders;
    return OK;
}
