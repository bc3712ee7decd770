/* A fleet's breaker as a host knows it: calls that are counted, a courier that reports them, and one probe a lease. */
#include "threads.h"
#include "shared/verdict.h"

enum { TURNS = 20000 };

static rs_fleet_verdict cell;
static rs_word64 counted, reported, probes, together;
static rs_word32 probing;

static void try_probe(void)
{
    uint64_t number = rs_probe_take(&cell);
    if (!number)
        return;
    if (atomic_fetch_add(&probing, 1) > 0)
        atomic_fetch_add(&together, 1);
    atomic_fetch_add(&probes, 1);
    atomic_fetch_sub(&probing, 1);
    rs_probe_end(&cell, number, number % 2 ? RS_PROBE_GOOD : RS_PROBE_BAD);
}

static void report(void)
{
    rs_report found = rs_verdict_report(&cell, roll.living);
    atomic_fetch_add(&reported, found.total + found.failed);
}

/* Give one lease after the other, and read what the calls have counted. */
static void exchange(void)
{
    for (uint64_t number = 1; number <= TURNS; number++) {
        uint64_t lease = rs_atomic_load(&cell.lease);
        if (rs_probe_phase_of(lease) >= RS_PROBE_UNUSED)
            rs_probe_reported(&cell, lease);
        if (rs_probe_phase_of(rs_atomic_load(&cell.lease)) == RS_PROBE_NONE)
            rs_probe_give(&cell, number);
        report();
    }
}

static void *worker(void *at)
{
    uint32_t slot = (uint32_t)(uintptr_t)at;
    if (slot == 0) {
        exchange();
        return NULL;
    }
    rs_tally *row = &cell.tally[slot];
    rs_tally_begin(row, rs_atomic_load(&cell.word));
    for (int i = 0; i < TURNS; i++) {
        rs_tally_call(row, i % 2, 0, i + 1);
        rs_tally_row(row, i % 2, i % 5 == 0);
        atomic_fetch_add(&counted, 1 + i % 2);
        try_probe();
    }
    return NULL;
}

int main(void)
{
    run(worker);
    report();
    printf("calls %d\nmissing %d\nprobes %d\ntogether %d\n", (int)counted, (int)(counted - reported), (int)probes,
           (int)together);
    return 0;
}
