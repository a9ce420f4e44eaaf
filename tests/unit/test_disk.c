// tests/unit/test_disk.c: only a disk on which overwriting means gone is taken.
//
// Method: lines of /proc/self/mountinfo, and real file systems where this machine allows to mount them.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// cmocka needs the four above first.
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "store/disk.h"
#include "tests/unit/scratch.h"

static void test_types_and_options(void **state)
{
    (void)state;
    assert_int_equal(disk_check_mount("d", "ext4", "rw,relatime"), OK);
    assert_int_equal(disk_check_mount("d", "ext4", "rw,data=ordered"), OK);
    assert_int_equal(disk_check_mount("d", "ext4", "rw,data=journaled"), OK); // No such option.
    assert_int_equal(disk_check_mount("d", "xfs", "rw"), OK);
    assert_int_equal(disk_check_mount("d", "ext4", "rw,data=journal"), ERR_DENIED);
    assert_non_null(strstr(err_text(), "--allow-unsafe-fs"));
    assert_int_equal(disk_check_mount("d", "ext4", "rw\nbsddf\ndata=journal\nauto"), ERR_DENIED);
    static const char *const others[] = {"btrfs", "overlay", "tmpfs", "zfs",
                                         "nfs4",  "ext3",    "fuse"};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        assert_int_equal(disk_check_mount("d", others[i], "rw"), ERR_DENIED);
        assert_non_null(strstr(err_text(), others[i]));
    }
}

static void test_shared_memory_is_refused(void **state)
{
    (void)state;
    assert_int_equal(disk_check("/dev/shm"), ERR_DENIED);
    assert_int_equal(disk_check("/nonexistent/unlearn"), ERR_IO);
}

// An image of ext4, mounted plainly, with data=journal, and with that as its own default.
static void test_images(void **state)
{
    (void)state;
    char dir[SCRATCH_BYTES], command[4 * SCRATCH_BYTES];
    assert_true(scratch_make(dir));
    static const struct {
        const char *tune, *mount;
        enum err err;
    } images[] = {{"true", "loop", OK},
                  {"true", "loop,data=journal", ERR_DENIED},
                  {"tune2fs -o journal_data image >/dev/null", "loop", ERR_DENIED}};
    snprintf(
        command, sizeof command,
        "cd %s && truncate -s 16M image && mkfs.ext4 -q image 2>/dev/null && mkdir at && mount "
        "-o loop image at 2>/dev/null && umount at",
        dir);
    if (system(command) != 0) { // NOLINT(cert-env33-c): a test may.
        scratch_remove(dir);
        print_message("no loop mounts here\n");
        skip();
    }
    for (size_t i = 0; i < sizeof images / sizeof images[0]; i++) {
        char at[SCRATCH_BYTES + 8];
        snprintf(at, sizeof at, "%s/at", dir);
        snprintf(command, sizeof command, "cd %s && %s && mount -o %s image at", dir,
                 images[i].tune, images[i].mount);
        assert_int_equal(system(command), 0); // NOLINT(cert-env33-c)
        const enum err err = disk_check(at);
        assert_int_equal(umount(at), 0);
        assert_int_equal(err, images[i].err);
    }
    scratch_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_types_and_options),
        cmocka_unit_test(test_shared_memory_is_refused),
        cmocka_unit_test(test_images),
    };
    return cmocka_run_group_tests_name("disk", tests, NULL, NULL);
}
