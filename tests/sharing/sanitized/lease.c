/* Tokens on lease: calls that draw and give back, and a courier that offers, is granted, and loses an answer now and then.
 *
 * The clock stands still, so the lease that is granted stands, and each token is somewhere: in the purse, spent, offered to
 * the store, or lost with an answer. Prints the tokens that are nowhere, the largest debt beyond the credit, and those that
 * the share admits once the lease has ended.
 */
#include "threads.h"
#include "shared/lease.h"

#define TOKEN RS_TOKEN_MILLIONTHS
enum { TURNS = 20000, CREDIT = 3, GRANT = 40, ENDS = 1000, BURST = 400, SHARES = 4 };

static rs_leased lease;
static rs_word64 taken, alone, deep, granted, offered; /* whole tokens */

static rs_draw draw_of(void)
{
    rs_draw draw = {.amount = TOKEN, .period_ns = 1, .burst = BURST * TOKEN, .least = TOKEN};
    rs_draw_begin(&draw, &lease, SHARES);
    return draw;
}

/* Offer all but a few, and put in what is granted; or lose the answer, and with it what was offered, but no debt. */
static void exchange(rs_draw *draw, int is_lost)
{
    rs_lease_found found = rs_draw_open(draw, 0, 4 * TOKEN);
    if (is_lost) {
        rs_draw_lose(draw, found.left, 0);
        atomic_fetch_add(&offered, (uint64_t)(found.left > 0 ? found.left / TOKEN : 0));
        return;
    }
    atomic_fetch_add(&offered, (uint64_t)(found.left / TOKEN));
    rs_lease_terms terms = {.grant = GRANT * TOKEN, .credit = CREDIT * TOKEN, .expires_ns = ENDS, .peers = SHARES};
    atomic_fetch_add(&granted, GRANT);
    rs_draw_grant(draw, &terms);
}

static void call(rs_draw *draw, int64_t now_ns, int gives_back)
{
    int low = 0;
    if (!rs_draw_take(draw, now_ns, TOKEN, &low)) {
        rs_draw_miss(draw, TOKEN);
        int64_t place = rs_draw_join(draw, TOKEN);
        if (rs_draw_take_behind(draw, now_ns, TOKEN, rs_draw_before(draw, TOKEN, place), &low))
            atomic_fetch_add(now_ns < ENDS ? &taken : &alone, 1);
        rs_draw_leave(draw, TOKEN, 0);
        return;
    }
    if (rs_word_signed(&lease.purse) < -CREDIT * TOKEN)
        atomic_fetch_add(&deep, 1);
    if (gives_back)
        rs_draw_give_back(draw, now_ns, TOKEN);
    else
        atomic_fetch_add(now_ns < ENDS ? &taken : &alone, 1);
}

static void *worker(void *at)
{
    uint32_t slot = (uint32_t)(uintptr_t)at;
    rs_draw draw = draw_of();
    for (int i = 0; i < TURNS; i++) {
        if (slot == 0)
            exchange(&draw, i % 7 == 3);
        else
            call(&draw, 0, i % 3 == 0);
    }
    return NULL;
}

/* The courier is gone, and the lease over: all draw on one share, at one moment. */
static void *without_a_store(void *at)
{
    rs_draw draw = draw_of();
    for (int i = 0; i < TURNS; i++)
        call(&draw, ENDS + BURST, ((uintptr_t)at + (uintptr_t)i) % 3 == 0);
    return NULL;
}

int main(void)
{
    rs_atomic_store(&lease.credit, CREDIT * TOKEN);
    rs_atomic_store(&lease.expires_ns, ENDS);
    run(worker);
    int64_t there = (rs_word_signed(&lease.purse) + rs_word_signed(&lease.returned)) / TOKEN;
    int64_t nowhere = (int64_t)(granted - offered - taken) - there;
    run(without_a_store);
    printf("taken %d\nnowhere %d\ndeep %d\nalone %d\n", (int)taken, (int)nowhere, (int)deep, (int)alone);
    return 0;
}
