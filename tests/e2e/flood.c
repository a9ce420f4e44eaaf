// tests/e2e/flood.c: deletions from many connections at once, each as fast as it is answered.
//
//   flood DIR DATASET FIRST EACH IDS KEY...   one connection for each KEY (a file may come several times), which
//                                             sends EACH requests of IDS ids: row numbers, from FIRST on
//
// Prints one JSON object: the connections, how many requests were acknowledged and failed, the seconds of all, the
// slowest ack in milliseconds, and how many seconds a connection took for all of its own: the median, the slowest.
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/mem.h"
#include "base/text.h"
#include "client/unlearn.h"

enum { CONNECTIONS_MAX = 512, ID_TEXT_BYTES = 16 };

static const char *dir, *dataset;
static unsigned long long first;
static uint32_t each, ids;
static pthread_barrier_t start;

struct connection {
    pthread_t thread;
    const char *key;
    uint32_t number;
    uint32_t acknowledged, failed;
    double slowest_ms, seconds;
};

static bool delete_next(struct unlearn *client, unsigned long long from)
{
    char(*const texts)[ID_TEXT_BYTES] = mem_alloc(ids, sizeof *texts);
    const char **const list = mem_alloc(ids, sizeof *list);
    const struct id128 uuid = text_uuid_new();
    const Unlearn__RequestState *state;
    for (uint32_t i = 0; i < ids; i++) {
        snprintf(texts[i], sizeof texts[i], "%llu", from + i);
        list[i] = texts[i];
    }
    const enum err err =
        unlearn_delete(client, dataset, &uuid, (struct unlearn_ids){list, ids},
                       (struct unlearn_ids){0}, &(struct unlearn_terms){0}, &state);
    if (err != OK) {
        fprintf(stderr, "flood: %s\n", err_text());
    }
    mem_free(texts);
    mem_free(list);
    return err == OK;
}

static void *run(void *argument)
{
    struct connection *const connection = argument;
    struct unlearn *client = NULL;
    const bool open = unlearn_open_dir(dir, connection->key, &client) == OK;
    if (!open) {
        fprintf(stderr, "flood: %s\n", err_text());
        connection->failed = each;
    }
    pthread_barrier_wait(&start);
    const int64_t began_us = clock_mono_us();
    for (uint32_t i = 0; i < each && open; i++) {
        const int64_t asked_us = clock_mono_us();
        const unsigned long long from =
            first + ((unsigned long long)connection->number * each + i) * ids;
        if (delete_next(client, from)) {
            connection->acknowledged++;
        } else {
            connection->failed++;
        }
        const double took_ms = (double)(clock_mono_us() - asked_us) / 1000;
        connection->slowest_ms =
            took_ms > connection->slowest_ms ? took_ms : connection->slowest_ms;
    }
    connection->seconds = (double)(clock_mono_us() - began_us) / 1e6;
    unlearn_close(client);
    return NULL;
}

static int by_seconds(const void *a, const void *b)
{
    const double x = ((const struct connection *)a)->seconds;
    const double y = ((const struct connection *)b)->seconds;
    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    static struct connection connections[CONNECTIONS_MAX];
    enum { KEYS = 6 };
    const int count = argc - KEYS;
    if (count < 1 || count > CONNECTIONS_MAX || digest_start() != OK) {
        fprintf(stderr, "usage: flood DIR DATASET FIRST EACH IDS KEY...\n");
        return EXIT_FAILURE;
    }
    dir = argv[1];
    dataset = argv[2];
    first = strtoull(argv[3], NULL, 10);
    each = (uint32_t)strtoul(argv[4], NULL, 10);
    ids = (uint32_t)strtoul(argv[5], NULL, 10);
    pthread_barrier_init(&start, NULL, (unsigned)count);
    for (int i = 0; i < count; i++) {
        connections[i] = (struct connection){.key = argv[KEYS + i], .number = (uint32_t)i};
        if (pthread_create(&connections[i].thread, NULL, run, &connections[i]) != 0) {
            fprintf(stderr, "flood: no thread\n");
            return EXIT_FAILURE;
        }
    }
    uint64_t acknowledged = 0, failed = 0;
    double slowest_ms = 0;
    for (int i = 0; i < count; i++) {
        pthread_join(connections[i].thread, NULL);
        acknowledged += connections[i].acknowledged;
        failed += connections[i].failed;
        slowest_ms =
            connections[i].slowest_ms > slowest_ms ? connections[i].slowest_ms : slowest_ms;
    }
    qsort(connections, (size_t)count, sizeof *connections, by_seconds);
    printf("{\"connections\": %d, \"acknowledged\": %llu, \"failed\": %llu, \"seconds\": %.2f, "
           "\"slowest_ms\": %.0f, \"median_s\": %.2f, \"slowest_s\": %.2f}\n",
           count, (unsigned long long)acknowledged, (unsigned long long)failed,
           connections[count - 1].seconds, slowest_ms, connections[count / 2].seconds,
           connections[count - 1].seconds);
    return EXIT_SUCCESS;
}
