/* A storm over the permits of a host: processes take and give permits, and are killed wherever they are.
 *
 *     permit_storm FILE SECONDS KILLS
 *
 * Workers are forked, take a slot of the region in FILE like any process, and take one to three permits at a time from a
 * table of 20. Each permit has a claim: a word that its holder swaps from 0 to its own name, and back before it gives the
 * permit up. A claim that is taken already, by a worker that is not being killed, is a permit given out twice. Every
 * sixteenth victim's permits are watched until they are free. At the end all are killed, and a last worker counts.
 *
 * It prints what happened, one NAME NUMBER a line.
 */
#define _GNU_SOURCE
#include "shared/housekeeper.h"
#include "shared/region_file.h"
#include "shared/hold.h"
#include <sys/prctl.h>
#include <sys/wait.h>

#define PERMITS 20u
#define ROOM 64u
#define WORKERS 6

typedef struct {
    rs_word64 calls, twice;
    rs_word64 claim[ROOM]; /* 0, or worker + 1 | its life << 8 */
    rs_word32 doomed[WORKERS]; /* lives up to this one are killed */
    rs_word32 owner[WORKERS];  /* owner words */
} witness;

static witness *seen;
static const char *file;
static uint64_t state;

static uint32_t draw(uint32_t below)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 16) % below;
}

static void die(const char *what)
{
    perror(what);
    exit(2);
}

static void nothing(void) {}

static rs_mapping *opened(rs_permits **permits)
{
    rs_open_result result;
    rs_cell_head *cell = NULL;
    rs_cell_wanted wanted = {.kind = RS_CELL_PERMITS, .name_size = 5, .stock_size = 2, .name = "storm", .stock = "20",
                             .size = rs_permits_size(ROOM)};
    rs_mapping *mapping = rs_mapping_open(file, 1 << 20, RS_WORKERS, &result);
    if (mapping == NULL || rs_region_cell(mapping->region, &wanted, &cell) != RS_CELL_FOUND)
        die("no region");
    rs_house_add(mapping);
    *permits = rs_cell_body(cell);
    rs_permits_begin(*permits, PERMITS);
    return mapping;
}

/* ---- a worker -------------------------------------------------------------------------------------------------- */

static void claim(uint32_t i, uint64_t name)
{
    uint64_t other = 0;
    while (!rs_atomic_swap(&seen->claim[i], &other, name)) {
        uint32_t worker = (uint32_t)(other & 255) - 1;
        if (other != 0 && rs_atomic_load(&seen->doomed[worker]) < other >> 8)
            rs_atomic_add(&seen->twice, 1);
        if (rs_atomic_swap(&seen->claim[i], &other, name))
            return;
        other = 0;
    }
}

static void let_go(uint32_t i, uint64_t name) { (void)rs_atomic_swap(&seen->claim[i], &name, 0); }

static void call(rs_hold *hold, uint32_t *calls, uint64_t name)
{
    uint32_t weight = 1 + (draw(4) == 0 ? draw(3) : 0);
    if (*calls < ROOM && draw(2) == 0 && rs_hold_take(hold, weight) == weight) {
        for (uint32_t i = hold->held - weight; i < hold->held; i++)
            claim(hold->index[i], name);
        *calls += weight;
    }
    else if (*calls > 0) {
        let_go(hold->index[hold->held - 1], name);
        rs_hold_give(hold, 1);
        *calls -= 1;
    }
}

/* Rest for a tenth of the time: workers that only compete for the processors keep one that has just begun waiting. */
static void give_way(void)
{
    if (draw(16384) == 0)
        nanosleep(&(struct timespec){0, 1 + draw(200000)}, NULL);
}

static void work(int number, uint32_t life)
{
    rs_permits *permits;
    uint32_t index[ROOM], calls = 0;
    rs_hold hold;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    rs_mapping *mapping = opened(&permits);
    rs_hold_init(&hold, permits, &mapping->member, index, ROOM);
    state = (uint64_t)getpid() * UINT64_C(0x9E3779B97F4A7C15);
    uint64_t name = (uint64_t)(number + 1) | (uint64_t)life << 8;
    rs_atomic_store(&seen->owner[number], rs_hold_owner(&hold));
    for (;;) {
        call(&hold, &calls, name);
        atomic_fetch_add_explicit(&seen->calls, 1, memory_order_relaxed);
        give_way();
    }
}

