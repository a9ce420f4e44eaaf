// shard_worker/session.c: see session.h.
#include "shard_worker/session.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "proto/cover.h"
#include "proto/wire.h"
#include "shard_worker/held.h"
#include "shard_worker/inputs.h"
#include "shard_worker/lease.h"

enum {
    OUTBOX_COUNT = 8,         // Reports that wait for a link that takes them.
    WANTED_COUNT = 16,        // Weights asked for and not yet sent; the coordinator asks for 4.
    TURN_MESSAGES = 64,       // Received before beats and signals are looked at again.
    RETRY_MS = 20,            // A link without a connection is tried again after so long.
    BEAT_MS_MIN = 10,         // A coordinator that asks for more or less has a bug; it is
    BEAT_MS_MAX = 10000,      // answered within these bounds.
    BEAT_MS_UNWELCOME = 1000, // Before the coordinator says.
};

// Bases that a rank keeps; ranks of one host each keep their own.
static const uint64_t BASES_BYTES_MAX = (uint64_t)2 << 30;

// Why training stops before its end.
enum stop {
    STOP_NO,
    STOP_CANCELLED, // The coordinator said so, or offered another lease.
    STOP_FORGOTTEN, // Unknown: nobody waits for the result.
    STOP_REFUSED,
    STOP_LEAVING, // A signal came.
    STOP_BROKEN,  // The link failed.
};

struct session {
    struct session_options options;
    struct link *link;
    struct wire_arena arena;
    struct buf frame;
    struct buf raw; // A sealed chunk on its way out.

    bool strange_told; // What listens there is not the coordinator: the log says so.
    bool joined;
    uint64_t worker; // Number given by the coordinator.
    int64_t beat_ms;
    int64_t silence_ms; // Of the coordinator, that is too long.
    int64_t beat_due_ms, hello_due_ms, heard_ms;
    char refusal[WIRE_MESSAGE_BYTES_MAX + 1];

    struct bases bases;  // Kept between leases.
    struct cache cache;  // The same, of what is not public.
    uint64_t stamp;      // Of the last message that let something be held.
    bool held_due;       // What is held has changed.
    uint64_t forget;     // Number of the Forget that is to be answered; 0: none.
    struct lease *lease; // Being fetched, trained or returned; NULL: idle.
    struct lease *next;  // Offered while a stage was trained.
    bool training;       // stage_train is on the stack: `lease` must stay.
    bool returning;      // The digest is told; weights go out as they are asked for.
    enum stop stop;
    int64_t moved_ms; // When the lease's stream last brought something.
    int64_t drained_ms;
    uint64_t samples_done;
    bool group_recent; // Messages of a group that has ended may still need a push.

    struct buf outbox[OUTBOX_COUNT]; // Packed reports, oldest first.
    size_t outbox_count;
    uint32_t wanted[WANTED_COUNT]; // Chunks of the result that the coordinator asked for.
    size_t wanted_count;
};

enum err session_open(struct link_context *context, const struct session_options *options,
                      struct session **session_out)
{
    *session_out = NULL;
    struct link *link = NULL;
    TRY(link_open(context, LINK_DEALER, options->security, &link));
    const enum err err = link_connect(link, options->endpoint);
    if (err != OK) {
        link_close(link);
        return err;
    }
    struct session *const session = mem_alloc(1, sizeof *session);
    session->options = *options;
    session->options.security = NULL;
    session->link = link;
    session->bases.bytes_max = BASES_BYTES_MAX;
    session->cache.bytes_max = options->cache_bytes;
    session->silence_ms = SESSION_SILENCE_MS;
    session->beat_ms = BEAT_MS_UNWELCOME;
    session->heard_ms = clock_mono_ms();
    *session_out = session;
    return OK;
}

// --- Sending

static enum err send(struct session *session, const Unlearn__FromWorker *message, struct span raw)
{
    wire_put(&message->base, &session->frame);
    return link_send(session->link, NULL, buf_span(&session->frame), raw);
}

