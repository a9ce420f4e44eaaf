// tests/unit/test_access.c: nobody does what its role lacks, and what is outside one's scope is not there.
//
// Method: requests of every verb are made from the descriptors of protoc-c and handed to a coordinator with
// the key of each role (access_desk.h). What a role lacks must be denied by name and change nothing; what
// belongs to others must be answered in the words that something absent gets. Whoever adds a verb that names
// a dataset or a model finds it looked at here without a line of its own.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// cmocka needs the four above first.
#include <time.h>

#include <cmocka.h>

#include "coordinator/rights.h"
#include "tests/unit/access_desk.h"

static const enum role role_of[WHO_COUNT] = {
    [ADMIN] = ROLE_ADMIN, [ALICE] = ROLE_OWNER,  [BOB] = ROLE_OWNER,  [EVE] = ROLE_PREDICT,
    [UNA] = ROLE_AUDITOR, [WALLY] = ROLE_WORKER, [IVAN] = ROLE_OWNER,
};

// ---------------------------------------------------------------- bodies made from their descriptors

enum { BODY_BYTES = 512 };
union body {
    ProtobufCMessage base;
    uint8_t bytes[BODY_BYTES];
};
static uint8_t uuid[ID_BYTES] = {7};

static void set(union body *body, const ProtobufCFieldDescriptor *field, const char *target)
{
    static char one[] = "1", *list[] = {one};
    uint8_t *const at = body->bytes + field->offset;
    if (field->type == PROTOBUF_C_TYPE_STRING && field->label == PROTOBUF_C_LABEL_REPEATED) {
        const size_t count = 1;
        char **const texts = list;
        memcpy(at, &texts, sizeof texts);
        memcpy(body->bytes + field->quantifier_offset, &count, sizeof count);
    } else if (field->type == PROTOBUF_C_TYPE_STRING) {
        const bool named = strcmp(field->name, "dataset") == 0 || strcmp(field->name, "model") == 0;
        const char *const text = named                                   ? target
                                 : strcmp(field->name, "component") == 0 ? "s0:[0]"
                                 : strcmp(field->name, "due") == 0       ? ""
                                                                         : "1";
        memcpy(at, &text, sizeof text);
    } else if (strcmp(field->name, "uuid") == 0) {
        const ProtobufCBinaryData bytes = wire_bytes(span_of(uuid, sizeof uuid));
        memcpy(at, &bytes, sizeof bytes);
    } else if (field->type == PROTOBUF_C_TYPE_ENUM) {
        const int32_t first = 1;
        memcpy(at, &first, sizeof first);
    } else if (strcmp(field->name, "until_us") == 0) {
        const int64_t far_us = (int64_t)100000 * 86400 * 1000000;
        memcpy(at, &far_us, sizeof far_us);
    }
}

static void make_body(const ProtobufCFieldDescriptor *verb, const char *target, union body *body)
{
    const ProtobufCMessageDescriptor *const kind = verb->descriptor;
    assert_true(kind->sizeof_message <= sizeof body->bytes);
    protobuf_c_message_init(kind, body);
    for (unsigned i = 0; i < kind->n_fields; i++) {
        set(body, &kind->fields[i], target);
    }
}

static const ProtobufCFieldDescriptor *verb_at(unsigned i)
{
    const ProtobufCFieldDescriptor *const field = &unlearn__request__descriptor.fields[i];
    return (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) == 0 ? NULL : field;
}
static unsigned field_count(void)
{
    return unlearn__request__descriptor.n_fields;
}
static bool names(const ProtobufCFieldDescriptor *verb, const char *field)
{
    return protobuf_c_message_descriptor_get_field_by_name(verb->descriptor, field) != NULL;
}

// ---------------------------------------------------------------- roles

struct standing { // What must not change where something is denied.
    uint32_t datasets, models, requests, keys;
    uint64_t epoch, records;
};
static struct standing standing(void)
{
    const struct core *const core = desk.core;
    return (struct standing){core->dataset_count, core->model_count,
                             core->request_count, access_count(core),
                             core->epoch,         records_of("hers") + records_of("his")};
}

