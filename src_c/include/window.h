/* The outcomes of the last calls: by count, by time, or both, with the totals always ready.
 *
 *     by count          a ring of outcomes, one byte each; the newest pushes the oldest out
 *     by time           20 buckets of (n, failed, slow); the oldest bucket goes when its time has passed
 *     both              the ring, and 20 buckets that each count their outcomes in the ring
 *
 * Buckets keep their phase: they begin at multiples of their width, so a late caller does not stretch the window. An
 * outcome counts for at least 19/20 of the span and never longer than the span. A clock that goes backwards stands
 * still. Recording is O(1) amortised: each outcome enters once and leaves once.
 *
 * One malloc in rs_window_init, none later. No Python.h; the owner locks.
 */
#ifndef RS_WINDOW_H
#define RS_WINDOW_H
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define RS_WINDOW_BUCKETS 20
#define RS_WINDOW_FAILED 1u
#define RS_WINDOW_SLOW 2u

typedef struct rs_window_bucket {
    uint64_t total, failed, slow;
} rs_window_bucket;

typedef struct rs_window {
    uint64_t total, failed, slow; /* in the window now; read them after rs_window_advance */
    uint8_t *ring;                /* outcomes, RS_WINDOW_* bits; NULL: by time only */
    rs_window_bucket *bucket;     /* by time only */
    uint32_t *seen;               /* both: outcomes in the ring, by bucket */
    int64_t start_ns, width_ns;   /* of the current bucket; width 0: by count only */
    uint32_t capacity, tail;      /* of the ring; tail is the oldest outcome */
    uint32_t current, oldest;     /* buckets; all before `oldest` are empty */
} rs_window;

/* The last *count* outcomes (0: any number) of the last *span_ns* (0: any age; else at least 20). 0, or -1: no memory,
 * or neither given. */
static inline int rs_window_init(rs_window *window, uint32_t count, int64_t span_ns)
{
    memset(window, 0, sizeof *window);
    if (span_ns < 0 || (0 < span_ns && span_ns < RS_WINDOW_BUCKETS) || (count == 0 && span_ns == 0))
        return -1;
    size_t size = count == 0 ? RS_WINDOW_BUCKETS * sizeof(rs_window_bucket)
                             : count + (span_ns ? RS_WINDOW_BUCKETS * sizeof(uint32_t) : 0);
    void *memory = calloc(1, size);
    if (memory == NULL)
        return -1;
    window->capacity = count;
    window->width_ns = span_ns / RS_WINDOW_BUCKETS;
    if (count == 0)
        window->bucket = (rs_window_bucket *)memory;
    else if (span_ns == 0)
        window->ring = (uint8_t *)memory;
    else {
        window->seen = (uint32_t *)memory;
        window->ring = (uint8_t *)(window->seen + RS_WINDOW_BUCKETS);
    }
    return 0;
}

static inline void rs_window_free(rs_window *window)
{
    free(window->bucket ? (void *)window->bucket : window->seen ? (void *)window->seen : (void *)window->ring);
    memset(window, 0, sizeof *window);
}

/* Forget every outcome; time and phase go on. */
static inline void rs_window_reset(rs_window *window)
{
    window->total = window->failed = window->slow = 0;
    window->tail = 0;
    window->oldest = window->current;
    if (window->bucket)
        memset(window->bucket, 0, RS_WINDOW_BUCKETS * sizeof(rs_window_bucket));
    if (window->seen)
        memset(window->seen, 0, RS_WINDOW_BUCKETS * sizeof(uint32_t));
}

static inline void rs_window_pop(rs_window *window)
{
    unsigned bits = window->ring[window->tail];
    window->tail = window->tail + 1 == window->capacity ? 0 : window->tail + 1;
    window->total--;
    if (bits) {
        window->failed -= (bits & RS_WINDOW_FAILED) != 0;
        window->slow -= (bits & RS_WINDOW_SLOW) != 0;
    }
}

/* Replace the oldest outcome of a full ring by the newest. */
static inline void rs_window_replace(rs_window *window, uint8_t bits)
{
    uint32_t tail = window->tail;
    uint8_t oldest = window->ring[tail];
    window->ring[tail] = bits;
    window->tail = tail + 1 == window->capacity ? 0 : tail + 1;
    if (oldest | bits) {
        window->failed += (uint64_t)((bits & RS_WINDOW_FAILED) != 0) - ((oldest & RS_WINDOW_FAILED) != 0);
        window->slow += (uint64_t)((bits & RS_WINDOW_SLOW) != 0) - ((oldest & RS_WINDOW_SLOW) != 0);
    }
    if (window->seen == NULL)
        return;
    while (window->seen[window->oldest] == 0)
        window->oldest = (window->oldest + 1) % RS_WINDOW_BUCKETS;
    if (window->oldest != window->current) {
        window->seen[window->oldest]--;
        window->seen[window->current]++;
    }
}

