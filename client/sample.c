// client/sample.c: see sample.h.
//
// A digit is a set of curves in the unit square (y down), each given by points that a Catmull-Rom
// spline passes through. The writer bends the plane (slant, width, size, a slow warp), each drawing
// moves every point a little, and the pen leaves ink by its distance to the nearest piece of line.
// Nothing of libm but sqrtf, whose result IEEE 754 fixes: the same seed draws the same bytes
// everywhere.
#include "client/sample.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/mem.h"
#include "base/rng.h"

enum {
    POINTS_MAX = 12, // Of one curve.
    CURVES_MAX = 3,  // Of one digit.
    PIECES = 6,      // Straight pieces between two points.
    LINES_MAX = CURVES_MAX * POINTS_MAX * PIECES,
    PIXEL_COUNT = SAMPLE_SIDE * SAMPLE_SIDE,
    PATH_BYTES = 4096,
};

struct point {
    float x, y;
};
struct curve {
    uint32_t count;
    struct point at[POINTS_MAX];
};
struct shape {
    uint32_t count;
    struct curve curves[CURVES_MAX];
};

// Two ways to write a digit where people differ; equal entries where they do not.
static const struct shape shapes[SAMPLE_DIGITS][2] = {
    {{1,
      {{9,
        {{.52f, .06f},
         {.30f, .14f},
         {.20f, .42f},
         {.25f, .76f},
         {.50f, .94f},
         {.75f, .78f},
         {.81f, .44f},
         {.70f, .14f},
         {.50f, .06f}}}}},
     {1,
      {{9,
        {{.62f, .08f},
         {.38f, .08f},
         {.22f, .34f},
         {.24f, .70f},
         {.46f, .93f},
         {.70f, .84f},
         {.80f, .52f},
         {.74f, .20f},
         {.54f, .07f}}}}}},
    {{1, {{2, {{.52f, .06f}, {.50f, .94f}}}}},
     {1, {{3, {{.34f, .24f}, {.54f, .06f}, {.52f, .94f}}}}}},
    {{1,
      {{8,
        {{.24f, .26f},
         {.40f, .08f},
         {.66f, .10f},
         {.74f, .32f},
         {.56f, .58f},
         {.24f, .92f},
         {.50f, .90f},
         {.80f, .92f}}}}},
     {1,
      {{9,
        {{.22f, .22f},
         {.46f, .06f},
         {.72f, .22f},
         {.64f, .52f},
         {.36f, .84f},
         {.20f, .84f},
         {.32f, .72f},
         {.54f, .90f},
         {.82f, .86f}}}}}},
    {{1,
      {{9,
        {{.24f, .14f},
         {.52f, .06f},
         {.73f, .22f},
         {.62f, .42f},
         {.44f, .47f},
         {.68f, .54f},
         {.78f, .74f},
         {.54f, .93f},
         {.22f, .84f}}}}},
     {2,
      {{5, {{.24f, .08f}, {.48f, .08f}, {.74f, .08f}, {.60f, .26f}, {.46f, .42f}}},
       {5, {{.46f, .42f}, {.72f, .50f}, {.76f, .78f}, {.48f, .94f}, {.20f, .82f}}}}}},
    {{2,
      {{4, {{.40f, .06f}, {.22f, .56f}, {.50f, .58f}, {.84f, .56f}}},
       {2, {{.68f, .28f}, {.64f, .95f}}}}},
     {2,
      {{4, {{.60f, .06f}, {.18f, .64f}, {.48f, .65f}, {.84f, .63f}}},
       {2, {{.60f, .06f}, {.62f, .95f}}}}}},
    {{2,
      {{7,
        {{.32f, .08f},
         {.28f, .44f},
         {.52f, .38f},
         {.76f, .52f},
         {.74f, .78f},
         {.50f, .94f},
         {.22f, .86f}}},
       {2, {{.32f, .08f}, {.76f, .07f}}}}},
     {1,
      {{8,
        {{.76f, .08f},
         {.36f, .09f},
         {.30f, .42f},
         {.58f, .40f},
         {.77f, .60f},
         {.66f, .86f},
         {.42f, .94f},
         {.20f, .84f}}}}}},
    {{1,
      {{9,
        {{.68f, .08f},
         {.42f, .22f},
         {.24f, .56f},
         {.30f, .86f},
         {.54f, .94f},
         {.76f, .78f},
         {.68f, .56f},
         {.46f, .54f},
         {.27f, .70f}}}}},
     {1,
      {{8,
        {{.50f, .05f},
         {.30f, .36f},
         {.24f, .72f},
         {.44f, .94f},
         {.70f, .86f},
         {.72f, .62f},
         {.50f, .54f},
         {.28f, .66f}}}}}},
    {{1, {{4, {{.22f, .10f}, {.50f, .10f}, {.78f, .09f}, {.44f, .95f}}}}},
     {2,
      {{4, {{.20f, .12f}, {.48f, .09f}, {.80f, .10f}, {.46f, .95f}}},
       {2, {{.36f, .52f}, {.74f, .50f}}}}}},
    {{1,
      {{11,
        {{.66f, .18f},
         {.48f, .06f},
         {.30f, .18f},
         {.36f, .40f},
         {.62f, .56f},
         {.74f, .78f},
         {.50f, .94f},
         {.27f, .78f},
         {.38f, .56f},
         {.62f, .40f},
         {.68f, .20f}}}}},
     {2,
      {{7,
        {{.50f, .06f},
         {.30f, .16f},
         {.32f, .38f},
         {.50f, .47f},
         {.70f, .36f},
         {.70f, .14f},
         {.50f, .06f}}},
       {7,
        {{.50f, .47f},
         {.26f, .60f},
         {.27f, .84f},
         {.50f, .94f},
         {.75f, .82f},
         {.74f, .60f},
         {.50f, .47f}}}}}},
    {{1,
      {{9,
        {{.72f, .24f},
         {.52f, .06f},
         {.28f, .20f},
         {.30f, .44f},
         {.52f, .50f},
         {.71f, .34f},
         {.73f, .18f},
         {.72f, .56f},
         {.66f, .95f}}}}},
     {1,
      {{9,
        {{.70f, .16f},
         {.44f, .07f},
         {.26f, .26f},
         {.36f, .48f},
         {.60f, .44f},
         {.72f, .20f},
         {.74f, .52f},
         {.62f, .82f},
         {.34f, .94f}}}}}},
};

