// client/adapters.h: a component of a LoRA learner, taken apart for PEFT.
//
// Threads   Any.
#pragma once

#include "client/peft.h"
#include "model/learner.h"

// Points *peft_out at the adapters and the head in `params`, which must outlive it; there is nothing to
// release. peft_write takes it as it is.
//
//   recipe       With the base that the spec names.
//   list_count   Entries of the component's list, 1 ..
//   params       float32[learner_param_count].
//   ERR_INVALID  the learner has no adapters, or stands on no base; the label is standardised, for which
//                PEFT has no place; or what learner_param_count refuses.
MUST_USE enum err adapters_of(const struct recipe *recipe, uint32_t list_count, const float *params,
                              struct peft *peft_out);
