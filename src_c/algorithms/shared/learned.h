/* What the workers of a host learn together: some words of memory, brought up to date by one of them at a time.
 *
 * This is no lock. A worker that finds another's turn goes on with its own work, and what it had to add is in its ring
 * for the next turn. There are two copies. A turn reads one, writes the other, and ends with one swap that makes it the
 * current one: a worker that dies anywhere leaves the current copy as it is, and its turn is given back when it is
 * reaped.
 *
 * A worker that was stopped in its turn loses it after a second. If it goes on later it may write over a copy that has
 * become current meanwhile. Each copy therefore has a check sum: a copy that two workers have written is no copy.
 *
 * Memory of zeroes has no valid copy.
 */
#ifndef RS_SHARED_LEARNED_H
#define RS_SHARED_LEARNED_H
#include "member.h"

#define RS_TURN_TICK_BITS 20 /* a tick is 2^20 ns */
#define RS_TURN_TICKS 1000   /* after which a turn is over */

typedef struct rs_learned {
    _Alignas(RS_LINE) rs_word64 turn;   /* owner word 32 | when it began, in ticks 16 | number of the turn 16 */
    rs_word64 done_ns;                  /* when a turn ended last, since the region's epoch */
    _Alignas(RS_LINE) rs_word64 word[]; /* two copies: the check sum, the words */
} rs_learned;

static inline size_t rs_learned_size(uint32_t words)
{
    size_t bytes = sizeof(rs_learned) + 2 * (words + 1) * sizeof(uint64_t);
    return (bytes + RS_LINE - 1) / RS_LINE * RS_LINE;
}

/* The copy that turn number *number* reads; it writes that of the next number. */
static inline rs_word64 *rs_learned_copy(rs_learned *learned, uint32_t words, uint64_t number)
{
    return &learned->word[(number & 1) * (words + 1)];
}

static inline uint64_t rs_learned_sum(uint64_t sum, uint64_t word)
{
    sum = (sum ^ word) * UINT64_C(0x9E3779B97F4A7C15);
    return sum ^ sum >> 29;
}

/* Take the turn at *now_ns* since the epoch; *mine*: the turn. 0: another worker has it. */
static inline int rs_learned_begin(rs_learned *learned, uint32_t owner, int64_t now_ns, uint64_t *mine)
{
    uint64_t seen = rs_atomic_load(&learned->turn), tick = (uint64_t)(now_ns >> RS_TURN_TICK_BITS) & UINT16_MAX;
    uint16_t lasts = (uint16_t)(tick - (seen >> 16 & UINT16_MAX));
    if (seen >> 32 != 0 && (lasts <= RS_TURN_TICKS || lasts > UINT16_MAX / 2))
        return 0;
    *mine = (uint64_t)owner << 32 | tick << 16 | (seen & UINT16_MAX);
    return rs_atomic_swap(&learned->turn, &seen, *mine);
}

/* Read the copy that is current in turn *turn*. 0: there is no valid one. */
static inline int rs_learned_read(rs_learned *learned, uint32_t words, uint64_t turn, uint64_t *into)
{
    rs_word64 *copy = rs_learned_copy(learned, words, turn);
    uint64_t check = rs_atomic_load(&copy[0]), sum = 1;
    for (uint32_t i = 0; i < words; i++)
        sum = rs_learned_sum(sum, into[i] = rs_atomic_load(&copy[i + 1]));
    return sum == check;
}

/* The same for a worker that has no turn. */
static inline int rs_learned_look(rs_learned *learned, uint32_t words, uint64_t *into)
{
    return rs_learned_read(learned, words, rs_atomic_load(&learned->turn), into);
}

/* 1 as long as the turn has not been taken over. */
static inline int rs_learned_has(rs_learned *learned, uint64_t mine) { return rs_atomic_load(&learned->turn) == mine; }

/* End the turn with these words. 0: it was taken over, and changes nothing. */
static inline int rs_learned_end(rs_learned *learned, uint32_t words, uint64_t mine, const uint64_t *from,
                                 int64_t now_ns)
{
    rs_word64 *copy = rs_learned_copy(learned, words, mine + 1);
    uint64_t sum = 1, seen = mine;
    if (!rs_learned_has(learned, mine))
        return 0;
    for (uint32_t i = 0; i < words; i++) {
        sum = rs_learned_sum(sum, from[i]);
        rs_atomic_store(&copy[i + 1], from[i]);
    }
    rs_atomic_store(&copy[0], sum);
    if (!rs_atomic_swap(&learned->turn, &seen, (mine + 1) & UINT16_MAX))
        return 0;
    rs_atomic_store(&learned->done_ns, (uint64_t)now_ns);
    return 1;
}

/* Give back the turn of the worker in *slot*, which is dead: the caller has the lock of its slot. */
static inline void rs_learned_reap(rs_learned *learned, uint32_t slot)
{
    uint64_t turn = rs_atomic_load(&learned->turn);
    if (turn >> 32 != 0 && rs_owner_slot((uint32_t)(turn >> 32)) == slot)
        (void)rs_atomic_swap(&learned->turn, &turn, turn & UINT16_MAX);
}
#endif