static void test_what_a_role_lacks_is_denied(void **state)
{
    (void)state;
    uint64_t denied = 0;
    for (int who = ADMIN; who < WHO_COUNT; who++) {
        for (unsigned i = 0; i < field_count(); i++) {
            const ProtobufCFieldDescriptor *const verb = verb_at(i);
            if (verb == NULL || rights_allow(rights_of((int)verb->id), role_of[who])) {
                continue;
            }
            union body body;
            make_body(verb, names(verb, "model") ? "m-hers" : "hers", &body);
            const struct standing before = standing();
            const uint64_t sent = send_as((enum who)who, verb->name, &body, span_of("", 0));
            assert_int_equal(storage_count(desk.core->storage), 0);
            const Unlearn__Reply *const reply = desk_answer(&desk, sent);
            assert_int_equal(reply->status, UNLEARN__STATUS__STATUS_PERMISSION_DENIED);
            if (who == WALLY) {
                assert_non_null(strstr(reply->message, "a worker's key is no client's"));
            } else {
                assert_non_null(strstr(reply->message, verb->name));
                assert_non_null(strstr(reply->message, role_name(role_of[who])));
            }
            const struct standing after = standing();
            assert_memory_equal(&before, &after, sizeof before);
            assert_int_equal(desk.core->activity.denied.total, ++denied);
        }
    }
    assert_true(denied > 150);
}

// The other half: what the table allows is not denied. It is asked for by access_check alone, since an admin
// may do what would end the test.
static void test_what_a_role_has_is_allowed(void **state)
{
    (void)state;
    for (int who = ADMIN; who < WHO_COUNT; who++) {
        struct caller caller = {.request_id = 1};
        if (who == WALLY) {
            assert_int_equal(access_enter(desk.core, keys[who], &caller), ERR_DENIED);
            continue;
        }
        assert_int_equal(access_enter(desk.core, keys[who], &caller), OK);
        for (unsigned i = 0; i < field_count(); i++) {
            const ProtobufCFieldDescriptor *const verb = verb_at(i);
            const struct rights *const rights = verb == NULL ? NULL : rights_of((int)verb->id);
            if (rights == NULL || !rights_allow(rights, role_of[who])) {
                continue;
            }
            const bool whole = rights->scope == SCOPE_CLUSTER && !access_sees_all(&caller);
            assert_int_equal(access_check(desk.core, &caller, (int)verb->id),
                             whole ? ERR_DENIED : OK);
        }
        assert_int_equal(access_check(desk.core, &caller, 9999), ERR_INVALID);
    }
}

static void test_unknown_keys(void **state)
{
    (void)state;
    Unlearn__Ping ping = UNLEARN__PING__INIT;
    uint8_t stranger[PRINCIPAL_KEY_BYTES];
    good(ask(ALICE, "ping", &ping));
    good(ask(NOBODY, "ping", &ping));
    for (int i = 0; i < 256; i++) { // Before, between and behind those that are known.
        memset(stranger, i, sizeof stranger);
        stranger[PRINCIPAL_KEY_BYTES - 1] ^= 1;
        memcpy(keys[WHO_COUNT], stranger, sizeof stranger);
        const Unlearn__Reply *const reply = ask(WHO_COUNT, "ping", &ping);
        assert_int_equal(reply->status, UNLEARN__STATUS__STATUS_PERMISSION_DENIED);
        assert_non_null(strstr(reply->message, "not known here"));
    }
    assert_int_equal(desk.core->activity.denied.total, 256);
}

static void test_a_key_that_is_limited_is_told_nothing_of_all(void **state)
{
    (void)state;
    Unlearn__LogInclusion body = UNLEARN__LOG_INCLUSION__INIT;
    const Unlearn__Reply *const reply = ask(UNA, "log_inclusion", &body);
    assert_int_equal(reply->status, UNLEARN__STATUS__STATUS_PERMISSION_DENIED);
    assert_non_null(strstr(reply->message, "log_inclusion is about all datasets"));
}

// ---------------------------------------------------------------- scope

// The message with every `name` in it replaced by X.
static void mask(const char *message, const char *name, char out[static 1024])
{
    size_t at = 0;
    while (*message != '\0' && at < 1000) {
        if (strncmp(message, name, strlen(name)) == 0) {
            out[at++] = 'X';
            message += strlen(name);
        } else {
            out[at++] = *message++;
        }
    }
    out[at] = '\0';
}

static void ask_masked(enum who who, const ProtobufCFieldDescriptor *verb, const char *target,
                       Unlearn__Status *status_out, char message_out[static 1024])
{
    union body body;
    make_body(verb, target, &body);
    const Unlearn__Reply *const reply = ask(who, verb->name, &body);
    *status_out = reply->status;
    mask(reply->message, target, message_out);
}

