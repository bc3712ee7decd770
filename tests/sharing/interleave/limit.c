/* A shared token bucket, its reservations and its purses: shared/limit.h.
 *
 * mutant: swap
 * mutant: shared/limit.h: if (room < least) => if (room < 0)
 * mutant: shared/limit.h: int64_t from = rs_later((int64_t)seen, base) => int64_t from = (int64_t)seen
 * mutant: shared/limit.h: { return rs_later(purse->next, in); } => { return purse->next + 0 * in; }
 * mutant: shared/limit.h: (int64_t)taken != purse->end || next => next
 * mutant: shared/limit.h: return (int64_t)places > (int64_t)taken && (int64_t)places > in; => return 0;
 * mutant: -DGIVES_BACK_TWICE
 */
#include "interleave.h"
#include "shared/limit.h"

#define MOMENTS 4

static int64_t clock_of[MOMENTS] = {0, 1, 20, 40};
static int moments = 3;              /* of these, in this case */
static int64_t ahead;                /* the second worker's clock is */
static rs_roll roll = {.living = 3}; /* two workers */
static const rs_member member = {.roll = &roll};
static rs_tokens tokens = {.rate = (uint64_t)1 << RS_RATE_BITS, .burst = 3}; /* one a nanosecond */

static struct {
    rs_shared_bucket bucket;
    uint32_t moment;
    int64_t admitted[MOMENTS]; /* net of what was given back */
    int64_t returning, until_ns[2], passed;
    rs_purse purse[2];
} all;

static void pass_time(void)
{
    for (int i = 1; i < moments; i++) {
        interleave_step();
        all.moment++;
    }
}

/* L1: in any time t at most burst + t, and what comes in while one clock is ahead of the other. */
static const char *bound_holds(void)
{
    for (int s = 0; s < moments; s++) {
        int64_t sum = 0;
        for (int e = s; e < moments; e++)
            if ((sum += all.admitted[e]) > tokens.burst + ahead + clock_of[e] - clock_of[s])
                return "at most burst + rate * t are admitted in t";
    }
    return NULL;
}

static const char *word_is_the_sum(void)
{
    int64_t taken = (int64_t)all.bucket.taken, net = all.admitted[0];
    return taken == net || taken == net - all.returning ? NULL : "the word is what was taken";
}

INTERLEAVE_APART static void take_at(uint32_t now, int64_t now_ns)
{
    if (rs_shared_take(&all.bucket, &tokens, now_ns, 1))
        all.admitted[now]++;
}

static void take(uint32_t now) { take_at(now, clock_of[now]); }

INTERLEAVE_APART static void take_and_cancel(void)
{
    if (!rs_shared_take(&all.bucket, &tokens, 0, 2))
        return;
    all.admitted[0] += 2;
    all.returning = 2;
    rs_shared_give_back(&all.bucket, 2);
    all.admitted[0] -= 2;
    all.returning = 0;
#ifdef GIVES_BACK_TWICE
    rs_shared_give_back(&all.bucket, 2);
#endif
}

static void take_some(int me)
{
    if (me == 0)
        take_and_cancel();
    take(0);
    if (me == 1)
        take(0);
}

INTERLEAVE_APART static void take_in_time(int me)
{
    interleave_step();
    take_at(all.moment, clock_of[all.moment] + (me == 1 ? ahead : 0));
}

static void take_two(int me)
{
    if (me == 2)
        return pass_time();
    for (int i = 0; i < 2; i++)
        take_in_time(me);
}

/* A call waits for its time and takes what is due; where another has that time as well, it waits once more. */
INTERLEAVE_APART static void take_when_due(int64_t *until_ns)
{
    while (*until_ns) {
        INTERLEAVE_AWAIT(clock_of[all.moment] >= *until_ns);
        uint32_t now = all.moment;
        if (rs_shared_take_due(&all.bucket, &tokens, clock_of[now], 2)) {
            all.admitted[now] += 2;
            *until_ns = 0;
        }
        else
            *until_ns = clock_of[now] + rs_shared_wait(&all.bucket, &tokens, clock_of[now], 2, 0);
    }
}

