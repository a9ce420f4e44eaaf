// client/show.c: see show.h.
#include "client/show.h"

#include <stdio.h>
#include <string.h>

#include "base/text.h"

// Names by number; what a newer coordinator may say beyond them is "unknown".
static const char *name_of(const char *const *names, size_t count, size_t number)
{
    return number > 0 && number < count ? names[number] : "unknown";
}

const char *show_phase(Unlearn__RequestPhase phase)
{
    static const char *const names[] = {
        [UNLEARN__REQUEST_PHASE__REQUEST_PHASE_FENCED] = "fenced",
        [UNLEARN__REQUEST_PHASE__REQUEST_PHASE_ERASED] = "erased",
        [UNLEARN__REQUEST_PHASE__REQUEST_PHASE_REPAIRED] = "repaired",
        [UNLEARN__REQUEST_PHASE__REQUEST_PHASE_COMPLETED] = "completed",
        [UNLEARN__REQUEST_PHASE__REQUEST_PHASE_AWAITING_APPROVAL] = "awaiting_approval",
        [UNLEARN__REQUEST_PHASE__REQUEST_PHASE_RETURNING] = "returning",
        [UNLEARN__REQUEST_PHASE__REQUEST_PHASE_REFUSED] = "refused",
    };
    return name_of(names, sizeof names / sizeof names[0], (size_t)phase);
}

const char *show_kind(Unlearn__RequestKind kind)
{
    static const char *const names[] = {
        [UNLEARN__REQUEST_KIND__REQUEST_KIND_DELETE] = "delete",
        [UNLEARN__REQUEST_KIND__REQUEST_KIND_REMOVE_DATASET] = "remove dataset",
        [UNLEARN__REQUEST_KIND__REQUEST_KIND_REMOVE_MODEL] = "remove model",
    };
    return name_of(names, sizeof names / sizeof names[0], (size_t)kind);
}

const char *show_component_state(Unlearn__ComponentState state)
{
    static const char *const names[] = {
        [UNLEARN__COMPONENT_STATE__COMPONENT_STATE_VALID] = "valid",
        [UNLEARN__COMPONENT_STATE__COMPONENT_STATE_INVALID] = "invalid",
        [UNLEARN__COMPONENT_STATE__COMPONENT_STATE_TRAINING] = "training",
        [UNLEARN__COMPONENT_STATE__COMPONENT_STATE_EMPTY] = "empty",
    };
    return name_of(names, sizeof names / sizeof names[0], (size_t)state);
}

const char *show_training(const Unlearn__Model *model)
{
    return model->training ? "training" : "trained";
}

// --- Requests ---

static json_t *request_json(const Unlearn__RequestState *state)
{
    json_t *const answer = json_pack(
        "{s:s, s:s, s:I, s:I, s:I, s:I, s:I}", "kind", show_kind(state->kind), "state",
        show_phase(state->phase), "records_deleted", (json_int_t)state->records_deleted,
        "components_invalidated", (json_int_t)state->components_invalidated, "epoch",
        (json_int_t)state->epoch, "components_awaited", (json_int_t)state->components_awaited,
        "samples_left", (json_int_t)state->samples_left);
    if (state->kind == UNLEARN__REQUEST_KIND__REQUEST_KIND_DELETE) {
        json_object_set_new(
            answer, "ids",
            json_pack("{s:I, s:I, s:I, s:I}", "deleted", (json_int_t)state->ids_deleted,
                      "already_deleted", (json_int_t)state->ids_gone, "not_found",
                      (json_int_t)state->ids_not_found, "held", (json_int_t)state->ids_held));
        json_object_set_new(answer, "records_held", json_integer((json_int_t)state->records_held));
    }
    if (state->hold_reason[0] != '\0') {
        json_object_set_new(answer, "hold_reason", json_string(state->hold_reason));
    }
    json_object_set_new(answer, "awaited_more", json_boolean(state->awaited_more));
    json_object_set_new(answer, "problem", json_string(state->problem));
    json_object_set_new(answer, "request", ctl_uuid(state->uuid));
    json_object_set_new(answer, "earlier", ctl_uuid(state->earlier));
    json_object_set_new(answer, "accepted_at", ctl_time(state->accepted_us));
    json_object_set_new(answer, "due_at", ctl_time(state->due_us));
    json_object_set_new(answer, "expected_at", ctl_time(state->expected_us));
    json_object_set_new(answer, "late", json_boolean(state->late));
    json_object_set_new(answer, "at_once", json_boolean(state->haste));
    json_object_set_new(answer, "fenced_at", ctl_time(state->fenced_us));
    json_object_set_new(answer, "approve_by", ctl_time(state->approve_by_us));
    json_object_set_new(answer, "erased_at", ctl_time(state->erased_us));
    json_object_set_new(answer, "repaired_at", ctl_time(state->repaired_us));
    json_object_set_new(answer, "completed_at", ctl_time(state->completed_us));
    return answer;
}

