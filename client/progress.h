// client/progress.h: how far a long command is: a bar on a terminal, else a line now and then.
//
//   training  [############--------]  60 %  1.2 M of 2.0 M samples  310 k/s  3 s left
//
// All of it goes to stderr. Rate and remaining time are those of the whole run so far; the total
// may change under way (a worker dies, another deletion comes), and what was done before the first
// report counts for no rate.
//
// Lifetime  progress_init .. progress_end. Texts are borrowed until then.
// Threads   One.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum progress_style {
    PROGRESS_NONE,
    PROGRESS_LINES, // A line at most every 10 s.
    PROGRESS_BAR,   // One line, written over at most ten times a second.
};

struct progress {
    const char *what; // "training"
    const char *unit; // "samples"; "B" for bytes
    enum progress_style style;
    bool begun;
    bool bar_shown; // A bar stands on the terminal and must be ended.
    uint64_t first_done;
    int64_t first_ms, shown_ms;
};

enum { PROGRESS_TEXT_BYTES = 160 };

// The style that suits stderr: a bar on a terminal, else lines; none when `quiet`.
enum progress_style progress_style_of(bool quiet);

void progress_init(struct progress *progress, const char *what, const char *unit,
                   enum progress_style style);
// Says how far it is at `now_ms` (clock_mono_ms). A total of 0 is unknown.
void progress_step(struct progress *progress, uint64_t done, uint64_t total, int64_t now_ms);
// Takes the bar away. May be called again; progress_step may follow.
void progress_end(struct progress *progress);

// The line of text, without the bar when bar_places is 0. `done` of them were done in elapsed_ms
// (0: no rate yet) beyond first_done.
void progress_text(char out[static PROGRESS_TEXT_BYTES], const struct progress *progress,
                   uint64_t done, uint64_t total, int64_t elapsed_ms, int bar_places);

// "999", "1.0 k", "12.3 M".
enum { PROGRESS_COUNT_BYTES = 16 };
void progress_count(double count, char out[static PROGRESS_COUNT_BYTES]);
