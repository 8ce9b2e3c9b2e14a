// Modes, times, owners: chmod, utimens, umask, statx, access.
#include "guest.h"
#include <sys/time.h>
#include <sys/vfs.h>

int main(void)
{
    struct stat st;
    umask(027);
    int fd = open("meta", O_RDWR | O_CREAT, 0666);
    fstat(fd, &st);
    printf("%o\n", st.st_mode);
    SHOW(fchmod(fd, 04755));
    SHOW(stat("meta", &st));
    printf("%o\n", st.st_mode);
    SHOW(chmod("meta", 0400));
    SHOW(stat("meta", &st));
    printf("%o\n", st.st_mode);
    struct timespec times[2] = {{1000000000, 123456789}, {1100000000, 987654321}};
    SHOW(futimens(fd, times));
    fstat(fd, &st);
    printf("%ld.%09ld %ld.%09ld\n", (long)st.st_atim.tv_sec, st.st_atim.tv_nsec, (long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
    times[0].tv_nsec = UTIME_OMIT;
    times[1].tv_nsec = UTIME_NOW;
    SHOW(utimensat(AT_FDCWD, "meta", times, 0));
    fstat(fd, &st);
    CHECK(st.st_atim.tv_sec == 1000000000 && st.st_mtim.tv_sec > 1500000000);
    times[1].tv_nsec = 1000000000;
    SHOW(utimensat(AT_FDCWD, "meta", times, 0));
    CHECK(st.st_uid == geteuid());
    SHOW(chown("meta", -1, -1));
    SHOW(lchown("absent", 0, 0));
    struct statx stx;
    SHOW(statx(AT_FDCWD, "meta", 0, STATX_BASIC_STATS, &stx));
    printf("%#x %o %llu\n", stx.stx_mask & STATX_BASIC_STATS, stx.stx_mode, (unsigned long long)stx.stx_size);
    CHECK(stx.stx_ino == st.st_ino);
    SHOW(statx(fd, "", AT_EMPTY_PATH, STATX_SIZE, &stx));
    SHOW(statx(fd, "", 0, STATX_SIZE, &stx));
    SHOW(access("meta", R_OK));
    SHOW(access("meta", X_OK));
    struct statfs fs;
    SHOW(statfs(".", &fs));
    CHECK(fs.f_bsize >= 512 && fs.f_namelen == 255);
    SHOW(stat("/dev/null", &st));
    printf("%o %lx\n", st.st_mode & S_IFMT, (unsigned long)st.st_rdev);
    unlink("meta");
    return 0;
}
