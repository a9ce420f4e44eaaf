// scheduler/pick.c: see pick.h.
#include "scheduler/pick.h"

#include <string.h>

// Marks `node` of `shard` and its ancestors as chosen while there is room. Ancestors first, so that
// the choice is closed under parents whatever its size.
static void pick(const struct ensemble *ensemble, uint32_t shard, uint32_t node, bool *chosen,
                 uint32_t *room)
{
    const int32_t parent = ensemble->trie.nodes[node].parent;
    if (parent >= 0) {
        pick(ensemble, shard, (uint32_t)parent, chosen, room);
    }
    bool *const mine = &chosen[(size_t)shard * ensemble->trie.count + node];
    if (!*mine && *room > 0 && !ensemble_is_empty(ensemble, shard, node)) {
        *mine = true;
        (*room)--;
    }
}

uint32_t pick_components(const struct ensemble *ensemble, uint32_t wanted, bool *chosen_out)
{
    const uint32_t most = wanted == 0 ? ensemble_count(ensemble) : wanted;
    uint32_t room = most;
    memset(chosen_out, 0, ensemble_count(ensemble) * sizeof *chosen_out);
    for (uint32_t back = 0; back < ensemble->trie.count && room > 0; back++) {
        for (uint32_t shard = 0; shard < ensemble->placement.shards && room > 0; shard++) {
            pick(ensemble, shard, ensemble->trie.count - 1 - back, chosen_out, &room);
        }
    }
    return most - room;
}
