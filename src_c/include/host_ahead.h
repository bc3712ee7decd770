/* A worker that is alone in its host learns at each sample, as without a host, and publishes what it learned now and then.
 *
 * Its own copy of the law is then *ahead* of the published one by the samples in its ring: it has learned from them, and
 * leaves them there. So a kill loses nothing, as the next turn of any worker learns from the ring what was not published;
 * and a worker that comes meanwhile takes a turn as if the first had only written samples. A copy is ahead as long as
 * the words that it was made from have not changed: the number of the turn, the ring, the options and the resets.
 */
#ifndef RS_HOST_AHEAD_H
#define RS_HOST_AHEAD_H
#include "host_law.h"

#define RS_AHEAD_SAMPLES (RS_RING / 2) /* at most in the ring before they are published */

typedef struct rs_ahead {
    uint32_t owner;    /* of the ring; 0: no copy is ahead */
    uint32_t from, to; /* samples of the ring that are learned and not published */
    uint64_t turn, rules, resets;
} rs_ahead;

static inline rs_ring *rs_host_law_ring(rs_host_law *host, uint32_t owner)
{
    return &host->ring[rs_owner_slot(owner) % RS_WORKERS];
}

/* 1 if no other worker lives, and the worker's copy of the law is the published one and the samples in its ring. */
static inline int rs_host_law_is_ahead(rs_host_law *host, const rs_member *member, uint32_t owner,
                                       const rs_ahead *ahead)
{
    if (ahead->owner == 0 || ahead->owner != owner)
        return 0;
    rs_ring *ring = rs_host_law_ring(host, owner);
    return rs_member_is_alone(member) && rs_atomic_load(&host->learned.turn) == ahead->turn
           && rs_atomic_load(&ring->read) == ahead->from && rs_atomic_load(&ring->written) == ahead->to
           && rs_atomic_load(&host->rules) == ahead->rules && rs_atomic_load(&host->resets) == ahead->resets;
}

/* Take a turn as rs_host_law_turn does; *words* is then ahead, if no samples of this worker are left. */
static RS_SLOW int rs_host_law_catch_up(rs_host_law *host, const rs_member *member, uint32_t owner, uint64_t over,
                                        int64_t now_ns, rs_law_words *words, rs_ahead *ahead)
{
    rs_ring *ring = rs_host_law_ring(host, owner);
    rs_ahead next = {.owner = owner, .rules = rs_atomic_load(&host->rules)};
    ahead->owner = 0;
    if (!rs_host_law_turn(host, member, owner, over, now_ns, words, &next.turn))
        return 0;
    next.resets = words->resets;
    next.from = rs_atomic_load(&ring->read);
    next.to = rs_atomic_load(&ring->written);
    if (next.from == next.to)
        *ahead = next;
    return 1;
}

/* Publish the law of a worker that is ahead. */
static RS_SLOW void rs_host_law_publish(rs_host_law *host, uint32_t owner, rs_ahead *ahead, const rs_law *law,
                                        int64_t now_ns)
{
    rs_law_words words;
    uint64_t mine;
    ahead->owner = 0;
    if (!rs_learned_begin(&host->learned, owner, now_ns, &mine))
        return;
    if ((mine & UINT16_MAX) != ahead->turn) { /* another worker has had a turn meanwhile */
        rs_learned_reap(&host->learned, rs_owner_slot(owner));
        return;
    }
    words.law = *law;
    words.resets = ahead->resets;
    rs_ring_read(rs_host_law_ring(host, owner), ahead->from, ahead->to);
    rs_atomic_store(&host->mean_ns, (uint64_t)law->mean);
    if (!rs_learned_end(&host->learned, RS_LAW_WORDS, mine, words.word, now_ns))
        return;
    ahead->turn = (mine + 1) & UINT16_MAX;
    ahead->from = ahead->to;
    ahead->owner = owner;
}

/* Publish the learned state before options or resets change: earlier samples are not learned anew after them. */
static inline void rs_host_law_settle(rs_host_law *host, const rs_member *member, uint32_t owner, rs_ahead *ahead,
                                      const rs_law *law, int64_t now_ns)
{
    if (rs_host_law_is_ahead(host, member, owner, ahead))
        rs_host_law_publish(host, owner, ahead, law, now_ns - member->epoch_ns);
    ahead->owner = 0;
}

/* Learn from a sample that has just ended, in *law*, which is ahead. 0: it is not, or its ring is full. */
static inline int rs_host_law_learn_ahead(rs_host_law *host, const rs_member *member, uint32_t owner, rs_ahead *ahead,
                                          rs_law *law, const rs_sample *sample)
{
    rs_sample since = *sample;
    since.end_ns -= member->epoch_ns;
    if (!rs_host_law_is_ahead(host, member, owner, ahead) || !rs_ring_write(rs_host_law_ring(host, owner), &since))
        return 0;
    ahead->to++;
    rs_law_learn(law, since.latency_ns, since.inflight, since.present, since.dropped, since.end_ns);
    rs_permits_set_limit(rs_host_law_permits(host), (uint32_t)rs_law_max(law->limit, 1));
    if (ahead->to - ahead->from >= RS_AHEAD_SAMPLES
        || since.end_ns - (int64_t)rs_atomic_load(&host->learned.done_ns) >= RS_TURN_EVERY_NS)
        rs_host_law_publish(host, owner, ahead, law, since.end_ns);
    return 1;
}
#endif
