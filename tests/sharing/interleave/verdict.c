/* The breaker of a fleet: one call of all workers probes, and each call is reported once.
 *
 * mutant: swap
 * mutant: shared/verdict.h: if (rs_probe_phase_of(seen) != RS_PROBE_FREE => if (rs_probe_phase_of(seen) == RS_PROBE_NONE
 * mutant: shared/verdict.h: if (seen >> 3 != number) => if (1)
 * mutant: shared/verdict.h: uint64_t seen = number << 3 | RS_PROBE_FLIES; => uint64_t seen = rs_atomic_load(&cell->lease);
 * mutant: shared/verdict.h: return before >> RS_TALLY_TAG == word >> RS_TALLY_TAG ? before : tag; => return before;
 * mutant: shared/verdict.h: if (!((calls ^ tag) >> RS_TALLY_TAG)) { => {
 * mutant: shared/verdict.h: if ((rs_atomic_load(&row->calls) ^ tag) >> RS_TALLY_TAG) => if (0)
 */
#define RS_TALLIES 1
#include "interleave.h"
#include "shared/verdict.h"

static struct {
    int flies[2], results[4]; /* probes under way by their lease's number; results that the courier has seen */
    uint64_t given;           /* the latest lease that the courier has given */
    int counted[2];           /* calls of each generation that a worker has counted */
    int reported[2];
    const char *wrong;
    rs_fleet_verdict cell;
} all;

static uint64_t word_of(uint64_t generation, uint32_t state) { return rs_shared_word(state, 0, 0, (uint32_t)generation, 0); }

/* ---- probes: the courier gives another lease while two workers probe by the one before --------------------------- */

INTERLEAVE_APART static void try_probe(int me)
{
    uint64_t number = rs_probe_take(&all.cell);
    if (!number)
        return;
    if (all.flies[number & 1]++)
        all.wrong = "two calls probe by one lease";
    interleave_step();
    all.flies[number & 1]--;
    rs_probe_end(&all.cell, number, me ? RS_PROBE_GOOD : RS_PROBE_BAD);
}

INTERLEAVE_APART static void courier_looks(uint64_t number)
{
    uint64_t lease = rs_atomic_load(&all.cell.lease);
    if (rs_probe_phase_of(lease) >= RS_PROBE_GOOD) {
        if (all.results[lease >> 3]++)
            all.wrong = "a probe's result is reported twice";
        rs_probe_reported(&all.cell, lease);
    }
    rs_probe_give(&all.cell, number);
    if (rs_atomic_load(&all.cell.lease) >> 3 == number)
        all.given = number;
}

static void probing(int me)
{
    if (me == 2) {
        courier_looks(2);
        courier_looks(3);
        return;
    }
    try_probe(me);
}

static const char *holds(void) { return all.wrong; }

static const char *a_lease_has_one_result(void)
{
    if (all.cell.lease >> 3 < all.given)
        return "a lease that was given is lost";
    return all.results[2] > 1 || all.results[3] > 1 ? "a lease has two results" : NULL;
}

/* ---- tallies: a worker counts, of two generations; the courier reads --------------------------------------------- */

INTERLEAVE_APART static void count(int me)
{
    uint64_t word = rs_atomic_load(&all.cell.word);
    rs_tally_begin(&all.cell.tally[me], word);
    rs_tally_call(&all.cell.tally[me], 1, 0, 1);
    all.counted[rs_shared_generation(word) & 1]++;
}

INTERLEAVE_APART static void read_tallies(void)
{
    uint64_t generation = rs_shared_generation(all.cell.word);
    rs_report seen = rs_verdict_report(&all.cell, 1);
    all.reported[generation & 1] += (int)seen.total;
    if (seen.total != seen.failed)
        all.wrong = "a report is torn";
}

static void counting(int me)
{
    if (me == 0) {
        count(me);
        count(me);
        return;
    }
    read_tallies();
    rs_verdict_set(&all.cell, word_of(5, RS_SHARED_CLOSED), 5, 0);
    read_tallies();
}

static const char *no_more_than_was_counted(void)
{
    if (all.wrong)
        return all.wrong;
    /* A worker may be between its step and its witness, so one call of each may be ahead. */
    for (int i = 0; i < 2; i++)
        if (all.reported[i] > all.counted[i] + 2)
            return "a report has calls that were not made";
    return NULL;
}

static const char *each_call_once(void)
{
    read_tallies();
    if (all.reported[0] > all.counted[0])
        return "calls of the generation before are reported twice";
    return all.reported[1] == all.counted[1] ? NULL : "calls of this generation are not all reported, or twice";
}

int main(void)
{
    all.cell.word = word_of(4, RS_SHARED_HALF_OPEN);
    all.cell.generation = 4;
    all.cell.lease = 2 << 3 | RS_PROBE_FREE;
    INTERLEAVE(.name = "one call probes by a lease", .memory = &all, .size = sizeof all, .workers = 3, .run = probing,
               .always = holds, .at_end = a_lease_has_one_result, .deaths = 1);
    memset(&all, 0, sizeof all);
    all.cell.word = word_of(4, RS_SHARED_CLOSED);
    all.cell.generation = 4;
    INTERLEAVE(.name = "each call is reported once", .memory = &all, .size = sizeof all, .workers = 2, .run = counting,
               .always = no_more_than_was_counted, .at_end = each_call_once, .deaths = 0);
    return interleave_failed;
}
