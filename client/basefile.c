// client/basefile.c: see basefile.h.
#include "client/basefile.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"

enum { PATH_BYTES = 4096, FORMAT = 1, HEAD_BYTES = 8 + 4 + 2 };

static const char magic[8] = {'u', 'n', 'l', 'r', 'b', 'a', 's', 'e'};

static enum err path_of(const char *dir, char out[static PATH_BYTES])
{
    if (snprintf(out, PATH_BYTES, "%s/" BASEFILE_NAME, dir) >= PATH_BYTES) {
        FAIL(ERR_INVALID, "a path is longer than %d bytes", (int)PATH_BYTES);
    }
    return OK;
}

// NULL: errno says why.
static FILE *open_as(const char *path, int flags, const char *mode)
{
    const int fd = open(path, flags | O_CLOEXEC, 0600);
    FILE *const file = fd < 0 ? NULL : fdopen(fd, mode);
    if (fd >= 0 && file == NULL) {
        close(fd);
    }
    return file;
}

// ---------------------------------------------------------------- writing

enum err basefile_write(const char *dir, const struct base *base)
{
    char path[PATH_BYTES];
    struct buf head = {0}, shape = {0};
    TRY(path_of(dir, path));
    FILE *const file = open_as(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, "w");
    if (file == NULL) {
        FAIL(ERR_IO, "cannot write %s: %s", path, strerror(errno));
    }
    base_shape_put(&base->shape, &shape);
    buf_put(&head, span_of(magic, sizeof magic));
    buf_u32(&head, FORMAT);
    buf_u16(&head, (uint16_t)shape.bytes);
    buf_put(&head, buf_span(&shape));
    (void)fwrite(head.data, 1, head.bytes, file); // ferror tells.
    (void)fwrite(base->weights, sizeof *base->weights, (size_t)base->weight_count, file);
    buf_deinit(&head);
    buf_deinit(&shape);
    const bool good = fflush(file) == 0 && ferror(file) == 0 && fsync(fileno(file)) == 0;
    const int why = errno;
    if (fclose(file) != 0 || !good) {
        FAIL(ERR_IO, "cannot write %s: %s", path, strerror(good ? errno : why));
    }
    return OK;
}

// ---------------------------------------------------------------- reading

static enum err read_exactly(FILE *file, void *out, size_t bytes)
{
    if (fread(out, 1, bytes, file) != bytes) {
        FAIL(ERR_CORRUPT, BASEFILE_NAME " ends before its end");
    }
    return OK;
}

static enum err read_shape(FILE *file, struct base_shape *shape_out, size_t *head_bytes_out)
{
    uint8_t head[HEAD_BYTES];
    char text[BASE_TEXT_BYTES];
    TRY(read_exactly(file, head, sizeof head));
    struct cursor cursor = cursor_of(span_of(head, sizeof head));
    const struct span found = cursor_take(&cursor, sizeof magic);
    const uint32_t format = cursor_u32(&cursor);
    const uint16_t bytes = cursor_u16(&cursor);
    if (!span_equal(found, span_of(magic, sizeof magic))) {
        FAIL(ERR_CORRUPT, BASEFILE_NAME " is not a base's file");
    }
    if (format != FORMAT) {
        FAIL(format > FORMAT ? ERR_INCOMPATIBLE : ERR_CORRUPT,
             BASEFILE_NAME " has format %" PRIu32 ", this program knows %d", format, (int)FORMAT);
    }
    if (bytes > sizeof text) {
        FAIL(ERR_CORRUPT, BASEFILE_NAME ": a shape of %u bytes, expected at most %zu", bytes,
             sizeof text);
    }
    TRY(read_exactly(file, text, bytes));
    if (base_shape_get(span_of(text, bytes), shape_out) != OK) {
        return err_context(ERR_CORRUPT, BASEFILE_NAME);
    }
    *head_bytes_out = sizeof head + bytes;
    return OK;
}

static enum err read_weights(FILE *file, float *weights, uint64_t count)
{
    TRY(read_exactly(file, weights, (size_t)count * sizeof *weights));
    for (uint64_t i = 0; i < count; i++) {
        if (!isfinite(weights[i])) {
            FAIL(ERR_CORRUPT, BASEFILE_NAME ": weight %" PRIu64 " is not finite", i);
        }
    }
    return OK;
}

static enum err read_base(FILE *file, uint64_t file_bytes, struct base **base_out)
{
    struct base_shape shape;
    size_t head_bytes = 0;
    float *weights = NULL;
    TRY(read_shape(file, &shape, &head_bytes));
    const uint64_t count = base_at(&shape).count;
    if (file_bytes != head_bytes + count * sizeof *weights) {
        FAIL(ERR_CORRUPT, BASEFILE_NAME " has %" PRIu64 " bytes, a base of its shape %" PRIu64,
             file_bytes, head_bytes + count * sizeof *weights);
    }
    TRY(mem_try_aligned((size_t)count, sizeof *weights, &weights));
    const enum err err = read_weights(file, weights, count);
    if (err != OK) {
        mem_free(weights);
        return err;
    }
    *base_out = base_new(&shape, weights);
    return OK;
}

enum err basefile_read(const char *dir, struct base **base_out)
{
    char path[PATH_BYTES];
    struct stat found;
    TRY(path_of(dir, path));
    FILE *const file = open_as(path, O_RDONLY | O_NONBLOCK, "r"); // A FIFO must not hold us up.
    if (file == NULL) {
        FAIL(errno == ENOENT || errno == ENOTDIR ? ERR_NOT_FOUND : ERR_IO, "cannot read %s: %s",
             path, strerror(errno));
    }
    enum err err = OK;
    if (fstat(fileno(file), &found) != 0 || !S_ISREG(found.st_mode)) {
        err = err_raise(ERR_CORRUPT, BASEFILE_NAME " is not a regular file");
    }
    err = err != OK ? err : read_base(file, (uint64_t)found.st_size, base_out);
    fclose(file);
    return err == OK ? OK : err_context(err, "%.200s", dir);
}
