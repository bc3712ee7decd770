/* The tokens of one rate of a fleet, as a cell has them on lease from the store; all processes of the cell draw on them.
 *
 * `purse` holds what has been granted and not been spent. A call takes its tokens by one compare-and-swap, and may go
 * into a debt up to `credit`. At each exchange the courier takes all out but what calls may need meanwhile, and offers
 * it to the store with the question; the answer's grant goes in. The store counts a grant as leased until it is
 * given back or its time has passed. A purse is void at `expires_ns`, which is before that: it is counted from when the
 * question was sent.
 *
 * When it is void, no exchange has succeeded for that long: the store is away. Then the bucket `own` admits, a share of
 * the rate, or all calls or none, as the policy wants it. No thread has to run for that. The share begins empty when
 * the lease ends, and what it has admitted is offered as a debt to the store that is back.
 *
 * P1  Until `expires_ns` at most what was granted, less what was offered, and `credit` are taken, however processes race or die.
 *     Where calls pass for nothing while the store is away, what was taken before it came back is not given back.
 * P2  What a courier that dies has taken out is lost: nothing is taken twice.
 *
 * Amounts are millionths of a token, times ns since the region's epoch. No Python.h.
 */
#ifndef RS_SHARED_LEASE_H
#define RS_SHARED_LEASE_H
#include "limit.h"

/* What calls get when the store is away. */
typedef enum { RS_DOWN_LOCAL = 0, RS_DOWN_OPEN = 1, RS_DOWN_CLOSED = 2 } rs_down;

/* In shared memory. What calls write is in one line, what the courier writes in others; zeroes: never leased. */
typedef struct rs_leased {
    _Alignas(RS_LINE) rs_word64 purse; /* signed: below zero it is a debt */
    rs_word64 missed;                  /* what calls have asked for since the latest question, and not got */
    rs_word64 returned;                /* given back after its lease had ended */
    rs_word64 joined, gone;            /* what calls came to wait for, ever, and those of them that wait no more */
    rs_word64 unasked;                 /* of these, what was not asked for before they left without it */
    rs_word64 order;                   /* how often their order has begun anew */
    rs_word64 callers;                 /* of a limit's first rate, bit i: calls of slot i wait */
    _Alignas(RS_LINE) rs_word64 expires_ns;
    rs_word64 credit;
    rs_word64 low;       /* signed: where the purse falls below it, a question is due at once */
    rs_word64 next_ns;   /* when more is to be expected */
    rs_word64 income;    /* ... and how much a second */
    rs_word64 stock;     /* what the store had left for others and for later, as far as is known */
    rs_word64 asked_ns;  /* when the question was sent that the lease answers */
    rs_word64 peers;     /* of the latest answer; 0: none yet */
    rs_word64 back_ns;   /* when the store came back; 0: it was never away */
    rs_word64 lain_ns;   /* since when tokens have been seen to lie for others; 0: they do not */
    rs_word64 looked_ns; /* ... and when they were seen last */
    rs_shared_bucket own;
} rs_leased;

/* What the courier has found out from an answer. */
typedef struct rs_lease_terms {
    int64_t grant, credit, low, income, stock, asked_ns, now_ns, expires_ns, next_ns;
    uint64_t peers; /* at least 1 */
} rs_lease_terms;

/* What the courier finds in the cell when it asks. */
typedef struct rs_lease_found {
    int64_t left;     /* offered to the store; below zero: a debt */
    int64_t owed;     /* admitted while the store was away */
    int64_t kept;     /* to be spent while the answer is under way */
    int64_t purse;    /* what was in it */
    int64_t missed;   /* asked for and not got since the latest question */
    int64_t waiting;  /* asked for by calls that wait */
    int64_t unasked;  /* ... and by those that have left, since the latest question */
    int64_t joined;   /* ... or have waited, ever */
    int64_t returned; /* given back by calls; of a window apart from `left`, as it may be of any lease */
    int is_void;      /* the lease has ended, or there was none */
} rs_lease_found;

