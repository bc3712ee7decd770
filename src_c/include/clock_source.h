/* The source of the clock's time: included once, by resilio._native.clock.
 *
 * The counter is used if the processor reports it as invariant (CPUID 0x80000007 EDX bit 8) and the kernel itself keeps
 * time by it. Import costs one pair of readings: the rate is measured between that pair and the first read at least 10
 * ms later; until then, reads are clock_gettime. (To calibrate at import would cost more than to import all the rest.)
 * From then on the first read 100 ms after an anchor moves it:
 *
 *   floor      the highest time that readers may have got; the new anchor is never below it
 *   error      the old anchor's time against clock_gettime now; above 1 ms (and 0.1 % of the time since, which
 *              bounds the kernel's slewing) the counter is switched off permanently
 *   scale      the rate since the last pair; lowered while the clock is ahead, so that it is right 100 ms on.
 * A pair reads the counter *before* clock_gettime, so the counter's time is ahead by one read (24 ns), never behind: so
 * the change from clock_gettime to the counter does not go backwards either.
 *
 * The counter is read for the new anchor after `sequence` has become odd: no reader can have read a later counter with
 * the old scale. The odd section makes no system call.
 */
#ifndef RS_CLOCK_SOURCE_H
#define RS_CLOCK_SOURCE_H
#include "clock.h"
#include "platform.h"
#include <stdio.h>
#include <string.h>
#ifdef RS_CLOCK_TSC_POSSIBLE
#include <cpuid.h>
#endif

#define RS_CLOCK_ANCHOR_NS INT64_C(100000000)
#define RS_CLOCK_CALIBRATION_NS INT64_C(10000000)
#define RS_CLOCK_TOLERANCE_NS INT64_C(1000000)
#define RS_CLOCK_PAIR_NS INT64_C(2000) /* a pair that took longer was interrupted, and is too imprecise */
#define RS_CLOCK_ATTEMPTS 10           /* at calibration; then the counter is not used: reading it is slow here */

typedef enum { RS_CLOCK_AUTO, RS_CLOCK_USE_TSC, RS_CLOCK_USE_MONOTONIC } rs_clock_choice;

typedef struct rs_clock_pair {
    uint64_t ticks;
    uint64_t width; /* ticks that the reading took */
    int64_t ns;
} rs_clock_pair;

static rs_clock rs_the_clock;
static rs_mutex rs_clock_mutex = RS_MUTEX_FREE; /* for the writer, and for the variables below */
static rs_clock_pair rs_clock_last;             /* the pair of the anchor */
static int rs_clock_attempts;
static _Atomic int64_t rs_clock_floor_ns; /* lower bound on clock_gettime once the counter is off */

#ifdef RS_CLOCK_TSC_POSSIBLE
#define RS_CLOCK_STORE(field, value) atomic_store_explicit(&(field), (value), memory_order_relaxed)

/* The tightest of five pairs. */
static rs_clock_pair rs_clock_read_pair(void)
{
    rs_clock_pair best = {0, UINT64_MAX, 0};
    for (int i = 0; i < 5; i++) {
        rs_clock_pair pair = {RS_CLOCK_COUNTER(), 0, 0};
        pair.ns = rs_monotonic_ns();
        pair.width = RS_CLOCK_COUNTER() - pair.ticks;
        if (pair.width < best.width)
            best = pair;
    }
    return best;
}

static inline int64_t rs_clock_scaled(uint64_t ticks, double ns_per_tick)
{
    return (int64_t)((double)ticks * ns_per_tick);
}

/* Ns per tick between two pairs; 0 if that cannot be a rate (10 MHz to 20 GHz). */
static double rs_clock_rate(const rs_clock_pair *from, const rs_clock_pair *to)
{
    if (to->ticks <= from->ticks || to->ns <= from->ns)
        return 0;
    double rate = (double)(to->ns - from->ns) / (double)(to->ticks - from->ticks);
    return rate > 0.05 && rate < 100.0 ? rate : 0;
}

/* Close the old anchor: from here on readers wait for a new one. *given_ns becomes the highest
   time that they may have got. */
static uint64_t rs_clock_close(rs_clock *clock, int64_t *given_ns)
{
    RS_CLOCK_STORE(clock->sequence, RS_CLOCK_LOAD(clock->sequence) + 1);
    atomic_thread_fence(memory_order_seq_cst);
    __builtin_ia32_lfence();
    uint64_t ticks = RS_CLOCK_COUNTER(), since = ticks - RS_CLOCK_LOAD(clock->anchor_ticks);
    if (since > RS_CLOCK_LOAD(clock->limit))
        since = RS_CLOCK_LOAD(clock->limit);
    *given_ns = RS_CLOCK_LOAD(clock->anchor_ns) + (int64_t)(since * RS_CLOCK_LOAD(clock->scale) >> 32);
    return ticks;
}

