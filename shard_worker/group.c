// shard_worker/group.c: see group.h. Beside ranks.c the only file that includes mpi.h.
//
// Nothing is awaited by MPI_Wait and nothing is summed by MPI: floats travel as they are, in pieces
// through buffers of our own. A request that has to be given up is cancelled and, where MPI is not
// done with it at once, buried together with its buffer until it is: MPI may still write there.
#include "shard_worker/group.h"

#include <mpi.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/mem.h"
#include "shard_worker/ranks.h"

enum {
    MEMBERS_MAX = LIMIT_GRADIENT_CHUNKS,
    PIECE_VALUES = 64 * 1024, // float32 of one message: 256 KiB.
    WINDOW = 4,               // Pieces under way in each direction.
    STEP_TAG = 1,
    TAG_VALUES = 1 << 30,  // Tags made from lease numbers; Open MPI allows up to 2^31 - 1.
    LOOK_MS = 2,           // Between looks at the coordinator while waiting.
    SPIN_MS = 10,          // A wait that lasts longer sleeps between looks,
    SLEEP_NS = 200 * 1000, // so long.
    QUIET_MS = 2000,       // After a stage MPI gets a push now and then for so long.
    KEPT_MAX = 64,         // Communicators; a fleet that uses more sets of ranks makes some anew.
    GRAVES_MAX = 64,       // Of WINDOW pieces each: 64 MiB.
    ABANDONED_MAX = 1024,  // Communicators; Open MPI has 65,536 numbers for them in all.
};

struct kept { // A communicator, named by the lease that it was made for.
    MPI_Comm comm;
    uint64_t made_by;
    uint32_t count;
    uint32_t ranks[MEMBERS_MAX];
};

struct lane {      // Pieces under way in one direction; piece i is in slot i % WINDOW.
    float *buffer; // [WINDOW][PIECE_VALUES]
    MPI_Request requests[WINDOW];
    uint64_t posted, done, pieces;
};

struct ready { // What members tell each other before they start.
    uint64_t lease;
    uint64_t made_by; // Of the communicator that the sender has kept for these ranks; 0: none.
};

struct roll_call { // One exchange of ready messages.
    struct ready mine, theirs[MEMBERS_MAX];
    MPI_Request requests[2 * MEMBERS_MAX];
    uint32_t request_count;
};

struct grave {
    void *memory; // Where MPI may still read or write for these requests.
    MPI_Request requests[2 * MEMBERS_MAX];
    uint32_t request_count;
};

static MPI_Comm base = MPI_COMM_NULL; // For ready messages, and to make communicators from.
static struct kept *kept[KEPT_MAX];
static uint32_t kept_count;
static struct kept *current; // Of the group that is joined, in `kept`.
static struct lane sending, receiving;
static struct grave *graves[GRAVES_MAX];
static uint32_t grave_count;
static uint32_t abandoned;
static int64_t quiet_until_ms;
static const char *failpoints; // Directory, or NULL.

static enum err refused(const char *what, int code)
{
    char words[MPI_MAX_ERROR_STRING + 1] = "";
    int bytes = 0;
    if (MPI_Error_string(code, words, &bytes) != MPI_SUCCESS) {
        snprintf(words, sizeof words, "error %d", code);
    }
    FAIL(ERR_IO, "MPI: %s: %s", what, words);
}

// For tests: see worker.c's help.
static void failpoint(const char *point)
{
    char path[4096];
    if (failpoints == NULL) {
        return;
    }
    snprintf(path, sizeof path, "%s/%s-%u", failpoints, point, ranks_index());
    if (unlink(path) == 0) {
        log_info("failpoint", "point=%s", point);
        kill(getpid(), SIGKILL);
    }
}

// --- Waiting

struct wait {
    const struct group_waiter *waiter;
    int64_t moved_ms, looked_ms;
    bool told; // To give up.
    int64_t told_ms;
};

