// model/transformer_plain.c: see transformer_plain.h.
#include "model/transformer_plain.h"

#include <math.h>

#include "base/mem.h"

struct plain_layer {
    double *x;                    // [T][d]: what the layer is given
    double *y1, *qkv, *probs, *o; // [T][d], [T][3d], [h][T][T], [T][d]
    double *middle;               // [T][d]: after attention
    double *y2, *sums, *units;    // [T][d], [T][f], [T][f]
};

struct plain {
    struct plain_model model;
    uint32_t layers, T, d, h, f;
    const float *pixels;
    const uint16_t *tokens;
    struct plain_layer *layer; // [layers]
    double *last, *y;          // [T][d]: before and after the final norm
};

static double *numbers(size_t count)
{
    return mem_alloc(count, sizeof(double));
}

struct plain *plain_new(const struct plain_model *model, const float *pixels,
                        const uint16_t *tokens, uint32_t token_count)
{
    struct plain *const p = mem_alloc(1, sizeof *p);
    const struct base_shape *const shape = model->shape;
    p->model = *model;
    p->layers = shape->layers;
    p->T = token_count;
    p->d = shape->width;
    p->h = shape->heads;
    p->f = shape->inner;
    p->pixels = pixels;
    p->tokens = tokens;
    p->layer = mem_alloc(p->layers, sizeof *p->layer);
    const size_t T = p->T, d = p->d;
    for (uint32_t i = 0; i < p->layers; i++) {
        p->layer[i] = (struct plain_layer){
            .x = numbers(T * d),
            .y1 = numbers(T * d),
            .qkv = numbers(T * 3 * d),
            .probs = numbers(p->h * T * T),
            .o = numbers(T * d),
            .middle = numbers(T * d),
            .y2 = numbers(T * d),
            .sums = numbers(T * p->f),
            .units = numbers(T * p->f),
        };
    }
    p->last = numbers(T * d);
    p->y = numbers(T * d);
    return p;
}

void plain_free(struct plain *plain)
{
    if (plain == NULL) {
        return;
    }
    for (uint32_t i = 0; i < plain->layers; i++) {
        struct plain_layer *const l = &plain->layer[i];
        double *const all[] = {l->x,      l->y1, l->qkv,  l->probs, l->o,
                               l->middle, l->y2, l->sums, l->units};
        for (size_t j = 0; j < sizeof all / sizeof *all; j++) {
            mem_free(all[j]);
        }
    }
    mem_free(plain->layer);
    mem_free(plain->last);
    mem_free(plain->y);
    mem_free(plain);
}

// --- Linear layers with adapters ---

struct where {
    uint64_t weights, bias;
    uint32_t in, out;
};

static struct where where(const struct plain *p, uint32_t layer, enum linear linear)
{
    const struct base_layer_at at = base_layer_at(p->model.shape, layer);
    switch (linear) {
    case LINEAR_QKV:
        return (struct where){at.qkv, at.qkv_bias, p->d, 3 * p->d};
    case LINEAR_OUTPUT:
        return (struct where){at.output, at.output_bias, p->d, p->d};
    case LINEAR_UP:
        return (struct where){at.up, at.up_bias, p->d, p->f};
    case LINEAR_DOWN:
    case LINEAR_COUNT_:
        break;
    }
    return (struct where){at.down, at.down_bias, p->f, p->d};
}

struct adapter {
    const double *a, *b;
    uint64_t a_at, b_at;
    const float *factor;
    const struct lora_target *target;
};

