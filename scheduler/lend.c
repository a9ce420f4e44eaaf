// scheduler/lend.c: see lend.h.
#include "scheduler/lend.h"

#include "base/check.h"

uint32_t lend_ranks(uint32_t idle_in_fleet, uint32_t idle, uint32_t ready, uint32_t chunks)
{
    CHECK(idle_in_fleet > 0 && idle >= idle_in_fleet && ready > 0 && chunks > 0);
    const uint32_t share = idle / ready;
    uint32_t most = idle_in_fleet < chunks ? idle_in_fleet : chunks;
    most = share < most ? share : most;
    uint32_t ranks = 1;
    while (ranks <= most / 2) {
        ranks *= 2;
    }
    return ranks;
}
