// tests/unit/test_history.c: a client's memory of the receipt log, and receipts that come in parts,
// against a coordinator that lies.
//
// Method: a thread with a ROUTER serves a log of the test's making, signed with the right key: what a
// coordinator could say whose history was rolled back, rewritten (an entry dropped, swapped, changed)
// or forked. The real one is met in tests/e2e/test_receipts.sh.
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/limits.h"
#include "base/mem.h"
#include "client/files.h"
#include "client/history.h"
#include "proto/link.h"
#include "proto/receipt.h"
#include "proto/wire.h"
#include "tests/unit/scratch.h"
#include "tests/unit/signers.h"

enum { LEAVES = 32, LEVELS = 6, IDLE_MS = 20, PATH_BYTES = SCRATCH_BYTES + 64 };

// The coordinator. Changed by the test only between two calls.
static struct {
    struct link_context *context;
    struct link *link;
    char endpoint[LINK_ENDPOINT_BYTES];
    pthread_t thread;
    _Atomic bool stop;
    struct digest leaves[LEAVES];
    uint64_t size;
    struct buf body; // Of the receipt.
    bool short_part, long_part, completes;
    int parts;
} peer;

static char dir[SCRATCH_BYTES], cluster[PATH_BYTES], head_path[PATH_BYTES + 32];
static struct signer *signer, *stranger;
static const struct signer *signs; // One of them.
static struct unlearn *client;

// --- The coordinator ---

static void answer(const struct link_peer *to, Unlearn__Reply *reply, uint64_t id, struct span raw)
{
    struct buf frame = {0};
    reply->version = WIRE_VERSION;
    reply->request_id = id;
    reply->status = UNLEARN__STATUS__STATUS_OK;
    wire_put(&reply->base, &frame);
    const enum err err = link_send(peer.link, to, buf_span(&frame), raw);
    (void)err; // A client that has gone.
    buf_deinit(&frame);
}

static struct digest nodes[LEVELS][LEAVES];

static enum err get_node(void *context, uint32_t level, uint64_t index, struct digest *hash_out)
{
    (void)context;
    *hash_out = nodes[level][index];
    return OK;
}
static enum err put_node(void *context, uint32_t level, uint64_t index, const struct digest *hash)
{
    (void)context;
    nodes[level][index] = *hash;
    return OK;
}
static const struct merkle tree = {NULL, get_node, put_node};

static struct head head_now(void)
{
    struct head head = {.size = peer.size, .time_us = 1};
    enum err err = OK;
    for (uint64_t i = 0; i < peer.size && err == OK; i++) {
        err = merkle_append(&tree, i, &peer.leaves[i]);
    }
    err = err == OK ? merkle_root(&tree, peer.size, &head.root) : err;
    head_sign(&head, HEAD_LOG, signs);
    return err == OK ? head : (struct head){0};
}

static void serve_receipt(const struct link_peer *to, uint64_t id, uint64_t offset)
{
    Unlearn__Reply reply = UNLEARN__REPLY__INIT;
    Unlearn__Receipt receipt = UNLEARN__RECEIPT__INIT;
    size_t bytes = peer.body.bytes - offset;
    bytes = bytes > LIMIT_CHUNK_BYTES ? LIMIT_CHUNK_BYTES : bytes;
    bytes = peer.short_part && offset > 0 ? 0 : bytes;
    receipt.body_bytes = peer.body.bytes - (peer.long_part && offset > 0 ? LIMIT_CHUNK_BYTES : 0);
    receipt.tail = wire_bytes(span_text("tail"));
    receipt.completed = peer.completes && peer.parts > 0;
    peer.parts++;
    reply.body_case = UNLEARN__REPLY__BODY_RECEIPT;
    reply.receipt = &receipt;
    answer(to, &reply, id, span_of(peer.body.data + offset, bytes));
}