static Unlearn__FromWorker envelope(Unlearn__FromWorker__BodyCase body)
{
    Unlearn__FromWorker message = UNLEARN__FROM_WORKER__INIT;
    message.version = WIRE_VERSION;
    message.body_case = body;
    return message;
}

// Puts a report where it waits until the link takes it. A full outbox loses its oldest report: its
// lease then ends by the coordinator's deadline.
static void post(struct session *session, const Unlearn__FromWorker *message)
{
    if (session->outbox_count == OUTBOX_COUNT) {
        struct buf oldest = session->outbox[0];
        memmove(session->outbox, session->outbox + 1, (OUTBOX_COUNT - 1) * sizeof oldest);
        session->outbox[OUTBOX_COUNT - 1] = oldest;
        session->outbox_count--;
    }
    wire_put(&message->base, &session->outbox[session->outbox_count++]);
}

static void post_failed(struct session *session, uint64_t lease, bool cancelled, bool retry)
{
    // The reason may quote bytes of the offer and be cut within a character; the wire wants text.
    char reason[WIRE_MESSAGE_BYTES_MAX + 1] = "";
    if (!cancelled) {
        snprintf(reason, sizeof reason, "%s", err_text());
        for (char *at = reason; !text_is_clean(span_text(reason)) && *at != '\0'; at++) {
            if (*at < ' ' || *at > '~') {
                *at = '?';
            }
        }
    }
    Unlearn__StageFailed failed;
    unlearn__stage_failed__init(&failed);
    failed.lease = lease;
    failed.cancelled = cancelled;
    failed.retry = retry;
    failed.reason = reason;
    Unlearn__FromWorker message = envelope(UNLEARN__FROM_WORKER__BODY_FAILED);
    message.failed = &failed;
    post(session, &message);
}

static void post_done(struct session *session, int64_t took_ms)
{
    struct digest digest = lease_digest(session->lease);
    Unlearn__StageDone done = UNLEARN__STAGE_DONE__INIT;
    done.lease = lease_number(session->lease);
    done.digest = wire_bytes(span_of(digest.bytes, sizeof digest.bytes));
    done.samples = lease_samples(session->lease);
    done.seconds = (double)took_ms / 1000;
    Unlearn__FromWorker message = envelope(UNLEARN__FROM_WORKER__BODY_DONE);
    message.done = &done;
    post(session, &message);
}

static enum err send_hello(struct session *session)
{
    const struct session_options *const options = &session->options;
    Unlearn__WorkerHello hello;
    unlearn__worker_hello__init(&hello);
    hello.host = wire_text(options->host);
    hello.pid = options->pid;
    hello.rank = options->rank;
    hello.ranks = options->ranks;
    hello.fleet = wire_bytes(span_of(options->fleet, sizeof options->fleet));
    hello.profile = wire_bytes(span_of(options->profile.bytes, sizeof options->profile.bytes));
    hello.core = wire_text(options->core);
    hello.build = wire_text(options->build);
    hello.cache_bytes = options->cache_bytes;
    Unlearn__FromWorker message = envelope(UNLEARN__FROM_WORKER__BODY_HELLO);
    message.hello = &hello;
    return send(session, &message, span_of(NULL, 0));
}

static enum err send_beat(struct session *session)
{
    Unlearn__WorkerBeat beat = UNLEARN__WORKER_BEAT__INIT;
    if (session->lease != NULL) {
        beat.lease = lease_number(session->lease);
        beat.samples_done = session->samples_done;
    }
    Unlearn__FromWorker message = envelope(UNLEARN__FROM_WORKER__BODY_BEAT);
    message.beat = &beat;
    return send(session, &message, span_of(NULL, 0));
}

static enum err send_outbox(struct session *session)
{
    while (session->outbox_count > 0) {
        TRY(link_send(session->link, NULL, buf_span(&session->outbox[0]), span_of(NULL, 0)));
        struct buf sent = session->outbox[0];
        memmove(session->outbox, session->outbox + 1, (OUTBOX_COUNT - 1) * sizeof sent);
        session->outbox[OUTBOX_COUNT - 1] = sent;
        session->outbox_count--;
    }
    return OK;
}

