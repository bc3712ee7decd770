/* What a load shedder learns and decides by arithmetic alone: how long calls take, whether it is overloaded, how many may wait.
 *
 * A queue that is never full serves all there is; one that is always full only makes everybody late. How many may wait
 * therefore depends on how much is shed anyway. Up to an eighth the queue is long: what is refused is lost by chance, and a
 * longer queue loses less. Beyond, it is as short as keeps the workers busy; from a quarter on the newest is served first,
 * for whoever came before it will be late whatever is done. Both with hysteresis.
 *
 * Calls that know their deadline need no such guess: one that could hardly meet it, or only by taking the time of those behind
 * it, goes when its turn comes. So many more of them may wait: at the beginning of an overload, which may be a burst, for the
 * good part of their patience; and while the limit still rises as long as they like, for it doubles in the time of a call.
 *
 * The constants are those that came out best in simulation, over workers from 4 to 50, exponential and lognormal service and
 * loads from 0.5 to 3; docs/patterns/load-shedding.md has the figures.
 */
#ifndef RS_SHEDDING_H
#define RS_SHEDDING_H
#include <math.h>
#include <stdint.h>

#define RS_SHED_MEMORY 500          /* arrivals over which the share that is shed is taken */
#define RS_SHED_BEGINS 0.12
#define RS_SHED_ENDS 0.08
#define RS_SHED_NEWEST 0.25
#define RS_SHED_MOST 0.5            /* of it: what comes of a burst, however long it is */
#define RS_SHED_QUIET_NS INT64_C(5000000000)       /* nothing shed for so long: it is over, however few calls there are, */
#define RS_SHED_QUIET_MEANS 20      /* if it is as many mean times; */
#define RS_SHED_QUIET 200           /* and for so many arrivals, however much was shed before */
#define RS_SHED_LONG 50             /* calls that may wait in normal times, */
#define RS_SHED_LONG_MEANS 6        /* and for how many mean times at most, */
#define RS_SHED_LONG_FEW 24         /* but as many as this, and some more with one worker or two */
#define RS_SHED_LONG_TIMELY 3       /* mean times for which calls that know their deadline may wait, or RS_SHED_LONG of them */
#define RS_SHED_BEHIND 0.3          /* of the time that those behind a call take, and its own: what it must have left */
#define RS_SHED_OF_PATIENCE 0.7    /* of their patience, for which they may wait in a burst */
#define RS_SHED_BURST 5             /* times their patience: what sheds for longer is no burst */
#define RS_SHED_APART 4.5           /* times their patience: what is closer is one overload; */
#define RS_SHED_LASTING_APART 20    /* the same once it has lasted: a queue that is long again sheds none for a while */
#define RS_SHED_UNANSWERED 16       /* failures in a row: then no success tells how long one takes */
#define RS_SHED_PATIENCE_SHARE 64   /* calls over which patience is taken: a low estimate, and whether most know theirs */
#define RS_SHED_NO_END 1000000      /* calls that may wait while the limit rises */
#define RS_SHED_SHORT 11            /* calls that may wait under overload; some more with one worker */
#define RS_SHED_LEAST 2             /* calls that may wait in any case */
#define RS_SHED_SAMPLES 64          /* calls over which the mean is taken */
#define RS_SHED_SLOWEST 0.1         /* of successes: a failure that takes as long as these is an answer that never came */
#define RS_SHED_QUEUED 1.5          /* times what a call takes where none waits: it waited */
#define RS_SHED_STALE_NS INT64_C(600000000000)     /* what was learnt before a pause of this is forgotten */
#define RS_SHED_UNKNOWN_NS INT64_C(100000000)      /* how long a call takes, before one has ended */
#define RS_SHED_SHORTEST_WAIT_NS INT64_C(1000000000)

typedef struct rs_shed_state {
    double shed;                    /* share of the last arrivals that was shed */
    double mean_ns;                 /* how long a permit is held */
    double median_ns;               /* latency of successes */
    double slow_ns;                 /* that nine of ten of them do not exceed */
    uint64_t samples, successes;
    int64_t target_ns;              /* the longest wait that is normal; 0: as learnt */
    double patience_ns;             /* that callers have on arrival, rather less than more */
    double timely;                  /* share of them that know their deadline */
    double gave_up_ns;              /* after how long callers gave up whose answers never came */
    int64_t last_shed_ns, last_end_ns, began_ns;
    uint64_t random;
    uint32_t quiet;                 /* arrivals since one was shed */
    uint32_t unanswered;            /* failures since the last success */
    uint8_t overloaded;
    uint8_t lasting;                /* the overload is longer than a burst */
    uint8_t silent;                 /* calls have ended, and none has ever been answered */
    uint8_t rising;                 /* the limit doubles in the time of a call until something is known: set by its owner */
} rs_shed_state;

static inline uint64_t rs_shed_mix(uint64_t x)
{
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

/* In [0, 1). */
static inline double rs_shed_random(rs_shed_state *state)
{
    state->random += UINT64_C(0x9e3779b97f4a7c15);
    return (double)(rs_shed_mix(state->random) >> 11) * 0x1p-53;
}

/* How long most callers wait: as they say, or as those did that gave up; 0: not known. */
static inline double rs_shed_patience(const rs_shed_state *state) { return state->timely > 0.5 ? state->patience_ns : state->gave_up_ns; }

static inline void rs_shed_note_lost(rs_shed_state *state, int64_t latency_ns)
{
    state->gave_up_ns += ((double)latency_ns - state->gave_up_ns) * (state->gave_up_ns == 0.0 ? 1.0 : 8.0 / RS_SHED_PATIENCE_SHARE);
}

/* A call arrives that has *left_ns*, or knows no deadline (0). */
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
    if (state->shed < 1e-9)             /* nor ever so little that arithmetic becomes slow */
        state->shed = 0.0;
}