static void test_others_are_answered_like_absent_ones(void **state)
{
    (void)state;
    static const enum who limited[] = {ALICE, EVE, UNA};
    int asked = 0;
    for (size_t w = 0; w < sizeof limited / sizeof limited[0]; w++) {
        const enum who who = limited[w];
        for (unsigned i = 0; i < field_count(); i++) {
            const ProtobufCFieldDescriptor *const verb = verb_at(i);
            if (verb == NULL || !rights_allow(rights_of((int)verb->id), role_of[who]) ||
                !(names(verb, "dataset") || names(verb, "model"))) {
                continue;
            }
            const bool model = names(verb, "model");
            Unlearn__Status foreign, absent, own;
            char foreign_text[1024], absent_text[1024], own_text[1024];
            const struct standing before = standing();
            ask_masked(who, verb, model ? "m-his" : "his", &foreign, foreign_text);
            ask_masked(who, verb, model ? "m-xyz" : "xyz", &absent, absent_text);
            const struct standing after = standing();
            if (foreign != UNLEARN__STATUS__STATUS_NOT_FOUND || absent != foreign) {
                fail_msg("%s: status %d of another's, %d of an absent one (%s)", verb->name,
                         foreign, absent, foreign_text);
            }
            assert_string_equal(foreign_text, absent_text);
            assert_memory_equal(&before, &after, sizeof before);
            // The control: one's own is answered otherwise.
            ask_masked(who, verb, model ? "m-hers" : "hers", &own, own_text);
            if (own == UNLEARN__STATUS__STATUS_NOT_FOUND) {
                assert_string_not_equal(own_text, absent_text);
            }
            asked++;
        }
    }
    printf("# %d pairs\n", asked);
    assert_true(asked >= 15);
}

static const Unlearn__Reply *ask_uuid(enum who who, const char *verb, uint8_t first)
{
    union body body;
    const ProtobufCFieldDescriptor *const field =
        protobuf_c_message_descriptor_get_field_by_name(&unlearn__request__descriptor, verb);
    uuid[0] = first;
    make_body(field, "", &body);
    if (strcmp(verb, "answers_get") == 0 || strcmp(verb, "receipt_get") == 0) {
        assert_int_equal(protobuf_c_message_get_packed_size(&body.base), 2 + ID_BYTES);
    }
    return ask(who, verb, &body);
}

static void delete_one(enum who who, const char *dataset, uint8_t first, const char *record)
{
    uint8_t own_uuid[ID_BYTES] = {first};
    char *records[1] = {wire_text(record)};
    Unlearn__Delete body = deletion_of(dataset, own_uuid, records);
    assert_int_equal(good(ask(who, "delete", &body))->request_state->records_deleted, 1);
}

static void test_requests_by_uuid(void **state)
{
    (void)state;
    static const char *const verbs[] = {"request_show", "receipt_get", "answers_get", "approve"};
    delete_one(ALICE, "hers", 1, "3");
    delete_one(BOB, "his", 2, "3");
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++) {
        char foreign[1024], absent[1024];
        good(ask_uuid(ADMIN, verbs[i], 1));
        good(ask_uuid(ADMIN, verbs[i], 2));
        good(ask_uuid(ALICE, verbs[i], 1));
        good(ask_uuid(IVAN, verbs[i], 1));
        const Unlearn__Reply *reply = ask_uuid(ALICE, verbs[i], 2);
        assert_int_equal(reply->status, UNLEARN__STATUS__STATUS_NOT_FOUND);
        snprintf(foreign, sizeof foreign, "%s", reply->message);
        reply = ask_uuid(ALICE, verbs[i], 99);
        assert_int_equal(reply->status, UNLEARN__STATUS__STATUS_NOT_FOUND);
        snprintf(absent, sizeof absent, "%s", reply->message);
        assert_string_equal(foreign, absent);
    }
    // An auditor sees the one in its scope; answers to ids are none of its verbs.
    good(ask_uuid(UNA, "receipt_get", 1));
    assert_int_equal(ask_uuid(UNA, "receipt_get", 2)->status, UNLEARN__STATUS__STATUS_NOT_FOUND);
}

// One that stays open: it is in the loop's memory alone.
static void put_open(uint64_t sequence, const char *name)
{
    struct dataset *dataset = NULL;
    assert_int_equal(catalog_dataset(desk.core, NULL, name, &dataset), OK);
    struct request_row row = {.sequence = sequence,
                              .kind = REQUEST_DELETE,
                              .state = REQUEST_FENCED,
                              .dataset = dataset->row.number};
    be_put64(row.uuid.bytes, sequence);
    snprintf(row.name, sizeof row.name, "%s", name);
    catalog_put_request(desk.core, &row, NULL, 0);
}

