// A random walk over mmap, munmap, mprotect, mremap and madvise, checked against a model kept beside.
#include "guest.h"

enum { PAGES = 64, ROUNDS = 3000 };

static struct {
    int prot; /* -1: not mapped */
    int value;
} model[PAGES];

int main(void)
{
    char *base = map_pages(PAGES + 2, PROT_NONE) + PAGE;
    uint32_t state = 2026;
    int faults = 0, checks = 0, wrong = 0;
    catch_faults(0);
    munmap(base, PAGES * PAGE);
    for (int i = 0; i < PAGES; i++)
        model[i].prot = -1;
    for (int round = 0; round < ROUNDS; round++) {
        int first = next_random(&state) % PAGES, count = next_random(&state) % 8 + 1;
        if (first + count > PAGES)
            count = PAGES - first;
        char *p = base + first * PAGE;
        static const int prots[] = {PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE, PROT_READ | PROT_WRITE};
        int prot = prots[next_random(&state) % 4];
        switch (next_random(&state) % 6) {
        case 0:
        case 1:
            if (mmap(p, count * PAGE, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != p)
                return 1;
            for (int i = first; i < first + count; i++)
                model[i].prot = prot, model[i].value = 0;
            break;
        case 2:
            munmap(p, count * PAGE);
            for (int i = first; i < first + count; i++)
                model[i].prot = -1;
            break;
        case 3: {
            int result = mprotect(p, count * PAGE, prot);
            for (int i = first; i < first + count; i++) {
                if (model[i].prot == -1) {
                    wrong += result != -1 || errno != ENOMEM;
                    break;
                }
                model[i].prot = prot;
                wrong += i == first + count - 1 && result != 0;
            }
            break;
        }
        case 4: {
            bool all = true;
            for (int i = first; i < first + count; i++)
                all &= model[i].prot != -1;
            wrong += (madvise(p, count * PAGE, MADV_DONTNEED) == 0) != all;
            for (int i = first; i < first + count; i++)
                if (model[i].prot != -1)
                    model[i].value = 0;
            break;
        }
        default: { /* move one page elsewhere */
            int to = next_random(&state) % PAGES;
            if (model[first].prot == -1 || to == first)
                break;
            if (mremap(p, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, base + to * PAGE) != base + to * PAGE)
                return 2;
            model[to] = model[first];
            model[first].prot = -1;
        }
        }
        int i = next_random(&state) % PAGES;
        volatile unsigned char *q = (unsigned char *)base + i * PAGE + next_random(&state) % PAGE / 64 * 64;
        volatile unsigned char *word = (unsigned char *)base + i * PAGE;
        bool can_read = model[i].prot > 0, can_write = model[i].prot > 0 && model[i].prot & PROT_WRITE;
        int signo = FAULT(wrong += *word != model[i].value);
        wrong += (signo == 0) != can_read;
        if (signo)
            wrong += caught.code != (model[i].prot == -1 ? SEGV_MAPERR : SEGV_ACCERR), faults++;
        if (FAULT(*word = round) == 0) {
            wrong += !can_write;
            model[i].value = round & 255;
        } else {
            wrong += can_write, faults++;
        }
        (void)q;
        checks += 2;
    }
    printf("%d checks, %d faults, %d wrong\n", checks, faults, wrong);
    return wrong != 0;
}
