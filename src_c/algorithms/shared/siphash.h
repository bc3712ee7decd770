/* SipHash-1-3 (Aumasson and Bernstein, 2012): a hash of bytes under a secret key of 16 bytes, as CPython's for strings.
 * Keys come from users: without a secret they could be chosen to meet in one entry. */
#ifndef RS_SHARED_SIPHASH_H
#define RS_SHARED_SIPHASH_H
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define RS_HASH_KEY 2 /* words of a key */

static inline uint64_t rs_sip_turn(uint64_t x, int bits) { return x << bits | x >> (64 - bits); }

static inline void rs_sip_round(uint64_t v[4])
{
    v[0] += v[1], v[1] = rs_sip_turn(v[1], 13) ^ v[0], v[0] = rs_sip_turn(v[0], 32);
    v[2] += v[3], v[3] = rs_sip_turn(v[3], 16) ^ v[2];
    v[0] += v[3], v[3] = rs_sip_turn(v[3], 21) ^ v[0];
    v[2] += v[1], v[1] = rs_sip_turn(v[1], 17) ^ v[2], v[2] = rs_sip_turn(v[2], 32);
}

static inline void rs_sip_word(uint64_t v[4], uint64_t word)
{
    v[3] ^= word;
    rs_sip_round(v);
    v[0] ^= word;
}

static inline uint64_t rs_siphash(const uint64_t key[RS_HASH_KEY], const void *bytes, size_t size)
{
    uint64_t v[4] = {key[0] ^ UINT64_C(0x736f6d6570736575), key[1] ^ UINT64_C(0x646f72616e646f6d),
                     key[0] ^ UINT64_C(0x6c7967656e657261), key[1] ^ UINT64_C(0x7465646279746573)};
    const uint8_t *at = bytes, *end = at + (size & ~(size_t)7);
    uint64_t word, last = (uint64_t)size << 56;
    for (; at != end; at += 8) {
        memcpy(&word, at, 8);
        rs_sip_word(v, word);
    }
    for (size_t i = 0; i < (size & 7); i++)
        last |= (uint64_t)at[i] << 8 * i;
    rs_sip_word(v, last);
    v[2] ^= 0xff;
    for (int i = 0; i < 3; i++)
        rs_sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}
#endif