/* In the memory of one process; the owner locks. */
typedef struct rs_draw {
    rs_leased *lease;
    rs_tokens tokens;                /* of the share */
    uint64_t peers;                  /* for which they were computed */
    double amount;                   /* of the whole rate */
    int64_t period_ns, burst, least; /* no share holds less than *least* */
    rs_down down;
    rs_word64 *horizon; /* of a lease at rest; else NULL */
    int is_exact;       /* each token is granted for a call, and none before: that of a window */
    uint64_t order;     /* in which this process's calls have their places */
} rs_draw;

static inline uint64_t rs_word_empty(rs_word64 *word)
{
    uint64_t seen = rs_atomic_load(word);
    while (seen != 0 && !rs_atomic_swap(word, &seen, 0))
        ;
    return seen;
}

static inline int64_t rs_word_signed(rs_word64 *word) { return (int64_t)rs_atomic_load(word); }

#include "lease_order.h"

#define RS_LEASE_GRACE_NS INT64_C(1000000000) /* for which calls wait for the first answer */

/* 1 if the lease has ended, and of one at rest the time until which the store is known to be there. Of one that has never
   been used the time begins now: before its first call a process may not even have asked. */
static inline int rs_draw_is_void(rs_draw *draw, int64_t now_ns)
{
    uint64_t expires = rs_atomic_load(&draw->lease->expires_ns);
    if (expires == 0 && rs_atomic_swap(&draw->lease->expires_ns, &expires, (uint64_t)(now_ns + RS_LEASE_GRACE_NS)))
        return 0;
    return now_ns >= (int64_t)expires && (draw->horizon == NULL || now_ns >= rs_word_signed(draw->horizon));
}

/* ---- the share of a process whose store is away ------------------------------------------------------------------ */

/* The tokens of one of *peers* shares. */
static inline void rs_draw_divide(rs_draw *draw, uint64_t peers)
{
    int64_t burst = draw->burst / (int64_t)peers;
    draw->peers = peers;
    rs_tokens_init(&draw->tokens, draw->amount / (double)peers, draw->period_ns,
                   burst > draw->least ? burst : draw->least);
}

/* The share's tokens by the number of peers that is known now. */
static inline const rs_tokens *rs_draw_tokens(rs_draw *draw)
{
    uint64_t peers = rs_atomic_load(&draw->lease->peers);
    if (peers != 0 && peers != draw->peers)
        rs_draw_divide(draw, peers);
    return &draw->tokens;
}

/* Use a lease; *peers*: as many as are known without an answer. */
static inline void rs_draw_begin(rs_draw *draw, rs_leased *lease, uint64_t peers)
{
    draw->lease = lease;
    rs_draw_divide(draw, peers > 0 ? peers : 1);
}

static inline int rs_draw_take_alone(rs_draw *draw, int64_t now_ns, int64_t n)
{
    if (draw->down != RS_DOWN_LOCAL)
        return draw->down == RS_DOWN_OPEN;
    const rs_tokens *tokens = rs_draw_tokens(draw);
    return rs_shared_take(&draw->lease->own, tokens, now_ns, rs_tokens_units(tokens, n));
}

/* 1 if a purse of *seen* falls below *low* now. */
static inline int rs_falls_below(int64_t low, uint64_t seen, int64_t n)
{
    return (int64_t)seen - n < low && (int64_t)seen >= low;
}

/* ---- calls ------------------------------------------------------------------------------------------------------- */

/* Take *n* if the purse has *behind* more than that: 1, or 0 with nothing changed. *low*: the purse has fallen so low that
   a question is due at once. */
static inline int rs_draw_take_behind(rs_draw *draw, int64_t now_ns, int64_t n, int64_t behind, int *low)
{
    rs_leased *lease = draw->lease;
    if (rs_draw_is_void(draw, now_ns))
        return rs_draw_take_alone(draw, now_ns, n);
    int64_t least = n - rs_word_signed(&lease->credit), asks = rs_word_signed(&lease->low);
    uint64_t seen = rs_atomic_load(&lease->purse);
    do {
        if ((int64_t)seen < least)
            return 0;
        if ((int64_t)seen < least + behind) {
            if (!rs_leased_unblock(lease, now_ns))
                return 0;
            behind = 0;
        }
    } while (!rs_atomic_swap(&lease->purse, &seen, seen - (uint64_t)n));
    *low = rs_falls_below(asks, seen, n);
    return 1;
}

