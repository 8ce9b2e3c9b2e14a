// Two processes pass blocks through System V shared memory that each has attached at another address.
#include "guest.h"
#include <sched.h>
#include <sys/ipc.h>
#include <sys/shm.h>
#include <sys/wait.h>

#define SLOTS 4
#define BLOCK (3 * 1024)
#define BLOCKS 200

struct ring {
    volatile uint32_t written, read; /* blocks so far */
    volatile uintptr_t address[2];   /* where each of the two sees the ring */
    struct {
        uint32_t sum, size;
        unsigned char data[BLOCK];
    } slot[SLOTS];
};

static uint32_t total(uint32_t sum, uint32_t more)
{
    return sum * 31 + more;
}

static uint32_t produce(struct ring *ring)
{
    uint32_t noise = 7, sum = 0;
    ring->address[0] = (uintptr_t)ring;
    for (int n = 0; n < BLOCKS; n++) {
        while (ring->written - ring->read == SLOTS)
            sched_yield();
        int at = n % SLOTS, size = 1 + next_random(&noise) % BLOCK;
        for (int i = 0; i < size; i++)
            ring->slot[at].data[i] = next_random(&noise);
        ring->slot[at].size = size;
        ring->slot[at].sum = checksum(ring->slot[at].data, size);
        sum = total(sum, ring->slot[at].sum);
        __sync_synchronize();
        ring->written = n + 1;
    }
    return sum;
}

static uint32_t consume(struct ring *ring, int *wrong)
{
    uint32_t sum = 0;
    ring->address[1] = (uintptr_t)ring;
    for (int n = 0; n < BLOCKS; n++) {
        while (ring->read == ring->written)
            sched_yield();
        __sync_synchronize();
        int at = n % SLOTS;
        uint32_t own = checksum(ring->slot[at].data, ring->slot[at].size);
        *wrong += own != ring->slot[at].sum;
        sum = total(sum, own);
        __sync_synchronize();
        ring->read = n + 1;
    }
    return sum;
}

int main(int argc, char **argv)
{
    int wrong = 0, status;
    if (argc > 1) {
        /* Another program image: it knows the id and nothing else. */
        char *elsewhere = map_pages(64, PROT_READ) + 16 * PAGE;
        struct ring *ring = shmat(atoi(argv[1]), elsewhere, SHM_REMAP);
        uint32_t sum = consume(ring, &wrong);
        printf("read: %x, wrong %d\n", sum, wrong);
        CHECK(ring->address[0] != ring->address[1]);
        return 0;
    }
    int id = shmget(IPC_PRIVATE, sizeof(struct ring), 0600);
    struct ring *ring = shmat(id, NULL, 0);
    char word[16];
    sprintf(word, "%d", id);
    if (!fork()) {
        execl("/proc/self/exe", argv[0], word, NULL);
        _exit(99);
    }
    uint32_t sum = produce(ring);
    wait(&status);
    printf("written: %x, the reader's status %x\n", sum, status);

    struct shmid_ds ds;
    shmctl(id, IPC_STAT, &ds);
    printf("attached %d\n", (int)ds.shm_nattch);
    CHECK(ds.shm_lpid != getpid());
    char *copy = shmat(id, map_pages(8, PROT_NONE) + 123, SHM_RND | SHM_REMAP);
    CHECK(copy != (char *)ring && !memcmp(copy, ring, sizeof(*ring)));
    SHOW(shmctl(id, IPC_RMID, NULL));
    return 0;
}
