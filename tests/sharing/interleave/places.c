/* Places in the queue of a rate limit of the host: those of a worker that dies are given back, and no others.
 *
 * mutant: swap
 * mutant: add
 * mutant: shared/limit.h: rs_shared_leave(bucket, (int64_t)held); => (void)0;
 * mutant: shared/rates.h: rs_atomic_add(&host->places->held[rs_owner_slot(place)], (uint64_t)units); => (void)0;
 */
#include "interleave.h"
#include "shared/rates.h"

#define TOKEN RS_TOKEN_MILLIONTHS
enum { WORKERS = 2, BURST = 8 };

static struct {
    struct {
        rs_shared_pause pause;
        rs_shared_places places;
        rs_shared_bucket bucket;
    } cell;
    rs_roll roll;
    rs_worker worker[WORKERS];
    rs_member member[WORKERS];
    rs_host_rates host[WORKERS];
    int64_t unit;
    int is_dead[WORKERS];
} all;

static INTERLEAVE_APART uint32_t join(int me)
{
    uint32_t place;
    rs_rates_join(&all.host[me], 0, TOKEN, &place);
    return place;
}

/* Three calls of the first worker wait for good. Of the second one a call leaves, one takes its units, and one waits. */
static void wait_in_turn(int me)
{
    uint32_t place = join(me);
    if (me == 1)
        rs_rates_leave(&all.host[me], TOKEN, place);
    place = join(me);
    if (me == 1)
        rs_rates_take_due(&all.host[me], 1000, TOKEN, place);
    join(me);
}

static void reap(int dead)
{
    if (dead == 0)
        rs_rates_reap(&all.cell, (uint32_t)dead);
    all.is_dead[dead] = 1;
}

/* The second worker, which lives, ends with one place, and one of its calls has taken what it had a place for. */
static const char *what_is_left(void)
{
    int64_t places = (int64_t)all.cell.bucket.places / all.unit, first = all.is_dead[0] ? 0 : 3;
    if (all.is_dead[1])
        return NULL;
    if ((int64_t)all.cell.places.held[0] != first * all.unit || (int64_t)all.cell.places.held[1] != all.unit)
        return "a worker is known to hold the places of its calls that wait";
    if (!all.is_dead[0])
        return places == 5 ? NULL : "a place that is left is given back, and no other";
    return places >= 2 && places <= 3 ? NULL : "of a dead worker's places one is lost at most";
}

int main(void)
{
    for (int i = 0; i < WORKERS; i++) {
        uint32_t slot = (uint32_t)i;
        all.worker[i].epoch = 1;
        all.roll.living |= UINT64_C(1) << i;
        all.member[i] = (rs_member){.roll = &all.roll, .workers = all.worker, .owner = rs_owner(slot, 1), .slot = slot};
        rs_rates_add_bucket(&all.host[i], TOKEN, 1000000000, BURST * TOKEN);
        rs_rates_begin(&all.host[i], &all.member[i], &all.cell);
    }
    all.unit = rs_rates_units(&all.host[0].rate[0], TOKEN);
    INTERLEAVE(.name = "two workers wait, and one may die", .memory = &all, .size = sizeof all, .workers = WORKERS,
               .run = wait_in_turn, .reap = reap, .at_end = what_is_left, .deaths = 1, .immortal = 1 << 1);
    return interleave_failed;
}
