/* An adaptive limit: workers write samples and take turns to learn, and one is reaped. Prints turns, and the limit. */
#include "threads.h"
#include "host_law.h"

enum { CALLS = 20000, ROOM = 64, DEAD = 9 };

static rs_host_law *law;
static rs_word64 turns;

static void *work(void *at)
{
    uint32_t me = (uint32_t)(uintptr_t)at;
    rs_member member = member_of(me);
    rs_law_words words;
    uint64_t turn;
    for (uint32_t i = 1; i <= CALLS; i++) {
        int64_t now_ns = (int64_t)i * 10000;
        int64_t inflight = rs_host_law_enter(law);
        rs_sample sample = {now_ns, 1000000 + i % 7, (uint32_t)inflight, (uint32_t)inflight, 0};
        rs_host_law_set_passing(law, member.owner, i % 3);
        rs_host_law_note(law, &member, member.owner, &sample);
        rs_host_law_leave(law);
        if (rs_host_law_is_due(law, &member, member.owner, now_ns))
            atomic_fetch_add(&turns, rs_host_law_turn(law, &member, member.owner, 0, now_ns, &words, &turn));
        rs_host_law_passing(law, &member);
        if (i % 100 == 0)
            rs_host_law_look(law, &words);
        if (me == 1 && i % 1000 == 0) {
            rs_shared_adaptive_reap(law, rs_host_law_size(ROOM), DEAD);
            rs_host_law_reset(law);
        }
    }
    return NULL;
}

int main(void)
{
    law = zeroes(rs_host_law_size(ROOM));
    rs_host_law_init(law, (rs_rules){RS_LAW_DEFAULT, 10, 1, ROOM});
    run(work);
    printf("turns %d\nlimit %u\n", (int)turns, rs_permits_bounds(rs_host_law_permits(law)).limit);
    return 0;
}
