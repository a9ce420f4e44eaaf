// Goal: whatever answers is valid when the answer is sent, and something answers as long as anything
// valid is there: the longest valid prefix of each shard from the moment of the ack, a repaired one as
// soon as it is stored, and under load, with repairs running, no request fails.
//
// Method: nothing that the coordinator says about itself is believed. The oracle (oracle.h) trains here
// every component in every version that the planned deletions give it, and an answer must be, to
// within the last bits, the mean of what valid versions answer. Two models of one dataset, of one shard
// and of two, with L = B = 4.
//
//   without workers  Nothing is repaired, so which components are valid is known: after each ack the
//                    answer must be that of the one serving set that the rule names, until none is left.
//   while repairing  `components` tells the states before and after an answer. If they are the same,
//                    it must be that of the serving set which the rule takes from these states.
//   under load       Four connections keep predictions in flight; one of them also deletes, with at
//                    most 3 deletions open. Then of the 4 first slices of a shard one is not hit, so
//                    every shard always has a valid prefix: every request must succeed, and all shards
//                    must answer while no deletion is between its sending and its ack.
//
// Under load an answer is valid if for some number of deletions n, must <= n <= may, it is the mean of
// what components answer in the versions that they have after n deletions, one for each shard that
// is used. may: deletions sent when the answer was received. must: acks received when its request was
// sent; on the connection that deletes, acks received before the answer: the coordinator's one loop
// sends acks and answers, and a connection keeps their order, so whatever arrives after an ack was
// sent after it. And no answer may be near to what an older version would give, so that "valid" is
// never a matter of not being able to tell.
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/text.h"
#include "client/call.h"
#include "model/profile.h"
#include "tests/e2e/cluster.h"
#include "tests/e2e/oracle.h"
#include "tests/unit/scratch.h"

static const double SAME = 1e-5; // The coordinator's batch has the probes alone, as ours: mostly 0.
static const double APART = 1e-4; // Nothing that is not valid may come as near as this.
enum { MODELS = 2, FIRST = CELLS_MAX, WAIT_MS = 120000 };

static char dir[SCRATCH_BYTES];
static struct history history;
static struct oracle oracles[MODELS];
static struct unlearn *client;
static pid_t fleet;
// The raw frame of a prediction. It is large enough for threads to compute it, so that deletions come between
// that and its answer.
static struct buf probes;

static int ctl(const char *arguments)
{
    return cluster_ctl(dir, arguments);
}

static void nap(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
}

// ---------------------------------------------------------------- setting up

static void import_all(void)
{
    const struct unlearn_import_options options = {.dataset = "d",
                                                   .schema = buf_span(&history.schema_bytes),
                                                   .placement_key = history.placement_key};
    struct unlearn_import *import;
    const Unlearn__ImportDone *done;
    assert_int_equal(unlearn_import_begin(client, &options, &import), OK);
    for (uint32_t i = 0; i < ITEMS; i++) {
        char id[32], subject[32];
        item_names(history.items[i].subject, history.items[i].number, id, subject);
        assert_int_equal(unlearn_import_add(import, span_text(id), span_text(subject), 0,
                                            span_of(history.items[i].row, ROW_BYTES)),
                         OK);
    }
    assert_int_equal(unlearn_import_commit(import, &done), OK);
    unlearn_import_end(import);
}

static void train(const struct oracle *oracle)
{
    struct buf spec = {0};
    const Unlearn__Trained *trained;
    char text[64];
    spec_put(&oracle->spec, &spec);
    assert_int_equal(unlearn_train(client, oracle->name, "d", buf_span(&spec), false, "", &trained),
                     OK);
    buf_deinit(&spec);
    snprintf(text, sizeof text, "train %s --wait", oracle->name);
    assert_int_equal(ctl(text), 0);
}

static pid_t read_pid(const char *name)
{
    char path[512];
    int pid = 0;
    snprintf(path, sizeof path, "%s/c/run/%s", dir, name);
    FILE *const file = fopen(path, "r");
    assert_non_null(file);
    assert_int_equal(fscanf(file, "%d", &pid), 1);
    assert_int_equal(fclose(file), 0);
    return (pid_t)pid;
}

