/* The default law: finds the knee, the concurrency above which calls only wait, and adds a queue of its square root.
 *
 * It rests on two facts that hold for any speed of the server and any distribution of service times.
 *
 * The knee. Below it a call that finds n - 1 others is served at once and takes s. Above it, by Little's law, it takes
 * n / X, X being the throughput. The lines cross at n = s X. So the knee is the latency of calls that found few others,
 * divided by the latency per call in flight of calls that found many. Both are means over the same period, never a
 * minimum: a server that becomes ten times slower moves both, and the knee stays. If the load never leaves few calls in
 * flight, the law lowers the limit for a moment (a dip): 16 calls in some thousand. The slow calls of a dip end much
 * later and still count as samples with few in flight: without them the mean is too low. The estimate ages with each
 * block.
 *
 * The doubt. With a heavy tail even the mean of 200 calls is a guess. A limit above the knee costs a little wait, one
 * below it costs capacity, so the limit also covers one standard error of the knee. The error has nothing to do with
 * how calls come, which the queue is for. So the two add up as errors do: by their squares.
 *
 * The queue. A slot above the knee sometimes keeps a worker busy, and makes calls wait. `target` follows the gradient
 * of idleness + W * wait, in shares of the workers and in service times, while the limit holds calls back. It stays
 * between 4 and 20 square roots above the knee. The fluctuation of a stream of calls is of that size: fewer starve the
 * workers, more only delay. A gate with a queue of its own, whose order is better, needs 4 at most.
 *
 * Drops. Calls that time out or are rejected with few in flight are not caused by the limit: with heavy tails some are
 * dropped at any load. The limit is cut, once a round, if the share of drops is well above that background. A gate with
 * a queue counts only drops at a limit that is reached: one that holds no call back has caused none. A round without an
 * answer does not distinguish a queue from a callee that hangs. It cuts the limit too, for a server may work for callers who
 * have left, but with the next answer the limit rises as it had never been cut: by one for each answer.
 *
 * If no queue shows at all, the limit is below the knee: the law climbs by half at a time while latency stays flat. At
 * first, while nothing is known, it rises (law_rise.h). The guard (law_guard.h) reacts within a few ends.
 *
 * Change. `pulse` is a mean of latencies per call in flight; no sample counts more than twice the usual value. With any
 * tail, it shows that the server has become slower or quicker, or that workers came or went. The law then looks more
 * often, and trusts its memory less.
 *
 * Source: Little, Operations Research 1961; Halfin and Whitt, Operations Research 1981 (square root).
 */
#ifndef RS_LAW_KNEE_H
#define RS_LAW_KNEE_H
#include "law_guard.h"
#include "law_rise.h"

#define RS_LAW_DOUBT 0.5         /* of the knee: the highest doubt */
#define RS_LAW_WAIT 0.01         /* W: cost of a service time of waiting, in workers' idleness */
#define RS_LAW_GAIN 0.15         /* step of the target a call, in square roots of the knee */
#define RS_LAW_HELD 0.02         /* share of calls that meet the limit, for a full step */
#define RS_LAW_LOW 0.6           /* times the knee: few in flight, all of them served */
#define RS_LAW_HIGH 1.2          /* times the knee: enough in flight to keep every worker busy */
#define RS_LAW_MEMORY 200.0      /* memory of the knee, in such samples */
#define RS_LAW_CYCLE 400.0       /* times (block + knee / 2): most calls between two dips */
#define RS_LAW_FIRST_CYCLE 512.0 /* calls from a rise to the first dip: a high guess is cheaper */
#define RS_LAW_PACE 256.0        /* window of the latency per call in flight, in samples with many */
#define RS_LAW_PULSE 64.0        /* window of `pulse`, in the same samples */
#define RS_LAW_SLOWER 2.5        /* times the pulse at the last block: look again soon */
#define RS_LAW_QUICKER 1.8       /* times quicker than at the last block: the same */
#define RS_LAW_SOON 16.0         /* calls until that look */
#define RS_LAW_KEPT 64.0         /* samples that memory keeps then */
#define RS_LAW_FLAT 0.8          /* flatness without a sign of a queue: the limit climbs */
#define RS_LAW_SUSPECT 0.75      /* flatness above which cycles become shorter */
#define RS_LAW_FRESH 0.4         /* weight of the last block in the flatness */
#define RS_LAW_CLIMB 1.5         /* factor of a step of the climb */
#define RS_LAW_STEP 48.0         /* samples of a step, or half of the calls in flight */
#define RS_LAW_RISEN 1.2         /* times the base latency: the climb has passed the knee */
#define RS_LAW_REACHED 0.4       /* of the level reached: the least knee after a climb */
#define RS_LAW_STILL_HIGH 1.2    /* times the level with few in flight: a lower knee was missed */
#define RS_LAW_DOWN 0.7          /* times that level: the next guess of the knee then */
#define RS_LAW_ROUND 32.0        /* answers of a round, or as many as the limit */
#define RS_LAW_DROPS 0.15        /* share of drops, plus twice the background: caused by the limit */
#define RS_LAW_MOST_DROPS 0.5    /* share of drops that counts in any case */
#define RS_LAW_REGAIN 0.25       /* of the limit, or 1: raised by a round after one without too many drops */