static void take(const struct link_peer *to, const Unlearn__Request *request)
{
    Unlearn__Reply reply = UNLEARN__REPLY__INIT;
    Unlearn__Pong pong = UNLEARN__PONG__INIT;
    Unlearn__LogHeadState state = UNLEARN__LOG_HEAD_STATE__INIT;
    Unlearn__LogProof proof = UNLEARN__LOG_PROOF__INIT;
    const struct head head = head_now();
    struct merkle_path path = {.count = 0};
    struct digest root = {{0}};
    uint8_t bytes[HEAD_BYTES];
    switch ((int)request->body_case) {
    case UNLEARN__REQUEST__BODY_RECEIPT_GET:
        serve_receipt(to, request->request_id, request->receipt_get->offset);
        return;
    case UNLEARN__REQUEST__BODY_LOG_HEAD:
        head_put(&head, bytes);
        state.head = wire_bytes(span_of(bytes, sizeof bytes));
        reply.body_case = UNLEARN__REPLY__BODY_LOG_HEAD_STATE;
        reply.log_head_state = &state;
        break;
    case UNLEARN__REQUEST__BODY_LOG_CONSISTENCY:
        if (merkle_consistency(&tree, request->log_consistency->from, request->log_consistency->to,
                               &path) != OK ||
            merkle_root(&tree, request->log_consistency->from, &root) != OK) {
            return;
        }
        proof.hashes = wire_bytes(span_of(path.hashes, (size_t)path.count * DIGEST_BYTES));
        proof.root = wire_bytes(span_of(root.bytes, DIGEST_BYTES));
        reply.body_case = UNLEARN__REPLY__BODY_LOG_PROOF;
        reply.log_proof = &proof;
        break;
    default:
        reply.body_case = UNLEARN__REPLY__BODY_PONG;
        reply.pong = &pong;
        break;
    }
    answer(to, &reply, request->request_id, span_of(NULL, 0));
}

static void *serve(void *context)
{
    (void)context;
    struct wire_arena arena = {0};
    while (!peer.stop) {
        struct link_message message;
        const Unlearn__Request *request;
        bool ready = false;
        if (link_receive(peer.link, &message) != OK) {
            if (link_wait(&peer.link, &ready, 1, NULL, 0, IDLE_MS) != OK) {
                break;
            }
        } else if (wire_get_request(&arena, message.envelope, &request) == OK) {
            take(&message.peer, request);
        }
    }
    wire_arena_deinit(&arena);
    return NULL;
}

// --- Fixture ---

static void grow(uint64_t size) // The honest log.
{
    for (uint64_t i = 0; i < LEAVES; i++) {
        peer.leaves[i] = merkle_leaf(span_of(&i, sizeof i));
    }
    peer.size = size;
}

static int set_up(void **state)
{
    (void)state;
    char path[PATH_BYTES + 64], text[200], hex[2 * SIGN_PUBLIC_BYTES + 1];
    memset(&peer, 0, sizeof peer);
    assert_true(scratch_make(dir));
    signer = signers_open(dir, "one");
    stranger = signers_open(dir, "stranger");
    signs = signer;
    snprintf(cluster, sizeof cluster, "%s/c", dir);
    snprintf(path, sizeof path, "%s.client", cluster);
    assert_int_equal(mkdir(path, 0700), 0);
    snprintf(head_path, sizeof head_path, "%s.client/log.head", cluster);
    snprintf(path, sizeof path, "%s.client/receipt.pub", cluster);
    hex_put(hex, sign_public_of(signer)->bytes, SIGN_PUBLIC_BYTES);
    snprintf(text, sizeof text, "%s\n", hex);
    assert_int_equal(files_write(path, span_text(text)), OK);
    grow(0);
    assert_int_equal(link_context_open(&peer.context), OK);
    assert_int_equal(link_open(peer.context, LINK_ROUTER, NULL, &peer.link), OK);
    assert_int_equal(link_bind(peer.link, "tcp://127.0.0.1:*", peer.endpoint), OK);
    assert_int_equal(pthread_create(&peer.thread, NULL, serve, NULL), 0);
    assert_int_equal(unlearn_open(peer.endpoint, NULL, &client), OK);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    unlearn_close(client);
    peer.stop = true;
    pthread_join(peer.thread, NULL);
    link_close(peer.link);
    link_context_close(peer.context);
    buf_deinit(&peer.body);
    sign_close(signer);
    sign_close(stranger);
    scratch_remove(dir);
    return 0;
}