static void start_fleet(void)
{
    char program[512], rendezvous[512], key[512], server_key[512];
    const char *const bin = getenv("UNLEARN_BIN");
    snprintf(program, sizeof program, "%s/unlearn-fleet", bin == NULL ? "bin" : bin);
    snprintf(rendezvous, sizeof rendezvous, "%s/c/run/workers", dir);
    snprintf(key, sizeof key, "%s/c/keys/worker.key", dir);
    snprintf(server_key, sizeof server_key, "%s/c.client/server.pub", dir);
    fleet = fork();
    assert_true(fleet >= 0);
    if (fleet == 0) {
        prctl(PR_SET_PDEATHSIG, SIGTERM);
        (void)!freopen("/dev/null", "w", stderr);
        execl(program, program, "--rendezvous", rendezvous, "--ranks", "2", "--key", key,
              "--server-key", server_key, (char *)NULL);
        _exit(127);
    }
}

static int set_up(void **state)
{
    (void)state;
    static const uint16_t rotation[] = {0, 1, 2, 3, 1, 2, 3, 0, 2, 3, 0, 1, 3, 0, 1, 2};
    char text[512];
    assert_true(scratch_make(dir));
    history_make(&history, CELLS_MAX);
    for (uint32_t i = 0; i < MODELS; i++) {
        snprintf(text, sizeof text, "shards-%u", i + 1);
        oracle_init(&oracles[i], &history, text, i + 1, rotation);
        assert_true(oracles[i].param_count * PROBES * ROW_BYTES > LIMIT_PREDICT_SMALL_WORK);
    }
    for (uint32_t i = 0; i < PROBES; i++) {
        buf_u32(&probes, ROW_BYTES);
        buf_put(&probes, span_of(history.probes[i], ROW_BYTES));
    }
    assert_int_equal(cluster_start(dir, 2), 0);
    snprintf(text, sizeof text, "%s/c", dir);
    assert_int_equal(unlearn_open_dir(text, NULL, &client), OK);
    import_all();
    for (uint32_t i = 0; i < MODELS; i++) {
        train(&oracles[i]);
    }
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    char text[512];
    if (fleet > 0) {
        kill(fleet, SIGTERM);
        waitpid(fleet, NULL, 0);
    }
    unlearn_close(client);
    snprintf(text, sizeof text, "down %s/c", dir);
    (void)!ctl(text);
    for (uint32_t i = 0; i < MODELS; i++) {
        oracle_deinit(&oracles[i]);
    }
    buf_deinit(&probes);
    buf_deinit(&history.schema_bytes);
    schema_deinit(&history.schema);
    scratch_remove(dir);
    return 0;
}

// ---------------------------------------------------------------- what is valid, and who serves

struct states {
    bool valid[CELLS_MAX * ORACLE_SLICES * ORACLE_SEQUENCES]; // By shard, then node.
    struct digest digest[CELLS_MAX * ORACLE_SLICES * ORACLE_SEQUENCES];
    uint32_t count, valid_count, empty_count;
};

static void ask_states(struct oracle *oracle, struct states *out)
{
    const Unlearn__ComponentPage *page;
    *out = (struct states){0};
    assert_int_equal(unlearn_components(client, oracle->name, 0, &page), OK);
    assert_int_equal(page->total, oracle->spec.shards * oracle->trie.count);
    assert_int_equal(page->n_components, page->total);
    for (size_t i = 0; i < page->n_components; i++) {
        const Unlearn__Component *const component = page->components[i];
        struct component name;
        assert_int_equal(component_get(component->name, &name), OK);
        const int32_t node = trie_find(&oracle->trie, &name);
        assert_true(node >= 0);
        const uint32_t at = name.shard * oracle->trie.count + (uint32_t)node;
        out->count++;
        out->empty_count += component->state == UNLEARN__COMPONENT_STATE__COMPONENT_STATE_EMPTY;
        if (component->state == UNLEARN__COMPONENT_STATE__COMPONENT_STATE_VALID) {
            out->valid[at] = true;
            out->valid_count++;
            memcpy(out->digest[at].bytes, component->digest.data, DIGEST_BYTES);
        }
    }
}