static inline double rs_law_few(const rs_law *law)
{
    return rs_law_max(rs_law_max(1, RS_LAW_LOW * law->knee), law->floor);
}

static inline double rs_law_longest_cycle(const rs_law *law) { return RS_LAW_CYCLE * (RS_LAW_BLOCK + law->knee / 2); }

/* Set the limit from the estimates. It grows only with a call that found it half used. */
static inline void rs_law_apply(rs_law *law, double inflight)
{
    law->target = law->phase >= RS_LAW_CLIMBING ? law->least : rs_law_within(law->target, law->least, law->most);
    double limit = rs_law_within(rs_law_min(law->target, law->cap), law->floor, law->ceiling);
    if (limit < law->learned || 2 * inflight >= law->learned)
        law->learned = limit;
    law->limit = law->learned;
    if (law->phase == RS_LAW_DIP)
        law->limit = rs_law_min(law->learned, rs_law_within(floor(rs_law_few(law)), law->floor, law->ceiling));
}

static inline void rs_law_climb_to(rs_law *law, double level)
{
    rs_law_set_knee(law, rs_law_knee_of(law, level));
    law->left = level; /* the calls in flight came at a lower level */
    law->step = law->step_latency = 0;
    law->stages = law->stages < 100 ? law->stages + 1 : law->stages;
}

static inline void rs_law_new_cycle(rs_law *law)
{
    law->low = law->low_latency = law->low_square = law->low_level = law->high = law->seen = 0;
    law->phase = RS_LAW_WATCH;
    if (law->climb) {
        law->climb = 0;
        law->phase = RS_LAW_CLIMBING;
        law->before = law->knee;
        law->stages = 0;
        rs_law_climb_to(law, RS_LAW_CLIMB * law->learned);
    }
}

/* Add a block whose lines cross at *crossing* workers to the memory. */
static inline void rs_law_remember(rs_law *law, double crossing)
{
    double few = law->low, keep = exp(-few / RS_LAW_MEMORY);
    law->memory = law->memory * keep + few;
    law->memory_knee = law->memory_knee * keep + few * crossing;
    law->memory_level = law->memory_level * keep + law->low_level;
    law->memory_square = law->memory_square * keep + law->low_square / (law->pace * law->pace);
    double knee = law->memory_knee / law->memory, spread = law->memory_square / law->memory / (knee * knee) - 1;
    law->doubt = rs_law_min(RS_LAW_DOUBT, sqrt(rs_law_max(0, spread) / law->memory));
    rs_law_set_knee(law, knee);
}

/* The threshold of flatness, >= *least*: with a queue, flatness is as far below 1 as the limit is above the knee. */
static inline double rs_law_flat(const rs_law *law, double least)
{
    return rs_law_max(least, (1 + law->knee / law->least) / 2);
}

/* Shorten the cycle if the knee moves, else lengthen it. */
static inline void rs_law_set_cycle(rs_law *law, double change)
{
    if (change > 1.5 || change < 0.67)
        law->cycle = RS_LAW_SHORTEST;
    else if (change > 1.2 || change < 0.83 || law->flatness > rs_law_flat(law, RS_LAW_SUSPECT))
        law->cycle = rs_law_max(RS_LAW_SHORTEST, law->cycle / 2);
    else
        law->cycle = rs_law_min(law->cycle * 2, rs_law_longest_cycle(law));
}

