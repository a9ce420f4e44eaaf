// model/speckey.c: see speckey.h: the keys, their ranges and defaults, and when each has an effect.
#include "model/speckey.h"

#include <string.h>

static bool is_mlp(const struct spec *spec)
{
    return strcmp(spec->learner, "mlp") == 0;
}

static bool is_vit(const struct spec *spec)
{
    return strcmp(spec->learner, "vit") == 0;
}

static bool is_text(const struct spec *spec)
{
    return strcmp(spec->learner, "text") == 0;
}

static bool is_transformer(const struct spec *spec)
{
    return is_vit(spec) || is_text(spec);
}

static bool is_from_nothing(const struct spec *spec)
{
    return is_transformer(spec) && !spec_has_base(spec);
}

static bool is_vit_from_nothing(const struct spec *spec)
{
    return is_vit(spec) && !spec_has_base(spec);
}

static bool is_text_from_nothing(const struct spec *spec)
{
    return is_text(spec) && !spec_has_base(spec);
}

static bool is_sgd(const struct spec *spec)
{
    return spec->optimizer == OPTIMIZER_SGD;
}

bool speckey_has_probabilities(const struct spec *spec)
{
    return spec->policy == SEQUENCE_BMS || spec->policy == SEQUENCE_SAMPLING;
}

static bool is_adamw(const struct spec *spec)
{
    return spec->optimizer == OPTIMIZER_ADAMW;
}

bool spec_passes_each(const struct spec *spec)
{
    return is_transformer(spec);
}

bool spec_has_base(const struct spec *spec)
{
    return is_transformer(spec) && strcmp(spec->base, "none") != 0;
}

#define LEARNER(name) #name,
static const char *const learners[] = {
#include "model/learner_list.h"
    NULL};
static const char *const activations[] = {"relu", "tanh", "gelu", NULL};
static const char *const policies[] = {SEQUENCE_POLICY_NAMES, NULL};
static const char *const optimizers[] = {"sgd", "adamw", NULL};
static const char *const aggregates[] = {"mean_probability", "mean_logit", "vote", NULL};
static const char *const booleans[] = {"false", "true", NULL};

