/* What the workers of a host have seen of a breaker's calls, added up, and the law by which that opens it.
 *
 * Each worker writes its own row (breaker.h). A failure reads them all: the failures in a row of calls that began after
 * every success of the host, those under way, and the windows. No Python.h.
 */
#ifndef RS_SHARED_BREAKER_ROWS_H
#define RS_SHARED_BREAKER_ROWS_H
#include "breaker.h"
#include "throttle.h"

#define RS_SHARED_COUNT ((UINT64_C(1) << 21) - 1)

/* Windows beyond two million calls are scaled down: the ratios stay. */
static inline uint64_t rs_shared_counts(uint64_t total, uint64_t failed, uint64_t slow)
{
    for (; total > RS_SHARED_COUNT; total >>= 1) {
        failed >>= 1;
        slow >>= 1;
    }
    return total | failed << 21 | slow << 42;
}

static inline uint64_t rs_shared_pair(uint32_t high, uint32_t low) { return (uint64_t)high << 32 | low; }

/* Begin anew in the generation of *word*: what was seen before is no evidence any more. */
static inline void rs_shared_row_begin(rs_shared_row *row, uint64_t word)
{
    rs_atomic_store(&row->generation, 0); /* not read meanwhile */
    rs_atomic_store(&row->run, 0);
    rs_atomic_store(&row->counts, 0);
    rs_atomic_store(&row->good_ns, 0);
    rs_atomic_store(&row->generation, rs_shared_generation(word) + 1);
}

/* Publish failures in a row. A reader loads `first_ns` before `run`, so it never credits failures to a time after which
 * they did not begin. */
static inline void rs_shared_row_fail(rs_shared_row *row, uint64_t first_ns, uint64_t last_ns, uint64_t run,
                                      uint64_t flying)
{
    if (rs_atomic_load(&row->first_ns) != first_ns) {
        rs_atomic_store(&row->run, 0); /* of the beginning before */
        rs_atomic_store(&row->first_ns, first_ns);
    }
    rs_atomic_store(&row->last_ns, last_ns);
    rs_atomic_store(&row->flying, flying);
    rs_atomic_store(&row->run, run);
}

/* What the living workers have seen in this generation, added up. */
typedef struct rs_shared_sum {
    uint64_t total, failed, slow;         /* in their windows */
    uint64_t worst_total, worst_failed;   /* of the worker with the most failures */
    uint64_t slowest_total, slowest_slow; /* of the one with the most slow calls */
    int64_t run, left, longest;           /* failures in a row, callers that left among them, those of one worker */
    int64_t flying;                       /* calls that began in this row and may still succeed */
    int64_t late;                        /* calls that began after the last success, and are unusually long under way */
    uint64_t good_ns, first_ns, last_ns; /* begin: of the last success, of the row's first and last failure */
    uint32_t workers;                    /* that have a row */
} rs_shared_sum;

static inline rs_shared_row *rs_shared_row_at(rs_shared_breaker *cell, uint64_t *living, uint64_t word)
{
    while (*living) {
        rs_shared_row *row = &cell->row[__builtin_ctzll(*living)];
        *living &= *living - 1;
        if (rs_atomic_load(&row->generation) == rs_shared_generation(word) + 1)
            return row;
    }
    return NULL;
}

/* When the successful call that began last began. */
static inline uint64_t rs_shared_latest_good(rs_shared_breaker *cell, uint64_t living, uint64_t word)
{
    uint64_t latest_ns = 0;
    for (rs_shared_row *row; (row = rs_shared_row_at(cell, &living, word)) != NULL;) {
        uint64_t good_ns = rs_atomic_load(&row->good_ns);
        latest_ns = good_ns > latest_ns ? good_ns : latest_ns;
    }
    return latest_ns;
}

static inline void rs_shared_sum_window(rs_shared_sum *sum, rs_shared_row *row)
{
    uint64_t counts = rs_atomic_load(&row->counts);
    uint64_t total = counts & RS_SHARED_COUNT, failed = counts >> 21 & RS_SHARED_COUNT, slow = counts >> 42;
    sum->total += total;
    sum->failed += failed;
    sum->slow += slow;
    if (failed > sum->worst_failed) {
        sum->worst_total = total;
        sum->worst_failed = failed;
    }
    if (slow > sum->slowest_slow) {
        sum->slowest_total = total;
        sum->slowest_slow = slow;
    }
}

