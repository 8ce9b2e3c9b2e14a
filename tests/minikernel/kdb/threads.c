#include <pthread.h>
#include <stdio.h>

int shared;

void *work(void *argument)
{
    for (int i = 0; i < 3; i++)
        shared += (int)(long)argument;
    return 0;
}

int main(void)
{
    pthread_t threads[2];
    for (long i = 0; i < 2; i++)
        pthread_create(&threads[i], 0, work, (void *)(i + 1));
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], 0);
    printf("%d\n", shared);
    return 0;
}
