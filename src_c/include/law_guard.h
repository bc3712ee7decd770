/* The guard of the default law: it reacts to 16 consecutive ends, where the means of the knee need hundreds.
 *
 * By Little's law a call that arrives now takes (calls in flight) / (rate of answers). So the guard knows that a call
 * will miss its caller's patience long before the call ends. A queue, unlike a lull in the answers, shows in one of two
 * more signs: calls end further apart than they arrived, or answers have already taken most of the patience. How long
 * failures take is no sign, and a window without answers gives no rate: they may wait for what hangs. With either sign
 * the limit is cut to the calls that are answered within half of the callers' patience, and rises again from there.
 *
 * Without a queue, calls in flight and answers fall together. So a cut that reduces the rate was wrong, and is undone.
 *
 * Source: Little, Operations Research 1961.
 */
#ifndef RS_LAW_GUARD_H
#define RS_LAW_GUARD_H
#include "law.h"

#define RS_LAW_WINDOW 16.0  /* ends in a window; a cut is judged by twice that */
#define RS_LAW_LATE 0.8     /* of the callers' patience: a longer latency is late */
#define RS_LAW_IN_TIME 0.5  /* of the patience: the latency that a cut aims at */
#define RS_LAW_APART 1.25   /* times the span of arrivals: longer ends show a queue */
#define RS_LAW_COSTS 0.5    /* from the cut's share to 1: a rate below it means no queue */
#define RS_LAW_TRUSTED 16.0 /* windows without a cut after a wrong one */
#define RS_LAW_STEADY 0.5   /* of a window: with a longer gap between ends it gives no rate */

static inline void rs_law_jump(rs_law *law, double limit, double level, double rate)
{
    rs_law_believe(law, rs_law_knee_of(law, limit), RS_LAW_BLOCK);
    law->pace = 1 / rate;
    law->high_level = level;
    law->target = law->least;
    law->learned = rs_law_within(law->least, law->floor, law->ceiling);
    law->flatness = law->block_pulse = 0;
    law->fresh = 0;
    law->guard_since = law->now;
    law->since = law->now + level / rate; /* earlier arrivals wait for the calls in flight now */
}

static inline int rs_law_was_wrong(const rs_law *law, double rate)
{
    double share = law->learned / law->cut_from;
    return law->cut_rate > 0 && rate < (share + RS_LAW_COSTS * (1 - share)) * law->cut_rate;
}

/* Judge a window whose answers came at *rate*, with *level* calls in flight. 1: the limit has changed. */
static inline int rs_law_judge(rs_law *law, double level, double rate, int queued)
{
    int wrong = rs_law_was_wrong(law, rate);
    law->cut_rate = 0;
    law->trusted = wrong ? RS_LAW_TRUSTED : rs_law_max(0, law->trusted - 1);
    double limit = rs_law_max(1, RS_LAW_IN_TIME * law->patience * rate);
    if (wrong)
        rs_law_jump(law, law->cut_from, level, rate);
    if (wrong || law->trusted > 0 || !queued || level <= 2 || level <= RS_LAW_LATE * law->patience * rate
        || limit >= law->learned)
        return wrong;
    law->cut_from = law->learned;
    law->cut_rate = rate;
    rs_law_jump(law, limit, level, rate);
    return 1;
}

static inline int rs_law_end_of_window(rs_law *law)
{
    rs_law_window seen = law->window;
    double elapsed = rs_law_max(law->now - seen.begun, 1), rate = seen.answers / elapsed, ends = seen.ends - 1;
    int queued = elapsed > RS_LAW_APART * (seen.latest - seen.earliest)
                 || seen.latency > RS_LAW_LATE * law->patience * seen.answers;
    law->window.ends = 0;
    if (seen.gap > RS_LAW_STEADY * elapsed || seen.answers == 0)
        return 0;
    return rs_law_judge(law, rs_law_min(law->present, seen.level / ends), rate, queued);
}

/* Note the end of a call. 1: the limit was cut, or a cut was undone. */
static inline int rs_law_guard(rs_law *law, double latency, double inflight, int dropped)
{
    double now = law->now, came = now - latency;
    rs_law_window *window = &law->window;
    if (law->patience <= 0 || came < law->guard_since)
        return 0;
    if (window->ends == 0)
        *window = (rs_law_window){.begun = now, .last = now, .earliest = came, .latest = came};
    else {
        window->answers += !dropped;
        window->level += inflight;
        window->latency += dropped ? 0 : latency;
        window->gap = rs_law_max(window->gap, now - window->last);
        window->earliest = rs_law_min(window->earliest, came);
        window->latest = rs_law_max(window->latest, came);
        window->last = now;
    }
    window->ends += 1;
    return window->ends >= (law->cut_rate > 0 ? 2 : 1) * RS_LAW_WINDOW && rs_law_end_of_window(law);
}
#endif
