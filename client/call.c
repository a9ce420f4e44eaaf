// client/call.c: see call.h. Also the connection: opening, and opening anew.
#include "client/call.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/mem.h"
#include "client/interrupt.h"

enum {
    CONNECT_MS = 3000,  // A coordinator that lives accepts at once; three tries of ZeroMQ fit.
    TIMEOUT_MS = 60000, // A commit that waits behind a large one on a slow disk.
    ATTEMPT_MS = 5000,  // First wait before a request is sent again; it doubles each time.
    SEND_PAUSE_MS = 20, // Between attempts to hand a message to a connection not yet made.
    PATH_BYTES_MAX = 4096,
};

static enum err nobody(const struct unlearn *client)
{
    FAIL(ERR_UNAVAILABLE, "no coordinator answers at %s: start it with unlearnctl up %s",
         client->endpoint, client->dir == NULL ? "DIR" : client->dir);
}

// --- The connection ---

// Reads <dir>.client/address: one line, the endpoint.
static enum err read_address(const char *dir, char endpoint_out[static LINK_ENDPOINT_BYTES])
{
    char path[PATH_BYTES_MAX];
    snprintf(path, sizeof path, "%s.client/address", dir);
    const int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0 && errno == ENOENT) {
        snprintf(path, sizeof path, "%s/config.yaml", dir);
        if (access(path, F_OK) != 0) {
            FAIL(ERR_NOT_FOUND, "no cluster at %s: make one with unlearnctl init %s", dir, dir);
        }
        FAIL(ERR_UNAVAILABLE, "no coordinator runs for %s: start it with unlearnctl up %s", dir,
             dir);
    }
    const ssize_t got = file < 0 ? -1 : read(file, endpoint_out, LINK_ENDPOINT_BYTES - 1);
    const int why = errno;
    if (file >= 0) {
        close(file);
    }
    if (got < 0) {
        FAIL(ERR_IO, "cannot read %s: %s", path, strerror(why));
    }
    endpoint_out[got] = '\0';
    endpoint_out[strcspn(endpoint_out, "\r\n")] = '\0';
    if (endpoint_out[0] == '\0') {
        FAIL(ERR_UNAVAILABLE,
             "%s is empty, expected the coordinator's address: start it with "
             "unlearnctl up %s",
             path, dir);
    }
    return OK;
}

// Connects anew, to wherever the coordinator is now. Replies still under way are lost.
static enum err reconnect(struct unlearn *client)
{
    link_close(client->link);
    client->link = NULL;
    if (client->dir != NULL) {
        TRY(read_address(client->dir, client->endpoint));
    }
    TRY(link_open(client->context, LINK_DEALER, NULL, &client->link));
    return link_connect(client->link, client->endpoint);
}

static enum err open_inner(struct unlearn *client)
{
    if (!client->beside) {
        TRY(link_context_open(&client->context));
    }
    TRY(reconnect(client));
    client->timeout_ms = CONNECT_MS;
    const Unlearn__Pong *pong;
    TRY(unlearn_ping(client, &pong));
    client->timeout_ms = TIMEOUT_MS;
    return OK;
}

// A copy without the slashes at the end: DIR.client stands beside DIR/.
static char *trimmed(const char *dir)
{
    char *const copy = mem_text(dir);
    for (size_t bytes = strlen(copy); bytes > 1 && copy[bytes - 1] == '/'; bytes--) {
        copy[bytes - 1] = '\0';
    }
    return copy;
}

static enum err open_client(const char *dir, const char *endpoint, const struct unlearn *first,
                            struct unlearn **client_out)
{
    *client_out = NULL;
    struct unlearn *const client = mem_alloc(1, sizeof *client);
    client->beside = first != NULL;
    client->context = first != NULL ? first->context : NULL;
    client->dir = dir == NULL ? NULL : trimmed(dir);
    snprintf(client->endpoint, sizeof client->endpoint, "%s", endpoint);
    // Two clients in a row at one address must not take each other's late replies.
    digest_random(&client->last_id, sizeof client->last_id);
    const enum err err = open_inner(client);
    if (err != OK) {
        unlearn_close(client);
        return err;
    }
    *client_out = client;
    return OK;
}

