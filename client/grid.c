// client/grid.c: see grid.h.
#include "client/grid.h"

#include <stdarg.h>
#include <stdbool.h>
#include <string.h>

#include "base/mem.h"

enum { COLUMNS_MAX = 16, CELL_BYTES = 512 };

struct grid {
    char **cells; // Owned; the first row holds the heads.
    size_t count, capacity;
    size_t columns;
    bool right[COLUMNS_MAX];
};

static void add(struct grid *grid, const char *text)
{
    if (grid->count == grid->capacity) {
        grid->capacity = 2 * grid->capacity + 16;
        grid->cells = mem_resize(grid->cells, grid->capacity, sizeof *grid->cells);
    }
    grid->cells[grid->count++] = mem_text(text);
}

struct grid *grid_new(const char *heads)
{
    struct grid *const grid = mem_alloc(1, sizeof *grid);
    char *const copy = mem_text(heads);
    char *rest = copy;
    for (char *head; grid->columns < COLUMNS_MAX && (head = strsep(&rest, "|")) != NULL;) {
        grid->right[grid->columns++] = head[0] == '>';
        add(grid, head[0] == '>' ? head + 1 : head);
    }
    mem_free(copy);
    return grid;
}

void grid_cell(struct grid *grid, const char *format, ...)
{
    char text[CELL_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    add(grid, text);
}

// Characters of UTF-8, each taken for one place wide.
static size_t places(const char *text)
{
    size_t count = 0;
    for (; *text != '\0'; text++) {
        count += ((unsigned char)*text & 0xc0) != 0x80;
    }
    return count;
}

static void print_cell(const struct grid *grid, size_t index, size_t width, FILE *out)
{
    const char *const text = grid->cells[index];
    const size_t column = index % grid->columns;
    const bool last = column + 1 == grid->columns;
    const size_t gap = width - places(text);
    if (grid->right[column]) {
        fprintf(out, "%*s%s", (int)gap, "", text);
    } else {
        fprintf(out, "%s%*s", text, last ? 0 : (int)gap, "");
    }
    fputs(last ? "\n" : "  ", out);
}

void grid_print(const struct grid *grid, FILE *out)
{
    size_t widths[COLUMNS_MAX] = {0};
    for (size_t i = 0; i < grid->count; i++) {
        const size_t width = places(grid->cells[i]);
        if (width > widths[i % grid->columns]) {
            widths[i % grid->columns] = width;
        }
    }
    for (size_t i = 0; i < grid->count; i++) {
        print_cell(grid, i, widths[i % grid->columns], out);
    }
}

void grid_free(struct grid *grid)
{
    for (size_t i = 0; i < grid->count; i++) {
        mem_free(grid->cells[i]);
    }
    mem_free(grid->cells);
    mem_free(grid);
}
