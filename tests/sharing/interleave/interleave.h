/* The interleaver: runs an algorithm of shared memory in every order of its steps, and with every death.
 *
 * A step is one access to shared memory: atomics.h calls RS_STEP() before each. Workers are coroutines. The interleaver
 * visits every state that two or three of them can reach, by a step or by a death. It checks the witness in each. A
 * state is all of memory: shared words, stacks and registers. It is saved and restored as bytes, and visited once, so
 * thousands of millions of interleavings are a few hundred thousand states.
 *
 * It also finds a worker that does not end though it runs alone: that one waits for another, which may be dead. It
 * checks logic, not the order of memory: all words are those of one processor.
 *
 * To use it, write tests/sharing/interleave/NAME.c, which test_interleavings.py finds, compiles and runs:
 *
 *     #include "interleave.h"
 *     #include "shared/NAME.h"
 *     static struct { cell; witnesses; } all;             the algorithm's body, and the test's witnesses
 *     static void worker(int me) { ... }                  ordinary code. A witness changes together with the step before
 *     static const char *holds(void) { ... }              NULL, or the sentence that is violated
 *     int main(void)
 *     {
 *         INTERLEAVE(.name = "three take two", .memory = &all, .size = sizeof all, .workers = 3, .run = worker,
 *                    .reap = reaper, .always = holds, .at_end = nothing_lost, .deaths = 1);
 *         return interleave_failed;
 *     }
 *
 * Values that are dead, yet still in a register, make many states of one. So let a worker call a function that is
 * INTERLEAVE_APART for each of its operations. A worker keeps its own data on its stack (8 KiB) or in `all`, nothing on the heap.
 *
 * A test that cannot fail is a defect. The comment at the head of NAME.c lists mutants, each of which must be caught:
 *
 *     mutant: swap                                        compare-and-swap torn into two steps; also: add
 *     mutant: shared/NAME.h: TEXT => OTHER TEXT           a line of the algorithm, changed
 *     mutant: -DMACRO                                     a change that NAME.c makes itself
 */
#ifndef INTERLEAVE_H
#define INTERLEAVE_H
static void interleave_step(void);
#define RS_STEP() interleave_step()
#include "shared/atomics.h"
#include "shared/member.h"
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#ifdef INTERLEAVE_TORN_SWAP
#undef rs_atomic_swap
#define rs_atomic_swap(word, seen, value)                                                                              \
    ({                                                                                                                 \
        RS_STEP();                                                                                                     \
        bool swapped = *(word) == *(seen);                                                                             \
        if (swapped) {                                                                                                 \
            RS_STEP();                                                                                                 \
            *(word) = (value);                                                                                         \
        }                                                                                                              \
        else                                                                                                           \
            *(seen) = *(word);                                                                                         \
        swapped;                                                                                                       \
    })
#endif
#ifdef INTERLEAVE_TORN_ADD
#undef rs_atomic_add
#undef rs_atomic_sub
#define rs_atomic_add(word, value)                                                                                     \
    ({                                                                                                                 \
        RS_STEP();                                                                                                     \
        __auto_type was = *(word) + 0;                                                                                 \
        RS_STEP();                                                                                                     \
        *(word) = was + (value);                                                                                       \
        was;                                                                                                           \
    })
#define rs_atomic_sub(word, value)                                                                                     \
    ({                                                                                                                 \
        RS_STEP();                                                                                                     \
        __auto_type was = *(word) + 0;                                                                                 \
        RS_STEP();                                                                                                     \
        *(word) = was - (value);                                                                                       \
        was;                                                                                                           \
    })
#endif

#define INTERLEAVE_APART __attribute__((noinline))
#define INTERLEAVE_WORKERS 4
#define INTERLEAVE_ACTORS (2 * INTERLEAVE_WORKERS) /* each worker, and behind them its reaper */
#define INTERLEAVE_STACK 8192
#define INTERLEAVE_STATES (1u << 24) /* at most: a larger case is a defect of the case */

typedef struct interleave_case {
    const char *name;
    void *memory; /* all that is shared, witnesses included; its contents when the case begins are the first state */
    size_t size;
    int workers;
    void (*run)(int me);         /* worker *me*, from 0 */
    void (*reap)(int dead);      /* by another, once worker *dead* is dead, interleaved as the workers are; or NULL */
    const char *(*always)(void); /* after each step */
    const char *(*at_end)(void); /* when nothing is left to run */
    int deaths;                  /* at most in one execution, of workers and of reapers */
    unsigned immortal;           /* bit i: worker i does not die, such as a clock */
} interleave_case;

