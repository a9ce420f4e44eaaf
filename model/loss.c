// model/loss.c: see loss.h.
#include "model/loss.h"

#include "base/check.h"
#include "model/elem.h"

double loss_softmax(const float *logits, uint32_t width, uint32_t target, float *delta_out)
{
    CHECK(target < width);
    float most = logits[0];
    for (uint32_t i = 1; i < width; i++) {
        most = logits[i] > most ? logits[i] : most;
    }
    for (uint32_t i = 0; i < width; i++) {
        delta_out[i] = logits[i] - most;
    }
    const double distance = (double)delta_out[target];
    elem_exp(delta_out, delta_out, width);
    float sum = 0.0f;
    for (uint32_t i = 0; i < width; i++) {
        sum += delta_out[i];
    }
    for (uint32_t i = 0; i < width; i++) {
        delta_out[i] = delta_out[i] / sum;
    }
    delta_out[target] -= 1.0f;
    elem_log(&sum, &sum, 1);
    return (double)sum - distance;
}

double loss_square(float output, float target, float *delta_out)
{
    *delta_out = output - target;
    return 0.5 * (double)*delta_out * (double)*delta_out;
}
