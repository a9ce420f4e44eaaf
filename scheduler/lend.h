// scheduler/lend.h: how many ranks train one stage together.
//
// A stage whose spec allows it (gradient_chunks) can be trained by a group of ranks of one fleet, to
// the same bits. That helps where fewer stages are ready than ranks are idle: most of all when one
// repair holds everything up. Where stages abound, each rank takes one: nothing is lost to waiting.
//
// Threads   Stateless.
#pragma once

#include <stdint.h>

// The number of ranks for the next stage: the greatest power of two that is at most each of
//   idle_in_fleet  idle ranks of the fleet that it goes to, 1 ..
//   idle / ready   idle ranks of all fleets over the stages that could be leased now, this one
//                  among them (1 ..; where there are more stages than ranks, one rank)
//   chunks         the spec's gradient_chunks, 1 ..
uint32_t lend_ranks(uint32_t idle_in_fleet, uint32_t idle, uint32_t ready, uint32_t chunks);
