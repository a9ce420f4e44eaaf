// tests/unit/test_unlearn.c: libunlearn against a coordinator made for the test.
//
// Method: a thread with a ROUTER answers by script and notes what it saw: how many chunks of an
// import were ever unanswered, how a deletion was cut, what was asked again. The real coordinator
// is met in the end-to-end tests; here are the replies that it gives only on a bad day.
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/mem.h"
#include "base/risk.h"
#include "client/token.h"
#include "client/unlearn.h"
#include "model/schema.h"
#include "proto/link.h"
#include "proto/wire.h"
#include "proto/zap.h"
#include "tests/unit/scratch.h"

enum { HELD_MAX = 16, IDLE_MS = 100, PATIENCE_MS = 20000 };

// What the coordinator of a test does and what it saw. Read by the test once the thread has ended.
struct peer {
    struct link_context *context;
    struct link *link;
    char endpoint[LINK_ENDPOINT_BYTES];
    pthread_t thread;
    _Atomic bool stop;
    struct curvekey *own,
        *friend; // Its pair, and the only one that may connect; NULL: without keys.
    struct zap *zap;

    int pings_to_drop;  // The first pings get no answer.
    int refuse_chunk;   // Sequence number of the chunk that is refused; -1: none.
    bool wrong_kind;    // Answer a dataset's show with a pong.
    uint32_t part_rows; // Rows of one answer to a prediction; 0: all.
    int wrong_part; // What is wrong with the second answer: 1 it is empty, 2 it says the last, 3 it is too long.

    int pings, trains;
    int held, held_max; // Chunks received and not yet answered.
    struct link_peer held_peers[HELD_MAX];
    uint64_t held_ids[HELD_MAX], held_sequences[HELD_MAX];
    uint64_t records;    // In the chunks.
    uint64_t rows_bytes; // Of their frames.
    bool order_broken;   // A sequence number or first_row that does not follow.
    uint64_t next_sequence, next_row;
    bool committed;
    _Atomic bool aborted; // Sent without waiting for an answer.
    uint32_t parts, part_ids_max;
    uint64_t delete_records, delete_subjects;
    bool parts_broken;
    uint32_t predicts;
    uint64_t froms[HELD_MAX]; // Of each prediction's request.
    bool scored;
    char asked[256]; // The texts of the rows, each followed by "|".
};

static void answer(struct peer *peer, const struct link_peer *to, Unlearn__Reply *reply,
                   uint64_t request_id, struct span raw)
{
    struct buf frame = {0};
    reply->version = WIRE_VERSION;
    reply->request_id = request_id;
    reply->status = reply->status == 0 ? UNLEARN__STATUS__STATUS_OK : reply->status;
    wire_put(&reply->base, &frame);
    const enum err err = link_send(peer->link, to, buf_span(&frame), raw);
    (void)err; // A client that has gone.
    buf_deinit(&frame);
}

static void answer_error(struct peer *peer, const struct link_peer *to, uint64_t request_id,
                         Unlearn__Status status, const char *message)
{
    Unlearn__Reply reply;
    unlearn__reply__init(&reply);
    reply.status = status;
    reply.message = wire_text(message);
    answer(peer, to, &reply, request_id, (struct span){NULL, 0});
}

#define ANSWER(to, id, KIND, field, message)                                                       \
    do {                                                                                           \
        Unlearn__Reply reply_;                                                                     \
        unlearn__reply__init(&reply_);                                                             \
        reply_.body_case = UNLEARN__REPLY__BODY_##KIND;                                            \
        reply_.field = (message);                                                                  \
        answer(peer, (to), &reply_, (id), (struct span){NULL, 0});                                 \
    } while (0)

// Answers the chunks held back: as late as it may, so that a client that sends more is noticed.
static void release_chunks(struct peer *peer)
{
    for (int i = 0; i < peer->held; i++) {
        if (peer->refuse_chunk >= 0 && peer->held_sequences[i] == (uint64_t)peer->refuse_chunk) {
            answer_error(peer, &peer->held_peers[i], peer->held_ids[i],
                         UNLEARN__STATUS__STATUS_CONFLICT, "row 7: known with other bytes");
            continue;
        }
        Unlearn__ImportStaged staged;
        unlearn__import_staged__init(&staged);
        staged.sequence = peer->held_sequences[i];
        ANSWER(&peer->held_peers[i], peer->held_ids[i], IMPORT_STAGED, import_staged, &staged);
    }
    peer->held = 0;
}

static void take_chunk(struct peer *peer, const struct link_message *message,
                       const Unlearn__Request *request)
{
    const Unlearn__ImportChunk *const chunk = request->import_chunk;
    peer->order_broken = peer->order_broken || chunk->sequence != peer->next_sequence ||
                         chunk->first_row != peer->next_row || chunk->import != 77;
    peer->next_sequence++;
    peer->next_row += chunk->count;
    peer->records += chunk->count;
    peer->rows_bytes += message->raw.bytes;
    if (peer->held < HELD_MAX) {
        peer->held_peers[peer->held] = message->peer;
        peer->held_ids[peer->held] = request->request_id;
        peer->held_sequences[peer->held++] = chunk->sequence;
    }
    peer->held_max = peer->held > peer->held_max ? peer->held : peer->held_max;
}