/* Take *n* behind all calls that wait; what costs nothing passes them. */
static inline int rs_draw_take(rs_draw *draw, int64_t now_ns, int64_t n, int *low)
{
    return rs_draw_take_behind(draw, now_ns, n, n ? rs_leased_queued(draw->lease) : 0, low);
}

/* Count what a call has asked for and not got. */
static inline void rs_draw_miss(rs_draw *draw, int64_t n) { rs_atomic_add(&draw->lease->missed, (uint64_t)n); }

/* 1 if calls have missed something since the latest question, or wait for more than is here. In one order with the ring
   that follows their report. */
static inline int rs_leased_lacks(rs_leased *lease)
{
    if (rs_atomic_read(&lease->missed) != 0 || rs_atomic_read(&lease->unasked) != 0)
        return 1;
    int64_t queued = (int64_t)(rs_atomic_read(&lease->joined) - rs_atomic_load(&lease->gone));
    return queued > 0 && queued > rs_word_signed(&lease->purse) + rs_word_signed(&lease->credit);
}

/* Take *n* whether it is there or not: 1 if a question is due at once. */
static inline int rs_draw_debit(rs_draw *draw, int64_t now_ns, int64_t n)
{
    if (!rs_draw_is_void(draw, now_ns))
        return rs_falls_below(rs_word_signed(&draw->lease->low), rs_atomic_sub(&draw->lease->purse, (uint64_t)n), n);
    if (draw->down == RS_DOWN_LOCAL) {
        const rs_tokens *tokens = rs_draw_tokens(draw);
        rs_word_debit(&draw->lease->own.taken, tokens, now_ns, rs_tokens_units(tokens, n));
    }
    return 0;
}

/* Undo a withdrawal of *n*. Of a lease that has been offered to the store since, it is offered with the next question.
   What may have been taken for nothing does not come back: each token would be a new one. */
static inline void rs_draw_give_back(rs_draw *draw, int64_t taken_ns, int64_t n)
{
    rs_leased *lease = draw->lease;
    if (rs_draw_is_void(draw, taken_ns)) {
        if (draw->down == RS_DOWN_LOCAL)
            rs_shared_give_back(&lease->own, rs_tokens_units(rs_draw_tokens(draw), n));
    }
    else if (draw->down != RS_DOWN_OPEN || taken_ns > rs_word_signed(&lease->back_ns)) {
        int is_here = !draw->is_exact && taken_ns >= rs_word_signed(&lease->asked_ns);
        rs_atomic_add(is_here ? &lease->purse : &lease->returned, (uint64_t)n);
    }
}

/* Leave at most *left*; the rest is taken for spent. */
static inline void rs_draw_lower(rs_draw *draw, int64_t now_ns, int64_t left)
{
    rs_leased *lease = draw->lease;
    uint64_t seen = rs_atomic_load(&lease->purse);
    while ((int64_t)seen > left && !rs_atomic_swap(&lease->purse, &seen, (uint64_t)left))
        ;
    if (rs_draw_is_void(draw, now_ns)) {
        const rs_tokens *tokens = rs_draw_tokens(draw);
        rs_word_lower(&lease->own.taken, tokens, now_ns, rs_tokens_units(tokens, left));
    }
}

/* What a call could take now; below zero: a debt. */
static inline int64_t rs_draw_available(rs_draw *draw, int64_t now_ns)
{
    rs_leased *lease = draw->lease;
    if (!rs_draw_is_void(draw, now_ns))
        return rs_word_signed(&lease->purse) + rs_word_signed(&lease->credit);
    if (draw->down != RS_DOWN_LOCAL)
        return draw->down == RS_DOWN_OPEN ? draw->burst : 0;
    const rs_tokens *tokens = rs_draw_tokens(draw);
    return rs_tokens_millionths(tokens, rs_word_available(&lease->own.taken, tokens, now_ns));
}

#define RS_LEASE_SOON_NS INT64_C(1000000) /* no sooner is it worth to ask again */

/* Nanoseconds until *n* are to be expected: a forecast, for nothing is promised before it is granted. What the store
   had left, and what has come in since, it has unless others have asked for it. */
