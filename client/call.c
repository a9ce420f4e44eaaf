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
#include "proto/address.h"

enum {
    CONNECT_MS = 3000,  // A coordinator that lives accepts at once; three tries of ZeroMQ fit.
    TIMEOUT_MS = 60000, // A commit that waits behind a large one on a slow disk.
    ATTEMPT_MS = 5000,  // First wait before a request is sent again; it doubles each time.
    SEND_PAUSE_MS = 20, // Between attempts to hand a message to a connection not yet made.
    PATH_BYTES_MAX = 4096,
};

// The files of the keys in use.
static void key_paths(const struct unlearn *client, char own_out[static PATH_BYTES_MAX],
                      char server_out[static PATH_BYTES_MAX])
{
    const char *const dir = client->dir == NULL ? "" : client->dir;
    snprintf(own_out, PATH_BYTES_MAX, "%s%s", client->key_file == NULL ? dir : client->key_file,
             client->key_file == NULL ? ".client/admin.key" : "");
    snprintf(server_out, PATH_BYTES_MAX, "%s%s",
             client->server_file == NULL ? dir : client->server_file,
             client->server_file == NULL ? ".client/server.pub" : "");
}

// Why there is no answer, as far as it is known.
static enum err nobody(const struct unlearn *client)
{
    char own[PATH_BYTES_MAX], server[PATH_BYTES_MAX];
    const char *const endpoint = client->address.endpoint;
    const enum link_trouble trouble = client->link == NULL ? LINK_FINE : link_trouble(client->link);
    key_paths(client, own, server);
    if (trouble == LINK_REFUSED) {
        FAIL(ERR_DENIED,
             "the coordinator at %s does not know the key in %s: it was never added, or it was "
             "revoked",
             endpoint, own);
    }
    if (trouble == LINK_STRANGE && client->address.insecure) {
        FAIL(ERR_UNAVAILABLE, "what listens at %s answers nobody without a key, or hangs",
             endpoint);
    }
    if (trouble == LINK_STRANGE) {
        FAIL(ERR_UNAVAILABLE,
             "what listens at %s has not shown that it holds the server's key in %s: the "
             "coordinator's key was changed (take its new server.pub), it hangs, or it is another "
             "program",
             endpoint, server);
    }
    FAIL(ERR_UNAVAILABLE, "no coordinator answers at %s: start it with unlearnctl up %s", endpoint,
         client->dir == NULL ? "DIR" : client->dir);
}

// --- The connection ---

// Reads <dir>.client/address.
static enum err read_address(const char *dir, struct address *address_out)
{
    char path[PATH_BYTES_MAX], line[ADDRESS_LINE_BYTES + 1];
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
    const ssize_t got = file < 0 ? -1 : read(file, line, sizeof line - 1);
    const int why = errno;
    if (file >= 0) {
        close(file);
    }
    if (got < 0) {
        FAIL(ERR_IO, "cannot read %s: %s", path, strerror(why));
    }
    line[got] = '\0';
    if (line[strspn(line, "\r\n")] == '\0') {
        FAIL(ERR_UNAVAILABLE,
             "%s is empty, expected the coordinator's address: start it with "
             "unlearnctl up %s",
             path, dir);
    }
    TRY_AS(address_get(line, address_out), "%s", path);
    return OK;
}

static enum err read_keys(const struct unlearn *client, struct link_security *security_out)
{
    char own[PATH_BYTES_MAX], server[PATH_BYTES_MAX];
    key_paths(client, own, server);
    enum err err = curvekey_read(own, &security_out->own);
    if (err == OK) {
        err = curvekey_read_public(server, security_out->server);
    }
    if (err == ERR_NOT_FOUND && client->dir != NULL) {
        err = err_context(err, "a client of %s needs a key of its own and the server's public key",
                          client->dir);
    }
    return err;
}

// Connects anew, to wherever the coordinator is now. Replies still under way are lost.
static enum err reconnect(struct unlearn *client)
{
    struct link_security security = {0};
    link_close(client->link);
    client->link = NULL;
    if (client->dir != NULL) {
        TRY(read_address(client->dir, &client->address));
    }
    if (client->address.insecure) {
        TRY_AS(address_check_loopback("the address", client->address.endpoint),
               "no keys are asked for");
    }
    enum err err = client->address.insecure ? OK : read_keys(client, &security);
    err = err == OK ? link_open(client->context, LINK_DEALER,
                                client->address.insecure ? NULL : &security, &client->link)
                    : err;
    curvekey_wipe(&security.own);
    return err == OK ? link_connect(client->link, client->address.endpoint) : err;
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

// Takes the client over.
static enum err open_client(struct unlearn *client, struct unlearn **client_out)
{
    *client_out = NULL;
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

enum err unlearn_open(const char *endpoint, const struct unlearn_keys *keys,
                      struct unlearn **client_out)
{
    struct unlearn *const client = mem_alloc(1, sizeof *client);
    snprintf(client->address.endpoint, sizeof client->address.endpoint, "%s", endpoint);
    client->address.insecure = keys == NULL;
    if (keys != NULL) {
        client->key_file = mem_text(keys->own);
        client->server_file = mem_text(keys->server);
    }
    return open_client(client, client_out);
}

enum err unlearn_open_dir(const char *dir, const char *key, struct unlearn **client_out)
{
    struct unlearn *const client = mem_alloc(1, sizeof *client);
    client->dir = trimmed(dir);
    client->key_file = key == NULL ? NULL : mem_text(key);
    return open_client(client, client_out);
}

enum err call_open_beside(const struct unlearn *first, struct unlearn **client_out)
{
    struct unlearn *const client = mem_alloc(1, sizeof *client);
    client->beside = true;
    client->context = first->context;
    client->address = first->address;
    client->dir = first->dir == NULL ? NULL : mem_text(first->dir);
    client->key_file = first->key_file == NULL ? NULL : mem_text(first->key_file);
    client->server_file = first->server_file == NULL ? NULL : mem_text(first->server_file);
    return open_client(client, client_out);
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
        mem_free(client->key_file);
        mem_free(client->server_file);
        mem_free(client);
    }
}

void unlearn_set_timeout(struct unlearn *client, int timeout_ms)
{
    client->timeout_ms = timeout_ms;
}

const char *unlearn_endpoint(const struct unlearn *client)
{
    return client->address.endpoint;
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
        if (clock_mono_ms() >= until_ms || link_trouble(client->link) == LINK_REFUSED) {
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
                   client->address.endpoint);
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
        if (got && (*reply_out)->retry_ms > 0 &&
            clock_mono_ms() + (*reply_out)->retry_ms < end_ms) {
            // Refused for now, without any effect: also what may be asked only once may be asked again.
            const uint32_t ms = (*reply_out)->retry_ms;
            nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L},
                      NULL); // A signal ends it, too.
            TRY(interrupt_check());
            continue;
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