// False when this layer has no adapter for target i, or it is on another linear layer.
static bool adapter_of(const struct plain *p, uint32_t layer, enum linear linear, uint32_t i,
                       struct adapter *out)
{
    const struct lora *const lora = p->model.lora;
    const double *const run = p->model.adapters == NULL ? NULL : p->model.adapters[layer];
    if (run == NULL || lora->targets[i].linear != linear) {
        return false;
    }
    out->target = &lora->targets[i];
    out->a_at = 0;
    for (uint32_t j = 0; j < i; j++) {
        out->a_at += (uint64_t)lora->rank * (lora->targets[j].in + lora->targets[j].rows);
    }
    out->b_at = out->a_at + (uint64_t)lora->rank * out->target->in;
    out->a = run + out->a_at;
    out->b = run + out->b_at;
    out->factor =
        p->model.factors == NULL ? NULL : p->model.factors[layer * lora->target_count + i];
    return true;
}

static double dropped(const struct adapter *adapter, const double *x, size_t t, uint32_t i)
{
    const size_t at = t * adapter->target->in + i;
    return adapter->factor == NULL ? x[at] : x[at] * (double)adapter->factor[at];
}

// (dropped x of token t) times row k of A.
static double low_of(const struct adapter *adapter, const double *x, size_t t, uint32_t k)
{
    double low = 0;
    for (uint32_t i = 0; i < adapter->target->in; i++) {
        low += dropped(adapter, x, t, i) * adapter->a[k * adapter->target->in + i];
    }
    return low;
}

static uint32_t target_count(const struct plain *p)
{
    return p->model.lora == NULL ? 0 : p->model.lora->target_count;
}

static void linear(const struct plain *p, uint32_t layer, enum linear linear, const double *x,
                   double *y)
{
    const struct where w = where(p, layer, linear);
    for (size_t t = 0; t < p->T; t++) {
        for (size_t o = 0; o < w.out; o++) {
            double sum = p->model.weights[w.bias + o];
            for (size_t i = 0; i < w.in; i++) {
                sum += p->model.weights[w.weights + o * w.in + i] * x[t * w.in + i];
            }
            y[t * w.out + o] = sum;
        }
    }
    struct adapter adapter;
    for (uint32_t i = 0; i < target_count(p); i++) {
        if (!adapter_of(p, layer, linear, i, &adapter)) {
            continue;
        }
        const uint32_t r = p->model.lora->rank;
        for (size_t t = 0; t < p->T; t++) {
            for (uint32_t k = 0; k < r; k++) {
                const double low = low_of(&adapter, x, t, k);
                for (size_t o = 0; o < adapter.target->rows; o++) {
                    y[t * w.out + adapter.target->from + o] +=
                        (double)p->model.lora->scale * adapter.b[o * r + k] * low;
                }
            }
        }
    }
}

// Adds to the gradients and to dx.
static void linear_backward(const struct plain *p, uint32_t layer, enum linear linear,
                            const double *x, const double *dy, double *dx, double *dweights,
                            double *const *dadapters)
{
    const struct where w = where(p, layer, linear);
    for (size_t t = 0; t < p->T; t++) {
        for (size_t o = 0; o < w.out; o++) {
            const double g = dy[t * w.out + o];
            dweights[w.bias + o] += g;
            for (size_t i = 0; i < w.in; i++) {
                dweights[w.weights + o * w.in + i] += g * x[t * w.in + i];
                dx[t * w.in + i] += g * p->model.weights[w.weights + o * w.in + i];
            }
        }
    }
    struct adapter adapter;
    for (uint32_t n = 0; n < target_count(p); n++) {
        if (!adapter_of(p, layer, linear, n, &adapter)) {
            continue;
        }
        const uint32_t r = p->model.lora->rank, in = adapter.target->in;
        const double scale = (double)p->model.lora->scale;
        double *const da = dadapters == NULL ? NULL : dadapters[layer] + adapter.a_at;
        double *const db = dadapters == NULL ? NULL : dadapters[layer] + adapter.b_at;
        for (size_t t = 0; t < p->T; t++) {
            for (uint32_t k = 0; k < r; k++) {
                const double low = low_of(&adapter, x, t, k);
                double dlow = 0;
                for (size_t o = 0; o < adapter.target->rows; o++) {
                    const double g = scale * dy[t * w.out + adapter.target->from + o];
                    dlow += g * adapter.b[o * r + k];
                    if (db != NULL) {
                        db[o * r + k] += g * low;
                    }
                }
                for (uint32_t i = 0; i < in; i++) {
                    const double factor =
                        adapter.factor == NULL ? 1 : (double)adapter.factor[t * in + i];
                    if (da != NULL) {
                        da[k * in + i] += dlow * dropped(&adapter, x, t, i);
                    }
                    dx[t * in + i] += dlow * adapter.a[k * in + i] * factor;
                }
            }
        }
    }
}