// --- What differs ---

// Uniform in [-1, 1), keyed by what it belongs to.
struct dice {
    struct rng_key key;
    uint32_t next;
};

static struct dice dice_of(const char *domain, uint64_t seed, const uint32_t *belongs_to,
                           uint32_t count)
{
    struct buf name = {0};
    buf_u64(&name, seed);
    for (uint32_t i = 0; i < count; i++) {
        buf_u32(&name, belongs_to[i]);
    }
    const struct dice dice = {.key = rng_key_of(domain, buf_span(&name))};
    buf_deinit(&name);
    return dice;
}

static float roll(struct dice *dice)
{
    const uint32_t counter[4] = {dice->next++, 0, 0, 0};
    uint32_t words[4];
    rng_philox(dice->key, counter, words);
    return 2.0f * rng_unit(words[0]) - 1.0f;
}

// Nearer to 0 than roll: the mean of three.
static float roll_soft(struct dice *dice)
{
    const float a = roll(dice), b = roll(dice), c = roll(dice);
    return (a + b + c) / 3.0f;
}

struct hand {
    float slant, width, height, pen, shake, warp_x, warp_y, grey;
    uint32_t style; // A bit for each digit: which way it is written.
};

static struct hand hand_of(uint64_t seed, uint32_t writer)
{
    struct dice dice = dice_of("unlearnd-hand", seed, &writer, 1);
    struct hand hand = {0};
    hand.slant = 0.12f + 0.75f * roll_soft(&dice);
    hand.width = 0.56f + 0.26f * roll_soft(&dice);
    hand.height = 0.70f + 0.17f * roll_soft(&dice);
    hand.pen = 1.15f + 0.55f * roll(&dice);
    hand.shake = 0.050f + 0.030f * roll(&dice);
    hand.warp_x = 0.30f * roll_soft(&dice);
    hand.warp_y = 0.30f * roll_soft(&dice);
    hand.grey = 235.0f + 20.0f * roll(&dice);
    for (uint32_t digit = 0; digit < SAMPLE_DIGITS; digit++) {
        hand.style |= (roll(&dice) < 0.0f ? 1u : 0u) << digit;
    }
    return hand;
}

// --- From points to ink ---

struct line {
    struct point a, b;
};

// The point at t in [0, 1] between p[1] and p[2] of a Catmull-Rom spline.
static struct point spline(const struct point p[static 4], float t)
{
    const float t2 = t * t, t3 = t2 * t;
    const float w0 = 0.5f * (-t3 + 2.0f * t2 - t), w1 = 0.5f * (3.0f * t3 - 5.0f * t2 + 2.0f);
    const float w2 = 0.5f * (-3.0f * t3 + 4.0f * t2 + t), w3 = 0.5f * (t3 - t2);
    return (struct point){w0 * p[0].x + w1 * p[1].x + w2 * p[2].x + w3 * p[3].x,
                          w0 * p[0].y + w1 * p[1].y + w2 * p[2].y + w3 * p[3].y};
}