// The rule: of each shard the longest valid list, among these the one of the lowest sequence. Returns
// how many shards have one; *nodes_out: -1 where there is none.
static uint32_t serving_set(const struct oracle *oracle, const struct states *states,
                            int32_t nodes_out[static CELLS_MAX])
{
    uint32_t used = 0;
    for (uint32_t shard = 0; shard < oracle->spec.shards; shard++) {
        nodes_out[shard] = -1;
        for (uint32_t node = 0; node < oracle->trie.count; node++) {
            const struct trie_node *const nodes = oracle->trie.nodes;
            const int32_t best = nodes_out[shard];
            if (states->valid[shard * oracle->trie.count + node] &&
                (best < 0 || nodes[node].depth > nodes[best].depth ||
                 (nodes[node].depth == nodes[best].depth &&
                  nodes[node].sequence < nodes[best].sequence))) {
                nodes_out[shard] = (int32_t)node;
            }
        }
        used += nodes_out[shard] >= 0;
    }
    return used;
}

struct answer { // To one prediction, kept beyond the next call.
    enum err err;
    char said[256]; // Where it failed.
    uint32_t used, total;
    bool degraded;
    float values[VALUES];
};

static struct answer ask_answer(const struct oracle *oracle)
{
    const struct unlearn_batch batch = {.width = CLASSES, .rows = PROBES, .raw = probes};
    const Unlearn__Prediction *prediction;
    const float *values;
    struct answer answer = {
        .err = unlearn_predict(client, oracle->name, &batch, &prediction, &values)};
    if (answer.err != OK) {
        snprintf(answer.said, sizeof answer.said, "%s", err_text());
        return answer;
    }
    answer.used = prediction->shards_used;
    answer.total = prediction->shards_total;
    answer.degraded = prediction->degraded;
    memcpy(answer.values, values, sizeof answer.values);
    return answer;
}

// The answer must be that of the serving set of these states, after so many deletions.
static void assert_answer(struct oracle *oracle, const struct states *states, uint32_t deletions,
                          const struct answer *answer)
{
    int32_t nodes[CELLS_MAX];
    const uint32_t used = serving_set(oracle, states, nodes);
    if (used == 0) {
        assert_int_equal(answer->err, ERR_UNAVAILABLE);
        assert_non_null(strstr(answer->said, "no shard of model"));
        return;
    }
    assert_int_equal(answer->err, OK);
    assert_int_equal(answer->used, used);
    assert_int_equal(answer->total, oracle->spec.shards);
    assert_true(answer->degraded == (used < oracle->spec.shards));
    const struct version *versions[CELLS_MAX];
    uint32_t count = 0;
    for (uint32_t shard = 0; shard < oracle->spec.shards; shard++) {
        if (nodes[shard] >= 0) {
            versions[count++] = oracle_version(oracle, shard, (uint32_t)nodes[shard], deletions);
        }
    }
    assert_true(oracle_distance(answer->values, versions, used, SAME) <= SAME);
}

// Sends deletion `which` and waits for its ack.
static struct id128 delete_now(uint32_t which)
{
    const struct id128 uuid = text_uuid_new();
    char id[32], subject[32];
    const char *text = subject, *record = id;
    const Unlearn__RequestState *state;
    item_names(history.deletions[which].subject, 0, id, subject);
    const struct unlearn_ids none = {NULL, 0};
    const bool one = history.deletions[which].record;
    assert_int_equal(unlearn_delete(client, "d", &uuid,
                                    one ? (struct unlearn_ids){&record, 1} : none,
                                    one ? none : (struct unlearn_ids){&text, 1}, NULL, &state),
                     OK);
    assert_int_equal(state->records_deleted, one ? 1 : EACH);
    return uuid;
}

// ---------------------------------------------------------------- the tests

// The oracle's bits are the cluster's: else it could tell nothing.
static void test_the_oracle_has_the_clusters_bits(void **state)
{
    const uint32_t deletions = *state == NULL ? 0 : DELETIONS;
    const Unlearn__Cluster *cluster;
    assert_int_equal(unlearn_cluster_show(client, &cluster), OK);
    assert_string_equal(cluster->core, profile_core());
    for (uint32_t i = 0; i < MODELS; i++) {
        struct oracle *const oracle = &oracles[i];
        struct states states;
        ask_states(oracle, &states);
        assert_int_equal(states.valid_count + states.empty_count, states.count);
        assert_int_equal(states.empty_count, 0);
        for (uint32_t at = 0; at < states.count; at++) {
            const uint32_t shard = at / oracle->trie.count, node = at % oracle->trie.count;
            const struct digest digest =
                oracle_digest(oracle, shard, node, oracle_version(oracle, shard, node, deletions));
            assert_memory_equal(&states.digest[at], &digest, sizeof digest);
        }
    }
}

