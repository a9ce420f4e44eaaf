// proto/zaptest.c: zap_self_test; see zap.h.
//
// The options that keep strangers out are easily lost without anybody noticing: everything goes on
// working. So each start shows that they hold, over the same transport and with the same options.
#include "proto/zap.h"

#include <stdbool.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"

enum {
    PATIENCE_MS = 3000, // On a machine that is busy with all else; ZeroMQ's own handshake limit.
    LOOK_MS = 2,
};

enum { FRIEND, STRANGER, NAMELESS, PEERS };

struct scene {
    struct zap *zap;
    struct link *router;
    struct link *peers[PEERS];
    bool sent[PEERS];
    struct curvekey keys[PEERS]; // NAMELESS: unused.
    bool friend_in;
    struct zap_counts before;
};

static enum err send_once(struct link *link, bool *sent)
{
    if (*sent) {
        return OK;
    }
    const enum err err = link_send(link, NULL, span_text("test"), span_of(NULL, 0));
    *sent = err == OK;
    return err == ERR_UNAVAILABLE ? OK : err;
}

static enum err take_all(struct scene *scene)
{
    for (;;) {
        struct link_message message;
        const enum err err = link_receive(scene->router, &message);
        if (err == ERR_UNAVAILABLE) {
            return OK;
        }
        TRY(err);
        if (message.key == NULL ||
            memcmp(message.key, scene->keys[FRIEND].public, CURVEKEY_BYTES) != 0) {
            FAIL(ERR_IO, "a peer came in whose key is not allowed");
        }
        scene->friend_in = true;
    }
}

// Everybody has been let in or refused.
static bool decided(struct scene *scene)
{
    return scene->friend_in && link_trouble(scene->peers[STRANGER]) == LINK_REFUSED &&
           link_trouble(scene->peers[NAMELESS]) != LINK_FINE;
}

static enum err play(struct scene *scene)
{
    const int64_t until_ms = clock_mono_ms() + PATIENCE_MS;
    while (!decided(scene)) {
        bool ready = false;
        for (int i = 0; i < PEERS; i++) {
            TRY(send_once(scene->peers[i], &scene->sent[i]));
        }
        TRY(link_wait(&scene->router, &ready, 1, NULL, 0, LOOK_MS));
        TRY(take_all(scene));
        if (clock_mono_ms() >= until_ms) {
            FAIL(ERR_IO, "after %d s %s", PATIENCE_MS / 1000,
                 !scene->friend_in ? "a peer whose key is allowed has not come in"
                                   : "a peer whose key is not allowed was not refused");
        }
    }
    const struct zap_counts counts = zap_counts(scene->zap);
    if (counts.allowed == scene->before.allowed || counts.refused == scene->before.refused ||
        scene->sent[STRANGER] || scene->sent[NAMELESS]) {
        FAIL(ERR_IO, "peers were let in or kept out by somebody else than the ZAP handler");
    }
    return OK;
}

static enum err open_scene(struct link_context *context, struct scene *scene)
{
    struct link_security security = {.domain = "self-test"};
    char endpoint[LINK_ENDPOINT_BYTES];
    curvekey_make(&security.own);
    uint8_t server[CURVEKEY_BYTES];
    memcpy(server, security.own.public, sizeof server);
    TRY(link_open(context, LINK_ROUTER, &security, &scene->router));
    TRY(link_bind(scene->router, "tcp://127.0.0.1:*", endpoint));
    for (int i = 0; i < PEERS; i++) {
        curvekey_make(&scene->keys[i]);
        struct link_security peer = {.own = scene->keys[i]};
        memcpy(peer.server, server, sizeof server);
        TRY(link_open(context, LINK_DEALER, i == NAMELESS ? NULL : &peer, &scene->peers[i]));
        if (i == FRIEND) {
            zap_allow(scene->zap, "self-test", (const uint8_t(*)[CURVEKEY_BYTES])peer.own.public,
                      1);
        }
        TRY(link_connect(scene->peers[i], endpoint));
    }
    return OK;
}

enum err zap_self_test(struct link_context *context, struct zap *zap)
{
    struct scene scene = {.zap = zap, .before = zap_counts(zap)};
    enum err err = open_scene(context, &scene);
    err = err == OK ? play(&scene) : err;
    for (int i = 0; i < PEERS; i++) {
        link_close(scene.peers[i]);
    }
    link_close(scene.router);
    zap_allow(zap, "self-test", NULL, 0);
    mem_wipe(scene.keys, sizeof scene.keys);
    return err == OK ? OK : err_context(err, "the test of who may connect");
}
