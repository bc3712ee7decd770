/* The cell of a shared rate limit: a pause, the places of waiting calls, and a bucket or a window for each of its rates.
 *
 * A call takes from all rates or from none. They are asked in order; what was taken is given back in reverse if one
 * rejects. Other workers may see too few tokens for a microsecond, never too many. Amounts are millionths of a token,
 * as in buckets.h; times are those of the gate. No Python.h; the owner locks its own memory.
 */
#ifndef RS_SHARED_RATES_H
#define RS_SHARED_RATES_H
#include <string.h>
#include "courier.h"
#include "keys.h"
#include "lease.h"
#include "limit.h"
#include "window.h"

#define RS_HOST_RATES 8

/* In shared memory, read-mostly; the rates follow, each on lines of its own. For a key there is a table for each rate
   instead, and a pause is the process's own. */
typedef struct rs_shared_pause {
    _Alignas(RS_LINE) rs_word64 until; /* nothing passes before: ns since the epoch; 0: there was no pause */
} rs_shared_pause;

/* In the memory of one process. */
typedef struct rs_host_rate {
    rs_shared_bucket *bucket; /* or */
    rs_shared_window *window; /* or */
    rs_draw draw;             /* with a lease, if the limit is a fleet's; or */
    rs_keys keys;             /* with sets, if the limit is that of a key */
    rs_tokens tokens;
    rs_window_rule rule;
    int64_t entry; /* of a window: millionths of a token that one of its entries is */
} rs_host_rate;

typedef struct rs_host_rates {
    rs_member *member;
    rs_word64 *pause, own_pause;
    rs_shared_places *places; /* at a single token bucket */
    int64_t paused;           /* the pause that this process has seen */
    uint64_t hash;            /* of the key */
    rs_courier *courier;      /* of a fleet's limit; NULL: of the host alone */
    int n;
    rs_purse purse;
    int64_t asked, units; /* the cost of the latest call at a single token bucket, and its units */
    rs_host_rate rate[RS_HOST_RATES];
} rs_host_rates;

static inline int64_t rs_rates_time(const rs_host_rates *host, int64_t now_ns)
{
    return now_ns - host->member->epoch_ns;
}

/* Add a token bucket: 0, or -1 if no word can count it. */
static inline int rs_rates_add_bucket(rs_host_rates *host, double amount, int64_t period_ns, int64_t burst)
{
    rs_host_rate *rate = &host->rate[host->n];
    memset(rate, 0, sizeof *rate);
    return rs_tokens_init(&rate->tokens, amount, period_ns, burst) < 0 ? -1 : (host->n++, 0);
}

#include "rates_leased.h"

/* Add a window of *limit* millionths, counted in entries of *entry* millionths. */
static inline void rs_rates_add_window(rs_host_rates *host, int64_t limit, int64_t period_ns, int64_t entry)
{
    rs_host_rate *rate = &host->rate[host->n++];
    memset(rate, 0, sizeof *rate);
    rate->rule = (rs_window_rule){period_ns, (uint32_t)(limit / entry)};
    rate->entry = entry;
}

static inline size_t rs_rates_rate_size(const rs_host_rate *rate)
{
    return rate->entry ? rs_shared_window_size(rate->rule.limit) : sizeof(rs_shared_bucket);
}

/* Bytes of the cell. */
static inline size_t rs_rates_size(const rs_host_rates *host)
{
    size_t size = sizeof(rs_shared_pause) + sizeof(rs_shared_places);
    for (int i = 0; i < host->n; i++)
        size += rs_rates_rate_size(&host->rate[i]);
    return size;
}

/* Use the cell at *body*. */
static inline void rs_rates_begin(rs_host_rates *host, rs_member *member, void *body)
{
    rs_shared_pause *pause = (rs_shared_pause *)body;
    host->member = member;
    host->pause = &pause->until;
    host->places = (rs_shared_places *)(pause + 1);
    char *at = (char *)(host->places + 1);
    for (int i = 0; i < host->n; i++) {
        rs_host_rate *rate = &host->rate[i];
        if (rate->entry)
            rate->window = (rs_shared_window *)at;
        else
            rate->bucket = (rs_shared_bucket *)at;
        at += rs_rates_rate_size(rate);
    }
}

