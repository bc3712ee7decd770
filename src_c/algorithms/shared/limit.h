/* A token bucket that several processes share: one word that admits, and one that gives waiting calls their times.
 *
 * The word is that of token_bucket.h, and 64 bits have to do: it counts units. Those that have come in by a time since
 * the region's epoch are floor(time * rate). A unit is 2^-shift of a token, as fine as 2^62 units for ten years allow.
 * A zero word is a full bucket.
 *
 * `places` is the same word as it will be when all calls that wait now have been served. A call that has to wait moves
 * it, and so knows its time; it takes its units when that has come. While places are ahead of `taken`, a new call
 * has to move both words: it does not pass those that wait. A place is a forecast and no right: where a waiting call
 * has left, two may have one time. Then one of them waits a little longer.
 *
 * L1  In any time t at most `burst + rate * t` are taken, net of returns, however workers race, stop or die;
 *     plus `rate` times the difference of two processes' clocks.
 * L2  Waiting calls of all processes are served in the order in which they came, without a wake-up between processes.
 * L3  A worker that dies has taken what it has taken: its purse is lost. Its places are given back when it is found
 *     dead: later calls do not wait behind them. One call's place may stay lost, which delays others once.
 *
 * A purse is a batch of units that one process takes at once and spends without touching a word. Its units keep their
 * places in token space: when what has come in passes them, they lapse. So L1 holds for calls as it does for units. A
 * purse lives in the process's own memory and dies with it. No Python.h.
 */
#ifndef RS_SHARED_LIMIT_H
#define RS_SHARED_LIMIT_H
#include <math.h>
#include "member.h"

#define RS_UNITS_DEEPEST (INT64_C(1) << 61) /* no debt, no cost and no burst is larger */
#define RS_UNITS_A_NS 14.0                  /* at most: 2^62 in ten years */
#define RS_UNITS_SHIFT 43                   /* at most: a millionth's part of a token is then computed in 64 bits */
#define RS_RATE_BITS 60
#define RS_TOKEN_MILLIONTHS 1000000

/* In shared memory. Signed: below zero after more was given back than taken, a full bucket. */
typedef struct rs_shared_bucket {
    _Alignas(RS_LINE) rs_word64 taken;
    rs_word64 places;
} rs_shared_bucket;

/* In shared memory: the units for which the calls of each worker have places. */
typedef struct rs_shared_places {
    _Alignas(RS_LINE) rs_word64 held[RS_WORKERS];
} rs_shared_places;

/* In the memory of one process: the rate. */
typedef struct rs_tokens {
    uint64_t rate; /* units a nanosecond, in 2^-60, rounded up: half of a unit more in ten years */
    int64_t burst; /* units */
    int shift;     /* a token is 2^shift units */
} rs_tokens;

/* In the memory of one process; the owner locks. */
typedef struct rs_purse {
    int64_t next, end;       /* units left, as places in token space */
    int64_t calls, since_ns; /* served from the latest batch, and when it was taken */
} rs_purse;

/* The units of a cost in millionths of a token, rounded up. */
static inline int64_t rs_tokens_units(const rs_tokens *tokens, int64_t millionths)
{
    int64_t whole = millionths / RS_TOKEN_MILLIONTHS, part = millionths % RS_TOKEN_MILLIONTHS;
    if (whole >= RS_UNITS_DEEPEST >> tokens->shift)
        return RS_UNITS_DEEPEST;
    return (whole << tokens->shift) + ((part << tokens->shift) + RS_TOKEN_MILLIONTHS - 1) / RS_TOKEN_MILLIONTHS;
}

/* Millionths of a token, rounded down. */
static inline int64_t rs_tokens_millionths(const rs_tokens *tokens, int64_t units)
{
    return (int64_t)((__int128)units * RS_TOKEN_MILLIONTHS >> tokens->shift);
}

/* *amount* and *burst* in millionths of a token. 0, or -1: a rate that no word can count. */
static inline int rs_tokens_init(rs_tokens *tokens, double amount, int64_t period_ns, int64_t burst)
{
    long double a_ns = (long double)amount / RS_TOKEN_MILLIONTHS / (long double)period_ns;
    long double most = (long double)burst / RS_TOKEN_MILLIONTHS + 1;
    if (!(a_ns > 0 && a_ns <= RS_UNITS_A_NS && burst > 0))
        return -1;
    tokens->shift = RS_UNITS_SHIFT;
    while (tokens->shift > 0
           && (ldexpl(a_ns, tokens->shift) > RS_UNITS_A_NS || ldexpl(most, tokens->shift) > RS_UNITS_DEEPEST))
        tokens->shift--;
    tokens->rate = (uint64_t)ldexpl(a_ns, tokens->shift + RS_RATE_BITS) + 2; /* all that is due is there, to the ns */
    tokens->burst = (int64_t)((__int128)burst * ((__int128)1 << tokens->shift) / RS_TOKEN_MILLIONTHS);
    return tokens->rate > 0 ? 0 : -1;
}

