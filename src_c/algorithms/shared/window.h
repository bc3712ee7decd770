/* An exact sliding window that several processes share: at most `limit` calls in any `period`.
 *
 * There is one entry for each call of the limit: the time at which it was last taken. To take one is one
 * compare-and-swap, from a time that has left the window to now. So no order of steps and no death can admit a call too
 * many:
 *
 * W1  Each entry is taken at most once in any period, and there are `limit` of them.
 * W2  A call is rejected only while no entry has lapsed, or another call takes the one that has.
 * W3  A worker that dies has taken what it has taken, for one period.
 *
 * Entries are taken in the order of a ring, so the oldest is the next. `head` counts the calls taken in that order. It
 * is moved by the call, or by the next one for it, from one value to the next: it is never more than one behind. A call
 * given back leaves a hole in the order: from then on, until the ring is found in order again, a call that finds no
 * entry at the head looks at all of them. No Python.h.
 */
#ifndef RS_SHARED_WINDOW_H
#define RS_SHARED_WINDOW_H
#include "member.h"

/* In shared memory. */
typedef struct rs_shared_window {
    _Alignas(RS_LINE) rs_word64 head;
    rs_word64 holes;                     /* entries that were given back since the ring was in order */
    rs_word64 last;                      /* after a pause: when the latest call was taken */
    _Alignas(RS_LINE) rs_word64 entry[]; /* when it was taken, + 1 ns; 0: never, or given back */
} rs_shared_window;

/* In the memory of one process. */
typedef struct rs_window_rule {
    int64_t period_ns;
    uint32_t limit; /* entries */
} rs_window_rule;

static inline size_t rs_shared_window_size(uint32_t limit)
{
    size_t size = sizeof(rs_shared_window) + limit * sizeof(rs_word64);
    return (size + RS_LINE - 1) & ~(size_t)(RS_LINE - 1);
}

static inline int rs_window_lapsed(const rs_window_rule *rule, uint64_t entry, int64_t now_ns)
{
    return entry == 0 || (int64_t)entry - 1 + rule->period_ns <= now_ns;
}

/* Take the entry at *at*, which held *seen*: 1, or 0 if another call was quicker. The time stored is not below that of
   the entry before, so that the ring is in order though two clocks differ. */
static inline int rs_window_claim(rs_shared_window *window, const rs_window_rule *rule, uint32_t at, uint64_t *seen,
                                  int64_t now_ns)
{
    uint64_t before = rs_atomic_load(&window->entry[(at ? at : rule->limit) - 1]), now = (uint64_t)now_ns + 1;
    return rs_atomic_swap(&window->entry[at], seen, before > now ? before : now);
}

/* The entry that is next by the order of the ring, and its value; *head* is moved on for calls that have not done so. */
static inline uint32_t rs_window_oldest(rs_shared_window *window, const rs_window_rule *rule, uint64_t *head,
                                        uint64_t *seen)
{
    *head = rs_atomic_load(&window->head);
    *seen = rs_atomic_load(&window->entry[*head % rule->limit]);
    for (uint32_t steps = 0; steps < rule->limit; steps++) {
        uint64_t next = rs_atomic_load(&window->entry[(*head + 1) % rule->limit]);
        if (next >= *seen)
            break;
        uint64_t before = *head;
        *head = rs_atomic_swap(&window->head, &before, *head + 1) ? *head + 1 : before;
        *seen = rs_atomic_load(&window->entry[*head % rule->limit]);
    }
    return (uint32_t)(*head % rule->limit);
}

/* Look at all entries: take one that has lapsed, 1; or 0. The search ends when the ring is in order. */
static __attribute__((noinline)) int rs_window_search(rs_shared_window *window, const rs_window_rule *rule,
                                                      uint64_t holes, int64_t now_ns)
{
    uint32_t descents = 0;
    uint64_t last = rs_atomic_load(&window->entry[rule->limit - 1]);
    for (uint32_t i = 0; i < rule->limit; i++) {
        uint64_t seen = rs_atomic_load(&window->entry[i]);
        descents += seen < last;
        last = seen;
        if (rs_window_lapsed(rule, seen, now_ns) && rs_window_claim(window, rule, i, &seen, now_ns))
            return 1;
    }
    if (descents <= 1)
        rs_atomic_swap(&window->holes, &holes, 0);
    return 0;
}

static inline int rs_window_take_one(rs_shared_window *window, const rs_window_rule *rule, int64_t now_ns)
{
    uint64_t head, seen;
    for (;;) {
        uint32_t at = rs_window_oldest(window, rule, &head, &seen);
        if (!rs_window_lapsed(rule, seen, now_ns)) {
            uint64_t holes = rs_atomic_load(&window->holes);
            return holes ? rs_window_search(window, rule, holes, now_ns) : 0;
        }
        if (rs_window_claim(window, rule, at, &seen, now_ns)) {
            rs_atomic_swap(&window->head, &head, head + 1);
            return 1;
        }
    }
}

/* Give back *n* calls that were taken at *taken_ns*; what has left the window needs no return. */
static inline void rs_window_give_back(rs_shared_window *window, const rs_window_rule *rule, int64_t taken_ns,
                                       int64_t n)
{
    uint64_t head = rs_atomic_load(&window->head);
    for (uint32_t i = 0; n > 0 && i <= rule->limit; i++) {
        uint32_t at = (uint32_t)((head + rule->limit - i) % rule->limit);
        uint64_t seen = rs_atomic_load(&window->entry[at]);
        if (seen == (uint64_t)taken_ns + 1 && rs_atomic_swap(&window->entry[at], &seen, 0)) {
            rs_atomic_add(&window->holes, 1);
            n--;
        }
    }
}

