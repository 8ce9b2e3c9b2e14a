// The auxiliary vector tells the truth about the program, the machine and the user.
// guest: variants=static,static-pie,dynamic libc=glibc
#include "guest.h"
#include <elf.h>
#include <link.h>
#include <sys/auxv.h>

extern char **environ;
extern void _start(void);

int main(int argc, char **argv)
{
    char **p = environ;
    while (*p++)
        ;
    ElfW(auxv_t) *auxv = (void *)p;
    int entries = 0;
    while (auxv[entries].a_type != AT_NULL)
        entries++;
    CHECK(entries >= 15);
    printf("AT_PAGESZ %lu\n", getauxval(AT_PAGESZ));
    printf("AT_CLKTCK %lu\n", getauxval(AT_CLKTCK));
    printf("AT_PHENT %lu\n", getauxval(AT_PHENT));
    printf("AT_SECURE %lu\n", getauxval(AT_SECURE));
    printf("AT_FLAGS %lu\n", getauxval(AT_FLAGS));
    printf("AT_PLATFORM %s\n", (char *)getauxval(AT_PLATFORM));
    CHECK(getauxval(AT_UID) == getuid() && getauxval(AT_EUID) == geteuid());
    CHECK(getauxval(AT_GID) == getgid() && getauxval(AT_EGID) == getegid());
    CHECK(getauxval(AT_ENTRY) == (unsigned long)_start);
    CHECK(strcmp((char *)getauxval(AT_EXECFN), argv[0]) == 0);
    CHECK((char *)getauxval(AT_EXECFN) != argv[0]);
    CHECK(getauxval(AT_HWCAP) != 0);
    CHECK(getauxval(AT_MINSIGSTKSZ) >= 1000);

    const unsigned char *random = (void *)getauxval(AT_RANDOM);
    int zeroes = 0;
    for (int i = 0; i < 16; i++)
        zeroes += random[i] == 0;
    CHECK(zeroes < 8);

    /* The program headers describe the file that runs. */
    const ElfW(Phdr) *phdr = (void *)getauxval(AT_PHDR);
    int loads = 0, self = 0;
    unsigned long bias = 0;
    for (unsigned long i = 0; i < getauxval(AT_PHNUM); i++)
        if (phdr[i].p_type == PT_PHDR)
            bias = (unsigned long)phdr - phdr[i].p_vaddr;
    for (unsigned long i = 0; i < getauxval(AT_PHNUM); i++) {
        unsigned long start = phdr[i].p_vaddr + bias;
        if (phdr[i].p_type != PT_LOAD)
            continue;
        loads++;
        self += (unsigned long)main >= start && (unsigned long)main < start + phdr[i].p_memsz;
    }
    printf("%d segments, main in %d of them\n", loads, self);
    bool has_interpreter = false;
    for (unsigned long i = 0; i < getauxval(AT_PHNUM); i++)
        has_interpreter |= phdr[i].p_type == PT_INTERP;
    CHECK((getauxval(AT_BASE) != 0) == has_interpreter);

    const unsigned char *vdso = (void *)getauxval(AT_SYSINFO_EHDR);
    CHECK(vdso != NULL && memcmp(vdso, ELFMAG, SELFMAG) == 0);
    CHECK(vdso[EI_CLASS] == (sizeof(long) == 8 ? ELFCLASS64 : ELFCLASS32));
    CHECK(((unsigned long)vdso & 0xfff) == 0);
    return argc - 1;
}
