/* Published control laws, for comparison.
 *
 * Source: Netflix/concurrency-limits (Gradient2, Vegas); Brakmo and Peterson, TCP Vegas, 1995;
 * Chiu and Jain, 1989 (AIMD).
 */
#ifndef RS_LAW_CLASSICS_H
#define RS_LAW_CLASSICS_H
#include "law.h"

static inline void rs_law_set(rs_law *law, double limit)
{
    law->limit = law->learned = rs_law_within(limit, law->floor, law->ceiling);
}

static inline void rs_law_gradient(rs_law *law, double latency, double inflight, int dropped)
{
    if (dropped) {
        if (rs_law_believes_drop(law))
            rs_law_set(law, law->limit * RS_LAW_BACKOFF);
        return;
    }
    law->samples += law->samples < 10;
    law->baseline += (latency - law->baseline) * (law->samples < 10 ? 1 / law->samples : 2.0 / 601);
    if (law->baseline > 2 * latency)
        law->baseline *= 0.95;
    if (2 * inflight < law->limit)
        return;
    double gradient = rs_law_within(1.5 * law->baseline / latency, 0.5, 1);
    rs_law_set(law, 0.8 * law->limit + 0.2 * (law->limit * gradient + 4));
}

static inline void rs_law_vegas(rs_law *law, double latency, double inflight, int dropped)
{
    double unit = rs_law_max(1, log10(law->limit));
    if (dropped) {
        if (rs_law_believes_drop(law))
            rs_law_set(law, law->limit - unit);
        return;
    }
    law->samples += 1;
    if (law->samples >= law->probe_at) { /* the baseline is stale: measure again */
        law->samples = 0;
        law->probe_at = 30 * law->limit * (0.5 + rs_law_random(law) / 2);
        law->baseline = latency;
        return;
    }
    if (law->baseline == 0 || latency < law->baseline) {
        law->baseline = latency;
        return;
    }
    if (2 * inflight < law->limit)
        return;
    double queue = ceil(law->limit * (1 - law->baseline / latency));
    if (queue <= unit)
        rs_law_set(law, law->limit + 6 * unit);
    else if (queue < 3 * unit)
        rs_law_set(law, law->limit + unit);
    else if (queue > 6 * unit)
        rs_law_set(law, law->limit - unit);
}

static inline void rs_law_aimd(rs_law *law, double inflight, int dropped)
{
    if (dropped) {
        if (rs_law_believes_drop(law))
            rs_law_set(law, law->limit * RS_LAW_BACKOFF);
    }
    else if (2 * inflight >= law->limit)
        rs_law_set(law, law->limit + 1);
}
#endif
