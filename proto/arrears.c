// proto/arrears.c: see arrears.h.
#include "proto/arrears.h"

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t above(uint64_t a, uint64_t b)
{
    return a > b ? a - b : 0;
}

void arrears_look(struct arrears *connection, const struct arrears_seen *seen)
{
    // Never more than was received: what a connection before it had under the same descriptor, and was
    // delivered late, is no credit for what this one will send.
    connection->delivered = least(connection->delivered + seen->delivered, seen->received);
    connection->heard = connection->heard || seen->delivered > 0;
    if (seen->delivered > 0 && seen->received - connection->delivered <= ARREARS_FORGIVEN) {
        connection->delivered = seen->received;
    }
    connection->debt += (uint64_t)seen->junk * ARREARS_JUNK_BYTES;
    connection->waiting =
        above(seen->received - connection->delivered, seen->queued) + connection->debt;

    connection->handed += seen->handed;
    if (seen->acknowledged > connection->handed + connection->forgone) {
        connection->forgone = seen->acknowledged - connection->handed;
    }
    connection->unread = connection->handed + connection->forgone - seen->acknowledged;
}

// The one with most of what `amount` tells, of strangers alone or of all.
static uint32_t deepest(const struct arrears *connections, uint32_t count, bool strangers,
                        uint64_t (*amount)(const struct arrears *))
{
    uint32_t most = count;
    for (uint32_t i = 0; i < count; i++) {
        if (!connections[i].cut && (!strangers || !connections[i].heard) &&
            (most == count || amount(&connections[i]) > amount(&connections[most]))) {
            most = i;
        }
    }
    return most;
}

static uint64_t waiting(const struct arrears *connection)
{
    return connection->waiting;
}

static uint64_t unread(const struct arrears *connection)
{
    return connection->unread;
}

static uint32_t superfluous(const struct arrears *connections, uint32_t count)
{
    uint32_t silent = count, newest = count;
    for (uint32_t i = 0; i < count; i++) {
        const struct arrears *const one = &connections[i];
        if (one->cut) {
            continue;
        }
        if (!one->heard && (silent == count || one->order < connections[silent].order)) {
            silent = i;
        }
        if (newest == count || one->order > connections[newest].order) {
            newest = i;
        }
    }
    return silent < count ? silent : newest;
}

enum arrears_reason arrears_judge(const struct arrears *connections, uint32_t count,
                                  const struct arrears_limits *limits, uint32_t *which_out)
{
    uint64_t waiting_all = 0, waiting_strangers = 0, unread_all = 0;
    uint32_t alive = 0;
    for (uint32_t i = 0; i < count; i++) {
        const struct arrears *const one = &connections[i];
        *which_out = i;
        if (one->cut) {
            continue;
        }
        if (one->waiting > limits->waiting) {
            return ARREARS_WAITING;
        }
        if (one->unread > limits->unread) {
            return ARREARS_UNREAD;
        }
        alive++;
        waiting_all += one->waiting;
        waiting_strangers += one->heard ? 0 : one->waiting;
        unread_all += one->unread;
    }
    if (waiting_strangers > limits->waiting_strangers) {
        *which_out = deepest(connections, count, true, waiting);
        return ARREARS_WAITING;
    }
    if (waiting_all > limits->waiting_all) {
        *which_out = deepest(connections, count, false, waiting);
        return ARREARS_WAITING;
    }
    if (unread_all > limits->unread_all) {
        *which_out = deepest(connections, count, false, unread);
        return ARREARS_UNREAD;
    }
    if (alive > limits->connections) {
        *which_out = superfluous(connections, count);
        return ARREARS_CONNECTIONS;
    }
    return ARREARS_NONE;
}
