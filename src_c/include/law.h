/* State of an adaptive limit's law, and the functions that all laws share (laws.h is the public header).
 *
 * It reads no clock and has no time constant in seconds: everything counts calls, and the time between their ends. No
 * Python.h; the owner locks.
 */
#ifndef RS_LAW_H
#define RS_LAW_H
#include <math.h>
#include <stdint.h>
#include <string.h>

/* Of fixed limits before four workers, 21 to 33 pass at a load of 1.0 and 11 to 18 at 1.2. None passes both, so the
 * queue lies between two bounds, by how much the limit holds back. */
#define RS_LAW_LEAST 4.0   /* the queue that is always allowed, in square roots of the knee */
#define RS_LAW_MOST 20.0   /* the longest queue, in the same unit */
#define RS_LAW_LONGEST 6.5 /* times the knee: the highest limit, for a tiny knee */
/* The same for a gate with a queue of its own: calls wait there in a better order than behind the limit. With 2 or 1.5
 * square roots as RS_LAW_LEAST most cells are better. But a hundred workers with a heavy tail starve in some (.52 of
 * what could be served). */
#define RS_LAW_QUEUED 2.0
#define RS_LAW_BLOCK 16.0     /* samples with few in flight in a block */
#define RS_LAW_SHORTEST 128.0 /* the shortest cycle, in calls */
#define RS_LAW_CLIP 8.0       /* times the mean: longer latencies are clipped to it */
#define RS_LAW_BACKOFF 0.9    /* factor of the limit after a drop */

#define RS_LAW_UNCAPPED 1e18
#define RS_LAW_EVER -1e300 /* before any time */

enum { RS_LAW_DEFAULT, RS_LAW_GRADIENT, RS_LAW_VEGAS, RS_LAW_AIMD };
enum { RS_LAW_WATCH, RS_LAW_DIP, RS_LAW_SETTLE, RS_LAW_CLIMBING, RS_LAW_RISING };

/* The guard's sums over consecutive ends: the first opens the window, the others count. */
typedef struct rs_law_window {
    double ends, answers, level, latency; /* their number, and sums: of levels, and of latencies of answers */
    double begun, last, gap;              /* its first end, its last, the longest gap between two */
    double earliest, latest;              /* arrival of those calls */
} rs_law_window;

typedef struct rs_law {
    double limit; /* in force: finite, within floor..ceiling; lower than `learned` in a dip */
    double floor, ceiling, start;
    double learned; /* the limit without dips */
    double mean;    /* of latencies in ns, exponential; 0 before the first */
    double spared;  /* samples until a drop counts again: one a round */
    uint8_t kind;   /* RS_LAW_DEFAULT, ... */
    /* the default */
    uint8_t phase;                            /* RS_LAW_WATCH, ... */
    uint8_t climb, stages;                    /* a climb is due; its steps */
    uint8_t too_many;                         /* drops in the last round: this round does not raise the cap */
    uint8_t mute, regains;                    /* the last round had no answer; since then the cap doubles in a round */
    uint8_t fresh;                            /* no conclusion yet: the first rise, without a cut */
    uint8_t queued;                           /* the gate has a queue of its own */
    double knee, root, least, most;           /* workers; their square root, and the limits that follow from it */
    double answers, drops, background;        /* of this round; the share of drops among calls with few in flight */
    double target, cap;                       /* the limit by the queue's cost; upper bound after drops */
    double memory_knee, memory_level, memory; /* aged sums over samples with few in flight; count */
    double memory_square;                     /* sum of squared latencies, in paces */
    double doubt;                             /* standard error of the knee, a share of it */
    double low, low_latency, low_square, low_level; /* this cycle: samples, sums of latency and inflight */
    double dip;                                     /* inflight that was few in the last dip; 0: no valid one */
    double high, pace, high_level;                  /* with many in flight: samples, pace, level */
    double pulse, block_pulse;                      /* robust pace; at the last block, 0: none since a change */
    double flatness;                                /* mean of crossing / highest level */
    double held;                                    /* share of calls that met the limit */
    double seen, cycle;                             /* calls of this cycle; before the next dip */
    double left, wanted;                            /* calls left, samples wanted: dip, settling, step */
    double base, step, step_latency, before;        /* of the climb; in a rise step_latency is the mean */
    /* the rise (law_rise.h) */
    double now, present;                        /* ns; calls in flight, including the one that ends */
    double step_level, spread, shared, scatter; /* mean level; sums about the means: squares, products */
    double since;                               /* earlier arrivals are evidence of another regime */
    double usual, usual_level, usuals, lately;  /* recent means: latency, level; count; last eight */
    double slower, quicker, odd_since;          /* calls slower than a queue explains; far quicker */
    /* the guard (law_guard.h) */
    double patience; /* of callers, ns, set by the owner; 0: unknown */
    rs_law_window window;
    double cut_from, cut_rate, trusted; /* limit and rate before a cut; windows without one */
    double guard_since;                 /* earlier arrivals were admitted before the last cut */
    double baseline;                    /* latency without queueing, ns; 0: unknown; not of aimd */
    double samples, probe_at;           /* of gradient and vegas */
    uint64_t random;
} rs_law;

