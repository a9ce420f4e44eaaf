// tests/unit/test_transformer_batch.c: what a sample's result may depend on, and what not.
//
// Method: one thing is changed (another sample's content, a later token, the company, the memory,
// who computed the layers below) and results are compared: by bits where the promise is bits,
// closely where other shapes of products may round differently. Each comparison has its opposite
// beside it: a change that must show.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/limits.h"
#include "tests/unit/tiny_transformer.h"

static const struct base_shape *const shapes[] = {&tiny_vit, &tiny_text};

struct setup {
    const struct base_shape *shape;
    struct lora lora;
    float *weights, *adapters[TINY_LAYERS];
    struct transformer *t;
    uint32_t low;
};

// Adapters of the layers low .. are trained.
static struct setup set_up(const struct base_shape *shape, float dropout, uint32_t low,
                           uint32_t tokens_max)
{
    struct setup u = {.shape = shape, .lora = tiny_lora(shape, dropout), .low = low};
    u.weights = tiny_weights(shape);
    tiny_adapters(&u.lora, u.adapters);
    const struct transformer_plan plan = {
        shape, &u.lora, tokens_max, TINY_SAMPLES, TRANSFORMER_ADAPTERS, low, TINY_LAYERS};
    assert_int_equal(transformer_new(&plan, &u.t), OK);
    return u;
}

static void tear_down(struct setup *u)
{
    transformer_free(u->t);
    mem_free(u->weights);
    for (int i = 0; i < TINY_LAYERS; i++) {
        mem_free(u->adapters[i]);
    }
}

enum { GRADIENT_MAX = 16384 };

// Everything one step gives: the outputs, and the gradients of the adapters.
struct result {
    float y[TINY_ROWS * TINY_WIDTH];
    float gradient[GRADIENT_MAX];
    uint64_t y_count, gradient_count;
};

static void run_from(const struct setup *u, const struct tiny_batch *b, uint32_t from,
                     struct result *out)
{
    const float *const *const adapters = (const float *const *)u->adapters;
    transformer_run(u->t, u->weights, adapters, &b->batch, from, TINY_LAYERS);
    const float *const y = transformer_finish(u->t, u->weights, &b->batch);
    out->y_count = (uint64_t)tiny_rows(u->shape, b) * TINY_WIDTH;
    memcpy(out->y, y, out->y_count * sizeof *y);
    _Alignas(64) float dy[TINY_ROWS * TINY_WIDTH];
    for (uint64_t i = 0; i < out->y_count; i++) {
        dy[i] = (float)sin(1.3 * (double)(i % TINY_WIDTH) + 1);
    }
    out->gradient_count = (TINY_LAYERS - u->low) * lora_count(&u->lora);
    assert_true(out->gradient_count <= GRADIENT_MAX);
    transformer_backward(u->t, u->weights, adapters, &b->batch, dy, out->gradient);
}

static struct result *result_of(const struct setup *u, const struct tiny_batch *b)
{
    struct result *const out = mem_alloc(1, sizeof *out);
    tiny_embed(u->t, u->shape, u->weights, b);
    run_from(u, b, 0, out);
    return out;
}

static void assert_same_bits(const struct result *a, const struct result *b)
{
    assert_int_equal(a->y_count, b->y_count);
    assert_memory_equal(a->y, b->y, a->y_count * sizeof *a->y);
    assert_memory_equal(a->gradient, b->gradient, a->gradient_count * sizeof *a->gradient);
}

static double apart(const float *a, const float *b, uint64_t count)
{
    double most = 0;
    for (uint64_t i = 0; i < count; i++) {
        most = fmax(most, fabs((double)a[i] - (double)b[i]));
        assert_true(isfinite(a[i]) && isfinite(b[i]));
    }
    return most;
}

// --- Who depends on whom ---

