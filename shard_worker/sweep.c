// shard_worker/sweep.c: see sweep.h.
#include "shard_worker/sweep.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/text.h"

enum { PATH_BYTES = 4096, DEPTH_MAX = 16 };

static bool is_pid(const char *text)
{
    uint64_t value = 0;
    return text_u64(text, INT32_MAX, &value) == OK && value > 0;
}

// Walks the entries of a directory; stops when `each` returns false. A directory that cannot be
// read has none.
static void each_entry(const char *dir, bool (*each)(void *context, const char *name),
                       void *context)
{
    DIR *const open = opendir(dir);
    if (open == NULL) {
        return;
    }
    const struct dirent *entry;
    bool more = true;
    while (more && (entry = readdir(open)) != NULL) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            more = each(context, entry->d_name);
        }
    }
    closedir(open);
}

// --- Segments

struct mapped {
    const struct sweep_places *places;
    char prefix[300]; // "vader_segment.HOST.UID."
    struct buf names; // "/NAME\n" of each segment that some process has mapped.
    bool hidden;      // A process of this user does not show what it maps.
    int64_t now_s;
    uint32_t removed;
};

static bool belongs_to(const char *proc_dir, const char *pid, uint32_t uid)
{
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s/%s/status", proc_dir, pid);
    FILE *const file = fopen(path, "re");
    if (file == NULL) {
        return false; // It has ended meanwhile.
    }
    char line[256];
    unsigned long owner = 0;
    bool found = false;
    while (!found && fgets(line, sizeof line, file) != NULL) {
        char *end = line;
        if (strncmp(line, "Uid:", 4) == 0) {
            owner = strtoul(line + 4, &end, 10);
        }
        found = end != line && end != line + 4;
    }
    fclose(file);
    return found && owner == uid;
}

static bool note_maps(void *context, const char *pid)
{
    struct mapped *const mapped = context;
    // The first process starts all others and takes part in no job; in containers it often hides.
    if (!is_pid(pid) || strcmp(pid, "1") == 0) {
        return true;
    }
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s/%s/maps", mapped->places->proc_dir, pid);
    FILE *const file = fopen(path, "re");
    if (file == NULL) {
        const bool refused = errno != ENOENT && errno != ESRCH;
        mapped->hidden = mapped->hidden || (refused && belongs_to(mapped->places->proc_dir, pid,
                                                                  mapped->places->uid));
        return true;
    }
    char *line = NULL;
    size_t capacity = 0;
    while (getline(&line, &capacity, file) > 0) {
        const char *const at = strstr(line, mapped->prefix);
        if (at != NULL && at > line && at[-1] == '/') {
            // " (deleted)" after a name does no harm: that name is free already.
            buf_put(&mapped->names, span_text(at - 1));
        }
    }
    free(line);
    fclose(file);
    return true;
}

static bool is_mapped(const struct mapped *mapped, const char *name)
{
    char wanted[300];
    const int bytes = snprintf(wanted, sizeof wanted, "/%s\n", name);
    return bytes < 0 || (size_t)bytes >= sizeof wanted ||
           (mapped->names.bytes > 0 &&
            memmem(mapped->names.data, mapped->names.bytes, wanted, (size_t)bytes) != NULL);
}

static bool remove_segment(void *context, const char *name)
{
    struct mapped *const mapped = context;
    if (strncmp(name, mapped->prefix, strlen(mapped->prefix)) != 0) {
        return true;
    }
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s/%s", mapped->places->shm_dir, name);
    struct stat stat;
    const bool dead = lstat(path, &stat) == 0 && S_ISREG(stat.st_mode) &&
                      stat.st_uid == mapped->places->uid &&
                      mapped->now_s - stat.st_mtime >= SWEEP_AGE_S && !is_mapped(mapped, name);
    if (dead && unlink(path) == 0) {
        mapped->removed++;
    }
    return true;
}

static uint32_t sweep_segments(const struct sweep_places *places, int64_t now_s)
{
    struct mapped mapped = {.places = places, .now_s = now_s};
    snprintf(mapped.prefix, sizeof mapped.prefix, "vader_segment.%s.%u.", places->host,
             places->uid);
    each_entry(places->proc_dir, note_maps, &mapped);
    if (!mapped.hidden) {
        each_entry(places->shm_dir, remove_segment, &mapped);
    }
    buf_deinit(&mapped.names);
    return mapped.removed;
}

// --- Session directories

// Removes `name` in the open directory `parent`, with what is in it. False: something stays.
static bool remove_tree(int parent, const char *name, int depth)
{
    const int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
        return unlinkat(parent, name, 0) == 0; // Not a directory: a file, a socket, a link.
    }
    DIR *const dir = depth < DEPTH_MAX ? fdopendir(fd) : NULL;
    if (dir == NULL) {
        close(fd);
        return false;
    }
    bool good = true;
    const struct dirent *entry;
    while ((entry = readdir(dir)) != NULL) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            good = remove_tree(dirfd(dir), entry->d_name, depth + 1) && good;
        }
    }
    closedir(dir);
    return good && unlinkat(parent, name, AT_REMOVEDIR) == 0;
}

struct sessions {
    const struct sweep_places *places;
    int fd;
    uint32_t removed;
};

static bool remove_session(void *context, const char *name)
{
    struct sessions *const sessions = context;
    if (strncmp(name, "pid.", 4) != 0 || !is_pid(name + 4)) {
        return true;
    }
    char process[PATH_BYTES];
    snprintf(process, sizeof process, "%s/%s", sessions->places->proc_dir, name + 4);
    struct stat stat;
    const bool ours = fstatat(sessions->fd, name, &stat, AT_SYMLINK_NOFOLLOW) == 0 &&
                      S_ISDIR(stat.st_mode) && stat.st_uid == sessions->places->uid;
    const bool dead = access(process, F_OK) != 0 && errno == ENOENT;
    if (ours && dead && remove_tree(sessions->fd, name, 0)) {
        sessions->removed++;
    }
    return true;
}

static uint32_t sweep_sessions(const struct sweep_places *places)
{
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s/ompi.%s.%u", places->tmp_dir, places->host, places->uid);
    struct sessions sessions = {.places = places};
    sessions.fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (sessions.fd < 0) {
        return 0;
    }
    struct stat stat;
    // In a directory that all may write to, somebody else may have made one of this name.
    if (fstat(sessions.fd, &stat) == 0 && stat.st_uid == places->uid) {
        each_entry(path, remove_session, &sessions);
        (void)!rmdir(path); // Stays where something is left in it.
    }
    close(sessions.fd);
    return sessions.removed;
}

uint32_t sweep_leftovers(const struct sweep_places *places, int64_t now_s)
{
    return sweep_segments(places, now_s) + sweep_sessions(places);
}
