/* A shared table of limits by key: shared/keys.h.
 *
 * mutant: swap
 * mutant: shared/keys.h: rs_key_sum(next) + n > most => rs_key_sum(next) > most
 * mutant: shared/keys.h: if (free && rs_atomic_swap(&set->place[i].hash, &seen, hash)) => if (rs_atomic_swap(&set->place[i].hash, &seen, hash))
 * mutant: shared/keys.h: return (int64_t)word <= rs_tokens_in(&keys->tokens, now_ns); => return 1;
 */
#include "interleave.h"
#include "shared/keys.h"

enum { BURST = 2, KEYS = 2, SETS = 2 };
#define APART ((UINT64_C(1) << 31) + 1) /* a key whose sets are the first and the second */

static struct {
    _Alignas(64) rs_word64 overflowed;
    _Alignas(64) rs_key_set set[SETS];
    rs_word64 overflow[SETS];
    int64_t admitted[KEYS + 1];
} all;

static rs_keys keys = {.set = all.set,
                       .overflow = all.overflow,
                       .overflowed = &all.overflowed,
                       .sets = 1,
                       .tokens = {.rate = (uint64_t)1 << RS_RATE_BITS, .burst = BURST}};

INTERLEAVE_APART static void take(uint64_t key)
{
    if (rs_key_take(&keys, key, 0, 1))
        all.admitted[(uint32_t)key & 3]++;
}

/* K1 for a key that is there. */
static void take_known(int me)
{
    take(1);
    take(1);
    if (me == 2)
        take(1);
}

static const char *burst_is_kept(void) { return all.admitted[1] <= BURST ? NULL : "a key admits its burst"; }

/* K2 for a key that two workers insert. */
static void take_new(int me)
{
    for (int i = me; i < me + 3; i++)
        take(1);
}

static const char *two_bursts_at_most(void)
{
    return all.admitted[1] <= 2 * BURST ? NULL : "two workers that insert a key let it pass as new once more";
}

static const char *one_entry(void)
{
    int found = 0;
    for (int i = 0; i < RS_KEY_PLACES; i++)
        found += all.set[0].place[i].hash == 1;
    return found == 1 ? NULL : "a key has one entry in the end";
}

/* The same for a key of two sets, of which the first has less room. */
static void take_apart(int me)
{
    for (int i = me; i < me + 2; i++)
        take(APART);
}

/* All places are in use: new keys share the overflow. */
static void take_shared(int me)
{
    take((uint64_t)me + 1);
    take((uint64_t)me + 1);
}

static const char *overflow_is_one(void)
{
    for (int i = 0; i < RS_KEY_PLACES; i++)
        if (all.set[0].place[i].word < 1 || all.set[0].place[i].hash < 100)
            return "an entry in use is not reused";
    return all.admitted[1] + all.admitted[2] <= BURST ? NULL : "keys without an entry share one";
}

/* A window in quarters, at one moment. */
static const char *limit_is_kept(void) { return all.admitted[1] <= 3 ? NULL : "a window admits its limit"; }

int main(void)
{
    all.set[0].place[0].hash = 1;
    INTERLEAVE(.name = "a known key", .memory = &all, .size = sizeof all, .workers = 3, .run = take_known,
               .always = burst_is_kept, .deaths = 1);
    all.set[0].place[0].hash = 0;
    INTERLEAVE(.name = "a new key", .memory = &all, .size = sizeof all, .workers = 2, .run = take_new,
               .always = two_bursts_at_most, .at_end = one_entry);
    keys.sets = 2;
    all.set[0].place[0].hash = 2;
    all.set[0].place[0].word = 1;
    INTERLEAVE(.name = "a new key of two sets", .memory = &all, .size = sizeof all, .workers = 2, .run = take_apart,
               .always = two_bursts_at_most, .deaths = 1);
    keys.sets = 1;
    for (int i = 0; i < RS_KEY_PLACES; i++) {
        all.set[0].place[i].hash = 100 + (uint64_t)i;
        all.set[0].place[i].word = 1;
    }
    INTERLEAVE(.name = "no room", .memory = &all, .size = sizeof all, .workers = 2, .run = take_shared,
               .always = overflow_is_one, .deaths = 1);
    memset(&all, 0, sizeof all);
    all.set[0].place[0].hash = 1;
    keys.quarter_ns = 10, keys.limit = 3;
    INTERLEAVE(.name = "a window of a key", .memory = &all, .size = sizeof all, .workers = 3, .run = take_known,
               .always = limit_is_kept, .deaths = 1);
    return interleave_failed;
}
