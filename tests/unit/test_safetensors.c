// tests/unit/test_safetensors.c: what is written is read back to the bit; what contradicts itself is
// refused by name.
//
// Good files are compared with bytes written down here as the reference library gives them; bad ones
// are made by hand, so that the writer's care cannot hide a careless reader. Each refusal asks the
// sentence which guard fired.
#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/limits.h"
#include "base/mem.h"
#include "client/safetensors.h"
#include "tests/unit/feed.h"

static const char *make_file(const char *header, const void *data, size_t bytes)
{
    struct buf file = {0};
    buf_u64(&file, strlen(header));
    buf_put(&file, span_text(header));
    buf_put(&file, span_of(data, bytes));
    const char *const path = feed_bytes("x.safetensors", file.data, file.bytes);
    buf_deinit(&file);
    return path;
}

static enum err try_open(const char *path)
{
    struct safetensors *file;
    const enum err err = safetensors_open(path, &file);
    assert_true((err == OK) == (file != NULL));
    safetensors_close(file);
    return err;
}

static const float ones[8] = {1, 1, 1, 1, 1, 1, 1, 1};

// Opens a file of this header with `bytes` bytes of data and requires the refusal.
static void refused(const char *header, size_t bytes, const char *sentence)
{
    assert_true(bytes <= sizeof ones);
    assert_int_equal(try_open(make_file(header, ones, bytes)), ERR_INVALID);
    assert_said("x.safetensors: ");
    assert_said(sentence);
}

#define TENSOR(type, shape, offsets)                                                               \
    "{\"dtype\":\"" type "\",\"shape\":" shape ",\"data_offsets\":" offsets "}"

static uint32_t bits_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

// ---------------------------------------------------------------- good files

// The bytes that the reference library defines for {"b": [[1, 2, 3], [4, 5, 6]], "a": -0.0} with
// metadata {"format": "pt"}.
static void test_safetensors_writes_the_reference_bytes(void **state)
{
    (void)state;
    static const float a[1] = {-0.0f}, b[6] = {1, 2, 3, 4, 5, 6};
    const struct safetensors_part parts[] = {
        {.name = "b", .dimensions = 2, .shape = {2, 3}, .values = b},
        {.name = "a", .dimensions = 0, .values = a},
    };
    static const struct safetensors_text texts[] = {{"format", "pt"}};
    const char *const path = feed_path("golden.safetensors");
    assert_int_equal(safetensors_write(path, parts, 2, texts, 1), OK);

    static const char expected[] =
        "\x90\0\0\0\0\0\0\0"
        "{\"__metadata__\":{\"format\":\"pt\"},"
        "\"a\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]},"
        "\"b\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[4,28]}}    "
        "\0\0\0\x80"
        "\0\0\x80\x3f\0\0\0\x40\0\0\x40\x40\0\0\x80\x40\0\0\xa0\x40\0\0\xc0\x40";
    struct buf bytes = {0};
    FILE *const file = fopen(path, "rb");
    assert_non_null(file);
    bytes.bytes = fread(buf_room(&bytes, 4096), 1, 4096, file);
    fclose(file);
    assert_int_equal(bytes.bytes, sizeof expected - 1);
    assert_memory_equal(bytes.data, expected, sizeof expected - 1);
    buf_deinit(&bytes);
}

