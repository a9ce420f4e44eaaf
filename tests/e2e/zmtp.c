// tests/e2e/zmtp.c: a peer that talks ZMTP 3.1 without ZeroMQ, and breaks its rules; and peers that break
// TCP's manners.
//
//   zmtp PORT endless SIZE SECONDS    frames of SIZE bytes of one message that never ends
//   zmtp PORT tiny SIZE COUNT         one message of COUNT frames, which does end
//   zmtp PORT messages SIZE COUNT     COUNT messages of one frame
//   zmtp PORT frames N COUNT          COUNT messages of N frames of one byte
//   zmtp PORT announce BYTES 1        the header of a frame of so many bytes
//   zmtp PORT deaf COUNT SECONDS      sends COUNT messages and reads nothing for so long
//   zmtp PORT show DATASET SECONDS    asks for what is known of a dataset, and reads nothing, for so long
//   zmtp PORT predict MODEL,ROWS,BYTES SECONDS
//                                     the same, for 40 predictions of so many rows of zeros, and anew when it
//                                     was cut
//   zmtp PORT idle|half|garbage|http COUNT SECONDS
//                                     COUNT connections at once that say nothing, half a handshake, noise, or
//                                     a request for a web page; those that were cut are made anew at once,
//                                     idle ones after 100 ms, as ZeroMQ's own are
//
// With `--keys KEY SERVER` before PORT it does CurveZMQ's handshake with that key file and the server's public
// key, and what it sends is sealed; not for half, garbage, http and announce, which come before.
//
// PORT is one of 127.0.0.1. Prints one JSON object: what was sent, how often the other side cut the
// connection, and after how many milliseconds it did first (-1: never).
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/digest.h"
#include "proto/wire.h"
#include "tests/e2e/zmtpcurve.h"

enum {
    MORE = 1,
    LONG = 2,
    COMMAND = 4,
    GREETING_BYTES = 64,
    PEERS_MAX = 4096,
    BATCH_BYTES = 65536
};

// A connection with its handshake done.
struct peer {
    int fd;
    struct zmtpcurve curve; // With keys.
};

static bool keyed;
static struct curvekey own_key;
static uint8_t server_key[CURVEKEY_BYTES];
static struct sockaddr_in server = {.sin_family = AF_INET};
static uint64_t sent;
static uint64_t cuts;
static int64_t first_cut_ms = -1;
static uint64_t refused; // Handshakes with keys that failed.

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void die(const char *what)
{
    perror(what);
    exit(EXIT_FAILURE);
}

static int dial(void)
{
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&server, sizeof server) != 0) {
        die("connect");
    }
    return fd;
}

// False: the other side has cut the connection.
static bool put(int fd, const void *bytes, size_t count)
{
    for (size_t done = 0; done < count;) {
        const ssize_t got = write(fd, (const uint8_t *)bytes + done, count - done);
        if (got < 0) {
            return false;
        }
        done += (size_t)got;
        sent += (uint64_t)got;
    }
    return true;
}

// A frame at `at`, of `bytes` zeros. How long it is with its header.
static size_t frame(uint8_t *at, uint8_t flags, uint64_t bytes)
{
    if (bytes <= 255) {
        at[0] = flags;
        at[1] = (uint8_t)bytes;
        return 2;
    }
    at[0] = flags | LONG;
    for (int i = 0; i < 8; i++) {
        at[1 + i] = (uint8_t)(bytes >> (56 - 8 * i));
    }
    return 9;
}

// A whole frame of a message at `at`, with room for `count` and ZMTPCURVE_FRAMING bytes. How long it is.
static size_t put_frame(struct peer *peer, uint8_t *at, bool more, const uint8_t *bytes,
                        size_t count)
{
    if (keyed) {
        return zmtpcurve_frame(&peer->curve, at, more, bytes, count);
    }
    const size_t head = frame(at, more ? MORE : 0, count);
    memcpy(at + head, bytes, count);
    return head + count;
}