// What one command does.
static enum err look(uint64_t *size_out)
{
    struct history history;
    struct head head = {0};
    enum err err = history_open(cluster, &history);
    if (err == OK) {
        err = history_check(&history, client, &head);
    }
    *size_out = head.size;
    return err;
}

static void sees(uint64_t size)
{
    uint64_t found;
    assert_int_equal(look(&found), OK);
    assert_int_equal(found, size);
}

static void complains(const char *words)
{
    uint64_t size;
    assert_int_equal(look(&size), ERR_CORRUPT);
    assert_non_null(strstr(err_text(), words));
}

static uint64_t remembered(void)
{
    struct history history;
    assert_int_equal(history_open(cluster, &history), OK);
    return history.last.size;
}

// --- Tests ---

static void test_a_log_that_grows(void **state)
{
    (void)state;
    static const uint64_t sizes[] = {0, 0, 1, 2, 5, 5, 8, 31};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        grow(sizes[i]);
        sees(sizes[i]);
        assert_int_equal(remembered(), sizes[i]);
    }
}

static void test_a_log_that_was_rolled_back(void **state)
{
    (void)state;
    grow(7);
    sees(7);
    grow(5);
    complains("the receipt log was rolled back: it has 5 entries, and 7 were seen before");
    grow(0);
    complains("rolled back: it has 0 entries");
    assert_int_equal(remembered(), 7);
    grow(7);
    sees(7);
}

static void test_a_log_that_was_forked(void **state)
{
    (void)state;
    grow(7);
    sees(7);
    peer.leaves[6].bytes[0] ^= 1;
    complains("the receipt log was forked: two logs of 7 entries are signed");
    grow(7);
    sees(7);
}

static void test_a_log_that_was_rewritten(void **state)
{
    (void)state;
    grow(9);
    sees(9);
    grow(12);
    memmove(peer.leaves + 3, peer.leaves + 4, (LEAVES - 4) * sizeof *peer.leaves); // Dropped.
    complains("the receipt log was rewritten: the consistency proof does not lead");
    grow(12);
    const struct digest kept = peer.leaves[2]; // Swapped.
    peer.leaves[2] = peer.leaves[3];
    peer.leaves[3] = kept;
    complains("the receipt log was rewritten");
    grow(12);
    peer.leaves[8].bytes[5] ^= 1; // The last one seen, changed.
    complains("the receipt log was rewritten");
    assert_int_equal(remembered(), 9);
    grow(12);
    sees(12);
}

static void test_a_log_of_another_key(void **state)
{
    (void)state;
    grow(2);
    sees(2);
    grow(3);
    signs = stranger;
    complains("the receipt log: the tree head names the key");
    signs = signer;
    sees(3);
}

static void test_what_was_remembered_is_checked(void **state)
{
    (void)state;
    struct history history;
    struct buf file = {0};
    grow(4);
    sees(4);
    assert_int_equal(files_read(head_path, 1000, &file), OK);
    for (size_t i = 0; i < file.bytes; i++) {
        file.data[i] ^= 0x10;
        assert_int_equal(files_write(head_path, buf_span(&file)), OK);
        assert_int_equal(history_open(cluster, &history), ERR_CORRUPT);
        assert_non_null(strstr(err_text(), "log.head"));
        file.data[i] ^= 0x10;
    }
    buf_u8(&file, 0);
    assert_int_equal(files_write(head_path, buf_span(&file)), OK);
    assert_int_equal(history_open(cluster, &history), ERR_CORRUPT);
    file.bytes--;
    assert_int_equal(files_write(head_path, buf_span(&file)), OK);
    assert_int_equal(history_open(cluster, &history), OK);
    buf_deinit(&file);
    assert_int_equal(history_open("/nowhere", &history), ERR_NOT_FOUND);
}

