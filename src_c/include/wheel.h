/* A hierarchical timer wheel: arming and disarming are O(1), regardless of the number of pending timers.
 *
 * Source: Varghese and Lauck, "Hashed and Hierarchical Timing Wheels" (1987), scheme 7.
 *
 * Time is cut into ticks of 1/8 ms: a hedge that is half a millisecond late costs 4 % of a p99 of 16 ms. Level L has 64
 * slots, one for each value of the tick's digit L (6 bits). A timer's level is the highest digit in which its tick
 * differs from `elapsed`, the last tick advanced to. Eight levels hold every int64 of nanoseconds, so nothing
 * overflows. All slots in use lie ahead of elapsed: the first one is the lowest set bit of the lowest level in use, and
 * a jump of hours touches only slots in use.
 *
 * A timer is never early and at most one tick late. Timers of one tick fire in the order in which they were armed. A
 * zeroed rs_timer is disarmed. Nothing here locks: the owner of a shared wheel does.
 */
#ifndef RS_WHEEL_H
#define RS_WHEEL_H
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define RS_TICK_NS INT64_C(125000)
#define RS_WHEEL_NEVER INT64_MAX
#define RS_WHEEL_BITS 6
#define RS_WHEEL_SLOTS 64
#define RS_WHEEL_LEVELS 8
#define RS_WHEEL_DUE (RS_WHEEL_LEVELS * RS_WHEEL_SLOTS) /* the slot of timers that are due and not taken yet */

typedef struct rs_timer {
    struct rs_timer *prev, *next; /* a ring: the slot holds the first, whose prev is the last */
    int64_t due_ns;
    void (*fire)(struct rs_timer *);
    void *owner; /* for the arming code: the object that contains the timer, or NULL */
    void *wheel; /* the wheel in which it is armed; NULL: disarmed */
    uint16_t slot;
    uint16_t lock; /* for the owner's locking */
} rs_timer;

typedef struct rs_wheel {
    uint64_t elapsed;               /* ticks */
    size_t pending;                 /* timers, those due included */
    uint32_t levels;                /* bit L: level L is in use */
    uint64_t used[RS_WHEEL_LEVELS]; /* bit S: slot S is in use */
    rs_timer *slot[RS_WHEEL_DUE + 1];
} rs_wheel;

/* Initialise without timers. */
static inline void rs_wheel_init(rs_wheel *wheel, int64_t now_ns)
{
    memset(wheel, 0, sizeof *wheel);
    wheel->elapsed = now_ns > 0 ? (uint64_t)(now_ns / RS_TICK_NS) : 0;
}

/* The tick at which a timer due at due_ns may fire. */
static inline uint64_t rs_wheel_tick(int64_t due_ns)
{
    if (due_ns <= 0)
        return 0;
    if (due_ns > INT64_MAX - RS_TICK_NS)
        due_ns = INT64_MAX - RS_TICK_NS; /* so that a tick's time is an int64 too */
    return ((uint64_t)due_ns + RS_TICK_NS - 1) / RS_TICK_NS;
}

static inline void rs_wheel_append(rs_wheel *wheel, rs_timer *timer, unsigned slot)
{
    rs_timer *first = wheel->slot[slot];
    timer->slot = (uint16_t)slot;
    if (first == NULL) {
        wheel->slot[slot] = timer->prev = timer->next = timer;
        return;
    }
    timer->prev = first->prev;
    timer->next = first;
    first->prev->next = timer;
    first->prev = timer;
}

/* Link a timer into the slot for its time relative to elapsed. */
static inline void rs_wheel_place(rs_wheel *wheel, rs_timer *timer)
{
    uint64_t tick = rs_wheel_tick(timer->due_ns);
    if (tick < wheel->elapsed)
        tick = wheel->elapsed;
    uint64_t differs = tick ^ wheel->elapsed;
    unsigned level = differs ? (63u - (unsigned)__builtin_clzll(differs)) / RS_WHEEL_BITS : 0;
    unsigned digit = (unsigned)(tick >> (RS_WHEEL_BITS * level)) & (RS_WHEEL_SLOTS - 1);
    wheel->levels |= UINT32_C(1) << level;
    wheel->used[level] |= UINT64_C(1) << digit;
    rs_wheel_append(wheel, timer, level * RS_WHEEL_SLOTS + digit);
}

static inline void rs_wheel_mark_unused(rs_wheel *wheel, unsigned slot)
{
    unsigned level = slot / RS_WHEEL_SLOTS;
    if (slot == RS_WHEEL_DUE)
        return;
    wheel->used[level] &= ~(UINT64_C(1) << (slot % RS_WHEEL_SLOTS));
    if (wheel->used[level] == 0)
        wheel->levels &= ~(UINT32_C(1) << level);
}