/* The units that have come in by *now_ns*, since the epoch. */
static inline int64_t rs_tokens_in(const rs_tokens *tokens, int64_t now_ns)
{
    return now_ns > 0 ? (int64_t)((unsigned __int128)tokens->rate * (uint64_t)now_ns >> RS_RATE_BITS) : 0;
}

/* When *units* will have come in. */
static inline int64_t rs_tokens_when(const rs_tokens *tokens, int64_t units)
{
    if (units <= 0)
        return 0;
    unsigned __int128 ns = (((unsigned __int128)(uint64_t)units << RS_RATE_BITS) + tokens->rate - 1) / tokens->rate;
    return ns < (unsigned __int128)INT64_MAX ? (int64_t)ns : INT64_MAX;
}

static inline int64_t rs_later(int64_t a, int64_t b) { return a > b ? a : b; }

#define RS_CELL(name) rs_word_##name
#define RS_AMOUNT int64_t
#define RS_WORD rs_word64
#define RS_SEEN uint64_t
#define RS_LOAD rs_atomic_load
#define RS_SWAP rs_atomic_swap
#define RS_DEEPEST RS_UNITS_DEEPEST
typedef rs_tokens rs_word_tokens;
#define rs_word_in rs_tokens_in
#define rs_word_when rs_tokens_when
#include "token_bucket.h"

/* True if calls wait whose time has not come. */
static inline int rs_places_ahead(uint64_t places, uint64_t taken, int64_t in)
{
    return (int64_t)places > (int64_t)taken && (int64_t)places > in;
}

/* Take *n* > 0 units for a call whose time has come: 1, or 0 with nothing changed. */
static inline int rs_shared_take_due(rs_shared_bucket *bucket, const rs_tokens *tokens, int64_t now_ns, int64_t n)
{
    return rs_word_take(&bucket->taken, tokens, now_ns, n);
}

/* Take *n* > 0 units behind all calls that wait: 1, or 0 with nothing changed. */
static inline int rs_shared_take(rs_shared_bucket *bucket, const rs_tokens *tokens, int64_t now_ns, int64_t n)
{
    int64_t in = rs_tokens_in(tokens, now_ns), most = in + tokens->burst;
    uint64_t taken = rs_atomic_load(&bucket->taken), places = rs_atomic_load(&bucket->places);
    int behind = rs_places_ahead(places, taken, in);
    if (behind && !rs_word_move(&bucket->places, places, in, n, most))
        return 0;
    if (rs_word_move(&bucket->taken, taken, in, n, most))
        return 1;
    if (behind)
        rs_atomic_sub(&bucket->places, (uint64_t)n);
    return 0;
}

/* Queue for *n* > 0 units: the time of the call, 0 if it is past. */
static inline int64_t rs_shared_join(rs_shared_bucket *bucket, const rs_tokens *tokens, int64_t now_ns, int64_t n)
{
    int64_t in = rs_tokens_in(tokens, now_ns), base = rs_later((int64_t)rs_atomic_load(&bucket->taken), in);
    int64_t end = rs_word_push(&bucket->places, base, n, in + RS_UNITS_DEEPEST + tokens->burst);
    return rs_tokens_when(tokens, end - tokens->burst);
}

/* Return the place of a call that leaves the queue. */
static inline void rs_shared_leave(rs_shared_bucket *bucket, int64_t n) { rs_atomic_sub(&bucket->places, (uint64_t)n); }

/* Return the places of a worker that is dead. */
static inline void rs_shared_places_reap(rs_shared_places *places, rs_shared_bucket *bucket, uint32_t slot)
{
    uint64_t held = rs_atomic_load(&places->held[slot]);
    while (held != 0 && !rs_atomic_swap(&places->held[slot], &held, 0))
        ;
    if ((int64_t)held > 0)
        rs_shared_leave(bucket, (int64_t)held);
}

/* Undo one withdrawal of *n* units; the last of those that wait now has an earlier time. */
static inline void rs_shared_give_back(rs_shared_bucket *bucket, int64_t n)
{
    if (n <= 0)
        return;
    int64_t left = (int64_t)rs_atomic_sub(&bucket->taken, (uint64_t)n) - n;
    if ((int64_t)rs_atomic_load(&bucket->places) > left + n)
        rs_atomic_sub(&bucket->places, (uint64_t)n);
}

/* Fill the bucket, and forget all places. */
static inline void rs_shared_fill(rs_shared_bucket *bucket)
{
    rs_atomic_store(&bucket->places, 0);
    rs_atomic_store(&bucket->taken, 0);
}

/* Nanoseconds until *n* units are available; *behind*: to a call behind all that wait. */
static inline int64_t rs_shared_wait(rs_shared_bucket *bucket, const rs_tokens *tokens, int64_t now_ns, int64_t n,
                                     int behind)
{
    int64_t wait = rs_word_wait(&bucket->taken, tokens, now_ns, n);
    return behind ? rs_later(rs_word_wait(&bucket->places, tokens, now_ns, n), wait) : wait;
}