static struct peer shake(void)
{
    static const char word[] = "\5READY", metadata[] = "\13Socket-Type\0\0\0\6DEALER";
    enum { WORD = sizeof word - 1, METADATA = sizeof metadata - 1 };
    uint8_t greeting[GREETING_BYTES] = {0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, 3, 1};
    uint8_t answer[GREETING_BYTES], ready[64];
    struct peer peer = {.fd = dial()};
    memcpy(greeting + 12, keyed ? ZMTPCURVE_NAME : "NULL", keyed ? sizeof ZMTPCURVE_NAME - 1 : 4);
    if (!put(peer.fd, greeting, sizeof greeting) ||
        recv(peer.fd, answer, sizeof answer, MSG_WAITALL) != (ssize_t)sizeof answer) {
        return peer;
    }
    if (keyed) {
        if (!zmtpcurve_shake(peer.fd, &own_key, server_key, (const uint8_t *)metadata, METADATA,
                             &peer.curve)) {
            refused++;
        }
        return peer;
    }
    const size_t head = frame(ready, COMMAND, WORD + METADATA);
    memcpy(ready + head, word, WORD);
    memcpy(ready + head + WORD, metadata, METADATA);
    if (put(peer.fd, ready, head + WORD + METADATA)) {
        (void)recv(peer.fd, answer, 1, 0); // READY of the other side: it has let us in.
    }
    return peer;
}

static void note_cut(int64_t began_ms)
{
    cuts++;
    first_cut_ms = first_cut_ms < 0 ? now_ms() - began_ms : first_cut_ms;
}

// Whether the other side closes within so long; what it says is read and thrown away.
static bool closes_within(int fd, int64_t wait_ms)
{
    const int64_t until_ms = now_ms() + wait_ms;
    for (int64_t left; (left = until_ms - now_ms()) > 0;) {
        struct pollfd item = {.fd = fd, .events = POLLIN};
        char bytes[4096];
        if (poll(&item, 1, (int)left) > 0 && read(fd, bytes, sizeof bytes) <= 0) {
            return true;
        }
    }
    return false;
}

static void endless(size_t size, int64_t seconds)
{
    uint8_t *const zeros = calloc(size + 1, 1);
    uint8_t *const batch = malloc(BATCH_BYTES + size + ZMTPCURVE_FRAMING);
    const int64_t until_ms = now_ms() + seconds * 1000;
    if (zeros == NULL || batch == NULL) {
        die("memory");
    }
    while (now_ms() < until_ms) {
        struct peer peer = shake();
        const int64_t began_ms = now_ms();
        for (size_t bytes = 0; now_ms() < until_ms; bytes = 0) {
            while (bytes < BATCH_BYTES) {
                bytes += put_frame(&peer, batch + bytes, true, zeros, size);
            }
            if (!put(peer.fd, batch, bytes)) {
                note_cut(began_ms);
                break;
            }
        }
        close(peer.fd);
    }
    free(zeros);
    free(batch);
}

// `count` times a message of `frames` frames of `size` bytes.
static void bulk(uint64_t frames, size_t size, uint64_t count)
{
    uint8_t *const zeros = calloc(size + 1, 1);
    uint8_t *const batch = malloc(BATCH_BYTES + size + ZMTPCURVE_FRAMING);
    size_t bytes = 0;
    struct peer peer = shake();
    const int64_t began_ms = now_ms();
    bool open = zeros != NULL && batch != NULL;
    for (uint64_t i = 0; i < frames * count && open; i++) {
        bytes += put_frame(&peer, batch + bytes, (i + 1) % frames != 0, zeros, size);
        if (bytes >= BATCH_BYTES || i + 1 == frames * count) {
            open = put(peer.fd, batch, bytes);
            bytes = 0;
        }
    }
    if (!open || closes_within(peer.fd, 1000)) {
        note_cut(began_ms);
    }
    close(peer.fd);
    free(zeros);
    free(batch);
}