static struct wait wait_begin(const struct group_waiter *waiter)
{
    const int64_t now_ms = clock_mono_ms();
    return (struct wait){.waiter = waiter, .moved_ms = now_ms, .looked_ms = now_ms};
}

// Between two tests that found nothing or something: looks at the coordinator when it is time to, and
// makes room for others on the processor when nothing has moved for a while. Returns the time for
// which nothing has moved.
static int64_t wait_turn(struct wait *wait, bool moved)
{
    const int64_t now_ms = clock_mono_ms();
    if (moved) {
        wait->moved_ms = now_ms;
    }
    if (now_ms - wait->looked_ms >= LOOK_MS && !wait->told) {
        wait->looked_ms = now_ms;
        wait->told = !wait->waiter->go_on(wait->waiter->context);
        wait->told_ms = now_ms;
    }
    const int64_t still_ms = now_ms - wait->moved_ms;
    if (still_ms > SPIN_MS) {
        nanosleep(&(struct timespec){.tv_nsec = SLEEP_NS}, NULL);
    }
    return still_ms;
}

// --- What has to be given up

static noreturn void end_rank(const char *why)
{
    // Without a goodbye: the coordinator misses this rank and has the fleet started anew.
    log_error("rank_ends", "reason=\"%s\"", why);
    ranks_leave(EXIT_FAILURE);
}

static uint32_t count_open(const MPI_Request *requests, uint32_t count)
{
    uint32_t open = 0;
    for (uint32_t i = 0; i < count; i++) {
        open += requests[i] != MPI_REQUEST_NULL;
    }
    return open;
}

static void test_all(MPI_Request *requests, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        int done = 0;
        if (requests[i] != MPI_REQUEST_NULL &&
            MPI_Test(&requests[i], &done, MPI_STATUS_IGNORE) != MPI_SUCCESS) {
            requests[i] = MPI_REQUEST_NULL; // Ended, by an error.
        }
    }
}

static void tend_graves(void)
{
    for (uint32_t i = 0; i < grave_count;) {
        struct grave *const grave = graves[i];
        test_all(grave->requests, grave->request_count);
        if (count_open(grave->requests, grave->request_count) == 0) {
            mem_free(grave->memory);
            mem_free(grave);
            graves[i] = graves[--grave_count];
        } else {
            i++;
        }
    }
}

// Takes over memory whose requests may still be open; frees it when they are not.
static void bury(void *memory, const MPI_Request *requests, uint32_t count)
{
    struct grave *const grave = mem_alloc(1, sizeof *grave);
    CHECK(count <= 2 * MEMBERS_MAX);
    grave->memory = memory;
    grave->request_count = count;
    for (uint32_t i = 0; i < count; i++) {
        grave->requests[i] = requests[i];
        if (requests[i] != MPI_REQUEST_NULL) {
            (void)MPI_Cancel(&grave->requests[i]); // Where it cannot be, the test below goes on.
        }
    }
    if (grave_count == GRAVES_MAX) {
        end_rank("too many messages that no other rank takes");
    }
    graves[grave_count++] = grave;
    tend_graves();
}

static void abandon(struct kept *which)
{
    for (uint32_t i = 0; i < kept_count; i++) {
        if (kept[i] == which) {
            // MPI_Comm_free would wait for the other members.
            mem_free(which);
            kept[i] = kept[--kept_count];
            abandoned++;
            return;
        }
    }
}

// --- Joining

static int tag_of(uint64_t lease)
{
    return (int)((lease ^ (lease >> 32) * 0x9E3779B1u) % TAG_VALUES);
}

static struct kept *find_kept(const uint32_t *ranks, uint32_t count)
{
    for (uint32_t i = 0; i < kept_count; i++) {
        if (kept[i]->count == count && memcmp(kept[i]->ranks, ranks, count * sizeof *ranks) == 0) {
            return kept[i];
        }
    }
    return NULL;
}

