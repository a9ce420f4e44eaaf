// base/clock.h: the two clocks. Only programs and I/O look at them; scheduler/ and model/ are told.
#pragma once

#include <stdint.h>

int64_t clock_mono_ms(void); // For leases, time-outs and durations; never goes back.
int64_t clock_mono_us(void); // The same clock.
int64_t clock_wall_us(void); // Microseconds since 1970 UTC; for what people read.