// --- Norm ---

static void moments(const struct plain *p, const double *x, double *mean, double *scale)
{
    double variance = 0;
    *mean = 0;
    for (size_t i = 0; i < p->d; i++) {
        *mean += x[i] / p->d;
    }
    for (size_t i = 0; i < p->d; i++) {
        variance += (x[i] - *mean) * (x[i] - *mean) / p->d;
    }
    *scale = 1 / sqrt(variance + p->model.shape->epsilon);
}

// Gain at `at`, bias after it.
static void norm(const struct plain *p, uint64_t at, const double *x, double *y)
{
    const double *const gain = p->model.weights + at, *const bias = gain + p->d;
    for (size_t t = 0; t < p->T; t++) {
        double mean, scale;
        moments(p, x + t * p->d, &mean, &scale);
        for (size_t i = 0; i < p->d; i++) {
            y[t * p->d + i] = (x[t * p->d + i] - mean) * scale * gain[i] + bias[i];
        }
    }
}

// Adds to dx and to the gradient.
static void norm_backward(const struct plain *p, uint64_t at, const double *x, const double *dy,
                          double *dx, double *dweights)
{
    const double *const gain = p->model.weights + at;
    for (size_t t = 0; t < p->T; t++) {
        const double *const in = x + t * p->d, *const g = dy + t * p->d;
        double mean, scale, sum = 0, sum_hat = 0;
        moments(p, in, &mean, &scale);
        for (size_t i = 0; i < p->d; i++) {
            const double hat = (in[i] - mean) * scale;
            dweights[at + i] += g[i] * hat;
            dweights[at + p->d + i] += g[i];
            sum += g[i] * gain[i];
            sum_hat += g[i] * gain[i] * hat;
        }
        for (size_t i = 0; i < p->d; i++) {
            const double hat = (in[i] - mean) * scale;
            dx[t * p->d + i] += scale * (g[i] * gain[i] - sum / p->d - hat * sum_hat / p->d);
        }
    }
}

// --- Attention ---

// Tokens that token t sees: 0 .. seen-1.
static size_t seen(const struct plain *p, size_t t)
{
    return p->model.shape->kind == BASE_TEXT ? t + 1 : p->T;
}

static void attention(const struct plain *p, struct plain_layer *l)
{
    const size_t d = p->d, width = d / p->h;
    for (size_t h = 0; h < p->h; h++) {
        for (size_t t = 0; t < p->T; t++) {
            double *const row = l->probs + (h * p->T + t) * p->T;
            const double *const query = l->qkv + t * 3 * d + h * width;
            double most = -INFINITY, sum = 0;
            for (size_t s = 0; s < seen(p, t); s++) {
                const double *const key = l->qkv + s * 3 * d + d + h * width;
                row[s] = 0;
                for (size_t i = 0; i < width; i++) {
                    row[s] += query[i] * key[i] / sqrt((double)width);
                }
                most = fmax(most, row[s]);
            }
            for (size_t s = 0; s < seen(p, t); s++) {
                row[s] = exp(row[s] - most);
                sum += row[s];
            }
            for (size_t i = 0; i < width; i++) {
                l->o[t * d + h * width + i] = 0;
            }
            for (size_t s = 0; s < seen(p, t); s++) {
                const double *const value = l->qkv + s * 3 * d + 2 * d + h * width;
                row[s] /= sum;
                for (size_t i = 0; i < width; i++) {
                    l->o[t * d + h * width + i] += row[s] * value[i];
                }
            }
        }
    }
}

