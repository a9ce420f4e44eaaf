// coordinator/gate.c: see gate.h.
#include "coordinator/gate.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/descriptors.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/mem.h"
#include "coordinator/access.h"

enum { PATH_BYTES = 4200 };

static void path_of(const struct core *core, const char *tail, char out[static PATH_BYTES])
{
    snprintf(out, PATH_BYTES, "%.4000s%s", core->dir, tail);
}

// A cluster of an earlier version has none of them.
static enum err missing(const struct core *core, enum err err)
{
    if (err == ERR_NOT_FOUND) {
        char why[ERR_TEXT_BYTES];
        memcpy(why, err_text(), sizeof why);
        FAIL(ERR_DENIED, "%.300s: make what is missing with unlearnctl key init %.300s", why,
             core->dir);
    }
    return err;
}

static enum err read_keys(const struct core *core, struct curvekey *server_out)
{
    char path[PATH_BYTES];
    uint8_t told[CURVEKEY_BYTES];
    path_of(core, "/keys/server.key", path);
    TRY(curvekey_read(path, server_out));
    path_of(core, "/keys/admin.pub", path); // These two access_open has read, if they are there.
    TRY(curvekey_read_public(path, told));
    path_of(core, "/keys/worker.key", path);
    TRY(curvekey_read_public(path, told));
    path_of(core, ".client/server.pub", path);
    TRY(curvekey_read_public(path, told));
    if (memcmp(told, server_out->public, sizeof told) != 0) {
        FAIL(ERR_CORRUPT,
             "%s is not the public half of %.300s/keys/server.key: nobody could connect; put the "
             "right one back, or take it away and make it anew with unlearnctl key init %.300s",
             path, core->dir, core->dir);
    }
    return OK;
}

static enum err open_one(struct core *core, const struct curvekey *server, const char *domain,
                         struct link **link_out)
{
    struct link_security security = {.own = *server, .domain = domain};
    const enum err err =
        link_open(core->context, LINK_ROUTER, core->insecure ? NULL : &security, link_out);
    curvekey_wipe(&security.own);
    return err;
}

static enum err bind_one(struct core *core, struct link *link, const char *setting,
                         const char *where, struct address *out)
{
    out->insecure = core->insecure;
    if (core->insecure) {
        TRY_AS(address_check_loopback(setting, where), "--insecure-loopback");
    }
    TRY_AS(link_bind(link, where, out->endpoint), "%s", setting);
    return OK;
}

void gate_allow(struct core *core)
{
    if (core->zap == NULL) {
        return;
    }
    const uint32_t count = access_count(core);
    uint8_t(*const clients)[CURVEKEY_BYTES] = mem_alloc(count + 1, CURVEKEY_BYTES);
    uint8_t(*const workers)[CURVEKEY_BYTES] = mem_alloc(count + 1, CURVEKEY_BYTES);
    uint32_t client_count = 0, worker_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        const struct principal_row *const row = access_at(core, i);
        if (row->revoked_us == 0) {
            memcpy(row->role == ROLE_WORKER ? workers[worker_count++] : clients[client_count++],
                   row->key, CURVEKEY_BYTES);
        }
    }
    zap_allow(core->zap, GATE_CLIENTS, (const uint8_t(*)[CURVEKEY_BYTES])clients, client_count);
    zap_allow(core->zap, GATE_WORKERS, (const uint8_t(*)[CURVEKEY_BYTES])workers, worker_count);
    mem_free(clients);
    mem_free(workers);
}

static enum err open_handler(struct core *core)
{
    const int64_t began_ms = clock_mono_ms();
    TRY(zap_open(core->context, &core->zap));
    TRY(zap_self_test(core->context, core->zap));
    gate_allow(core);
    log_info("strangers_stay_out", "test_ms=%lld", (long long)(clock_mono_ms() - began_ms));
    return OK;
}

// What peers may make us keep. Connections take descriptors, which others need, too: when there are none left,
// ZeroMQ's thread spins, and files cannot be opened.
static enum err limit_peers(struct core *core)
{
    enum { CONNECTIONS_LEAST = 8 }; // Of each kind: a fleet, some ranks; some clients.
    uint32_t limit = 0, used = 0;
    TRY(descriptors_raise(LIMIT_DESCRIPTORS, &limit));
    TRY(descriptors_count(&used));
    const uint32_t own = used + 2 * WATCH_DESCRIPTORS + LIMIT_DESCRIPTORS_SPARE;
    if (limit < own + 2 * CONNECTIONS_LEAST) {
        // No ERR_LIMIT, as a full disk is: that passes, and is worth another start; this does not.
        FAIL(ERR_CONFLICT,
             "the limit of open files is %u, expected at least %u: %u of its own, and for %d "
             "connections: raise LimitNOFILE (ulimit -n)",
             limit, own + 2 * CONNECTIONS_LEAST, own, 2 * CONNECTIONS_LEAST);
    }
    const uint32_t half = (limit - own) / 2;
    struct arrears_limits clients = {
        .connections = half < LIMIT_CLIENTS ? half : LIMIT_CLIENTS,
        .waiting = LIMIT_WAITING_BYTES,
        .waiting_strangers = (uint64_t)LIMIT_WAITING_STRANGERS_MIB << 20,
        .waiting_all = (uint64_t)LIMIT_WAITING_CLIENTS_MIB << 20,
        .unread = LIMIT_UNREAD_BYTES,
        .unread_all = (uint64_t)LIMIT_UNREAD_CLIENTS_MIB << 20,
    };
    struct arrears_limits workers = clients;
    const uint32_t ranks = LIMIT_WORKERS + LIMIT_FLEETS;
    workers.connections = half < ranks ? half : ranks;
    workers.waiting_all = (uint64_t)LIMIT_WAITING_WORKERS_MIB << 20;
    workers.unread_all = UINT64_MAX; // They are sent what they asked for, LIMIT_CREDIT frames each.
    TRY(link_limit(core->clients, &clients));
    return link_limit(core->workers_link, &workers);
}

static enum err open_links(struct core *core, const struct curvekey *server,
                           struct address *clients_out, struct address *workers_out)
{
    TRY(open_one(core, server, GATE_CLIENTS, &core->clients));
    TRY(open_one(core, server, GATE_WORKERS, &core->workers_link));
    TRY(limit_peers(core));
    TRY(bind_one(core, core->clients, "listen", core->config.listen, clients_out));
    return bind_one(core, core->workers_link, "listen_workers", core->config.listen_workers,
                    workers_out);
}

enum err gate_open(struct core *core, struct address *clients_out, struct address *workers_out)
{
    struct curvekey server = {0};
    enum err err = link_context_open(&core->context);
    if (err == OK && !core->insecure) {
        err = missing(core, read_keys(core, &server));
        err = err == OK ? open_handler(core) : err;
    }
    err = err == OK ? open_links(core, &server, clients_out, workers_out) : err;
    curvekey_wipe(&server);
    if (err == OK && core->insecure) {
        log_error("insecure_loopback",
                  "reason=\"no keys, nothing is encrypted: every program of this machine may read, "
                  "delete and change everything here; never with data of real people\"");
    }
    return err;
}

void gate_close(struct core *core)
{
    link_close(core->clients);
    link_close(core->workers_link);
    zap_close(core->zap);
    link_context_close(core->context);
}
