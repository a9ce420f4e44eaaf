// coordinator/rights.c: see rights.h.
#include "coordinator/rights.h"

#include <stddef.h>

#include "proto/wire.h"

enum {
    A = 1 << ROLE_ADMIN,
    O = 1 << ROLE_OWNER,
    P = 1 << ROLE_PREDICT,
    U = 1 << ROLE_AUDITOR,
};

#define VERB(NAME, roles, scope)         [UNLEARN__REQUEST__BODY_##NAME] = {roles, scope, false}
#define VERB_RECORDS(NAME, roles, scope) [UNLEARN__REQUEST__BODY_##NAME] = {roles, scope, true}

// Workers have no verb here: what they say comes over a socket of their own.
static const struct rights table[] = {
    VERB(PING, A | O | P | U, SCOPE_NONE),
    // Datasets and their records
    VERB(DATASET_LIST, A | O | U, SCOPE_FILTERED),
    VERB(DATASET_SHOW, A | O | U, SCOPE_DATASET),
    VERB(DATASET_REMOVE, A, SCOPE_DATASET),
    VERB(IMPORT_BEGIN, A | O, SCOPE_DATASET),
    VERB(IMPORT_CHUNK, A | O, SCOPE_JOB),
    VERB(IMPORT_COMMIT, A | O, SCOPE_JOB),
    VERB(IMPORT_ABORT, A | O, SCOPE_JOB),
    VERB_RECORDS(SUBJECT_SHOW, A | O, SCOPE_DATASET),
    // Deletion. Holds bind owners, too: they neither make nor release one.
    VERB(PLAN, A | O, SCOPE_DATASET),
    VERB(DELETE, A | O, SCOPE_DATASET),
    VERB(APPROVE, A | O, SCOPE_REQUEST),
    VERB(ANSWERS_GET, A | O, SCOPE_REQUEST),
    VERB(REQUEST_SHOW, A | O | U, SCOPE_REQUEST),
    VERB(REQUEST_LIST, A | O | U, SCOPE_FILTERED),
    VERB(REPORT_GET, A | O | U, SCOPE_FILTERED),
    VERB(HOLD_PUT, A, SCOPE_DATASET),
    VERB(HOLD_RELEASE, A, SCOPE_DATASET),
    VERB(HOLD_LIST, A | O, SCOPE_DATASET), // Names people.
    // Models
    VERB(MODEL_LIST, A | O | P | U, SCOPE_FILTERED),
    VERB(MODEL_SHOW, A | O | P | U, SCOPE_MODEL),
    VERB(MODEL_CELLS, A | O | U, SCOPE_MODEL),
    VERB(PREDICT, A | P, SCOPE_MODEL),
    VERB(TRAIN, A, SCOPE_MODEL),
    VERB(MODEL_SET, A, SCOPE_MODEL),
    VERB(MODEL_REMOVE, A, SCOPE_MODEL),
    // What tells whether all of this is true
    VERB(COMPONENTS, A | U, SCOPE_MODEL),
    VERB(VERIFY, A | U, SCOPE_MODEL),
    VERB(VERIFY_SHOW, A | U, SCOPE_JOB),
    VERB(RECEIPT_GET, A | O | U, SCOPE_REQUEST),
    VERB(LOG_HEAD, A | O | U, SCOPE_NONE), // Hashes.
    VERB(LOG_CONSISTENCY, A | O | U, SCOPE_NONE),
    VERB(LOG_INCLUSION, A | U, SCOPE_CLUSTER), // Any receipt.
    VERB_RECORDS(EXPORT, A | O, SCOPE_MODEL),
    VERB_RECORDS(EXPORT_PULL, A | O, SCOPE_MODEL),
    VERB(PARAMS_PULL, A, SCOPE_MODEL),
    // Bases: learnt from public data, and shared by the models of any dataset
    VERB(BASE_LIST, A | O | U, SCOPE_FILTERED),
    VERB(BASE_SHOW, A | O | U, SCOPE_FILTERED),
    VERB(BASE_PULL, A | O | U, SCOPE_NONE),
    VERB(BASE_BEGIN, A, SCOPE_CLUSTER),
    VERB(BASE_CHUNK, A, SCOPE_CLUSTER),
    VERB(BASE_COMMIT, A, SCOPE_CLUSTER),
    VERB(BASE_ABORT, A, SCOPE_CLUSTER),
    VERB(BASE_FROM_MODEL, A, SCOPE_CLUSTER),
    VERB(BASE_RETIRE, A, SCOPE_CLUSTER),
    // The cluster
    VERB(CLUSTER_SHOW, A | O | U, SCOPE_FILTERED),
    VERB(COMPACT, A, SCOPE_CLUSTER),
    VERB(KEY_ADD, A, SCOPE_CLUSTER),
    VERB(KEY_LIST, A, SCOPE_CLUSTER),
    VERB(KEY_REVOKE, A, SCOPE_CLUSTER),
};

const struct rights *rights_of(int verb)
{
    const int count = (int)(sizeof table / sizeof table[0]);
    return verb > 0 && verb < count && table[verb].roles != 0 ? &table[verb] : NULL;
}

const char *rights_verb(int verb)
{
    const ProtobufCFieldDescriptor *const field =
        verb <= 0 ? NULL
                  : protobuf_c_message_descriptor_get_field(&unlearn__request__descriptor,
                                                            (unsigned)verb);
    return field == NULL ? "none" : field->name;
}
