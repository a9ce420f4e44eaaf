// client/grid.h: a small table for people: columns as wide as they need, numbers to the right.
//
// Lifetime  grid_new .. grid_free. Texts are copied.
// Threads   One.
#pragma once

#include <stdio.h>

#include "base/err.h"

struct grid;

// `heads` names the columns, separated by '|'; a name that begins with '>' is aligned to the right.
struct grid *grid_new(const char *heads);

// Appends the next cell; rows fill from the left.
PRINTF_LIKE(2, 3) void grid_cell(struct grid *grid, const char *format, ...);

// Prints heads and rows, two blanks between columns.
void grid_print(const struct grid *grid, FILE *out);
void grid_free(struct grid *grid);
