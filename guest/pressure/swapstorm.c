// Processes that together need more than twice the memory of the machine; every byte is verified, across forks and writes.
// guest: ram=16M swap=128M
#include "guest.h"
#include <sys/wait.h>

enum { PROCESSES = 6, PAGES = 1536, WORDS = PAGE / sizeof(uint32_t) };

static uint32_t word_of(unsigned owner, size_t page, size_t word, unsigned round)
{
    return owner * 2654435761u + page * 40503u + word * 97u + round;
}

static void fill(uint32_t *memory, unsigned owner, size_t from, size_t step, unsigned round)
{
    for (size_t page = from; page < PAGES; page += step)
        for (size_t word = 0; word < WORDS; word += 16)
            memory[page * WORDS + word] = word_of(owner, page, word, round);
}

static size_t wrong(const uint32_t *memory, unsigned owner, size_t from, size_t step, unsigned round)
{
    size_t bad = 0;
    for (size_t page = from; page < PAGES; page += step)
        for (size_t word = 0; word < WORDS; word += 16)
            bad += memory[page * WORDS + word] != word_of(owner, page, word, round);
    return bad;
}

static int storm(unsigned owner)
{
    uint32_t *memory = map_pages(PAGES, PROT_READ | PROT_WRITE);
    fill(memory, owner, 0, 1, 0);
    /* A child inherits pages that are in RAM and pages that are in swap; both sides write to some of them. */
    pid_t child = fork();
    unsigned side = child ? 1 : 2;
    size_t first = child ? 0 : 1;
    fill(memory, owner, first, 3, side);
    size_t bad = wrong(memory, owner, first, 3, side);
    for (size_t other = 0; other < 3; other++)
        if (other != first)
            bad += wrong(memory, owner, other, 3, 0);
    if (!child)
        _exit(bad != 0);
    int status;
    if (waitpid(child, &status, 0) != child || status)
        bad++;
    return bad != 0;
}

int main(void)
{
    pid_t pids[PROCESSES];
    for (unsigned i = 0; i < PROCESSES; i++) {
        pids[i] = fork();
        if (!pids[i])
            _exit(storm(i + 1));
    }
    int status, good = 0;
    for (unsigned i = 0; i < PROCESSES; i++)
        good += waitpid(pids[i], &status, 0) == pids[i] && status == 0;
    printf("%d of %d processes found what they had written\n", good, PROCESSES);
    return good != PROCESSES;
}