/* 1: the overload begins with it. */
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

/* Has anything been learnt that still counts? */
static inline int rs_shed_knows(const rs_shed_state *state, int64_t now_ns)
{
    return state->samples != 0 && now_ns - state->last_end_ns <= RS_SHED_STALE_NS;
}

/* A permit was held for *held_ns*; *latency_ns* is that of a success, or negative. */
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
        state->median_ns = state->slow_ns = latency;
    else {      /* a branch here would be guessed wrong half the time */
        state->median_ns *= 1.0 - step + (double)(latency > state->median_ns) * 2.0 * step;
        double quicker = state->slow_ns * (1.0 - 2.0 * step * RS_SHED_SLOWEST), slower = state->slow_ns * (1.0 + 2.0 * step);
        state->slow_ns = latency < quicker ? quicker : latency < slower ? latency : slower;     /* never above what it took */
    }
}

/* Is a failure an answer that never came? *alone_ns*: what a call takes where none waits, 0: not known. Beside twice the
 * median, which overloaded may exceed what callers wait for: as slow as the slowest successes, and there was a queue, or
 * nothing but failures for a while. */
static inline int rs_shed_lost(const rs_shed_state *state, int64_t latency_ns, double alone_ns)
{
    double latency = (double)latency_ns;
    if (state->successes == 0)
        return 0;
    double alone = alone_ns > 0.0 ? alone_ns : state->median_ns;
    int queued = state->unanswered >= RS_SHED_UNANSWERED || latency >= RS_SHED_QUEUED * alone;
    return latency >= 2.0 * state->median_ns || (latency >= state->slow_ns && queued);
}

/* How long a permit is held, on average; > 0. */
static inline double rs_shed_usual_ns(const rs_shed_state *state)
{
    return state->samples ? state->mean_ns : (double)RS_SHED_UNKNOWN_NS;
}

/* What a call takes at least, as far as that is known. */
static inline double rs_shed_median_ns(const rs_shed_state *state)
{
    return state->successes ? state->median_ns : 0.0;
}

static inline double rs_shed_larger(double a, double b) { return a > b ? a : b; }

/* How many may wait. *timely*: calls that know their deadline, and go when they cannot meet it. */
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

/* How many of those that know their deadline may wait in what may be a burst: as many as are served in good part of their patience. */
static inline int64_t rs_shed_burst_room(const rs_shed_state *state, int64_t limit)
{
    if (state->lasting || state->silent || state->target_ns || rs_shed_patience(state) <= 0.0)
        return 0;
    double room = (RS_SHED_OF_PATIENCE * rs_shed_patience(state) / rs_shed_usual_ns(state) - 1.0) * (double)limit;
    return room < 1.0 ? 1 : room > 1e9 ? 1000000000 : (int64_t)room;
}

/* How many may wait where the limit is told. */
static inline int64_t rs_shed_room_told(const rs_shed_state *state, int64_t limit, int timely)
{
    int64_t room = rs_shed_room(state, limit, timely), burst = timely ? rs_shed_burst_room(state, limit) : 0;
    return room > burst ? room : burst;
}

/* How many may wait where a learnt limit lets more in than there are workers: the others wait inside already. */
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

/* When the queue has gone by, as things go: while the limit rises, each round trip takes twice as many as the one before. */
static inline double rs_shed_drain_ns(const rs_shed_state *state, int64_t waiting, int64_t limit)
{
    double rounds = (double)waiting / (double)limit;
    return rs_shed_usual_ns(state) * (state->rising ? log1p(rounds) : rounds);
}

/* What a call must have left when its turn comes and *behind* others of no higher class wait: else they go first. */
static inline double rs_shed_needed_ns(const rs_shed_state *state, int64_t behind, int64_t limit)
{
    double median = rs_shed_median_ns(state);
    if (behind == 0 || state->samples == 0)
        return median;
    return rs_shed_larger(median, rs_shed_usual_ns(state) + RS_SHED_BEHIND * rs_shed_drain_ns(state, behind, limit));
}

/* How long a call may wait before it is given up although its turn never came: twice what a full queue takes. */
static inline int64_t rs_shed_patience_ns(const rs_shed_state *state, int64_t room, int64_t limit)
{
    if (room >= RS_SHED_NO_END)             /* until its deadline */
        return INT64_C(3600000000000);
    double patience = 2.0 * rs_shed_drain_ns(state, room, limit);
    if (patience < (double)RS_SHED_SHORTEST_WAIT_NS)
        return RS_SHED_SHORTEST_WAIT_NS;
    return patience > 3600e9 ? INT64_C(3600000000000) : (int64_t)patience;
}

/* When a call that is refused has a chance: once the queue is through, later the more is shed, and not all at once. */
static inline int64_t rs_shed_retry_after_ns(rs_shed_state *state, int64_t waiting, int64_t limit)
{
    double served = state->shed > 0.9 ? 0.1 : 1.0 - state->shed;
    double wait = (rs_shed_drain_ns(state, waiting + 1, limit) + rs_shed_usual_ns(state)) / served * (1.0 + rs_shed_random(state));
    return wait < 1e6 ? 1000000 : wait > 3600e9 ? INT64_C(3600000000000) : (int64_t)wait;
}
#endif
