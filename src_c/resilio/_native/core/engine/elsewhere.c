/* Pools in the engine: a call goes to the endpoint that its pool chooses, and elsewhere if the gates of that one reject
   it, or if a strategy makes another attempt or copy. */
#include "core.h"

int rs_pools;

/* ---- the route of a call -------------------------------------------------------------------------------------- */

static rs_route *route_of(rs_run *run)
{
    if (run->route == NULL && (run->route = PyMem_RawCalloc(1, sizeof(rs_route))) != NULL)
        run->route->refs = 1;
    return run->route; /* NULL without memory: endpoints may be chosen twice */
}

rs_route *rs_route_share(rs_run *run)
{
    rs_route *route = rs_pools ? route_of(run) : NULL;
    if (route)
        __atomic_add_fetch(&route->refs, 1, __ATOMIC_RELAXED);
    return route;
}

rs_route *rs_route_keep(rs_route *route)
{
    if (route)
        __atomic_add_fetch(&route->refs, 1, __ATOMIC_RELAXED);
    return route;
}

void rs_route_drop(rs_route **of)
{
    rs_route *route = *of;
    *of = NULL;
    if (route && __atomic_sub_fetch(&route->refs, 1, __ATOMIC_ACQ_REL) == 0) {
        Py_XDECREF(route->pool);
        PyMem_RawFree(route);
    }
}

/* The run whose strategies may repeat what this one does: itself, or the nearest one around it; or NULL. */
static rs_run *repeater(rs_run *run, int stage)
{
    if (run->route || (stage > 0 && run->pipe->strategies))
        return run;
    for (rs_frame *frame = *rs_ambient(); frame; frame = frame->outer)
        if (frame->run != run && (frame->run->route || frame->run->pipe->strategies))
            return frame->run;
    return NULL;
}

/* The route goes on in this pool. Returns the one before, to be released after the lock, or NULL. */
static PyObject *enter_pool(rs_route *route, rs_gate *pool)
{
    PyObject *before = (PyObject *)route->pool;
    if (route->pool == pool)
        return NULL;
    Py_INCREF(pool);
    route->pool = pool;
    route->now = route->before = 0;
    return before;
}

/* Where earlier attempts, and of a copy the others as well, have been in this pool. */
static uint64_t tried(const rs_run *by, rs_gate *pool)
{
    rs_route *route = by->route;
    if (route == NULL)
        return 0;
    rs_lock_acquire(&route->lock);
    PyObject *other = enter_pool(route, pool);
    if (by->attempt > route->attempt) {
        route->attempt = by->attempt;
        route->before |= route->now;
        route->now = 0;
    }
    uint64_t places = route->before | (by->hedge ? route->now : 0);
    rs_lock_release(&route->lock);
    Py_XDECREF(other);
    return places;
}

static void note(rs_run *by, rs_gate *pool, int place)
{
    rs_route *route = route_of(by);
    if (route == NULL)
        return;
    rs_lock_acquire(&route->lock);
    PyObject *other = enter_pool(route, pool);
    route->now |= 1ull << place;
    rs_lock_release(&route->lock);
    Py_XDECREF(other);
}

/* The route for the next attempt of a stream, whose first permit holds *run*, or has held it: a new reference, or NULL. */
rs_route *rs_route_of_stream(rs_run *run)
{
    rs_route *route = rs_route_share(run);
    if (route == NULL)
        return NULL;
    if (run->pipe->pool >= 0)
        note(run, run->pipe->gate[run->pipe->pool], run->slots[run->pipe->pool].seat.place);
    rs_lock_acquire(&route->lock);
    route->before |= route->now;
    route->now = 0;
    rs_lock_release(&route->lock);
    return route;
}

/* ---- choosing, and choosing anew ------------------------------------------------------------------------------ */

rs_gate *rs_run_seat(const rs_run *run)
{
    if (run->pipe->pool >= 0)
        for (int i = run->base; i < run->n; i++) /* a permit may hold a part of the pipeline only */
            if (run->slots[i].gate->span == RS_SEAT)
                return run->slots[i].gate;
    return run->around ? (rs_gate *)run->around->seat : NULL;
}

/* The gate that `resolve` of the stage at *at* gets as the one before. */
rs_gate *rs_run_before(const rs_run *run, int at)
{
    int pool = run->pipe->pool;
    if (pool >= 0 && at > pool && at < pool + run->pipe->gate[pool]->span)
        return rs_run_seat(run);
    return at > run->base ? run->slots[at - 1].gate : NULL;
}

static void begin(rs_elsewhere *away, int stage, const rs_request *request, int64_t now)
{
    away->gate = NULL;
    away->choice = (rs_choice){.now_ns = now, .stage = (int16_t)stage, .level = -1, .hedge = request->hedge != 0};
}

static rs_gate *ask_pool(rs_gate *pool, const rs_request *request, rs_choice *choice)
{
    rs_request asking = *request;
    asking.choice = choice;
    return pool->ops->resolve(pool, &asking, NULL);
}

/* The seat of an endpoint for the pool's first stage, a new reference to its keeper. The stage itself, borrowed: there
   are no endpoints. NULL: all have rejected the call. */
