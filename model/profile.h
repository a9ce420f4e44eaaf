// model/profile.h: what decides bits besides the data: the numeric profile.
//
// OpenBLAS chooses its kernels by the machine it runs on and splits work by its thread count; both
// change last bits. So each program that trains pins them before main's first work, and a fixed
// tiny training, the probe, is hashed: equal probes mean equal profiles.
//
// Source    docs/architecture.md, "Numeric profile".
#pragma once

#include <stdbool.h>

#include "base/digest.h"
#include "base/err.h"

// Must be the first call of main. Makes sure that OpenBLAS runs with one thread and a fixed core
// type: where the environment does not say so yet, sets OPENBLAS_NUM_THREADS=1 and OPENBLAS_CORETYPE
// (an existing value is kept; else Haswell where the processor has AVX2 and FMA, else Prescott on
// other x86-64, elsewhere unset) and executes the program anew with the same arguments.
//   ERR_IO  the program could not be executed anew.
MUST_USE enum err profile_pin(char **argv);

// The same for a program whose settings name the core type: `core` counts whatever the environment
// says; "" leaves it to the environment and OpenBLAS. What OpenBLAS makes of a name that it does not
// know, profile_core tells.
MUST_USE enum err profile_pin_to(char **argv, const char *core);

// The core type that profile_pin chooses by itself ("Haswell"); "": none. Static storage.
const char *profile_default(void);

// True for what can be a core type: letters, digits and '_', shorter than PROFILE_NAME_BYTES.
enum { PROFILE_NAME_BYTES = 32 };
bool profile_core_is_name(const char *core);

// The core type that OpenBLAS really uses ("Haswell"); static storage.
const char *profile_core(void);

// Trains the fixed tiny model and hashes its weights. Takes a few milliseconds.
MUST_USE enum err profile_probe(struct digest *digest_out);