static uint32_t add_curve(const struct curve *curve, struct line *lines)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i + 1 < curve->count; i++) {
        const uint32_t last = curve->count - 1;
        const struct point p[4] = {curve->at[i > 0 ? i - 1 : 0], curve->at[i], curve->at[i + 1],
                                   curve->at[i + 2 <= last ? i + 2 : last]};
        struct point from = p[1];
        for (uint32_t piece = 1; piece <= PIECES; piece++) {
            const struct point to = spline(p, (float)piece / PIECES);
            lines[count++] = (struct line){from, to};
            from = to;
        }
    }
    return count;
}

// From the unit square to pixels, in this writer's hand.
static struct point bend(const struct hand *hand, const struct dice *dice, struct point p)
{
    struct dice place = *dice; // The same draws for each point of a drawing.
    const float turn = hand->slant + 0.16f * roll_soft(&place);
    const float wide = hand->width * (1.0f + 0.14f * roll_soft(&place));
    const float high = hand->height * (1.0f + 0.10f * roll_soft(&place));
    const float left = 1.6f * roll_soft(&place), down = 1.6f * roll_soft(&place);
    const float x = p.x - 0.5f, y = p.y - 0.5f;
    const float u = x + hand->warp_x * (y * y - 0.08f), v = y + hand->warp_y * (x * x - 0.05f);
    const float half = SAMPLE_SIDE / 2.0f;
    return (struct point){half + left + SAMPLE_SIDE * wide * (u - turn * v * (high / wide)),
                          half + down + SAMPLE_SIDE * high * v};
}

static float distance(struct point p, const struct line *line)
{
    const float dx = line->b.x - line->a.x, dy = line->b.y - line->a.y;
    const float length2 = dx * dx + dy * dy;
    float t = 0;
    if (length2 > 0) {
        t = ((p.x - line->a.x) * dx + (p.y - line->a.y) * dy) / length2;
        t = t < 0.0f ? 0.0f : t > 1.0f ? 1.0f : t;
    }
    const float ex = p.x - line->a.x - t * dx, ey = p.y - line->a.y - t * dy;
    return sqrtf(ex * ex + ey * ey);
}

static uint8_t ink(struct point p, const struct line *lines, uint32_t count, float pen, float grey)
{
    float nearest = SAMPLE_SIDE;
    for (uint32_t i = 0; i < count; i++) {
        const float d = distance(p, &lines[i]);
        nearest = d < nearest ? d : nearest;
    }
    const float cover = pen + 0.5f - nearest; // One pixel wide from full to none.
    return cover <= 0.0f ? 0 : cover >= 1.0f ? (uint8_t)grey : (uint8_t)(grey * cover);
}

void sample_draw(uint64_t seed, uint32_t writer, uint32_t digit, uint32_t instance,
                 uint8_t pixels_out[static SAMPLE_SIDE * SAMPLE_SIDE])
{
    CHECK(digit < SAMPLE_DIGITS);
    const struct hand hand = hand_of(seed, writer);
    const uint32_t belongs_to[3] = {writer, digit, instance};
    struct dice dice = dice_of("unlearnd-draw", seed, belongs_to, 3);
    const struct dice place = dice_of("unlearnd-place", seed, belongs_to, 3);
    // Now and then people write a digit the other way.
    const bool other = roll(&dice) > 0.8f;
    struct shape shape = shapes[digit][((hand.style >> digit) & 1u) ^ (other ? 1u : 0u)];
    const float pen = hand.pen * (1.0f + 0.15f * roll(&dice));
    struct line lines[LINES_MAX];
    uint32_t count = 0;
    for (uint32_t i = 0; i < shape.count; i++) {
        struct curve *const curve = &shape.curves[i];
        for (uint32_t j = 0; j < curve->count; j++) {
            const struct point moved = {curve->at[j].x + hand.shake * 2.0f * roll_soft(&dice),
                                        curve->at[j].y + hand.shake * 2.0f * roll_soft(&dice)};
            curve->at[j] = bend(&hand, &place, moved);
        }
        count += add_curve(curve, lines + count);
    }
    for (uint32_t i = 0; i < PIXEL_COUNT; i++) {
        const uint32_t column = i % SAMPLE_SIDE, row = i / SAMPLE_SIDE;
        const struct point middle = {(float)column + 0.5f, (float)row + 0.5f};
        pixels_out[i] = ink(middle, lines, count, pen, hand.grey);
    }
}

// --- Files ---

static const char *const file_names[] = {"train-images-idx3-ubyte", "train-labels-idx1-ubyte",
                                         "train-subjects.txt",      "test-images-idx3-ubyte",
                                         "test-labels-idx1-ubyte",  "test-subjects.txt"};
enum { FILE_NAME_COUNT = sizeof file_names / sizeof *file_names };

