// scheduler/pick.h: which components of a model a verification compares.
//
// The choice is closed under parents: what is compared stands on something that is compared too, up
// to a stage that starts from nothing. So "identical" speaks of the whole chain.
//
// Threads   Stateless.
#pragma once

#include <stdbool.h>

#include "scheduler/ensemble.h"

// Marks `wanted` components that are not empty (0, or more than there are: all of them), spread over
// the shards in turn, longest lists first. Returns how many were marked.
//
//   chosen_out   bool[ensemble_count], shard-major like ensemble.slots.
uint32_t pick_components(const struct ensemble *ensemble, uint32_t wanted, bool *chosen_out);
