/* A rate limit of a fleet: its cell has a courier, a pause, and a lease for each rate. A part of rates.h. */
#ifndef RS_SHARED_RATES_LEASED_H
#define RS_SHARED_RATES_LEASED_H
#include "rates.h"

/* Add a rate of a fleet, with what its process gets when the store is away: 0, or -1 if no word can count it. */
static inline int rs_rates_add_lease(rs_host_rates *host, double amount, int64_t period_ns, int64_t burst,
                                     int64_t least, rs_down down)
{
    rs_host_rate *rate = &host->rate[host->n];
    if (rs_rates_add_bucket(host, amount, period_ns, burst) < 0)
        return -1;
    rate->draw = (rs_draw){.amount = amount, .period_ns = period_ns, .burst = burst, .least = least, .down = down};
    return 0;
}

static inline size_t rs_rates_leases_size(const rs_host_rates *host)
{
    return sizeof(rs_courier) + sizeof(rs_shared_pause) + (size_t)host->n * sizeof(rs_leased);
}

/* Use the leases at *body*; *peers*: as many as are known without an answer. */
static inline void rs_rates_begin_leases(rs_host_rates *host, rs_member *member, void *body, uint64_t peers)
{
    rs_shared_pause *pause = (rs_shared_pause *)((rs_courier *)body + 1);
    host->member = member;
    host->courier = (rs_courier *)body;
    host->pause = &pause->until;
    for (int i = 0; i < host->n; i++)
        rs_draw_begin(&host->rate[i].draw, (rs_leased *)(pause + 1) + i, peers);
}

/* Begin anew with leases that have ended while no process of the host asked for others: 1 if one has. */
static inline int rs_rates_begin_anew(rs_host_rates *host, int64_t now_ns)
{
    int is_new = 0;
    for (int i = 0; i < host->n; i++)
        is_new |= rs_draw_begin_anew(&host->rate[i].draw, rs_rates_time(host, now_ns));
    return is_new;
}

/* Take *n*: 1, or 0 with nothing changed; then the caller reports what it lacks, which rings. */
static inline int rs_rates_take_leased(rs_host_rates *host, int i, int64_t now_ns, int64_t n)
{
    int low = 0, taken = rs_draw_take(&host->rate[i].draw, rs_rates_time(host, now_ns), n, &low);
    if (taken && low)
        rs_courier_ring(host->courier, host->member);
    return taken;
}

static inline void rs_rates_debit_leased(rs_host_rates *host, int i, int64_t now_ns, int64_t n)
{
    if (rs_draw_debit(&host->rate[i].draw, rs_rates_time(host, now_ns), n))
        rs_courier_ring(host->courier, host->member);
}

/* Count what calls wait for, *n* being the latest of them, and let the courier ask soon. *all*: by rate, of the queue. */
static inline void rs_rates_want(rs_host_rates *host, const int64_t *n, const int64_t *all)
{
    uint64_t turn = rs_atomic_load(&host->courier->seq);
    for (int i = 0; i < host->n; i++)
        rs_draw_wait_for(&host->rate[i].draw, turn, n ? n[i] : 0, all[i]);
    rs_courier_ring(host->courier, host->member);
}

/* 1 if this process has not reported its queue since the latest question. */
static inline int rs_rates_is_new_turn(rs_host_rates *host)
{
    return host->rate[0].draw.reported != rs_atomic_load(&host->courier->seq) + 1;
}

/* 1 if nothing is owed or asked for, and less than a token is here: a new limit would be the same. */
static inline int rs_rates_rest(rs_host_rates *host)
{
    for (int i = 0; i < host->n; i++) {
        rs_leased *lease = host->rate[i].draw.lease;
        int64_t purse = rs_word_signed(&lease->purse);
        if (purse < 0 || purse >= RS_TOKEN_MILLIONTHS || rs_atomic_load(&lease->missed)
            || rs_atomic_load(&lease->waiting))
            return 0;
    }
    return 1;
}

/* Count what a call has asked for and not got. */
static inline void rs_rates_miss(rs_host_rates *host, const int64_t *n)
{
    for (int i = 0; i < host->n; i++)
        rs_draw_miss(&host->rate[i].draw, n[i]);
    rs_courier_ring(host->courier, host->member);
}
#endif
