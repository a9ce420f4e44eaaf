// proto/watch.c: see watch.h.
//
// Descriptors. ZeroMQ tells the number of the descriptor under which it holds a connection, closes it
// when it likes, and the system gives the number away again. So a connection is known by its cookie,
// which the kernel gives to no other socket, and is cut through a second descriptor that was compared
// with it: that one stays what it is. It has its place from the start, so that cutting works also when no
// descriptor is left.
//
// Of two connections under one number, one after the other, messages of the first that come out late are
// taken for the second's; arrears_look says why that does no harm.
#include "proto/watch.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>
#include <zmq.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/mem.h"

enum {
    LOOK_US = 20000,
    // A look takes some microseconds a connection: with thousands of them it comes less often, so that it
    // takes a fortieth of a processor at most.
    LOOK_SHARE = 40,
    LOG_MS = 1000,             // Between two lines about cuts: who is cut comes again at once.
    BETWEEN_BYTES = 256 << 10, // That may come out of a connection while it is looked at.
    QUEUED_MATTERS = 64 << 10, // Below it, it is not asked how much of it the kernel still has.
    PEER_TEXT_BYTES = 64,
};

// What the link has told, ever, of a descriptor.
struct told {
    _Atomic uint64_t delivered, handed;
    _Atomic uint32_t junk;
};

struct told_before {
    uint64_t delivered, handed;
    uint32_t junk;
};

struct connection {
    int fd;
    uint64_t cookie;
    uint64_t received, acknowledged; // As of the last look.
};

struct watch {
    void *zmq;     // The socket that is watched, and
    void *monitor; // the one that tells of its connections.
    struct arrears_limits limits;
    int stop_fd;
    int null_fd, spare_fd; // See above.
    pthread_t thread;
    struct told *told;          // [LIMIT_DESCRIPTORS]
    struct told_before *before; // The same, at the last look.
    int32_t *places;            // Of each descriptor in the two below; -1: none.
    struct connection *connections;
    struct arrears *arrears;
    uint32_t count, capacity;
    uint64_t accepted;
    int64_t looked_us, look_took_us;
    int64_t logged_ms; // 0: never.
    uint64_t unlogged;
    _Atomic uint32_t told_count;
    _Atomic uint64_t cut[ARREARS_REASONS], waiting, unread;
};

static enum err refused(const char *what)
{
    FAIL(ERR_IO, "ZeroMQ: %s: %s", what, zmq_strerror(zmq_errno()));
}

// ---------------------------------------------------------------- told by the link

// The only thread that writes them.
static void add(_Atomic uint64_t *counter, uint64_t amount)
{
    const uint64_t sum = atomic_load_explicit(counter, memory_order_relaxed) + amount;
    atomic_store_explicit(counter, sum, memory_order_relaxed);
}

static struct told *told_of(struct watch *watch, int fd)
{
    return fd > 0 && fd < LIMIT_DESCRIPTORS ? &watch->told[fd] : NULL;
}

void watch_delivered(struct watch *watch, int fd, uint64_t bytes)
{
    struct told *const told = told_of(watch, fd);
    if (told != NULL) {
        add(&told->delivered, bytes);
    }
}

void watch_junk(struct watch *watch, int fd)
{
    struct told *const told = told_of(watch, fd);
    if (told != NULL) {
        const uint32_t sum = atomic_load_explicit(&told->junk, memory_order_relaxed) + 1;
        atomic_store_explicit(&told->junk, sum, memory_order_relaxed);
    }
}

void watch_handed(struct watch *watch, int fd, uint64_t bytes)
{
    struct told *const told = told_of(watch, fd);
    if (told != NULL) {
        add(&told->handed, bytes);
    }
}

static struct told_before told_now(const struct told *told)
{
    return (struct told_before){
        atomic_load_explicit(&told->delivered, memory_order_acquire),
        atomic_load_explicit(&told->handed, memory_order_acquire),
        atomic_load_explicit(&told->junk, memory_order_acquire),
    };
}

// ---------------------------------------------------------------- asked of the kernel

static bool ask_cookie(int fd, uint64_t *cookie_out)
{
    socklen_t bytes = sizeof *cookie_out;
    return getsockopt(fd, SOL_SOCKET, SO_COOKIE, cookie_out, &bytes) == 0;
}