static void rs_clock_open(rs_clock *clock)
{
    atomic_store_explicit(&clock->sequence, RS_CLOCK_LOAD(clock->sequence) + 1, memory_order_release);
}

/* Publish an anchor at the counter's value now. */
static void rs_clock_publish(rs_clock *clock, const rs_clock_pair *pair, double rate)
{
    int64_t given_ns;
    uint64_t ticks = rs_clock_close(clock, &given_ns);
    int64_t actual_ns = pair->ns + rs_clock_scaled(ticks - pair->ticks, rate);
    int64_t ns = given_ns > actual_ns ? given_ns : actual_ns;
    double ahead = (double)(ns - actual_ns) / (double)RS_CLOCK_ANCHOR_NS;
    RS_CLOCK_STORE(clock->anchor_ticks, ticks);
    RS_CLOCK_STORE(clock->anchor_ns, ns);
    RS_CLOCK_STORE(clock->scale, (uint64_t)(rate * (1.0 - (ahead < 0.02 ? ahead : 0.02)) * 4294967296.0));
    RS_CLOCK_STORE(clock->limit, (uint64_t)((double)RS_CLOCK_ANCHOR_NS / rate));
    rs_clock_last = *pair;
    rs_clock_open(clock);
}

/* The counter is unreliable: use clock_gettime from here on, but never below the times already returned. */
static void rs_clock_switch_off(rs_clock *clock)
{
    int64_t given_ns;
    rs_clock_close(clock, &given_ns);
    RS_CLOCK_STORE(rs_clock_floor_ns, given_ns);
    atomic_fetch_and(&clock->mode, ~(uint32_t)RS_CLOCK_TSC);
    rs_clock_open(clock);
}

/* Move the anchor to now, or switch the counter off if it is wrong. Mutex held. */
static void rs_clock_reanchor(rs_clock *clock)
{
    double old_rate = (double)RS_CLOCK_LOAD(clock->scale) / 4294967296.0;
    rs_clock_pair pair = rs_clock_read_pair();
    for (int i = 0; i < RS_CLOCK_ATTEMPTS && rs_clock_scaled(pair.width, old_rate) > RS_CLOCK_PAIR_NS; i++)
        pair = rs_clock_read_pair();
    double rate = rs_clock_rate(&rs_clock_last, &pair);
    int64_t tolerance = RS_CLOCK_TOLERANCE_NS + rs_clock_scaled(pair.width, old_rate)
                        + (pair.ns - rs_clock_last.ns) / 1000;
    int64_t error = RS_CLOCK_LOAD(clock->anchor_ns) - pair.ns
                    + rs_clock_scaled(pair.ticks - RS_CLOCK_LOAD(clock->anchor_ticks), old_rate);
    if (rate == 0 || pair.ticks < RS_CLOCK_LOAD(clock->anchor_ticks) || error > tolerance || error < -tolerance)
        rs_clock_switch_off(clock);
    else
        rs_clock_publish(clock, &pair, rate);
}

/* Start using the counter, if enough time has passed to know its rate. */
static void rs_clock_calibrate(rs_clock *clock)
{
    rs_mutex_lock(&rs_clock_mutex);
    if (RS_CLOCK_LOAD(clock->mode) & RS_CLOCK_CALIBRATING) {
        rs_clock_pair pair = rs_clock_read_pair();
        double rate = rs_clock_rate(&rs_clock_last, &pair);
        uint64_t width = pair.width > rs_clock_last.width ? pair.width : rs_clock_last.width;
        if (rate != 0 && rs_clock_scaled(width, rate) <= RS_CLOCK_PAIR_NS) {
            rs_clock_publish(clock, &pair, rate);
            atomic_fetch_xor(&clock->mode, RS_CLOCK_CALIBRATING | RS_CLOCK_TSC);
        }
        else if (rate == 0 || ++rs_clock_attempts == RS_CLOCK_ATTEMPTS)
            atomic_fetch_and(&clock->mode, ~(uint32_t)RS_CLOCK_CALIBRATING);
        else
            rs_clock_last = pair; /* again in 10 ms */
    }
    rs_mutex_unlock(&rs_clock_mutex);
}

