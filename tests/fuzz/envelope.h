// tests/fuzz/envelope.h: what must hold of every envelope that proto/wire.h has taken.
#pragma once

#include "base/err.h"
#include "proto/wire.h"
#include "tests/fuzz/fuzz.h"

// By its own walk over the descriptors, not by wire.c's: no unknown field, no NaN or infinity, every
// enum known and specified, every text clean, and all pointers within the arena, which holds its budget.
void envelope_check(const struct wire_arena *arena, struct span frame, enum err err,
                    const ProtobufCMessage *message);