static void test_lists_and_totals(void **state)
{
    (void)state;
    delete_one(ALICE, "hers", 1, "3");
    delete_one(BOB, "his", 2, "3");
    delete_one(BOB, "his", 3, "4");
    assert_int_equal(desk.core->request_count, 0);
    put_open(1001, "hers");
    put_open(1002, "his");
    put_open(1003, "his");
    struct {
        enum who who;
        uint32_t datasets, models, requests;
    } const expect[] = {{ADMIN, 2, 2, 3}, {ALICE, 1, 1, 1}, {BOB, 1, 1, 2},
                        {UNA, 1, 1, 1},   {IVAN, 2, 2, 3},  {NOBODY, 2, 2, 3}};
    for (size_t i = 0; i < sizeof expect / sizeof expect[0]; i++) {
        const enum who who = expect[i].who;
        const bool limited = who == ALICE || who == BOB || who == UNA;
        Unlearn__DatasetList datasets = UNLEARN__DATASET_LIST__INIT;
        Unlearn__ModelList models = UNLEARN__MODEL_LIST__INIT;
        Unlearn__RequestList requests = UNLEARN__REQUEST_LIST__INIT;
        Unlearn__ClusterShow cluster = UNLEARN__CLUSTER_SHOW__INIT;
        Unlearn__ReportGet report = UNLEARN__REPORT_GET__INIT;
        report.until_us = (int64_t)100000 * 86400 * 1000000;
        const Unlearn__DatasetPage *const page =
            good(ask(who, "dataset_list", &datasets))->dataset_page;
        assert_true(page->total == expect[i].datasets && page->n_datasets == page->total);
        if (who == BOB) {
            assert_string_equal(page->datasets[0]->name, "his");
        }
        const Unlearn__ModelPage *const shown = good(ask(who, "model_list", &models))->model_page;
        assert_true(shown->total == expect[i].models && shown->n_models == shown->total);
        const Unlearn__RequestPage *const listed =
            good(ask(who, "request_list", &requests))->request_page;
        assert_true(listed->total == expect[i].requests && listed->n_first == listed->total);
        const Unlearn__Cluster *const all = good(ask(who, "cluster_show", &cluster))->cluster;
        assert_int_equal(all->datasets, expect[i].datasets);
        assert_int_equal(all->models, expect[i].models);
        assert_int_equal(all->requests_open, expect[i].requests);
        assert_true((all->activity == NULL) == limited);
        const Unlearn__Report *const told = good(ask(who, "report_get", &report))->report;
        assert_int_equal(told->open + told->completed, expect[i].requests);
    }
    Unlearn__ModelList models = UNLEARN__MODEL_LIST__INIT;
    const Unlearn__ModelPage *const page = good(ask(EVE, "model_list", &models))->model_page;
    assert_int_equal(page->total, 1);
    assert_string_equal(page->models[0]->name, "m-hers");
}

static void test_placement_key_is_its_owners(void **state)
{
    (void)state;
    Unlearn__DatasetShow body = UNLEARN__DATASET_SHOW__INIT;
    body.dataset = wire_text("hers");
    assert_int_equal(good(ask(ADMIN, "dataset_show", &body))->dataset->placement_key.len, 32);
    assert_int_equal(good(ask(ALICE, "dataset_show", &body))->dataset->placement_key.len, 32);
    assert_int_equal(good(ask(UNA, "dataset_show", &body))->dataset->placement_key.len, 0);
}

static void test_verifications_by_number(void **state)
{
    (void)state;
    Unlearn__Verify verify = UNLEARN__VERIFY__INIT;
    Unlearn__VerifyShow show = UNLEARN__VERIFY_SHOW__INIT;
    verify.model = wire_text("m-his");
    show.job = good(ask(ADMIN, "verify", &verify))->verify_state->job;
    good(ask(ADMIN, "verify_show", &show));
    char foreign[1024];
    const Unlearn__Reply *reply = ask(UNA, "verify_show", &show);
    assert_int_equal(reply->status, UNLEARN__STATUS__STATUS_NOT_FOUND);
    snprintf(foreign, sizeof foreign, "%s", reply->message);
    show.job = 77;
    reply = ask(UNA, "verify_show", &show);
    assert_int_equal(reply->status, UNLEARN__STATUS__STATUS_NOT_FOUND);
    assert_string_equal(reply->message, foreign);
    verify.model = wire_text("m-hers");
    show.job = good(ask(UNA, "verify", &verify))->verify_state->job;
    good(ask(UNA, "verify_show", &show));
}