static enum err send_pulls(struct session *session)
{
    Unlearn__WorkerPull pull = UNLEARN__WORKER_PULL__INIT;
    pull.lease = lease_number(session->lease);
    while (lease_wants(session->lease, &pull.stream, &pull.sequence)) {
        size_t skip_bytes = 0;
        const bool first =
            pull.stream == UNLEARN__STREAM_KIND__STREAM_KIND_RECORDS && pull.sequence == 0;
        const uint8_t *const skips = lease_skips(session->lease, &skip_bytes);
        pull.skip = wire_bytes(span_of(skips, first ? skip_bytes : 0));
        Unlearn__FromWorker message = envelope(UNLEARN__FROM_WORKER__BODY_PULL);
        message.pull = &pull;
        TRY(send(session, &message, span_of(NULL, 0)));
        lease_asked(session->lease);
    }
    return OK;
}

static struct cover cover_of(const struct lease *lease, uint32_t stream, uint32_t sequence)
{
    return (struct cover){lease_number(lease), stream, lease_group(lease)->index, sequence};
}

static enum err send_weights(struct session *session)
{
    while (session->wanted_count > 0) {
        Unlearn__WeightsChunk chunk = UNLEARN__WEIGHTS_CHUNK__INIT;
        chunk.lease = lease_number(session->lease);
        chunk.sequence = session->wanted[0];
        Unlearn__FromWorker message = envelope(UNLEARN__FROM_WORKER__BODY_WEIGHTS);
        message.weights = &chunk;
        const struct cover cover = cover_of(session->lease, COVER_RESULT, chunk.sequence);
        cover_put(lease_stream_key(session->lease), &cover,
                  lease_weights(session->lease, chunk.sequence), &session->raw);
        TRY(send(session, &message, buf_span(&session->raw)));
        session->wanted_count--;
        memmove(session->wanted, session->wanted + 1,
                session->wanted_count * sizeof session->wanted[0]);
    }
    return OK;
}

static enum err send_forgotten(struct session *session)
{
    Unlearn__Forgotten forgotten = UNLEARN__FORGOTTEN__INIT;
    forgotten.number = session->forget;
    Unlearn__FromWorker message = envelope(UNLEARN__FROM_WORKER__BODY_FORGOTTEN);
    message.forgotten = &forgotten;
    return send(session, &message, span_of(NULL, 0));
}

// What is held, and that something is not any more: not while a stage that was stopped still ends.
static enum err send_copies(struct session *session)
{
    if (session->forget != 0 && !(session->training && session->stop != STOP_NO)) {
        TRY(send_forgotten(session));
        session->forget = 0;
    }
    if (session->held_due) {
        const struct lease *const leases[HELD_LEASES] = {session->lease, session->next};
        held_put(&session->cache, leases, session->stamp, &session->frame);
        TRY(link_send(session->link, NULL, buf_span(&session->frame), span_of(NULL, 0)));
        session->held_due = false;
    }
    return OK;
}

// Sends a beat or a hello where it is due. Beats are sent twice as often as asked for, since one may
// be lost. While a stage is trained, even one that shall end, something is held: no hello.
static enum err send_signs_of_life(struct session *session, int64_t now_ms)
{
    if (!session->joined && !session->training && now_ms >= session->hello_due_ms) {
        TRY(send_hello(session));
        session->hello_due_ms = now_ms + SESSION_HELLO_MS;
    }
    if (session->joined && now_ms >= session->beat_due_ms) {
        TRY(send_beat(session));
        session->beat_due_ms = now_ms + session->beat_ms / 2;
    }
    return OK;
}

static enum err send_all(struct session *session)
{
    TRY(send_signs_of_life(session, clock_mono_ms()));
    if (session->joined) {
        TRY(send_outbox(session));
        TRY(send_copies(session));
        if (session->lease != NULL && session->returning) {
            TRY(send_weights(session));
        } else if (session->lease != NULL && !session->training) {
            TRY(send_pulls(session));
        }
    }
    return OK;
}