static void attention_backward(const struct plain *p, const struct plain_layer *l,
                               const double *mixed_slope, double *dqkv)
{
    const size_t d = p->d, width = d / p->h;
    double *const slope = numbers(p->T);
    for (size_t h = 0; h < p->h; h++) {
        for (size_t t = 0; t < p->T; t++) {
            const double *const row = l->probs + (h * p->T + t) * p->T;
            const double *const g = mixed_slope + t * d + h * width;
            double mean = 0;
            for (size_t s = 0; s < seen(p, t); s++) {
                slope[s] = 0;
                for (size_t i = 0; i < width; i++) {
                    const size_t value = s * 3 * d + 2 * d + h * width + i;
                    slope[s] += g[i] * l->qkv[value];
                    dqkv[value] += g[i] * row[s];
                }
                mean += slope[s] * row[s];
            }
            for (size_t s = 0; s < seen(p, t); s++) {
                const double score = row[s] * (slope[s] - mean) / sqrt((double)width);
                for (size_t i = 0; i < width; i++) {
                    const size_t query = t * 3 * d + h * width + i;
                    const size_t key = s * 3 * d + d + h * width + i;
                    dqkv[query] += score * l->qkv[key];
                    dqkv[key] += score * l->qkv[query];
                }
            }
        }
    }
    mem_free(slope);
}

// --- GELU ---

static double gelu(const struct plain *p, double x, double *slope_out)
{
    const double pi = acos(-1.0);
    if (p->model.shape->gelu == BASE_GELU_ERF) {
        const double share = 0.5 * (1 + erf(x / sqrt(2.0)));
        *slope_out = share + x * exp(-x * x / 2) / sqrt(2 * pi);
        return x * share;
    }
    const double root = sqrt(2 / pi), t = tanh(root * (x + 0.044715 * x * x * x));
    *slope_out = 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * root * (1 + 3 * 0.044715 * x * x);
    return 0.5 * x * (1 + t);
}

// --- Embedding ---

// Value v of patch number `patch`, from 0.
static double patch_value(const struct plain *p, size_t patch, size_t v)
{
    const struct base_shape *const s = p->model.shape;
    const size_t across = s->cols / s->patch, area = (size_t)s->patch * s->patch;
    const size_t channel = v / area, row = v % area / s->patch, col = v % s->patch;
    const size_t y = patch / across * s->patch + row, x = patch % across * s->patch + col;
    return ((double)p->pixels[y * s->cols + x] - (double)s->mean[channel]) /
           (double)s->deviation[channel];
}

static size_t patch_values(const struct plain *p)
{
    return (size_t)p->model.shape->channels * p->model.shape->patch * p->model.shape->patch;
}

static void embed(const struct plain *p, double *x)
{
    const struct base_at at = base_at(p->model.shape);
    const double *const w = p->model.weights;
    for (size_t t = 0; t < p->T; t++) {
        for (size_t i = 0; i < p->d; i++) {
            double sum = w[at.positions + t * p->d + i];
            if (p->model.shape->kind == BASE_TEXT) {
                sum += w[at.tokens + (uint64_t)p->tokens[t] * p->d + i];
            } else if (t == 0) {
                sum += w[at.class_token + i];
            } else {
                sum += w[at.patch_bias + i];
                for (size_t v = 0; v < patch_values(p); v++) {
                    sum += w[at.patches + i * patch_values(p) + v] * patch_value(p, t - 1, v);
                }
            }
            x[t * p->d + i] = sum;
        }
    }
}

