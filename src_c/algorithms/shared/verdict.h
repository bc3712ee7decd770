/* A circuit breaker of a fleet, as one host's workers, or one process, know it: what the store has decided, and what
 * there is to report.
 *
 *     word      as in breaker.h, but of the fleet's state; the courier alone writes it
 *     lease     the probe that the store lets pass here: number 61 | phase 3
 *     tallies   a line for each worker, which it alone writes but for what the courier has read of it
 *
 * A tally counts the calls of one generation of the fleet, and goes on where the slot's worker before has stopped. What
 * it counts wraps, but no more than once round between two reports; a courier reads it several times a second. Nothing is freed when a worker dies: of a dead one's row
 * nothing is under way any more, and its probe's lease ends in the store. No Python.h.
 */
#ifndef RS_SHARED_VERDICT_H
#define RS_SHARED_VERDICT_H
#include "breaker.h"
#include "courier.h"

#ifndef RS_TALLIES
#define RS_TALLIES RS_WORKERS /* fewer in a test */
#endif
#define RS_TALLY_BITS 18
#define RS_TALLY_MASK ((UINT64_C(1) << RS_TALLY_BITS) - 1)
#define RS_TALLY_GONE 22
#define RS_TALLY_TAG 54 /* above: the lowest bits of the generation */

typedef enum {
    RS_PROBE_NONE,
    RS_PROBE_FREE,   /* the store has given a lease, and the next call probes */
    RS_PROBE_FLIES,  /* a call probes */
    RS_PROBE_UNUSED, /* it has ended without a result */
    RS_PROBE_GOOD,
    RS_PROBE_BAD
} rs_probe_phase;

/* Of one worker. */
typedef struct rs_tally {
    _Alignas(RS_LINE) rs_word64 calls; /* total 18 | failed 18 | slow 18 | tag 10 */
    rs_word64 row;                     /* calls under way that may end the row 32 | callers that left 22 | tag 10 */
    rs_word64 calls_reported, row_reported; /* what the courier has read; written by it */
    rs_word64 good_ns;                      /* when the last call that did not fail ended */
    rs_word64 tail;                         /* failed since then, and since the report before */
    rs_word64 tail_ns;                      /* when the first of those ended */
} rs_tally;

typedef struct rs_fleet_verdict {
    rs_courier courier;
    _Alignas(RS_LINE) rs_word64 word;
    rs_word64 generation; /* in full; of the word's 20 bits */
    rs_word64 trip;       /* what opened it, measured: as in breaker.h */
    _Alignas(RS_LINE) rs_word64 lease;
    rs_word32 wanted; /* 1: a call was rejected since the last report, so there is one to probe with */
    rs_tally tally[RS_TALLIES];
} rs_fleet_verdict;

static inline size_t rs_verdict_size(void) { return sizeof(rs_fleet_verdict); }

/* The fleet's state of the word that a gate acts by, unless what the store gave has ended: then there is none. */
static inline int rs_verdict_stands(rs_fleet_verdict *cell, uint64_t word, int64_t shared_ns)
{
    return rs_shared_state(word) != RS_SHARED_CLOSED && shared_ns < (int64_t)rs_atomic_load(&cell->courier.expires_ns);
}

/* ---- tallies ------------------------------------------------------------------------------------------------- */

static inline uint64_t rs_tally_tag(uint64_t word)
{
    return (uint64_t)(rs_shared_generation(word) & 0x3ff) << RS_TALLY_TAG;
}

/* One more in the field of *bits* at *shift*, which wraps. */
static inline uint64_t rs_tally_more(uint64_t tally, uint32_t shift, uint32_t bits)
{
    uint64_t field = ((UINT64_C(1) << bits) - 1) << shift;
    return (tally & ~field) | ((tally + (UINT64_C(1) << shift)) & field);
}

/* Note when a call ended well, or that it lengthens the tail of failures; that begins again after a report. */
static inline void rs_tally_time(rs_tally *row, uint64_t calls, int failed, int64_t now_ns)
{
    uint64_t tail = rs_atomic_load(&row->tail), fresh = calls ^ rs_atomic_load(&row->calls_reported);
    if (!failed) {
        rs_atomic_store(&row->good_ns, (uint64_t)now_ns);
        if (tail != 0)
            rs_atomic_store(&row->tail, 0);
        return;
    }
    if (tail == 0 || !(fresh >> RS_TALLY_BITS & RS_TALLY_MASK)) {
        rs_atomic_store(&row->tail_ns, (uint64_t)now_ns);
        tail = 0;
    }
    rs_atomic_store(&row->tail, tail + 1);
}

