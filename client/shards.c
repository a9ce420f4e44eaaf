// client/shards.c: see shards.h.
#include "client/shards.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/limits.h"
#include "base/mem.h"
#include "base/text.h"
#include "client/settings.h"

static const char single_name[] = "model.safetensors";
static const char index_name[] = "model.safetensors.index.json";

static enum err open_file(struct shards *shards, const char *name, struct safetensors **file_out)
{
    char path[SETTINGS_PATH_BYTES];
    *file_out = NULL;
    for (size_t i = 0; i < shards->file_count; i++) {
        const char *const other = strrchr(safetensors_path(shards->files[i]), '/') + 1;
        if (strcmp(other, name) == 0) {
            *file_out = shards->files[i];
            return OK;
        }
    }
    if (shards->file_count == LIMIT_SAFETENSORS_FILES) {
        FAIL(ERR_LIMIT, "%.200s/%s names more than %d files", shards->dir, index_name,
             (int)LIMIT_SAFETENSORS_FILES);
    }
    TRY(settings_path(shards->dir, name, path));
    TRY(safetensors_open(path, file_out));
    shards->files = mem_resize(shards->files, shards->file_count + 1, sizeof(struct safetensors *));
    shards->files[shards->file_count++] = *file_out;
    return OK;
}

// A file of this directory, and of no other.
static bool is_plain_name(const char *name)
{
    return name != NULL && strchr(name, '/') == NULL && name[0] != '.' && strlen(name) < 256 &&
           text_is_clean(span_text(name)) && name[0] != '\0';
}

static enum err take_map(struct shards *shards, const struct settings *index)
{
    const char *name;
    json_t *json;
    json_t *const map = json_object_get(index->object, "weight_map");
    if (!json_is_object(map)) {
        FAIL(ERR_INVALID, "%.200s has no \"weight_map\"", index->path);
    }
    shards->entries = mem_alloc(json_object_size(map), sizeof *shards->entries);
    json_object_foreach(map, name, json)
    {
        const char *const file_name = json_string_value(json);
        TRY_AS(text_check_name("a tensor's name", span_text(name)), "%.200s", index->path);
        if (!is_plain_name(file_name)) {
            FAIL(ERR_INVALID, "%.200s: tensor %s is in no file of this directory", index->path,
                 name);
        }
        struct safetensors *file;
        const enum err err = open_file(shards, file_name, &file);
        if (err == ERR_NOT_FOUND) {
            FAIL(ERR_INVALID, "%.200s names the file %s, which is not there", index->path,
                 file_name);
        }
        TRY(err);
        const struct safetensors_tensor *const tensor = safetensors_find(file, name);
        if (tensor == NULL) {
            FAIL(ERR_INVALID, "%.200s: tensor %s is not in %s", index->path, name, file_name);
        }
        shards->entries[shards->entry_count++] =
            (struct shard_entry){.name = tensor->name, .file = file, .tensor = tensor};
    }
    return OK;
}

static enum err take_single(struct shards *shards)
{
    struct safetensors *file;
    TRY(open_file(shards, single_name, &file));
    shards->entries = mem_alloc(safetensors_count(file), sizeof *shards->entries);
    for (size_t i = 0; i < safetensors_count(file); i++) {
        const struct safetensors_tensor *const tensor = safetensors_at(file, i);
        shards->entries[shards->entry_count++] =
            (struct shard_entry){.name = tensor->name, .file = file, .tensor = tensor};
    }
    return OK;
}

// Says what is there instead, where we know it.
static enum err refuse_others(const struct shards *shards)
{
    static const struct {
        const char *name, *what;
    } others[] = {
        {"pytorch_model.bin", "a pickle, which is a program"},
        {"pytorch_model.bin.index.json", "pickles, which are programs"},
        {"tf_model.h5", "weights of TensorFlow"},
        {"flax_model.msgpack", "weights of Flax"},
    };
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        char path[SETTINGS_PATH_BYTES];
        TRY(settings_path(shards->dir, others[i].name, path));
        if (access(path, F_OK) == 0) {
            FAIL(ERR_INVALID,
                 "%.200s is %s, and never read: expected %s (transformers writes it with "
                 "save_pretrained(DIR, safe_serialization=True))",
                 path, others[i].what, single_name);
        }
    }
    FAIL(ERR_NOT_FOUND, "%.200s has neither %s nor %s", shards->dir, single_name, index_name);
}

static enum err open_all(struct shards *shards)
{
    struct settings index;
    enum err err = take_single(shards);
    if (err != ERR_NOT_FOUND) {
        return err;
    }
    err = settings_open(shards->dir, index_name, &index);
    if (err == ERR_NOT_FOUND) {
        return refuse_others(shards);
    }
    TRY(err);
    err = take_map(shards, &index);
    settings_close(&index);
    return err;
}

enum err shards_open(const char *dir, struct shards *shards_out)
{
    *shards_out = (struct shards){.file_count = 0};
    if ((size_t)snprintf(shards_out->dir, sizeof shards_out->dir, "%s", dir) >=
        sizeof shards_out->dir) {
        FAIL(ERR_INVALID, "a path is longer than %zu bytes", sizeof shards_out->dir - 1);
    }
    const enum err err = open_all(shards_out);
    if (err != OK) {
        shards_close(shards_out);
    }
    return err;
}

void shards_close(struct shards *shards)
{
    for (size_t i = 0; i < shards->file_count; i++) {
        safetensors_close(shards->files[i]);
    }
    mem_free(shards->files);
    mem_free(shards->entries);
    *shards = (struct shards){.file_count = 0};
}

struct shard_entry *shards_find(const struct shards *shards, const char *name)
{
    for (size_t i = 0; i < shards->entry_count; i++) {
        if (strcmp(shards->entries[i].name, name) == 0) {
            return &shards->entries[i];
        }
    }
    return NULL;
}