static bool is_own(const char *name)
{
    for (size_t i = 0; i < FILE_NAME_COUNT; i++) {
        if (strcmp(name, file_names[i]) == 0) {
            return true;
        }
    }
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

// Makes the directory, or checks that nothing of somebody else's lies in it.
static enum err take_directory(const char *path)
{
    if (mkdir(path, 0777) == 0) {
        return OK;
    }
    if (errno != EEXIST) {
        FAIL(ERR_IO, "%s: %s", path, strerror(errno));
    }
    DIR *const dir = opendir(path);
    if (dir == NULL) {
        const int code = errno;
        FAIL(code == ENOTDIR ? ERR_CONFLICT : ERR_IO, "%s: %s, expected a directory", path,
             strerror(code));
    }
    bool foreign = false;
    for (const struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        foreign = foreign || !is_own(entry->d_name);
    }
    closedir(dir);
    if (foreign) {
        FAIL(ERR_CONFLICT, "%s holds other files, expected an empty directory or earlier samples",
             path);
    }
    return OK;
}

static enum err write_file(const char *dir, const char *name, struct span bytes)
{
    char path[PATH_BYTES];
    if ((size_t)snprintf(path, sizeof path, "%s/%s", dir, name) >= sizeof path) {
        FAIL(ERR_INVALID, "the path of the directory is longer than %d bytes", (int)PATH_BYTES);
    }
    FILE *const file = fopen(path, "wb");
    if (file == NULL) {
        FAIL(ERR_IO, "%s: %s", path, strerror(errno));
    }
    const bool written = fwrite(bytes.data, 1, bytes.bytes, file) == bytes.bytes;
    const int code = errno;
    if (fclose(file) != 0 || !written) {
        FAIL(ERR_IO, "%s: writing failed: %s", path, strerror(written ? errno : code));
    }
    return OK;
}

struct part {
    struct buf images, labels, subjects;
};

static void put_be32(struct buf *out, uint32_t value)
{
    be_put32(buf_room(out, sizeof value), value);
}

// Draws instances first .. first + count - 1 of every writer and digit.
static void draw_part(struct part *part, uint64_t seed, uint32_t writers, uint32_t first,
                      uint32_t count)
{
    const uint32_t records = writers * SAMPLE_DIGITS * count;
    put_be32(&part->images, 0x00000803);
    put_be32(&part->images, records);
    put_be32(&part->images, SAMPLE_SIDE);
    put_be32(&part->images, SAMPLE_SIDE);
    put_be32(&part->labels, 0x00000801);
    put_be32(&part->labels, records);
    buf_reserve(&part->images, (size_t)records * PIXEL_COUNT);
    for (uint32_t i = 0; i < records; i++) {
        const uint32_t digit = i % SAMPLE_DIGITS, writer = i / SAMPLE_DIGITS % writers;
        const uint32_t instance = first + i / SAMPLE_DIGITS / writers;
        sample_draw(seed, writer, digit, instance, buf_room(&part->images, PIXEL_COUNT));
        buf_u8(&part->labels, (uint8_t)digit);
        char name[24];
        const int bytes = snprintf(name, sizeof name, "writer-%03u\n", writer);
        buf_put(&part->subjects, span_of(name, (size_t)bytes));
    }
}

static enum err write_part(const char *dir, const struct part *part, const char *const *names)
{
    TRY(write_file(dir, names[0], buf_span(&part->images)));
    TRY(write_file(dir, names[1], buf_span(&part->labels)));
    return write_file(dir, names[2], buf_span(&part->subjects));
}

enum err sample_write(const char *dir, uint32_t writers, uint64_t seed,
                      struct sample_counts *counts_out)
{
    *counts_out = (struct sample_counts){0};
    if (writers < 1 || writers > SAMPLE_WRITERS_MAX) {
        FAIL(ERR_INVALID, "%u writers, expected 1 to %d", writers, (int)SAMPLE_WRITERS_MAX);
    }
    TRY(take_directory(dir));
    static const uint32_t first[2] = {0, SAMPLE_TRAIN}, count[2] = {SAMPLE_TRAIN, SAMPLE_TEST};
    for (size_t i = 0; i < 2; i++) {
        struct part part = {0};
        draw_part(&part, seed, writers, first[i], count[i]);
        const enum err err = write_part(dir, &part, file_names + 3 * i);
        buf_deinit(&part.images);
        buf_deinit(&part.labels);
        buf_deinit(&part.subjects);
        TRY(err);
    }
    *counts_out = (struct sample_counts){writers, (uint64_t)writers * SAMPLE_DIGITS * SAMPLE_TRAIN,
                                         (uint64_t)writers * SAMPLE_DIGITS * SAMPLE_TEST};
    return OK;
}