static void test_safetensors_reads_back_the_same_bits(void **state)
{
    (void)state;
    static const uint32_t bits[6] = {0x80000000, 0x00000001, 0x7f7fffff,
                                     0x807fffff, 0x3f800001, 0xc2f6e979};
    float values[6];
    memcpy(values, bits, sizeof bits);
    const struct safetensors_part parts[] = {
        {.name = "z\"\\\xc3\xa9", .dimensions = 3, .shape = {1, 2, 3}, .values = values},
        {.name = "nothing", .dimensions = 2, .shape = {4, 0}, .values = values},
        {.name = "one", .dimensions = 0, .values = values + 1},
    };
    static const struct safetensors_text texts[] = {{"who", "we \xe2\x82\xac \"x\""}, {"b", ""}};
    const char *const path = feed_path("round.safetensors");
    assert_int_equal(safetensors_write(path, parts, 3, texts, 2), OK);
    struct safetensors *file;
    assert_int_equal(safetensors_open(path, &file), OK);
    assert_string_equal(safetensors_path(file), path);
    assert_int_equal(safetensors_count(file), 3);
    assert_string_equal(safetensors_at(file, 0)->name, "nothing");
    assert_string_equal(safetensors_note(file, "who"), "we \xe2\x82\xac \"x\"");
    assert_string_equal(safetensors_note(file, "b"), "");
    assert_null(safetensors_note(file, "c"));
    assert_null(safetensors_find(file, "o"));

    const struct safetensors_tensor *const z = safetensors_find(file, "z\"\\\xc3\xa9");
    assert_non_null(z);
    assert_string_equal(z->type, "F32");
    assert_int_equal(z->dimensions, 3);
    assert_int_equal(z->shape[0] * 100 + z->shape[1] * 10 + z->shape[2], 123);
    float got[6];
    assert_int_equal(safetensors_read(file, z, 0, 6, got), OK);
    assert_memory_equal(got, bits, sizeof bits);
    assert_int_equal(safetensors_read(file, z, 3, 2, got), OK); // A part of it.
    assert_memory_equal(got, bits + 3, 2 * sizeof(float));
    const struct safetensors_tensor *const one = safetensors_find(file, "one");
    assert_int_equal(one->count, 1);
    assert_int_equal(safetensors_read(file, one, 0, 1, got), OK);
    assert_int_equal(bits_of(got[0]), 1);
    assert_int_equal(safetensors_read(file, safetensors_find(file, "nothing"), 0, 0, got), OK);
    safetensors_close(file);
}

// Every binary16 and bfloat16 there is, against their definition in double precision.
static void test_safetensors_converts_halves_exactly(void **state)
{
    (void)state;
    enum { ALL = 65536 };
    struct buf data = {0};
    for (uint32_t half = 0; half < ALL; half++) { // Not finite ones become 0.
        buf_u16(&data, (half & 0x7c00) == 0x7c00 ? 0 : (uint16_t)half);
    }
    for (uint32_t half = 0; half < ALL; half++) {
        buf_u16(&data, (half & 0x7f80) == 0x7f80 ? 0 : (uint16_t)half);
    }
    struct safetensors *file;
    assert_int_equal(
        safetensors_open(
            make_file("{\"brain\":" TENSOR("BF16", "[65536]",
                                           "[131072,262144]") "," //
                                                              "\"half\":" TENSOR("F16", "[256,256]",
                                                                                 "[0,131072]") "}",
                      data.data, data.bytes),
            &file),
        OK);
    float *const got = mem_alloc(ALL, sizeof *got);
    assert_string_equal(safetensors_at(file, 0)->name, "half");
    assert_int_equal(safetensors_read(file, safetensors_find(file, "half"), 0, ALL, got), OK);
    for (uint32_t half = 0; half < ALL; half++) {
        const int exponent = (int)(half >> 10 & 0x1f);
        const double fraction = (double)(half & 0x3ff) / 1024;
        const double size =
            exponent == 0 ? ldexp(fraction, -14) : ldexp(1 + fraction, exponent - 15);
        const double expected = exponent == 0x1f ? 0 : half >> 15 == 0 ? size : -size;
        assert_int_equal(bits_of(got[half]), bits_of((float)expected));
    }
    assert_int_equal(safetensors_read(file, safetensors_find(file, "brain"), 0, ALL, got), OK);
    for (uint32_t half = 0; half < ALL; half++) {
        const bool finite = (half & 0x7f80) != 0x7f80;
        assert_int_equal(bits_of(got[half]), finite ? half << 16 : 0);
    }
    // A part that begins in the middle of a piece.
    assert_int_equal(safetensors_read(file, safetensors_find(file, "half"), 40000, 3, got), OK);
    assert_int_equal(bits_of(got[0]), bits_of(-ldexpf(1 + 64 / 1024.f, 7 - 15)));
    mem_free(got);
    safetensors_close(file);
    buf_deinit(&data);
}

// ---------------------------------------------------------------- bad files

