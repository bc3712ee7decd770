/* Threads that do what processes do, for ThreadSanitizer: each has a member of its own, in a slot of its own. */
#ifndef THREADS_H
#define THREADS_H
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include "platform.h"
#include "shared/member.h"

enum { THREADS = 4 };

static rs_roll roll = {.living = (1 << THREADS) - 1};
static rs_worker workers[RS_WORKERS];

static inline rs_member member_of(uint32_t slot)
{
    return (rs_member){.roll = &roll, .workers = workers, .owner = rs_owner(slot, 1), .slot = slot};
}

/* Run *work* in all threads at once; its argument is the thread's number. */
static inline void run(void *(*work)(void *))
{
    pthread_t thread[THREADS];
    for (uintptr_t i = 0; i < THREADS; i++)
        pthread_create(&thread[i], NULL, work, (void *)i);
    for (int i = 0; i < THREADS; i++)
        pthread_join(thread[i], NULL);
}

/* Zeroes, on a line. */
static inline void *zeroes(size_t size)
{
    size = (size + RS_LINE - 1) / RS_LINE * RS_LINE;
    char *memory = rs_aligned_alloc(RS_LINE, size);
    for (size_t i = 0; i < size; i++)
        memory[i] = 0;
    return memory;
}
#endif
