/* A pool, under ThreadSanitizer: three threads call as a pipeline does, and one changes the endpoints. What pool_seat.pxi
   and pool_stage.pxi do under their locks is done here under the same ones. Prints calls, changes and ejections. */
#include <stdatomic.h>
#include <stdio.h>
#include "pool_arrange.h"
#include "pool_eject.h"
#include "pool_untried.h"

enum { CALLERS = 3, CALLS = 20000, PLACES = 8 };

typedef struct {
    rs_gate gate;
    rs_seat seat;
    int failures; /* in a row */
} endpoint;

static rs_pool pool = {.overprovision = 1.4, .max_ejected = 0.5, .spill = 1, .warm_up_ns = 1000000, .random = 1};
static endpoint endpoints[2 * PLACES]; /* of two generations: one replaces the other */
static atomic_llong now, calls, changes, ejections, nowhere;

static int64_t tick(void) { return atomic_fetch_add(&now, 10000) + 10000; }

/* Take over what the endpoint's gates let pass. The seat's lock is held. */
static void look(endpoint *at, int64_t now_ns)
{
    double share = at->failures < 5 ? 1.0 : 0.0, before = at->seat.share;
    if (share == 0.0 && before != 0.0 && !rs_pool_may_eject(&pool, &at->seat, 5))
        share = 1.0;
    if (now_ns < __atomic_load_n(&at->seat.hold_ns, __ATOMIC_RELAXED))
        share = 0.0;
    if (share == 1.0 && before == 1.0)
        return;
    if (rs_pool_set_share(&pool, &at->seat, share, now_ns + 3000000, now_ns) && share == 0.0)
        atomic_fetch_add(&ejections, 1);
}

static void look_under_lock(endpoint *at, int64_t now_ns)
{
    rs_lock_acquire(&pool.lock);
    look(at, now_ns);
    rs_lock_release(&pool.lock);
}

static rs_seat *choose(rs_choice *choice)
{
    rs_seat *seat;
    rs_lock_acquire(&pool.lock);
    while ((pool.ejected | pool.due) && (seat = rs_pool_to_look_at(&pool, choice->now_ns)) != NULL) {
        endpoint *ejected = (endpoint *)seat->gate;
        rs_lock_release(&pool.lock);
        rs_lock_acquire(&ejected->gate.lock);
        ejected->failures = 0; /* its open time is over */
        look_under_lock(ejected, choice->now_ns);
        rs_lock_release(&ejected->gate.lock);
        rs_lock_acquire(&pool.lock);
    }
    choice->asks = 1;
    int others = rs_pool_has_untried(&pool, choice);
    choice->asks = 0;
    seat = rs_pool_choose(&pool, choice);
    if (seat == NULL && others)
        abort();
    rs_lock_release(&pool.lock);
    return seat;
}

static void call(uint64_t luck, uint64_t *tried)
{
    rs_choice choice = {.now_ns = tick(), .tried = *tried, .level = -1};
    rs_seat *seat = choose(&choice);
    if (seat == NULL) {
        atomic_fetch_add(&nowhere, 1);
        return;
    }
    endpoint *at = (endpoint *)seat->gate;
    rs_lock_acquire(&at->gate.lock);
    *tried |= rs_bit(seat->place);
    rs_gate_inflight(&at->gate, 1);
    rs_lock_release(&at->gate.lock);

    int64_t ended_ns = tick();
    int fails = luck % 5 == 0 || (choice.place == 1 && luck % 10 != 0);
    rs_lock_acquire(&at->gate.lock);
    rs_gate_inflight(&at->gate, -1);
    rs_lock_acquire(&pool.lock);
    double price_ns = fails ? RS_POOL_PRICE * rs_pool_median(&pool) : 0.0;
    rs_lock_release(&pool.lock);
    rs_seat_learn(seat, fails ? RS_FAILURE : RS_SUCCESS, (double)(ended_ns - choice.now_ns), price_ns, ended_ns);
    at->failures = fails ? at->failures + 1 : 0;
    look_under_lock(at, ended_ns);
    rs_lock_release(&at->gate.lock);
    atomic_fetch_add(&calls, 1);
}

static uint64_t next(uint64_t *random)
{
    *random = *random * 6364136223846793005u + 1442695040888963407u;
    return *random >> 33;
}

static void *caller(void *number)
{
    uint64_t random = (uint64_t)(uintptr_t)number + 1, tried = 0;
    for (int i = 0; i < CALLS; i++) {
        tried = i % 3 == 0 ? 0 : tried;
        call(next(&random), &tried);
    }
    return NULL;
}

static void arrange(uint64_t random)
{
    rs_row rows[PLACES];
    int n = 0;
    for (int level = 0; level < 2; level++)
        for (int place = level; place < PLACES; place += 2)
            if (place == 0 || next(&random) % 4)
                rows[n++] = (rs_row){&endpoints[place + PLACES * (next(&random) & 1)].seat,
                                     1.0 + (double)(next(&random) % 3),
                                     place,
                                     level,
                                     place % 3,
                                     place && next(&random) % 8 == 0};
    rs_lock_acquire(&pool.lock);
    rs_pool_arrange(&pool, rows, n);
    rs_lock_release(&pool.lock);
}

static void hold(endpoint *at)
{
    rs_lock_acquire(&at->gate.lock);
    rs_seat_hold(&at->seat, tick() + 100000);
    rs_lock_release(&at->gate.lock);
}

static void *changer(void *unused)
{
    uint64_t random = 9;
    while (atomic_load(&calls) < CALLERS * CALLS / 2) {
        arrange(next(&random));
        hold(&endpoints[next(&random) % (2 * PLACES)]);
        atomic_fetch_add(&changes, 1);
    }
    return unused;
}

int main(void)
{
    pthread_t threads[CALLERS + 1];
    for (int i = 0; i < 2 * PLACES; i++)
        endpoints[i].seat = (rs_seat){.gate = &endpoints[i].gate, .share = 1.0, .weight = 1.0};
    arrange(1);
    for (uintptr_t i = 0; i <= CALLERS; i++)
        pthread_create(&threads[i], NULL, i < CALLERS ? caller : changer, (void *)i);
    for (int i = 0; i <= CALLERS; i++)
        pthread_join(threads[i], NULL);
    int64_t left = 0;
    for (int i = 0; i < 2 * PLACES; i++)
        left += rs_seat_inflight(&endpoints[i].seat);
    printf("calls %lld\nchanges %lld\nejections %lld\nleft %lld\n", calls + nowhere, changes, ejections,
           (long long)left);
    return 0;
}