static void invalidate(const struct oracle *oracle, struct states *states, uint32_t deletions)
{
    for (uint32_t at = 0; at < oracle->spec.shards * oracle->trie.count; at++) {
        states->valid[at] = oracle_last_hit(oracle, at / oracle->trie.count,
                                            at % oracle->trie.count, deletions) == 0;
    }
}

static void test_the_longest_prefix_answers_from_the_ack(void **state)
{
    (void)state;
    const pid_t first_fleet = read_pid("fleet.pid");
    uint32_t shorter = 0;
    assert_int_equal(kill(first_fleet, SIGTERM), 0);
    while (kill(first_fleet, 0) == 0) {
        nap();
    }
    for (uint32_t deletions = 0; deletions <= FIRST; deletions++) {
        if (deletions > 0) {
            delete_now(deletions);
        }
        for (uint32_t i = 0; i < MODELS; i++) {
            struct states states = {0};
            int32_t nodes[CELLS_MAX];
            invalidate(&oracles[i], &states, deletions);
            const struct answer answer = ask_answer(&oracles[i]);
            assert_answer(&oracles[i], &states, 0, &answer); // All that is valid is as it was.
            const uint32_t used = serving_set(&oracles[i], &states, nodes);
            shorter += used > 0 && nodes[0] >= 0 && oracles[i].trie.nodes[nodes[0]].depth < 4;
            assert_true(deletions < FIRST || used == 0);
        }
    }
    assert_true(shorter > 0);
}

static bool same_states(const struct states *a, const struct states *b)
{
    return memcmp(a->valid, b->valid, sizeof a->valid) == 0;
}

static void test_a_repaired_component_takes_over_at_once(void **state)
{
    (void)state;
    const int64_t end_ms = clock_mono_ms() + WAIT_MS;
    struct states seen[MODELS] = {{.count = 0}};
    uint32_t compared = 0, changes = 0;
    start_fleet();
    for (bool all_valid = false; !all_valid;) {
        all_valid = true;
        for (uint32_t i = 0; i < MODELS; i++) {
            struct states before, after;
            ask_states(&oracles[i], &before);
            const struct answer answer = ask_answer(&oracles[i]);
            ask_states(&oracles[i], &after);
            all_valid = all_valid && after.valid_count == after.count;
            if (!same_states(&before, &after)) {
                continue; // A repair was stored meanwhile: either may have answered.
            }
            assert_answer(&oracles[i], &after, FIRST, &answer);
            compared++;
            changes += !same_states(&seen[i], &after);
            seen[i] = after;
        }
        assert_true(clock_mono_ms() < end_ms);
    }
    printf("%u answers compared, in %u different states\n", compared, changes);
    assert_true(changes >= 3);
}

// ---------------------------------------------------------------- under load

enum { TALKERS = 4, WINDOW = 4, REPLIES_MAX = 200000, OPEN_MAX = ORACLE_SEQUENCES - 1 };

enum asked_for { ASKED_PREDICT, ASKED_DELETE, ASKED_SHOW };

struct asked {
    uint64_t id;
    enum asked_for what;
    uint32_t model;
    uint32_t acked, sent; // When it was sent.
    uint32_t deletion;
};

struct reply {
    uint32_t model, must, may;
    bool quiet; // No deletion was on its way.
    bool late;  // Its request was sent before an ack that came before the reply.
    Unlearn__Status status;
    uint32_t used, total;
    bool degraded;
    uint64_t epoch;
    float values[VALUES];
};

struct talker { // One connection, one thread.
    struct unlearn *client;
    pthread_t thread;
    bool deletes;
    struct draw draw;
    struct asked asked[WINDOW + 8];
    uint32_t asked_count;
    struct reply *replies;
    uint32_t count;
    char trouble[512]; // What went wrong; "": nothing.
    // Of the one that deletes.
    struct id128 uuids[DELETIONS + 1];
    bool completed[DELETIONS + 1];
    uint32_t open, since; // Replies since the last deletion.
    uint32_t acked;       // On this connection.
    bool showing;
};

