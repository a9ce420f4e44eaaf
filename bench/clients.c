// bench/clients.c: see clients.h.
#include "bench/clients.h"

#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/text.h"
#include "client/call.h"

enum { PATIENCE_MS = 60000 };

struct share {
    const struct clients *clients;
    uint32_t number;
    uint32_t count; // Of its clients.
    pthread_barrier_t *start;
    double began_s, ended_s;
};

static void must(enum err err, const char *what)
{
    if (err != OK) {
        fprintf(stderr, "bench: clients: %s: %s\n", what, err_text());
        exit(2); // NOLINT(concurrency-mt-unsafe)
    }
}

static double now_s(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

// As unlearn_delete does for a single record; the ack is not waited for.
static void ask(struct unlearn *client, const char *dataset, uint32_t record)
{
    char id[16];
    char *text = id;
    const struct id128 uuid = text_uuid_new();
    Unlearn__Delete body;
    unlearn__delete__init(&body);
    snprintf(id, sizeof id, "r%u", record);
    body.dataset = wire_text(dataset);
    body.uuid = wire_bytes(span_of(uuid.bytes, ID_BYTES));
    body.records = &text;
    body.n_records = 1;
    Unlearn__Request request = CALL_REQUEST(DELETE, delete_, &body);
    must(call_send(client, &request, span_of(NULL, 0)), "a deletion");
}

static void expect_ack(struct unlearn *client)
{
    const Unlearn__Reply *reply;
    must(call_receive(client, &reply), "an ack");
    must(call_status(reply, CALL_ANSWER(REQUEST_STATE)), "a deletion");
}

static void connect_all(const struct share *share, struct unlearn **clients, struct link **links)
{
    for (uint32_t i = 0; i < share->count; i++) {
        must(i == 0 ? unlearn_open_dir(share->clients->dir, NULL, &clients[i])
                    : call_open_beside(clients[0], &clients[i]),
             "connecting");
        links[i] = clients[i]->link;
    }
}

static void *run_share(void *argument)
{
    struct share *const share = argument;
    const struct clients *const all = share->clients;
    const uint32_t total = share->count * all->each;
    struct unlearn **const clients = mem_alloc(share->count, sizeof *clients);
    struct link **const links = mem_alloc(share->count, sizeof *links);
    bool *const ready = mem_alloc(share->count, sizeof *ready);
    double *const asked_s = mem_alloc(share->count, sizeof *asked_s);
    uint32_t record = all->first + share->number * total, sent = 0, acks = 0;
    connect_all(share, clients, links);
    pthread_barrier_wait(share->start);
    share->began_s = now_s();
    for (; sent < share->count; sent++) {
        asked_s[sent] = now_s();
        ask(clients[sent], all->dataset, record++);
    }
    while (acks < total) {
        must(link_wait(links, ready, share->count, NULL, 0, PATIENCE_MS), "waiting");
        for (uint32_t i = 0; i < share->count; i++) {
            if (!ready[i]) {
                continue;
            }
            expect_ack(clients[i]);
            all->time_of(all->context, share->number, now_s() - asked_s[i]);
            acks++;
            if (sent < total) { // Whichever client is first takes what is next.
                asked_s[i] = now_s();
                ask(clients[i], all->dataset, record++);
                sent++;
            }
        }
    }
    share->ended_s = now_s();
    for (uint32_t i = share->count; i-- > 0;) {
        unlearn_close(clients[i]);
    }
    mem_free(clients);
    mem_free(links);
    mem_free(ready);
    mem_free(asked_s);
    return NULL;
}

static double run_all(const struct clients *clients)
{
    pthread_t threads[CLIENTS_THREADS];
    struct share shares[CLIENTS_THREADS];
    pthread_barrier_t start;
    pthread_barrier_init(&start, NULL, CLIENTS_THREADS);
    for (uint32_t i = 0; i < CLIENTS_THREADS; i++) {
        shares[i] = (struct share){.clients = clients,
                                   .number = i,
                                   .count = clients->count / CLIENTS_THREADS,
                                   .start = &start};
        if (pthread_create(&threads[i], NULL, run_share, &shares[i]) != 0) {
            must(err_raise(ERR_IO, "no thread"), "pthread_create");
        }
    }
    double began_s = 0, ended_s = 0;
    for (uint32_t i = 0; i < CLIENTS_THREADS; i++) {
        pthread_join(threads[i], NULL);
        began_s = i == 0 || shares[i].began_s < began_s ? shares[i].began_s : began_s;
        ended_s = shares[i].ended_s > ended_s ? shares[i].ended_s : ended_s;
    }
    pthread_barrier_destroy(&start);
    return (double)clients->count * clients->each / (ended_s - began_s);
}

// ---------------------------------------------------------------- the process of its own

static double *seconds_of[CLIENTS_THREADS];
static size_t seconds_count[CLIENTS_THREADS];

static void keep(void *unused, uint32_t share, double seconds)
{
    (void)unused;
    seconds_of[share][seconds_count[share]++] = seconds;
}

// PROGRAM clients DIR DATASET COUNT EACH FIRST: writes the rate and the seconds of each request, doubles, to
// the standard output.
int clients_main(int argc, char **argv)
{
    if (argc != 7) {
        return 2;
    }
    const struct clients clients = {.dir = argv[2],
                                    .dataset = argv[3],
                                    .count = (uint32_t)strtoul(argv[4], NULL, 10),
                                    .each = (uint32_t)strtoul(argv[5], NULL, 10),
                                    .first = (uint32_t)strtoul(argv[6], NULL, 10),
                                    .time_of = keep};
    const struct sched_param none = {0};
    // Of this thread and those that it starts.
    must(sched_setscheduler(0, SCHED_IDLE, &none) == 0 ? OK
                                                       : err_raise(ERR_IO, "SCHED_IDLE refused"),
         "sched_setscheduler");
    for (int i = 0; i < CLIENTS_THREADS; i++) {
        seconds_of[i] = mem_alloc((size_t)clients.count * clients.each, sizeof *seconds_of[i]);
    }
    const double rate = run_all(&clients);
    fwrite(&rate, sizeof rate, 1, stdout);
    for (int i = 0; i < CLIENTS_THREADS; i++) {
        fwrite(seconds_of[i], sizeof *seconds_of[i], seconds_count[i], stdout);
        mem_free(seconds_of[i]);
    }
    return fflush(stdout) == 0 ? 0 : 2;
}

double clients_run(const struct clients *clients, double *cpu_s)
{
    enum { NUMBER = 16 };
    char count[NUMBER], each[NUMBER], first[NUMBER], program[] = "deletions", verb[] = "clients";
    char dir[PATH_MAX], dataset[NAME_MAX];
    char *const arguments[] = {program, verb, dir, dataset, count, each, first, NULL};
    int ends[2], status;
    pid_t pid;
    posix_spawn_file_actions_t actions;
    struct rusage usage;
    snprintf(dir, sizeof dir, "%s", clients->dir);
    snprintf(dataset, sizeof dataset, "%s", clients->dataset);
    snprintf(count, sizeof count, "%u", clients->count);
    snprintf(each, sizeof each, "%u", clients->each);
    snprintf(first, sizeof first, "%u", clients->first);
    must(pipe2(ends, O_CLOEXEC) == 0 ? OK : err_raise(ERR_IO, "no pipe"), "pipe");
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
    must(posix_spawn(&pid, "/proc/self/exe", &actions, NULL, arguments, environ) == 0
             ? OK
             : err_raise(ERR_IO, "no process"),
         "posix_spawn");
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    FILE *const from = fdopen(ends[0], "r");
    double rate = 0, seconds;
    size_t got = from == NULL ? 0 : fread(&rate, sizeof rate, 1, from);
    for (; got > 0 && fread(&seconds, sizeof seconds, 1, from) == 1; got++) {
        clients->time_of(clients->context, 0, seconds);
    }
    const bool ended =
        wait4(pid, &status, 0, &usage) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0;
    must(ended && got == 1 + (size_t)clients->count * clients->each
             ? OK
             : err_raise(ERR_IO, "%zu answers came", got),
         "the process of the clients");
    fclose(from);
    *cpu_s += (double)usage.ru_utime.tv_sec + (double)usage.ru_stime.tv_sec +
              1e-6 * (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
    return rate;
}
