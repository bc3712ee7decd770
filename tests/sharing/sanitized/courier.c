/* A cell whose couriers die again and again, and calls that ring for them. Prints the trips, and what went wrong. */
#include "threads.h"
#include "shared/courier.h"

enum { TURNS = 20000 };

static rs_courier head;
static rs_word64 trips, together, twice;
static rs_word32 couriers;

/* Give the slot back and take it again, as a process does that dies and is followed by another one. */
static void die(rs_member *member)
{
    rs_atomic_store(&member->owner, rs_owner(member->slot, rs_atomic_add(&workers[member->slot].epoch, 1) + 1));
}

static void make_a_trip(void)
{
    uint64_t seen = rs_atomic_load(&head.seen), seq = rs_atomic_add(&head.seq, 1) + 1;
    rs_atomic_store(&head.rings, 0);
    if (!rs_courier_saw(&head, seen, seq))
        atomic_fetch_add(&twice, 1);
    atomic_fetch_add(&trips, 1);
}

static void *worker(void *at)
{
    rs_member member = member_of((uint32_t)(uintptr_t)at);
    for (int i = 0; i < TURNS; i++) {
        rs_courier_ring(&head, &member);
        if (!rs_courier_claim(&head, &member, 0, 0))
            continue;
        if (atomic_fetch_add(&couriers, 1) > 0)
            atomic_fetch_add(&together, 1);
        rs_courier_id(&head, (uint64_t)member.slot + 1);
        make_a_trip();
        rs_member_wait(&member, i % 64 == 0 ? 10000 : 0);
        atomic_fetch_sub(&couriers, 1);
        if (i % 3 == 0)
            die(&member);
    }
    die(&member);
    return NULL;
}

int main(void)
{
    for (int i = 0; i < THREADS; i++)
        workers[i].epoch = 1;
    run(worker);
    printf("trips %d\ntogether %d\ntwice %d\n", (int)trips, (int)together, (int)twice);
    return 0;
}