static inline uint64_t rs_tally_field(uint64_t now, uint64_t before, uint32_t shift, uint32_t bits)
{
    return ((now >> shift) - (before >> shift)) & ((UINT64_C(1) << bits) - 1);
}

/* 1 if one more call since the report would wrap: then what has been counted stands for those that follow. */
static inline int rs_tally_is_full(rs_tally *row, uint64_t tally)
{
    uint64_t reported = rs_atomic_load(&row->calls_reported);
    uint64_t before = (reported ^ tally) >> RS_TALLY_TAG ? 0 : reported;
    return rs_tally_field(tally, before, 0, RS_TALLY_BITS) == RS_TALLY_MASK;
}

/* Count a call that has ended *now_ns*, since the region's epoch. */
static inline void rs_tally_call(rs_tally *row, int failed, int slow, int64_t now_ns)
{
    uint64_t tally = rs_atomic_load(&row->calls);
    rs_tally_time(row, tally, failed, now_ns);
    if (rs_tally_is_full(row, tally))
        return;
    tally = rs_tally_more(tally, 0, RS_TALLY_BITS);
    if (failed)
        tally = rs_tally_more(tally, RS_TALLY_BITS, RS_TALLY_BITS);
    if (slow)
        tally = rs_tally_more(tally, 2 * RS_TALLY_BITS, RS_TALLY_BITS);
    rs_atomic_store(&row->calls, tally);
}

/* Publish the calls under way that may end the row of failures; *gone*: one more caller has left. */
static inline void rs_tally_row(rs_tally *row, uint32_t flying, int gone)
{
    uint64_t before = rs_atomic_load(&row->row);
    if (gone)
        before = rs_tally_more(before, 32, RS_TALLY_GONE);
    rs_atomic_store(&row->row, (before & ~(uint64_t)UINT32_MAX) | flying);
}

/* Count for the generation of *word* from now on; a tally of it goes on. */
static inline void rs_tally_begin(rs_tally *row, uint64_t word)
{
    uint64_t tag = rs_tally_tag(word);
    if ((rs_atomic_load(&row->calls) ^ tag) >> RS_TALLY_TAG) {
        rs_atomic_store(&row->tail, 0);
        rs_atomic_store(&row->calls, tag);
    }
    if ((rs_atomic_load(&row->row) ^ tag) >> RS_TALLY_TAG)
        rs_atomic_store(&row->row, tag);
}

/* ---- the courier's side ---------------------------------------------------------------------------------------- */

typedef struct rs_report {
    uint64_t total, failed, slow, gone, flying;
    uint64_t tail;    /* failures after the last call that ended well, of those that are reported */
    uint64_t good_ns; /* when that was; 0: none is reported */
    uint64_t tail_ns; /* when the first of the tail ended; 0: it is empty */
} rs_report;

/* What *word*, a tally with this tag, has counted since *reported*, which is then *word*. */
static inline uint64_t rs_tally_since(rs_word64 *reported, uint64_t word)
{
    uint64_t before = rs_atomic_load(reported), tag = word >> RS_TALLY_TAG << RS_TALLY_TAG;
    rs_atomic_store(reported, word);
    return before >> RS_TALLY_TAG == word >> RS_TALLY_TAG ? before : tag;
}

/* Add up the tails that lie wholly after the last call that ended well; *failed*: the reported failures of each. */
static inline void rs_report_tails(rs_report *sum, rs_fleet_verdict *cell, const uint32_t *failed)
{
    for (uint32_t i = 0; i < RS_TALLIES; i++) {
        uint64_t tail = rs_atomic_load(&cell->tally[i].tail), since = rs_atomic_load(&cell->tally[i].tail_ns);
        if (failed[i] == 0 || tail == 0 || since < sum->good_ns)
            continue;
        sum->tail += tail < failed[i] ? tail : failed[i];
        if (sum->tail_ns == 0 || since < sum->tail_ns)
            sum->tail_ns = since;
    }
}

