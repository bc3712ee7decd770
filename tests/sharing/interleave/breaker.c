/* The breaker of a host: probes, changes of state, and failures in a row that several workers see.
 *
 * mutant: swap
 * mutant: shared/breaker.h: taken < places && i < most => taken < places && i < most + 1
 * mutant: shared/breaker.h: if (*seen >> 32 != round) => if (0)
 * mutant: shared/breaker.h: if (rs_shared_is_over(cell, word)) => if (0)
 * mutant: shared/breaker.h: if (!rs_shared_is_over(cell, word)) => if (1)
 * mutant: shared/breaker_rows.h: return sum->late < run ? sum->late : run; => return sum->late;
 * mutant: -DLEASE_FIRST
 * mutant: shared/breaker.h: if (((uint32_t)lease & 0xff) == slot + 1) => if (0)
 * mutant: shared/breaker_rows.h: return *run != 0 && *first_ns > sum->good_ns => return *run != 0 || *first_ns > sum->good_ns
 * mutant: shared/breaker_rows.h: int64_t others = 2 * (sum->run - sum->longest) => int64_t others = 2 * sum->run
 * mutant: shared/breaker_rows.h: if (rs_atomic_load(&row->first_ns) != first_ns) { => rs_atomic_store(&row->first_ns, first_ns); if (0) {
 * mutant: shared/breaker_rows.h: == rs_shared_generation(word) + 1) => >= rs_shared_generation(word))
 */
#define RS_SHARED_PLACES 2
#include "interleave.h"
#include "shared/breaker_rows.h"

#define SECOND INT64_C(1000000000)
#define TICKS(seconds) ((uint32_t)((seconds)*SECOND >> RS_SHARED_TICK))

static struct {
    int holds[3], changes, changed_by, succeeded, opened;
    const char *wrong;
    rs_shared_breaker cell; /* its rows are last: a state has those of three workers */
} all;
#define SIZE offsetof(rs_shared_breaker, row[3]) + offsetof(__typeof__(all), cell)

/* ---- probes: each takes a lease, uses it, and ends by its number: a failure, a success, without an outcome ------- */

static int take_in(int me, uint64_t word, uint32_t places, uint32_t most, uint64_t *lease)
{
    int64_t wait_ns;
    *lease = rs_shared_lease((uint32_t)me, 1, word, TICKS(9));
    return rs_shared_lease_take(&all.cell, *lease, word, SECOND, places, most, &wait_ns);
}

static int take(int me, uint32_t places, uint32_t most, uint64_t *lease)
{
    uint64_t word = rs_atomic_load(&all.cell.word);
    return rs_shared_state(word) == RS_SHARED_HALF_OPEN ? take_in(me, word, places, most, lease) : -1;
}

static void probe(int me, uint32_t places)
{
    uint64_t lease;
    int place = take(me, places, places, &lease);
    if (place < 0)
        return;
    all.holds[me] = 1;
    interleave_step();
    all.holds[me] = 0;
    rs_shared_lease_free(&all.cell, (uint32_t)place, lease);
}

static void probe_alone(int me) { probe(me, 1); }
static void probe_with_another(int me) { probe(me, 2); }

/* A round after the other: a failed probe opens for no time, so that the next round begins at once. */
INTERLEAVE_APART static void one_round(int me)
{
    uint64_t lease, seen = rs_atomic_load(&all.cell.word);
    if (rs_shared_state(seen) == RS_SHARED_OPEN) {
        rs_shared_change(&all.cell, &seen, rs_shared_next(seen, RS_SHARED_HALF_OPEN, 0, 0, 0));
        return;
    }
    int place = take_in(me, seen, 1, 1, &lease);
    if (place < 0)
        return;
    all.holds[me] = 1;
#ifdef LEASE_FIRST
    interleave_step();
    rs_shared_lease_free(&all.cell, (uint32_t)place, lease);
#endif
    rs_shared_probed(&all.cell, &seen, 0, 1, 0, 0, 0);
    all.holds[me] = 0;
    rs_shared_lease_free(&all.cell, (uint32_t)place, lease);
}

static void rounds(int me)
{
    one_round(me);
    if (me < 2)
        one_round(me);
    if (me == 0)
        one_round(me);
}