/* Bytes of the tables for a limit of each of this number of keys. */
static inline size_t rs_rates_keys_size(const rs_host_rates *host, uint64_t keys)
{
    return (size_t)host->n * rs_keys_size(rs_keys_sets(keys));
}

/* Use the tables at *body*, for the key of this hash. */
static inline void rs_rates_begin_key(rs_host_rates *host, rs_member *member, void *body, uint64_t keys, uint64_t hash)
{
    host->member = member;
    host->pause = &host->own_pause;
    host->hash = hash ? hash : 1;
    for (int i = 0; i < host->n; i++) {
        rs_host_rate *rate = &host->rate[i];
        rate->keys.tokens = rate->tokens;
        rate->keys.limit = rate->rule.limit;
        rate->keys.quarter_ns = (rate->rule.period_ns + 3) / 4;
        rs_keys_begin(&rate->keys, rs_keys_sets(keys), (char *)body + (size_t)i * rs_keys_size(rs_keys_sets(keys)));
    }
}

/* True if a single token bucket is shared: then waiting calls have places, and frequent ones a purse. */
static inline int rs_rates_is_bucket(const rs_host_rates *host) { return host->n == 1 && host->rate[0].bucket != NULL; }

/* A cost in the units or the entries of a rate, rounded up. */
static inline int64_t rs_rates_units(const rs_host_rate *rate, int64_t n)
{
    return rate->entry ? (n + rate->entry - 1) / rate->entry : rs_tokens_units(&rate->tokens, n);
}

static inline int64_t rs_rates_available(rs_host_rates *host, int i, int64_t now_ns)
{
    rs_host_rate *rate = &host->rate[i];
    int64_t now = rs_rates_time(host, now_ns);
    if (rate->draw.lease)
        return rs_draw_available(&rate->draw, now);
    if (rate->keys.sets) {
        int64_t left = rs_key_available(&rate->keys, host->hash, now);
        return rate->entry ? rate->entry * left : rs_tokens_millionths(&rate->tokens, left);
    }
    if (rate->window)
        return rate->entry * rs_window_available(rate->window, &rate->rule, now);
    int64_t units = rs_word_available(&rate->bucket->taken, &rate->tokens, now);
    return rs_tokens_millionths(&rate->tokens, units + (i ? 0 : rs_purse_left(&host->purse, &rate->tokens, now)));
}

/* Nanoseconds until *n* are available; *behind*: to a call behind all that wait. */
static inline int64_t rs_rates_wait(rs_host_rates *host, int i, int64_t now_ns, int64_t n, int behind)
{
    rs_host_rate *rate = &host->rate[i];
    if (rate->draw.lease)
        return rs_draw_wait(&rate->draw, rs_rates_time(host, now_ns), n);
    int64_t now = rs_rates_time(host, now_ns), units = rs_rates_units(rate, n);
    if (rate->keys.sets)
        return rs_key_wait(&rate->keys, host->hash, now, units);
    if (!rate->window)
        return rs_shared_wait(rate->bucket, &rate->tokens, now, units, behind);
    int64_t paused = (int64_t)rs_atomic_load(host->pause);
    int64_t fits = rs_window_fits_at(rate->window, &rate->rule, units);
    int64_t paced = rs_window_paced_at(rate->window, &rate->rule, paused, now, units);
    return rs_later(rs_later(fits, paced) - now, 0);
}

static inline int rs_rates_take_one(rs_host_rates *host, int i, int64_t now_ns, int64_t n)
{
    rs_host_rate *rate = &host->rate[i];
    if (rate->draw.lease)
        return rs_rates_take_leased(host, i, now_ns, n);
    int64_t now = rs_rates_time(host, now_ns), units = rs_rates_units(rate, n);
    if (rate->keys.sets)
        return rs_key_take(&rate->keys, host->hash, now, units);
    if (rate->window)
        return rs_window_take_paced(rate->window, &rate->rule, (int64_t)rs_atomic_load(host->pause), now, units);
    return rs_shared_take(rate->bucket, &rate->tokens, now, units);
}