static enum err post_ready(struct roll_call *call, const uint32_t *ranks, uint32_t count,
                           uint32_t index)
{
    const int tag = tag_of(call->mine.lease);
    for (uint32_t i = 0; i < count; i++) {
        if (i == index) {
            continue;
        }
        const int rank = (int)ranks[i];
        int code = MPI_Irecv(&call->theirs[i], sizeof call->theirs[i], MPI_BYTE, rank, tag, base,
                             &call->requests[call->request_count]);
        if (code == MPI_SUCCESS) {
            call->request_count++;
            code = MPI_Isend(&call->mine, sizeof call->mine, MPI_BYTE, rank, tag, base,
                             &call->requests[call->request_count]);
        }
        if (code != MPI_SUCCESS) {
            return refused("a ready message", code);
        }
        call->request_count++;
    }
    return OK;
}

static enum err await_ready(struct roll_call *call, const struct group_waiter *waiter)
{
    struct wait wait = wait_begin(waiter);
    for (;;) {
        int done = 0;
        const int code =
            MPI_Testall((int)call->request_count, call->requests, &done, MPI_STATUSES_IGNORE);
        if (code != MPI_SUCCESS) {
            return refused("ready messages", code);
        }
        if (done) {
            return OK;
        }
        if (wait_turn(&wait, false) > GROUP_READY_MS) {
            FAIL(ERR_UNAVAILABLE, "the other ranks of a group were not ready within %d s",
                 GROUP_READY_MS / 1000);
        }
        if (wait.told && clock_mono_ms() - wait.told_ms > GROUP_GRACE_MS) {
            FAIL(ERR_CANCELLED, "waiting for the other ranks of a group was stopped");
        }
    }
}

static void on_alarm(int signal)
{
    (void)signal;
    static const char line[] =
        "unlearn-worker: a rank died while a group was made; this one ends\n";
    // The only way out of MPI_Comm_create_group.
    (void)!write(STDERR_FILENO, line, sizeof line - 1);
    _exit(EXIT_FAILURE);
}

static struct kept *create(uint64_t lease, const uint32_t *ranks, uint32_t count)
{
    struct kept *const made = mem_alloc(1, sizeof *made);
    int numbers[MEMBERS_MAX];
    made->made_by = lease;
    made->count = count;
    for (uint32_t i = 0; i < count; i++) {
        made->ranks[i] = ranks[i];
        numbers[i] = (int)ranks[i];
    }
    MPI_Group all = MPI_GROUP_NULL, members = MPI_GROUP_NULL;
    int code = MPI_Comm_group(base, &all);
    code = code != MPI_SUCCESS ? code : MPI_Group_incl(all, (int)count, numbers, &members);
    if (code == MPI_SUCCESS) {
        alarm(GROUP_CREATE_S);
        code = MPI_Comm_create_group(base, members, tag_of(lease), &made->comm);
        alarm(0);
    }
    code = code != MPI_SUCCESS ? code : MPI_Comm_set_errhandler(made->comm, MPI_ERRORS_RETURN);
    if (code != MPI_SUCCESS) { // Open MPI has used up its numbers, or worse.
        (void)refused("a communicator", code);
        end_rank(err_text());
    }
    MPI_Group_free(&members);
    MPI_Group_free(&all);
    if (kept_count == KEPT_MAX) {
        abandon(kept[0]);
    }
    kept[kept_count++] = made;
    return made;
}

// All members see the same messages, so all come to the same choice.
static struct kept *reuse_or_create(const struct roll_call *call, const uint32_t *ranks,
                                    uint32_t count, uint32_t index)
{
    struct kept *const mine = find_kept(ranks, count);
    bool same = mine != NULL;
    for (uint32_t i = 0; i < count; i++) {
        same = same && (i == index || call->theirs[i].made_by == mine->made_by);
    }
    if (same) {
        return mine;
    }
    if (mine != NULL) {
        abandon(mine);
    }
    failpoint("group-create");
    return create(call->mine.lease, ranks, count);
}

