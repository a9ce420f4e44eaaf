// base/rng.c: see rng.h.
#include "base/rng.h"

#include <string.h>

struct rng_key rng_key_of(const char *domain, struct span belongs_to)
{
    const uint64_t hash = digest_u64(domain, belongs_to);
    return (struct rng_key){{(uint32_t)hash, (uint32_t)(hash >> 32)}};
}

void rng_philox(struct rng_key key, const uint32_t counter[static 4], uint32_t out[static 4])
{
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    uint32_t k0 = key.word[0], k1 = key.word[1];
    for (int round = 0; round < 10; round++) {
        const uint64_t p0 = (uint64_t)0xD2511F53u * c0;
        const uint64_t p1 = (uint64_t)0xCD9E8D57u * c2;
        const uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        const uint32_t n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        c0 = n0;
        c2 = n2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

uint64_t rng_u64_of_id(struct rng_key key, const struct id128 *id)
{
    uint32_t counter[4], out[4];
    memcpy(counter, id->bytes, sizeof counter);
    rng_philox(key, counter, out);
    return (uint64_t)out[1] << 32 | out[0];
}

void rng_fill_uniform(struct rng_key key, float bound, float *out, uint64_t count)
{
    for (uint64_t i = 0; i < count; i += 4) {
        const uint64_t block = i / 4;
        const uint32_t counter[4] = {(uint32_t)block, (uint32_t)(block >> 32), 0, 0};
        uint32_t words[4];
        rng_philox(key, counter, words);
        for (uint64_t j = 0; j < 4 && i + j < count; j++) {
            out[i + j] = (2.0f * rng_unit(words[j]) - 1.0f) * bound;
        }
    }
}
