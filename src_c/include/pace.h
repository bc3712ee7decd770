/* What the attempts of a client take that succeed, and whether they take longer than they used to.
 *
 * Three times, in ns: the mean of the latest 64 (`latest`), that of the latest 1024 (`steady`), and the least that `steady` has
 * been (`usual`), which goes up to it with a time constant of 16,384 attempts. A mean of fewer is that of all there are. The first
 * of a batch to return are its quickest: `usual` is that mean until twice as many have been seen as were under way at first.
 * What takes longer than twice the latest mean and a millisecond counts as that: few that take ten seconds say nothing about the others.
 *
 * It answers two questions of a retry. How much of a success has an attempt cost that took so long before it failed? And are
 * successes slow now, as those of a server are that has a queue? No Python.h; the owner locks.
 */
#ifndef RS_PACE_H
#define RS_PACE_H
#include <stdint.h>

#define RS_PACE_LATEST 6
#define RS_PACE_STEADY 10
#define RS_PACE_AGE 14
#define RS_PACE_SLOWER(usual) ((usual) + (usual) / 2)       /* from there on successes are slow */
#define RS_PACE_UNNOTICED_NS INT64_C(1000000)
#define RS_PACE_ALL INT64_C(1000000000)     /* a share of 1 */

typedef struct rs_pace {
    int64_t latest, steady, usual;
    uint32_t seen;                          /* up to 2^RS_PACE_STEADY */
    uint32_t most;                          /* calls that were under way at one of the first 2^RS_PACE_LATEST */
} rs_pace;

/* An attempt has succeeded, in *took_ns* >= 0, while *underway* calls were under way, it among them or not. */
static inline void rs_pace_saw(rs_pace *p, int64_t took_ns, int64_t underway)
{
    int64_t most_ns = 2 * p->latest + RS_PACE_UNNOTICED_NS;
    took_ns = took_ns < most_ns || p->seen == 0 ? took_ns : most_ns;
    if (__builtin_expect(p->seen < 1 << RS_PACE_STEADY, 0)) {
        int64_t number = ++p->seen;         /* while there are fewer, all means are of all there are */
        p->latest += (took_ns - p->latest) / (number < 1 << RS_PACE_LATEST ? number : 1 << RS_PACE_LATEST);
        p->steady += (took_ns - p->steady) / number;
        if (number <= 1 << RS_PACE_LATEST && underway > p->most)
            p->most = (uint32_t)underway;
        p->usual = number <= 1 << RS_PACE_LATEST || number <= 2 * (int64_t)p->most ? p->steady : p->usual;
    } else {
        p->latest += (took_ns - p->latest) >> RS_PACE_LATEST;
        p->steady += (took_ns - p->steady) >> RS_PACE_STEADY;
    }
    int64_t above = p->steady - p->usual;
    p->usual += above > 0 ? above >> RS_PACE_AGE : above;
}

/* Do successes take longer than they used to? */
static inline int rs_pace_is_slow(const rs_pace *p) { return p->latest > RS_PACE_SLOWER(p->usual); }

/* What part of a success, of RS_PACE_ALL, an attempt of *took_ns* has cost; all of it where nothing is known. */
static inline int64_t rs_pace_share(const rs_pace *p, int64_t took_ns)
{
    if (took_ns >= p->latest || rs_pace_is_slow(p))
        return RS_PACE_ALL;
    return took_ns > 0 ? (int64_t)((double)took_ns / (double)p->latest * (double)RS_PACE_ALL) : 0;
}
#endif