static void test_a_sample_sees_no_other(void **state)
{
    (void)state;
    for (size_t s = 0; s < 2; s++) {
        struct setup u = set_up(shapes[s], 0.2f, 1, TINY_ROWS);
        struct tiny_batch *const b = tiny_batch(u.shape, 0, TINY_SAMPLES);
        struct result *const before = result_of(&u, b);
        b->pixels[TINY_PIXELS + 3] += 0.5f; // Of sample 1.
        b->tokens[b->offsets[1] + 2] ^= 1;
        struct result *const after = result_of(&u, b);
        const bool vit = u.shape->kind == BASE_VIT;
        for (uint32_t sample = 0; sample < TINY_SAMPLES; sample++) {
            const uint32_t from = vit ? sample : b->offsets[sample];
            const uint32_t rows = vit ? 1 : b->offsets[sample + 1] - from;
            const bool same = memcmp(before->y + from * TINY_WIDTH, after->y + from * TINY_WIDTH,
                                     rows * TINY_WIDTH * sizeof *before->y) == 0;
            assert_true(same == (sample != 1));
        }
        mem_free(before);
        mem_free(after);
        mem_free(b);
        tear_down(&u);
    }
}

static void test_a_token_sees_none_after_it(void **state)
{
    (void)state;
    struct setup u = set_up(&tiny_text, 0.0f, 1, TINY_ROWS);
    struct tiny_batch *const b = tiny_batch(u.shape, 1, 2);
    struct result *const before = result_of(&u, b);
    for (uint32_t changed = 0; changed < TINY_CONTEXT; changed++) {
        b->tokens[changed] ^= 1;
        struct result *const after = result_of(&u, b);
        b->tokens[changed] ^= 1;
        for (uint32_t i = 0; i < TINY_CONTEXT; i++) {
            const bool same = memcmp(before->y + i * TINY_WIDTH, after->y + i * TINY_WIDTH,
                                     TINY_WIDTH * sizeof *before->y) == 0;
            assert_true(same == (i < changed));
        }
        mem_free(after);
    }
    mem_free(before);
    mem_free(b);
    tear_down(&u);
}

// Every pixel reaches the class token, though only what it sees is computed in the last layer.
static void test_a_class_token_sees_every_patch(void **state)
{
    (void)state;
    struct setup u = set_up(&tiny_vit, 0.0f, 1, TINY_ROWS);
    struct tiny_batch *const b = tiny_batch(u.shape, 0, 1);
    struct result *const before = result_of(&u, b);
    for (int i = 0; i < TINY_PIXELS; i++) {
        b->pixels[i] += 0.25f;
        struct result *const after = result_of(&u, b);
        b->pixels[i] -= 0.25f;
        assert_true(apart(before->y, after->y, TINY_WIDTH) > 1e-4);
        mem_free(after);
    }
    mem_free(before);
    mem_free(b);
    tear_down(&u);
}

// --- Company ---

// Alone or in a batch: the same numbers up to rounding, and the gradients of a batch are sums. The
// draws of dropout are a sample's own, so this holds with it.
static void test_company_changes_only_last_bits(void **state)
{
    (void)state;
    for (size_t s = 0; s < 2; s++) {
        struct setup u = set_up(shapes[s], 0.3f, 1, TINY_ROWS);
        struct tiny_batch *const b = tiny_batch(u.shape, 0, TINY_SAMPLES);
        struct result *const all = result_of(&u, b);
        float *const sum = tiny_floats(all->gradient_count);
        uint64_t at = 0;
        for (uint32_t sample = 0; sample < TINY_SAMPLES; sample++) {
            struct tiny_batch *const one = tiny_batch(u.shape, sample, sample + 1);
            struct result *const alone = result_of(&u, one);
            assert_true(apart(alone->y, all->y + at, alone->y_count) < 2e-5);
            at += alone->y_count;
            for (uint64_t i = 0; i < alone->gradient_count; i++) {
                sum[i] += alone->gradient[i];
            }
            mem_free(alone);
            mem_free(one);
        }
        assert_int_equal(at, all->y_count);
        assert_true(apart(sum, all->gradient, all->gradient_count) < 1e-4);
        mem_free(sum);
        mem_free(all);
        mem_free(b);
        tear_down(&u);
    }
}