/* ---- a purse --------------------------------------------------------------------------------------------------- */

#define RS_PURSE_FROM_NS 100000 /* batches are taken where calls are less than this apart: more than 10,000 a second */
#define RS_PURSE_NS 1000000     /* the calls of this time are one batch */
#define RS_PURSE_SHARE 4        /* of the burst, for the purses of all workers */

/* Move a word on from *base* at least to *most* at most, by *least* to *n* units: where it ends, or -1. *seen*: what it
   held. *n*: by how many. */
static inline int64_t rs_word_reach(rs_word64 *word, uint64_t seen, int64_t base, int64_t least, int64_t *n,
                                    int64_t most)
{
    for (;;) {
        int64_t from = rs_later((int64_t)seen, base), room = most - from;
        if (room < least)
            return -1;
        *n = room < *n ? room - room % least : *n;
        if (rs_atomic_swap(word, &seen, (uint64_t)(from + *n)))
            return from + *n;
    }
}

/* The place of the first unit that has not lapsed. */
static inline int64_t rs_purse_next(const rs_purse *purse, int64_t in) { return rs_later(purse->next, in); }

/* Units left in the purse. */
static inline int64_t rs_purse_left(const rs_purse *purse, const rs_tokens *tokens, int64_t now_ns)
{
    int64_t left = purse->end - rs_purse_next(purse, rs_tokens_in(tokens, now_ns));
    return left > 0 ? left : 0;
}

/* The units of the next batch, for calls of *n*: those of a millisecond, at most what comes in meanwhile. From a full
   bucket it is that much, which would otherwise lapse sooner. A rate of less than 10,000 calls a second has no batches. */
static inline int64_t rs_purse_batch(const rs_purse *purse, const rs_tokens *tokens, int64_t now_ns, int64_t n,
                                     int full, const rs_member *me)
{
    int64_t took_ns = now_ns - purse->since_ns, comes_in = rs_tokens_in(tokens, RS_PURSE_NS);
    if (n <= 0 || took_ns >= RS_PURSE_FROM_NS * purse->calls || comes_in / n < RS_PURSE_NS / RS_PURSE_FROM_NS)
        return n;
    int64_t share = tokens->burst / RS_PURSE_SHARE / rs_member_peers(me);
    int64_t calls = purse->calls * RS_PURSE_NS / (took_ns > 0 ? took_ns : 1);
    int64_t units = full ? comes_in : n * (calls < 2 * purse->calls ? calls : 2 * purse->calls);
    units = units < comes_in ? units : comes_in;
    units = units < share ? units : share;
    return rs_later(units - units % n, n);
}

/* Complete the rest of the purse to *n* units, if no other process has taken any since. Otherwise it is dropped: to
   give it back could be late, after it has lapsed. */
static inline int rs_purse_complete(rs_purse *purse, rs_shared_bucket *bucket, uint64_t taken, int64_t next, int64_t n,
                                    int64_t most)
{
    if ((int64_t)taken != purse->end || next >= purse->end || next + n > most
        || !rs_atomic_swap(&bucket->taken, &taken, (uint64_t)(next + n)))
        return 0;
    purse->next = purse->end = next + n;
    purse->calls++;
    return 1;
}

/* Take *n* units and the next batch; no batch while calls wait. */
static __attribute__((noinline)) int rs_purse_refill(rs_purse *purse, rs_shared_bucket *bucket, const rs_tokens *tokens,
                                                     int64_t now_ns, int64_t n, const rs_member *me)
{
    int64_t in = rs_tokens_in(tokens, now_ns), most = in + tokens->burst;
    uint64_t taken = rs_atomic_load(&bucket->taken);
    if (rs_places_ahead(rs_atomic_load(&bucket->places), taken, in))
        return rs_shared_take(bucket, tokens, now_ns, n);
    if (rs_purse_complete(purse, bucket, taken, rs_purse_next(purse, in), n, most))
        return 1;
    int64_t units = rs_purse_batch(purse, tokens, now_ns, n, (int64_t)taken <= in, me);
    int64_t end = rs_word_reach(&bucket->taken, taken, in, n, &units, most);
    if (end < 0)
        return 0;
    *purse = (rs_purse){end - units + n, end, 1, now_ns};
    return 1;
}

/* Take *n* units, from the purse or with the next batch: 1, or 0 with nothing changed. */
static inline int rs_purse_take(rs_purse *purse, rs_shared_bucket *bucket, const rs_tokens *tokens, int64_t now_ns,
                                int64_t n, const rs_member *me)
{
    int64_t next = rs_purse_next(purse, rs_tokens_in(tokens, now_ns));
    if (next + n > purse->end)
        return rs_purse_refill(purse, bucket, tokens, now_ns, n, me);
    purse->next = next + n;
    purse->calls++;
    return 1;
}
#endif