static void embed_backward(const struct plain *p, const double *dx, double *dweights)
{
    const struct base_at at = base_at(p->model.shape);
    for (size_t t = 0; t < p->T; t++) {
        for (size_t i = 0; i < p->d; i++) {
            const double g = dx[t * p->d + i];
            dweights[at.positions + t * p->d + i] += g;
            if (p->model.shape->kind == BASE_TEXT) {
                dweights[at.tokens + (uint64_t)p->tokens[t] * p->d + i] += g;
            } else if (t == 0) {
                dweights[at.class_token + i] += g;
            } else {
                dweights[at.patch_bias + i] += g;
                for (size_t v = 0; v < patch_values(p); v++) {
                    dweights[at.patches + i * patch_values(p) + v] += g * patch_value(p, t - 1, v);
                }
            }
        }
    }
}

// --- All of it ---

const double *plain_forward(struct plain *plain)
{
    struct plain *const p = plain;
    const size_t count = (size_t)p->T * p->d;
    double *x = numbers(count), *branch = numbers(count);
    embed(p, x);
    for (uint32_t n = 0; n < p->layers; n++) {
        struct plain_layer *const l = &p->layer[n];
        const struct base_layer_at at = base_layer_at(p->model.shape, n);
        memcpy(l->x, x, count * sizeof *x);
        norm(p, at.norm1, l->x, l->y1);
        linear(p, n, LINEAR_QKV, l->y1, l->qkv);
        attention(p, l);
        linear(p, n, LINEAR_OUTPUT, l->o, branch);
        for (size_t i = 0; i < count; i++) {
            l->middle[i] = l->x[i] + branch[i];
        }
        norm(p, at.norm2, l->middle, l->y2);
        linear(p, n, LINEAR_UP, l->y2, l->sums);
        for (size_t i = 0; i < (size_t)p->T * p->f; i++) {
            double slope;
            l->units[i] = gelu(p, l->sums[i], &slope);
        }
        linear(p, n, LINEAR_DOWN, l->units, branch);
        for (size_t i = 0; i < count; i++) {
            x[i] = l->middle[i] + branch[i];
        }
    }
    memcpy(p->last, x, count * sizeof *x);
    norm(p, base_at(p->model.shape).norm, p->last, p->y);
    mem_free(x);
    mem_free(branch);
    return p->y;
}

// dx: d loss / d what the layer gave, then d what it was given.
static void layer_backward(const struct plain *p, uint32_t n, double *dx, double *dweights,
                           double *const *dadapters)
{
    const struct plain_layer *const l = &p->layer[n];
    const struct base_layer_at at = base_layer_at(p->model.shape, n);
    const size_t T = p->T, d = p->d, f = p->f;
    double *const dunits = numbers(T * f), *const dy2 = numbers(T * d),
                  *const dmixed = numbers(T * d);
    double *const dqkv = numbers(T * 3 * d), *const dy1 = numbers(T * d);
    linear_backward(p, n, LINEAR_DOWN, l->units, dx, dunits, dweights, dadapters);
    for (size_t i = 0; i < T * f; i++) {
        double slope;
        gelu(p, l->sums[i], &slope);
        dunits[i] *= slope;
    }
    linear_backward(p, n, LINEAR_UP, l->y2, dunits, dy2, dweights, dadapters);
    norm_backward(p, at.norm2, l->middle, dy2, dx, dweights);
    linear_backward(p, n, LINEAR_OUTPUT, l->o, dx, dmixed, dweights, dadapters);
    attention_backward(p, l, dmixed, dqkv);
    linear_backward(p, n, LINEAR_QKV, l->y1, dqkv, dy1, dweights, dadapters);
    norm_backward(p, at.norm1, l->x, dy1, dx, dweights);
    double *const all[] = {dunits, dy2, dmixed, dqkv, dy1};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        mem_free(all[i]);
    }
}

void plain_backward(struct plain *plain, const double *dy, double *dweights,
                    double *const *dadapters)
{
    double *const dx = numbers((size_t)plain->T * plain->d);
    norm_backward(plain, base_at(plain->model.shape).norm, plain->last, dy, dx, dweights);
    for (uint32_t n = plain->layers; n-- > 0;) {
        layer_backward(plain, n, dx, dweights, dadapters);
    }
    embed_backward(plain, dx, dweights);
    mem_free(dx);
}
