/* Atomic words of memory that several processes map: C11 atomics behind names.
 *
 * Each access to shared memory is one of these. A test compiles the algorithms with RS_STEP() defined as a switch to
 * another worker, or as its death, and so runs every interleaving.
 */
#ifndef RS_SHARED_ATOMICS_H
#define RS_SHARED_ATOMICS_H
#include <stdatomic.h>
#include <stdint.h>

#ifndef RS_STEP
#define RS_STEP() ((void)0)
#endif

/* Slow part of a fast function: inlining costs each call saved registers. Not each file that includes it uses it. */
#define RS_SLOW __attribute__((noinline, unused))

typedef _Atomic uint32_t rs_word32;
typedef _Atomic uint64_t rs_word64;

/* A read by which nothing else is read: acquire, as the words written before it must be seen. */
#define rs_atomic_load(word) (RS_STEP(), atomic_load_explicit((word), memory_order_acquire))
#define rs_atomic_store(word, value) (RS_STEP(), atomic_store_explicit((word), (value), memory_order_release))
#define rs_atomic_add(word, value) (RS_STEP(), atomic_fetch_add_explicit((word), (value), memory_order_acq_rel))
#define rs_atomic_sub(word, value) (RS_STEP(), atomic_fetch_sub_explicit((word), (value), memory_order_acq_rel))
#define rs_atomic_or(word, value) (RS_STEP(), atomic_fetch_or_explicit((word), (value), memory_order_acq_rel))
#define rs_atomic_and(word, value) (RS_STEP(), atomic_fetch_and_explicit((word), (value), memory_order_acq_rel))
/* 1 if *word* held *seen and holds *value* now; otherwise *seen is what it holds. */
#define rs_atomic_swap(word, seen, value)                                                                              \
    (RS_STEP(),                                                                                                        \
     atomic_compare_exchange_strong_explicit((word), (seen), (value), memory_order_seq_cst, memory_order_acquire))
/* A read that is in one order with all swaps: of two workers that each swap a word and then read the other's by this, one
   sees the other's. */
#define rs_atomic_read(word) (RS_STEP(), atomic_load_explicit((word), memory_order_seq_cst))
#endif
