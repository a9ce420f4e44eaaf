// client/show.h: the answers that several commands print: a request's state and a model.
#pragma once

#include <stdio.h>

#include "client/ctl.h"

// "delete", "remove dataset", "remove model"; static storage.
const char *show_kind(Unlearn__RequestKind kind);

// "fenced", "erased", "repaired", "completed"; static storage.
const char *show_phase(Unlearn__RequestPhase phase);

// A request, as delete, dataset remove, model remove and status print it. With --json the object
// is the answer; else lines of text.
void show_request(const struct ctl *ctl, const Unlearn__RequestState *state);

// What served the answers of evaluate and predict: fields added to `answer`; or for people the rest of
// a line, "2 of 3 shards (degraded), epoch 9".
void show_served(const Unlearn__Prediction *served, json_t *answer);
void show_served_line(const Unlearn__Prediction *served, FILE *out);

// The answer about a model with --json.
json_t *show_model_json(const Unlearn__Model *model);
// How a model stands, for people: without its spec.
void show_model_head(const Unlearn__Model *model);
// One model.
void show_model(const struct ctl *ctl, const Unlearn__Model *model);

// "valid", "invalid", "training", "empty"; static storage.
const char *show_component_state(Unlearn__ComponentState state);

// "trained" or "training".
const char *show_training(const Unlearn__Model *model);