static enum err call_roll(struct roll_call *call, const uint32_t *ranks, uint32_t count,
                          uint32_t index, const struct group_waiter *waiter)
{
    TRY(post_ready(call, ranks, count, index));
    TRY(await_ready(call, waiter));
    for (uint32_t i = 0; i < count; i++) {
        if (i != index && call->theirs[i].lease != call->mine.lease) {
            FAIL(ERR_UNAVAILABLE, "rank %u is ready for another lease", ranks[i]);
        }
    }
    return OK;
}

static enum err take_lane(struct lane *lane)
{
    if (lane->buffer == NULL) {
        TRY(mem_try_aligned((size_t)WINDOW * PIECE_VALUES, sizeof *lane->buffer, &lane->buffer));
    }
    for (int i = 0; i < WINDOW; i++) {
        lane->requests[i] = MPI_REQUEST_NULL;
    }
    return OK;
}

static enum err join(uint64_t lease, const uint32_t *ranks, uint32_t count, uint32_t index,
                     const struct group_waiter *waiter)
{
    CHECK(current == NULL && count >= 2 && count <= MEMBERS_MAX && index < count);
    if (abandoned >= ABANDONED_MAX) {
        end_rank("too many stages of groups were cancelled: this rank starts anew");
    }
    TRY(take_lane(&sending));
    TRY(take_lane(&receiving));
    failpoint("group-ready");
    struct roll_call *const call = mem_alloc(1, sizeof *call);
    const struct kept *const before = find_kept(ranks, count);
    call->mine = (struct ready){lease, before == NULL ? 0 : before->made_by};
    const enum err err = call_roll(call, ranks, count, index, waiter);
    if (err == OK) {
        current = reuse_or_create(call, ranks, count, index);
        log_debug("group_joined", "lease=%llu member=%u/%u made_by=%llu", (unsigned long long)lease,
                  index, count, (unsigned long long)current->made_by);
        mem_free(call);
    } else {
        quiet_until_ms = clock_mono_ms() + QUIET_MS;
        bury(call, call->requests, call->request_count);
    }
    return err;
}

// --- Exchanging

static uint64_t piece_values(uint64_t piece, uint64_t count)
{
    const uint64_t left = count - piece * PIECE_VALUES;
    return left < PIECE_VALUES ? left : PIECE_VALUES;
}

static enum err post_pieces(int partner, const float *mine, uint64_t count)
{
    while (receiving.posted < receiving.pieces && receiving.posted - receiving.done < WINDOW) {
        const uint64_t slot = receiving.posted % WINDOW;
        const int code = MPI_Irecv(receiving.buffer + slot * PIECE_VALUES,
                                   (int)piece_values(receiving.posted, count), MPI_FLOAT, partner,
                                   STEP_TAG, current->comm, &receiving.requests[slot]);
        if (code != MPI_SUCCESS) {
            return refused("receiving gradients", code);
        }
        receiving.posted++;
    }
    while (sending.posted < sending.pieces && sending.posted - sending.done < WINDOW) {
        const uint64_t slot = sending.posted % WINDOW;
        const uint64_t values = piece_values(sending.posted, count);
        float *const piece = sending.buffer + slot * PIECE_VALUES;
        CHECK(mine != NULL); // Else there is no piece to send.
        // Synchronous: done when the other has begun to take it. Else a member with nothing to wait for
        // (the last batch may have rows for few of them) would run ahead of the others.
        memcpy(piece, mine + sending.posted * PIECE_VALUES, values * sizeof *piece);
        const int code = MPI_Issend(piece, (int)values, MPI_FLOAT, partner, STEP_TAG, current->comm,
                                    &sending.requests[slot]);
        if (code != MPI_SUCCESS) {
            return refused("sending gradients", code);
        }
        sending.posted++;
    }
    return OK;
}