// Sends what the link takes now. *unsent_out: something is left, for want of a connection or room.
static enum err flush(struct session *session, bool *unsent_out)
{
    const enum err err = send_all(session);
    *unsent_out = err == ERR_UNAVAILABLE;
    return *unsent_out ? OK : err;
}

// --- Leases

static void drop_lease(struct session *session)
{
    CHECK(!session->training);
    session->held_due = session->held_due || session->lease != NULL;
    lease_free(session->lease);
    session->lease = NULL;
    session->returning = false;
    session->wanted_count = 0;
    session->samples_done = 0;
}

static void fail_lease(struct session *session, bool retry)
{
    log_error("stage_failed", "lease=%" PRIu64 " model=%s component=%s retry=%d reason=\"%s\"",
              lease_number(session->lease), lease_model(session->lease),
              lease_component(session->lease), retry, err_text());
    post_failed(session, lease_number(session->lease), false, retry);
    drop_lease(session);
}

static void cancel_lease(struct session *session)
{
    log_info("stage_cancelled", "lease=%" PRIu64 " model=%s component=%s samples_done=%" PRIu64,
             lease_number(session->lease), lease_model(session->lease),
             lease_component(session->lease), session->samples_done);
    post_failed(session, lease_number(session->lease), true, true);
    drop_lease(session);
}

static void start_lease(struct session *session, struct lease *lease)
{
    session->lease = lease;
    session->samples_done = 0;
    session->returning = false;
    session->wanted_count = 0;
    session->moved_ms = clock_mono_ms();
    session->beat_due_ms = session->moved_ms; // The deadline runs from now.
    log_info("lease_started", "lease=%" PRIu64 " model=%s component=%s records=%" PRIu64,
             lease_number(lease), lease_model(lease), lease_component(lease), lease_records(lease));
}

// --- Receiving. These may run between the steps of a stage: `lease` is then only marked.

// Whatever is held is nobody's any more: it goes, and no report is due.
static void forget_all(struct session *session)
{
    session->outbox_count = 0;
    session->forget = 0;
    cache_clear(&session->cache);
    lease_free(session->next);
    session->next = NULL;
    if (session->training) {
        session->stop = STOP_FORGOTTEN;
    } else {
        drop_lease(session);
    }
}

static void take_welcome(struct session *session, const Unlearn__Welcome *welcome)
{
    const int64_t beat_ms = welcome->beat_ms;
    session->beat_ms = beat_ms < BEAT_MS_MIN   ? BEAT_MS_MIN
                       : beat_ms > BEAT_MS_MAX ? BEAT_MS_MAX
                                               : beat_ms;
    if (!session->joined || session->worker != welcome->worker) {
        log_info("joined", "worker=%" PRIu64 " core=%s beat_ms=%" PRId64, welcome->worker,
                 session->options.core, session->beat_ms);
        session->beat_due_ms = clock_mono_ms();
    }
    session->silence_ms = welcome->silence_ms > 0 ? welcome->silence_ms : SESSION_SILENCE_MS;
    session->joined = true;
    session->worker = welcome->worker;
    // To the coordinator a hello is a new beginning, also where a lease crossed it on the way.
    forget_all(session);
}

static enum err begin_lease(struct session *session, const Unlearn__Lease *offer,
                            struct lease **lease_out)
{
    TRY(lease_begin(offer, &session->bases, &session->cache, lease_out));
    const struct lease_group *const group = lease_group(*lease_out);
    const bool able = group->count == 1 || session->options.groups != NULL;
    if (able && (group->count == 1 || (group->ranks[group->index] == session->options.rank &&
                                       group->ranks[group->count - 1] < session->options.ranks))) {
        return OK;
    }
    lease_free(*lease_out);
    *lease_out = NULL;
    if (!able) {
        FAIL(ERR_INVALID, "a lease for a group, but this rank trains alone");
    }
    FAIL(ERR_INVALID, "a lease for a group that is not one of rank %u of %u", session->options.rank,
         session->options.ranks);
}