static _Atomic uint32_t sent, acked; // Deletions.
static _Atomic bool stop;
static uint64_t ack_epochs[DELETIONS + 1];

static bool ask(struct talker *talker, Unlearn__Request *request, struct span raw,
                struct asked asked)
{
    asked.acked = atomic_load(&acked);
    asked.sent = atomic_load(&sent);
    if (call_send(talker->client, request, raw) != OK) {
        snprintf(talker->trouble, sizeof talker->trouble, "%s", err_text());
        return false;
    }
    asked.id = talker->client->last_id;
    talker->asked[talker->asked_count++] = asked;
    return true;
}

static bool ask_predict(struct talker *talker)
{
    Unlearn__Predict body;
    unlearn__predict__init(&body);
    const uint32_t model = draw_below(&talker->draw, MODELS);
    body.model = oracles[model].name;
    body.rows = PROBES;
    Unlearn__Request request = CALL_REQUEST(PREDICT, predict, &body);
    return ask(talker, &request, buf_span(&probes),
               (struct asked){.what = ASKED_PREDICT, .model = model});
}

static bool ask_delete(struct talker *talker)
{
    const uint32_t which = atomic_load(&sent) + 1;
    static char dataset[] = "d";
    char id[32], subject[32];
    char *record_text = id, *subject_text = subject;
    Unlearn__Delete body;
    unlearn__delete__init(&body);
    item_names(history.deletions[which].subject, 0, id, subject);
    talker->uuids[which] = text_uuid_new();
    body.dataset = dataset;
    body.uuid = wire_bytes(span_of(&talker->uuids[which], sizeof talker->uuids[which]));
    if (history.deletions[which].record) {
        body.records = &record_text;
        body.n_records = 1;
    } else {
        body.subjects = &subject_text;
        body.n_subjects = 1;
    }
    Unlearn__Request request = CALL_REQUEST(DELETE, delete_, &body);
    atomic_store(&sent, which); // Before it can have any effect.
    talker->open++;
    talker->since = 0;
    return ask(talker, &request, span_of(NULL, 0),
               (struct asked){.what = ASKED_DELETE, .deletion = which});
}

// Asks how the oldest open deletion is doing.
static bool ask_show(struct talker *talker)
{
    uint32_t which = FIRST + 1;
    while (which < DELETIONS && talker->completed[which]) {
        which++;
    }
    Unlearn__RequestShow body;
    unlearn__request_show__init(&body);
    body.uuid = wire_bytes(span_of(&talker->uuids[which], sizeof talker->uuids[which]));
    Unlearn__Request request = CALL_REQUEST(REQUEST_SHOW, request_show, &body);
    talker->showing = true;
    return ask(talker, &request, span_of(NULL, 0),
               (struct asked){.what = ASKED_SHOW, .deletion = which});
}

// Deletes now and then, sometimes twice in a row; asks after the open ones; ends when all are done.
static bool drive(struct talker *talker)
{
    const uint32_t last = atomic_load(&sent);
    if (last == DELETIONS && talker->open == 0) {
        atomic_store(&stop, true);
    }
    if (last < DELETIONS && talker->open < OPEN_MAX &&
        talker->since > 10 + draw_below(&talker->draw, 60)) {
        const bool twice = talker->open + 2 <= OPEN_MAX && last + 2 <= DELETIONS;
        if (!ask_delete(talker) ||
            (twice && draw_below(&talker->draw, 3) == 0 && !ask_delete(talker))) {
            return false;
        }
    }
    return talker->showing || talker->acked <= FIRST || talker->open == 0 ||
           draw_below(&talker->draw, 8) != 0 || ask_show(talker);
}

static void take_prediction(struct talker *talker, const struct asked *asked,
                            const Unlearn__Reply *reply)
{
    struct reply *const out = &talker->replies[talker->count++];
    const uint32_t may = atomic_load(&sent);
    *out = (struct reply){.model = asked->model,
                          .must = talker->deletes ? talker->acked : asked->acked,
                          .may = may,
                          .quiet = asked->acked == asked->sent && asked->sent == may,
                          .late = talker->deletes && talker->acked > asked->acked,
                          .status = reply->status};
    talker->since++;
    if (reply->status != UNLEARN__STATUS__STATUS_OK ||
        reply->body_case != UNLEARN__REPLY__BODY_PREDICTION ||
        talker->client->raw.bytes != sizeof out->values) {
        snprintf(talker->trouble, sizeof talker->trouble, "a prediction failed: %.400s",
                 reply->message);
        return;
    }
    out->used = reply->prediction->shards_used;
    out->total = reply->prediction->shards_total;
    out->degraded = reply->prediction->degraded;
    out->epoch = reply->prediction->epoch;
    memcpy(out->values, talker->client->raw.data, sizeof out->values);
}

