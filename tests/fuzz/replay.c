// tests/fuzz/replay.c: main for a fuzz target without libFuzzer: each file of the directories and files named
// goes through it once. `make test` runs it over the corpus, under gcc's sanitizers; a crash that
// `make fuzz` kept is repeated by it, too.
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "tests/fuzz/fuzz.h"

static unsigned long files;

static void one(const char *path)
{
    FILE *const file = fopen(path, "rb");
    struct stat about;
    if (file == NULL || fstat(fileno(file), &about) != 0) {
        perror(path);
        exit(1);
    }
    // Of exactly its size: a byte read past the end is seen.
    const size_t bytes = (size_t)about.st_size;
    uint8_t *const data = mem_alloc(bytes, 1);
    if (fread(data, 1, bytes, file) != bytes) {
        perror(path);
        exit(1);
    }
    fclose(file);
    fprintf(stderr, "%s\n", path); // The last one named is the one that crashed.
    (void)LLVMFuzzerTestOneInput(data, bytes);
    mem_free(data);
    files++;
}

static void each(const char *path)
{
    DIR *const dir = opendir(path);
    if (dir == NULL) {
        one(path);
        return;
    }
    for (const struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        if (entry->d_name[0] != '.') {
            char inner[4096];
            snprintf(inner, sizeof inner, "%s/%s", path, entry->d_name);
            one(inner);
        }
    }
    closedir(dir);
}

int main(int argc, char **argv)
{
    LLVMFuzzerInitialize(&argc, &argv);
    for (int i = 1; i < argc; i++) {
        each(argv[i]);
    }
    if (files == 0) {
        fprintf(stderr, "no input, expected files or directories\n");
        return 1;
    }
    printf("ok - %lu inputs\n", files);
    return 0;
}