// False: it is not there any more; ZeroMQ will tell.
static bool look_at(struct watch *watch, uint32_t place)
{
    struct connection *const connection = &watch->connections[place];
    const struct told *const told = &watch->told[connection->fd];
    struct told_before *const before = &watch->before[connection->fd];
    // First what came out, then what went in: the first is part of the second.
    const struct told_before now = told_now(told);
    struct tcp_info info;
    socklen_t bytes = sizeof info;
    uint64_t cookie;
    if (getsockopt(connection->fd, IPPROTO_TCP, TCP_INFO, &info, &bytes) != 0) {
        return false;
    }
    // This thread has lost the processor in between: not one moment's picture. What came out meanwhile would be
    // taken for what nobody gets out. Of who sends without end nothing comes out.
    if (told_now(told).delivered - now.delivered > BETWEEN_BYTES) {
        return true;
    }
    if (info.tcpi_bytes_received == connection->received &&
        info.tcpi_bytes_acked == connection->acknowledged && now.delivered == before->delivered &&
        now.handed == before->handed && now.junk == before->junk) {
        return true;
    }
    if (!ask_cookie(connection->fd, &cookie) || cookie != connection->cookie) {
        return false;
    }
    struct arrears_seen seen = {
        .delivered = now.delivered - before->delivered,
        .handed = now.handed - before->handed,
        .junk = now.junk - before->junk,
        .received = info.tcpi_bytes_received,
        .acknowledged = info.tcpi_bytes_acked,
    };
    int queued = 0;
    if (seen.received - watch->arrears[place].delivered > QUEUED_MATTERS &&
        ioctl(connection->fd, FIONREAD, &queued) == 0 && queued > 0) {
        seen.queued = (uint64_t)queued;
    }
    *before = now;
    connection->received = seen.received;
    connection->acknowledged = seen.acknowledged;
    arrears_look(&watch->arrears[place], &seen);
    return true;
}

static void look(struct watch *watch)
{
    const int64_t began_us = clock_mono_us();
    uint64_t waiting = 0, unread = 0;
    for (uint32_t i = 0; i < watch->count; i++) {
        if (!watch->arrears[i].cut && look_at(watch, i)) {
            waiting += watch->arrears[i].waiting;
            unread += watch->arrears[i].unread;
        }
    }
    atomic_store(&watch->waiting, waiting);
    atomic_store(&watch->unread, unread);
    watch->looked_us = clock_mono_us();
    watch->look_took_us = watch->looked_us - began_us;
}

// ---------------------------------------------------------------- cutting

static void describe_peer(int fd, char text[static PEER_TEXT_BYTES])
{
    struct sockaddr_in address = {0};
    socklen_t bytes = sizeof address;
    snprintf(text, PEER_TEXT_BYTES, "unknown");
    if (getpeername(fd, (struct sockaddr *)&address, &bytes) == 0 &&
        address.sin_family == AF_INET) {
        const uint32_t host = ntohl(address.sin_addr.s_addr);
        snprintf(text, PEER_TEXT_BYTES, "%u.%u.%u.%u:%u", host >> 24, host >> 16 & 255,
                 host >> 8 & 255, host & 255, ntohs(address.sin_port));
    }
}

static void tell(struct watch *watch, const struct arrears *arrears, enum arrears_reason reason,
                 const char *peer)
{
    static const char *const reasons[ARREARS_REASONS] = {
        [ARREARS_WAITING] = "it sent much that is no whole message",
        [ARREARS_UNREAD] = "it does not read what it is sent",
        [ARREARS_CONNECTIONS] = "there are too many connections",
    };
    const int64_t now_ms = clock_mono_ms();
    if (watch->logged_ms != 0 && now_ms - watch->logged_ms < LOG_MS) {
        watch->unlogged++;
        return;
    }
    log_info("connection_cut",
             "peer=%s reason=\"%s\" waiting_bytes=%llu unread_bytes=%llu "
             "connections=%u not_logged=%llu",
             peer, reasons[reason], (unsigned long long)arrears->waiting,
             (unsigned long long)arrears->unread, watch->count,
             (unsigned long long)watch->unlogged);
    watch->logged_ms = now_ms;
    watch->unlogged = 0;
}

