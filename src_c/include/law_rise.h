/* The rise of the default law: while nothing is known the limit doubles within a round trip, until latency follows it.
 *
 * A server of a thousand workers must not wait for the limit to climb from twenty: before two hundred, two thirds of
 * the calls of fifty mean times were rejected. And the latency of a server that itself waits for another is not caused
 * by the limit. If calls queue, twice as many in flight take twice as long, and the throughput stays. If they do not
 * queue, they take as long as before, and the throughput doubles. So each answer admits one more call until evidence
 * ends the rise: the regression of latency on the level at admission. Its elasticity is 1 if calls queue and 0 if they
 * do not. If it surely is near 0, each answer admits three more. An answer is evidence for at most a few times the
 * level that it met.
 *
 * Another regime. Levels rise in time, so a dependency that becomes slow looks like a queue. But a queue slows a call
 * at most in proportion to the level. A run of calls slower than that shows that the server has become slower; a
 * run of far quicker calls, that it has become quicker. From then on only later arrivals count.
 *
 * Source: Little, Operations Research 1961; Jacobson, SIGCOMM 1988 (slow start).
 */
#ifndef RS_LAW_RISE_H
#define RS_LAW_RISE_H
#include "law.h"

#define RS_LAW_RISE 64.0       /* window in samples, or the limit if that is larger */
#define RS_LAW_RISE_LEAST 3.0  /* a sample counts if it found the limit / 3 in flight */
#define RS_LAW_FEW_SAMPLES 8.0 /* enough for level latency; twice as many for a queue */
#define RS_LAW_SURE 3.0        /* standard errors */
#define RS_LAW_QUEUES 0.5      /* elasticity above which calls queue, */
#define RS_LAW_SLIGHT 0.25     /* and which it surely exceeds */
#define RS_LAW_LEVEL 0.35      /* elasticity surely below it: calls do not queue */
#define RS_LAW_STILL 1.25      /* times the mean: the last calls are no slower */
#define RS_LAW_DOUBLE 2.0      /* times the level of an answer: the highest limit after it, */
#define RS_LAW_QUADRUPLE 4.0   /* and if latency surely does not follow the level */
#define RS_LAW_PRESSED 0.9     /* of the limit in flight: the limit holds calls back */
#define RS_LAW_OF_PATIENCE 0.5 /* a longer latency: the limit rises only if latency is level */
#define RS_LAW_TOO_SLOW 2.5    /* times the latency that a queue explains */
#define RS_LAW_TOO_QUICK 0.25  /* times the usual latency */
#define RS_LAW_ODD 5.0         /* such calls, less the others: another regime */
#define RS_LAW_BACK 0.5        /* of the level that was too high: a queued gate's first knee */

/* 1: latency follows the level; -1: it does not; 0: unknown. */
static inline int rs_law_follows(const rs_law *law)
{
    if (law->step < RS_LAW_FEW_SAMPLES || law->spread <= 0 || law->step_latency <= 0)
        return 0;
    double slope = law->shared / law->spread, scale = law->step_level / law->step_latency;
    double error = RS_LAW_SURE * sqrt(rs_law_max(0, law->scatter - slope * law->shared) / law->spread / law->step);
    if ((slope + error) * scale < RS_LAW_LEVEL && law->lately <= RS_LAW_STILL * law->step_latency)
        return -1;
    return law->step >= RS_LAW_BLOCK && slope * scale > RS_LAW_QUEUES && (slope - error) * scale > RS_LAW_SLIGHT;
}

/* Begin again: only arrivals at *since* or later count. */
static inline void rs_law_rise_afresh(rs_law *law, double since)
{
    law->since = since;
    law->step = law->step_level = law->step_latency = law->spread = law->shared = law->scatter = 0;
    law->usuals = law->slower = law->quicker = 0;
}

