/* The cell of an adaptive limit that the workers of a host have together: one learns, all obey.
 *
 *   rules       the options that all must agree on
 *   inflight    calls that hold a permit; only the law reads it
 *   rings       what each worker's calls have shown (ring.h)
 *   learned     the state of the law (learned.h)
 *   permits     with the learned limit (permits.h)
 *
 * The law itself is no part of this: host_law.h has the turn of a worker that learns.
 */
#ifndef RS_SHARED_ADAPTIVE_H
#define RS_SHARED_ADAPTIVE_H
#include "learned.h"
#include "permits.h"
#include "ring.h"

#define RS_LAW_ROOM 127u                 /* words of the law's state, at most */
#define RS_RECOUNT_NS INT64_C(100000000) /* the count of calls in flight is corrected so often */

/* What all workers must agree on: the options of the policy. */
typedef struct rs_rules {
    uint32_t kind, start, floor, ceiling; /* each below 2^20 */
} rs_rules;

typedef struct rs_host_law {
    _Alignas(RS_LINE) rs_word64 rules; /* start 20 | floor 20 | ceiling 20 | kind 4; 0: not set */
    rs_word64 resets;
    rs_word64 mean_ns; /* the law's, of latencies */
    /* Calls that hold a permit. The death of a worker makes it wrong until it is counted. */
    _Alignas(RS_LINE) rs_word64 inflight;
    rs_word64 counted_ns;
    rs_ring ring[RS_WORKERS];
    rs_learned learned; /* with RS_LAW_ROOM words; the permits follow */
} rs_host_law;

static inline rs_permits *rs_host_law_permits(rs_host_law *host)
{
    return (rs_permits *)((char *)&host->learned + rs_learned_size(RS_LAW_ROOM));
}

static inline size_t rs_host_law_size(uint32_t room)
{
    return offsetof(rs_host_law, learned) + rs_learned_size(RS_LAW_ROOM) + rs_permits_size(room);
}

static inline uint64_t rs_rules_word(rs_rules rules)
{
    return rules.start | (uint64_t)rules.floor << 20 | (uint64_t)rules.ceiling << 40 | (uint64_t)rules.kind << 60;
}

static inline rs_rules rs_rules_of(uint64_t word)
{
    uint32_t most = (1u << 20) - 1;
    return (rs_rules){(uint32_t)(word >> 60), (uint32_t)word & most, (uint32_t)(word >> 20) & most,
                      (uint32_t)(word >> 40) & most};
}

/* Set the rules and the limit of a new one. */
static inline void rs_host_law_init(rs_host_law *host, rs_rules rules)
{
    uint64_t unset = 0;
    uint32_t limit = rules.start > rules.ceiling ? rules.ceiling : rules.start;
    (void)rs_atomic_swap(&host->rules, &unset, rs_rules_word(rules));
    rs_permits_begin(rs_host_law_permits(host), limit < rules.floor ? rules.floor : limit);
}

/* Change the options; the next turn obeys. */
static inline void rs_host_law_set_rules(rs_host_law *host, rs_rules rules)
{
    rs_atomic_store(&host->rules, rs_rules_word(rules));
}

/* Forget what was learned at the next turn. Calls that began before teach nothing. */
static inline void rs_host_law_reset(rs_host_law *host) { (void)rs_atomic_add(&host->resets, 1); }

/* Calls of all workers that hold no permit. */
static inline int64_t rs_host_law_passing(rs_host_law *host, const rs_member *member)
{
    int64_t passing = 0;
    for (uint64_t left = rs_atomic_load(&member->roll->living); left; left &= left - 1)
        passing += rs_atomic_load(&host->ring[__builtin_ctzll(left)].passing);
    return passing;
}

static inline void rs_host_law_set_passing(rs_host_law *host, uint32_t owner, uint32_t passing)
{
    rs_atomic_store(&host->ring[rs_owner_slot(owner) % RS_WORKERS].passing, passing);
}

static inline int64_t rs_host_law_inflight(rs_host_law *host) { return (int64_t)rs_atomic_load(&host->inflight); }
static inline int64_t rs_host_law_enter(rs_host_law *host) { return (int64_t)rs_atomic_add(&host->inflight, 1) + 1; }
static inline int64_t rs_host_law_leave(rs_host_law *host) { return (int64_t)rs_atomic_sub(&host->inflight, 1); }

/* Correct the count by the permits that are held, of which calls that have ended still have *over*. It is wrong for a
   moment if calls of other workers begin or end meanwhile. */
static inline void rs_host_law_count(rs_host_law *host, uint64_t over, int64_t now_ns)
{
    uint64_t counted_ns = rs_atomic_load(&host->counted_ns), before = rs_atomic_load(&host->inflight);
    if (now_ns - (int64_t)counted_ns < RS_RECOUNT_NS)
        return;
    rs_atomic_store(&host->counted_ns, (uint64_t)now_ns);
    uint64_t held = rs_permits_used(rs_host_law_permits(host));
    held -= over < held ? over : held;
    if (held != before)
        (void)rs_atomic_swap(&host->inflight, &before, held);
}

/* Free what the worker in *slot* held. It is dead: the caller has the lock of its slot. */
static inline void rs_shared_adaptive_reap(rs_host_law *host, size_t size, uint32_t slot)
{
    size_t head = rs_host_law_size(0) - sizeof(rs_permits);
    rs_atomic_store(&host->ring[slot].passing, 0);
    rs_learned_reap(&host->learned, slot);
    if (size > head)
        rs_shared_permits_reap(rs_host_law_permits(host), size - head, slot);
}
#endif
