/* A ring of samples: what is read was written, in order and once; a full ring loses samples and blocks none.
 *
 * mutant: shared/ring.h: >= RS_RING => > RS_RING
 * mutant: shared/ring.h: (void)rs_atomic_swap(&ring->read, &from, to); => rs_atomic_store(&ring->read, from);
 * mutant: -DPUBLISHED_FIRST
 */
#define RS_RING 2u
#include "interleave.h"
#include "shared/ring.h"

#define SAMPLES 4u

static struct {
    rs_ring ring;
    uint32_t lost, got, last;
    uint32_t wrong;
} all;

static void write_all(void)
{
    for (uint32_t i = 1; i <= SAMPLES; i++) {
        rs_sample sample = {.end_ns = i, .latency_ns = i, .inflight = i, .present = i, .dropped = i & 1};
#ifdef PUBLISHED_FIRST
        rs_atomic_add(&all.ring.written, 1);
        interleave_step();
        all.ring.written--;
#endif
        all.lost += !rs_ring_write(&all.ring, &sample);
    }
}

/* One turn after the other, as only one worker has the turn. */
static void read_twice(void)
{
    for (int turn = 0; turn < 2; turn++) {
        uint32_t from = rs_atomic_load(&all.ring.read), to = rs_atomic_load(&all.ring.written);
        for (uint32_t at = from; at != to; at++) {
            rs_sample sample = rs_ring_at(&all.ring, at);
            uint32_t i = sample.inflight;
            all.wrong |= i <= all.last || sample.end_ns != i || sample.latency_ns != i || sample.present != i
                         || sample.dropped != (int)(i & 1);
            all.last = i;
            all.got++;
        }
        rs_ring_read(&all.ring, from, to);
    }
}

static void work(int me)
{
    if (me == 0)
        write_all();
    else
        read_twice();
}

static const char *whole(void) { return all.wrong ? "a sample that is read was written, after the one before" : NULL; }

static const char *counted(void)
{
    uint32_t written = all.ring.written, unread = rs_ring_waiting(&all.ring);
    if (all.wrong)
        return whole();
    return unread <= RS_RING && all.got >= written - unread ? NULL : "each sample is read, lost or still there";
}

int main(void)
{
    INTERLEAVE(.name = "a writer and a reader", .memory = &all, .size = sizeof all, .workers = 2, .run = work,
               .always = whole, .at_end = counted, .deaths = 1);
    return interleave_failed;
}