/* True if the latency fits another regime: this call is no evidence then. */
static inline int rs_law_is_odd(rs_law *law, double latency, double inflight)
{
    double came = law->now - latency, queued = rs_law_max(1, inflight / law->usual_level);
    int known = law->usuals >= RS_LAW_BLOCK / 2, slow = known && latency > RS_LAW_TOO_SLOW * law->usual * queued;
    int quick = known && latency < RS_LAW_TOO_QUICK * law->usual;
    if (slow)
        law->odd_since = law->slower == 0 ? came : rs_law_min(came, law->odd_since);
    law->slower = slow ? law->slower + 1 : rs_law_max(0, law->slower - 0.5);
    law->quicker = quick ? law->quicker + 1 : rs_law_max(0, law->quicker - 1);
    if (law->slower >= RS_LAW_ODD || law->quicker >= RS_LAW_ODD)
        rs_law_rise_afresh(law, law->slower >= RS_LAW_ODD ? law->odd_since : came);
    law->usuals = rs_law_min(law->usuals + 1, RS_LAW_RISE);
    law->lately += ((slow ? RS_LAW_TOO_SLOW * law->usual : latency) - law->lately)
                   / rs_law_min(law->usuals, RS_LAW_FEW_SAMPLES);
    law->usual += ((slow ? RS_LAW_TOO_SLOW * law->usual : latency) - law->usual) / law->usuals;
    law->usual_level += (inflight - law->usual_level) / law->usuals;
    return slow || quick;
}

static inline void rs_law_weigh_rise(rs_law *law, double latency, double inflight)
{
    law->step = rs_law_min(law->step + 1, rs_law_max(RS_LAW_RISE, law->learned));
    double share = 1 / law->step, apart = inflight - law->step_level, off = latency - law->step_latency;
    law->step_level += apart * share;
    law->step_latency += off * share;
    law->spread = (1 - share) * (law->spread + share * apart * apart);
    law->shared = (1 - share) * (law->shared + share * apart * off);
    law->scatter = (1 - share) * (law->scatter + share * off * off);
}

static inline int rs_law_is_pressed(const rs_law *law)
{
    return law->present >= rs_law_min(RS_LAW_PRESSED * law->learned, floor(law->learned));
}

static inline void rs_law_grow(rs_law *law, double inflight, int flat)
{
    double limit = flat ? rs_law_min(law->learned + 3, RS_LAW_QUADRUPLE * inflight)
                        : rs_law_min(law->learned + 1, RS_LAW_DOUBLE * inflight);
    if (limit > law->learned && (flat || law->patience <= 0 || law->usual <= RS_LAW_OF_PATIENCE * law->patience))
        rs_law_set_knee(law, rs_law_knee_of(law, limit));
}

/* End the rise: latency follows the level, which was too high. The next dip locates the knee. */
static inline void rs_law_risen(rs_law *law)
{
    double level = law->step_level, knee = law->queued ? RS_LAW_BACK * level : rs_law_knee_of(law, level);
    rs_law_believe(law, knee, RS_LAW_BLOCK);
    law->pace = law->step_latency / law->step_level;
    law->high_level = law->step_level;
    law->target = law->least;
    law->fresh = 0;
}

/* Add a sample of the rise. 1: the rise is over. */
static inline int rs_law_rising(rs_law *law, double latency, double inflight)
{
    int odd = rs_law_is_odd(law, latency, inflight);
    if (law->now - latency < law->since || RS_LAW_RISE_LEAST * inflight < law->learned)
        return 0;
    rs_law_weigh_rise(law, latency, inflight);
    int follows = rs_law_follows(law), pressed = rs_law_is_pressed(law);
    int stopped = law->learned >= law->ceiling || (law->cap <= law->learned && !law->regains);
    if (stopped || (follows > 0 && pressed && law->slower < 1)) {
        rs_law_risen(law);
        return 1;
    }
    if (!odd && pressed)
        rs_law_grow(law, inflight, follows < 0);
    return 0;
}
#endif