static void take_offer(struct session *session, const Unlearn__Lease *offer)
{
    if (!session->joined || offer->lease == 0) {
        log_error("lease_ignored", "reason=\"%s\"",
                  offer->lease == 0 ? "a lease without a number" : "a lease before the welcome");
        return;
    }
    struct lease *lease = NULL;
    session->stamp = offer->lease;
    const enum err err = begin_lease(session, offer, &lease);
    if (err != OK) {
        log_error("lease_refused", "lease=%" PRIu64 " reason=\"%s\"", offer->lease, err_text());
        session->held_due = true;
        post_failed(session, offer->lease, false, err == ERR_LIMIT);
    }
    // Whatever was held is no longer wanted: the coordinator offers only to idle workers.
    if (session->training) {
        session->stop = STOP_CANCELLED;
        lease_free(session->next);
        session->next = lease;
        return;
    }
    if (session->lease != NULL && !session->returning) {
        cancel_lease(session);
    }
    drop_lease(session);
    if (lease != NULL) {
        start_lease(session, lease);
    }
}

static void take_cancel(struct session *session, const Unlearn__Cancel *cancel)
{
    if (session->next != NULL && lease_number(session->next) == cancel->lease) {
        post_failed(session, cancel->lease, true, true);
        lease_free(session->next);
        session->next = NULL;
    } else if (session->lease != NULL && lease_number(session->lease) == cancel->lease) {
        if (session->training) {
            session->stop = STOP_CANCELLED;
        } else if (session->returning) {
            log_debug("result_released", "lease=%" PRIu64, cancel->lease);
            if (cancel->instance != 0) {
                session->stamp = cancel->stamp;
                lease_keep_result(session->lease, cancel->instance);
            }
            drop_lease(session);
        } else {
            cancel_lease(session);
        }
    }
}

static void begin_anew(struct session *session, const char *why)
{
    if (session->joined) { // Each message sent meanwhile is answered so: one hello is enough.
        log_info(why, "worker=%" PRIu64 " was_training=%d", session->worker, session->training);
        session->joined = false;
        session->hello_due_ms = 0;
    }
    forget_all(session);
}

// A coordinator that hears nothing of this worker counts it as gone, and what it holds with it.
static void check_silence(struct session *session)
{
    if (session->joined && clock_mono_ms() - session->heard_ms >= session->silence_ms) {
        begin_anew(session, "coordinator_silent");
    }
}

static bool stands_on(const struct lease *lease, const Unlearn__Forget *forget)
{
    bool found = lease != NULL && forget->all;
    for (size_t i = 0; lease != NULL && !found && i < forget->n_copies; i++) {
        const Unlearn__Copy *const copy = forget->copies[i];
        const struct kept_name name = {copy->model, copy->shard, copy->slice,
                                       .instance = copy->instance};
        found = inputs_stand_on(lease_inputs(lease), &name);
    }
    return found;
}

// A lease that stands on it was cancelled before. Were it not, the answer would be a lie.
static void forget_in_leases(struct session *session, const Unlearn__Forget *forget)
{
    if (stands_on(session->next, forget)) {
        lease_free(session->next);
        session->next = NULL;
    }
    if (stands_on(session->lease, forget)) {
        if (!session->training) {
            cancel_lease(session);
        } else if (session->stop == STOP_NO) {
            session->stop = STOP_CANCELLED;
        }
    }
}

static void take_forget(struct session *session, const Unlearn__Forget *forget)
{
    if (forget->all) {
        cache_clear(&session->cache);
    }
    for (size_t i = 0; i < forget->n_copies; i++) {
        const Unlearn__Copy *const copy = forget->copies[i];
        const struct kept_name name = {copy->model, copy->shard, copy->slice,
                                       .instance = copy->instance};
        cache_forget(&session->cache, &name);
    }
    forget_in_leases(session, forget);
    session->forget = forget->number;
    session->held_due = true;
}

