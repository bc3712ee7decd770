/* Arithmetic of a load shedder: time per call, overload, and the room in the queue.
 *
 * A queue that is never full serves every call; one that is always full only makes every call late. So its room depends
 * on the share that is rejected anyway. Up to an eighth the queue is long: calls are lost by chance, and a longer queue
 * loses fewer. Above an eighth it is just long enough to keep the workers busy. From a quarter on the newest call is
 * served first, because the older ones will be late in any case. Both with hysteresis.
 *
 * Calls with a deadline need no such guess. A call leaves when its turn comes if it could hardly meet its deadline, or
 * only at the cost of the calls behind it. So the room for such calls is larger. At the beginning of an overload, which
 * may be a burst, they may wait for most of their patience. While the limit still rises there is no bound, because the
 * limit doubles in the time of a call.
 *
 * The constants are the best of a simulation with 4 to 50 workers, exponential and lognormal service and loads from 0.5
 * to 3; docs/reference/patterns/load-shedding.md has the figures.
 */
#ifndef RS_SHEDDING_H
#define RS_SHEDDING_H
#include <math.h>
#include <stdint.h>

#define RS_SHED_MEMORY 500 /* window of the rejected share, in arrivals */
#define RS_SHED_BEGINS 0.12
#define RS_SHED_ENDS 0.08
#define RS_SHED_NEWEST 0.25
#define RS_SHED_MOST 0.5                     /* the largest share that is noted, however long a burst */
#define RS_SHED_QUIET_NS INT64_C(5000000000) /* without a rejected call: the overload is over, */
#define RS_SHED_QUIET_MEANS 20               /* if that is also this number of mean times, even with few calls; */
#define RS_SHED_QUIET 200                    /* or for this number of arrivals, whatever was rejected before */
#define RS_SHED_LONG 50                      /* room in normal times, in calls, */
#define RS_SHED_LONG_MEANS 6                 /* and at most, in mean times, */
#define RS_SHED_LONG_FEW 24                  /* but at least this, and some more with one or two workers */
#define RS_SHED_LONG_TIMELY 3     /* room for calls with a deadline, in mean times; at least RS_SHED_LONG calls */
#define RS_SHED_BEHIND 0.3        /* of the drain time of the calls behind: a call needs it beyond its own time */
#define RS_SHED_OF_PATIENCE 0.7   /* of the callers' patience: the longest wait in a burst */
#define RS_SHED_BURST 5           /* times the patience: a longer overload is no burst */
#define RS_SHED_APART 4.5         /* times the patience: closer sheds are one overload; */
#define RS_SHED_LASTING_APART 20  /* the same for a lasting one: a queue that is long again sheds none for a while */
#define RS_SHED_UNANSWERED 16     /* consecutive failures: then no success gives a latency */
#define RS_SHED_PATIENCE_SHARE 64 /* window of patience, a low estimate, and of the share with a deadline, in calls */
#define RS_SHED_NO_END 1000000    /* room while the limit rises: no bound */
#define RS_SHED_SHORT 11          /* room under overload; some more with one worker */
#define RS_SHED_LEAST 2           /* the least room */
#define RS_SHED_SAMPLES 64        /* window of the mean, in calls */
#define RS_SHED_SLOWEST 0.1       /* share of successes: a failure as slow as these counts as a lost answer */
#define RS_SHED_RECENT 8          /* window of the latest latencies, in successes */
#define RS_SHED_QUEUED 1.5        /* times the latency without queueing: answers queue */
#define RS_SHED_STALE_NS INT64_C(600000000000) /* a pause of this length discards the learnt state */
#define RS_SHED_UNKNOWN_NS INT64_C(100000000)  /* assumed time of a call before one has ended */
#define RS_SHED_SHORTEST_WAIT_NS INT64_C(1000000000)