static int64_t rs_clock_slow_tsc(rs_clock *clock)
{
    int64_t ns;
    while (RS_CLOCK_LOAD(clock->mode) == RS_CLOCK_TSC) {
        if (rs_clock_read_tsc(clock, &ns))
            return ns;
        rs_mutex_lock(&rs_clock_mutex);
        if (RS_CLOCK_LOAD(clock->mode) & RS_CLOCK_TSC && !rs_clock_read_tsc(clock, &ns))
            rs_clock_reanchor(clock);
        rs_mutex_unlock(&rs_clock_mutex);
    }
    return clock->slow(clock);
}

static int rs_clock_kernel_uses_tsc(void)
{
    char name[16] = "";
    FILE *file = fopen("/sys/devices/system/clocksource/clocksource0/current_clocksource", "r");
    if (file == NULL)
        return 0;
    int is_tsc = fgets(name, sizeof name, file) != NULL && strcmp(name, "tsc\n") == 0;
    fclose(file);
    return is_tsc;
}

static int rs_clock_counter_is_invariant(void)
{
    unsigned a, b, c, d;
    return __get_cpuid(0x80000007, &a, &b, &c, &d) && (d >> 8 & 1);
}
#endif

static int64_t rs_clock_slow(rs_clock *clock)
{
    uint32_t mode = RS_CLOCK_LOAD(clock->mode);
    if (mode & RS_CLOCK_VIRTUAL)
        return RS_CLOCK_LOAD(clock->virtual_ns);
#ifdef RS_CLOCK_TSC_POSSIBLE
    if (mode & RS_CLOCK_TSC)
        return rs_clock_slow_tsc(clock);
#endif
    int64_t ns = rs_monotonic_ns(), floor_ns = RS_CLOCK_LOAD(rs_clock_floor_ns);
#ifdef RS_CLOCK_TSC_POSSIBLE
    if (mode & RS_CLOCK_CALIBRATING && ns - rs_clock_last.ns > RS_CLOCK_CALIBRATION_NS)
        rs_clock_calibrate(clock);
#endif
    return ns > floor_ns ? ns : floor_ns;
}

/* Another thread may have been moving the anchor when this process was forked off: measure anew. */
static void rs_clock_after_fork(void)
{
#ifdef RS_CLOCK_TSC_POSSIBLE
    rs_mutex_renew(&rs_clock_mutex);
    if ((RS_CLOCK_LOAD(rs_the_clock.sequence) & 1) == 0)
        return;
    atomic_fetch_add(&rs_the_clock.sequence, 1);
    rs_clock_last = rs_clock_read_pair();
    atomic_fetch_and(&rs_the_clock.mode, ~(uint32_t)RS_CLOCK_TSC);
    atomic_fetch_or(&rs_the_clock.mode, RS_CLOCK_CALIBRATING);
#endif
}

static rs_clock *rs_clock_begin(rs_clock_choice choice)
{
    rs_the_clock.slow = rs_clock_slow;
#ifdef RS_CLOCK_TSC_POSSIBLE
    if (choice != RS_CLOCK_USE_MONOTONIC && rs_clock_counter_is_invariant()
        && (choice == RS_CLOCK_USE_TSC || rs_clock_kernel_uses_tsc())) {
        rs_clock_last = rs_clock_read_pair();
        RS_CLOCK_STORE(rs_the_clock.mode, RS_CLOCK_CALIBRATING);
    }
#endif
    rs_at_fork(NULL, NULL, rs_clock_after_fork);
    return &rs_the_clock;
}

static uint32_t rs_clock_mode(void) { return RS_CLOCK_LOAD(rs_the_clock.mode); }

static void rs_clock_set_virtual(int64_t ns)
{
    atomic_store(&rs_the_clock.virtual_ns, ns);
    atomic_fetch_or(&rs_the_clock.mode, RS_CLOCK_VIRTUAL);
}

static void rs_clock_clear_virtual(void) { atomic_fetch_and(&rs_the_clock.mode, ~(uint32_t)RS_CLOCK_VIRTUAL); }

/* For tests: put the anchor wrong by *error_ns*, for the next one to find. */
static void rs_clock_inject_error(int64_t error_ns)
{
#ifdef RS_CLOCK_TSC_POSSIBLE
    rs_mutex_lock(&rs_clock_mutex);
    if (RS_CLOCK_LOAD(rs_the_clock.mode) & RS_CLOCK_TSC) {
        int64_t given_ns;
        rs_clock_close(&rs_the_clock, &given_ns);
        atomic_fetch_add(&rs_the_clock.anchor_ns, error_ns);
        rs_clock_open(&rs_the_clock);
    }
    rs_mutex_unlock(&rs_clock_mutex);
#else
    (void)error_ns;
#endif
}
#endif
