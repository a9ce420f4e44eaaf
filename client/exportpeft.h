// client/exportpeft.h: the adapters of a model's components, fetched and written for PEFT.
//
// Each component is written once its parameters have the digest that the coordinator names, and is read
// back and compared with them, bit for bit.
#pragma once

#include "client/ctl.h"

// One component into `dir`, or, with `component` NULL, those that serve: that of shard 3 into DIR/s3. On
// error nothing is left of it.
//
//   components_out  rows {component, dir, layers}; a new reference. NULL on error.
//   ERR_NOT_FOUND   no such model or component.
//   ERR_CONFLICT    `dir` exists; the component is not valid now; no shard has one that serves.
//   ERR_INVALID     the model has no adapters.
//   ERR_UNAVAILABLE a deletion came between.   Else as unlearn_export and peft_write.
MUST_USE enum err exportpeft_run(struct ctl *ctl, const char *model, const char *component,
                                 const char *dir, json_t **components_out);