static inline int64_t rs_draw_wait(rs_draw *draw, int64_t now_ns, int64_t n)
{
    rs_leased *lease = draw->lease;
    int64_t missing = n - rs_draw_available(draw, now_ns);
    if (missing <= 0)
        return 0;
    if (rs_draw_is_void(draw, now_ns)) {
        const rs_tokens *tokens = rs_draw_tokens(draw);
        if (draw->down == RS_DOWN_LOCAL)
            return rs_later(rs_word_wait(&lease->own.taken, tokens, now_ns, rs_tokens_units(tokens, n)), 1);
        return INT64_C(1000000000);
    }
    missing -= rs_word_signed(&lease->stock);
    int64_t income = rs_word_signed(&lease->income), next = rs_word_signed(&lease->next_ns) - now_ns;
    double flows = missing > 0 && income > 0 ? (double)missing / (double)income * 1e9 : 0;
    flows += (double)(rs_word_signed(&lease->asked_ns) - now_ns);
    return rs_later(rs_later(next, flows < 9e18 ? (int64_t)flows : INT64_MAX), RS_LEASE_SOON_NS);
}

/* The same for a call that waits at this place. While tokens lie for the calls before it, it looks now and then. */
static inline int64_t rs_draw_wait_at(rs_draw *draw, int64_t now_ns, int64_t n, int64_t place)
{
    if (rs_draw_is_void(draw, now_ns))
        return rs_draw_wait(draw, now_ns, n);
    int64_t before = rs_draw_before(draw, n, place);
    return before && rs_draw_available(draw, now_ns) >= n ? RS_LEASE_LOOK_NS : rs_draw_wait(draw, now_ns, before + n);
}

/* ---- the courier ------------------------------------------------------------------------------------------------- */

/* Let calls begin, with a token on credit until the first answer; of a window they wait for it. */
static inline void rs_draw_first(rs_draw *draw)
{
    if (rs_atomic_load(&draw->lease->expires_ns) != 0)
        return;
    rs_atomic_store(&draw->lease->stock, (uint64_t)draw->burst);
    rs_atomic_store(&draw->lease->credit, draw->is_exact ? 0 : RS_TOKEN_MILLIONTHS);
}

/* What the share has admitted since the lease ended, and has not come in again. */
static inline int64_t rs_draw_owes(rs_draw *draw, int64_t now_ns)
{
    rs_leased *lease = draw->lease;
    if (draw->down != RS_DOWN_LOCAL)
        return 0;
    const rs_tokens *tokens = rs_draw_tokens(draw);
    int64_t owed = tokens->burst - rs_word_available(&lease->own.taken, tokens, now_ns);
    if (rs_atomic_load(&lease->peers)) { /* it began empty */
        int64_t began = rs_tokens_in(tokens, rs_word_signed(&lease->expires_ns)) + tokens->burst;
        int64_t taken = rs_word_signed(&lease->own.taken) - began;
        owed = taken < owed ? taken : owed;
    }
    return rs_tokens_millionths(tokens, rs_later(owed, 0));
}

/* Begin anew with a lease that has ended while no process of the host asked for it: 1; 0: it has not. Such a lease shows
   nothing about the store, which is there as for a host that is new. What the share owes stays a debt. */
static inline int rs_draw_begin_anew(rs_draw *draw, int64_t now_ns)
{
    rs_leased *lease = draw->lease;
    uint64_t expires = rs_atomic_load(&lease->expires_ns);
    if (expires <= 1 || now_ns < (int64_t)expires)
        return 0;
    int64_t owed = rs_draw_owes(draw, now_ns);
    if (!rs_atomic_swap(&lease->expires_ns, &expires, 1)) /* another process does it */
        return 0;
    rs_atomic_store(&lease->purse, (uint64_t)-owed);
    rs_atomic_store(&lease->low, 0);
    rs_leased_reorder(lease);
    rs_atomic_store(&lease->expires_ns, 0);
    rs_draw_first(draw);
    return 1;
}

/* Let the lease of a key that is not used rest: it needs no exchange until a call rings. If the store had a token in its
   *stock*, the call has that token first, but for a window. The store is known to be there until *horizon*. Tokens left in the purse are
   taken for spent. */
