/* A law of an adaptive limit: what it keeps, and what all of them do alike (laws.h has the whole).
 *
 * No clock is read and no time constant is in seconds: everything counts calls, and the time between their ends. No
 * Python.h; the owner locks.
 */
#ifndef RS_LAW_H
#define RS_LAW_H
#include <math.h>
#include <stdint.h>
#include <string.h>

#define RS_LAW_LEAST 4.0                    /* square roots of the knee that calls may always queue */
#define RS_LAW_MOST 20.0                    /* and at most */
#define RS_LAW_LONGEST 6.5                  /* times the knee: the limit where the knee is tiny */
#define RS_LAW_QUEUED 2.0                   /* the same before which calls queue in a better order */
#define RS_LAW_BLOCK 16.0                   /* samples of few in flight that make a block */
#define RS_LAW_SHORTEST 128.0               /* and at least */
#define RS_LAW_CLIP 8.0                     /* times the mean: a longer latency counts as this */
#define RS_LAW_BACKOFF 0.9                  /* times, after a drop */

#define RS_LAW_UNCAPPED 1e18
#define RS_LAW_EVER -1e300                  /* before any time */

enum { RS_LAW_DEFAULT, RS_LAW_GRADIENT, RS_LAW_VEGAS, RS_LAW_AIMD };
enum { RS_LAW_WATCH, RS_LAW_DIP, RS_LAW_SETTLE, RS_LAW_CLIMBING, RS_LAW_RISING };

/* What a guard sees of some ends in a row: the first begins it, the others count. */
typedef struct rs_law_window {
    double ends, answers, level, latency;   /* how many, and sums over them */
    double begun, last, gap;                /* its first end, the last, the longest time between two */
    double earliest, latest;                /* when those calls had come */
} rs_law_window;

typedef struct rs_law {
    double limit;                           /* in force: finite, within floor..ceiling; lower than `learned` in a dip */
    double floor, ceiling, start;
    double learned;                         /* the limit but for dips */
    double mean;                            /* of latencies in ns, exponential; 0 before the first */
    double spared;                          /* samples until a drop counts again: one a round */
    uint8_t kind;                           /* RS_LAW_DEFAULT, ... */
    /* the default */
    uint8_t phase;                          /* RS_LAW_WATCH, ... */
    uint8_t climb, stages;                  /* a climb is due; its steps */
    uint8_t too_many;                       /* drops in the last round: nothing is given back in this one */
    uint8_t fresh;                          /* nothing was concluded yet: the first rise, without a cut */
    uint8_t queued;                         /* calls queue before the gate as well */
    double knee, root, least, most;         /* workers; their square root, and the limits that follow from it */
    double answers, drops, background;      /* of this round; the share of drops among calls with few in flight */
    double target, cap;                     /* the limit that the queue's cost asks for; what drops leave of it */
    double memory_knee, memory_level, memory;               /* sums over samples of few in flight, aged; their number */
    double memory_square;                                   /* of squares of the latency, in paces */
    double doubt;                                           /* standard error of the knee, a share of it */
    double low, low_latency, low_square, low_level;         /* this cycle: such samples, sums of latency and of inflight */
    double dip;                                             /* inflight that was few in the last dip; 0: none that counts */
    double high, pace, high_level;                          /* samples of many; latency per call in flight; inflight */
    double pulse, block_pulse;                              /* robust; at the last block, 0: not since the last change */
    double flatness;                                        /* where the lines cross by where the highest level is, mean */
    double held;                                            /* share of calls that met the limit */
    double seen, cycle;                                     /* calls of this cycle; before the next dip */
    double left, wanted;                                    /* of a dip, a settling, a step of the climb */
    double base, step, step_latency, before;                /* of the climb; of the rise the mean latency */
    /* the rise (law_rise.h) */
    double now, present;                                    /* in ns; calls in flight, the one that ends included */
    double step_level, spread, shared, scatter;             /* means and sums about them: level, its product with latency */
    double since;                                           /* calls that came before tell of another time */
    double usual, usual_level, usuals, lately;              /* latency and level of the last calls; how many; of the last eight */
    double slower, quicker, odd_since;                      /* calls that were slower than a queue makes them, or far quicker */
    /* the guard (law_guard.h) */
    double patience;                                        /* of callers, in ns, from the owner; 0: not known */
    rs_law_window window;
    double cut_from, cut_rate, trusted;                     /* the limit before a cut, and the rate; windows without one */
    double guard_since;                                     /* calls that came before met the last cut */
    double baseline;                        /* what a call takes where none waits, in ns; 0: not known; not of aimd */
    double samples, probe_at;               /* of gradient and vegas */
    uint64_t random;
} rs_law;