/* Find the crossing of the two lines from a complete block. */
static inline void rs_law_cross(rs_law *law)
{
    double old = law->knee, few = law->low;
    double crossing = rs_law_within(law->low_latency / few / law->pace, 1, 2 * law->high_level + 1);
    rs_law_remember(law, crossing);
    law->block_pulse = law->pulse;
    law->baseline += (law->low_latency / few - law->baseline) * (law->baseline == 0 ? 1 : 0.5);
    law->flatness += (crossing / law->high_level - law->flatness) * RS_LAW_FRESH;
    double level = law->memory_level / law->memory;
    if (law->flatness >= rs_law_flat(law, RS_LAW_FLAT) && law->high_level >= 0.8 * law->learned
        && law->learned < law->ceiling) {
        law->base = law->flatness * law->high_level * law->pace;
        law->flatness = 0;
        law->climb = 1;
    }
    else if (law->memory > RS_LAW_BLOCK && level > 1.5 && law->knee < RS_LAW_STILL_HIGH * level)
        rs_law_believe(law, RS_LAW_DOWN * level, 2 * RS_LAW_BLOCK);
    rs_law_set_cycle(law, law->knee / old);
}

/* Add a sample of a climb. The samples of a step decide if the step went too far. */
static inline void rs_law_climbing(rs_law *law, double latency, double inflight)
{
    double level = law->learned;
    if (law->left > 0) {
        law->left -= 1;
        return;
    }
    if (inflight < 0.75 * level)
        return;
    law->step += 1;
    law->step_latency += latency;
    if (law->step < rs_law_max(RS_LAW_STEP, level / 2))
        return;
    double now = law->step_latency / law->step;
    if (now <= RS_LAW_RISEN * law->base && level < law->ceiling && law->cap > level) {
        law->base += (now - law->base) * (now < law->base / 2 ? 1 : 0.5); /* at once if a slow spell has ended */
        law->baseline = law->base;
        rs_law_climb_to(law, RS_LAW_CLIMB * level);
        return;
    }
    if (law->stages == 0 || (law->stages == 1 && law->memory > RS_LAW_BLOCK))
        rs_law_set_knee(law, law->before); /* no higher than the estimate: nothing is new */
    else {
        rs_law_believe(law, rs_law_max(law->base / now, RS_LAW_REACHED) * level, 2 * RS_LAW_BLOCK);
        law->pace = now / level;
        law->high_level = level;
    }
    law->target = level / RS_LAW_CLIMB;
    rs_law_new_cycle(law);
}

static inline int rs_law_sort(rs_law *law, double latency, double inflight)
{
    double few = rs_law_max(rs_law_few(law), law->dip), many = rs_law_max(RS_LAW_HIGH * law->knee, few + 1);
    if (inflight <= few) {
        law->low += 1;
        law->low_latency += latency;
        law->low_square += latency * latency;
        law->low_level += inflight;
        return 1;
    }
    if (inflight >= many && law->phase == RS_LAW_WATCH) {
        law->high += 1;
        double share = law->pace == 0 ? 1 : rs_law_max(1 / RS_LAW_PACE, rs_law_min(1.0 / 16, 1 / law->high)),
               now = latency / inflight;
        law->pace += (now - law->pace) * share;
        law->pulse += law->pulse == 0 ? now : (rs_law_min(now, 2 * law->pulse) - law->pulse) * (1 / RS_LAW_PULSE);
        law->high_level += (inflight - law->high_level) * share;
    }
    return 0;
}

/* The queue: a step down the gradient of idleness + W * wait, while calls are held back. */
static inline void rs_law_weigh(rs_law *law, double inflight)
{
    law->held += ((inflight + 1 > law->learned) - law->held) / 128;
    double others = (inflight - 1) / law->knee;
    double step = RS_LAW_GAIN * law->root * rs_law_min(1, law->held / RS_LAW_HELD);
    law->target += step * (others < 1 ? 1 - others : -RS_LAW_WAIT * (others - 1));
}

static inline void rs_law_end_of_cycle(rs_law *law)
{
    if (law->high < RS_LAW_BLOCK) { /* hardly used: samples with few in flight stay valid */
        double kept = law->low > 4 * RS_LAW_BLOCK ? 0.5 : 1;
        law->low *= kept;
        law->low_latency *= kept;
        law->low_square *= kept;
        law->low_level *= kept;
        law->seen = 0;
    }
    else if (law->low >= RS_LAW_BLOCK / 2) {
        rs_law_cross(law);
        rs_law_new_cycle(law);
    }
    else {
        law->phase = RS_LAW_DIP;
        law->wanted = RS_LAW_BLOCK;
        law->dip = floor(rs_law_few(law));
        law->left = law->learned + 3 * RS_LAW_BLOCK;
    }
}

