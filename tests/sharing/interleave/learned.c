/* What workers learn together: no turn is lost or done twice, and no copy is read that two workers have written.
 *
 * mutant: swap
 * mutant: shared/learned.h: if (!rs_atomic_swap(&learned->turn, &seen, (mine + 1) & UINT16_MAX)) => if (rs_atomic_store(&learned->turn, (mine + 1) & UINT16_MAX), (void)seen, 0)
 * mutant: shared/learned.h: return sum == check; => return (void)check, 1;
 * mutant: shared/learned.h: rs_learned_copy(learned, words, mine + 1) => rs_learned_copy(learned, words, mine)
 * mutant: shared/learned.h: (void)rs_atomic_swap(&learned->turn, &turn, turn & UINT16_MAX); => (void)turn;
 */
#include "interleave.h"
#include "shared/learned.h"

#define WORDS 2u

static struct {
    union {
        rs_learned learned;
        char bytes[sizeof(rs_learned) + 2 * (WORDS + 1) * sizeof(uint64_t) + RS_LINE];
    } cell;
    uint32_t ended; /* turns */
    uint32_t torn;   /* a copy was read that no turn has written */
} all;

static void set_up(void)
{
    uint64_t words[WORDS] = {0, 0};
    memset(&all, 0, sizeof all);
    rs_word64 *copy = rs_learned_copy(&all.cell.learned, WORDS, 0);
    copy[0] = rs_learned_sum(rs_learned_sum(1, words[0]), words[1]);
}

/* Count one more in both words. */
static int turn(int me, int64_t now_ns)
{
    uint64_t mine, words[WORDS];
    if (!rs_learned_begin(&all.cell.learned, rs_owner((uint32_t)me, 1), now_ns, &mine))
        return 0;
    if (!rs_learned_read(&all.cell.learned, WORDS, mine, words))
        words[0] = words[1] = 0;
    all.torn |= words[0] != words[1];
    words[0]++;
    words[1]++;
    return rs_learned_end(&all.cell.learned, WORDS, mine, words, now_ns);
}

static const char *never_torn(void) { return all.torn ? "a copy that was read is one that a turn has written" : NULL; }

/* What is current counts the turns: its number, which only the last swap of a turn changes. */
static const char *no_turn_is_lost(void)
{
    uint64_t words[WORDS], number = all.cell.learned.turn & UINT16_MAX;
    if (all.torn)
        return never_torn();
    if (all.cell.learned.turn >> 32 != 0)
        return "the turn of a dead worker is given back";
    if (!rs_learned_look(&all.cell.learned, WORDS, words))
        return "what is current is valid";
    return words[0] == number && words[1] == number ? NULL : "what is current counts all turns";
}

static const char *current_or_invalid(void)
{
    uint64_t words[WORDS];
    if (all.torn || (rs_learned_look(&all.cell.learned, WORDS, words) && words[0] != words[1]))
        return "a copy that was read is one that a turn has written";
    return NULL;
}

/* A turn that was taken over ends as if it had never been. */
static const char *ended_turns_count(void)
{
    return (all.cell.learned.turn & UINT16_MAX) == all.ended ? current_or_invalid() : "each turn that ended is counted";
}

static void twice(int me)
{
    (void)turn(me, 0);
    (void)turn(me, 0);
}

/* The first one is stopped, and finds on its return that its turn was taken over. */
static void overtaken(int me)
{
    int64_t later_ns = (int64_t)(2 * RS_TURN_TICKS) << RS_TURN_TICK_BITS;
    for (int i = 0; i <= me; i++) {
        int ended = turn(me, me == 0 ? 0 : later_ns);
        all.ended += (uint32_t)ended;
    }
}

static void reap(int dead) { rs_learned_reap(&all.cell.learned, (uint32_t)dead); }

int main(void)
{
    set_up();
    INTERLEAVE(.name = "two workers learn", .memory = &all, .size = sizeof all, .workers = 2, .run = twice,
               .reap = reap, .always = never_torn, .at_end = no_turn_is_lost, .deaths = 1);
    INTERLEAVE(.name = "a stopped worker returns", .memory = &all, .size = sizeof all, .workers = 2, .run = overtaken,
               .always = current_or_invalid, .at_end = ended_turns_count);
    return interleave_failed;
}