static enum err open_chunk(struct session *session, const Unlearn__Chunk *chunk, struct span raw)
{
    const struct cover cover = cover_of(session->lease, (uint32_t)chunk->stream, chunk->sequence);
    struct buf plain = {0};
    enum err err = raw.bytes < SEAL_TAG_BYTES
                       ? err_raise(ERR_CORRUPT, "chunk %u of stream %u of lease %llu is not sealed",
                                   cover.sequence, cover.stream, (unsigned long long)cover.lease)
                       : cover_get(lease_stream_key(session->lease), &cover, raw,
                                   buf_room(&plain, raw.bytes - SEAL_TAG_BYTES));
    err = err == OK ? lease_take(session->lease, chunk, buf_span(&plain)) : err;
    buf_deinit(&plain);
    return err;
}

static void take_chunk(struct session *session, const Unlearn__Chunk *chunk, struct span raw)
{
    const bool mine = session->lease != NULL && lease_number(session->lease) == chunk->lease &&
                      !session->training && !session->returning;
    if (mine) { // Else the answer to a pull of a lease that has ended, or past the end of a stream.
        session->moved_ms = clock_mono_ms();
        const enum err err = open_chunk(session, chunk, raw);
        if (err != OK) {
            fail_lease(session, true);
        }
    }
}

static void take_weights_pull(struct session *session, const Unlearn__WeightsPull *pull)
{
    const bool mine =
        session->lease != NULL && lease_number(session->lease) == pull->lease && session->returning;
    if (!mine || session->wanted_count == WANTED_COUNT ||
        lease_weights(session->lease, pull->sequence).bytes == 0) {
        log_error("weights_not_sent", "lease=%" PRIu64 " sequence=%u reason=\"%s\"", pull->lease,
                  pull->sequence,
                  !mine                                   ? "no such result is held"
                  : session->wanted_count == WANTED_COUNT ? "too many chunks were asked for"
                                                          : "there is no such chunk");
        return;
    }
    session->wanted[session->wanted_count++] = pull->sequence;
}

static void take_refused(struct session *session, const Unlearn__Refused *refused)
{
    session->stop = STOP_REFUSED;
    snprintf(session->refusal, sizeof session->refusal, "%s", refused->reason);
}

static void take_message(struct session *session, const struct link_message *message)
{
    const Unlearn__ToWorker *to_worker = NULL;
    if (wire_get_to_worker(&session->arena, message->envelope, &to_worker) != OK) {
        log_error("message_dropped", "reason=\"%s\"", err_text());
        return;
    }
    session->heard_ms = clock_mono_ms();
    session->strange_told = false;
    switch (to_worker->body_case) {
    case UNLEARN__TO_WORKER__BODY_WELCOME:
        take_welcome(session, to_worker->welcome);
        break;
    case UNLEARN__TO_WORKER__BODY_REFUSED:
        take_refused(session, to_worker->refused);
        break;
    case UNLEARN__TO_WORKER__BODY_LEASE:
        take_offer(session, to_worker->lease);
        break;
    case UNLEARN__TO_WORKER__BODY_CANCEL:
        take_cancel(session, to_worker->cancel);
        break;
    case UNLEARN__TO_WORKER__BODY_CHUNK:
        take_chunk(session, to_worker->chunk, message->raw);
        break;
    case UNLEARN__TO_WORKER__BODY_WEIGHTS_PULL:
        take_weights_pull(session, to_worker->weights_pull);
        break;
    case UNLEARN__TO_WORKER__BODY_UNKNOWN:
        begin_anew(session, "forgotten");
        break;
    case UNLEARN__TO_WORKER__BODY_FORGET:
        take_forget(session, to_worker->forget);
        break;
    case UNLEARN__TO_WORKER__BODY_ALIVE: // It was heard: that is all.
        break;
    case UNLEARN__TO_WORKER__BODY_FLEET_ORDER: // For fleets.
    case UNLEARN__TO_WORKER__BODY__NOT_SET:
    case _UNLEARN__TO_WORKER__BODY__CASE_IS_INT_SIZE:
    default:
        log_error("message_dropped", "reason=\"body %d is not for a worker\"",
                  (int)to_worker->body_case);
    }
    wire_arena_clear(&session->arena); // A lease's key may be in it.
}

