/* The courier of a fleet's cell: three members claim it, make trips, and die; or one stops, and is followed by another.
 *
 * mutant: swap
 * mutant: add
 * mutant: shared/courier.h: if (seen != 0 && rs_courier_runs(me, seen, now_ns, silence_ns)) => if (0)
 * mutant: shared/courier.h: return rs_atomic_swap(&head->seen, &seen, seq); => rs_atomic_store(&head->seen, seq); (void)seen; return 1;
 * mutant: shared/courier.h: return seen != 0 || !rs_atomic_swap(&head->id, &seen, drawn) ? seen : drawn; => (void)seen; return drawn;
 */
#include "interleave.h"
#include "shared/courier.h"

#define WORKERS 3
#define LONG_AGO_NS (3 * RS_COURIER_SILENCE_NS)

static struct {
    rs_courier head;
    rs_roll roll;
    rs_worker worker[WORKERS];
    int is_courier[WORKERS], is_dead[WORKERS];
    uint64_t id[WORKERS], asked[WORKERS];
    int used[2 * WORKERS]; /* answers that counted, by what had been seen before them */
} all;

static rs_member member_of(int me)
{
    uint32_t slot = (uint32_t)me;
    return (rs_member){.roll = &all.roll, .workers = all.worker, .owner = rs_owner(slot, 1), .slot = slot};
}

static void live(void)
{
    for (int i = 0; i < WORKERS; i++) {
        all.worker[i].epoch = 1;
        all.roll.living |= UINT64_C(1) << i;
    }
}

static INTERLEAVE_APART void make_a_trip(int me)
{
    uint64_t seen = rs_atomic_load(&all.head.seen);
    all.asked[me] = rs_atomic_add(&all.head.seq, 1) + 1;
    if (rs_courier_saw(&all.head, seen, all.asked[me]))
        all.used[seen]++;
}

/* Of living members that run, one claims the cell. */
static void claim(int me)
{
    rs_member member = member_of(me);
    all.is_courier[me] = rs_courier_claim(&all.head, &member, 0, 0);
    if (!all.is_courier[me])
        return;
    all.id[me] = rs_courier_id(&all.head, (uint64_t)me + 7);
    make_a_trip(me);
}

static void bury(int dead)
{
    all.is_dead[dead] = 1;
    all.is_courier[dead] = 0;
    rs_atomic_and(&all.roll.living, ~(UINT64_C(1) << dead));
}

static const char *there_is_one(void)
{
    int many = 0;
    for (int i = 0; i < WORKERS; i++)
        many += all.is_courier[i];
    return many <= 1 ? NULL : "at most one living member is the courier";
}

/* A courier that is stopped goes on to act: each answer counts once all the same, and no two asks have one number. */
static void follow(int me)
{
    rs_member member = member_of(me);
    if (!rs_courier_claim(&all.head, &member, LONG_AGO_NS, RS_COURIER_SILENCE_NS))
        return;
    all.id[me] = rs_courier_id(&all.head, (uint64_t)me + 7);
    make_a_trip(me);
}

static const char *answers_count_once(void)
{
    for (int i = 0; i < 2 * WORKERS; i++)
        if (all.used[i] > 1)
            return "one answer counts after each that was seen";
    for (int i = 0; i < WORKERS; i++)
        for (int k = 0; k < i; k++) {
            if (all.asked[i] != 0 && all.asked[i] == all.asked[k])
                return "no two asks have one number";
            if (all.id[i] != 0 && all.id[k] != 0 && all.id[i] != all.id[k])
                return "the asker is one, whichever member asks";
        }
    return NULL;
}

static const char *an_ask_is_answered(void)
{
    return all.head.seen != 0 ? NULL : "a member that claimed the cell has had its answer";
}

int main(void)
{
    live();
    INTERLEAVE(.name = "one courier", .memory = &all, .size = sizeof all, .workers = WORKERS, .run = claim,
               .reap = bury, .always = there_is_one, .deaths = 1);
    INTERLEAVE(.name = "a stopped courier", .memory = &all, .size = sizeof all, .workers = WORKERS, .run = follow,
               .always = answers_count_once, .at_end = an_ask_is_answered, .deaths = 0);
    return interleave_failed;
}