static void take_delete(struct peer *peer, const struct link_message *message,
                        const Unlearn__Request *request)
{
    const Unlearn__Delete *const part = request->delete_;
    peer->parts_broken = peer->parts_broken || part->part != peer->parts;
    peer->parts++;
    const uint32_t ids = (uint32_t)(part->n_records + part->n_subjects);
    peer->part_ids_max = ids > peer->part_ids_max ? ids : peer->part_ids_max;
    peer->delete_records += part->n_records;
    peer->delete_subjects += part->n_subjects;
    if (part->more) {
        Unlearn__DeletePart done;
        unlearn__delete_part__init(&done);
        done.part = part->part;
        ANSWER(&message->peer, request->request_id, DELETE_PART, delete_part, &done);
        return;
    }
    Unlearn__RequestState state;
    unlearn__request_state__init(&state);
    state.uuid = part->uuid;
    state.kind = UNLEARN__REQUEST_KIND__REQUEST_KIND_DELETE;
    state.phase = UNLEARN__REQUEST_PHASE__REQUEST_PHASE_FENCED;
    state.records_deleted = peer->delete_records;
    ANSWER(&message->peer, request->request_id, REQUEST_STATE, request_state, &state);
}

// The texts of the rows of a request; what a model of this test would say follows the last one: the
// byte after its last byte, or the end after `z`.
static uint32_t take_texts(struct peer *peer, struct span raw, uint32_t rows, size_t label_bytes)
{
    struct cursor cursor = cursor_of(raw);
    uint32_t next = 'a';
    for (uint32_t i = 0; i < rows; i++) {
        struct cursor row = cursor_of(cursor_take(&cursor, cursor_u32(&cursor)));
        cursor_take(&row, label_bytes);
        const struct span text = cursor_take(&row, cursor_u32(&row));
        const size_t used = strlen(peer->asked);
        snprintf(peer->asked + used, sizeof peer->asked - used, "%.*s|", (int)text.bytes,
                 text.bytes == 0 ? "" : (const char *)text.data);
        next = text.bytes == 0 ? 'a' : ((const uint8_t *)text.data)[text.bytes - 1] + 1u;
    }
    return next > 'z' ? TOKEN_END : next;
}

static void answer_prediction(struct peer *peer, const struct link_message *message,
                              const Unlearn__Request *request, Unlearn__Prediction *prediction,
                              const struct buf *raw)
{
    Unlearn__Reply reply;
    unlearn__reply__init(&reply);
    reply.body_case = UNLEARN__REPLY__BODY_PREDICTION;
    reply.prediction = prediction;
    answer(peer, &message->peer, &reply, request->request_id, buf_span(raw));
}

// Models "writer" and "rated" continue texts.
static void take_writer(struct peer *peer, const struct link_message *message,
                        const Unlearn__Request *request)
{
    Unlearn__Prediction prediction;
    unlearn__prediction__init(&prediction);
    const size_t label_bytes = strcmp(request->predict->model, "rated") == 0 ? 2 : 0;
    const uint32_t next = take_texts(peer, message->raw, request->predict->rows, label_bytes);
    prediction.rows = request->predict->rows;
    prediction.width = TOKEN_COUNT;
    prediction.shards_used = 3 - (peer->predicts == 2);
    prediction.shards_total = 3;
    prediction.degraded = peer->predicts == 2;
    prediction.epoch = 10 - peer->predicts;
    struct buf raw = {0};
    for (uint32_t i = 0; i < TOKEN_COUNT; i++) {
        buf_f32(&raw, i == next ? 0.75f : i == '!' ? 0.25f : 0);
    }
    answer_prediction(peer, message, request, &prediction, &raw);
    buf_deinit(&raw);
}

// Answers with the number of the value, as float32; of each row two, and of scores one.
static void take_predict(struct peer *peer, const struct link_message *message,
                         const Unlearn__Request *request)
{
    Unlearn__Prediction prediction;
    unlearn__prediction__init(&prediction);
    if (peer->predicts < HELD_MAX) {
        peer->froms[peer->predicts] = request->predict->from;
    }
    peer->predicts++;
    if (strcmp(request->predict->model, "writer") == 0 ||
        strcmp(request->predict->model, "rated") == 0) {
        take_writer(peer, message, request);
        return;
    }
    peer->scored = request->predict->score;
    const uint32_t from = (uint32_t)request->predict->from;
    const uint32_t all = peer->scored ? 7 : request->predict->rows;
    const int wrong = peer->predicts == 2 ? peer->wrong_part : 0;
    prediction.rows = all - from;
    if (peer->part_rows > 0 && prediction.rows > peer->part_rows) {
        prediction.rows = peer->part_rows;
        prediction.more = wrong < 2;
    }
    prediction.rows = wrong == 1 ? 0 : wrong == 3 ? all : prediction.rows;
    prediction.width = peer->scored ? 1 : 2;
    prediction.shards_used = peer->predicts == 2 ? 1 : 2;
    prediction.shards_total = 2;
    prediction.degraded = peer->predicts == 2;
    prediction.epoch = peer->predicts == 2 ? 9 : 8;
    struct buf raw = {0};
    for (uint32_t i = 0; i < prediction.width * prediction.rows; i++) {
        buf_f32(&raw, (float)(prediction.width * from + i));
    }
    answer_prediction(peer, message, request, &prediction, &raw);
    buf_deinit(&raw);
}

