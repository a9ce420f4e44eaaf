// client/call.h: one request and its reply; what the functions of unlearn.h stand on.
//
// Lifetime, threads and errors as in unlearn.h.
#pragma once

#include "base/bytes.h"
#include "base/limits.h"
#include "client/unlearn.h"
#include "proto/address.h"
#include "proto/link.h"
#include "proto/wire.h"

struct unlearn {
    struct link_context *context;
    bool beside; // The context is another client's.
    struct link *link;
    char *dir;                    // Owned; NULL: opened by endpoint.
    char *key_file, *server_file; // Owned; NULL: by `dir`; neither there, nor `dir`: without keys.
    struct address address;
    int timeout_ms;
    uint64_t last_id;        // Of the requests sent so far.
    struct buf frame;        // The request being sent.
    struct wire_arena arena; // Holds the last reply.
    struct span raw;         // Raw frame of the last reply; borrowed from the link.
    struct buf values;       // Numbers of the last prediction, and what its answers say together.
    Unlearn__Prediction prediction;
};

// Another connection to where `first` is connected, carried by the same threads of ZeroMQ: for many of one
// thread. `first` is closed after it.
MUST_USE enum err call_open_beside(const struct unlearn *first, struct unlearn **client_out);

// A request with its body; BODY and KIND are the endings of the generated names.
#define CALL_REQUEST(BODY, field, message)                                                         \
    {                                                                                              \
        .base = PROTOBUF_C_MESSAGE_INIT(&unlearn__request__descriptor),                            \
        .body_case = UNLEARN__REQUEST__BODY_##BODY, .field = (message)                             \
    }
#define CALL_ANSWER(KIND) UNLEARN__REPLY__BODY_##KIND

// Whether the same request may be sent again when no reply comes.
enum call_repeat { CALL_ONCE, CALL_AGAIN };

// Sends `request` and waits for its reply, whose body must be of `kind`.
MUST_USE enum err call(struct unlearn *client, Unlearn__Request *request, struct span raw,
                       enum call_repeat repeat, Unlearn__Reply__BodyCase kind,
                       const Unlearn__Reply **reply_out);

// The halves of it, for requests of which several are under way. call_send numbers the request:
// the number is client->last_id. call_receive gives the next reply to any request, good or not;
// ERR_UNAVAILABLE: none came in time.
MUST_USE enum err call_send(struct unlearn *client, Unlearn__Request *request, struct span raw);
MUST_USE enum err call_receive(struct unlearn *client, const Unlearn__Reply **reply_out);

// The error that a reply stands for; OK when its body is of `kind`.
MUST_USE enum err call_status(const Unlearn__Reply *reply, Unlearn__Reply__BodyCase kind);

// Requests under way by credit: at most LIMIT_CREDIT are unanswered. {.kind = CALL_ANSWER(...)} is
// ready; while it is, the client takes no other call.
struct call_window {
    Unlearn__Reply__BodyCase kind; // Of each good answer.
    uint64_t sent, answered;
    uint64_t ids[LIMIT_CREDIT]; // Request numbers of the unanswered ones; 0: free.
};
// Waits for an answer first where all credit is used; its error may be that of an earlier request.
MUST_USE enum err call_window_send(struct unlearn *client, struct call_window *window,
                                   Unlearn__Request *request, struct span raw);
MUST_USE enum err call_window_finish(struct unlearn *client, struct call_window *window);
// Sends a last request whose answer nobody waits for, after an error: the error's text stays.
void call_farewell(struct unlearn *client, Unlearn__Request *request);