/* ---- the storm ------------------------------------------------------------------------------------------------- */

typedef struct {
    uint64_t kills, held, watched, slowest_ms, stopped;
} toll;

static uint32_t held_by(rs_permits *permits, uint32_t owner)
{
    uint32_t held = 0;
    for (uint32_t i = 0; i < ROOM; i++)
        held += rs_atomic_load(rs_permit(permits, i)) == owner;
    return held;
}

/* Wait until a dead worker's permits are free, five seconds at most. */
static uint64_t milliseconds_until_free(rs_permits *permits, uint32_t owner)
{
    struct timespec rest = {0, 1000000};
    int64_t since_ns = rs_monotonic_ns();
    while (held_by(permits, owner) > 0 && rs_monotonic_ns() - since_ns < INT64_C(5000000000))
        nanosleep(&rest, NULL);
    return (uint64_t)(rs_monotonic_ns() - since_ns) / 1000000;
}

static void kill_one(rs_permits *permits, int number, uint32_t life, pid_t pid, toll *t)
{
    rs_atomic_store(&seen->doomed[number], life); /* first: from now on others may find its permits free */
    kill(pid, SIGCONT);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    t->kills++;
    uint32_t owner = atomic_exchange(&seen->owner[number], 0);
    uint32_t held = owner ? held_by(permits, owner) : 0;
    t->held += held > 0;
    if (held > 0 && t->held % 16 == 1) {
        uint64_t took_ms = milliseconds_until_free(permits, owner);
        t->slowest_ms = took_ms > t->slowest_ms ? took_ms : t->slowest_ms;
        t->watched++;
    }
}

static pid_t start(int number, uint32_t life)
{
    pid_t pid = fork();
    if (pid < 0)
        die("fork");
    if (pid == 0)
        work(number, life);
    return pid;
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    file = argv[1];
    double seconds = atof(argv[2]);
    uint64_t kills = (uint64_t)atoll(argv[3]);
    seen = mmap(NULL, sizeof *seen, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (seen == MAP_FAILED)
        die("mmap");
    rs_house_open(nothing);
    rs_permits *permits;
    rs_mapping *mapping = opened(&permits); /* it makes no calls, so it has no slot until the end */
    pid_t pid[WORKERS] = {0};
    uint32_t life[WORKERS] = {0};
    toll t = {0};
    state = (uint64_t)rs_monotonic_ns() | 1;
    for (int i = 0; i < WORKERS; i++)
        pid[i] = start(i, ++life[i]);
    int64_t since_ns = rs_monotonic_ns();
    while (t.kills < kills || (double)(rs_monotonic_ns() - since_ns) < seconds * 1e9) {
        struct timespec rest = {0, draw(4000000)};
        int i = (int)draw(WORKERS);
        if (draw(8) == 0) {
            kill(pid[i], SIGSTOP);
            t.stopped++;
        }
        nanosleep(&rest, NULL);
        kill(pid[i], SIGCONT);
        if (rs_atomic_load(&seen->owner[i]) != 0) {
            kill_one(permits, i, life[i], pid[i], &t);
            pid[i] = start(i, ++life[i]);
        }
    }
    for (int i = 0; i < WORKERS; i++)
        kill_one(permits, i, life[i], pid[i], &t);
    uint32_t left = rs_permits_used(permits), owner = rs_member_owner(&mapping->member);
    rs_mapping_reap(mapping);
    printf("calls %llu\nkills %llu\nheld_at_death %llu\nstopped %llu\nwatched %llu\nslowest_ms %llu\nleft %u\n",
           (unsigned long long)seen->calls, (unsigned long long)t.kills, (unsigned long long)t.held,
           (unsigned long long)t.stopped, (unsigned long long)t.watched, (unsigned long long)t.slowest_ms, left);
    printf("slot %u\nlost %u\ntwice %llu\n", owner != 0, rs_permits_used(permits), (unsigned long long)seen->twice);
    return 0;
}