// An import belongs to who began it: not even an owner of the same dataset goes on with it.
static void test_imports_by_number(void **state)
{
    (void)state;
    struct buf schema = {0}, raw = {0};
    Unlearn__ImportBegin begin = begin_of("hers", &schema);
    Unlearn__ImportChunk chunk = UNLEARN__IMPORT_CHUNK__INIT;
    Unlearn__ImportCommit commit = UNLEARN__IMPORT_COMMIT__INIT;
    Unlearn__ImportAbort abort = UNLEARN__IMPORT_ABORT__INIT;
    put_rows(&raw);
    begin.readmit = true;
    delete_one(ADMIN, "hers", 1, "3");
    const uint64_t import = good(ask(ALICE, "import_begin", &begin))->import_ready->import;
    chunk.import = commit.import = abort.import = import;
    chunk.count = ROWS;
    static const enum who others[] = {BOB, IVAN, ADMIN};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        assert_int_equal(ask_with(others[i], "import_chunk", &chunk, buf_span(&raw))->status,
                         UNLEARN__STATUS__STATUS_NOT_FOUND);
        assert_int_equal(ask(others[i], "import_abort", &abort)->status,
                         UNLEARN__STATUS__STATUS_NOT_FOUND);
        const Unlearn__Reply *const reply = ask(others[i], "import_commit", &commit);
        assert_int_equal(reply->status, UNLEARN__STATUS__STATUS_NOT_FOUND);
        assert_string_equal(reply->message, "no import of this number is open");
    }
    // Nor does an open import tell others that there is such a dataset.
    assert_int_equal(ask(BOB, "import_begin", &begin)->status, UNLEARN__STATUS__STATUS_NOT_FOUND);
    assert_int_equal(ask(IVAN, "import_begin", &begin)->status, UNLEARN__STATUS__STATUS_CONFLICT);
    good(ask_with(ALICE, "import_chunk", &chunk, buf_span(&raw)));
    assert_int_equal(good(ask(ALICE, "import_commit", &commit))->import_done->records, 1);
    buf_deinit(&schema);
    buf_deinit(&raw);
}

// Two owners who upload a deletion of many under the same UUID do not meet until it is sealed.
static void test_uploads_of_deletions(void **state)
{
    (void)state;
    uint8_t shared[ID_BYTES] = {5};
    char one[] = "1", two[] = "2", *first[] = {one}, *second[] = {two};
    Unlearn__Delete hers = deletion_of("hers", shared, first);
    hers.more = true;
    good(ask(ALICE, "delete", &hers));
    Unlearn__Delete his = deletion_of("his", shared, first);
    his.part = 1; // Of hers, it would be the next one.
    const Unlearn__Reply *reply = ask(BOB, "delete", &his);
    assert_int_equal(reply->status, UNLEARN__STATUS__STATUS_CONFLICT);
    assert_non_null(strstr(reply->message, "without the parts before it"));
    his.part = 0;
    his.more = true;
    good(ask(BOB, "delete", &his));
    Unlearn__RequestShow show = UNLEARN__REQUEST_SHOW__INIT;
    show.uuid = hers.uuid;
    assert_int_equal(ask(ALICE, "request_show", &show)->status,
                     UNLEARN__STATUS__STATUS_UNAVAILABLE);
    assert_int_equal(ask(UNA, "request_show", &show)->status, UNLEARN__STATUS__STATUS_NOT_FOUND);
    hers.part = 1;
    hers.more = false;
    hers.records = second;
    reply = good(ask(ALICE, "delete", &hers));
    assert_int_equal(reply->request_state->records_deleted, 2);
    his.part = 1;
    his.more = false;
    reply = ask(BOB, "delete", &his);
    assert_int_equal(reply->status, UNLEARN__STATUS__STATUS_CONFLICT);
    assert_int_equal(records_of("hers"), ROWS - 2);
    assert_int_equal(records_of("his"), ROWS);
}

// ---------------------------------------------------------------- time

static int compare_ns(const void *a, const void *b)
{
    const int64_t left = *(const int64_t *)a, right = *(const int64_t *)b;
    return left < right ? -1 : left > right;
}

enum { SAMPLES = 200 };
static double median_us(int64_t ns[static SAMPLES])
{
    qsort(ns, SAMPLES, sizeof *ns, compare_ns);
    const size_t middle = SAMPLES / 2;
    return (double)ns[middle] / 1000;
}

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