/* Arm a disarmed timer to fire at due_ns; a past time fires at the next advance. */
static inline void rs_wheel_arm(rs_wheel *wheel, rs_timer *timer, int64_t due_ns)
{
    timer->due_ns = due_ns;
    timer->wheel = wheel;
    wheel->pending++;
    rs_wheel_place(wheel, timer);
}

/* Disarm the timer; nothing happens if it is not armed in this wheel. */
static inline void rs_wheel_disarm(rs_wheel *wheel, rs_timer *timer)
{
    if (timer->wheel != wheel)
        return;
    unsigned slot = timer->slot;
    if (timer->next == timer) {
        wheel->slot[slot] = NULL;
        rs_wheel_mark_unused(wheel, slot);
    }
    else {
        timer->prev->next = timer->next;
        timer->next->prev = timer->prev;
        if (wheel->slot[slot] == timer)
            wheel->slot[slot] = timer->next;
    }
    timer->prev = timer->next = NULL;
    wheel->pending--;
    __atomic_store_n(&timer->wheel, NULL, __ATOMIC_RELEASE); /* last: its memory may be freed from here on */
}

/* The first slot in use and the tick at which it begins; 0 if there is none. */
static inline int rs_wheel_first(const rs_wheel *wheel, unsigned *slot, uint64_t *tick)
{
    if (wheel->levels == 0)
        return 0;
    unsigned level = (unsigned)__builtin_ctz(wheel->levels), shift = RS_WHEEL_BITS * level;
    unsigned digit = (unsigned)__builtin_ctzll(wheel->used[level]);
    uint64_t above = wheel->elapsed >> (shift + RS_WHEEL_BITS) << (shift + RS_WHEEL_BITS);
    *slot = level * RS_WHEEL_SLOTS + digit;
    *tick = above | (uint64_t)digit << shift;
    return 1;
}

/* The earliest time at which a timer may be due, RS_WHEEL_NEVER if none is armed. At most 64 ms too early for a timer
   due within 64 ms * 64, and so on by level. */
static inline int64_t rs_wheel_next_due(const rs_wheel *wheel)
{
    unsigned slot;
    uint64_t tick;
    if (wheel->slot[RS_WHEEL_DUE])
        return (int64_t)wheel->elapsed * RS_TICK_NS;
    return rs_wheel_first(wheel, &slot, &tick) ? (int64_t)tick * RS_TICK_NS : RS_WHEEL_NEVER;
}

/* Unlink a slot's ring into a list: return its first timer; the last one's next is NULL. */
static inline rs_timer *rs_wheel_empty(rs_wheel *wheel, unsigned slot)
{
    rs_timer *first = wheel->slot[slot];
    first->prev->next = NULL;
    wheel->slot[slot] = NULL;
    rs_wheel_mark_unused(wheel, slot);
    return first;
}

/* Advance to now_ns. Timers due by then stay armed until they are taken. A time before the last one changes nothing. */
static inline void rs_wheel_advance(rs_wheel *wheel, int64_t now_ns)
{
    uint64_t now = now_ns > 0 ? (uint64_t)(now_ns / RS_TICK_NS) : 0, tick;
    unsigned slot;
    while (rs_wheel_first(wheel, &slot, &tick) && tick <= now) {
        rs_timer *timer = rs_wheel_empty(wheel, slot), *next;
        wheel->elapsed = tick;
        for (; timer; timer = next) {
            next = timer->next;
            if (slot < RS_WHEEL_SLOTS)
                rs_wheel_append(wheel, timer, RS_WHEEL_DUE);
            else
                rs_wheel_place(wheel, timer);
        }
    }
    if (now > wheel->elapsed)
        wheel->elapsed = now;
}

/* The first due timer, in the order of ticks; it stays armed until it is disarmed. NULL: none. */
static inline rs_timer *rs_wheel_due(const rs_wheel *wheel) { return wheel->slot[RS_WHEEL_DUE]; }

/* The clock was set back: place every timer as if now_ns were the last time. O(pending). */
static inline void rs_wheel_rewind(rs_wheel *wheel, int64_t now_ns)
{
    rs_timer *all = NULL, **end = &all;
    unsigned slot;
    uint64_t tick;
    while (rs_wheel_first(wheel, &slot, &tick)) {
        rs_timer *last = wheel->slot[slot]->prev;
        *end = rs_wheel_empty(wheel, slot);
        end = &last->next;
    }
    wheel->elapsed = now_ns > 0 ? (uint64_t)(now_ns / RS_TICK_NS) : 0;
    for (rs_timer *next; all; all = next) {
        next = all->next;
        rs_wheel_place(wheel, all);
    }
}
#endif
