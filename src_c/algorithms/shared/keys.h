/* A rate limit for each of many keys, shared by several processes: 16 bytes a key, and no memory is ever freed.
 *
 * A key is a 64-bit hash under the region's secret. Its entry is in one of two sets of eight places, two cache lines
 * each: the hash, and one word that is all of the limit's state. A new key goes where more places are free, so that
 * almost all keys find one while less than four fifths of the table are in use. An entry whose word equals a new one is
 * reused for another key by one compare-and-swap; that is the rule of `keyed` as well. A key that finds all sixteen in
 * use shares one more word with the others that do: its first set's overflow.
 *
 * A token bucket's word is `taken` of limit.h. A window of a period counts in quarters of it: a call counts for the
 * quarter in which it was made and four more. So any period is covered, and a call is forgotten after one to one and a
 * quarter of it. The word holds the number of the quarter and five counts, of up to 1023.
 *
 * K1  A key's word admits what limit.h does (L1), a window's at most `limit` in any period.
 * K2  But two workers that insert one key at once may both let it pass as new, once; and a call that is made while its
 *     key's entry is reused may be charged to the other key, once.
 * K3  A worker that dies leaves entries that are used up like any other.
 *
 * No Python.h.
 */
#ifndef RS_SHARED_KEYS_H
#define RS_SHARED_KEYS_H
#include "limit.h"

#define RS_KEY_PLACES 8
#define RS_KEY_QUARTERS 5 /* the current one and four before it */
#define RS_KEY_COUNT_BITS 10
#define RS_KEY_MOST ((1 << RS_KEY_COUNT_BITS) - 1)
#define RS_KEY_NUMBER_SHIFT (RS_KEY_QUARTERS * RS_KEY_COUNT_BITS)
#define RS_KEY_NUMBERS (1 << (64 - RS_KEY_NUMBER_SHIFT)) /* of quarters, then from 0 again */

/* In shared memory. */
typedef struct rs_key_set {
    struct {
        _Alignas(16) rs_word64 hash; /* 0: free */
        rs_word64 word;
    } place[RS_KEY_PLACES];
} rs_key_set;

/* In the memory of one process. */
typedef struct rs_keys {
    rs_key_set *set;
    rs_word64 *overflow;   /* one word a set */
    rs_word64 *overflowed; /* calls that had to use one */
    uint64_t sets;         /* below 2^32 */
    rs_tokens tokens;
    int64_t quarter_ns; /* of a window; 0: a token bucket */
    int64_t limit;      /* of a window */
} rs_keys;

/* The sets of a table for this number of keys, 6.25 for each: of a million, fifty find no place of their own. */
static inline uint64_t rs_keys_sets(uint64_t keys) { return keys * 4 / 25 + 1; }

/* Bytes for this number of sets, whole lines. */
static inline size_t rs_keys_size(uint64_t sets)
{
    size_t size = sets * (sizeof(rs_key_set) + sizeof(rs_word64)) + RS_LINE;
    return (size + RS_LINE - 1) & ~(size_t)(RS_LINE - 1);
}

/* Use the table of this number of sets at *body*. */
static inline void rs_keys_begin(rs_keys *keys, uint64_t sets, void *body)
{
    keys->sets = sets;
    keys->overflowed = (rs_word64 *)body;
    keys->set = (rs_key_set *)((char *)body + RS_LINE);
    keys->overflow = (rs_word64 *)(keys->set + sets);
}

/* ---- a window in quarters ---------------------------------------------------------------------------------------- */

static inline uint64_t rs_key_quarter(const rs_keys *keys, int64_t now_ns)
{
    return now_ns > 0 ? (uint64_t)(now_ns / keys->quarter_ns) % RS_KEY_NUMBERS : 0;
}

/* The word as it is in the quarter *number*: all that is older than four quarters is forgotten. A clock that is behind
   changes nothing: of workers that read one counter it is by one number at most, and any other difference is age. */
static inline uint64_t rs_key_advanced(uint64_t word, uint64_t number)
{
    uint64_t passed = (number - (word >> RS_KEY_NUMBER_SHIFT)) % RS_KEY_NUMBERS;
    if (passed >= RS_KEY_NUMBERS - RS_KEY_QUARTERS)
        return word;
    uint64_t counts = word & ((UINT64_C(1) << RS_KEY_NUMBER_SHIFT) - 1);
    counts = passed < RS_KEY_QUARTERS ? counts << passed * RS_KEY_COUNT_BITS : 0;
    return (counts & ((UINT64_C(1) << RS_KEY_NUMBER_SHIFT) - 1)) | number << RS_KEY_NUMBER_SHIFT;
}

