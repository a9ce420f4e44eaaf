// client/show.h: the answers that several commands print: a request's state and a model.
#pragma once

#include "client/ctl.h"

// "fenced", "erased", "repaired", "completed"; static storage.
const char *show_phase(Unlearn__RequestPhase phase);

// A request, as delete, dataset remove, model remove and status print it. With --json the object
// is the answer; else lines of text.
void show_request(const struct ctl *ctl, const Unlearn__RequestState *state);

// One model.
void show_model(const struct ctl *ctl, const Unlearn__Model *model);

// "valid", "invalid", "training", "empty"; static storage.
const char *show_component_state(Unlearn__ComponentState state);

// "trained" or "training".
const char *show_training(const Unlearn__Model *model);
