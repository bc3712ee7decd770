/* An exact sliding window: at most `limit` tokens in any `period`, kept as a log of withdrawals.
 *
 * An entry leaves the window one period after it was made. A decision looks at the leaving entries and at a sum. The
 * time until a rejected cost fits is exact: it is when enough of the oldest entries have left.
 *
 * The log is a ring that grows on use, up to one entry for each whole token of the limit. Without room for
 * another entry (costs below one, debts, no memory) the entries of one grain are merged into one, dated as the
 * last of them. A grain is at most a 32nd of the period. Tokens then come back later than necessary, never
 * earlier. No Python.h; the owner locks.
 */
#ifndef RS_SLIDING_LOG_H
#define RS_SLIDING_LOG_H
#include <stdint.h>
#include <stdlib.h>

#define RS_LOG_FIRST_ROOM 4
#define RS_LOG_LEAST_MOST 64              /* entries, so that grains are fine where costs are below one */
#define RS_LOG_DEEPEST (INT64_C(1) << 61) /* a debt is never deeper */

typedef struct rs_log_entry {
    int64_t at_ns, amount;
} rs_log_entry;

typedef struct rs_log {
    int64_t limit, period_ns;
    int64_t used;                 /* sum of the entries */
    int64_t now_ns;               /* the latest time seen */
    int64_t held_ns;              /* nothing passes before this time */
    int64_t paced_ns, last_ns;    /* until paced_ns tokens pass at the rate, counted from the last one */
    uint32_t head, n, room, most; /* room: 0 or a power of two */
    rs_log_entry *entry;
} rs_log;

static inline rs_log_entry *rs_log_at(const rs_log *log, uint32_t i)
{
    return &log->entry[(log->head + i) & (log->room - 1)];
}

/* Set the limit; past withdrawals stay. *most*: entries. */
static inline void rs_log_set(rs_log *log, int64_t limit, int64_t period_ns, uint32_t most)
{
    log->limit = limit;
    log->period_ns = period_ns;
    log->most = most > RS_LOG_LEAST_MOST ? most : RS_LOG_LEAST_MOST;
}

/* An empty log, or NULL: no memory. */
static inline rs_log *rs_log_new(int64_t limit, int64_t period_ns, uint32_t most)
{
    rs_log *log = (rs_log *)calloc(1, sizeof(rs_log));
    if (log)
        rs_log_set(log, limit, period_ns, most);
    return log;
}

static inline void rs_log_free(rs_log *log)
{
    if (log)
        free(log->entry);
    free(log);
}

static inline int64_t rs_log_memory(const rs_log *log)
{
    return log ? (int64_t)(sizeof(rs_log) + log->room * sizeof(rs_log_entry)) : 0;
}

/* Move the clock on, and drop the entries that have left the window. */
static inline void rs_log_see(rs_log *log, int64_t now_ns)
{
    if (now_ns > log->now_ns)
        log->now_ns = now_ns;
    while (log->n && rs_log_at(log, 0)->at_ns <= log->now_ns - log->period_ns) {
        log->used -= rs_log_at(log, 0)->amount;
        log->head = (log->head + 1) & (log->room - 1);
        log->n--;
    }
}

static inline int64_t rs_log_available(rs_log *log, int64_t now_ns)
{
    rs_log_see(log, now_ns);
    int64_t left = log->limit - log->used;
    return left > 0 && log->held_ns > log->now_ns ? 0 : left;
}

/* The time at which *amount* may follow a withdrawal at *last_ns*: after a pause at the rate, otherwise at once. */
static inline int64_t rs_log_paced_at(const rs_log *log, int64_t last_ns, int64_t amount)
{
    return last_ns < log->paced_ns ? last_ns + (int64_t)((__int128)log->period_ns * amount / log->limit) : last_ns;
}

/* The time, on the log's clock, at which *amount* fits; an amount above the limit needs a period more. */
static inline int64_t rs_log_fits_at(rs_log *log, int64_t now_ns, int64_t amount)
{
    rs_log_see(log, now_ns);
    int64_t at = log->held_ns > log->now_ns ? log->held_ns : log->now_ns, used = log->used;
    for (uint32_t i = 0; i < log->n && used + amount > log->limit; i++) {
        const rs_log_entry *entry = rs_log_at(log, i);
        used -= entry->amount;
        at = entry->at_ns + log->period_ns > at ? entry->at_ns + log->period_ns : at;
    }
    return amount > log->limit ? at + log->period_ns : at;
}

/* Nanoseconds until *amount* fits. */
static inline int64_t rs_log_wait(rs_log *log, int64_t now_ns, int64_t amount)
{
    int64_t fits = rs_log_fits_at(log, now_ns, amount), paced = rs_log_paced_at(log, log->last_ns, amount);
    return (fits > paced ? fits : paced) - log->now_ns;
}

