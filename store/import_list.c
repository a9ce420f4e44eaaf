// store/import_list.c: the imports that are not yet tidied away, in memory beside the environment.
//
// It equals the table `import` as the open transaction sees it: the first change in a transaction
// keeps a copy, and a rollback puts that back. Readers ask it for every record, so it must be short:
// at most LIMIT_IMPORTS_OPEN open imports, and those that wait for import_tidy.
#include <string.h>

#include "base/mem.h"
#include "store/private.h"

struct import_entry *import_entry_of(const struct store *store, uint64_t import)
{
    for (size_t i = 0; i < store->imports.count; i++) {
        if (store->imports.at[i].number == import) {
            return &store->imports.at[i];
        }
    }
    return NULL;
}

bool import_is_hidden(const struct store *store, uint64_t import)
{
    const struct import_entry *const entry = import_entry_of(store, import);
    return entry != NULL && entry->state != IMPORT_COMMITTED;
}

bool import_hides_in(const struct store *store, uint32_t dataset, uint32_t generation)
{
    for (size_t i = 0; i < store->imports.count; i++) {
        const struct import_entry *const entry = &store->imports.at[i];
        if (entry->dataset == dataset && entry->generation == generation &&
            entry->state != IMPORT_COMMITTED) {
            return true;
        }
    }
    return false;
}

const struct import_entry *import_open_of(const struct store *store, uint32_t dataset)
{
    for (size_t i = 0; i < store->imports.count; i++) {
        if (store->imports.at[i].dataset == dataset && store->imports.at[i].state == IMPORT_OPEN) {
            return &store->imports.at[i];
        }
    }
    return NULL;
}

// Keeps the list as the transaction found it, before its first change.
static void list_touch(struct txn *txn)
{
    const struct import_list *const now = &txn->store->imports;
    if (txn->imports_changed) {
        return;
    }
    txn->imports_changed = true;
    txn->imports_before.count = now->count;
    txn->imports_before.at = mem_alloc(now->count, sizeof *now->at);
    if (now->count > 0) {
        memcpy(txn->imports_before.at, now->at, now->count * sizeof *now->at);
    }
}

void import_list_set(struct txn *txn, const struct import_entry *entry)
{
    list_touch(txn);
    struct import_list *const list = &txn->store->imports;
    struct import_entry *at = import_entry_of(txn->store, entry->number);
    if (at == NULL) {
        list->at = mem_resize(list->at, list->count + 1, sizeof *list->at);
        at = &list->at[list->count++];
    }
    *at = *entry;
}

void import_list_drop(struct txn *txn, size_t index)
{
    list_touch(txn);
    struct import_list *const list = &txn->store->imports;
    memmove(&list->at[index], &list->at[index + 1], (list->count - index - 1) * sizeof *list->at);
    list->count--;
}

void import_rollback(struct txn *txn)
{
    if (txn->imports_changed) {
        mem_free(txn->store->imports.at);
        txn->store->imports = txn->imports_before;
        txn->imports_before = (struct import_list){0};
    }
}
