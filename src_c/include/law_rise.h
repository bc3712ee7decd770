/* The rise of the default law: while nothing is known the limit doubles within a round trip, until latency follows it.
 *
 * A server of a thousand workers must not wait for the limit to climb from twenty, and the latency of a server that itself
 * waits for something else is not the limit's doing at all. The two differ in one thing: where calls queue, twice as many
 * in flight take twice as long and the throughput stays; where they do not, they take as long as before and the throughput
 * doubles. So each answer lets one more call in, and what ends the rise is evidence: the regression of latency on the level at
 * admission, whose elasticity is 1 where calls queue and 0 where they do not. Where it surely is near 0 each answer lets in
 * three more. An answer tells of no more than a few times the level that it met.
 *
 * Another time. Levels rise in time, so a dependency that becomes slow looks like a queue. A queue cannot make a call slower
 * than in proportion to the level, though: calls that are, one after the other, tell that everything has become slower,
 * and calls that are far quicker that it has become quicker. Then only those count that came since.
 *
 * Source: Little, Operations Research 1961; Jacobson, SIGCOMM 1988 (slow start).
 */
#ifndef RS_LAW_RISE_H
#define RS_LAW_RISE_H
#include "law.h"

#define RS_LAW_RISE 64.0                    /* samples that are weighed, or as many as the limit */
#define RS_LAW_RISE_LEAST 3.0               /* part of the limit that such a sample found in flight */
#define RS_LAW_FEW_SAMPLES 8.0              /* that may show that it does not; it takes twice as many to show that it does */
#define RS_LAW_SURE 3.0                     /* standard errors */
#define RS_LAW_QUEUES 0.5                   /* elasticity from which calls queue, */
#define RS_LAW_SLIGHT 0.25                  /* and surely above it */
#define RS_LAW_LEVEL 0.35                   /* elasticity that they surely are below where they do not */
#define RS_LAW_STILL 1.25                   /* times their mean: the last ones are no slower */
#define RS_LAW_DOUBLE 2.0                   /* times the level of an answer: as far as the limit goes, */
#define RS_LAW_QUADRUPLE 4.0                /* and where latency surely does not follow it */
#define RS_LAW_PRESSED 0.9                  /* of the limit: as many in flight, and it is in the way */
#define RS_LAW_OF_PATIENCE 0.5              /* that calls take: then the limit does not rise unless latency is level */
#define RS_LAW_TOO_SLOW 2.5                 /* times what a queue would make of it */
#define RS_LAW_TOO_QUICK 0.25               /* times what is usual */
#define RS_LAW_ODD 5.0                      /* such calls, others subtracted: another time */
#define RS_LAW_BACK 0.5                     /* of the level that was one too many: the knee of a gate with a queue, for all that is known */

/* Does latency follow the level? 1: it does; -1: it does not; 0: not known. */
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

/* Only those count that came at *since* or later. */
static inline void rs_law_rise_afresh(rs_law *law, double since)
{
    law->since = since;
    law->step = law->step_level = law->step_latency = law->spread = law->shared = law->scatter = 0;
    law->usuals = law->slower = law->quicker = 0;
}

/* Does it seem that everything takes another time now? Then nothing is concluded from this call. */
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
    law->lately += ((slow ? RS_LAW_TOO_SLOW * law->usual : latency) - law->lately) / rs_law_min(law->usuals, RS_LAW_FEW_SAMPLES);
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

static inline int rs_law_is_pressed(const rs_law *law) { return law->present >= rs_law_min(RS_LAW_PRESSED * law->learned, floor(law->learned)); }

static inline void rs_law_grow(rs_law *law, double inflight, int flat)
{
    double limit = flat ? rs_law_min(law->learned + 3, RS_LAW_QUADRUPLE * inflight) : rs_law_min(law->learned + 1, RS_LAW_DOUBLE * inflight);
    if (limit > law->learned && (flat || law->patience <= 0 || law->usual <= RS_LAW_OF_PATIENCE * law->patience))
        rs_law_set_knee(law, rs_law_knee_of(law, limit));
}

/* Latency follows the level: it was one too many. Where the knee is, the next dip says. */
static inline void rs_law_risen(rs_law *law)
{
    double level = law->step_level, knee = law->queued ? RS_LAW_BACK * level : rs_law_knee_of(law, level);
    rs_law_believe(law, knee, RS_LAW_BLOCK);
    law->pace = law->step_latency / law->step_level;
    law->high_level = law->step_level;
    law->target = law->least;
    law->fresh = 0;
}

/* A sample of the rise. 1: it is over. */
static inline int rs_law_rising(rs_law *law, double latency, double inflight)
{
    int odd = rs_law_is_odd(law, latency, inflight);
    if (law->now - latency < law->since || RS_LAW_RISE_LEAST * inflight < law->learned)
        return 0;
    rs_law_weigh_rise(law, latency, inflight);
    int follows = rs_law_follows(law), pressed = rs_law_is_pressed(law);
    if ((follows > 0 && pressed && law->slower < 1) || law->learned >= law->ceiling || law->cap <= law->learned) {
        rs_law_risen(law);
        return 1;
    }
    if (!odd && pressed)
        rs_law_grow(law, inflight, follows < 0);
    return 0;
}
#endif