typedef enum { FRESH, RUNNING, WAITING, ENDED, DEAD } interleave_status;

/* A coroutine: all of it is part of a state. */
typedef struct interleave_actor {
    ucontext_t context;
    _Alignas(16) char stack[INTERLEAVE_STACK];
} interleave_actor;

typedef struct interleave_saved { /* a state: what the actors' stacks hold follows, then the shared memory */
    uint8_t status[INTERLEAVE_ACTORS];
    int deaths;
    uint32_t used[INTERLEAVE_ACTORS]; /* bytes of the stack */
    size_t size;
    char bytes[];
} interleave_saved;

static struct {
    const interleave_case *now;
    interleave_actor actor[INTERLEAVE_ACTORS];
    ucontext_t scheduler;
    uint8_t status[INTERLEAVE_ACTORS];
    uint32_t used[INTERLEAVE_ACTORS]; /* bytes of its stack */
    int deaths, running, actors;
    /* The states seen: an open hash table of their hashes, and for each state where each actor's next step leads. */
    uint64_t *seen;
    uint32_t *number, (*next)[INTERLEAVE_ACTORS];
    uint32_t states, room;
    uint64_t steps;
    char path[4096];
    size_t depth;
} interleaver;
static int interleave_failed;

static inline void interleave_stop(interleave_status status)
{
    interleaver.status[interleaver.running] = (uint8_t)status;
    swapcontext(&interleaver.actor[interleaver.running].context, &interleaver.scheduler);
    interleaver.status[interleaver.running] = RUNNING;
}

/* A point at which any other worker may run, or this one die. Outside of a worker it is nothing. */
static void interleave_step(void)
{
    if (interleaver.running >= 0)
        interleave_stop(RUNNING);
}

/* Wait for another worker; the case's witnesses have to make sure that the algorithm does not need it. */
#define INTERLEAVE_AWAIT(condition)                                                                                    \
    do                                                                                                                 \
        interleave_stop(WAITING);                                                                                      \
    while (!(condition))

static void interleave_begin(int actor)
{
    const interleave_case *c = interleaver.now;
    actor < c->workers ? c->run(actor) : c->reap(actor - c->workers);
    interleaver.status[interleaver.running] = ENDED;
}

/* ---- states as bytes ------------------------------------------------------------------------------------------- */

static inline bool interleave_is_live(int actor)
{
    return interleaver.status[actor] == RUNNING || interleaver.status[actor] == WAITING;
}

/* Set all that has no meaning, of the stack and of the registers, to zero: then equal states are equal bytes. */
static inline void interleave_clean(int index)
{
    interleave_actor *actor = &interleaver.actor[index];
#if defined(__x86_64__) && defined(__linux__)
    greg_t *registers = actor->context.uc_mcontext.gregs; /* in the order of <sys/ucontext.h>: REG_RSP is number 15 */
    char *top = (char *)registers[15];
    for (int i = 0; i < 10; i++)
        registers[i] = i < 4 || i > 7 ? 0 : registers[i];
    registers[12] = registers[13] = registers[14] = 0; /* REG_RDX, REG_RAX, REG_RCX; callee-saved ones stay */
#elif defined(__aarch64__) && defined(__linux__)
    char *top = (char *)actor->context.uc_mcontext.sp;
#else
    char *top = actor->stack;
#endif
    memset(actor->stack, 0, (size_t)(top - actor->stack));
    interleaver.used[index] = (uint32_t)(actor->stack + INTERLEAVE_STACK - top);
}

static inline char *interleave_put(char *to, const void *from, size_t size)
{
    memcpy(to, from, size);
    return to + size;
}

static inline const char *interleave_get(const char *from, void *to, size_t size)
{
    memcpy(to, from, size);
    return from + size;
}

