/* The head of a fleet's cell: which member of the region makes the trips to the store for it. No Python.h.
 *
 * A cell has one courier at a time. A member claims it by a swap when no living one has it. So a courier that dies or
 * stops is followed by another, which goes on as the same asker: its id and the numbers of its asks are in the cell.
 * An answer counts once, and only for the ask that was made last: `seen` is moved by a swap.
 *
 * A call that needs an answer soon rings: the courier's thread waits on a word of its member's line. It rings once for
 * each ask, so a loaded policy makes no system call a call. It reports first and then rings. A courier that finds nothing
 * to ask for lets calls ring again, and then looks once more: so each report is heard.
 */
#ifndef RS_SHARED_COURIER_H
#define RS_SHARED_COURIER_H
#include "member.h"
#include "platform.h"
#ifdef __linux__
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#define RS_COURIER_SILENCE_NS INT64_C(2000000000) /* a courier that has not beaten for so long is followed by another */

/* In shared memory: the first line of the body of a fleet's cell. */
typedef struct rs_courier {
    _Alignas(RS_LINE) rs_word32 owner; /* of the member that makes the trips; 0: none yet */
    rs_word32 rings;                   /* 1: a call has rung since the last ask */
    rs_word64 id;                      /* of the asker; 0: not drawn yet */
    rs_word64 seq, seen;               /* the number of the last ask, and of the last one with an answer */
    rs_word64 at_ns, expires_ns;       /* of the last answer, since the region's epoch; 0: never */
    rs_word32 peers;                   /* askers of the fleet, of the last answer; 0: not known */
} rs_courier;

_Static_assert(sizeof(rs_courier) == RS_LINE, "the head of a fleet's cell is one line");

/* 1 if the member of this owner word lives, and has beaten. *silence_ns* 0: it need not beat. */
static inline int rs_courier_runs(const rs_member *me, uint32_t owner, int64_t now_ns, int64_t silence_ns)
{
    uint32_t slot = rs_owner_slot(owner) % RS_WORKERS;
    rs_worker *worker = &me->workers[slot];
    if (rs_owner(slot, rs_atomic_load(&worker->epoch)) != owner || !(rs_atomic_load(&me->roll->living) >> slot & 1))
        return 0;
    return silence_ns == 0 || now_ns - (int64_t)rs_atomic_load(&worker->beat_ns) < silence_ns;
}

/* 1 if a living member, this one or another, makes the trips for the cell. */
static inline int rs_courier_is_there(rs_courier *head, const rs_member *me, int64_t now_ns, int64_t silence_ns)
{
    uint32_t owner = rs_atomic_load(&head->owner);
    return owner != 0 && rs_courier_runs(me, owner, now_ns, silence_ns);
}

/* 1 if this member makes the trips for the cell, from now on or still. A process without a slot makes none. *now_ns*:
   since the region's epoch. */
static inline int rs_courier_claim(rs_courier *head, const rs_member *me, int64_t now_ns, int64_t silence_ns)
{
    uint32_t mine = rs_atomic_load(&me->owner), seen = rs_atomic_load(&head->owner);
    if (mine == 0)
        return 0;
    if (seen == mine)
        return 1;
    if (seen != 0 && rs_courier_runs(me, seen, now_ns, silence_ns))
        return 0;
    return rs_atomic_swap(&head->owner, &seen, mine);
}

/* Make no more trips for the cell: another member may claim it. */
static inline void rs_courier_release(rs_courier *head, const rs_member *me)
{
    uint32_t mine = rs_atomic_load(&me->owner);
    if (mine != 0)
        (void)rs_atomic_swap(&head->owner, &mine, 0);
}

/* The id of the asker: the one in the cell, or *drawn*, which is not 0. */
static inline uint64_t rs_courier_id(rs_courier *head, uint64_t drawn)
{
    uint64_t seen = rs_atomic_load(&head->id);
    return seen != 0 || !rs_atomic_swap(&head->id, &seen, drawn) ? seen : drawn;
}

/* Count the answer *seq* of an ask made when *seen* was the last one: 1, or 0 with nothing changed, as another courier
   has had an answer since. */
static inline int rs_courier_saw(rs_courier *head, uint64_t seen, uint64_t seq)
{
    return rs_atomic_swap(&head->seen, &seen, seq);
}

/* ---- the bell ---------------------------------------------------------------------------------------------------- */

static inline void rs_bell_wake(rs_word32 *bell)
{
#ifdef __linux__
    syscall(SYS_futex, (uint32_t *)bell, FUTEX_WAKE, 1, NULL, NULL, 0);
#else
    (void)bell;
#endif
}

#define RS_BELL_SLICE_NS INT64_C(5000000) /* where no word can be waited for, it is looked at this often */

/* Wait until the bell rings, for at most *wait_ns*; it is silent after it. Without the GIL. */
static inline void rs_bell_wait(rs_word32 *bell, int64_t wait_ns)
{
#ifdef __linux__
    struct timespec rest = {(time_t)(wait_ns / 1000000000), (long)(wait_ns % 1000000000)};
    if (wait_ns > 0 && rs_atomic_load(bell) == 0)
        syscall(SYS_futex, (uint32_t *)bell, FUTEX_WAIT, 0, &rest, NULL, 0);
#else
    for (; wait_ns > 0 && rs_atomic_load(bell) == 0; wait_ns -= RS_BELL_SLICE_NS)
        rs_rest_ns(wait_ns < RS_BELL_SLICE_NS ? wait_ns : RS_BELL_SLICE_NS);
#endif
    uint32_t rung = 1;
    (void)rs_atomic_swap(bell, &rung, 0); /* in one order with the look after it */
}

/* The bell on which the courier of this member waits: before its first shared call the process has no slot. */
static inline rs_word32 *rs_member_bell(rs_member *me)
{
    uint32_t owner = rs_atomic_load(&me->owner);
    return owner ? &me->workers[rs_owner_slot(owner) % RS_WORKERS].bell : &me->bell;
}

/* Wait until a call rings for the courier of this member. */
static inline void rs_member_wait(rs_member *me, int64_t wait_ns) { rs_bell_wait(rs_member_bell(me), wait_ns); }

static inline void rs_bell_ring(rs_word32 *bell)
{
    uint32_t silent = 0;
    if (rs_atomic_read(bell) == 0 && rs_atomic_swap(bell, &silent, 1))
        rs_bell_wake(bell);
}

/* End the wait of this member's courier, also one that began before the process had a slot. */
static inline void rs_member_ring(rs_member *me)
{
    rs_bell_ring(&me->bell);
    rs_bell_ring(rs_member_bell(me));
}

/* Let calls ring again; the courier looks after it at what they have reported. */
static inline void rs_courier_hush(rs_courier *head)
{
    uint32_t rung = 1;
    (void)rs_atomic_swap(&head->rings, &rung, 0); /* in one order with the reads after it */
}

/* Let the cell's courier ask soon, after what it is to find has been written; the caller's own thread where it has none
   yet. Once for each ask. */
static inline void rs_courier_ring(rs_courier *head, rs_member *me)
{
    uint32_t silent = 0, owner = rs_atomic_load(&head->owner);
    if (rs_atomic_read(&head->rings) || !rs_atomic_swap(&head->rings, &silent, 1))
        return;
    if (owner != 0)
        rs_bell_ring(&me->workers[rs_owner_slot(owner) % RS_WORKERS].bell);
    else
        rs_member_ring(me);
}
#endif