// A model of texts with a context of 5: BOS and four bytes. "rated" has a label beside the text, "digits"
// is none, "wide" has more than a text.
static void take_model_show(struct peer *peer, const struct link_message *message,
                            const Unlearn__Request *request)
{
    static struct column columns[] = {
        {.name = (char *)(uintptr_t) "t", .kind = COLUMN_TEXT, .width = 1},
        {.name = (char *)(uintptr_t) "n", .kind = COLUMN_IGNORED, .width = 1}};
    const char *const name = request->model_show->model;
    columns[1].kind = strcmp(name, "wide") == 0 ? COLUMN_CATEGORY : COLUMN_IGNORED;
    const bool rated = strcmp(name, "rated") == 0;
    static char *classes[] = {(char *)(uintptr_t) "good"};
    const struct schema schema = {.columns = columns,
                                  .column_count = 2,
                                  .task = rated ? TASK_CLASSES : TASK_NONE,
                                  .label = (char *)(uintptr_t)(rated ? "y" : ""),
                                  .classes = classes,
                                  .class_count = rated ? 1 : 0};
    struct buf bytes = {0};
    schema_put(&schema, &bytes);
    Unlearn__Model model;
    unlearn__model__init(&model);
    model.name = wire_text(name);
    model.schema = wire_bytes(buf_span(&bytes));
    model.context = strcmp(name, "digits") == 0 ? 0 : strcmp(name, "broken") == 0 ? 1 << 20 : 5;
    model.outputs = TOKEN_COUNT;
    ANSWER(&message->peer, request->request_id, MODEL, model, &model);
    buf_deinit(&bytes);
}

static void take(struct peer *peer, const struct link_message *message,
                 const Unlearn__Request *request)
{
    const uint64_t id = request->request_id;
    const struct link_peer *const to = &message->peer;
    Unlearn__Pong pong;
    unlearn__pong__init(&pong);
    switch ((int)request->body_case) {
    case UNLEARN__REQUEST__BODY_PING:
        if (++peer->pings > peer->pings_to_drop) {
            ANSWER(to, id, PONG, pong, &pong);
        }
        break;
    case UNLEARN__REQUEST__BODY_DATASET_SHOW:
        if (peer->wrong_kind) {
            ANSWER(to, id, PONG, pong, &pong);
        } else {
            answer_error(peer, to, id, UNLEARN__STATUS__STATUS_NOT_FOUND, "unknown dataset \"d\"");
        }
        break;
    case UNLEARN__REQUEST__BODY_IMPORT_BEGIN: {
        Unlearn__ImportReady ready;
        unlearn__import_ready__init(&ready);
        ready.import = 77;
        ANSWER(to, id, IMPORT_READY, import_ready, &ready);
        break;
    }
    case UNLEARN__REQUEST__BODY_IMPORT_CHUNK:
        take_chunk(peer, message, request);
        break;
    case UNLEARN__REQUEST__BODY_IMPORT_COMMIT: {
        Unlearn__ImportDone done;
        unlearn__import_done__init(&done);
        done.records = peer->records;
        peer->committed = true;
        ANSWER(to, id, IMPORT_DONE, import_done, &done);
        break;
    }
    case UNLEARN__REQUEST__BODY_IMPORT_ABORT:
        peer->aborted = true;
        break;
    case UNLEARN__REQUEST__BODY_DELETE:
        take_delete(peer, message, request);
        break;
    case UNLEARN__REQUEST__BODY_PREDICT:
        take_predict(peer, message, request);
        break;
    case UNLEARN__REQUEST__BODY_MODEL_SHOW:
        take_model_show(peer, message, request);
        break;
    default:
        break;
    }
}

static void *serve(void *context)
{
    struct peer *const peer = context;
    struct wire_arena arena = {0};
    for (;;) {
        struct link_message message;
        const Unlearn__Request *request;
        bool ready = false;
        if (link_receive(peer->link, &message) == OK) {
            if (wire_get_request(&arena, message.envelope, &request) == OK) {
                take(peer, &message, request);
            }
            continue;
        }
        if (link_wait(&peer->link, &ready, 1, NULL, 0, IDLE_MS) == OK && ready) {
            continue;
        }
        release_chunks(peer);
        if (peer->stop) {
            break;
        }
    }
    wire_arena_deinit(&arena);
    return NULL;
}

static void peer_start(struct peer *peer)
{
    struct link_security security = {.domain = "clients"};
    assert_int_equal(link_context_open(&peer->context), OK);
    if (peer->own != NULL) {
        security.own = *peer->own;
        assert_int_equal(zap_open(peer->context, &peer->zap), OK);
        zap_allow(peer->zap, "clients", (const uint8_t(*)[CURVEKEY_BYTES])peer->friend->public, 1);
    }
    assert_int_equal(
        link_open(peer->context, LINK_ROUTER, peer->own == NULL ? NULL : &security, &peer->link),
        OK);
    assert_int_equal(link_bind(peer->link, "tcp://127.0.0.1:*", peer->endpoint), OK);
    assert_int_equal(pthread_create(&peer->thread, NULL, serve, peer), 0);
}

// Ends the thread when nothing comes any more; then the test may look at what it saw.
static void peer_stop(struct peer *peer)
{
    peer->stop = true;
    pthread_join(peer->thread, NULL);
    link_close(peer->link);
    zap_close(peer->zap);
    link_context_close(peer->context);
}