/* The server has become slower or quicker: the next blocks show if the number of workers has changed as well. */
static inline void rs_law_look_again(rs_law *law)
{
    double kept = rs_law_min(1, RS_LAW_KEPT / law->memory);
    law->memory *= kept;
    law->memory_knee *= kept;
    law->memory_level *= kept;
    law->memory_square *= kept;
    law->low = law->low_latency = law->low_square = law->low_level = law->high = 0;
    law->block_pulse = 0;
    law->cycle = RS_LAW_SHORTEST;
    law->seen = law->cycle - RS_LAW_SOON;
}

static inline void rs_law_watch(rs_law *law, double inflight)
{
    rs_law_weigh(law, inflight);
    if (law->block_pulse > 0
        && (law->pulse > RS_LAW_SLOWER * law->block_pulse || RS_LAW_QUICKER * law->pulse < law->block_pulse))
        rs_law_look_again(law);
    if (law->seen >= law->cycle)
        rs_law_end_of_cycle(law);
}

static inline void rs_law_settle(rs_law *law, int few)
{
    law->left -= 1;
    if (law->phase == RS_LAW_DIP) {
        law->wanted -= few;
        if (law->left <= 0 || law->wanted <= 0) {
            law->phase = RS_LAW_SETTLE; /* slow calls of the dip must end first: else the mean is low */
            law->left = 3 * law->learned;
        }
    }
    else if (law->left <= 0) {
        if (law->low >= RS_LAW_BLOCK / 2)
            rs_law_cross(law);
        else
            law->cycle = rs_law_min(law->cycle * 2, rs_law_longest_cycle(law)); /* none came below: dip less often */
        rs_law_new_cycle(law);
    }
}

static inline void rs_law_count_drops(rs_law *law, double inflight, int dropped)
{
    if (inflight <= rs_law_few(law))
        law->background += (dropped - law->background) / RS_LAW_MEMORY;
    law->answers += 1;
    law->drops += dropped;
    if (law->answers < RS_LAW_ROUND || law->answers < law->learned)
        return;
    law->too_many = law->drops > law->answers * rs_law_min(RS_LAW_MOST_DROPS, RS_LAW_DROPS + 2 * law->background);
    law->mute = law->queued && law->drops == law->answers;
    if (law->too_many) {
        law->cap = rs_law_max(law->floor, RS_LAW_BACKOFF * law->learned);
        law->regains = 0;
    }
    law->answers = law->drops = 0;
}

static inline void rs_law_regain(rs_law *law, double inflight)
{
    if (law->cap >= RS_LAW_UNCAPPED)
        return;
    if (law->mute) {
        law->answers = law->drops = law->mute = law->too_many = 0;
        law->regains = 1;
    }
    if (inflight + 1 > law->cap && !law->too_many)
        law->cap += law->regains ? 1 : rs_law_max(1, RS_LAW_REGAIN * law->cap) / law->cap;
    if (law->cap > law->most) {
        law->cap = RS_LAW_UNCAPPED;
        law->regains = 0;
    }
}

static inline void rs_law_answered(rs_law *law, double latency, double inflight)
{
    double clipped = rs_law_min(latency, RS_LAW_CLIP * law->mean);
    law->seen += 1;
    int few = rs_law_sort(law, clipped, inflight);
    if (law->phase == RS_LAW_WATCH)
        rs_law_watch(law, inflight);
    else if (law->phase == RS_LAW_CLIMBING)
        rs_law_climbing(law, clipped, inflight);
    else if (law->phase != RS_LAW_RISING)
        rs_law_settle(law, few);
    else if (rs_law_rising(law, latency, inflight)) {
        rs_law_new_cycle(law);
        law->cycle = RS_LAW_FIRST_CYCLE;
    }
}

static inline void rs_law_default(rs_law *law, double latency, double inflight, int dropped)
{
    rs_law_count_drops(law, inflight, dropped && (!law->queued || rs_law_is_pressed(law)));
    if (rs_law_guard(law, latency, inflight, dropped)) {
        law->climb = 0;
        rs_law_new_cycle(law);
        law->phase = RS_LAW_RISING;
        rs_law_rise_afresh(law, law->since);
    }
    if (!dropped) {
        rs_law_regain(law, inflight);
        rs_law_answered(law, latency, inflight);
    }
    rs_law_apply(law, inflight);
}
#endif
