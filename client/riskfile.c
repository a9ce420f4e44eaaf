// client/riskfile.c: see riskfile.h. A set of names for each class.
#include "client/riskfile.h"

#include "base/limits.h"
#include "base/text.h"
#include "client/source.h"

void riskfile_deinit(struct riskfile *file)
{
    for (uint32_t risk = 0; risk < LIMIT_RISK_CLASSES; risk++) {
        textset_deinit(&file->names[risk]);
    }
}

uint8_t riskfile_class(const struct riskfile *file, struct span name)
{
    for (uint32_t risk = 0; risk < LIMIT_RISK_CLASSES; risk++) {
        if (textset_has(&file->names[risk], name)) {
            return (uint8_t)risk;
        }
    }
    return RISK_UNDECLARED;
}

static size_t name_count(const struct riskfile *file)
{
    size_t count = 0;
    for (uint32_t risk = 0; risk < LIMIT_RISK_CLASSES; risk++) {
        count += file->names[risk].count;
    }
    return count;
}

static enum err take_line(struct riskfile *file, struct span line)
{
    const uint8_t *const at = line.data;
    size_t comma = line.bytes;
    while (comma > 0 && at[comma - 1] != ',') {
        comma--;
    }
    char text[4] = "";
    uint8_t risk = 0;
    if (comma < 2 || line.bytes - comma >= sizeof text) {
        FAIL(ERR_INVALID, "expected NAME,CLASS: a subject or an id, and its class from 0 to %d",
             (int)LIMIT_RISK_CLASSES - 1);
    }
    memcpy(text, at + comma, line.bytes - comma);
    TRY(risk_class(text, &risk));
    const struct span name = span_of(at, comma - 1);
    const uint8_t known = riskfile_class(file, name);
    if (known != RISK_UNDECLARED && known != risk) {
        FAIL(ERR_INVALID, "the name has class %u here and class %u before", risk, known);
    }
    if (known == RISK_UNDECLARED && name_count(file) >= LIMIT_RISK_NAMES) {
        FAIL(ERR_LIMIT, "more than %d names", (int)LIMIT_RISK_NAMES);
    }
    return textset_add(&file->names[risk], "the name", name, LIMIT_RISK_NAMES);
}

static enum err read_all(struct source *source, struct buf *line, struct riskfile *file)
{
    while (true) {
        bool more;
        TRY(source_line(source, line, &more));
        if (!more) {
            return OK;
        }
        if (line->bytes > 0) {
            TRY_AS(take_line(file, buf_span(line)), "%s line %llu", source->path,
                   (unsigned long long)source->line);
        }
    }
}

enum err riskfile_read(struct riskfile *file, const char *path)
{
    struct source *source;
    TRY(source_open(path, &source));
    struct buf line = {0};
    const enum err err = read_all(source, &line, file);
    buf_deinit(&line);
    source_close(source);
    return err;
}