static interleave_saved *interleave_save(void)
{
    size_t size = interleaver.now->size;
    uint32_t used[INTERLEAVE_ACTORS] = {0};
    for (int i = 0; i < interleaver.actors; i++)
        if (interleave_is_live(i))
            size += sizeof(mcontext_t) + (used[i] = interleaver.used[i]);
    interleave_saved *saved = calloc(1, sizeof *saved + size + 8);
    memcpy(saved->status, interleaver.status, sizeof saved->status);
    memcpy(saved->used, used, sizeof used);
    saved->deaths = interleaver.deaths;
    saved->size = size;
    char *to = interleave_put(saved->bytes, interleaver.now->memory, interleaver.now->size);
    for (int i = 0; i < interleaver.actors; i++)
        if (used[i]) {
            to = interleave_put(to, &interleaver.actor[i].context.uc_mcontext, sizeof(mcontext_t));
            to = interleave_put(to, interleaver.actor[i].stack + INTERLEAVE_STACK - used[i], used[i]);
        }
    return saved;
}

static void interleave_restore(const interleave_saved *saved)
{
    const char *from = interleave_get(saved->bytes, interleaver.now->memory, interleaver.now->size);
    memcpy(interleaver.status, saved->status, sizeof saved->status);
    memcpy(interleaver.used, saved->used, sizeof saved->used);
    interleaver.deaths = saved->deaths;
    for (int i = 0; i < interleaver.actors; i++)
        if (saved->used[i]) {
            from = interleave_get(from, &interleaver.actor[i].context.uc_mcontext, sizeof(mcontext_t));
            from = interleave_get(from, interleaver.actor[i].stack + INTERLEAVE_STACK - saved->used[i], saved->used[i]);
        }
}

static uint64_t interleave_hash(const interleave_saved *saved)
{
    uint64_t hash = 0x9E3779B97F4A7C15u, word;
    const char *bytes = (const char *)saved;
    for (size_t i = 0; i < sizeof *saved + saved->size; i += 8) {
        memcpy(&word, bytes + i, 8);
        hash = (hash ^ word) * 0xFF51AFD7ED558CCDu;
        hash ^= hash >> 32;
    }
    return hash ? hash : 1;
}

/* The number of a state; *fresh*: it was not known. */
static uint32_t interleave_number(uint64_t hash, bool *fresh)
{
    uint32_t at = (uint32_t)hash & (interleaver.room - 1);
    while (interleaver.seen[at] != 0 && interleaver.seen[at] != hash)
        at = (at + 1) & (interleaver.room - 1);
    *fresh = interleaver.seen[at] == 0;
    if (*fresh) {
        interleaver.seen[at] = hash;
        interleaver.number[at] = interleaver.states++;
    }
    return interleaver.number[at];
}

static void interleave_make_room(uint32_t room)
{
    uint64_t *seen = interleaver.seen;
    uint32_t *number = interleaver.number, before = interleaver.room;
    interleaver.seen = calloc(room, sizeof *seen);
    interleaver.number = calloc(room, sizeof *number);
    interleaver.next = realloc(interleaver.next, room * sizeof *interleaver.next);
    if (!interleaver.seen || !interleaver.number || !interleaver.next)
        abort();
    interleaver.room = room;
    for (uint32_t i = 0; i < before; i++)
        if (seen[i]) {
            uint32_t at = (uint32_t)seen[i] & (room - 1);
            while (interleaver.seen[at])
                at = (at + 1) & (room - 1);
            interleaver.seen[at] = seen[i];
            interleaver.number[at] = number[i];
        }
    free(seen);
    free(number);
}

/* ---- every step, every death ----------------------------------------------------------------------------------- */

static bool interleave_fail(const char *what)
{
    printf("%s: violated: %s\n  after%s\n", interleaver.now->name, what, interleaver.path);
    interleave_failed = 1;
    return false;
}

static void interleave_resume(int actor)
{
    interleave_actor *a = &interleaver.actor[actor];
    if (interleaver.status[actor] == FRESH) {
        memset(a, 0, sizeof *a);
        getcontext(&a->context);
        a->context.uc_stack.ss_sp = a->stack;
        a->context.uc_stack.ss_size = sizeof a->stack;
        a->context.uc_link = &interleaver.scheduler;
        makecontext(&a->context, (void (*)(void))interleave_begin, 1, actor);
    }
    interleaver.running = actor;
    interleaver.status[actor] = RUNNING;
    swapcontext(&interleaver.scheduler, &a->context);
    if (interleave_is_live(actor))
        interleave_clean(actor);
    interleaver.running = -1;
    interleaver.steps++;
}

static bool interleave_can_run(int actor)
{
    if (actor >= interleaver.now->workers
        && (!interleaver.now->reap || interleaver.status[actor - interleaver.now->workers] != DEAD))
        return false;
    return interleaver.status[actor] != ENDED && interleaver.status[actor] != DEAD;
}