/* Read what all have counted in this generation since the last report. */
static inline rs_report rs_verdict_report(rs_fleet_verdict *cell, uint64_t living)
{
    rs_report sum = {0};
    uint32_t failed[RS_TALLIES] = {0};
    uint64_t tag = rs_tally_tag(rs_atomic_load(&cell->word));
    for (uint32_t i = 0; i < RS_TALLIES; i++) {
        rs_tally *row = &cell->tally[i];
        uint64_t calls = rs_atomic_load(&row->calls), left = rs_atomic_load(&row->row);
        if (!((calls ^ tag) >> RS_TALLY_TAG)) {
            uint64_t before = rs_tally_since(&row->calls_reported, calls);
            uint64_t total = rs_tally_field(calls, before, 0, RS_TALLY_BITS), good = rs_atomic_load(&row->good_ns);
            failed[i] = (uint32_t)rs_tally_field(calls, before, RS_TALLY_BITS, RS_TALLY_BITS);
            sum.total += total;
            sum.failed += failed[i];
            if (total > failed[i] && good > sum.good_ns)
                sum.good_ns = good;
            sum.slow += rs_tally_field(calls, before, 2 * RS_TALLY_BITS, RS_TALLY_BITS);
        }
        if (!((left ^ tag) >> RS_TALLY_TAG)) {
            uint64_t before = rs_tally_since(&row->row_reported, left);
            sum.gone += rs_tally_field(left, before, 32, RS_TALLY_GONE);
            sum.flying += living >> i & 1 ? left & UINT32_MAX : 0;
        }
    }
    rs_report_tails(&sum, cell, failed);
    return sum;
}

/* 1 if nothing is to be reported of this row, and no lease is held: no call has ended since, or of another generation. */
static inline int rs_verdict_is_told(rs_fleet_verdict *cell, rs_tally *row)
{
    uint64_t calls = rs_atomic_load(&row->calls), tag = rs_tally_tag(rs_atomic_load(&cell->word));
    if (rs_atomic_load(&cell->lease) & 7)
        return 0;
    if ((calls ^ tag) >> RS_TALLY_TAG)
        return 1;
    return rs_atomic_load(&row->calls_reported) == calls
           && rs_atomic_load(&row->row_reported) == rs_atomic_load(&row->row);
}

/* Take the store's state: *word* is of its generation's lowest bits. */
static inline void rs_verdict_set(rs_fleet_verdict *cell, uint64_t word, uint64_t generation, uint64_t trip)
{
    if (rs_atomic_load(&cell->generation) != generation)
        rs_atomic_store(&cell->lease, RS_PROBE_NONE);
    rs_atomic_store(&cell->generation, generation);
    rs_atomic_store(&cell->trip, trip);
    rs_atomic_store(&cell->word, word);
}

/* ---- probes ---------------------------------------------------------------------------------------------------- */

static inline uint32_t rs_probe_phase_of(uint64_t lease) { return (uint32_t)lease & 7; }

/* Let the next call probe, by the lease of this number. One that is known already goes on. */
static inline void rs_probe_give(rs_fleet_verdict *cell, uint64_t number)
{
    uint64_t seen = rs_atomic_load(&cell->lease);
    if (seen >> 3 != number)
        rs_atomic_swap(&cell->lease, &seen, number << 3 | RS_PROBE_FREE);
}

/* Take the lease that is free: its number, or 0. One call of all workers gets it. */
static inline uint64_t rs_probe_take(rs_fleet_verdict *cell)
{
    uint64_t seen = rs_atomic_load(&cell->lease);
    if (rs_probe_phase_of(seen) != RS_PROBE_FREE
        || !rs_atomic_swap(&cell->lease, &seen, (seen & ~UINT64_C(7)) | RS_PROBE_FLIES))
        return 0;
    return seen >> 3;
}

/* End the probe of this number; without effect if the store has given another lease, or changed the state. */
static inline int rs_probe_end(rs_fleet_verdict *cell, uint64_t number, rs_probe_phase phase)
{
    uint64_t seen = number << 3 | RS_PROBE_FLIES;
    return rs_atomic_swap(&cell->lease, &seen, number << 3 | phase);
}

/* Forget a probe that has ended, once the store has its result. Its number stays: it is not given again. */
static inline void rs_probe_reported(rs_fleet_verdict *cell, uint64_t lease)
{
    if (rs_probe_phase_of(lease) >= RS_PROBE_UNUSED)
        rs_atomic_swap(&cell->lease, &lease, (lease & ~UINT64_C(7)) | RS_PROBE_NONE);
}
#endif