/* fmin and fmax are calls: NaN, which nobody has here, keeps a compiler from the one instruction. */
static inline double rs_law_min(double a, double b) { return a < b ? a : b; }
static inline double rs_law_max(double a, double b) { return a > b ? a : b; }

static inline double rs_law_within(double value, double low, double high)
{
    return value < low ? low : value > high ? high : value;
}

static inline void rs_law_set_knee(rs_law *law, double knee)
{
    law->knee = knee = rs_law_within(knee, 1, 2 * law->ceiling);
    law->root = sqrt(knee);                 /* 1e-6: a whole number stays one, rounded down */
    double sure = knee * (1 + law->doubt), shortest = law->queued ? RS_LAW_QUEUED : RS_LAW_LEAST;
    law->least = rs_law_min(sure + RS_LAW_LEAST * law->root, shortest * knee) + 1e-6;
    law->most = law->queued ? law->least : rs_law_min(sure + RS_LAW_MOST * law->root, RS_LAW_LONGEST * knee);
}

/* The knee whose least limit is *limit*, if there is no doubt. */
static inline double rs_law_knee_of(const rs_law *law, double limit)
{
    double root = (sqrt(RS_LAW_LEAST * RS_LAW_LEAST + 4 * limit) - RS_LAW_LEAST) / 2;
    return rs_law_max(1, rs_law_max(root * root, limit / (law->queued ? RS_LAW_QUEUED : RS_LAW_LEAST)));
}

static inline double rs_law_random(rs_law *law)             /* in [0, 1) */
{
    law->random ^= law->random << 13;
    law->random ^= law->random >> 7;
    law->random ^= law->random << 17;
    return (double)(law->random >> 11) * 0x1p-53;
}

static inline void rs_law_believe(rs_law *law, double knee, double samples)
{
    rs_law_set_knee(law, knee);
    law->dip = 0;
    law->memory = samples;
    law->memory_knee = samples * law->knee;
    law->memory_level = samples * law->knee / 2;
    law->memory_square = 2 * samples * law->knee * law->knee;       /* as if exponential */
}

/* Forget everything learned. */
static inline void rs_law_reset(rs_law *law)
{
    rs_law old = *law;
    memset(law, 0, sizeof *law);
    law->kind = old.kind;
    law->queued = old.queued;
    law->floor = old.floor;
    law->ceiling = old.ceiling;
    law->start = old.start;
    law->limit = law->learned = law->target = rs_law_within(old.start, old.floor, old.ceiling);
    law->cap = RS_LAW_UNCAPPED;
    rs_law_believe(law, rs_law_knee_of(law, law->limit), RS_LAW_BLOCK);
    law->fresh = 1;
    law->phase = RS_LAW_RISING;             /* a server of many workers must not wait for a cycle */
    law->patience = old.patience;
    law->since = law->guard_since = RS_LAW_EVER;
    law->cycle = RS_LAW_SHORTEST;
    law->random = UINT64_C(88172645463325252);
    law->probe_at = 30 * law->limit;
}

static inline void rs_law_init(rs_law *law, int kind, double start, double floor, double ceiling)
{
    law->kind = (uint8_t)kind;
    law->queued = 0;
    law->start = start;
    law->floor = floor;
    law->ceiling = ceiling;
    rs_law_reset(law);
}

/* Those who find no permit queue in an order that is better than the workers': then fewer should wait behind the limit. */
static inline void rs_law_queue_before(rs_law *law)
{
    law->queued = 1;
    rs_law_reset(law);
}

/* Move the bounds, keeping what was learned. */
static inline void rs_law_bound(rs_law *law, double floor, double ceiling)
{
    law->floor = floor;
    law->ceiling = ceiling;
    law->limit = rs_law_within(law->limit, floor, ceiling);
    law->learned = rs_law_within(law->learned, floor, ceiling);
    rs_law_set_knee(law, law->knee);
}

/* What a call takes where none waits, in ns; 0: not known. While the limit rises for the first time: what calls take. */
static inline double rs_law_baseline(const rs_law *law)
{
    if (law->baseline != 0 || law->kind != RS_LAW_DEFAULT)
        return law->baseline;
    return law->pace != 0 ? law->knee * law->pace : law->usual;
}

/* Has nothing been concluded yet? Then a new one does as well: samples on the way to a conclusion are no loss. */
static inline int rs_law_untouched(const rs_law *law)
{
    double start = rs_law_within(law->start, law->floor, law->ceiling);
    return fabs(law->learned - start) < 1 && law->limit == law->learned && law->spared <= 0 &&
        (law->kind != RS_LAW_DEFAULT || (law->baseline == 0 && law->cap == RS_LAW_UNCAPPED));
}

/* A drop is believed once a round: those that come together are one event. */
static inline int rs_law_believes_drop(rs_law *law)
{
    if (law->spared > 0)
        return 0;
    law->spared = law->limit;
    return 1;
}
#endif