static void cut(struct watch *watch, uint32_t place, enum arrears_reason reason)
{
    const struct connection *const connection = &watch->connections[place];
    // When ZeroMQ then closes it, what is under way is thrown away and the peer is told so: else the kernel
    // would go on holding it back for a minute, and a peer that waits for room to write would not notice.
    const struct linger abort = {.l_onoff = 1, .l_linger = 0};
    uint64_t cookie;
    watch->arrears[place].cut = true;
    if (dup3(connection->fd, watch->spare_fd, O_CLOEXEC) < 0) {
        return; // Closed meanwhile.
    }
    if (ask_cookie(watch->spare_fd, &cookie) && cookie == connection->cookie) {
        char peer[PEER_TEXT_BYTES];
        describe_peer(watch->spare_fd, peer);
        (void)setsockopt(watch->spare_fd, SOL_SOCKET, SO_LINGER, &abort, sizeof abort);
        (void)shutdown(watch->spare_fd, SHUT_RDWR);
        atomic_fetch_add(&watch->cut[reason], 1);
        tell(watch, &watch->arrears[place], reason, peer);
    }
    (void)dup3(watch->null_fd, watch->spare_fd, O_CLOEXEC);
}

// Who has spoken since the last look is no stranger any more. In a storm of connections that say nothing, whoever
// comes to ask would else be cut between his message and the next look.
static void hear(struct watch *watch)
{
    for (uint32_t i = 0; i < watch->count; i++) {
        const int fd = watch->connections[i].fd;
        watch->arrears[i].heard =
            watch->arrears[i].heard ||
            atomic_load_explicit(&watch->told[fd].delivered, memory_order_acquire) !=
                watch->before[fd].delivered;
    }
}

static void judge(struct watch *watch)
{
    uint32_t place = 0;
    for (enum arrears_reason reason;
         (reason = arrears_judge(watch->arrears, watch->count, &watch->limits, &place)) !=
         ARREARS_NONE;) {
        cut(watch, place, reason);
    }
}

// ---------------------------------------------------------------- connections come and go

static void forget(struct watch *watch, int fd)
{
    const int32_t place = watch->places[fd];
    if (place < 0) {
        return;
    }
    watch->before[fd] = told_now(&watch->told[fd]); // What came of it is not the next one's.
    const uint32_t last = --watch->count;
    watch->connections[place] = watch->connections[last];
    watch->arrears[place] = watch->arrears[last];
    watch->places[watch->connections[place].fd] = place;
    watch->places[fd] = -1;
}

static void accepted(struct watch *watch, int fd)
{
    struct connection connection = {.fd = fd};
    forget(watch, fd);
    if (!ask_cookie(fd, &connection.cookie)) {
        return; // Gone already.
    }
    if (watch->count == watch->capacity) {
        watch->capacity = watch->capacity == 0 ? 64 : 2 * watch->capacity;
        watch->connections =
            mem_resize(watch->connections, watch->capacity, sizeof *watch->connections);
        watch->arrears = mem_resize(watch->arrears, watch->capacity, sizeof *watch->arrears);
    }
    watch->places[fd] = (int32_t)watch->count;
    watch->connections[watch->count] = connection;
    watch->arrears[watch->count] = (struct arrears){.order = ++watch->accepted};
    watch->count++;
}

// Takes all events that wait. An event is two frames: its number and a value, and an endpoint.
static void take_events(struct watch *watch)
{
    for (;;) {
        uint8_t event[16];
        char endpoint[LIMIT_NAME_BYTES];
        const int bytes = zmq_recv(watch->monitor, event, sizeof event, ZMQ_DONTWAIT);
        if (bytes < 0 || zmq_recv(watch->monitor, endpoint, sizeof endpoint, ZMQ_DONTWAIT) < 0) {
            break;
        }
        uint16_t what;
        int32_t fd;
        memcpy(&what, event, sizeof what);
        memcpy(&fd, event + sizeof what, sizeof fd);
        if (bytes < (int)(sizeof what + sizeof fd) || fd <= 0 || fd >= LIMIT_DESCRIPTORS) {
            continue;
        }
        if (what == ZMQ_EVENT_ACCEPTED) {
            accepted(watch, fd);
            if (watch->count > watch->limits.connections) {
                hear(watch);
            }
            judge(watch); // Before ZeroMQ accepts the next ones, as far as may be.
        } else {
            forget(watch, fd);
        }
    }
    atomic_store(&watch->told_count, watch->count);
}

// How long it may sleep, in milliseconds.
static long pause_ms(const struct watch *watch)
{
    if (watch->count == 0) {
        return -1;
    }
    const int64_t share_us = LOOK_SHARE * watch->look_took_us;
    const int64_t pause_us = share_us > LOOK_US ? share_us : LOOK_US;
    const int64_t left_us = watch->looked_us + pause_us - clock_mono_us();
    return left_us <= 0 ? 0 : (long)((left_us + 999) / 1000);
}