// Why there is no connection, where that is known.
static enum err check_trouble(struct session *session)
{
    const enum link_trouble trouble = link_trouble(session->link);
    if (trouble == LINK_REFUSED) {
        FAIL(ERR_DENIED, "the coordinator does not know this worker's key");
    }
    if (trouble == LINK_STRANGE && !session->strange_told) {
        log_error(
            "coordinator_strange",
            "endpoint=%s reason=\"what listens there has not shown that it holds the server's "
            "key: the key was changed, it hangs, or it is another program\"",
            session->options.endpoint);
        session->strange_told = true;
    }
    return OK;
}

// Takes what is waiting and sends what becomes due by it.
static enum err converse(struct session *session, bool *unsent_out)
{
    session->group_recent = session->options.groups != NULL && session->options.groups->progress();
    for (int i = 0; i < TURN_MESSAGES && session->stop == STOP_NO; i++) {
        struct link_message message;
        const enum err err = link_receive(session->link, &message);
        if (err == ERR_UNAVAILABLE) {
            break;
        }
        if (err != OK) {
            return err;
        }
        take_message(session, &message);
    }
    check_silence(session);
    TRY(check_trouble(session));
    return flush(session, unsent_out);
}

// --- Training

static bool asked_to_leave(const struct session *session)
{
    return session->options.stop != NULL && *session->options.stop != 0;
}

// While a stage is trained or other ranks are waited for (struct group_waiter).
static bool go_on(void *context)
{
    struct session *const session = context;
    const int64_t now_ms = clock_mono_ms();
    if (session->stop == STOP_NO && now_ms - session->drained_ms >= SESSION_DRAIN_MS) {
        session->drained_ms = now_ms;
        bool unsent = false;
        if (asked_to_leave(session)) {
            session->stop = STOP_LEAVING;
        } else if (converse(session, &unsent) != OK) {
            log_error("link_failed", "reason=\"%s\"", err_text());
            session->stop = STOP_BROKEN;
        }
    }
    return session->stop == STOP_NO;
}

// Between the steps of a stage (struct stage_watch).
static bool step(void *context, uint64_t done, uint64_t total)
{
    (void)total;
    struct session *const session = context;
    session->samples_done = done;
    return go_on(session);
}

// struct stage_peers.
static enum err exchange(void *context, uint32_t partner, const float *mine, float *theirs_out,
                         uint64_t count)
{
    struct session *const session = context;
    const struct group_waiter waiter = {go_on, session};
    return session->options.groups->exchange(partner, mine, theirs_out, count, &waiter);
}

static enum err train_in_group(struct session *session, const struct lease_group *group)
{
    const struct stage_watch watch = {step, session};
    const struct stage_peers peers = {group->count, group->index, exchange, session};
    const struct group_waiter waiter = {go_on, session};
    const struct group_calls *const groups = session->options.groups;
    TRY(groups->join(lease_number(session->lease), group->ranks, group->count, group->index,
                     &waiter));
    const enum err err = lease_train(session->lease, &watch, &peers);
    groups->leave(err == OK);
    return err;
}

static enum err train_stage(struct session *session)
{
    const struct stage_watch watch = {step, session};
    const struct lease_group *const group = lease_group(session->lease);
    return group->count > 1 ? train_in_group(session, group)
                            : lease_train(session->lease, &watch, NULL);
}

static void finish_stage(struct session *session, int64_t took_ms)
{
    const uint64_t samples = lease_samples(session->lease);
    const struct lease_group *const group = lease_group(session->lease);
    session->samples_done = samples;
    log_info("stage_trained",
             "lease=%" PRIu64 " model=%s component=%s samples=%" PRIu64 " ms=%" PRId64
             " samples_per_s=%.0f member=%u/%u",
             lease_number(session->lease), lease_model(session->lease),
             lease_component(session->lease), samples, took_ms,
             (double)samples * 1000 / (double)(took_ms > 0 ? took_ms : 1), group->index,
             group->count);
    post_done(session, took_ms);
    session->held_due = true;
    if (lease_compare_only(session->lease) || group->index > 0) {
        drop_lease(session);
    } else {
        session->returning = true;
    }
}