// How much memory there is, where it lies and what was computed in it before: no bit depends on it.
static void test_bits_do_not_depend_on_memory(void **state)
{
    (void)state;
    for (size_t s = 0; s < 2; s++) {
        struct setup small = set_up(shapes[s], 0.3f, 1, TINY_ROWS);
        struct setup large = set_up(shapes[s], 0.3f, 1, 10 * TINY_ROWS + 3);
        struct tiny_batch *const b = tiny_batch(shapes[s], 1, 3);
        struct tiny_batch *const other = tiny_batch(shapes[s], 0, TINY_SAMPLES);
        struct result *const first = result_of(&small, b);
        mem_free(result_of(&small, other));
        struct result *const again = result_of(&small, b);
        struct result *const elsewhere = result_of(&large, b);
        assert_same_bits(first, again);
        assert_same_bits(first, elsewhere);
        mem_free(first);
        mem_free(again);
        mem_free(elsewhere);
        mem_free(b);
        mem_free(other);
        tear_down(&small);
        tear_down(&large);
    }
}

// --- Layers below the trained ones, computed once ---

// Runs each sample of the batch by itself through the layers below u->low; puts what comes out at
// its place in lower[N][d].
static void run_lower(const struct setup *u, struct transformer *t, const struct tiny_batch *b,
                      float *lower)
{
    for (uint32_t s = 0; s < b->batch.samples; s++) {
        struct tiny_batch *const one = mem_alloc(1, sizeof *one);
        const uint32_t from = b->offsets[s], count = b->offsets[s + 1] - from;
        one->offsets[1] = count;
        one->batch = (struct transformer_batch){.offsets = one->offsets, .samples = 1};
        memcpy(one->pixels, b->pixels + s * TINY_PIXELS, sizeof(float) * TINY_PIXELS);
        memcpy(one->tokens, b->tokens + from, count * sizeof *b->tokens);
        tiny_embed(t, u->shape, u->weights, one);
        transformer_run(t, u->weights, (const float *const *)u->adapters, &one->batch, 0, u->low);
        memcpy(lower + from * TINY_WIDTH, transformer_x(t), count * TINY_WIDTH * sizeof *lower);
        mem_free(one);
    }
}

// Activations below the trained layers, kept by another transformer made for one sample and for
// predicting, or computed just before in the memory of the training: the same bits come out of it.
static void test_kept_lower_activations(void **state)
{
    (void)state;
    for (size_t s = 0; s < 2; s++) {
        for (uint32_t low = 0; low < TINY_LAYERS; low++) {
            struct setup u = set_up(shapes[s], 0.3f, low, TINY_ROWS);
            struct transformer *one = NULL;
            const struct transformer_plan plan = {
                .shape = u.shape, .lora = &u.lora, .tokens_max = TINY_CONTEXT, .samples_max = 1};
            assert_int_equal(transformer_new(&plan, &one), OK);
            struct tiny_batch *const b = tiny_batch(u.shape, 0, TINY_SAMPLES);
            const uint64_t bytes = (uint64_t)b->offsets[TINY_SAMPLES] * TINY_WIDTH * sizeof(float);
            float kept[TINY_ROWS * TINY_WIDTH], made[TINY_ROWS * TINY_WIDTH];
            run_lower(&u, one, b, kept);
            run_lower(&u, u.t, b, made);
            assert_memory_equal(kept, made, bytes);
            struct result first, second;
            memcpy(transformer_x(u.t), kept, bytes);
            run_from(&u, b, low, &first);
            memcpy(transformer_x(u.t), kept, bytes);
            run_from(&u, b, low, &second); // The run above changed nothing that this one reads.
            assert_same_bits(&first, &second);

            struct result *const whole = result_of(&u, b); // All at once: only nearly the same.
            assert_true(apart(first.y, whole->y, whole->y_count) < 2e-5);
            mem_free(whole);
            mem_free(b);
            transformer_free(one);
            tear_down(&u);
        }
    }
}