/* Make the next bucket the current one: its outcomes of a span ago leave the window. */
static inline void rs_window_rotate(rs_window *window)
{
    uint32_t next = (window->current + 1) % RS_WINDOW_BUCKETS;
    window->current = next;
    if (window->bucket) {
        window->total -= window->bucket[next].total;
        window->failed -= window->bucket[next].failed;
        window->slow -= window->bucket[next].slow;
        window->bucket[next] = (rs_window_bucket){0, 0, 0};
        return;
    }
    for (; window->seen[next]; window->seen[next]--)
        rs_window_pop(window);
    if (window->oldest == next)
        window->oldest = (next + 1) % RS_WINDOW_BUCKETS;
}

/* Drop the outcomes that are too old. */
static inline void rs_window_advance(rs_window *window, int64_t now_ns)
{
    if (window->width_ns == 0 || now_ns - window->start_ns < window->width_ns || now_ns < window->start_ns)
        return;
    int64_t steps = (now_ns - window->start_ns) / window->width_ns;
    window->start_ns += steps * window->width_ns;
    if (steps >= RS_WINDOW_BUCKETS) {
        rs_window_reset(window);
        return;
    }
    while (steps-- > 0)
        rs_window_rotate(window);
}

/* Return 1 if no outcome is too old now. */
static inline int rs_window_is_current(const rs_window *window, int64_t now_ns)
{
    return window->width_ns == 0 || (uint64_t)(now_ns - window->start_ns) < (uint64_t)window->width_ns;
}

/* Record an outcome in a window that is up to date. */
static inline void rs_window_add(rs_window *window, int failed, int slow)
{
    if (window->ring) {
        uint8_t bits = (uint8_t)((failed ? RS_WINDOW_FAILED : 0) | (slow ? RS_WINDOW_SLOW : 0));
        if (window->total == window->capacity) {
            rs_window_replace(window, bits);
            return;
        }
        uint64_t head = window->tail + window->total;
        window->ring[head < window->capacity ? head : head - window->capacity] = bits;
        if (window->seen)
            window->seen[window->current]++;
    }
    else {
        rs_window_bucket *bucket = &window->bucket[window->current];
        bucket->total++;
        if (failed | slow) {
            bucket->failed += failed != 0;
            bucket->slow += slow != 0;
        }
    }
    window->total++;
    if (failed | slow) {               /* rare; as plain additions the compiler pairs the two, and every call waits */
        window->failed += failed != 0; /* for the store of the last one (4 ns a gate) */
        window->slow += slow != 0;
    }
}

/* Record an outcome at *now_ns*. */
static inline void rs_window_record(rs_window *window, int64_t now_ns, int failed, int slow)
{
    rs_window_advance(window, now_ns);
    rs_window_add(window, failed, slow);
}

/* The last *most* outcomes, at most those in the window. By time only, and beyond 4096, their number is in proportion. */
static inline rs_window_bucket rs_window_recent(const rs_window *window, uint64_t most)
{
    rs_window_bucket recent = {window->total, window->failed, window->slow};
    if (most >= window->total)
        return recent;
    recent = (rs_window_bucket){most, 0, 0};
    if (window->ring == NULL || most > 4096) {
        double share = (double)most / (double)window->total;
        recent.failed = (uint64_t)((double)window->failed * share + 0.5);
        recent.slow = (uint64_t)((double)window->slow * share + 0.5);
        return recent;
    }
    for (uint64_t at = window->tail + window->total - most; most > 0; most--, at++) {
        unsigned bits = window->ring[at % window->capacity];
        recent.failed += (bits & RS_WINDOW_FAILED) != 0;
        recent.slow += (bits & RS_WINDOW_SLOW) != 0;
    }
    return recent;
}

/* Bytes it holds, its own struct included. */
static inline size_t rs_window_memory(const rs_window *window)
{
    return sizeof *window + window->capacity + (window->bucket ? RS_WINDOW_BUCKETS * sizeof(rs_window_bucket) : 0)
           + (window->seen ? RS_WINDOW_BUCKETS * sizeof(uint32_t) : 0);
}
#endif