static void train(struct session *session)
{
    const int64_t start_ms = clock_mono_ms();
    session->training = true;
    const enum err err = train_stage(session);
    session->training = false;
    if (session->stop == STOP_CANCELLED) {
        session->stop = STOP_NO;
        cancel_lease(session);
    } else if (session->stop == STOP_FORGOTTEN) {
        session->stop = STOP_NO;
        drop_lease(session);
    } else if (session->stop != STOP_NO) {
        drop_lease(session); // The session ends; its WorkerBye frees the lease.
    } else if (err != OK) {
        // The stage itself fails again whoever trains it; memory and other ranks may do better.
        fail_lease(session, err == ERR_LIMIT || err == ERR_UNAVAILABLE || err == ERR_IO);
    } else {
        finish_stage(session, clock_mono_ms() - start_ms);
    }
    struct lease *const next = session->next;
    session->next = NULL;
    if (next != NULL) {
        start_lease(session, next);
    }
}

static void check_stall(struct session *session)
{
    const bool fetching =
        session->lease != NULL && !session->returning && !lease_complete(session->lease);
    if (fetching && clock_mono_ms() - session->moved_ms >= SESSION_STALL_MS) {
        (void)err_raise(ERR_UNAVAILABLE, "the coordinator sent nothing of component %s for %d s",
                        lease_component(session->lease), SESSION_STALL_MS / 1000);
        fail_lease(session, true);
    }
}

// --- The turn

static int time_to_wait(const struct session *session, bool unsent, int timeout_ms)
{
    const int64_t due_ms = session->joined ? session->beat_due_ms : session->hello_due_ms;
    int64_t wait_ms = due_ms - clock_mono_ms();
    wait_ms = unsent ? RETRY_MS : wait_ms;
    wait_ms = session->group_recent && wait_ms > SESSION_DRAIN_MS ? SESSION_DRAIN_MS : wait_ms;
    wait_ms = wait_ms < 0 ? 0 : wait_ms;
    return wait_ms < timeout_ms ? (int)wait_ms : timeout_ms;
}

static enum err verdict(struct session *session)
{
    if (session->stop == STOP_REFUSED) {
        FAIL(ERR_DENIED, "the coordinator refuses this worker: %s", session->refusal);
    }
    if (session->stop == STOP_BROKEN) {
        FAIL(ERR_IO, "the link to the coordinator failed while a stage was trained");
    }
    if (session->stop == STOP_LEAVING || asked_to_leave(session)) {
        FAIL(ERR_CANCELLED, "the worker was asked to leave");
    }
    return OK;
}

enum err session_turn(struct session *session, int timeout_ms)
{
    bool unsent = false;
    bool ready = false;
    TRY(verdict(session));
    TRY(flush(session, &unsent));
    TRY(link_wait(&session->link, &ready, 1, NULL, 0, time_to_wait(session, unsent, timeout_ms)));
    TRY(converse(session, &unsent));
    check_stall(session);
    if (session->stop == STOP_NO && session->lease != NULL && !session->returning &&
        lease_complete(session->lease)) {
        train(session);
        TRY(flush(session, &unsent));
    }
    return verdict(session);
}

void session_close(struct session *session)
{
    if (session == NULL) {
        return;
    }
    if (session->joined && session->stop != STOP_REFUSED) {
        Unlearn__WorkerBye bye = UNLEARN__WORKER_BYE__INIT;
        Unlearn__FromWorker message = envelope(UNLEARN__FROM_WORKER__BODY_BYE);
        message.bye = &bye;
        // When it is lost the coordinator learns by the missing beats: nothing more can be done.
        (void)!send(session, &message, span_of(NULL, 0));
    }
    lease_free(session->next);
    drop_lease(session);
    bases_deinit(&session->bases);
    cache_clear(&session->cache);
    for (size_t i = 0; i < OUTBOX_COUNT; i++) {
        buf_deinit(&session->outbox[i]);
    }
    buf_deinit(&session->frame);
    buf_deinit(&session->raw);
    wire_arena_deinit(&session->arena);
    link_close(session->link);
    mem_free(session);
}
