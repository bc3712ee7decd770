/* A ring of samples from one worker to whichever worker learns: how long calls took, with how many in flight.
 *
 * One worker writes, and the one whose turn it is to learn (learned.h) reads. A full ring loses samples and never
 * blocks. What a worker has written before it died is read as well; its slot's next owner goes on behind it.
 */
#ifndef RS_SHARED_RING_H
#define RS_SHARED_RING_H
#include "member.h"

#ifndef RS_RING
#define RS_RING 64u /* samples */
#endif

typedef struct rs_sample {
    int64_t end_ns, latency_ns; /* `end_ns` since the region's epoch */
    uint32_t inflight, present; /* calls in flight when it began, and when it ended, itself included */
    int dropped;                /* its latency is no evidence */
} rs_sample;

typedef struct rs_ring {
    _Alignas(RS_LINE) rs_word32 written; /* samples ever; the writer's line */
    rs_word32 passing;                   /* calls in flight that hold no permit (shadow mode) */
    _Alignas(RS_LINE) rs_word32 read;    /* samples ever; the readers' */
    _Alignas(RS_LINE) rs_word64 word[RS_RING][3];
} rs_ring;

/* 1 unless the ring is full. */
static inline int rs_ring_write(rs_ring *ring, const rs_sample *sample)
{
    uint32_t written = rs_atomic_load(&ring->written);
    if (written - rs_atomic_load(&ring->read) >= RS_RING)
        return 0;
    rs_word64 *word = ring->word[written % RS_RING];
    rs_atomic_store(&word[0], (uint64_t)sample->end_ns << 1 | (sample->dropped != 0));
    rs_atomic_store(&word[1], (uint64_t)sample->latency_ns);
    rs_atomic_store(&word[2], sample->inflight | (uint64_t)sample->present << 32);
    rs_atomic_store(&ring->written, written + 1);
    return 1;
}

/* Samples not read yet. */
static inline uint32_t rs_ring_waiting(rs_ring *ring)
{
    return rs_atomic_load(&ring->written) - rs_atomic_load(&ring->read);
}

/* Sample number *at*, which has been written and not yet read. */
static inline rs_sample rs_ring_at(rs_ring *ring, uint32_t at)
{
    rs_word64 *word = ring->word[at % RS_RING];
    uint64_t end = rs_atomic_load(&word[0]), latency = rs_atomic_load(&word[1]), levels = rs_atomic_load(&word[2]);
    return (rs_sample){(int64_t)(end >> 1), (int64_t)latency, (uint32_t)levels, (uint32_t)(levels >> 32), end & 1};
}

/* Samples up to number *to* are read. A reader that was overtaken changes nothing. */
static inline void rs_ring_read(rs_ring *ring, uint32_t from, uint32_t to)
{
    if (from != to)
        (void)rs_atomic_swap(&ring->read, &from, to);
}
#endif