/* The failures of one worker that began after every success of the host: 1 if there are any. */
static inline int rs_shared_row_counts(const rs_shared_sum *sum, rs_shared_row *row, uint64_t *first_ns, uint64_t *run)
{
    *first_ns = rs_atomic_load(&row->first_ns);
    *run = rs_atomic_load(&row->run);
    return *run != 0 && *first_ns > sum->good_ns;
}

static inline void rs_shared_sum_run(rs_shared_sum *sum, rs_shared_row *row)
{
    uint64_t first_ns, run, last_ns;
    if (!rs_shared_row_counts(sum, row, &first_ns, &run))
        return;
    last_ns = rs_atomic_load(&row->last_ns);
    sum->run += (int64_t)(run >> 32);
    sum->left += (int64_t)(uint32_t)run;
    sum->longest = (int64_t)(run >> 32) > sum->longest ? (int64_t)(run >> 32) : sum->longest;
    sum->first_ns = first_ns < sum->first_ns ? first_ns : sum->first_ns;
    sum->last_ns = last_ns > sum->last_ns ? last_ns : sum->last_ns;
}

/* 1 if all calls under way of a worker began after the host's last success, and are unusually long under way. */
static inline int rs_shared_row_hangs(uint64_t good_ns, uint64_t begun_ns, uint64_t late_ns)
{
    return good_ns < begun_ns && begun_ns < late_ns;
}

/* The calls of the living workers that hang so. */
static inline int64_t rs_shared_late(rs_shared_breaker *cell, uint64_t living, uint64_t word, uint64_t late_ns)
{
    uint64_t good_ns = rs_shared_latest_good(cell, living, word);
    int64_t late = 0;
    for (rs_shared_row *row; (row = rs_shared_row_at(cell, &living, word)) != NULL;)
        if (rs_shared_row_hangs(good_ns, rs_atomic_load(&row->begun_ns), late_ns))
            late += (int64_t)(uint32_t)rs_atomic_load(&row->calls);
    return late;
}

/* Calls of one worker that began between the first and the last failure of the host's row. A call that began after the
 * last one is none of the row; where several are under way and the latest is such a call, none of them counts. If all
 * of them are unusually long under way, they are late instead. */
static inline void rs_shared_sum_flying(rs_shared_sum *sum, rs_shared_row *row, uint64_t late_ns)
{
    uint64_t first_ns, run, begun_ns = rs_atomic_load(&row->begun_ns), calls = rs_atomic_load(&row->calls);
    if (rs_shared_row_hangs(sum->good_ns, begun_ns, late_ns)) {
        sum->late += (int64_t)(uint32_t)calls;
        return;
    }
    int within = sum->first_ns <= begun_ns && begun_ns <= sum->last_ns;
    if (!rs_shared_row_counts(sum, row, &first_ns, &run)) {
        sum->flying += within ? (int64_t)(uint32_t)calls : 0;
        return;
    }
    uint64_t flying = rs_atomic_load(&row->flying);
    int64_t after = (int32_t)((uint32_t)(calls >> 32) - (uint32_t)(flying >> 32));
    int64_t pending = (int64_t)(uint32_t)flying + (within && after > 0 ? after : 0);
    sum->flying += pending < (int64_t)(uint32_t)calls ? pending : (int64_t)(uint32_t)calls;
}

/* Add up the rows of the workers in the bits of *living*. A worker without a call since *since_ns* has an empty window;
 * a call that began before *late_ns* is unusually long under way. */
