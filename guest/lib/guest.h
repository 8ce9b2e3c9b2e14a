/* What the guest programs share.
 *
 * A guest program prints results and never an address, a time, a process number or anything else that differs
 * between two machines: its output on this machine's own Linux is what the emulator's must be, byte for byte.
 */
#ifndef GUEST_H
#define GUEST_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <ucontext.h>
#include <unistd.h>

#define UNUSED __attribute__((unused))
#define NOINLINE __attribute__((noinline))
#define PAGE 4096ul
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* Print an expression and its value; -1 with its errno. */
#define SHOW(expr) show_result(#expr, (errno = 0, (long)(expr)))
/* The same for a value that is none of the reader's business when it is no error: a pointer, a descriptor. */
#define SHOW_OK(expr) show_success(#expr, (errno = 0, (long)(expr)))
/* Print a condition that must hold. */
#define CHECK(cond) printf("%s %s\n", (cond) ? "yes:" : "NO: ", #cond)

static UNUSED long show_result(const char *what, long value)
{
    if (value == -1 && errno)
        printf("%s = -1 errno %d\n", what, errno);
    else
        printf("%s = %ld\n", what, value);
    return value;
}

static UNUSED long show_success(const char *what, long value)
{
    if (value == -1)
        printf("%s = -1 errno %d\n", what, errno);
    else
        printf("%s ok\n", what);
    return value;
}

static UNUSED void *map_pages(size_t pages, int prot)
{
    void *p = mmap(NULL, pages * PAGE, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) {
        perror("mmap");
        exit(99);
    }
    return p;
}

/* A file of the current directory with the bytes a, b, c ... one letter a page; open for reading and writing. */
static UNUSED int make_file(const char *name, size_t size)
{
    int fd = open(name, O_RDWR | O_CREAT | O_TRUNC, 0644);
    if (fd < 0) {
        perror(name);
        exit(99);
    }
    for (size_t at = 0; at < size; at++) {
        char c = 'a' + at / PAGE % 26;
        if (write(fd, &c, 1) != 1)
            exit(99);
        if (at % PAGE == 0 && at + PAGE <= size) {
            char page[PAGE - 1];
            memset(page, c, sizeof(page));
            if (write(fd, page, sizeof(page)) != (ssize_t)sizeof(page))
                exit(99);
            at += PAGE - 1;
        }
    }
    return fd;
}

/* Lines of /proc/self/maps whose range overlaps [start, end). */
static UNUSED int map_lines(const void *start, const void *end)
{
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[512];
    unsigned long from, to;
    int lines = 0;
    if (!maps)
        return -1;
    while (fgets(line, sizeof(line), maps))
        if (sscanf(line, "%lx-%lx", &from, &to) == 2 && from < (unsigned long)end && to > (unsigned long)start)
            lines++;
    fclose(maps);
    return lines;
}

/* --- faults that are survived --------------------------------------------------------------------------------- */

static struct {
    int signo;
    int code;
    char *address;
    long trapno;
    long error;
} caught UNUSED;
static sigjmp_buf fault_return UNUSED;

static UNUSED void on_fault(int signo, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    caught.signo = signo;
    caught.code = info->si_code;
    caught.address = info->si_addr;
    caught.trapno = uc->uc_mcontext.gregs[REG_TRAPNO];
    caught.error = uc->uc_mcontext.gregs[REG_ERR];
    siglongjmp(fault_return, 1);
}

static UNUSED void catch_faults(int extra_flags)
{
    static const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP};
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | extra_flags};
    for (size_t i = 0; i < COUNT(signals); i++)
        sigaction(signals[i], &action, NULL);
}

/* Run a statement; the signal that ended it, or 0. */
#define FAULT(statement)                             \
    ({                                               \
        caught.signo = 0;                            \
        if (sigsetjmp(fault_return, 1) == 0) {       \
            statement;                               \
        }                                            \
        caught.signo;                                \
    })

/* Say how a statement ended; the address as an offset from base. */
#define SHOW_FAULT(base, statement)                                                                            \
    do {                                                                                                       \
        if (FAULT(statement))                                                                                  \
            printf("%s: signal %d code %d at base%+ld trap %ld error %#lx\n", #statement, caught.signo,        \
                   caught.code, (long)(caught.address - (char *)(base)), caught.trapno, caught.error & 0x1f);  \
        else                                                                                                   \
            printf("%s: fine\n", #statement);                                                                  \
    } while (0)

static UNUSED NOINLINE unsigned char peek(const volatile void *p)
{
    return *(const volatile unsigned char *)p;
}

static UNUSED NOINLINE void poke(volatile void *p, unsigned char value)
{
    *(volatile unsigned char *)p = value;
}

/* A checksum to print in place of much data: FNV-1a. */
static UNUSED uint32_t checksum(const void *data, size_t size)
{
    const unsigned char *p = data;
    uint32_t hash = 2166136261u;
    while (size--)
        hash = (hash ^ *p++) * 16777619u;
    return hash;
}

/* Deterministic noise. */
static UNUSED uint32_t next_random(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

#endif
