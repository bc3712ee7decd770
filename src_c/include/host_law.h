/* An adaptive limit that the workers of a host have together: one learns, all obey.
 *
 * Each worker writes how its calls ended into a ring of its own. A call that ends takes the turn to learn if its ring
 * has filled a little, or if no turn was for a millisecond: it feeds the samples of all rings to the law, in the order
 * of time, and publishes the limit. So there are samples only where there is a worker to learn from them. A thread
 * would need the same turns, would come 10 ms later and compete with the calls for a processor; a worker that had the
 * role for long would be missed while it is stopped, idle, or blocked by other work.
 *
 * The law is the one of laws.h, in memory of the region: it outlives the worker that learned last. If there is no valid
 * copy, an empty law begins at the published limit.
 */
#ifndef RS_HOST_LAW_H
#define RS_HOST_LAW_H
#include "laws.h"
#include "shared/adaptive.h"

#define RS_TURN_EVERY_NS INT64_C(1000000)
#define RS_TURN_SAMPLES 8u /* in this worker's ring */
#define RS_TURN_MOST 256u  /* samples of one turn */

/* The law and the number of resets that it has seen. */
typedef union rs_law_words {
    struct {
        rs_law law;
        uint64_t resets;
    };
    uint64_t word[sizeof(rs_law) / sizeof(uint64_t) + 1];
} rs_law_words;

#define RS_LAW_WORDS ((uint32_t)(sizeof(rs_law_words) / sizeof(uint64_t)))
_Static_assert(sizeof(rs_law_words) == sizeof(rs_law) + sizeof(uint64_t), "a law is whole words");
_Static_assert(sizeof(rs_law_words) / sizeof(uint64_t) <= RS_LAW_ROOM, "the law needs more room in the cell");

/* Make the law obey the rules; *valid*: it has learned something. */
static inline void rs_host_law_obey(rs_host_law *host, rs_law_words *words, int valid)
{
    rs_rules rules = rs_rules_of(rs_atomic_load(&host->rules));
    uint64_t resets = rs_atomic_load(&host->resets);
    uint32_t limit = rs_permits_bounds(rs_host_law_permits(host)).limit;
    if (!valid)
        words->resets = resets;
    if (!valid || words->law.kind != rules.kind)
        rs_law_init(&words->law, (int)rules.kind, valid ? words->law.learned : limit, rules.floor, rules.ceiling);
    words->law.start = rules.start;
    if (words->law.floor != rules.floor || words->law.ceiling != rules.ceiling)
        rs_law_bound(&words->law, rules.floor, rules.ceiling);
    if (words->resets != resets)
        rs_law_reset(&words->law);
    words->resets = resets;
}

typedef struct rs_unread {
    rs_ring *ring;
    uint32_t from, at, to;
    rs_sample next;
} rs_unread;

/* The rings of living workers that have samples. */
static inline int rs_host_law_unread(rs_host_law *host, const rs_member *member, rs_unread *unread)
{
    int n = 0;
    for (uint64_t left = rs_atomic_load(&member->roll->living); left; left &= left - 1) {
        rs_ring *ring = &host->ring[__builtin_ctzll(left)];
        uint32_t from = rs_atomic_load(&ring->read), to = rs_atomic_load(&ring->written);
        if (to - from - 1 < RS_RING) /* neither empty nor, after an overtaken reader, beyond its end */
            unread[n++] = (rs_unread){ring, from, from, to, rs_ring_at(ring, from)};
    }
    return n;
}

/* Feed the samples of all rings to the law, the earliest first. */
static inline void rs_host_law_feed(rs_law *law, rs_unread *unread, int n)
{
    for (uint32_t fed = 0; fed < RS_TURN_MOST; fed++) {
        rs_unread *first = NULL;
        for (int i = 0; i < n; i++)
            if (unread[i].at != unread[i].to && (!first || unread[i].next.end_ns < first->next.end_ns))
                first = &unread[i];
        if (first == NULL)
            return;
        rs_sample *sample = &first->next;
        rs_law_learn(law, sample->latency_ns, sample->inflight, sample->present, sample->dropped, sample->end_ns);
        if (++first->at != first->to)
            first->next = rs_ring_at(first->ring, first->at);
    }
}

/* Read what has been learned. 0: nothing valid. */
static inline int rs_host_law_look(rs_host_law *host, rs_law_words *words)
{
    return rs_learned_look(&host->learned, RS_LAW_WORDS, words->word);
}

/* Write a sample of this worker. */
static inline void rs_host_law_note(rs_host_law *host, const rs_member *member, uint32_t owner, const rs_sample *sample)
{
    rs_sample since = *sample;
    since.end_ns -= member->epoch_ns;
    (void)rs_ring_write(&host->ring[rs_owner_slot(owner) % RS_WORKERS], &since);
}

/* Learn from all samples, unless another worker does, and publish the limit; *words*: the law afterwards, *turn*: the
   word of the turns then. 1: done. *over*: permits that this worker is about to give back. */
static RS_SLOW int rs_host_law_turn(rs_host_law *host, const rs_member *member, uint32_t owner, uint64_t over,
                                    int64_t now_ns, rs_law_words *words, uint64_t *turn)
{
    rs_unread unread[RS_WORKERS];
    uint64_t mine;
    now_ns -= member->epoch_ns;
    if (!rs_learned_begin(&host->learned, owner, now_ns, &mine))
        return 0;
    rs_host_law_obey(host, words, rs_learned_read(&host->learned, RS_LAW_WORDS, mine, words->word));
    int n = rs_host_law_unread(host, member, unread);
    rs_host_law_feed(&words->law, unread, n);
    if (!rs_learned_has(&host->learned, mine))
        return 0;
    for (int i = 0; i < n; i++)
        rs_ring_read(unread[i].ring, unread[i].from, unread[i].at);
    rs_host_law_count(host, over, now_ns);
    rs_permits_set_limit(rs_host_law_permits(host), (uint32_t)rs_law_max(words->law.limit, 1));
    rs_atomic_store(&host->mean_ns, (uint64_t)words->law.mean);
    *turn = (mine + 1) & UINT16_MAX;
    return rs_learned_end(&host->learned, RS_LAW_WORDS, mine, words->word, now_ns);
}

/* 1 if it is time for a turn. A worker that is alone takes one at each sample, until its copy is ahead (host_ahead.h). */
static inline int rs_host_law_is_due(rs_host_law *host, const rs_member *member, uint32_t owner, int64_t now_ns)
{
    int64_t since_ns = now_ns - member->epoch_ns - (int64_t)rs_atomic_load(&host->learned.done_ns);
    return since_ns >= RS_TURN_EVERY_NS || rs_member_is_alone(member)
           || rs_ring_waiting(&host->ring[rs_owner_slot(owner) % RS_WORKERS]) >= RS_TURN_SAMPLES;
}
#endif