typedef struct rs_shed_state {
    double shed;      /* rejected share of recent arrivals */
    double mean_ns;   /* mean time that a permit is held */
    double median_ns; /* latency of successes */
    double slow_ns;   /* 0.9-quantile of the same */
    double recent_ns; /* mean of the latest RS_SHED_RECENT of them */
    uint64_t samples, successes;
    int64_t target_ns;  /* the longest normal wait; 0: learnt */
    double patience_ns; /* of callers on arrival, a low estimate */
    double timely;      /* share of callers with a deadline */
    double gave_up_ns;  /* mean latency of lost answers: when callers gave up */
    int64_t last_shed_ns, last_end_ns, began_ns;
    uint64_t random;
    uint32_t quiet;      /* arrivals since one was rejected */
    uint32_t unanswered; /* failures since the last success */
    uint8_t overloaded;
    uint8_t lasting; /* the overload is longer than a burst */
    uint8_t silent;  /* calls have ended, and none has ever been answered */
    uint8_t rising;  /* set by the owner: nothing is known, the limit doubles in the time of a call */
} rs_shed_state;

static inline uint64_t rs_shed_mix(uint64_t x)
{
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

/* Random number in [0, 1). */
static inline double rs_shed_random(rs_shed_state *state)
{
    state->random += UINT64_C(0x9e3779b97f4a7c15);
    return (double)(rs_shed_mix(state->random) >> 11) * 0x1p-53;
}

/* Patience of most callers, in ns: from deadlines if most have one, else from lost answers; 0: unknown. */
static inline double rs_shed_patience(const rs_shed_state *state)
{
    return state->timely > 0.5 ? state->patience_ns : state->gave_up_ns;
}

static inline void rs_shed_note_lost(rs_shed_state *state, int64_t latency_ns)
{
    state->gave_up_ns += ((double)latency_ns - state->gave_up_ns)
                         * (state->gave_up_ns == 0.0 ? 1.0 : 8.0 / RS_SHED_PATIENCE_SHARE);
}

/* Note an arrival with *left_ns* to its deadline, 0 without one. */
static inline void rs_shed_note_patience(rs_shed_state *state, int64_t left_ns)
{
    double left = (double)left_ns, share = 1.0 / RS_SHED_PATIENCE_SHARE;
    state->timely += ((double)(left_ns > 0) - state->timely) * share;
    if (left_ns <= 0)
        return;
    if (state->patience_ns == 0.0 || state->timely <= 2 * share)
        state->patience_ns = left, state->timely = 1.0;
    else
        state->patience_ns += (left - state->patience_ns) * (left < state->patience_ns ? 8 * share : share);
}

static inline void rs_shed_arrived(rs_shed_state *state)
{
    state->quiet++;
    if (state->shed == 0.0)
        return;
    state->shed *= 1.0 - 1.0 / RS_SHED_MEMORY;
    if (state->shed < 1e-9) /* avoid slow denormal numbers */
        state->shed = 0.0;
}

/* Count a rejected call. 1: the overload begins with it. */
static inline int rs_shed_count(rs_shed_state *state, int64_t now_ns)
{
    if (state->shed < RS_SHED_MOST)
        state->shed += 1.0 / RS_SHED_MEMORY;
    double patience = rs_shed_patience(state);
    double apart = (state->lasting ? RS_SHED_LASTING_APART : RS_SHED_APART) * patience;
    if (state->last_shed_ns == 0 || (double)(now_ns - state->last_shed_ns) > apart)
        state->began_ns = now_ns;
    state->lasting = (double)(now_ns - state->began_ns) > RS_SHED_BURST * patience;
    state->last_shed_ns = now_ns;
    state->quiet = 0;
    if (state->overloaded || state->shed <= RS_SHED_BEGINS)
        return 0;
    state->overloaded = 1;
    return 1;
}

/* 1: the overload has ended. */
static inline int rs_shed_over(rs_shed_state *state, int64_t now_ns)
{
    double quiet_ns = (double)(now_ns - state->last_shed_ns);
    if (quiet_ns > (double)RS_SHED_QUIET_NS && quiet_ns > RS_SHED_QUIET_MEANS * state->mean_ns)
        state->shed = 0.0;
    else if (state->quiet >= RS_SHED_QUIET)
        state->shed = state->shed < RS_SHED_ENDS ? state->shed : RS_SHED_ENDS;
    else if (state->shed >= RS_SHED_ENDS)
        return 0;
    int was = state->overloaded;
    state->overloaded = 0;
    return was;
}

static inline int rs_shed_newest_first(const rs_shed_state *state)
{
    return state->overloaded && state->shed > RS_SHED_NEWEST;
}

/* True if learnt state exists and is not stale. */
static inline int rs_shed_knows(const rs_shed_state *state, int64_t now_ns)
{
    return state->samples != 0 && now_ns - state->last_end_ns <= RS_SHED_STALE_NS;
}

/* Learn from a permit held for *held_ns*; *latency_ns* is that of a success, else negative. */
static inline void rs_shed_learn(rs_shed_state *state, int64_t held_ns, int64_t latency_ns, int64_t now_ns)
{
    if (!rs_shed_knows(state, now_ns))
        state->samples = state->successes = 0;
    state->last_end_ns = now_ns;
    double held = held_ns < 1 ? 1.0 : (double)held_ns;
    state->samples++;
    double weight = state->samples < RS_SHED_SAMPLES ? 1.0 / (double)state->samples : 1.0 / RS_SHED_SAMPLES;
    state->mean_ns += (held - state->mean_ns) * weight;
    state->unanswered++;
    if (latency_ns < 0)
        return;
    state->unanswered = 0;
    state->silent = 0;
    double latency = latency_ns < 1 ? 1.0 : (double)latency_ns;
    state->successes++;
    double step = state->successes < 25 ? 0.5 / (double)state->successes : 0.02;
    if (state->successes == 1)
        state->median_ns = state->slow_ns = state->recent_ns = latency;
    else { /* without a branch: it would be mispredicted half the time */
        state->median_ns *= 1.0 - step + (double)(latency > state->median_ns) * 2.0 * step;
        double quicker = state->slow_ns * (1.0 - 2.0 * step * RS_SHED_SLOWEST),
               slower = state->slow_ns * (1.0 + 2.0 * step);
        state->slow_ns = latency < quicker ? quicker : latency < slower ? latency : slower; /* never above it */
        state->recent_ns += (latency - state->recent_ns) * (1.0 / RS_SHED_RECENT);
    }
}

/* True if a failure counts as a lost answer: it was as slow as slow successes, and answers are slow too, or there are
 * none. While answers are as quick as ever, a slow failure has another cause. *alone_ns*: latency without queueing, 0:
 * unknown. */
static inline int rs_shed_lost(const rs_shed_state *state, int64_t latency_ns, double alone_ns)
{
    double latency = (double)latency_ns, alone = alone_ns > 0.0 ? alone_ns : state->median_ns;
    int queued = state->unanswered >= RS_SHED_UNANSWERED || state->recent_ns >= RS_SHED_QUEUED * alone;
    return state->successes != 0 && queued && (latency >= 2.0 * state->median_ns || latency >= state->slow_ns);
}

/* Mean time that a permit is held, ns; > 0. */
static inline double rs_shed_usual_ns(const rs_shed_state *state)
{
    return state->samples ? state->mean_ns : (double)RS_SHED_UNKNOWN_NS;
}

/* Median latency of successes, ns: the least time of a call; 0: unknown. */
static inline double rs_shed_median_ns(const rs_shed_state *state) { return state->successes ? state->median_ns : 0.0; }

static inline double rs_shed_larger(double a, double b) { return a > b ? a : b; }

/* Room in the queue, in calls. *timely*: for calls with a deadline, which leave if they cannot meet it. */
static inline int64_t rs_shed_room(const rs_shed_state *state, int64_t limit, int timely)
{
    double room, workers = (double)limit, alone = 1.0 / (workers * workers);
    if (state->target_ns)
        room = (double)state->target_ns / rs_shed_usual_ns(state) * workers * (state->overloaded ? 1.0 : 3.0);
    else if (state->overloaded)
        room = rs_shed_larger(workers / 2, RS_SHED_SHORT + 2.0 * alone);
    else if (timely)
        room = rs_shed_larger(workers * RS_SHED_LONG_TIMELY, RS_SHED_LONG);
    else if (workers >= RS_SHED_LONG)
        room = workers;
    else {
        room = rs_shed_larger(workers * RS_SHED_LONG_MEANS, RS_SHED_LONG_FEW + 8.0 * alone);
        room = room < RS_SHED_LONG ? room : RS_SHED_LONG;
    }
    return room < 1.0 ? 1 : room > 1e9 ? 1000000000 : (int64_t)room;
}

/* Room for calls with a deadline in a possible burst: the calls served within RS_SHED_OF_PATIENCE of it. */
static inline int64_t rs_shed_burst_room(const rs_shed_state *state, int64_t limit)
{
    if (state->lasting || state->silent || state->target_ns || rs_shed_patience(state) <= 0.0)
        return 0;
    double room = (RS_SHED_OF_PATIENCE * rs_shed_patience(state) / rs_shed_usual_ns(state) - 1.0) * (double)limit;
    return room < 1.0 ? 1 : room > 1e9 ? 1000000000 : (int64_t)room;
}

/* Room under a configured limit. */
static inline int64_t rs_shed_room_configured(const rs_shed_state *state, int64_t limit, int timely)
{
    int64_t room = rs_shed_room(state, limit, timely), burst = timely ? rs_shed_burst_room(state, limit) : 0;
    return room > burst ? room : burst;
}

/* Room under a learnt limit. It admits more calls than there are workers: the others already wait inside. */
static inline int64_t rs_shed_room_left(const rs_shed_state *state, double workers, int64_t limit, int timely)
{
    if (state->rising && !state->silent && timely && state->target_ns == 0)
        return RS_SHED_NO_END;
    int64_t there = workers < 1.0 ? 1 : (int64_t)(workers + 0.5);
    int64_t room = rs_shed_room(state, there, timely), inside = limit > there ? limit - there : 0;
    int64_t burst = timely ? rs_shed_burst_room(state, limit) : 0;
    room = room - inside > RS_SHED_LEAST ? room - inside : RS_SHED_LEAST;
    return room > burst ? room : burst;
}

/* Expected time to drain the queue, ns. While the limit rises, each round trip takes twice as many calls. */
static inline double rs_shed_drain_ns(const rs_shed_state *state, int64_t waiting, int64_t limit)
{
    double rounds = (double)waiting / (double)limit;
    return rs_shed_usual_ns(state) * (state->rising ? log1p(rounds) : rounds);
}

/* Time that a call must have left at its turn, ns; *behind*: other waiters up to its class, which else go first. */
static inline double rs_shed_needed_ns(const rs_shed_state *state, int64_t behind, int64_t limit)
{
    double median = rs_shed_median_ns(state);
    if (behind == 0 || state->samples == 0)
        return median;
    return rs_shed_larger(median, rs_shed_usual_ns(state) + RS_SHED_BEHIND * rs_shed_drain_ns(state, behind, limit));
}

/* Longest wait of a call whose turn does not come, ns: twice the drain time of a full queue. */
static inline int64_t rs_shed_patience_ns(const rs_shed_state *state, int64_t room, int64_t limit)
{
    if (room >= RS_SHED_NO_END) /* until its deadline */
        return INT64_C(3600000000000);
    double patience = 2.0 * rs_shed_drain_ns(state, room, limit);
    if (patience < (double)RS_SHED_SHORTEST_WAIT_NS)
        return RS_SHED_SHORTEST_WAIT_NS;
    return patience > 3600e9 ? INT64_C(3600000000000) : (int64_t)patience;
}

/* Retry-After of a rejected call, ns: after the queue has drained, later the more is rejected, and jittered. */
static inline int64_t rs_shed_retry_after_ns(rs_shed_state *state, int64_t waiting, int64_t limit)
{
    double served = state->shed > 0.9 ? 0.1 : 1.0 - state->shed;
    double wait = (rs_shed_drain_ns(state, waiting + 1, limit) + rs_shed_usual_ns(state)) / served
                  * (1.0 + rs_shed_random(state));
    return wait < 1e6 ? 1000000 : wait > 3600e9 ? INT64_C(3600000000000) : (int64_t)wait;
}
#endif