static void take_state(struct talker *talker, const struct asked *asked,
                       const Unlearn__Reply *reply)
{
    if (reply->body_case != UNLEARN__REPLY__BODY_REQUEST_STATE) {
        snprintf(talker->trouble, sizeof talker->trouble, "deletion %u: %.400s", asked->deletion,
                 reply->message);
        return;
    }
    if (asked->what == ASKED_DELETE) {
        talker->acked = asked->deletion;
        ack_epochs[asked->deletion] = reply->request_state->epoch;
        atomic_store(&acked, asked->deletion);
        return;
    }
    talker->showing = false;
    if (reply->request_state->phase == UNLEARN__REQUEST_PHASE__REQUEST_PHASE_COMPLETED) {
        talker->completed[asked->deletion] = true;
        talker->open--;
    }
}

static bool take_one(struct talker *talker)
{
    const Unlearn__Reply *reply;
    if (call_receive(talker->client, &reply) != OK) {
        snprintf(talker->trouble, sizeof talker->trouble, "%s", err_text());
        return false;
    }
    for (uint32_t i = 0; i < talker->asked_count; i++) {
        const struct asked asked = talker->asked[i];
        if (asked.id == reply->request_id) {
            talker->asked[i] = talker->asked[--talker->asked_count];
            if (asked.what == ASKED_PREDICT) {
                take_prediction(talker, &asked, reply);
            } else {
                take_state(talker, &asked, reply);
            }
            return talker->trouble[0] == '\0';
        }
    }
    snprintf(talker->trouble, sizeof talker->trouble, "a reply that nobody had asked for");
    return false;
}

static void *talk(void *argument)
{
    struct talker *const talker = argument;
    bool good = true;
    while (good && !atomic_load(&stop) && talker->count + WINDOW < REPLIES_MAX) {
        while (good && talker->asked_count < WINDOW) {
            good = ask_predict(talker);
        }
        good = good && (!talker->deletes || drive(talker)) && take_one(talker);
    }
    while (good && talker->asked_count > 0) {
        good = take_one(talker);
    }
    atomic_store(&stop, true); // Whoever fails ends it for all.
    return NULL;
}

// Whether the answer is what versions after n deletions give, one for each shard used. With `stale`,
// only where one of them is not valid any more after `stale` deletions.
struct found {
    bool is, by_prefix;
};
static void look(struct oracle *oracle, const struct reply *reply, uint32_t n, uint32_t stale,
                 double near, struct found *found)
{
    const uint32_t nodes = oracle->trie.count, all = oracle->spec.shards * nodes;
    for (uint32_t a = 0; a < all; a++) {
        for (uint32_t b = reply->used == 2 ? nodes : 0; b < (reply->used == 2 ? 2 * nodes : 1);
             b++) {
            if (reply->used == 2 && a >= nodes) {
                return; // The first of two is of shard 0.
            }
            const struct version *versions[2] = {
                oracle_version(oracle, a / nodes, a % nodes, n),
                reply->used == 2 ? oracle_version(oracle, 1, b - nodes, n) : NULL};
            const bool old =
                stale > 0 && (versions[0] != oracle_version(oracle, a / nodes, a % nodes, stale) ||
                              (versions[1] != NULL &&
                               versions[1] != oracle_version(oracle, 1, b - nodes, stale)));
            if (stale > 0 && !old) {
                continue;
            }
            const double distance = oracle_distance(reply->values, versions, reply->used, near);
            if (distance <= near) {
                found->is = true;
                found->by_prefix =
                    found->by_prefix || oracle->trie.nodes[a % nodes].depth < ORACLE_SLICES ||
                    (reply->used == 2 && oracle->trie.nodes[b - nodes].depth < ORACLE_SLICES);
            }
        }
    }
}

struct tally {
    uint32_t replies, late, between, by_prefix, degraded;
};