// From the request to the answer, the store thread's part too, without the socket's way. Absent and foreign
// ones take turns, so that what the machine does meanwhile hits both.
static void compare_times(const char *what, Unlearn__Request *absent, Unlearn__Request *foreign)
{
    static int64_t ns[2][SAMPLES];
    for (int i = 0; i < 2 * SAMPLES; i++) {
        const int which = i / 2 % 2 == 0 ? i % 2 : 1 - i % 2; // Neither is always the first.
        const int64_t began = now_ns();
        desk.key = keys[ALICE];
        desk_ask(&desk, which == 0 ? absent : foreign, ++number, span_of(NULL, 0));
        storage_drain(desk.core->storage, desk.core);
        ns[which][i / 2] = now_ns() - began;
        assert_int_equal(desk_answer(&desk, number)->status, UNLEARN__STATUS__STATUS_NOT_FOUND);
    }
    const double a = median_us(ns[0]), f = median_us(ns[1]);
    printf("# %s: median of %d: absent %.1f us, another's %.1f us\n", what, SAMPLES, a, f);
    assert_true(f < 1.5 * a + 10 && a < 1.5 * f + 10);
}

static void test_time_tells_nothing(void **state)
{
    (void)state;
    uint8_t known[ID_BYTES] = {2}, unknown[ID_BYTES] = {99};
    char one[] = "1", *records[] = {one};
    delete_one(BOB, "his", 2, "3");
    Unlearn__Delete absent = deletion_of("xyz", unknown, records);
    Unlearn__Delete foreign = deletion_of("his", unknown, records);
    Unlearn__Request a = request_of("delete", &absent), f = request_of("delete", &foreign);
    compare_times("delete in a dataset", &a, &f);
    Unlearn__RequestShow show_absent = UNLEARN__REQUEST_SHOW__INIT,
                         show_foreign = UNLEARN__REQUEST_SHOW__INIT;
    show_absent.uuid = wire_bytes(span_of(unknown, sizeof unknown));
    show_foreign.uuid = wire_bytes(span_of(known, sizeof known));
    a = request_of("request_show", &show_absent);
    f = request_of("request_show", &show_foreign);
    compare_times("status of a request", &a, &f);
    Unlearn__ReceiptGet get_absent = UNLEARN__RECEIPT_GET__INIT,
                        get_foreign = UNLEARN__RECEIPT_GET__INIT;
    get_absent.uuid = show_absent.uuid;
    get_foreign.uuid = show_foreign.uuid;
    a = request_of("receipt_get", &get_absent);
    f = request_of("receipt_get", &get_foreign);
    compare_times("receipt of a request", &a, &f);
}

// ---------------------------------------------------------------- cost

static void test_cost(void **state)
{
    (void)state;
    enum { TRIES = 50, ROUNDS = 10000 };
    struct caller caller = {.request_id = 1};
    int64_t shortest_us = INT64_MAX; // So that a busy machine does not decide.
    for (int try = 0; try < TRIES; try++) {
        const int64_t began_us = clock_mono_us();
        for (int i = 0; i < ROUNDS; i++) {
            assert_int_equal(access_enter(desk.core, keys[ALICE], &caller), OK);
            assert_int_equal(access_check(desk.core, &caller, UNLEARN__REQUEST__BODY_DELETE), OK);
            assert_true(access_sees(&caller, 1));
        }
        const int64_t us = clock_mono_us() - began_us;
        shortest_us = us < shortest_us ? us : shortest_us;
    }
    const double ns = (double)shortest_us * 1000 / ROUNDS;
    printf("# key, role and scope of a request: %.0f ns\n", ns);
    assert_true(ns < 1000);
}

int main(void)
{
    if (digest_start() != OK) {
        return 1;
    }
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, access_set_up, access_tear_down)
        TEST(test_what_a_role_lacks_is_denied),
        TEST(test_what_a_role_has_is_allowed),
        TEST(test_unknown_keys),
        TEST(test_a_key_that_is_limited_is_told_nothing_of_all),
        TEST(test_others_are_answered_like_absent_ones),
        TEST(test_requests_by_uuid),
        TEST(test_lists_and_totals),
        TEST(test_placement_key_is_its_owners),
        TEST(test_verifications_by_number),
        TEST(test_imports_by_number),
        TEST(test_uploads_of_deletions),
        TEST(test_time_tells_nothing),
        TEST(test_cost),
#undef TEST
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
