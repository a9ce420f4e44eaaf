// client/receiptview.h: receipts as people and scripts see them.
#pragma once

#include "client/ctl.h"
#include "proto/receipt.h"

// Every field of a receipt, and where its proof leads. A new reference.
json_t *receiptview_json(const struct receipt *receipt, const struct receipt_file *file);

// Prints it: one JSON object with --json, else a table.
void receiptview_show(const struct ctl *ctl, const struct receipt *receipt,
                      const struct receipt_file *file);

// A head of the receipt log.
json_t *receiptview_head_json(const struct head *head);
void receiptview_head_print(const struct head *head);
