// tests/e2e/zmtpcurve.c: see zmtpcurve.h.
//
// Names as in the RFC: C, c are the client's keys, S the server's; those of the connection are Cn, cn, Sn.
#include "tests/e2e/zmtpcurve.h"

#include <sodium.h>
#include <string.h>
#include <sys/socket.h>

enum {
    KEY = 32,
    MAC = crypto_box_MACBYTES,
    NONCE = crypto_box_NONCEBYTES,
    LONG_NONCE = 16, // Of which half of the prefix's bytes are left out.
    COOKIE = 96,
    COMMAND = 4, // The frame's flag.
    HELLO_BYTES = 200,
    WELCOME_BYTES = 168,
    INITIATE_HEAD = 9 + COOKIE + 8,
    VOUCH = KEY + LONG_NONCE + MAC + 2 * KEY, // C and what shows that Cn is its.
    METADATA_MAX = 200,
};

static void nonce_of(uint8_t nonce[static NONCE], const char prefix[static 16], uint64_t number)
{
    memcpy(nonce, prefix, 16);
    for (int i = 0; i < 8; i++) {
        nonce[16 + i] = (uint8_t)(number >> (56 - 8 * i));
    }
}

static bool put(int fd, const uint8_t *bytes, size_t count)
{
    return send(fd, bytes, count, MSG_NOSIGNAL) == (ssize_t)count;
}

static size_t header(uint8_t *at, uint8_t flags, uint64_t bytes)
{
    if (bytes <= 255) {
        at[0] = flags;
        at[1] = (uint8_t)bytes;
        return 2;
    }
    at[0] = flags | 2;
    for (int i = 0; i < 8; i++) {
        at[1 + i] = (uint8_t)(bytes >> (56 - 8 * i));
    }
    return 9;
}

static bool hello(int fd, const uint8_t Cn[static KEY], const uint8_t cn[static KEY],
                  const uint8_t S[static KEY])
{
    static const uint8_t zeros[64];
    uint8_t bytes[2 + HELLO_BYTES] = {0}, nonce[NONCE];
    uint8_t *const body = bytes + header(bytes, COMMAND, HELLO_BYTES);
    memcpy(body, "\5HELLO\1", 7); // Version 1.0, then 72 zeros.
    memcpy(body + 80, Cn, KEY);
    nonce_of(nonce, "CurveZMQHELLO---", 1);
    memcpy(body + 112, nonce + 16, 8);
    return crypto_box_easy(body + 120, zeros, sizeof zeros, nonce, S, cn) == 0 &&
           put(fd, bytes, sizeof bytes);
}

// Sn and the cookie.
static bool welcome(int fd, const uint8_t cn[static KEY], const uint8_t S[static KEY],
                    uint8_t plain[static KEY + COOKIE])
{
    uint8_t bytes[2 + WELCOME_BYTES], nonce[NONCE] = "WELCOME-";
    if (recv(fd, bytes, sizeof bytes, MSG_WAITALL) != (ssize_t)sizeof bytes ||
        memcmp(bytes, "\4\250\7WELCOME", 10) != 0) {
        return false;
    }
    memcpy(nonce + 8, bytes + 10, LONG_NONCE);
    return crypto_box_open_easy(plain, bytes + 10 + LONG_NONCE, MAC + KEY + COOKIE, nonce, S, cn) ==
           0;
}

static bool initiate(int fd, const struct curvekey *own, const uint8_t S[static KEY],
                     const uint8_t Cn[static KEY], const uint8_t cn[static KEY],
                     const uint8_t welcomed[static KEY + COOKIE], const uint8_t *metadata,
                     size_t metadata_bytes)
{
    const uint8_t *const Sn = welcomed, *const cookie = welcomed + KEY;
    uint8_t plain[VOUCH + METADATA_MAX], vouched[2 * KEY], nonce[NONCE] = "VOUCH---";
    uint8_t bytes[9 + INITIATE_HEAD + MAC + sizeof plain];
    if (metadata_bytes > METADATA_MAX) {
        return false;
    }
    memcpy(plain, own->public, KEY);
    randombytes_buf(nonce + 8, LONG_NONCE);
    memcpy(plain + KEY, nonce + 8, LONG_NONCE);
    memcpy(vouched, Cn, KEY);
    memcpy(vouched + KEY, S, KEY);
    if (crypto_box_easy(plain + KEY + LONG_NONCE, vouched, sizeof vouched, nonce, Sn,
                        own->secret) != 0) {
        return false;
    }
    memcpy(plain + VOUCH, metadata, metadata_bytes);
    const size_t plain_bytes = VOUCH + metadata_bytes,
                 body_bytes = INITIATE_HEAD + MAC + plain_bytes;
    const size_t head = header(bytes, COMMAND, body_bytes);
    uint8_t *const body = bytes + head;
    memcpy(body, "\10INITIATE", 9);
    memcpy(body + 9, cookie, COOKIE);
    nonce_of(nonce, "CurveZMQINITIATE", 2);
    memcpy(body + 9 + COOKIE, nonce + 16, 8);
    return crypto_box_easy(body + INITIATE_HEAD, plain, plain_bytes, nonce, Sn, cn) == 0 &&
           put(fd, bytes, head + body_bytes);
}

// READY of the other side: it has let us in. What it says of itself is thrown away.
static bool ready(int fd)
{
    uint8_t head[2], bytes[255];
    return recv(fd, head, sizeof head, MSG_WAITALL) == (ssize_t)sizeof head && head[0] == COMMAND &&
           head[1] > 6 && recv(fd, bytes, head[1], MSG_WAITALL) == (ssize_t)head[1] &&
           memcmp(bytes, "\5READY", 6) == 0;
}

bool zmtpcurve_shake(int fd, const struct curvekey *own,
                     const uint8_t server[static CURVEKEY_BYTES], const uint8_t *metadata,
                     size_t metadata_bytes, struct zmtpcurve *out)
{
    uint8_t Cn[KEY], cn[KEY], welcomed[KEY + COOKIE];
    out->nonce = 3; // 1 was HELLO's, 2 INITIATE's.
    return crypto_box_keypair(Cn, cn) == 0 && hello(fd, Cn, cn, server) &&
           welcome(fd, cn, server, welcomed) &&
           initiate(fd, own, server, Cn, cn, welcomed, metadata, metadata_bytes) && ready(fd) &&
           crypto_box_beforenm(out->shared, welcomed, cn) == 0;
}

size_t zmtpcurve_frame(struct zmtpcurve *curve, uint8_t *at, bool more, const uint8_t *bytes,
                       size_t count)
{
    enum { NAME = 8, SHORT_NONCE = 8 };
    const size_t body_bytes = NAME + SHORT_NONCE + MAC + 1 + count;
    const size_t head = header(at, 0, body_bytes); // ZeroMQ gives it no flags of its own.
    uint8_t *const body = at + head, *const sealed = body + NAME + SHORT_NONCE;
    uint8_t nonce[NONCE];
    memcpy(body, "\7MESSAGE", NAME);
    nonce_of(nonce, "CurveZMQMESSAGEC", curve->nonce++);
    memcpy(body + NAME, nonce + 16, SHORT_NONCE);
    sealed[MAC] = more ? 1 : 0;
    memcpy(sealed + MAC + 1, bytes, count);
    (void)crypto_box_detached_afternm(sealed + MAC, sealed, sealed + MAC, 1 + count, nonce,
                                      curve->shared);
    return head + body_bytes;
}