static void print_uuid(const char *what, ProtobufCBinaryData bytes)
{
    if (bytes.len == ID_BYTES) {
        struct id128 uuid;
        memcpy(&uuid, bytes.data, sizeof uuid);
        char text[TEXT_UUID_BYTES];
        text_uuid_put(&uuid, text);
        printf("%-11s%s\n", what, text);
    }
}

static void print_time(const char *what, int64_t time_us)
{
    char text[TEXT_TIME_BYTES];
    text_time(time_us, text);
    if (time_us != 0) {
        printf("%-11s%s\n", what, text);
    }
}

static void print_due(const Unlearn__RequestState *state)
{
    char due[TEXT_TIME_BYTES], expected[TEXT_TIME_BYTES] = "";
    text_time(state->due_us, due);
    text_time(state->expected_us, expected);
    if (state->due_us == 0) {
        return;
    }
    printf("%-11s%s%s", "due", due, state->haste ? ", repaired at once" : "");
    if (state->expected_us != 0) {
        printf(", expected by %s", expected);
    }
    printf("%s\n", state->late ? ": LATE" : "");
}

void show_request(const struct ctl *ctl, const Unlearn__RequestState *state)
{
    if (ctl->json) {
        ctl_print(request_json(state));
        return;
    }
    print_uuid("request", state->uuid);
    printf("%-11s%s\n", "what", show_kind(state->kind));
    printf("%-11s%s\n", "state", show_phase(state->phase));
    printf("%-11s%llu records, %u components invalidated, epoch %llu\n", "effect",
           (unsigned long long)state->records_deleted, state->components_invalidated,
           (unsigned long long)state->epoch);
    if (state->ids_gone + state->ids_not_found + state->ids_held > 0) {
        printf("%-11s%u deleted, %u already deleted, %u not found, %u on hold\n", "asked for",
               state->ids_deleted, state->ids_gone, state->ids_not_found, state->ids_held);
    }
    if (state->records_held > 0) {
        printf("%-11s%llu records stay%s%s\n", "on hold", (unsigned long long)state->records_held,
               state->hold_reason[0] == '\0' ? "" : ": ", state->hold_reason);
    }
    if (state->components_awaited > 0) {
        printf("%-11s%s%u components, %llu samples\n", "to repair",
               state->awaited_more ? "at least " : "", state->components_awaited,
               (unsigned long long)state->samples_left);
    }
    if (state->problem[0] != '\0') {
        printf("%-11s%s\n", "problem", state->problem);
    }
    print_uuid("earlier", state->earlier);
    print_due(state);
    print_time("accepted", state->accepted_us);
    print_time("fenced", state->fenced_us);
    print_time("approve by", state->approve_by_us);
    print_time("erased", state->erased_us);
    print_time("repaired", state->repaired_us);
    print_time("completed", state->completed_us);
    if (state->phase == UNLEARN__REQUEST_PHASE__REQUEST_PHASE_AWAITING_APPROVAL) {
        printf("hint: nothing is erased before somebody else says unlearnctl approve REQUEST, or "
               "refuse\n");
    }
}

// --- Models ---

// The canonical text of a spec, "key=value\n", as an object of texts.
static json_t *spec_json(ProtobufCBinaryData spec)
{
    json_t *const object = json_object();
    for (size_t at = 0; at < spec.len;) {
        const char *const line = (const char *)spec.data + at;
        const char *const end = memchr(line, '\n', spec.len - at);
        const size_t bytes = end == NULL ? spec.len - at : (size_t)(end - line);
        const char *const equals = memchr(line, '=', bytes);
        if (equals != NULL) {
            char key[64];
            const size_t key_bytes = (size_t)(equals - line);
            snprintf(key, sizeof key, "%.*s", (int)key_bytes, line);
            json_object_set_new(object, key, json_stringn(equals + 1, bytes - key_bytes - 1));
        }
        at += bytes + 1;
    }
    return object;
}