#define AT(field) .offset = offsetof(struct spec, field)
const struct speckey speckey_table[] = {
    {.name = "learner",
     .type = TYPE_LEARNER,
     AT(learner),
     .choices = learners,
     .fallback = "mlp",
#define LEARNER(name) " " #name
     .values = "one of"
#include "model/learner_list.h"
    },
    {.name = "hidden",
     .type = TYPE_WIDTHS,
     AT(hidden),
     .low = 1,
     .high = LIMIT_WIDTH,
     .in_effect = is_mlp,
     .fallback = "128",
     .values = "widths of the hidden layers: 128 or [64, 32]"},
    {.name = "activation",
     .type = TYPE_CHOICE,
     AT(activation),
     .choices = activations,
     .in_effect = is_mlp,
     .fallback = "relu",
     .values = "relu | tanh | gelu"},
    {.name = "dropout",
     .type = TYPE_F64,
     AT(dropout),
     .high = 1,
     .range = OPEN_HIGH,
     .in_effect = is_mlp,
     .fallback = "0",
     .values = "share of hidden units left out while training, 0 to below 1"},
    {.name = "base",
     .type = TYPE_NAME,
     AT(base),
     .in_effect = is_transformer,
     .fallback = "none",
     .values = "vit, text: the frozen base whose adapters are trained; none: train all weights"},
    {.name = "lora.rank",
     .type = TYPE_U32,
     AT(lora_rank),
     .low = 1,
     .high = LIMIT_LORA_RANK,
     .in_effect = spec_has_base,
     .fallback = "16",
     .values = "rank r of each adapter"},
    {.name = "lora.alpha",
     .type = TYPE_F64,
     AT(lora_alpha),
     .high = 1000000,
     .range = OPEN_LOW,
     .in_effect = spec_has_base,
     .fallback = "16",
     .values = "an adapter is scaled by alpha / sqrt(r), without rslora by alpha / r"},
    {.name = "lora.rslora",
     .type = TYPE_BOOL,
     AT(lora_rslora),
     .choices = booleans,
     .in_effect = spec_has_base,
     .fallback = "true",
     .values = "true | false: rank-stabilised scaling"},
    {.name = "lora.dropout",
     .type = TYPE_F64,
     AT(lora_dropout),
     .high = 1,
     .range = OPEN_HIGH,
     .in_effect = spec_has_base,
     .fallback = "0",
     .values = "share of an adapter's inputs left out while training, 0 to below 1"},
    {.name = "lora.targets",
     .type = TYPE_NAMES,
     AT(lora_targets),
     .in_effect = spec_has_base,
     .fallback = "query,value",
     .values = "linear layers with an adapter: [query, value] or other exact names"},
    {.name = "append_blocks",
     .type = TYPE_U32,
     AT(append_blocks),
     .low = 0,
     .high = LIMIT_SLICES,
     .in_effect = spec_has_base,
     .fallback = "0",
     .values = "blocks of layers kept for the slices of later generations"},
    {.name = "layers",
     .type = TYPE_U32,
     AT(layers),
     .low = 1,
     .high = LIMIT_BASE_LAYERS,
     .in_effect = is_from_nothing,
     .fallback = "4",
     .values = "without a base: layers of the transformer"},
    {.name = "width",
     .type = TYPE_U32,
     AT(width),
     .low = 1,
     .high = LIMIT_WIDTH,
     .in_effect = is_from_nothing,
     .fallback = "64",
     .values = "without a base: its width, a multiple of heads"},
    {.name = "heads",
     .type = TYPE_U32,
     AT(heads),
     .low = 1,
     .high = LIMIT_WIDTH,
     .in_effect = is_from_nothing,
     .fallback = "4",
     .values = "without a base: its attention heads"},
    {.name = "inner",
     .type = TYPE_U32,
     AT(inner),
     .low = 1,
     .high = LIMIT_WIDTH,
     .in_effect = is_from_nothing,
     .fallback = "256",
     .values = "without a base: width of its feed-forward parts"},
    {.name = "patch",
     .type = TYPE_U32,
     AT(patch),
     .low = 1,
     .high = LIMIT_BASE_SIDE,
     .in_effect = is_vit_from_nothing,
     .fallback = "7",
     .values = "vit without a base: side of a patch; divides the image's sides"},
    {.name = "context",
     .type = TYPE_U32,
     AT(context),
     .low = 2,
     .high = LIMIT_BASE_TOKENS,
     .in_effect = is_text_from_nothing,
     .fallback = "128",
     .values = "text without a base: tokens of a window"},
    {.name = "shards",
     .type = TYPE_U32,
     AT(shards),
     .low = 1,
     .high = LIMIT_SHARDS,
     .fallback = "8",
     .values = "S: models of the ensemble, each on its own records"},
    {.name = "slices",
     .type = TYPE_U32,
     AT(slices),
     .low = 1,
     .high = LIMIT_SLICES,
     .fallback = "4",
     .values = "L: steps in which a shard's records are shown"},
    {.name = "sequences",
     .type = TYPE_U32,
     AT(sequences),
     .low = 1,
     .high = LIMIT_SEQUENCES,
     .fallback = "1",
     .values = "B: orders of the slices trained for each shard"},
    {.name = "sequence_policy",
     .type = TYPE_CHOICE,
     AT(policy),
     .choices = policies,
     .fallback = "rotation",
     .values = "rotation | random | bms | sampling: how the orders are made"},
    {.name = "slice_probabilities",
     .type = TYPE_PROBABILITIES,
     AT(probabilities),
     .high = 1e9,
     .in_effect = speckey_has_probabilities,
     .fallback = "equal",
     .values = "bms, sampling: how often each slice is deleted from, [5, 1, 1, 1], or equal"},
    {.name = "append_slices",
     .type = TYPE_U32,
     AT(append_slices),
     .low = 1,
     .high = LIMIT_SLICES,
     .fallback = "1",
     .values = "slices that each later generation of records appends"},
    {.name = "risk",
     .type = TYPE_RISK,
     AT(risk),
     .fallback = "uniform",
     .values = "where risk classes lie, CLASS=SHARDS/SLICES: [1=6-7/3, 2=*/3], or uniform"},
    {.name = "epochs",
     .type = TYPE_U32,
     AT(epochs),
     .low = 1,
     .high = LIMIT_EPOCHS,
     .fallback = "10",
     .values = "passes that a training without slices would make"},
    {.name = "batch",
     .type = TYPE_U32,
     AT(batch),
     .low = 1,
     .high = LIMIT_BATCH,
     .fallback = "16",
     .values = "rows of one step"},
    {.name = "gradient_chunks",
     .type = TYPE_U32,
     AT(gradient_chunks),
     .low = 1,
     .high = LIMIT_GRADIENT_CHUNKS,
     .power_of_two = true,
     .fallback = "1",
     .values = "C: ranks that can train one stage together, a power of two"},
    {.name = "optimizer.kind",
     .type = TYPE_CHOICE,
     AT(optimizer),
     .choices = optimizers,
     .fallback = "sgd",
     .values = "sgd | adamw"},
    {.name = "optimizer.rate",
     .type = TYPE_F64,
     AT(rate),
     .high = 1000,
     .range = OPEN_LOW,
     .fallback = "0.1",
     .values = "size of a step"},
    {.name = "optimizer.momentum",
     .type = TYPE_F64,
     AT(momentum),
     .high = 1,
     .range = OPEN_HIGH,
     .in_effect = is_sgd,
     .fallback = "0.9",
     .values = "sgd: share of the last step kept, 0 to below 1"},
    {.name = "optimizer.beta1",
     .type = TYPE_F64,
     AT(beta1),
     .high = 1,
     .range = OPEN_HIGH,
     .in_effect = is_adamw,
     .fallback = "0.9",
     .values = "adamw: memory of the gradient, 0 to below 1"},
    {.name = "optimizer.beta2",
     .type = TYPE_F64,
     AT(beta2),
     .high = 1,
     .range = OPEN_HIGH,
     .in_effect = is_adamw,
     .fallback = "0.999",
     .values = "adamw: memory of its square, 0 to below 1"},
    {.name = "optimizer.epsilon",
     .type = TYPE_F64,
     AT(epsilon),
     .high = 1,
     .range = OPEN_LOW,
     .in_effect = is_adamw,
     .fallback = "1e-08",
     .values = "adamw: added to the root of the square"},
    {.name = "optimizer.weight_decay",
     .type = TYPE_F64,
     AT(weight_decay),
     .high = 1000,
     .fallback = "0",
     .values = "sgd: L2 penalty, adamw: decoupled decay"},
    {.name = "aggregate",
     .type = TYPE_CHOICE,
     AT(aggregate),
     .choices = aggregates,
     .fallback = "mean_probability",
     .values = "mean_probability | mean_logit | vote"},
    {.name = "weighted",
     .type = TYPE_BOOL,
     AT(weighted),
     .choices = booleans,
     .fallback = "false",
     .values = "true | false: weight shards by their records"},
    {.name = "seed",
     .type = TYPE_U64,
     AT(seed),
     .fallback = "7",
     .values = "any whole number below 2^64"},
};
#undef AT
const size_t speckey_count = sizeof speckey_table / sizeof *speckey_table;

_Static_assert(sizeof(enum activation) == 4 && sizeof(enum optimizer_kind) == 4 &&
                   sizeof(enum aggregate_kind) == 4 && sizeof(enum sequence_policy) == 4,
               "a choice is stored as 32 bits");
