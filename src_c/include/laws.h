/* The control laws of an adaptive limit: they learn from each answer how many concurrent calls a dependency can take.
 *
 *     default      finds the knee, the concurrency above which calls only wait, and grants a queue of its square root
 *     gradient     Netflix Gradient2: a long average of latencies divided by a short one
 *     vegas        Netflix Vegas: the queue that the least latency seen implies
 *     aimd         one up, a tenth down on a drop
 *
 * The default is in law_knee.h, law_rise.h and law_guard.h, the others in law_classics.h, their common parts in law.h.
 */
#ifndef RS_LAWS_H
#define RS_LAWS_H
#include "law_classics.h"
#include "law_knee.h"

/* Learn from a call that ended at *now_ns*. *inflight*: calls in flight at its admission, itself included; *present*:
 * the same at its end, 0: unknown. *dropped*: it was rejected or timed out, so its latency is no evidence. Impossible
 * values (less than a nanosecond, fewer than one) count as the least possible. */
static inline void rs_law_learn(rs_law *law, int64_t latency_ns, int64_t inflight, int64_t present, int dropped,
                                int64_t now_ns)
{
    double latency = latency_ns < 1 ? 1 : (double)latency_ns, level = inflight < 1 ? 1 : (double)inflight;
    law->spared -= 1;
    law->now = (double)now_ns;
    law->present = present < 1 ? rs_law_max(level, rs_law_min(2 * level, law->learned)) : (double)present;
    if (!dropped)
        law->mean = law->mean == 0 ? latency
                                   : law->mean + (rs_law_min(latency, RS_LAW_CLIP * law->mean) - law->mean) / 20;
    switch (law->kind) {
    case RS_LAW_DEFAULT: rs_law_default(law, latency, level, dropped); break;
    case RS_LAW_GRADIENT: rs_law_gradient(law, latency, level, dropped); break;
    case RS_LAW_VEGAS: rs_law_vegas(law, latency, level, dropped); break;
    default: rs_law_aimd(law, level, dropped);
    }
}
#endif
