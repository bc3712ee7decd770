/* A million keys of one host: processes that meet each key at about the same time take as much as each of them may.
 *
 *     keys_of_host KEYS
 *
 * At a first moment and at a second one, each process tries every key BURST times, all in about the same order. Prints, one
 * NAME NUMBER a line: the bytes of the table, the most that a key has admitted beyond burst + rate x t, how many have
 * admitted more than that at all, how many less, and the mean time of a try.
 */
#define _GNU_SOURCE
#include "shared/keys.h"
#include "shared/siphash.h"
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { WORKERS = 4, BURST = 4, LATER_NS = 3 };

static const uint64_t secret[RS_HASH_KEY] = {1, 2};
static rs_keys table = {.tokens = {.rate = (uint64_t)1 << RS_RATE_BITS, .burst = BURST}}; /* one a nanosecond */
static rs_word32 *admitted;

static void *shared(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        exit(2);
    return memory;
}

static void work(uint64_t keys, uint64_t first, int64_t now_ns)
{
    for (uint64_t i = 0; i < keys; i++) {
        uint64_t key = (first + i) % keys, hash = rs_siphash(secret, &key, sizeof key);
        for (int try = 0; try < BURST; try++)
            atomic_fetch_add_explicit(&admitted[key], rs_key_take(&table, hash, now_ns, 1), memory_order_relaxed);
    }
}

static void all_work(uint64_t keys, int64_t now_ns)
{
    for (uint64_t worker = 0; worker < WORKERS; worker++)
        if (fork() == 0) {
            work(keys, worker, now_ns); /* one key apart, so that they meet */
            _exit(0);
        }
    while (wait(NULL) > 0)
        ;
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

int main(int argc, char **argv)
{
    uint64_t keys = argc == 2 ? strtoull(argv[1], NULL, 10) : 0, over = 0, less = 0, most = 0;
    if (keys == 0)
        return 2;
    size_t size = rs_keys_size(rs_keys_sets(keys));
    rs_keys_begin(&table, rs_keys_sets(keys), shared(size));
    admitted = shared(keys * sizeof *admitted);
    double began = seconds();
    all_work(keys, 0);
    all_work(keys, LATER_NS);
    double took = seconds() - began;
    for (uint64_t key = 0; key < keys; key++) {
        uint64_t n = rs_atomic_load(&admitted[key]), bound = BURST + LATER_NS;
        over += n > bound;
        less += n < bound;
        most = n > bound && n - bound > most ? n - bound : most;
    }
    printf("bytes %zu\nmost %llu\nover %llu\nless %llu\nns %.0f\n", size, (unsigned long long)most,
           (unsigned long long)over, (unsigned long long)less, took * 1e9 / (double)(2 * WORKERS * BURST * keys));
    return 0;
}