/* fmin and fmax handle NaN, which does not occur here, so compilers emit calls for them instead of one instruction. */
static inline double rs_law_min(double a, double b) { return a < b ? a : b; }
static inline double rs_law_max(double a, double b) { return a > b ? a : b; }

static inline double rs_law_within(double value, double low, double high)
{
    return value < low ? low : value > high ? high : value;
}

/* The limit that lets *queue* square roots of the knee wait, and allows for its error. The two add up by squares, since
 * their causes are apart: added plainly, a limit of eight processes had a p99 of 61 ms of 100, now 58 ms with as much
 * served. */
static inline double rs_law_above(const rs_law *law, double queue)
{
    double error = law->doubt * law->knee;
    return law->knee + sqrt(queue * queue * law->knee + error * error);
}

static inline void rs_law_set_knee(rs_law *law, double knee)
{
    law->knee = knee = rs_law_within(knee, 1, 2 * law->ceiling);
    law->root = sqrt(knee); /* 1e-6: a whole number stays one, rounded down */
    double shortest = law->queued ? RS_LAW_QUEUED : RS_LAW_LEAST;
    law->least = rs_law_min(rs_law_above(law, RS_LAW_LEAST), shortest * knee) + 1e-6;
    law->most = law->queued ? law->least : rs_law_min(rs_law_above(law, RS_LAW_MOST), RS_LAW_LONGEST * knee);
}

/* The knee whose least limit is *limit*, without doubt. */
static inline double rs_law_knee_of(const rs_law *law, double limit)
{
    double root = (sqrt(RS_LAW_LEAST * RS_LAW_LEAST + 4 * limit) - RS_LAW_LEAST) / 2;
    return rs_law_max(1, rs_law_max(root * root, limit / (law->queued ? RS_LAW_QUEUED : RS_LAW_LEAST)));
}

static inline double rs_law_random(rs_law *law) /* in [0, 1) */
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
    law->memory_square = 2 * samples * law->knee * law->knee; /* as if exponential */
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
    law->phase = RS_LAW_RISING; /* a server of many workers must not wait for a cycle */
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

/* Note that the gate has a queue in a better order than the workers': fewer calls should wait behind the limit. */
static inline void rs_law_queue_before(rs_law *law)
{
    law->queued = 1;
    rs_law_reset(law);
}

/* Move the bounds and keep the learned state. */
static inline void rs_law_bound(rs_law *law, double floor, double ceiling)
{
    law->floor = floor;
    law->ceiling = ceiling;
    law->limit = rs_law_within(law->limit, floor, ceiling);
    law->learned = rs_law_within(law->learned, floor, ceiling);
    rs_law_set_knee(law, law->knee);
}

/* Latency without queueing, in ns; 0: unknown. During the first rise: the mean of recent calls. */
static inline double rs_law_baseline(const rs_law *law)
{
    if (law->baseline != 0 || law->kind != RS_LAW_DEFAULT)
        return law->baseline;
    return law->pace != 0 ? law->knee * law->pace : law->usual;
}

/* True if the law has concluded nothing: a new one is as good, since unfinished samples are no loss. */
static inline int rs_law_untouched(const rs_law *law)
{
    double start = rs_law_within(law->start, law->floor, law->ceiling);
    return fabs(law->learned - start) < 1 && law->limit == law->learned && law->spared <= 0
           && (law->kind != RS_LAW_DEFAULT || (law->baseline == 0 && law->cap == RS_LAW_UNCAPPED));
}

/* True for one drop a round: drops that come together are one event. */
static inline int rs_law_believes_drop(rs_law *law)
{
    if (law->spared > 0)
        return 0;
    law->spared = law->limit;
    return 1;
}
#endif