static void wait_aborted(const struct peer *peer)
{
    const int64_t end_ms = clock_mono_ms() + PATIENCE_MS;
    while (!peer->aborted && clock_mono_ms() < end_ms) {
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    assert_true(peer->aborted);
}

// --- Calls ---

static void test_refusals_carry_the_sentence(void **state)
{
    (void)state;
    struct peer peer = {.refuse_chunk = -1};
    peer_start(&peer);
    struct unlearn *client;
    const Unlearn__Dataset *dataset;
    assert_int_equal(unlearn_open(peer.endpoint, NULL, &client), OK);
    assert_int_equal(unlearn_dataset_show(client, "d", &dataset), ERR_NOT_FOUND);
    assert_string_equal(err_text(), "unknown dataset \"d\"");
    unlearn_close(client);
    peer_stop(&peer);
}

static void test_another_kind_of_reply_is_corrupt(void **state)
{
    (void)state;
    struct peer peer = {.refuse_chunk = -1, .wrong_kind = true};
    peer_start(&peer);
    struct unlearn *client;
    const Unlearn__Dataset *dataset;
    assert_int_equal(unlearn_open(peer.endpoint, NULL, &client), OK);
    assert_int_equal(unlearn_dataset_show(client, "d", &dataset), ERR_CORRUPT);
    unlearn_close(client);
    peer_stop(&peer);
}

static void test_what_breaks_the_wire_is_refused_here(void **state)
{
    (void)state;
    struct peer peer = {.refuse_chunk = -1};
    peer_start(&peer);
    struct unlearn *client;
    const Unlearn__Dataset *dataset;
    assert_int_equal(unlearn_open(peer.endpoint, NULL, &client), OK);
    char name[LIMIT_NAME_BYTES + 2];
    memset(name, 'a', sizeof name);
    name[LIMIT_NAME_BYTES + 1] = '\0';
    assert_int_equal(unlearn_dataset_show(client, name, &dataset), ERR_INVALID);
    assert_int_equal(unlearn_dataset_show(client, "\xff", &dataset), ERR_INVALID);
    assert_non_null(strstr(err_text(), "dataset"));
    name[LIMIT_NAME_BYTES] = '\0'; // The control arrives.
    assert_int_equal(unlearn_dataset_show(client, name, &dataset), ERR_NOT_FOUND);
    const char **const ids = mem_alloc(LIMIT_CONTROL_BYTES / 100, sizeof *ids);
    for (size_t i = 0; i < LIMIT_CONTROL_BYTES / 100; i++) {
        ids[i] = name;
    }
    const struct unlearn_ids many = {ids, LIMIT_CONTROL_BYTES / 100}, none = {NULL, 0};
    const Unlearn__PlanCost *cost;
    assert_int_equal(unlearn_plan(client, "d", many, none, &cost), ERR_LIMIT);
    mem_free(ids);
    unlearn_close(client);
    peer_stop(&peer);
}

static void test_a_lost_reply_is_asked_for_again(void **state)
{
    (void)state;
    struct peer peer = {.refuse_chunk = -1};
    peer_start(&peer);
    struct unlearn *client;
    const Unlearn__Pong *pong;
    assert_int_equal(unlearn_open(peer.endpoint, NULL, &client), OK);
    unlearn_set_timeout(client, 2000);
    peer.pings_to_drop = 2; // The one of the opening was the first.
    assert_int_equal(unlearn_ping(client, &pong), OK);
    unlearn_close(client);
    peer_stop(&peer);
    assert_int_equal(peer.pings, 3);
}

static void test_nobody_there(void **state)
{
    (void)state;
    struct peer peer = {.refuse_chunk = -1};
    peer_start(&peer);
    struct unlearn *client;
    assert_int_equal(unlearn_open(peer.endpoint, NULL, &client), OK);
    peer_stop(&peer);
    unlearn_set_timeout(client, 200);
    const Unlearn__Pong *pong;
    assert_int_equal(unlearn_ping(client, &pong), ERR_UNAVAILABLE);
    assert_non_null(strstr(err_text(), peer.endpoint));
    unlearn_close(client);
    assert_int_equal(unlearn_open(peer.endpoint, NULL, &client), ERR_UNAVAILABLE);
    assert_null(client);
}

static void test_a_cluster_is_found_by_its_directory(void **state)
{
    (void)state;
    struct peer peer = {.refuse_chunk = -1};
    peer_start(&peer);
    char home[SCRATCH_BYTES], dir[SCRATCH_BYTES + 16], path[SCRATCH_BYTES + 64];
    assert_true(scratch_make(home));
    struct unlearn *client;
    snprintf(dir, sizeof dir, "%s/c", home);
    assert_int_equal(unlearn_open_dir(dir, NULL, &client), ERR_NOT_FOUND);
    assert_int_equal(mkdir(dir, 0700), 0);
    snprintf(path, sizeof path, "%s/config.yaml", dir);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fclose(file);
    assert_int_equal(unlearn_open_dir(dir, NULL, &client), ERR_UNAVAILABLE);
    assert_non_null(strstr(err_text(), "unlearnctl up"));
    snprintf(path, sizeof path, "%s.client", dir);
    assert_int_equal(mkdir(path, 0700), 0);
    snprintf(path, sizeof path, "%s.client/address", dir);
    file = fopen(path, "w");
    assert_non_null(file);
    fprintf(file, "%s insecure\n", peer.endpoint);
    fclose(file);
    snprintf(dir, sizeof dir, "%s/c//", home); // DIR.client stands beside DIR/.
    assert_int_equal(unlearn_open_dir(dir, NULL, &client), OK);
    unlearn_close(client);
    scratch_remove(home);
    peer_stop(&peer);
}

// --- Keys ---

struct cluster_files {
    char home[SCRATCH_BYTES], dir[SCRATCH_BYTES + 16], own[SCRATCH_BYTES + 64],
        other[SCRATCH_BYTES + 64], server[SCRATCH_BYTES + 64], address[SCRATCH_BYTES + 64];
};

static void put_address(const struct cluster_files *files, const char *endpoint, const char *more)
{
    FILE *const file = fopen(files->address, "w");
    assert_non_null(file);
    fprintf(file, "%s%s\n", endpoint, more);
    assert_int_equal(fclose(file), 0);
}

static void put_server(const struct cluster_files *files, const uint8_t key[CURVEKEY_BYTES])
{
    (void)unlink(files->server);
    assert_int_equal(curvekey_write_public(files->server, key), OK);
}

static void open_fails(const struct cluster_files *files, const char *key, enum err expected,
                       const char *words)
{
    struct unlearn *client;
    assert_int_equal(unlearn_open_dir(files->dir, key, &client), expected);
    assert_null(client);
    assert_non_null(strstr(err_text(), words));
}

static void test_keys(void **state)
{
    (void)state;
    struct curvekey server, friend, stranger;
    struct cluster_files files;
    struct peer peer = {.refuse_chunk = -1, .own = &server, .friend = &friend};
    struct peer plain = {.refuse_chunk = -1};
    struct unlearn *client;
    curvekey_make(&server);
    curvekey_make(&friend);
    curvekey_make(&stranger);
    peer_start(&peer);
    peer_start(&plain);
    assert_true(scratch_make(files.home));
    snprintf(files.dir, sizeof files.dir, "%s/c.client", files.home);
    assert_int_equal(mkdir(files.dir, 0700), 0);
    snprintf(files.dir, sizeof files.dir, "%s/c", files.home);
    snprintf(files.own, sizeof files.own, "%s.client/admin.key", files.dir);
    snprintf(files.other, sizeof files.other, "%s/other.key", files.home);
    snprintf(files.server, sizeof files.server, "%s.client/server.pub", files.dir);
    snprintf(files.address, sizeof files.address, "%s.client/address", files.dir);
    put_address(&files, peer.endpoint, "");
    open_fails(&files, NULL, ERR_NOT_FOUND, "admin.key");
    assert_int_equal(curvekey_write(files.own, &friend), OK);
    assert_int_equal(curvekey_write(files.other, &stranger), OK);
    open_fails(&files, NULL, ERR_NOT_FOUND, "server.pub");
    put_server(&files, server.public);
    assert_int_equal(unlearn_open_dir(files.dir, NULL, &client), OK);
    unlearn_close(client);
    const struct unlearn_keys keys = {files.own, files.server};
    assert_int_equal(unlearn_open(peer.endpoint, &keys, &client), OK);
    unlearn_close(client);
    // At once, and with the file that was named.
    const int64_t began_ms = clock_mono_ms();
    open_fails(&files, files.other, ERR_DENIED, "does not know the key in");
    assert_non_null(strstr(err_text(), files.other));
    assert_true(clock_mono_ms() - began_ms < 2500);
    open_fails(&files, files.server, ERR_DENIED, "has mode 0644");
    assert_int_equal(chmod(files.server, 0600), 0);
    open_fails(&files, files.server, ERR_CORRUPT, "holds a public key alone");
    put_server(&files, stranger.public);
    open_fails(&files, NULL, ERR_UNAVAILABLE, "has not shown that it holds the server's key");
    put_server(&files, server.public);
    // Without keys: only where the address says so, and never to another machine.
    put_address(&files, peer.endpoint, " insecure");
    open_fails(&files, NULL, ERR_UNAVAILABLE, "answers nobody without a key");
    put_address(&files, plain.endpoint, "");
    open_fails(&files, NULL, ERR_UNAVAILABLE, "has not shown that it holds the server's key");
    put_address(&files, plain.endpoint, " insecure");
    assert_int_equal(unlearn_open_dir(files.dir, NULL, &client), OK);
    unlearn_close(client);
    put_address(&files, "tcp://10.0.0.1:7070", " insecure");
    open_fails(&files, NULL, ERR_INVALID, "is not of this machine alone");
    assert_int_equal(unlearn_open("tcp://10.0.0.1:7070", NULL, &client), ERR_INVALID);
    put_address(&files, plain.endpoint, " secure");
    open_fails(&files, NULL, ERR_INVALID, "expected one line");
    // The key may come back.
    put_address(&files, peer.endpoint, "");
    assert_int_equal(unlearn_open_dir(files.dir, NULL, &client), OK);
    unlearn_close(client);
    scratch_remove(files.home);
    peer_stop(&peer);
    peer_stop(&plain);
}

// --- Import ---

enum { ROW_BYTES = 100000, ROWS = 105 }; // 10 rows a chunk.

static enum err import_rows(struct unlearn *client, struct unlearn_import **import)
{
    static uint8_t row[ROW_BYTES];
    const struct unlearn_import_options options = {.dataset = "d"};
    const Unlearn__ImportDone *done;
    TRY(unlearn_import_begin(client, &options, import));
    for (int i = 0; i < ROWS; i++) {
        TRY(unlearn_import_add(*import, span_text("id"), span_text("who"), RISK_UNDECLARED,
                               span_of(row, sizeof row)));
    }
    TRY(unlearn_import_commit(*import, &done));
    assert_int_equal(done->records, ROWS);
    return OK;
}

static void test_import_keeps_to_its_credit(void **state)
{
    (void)state;
    struct peer peer = {.refuse_chunk = -1};
    peer_start(&peer);
    struct unlearn *client;
    struct unlearn_import *import = NULL;
    assert_int_equal(unlearn_open(peer.endpoint, NULL, &client), OK);
    assert_int_equal(import_rows(client, &import), OK);
    unlearn_import_end(import);
    unlearn_close(client);
    peer_stop(&peer);
    assert_int_equal(peer.held_max, LIMIT_CREDIT);
    assert_int_equal(peer.records, ROWS);
    assert_int_equal(peer.rows_bytes, ROWS * (2 + 2 + 2 + 3 + 4 + ROW_BYTES + 1));
    assert_false(peer.order_broken);
    assert_true(peer.committed);
    assert_false(peer.aborted);
}

static void test_a_refused_chunk_ends_the_import(void **state)
{
    (void)state;
    struct peer peer = {.refuse_chunk = 2};
    peer_start(&peer);
    struct unlearn *client;
    struct unlearn_import *import = NULL;
    assert_int_equal(unlearn_open(peer.endpoint, NULL, &client), OK);
    assert_int_equal(import_rows(client, &import), ERR_CONFLICT);
    assert_non_null(strstr(err_text(), "row 7"));
    unlearn_import_end(import);
    assert_non_null(strstr(err_text(), "row 7")); // The clean-up left the sentence alone.
    unlearn_close(client);
    wait_aborted(&peer);
    peer_stop(&peer);
    assert_false(peer.committed);
}

static void test_a_record_must_fit(void **state)
{
    (void)state;
    struct peer peer = {.refuse_chunk = -1};
    peer_start(&peer);
    struct unlearn *client;
    struct unlearn_import *import;
    assert_int_equal(unlearn_open(peer.endpoint, NULL, &client), OK);
    const struct unlearn_import_options options = {.dataset = "d"};
    assert_int_equal(unlearn_import_begin(client, &options, &import), OK);
    uint8_t *const row = mem_alloc(LIMIT_RECORD_BYTES + 1, 1);
    const struct span id = span_text("id"), none = {NULL, 0};
    assert_int_equal(unlearn_import_add(import, id, none, 15, span_of(row, LIMIT_RECORD_BYTES)),
                     OK);
    assert_int_equal(unlearn_import_add(import, id, none, 15, span_of(row, LIMIT_RECORD_BYTES + 1)),
                     ERR_LIMIT);
    mem_free(row);
    unlearn_import_end(import);
    unlearn_close(client);
    wait_aborted(&peer);
    peer_stop(&peer);
}

// --- Deletion and prediction ---

static enum err ask_to_delete(size_t record_count, size_t subject_count, const char *id,
                              struct peer *peer)
{
    *peer = (struct peer){.refuse_chunk = -1};
    peer_start(peer);
    struct unlearn *client;
    const Unlearn__RequestState *state;
    const struct id128 uuid = {{1}};
    assert_int_equal(unlearn_open(peer->endpoint, NULL, &client), OK);
    const size_t most = record_count > subject_count ? record_count : subject_count;
    const char **const texts = mem_alloc(most, sizeof *texts);
    for (size_t i = 0; i < most; i++) {
        texts[i] = id;
    }
    const enum err err =
        unlearn_delete(client, "d", &uuid, (struct unlearn_ids){texts, record_count},
                       (struct unlearn_ids){texts, subject_count}, NULL, &state);
    if (err == OK) {
        assert_int_equal(state->records_deleted, record_count);
    }
    mem_free(texts);
    unlearn_close(client);
    peer_stop(peer);
    return err;
}

static void delete_many(size_t record_count, size_t subject_count, const char *id,
                        struct peer *peer)
{
    assert_int_equal(ask_to_delete(record_count, subject_count, id, peer), OK);
    assert_false(peer->parts_broken);
    assert_int_equal(peer->delete_records, record_count);
    assert_int_equal(peer->delete_subjects, subject_count);
}

static void test_deletions_are_cut_into_parts(void **state)
{
    (void)state;
    struct peer peer;
    delete_many(1, 0, "17", &peer);
    assert_int_equal(peer.parts, 1);
    delete_many(500, 0, "17", &peer);
    assert_int_equal(peer.parts, 1);
    delete_many(501, 0, "17", &peer);
    assert_int_equal(peer.parts, 2);
    delete_many(999, 2, "17", &peer); // Both kinds share the last part but one.
    assert_int_equal(peer.parts, 3);
    assert_int_equal(peer.part_ids_max, 500);
    char id[LIMIT_NAME_BYTES + 1];
    memset(id, 'x', LIMIT_NAME_BYTES);
    id[LIMIT_NAME_BYTES] = '\0';
    delete_many(500, 0, id, &peer);
    assert_int_equal(peer.parts, 1);
}

// A frame of them all would be too long for the peer, who would hang up instead of saying what is wrong.
static void test_ids_that_are_too_long_are_refused(void **state)
{
    (void)state;
    struct peer peer;
    char id[4001];
    memset(id, 'x', sizeof id - 1);
    id[sizeof id - 1] = '\0';
    assert_int_equal(ask_to_delete(500, 0, id, &peer), ERR_INVALID);
    assert_int_equal(peer.delete_records, 0);
}

static void test_batches_fit_a_frame(void **state)
{
    (void)state;
    struct unlearn_batch batch = {.width = 1000};
    const struct span row = span_text("row");
    uint32_t rows = 0;
    while (unlearn_batch_add(&batch, row)) {
        rows++;
    }
    assert_int_equal(rows, LIMIT_CHUNK_BYTES / 4000); // The answer is what is too long.
    unlearn_batch_clear(&batch);
    assert_true(unlearn_batch_add(&batch, row));
    unlearn_batch_deinit(&batch);
    batch = (struct unlearn_batch){.width = 1};
    for (rows = 0; unlearn_batch_add(&batch, row); rows++) {
    }
    assert_int_equal(rows, LIMIT_ROWS_PREDICT);
    unlearn_batch_deinit(&batch);
}

static void test_predictions_come_in_order(void **state)
{
    (void)state;
    struct peer peer = {.refuse_chunk = -1};
    peer_start(&peer);
    struct unlearn *client;
    const Unlearn__Prediction *prediction;
    const float *values;
    assert_int_equal(unlearn_open(peer.endpoint, NULL, &client), OK);
    struct unlearn_batch batch = {.width = 2};
    assert_true(unlearn_batch_add(&batch, span_text("a")));
    assert_true(unlearn_batch_add(&batch, span_text("b")));
    assert_int_equal(unlearn_predict(client, "m", &batch, &prediction, &values), OK);
    for (int i = 0; i < 4; i++) {
        assert_true(values[i] == (float)i);
    }
    batch.width = 3; // The model has changed under our feet, or the peer is broken.
    assert_int_equal(unlearn_predict(client, "m", &batch, &prediction, &values), ERR_CORRUPT);
    unlearn_batch_deinit(&batch);
    unlearn_close(client);
    peer_stop(&peer);
}

// What is asked for in parts is there as one; what the answers say of themselves, too.
static void test_predictions_come_in_parts(void **state)
{
    (void)state;
    for (int score = 0; score < 2; score++) {
        struct peer peer = {.refuse_chunk = -1, .part_rows = 3};
        peer_start(&peer);
        struct unlearn *client;
        const Unlearn__Prediction *prediction;
        const float *values;
        assert_int_equal(unlearn_open(peer.endpoint, NULL, &client), OK);
        struct unlearn_batch batch = {.width = 2};
        for (int i = 0; i < 7; i++) {
            assert_true(unlearn_batch_add(&batch, span_text("a")));
        }
        assert_int_equal(score == 0 ? unlearn_predict(client, "m", &batch, &prediction, &values)
                                    : unlearn_score(client, "m", &batch, 7, &prediction, &values),
                         OK);
        const uint32_t width = score == 0 ? 2 : 1;
        assert_int_equal(prediction->rows, 7);
        assert_int_equal(prediction->width, width);
        assert_int_equal(prediction->shards_used, 1);
        assert_int_equal(prediction->shards_total, 2);
        assert_true(prediction->degraded);
        assert_int_equal(prediction->epoch, 9);
        for (uint32_t i = 0; i < 7 * width; i++) {
            assert_true(values[i] == (float)i);
        }
        unlearn_batch_deinit(&batch);
        unlearn_close(client);
        peer_stop(&peer);
        assert_int_equal(peer.predicts, 3);
        assert_int_equal(peer.scored, score);
        assert_int_equal(peer.froms[0], 0);
        assert_int_equal(peer.froms[1], 3);
        assert_int_equal(peer.froms[2], 6);
    }
}

static void test_parts_must_fit_each_other(void **state)
{
    (void)state;
    for (int wrong = 1; wrong <= 3; wrong++) {
        struct peer peer = {.refuse_chunk = -1, .part_rows = 3, .wrong_part = wrong};
        peer_start(&peer);
        struct unlearn *client;
        const Unlearn__Prediction *prediction;
        const float *values;
        assert_int_equal(unlearn_open(peer.endpoint, NULL, &client), OK);
        struct unlearn_batch batch = {0};
        assert_true(unlearn_batch_add(&batch, span_text("a")));
        assert_int_equal(unlearn_score(client, "m", &batch, 7, &prediction, &values), ERR_CORRUPT);
        unlearn_batch_deinit(&batch);
        unlearn_close(client);
        peer_stop(&peer);
        assert_int_equal(peer.predicts, 2);
    }
}

struct written {
    uint32_t tokens[16];
    uint32_t count;
    uint32_t stop_after; // 0: never
};

static enum err take_token(void *context, uint32_t token, float probability)
{
    struct written *const written = context;
    assert_true(probability == (token == '!' ? 0.25f : 0.75f));
    assert_true(written->count < 16);
    written->tokens[written->count++] = token;
    if (written->count == written->stop_after) {
        FAIL(ERR_CANCELLED, "enough");
    }
    return OK;
}

static enum err write_on(struct peer *peer, const char *model, struct unlearn_continue *how,
                         Unlearn__Prediction *sum_out)
{
    struct unlearn *client;
    const Unlearn__Prediction *prediction;
    how->take = take_token;
    peer->refuse_chunk = -1;
    peer_start(peer);
    assert_int_equal(unlearn_open(peer->endpoint, NULL, &client), OK);
    const enum err err = unlearn_continue_text(client, model, how, &prediction);
    *sum_out = *prediction;
    unlearn_close(client);
    peer_stop(peer);
    return err;
}

static void test_texts_are_continued(void **state)
{
    (void)state;
    struct written written = {0};
    struct unlearn_continue how = {
        .prompt = span_text("xy"), .token_count = 16, .context = &written};
    Unlearn__Prediction sum;
    struct peer peer = {0};
    assert_int_equal(write_on(&peer, "writer", &how, &sum), OK); // Ends by itself.
    assert_int_equal(written.count, 2);
    assert_int_equal(written.tokens[0], 'z');
    assert_int_equal(written.tokens[1], TOKEN_END);
    assert_string_equal(peer.asked, "xy|xyz|");
    assert_int_equal(sum.shards_used, 2); // The second answer had lost one.
    assert_int_equal(sum.shards_total, 3);
    assert_true(sum.degraded);
    assert_int_equal(sum.epoch, 9);

    // The window slides: BOS and the last four bytes fill a context of 5.
    written = (struct written){0};
    peer = (struct peer){0};
    how.prompt = span_text("");
    how.token_count = 6;
    assert_int_equal(write_on(&peer, "writer", &how, &sum), OK);
    assert_int_equal(written.count, 6);
    assert_string_equal(peer.asked, "|a|ab|abc|abcd|bcde|");

    // A label in the rows is there and is not looked at.
    written = (struct written){0};
    peer = (struct peer){0};
    how.prompt = span_text("xy");
    assert_int_equal(write_on(&peer, "rated", &how, &sum), OK);
    assert_string_equal(peer.asked, "xy|xyz|");
    how.prompt = span_text("");

    // Who takes the tokens may have enough.
    written = (struct written){.stop_after = 2};
    peer = (struct peer){0};
    assert_int_equal(write_on(&peer, "writer", &how, &sum), ERR_CANCELLED);
    assert_string_equal(peer.asked, "|a|");

    // Sampled: seldom the unlikely token, and then the text ends otherwise.
    written = (struct written){0};
    peer = (struct peer){0};
    how = (struct unlearn_continue){
        .token_count = 16, .sampled = true, .seed = 5, .temperature = 100, .context = &written};
    assert_int_equal(write_on(&peer, "writer", &how, &sum), OK);
    uint32_t unlikely = 0;
    for (uint32_t i = 0; i < written.count; i++) {
        unlikely += written.tokens[i] == '!';
    }
    assert_true(unlikely > 0 && unlikely < 16);
}

static void test_what_cannot_be_continued(void **state)
{
    (void)state;
    struct written written = {0};
    struct unlearn_continue how = {
        .prompt = span_text("abcd"), .token_count = 1, .context = &written};
    Unlearn__Prediction sum;
    struct peer peer = {0};
    assert_int_equal(write_on(&peer, "writer", &how, &sum), OK); // As long as it may be.
    how.prompt = span_text("abcde");
    peer = (struct peer){0};
    assert_int_equal(write_on(&peer, "writer", &how, &sum), ERR_INVALID);
    assert_non_null(strstr(err_text(), "the prompt has 5 bytes, expected at most 4"));
    how.prompt = span_text("a");
    static const struct {
        const char *model, *words;
        enum err err;
    } cases[] = {{"digits", "does not continue texts", ERR_INVALID},
                 {"wide", "more columns than a text", ERR_INVALID},
                 {"broken", "a context of 1048576", ERR_CORRUPT}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        peer = (struct peer){0};
        assert_int_equal(write_on(&peer, cases[i].model, &how, &sum), cases[i].err);
        assert_non_null(strstr(err_text(), cases[i].words));
        assert_int_equal(peer.predicts, 0);
    }
    assert_int_equal(written.count, 1);
}

static int start(void **state)
{
    (void)state;
    return digest_start() == OK ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refusals_carry_the_sentence),
        cmocka_unit_test(test_another_kind_of_reply_is_corrupt),
        cmocka_unit_test(test_what_breaks_the_wire_is_refused_here),
        cmocka_unit_test(test_a_lost_reply_is_asked_for_again),
        cmocka_unit_test(test_nobody_there),
        cmocka_unit_test(test_a_cluster_is_found_by_its_directory),
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_import_keeps_to_its_credit),
        cmocka_unit_test(test_a_refused_chunk_ends_the_import),
        cmocka_unit_test(test_a_record_must_fit),
        cmocka_unit_test(test_deletions_are_cut_into_parts),
        cmocka_unit_test(test_ids_that_are_too_long_are_refused),
        cmocka_unit_test(test_batches_fit_a_frame),
        cmocka_unit_test(test_predictions_come_in_order),
        cmocka_unit_test(test_predictions_come_in_parts),
        cmocka_unit_test(test_parts_must_fit_each_other),
        cmocka_unit_test(test_texts_are_continued),
        cmocka_unit_test(test_what_cannot_be_continued),
    };
    return cmocka_run_group_tests(tests, start, NULL);
}