/* Take *n* calls: 1, or 0 with nothing taken. */
static inline int rs_window_take(rs_shared_window *window, const rs_window_rule *rule, int64_t now_ns, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (!rs_window_take_one(window, rule, now_ns)) {
            rs_window_give_back(window, rule, now_ns, i);
            return 0;
        }
    return 1;
}

/* Take *n* calls whether they fit or not: the oldest ones stay in the window as if they had been made now. */
static inline void rs_window_debit(rs_shared_window *window, const rs_window_rule *rule, int64_t now_ns, int64_t n)
{
    uint64_t head, seen;
    for (int64_t i = 0; i < n && i < rule->limit;)
        if (rs_window_take_one(window, rule, now_ns))
            i++;
        else {
            uint32_t at = rs_window_oldest(window, rule, &head, &seen);
            if (rs_window_claim(window, rule, at, &seen, now_ns)) {
                rs_atomic_swap(&window->head, &head, head + 1);
                i++;
            }
        }
}

static inline void rs_window_clear(rs_shared_window *window, const rs_window_rule *rule)
{
    for (uint32_t i = 0; i < rule->limit; i++)
        rs_atomic_store(&window->entry[i], 0);
    rs_atomic_store(&window->last, 0);
}

/* The calls that fit now. */
static inline int64_t rs_window_available(rs_shared_window *window, const rs_window_rule *rule, int64_t now_ns)
{
    int64_t free = 0;
    int ordered = rs_atomic_load(&window->holes) == 0;
    uint64_t head, seen;
    uint32_t at = rs_window_oldest(window, rule, &head, &seen);
    for (uint32_t i = 0; i < rule->limit; i++) {
        int lapsed = rs_window_lapsed(rule, rs_atomic_load(&window->entry[(at + i) % rule->limit]), now_ns);
        if (!lapsed && ordered)
            break;
        free += lapsed;
    }
    return free;
}

/* The time of the oldest entry above *least*, and how many have it; UINT64_MAX: there is none. */
static inline uint64_t rs_window_above(rs_shared_window *window, const rs_window_rule *rule, uint64_t least,
                                       uint32_t *many)
{
    uint64_t found = UINT64_MAX;
    for (uint32_t i = 0; i < rule->limit; i++) {
        uint64_t seen = rs_atomic_load(&window->entry[i]);
        if (seen >= least && seen <= found) {
            *many = seen < found ? 1 : *many + 1;
            found = seen;
        }
    }
    return found;
}

/* When *n* calls will fit, if no other is made: when the nth oldest entry has left. More than the limit: a period
   later for each limit. */
static inline int64_t rs_window_fits_at(rs_shared_window *window, const rs_window_rule *rule, int64_t n)
{
    int64_t later_ns = n > 0 ? (n - 1) / rule->limit * rule->period_ns : 0;
    uint64_t head, seen;
    uint32_t many = 0, at = rs_window_oldest(window, rule, &head, &seen);
    if (n <= 0)
        return 0;
    n = (n - 1) % rule->limit + 1;
    if (rs_atomic_load(&window->holes) == 0)
        seen = rs_atomic_load(&window->entry[(at + (uint64_t)n - 1) % rule->limit]);
    else
        for (seen = 0; n > 0 && (seen = rs_window_above(window, rule, seen, &many)) != UINT64_MAX; seen++)
            if ((n -= many) <= 0)
                break;
    return (seen && seen != UINT64_MAX ? (int64_t)seen - 1 + rule->period_ns : 0) + later_ns;
}

/* ---- after a pause: one by one ----------------------------------------------------------------------------------- */

/* When *n* calls may follow the latest one. For one period after a pause that ended at *paused_ns* calls pass at the
   rate: a server that asks for a pause is not hit by all callers at once. 0: no pause. */
static inline int64_t rs_window_paced_at(rs_shared_window *window, const rs_window_rule *rule, int64_t paused_ns,
                                         int64_t now_ns, int64_t n)
{
    if (paused_ns == 0 || now_ns >= paused_ns + rule->period_ns)
        return 0;
    int64_t last_ns = (int64_t)rs_atomic_load(&window->last);
    return (last_ns > paused_ns ? last_ns : paused_ns) + (int64_t)((__int128)rule->period_ns * n / rule->limit);
}

/* The same as rs_window_take after a pause that ended at *paused_ns*. */
static inline int rs_window_take_paced(rs_shared_window *window, const rs_window_rule *rule, int64_t paused_ns,
                                       int64_t now_ns, int64_t n)
{
    uint64_t last = rs_atomic_load(&window->last), mine = (uint64_t)now_ns;
    if (rs_window_paced_at(window, rule, paused_ns, now_ns, n) > now_ns || n == 0)
        return n == 0;
    if (paused_ns == 0 || now_ns >= paused_ns + rule->period_ns)
        return rs_window_take(window, rule, now_ns, n);
    if (!rs_atomic_swap(&window->last, &last, mine))
        return 0; /* another call has passed just now */
    if (rs_window_take(window, rule, now_ns, n))
        return 1;
    rs_atomic_swap(&window->last, &mine, last);
    return 0;
}
#endif
