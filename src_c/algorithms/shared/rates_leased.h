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
    for (int i = 0; i < host->n; i++) {
        rs_draw_begin(&host->rate[i].draw, (rs_leased *)(pause + 1) + i, peers);
        rs_draw_is_new_order(&host->rate[i].draw);
    }
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

/* ---- calls that wait --------------------------------------------------------------------------------------------- */

static inline uint64_t rs_rates_own_bit(const rs_host_rates *host)
{
    uint32_t owner = rs_atomic_load(&host->member->owner);
    return owner ? UINT64_C(1) << rs_owner_slot(owner) % RS_WORKERS : 0;
}

/* 1 if calls of this process wait, or have waited since it last noted that none does. */
static inline int rs_rates_has_callers(rs_host_rates *host)
{
    return (rs_atomic_load(&host->rate[0].draw.lease->callers) & rs_rates_own_bit(host)) != 0;
}

/* Take a place in each rate for a call that waits, and let the courier ask soon. */
static inline void rs_rates_line_up(rs_host_rates *host, const int64_t *n, int64_t *place)
{
    for (int i = 0; i < host->n; i++)
        place[i] = rs_draw_join(&host->rate[i].draw, n[i]);
    if (!rs_rates_has_callers(host))
        rs_atomic_or(&host->rate[0].draw.lease->callers, rs_rates_own_bit(host));
    rs_courier_ring(host->courier, host->member);
}

/* Give up the places of a call that waits no more. */
static inline void rs_rates_fall_out(rs_host_rates *host, const int64_t *n, int is_unasked)
{
    for (int i = 0; i < host->n; i++)
        rs_draw_leave(&host->rate[i].draw, n[i], is_unasked);
}

/* Take *n* for a call that waits at these places, if it is its turn. */
static inline int rs_rates_take_at(rs_host_rates *host, int64_t now_ns, const int64_t *n, const int64_t *place)
{
    int64_t now = rs_rates_time(host, now_ns);
    int rings = 0;
    for (int i = 0; i < host->n; i++) {
        rs_draw *draw = &host->rate[i].draw;
        int64_t before = rs_draw_before(draw, n[i], place[i]);
        int low = 0;
        if (!rs_draw_take_behind(draw, now, n[i], before, &low)) {
            while (i-- > 0)
                rs_draw_give_back(&host->rate[i].draw, now, n[i]);
            return 0;
        }
        if (before == 0)
            rs_leased_moves(draw->lease);
        rings |= low;
    }
    rs_rates_fall_out(host, n, 0);
    if (rings)
        rs_courier_ring(host->courier, host->member);
    return 1;
}

/* Nanoseconds until it is the turn of a call that waits at these places. */
static inline int64_t rs_rates_wait_at(rs_host_rates *host, int64_t now_ns, const int64_t *n, const int64_t *place)
{
    int64_t longest = 0;
    for (int i = 0; i < host->n; i++)
        longest = rs_later(longest, rs_draw_wait_at(&host->rate[i].draw, rs_rates_time(host, now_ns), n[i], place[i]));
    return longest;
}

/* Let the threads of the other processes serve those of their calls that wait. */
static inline void rs_rates_wake_others(rs_host_rates *host)
{
    rs_member *me = host->member;
    uint64_t callers = rs_atomic_load(&host->rate[0].draw.lease->callers) & rs_atomic_load(&me->roll->living);
    for (callers &= ~rs_rates_own_bit(host); callers; callers &= callers - 1)
        rs_bell_ring(&me->workers[__builtin_ctzll(callers)].bell);
}

/* Note that none of this process's calls waits. */
static inline void rs_rates_has_none(rs_host_rates *host)
{
    rs_atomic_and(&host->rate[0].draw.lease->callers, ~rs_rates_own_bit(host));
}

/* 1 if nothing is owed or asked for, and less than a token is here: a new limit would be the same. */
static inline int rs_rates_rest(rs_host_rates *host)
{
    for (int i = 0; i < host->n; i++) {
        rs_leased *lease = host->rate[i].draw.lease;
        int64_t purse = rs_word_signed(&lease->purse);
        if (purse < 0 || purse >= RS_TOKEN_MILLIONTHS || rs_atomic_load(&lease->missed) || rs_leased_queued(lease))
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