INTERLEAVE_APART static void queue(int me, int leaves)
{
    interleave_step();
    int64_t at_ns = rs_shared_join(&all.bucket, &tokens, clock_of[all.moment], 2);
    if (leaves)
        return rs_shared_leave(&all.bucket, 2);
    all.until_ns[me] = at_ns ? at_ns : 1;
    take_when_due(&all.until_ns[me]);
}

static void queue_two(int me)
{
    if (me == 2)
        return pass_time();
    queue(me, me == 1);
    queue(me, me == 0);
}

/* At the end of all time a call waits only because its time is later. */
static const char *all_are_served(void)
{
    for (int i = 0; i < 2; i++)
        if (all.until_ns[i] && all.until_ns[i] <= clock_of[all.moment])
            return "each waiting call is served at its time";
    return NULL;
}

/* While a call waits, a new one takes nothing that is due to it. */
static void queue_or_pass(int me)
{
    if (me == 2)
        return pass_time();
    if (me == 0)
        return queue(0, 0);
    interleave_step();
    int waiting = all.until_ns[0] != 0;
    uint32_t now = all.moment;
    if (rs_shared_take(&all.bucket, &tokens, clock_of[now], 1)) {
        all.admitted[now] += 1;
        all.passed += waiting && now == 0;
    }
}

static const char *none_passes(void) { return all.passed ? "a new call does not pass one that waits" : bound_holds(); }

INTERLEAVE_APART static void spend(int me, int64_t cost)
{
    interleave_step();
    uint32_t now = all.moment;
    if (rs_purse_take(&all.purse[me], &all.bucket, &tokens, clock_of[now], cost, &member))
        all.admitted[now] += cost;
}

static void spend_some(int me)
{
    if (me == 2) { /* a long time, and then the whole burst */
        pass_time();
        if (rs_shared_take(&all.bucket, &tokens, clock_of[1], 16))
            all.admitted[1] += 16;
        return;
    }
    spend(me, 1);
    spend(me, me + 1);
}

int main(void)
{
    INTERLEAVE(.name = "three take and one gives back", .memory = &all, .size = sizeof all, .workers = 3,
               .run = take_some, .always = word_is_the_sum);
    INTERLEAVE(.name = "two take while time passes", .memory = &all, .size = sizeof all, .workers = 3, .run = take_two,
               .always = bound_holds, .deaths = 1, .immortal = 1 << 2);
    ahead = 2;
    INTERLEAVE(.name = "two clocks differ", .memory = &all, .size = sizeof all, .workers = 3, .run = take_two,
               .always = bound_holds, .immortal = 1 << 2);
    ahead = 0;
    INTERLEAVE(.name = "two queue and leave", .memory = &all, .size = sizeof all, .workers = 3, .run = queue_two,
               .always = bound_holds, .at_end = all_are_served, .immortal = 1 << 2);
    all.bucket.taken = 2; /* one is left */
    INTERLEAVE(.name = "one queues, one is new", .memory = &all, .size = sizeof all, .workers = 3, .run = queue_or_pass,
               .always = none_passes, .at_end = all_are_served, .immortal = 1 << 2);
    all.bucket.taken = 0;
    moments = 2;
    clock_of[1] = 40;
    tokens.burst = 16; /* so that a purse may hold two */
    all.admitted[0] = (int64_t)(all.bucket.taken = 12);
    all.purse[0].calls = all.purse[1].calls = 1; /* calls are frequent */
    INTERLEAVE(.name = "two spend from purses", .memory = &all, .size = sizeof all, .workers = 3, .run = spend_some,
               .always = bound_holds, .immortal = 1 << 2);
    return interleave_failed;
}