static inline void rs_rates_debit(rs_host_rates *host, int i, int64_t now_ns, int64_t n)
{
    rs_host_rate *rate = &host->rate[i];
    if (rate->draw.lease && n > 0)
        rs_rates_debit_leased(host, i, now_ns, n);
    else if (rate->keys.sets && n > 0)
        rs_key_debit(&rate->keys, host->hash, rs_rates_time(host, now_ns), rs_rates_units(rate, n));
    else if (rate->window && n > 0)
        rs_window_debit(rate->window, &rate->rule, rs_rates_time(host, now_ns), rs_rates_units(rate, n));
    else if (n > 0)
        rs_word_debit(&rate->bucket->taken, &rate->tokens, rs_rates_time(host, now_ns), rs_rates_units(rate, n));
}

static inline void rs_rates_give_back(rs_host_rates *host, int i, int64_t taken_ns, int64_t n)
{
    rs_host_rate *rate = &host->rate[i];
    int64_t taken = rs_rates_time(host, taken_ns);
    if (rate->draw.lease && n > 0)
        rs_draw_give_back(&rate->draw, taken, n);
    else if (rate->keys.sets && n > 0)
        rs_key_give_back(&rate->keys, host->hash, taken, taken, rs_rates_units(rate, n));
    else if (rate->window && n > 0)
        rs_window_give_back(rate->window, &rate->rule, taken, rs_rates_units(rate, n));
    else if (n > 0)
        rs_shared_give_back(rate->bucket, rs_rates_units(rate, n));
}

/* Take *n* from a single token bucket, by the purse. */
static inline int rs_rates_take_at_once(rs_host_rates *host, int64_t now_ns, int64_t n)
{
    if (n != host->asked) {
        host->units = rs_rates_units(&host->rate[0], n);
        host->asked = n;
    }
    return rs_purse_take(&host->purse, host->rate[0].bucket, &host->rate[0].tokens, rs_rates_time(host, now_ns),
                         host->units, host->member);
}

static RS_SLOW int rs_rates_take_each(rs_host_rates *host, int64_t now_ns, const int64_t *cost)
{
    for (int i = 0; i < host->n; i++)
        if (!rs_rates_take_one(host, i, now_ns, cost[i])) {
            while (i-- > 0)
                rs_rates_give_back(host, i, now_ns, cost[i]);
            return 0;
        }
    return 1;
}

/* Take the call's cost from all rates: 1, or 0 with nothing changed. */
static inline int rs_rates_take(rs_host_rates *host, int64_t now_ns, const int64_t *cost)
{
    return rs_rates_is_bucket(host) ? rs_rates_take_at_once(host, now_ns, cost[0])
                                    : rs_rates_take_each(host, now_ns, cost);
}

/* Lower the available units to at most *left*. */
static inline void rs_rates_lower(rs_host_rates *host, int i, int64_t now_ns, int64_t left)
{
    rs_host_rate *rate = &host->rate[i];
    if (rate->draw.lease)
        rs_draw_lower(&rate->draw, rs_rates_time(host, now_ns), left);
    else if (rate->keys.sets)
        rs_key_lower(&rate->keys, host->hash, rs_rates_time(host, now_ns), rs_rates_time(host, now_ns),
                     rs_rates_units(rate, left));
    else if (rate->window)
        rs_rates_debit(host, i, now_ns, rs_rates_available(host, i, now_ns) - left);
    else {
        host->purse.end = 0;
        rs_word_lower(&rate->bucket->taken, &rate->tokens, rs_rates_time(host, now_ns), rs_rates_units(rate, left));
    }
}

/* Let nothing pass before *until_ns* but in order, one by one, from then on. Buckets first: a pause that is seen is
   complete. */
static inline void rs_rates_hold(rs_host_rates *host, int64_t until_ns)
{
    int64_t until = rs_later(rs_rates_time(host, until_ns), 1);
    host->purse.end = 0;
    for (int i = 0; i < host->n; i++)
        if (host->rate[i].keys.sets)
            rs_key_lower(&host->rate[i].keys, host->hash, until, until, 0);
        else if (host->rate[i].bucket)
            rs_word_lower(&host->rate[i].bucket->taken, &host->rate[i].tokens, until, 0);
    uint64_t seen = rs_atomic_load(host->pause);
    while ((int64_t)seen < until && !rs_atomic_swap(host->pause, &seen, (uint64_t)until))
        ;
}