enum err unlearn_open(const char *endpoint, struct unlearn **client_out)
{
    return open_client(NULL, endpoint, NULL, client_out);
}

enum err unlearn_open_dir(const char *dir, struct unlearn **client_out)
{
    return open_client(dir, "", NULL, client_out);
}

enum err call_open_beside(const struct unlearn *first, struct unlearn **client_out)
{
    return open_client(first->dir, first->endpoint, first, client_out);
}

void unlearn_close(struct unlearn *client)
{
    if (client != NULL) {
        link_close(client->link);
        if (!client->beside) {
            link_context_close(client->context);
        }
        wire_arena_deinit(&client->arena);
        buf_deinit(&client->frame);
        buf_deinit(&client->values);
        mem_free(client->dir);
        mem_free(client);
    }
}

void unlearn_set_timeout(struct unlearn *client, int timeout_ms)
{
    client->timeout_ms = timeout_ms;
}

const char *unlearn_endpoint(const struct unlearn *client)
{
    return client->endpoint;
}

// --- Sending and receiving ---

// Packs and numbers the request. The coordinator drops what breaks the rules of the wire without a
// word, so we read our own frame first, as it would.
static enum err pack(struct unlearn *client, Unlearn__Request *request)
{
    request->version = WIRE_VERSION;
    request->request_id = ++client->last_id == 0 ? ++client->last_id : client->last_id;
    const size_t bytes = protobuf_c_message_get_packed_size(&request->base);
    if (bytes > LIMIT_CONTROL_BYTES) {
        FAIL(ERR_LIMIT, "the request has %zu bytes, expected at most %d", bytes,
             (int)LIMIT_CONTROL_BYTES);
    }
    wire_put(&request->base, &client->frame);
    const Unlearn__Request *read_back;
    return wire_get_request(&client->arena, buf_span(&client->frame), &read_back);
}

// Hands the packed request to ZeroMQ, which takes it only once the connection stands.
static enum err hand_over(struct unlearn *client, struct span raw, int64_t until_ms)
{
    for (;;) {
        const enum err err = link_send(client->link, NULL, buf_span(&client->frame), raw);
        if (err != ERR_UNAVAILABLE) {
            return err;
        }
        if (clock_mono_ms() >= until_ms) {
            return nobody(client);
        }
        nanosleep(&(struct timespec){.tv_nsec = SEND_PAUSE_MS * 1000000L}, NULL);
    }
}

// Waits for the next message; *got_out is false when the time is over.
static enum err receive(struct unlearn *client, int64_t until_ms, bool *got_out,
                        const Unlearn__Reply **reply_out)
{
    *got_out = false;
    for (;;) {
        struct link_message message;
        const enum err err = link_receive(client->link, &message);
        if (err == OK) {
            TRY_AS(wire_get_reply(&client->arena, message.envelope, reply_out), "the reply of %s",
                   client->endpoint);
            client->raw = message.raw;
            *got_out = true;
            return OK;
        }
        if (err != ERR_UNAVAILABLE) {
            return err;
        }
        const int64_t left_ms = until_ms - clock_mono_ms();
        if (left_ms <= 0) {
            return OK;
        }
        bool ready;
        TRY(link_wait(&client->link, &ready, 1, NULL, 0, (int)left_ms)); // A signal ends it, too.
        TRY(interrupt_check());
    }
}

enum err call_send(struct unlearn *client, Unlearn__Request *request, struct span raw)
{
    TRY(pack(client, request));
    return hand_over(client, raw, clock_mono_ms() + client->timeout_ms);
}

enum err call_receive(struct unlearn *client, const Unlearn__Reply **reply_out)
{
    bool got;
    TRY(receive(client, clock_mono_ms() + client->timeout_ms, &got, reply_out));
    return got ? OK : nobody(client);
}

