// client/progress.c: see progress.h.
#include "client/progress.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum {
    BAR_PLACES = 24,
    BAR_MS = 100,
    LINES_MS = 10000,
    RATE_MS_MIN = 500, // Before that a rate is noise.
};

enum progress_style progress_style_of(bool quiet)
{
    return quiet ? PROGRESS_NONE : isatty(STDERR_FILENO) ? PROGRESS_BAR : PROGRESS_LINES;
}

void progress_init(struct progress *progress, const char *what, const char *unit,
                   enum progress_style style)
{
    *progress = (struct progress){.what = what, .unit = unit, .style = style};
}

void progress_count(double count, char out[static PROGRESS_COUNT_BYTES])
{
    static const char *const scales[] = {"", " k", " M", " G", " T", " P"};
    size_t scale = 0;
    while (count >= 999.5 && scale + 1 < sizeof scales / sizeof scales[0]) {
        count /= 1000;
        scale++;
    }
    snprintf(out, PROGRESS_COUNT_BYTES, scale == 0 || count >= 99.95 ? "%.0f%s" : "%.1f%s", count,
             scales[scale]);
}

static void put_time(double seconds, char out[static PROGRESS_COUNT_BYTES])
{
    const uint64_t whole = seconds < 1e9 ? (uint64_t)(seconds + 0.999) : 1000000000;
    if (whole < 100) {
        snprintf(out, PROGRESS_COUNT_BYTES, "%u s", (unsigned)whole);
    } else if (whole < 6000) {
        snprintf(out, PROGRESS_COUNT_BYTES, "%u min %02u s", (unsigned)(whole / 60),
                 (unsigned)(whole % 60));
    } else {
        snprintf(out, PROGRESS_COUNT_BYTES, "%u h %02u min", (unsigned)(whole / 3600),
                 (unsigned)(whole / 60 % 60));
    }
}

// Rate, and remaining time where the total is known.
static void put_rate(char *out, size_t capacity, const struct progress *progress, uint64_t done,
                     uint64_t total, int64_t elapsed_ms)
{
    out[0] = '\0';
    if (elapsed_ms < RATE_MS_MIN || done <= progress->first_done) {
        return;
    }
    const double rate = (double)(done - progress->first_done) * 1000 / (double)elapsed_ms;
    char rate_text[PROGRESS_COUNT_BYTES];
    progress_count(rate, rate_text);
    const bool bytes = strcmp(progress->unit, "B") == 0;
    int at = snprintf(out, capacity, "  %s%s/s", rate_text,
                      !bytes                           ? ""
                      : strchr(rate_text, ' ') == NULL ? " B"
                                                       : "B");
    if (total > done && at > 0 && (size_t)at < capacity) {
        char left[PROGRESS_COUNT_BYTES];
        put_time((double)(total - done) / rate, left);
        snprintf(out + at, capacity - (size_t)at, "  %s left", left);
    }
}

void progress_text(char out[static PROGRESS_TEXT_BYTES], const struct progress *progress,
                   uint64_t done, uint64_t total, int64_t elapsed_ms, int bar_places)
{
    char done_text[PROGRESS_COUNT_BYTES], total_text[PROGRESS_COUNT_BYTES], rate[64];
    progress_count((double)done, done_text);
    put_rate(rate, sizeof rate, progress, done, total, elapsed_ms);
    const char *const unit_gap =
        strcmp(progress->unit, "B") == 0 && strchr(done_text, ' ') != NULL && total == 0 ? "" : " ";
    if (total == 0) {
        snprintf(out, PROGRESS_TEXT_BYTES, "%s  %s%s%s%s", progress->what, done_text, unit_gap,
                 progress->unit, rate);
        return;
    }
    progress_count((double)total, total_text);
    const double share = done >= total ? 1 : (double)done / (double)total;
    char bar[64] = "";
    if (bar_places > 0 && bar_places < 60) {
        const int full = (int)(share * bar_places);
        bar[0] = '[';
        memset(bar + 1, '#', (size_t)full);
        memset(bar + 1 + full, '-', (size_t)(bar_places - full));
        memcpy(bar + 1 + bar_places, "]  ", 4);
    }
    const bool joined = strcmp(progress->unit, "B") == 0 && strchr(total_text, ' ') != NULL;
    snprintf(out, PROGRESS_TEXT_BYTES, "%s  %s%3d %%  %s of %s%s%s%s", progress->what, bar,
             (int)(share * 100), done_text, total_text, joined ? "" : " ", progress->unit, rate);
}

void progress_step(struct progress *progress, uint64_t done, uint64_t total, int64_t now_ms)
{
    if (!progress->begun) {
        progress->begun = true;
        progress->first_done = done;
        progress->first_ms = progress->shown_ms = now_ms;
        if (progress->style == PROGRESS_LINES) {
            return; // What ends within 10 s needs no line.
        }
    } else if (now_ms - progress->shown_ms <
               (progress->style == PROGRESS_BAR ? BAR_MS : LINES_MS)) {
        return;
    }
    progress->shown_ms = now_ms;
    char text[PROGRESS_TEXT_BYTES];
    const bool bar = progress->style == PROGRESS_BAR;
    progress_text(text, progress, done, total, now_ms - progress->first_ms, bar ? BAR_PLACES : 0);
    if (bar) {
        fprintf(stderr, "\r\033[K%s", text);
        fflush(stderr);
        progress->bar_shown = true;
    } else if (progress->style == PROGRESS_LINES) {
        fprintf(stderr, "%s\n", text);
    }
}

void progress_end(struct progress *progress)
{
    if (progress->bar_shown) {
        fputs("\r\033[K", stderr);
        progress->bar_shown = false;
    }
}