static inline rs_shared_sum rs_shared_add_up(rs_shared_breaker *cell, uint64_t living, uint64_t word, uint64_t since_ns,
                                             uint64_t late_ns)
{
    rs_shared_sum sum = {.first_ns = UINT64_MAX, .good_ns = rs_shared_latest_good(cell, living, word)};
    uint64_t left = living;
    for (rs_shared_row *row; (row = rs_shared_row_at(cell, &left, word)) != NULL; sum.workers++) {
        rs_shared_sum_run(&sum, row);
        if (rs_atomic_load(&row->begun_ns) >= since_ns)
            rs_shared_sum_window(&sum, row);
    }
    left = living;
    for (rs_shared_row *row; sum.run && (row = rs_shared_row_at(cell, &left, word)) != NULL;)
        rs_shared_sum_flying(&sum, row, late_ns);
    return sum;
}

/* ---- the law ------------------------------------------------------------------------------------------------- */

typedef struct rs_shared_rule {
    double failure_rate, slow_rate; /* slow_rate above 1: off */
    uint64_t min_calls;
    int64_t consecutive;
    int64_t patience_ns; /* a call under way for longer is not expected to succeed */
    uint8_t by_rate;     /* 0: only the failures in a row open it */
    uint8_t sure;        /* a rate must exceed its limit by two standard errors */
    uint8_t proof;       /* failures in a row must be no chance */
} rs_shared_rule;

typedef enum { RS_SHARED_STAYS, RS_SHARED_BY_RUN, RS_SHARED_BY_RATE, RS_SHARED_BY_SLOWNESS } rs_shared_verdict;

/* The failures in a row. One worker's count up to as many as those of the others; calls under way that may still
 * succeed count against them. */
static inline int64_t rs_shared_run(const rs_shared_sum *sum, const rs_shared_rule *rule, uint64_t now_ns)
{
    int64_t others = 2 * (sum->run - sum->longest), run = others < sum->run ? others : sum->run;
    int hopeless = sum->left == 0 && (int64_t)(now_ns - sum->first_ns) > rule->patience_ns;
    return run == 0 || hopeless ? run : run - sum->flying;
}

/* Calls that hang show an outage before their timeouts do. They weigh no more than what has failed, and prove nothing. */
static inline int64_t rs_shared_silence(const rs_shared_sum *sum, int64_t run)
{
    return sum->late < run ? sum->late : run;
}

static inline int rs_shared_run_opens(const rs_shared_sum *sum, const rs_shared_rule *rule, uint64_t now_ns)
{
    int64_t run = rs_shared_run(sum, rule, now_ns), recorded = sum->run - sum->left;
    if (run <= 0 || run + (rule->proof ? rs_shared_silence(sum, run) : 0) < rule->consecutive)
        return 0;
    int64_t failed = (int64_t)sum->failed - recorded, total = (int64_t)sum->total - recorded;
    return !rule->proof
           || rs_throttle_proof(run, (uint64_t)(run + (failed > 0 ? failed : 0)),
                                (uint64_t)(run + (total > 0 ? total : 0)));
}

/* Return 1 if a rate is reached, also without the worker that has the most of them. */
static inline int rs_shared_rate_opens(uint64_t bad, uint64_t total, uint64_t worst, uint64_t worst_total, double rate,
                                       int sure)
{
    if (total <= worst_total || (double)bad / (double)total < rate
        || (double)(bad - worst) / (double)(total - worst_total) < rate)
        return 0;
    return !sure || rs_throttle_sure(bad, total, 2.0) >= rate;
}

/* Judge what the workers have seen together. */
static inline rs_shared_verdict rs_shared_judge(const rs_shared_sum *sum, const rs_shared_rule *rule, uint64_t now_ns)
{
    if (sum->workers < 2)
        return RS_SHARED_STAYS; /* that is the worker's own rule */
    if (rs_shared_run_opens(sum, rule, now_ns))
        return RS_SHARED_BY_RUN;
    if (!rule->by_rate || sum->total < rule->min_calls)
        return RS_SHARED_STAYS;
    if (rs_shared_rate_opens(sum->failed, sum->total, sum->worst_failed, sum->worst_total, rule->failure_rate,
                             rule->sure))
        return RS_SHARED_BY_RATE;
    return rs_shared_rate_opens(sum->slow, sum->total, sum->slowest_slow, sum->slowest_total, rule->slow_rate, 0)
               ? RS_SHARED_BY_SLOWNESS
               : RS_SHARED_STAYS;
}
#endif