static bool interleave_can_die(int actor)
{
    return interleave_is_live(actor) && interleaver.deaths < interleaver.now->deaths
           && !(interleaver.now->immortal >> actor & 1);
}

static void interleave_kill(int actor)
{
    interleaver.deaths++; /* a reaper that dies is followed by another one, from the beginning */
    interleaver.status[actor] = actor < interleaver.now->workers ? DEAD : FRESH;
}

static bool interleave_visit(const interleave_saved *saved, uint32_t number);

/* Visit the state that a step or a death has led to, unless it is known. */
static bool interleave_go_on(uint32_t *next)
{
    bool fresh, right = true;
    interleave_saved *saved = interleave_save();
    uint32_t number = interleave_number(interleave_hash(saved), &fresh);
    const char *wrong = fresh && interleaver.now->always ? interleaver.now->always() : NULL;
    *next = number;
    if (2 * interleaver.states > interleaver.room)
        interleave_make_room(2 * interleaver.room);
    if (wrong)
        right = interleave_fail(wrong);
    else if (interleaver.states > INTERLEAVE_STATES)
        right = interleave_fail("this case has too many states to visit: make it smaller");
    else if (fresh)
        right = interleave_visit(saved, number);
    free(saved);
    return right;
}

static bool interleave_visit(const interleave_saved *saved, uint32_t number)
{
    bool done = true, right = true;
    size_t depth = interleaver.depth;
    for (int i = 0; i < INTERLEAVE_ACTORS; i++)
        interleaver.next[number][i] = UINT32_MAX;
    for (int i = 0; right && i < 2 * interleaver.actors; i++) {
        int actor = i / 2, dies = i % 2;
        interleave_restore(saved);
        if (!(dies ? interleave_can_die(actor) : interleave_can_run(actor)))
            continue;
        if (depth + 8 < sizeof interleaver.path)
            interleaver.depth = depth + (size_t)sprintf(interleaver.path + depth, " %s%d", dies ? "-" : "", actor);
        uint32_t next;
        dies ? interleave_kill(actor) : interleave_resume(actor);
        int waits = interleaver.status[actor] == WAITING;
        right = interleave_go_on(&next);
        if (!dies) {
            interleaver.next[number][actor] = waits ? UINT32_MAX : next;
            done = done && next == number;
        }
        interleaver.path[interleaver.depth = depth] = 0;
    }
    if (!right || !done)
        return right;
    interleave_restore(saved);
    const char *wrong = interleaver.now->at_end ? interleaver.now->at_end() : NULL;
    return wrong ? interleave_fail(wrong) : true;
}

/* Each actor must end from every state if it alone runs: follow its steps, and find a circle. */
static bool interleave_all_end(int actor)
{
    uint32_t *circle = calloc(interleaver.states, sizeof *circle); /* the walk that has passed here */
    bool right = true;
    for (uint32_t from = 0; right && from < interleaver.states; from++) {
        uint32_t at = from;
        while (at != UINT32_MAX && circle[at] == 0) {
            circle[at] = from + 1;
            at = interleaver.next[at][actor];
        }
        right = at == UINT32_MAX || circle[at] != from + 1;
    }
    free(circle);
    interleaver.path[0] = 0;
    return right ? true : interleave_fail("a worker does not end though it runs alone: it waits for another");
}

static void interleave(const interleave_case *c)
{
    char *first = malloc(c->size);
    memcpy(first, c->memory, c->size);
    memset(&interleaver, 0, sizeof interleaver);
    interleaver.now = c;
    interleaver.running = -1;
    interleaver.actors = c->reap ? 2 * c->workers : c->workers;
    interleave_make_room(1u << 16);
    uint32_t next;
    bool right = c->workers <= INTERLEAVE_WORKERS && interleave_go_on(&next);
    for (int i = 0; right && i < interleaver.actors; i++)
        right = interleave_all_end(i);
    if (right)
        printf("%s: %u states, %llu steps\n", c->name, interleaver.states, (unsigned long long)interleaver.steps);
    memcpy(c->memory, first, c->size); /* for the next case */
    free(first);
    free(interleaver.seen);
    free(interleaver.number);
    free(interleaver.next);
}

#define INTERLEAVE(...) interleave(&(interleave_case){__VA_ARGS__})
#endif