// Predicting computes what training does, when nothing is dropped.
static void test_predicting_gives_the_same_bits(void **state)
{
    (void)state;
    for (size_t s = 0; s < 2; s++) {
        struct setup u = set_up(shapes[s], 0.0f, 1, TINY_ROWS);
        struct tiny_batch *const b = tiny_batch(u.shape, 0, TINY_SAMPLES);
        struct result *const trained = result_of(&u, b);
        struct transformer *t = NULL;
        const struct transformer_plan plan = {.shape = u.shape,
                                              .lora = &u.lora,
                                              .tokens_max = TINY_ROWS,
                                              .samples_max = TINY_SAMPLES};
        assert_int_equal(transformer_new(&plan, &t), OK);
        tiny_embed(t, u.shape, u.weights, b);
        transformer_run(t, u.weights, (const float *const *)u.adapters, &b->batch, 0, TINY_LAYERS);
        const float *const y = transformer_finish(t, u.weights, &b->batch);
        assert_memory_equal(y, trained->y, trained->y_count * sizeof *y);

        // Without adapters it is another model.
        tiny_embed(t, u.shape, u.weights, b);
        transformer_run(t, u.weights, NULL, &b->batch, 0, TINY_LAYERS);
        const float *const bare = transformer_finish(t, u.weights, &b->batch);
        assert_true(apart(bare, trained->y, trained->y_count) > 1e-2);
        transformer_free(t);
        mem_free(trained);
        mem_free(b);
        tear_down(&u);
    }
}

// --- Dropout ---

static void test_what_dropout_belongs_to(void **state)
{
    (void)state;
    struct setup u = set_up(&tiny_text, 0.3f, 1, TINY_ROWS);
    struct tiny_batch *const b = tiny_batch(u.shape, 1, 2);
    struct result *const before = result_of(&u, b);
    for (int change = 0; change < 3; change++) {
        struct tiny_batch *const other = tiny_batch(u.shape, 1, 2);
        if (change == 0) {
            other->batch.name = span_text("stage and another pass");
        } else if (change == 1) {
            other->rids[0].bytes[15] ^= 1;
        } else {
            other->windows[0] += 1;
        }
        struct result *const after = result_of(&u, other);
        assert_true(apart(before->y, after->y, after->y_count) > 1e-3);
        mem_free(after);
        mem_free(other);
    }
    b->batch.windows = NULL; // Window 0; sample 1 has window 1.
    struct result *const first = result_of(&u, b);
    assert_true(apart(before->y, first->y, first->y_count) > 1e-3);
    b->windows[0] = 0;
    b->batch.windows = b->windows;
    struct result *const same = result_of(&u, b);
    assert_same_bits(first, same);
    mem_free(before);
    mem_free(first);
    mem_free(same);
    mem_free(b);
    tear_down(&u);
}

// --- Edges ---

// Scores far beyond what exp can hold, and rows without any spread.
static void test_extreme_activations_stay_finite(void **state)
{
    (void)state;
    for (size_t s = 0; s < 2; s++) {
        struct setup u = set_up(shapes[s], 0.0f, 1, TINY_ROWS);
        struct tiny_batch *const b = tiny_batch(u.shape, 0, TINY_SAMPLES);
        const struct base_layer_at at = base_layer_at(u.shape, 1);
        for (uint64_t i = at.qkv; i < at.qkv_bias; i++) {
            u.weights[i] *= 1e4f; // Scores of some 1e8.
        }
        struct result *const large = result_of(&u, b);
        assert_true(apart(large->y, large->y, large->y_count) == 0); // And finite.
        assert_true(apart(large->gradient, large->gradient, large->gradient_count) == 0);
        mem_free(large);

        tiny_embed(u.t, u.shape, u.weights, b);
        for (uint64_t i = 0; i < b->offsets[TINY_SAMPLES] * TINY_WIDTH; i++) {
            transformer_x(u.t)[i] = 3.0f; // Every norm's variance is 0.
        }
        struct result flat;
        run_from(&u, b, 0, &flat);
        assert_true(apart(flat.y, flat.y, flat.y_count) == 0);
        assert_true(apart(flat.gradient, flat.gradient, flat.gradient_count) == 0);
        mem_free(b);
        tear_down(&u);
    }
}