rs_gate *rs_run_choose(rs_run *run, int stage, const rs_request *request, int64_t now, rs_elsewhere *away)
{
    rs_gate *pool = run->pipe->gate[stage];
    rs_choice *choice = &away->choice;
    if (choice->stage < 0)
        begin(away, stage, request, now);
    rs_run *by = repeater(run, stage);
    choice->tried = by ? tried(by, pool) : 0;
    rs_gate *seat = ask_pool(pool, request, choice);
    if (choice->place < 0 && choice->queues) { /* none admits it at once: now it may wait */
        choice->rejected &= ~choice->queues;
        choice->queues = 0;
        choice->waits = 1;
        seat = ask_pool(pool, request, choice);
    }
    if (choice->place < 0)
        return away->gate ? NULL : seat;
    if (by)
        note(by, pool, choice->place);
    return seat;
}

/* Keep the rejection that ends the soonest, to report it if there is nowhere else to go. */
static void keep_sooner(rs_elsewhere *away, rs_gate *gate, const rs_rejection *why)
{
    int64_t sooner = why->retry_after_ns, sofar = away->why.retry_after_ns;
    if (away->gate && (sooner < 0 || (sofar >= 0 && sofar <= sooner)))
        return;
    PyObject *before = away->gate ? rs_keeper_of(away->gate) : NULL;
    Py_INCREF(rs_keeper_of(gate));
    away->gate = gate;
    away->why = *why;
    Py_XDECREF(before);
}

/* Return 1 if the next attempt by the strategy at *stage* goes to an endpoint that none has been to. In a pool further in,
   of a function that may call others as well, an endpoint of the latest attempt must have failed. */
int rs_run_has_untried(const rs_run *run, int stage, int64_t now)
{
    rs_route *route = run->route;
    rs_choice choice = {.now_ns = now, .asks = 1, .place = -1};
    if (route == NULL || (run->pipe->pool >= 0 && run->pipe->pool < stage))
        return 0;
    rs_lock_acquire(&route->lock);
    rs_gate *pool = route->pool;
    Py_XINCREF(pool);
    choice.tried = route->before | route->now;
    choice.failed = run->pipe->pool >= 0 ? 0 : route->now;
    rs_lock_release(&route->lock);
    if (pool == NULL)
        return 0;
    ask_pool(pool, &(rs_request){0}, &choice);
    Py_DECREF(pool);
    return choice.place >= 0;
}

void rs_elsewhere_end(rs_elsewhere *away)
{
    if (away->gate)
        Py_DECREF(rs_keeper_of(away->gate));
    away->gate = NULL;
}

/* A pick that its own gates rejected, or the seat itself because of *why*, is no call of that endpoint. */
static void uncount(rs_gate *seat, const rs_rejection *why)
{
    rs_gate_lock(seat);
    seat->counters.calls--;
    if (why) {
        seat->counters.rejected--;
        seat->rejected[RS_REJECTED_AT(why->reason)]--;
    }
    else
        seat->counters.cancelled--;
    rs_gate_unlock(seat);
}

/* The gate at *at* has rejected the call. 1: it is one of the pool's, and the stages of the pool hold nothing more, so
   that the pool may choose anew. */
int rs_run_go_elsewhere(rs_run *run, int at, const rs_request *request, int may_wait, int64_t now,
                        const rs_rejection *why, rs_elsewhere *away)
{
    rs_choice *choice = &away->choice;
    int stage = run->pipe->pool;
    if (RS_LIKELY(stage < 0) || stage < run->base || at < stage || at >= stage + run->pipe->gate[stage]->span)
        return 0;
    rs_gate *gate = run->slots[at].gate, *seat = run->slots[stage].gate;
    if (seat->span != RS_SEAT) /* the stage itself: there is no endpoint */
        return 0;
    if (choice->stage < 0) { /* it was chosen before a wait */
        begin(away, stage, request, now);
        choice->place = (int8_t)run->slots[stage].seat.place;
    }
    choice->rejected |= 1ull << choice->place;
    if (may_wait && gate->ops->poll && !request->hedge && !choice->waits)
        choice->queues |= 1ull << choice->place;
    keep_sooner(away, gate, why);
    if (rs_gate_has_news(gate, 0))
        rs_gate_deliver(gate, NULL, 0);
    if (RS_UNLIKELY(gate->listening & RS_LISTEN_REJECTED))
        rs_notify_rejected(gate, why);
    uncount(seat, at == stage ? why : NULL);
    rs_run_give_back(run, stage, 0, now);
    return 1;
}

/* All endpoints have rejected the call: report the rejection that ends the soonest. */
int rs_run_all_rejected(rs_run *run, int64_t now, rs_rejection *why, rs_elsewhere *away)
{
    int stage = away->choice.stage;
    rs_gate *pool = run->pipe->gate[stage];
    rs_slot *slot = &run->slots[stage];
    *slot = (rs_slot){.gate = away->gate, .flags = RS_RESOLVED, .wake_ns = RS_NEVER};
    away->gate = NULL;
    *why = (rs_rejection){RS_ALL_REJECTED, NAN, NAN, -1, 0};
    rs_gate_lock(pool);
    pool->counters.calls++;
    rs_gate_count_rejection(pool, why);
    rs_gate_unlock(pool);
    *why = away->why;
    run->cursor = (int16_t)stage;
    if (RS_UNLIKELY(run->ledger != NULL))
        rs_ledger_uncalled(run, rs_run_floor(run, stage), now);
    rs_run_hold(run, stage);
    rs_run_cancel(run, rs_run_floor(run, stage), 0, now);
    return RS_REJECTED;
}