// Two commands at once: the slower one must not bring the older head back.
static void test_a_slower_command_forgets_nothing(void **state)
{
    (void)state;
    struct history slow;
    struct head head;
    grow(3);
    sees(3);
    assert_int_equal(history_open(cluster, &slow), OK);
    grow(6);
    sees(6);
    grow(5); // What the slower one was told, before.
    assert_int_equal(history_check(&slow, client, &head), OK);
    assert_int_equal(remembered(), 6);
}

static void fill_body(size_t bytes)
{
    buf_clear(&peer.body);
    for (size_t i = 0; i < bytes; i++) {
        buf_u8(&peer.body, (uint8_t)(i * 7 + i / 1000));
    }
}

static void test_a_receipt_in_parts(void **state)
{
    (void)state;
    const struct id128 uuid = {{1}};
    static const size_t sizes[] = {100, LIMIT_CHUNK_BYTES, LIMIT_CHUNK_BYTES + 1,
                                   3 * LIMIT_CHUNK_BYTES - 5};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        for (int completes = 0; completes < 2; completes++) {
            struct buf file = {0};
            bool completed;
            fill_body(sizes[i]);
            peer.parts = 0;
            peer.completes = completes == 1;
            assert_int_equal(unlearn_receipt_get(client, &uuid, &file, &completed), OK);
            assert_int_equal(file.bytes, 12 + sizes[i] + 4);
            assert_memory_equal(file.data + 12, peer.body.data, sizes[i]);
            assert_memory_equal(file.data + 12 + sizes[i], "tail", 4);
            assert_int_equal(completed, completes == 1 && sizes[i] > LIMIT_CHUNK_BYTES);
            buf_deinit(&file);
        }
    }
}

static void test_parts_that_do_not_fit(void **state)
{
    (void)state;
    const struct id128 uuid = {{1}};
    struct buf file = {0};
    bool completed;
    fill_body(LIMIT_CHUNK_BYTES + 10);
    peer.short_part = true;
    assert_int_equal(unlearn_receipt_get(client, &uuid, &file, &completed), ERR_CORRUPT);
    assert_non_null(strstr(err_text(), "does not fit the others"));
    peer.short_part = false;
    peer.long_part = true;
    assert_int_equal(unlearn_receipt_get(client, &uuid, &file, &completed), ERR_CORRUPT);
    peer.long_part = false;
    assert_int_equal(unlearn_receipt_get(client, &uuid, &file, &completed), OK);
    buf_deinit(&file);
}

static void test_files(void **state)
{
    (void)state;
    char path[PATH_BYTES], below[PATH_BYTES + 16];
    struct buf file = {0};
    snprintf(path, sizeof path, "%s/file", dir);
    snprintf(below, sizeof below, "%s/none/file", dir);
    assert_int_equal(files_read(path, 10, &file), ERR_NOT_FOUND);
    assert_int_equal(files_write(below, span_text("x")), ERR_IO);
    assert_int_equal(files_write(path, span_text("0123456789")), OK);
    assert_int_equal(files_read(path, 9, &file), ERR_LIMIT);
    buf_clear(&file);
    assert_int_equal(files_read(path, 10, &file), OK);
    assert_true(span_equal(buf_span(&file), span_text("0123456789")));
    assert_int_equal(files_write(path, span_text("new")), OK);
    buf_clear(&file);
    assert_int_equal(files_read(path, 10, &file), OK);
    assert_true(span_equal(buf_span(&file), span_text("new")));
    assert_int_equal(files_read(dir, 10, &file), ERR_IO);
    assert_int_equal(files_write("/dev/null", span_text("x")), OK);
    buf_deinit(&file);
}

int main(void)
{
    if (digest_start() != OK) {
        return 1;
    }
#define CASE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(test_a_log_that_grows),
        CASE(test_a_log_that_was_rolled_back),
        CASE(test_a_log_that_was_forked),
        CASE(test_a_log_that_was_rewritten),
        CASE(test_a_log_of_another_key),
        CASE(test_what_was_remembered_is_checked),
        CASE(test_a_slower_command_forgets_nothing),
        CASE(test_a_receipt_in_parts),
        CASE(test_parts_that_do_not_fit),
        CASE(test_files),
    };
#undef CASE
    return cmocka_run_group_tests_name("history", tests, NULL, NULL);
}
