// tests/e2e/pulse.c: how long others wait: pings, and predictions, of a cluster, one after the other.
//
//   pulse DIR SECONDS [MODEL OUTPUTS BYTES]   asks for so long, or until SIGTERM, with 2 ms
//                                               between; a prediction is of one row of so many zeros
//
// Prints one JSON object: how many were answered, how many failed, and 50th and 99th percentile and greatest
// in milliseconds, of all of them together.
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/digest.h"
#include "base/log.h"
#include "base/mem.h"
#include "client/unlearn.h"

enum { TIMES_MAX = 1 << 20 };

static volatile sig_atomic_t stopped;

static void stop(int number)
{
    stopped = number;
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static enum err ask(struct unlearn *client, const char *model, const struct unlearn_batch *batch)
{
    const Unlearn__Pong *pong;
    const Unlearn__Prediction *prediction;
    const float *values;
    return model == NULL ? unlearn_ping(client, &pong)
                         : unlearn_predict(client, model, batch, &prediction, &values);
}

int main(int argc, char **argv)
{
    static double times[TIMES_MAX];
    struct unlearn *client;
    if (argc < 3 || digest_start() != OK || unlearn_open_dir(argv[1], NULL, &client) != OK) {
        fprintf(stderr, "usage: pulse DIR SECONDS [MODEL OUTPUTS BYTES]: %s\n", err_text());
        return EXIT_FAILURE;
    }
    signal(SIGTERM, stop);
    unlearn_set_timeout(client, 20000);
    struct unlearn_batch batch = {0};
    const char *const model = argc > 5 ? argv[3] : NULL;
    if (model != NULL) {
        const size_t bytes = (size_t)atoi(argv[5]);
        uint8_t *const row = mem_alloc(bytes, 1);
        batch.width = (uint32_t)atoi(argv[4]);
        CHECK(unlearn_batch_add(&batch, span_of(row, bytes)));
        mem_free(row);
    }
    const int64_t until_us = clock_mono_us() + (int64_t)atoi(argv[2]) * 1000000;
    size_t count = 0, failed = 0;
    while (stopped == 0 && clock_mono_us() < until_us && count < TIMES_MAX) {
        const int64_t began_us = clock_mono_us();
        if (ask(client, model, &batch) == OK) {
            times[count++] = (double)(clock_mono_us() - began_us) / 1000;
        } else {
            failed++;
            fprintf(stderr, "pulse: %s\n", err_text());
        }
        nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
    }
    qsort(times, count, sizeof times[0], by_value);
    printf("{\"answered\": %zu, \"failed\": %zu, \"p50\": %.2f, \"p99\": %.2f, \"max\": %.2f}\n",
           count, failed, count > 0 ? times[count / 2] : -1,
           count > 0 ? times[count * 99 / 100] : -1, count > 0 ? times[count - 1] : -1);
    unlearn_batch_deinit(&batch);
    unlearn_close(client);
    return EXIT_SUCCESS;
}