static inline int rs_log_grow(rs_log *log)
{
    uint32_t room = log->room ? 2 * log->room : RS_LOG_FIRST_ROOM;
    rs_log_entry *entry = log->room < log->most ? (rs_log_entry *)malloc(room * sizeof(rs_log_entry)) : NULL;
    if (entry == NULL)
        return 0;
    for (uint32_t i = 0; i < log->n; i++)
        entry[i] = *rs_log_at(log, i);
    free(log->entry);
    log->entry = entry;
    log->head = 0;
    log->room = room;
    return 1;
}

/* Merge entries to make room. Grains stay fixed, so an entry never moves by more than one,
   however often it is merged. */
static inline void rs_log_compact(rs_log *log)
{
    int64_t grain = log->period_ns / (log->room / 2) + 1;
    uint32_t n = 0;
    for (uint32_t i = 0; i < log->n; i++) {
        const rs_log_entry entry = *rs_log_at(log, i);
        if (n && rs_log_at(log, n - 1)->at_ns / grain == entry.at_ns / grain)
            rs_log_at(log, n - 1)->amount += entry.amount;
        else
            rs_log_at(log, n++)->amount = entry.amount;
        rs_log_at(log, n - 1)->at_ns = entry.at_ns;
    }
    log->n = n;
}

/* Begin an entry, if there is memory for one. */
static inline void rs_log_begin(rs_log *log)
{
    if (log->n == log->room && !rs_log_grow(log) && log->n)
        rs_log_compact(log);
    if (log->n < log->room)
        *rs_log_at(log, log->n++) = (rs_log_entry){log->now_ns, 0};
}

/* Take *amount* whether it fits or not: beyond the limit it is a debt. */
static inline void rs_log_debit(rs_log *log, int64_t now_ns, int64_t amount)
{
    rs_log_see(log, now_ns);
    amount = amount < RS_LOG_DEEPEST - log->used ? amount : RS_LOG_DEEPEST - log->used;
    if (amount <= 0)
        return;
    if (log->n == 0 || rs_log_at(log, log->n - 1)->at_ns != log->now_ns)
        rs_log_begin(log);
    if (log->n == 0) { /* no memory at all: nothing passes for a period */
        log->held_ns = log->now_ns + log->period_ns;
        return;
    }
    rs_log_entry *newest = rs_log_at(log, log->n - 1);
    newest->at_ns = log->now_ns;
    newest->amount += amount;
    log->used += amount;
}

/* Take *amount* if it fits: 1, or 0 and nothing changes. */
static inline int rs_log_take(rs_log *log, int64_t now_ns, int64_t amount)
{
    rs_log_see(log, now_ns);
    if (log->used + amount > log->limit || log->held_ns > log->now_ns
        || rs_log_paced_at(log, log->last_ns, amount) > log->now_ns)
        return 0;
    if (amount > 0 && log->last_ns < log->paced_ns) /* a withdrawal of nothing delays nothing */
        log->last_ns = log->now_ns;
    rs_log_debit(log, now_ns, amount);
    return 1;
}

/* Lower an entry by up to *amount*, and drop it if it becomes 0. Return the rest of *amount*. */
static inline int64_t rs_log_lower(rs_log *log, uint32_t at, int64_t amount)
{
    rs_log_entry *entry = rs_log_at(log, at);
    int64_t part = amount < entry->amount ? amount : entry->amount;
    entry->amount -= part;
    log->used -= part;
    if (entry->amount == 0) {
        log->n--;
        for (uint32_t i = at; i < log->n; i++)
            *rs_log_at(log, i) = *rs_log_at(log, i + 1);
    }
    return amount - part;
}

/* Return *amount*, withdrawn at *taken_ns*. An entry that has left the window needs no return. If the entry is not
 * found, the oldest ones are lowered: the log's entries are then never older than the withdrawals that they stand
 * for. */
static inline void rs_log_give_back(rs_log *log, int64_t taken_ns, int64_t amount)
{
    if (taken_ns <= log->now_ns - log->period_ns)
        return;
    for (uint32_t i = log->n; amount > 0 && i > 0; i--)
        if (rs_log_at(log, i - 1)->at_ns == taken_ns)
            amount = rs_log_lower(log, i - 1, amount);
    while (amount > 0 && log->n)
        amount = rs_log_lower(log, 0, amount);
}

/* Forget all withdrawals. */
static inline void rs_log_clear(rs_log *log)
{
    log->n = 0;
    log->used = log->held_ns = log->paced_ns = log->last_ns = 0;
}

/* Let nothing pass before *until_ns*, and then only the rate for a period: a server that asks for a pause is
   not hit by all callers at once. */
static inline void rs_log_hold(rs_log *log, int64_t until_ns)
{
    if (until_ns <= log->held_ns)
        return;
    log->held_ns = log->last_ns = until_ns;
    log->paced_ns = until_ns + log->period_ns;
}
#endif