json_t *show_model_json(const Unlearn__Model *model)
{
    json_t *const answer =
        json_pack("{s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "model",
                  model->name, "dataset", model->dataset, "state", show_training(model), "problem",
                  model->problem, "components", (json_int_t)model->components_total,
                  "components_valid", (json_int_t)model->components_valid, "components_waiting",
                  (json_int_t)model->components_waiting, "components_empty",
                  (json_int_t)model->components_empty, "components_training",
                  (json_int_t)model->components_training, "samples_left",
                  (json_int_t)model->samples_left, "shards_used", (json_int_t)model->shards_used,
                  "shards_total", (json_int_t)model->shards_total, "run", (json_int_t)model->run);
    json_object_set_new(answer, "reprofiling", json_boolean(model->reprofiling));
    json_object_set_new(answer, "components_outdated",
                        json_integer((json_int_t)model->components_outdated));
    json_object_set_new(answer, "core", json_string(model->core));
    json_object_set_new(answer, "run_components", json_integer((json_int_t)model->run_components));
    json_object_set_new(answer, "run_samples", json_integer((json_int_t)model->run_samples));
    json_object_set_new(answer, "base",
                        model->base_name[0] == '\0' ? json_null() : json_string(model->base_name));
    json_object_set_new(answer, "base_digest", ctl_hex(model->base_digest));
    json_object_set_new(answer, "policy", json_string(model->policy));
    json_object_set_new(answer, "held", json_boolean(model->held));
    json_object_set_new(answer, "gathered", json_integer((json_int_t)model->gathered));
    json_object_set_new(answer, "seconds_left", json_real(model->seconds_left));
    json_object_set_new(answer, "seconds_left_error", json_real(model->seconds_left_error));
    json_object_set_new(answer, "cancelled_stages",
                        json_integer((json_int_t)model->cancelled_stages));
    json_object_set_new(answer, "cancelled_samples",
                        json_integer((json_int_t)model->cancelled_samples));
    json_object_set_new(answer, "churn",
                        model->churn_stages == 0
                            ? json_null()
                            : json_pack("{s:I, s:I, s:f}", "shard", (json_int_t)model->churn_shard,
                                        "cancelled", (json_int_t)model->churn_stages, "per_second",
                                        model->churn_per_second));
    json_object_set_new(answer, "spec", spec_json(model->spec));
    return answer;
}

void show_model_head(const Unlearn__Model *model)
{
    printf("model       %s on dataset %s\n", model->name, model->dataset);
    printf("state       %s\n", show_training(model));
    printf("components  %u: %u valid, %u waiting, %u in training, %u empty\n",
           model->components_total, model->components_valid, model->components_waiting,
           model->components_training, model->components_empty);
    printf("shards      %u of %u answer\n", model->shards_used, model->shards_total);
    if (model->base_name[0] != '\0') {
        char hex[DIGEST_HEX_BYTES] = "";
        if (model->base_digest.len == DIGEST_BYTES) {
            hex_put(hex, model->base_digest.data, DIGEST_BYTES);
        }
        printf("base        %s %.16s\n", model->base_name, hex);
    }
    printf("profile     %s", model->core);
    if (model->components_outdated > 0) {
        printf("; %u components have an older one%s", model->components_outdated,
               model->reprofiling ? ", being trained anew" : "");
    }
    putchar('\n');
    printf("policy      %s", model->policy);
    if (model->held) {
        printf("; repairs are held back: %u deletions have gathered", model->gathered);
    }
    putchar('\n');
    if (model->samples_left > 0) {
        printf("to train    %llu samples", (unsigned long long)model->samples_left);
        if (model->seconds_left > 0) {
            printf(": about %.1f s of one rank, give or take %.0f %%", model->seconds_left,
                   100 * model->seconds_left_error);
        }
        putchar('\n');
    }
    if (model->cancelled_stages > 0) {
        printf("cancelled   %llu stages by deletions, %llu samples\n",
               (unsigned long long)model->cancelled_stages,
               (unsigned long long)model->cancelled_samples);
    }
    if (model->churn_stages > 0) {
        printf("churn       shard %u gets nothing done: %u stages in a row were cancelled by "
               "deletions, %.2f a second\n",
               model->churn_shard, model->churn_stages, model->churn_per_second);
    }
    if (model->problem[0] != '\0') {
        printf("problem     %s\n", model->problem);
    }
}

void show_model(const struct ctl *ctl, const Unlearn__Model *model)
{
    if (ctl->json) {
        ctl_print(show_model_json(model));
        return;
    }
    show_model_head(model);
    printf("spec\n");
    for (size_t at = 0; at < model->spec.len;) {
        const char *const line = (const char *)model->spec.data + at;
        const char *const end = memchr(line, '\n', model->spec.len - at);
        const size_t bytes = end == NULL ? model->spec.len - at : (size_t)(end - line);
        printf("  %.*s\n", (int)bytes, line);
        at += bytes + 1;
    }
}

void show_served(const Unlearn__Prediction *served, json_t *answer)
{
    json_object_set_new(answer, "shards_used", json_integer((json_int_t)served->shards_used));
    json_object_set_new(answer, "shards_total", json_integer((json_int_t)served->shards_total));
    json_object_set_new(answer, "degraded", json_boolean(served->degraded));
    json_object_set_new(answer, "epoch", json_integer((json_int_t)served->epoch));
}

void show_served_line(const Unlearn__Prediction *served, FILE *out)
{
    fprintf(out, "%u of %u shards%s, epoch %llu\n", served->shards_used, served->shards_total,
            served->degraded ? " (degraded)" : "", (unsigned long long)served->epoch);
}