// A weight that is not a number is not hidden: the stage finds it in what comes out.
static void test_nan_goes_on(void **state)
{
    (void)state;
    struct setup u = set_up(&tiny_text, 0.0f, 1, TINY_ROWS);
    struct tiny_batch *const b = tiny_batch(u.shape, 1, 2);
    u.weights[base_layer_at(u.shape, 1).qkv] = NAN;
    tiny_embed(u.t, u.shape, u.weights, b);
    transformer_run(u.t, u.weights, (const float *const *)u.adapters, &b->batch, 0, TINY_LAYERS);
    assert_true(isnan(transformer_finish(u.t, u.weights, &b->batch)[0]));
    mem_free(b);
    tear_down(&u);
}

// --- Memory ---

static struct transformer_plan plan_of(const struct base_shape *shape, const struct lora *lora)
{
    return (struct transformer_plan){
        shape, lora, TINY_ROWS, TINY_SAMPLES, TRANSFORMER_ADAPTERS, 1, TINY_LAYERS};
}

static void test_too_much_memory_is_refused(void **state)
{
    (void)state;
    struct base_shape wide = tiny_vit;
    wide.width = wide.inner = LIMIT_WIDTH;
    wide.heads = 1;
    const struct lora lora = tiny_lora(&wide, 0.1f);
    struct transformer *t = NULL;
    struct transformer_plan plan = plan_of(&wide, &lora);
    plan.tokens_max = UINT32_MAX; // The first array fails.
    assert_int_equal(transformer_new(&plan, &t), ERR_LIMIT);
    assert_null(t);
    plan = plan_of(&wide, &lora);
    plan.samples_max = UINT32_MAX; // A later one fails; a sanitizer sees that the first is freed.
    assert_int_equal(transformer_new(&plan, &t), ERR_LIMIT);
    assert_null(t);
    transformer_free(NULL);
}

#ifdef __SANITIZE_ADDRESS__ // Which else ends the program.
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "allocator_may_return_null=1";
}
#endif

#ifndef __SANITIZE_ADDRESS__ // Which needs the whole address space.
// In a child: lets the address space grow by `more` bytes, then makes a transformer. 0: it was
// made; 1: refused as it should be; 2: else.
static int make_within(size_t more)
{
    const struct lora lora = tiny_lora(&tiny_text, 0.1f);
    struct transformer_plan plan = plan_of(&tiny_text, &lora);
    plan.tokens_max = 40000; // Arrays of megabytes, each of which the kernel is asked for.
    long pages = 0;
    FILE *const file = fopen("/proc/self/statm", "r");
    if (file == NULL || fscanf(file, "%ld", &pages) != 1) {
        return 2;
    }
    fclose(file);
    const struct rlimit limit = {(size_t)pages * 4096 + more, RLIM_INFINITY};
    if (setrlimit(RLIMIT_AS, &limit) != 0) {
        return 2;
    }
    struct transformer *t = NULL;
    const enum err err = transformer_new(&plan, &t);
    const bool refused = err == ERR_LIMIT && t == NULL;
    transformer_free(t);
    return err == OK ? 0 : refused ? 1 : 2;
}

// Whichever array it is that memory does not suffice for.
static void test_each_array_may_be_refused(void **state)
{
    (void)state;
    int refused = 0;
    for (size_t more = 0;; more += (size_t)4 << 20) {
        const pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            _exit(make_within(more));
        }
        int status = 0;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFEXITED(status));
        if (WEXITSTATUS(status) == 0) {
            break;
        }
        assert_int_equal(WEXITSTATUS(status), 1);
        refused++;
    }
    assert_true(refused >= 10);
}
#endif

int main(void)
{
    if (digest_start() != OK) {
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_sample_sees_no_other),
        cmocka_unit_test(test_a_token_sees_none_after_it),
        cmocka_unit_test(test_a_class_token_sees_every_patch),
        cmocka_unit_test(test_company_changes_only_last_bits),
        cmocka_unit_test(test_bits_do_not_depend_on_memory),
        cmocka_unit_test(test_kept_lower_activations),
        cmocka_unit_test(test_predicting_gives_the_same_bits),
        cmocka_unit_test(test_what_dropout_belongs_to),
        cmocka_unit_test(test_extreme_activations_stay_finite),
        cmocka_unit_test(test_nan_goes_on),
        cmocka_unit_test(test_too_much_memory_is_refused),
#ifndef __SANITIZE_ADDRESS__
        cmocka_unit_test(test_each_array_may_be_refused),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