enum err call_status(const Unlearn__Reply *reply, Unlearn__Reply__BodyCase kind)
{
    if (reply->status != UNLEARN__STATUS__STATUS_OK) {
        return err_raise(wire_err(reply->status), "%s",
                         reply->message[0] == '\0' ? "the coordinator refused without a reason"
                                                   : reply->message);
    }
    if (reply->body_case != kind) {
        FAIL(ERR_CORRUPT, "the coordinator's reply has body %d, expected %d", (int)reply->body_case,
             (int)kind);
    }
    return OK;
}

// Waits for the reply to the last request; replies to earlier ones are dropped.
static enum err receive_own(struct unlearn *client, int64_t until_ms, bool *got_out,
                            const Unlearn__Reply **reply_out)
{
    do {
        TRY(receive(client, until_ms, got_out, reply_out));
    } while (*got_out && (*reply_out)->request_id != client->last_id);
    return OK;
}

enum err call(struct unlearn *client, Unlearn__Request *request, struct span raw,
              enum call_repeat repeat, Unlearn__Reply__BodyCase kind,
              const Unlearn__Reply **reply_out)
{
    TRY(pack(client, request));
    const int64_t end_ms = clock_mono_ms() + client->timeout_ms;
    const int64_t first_ms =
        client->timeout_ms / 4 < ATTEMPT_MS ? client->timeout_ms / 4 : ATTEMPT_MS;
    for (int64_t attempt_ms = first_ms;; attempt_ms *= 2) {
        int64_t until_ms = clock_mono_ms() + attempt_ms;
        until_ms = repeat == CALL_ONCE || until_ms > end_ms ? end_ms : until_ms;
        bool got = false;
        const enum err err =
            client->link == NULL ? ERR_UNAVAILABLE : hand_over(client, raw, until_ms);
        if (err == OK) {
            TRY(receive_own(client, until_ms, &got, reply_out));
        } else if (err != ERR_UNAVAILABLE) {
            return err;
        }
        if (got) {
            return call_status(*reply_out, kind);
        }
        if (clock_mono_ms() >= end_ms) {
            return nobody(client);
        }
        const enum err again = reconnect(client);
        if (again != OK && again != ERR_UNAVAILABLE) {
            return again;
        }
        if (client->link == NULL) { // Nobody has written an address: look again soon.
            nanosleep(&(struct timespec){.tv_nsec = 200000000L}, NULL);
            attempt_ms = first_ms / 2;
        }
    }
}

// --- Several at once

// Takes one answer off the wire.
static enum err take_answer(struct unlearn *client, struct call_window *window)
{
    const Unlearn__Reply *reply;
    TRY(call_receive(client, &reply));
    for (int i = 0; i < LIMIT_CREDIT; i++) {
        if (window->ids[i] == reply->request_id) {
            window->ids[i] = 0;
            window->answered++;
            return call_status(reply, window->kind);
        }
    }
    return OK; // A late reply to an earlier call.
}

enum err call_window_send(struct unlearn *client, struct call_window *window,
                          Unlearn__Request *request, struct span raw)
{
    while (window->sent - window->answered == LIMIT_CREDIT) {
        TRY(take_answer(client, window));
    }
    TRY(call_send(client, request, raw));
    int free_slot = 0;
    while (free_slot < LIMIT_CREDIT && window->ids[free_slot] != 0) {
        free_slot++;
    }
    CHECK(free_slot < LIMIT_CREDIT); // The credit was looked at above.
    // cppcheck-suppress arrayIndexOutOfBoundsCond ; CHECK does not return.
    window->ids[free_slot] = client->last_id;
    window->sent++;
    return OK;
}

enum err call_window_finish(struct unlearn *client, struct call_window *window)
{
    while (window->answered < window->sent) {
        TRY(take_answer(client, window));
    }
    return OK;
}

void call_farewell(struct unlearn *client, Unlearn__Request *request)
{
    const int timeout_ms = client->timeout_ms;
    char why[ERR_TEXT_BYTES]; // The caller's sentence must outlive what fails here.
    memcpy(why, err_text(), sizeof why);
    client->timeout_ms = 0;
    const enum err err = call_send(client, request, (struct span){NULL, 0});
    client->timeout_ms = timeout_ms;
    if (err != OK) {
        (void)err_raise(err, "%s", why);
    }
}
