// tests/unit/peftcase.h: adapters of a small model, written to a directory and read back. Include after
// cmocka.h.
#pragma once

#include <jansson.h>
#include <math.h>

#include "base/mem.h"
#include "client/peft.h"
#include "client/peftmap.h"
#include "client/safetensors.h"
#include "tests/unit/feed.h"

enum { WIDTH = 4, INNER = 6, LAYERS = 12 };

struct example {
    struct peft peft;
    float *values;
    char dir[SCRATCH_BYTES + 64];
};

// Numbers of full precision, none of them zero.
static inline float draw(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (float)((int32_t)(*state >> 33) - (1 << 30)) / 1.3e9f + 1e-9f;
}

static inline void example_init(struct example *example, enum base_kind kind, const char *targets,
                                uint32_t rank, double alpha, bool rslora)
{
    static unsigned number;
    struct peft *const peft = &example->peft;
    uint64_t state = 7 + number;
    *peft = (struct peft){
        .shape = {.kind = kind,
                  .gelu = kind == BASE_VIT ? BASE_GELU_ERF : BASE_GELU_TANH,
                  .layers = LAYERS,
                  .width = WIDTH,
                  .heads = 2,
                  .inner = INNER,
                  .epsilon = 1e-5},
        .lora = {.rank = rank, .dropout = 0.1f},
        .alpha = alpha,
        .rslora = rslora,
        .base_name = "vit-base",
        .head_rows = kind == BASE_VIT ? 3 : BASE_BYTES + 1,
    };
    memset(peft->base_digest.bytes, 0xab, DIGEST_BYTES);
    snprintf(peft->targets, sizeof peft->targets, "%s", targets);
    assert_int_equal(lora_targets(&peft->shape, targets, &peft->lora), OK);
    peft->lora.scale = (float)(alpha / (rslora ? sqrt((double)rank) : (double)rank));
    assert_int_equal(lora_check(&peft->lora), OK);

    const uint64_t one = lora_count(&peft->lora);
    const uint64_t all = 3 * one + (uint64_t)peft->head_rows * (WIDTH + 1);
    example->values = mem_alloc(all, sizeof(float));
    for (uint64_t i = 0; i < all; i++) {
        example->values[i] = draw(&state);
    }
    peft->adapters[2] = example->values;
    peft->adapters[10] = example->values + one;
    peft->adapters[11] = example->values + 2 * one;
    peft->head_weight = example->values + 3 * one;
    if (kind == BASE_VIT) {
        peft->head_bias = peft->head_weight + (uint64_t)peft->head_rows * WIDTH;
    }
    snprintf(example->dir, sizeof example->dir, "%s/peft%u", feed_dir, number++);
}

static inline void example_deinit(struct example *example)
{
    mem_free(example->values);
    scratch_remove(example->dir);
}

static inline const char *file_of(const struct example *example, const char *name)
{
    static char path[sizeof example->dir + 64];
    snprintf(path, sizeof path, "%s/%s", example->dir, name);
    return path;
}

static inline void write_it(const struct example *example)
{
    if (peft_write(example->dir, &example->peft) != OK) {
        fail_msg("%s", err_text());
    }
}

static inline void same_floats(const float *a, const float *b, uint64_t count)
{
    assert_true((a == NULL) == (b == NULL));
    if (a != NULL) {
        assert_memory_equal(a, b, count * sizeof *a);
    }
}

// Reads the directory and compares every bit.
static inline void reads_back(const struct example *example)
{
    const struct peft *const peft = &example->peft;
    struct peft got;
    if (peft_read(example->dir, &peft->shape, &got) != OK) {
        fail_msg("%s", err_text());
    }
    assert_memory_equal(&got.lora, &peft->lora, sizeof got.lora);
    assert_true(got.alpha == peft->alpha && got.rslora == peft->rslora);
    assert_string_equal(got.targets, peft->targets);
    assert_string_equal(got.base_name, peft->base_name);
    assert_memory_equal(&got.base_digest, &peft->base_digest, DIGEST_BYTES);
    for (uint32_t layer = 0; layer < LIMIT_BASE_LAYERS; layer++) {
        same_floats(got.adapters[layer], peft->adapters[layer], lora_count(&peft->lora));
    }
    assert_int_equal(got.head_rows, peft->head_rows);
    same_floats(got.head_weight, peft->head_weight, (uint64_t)peft->head_rows * WIDTH);
    same_floats(got.head_bias, peft->head_bias, peft->head_rows);
    peft_deinit(&got);
}

static inline json_t *config_of(const struct example *example)
{
    json_error_t error;
    json_t *const config =
        json_load_file(file_of(example, "adapter_config.json"), JSON_REJECT_DUPLICATES, &error);
    assert_non_null(config);
    return config;
}
