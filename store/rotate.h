// store/rotate.h: another master key.
//
// The slots are wrapped anew in place, batch by batch; a row of the store says how far, so a crash
// loses nothing. Every slot names the master key that wrapped it, and both keys are there until the
// last is done; then the old one's file is overwritten.
//
// Threads   The store thread.
#pragma once

#include "store/store.h"

// Begins a change and does it to its end. One that is under way already is finished instead.
MUST_USE enum err rotate_master(struct store *store);
// Finishes a change that an earlier process began; else does nothing.
MUST_USE enum err rotate_resume(struct store *store);