static void *run(void *argument)
{
    struct watch *const watch = argument;
    for (;;) {
        zmq_pollitem_t items[] = {{.socket = watch->monitor, .events = ZMQ_POLLIN},
                                  {.fd = watch->stop_fd, .events = ZMQ_POLLIN}};
        (void)zmq_poll(items, 2, pause_ms(watch));
        if ((items[1].revents & ZMQ_POLLIN) != 0) {
            return NULL;
        }
        take_events(watch);
        if (pause_ms(watch) == 0) {
            look(watch);
            judge(watch);
        }
    }
}

// ---------------------------------------------------------------- begin and end

static bool open_descriptors(struct watch *watch)
{
    watch->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    watch->null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    watch->spare_fd = watch->null_fd < 0 ? -1 : fcntl(watch->null_fd, F_DUPFD_CLOEXEC, 3);
    return watch->stop_fd >= 0 && watch->spare_fd >= 0;
}

static bool open_monitor(struct watch *watch, void *context)
{
    // ZeroMQ's thread waits for room where there is none: also with nobody at the other end.
    const int unbounded = 0;
    char name[64];
    snprintf(name, sizeof name, "inproc://watch-%p", watch->zmq);
    watch->monitor = zmq_socket(context, ZMQ_PAIR);
    return watch->monitor != NULL &&
           zmq_setsockopt(watch->monitor, ZMQ_RCVHWM, &unbounded, sizeof unbounded) == 0 &&
           zmq_socket_monitor(watch->zmq, name,
                              ZMQ_EVENT_ACCEPTED | ZMQ_EVENT_CLOSED | ZMQ_EVENT_DISCONNECTED) ==
               0 &&
           zmq_connect(watch->monitor, name) == 0;
}

static void close_all(struct watch *watch)
{
    if (watch->monitor != NULL) {
        (void)zmq_socket_monitor(watch->zmq, NULL, 0); // First: see open_monitor.
        zmq_close(watch->monitor);
    }
    const int fds[] = {watch->stop_fd, watch->null_fd, watch->spare_fd};
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++) {
        if (fds[i] >= 0) {
            close(fds[i]);
        }
    }
    mem_free(watch->told);
    mem_free(watch->before);
    mem_free(watch->places);
    mem_free(watch->connections);
    mem_free(watch->arrears);
    mem_free(watch);
}

enum err watch_open(void *zmq_context, void *zmq_socket, const struct arrears_limits *limits,
                    struct watch **watch_out)
{
    struct watch *const watch = mem_alloc(1, sizeof *watch);
    watch->zmq = zmq_socket;
    watch->limits = *limits;
    watch->told = mem_alloc(LIMIT_DESCRIPTORS, sizeof *watch->told);
    watch->before = mem_alloc(LIMIT_DESCRIPTORS, sizeof *watch->before);
    watch->places = mem_alloc(LIMIT_DESCRIPTORS, sizeof *watch->places);
    memset(watch->places, 0xff, LIMIT_DESCRIPTORS * sizeof *watch->places);
    enum err err = open_descriptors(watch)
                       ? OK
                       : err_raise(ERR_IO, "descriptors for a watch: %s", strerror(errno));
    if (err == OK && !open_monitor(watch, zmq_context)) {
        err = refused("monitor");
    }
    if (err == OK) {
        const int failed = pthread_create(&watch->thread, NULL, run, watch);
        err = failed == 0 ? OK : err_raise(ERR_IO, "thread: %s", strerror(failed));
    }
    if (err != OK) {
        close_all(watch);
        return err;
    }
    *watch_out = watch;
    return OK;
}

void watch_close(struct watch *watch)
{
    const uint64_t one = 1;
    if (watch != NULL) {
        if (write(watch->stop_fd, &one, sizeof one) == (ssize_t)sizeof one) {
            pthread_join(watch->thread, NULL);
        }
        close_all(watch);
    }
}

void watch_counts(struct watch *watch, struct watch_counts *counts_out)
{
    *counts_out = (struct watch_counts){
        .connections = atomic_load(&watch->told_count),
        .connections_max = watch->limits.connections,
        .waiting_bytes = atomic_load(&watch->waiting),
        .unread_bytes = atomic_load(&watch->unread),
    };
    for (int i = 0; i < ARREARS_REASONS; i++) {
        counts_out->cut[i] = atomic_load(&watch->cut[i]);
    }
}
