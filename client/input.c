// client/input.c: see input.h.
#include "client/input.h"

enum err input_options(const struct input *input, const char *const *files, size_t file_count,
                       struct reader_options *options_out)
{
    if (input->limit.given && input->limit.value == 0) {
        FAIL(ERR_INVALID, "--limit is 0, expected at least 1");
    }
    *options_out = (struct reader_options){
        .files = files,
        .file_count = file_count,
        .format = input->format,
        .label = input->label,
        .subject = input->subject,
        .id = input->id,
        .id_prefix = input->id_prefix,
        .subjects_file = input->subjects,
        .except_file = input->except,
        .risk = input->risk,
        .risk_file = input->risk_file,
        .skip = input->skip.value,
        .limit = input->limit.value,
    };
    return OK;
}