static void check_reply(const struct reply *reply, struct tally *tally)
{
    struct oracle *const oracle = &oracles[reply->model];
    struct found valid = {0}, stale = {0};
    assert_int_equal(reply->total, oracle->spec.shards);
    assert_in_range(reply->used, 1, reply->total);
    assert_true(reply->degraded == (reply->used < reply->total));
    assert_true(!reply->quiet || reply->used == reply->total);
    assert_true(reply->must <= FIRST || reply->epoch >= ack_epochs[reply->must]);
    for (uint32_t n = reply->must; n <= reply->may; n++) {
        look(oracle, reply, n, 0, SAME, &valid);
    }
    for (uint32_t n = reply->must - 3; n < reply->must; n++) {
        look(oracle, reply, n, reply->must, APART, &stale);
    }
    if (!valid.is || stale.is) {
        fail_msg("model %s, %u of %u shards, %u to %u deletions: %s%s", oracle->name, reply->used,
                 reply->total, reply->must, reply->may,
                 valid.is ? "" : "no valid components give this answer",
                 stale.is ? "; it is that of one that has seen a deleted record" : "");
    }
    tally->replies++;
    tally->late += reply->late;
    tally->between += reply->may > reply->must;
    tally->by_prefix += valid.by_prefix;
    tally->degraded += reply->degraded;
}

static void test_under_load(void **state)
{
    (void)state;
    struct talker *const talkers = mem_alloc(TALKERS, sizeof *talkers);
    char text[512];
    struct tally tally = {0};
    snprintf(text, sizeof text, "%s/c", dir);
    atomic_store(&sent, FIRST);
    atomic_store(&acked, FIRST);
    for (uint32_t i = 0; i < TALKERS; i++) {
        struct talker *const talker = &talkers[i];
        snprintf(text, sizeof text, "talker %u", i);
        talker->draw = draw_new(text);
        talker->draw.key.word[1] += i;
        talker->deletes = i == 0;
        talker->acked = FIRST;
        talker->replies = mem_alloc(REPLIES_MAX, sizeof *talker->replies);
        for (uint32_t which = 0; which <= FIRST; which++) {
            talker->completed[which] = true;
        }
        snprintf(text, sizeof text, "%s/c", dir);
        assert_int_equal(unlearn_open_dir(text, NULL, &talker->client), OK);
    }
    for (uint32_t i = 0; i < TALKERS; i++) {
        assert_int_equal(pthread_create(&talkers[i].thread, NULL, talk, &talkers[i]), 0);
    }
    for (uint32_t i = 0; i < TALKERS; i++) {
        assert_int_equal(pthread_join(talkers[i].thread, NULL), 0);
    }
    for (uint32_t i = 0; i < TALKERS; i++) {
        assert_string_equal(talkers[i].trouble, "");
    }
    assert_int_equal(atomic_load(&acked), DELETIONS);
    assert_int_equal(talkers[0].open, 0);
    for (uint32_t i = 0; i < TALKERS; i++) {
        uint64_t epoch = 0;
        for (uint32_t j = 0; j < talkers[i].count; j++) {
            check_reply(&talkers[i].replies[j], &tally);
            assert_true(talkers[i].replies[j].epoch >= epoch); // In the order of sending.
            epoch = talkers[i].replies[j].epoch;
        }
        unlearn_close(talkers[i].client);
        mem_free(talkers[i].replies);
    }
    mem_free(talkers);
    printf("%u answers, all valid; %u by a shorter prefix, %u with a deletion under "
           "way, %u asked for before an ack and received after it, %u without all shards\n",
           tally.replies, tally.by_prefix, tally.between, tally.late, tally.degraded);
    assert_true(tally.by_prefix > 0);
    assert_true(tally.late > 0);
}

int main(int argc, char **argv)
{
    (void)argc;
    if (profile_pin(argv) != OK || digest_start() != OK) {
        fprintf(stderr, "%s\n", err_text());
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_oracle_has_the_clusters_bits),
        cmocka_unit_test(test_the_longest_prefix_answers_from_the_ack),
        cmocka_unit_test(test_a_repaired_component_takes_over_at_once),
        cmocka_unit_test(test_under_load),
        cmocka_unit_test_prestate(test_the_oracle_has_the_clusters_bits, &history),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