static void test_safetensors_refuses_what_is_no_such_file(void **state)
{
    (void)state;
    assert_int_equal(try_open(feed_path("missing")), ERR_NOT_FOUND);
    assert_int_equal(try_open(feed_dir), ERR_INVALID);
    assert_said("is not a file");
    const char *const pipe = feed_path("pipe");
    assert_int_equal(mkfifo(pipe, 0600), 0);
    assert_int_equal(try_open(pipe), ERR_INVALID);
    assert_said("is not a file");
    assert_int_equal(try_open(feed_text("short", "1234567")), ERR_INVALID);
    assert_said("7 bytes are no safetensors file");
    assert_int_equal(try_open(feed_bytes("none", "\0\0\0\0\0\0\0\0", 8)), ERR_INVALID);
    assert_said("does not begin with {");
    assert_int_equal(try_open(feed_text("zip", "PK\3\4 archive/data.pkl and so on")), ERR_INVALID);
    assert_said("not a safetensors file, or cut off");

    static const uint8_t huge[10] = {0, 0, 0, 0, 0, 0, 0, 0x10, '{', '}'}; // 2^60
    assert_int_equal(try_open(feed_bytes("huge", huge, sizeof huge)), ERR_INVALID);
    assert_said("its header would have 1152921504606846976 bytes, though the file has 10");
    static const uint8_t all[10] = {255, 255, 255, 255, 255, 255, 255, 255, '{', '}'};
    assert_int_equal(try_open(feed_bytes("all", all, sizeof all)), ERR_INVALID);
    static const uint8_t beyond[10] = {3, 0, 0, 0, 0, 0, 0, 0, '{', '}'};
    assert_int_equal(try_open(feed_bytes("beyond", beyond, sizeof beyond)), ERR_INVALID);
    assert_said("its header would have 3 bytes, though the file has 10");

    // A header that is there, but longer than we read. The file has holes: nothing is written.
    const char *const path = feed_bytes("long", "\1\0\x40\0\0\0\0\0{", 9);
    assert_int_equal(truncate(path, 8 + LIMIT_SAFETENSORS_HEADER_BYTES + 1), 0);
    assert_int_equal(try_open(path), ERR_LIMIT);
    assert_said("a header of 4194305 bytes, expected at most 4194304");
}

static void test_safetensors_refuses_bad_headers(void **state)
{
    (void)state;
    assert_int_equal(try_open(make_file("{}", ones, 0)), OK); // Control.
    assert_int_equal(try_open(make_file("{\"a\":" TENSOR("F32", "[2]", "[0,8]") "}  ", ones, 8)),
                     OK);
    refused("[]", 0, "does not begin with {");
    refused(" {}", 0, "does not begin with {");
    refused("{", 0, "no valid JSON");
    refused("{}x", 0, "no valid JSON");
    refused("{\"a\xff\":1}", 0, "no valid JSON");
    refused("{\"a\\u0000b\":1}", 0, "no valid JSON");
    refused("{\"a\":1}", 0, "tensor a: not a JSON object");
    refused("{\"a\":" TENSOR("F32", "[1]", "[0,4]") ",\"a\":" TENSOR("F32", "[1]", "[4,8]") "}", 8,
            "a key comes twice");
    refused("{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]}}", 4,
            "a key comes twice");
    refused("{\"\":" TENSOR("F32", "[1]", "[0,4]") "}", 4, "a tensor's name");
    refused("{\"a\\nlevel=error\":" TENSOR("F32", "[1]", "[0,4]") "}", 4, "a tensor's name");
    refused("{\"__metadata__\":[]}", 0, "__metadata__ is not a JSON object");
    refused("{\"__metadata__\":{\"a\":1}}", 0, "__metadata__ holds something else than texts");
    refused("{\"a\":{\"shape\":[],\"data_offsets\":[0,4]}}", 4, "tensor a: no \"dtype\"");
    refused("{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4, "tensor a: no \"shape\"");
    refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, "\"data_offsets\" is not a pair");
    refused("{\"a\":" TENSOR("F32", "[1]", "[0,4,8]") "}", 4, "\"data_offsets\" is not a pair");
    refused("{\"a\":" TENSOR("F32", "[1]", "[0,4],\"x\":1") "}", 4, "keys beside \"dtype\"");
    refused("{\"a\":" TENSOR("F33", "[1]", "[0,4]") "}", 4, "the type \"F33\" is not known");
    refused("{\"a\":" TENSOR("\\u001b[31m", "[1]", "[0,4]") "}", 4, "the type \"?\" is not known");
    refused("{\"a\":" TENSOR("F32", "[-1]", "[0,4]") "}", 4, "a part of \"shape\" is not a whole");
    refused("{\"a\":" TENSOR("F32", "[1.0]", "[0,4]") "}", 4, "a part of \"shape\" is not a whole");
    refused("{\"a\":" TENSOR("F32", "[\"1\"]", "[0,4]") "}", 4, "a part of \"shape\" is not");
    refused("{\"a\":" TENSOR("F32", "[1]", "[-4,0]") "}", 4, "a part of \"data_offsets\" is not");
    refused("{\"a\":" TENSOR("F32", "[1]", "[0,99999999999999999999]") "}", 4, "a number is too");
    refused("{\"a\":" TENSOR("F32", "[1,1,1,1,1,1,1,1,1]", "[0,4]") "}", 4,
            "9 dimensions, expected at most 8");
}

