// model/norm.c: see norm.h.
#include "model/norm.h"

#include <math.h>

#include "model/vectorised.h"

INLINED double row_sum(const float *x, size_t width)
{
    reals sum = all(0.0);
    double rest = 0;
    size_t i = 0;
    for (; i + LANES <= width; i += LANES) {
        sum += load_reals(x + i);
    }
    for (; i < width; i++) {
        rest += (double)x[i];
    }
    return lanes_sum(sum) + rest;
}

// The sum of (x - mean)^2.
INLINED double row_spread(const float *x, double mean, size_t width)
{
    reals sum = all(0.0);
    double rest = 0;
    size_t i = 0;
    for (; i + LANES <= width; i += LANES) {
        const reals off = load_reals(x + i) - mean;
        sum += off * off;
    }
    for (; i < width; i++) {
        const double off = (double)x[i] - mean;
        rest += off * off;
    }
    return lanes_sum(sum) + rest;
}

VECTORISED void norm_forward(const float *x, const float *gain, const float *bias, double epsilon,
                             size_t rows, size_t width, float *hat_out, float *scale_out,
                             float *y_out)
{
    for (size_t row = 0; row < rows; row++) {
        const float *const in = x + row * width;
        float *const y = y_out + row * width;
        float *const hat = hat_out == NULL ? y : hat_out + row * width; // y is written after it.
        const double mean = row_sum(in, width) / (double)width;
        const double variance = row_spread(in, mean, width) / (double)width;
        const float centre = (float)mean, scale = (float)(1.0 / sqrt(variance + epsilon));
        size_t i = 0;
        for (; i + WIDE_LANES <= width; i += WIDE_LANES) {
            const wide_singles h = (load_wide(in + i) - centre) * scale;
            store_wide(hat + i, h);
            store_wide(y + i, h * load_wide(gain + i) + load_wide(bias + i));
        }
        for (; i < width; i++) {
            const float h = (in[i] - centre) * scale;
            hat[i] = h;
            y[i] = h * gain[i] + bias[i];
        }
        if (scale_out != NULL) {
            scale_out[row] = scale;
        }
    }
}

// With g = dy * gain: dx = scale * (g - mean(g) - hat * mean(g * hat)).
VECTORISED void norm_backward(const float *hat, const float *scale, const float *gain,
                              const float *dy, size_t rows, size_t width, float *dx)
{
    for (size_t row = 0; row < rows; row++) {
        const float *const h = hat + row * width, *const in = dy + row * width;
        float *const out = dx + row * width;
        reals sum = all(0.0), sum_hat = all(0.0);
        double rest = 0, rest_hat = 0;
        size_t i = 0;
        for (; i + LANES <= width; i += LANES) {
            const reals g = load_reals(in + i) * load_reals(gain + i);
            sum += g;
            sum_hat += g * load_reals(h + i);
        }
        for (; i < width; i++) {
            const double g = (double)in[i] * (double)gain[i];
            rest += g;
            rest_hat += g * (double)h[i];
        }
        const float mean = (float)((lanes_sum(sum) + rest) / (double)width);
        const float mean_hat = (float)((lanes_sum(sum_hat) + rest_hat) / (double)width);
        for (i = 0; i + WIDE_LANES <= width; i += WIDE_LANES) {
            const wide_singles g = load_wide(in + i) * load_wide(gain + i);
            const wide_singles d = (g - mean - load_wide(h + i) * mean_hat) * scale[row];
            store_wide(out + i, load_wide(out + i) + d);
        }
        for (; i < width; i++) {
            const float g = in[i] * gain[i];
            out[i] += (g - mean - h[i] * mean_hat) * scale[row];
        }
    }
}

VECTORISED void norm_gradient(const float *hat, const float *dy, size_t rows, size_t width,
                              float *dgain_out, float *dbias_out)
{
    memset(dgain_out, 0, width * sizeof *dgain_out);
    memset(dbias_out, 0, width * sizeof *dbias_out);
    for (size_t row = 0; row < rows; row++) {
        const float *const h = hat + row * width, *const in = dy + row * width;
        size_t i = 0;
        for (; i + WIDE_LANES <= width; i += WIDE_LANES) {
            const wide_singles g = load_wide(in + i);
            store_wide(dgain_out + i, load_wide(dgain_out + i) + g * load_wide(h + i));
            store_wide(dbias_out + i, load_wide(dbias_out + i) + g);
        }
        for (; i < width; i++) {
            dgain_out[i] += in[i] * h[i];
            dbias_out[i] += in[i];
        }
    }
}