static inline int64_t rs_key_sum(uint64_t word)
{
    int64_t sum = 0;
    for (int i = 0; i < RS_KEY_QUARTERS; i++)
        sum += (int64_t)(word >> i * RS_KEY_COUNT_BITS & RS_KEY_MOST);
    return sum;
}

/* ---- the table --------------------------------------------------------------------------------------------------- */

/* True if the word equals that of a new key. */
static inline int rs_key_is_new(const rs_keys *keys, uint64_t word, int64_t now_ns)
{
    if (keys->quarter_ns)
        return rs_key_sum(rs_key_advanced(word, rs_key_quarter(keys, now_ns))) == 0;
    return (int64_t)word <= rs_tokens_in(&keys->tokens, now_ns);
}

/* The key's two sets: by the halves of its hash. */
static inline rs_key_set *rs_key_set_of(const rs_keys *keys, uint64_t hash, int second)
{
    return &keys->set[((second ? hash & UINT32_MAX : hash >> 32) * keys->sets) >> 32];
}

/* The word of the key in this set, among its first *places*; NULL: it has none. */
static inline rs_word64 *rs_key_find(rs_key_set *set, uint64_t hash, int places)
{
    for (int i = 0; i < places; i++)
        if (rs_atomic_load(&set->place[i].hash) == hash)
            return &set->place[i].word;
    return NULL;
}

/* The places of a set that a new key may take. */
static inline int rs_key_room(const rs_keys *keys, rs_key_set *set, int64_t now_ns)
{
    int room = 0;
    for (int i = 0; i < RS_KEY_PLACES; i++)
        room += rs_atomic_load(&set->place[i].hash) == 0
                || rs_key_is_new(keys, rs_atomic_load(&set->place[i].word), now_ns);
    return room;
}

/* Insert the key in a place that is free, or whose key is as new: the place, or -1. */
static inline int rs_key_insert(const rs_keys *keys, rs_key_set *set, uint64_t hash, int64_t now_ns)
{
    for (int reuse = 0; reuse < 2; reuse++)
        for (int i = 0; i < RS_KEY_PLACES; i++) {
            uint64_t seen = rs_atomic_load(&set->place[i].hash);
            if (seen == hash)
                return i;
            int free = seen == 0 || (reuse && rs_key_is_new(keys, rs_atomic_load(&set->place[i].word), now_ns));
            if (free && rs_atomic_swap(&set->place[i].hash, &seen, hash))
                return i;
        }
    return -1;
}

/* The word of a new key. If another worker has inserted it as well, the first of the two places is the key's, and this
   one is given up unless it is the first. */
static __attribute__((noinline)) rs_word64 *rs_keys_new_word(rs_keys *keys, uint64_t hash, int64_t now_ns)
{
    rs_key_set *first = rs_key_set_of(keys, hash, 0), *second = rs_key_set_of(keys, hash, 1);
    int in_second = second != first && rs_key_room(keys, second, now_ns) > rs_key_room(keys, first, now_ns);
    rs_key_set *set = in_second ? second : first;
    int mine = rs_key_insert(keys, set, hash, now_ns);
    if (mine < 0) {
        rs_atomic_add(keys->overflowed, 1);
        return &keys->overflow[first - keys->set];
    }
    rs_word64 *before = in_second ? rs_key_find(first, hash, RS_KEY_PLACES) : NULL;
    before = before ? before : rs_key_find(set, hash, mine);
    if (before)
        rs_atomic_swap(&set->place[mine].hash, &hash, 0);
    return before ? before : &set->place[mine].word;
}

/* The word of the key, which is inserted if it has none. */
static inline rs_word64 *rs_keys_word(rs_keys *keys, uint64_t hash, int64_t now_ns)
{
    rs_key_set *first = rs_key_set_of(keys, hash, 0), *second = rs_key_set_of(keys, hash, 1);
    rs_word64 *word = rs_key_find(first, hash, RS_KEY_PLACES);
    if (word == NULL && second != first)
        word = rs_key_find(second, hash, RS_KEY_PLACES);
    return word ? word : rs_keys_new_word(keys, hash, now_ns);
}

/* ---- what a key's calls do --------------------------------------------------------------------------------------- */

