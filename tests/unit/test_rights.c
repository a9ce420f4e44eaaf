// tests/unit/test_rights.c: who may do what, written out: every role and every verb there is.
//
// Method: the table below is compared with coordinator/rights.c both ways, and with the bodies of Request as
// protoc-c knows them: a verb that is added without a line here, or without an entry there, fails.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
// cmocka needs the four above first.
#include <cmocka.h>

#include "coordinator/rights.h"
#include "proto/wire.h"

// In this order: admin, owner, predict, auditor, worker. '-': may not.
static const struct {
    const char *verb, *roles;
    enum rights_scope scope;
} expected[] = {
    {"ping", "AOPU-", SCOPE_NONE},
    {"dataset_list", "AO-U-", SCOPE_FILTERED},
    {"dataset_show", "AO-U-", SCOPE_DATASET},
    {"dataset_remove", "A----", SCOPE_DATASET},
    {"import_begin", "AO---", SCOPE_DATASET},
    {"import_chunk", "AO---", SCOPE_JOB},
    {"import_commit", "AO---", SCOPE_JOB},
    {"import_abort", "AO---", SCOPE_JOB},
    {"train", "A----", SCOPE_MODEL},
    {"model_list", "AOPU-", SCOPE_FILTERED},
    {"model_show", "AOPU-", SCOPE_MODEL},
    {"model_remove", "A----", SCOPE_MODEL},
    {"components", "A--U-", SCOPE_MODEL},
    {"predict", "A-P--", SCOPE_MODEL},
    {"plan", "AO---", SCOPE_DATASET},
    {"delete", "AO---", SCOPE_DATASET},
    {"request_show", "AO-U-", SCOPE_REQUEST},
    {"approve", "AO---", SCOPE_REQUEST},
    {"cluster_show", "AO-U-", SCOPE_FILTERED},
    {"verify", "A--U-", SCOPE_MODEL},
    {"verify_show", "A--U-", SCOPE_JOB},
    {"receipt_get", "AO-U-", SCOPE_REQUEST},
    {"log_head", "AO-U-", SCOPE_NONE},
    {"log_inclusion", "A--U-", SCOPE_CLUSTER},
    {"log_consistency", "AO-U-", SCOPE_NONE},
    {"export", "AO---", SCOPE_MODEL},
    {"export_pull", "AO---", SCOPE_MODEL},
    {"compact", "A----", SCOPE_CLUSTER},
    {"subject_show", "AO---", SCOPE_DATASET},
    {"base_begin", "A----", SCOPE_CLUSTER},
    {"base_chunk", "A----", SCOPE_CLUSTER},
    {"base_commit", "A----", SCOPE_CLUSTER},
    {"base_abort", "A----", SCOPE_CLUSTER},
    {"base_from_model", "A----", SCOPE_CLUSTER},
    {"base_list", "AO-U-", SCOPE_FILTERED},
    {"base_show", "AO-U-", SCOPE_FILTERED},
    {"base_retire", "A----", SCOPE_CLUSTER},
    {"base_pull", "AO-U-", SCOPE_NONE},
    {"model_set", "A----", SCOPE_MODEL},
    {"params_pull", "A----", SCOPE_MODEL},
    {"hold_put", "A----", SCOPE_DATASET},
    {"hold_release", "A----", SCOPE_DATASET},
    {"hold_list", "AO---", SCOPE_DATASET},
    {"answers_get", "AO---", SCOPE_REQUEST},
    {"report_get", "AO-U-", SCOPE_FILTERED},
    {"request_list", "AO-U-", SCOPE_FILTERED},
    {"model_cells", "AO-U-", SCOPE_MODEL},
    {"key_add", "A----", SCOPE_CLUSTER},
    {"key_list", "A----", SCOPE_CLUSTER},
    {"key_revoke", "A----", SCOPE_CLUSTER},
};
enum { EXPECTED = sizeof expected / sizeof expected[0] };

static int find(const char *verb)
{
    for (int i = 0; i < EXPECTED; i++) {
        if (strcmp(expected[i].verb, verb) == 0) {
            return i;
        }
    }
    return -1;
}

static bool is_body(const ProtobufCFieldDescriptor *field)
{
    return (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0;
}

static void test_every_role_and_verb(void **state)
{
    (void)state;
    const ProtobufCMessageDescriptor *const kind = &unlearn__request__descriptor;
    int bodies = 0;
    for (unsigned i = 0; i < kind->n_fields; i++) {
        const ProtobufCFieldDescriptor *const field = &kind->fields[i];
        if (!is_body(field)) {
            continue;
        }
        bodies++;
        const struct rights *const rights = rights_of((int)field->id);
        const int at = find(field->name);
        if (rights == NULL || at < 0) {
            fail_msg("the verb %s has no entry in %s", field->name,
                     rights == NULL ? "coordinator/rights.c" : "this test");
            return; // fail_msg does not come back, which clang-tidy cannot see
        }
        assert_string_equal(rights_verb((int)field->id), field->name);
        for (int role = ROLE_ADMIN; role < ROLE_COUNT_; role++) {
            const bool may = expected[at].roles[role - 1] != '-';
            if (rights_allow(rights, (enum role)role) != may) {
                fail_msg("%s %s %s", role_name((enum role)role), may ? "should" : "should not",
                         field->name);
            }
        }
        assert_int_equal(strlen(expected[at].roles), ROLE_COUNT_ - 1);
        assert_int_equal(rights->scope, expected[at].scope);
    }
    assert_int_equal(bodies, EXPECTED);
}

// Numbers that are no body, those around the table's ends among them.
static void test_nothing_else_is_there(void **state)
{
    (void)state;
    for (int verb = -10; verb < 2000; verb++) {
        const ProtobufCFieldDescriptor *const field =
            verb <= 0 ? NULL
                      : protobuf_c_message_descriptor_get_field(&unlearn__request__descriptor,
                                                                (unsigned)verb);
        assert_true((rights_of(verb) != NULL) == (field != NULL && is_body(field)));
    }
    assert_null(rights_of(INT32_MIN));
    assert_null(rights_of(INT32_MAX));
    assert_string_equal(rights_verb(0), "none");
    assert_string_equal(rights_verb(-1), "none");
}

static bool has_field(const ProtobufCFieldDescriptor *body, const char *name)
{
    return protobuf_c_message_descriptor_get_field_by_name(body->descriptor, name) != NULL;
}

// The table's word for what bounds a verb fits what the verb names.
static void test_scopes_fit_the_bodies(void **state)
{
    (void)state;
    const ProtobufCMessageDescriptor *const kind = &unlearn__request__descriptor;
    for (unsigned i = 0; i < kind->n_fields; i++) {
        const ProtobufCFieldDescriptor *const field = &kind->fields[i];
        if (!is_body(field)) {
            continue;
        }
        const enum rights_scope scope = rights_of((int)field->id)->scope;
        if (scope == SCOPE_DATASET) {
            assert_true(has_field(field, "dataset"));
        } else if (scope == SCOPE_MODEL) {
            assert_true(has_field(field, "model"));
        } else if (scope == SCOPE_REQUEST) {
            assert_true(has_field(field, "uuid"));
        } else if (scope == SCOPE_NONE || scope == SCOPE_JOB) {
            assert_false(has_field(field, "dataset") || has_field(field, "model") ||
                         has_field(field, "uuid"));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_role_and_verb),
        cmocka_unit_test(test_nothing_else_is_there),
        cmocka_unit_test(test_scopes_fit_the_bodies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