static void reap(int dead)
{
    all.holds[dead] = 0;
    rs_shared_breaker_reap(&all.cell, (uint32_t)dead);
}

static int held(void) { return all.holds[0] + all.holds[1] + all.holds[2]; }
static const char *one_probes(void) { return held() <= 1 ? NULL : "one probe is under way"; }
static const char *two_probe(void) { return held() <= 2 ? NULL : "two probes are under way"; }

static const char *no_lease_is_left(void)
{
    for (int i = 0; i < RS_SHARED_PLACES; i++)
        if (all.cell.lease[i] != 0)
            return "no lease is left when all workers have ended or were reaped";
    return NULL;
}

/* ---- changes: however many workers see a reason, the state changes once ------------------------------------------ */

static void end_a_probe(int me)
{
    uint64_t seen = rs_atomic_load(&all.cell.word);
    if (rs_shared_state(seen) != RS_SHARED_HALF_OPEN)
        return;
    interleave_step();
    if (rs_shared_probed(&all.cell, &seen, me != 1, 3, TICKS(9), 0, 9)) {
        all.changes++;
        all.changed_by = me;
    }
}

static void open_it(int me)
{
    (void)me;
    uint64_t seen = rs_atomic_load(&all.cell.word);
    if (rs_shared_state(seen) == RS_SHARED_CLOSED)
        all.changes += rs_shared_change(&all.cell, &seen, rs_shared_next(seen, RS_SHARED_OPEN, 5, 0, TICKS(2)));
}

static const char *it_changes_once(void)
{
    uint32_t state = rs_shared_state(all.cell.word), changes = rs_shared_generation(all.cell.word) - 1;
    if (all.changes > 1 || changes > 1)
        return "a round ends once";
    if (changes == 1 && state != (all.changed_by == 1 ? RS_SHARED_OPEN : RS_SHARED_CLOSED))
        return "it is as the probe that ended it found";
    return NULL;
}

static const char *it_opens_once(void)
{
    return rs_shared_generation(all.cell.word) <= 2 ? NULL : "the second worker adopts what the first has done";
}

/* ---- failures in a row ------------------------------------------------------------------------------------------- */

static int judge(uint32_t generation, int64_t consecutive)
{
    rs_shared_rule rule = {.consecutive = consecutive, .patience_ns = 60 * SECOND};
    rs_shared_sum sum = rs_shared_add_up(&all.cell, 7, rs_shared_word(RS_SHARED_CLOSED, 0, 0, generation, 0), 0, 0);
    return rs_shared_judge(&sum, &rule, 100) != RS_SHARED_STAYS;
}

static void fail(int me, uint64_t first_ns, uint32_t run)
{
    rs_shared_row_fail(&all.cell.row[me], first_ns, first_ns + run, rs_shared_pair(run, 0), 0);
}

static void see(int has_opened, const char *wrong)
{
    all.opened |= has_opened;
    all.wrong = has_opened && wrong ? wrong : all.wrong;
}

static const char *none_is_wrong(void) { return all.wrong; }

/* One call that began at 10 has failed, and one fails that began at 20. Another that began at 15 succeeds. */
static void one_succeeds(int me)
{
    if (me == 1) {
        rs_atomic_store(&all.cell.row[1].good_ns, 15);
        all.succeeded = 1;
        return;
    }
    fail(0, 20, 1);
    int succeeded = all.succeeded;
    see(judge(0, 2), succeeded ? "a failure of a call that began before a success is none of the row" : NULL);
}

/* One worker fails over and over, another once. */
static void one_alone_fails(int me)
{
    for (uint32_t i = 1; i <= (me == 0 ? 3u : 1u); i++)
        fail(me, 10, i);
    if (me == 1)
        see(judge(0, 3), "one worker's failures weigh no more than those of all others");
}

/* The first worker's three failures were before a success; it fails anew, and so does the second. */
static void one_begins_anew(int me)
{
    fail(me, 20, 1);
    if (me == 1)
        see(judge(0, 6), "the failures before a success are not credited to the time after it");
}

/* Both fail: the last to judge sees both. */
static void both_fail(int me)
{
    fail(me, 10, 1);
    see(judge(0, 2), NULL);
}

static const char *it_opens(void) { return all.opened ? NULL : "a total failure opens it"; }