static void announce(uint64_t bytes)
{
    uint8_t head[9];
    const struct peer peer = shake();
    const int64_t began_ms = now_ms();
    if (!put(peer.fd, head, frame(head, 0, bytes)) || closes_within(peer.fd, 5000)) {
        note_cut(began_ms);
    }
    close(peer.fd);
}

static void deaf(uint64_t count, int64_t seconds)
{
    const int64_t began_ms = now_ms();
    struct peer peer = shake();
    bool open = true;
    for (uint64_t i = 0; i < count && open; i++) {
        uint8_t message[1 + ZMTPCURVE_FRAMING]; // Answered with an error.
        open = put(peer.fd, message, put_frame(&peer, message, false, (const uint8_t *)"x", 1));
    }
    while (open && now_ms() < began_ms + seconds * 1000) {
        struct pollfd item = {.fd = peer.fd, .events = 0};
        open = poll(&item, 1, 100) == 0; // POLLHUP, POLLERR
    }
    if (!open) {
        note_cut(began_ms);
    }
    close(peer.fd);
}

// Sends one request again and again, as fast as it is taken, at most `most` times on a connection, and never
// reads an answer.
static void unread(Unlearn__Request *request, struct span raw, uint64_t most, int64_t seconds)
{
    const int64_t until_ms = now_ms() + seconds * 1000;
    struct buf envelope = {0};
    request->version = WIRE_VERSION;
    request->request_id = 1;
    wire_put(&request->base, &envelope);
    uint8_t *const message = malloc(envelope.bytes + raw.bytes + 2 * (size_t)ZMTPCURVE_FRAMING);
    while (now_ms() < until_ms) {
        struct peer peer = shake();
        const int64_t began_ms = now_ms();
        const struct timeval patience = {.tv_sec = 1}; // It need not be read, either.
        (void)setsockopt(peer.fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
        bool open = true;
        for (uint64_t i = 0; open && i < most && now_ms() < until_ms; i++) {
            size_t bytes = put_frame(&peer, message, raw.bytes > 0, envelope.data, envelope.bytes);
            bytes +=
                raw.bytes > 0 ? put_frame(&peer, message + bytes, false, raw.data, raw.bytes) : 0;
            open = put(peer.fd, message, bytes);
        }
        while (open && now_ms() < until_ms) {
            struct pollfd item = {.fd = peer.fd, .events = 0};
            open = poll(&item, 1, 10) == 0; // POLLHUP, POLLERR
        }
        if (!open) {
            note_cut(began_ms);
        }
        close(peer.fd);
    }
    free(message);
    buf_deinit(&envelope);
}

static void show(char *dataset, int64_t seconds)
{
    Unlearn__Request request = UNLEARN__REQUEST__INIT;
    Unlearn__DatasetShow body = UNLEARN__DATASET_SHOW__INIT;
    body.dataset = dataset;
    request.body_case = UNLEARN__REQUEST__BODY_DATASET_SHOW;
    request.dataset_show = &body;
    unread(&request, span_of(NULL, 0), UINT64_MAX, seconds);
}

static void predict(char *what, int64_t seconds)
{
    enum { A_CONNECTION = 40 };
    Unlearn__Request request = UNLEARN__REQUEST__INIT;
    Unlearn__Predict body = UNLEARN__PREDICT__INIT;
    struct buf raw = {0};
    char *rest = NULL;
    static const uint8_t zeros[4096];
    body.model = strtok_r(what, ",", &rest); // NOLINT: one thread.
    body.rows = (uint32_t)strtoul(rest, &rest, 10);
    const size_t row_bytes = strtoul(rest + 1, NULL, 10);
    for (uint32_t i = 0; i < body.rows; i++) {
        buf_u32(&raw, (uint32_t)row_bytes);
        buf_put(&raw, span_of(zeros, row_bytes));
    }
    request.body_case = UNLEARN__REQUEST__BODY_PREDICT;
    request.predict = &body;
    unread(&request, buf_span(&raw), A_CONNECTION, seconds);
    buf_deinit(&raw);
}

// What a peer of the kind says before it falls silent.
static size_t opening(const char *kind, uint8_t bytes[static 1024])
{
    if (strcmp(kind, "half") == 0) {
        memcpy(bytes, "\xff\0\0\0\0\0\0\0\1\x7f\3\1", 12);
        return 12;
    }
    if (strcmp(kind, "garbage") == 0) {
        for (int i = 0; i < 1024; i++) {
            bytes[i] = (uint8_t)rand(); // NOLINT: any will do.
        }
        return 1024;
    }
    if (strcmp(kind, "http") == 0) {
        static const char request[] = "GET / HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n";
        memcpy(bytes, request, sizeof request - 1);
        return sizeof request - 1;
    }
    return 0;
}

static void crowd(const char *kind, size_t count, int64_t seconds)
{
    static struct pollfd items[PEERS_MAX];
    const int64_t began_ms = now_ms();
    if (count > PEERS_MAX) {
        count = PEERS_MAX;
    }
    for (size_t i = 0; i < count; i++) {
        items[i].fd = -1;
    }
    while (now_ms() < began_ms + seconds * 1000) {
        for (size_t i = 0; i < count; i++) {
            uint8_t bytes[1024];
            if (items[i].fd < 0) {
                const size_t length = opening(kind, bytes);
                items[i] = (struct pollfd){.fd = dial(), .events = POLLIN};
                (void)put(items[i].fd, bytes, length);
            }
        }
        if (strcmp(kind, "idle") == 0) {
            nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
        }
        if (poll(items, count, 50) <= 0) {
            continue;
        }
        for (size_t i = 0; i < count; i++) {
            char bytes[512];
            if (items[i].revents != 0 && read(items[i].fd, bytes, sizeof bytes) <= 0) {
                note_cut(began_ms);
                close(items[i].fd);
                items[i].fd = -1;
            }
        }
    }
}

int main(int argc, char **argv)
{
    keyed = argc == 8 && strcmp(argv[1], "--keys") == 0;
    if (keyed && (digest_start() != OK || curvekey_read(argv[2], &own_key) != OK ||
                  curvekey_read_public(argv[3], server_key) != OK)) {
        fprintf(stderr, "zmtp: %s\n", err_text());
        return EXIT_FAILURE;
    }
    argc -= keyed ? 3 : 0;
    argv += keyed ? 3 : 0;
    if (argc != 5) {
        fprintf(stderr, "usage: zmtp [--keys KEY SERVER] PORT WHAT ARGUMENT ARGUMENT\n");
        return EXIT_FAILURE;
    }
    const char *const what = argv[2];
    const uint64_t a = strtoull(argv[3], NULL, 10), b = strtoull(argv[4], NULL, 10);
    signal(SIGPIPE, SIG_IGN);
    server.sin_port = htons((uint16_t)atoi(argv[1]));
    server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (strcmp(what, "endless") == 0) {
        endless((size_t)a, (int64_t)b);
    } else if (strcmp(what, "tiny") == 0) {
        bulk(b, (size_t)a, 1);
    } else if (strcmp(what, "messages") == 0) {
        bulk(1, (size_t)a, b);
    } else if (strcmp(what, "frames") == 0) {
        bulk(a, 1, b);
    } else if (strcmp(what, "announce") == 0) {
        announce(a);
    } else if (strcmp(what, "show") == 0) {
        show(argv[3], (int64_t)b);
    } else if (strcmp(what, "predict") == 0) {
        predict(argv[3], (int64_t)b);
    } else if (strcmp(what, "deaf") == 0) {
        deaf(a, (int64_t)b);
    } else {
        crowd(what, (size_t)a, (int64_t)b);
    }
    if (refused > 0) {
        fprintf(stderr, "zmtp: %llu handshakes failed, expected none\n",
                (unsigned long long)refused);
        return EXIT_FAILURE;
    }
    printf("{\"sent\": %llu, \"cuts\": %llu, \"first_cut_ms\": %lld}\n", (unsigned long long)sent,
           (unsigned long long)cuts, (long long)first_cut_ms);
    return EXIT_SUCCESS;
}