/* Count *n* more, or fewer, in the quarter of *at_ns*, with at most *most* in all: 1, or 0 with nothing changed. */
static inline int rs_key_count(const rs_keys *keys, rs_word64 *word, int64_t now_ns, int64_t at_ns, int64_t n,
                               int64_t most)
{
    uint64_t seen = rs_atomic_load(word), number = rs_key_quarter(keys, now_ns);
    uint64_t ago = (number - rs_key_quarter(keys, at_ns)) % RS_KEY_NUMBERS;
    for (;;) {
        uint64_t next = rs_key_advanced(seen, number);
        if (ago >= RS_KEY_QUARTERS || rs_key_sum(next) + n > most)
            return 0;
        int64_t count = (int64_t)(next >> ago * RS_KEY_COUNT_BITS & RS_KEY_MOST), changed = count + n;
        changed = changed < 0 ? 0 : changed > RS_KEY_MOST ? RS_KEY_MOST : changed;
        next += (uint64_t)(changed - count) << ago * RS_KEY_COUNT_BITS;
        if (rs_atomic_swap(word, &seen, next))
            return 1;
    }
}

static inline int rs_key_take(rs_keys *keys, uint64_t hash, int64_t now_ns, int64_t n)
{
    rs_word64 *word = rs_keys_word(keys, hash, now_ns);
    if (keys->quarter_ns)
        return rs_key_count(keys, word, now_ns, now_ns, n, keys->limit);
    return rs_word_take(word, &keys->tokens, now_ns, n);
}

static inline void rs_key_debit(rs_keys *keys, uint64_t hash, int64_t now_ns, int64_t n)
{
    rs_word64 *word = rs_keys_word(keys, hash, now_ns);
    if (keys->quarter_ns)
        rs_key_count(keys, word, now_ns, now_ns, n, INT64_MAX / 2);
    else
        rs_word_debit(word, &keys->tokens, now_ns, n);
}

/* Undo a call of *taken_ns*. */
static inline void rs_key_give_back(rs_keys *keys, uint64_t hash, int64_t now_ns, int64_t taken_ns, int64_t n)
{
    rs_word64 *word = rs_keys_word(keys, hash, now_ns);
    if (keys->quarter_ns)
        rs_key_count(keys, word, now_ns, taken_ns, -n, INT64_MAX / 2);
    else
        rs_atomic_sub(word, (uint64_t)n);
}

static inline int64_t rs_key_available(rs_keys *keys, uint64_t hash, int64_t now_ns)
{
    rs_word64 *word = rs_keys_word(keys, hash, now_ns);
    if (keys->quarter_ns)
        return keys->limit - rs_key_sum(rs_key_advanced(rs_atomic_load(word), rs_key_quarter(keys, now_ns)));
    return rs_word_available(word, &keys->tokens, now_ns);
}

/* Nanoseconds until *n* are available. */
static inline int64_t rs_key_wait(rs_keys *keys, uint64_t hash, int64_t now_ns, int64_t n)
{
    rs_word64 *of_key = rs_keys_word(keys, hash, now_ns);
    if (!keys->quarter_ns)
        return rs_word_wait(of_key, &keys->tokens, now_ns, n);
    uint64_t number = rs_key_quarter(keys, now_ns), word = rs_key_advanced(rs_atomic_load(of_key), number);
    int64_t quarters = 0;
    while (quarters < RS_KEY_QUARTERS
           && rs_key_sum(rs_key_advanced(word, (number + (uint64_t)quarters) % RS_KEY_NUMBERS)) + n > keys->limit)
        quarters++;
    return quarters ? (now_ns / keys->quarter_ns + quarters) * keys->quarter_ns - now_ns : 0;
}

/* Leave at most *left* at *at_ns*. */
static inline void rs_key_lower(rs_keys *keys, uint64_t hash, int64_t now_ns, int64_t at_ns, int64_t left)
{
    rs_word64 *word = rs_keys_word(keys, hash, now_ns);
    if (keys->quarter_ns) {
        int64_t more = rs_key_available(keys, hash, now_ns) - left;
        if (more > 0)
            rs_key_count(keys, word, now_ns, now_ns, more, INT64_MAX / 2);
    }
    else
        rs_word_lower(word, &keys->tokens, at_ns, left);
}

/* Make all keys as new. */
static inline void rs_keys_fill(rs_keys *keys)
{
    for (uint64_t at = 0; at < keys->sets; at++) {
        for (int i = 0; i < RS_KEY_PLACES; i++)
            rs_atomic_store(&keys->set[at].place[i].word, 0);
        rs_atomic_store(&keys->overflow[at], 0);
    }
}

static inline void rs_key_fill(rs_keys *keys, uint64_t hash, int64_t now_ns)
{
    rs_atomic_store(rs_keys_word(keys, hash, now_ns), 0);
}
#endif