static inline void rs_draw_rest(rs_draw *draw, rs_word64 *horizon, int64_t stock)
{
    rs_leased *lease = draw->lease;
    rs_atomic_store(&lease->purse, 0);
    rs_atomic_store(&lease->low, 0);
    rs_atomic_store(&lease->credit, stock >= RS_TOKEN_MILLIONTHS && !draw->is_exact ? RS_TOKEN_MILLIONTHS : 0);
    rs_atomic_store(&lease->stock, (uint64_t)rs_later(stock, 0));
    rs_atomic_store(&lease->expires_ns, 1);
    draw->horizon = horizon;
}

/* Take out of the purse all but *keep* whole tokens at most, or those that calls wait for, which are about to take them.
   The rest is to be offered with a question. The credit ends: the store counts it no more when the question arrives. */
static inline rs_lease_found rs_draw_open(rs_draw *draw, int64_t now_ns, int64_t keep)
{
    rs_leased *lease = draw->lease;
    rs_lease_found found = {.is_void = rs_draw_is_void(draw, now_ns)};
    draw->horizon = NULL;
    rs_atomic_store(&lease->credit, 0);
    uint64_t seen = rs_atomic_load(&lease->purse);
    found.joined = rs_word_signed(&lease->joined);
    found.waiting = rs_leased_queued(lease);
    int64_t wanted = found.waiting < draw->burst ? found.waiting : draw->burst;
    if (wanted && (int64_t)seen >= wanted && rs_leased_unblock(lease, now_ns))
        found.waiting = wanted = 0;
    keep = rs_later(keep, wanted);
    do {
        int64_t most = found.is_void ? 0 : (int64_t)seen < keep ? (int64_t)seen : keep;
        found.kept = most > 0 ? most - most % RS_TOKEN_MILLIONTHS : 0;
    } while (!rs_atomic_swap(&lease->purse, &seen, (uint64_t)found.kept));
    found.purse = (int64_t)seen;
    found.left = found.purse - found.kept;
    if (found.is_void) { /* tokens left in a void purse are spent */
        found.left = found.left < 0 ? found.left : 0;
        found.owed = rs_draw_owes(draw, now_ns);
    }
    found.returned = (int64_t)rs_word_empty(&lease->returned);
    found.left += draw->is_exact ? 0 : found.returned;
    found.missed = (int64_t)rs_word_empty(&lease->missed);
    found.unasked = (int64_t)rs_word_empty(&lease->unasked);
    return found;
}

/* Put in what was granted. The terms first: the purse is spent by them. */
static inline void rs_draw_grant(rs_draw *draw, const rs_lease_terms *terms)
{
    rs_leased *lease = draw->lease;
    uint64_t ended = rs_atomic_load(&lease->expires_ns);
    if (ended > 1 && terms->now_ns >= (int64_t)ended) /* a call may have read its clock a little later */
        rs_atomic_store(&lease->back_ns, (uint64_t)(terms->now_ns + RS_LEASE_SOON_NS));
    rs_atomic_store(&lease->peers, terms->peers);
    const rs_tokens *tokens = rs_draw_tokens(draw);
    rs_atomic_store(&lease->own.taken, (uint64_t)(rs_tokens_in(tokens, terms->expires_ns) + tokens->burst));
    rs_atomic_store(&lease->asked_ns, (uint64_t)terms->asked_ns);
    rs_atomic_store(&lease->next_ns, (uint64_t)terms->next_ns);
    rs_atomic_store(&lease->income, (uint64_t)terms->income);
    rs_atomic_store(&lease->stock, (uint64_t)terms->stock);
    rs_atomic_store(&lease->low, (uint64_t)terms->low);
    rs_atomic_store(&lease->credit, (uint64_t)terms->credit);
    rs_atomic_store(&lease->expires_ns, (uint64_t)terms->expires_ns);
    rs_atomic_add(&lease->purse, (uint64_t)terms->grant);
}

/* The answer is lost. What was offered may have arrived, and is taken for spent; a debt may not have, and stays. No call
   expects tokens before *next_ns*. */
static inline void rs_draw_lose(rs_draw *draw, int64_t left, int64_t next_ns)
{
    rs_atomic_store(&draw->lease->next_ns, (uint64_t)next_ns);
    if (left < 0)
        rs_atomic_add(&draw->lease->purse, (uint64_t)left);
}
#endif
