/* How long a client's successful attempts take, and whether they take longer than before.
 *
 * Three means, in ns: of the latest 64 (`latest`), of the latest 1024 (`steady`), and the least value of `steady`
 * (`usual`), which rises to it with a time constant of 16,384 attempts. With fewer attempts a mean covers them all. The
 * first results of a batch are its quickest. So `usual` is that mean until twice the initial number of calls in flight
 * has been seen. An attempt counts at most twice the latest mean plus a millisecond: a few attempts of ten seconds are
 * no evidence about the others. (One of eight replicas hangs, and hedges save a few of its calls after seconds: the
 * plain mean was 25 times the usual one, and .967 instead of 1.000 were answered.)
 *
 * It answers two questions of a retry. What share of a success's cost had an attempt that failed after this time? And
 * are successes slow now, as from a server with a queue? No Python.h; the owner locks.
 */
#ifndef RS_PACE_H
#define RS_PACE_H
#include <stdint.h>

#define RS_PACE_LATEST 6
#define RS_PACE_STEADY 10
#define RS_PACE_AGE 14
/* Above this, successes are slow. A queue as long as the number of workers never made them twice as long as usual. */
#define RS_PACE_SLOWER(usual) ((usual) + (usual) / 2)
#define RS_PACE_UNNOTICED_NS INT64_C(1000000)
#define RS_PACE_ALL INT64_C(1000000000) /* a share of 1 */

typedef struct rs_pace {
    int64_t latest, steady, usual;
    uint32_t seen; /* up to 2^RS_PACE_STEADY */
    uint32_t most; /* most calls in flight at one of the first 2^RS_PACE_LATEST */
} rs_pace;

/* Add a success that took *took_ns* >= 0. *underway*: calls in flight, with or without it. */
static inline void rs_pace_saw(rs_pace *p, int64_t took_ns, int64_t underway)
{
    int64_t most_ns = 2 * p->latest + RS_PACE_UNNOTICED_NS;
    took_ns = took_ns < most_ns || p->seen == 0 ? took_ns : most_ns;
    if (__builtin_expect(p->seen < 1 << RS_PACE_STEADY, 0)) {
        int64_t number = ++p->seen; /* with few samples, all means cover all of them */
        p->latest += (took_ns - p->latest) / (number < 1 << RS_PACE_LATEST ? number : 1 << RS_PACE_LATEST);
        p->steady += (took_ns - p->steady) / number;
        if (number <= 1 << RS_PACE_LATEST && underway > p->most)
            p->most = (uint32_t)underway;
        p->usual = number <= 1 << RS_PACE_LATEST || number <= 2 * (int64_t)p->most ? p->steady : p->usual;
    }
    else {
        p->latest += (took_ns - p->latest) >> RS_PACE_LATEST;
        p->steady += (took_ns - p->steady) >> RS_PACE_STEADY;
    }
    int64_t above = p->steady - p->usual;
    p->usual += above > 0 ? above >> RS_PACE_AGE : above;
}

/* Return 1 if successes take longer than usual. */
static inline int rs_pace_is_slow(const rs_pace *p) { return p->latest > RS_PACE_SLOWER(p->usual); }

/* The cost of an attempt of *took_ns* relative to a success, up to RS_PACE_ALL; RS_PACE_ALL without samples. */
static inline int64_t rs_pace_share(const rs_pace *p, int64_t took_ns)
{
    if (took_ns >= p->latest || rs_pace_is_slow(p))
        return RS_PACE_ALL;
    return took_ns > 0 ? (int64_t)((double)took_ns / (double)p->latest * (double)RS_PACE_ALL) : 0;
}
#endif