// Whether the lane's oldest piece has got through.
static enum err test_oldest(struct lane *lane, int *values_out, bool *done_out)
{
    int done = 0;
    MPI_Status status;
    *done_out = false;
    if (lane->done == lane->posted) {
        return OK;
    }
    int code = MPI_Test(&lane->requests[lane->done % WINDOW], &done, &status);
    if (code == MPI_SUCCESS && done && values_out != NULL) {
        code = MPI_Get_count(&status, MPI_FLOAT, values_out);
    }
    if (code != MPI_SUCCESS) {
        return refused("an exchange of gradients", code);
    }
    *done_out = done != 0;
    return OK;
}

static enum err take_pieces(float *theirs_out, uint64_t count, bool *moved_out)
{
    bool sent = false, received = false;
    int values = 0;
    TRY(test_oldest(&sending, NULL, &sent));
    sending.done += sent;
    TRY(test_oldest(&receiving, &values, &received));
    if (received) {
        const uint64_t expected = piece_values(receiving.done, count);
        if ((uint64_t)values != expected) {
            FAIL(ERR_IO, "another rank of the group sent %d values, expected %llu", values,
                 (unsigned long long)expected);
        }
        memcpy(theirs_out + receiving.done * PIECE_VALUES,
               receiving.buffer + receiving.done % WINDOW * PIECE_VALUES,
               expected * sizeof *theirs_out);
        receiving.done++;
    }
    *moved_out = sent || received;
    return OK;
}

static enum err exchange(uint32_t partner, const float *mine, float *theirs_out, uint64_t count,
                         const struct group_waiter *waiter)
{
    CHECK(current != NULL && partner < current->count);
    const uint64_t pieces = (count + PIECE_VALUES - 1) / PIECE_VALUES;
    struct wait wait = wait_begin(waiter);
    sending.posted = sending.done = receiving.posted = receiving.done = 0;
    sending.pieces = mine == NULL ? 0 : pieces;
    receiving.pieces = theirs_out == NULL ? 0 : pieces;
    while (sending.done < sending.pieces || receiving.done < receiving.pieces) {
        bool moved = false;
        TRY(post_pieces((int)partner, mine, count));
        failpoint("group-step");
        TRY(take_pieces(theirs_out, count, &moved));
        if (wait_turn(&wait, moved) > GROUP_SILENCE_MS) {
            FAIL(ERR_UNAVAILABLE, "another rank of the group was silent for %d s",
                 GROUP_SILENCE_MS / 1000);
        }
        if (wait.told) {
            FAIL(ERR_CANCELLED, "an exchange with another rank was stopped");
        }
    }
    return OK;
}

// --- Leaving

static void leave(bool clean)
{
    CHECK(current != NULL);
    quiet_until_ms = clock_mono_ms() + QUIET_MS;
    if (!clean) {
        abandon(current);
        struct lane *const lanes[2] = {&sending, &receiving};
        for (int i = 0; i < 2; i++) {
            bury(lanes[i]->buffer, lanes[i]->requests, WINDOW);
            lanes[i]->buffer = NULL;
        }
    }
    current = NULL;
}

static bool progress(void)
{
    const bool recent = clock_mono_ms() < quiet_until_ms;
    if (recent) {
        int arrived = 0;
        (void)MPI_Iprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, base, &arrived, MPI_STATUS_IGNORE);
    }
    if (grave_count > 0) {
        tend_graves();
    }
    return recent;
}

const struct group_calls group_mpi = {
    .join = join,
    .exchange = exchange,
    .leave = leave,
    .progress = progress,
};

enum err group_start(void)
{
    failpoints = getenv("UNLEARN_FAILPOINTS");
    int code = MPI_Comm_dup(MPI_COMM_WORLD, &base);
    code = code != MPI_SUCCESS ? code : MPI_Comm_set_errhandler(base, MPI_ERRORS_RETURN);
    if (code != MPI_SUCCESS) {
        return refused("communicator of groups", code);
    }
    const struct sigaction watchdog = {.sa_handler = on_alarm};
    sigaction(SIGALRM, &watchdog, NULL);
    return OK;
}