/* 1 if a pause has begun or ended that this process had not seen; *until_ns*: its end, 0 if there is none. */
static inline int rs_rates_sees(rs_host_rates *host, int64_t *until_ns)
{
    int64_t paused = (int64_t)rs_atomic_load(host->pause);
    if (paused == host->paused)
        return 0;
    host->paused = paused;
    host->purse.end = 0;
    *until_ns = paused ? paused + host->member->epoch_ns : 0;
    return 1;
}

/* Fill all rates, and end the pause. */
static inline void rs_rates_fill(rs_host_rates *host)
{
    host->purse.end = 0;
    for (int i = 0; i < host->n; i++)
        if (host->rate[i].draw.lease)
            rs_shared_fill(&host->rate[i].draw.lease->own); /* leases are the store's to give */
        else if (host->rate[i].keys.sets)
            rs_key_fill(&host->rate[i].keys, host->hash, 0);
        else if (host->rate[i].window)
            rs_window_clear(host->rate[i].window, &host->rate[i].rule);
        else
            rs_shared_fill(host->rate[i].bucket);
    rs_atomic_store(host->pause, 0);
}

/* Make all keys as new whose tables are used. */
static inline void rs_rates_fill_keys(rs_host_rates *host)
{
    for (int i = 0; i < host->n; i++)
        rs_keys_fill(&host->rate[i].keys);
}

/* ---- waiting at a single token bucket --------------------------------------------------------------------------- */

#define RS_PLACE_OF_NONE UINT32_MAX /* of a process without a slot: it is lost with the process */

/* Count the units for which this worker's calls have places; of a place that a former owner of it took, do nothing. */
static inline int rs_rates_count_places(rs_host_rates *host, uint32_t place, int64_t units)
{
    if (place == RS_PLACE_OF_NONE)
        return 1;
    if (place != rs_atomic_load(&host->member->owner))
        return 0; /* it was taken for dead, and the place is given back */
    rs_atomic_add(&host->places->held[rs_owner_slot(place)], (uint64_t)units);
    return 1;
}

/* Queue behind all calls of the host: the time of the call. *place*: what to leave, or to take its units, with. */
static inline int64_t rs_rates_join(rs_host_rates *host, int64_t now_ns, int64_t n, uint32_t *place)
{
    rs_host_rate *rate = &host->rate[0];
    int64_t now = rs_rates_time(host, now_ns), units = rs_rates_units(rate, n);
    int64_t at = rs_shared_join(rate->bucket, &rate->tokens, now, units);
    uint32_t owner = rs_atomic_load(&host->member->owner);
    *place = owner ? owner : RS_PLACE_OF_NONE;
    rs_rates_count_places(host, *place, units);
    return at > now ? at + host->member->epoch_ns : now_ns;
}

static inline void rs_rates_leave(rs_host_rates *host, int64_t n, uint32_t place)
{
    int64_t units = rs_rates_units(&host->rate[0], n);
    if (rs_rates_count_places(host, place, -units))
        rs_shared_leave(host->rate[0].bucket, units);
}

/* Drop a place that is void, as the bucket has been filled. */
static inline void rs_rates_drop_place(rs_host_rates *host, int64_t n, uint32_t place)
{
    rs_rates_count_places(host, place, -rs_rates_units(&host->rate[0], n));
}

/* Take the cost of a call whose time has come. */
static inline int rs_rates_take_due(rs_host_rates *host, int64_t now_ns, int64_t n, uint32_t place)
{
    rs_host_rate *rate = &host->rate[0];
    if (!rs_shared_take_due(rate->bucket, &rate->tokens, rs_rates_time(host, now_ns), rs_rates_units(rate, n)))
        return 0;
    rs_rates_drop_place(host, n, place); /* its units are taken now */
    return 1;
}

/* Give back the places of a dead worker; at windows and at several rates it has none. */
static inline void rs_rates_reap(void *body, uint32_t slot)
{
    rs_shared_places *places = (rs_shared_places *)((rs_shared_pause *)body + 1);
    rs_shared_places_reap(places, (rs_shared_bucket *)(places + 1), slot);
}
#endif
