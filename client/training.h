// client/training.h: what the commands that train have in common: the spec of the command line, and
// waiting for a model.
#pragma once

#include "client/ctl.h"
#include "model/spec.h"

// Canonical text of a spec: `from`, changed by the file (NULL: none), then by each KEY=VALUE of `set`.
//   ERR_INVALID  file, line, key, what was found and expected. Else as specfile_read.
MUST_USE enum err training_spec(const struct spec *from, const char *file,
                                const struct args_list *set, struct buf *text_out);

// Waits until nothing of the model is left to train, with a progress bar. *model_out is borrowed from
// the client. ERR_IO: it does not get on; the message says why. ERR_UNAVAILABLE: interrupted.
MUST_USE enum err training_wait(struct ctl *ctl, const char *name,
                                const Unlearn__Model **model_out);