static void test_safetensors_refuses_bad_places(void **state)
{
    (void)state;
    refused("{\"a\":" TENSOR("F32", "[2]", "[0,4]") "}", 4,
            "tensor a: 4 bytes, which is not the size of [2] values of type F32");
    refused("{\"a\":" TENSOR("F16", "[1,3]", "[0,12]") "}", 12, "not the size of [1, 3] values");
    refused("{\"a\":" TENSOR("F32", "[0]", "[0,4]") "}", 4, "not the size of [0] values");
    // 2^63 * 2 and 2^62 * 4 (bytes) would both wrap around to 0.
    refused("{\"a\":" TENSOR("F32", "[4611686018427387904,4]", "[0,0]") "}", 0, "2^64 values");
    refused("{\"a\":" TENSOR("F32", "[4611686018427387904]", "[0,0]") "}", 0,
            "0 bytes, which is not the size of [4611686018427387904] values");
    refused("{\"a\":" TENSOR("F32", "[1]", "[4,0]") "}", 4, "\"data_offsets\" are 4 to 0");
    refused("{\"a\":" TENSOR("F32", "[2]", "[0,8]") "}", 4,
            "\"data_offsets\" are 0 to 8, though the file has 4 bytes of data");
    refused("{\"a\":" TENSOR("F32", "[1]", "[9223372036854775807,9223372036854775807]") "}", 4,
            "though the file has 4 bytes");
    refused("{\"a\":" TENSOR("F32", "[2]", "[0,8]") ",\"b\":" TENSOR("F32", "[2]", "[4,12]") "}",
            12, "tensor b begins at byte 4, inside tensor a");
    refused("{\"a\":" TENSOR("F32", "[1]", "[0,4]") ",\"b\":" TENSOR("F32", "[1]", "[0,4]") "}", 4,
            "begins at byte 0, inside tensor");
    refused("{\"b\":" TENSOR("F32", "[1]", "[8,12]") ",\"a\":" TENSOR("F32", "[1]", "[0,4]") "}",
            12, "tensor b begins at byte 8, after a gap of 4");
    refused("{\"a\":" TENSOR("F32", "[1]", "[4,8]") "}", 8,
            "tensor a begins at byte 4, after a gap of 4");
    refused("{\"a\":" TENSOR("F32", "[1]", "[0,4]") "}", 8,
            "8 bytes of data, though its tensors end at 4");
    refused("{}", 1, "1 bytes of data, though its tensors end at 0");
}

static void test_safetensors_refuses_bad_values(void **state)
{
    (void)state;
    static const uint32_t bad[3] = {0x7f800000, 0xff800000, 0x7fc00000};
    float values[4];
    struct safetensors *file;
    for (int i = 0; i < 3; i++) {
        uint32_t bits[4] = {0, 0x7f7fffff, bad[i], 0};
        assert_int_equal(safetensors_open(make_file("{\"w.q\":" TENSOR("F32", "[4]", "[0,16]") "}",
                                                    bits, sizeof bits),
                                          &file),
                         OK);
        const struct safetensors_tensor *const tensor = safetensors_at(file, 0);
        assert_int_equal(safetensors_read(file, tensor, 0, 4, values), ERR_INVALID);
        assert_said("x.safetensors: tensor w.q has a value that is infinite or no number");
        assert_int_equal(safetensors_read(file, tensor, 0, 2, values), OK); // Control.
        safetensors_close(file);
    }
    static const uint16_t halves[4] = {0x7c00, 0xfe00, 0x7f80, 0xff81};
    assert_int_equal(
        safetensors_open(make_file("{\"h\":" TENSOR("F16", "[2]", "[0,4]") ",\"b\":" TENSOR(
                                       "BF16", "[2]", "[4,8]") "}",
                                   halves, sizeof halves),
                         &file),
        OK);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(safetensors_read(file, safetensors_at(file, i / 2), i % 2, 1, values),
                         ERR_INVALID);
        assert_said("infinite or no number");
    }
    safetensors_close(file);
    // A tensor of another type is no harm until somebody wants its values.
    assert_int_equal(
        safetensors_open(make_file("{\"i\":" TENSOR("I64", "[1]", "[0,8]") ",\"b\":" TENSOR(
                                       "BOOL", "[3]", "[8,11]") "}",
                                   ones, 11),
                         &file),
        OK);
    assert_int_equal(safetensors_read(file, safetensors_at(file, 0), 0, 1, values), ERR_INVALID);
    assert_said("tensor i is of type I64, expected F32, F16 or BF16");
    assert_int_equal(safetensors_read(file, safetensors_at(file, 1), 0, 1, values), ERR_INVALID);
    safetensors_close(file);
}