/* One call fails, of two workers each, while three calls of the third are under way for long. */
static void one_hangs(int me)
{
    rs_shared_rule rule = {.consecutive = 5, .patience_ns = 60 * SECOND, .proof = 1};
    fail(me, 10, 1);
    if (me == 0)
        return;
    rs_shared_sum sum = rs_shared_add_up(&all.cell, 7, all.cell.word, 0, 50);
    see(rs_shared_judge(&sum, &rule, 100) != RS_SHARED_STAYS, "silence weighs no more than what has failed");
}

/* The first worker was in another generation, and comes into this one. */
static void one_comes(int me)
{
    if (me == 0)
        rs_shared_row_begin(&all.cell.row[0], rs_shared_word(RS_SHARED_CLOSED, 0, 0, 1, 0));
    else
        see(judge(1, 4), "what was seen in an earlier generation is no evidence");
}

static void begin_rows(uint32_t first, uint32_t generation)
{
    memset(&all, 0, sizeof all);
    for (int i = 0; i < 3; i++)
        rs_shared_row_begin(&all.cell.row[i], rs_shared_word(RS_SHARED_CLOSED, 0, 0, i ? generation : first, 0));
}

int main(void)
{
    uint64_t half_open = rs_shared_word(RS_SHARED_HALF_OPEN, 0, 0, 1, 0), proven = half_open + 2;
    all.cell.word = half_open;
    INTERLEAVE(.name = "the first probe", .memory = &all, .size = SIZE, .workers = 2, .run = probe_alone,
               .reap = reap, .always = one_probes, .at_end = no_lease_is_left, .deaths = 1);
    INTERLEAVE(.name = "one of three", .memory = &all, .size = SIZE, .workers = 3, .run = probe_alone,
               .always = one_probes);
    INTERLEAVE(.name = "rounds", .memory = &all, .size = SIZE, .workers = 2, .run = rounds, .reap = reap,
               .always = one_probes, .deaths = 1);
    all.cell.word = proven;
    INTERLEAVE(.name = "the end of a round", .memory = &all, .size = SIZE, .workers = 3, .run = end_a_probe,
               .always = it_changes_once, .deaths = 1);
    all.cell.word = rs_shared_word(RS_SHARED_CLOSED, 0, 0, 1, 0);
    INTERLEAVE(.name = "an opening", .memory = &all, .size = SIZE, .workers = 3, .run = open_it,
               .always = it_opens_once, .deaths = 1);
    begin_rows(0, 0);
    fail(2, 10, 1);
    INTERLEAVE(.name = "a success between", .memory = &all, .size = SIZE, .workers = 2, .run = one_succeeds,
               .always = none_is_wrong, .deaths = 1);
    begin_rows(0, 0);
    INTERLEAVE(.name = "one worker's failures", .memory = &all, .size = SIZE, .workers = 2,
               .run = one_alone_fails, .always = none_is_wrong, .deaths = 1);
    INTERLEAVE(.name = "a total failure", .memory = &all, .size = SIZE, .workers = 2, .run = both_fail,
               .at_end = it_opens, .deaths = 0);
    fail(0, 10, 3);
    fail(2, 20, 3);
    all.cell.row[1].good_ns = 15;
    INTERLEAVE(.name = "a row that begins anew", .memory = &all, .size = SIZE, .workers = 2,
               .run = one_begins_anew, .always = none_is_wrong, .deaths = 1);
    begin_rows(0, 0);
    all.cell.row[2].begun_ns = 20;
    all.cell.row[2].calls = rs_shared_pair(3, 3);
    all.cell.row[0].counts = all.cell.row[1].counts = rs_shared_counts(300, 0, 0);
    INTERLEAVE(.name = "calls that hang", .memory = &all, .size = SIZE, .workers = 2, .run = one_hangs,
               .always = none_is_wrong, .deaths = 1);
    begin_rows(0, 1);
    fail(0, 10, 4);
    fail(2, 10, 3);
    INTERLEAVE(.name = "an earlier generation", .memory = &all, .size = SIZE, .workers = 2, .run = one_comes,
               .always = none_is_wrong, .deaths = 1);
    memset(&all, 0, sizeof all);
    all.cell.word = half_open;
    INTERLEAVE(.name = "two of three", .memory = &all, .size = SIZE, .workers = 3, .run = probe_with_another,
               .always = two_probe);
    return interleave_failed;
}
