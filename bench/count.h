// bench/count.h: what count.c counts of a program's LMDB, in a file that both map.
#pragma once

#include <stdatomic.h>
#include <stdint.h>

enum { COUNT_TABLES = 40, COUNT_NAME_BYTES = 32 };

struct count_table {
    char name[COUNT_NAME_BYTES];
    _Atomic uint64_t puts, put_key_bytes, put_value_bytes, drops;
};

// Tables by LMDB's number of them. Only what was committed or rolled back since the program's start
// is told apart by subtracting: nothing is ever reset.
struct counts {
    _Atomic uint64_t commits;     // Of transactions that put or dropped something;
    _Atomic uint64_t ack_commits; // those of them that journaled requests.
    struct count_table tables[COUNT_TABLES];
};