static void test_safetensors_notices_a_file_that_shrinks(void **state)
{
    (void)state;
    const char *const path = make_file("{\"a\":" TENSOR("F32", "[8]", "[0,32]") "}", ones, 32);
    struct safetensors *file;
    float values[8];
    assert_int_equal(safetensors_open(path, &file), OK);
    assert_int_equal(truncate(path, 70), 0);
    assert_int_equal(safetensors_read(file, safetensors_at(file, 0), 0, 8, values), ERR_CORRUPT);
    assert_said("became shorter");
    safetensors_close(file);
}

static void test_safetensors_writes_whole_or_not_at_all(void **state)
{
    (void)state;
    static const uint32_t bits[2] = {0x3f800000, 0x7f800000};
    float values[2];
    memcpy(values, bits, sizeof bits);
    struct safetensors_part part = {.name = "a", .dimensions = 1, .shape = {1}, .values = values};
    const char *const path = feed_path("kept.safetensors");
    assert_int_equal(safetensors_write(path, &part, 1, NULL, 0), OK);
    part.shape[0] = 2;
    assert_int_equal(safetensors_write(path, &part, 1, NULL, 0), ERR_INVALID);
    assert_said("tensor a has a value that is infinite");
    struct safetensors *file;
    assert_int_equal(safetensors_open(path, &file), OK);
    assert_int_equal(safetensors_at(file, 0)->count, 1); // The old one.
    safetensors_close(file);
    part.shape[0] = 1;
    assert_int_equal(safetensors_write(feed_path("no/such/dir"), &part, 1, NULL, 0), ERR_IO);
}

// Every bit of a small file, one after the other. A flip may go unnoticed (in a value), but what opens
// must be readable within its own bounds; the sanitizers watch.
static void test_safetensors_survives_every_bit_flip(void **state)
{
    (void)state;
    const float values[6] = {1, -2, 3, 0.5f, 0, 7};
    const struct safetensors_part parts[] = {
        {.name = "layer.0.w", .dimensions = 2, .shape = {2, 2}, .values = values},
        {.name = "layer.0.b", .dimensions = 1, .shape = {2}, .values = values + 4},
    };
    static const struct safetensors_text texts[] = {{"format", "pt"}};
    const char *const path = feed_path("flip.safetensors");
    assert_int_equal(safetensors_write(path, parts, 2, texts, 1), OK);
    uint8_t bytes[512];
    FILE *const good = fopen(path, "rb");
    assert_non_null(good);
    const size_t count = fread(bytes, 1, sizeof bytes, good);
    fclose(good);
    assert_true(count > 150 && count < sizeof bytes);
    unsigned opened = 0, refusals = 0;
    for (size_t bit = 0; bit < 8 * count; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        struct safetensors *file;
        if (safetensors_open(feed_bytes("flipped", bytes, count), &file) == OK) {
            opened++;
            for (size_t i = 0; i < safetensors_count(file); i++) {
                float got[6];
                const struct safetensors_tensor *const tensor = safetensors_at(file, i);
                assert_true(tensor->count <= 6 || strcmp(tensor->type, "F32") != 0);
                if (tensor->count <= 6) {
                    const enum err err = safetensors_read(file, tensor, 0, tensor->count, got);
                    assert_true(err == OK || err == ERR_INVALID); // A flip can make infinity.
                }
            }
            safetensors_close(file);
        } else {
            refusals++;
        }
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    assert_true(opened >= 8 * sizeof values); // Every flip in the data, and some in names.
    assert_true(refusals > 500);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_safetensors_writes_the_reference_bytes),
        cmocka_unit_test(test_safetensors_reads_back_the_same_bits),
        cmocka_unit_test(test_safetensors_converts_halves_exactly),
        cmocka_unit_test(test_safetensors_refuses_what_is_no_such_file),
        cmocka_unit_test(test_safetensors_refuses_bad_headers),
        cmocka_unit_test(test_safetensors_refuses_bad_places),
        cmocka_unit_test(test_safetensors_refuses_bad_values),
        cmocka_unit_test(test_safetensors_notices_a_file_that_shrinks),
        cmocka_unit_test(test_safetensors_writes_whole_or_not_at_all),
        cmocka_unit_test(test_safetensors_survives_every_bit_flip),
    };
    return cmocka_run_group_tests(tests, feed_open, feed_close);
}
