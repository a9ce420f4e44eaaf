// client/commands.h: every command of unlearnctl, in the order of its help.
#pragma once

#include "client/ctl.h"

#define COMMANDS(COMMAND)                                                                          \
    COMMAND(init)                                                                                  \
    COMMAND(up)                                                                                    \
    COMMAND(down)                                                                                  \
    COMMAND(logs)                                                                                  \
    COMMAND(reload)                                                                                \
    COMMAND(health)                                                                                \
    COMMAND(status)                                                                                \
    COMMAND(sample)                                                                                \
    COMMAND(import)                                                                                \
    COMMAND(schema)                                                                                \
    COMMAND(dataset_list)                                                                          \
    COMMAND(dataset_show)                                                                          \
    COMMAND(dataset_remove)                                                                        \
    COMMAND(base_import)                                                                           \
    COMMAND(base_pretrain)                                                                         \
    COMMAND(base_list)                                                                             \
    COMMAND(base_show)                                                                             \
    COMMAND(base_retire)                                                                           \
    COMMAND(train)                                                                                 \
    COMMAND(evaluate)                                                                              \
    COMMAND(predict)                                                                               \
    COMMAND(model_list)                                                                            \
    COMMAND(model_show)                                                                            \
    COMMAND(model_remove)                                                                          \
    COMMAND(model_set)                                                                             \
    COMMAND(components)                                                                            \
    COMMAND(verify)                                                                                \
    COMMAND(export)                                                                                \
    COMMAND(replay)                                                                                \
    COMMAND(plan)                                                                                  \
    COMMAND(delete)                                                                                \
    COMMAND(approve)                                                                               \
    COMMAND(refuse)                                                                                \
    COMMAND(hold_release)                                                                          \
    COMMAND(hold_list)                                                                             \
    COMMAND(hold)                                                                                  \
    COMMAND(report)                                                                                \
    COMMAND(show)                                                                                  \
    COMMAND(compact)                                                                               \
    COMMAND(scan)                                                                                  \
    COMMAND(simulate_cluster)                                                                      \
    COMMAND(simulate)                                                                              \
    COMMAND(receipt_verify)                                                                        \
    COMMAND(receipt)                                                                               \
    COMMAND(log_head)                                                                              \
    COMMAND(log_prove)                                                                             \
    COMMAND(log_consistency)                                                                       \
    COMMAND(key_add)                                                                               \
    COMMAND(key_make)                                                                              \
    COMMAND(key_list)                                                                              \
    COMMAND(key_revoke)                                                                            \
    COMMAND(key_init)                                                                              \
    COMMAND(key_rotate)

#define COMMAND(name) extern const struct ctl_command cmd_##name;
COMMANDS(COMMAND)
#undef COMMAND
