/* The guard of the default law: what sixteen ends in a row say at once, where the means of the knee take hundreds.
 *
 * By Little's law a call that comes now takes as long as the calls in flight over the rate of answers. So it is known, long
 * before it ends, whether it will be late for its caller. Two more signs tell a queue from a lull in the answers: calls that
 * queue end further apart than they came, or have taken as long already. With either the limit is cut to as many as are
 * answered in half of what callers wait for, and rises again from there.
 *
 * Without a queue in flight and answers go down together. So a cut that costs answers was wrong, and is undone.
 *
 * Source: Little, Operations Research 1961.
 */
#ifndef RS_LAW_GUARD_H
#define RS_LAW_GUARD_H
#include "law.h"

#define RS_LAW_WINDOW 16.0                  /* ends; twice as many judge a cut */
#define RS_LAW_LATE 0.8                     /* of the callers' patience: longer is late */
#define RS_LAW_IN_TIME 0.5                  /* of it: what the limit is cut to */
#define RS_LAW_APART 1.25                   /* times the time in which calls came: their ends took longer, so they queue */
#define RS_LAW_COSTS 0.5                    /* of the way from the share that was cut to 1: a lower rate, and there was no queue */
#define RS_LAW_TRUSTED 16.0                 /* windows without a cut after one that was wrong */
#define RS_LAW_STEADY 0.5                   /* of a window: ends with a longer gap between two are no rate */

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
    law->since = law->now + level / rate;   /* those that come sooner wait for what is in flight now */
}

static inline int rs_law_was_wrong(const rs_law *law, double rate)
{
    double share = law->learned / law->cut_from;
    return law->cut_rate > 0 && rate < (share + RS_LAW_COSTS * (1 - share)) * law->cut_rate;
}

/* The ends of a window came at *rate*, and *level* are in flight. 1: the limit was changed. */
static inline int rs_law_judge(rs_law *law, double level, double rate, int queued)
{
    int wrong = rs_law_was_wrong(law, rate);
    law->cut_rate = 0;
    law->trusted = wrong ? RS_LAW_TRUSTED : rs_law_max(0, law->trusted - 1);
    double limit = rs_law_max(1, RS_LAW_IN_TIME * law->patience * rate);
    if (wrong)
        rs_law_jump(law, law->cut_from, level, rate);
    if (wrong || law->trusted > 0 || !queued || level <= 2 || level <= RS_LAW_LATE * law->patience * rate || limit >= law->learned)
        return wrong;
    law->cut_from = law->learned;
    law->cut_rate = rate;
    rs_law_jump(law, limit, level, rate);
    return 1;
}

static inline int rs_law_end_of_window(rs_law *law)
{
    rs_law_window seen = law->window;
    double elapsed = rs_law_max(law->now - seen.begun, 1), rate = rs_law_max(seen.answers, 1) / elapsed, ends = seen.ends - 1;
    int queued = elapsed > RS_LAW_APART * (seen.latest - seen.earliest) || seen.latency > RS_LAW_LATE * law->patience * ends;
    law->window.ends = 0;
    if (seen.gap > RS_LAW_STEADY * elapsed)
        return 0;
    return rs_law_judge(law, rs_law_min(law->present, seen.level / ends), rate, queued);
}

/* A call has ended. 1: the limit was cut, or a cut undone. */
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
        window->latency += latency;
        window->gap = rs_law_max(window->gap, now - window->last);
        window->earliest = rs_law_min(window->earliest, came);
        window->latest = rs_law_max(window->latest, came);
        window->last = now;
    }
    window->ends += 1;
    return window->ends >= (law->cut_rate > 0 ? 2 : 1) * RS_LAW_WINDOW && rs_law_end_of_window(law);
}
#endif
