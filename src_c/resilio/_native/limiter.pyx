# cython: boundscheck=False, wraparound=False, cdivision=True
"""
The rate limit as a gate: a token bucket for each rate, all taken from or none, and a fair queue.

All that is `nogil` runs with the gate's lock held: C arithmetic only. Tokens are counted in millionths, so that rates,
bursts and costs may be fractions and every sum is exact. While somebody queues nobody else is admitted; the head alone
has a timer for its tokens, and whoever comes by (`_pump`) serves all those who are due, in order, so that a head whose
event loop is busy does not hold up the rest. A waiter's tokens are taken when it is granted, not before: one that
leaves has taken none, and those behind it move up.
"""

from cpython.exc cimport PyErr_SetInterrupt
from cpython.object cimport PyObject
from libc.math cimport ceil, isfinite
from libc.stdint cimport INT64_MAX, int64_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from resilio._native import clock
from resilio._native.gate cimport *

__all__ = ["Amounts", "LimiterGate"]

cdef extern from "Python.h":
    object PyObject_Vectorcall(PyObject *, PyObject *const *, size_t, PyObject *)
    PyObject *PyTuple_GET_ITEM(PyObject *, Py_ssize_t) nogil
    Py_ssize_t PyTuple_GET_SIZE(PyObject *) nogil
    PyObject *Py_None

cdef extern from *:
    """
    /* Nanoseconds until n tokens are there, a cost of none included: that waits for a debt to be paid. May be more than
       the bucket holds: then after those that it is the sum of. */
    static inline int64_t rs_limiter_wait(rs_gcra *gcra, int64_t now_ns, int64_t n)
    {
        rs_fixed now, tat = rs_gcra_begin(gcra, now_ns, &now);
        rs_fixed wait = tat + rs_gcra_cost(gcra, n) - rs_gcra_span(gcra) - now;
        return wait <= 0 ? 0 : (int64_t)((wait + UINT64_MAX) >> 64);
    }

    /* Take n tokens if they are there. */
    static inline int rs_limiter_take(rs_gcra *gcra, int64_t now_ns, int64_t n)
    {
        rs_fixed now, tat = rs_gcra_begin(gcra, now_ns, &now) + rs_gcra_cost(gcra, n);
        if (tat > now + rs_gcra_span(gcra))
            return 0;
        rs_gcra_set_tat(gcra, tat);
        return 1;
    }

    /* What cost functions said of a call between `prepare` and `admit`, which follow each other in one thread. A few
       places, because a finaliser may run a call of its own in between. */
    typedef struct {
        const void *slot;
        uint32_t version;
        int64_t cost[8];
    } rs_told;
    #define RS_TOLD 4
    static _Thread_local rs_told rs_told_ring[RS_TOLD];
    static _Thread_local unsigned rs_told_next;

    static inline rs_told *rs_told_new(const void *slot)
    {
        rs_told *told = &rs_told_ring[rs_told_next++ % RS_TOLD];
        told->slot = slot;
        return told;
    }
    static inline rs_told *rs_told_of(const void *slot)
    {
        for (unsigned i = 1; i <= RS_TOLD; i++)
            if (rs_told_ring[(rs_told_next - i) % RS_TOLD].slot == slot)
                return &rs_told_ring[(rs_told_next - i) % RS_TOLD];
        return NULL;
    }
    """
    int64_t rs_limiter_wait(rs_gcra *, int64_t, int64_t) nogil
    bint rs_limiter_take(rs_gcra *, int64_t, int64_t) nogil
    ctypedef struct rs_told:
        uint32_t version
        int64_t cost[MOST_RATES]
    rs_told *rs_told_new(const void *) nogil
    rs_told *rs_told_of(const void *) nogil

cdef enum Reason:
    RATE, QUEUE_FULL, TOO_LATE, TOO_LARGE, NONE

cdef const char *REASONS[5]
REASONS[:] = ["rate", "queue_full", "wait", "too_large", NULL]

cdef enum:
    LONG_QUEUE = 1000
    TOLERANCE_NS = 1_000_000

cdef int64_t TOKEN = 1_000_000
cdef int64_t TOO_MUCH = 2_000_000_000 * TOKEN   # more than any bucket holds
cdef double _TOKEN = 1e6
cdef void *_amounts_type = NULL                 # the class Amounts, known at the end of this module


cdef inline rs_limiter *_of(rs_gate *gate) noexcept nogil:
    return &(<rs_limiter_object *>gate).limiter


cdef inline bint _is_reservation(const rs_request *request) noexcept nogil:
    return request.nargs == 1 and <void *>request.args[0].ob_type == _amounts_type


# ---- tokens ----------------------------------------------------------------------------------------------------------

cdef inline int64_t _wait(rs_limiter *m, const int64_t *cost, int64_t now_ns) noexcept nogil:
    """How long until all buckets have the tokens, if nobody queues."""
    cdef int64_t longest = 0
    cdef int i
    for i in range(m.rates):
        longest = max(longest, rs_limiter_wait(&m.bucket[i], now_ns, cost[i]))
    return longest


cdef inline bint _take(rs_limiter *m, const int64_t *cost, int64_t now_ns) noexcept nogil:
    """Take the tokens of all buckets, or of none."""
    cdef int i
    if m.rates == 1:
        return rs_limiter_take(&m.bucket[0], now_ns, cost[0])
    if _wait(m, cost, now_ns) > 0:
        return False
    for i in range(m.rates):
        rs_gcra_debit(&m.bucket[i], now_ns, cost[i])
    return True


cdef inline void _give_back(rs_limiter *m, const int64_t *cost) noexcept nogil:
    cdef int i
    for i in range(m.rates):
        rs_gcra_give_back(&m.bucket[i], cost[i])
    m.planned = False


cdef inline int _too_large(rs_limiter *m, const int64_t *cost) noexcept nogil:
    """The first rate whose bucket never holds as much, or -1."""
    cdef int i
    for i in range(m.rates):
        if cost[i] > m.bucket[i].burst:
            return i
    return -1


cdef rs_claim *_claim(rs_limiter *m, const int64_t *cost) noexcept nogil:
    cdef rs_claim *claim = <rs_claim *>malloc(sizeof(rs_claim))
    if claim != NULL:
        claim.version = m.version
        memcpy(claim.cost, cost, sizeof(claim.cost))
    return claim


# ---- the queue -------------------------------------------------------------------------------------------------------

cdef inline const int64_t *_cost_of(rs_waiter *waiter) noexcept nogil:
    return (<rs_claim *>waiter.claim).cost


cdef inline void _plan(rs_limiter *m, const int64_t *cost, int64_t now_ns, int64_t *at_ns, bint keep) noexcept nogil:
    """When a call that queues now will be admitted; *keep*: it does queue."""
    cdef int64_t start = max(m.plan_ns, now_ns), longest = 0
    cdef rs_gcra seen
    cdef int i
    for i in range(m.rates):
        seen = m.plan[i]
        longest = max(longest, rs_limiter_wait(&seen, start, cost[i]))
    at_ns[0] = start + longest
    if keep:
        m.plan_ns = start + longest
        for i in range(m.rates):
            rs_gcra_debit(&m.plan[i], m.plan_ns, cost[i])


cdef void _replan(rs_limiter *m, int64_t now_ns) noexcept nogil:
    cdef rs_waiter *waiter = m.queue.head
    memcpy(m.plan, m.bucket, sizeof(m.plan))
    m.plan_ns = now_ns
    m.late_ns = 0
    while waiter != NULL:
        _plan(m, _cost_of(waiter), now_ns, &(<rs_claim *>waiter.claim).plan_ns, True)
        waiter = waiter.next
    m.planned = True


cdef int64_t _wait_behind(rs_limiter *m, const int64_t *cost, int64_t now_ns, bint keep) noexcept nogil:
    """
    How long a call waits behind the queue, exactly; *keep*: it is about to queue.

    With one rate the tokens ahead are a sum. With several the head may wait for one rate while another fills up and
    runs over, so the future is played through; once, unless somebody left the queue or gave back tokens meanwhile, or
    was admitted late. In a very long queue being late has to add up to something before that is worth the time.
    """
    cdef int64_t at_ns
    if m.rates == 1:
        return rs_limiter_wait(&m.bucket[0], now_ns, m.queue.amount + cost[0])
    if not m.planned or m.queue.head == NULL or m.late_ns > (0 if m.queue.length <= LONG_QUEUE else TOLERANCE_NS):
        _replan(m, now_ns)
    _plan(m, cost, now_ns, &at_ns, keep)
    return at_ns - now_ns


cdef inline void _granted(rs_limiter *m, rs_claim *claim, int64_t now_ns) noexcept nogil:
    claim.version = m.version
    if now_ns > claim.plan_ns:
        m.late_ns += now_ns - claim.plan_ns


cdef void _pump(rs_gate *gate, rs_limiter *m, int64_t now_ns, rs_waiter *here) noexcept nogil:
    """Grant all who are due, in order, and have the next one set its timer; *here* is awake already."""
    cdef rs_waiter *waiter = m.queue.head
    cdef bint moved = False
    while waiter != NULL and _take(m, _cost_of(waiter), now_ns):
        rs_queue_remove(&m.queue, waiter)
        waiter.state = RS_WAITER_GRANTED
        _granted(m, <rs_claim *>waiter.claim, now_ns)
        if waiter != here:
            rs_gate_wake(gate, waiter)
        waiter = m.queue.head
        moved = True
    if moved and waiter != NULL and waiter != here:
        rs_gate_wake(gate, waiter)


cdef void _sooner(rs_gate *gate, rs_limiter *m, int64_t now_ns) noexcept nogil:
    """Tokens came back, or the head left: the head may be due, or sooner than its timer."""
    _pump(gate, m, now_ns, NULL)
    if m.queue.head != NULL:
        rs_gate_wake(gate, m.queue.head)


cdef void _leave(rs_gate *gate, rs_limiter *m, rs_waiter *waiter, int64_t now_ns) noexcept nogil:
    cdef bint first = m.queue.head == waiter
    rs_queue_remove(&m.queue, waiter)
    m.planned = False
    if first:
        _sooner(gate, m, now_ns)


# ---- admission -------------------------------------------------------------------------------------------------------

cdef inline const int64_t *_asked(rs_limiter *m, rs_slot *slot) noexcept nogil:
    """What the call costs: as told by `prepare`, which marked the slot, or as every call."""
    cdef rs_told *told
    if slot.mark == 0:
        return m.cost
    if m.rates == 1:
        return &slot.amount
    told = rs_told_of(slot)
    return &told.cost[0] if told != NULL and told.version == m.version else &m.cost[0]


cdef int _refuse(rs_limiter *m, int reason, const int64_t *cost, int64_t now_ns, int64_t wait_ns,
                 rs_refusal *refusal) noexcept nogil:
    cdef int worst = 0, i
    if reason == TOO_LARGE:
        worst = max(_too_large(m, cost), 0)
        refusal.limit = m.bucket[worst].burst / _TOKEN
    else:
        for i in range(1, m.rates):
            if rs_limiter_wait(&m.bucket[i], now_ns, cost[i]) > rs_limiter_wait(&m.bucket[worst], now_ns, cost[worst]):
                worst = i
        refusal.limit = rs_gcra_available(&m.bucket[worst], now_ns) / _TOKEN
    refusal.reason = reason
    refusal.measured = cost[worst] / _TOKEN
    if reason == QUEUE_FULL:
        refusal.measured = m.queue.length
        refusal.limit = m.most_queued
    refusal.retry_after_ns = -1 if reason == TOO_LARGE else max(wait_ns, 1)
    return RS_REJECTED


cdef void _mark_shadow(const rs_request *request) noexcept nogil:
    """Tell the reservation, if it is one, that it holds nothing."""
    if _is_reservation(request):
        (<rs_amounts_object *>request.args[0]).shadow = True


cdef int _enqueue(rs_limiter *m, rs_slot *slot, const int64_t *cost, rs_waiter *waiter, int64_t now_ns,
                  rs_refusal *refusal) noexcept nogil:
    cdef int64_t wait_ns
    waiter.claim = _claim(m, cost)
    if waiter.claim == NULL:                # no memory: no place to wait
        return _refuse(m, QUEUE_FULL, cost, now_ns, 1, refusal)
    wait_ns = _wait_behind(m, cost, now_ns, True)
    (<rs_claim *>waiter.claim).plan_ns = now_ns + wait_ns
    waiter.amount = cost[0]
    waiter.deadline_ns = now_ns + m.max_wait_ns
    rs_queue_push(&m.queue, waiter, now_ns)
    slot.wake_ns = now_ns + wait_ns
    return RS_WAIT


cdef int _short(rs_gate *gate, rs_limiter *m, rs_slot *slot, const rs_request *request, const int64_t *cost,
                int64_t now_ns, rs_refusal *refusal) noexcept nogil:
    """Wait, or be refused: the tokens are not there, or somebody came first."""
    cdef int obstacle = NONE
    cdef int64_t wait_ns = 0
    if _too_large(m, cost) >= 0:
        obstacle = TOO_LARGE
    else:
        wait_ns = _wait_behind(m, cost, now_ns, False)
        if wait_ns > m.max_wait_ns or m.most_queued == 0:
            obstacle = RATE
        elif m.queue.length >= m.most_queued:
            obstacle = QUEUE_FULL
    if not rs_gate_enforced(gate):
        gate.counters.would_wait += obstacle == NONE
        gate.counters.would_reject += obstacle != NONE
        slot.state = RS_SLOT_SHADOW
        _mark_shadow(request)
        return RS_ADMITTED
    if obstacle != NONE or request.waiter == NULL:
        return _refuse(m, obstacle if obstacle != NONE else RATE, cost, now_ns, wait_ns, refusal)
    return _enqueue(m, slot, cost, request.waiter, now_ns, refusal)


cdef int _admit(rs_gate *gate, rs_slot *slot, const rs_request *request, int64_t now_ns,
                rs_refusal *refusal) noexcept nogil:
    cdef rs_limiter *m = _of(gate)
    cdef const int64_t *cost = _asked(m, slot)
    if m.queue.head != NULL:
        _pump(gate, m, now_ns, NULL)
    if m.queue.head != NULL or not _take(m, cost, now_ns):
        return _short(gate, m, slot, request, cost, now_ns, refusal)
    slot.generation = 0
    if m.rates > 1 and cost != m.cost:
        slot.generation = <uint64_t>_claim(m, cost)
    slot.amount = cost[0]
    slot.mark = m.version
    return RS_ADMITTED


cdef inline void _collect(rs_slot *slot, rs_waiter *waiter) noexcept nogil:
    waiter.state = RS_WAITER_IDLE
    slot.generation = <uint64_t>waiter.claim
    slot.mark = (<rs_claim *>waiter.claim).version
    waiter.claim = NULL


cdef int _poll(rs_gate *gate, rs_slot *slot, int64_t now_ns, rs_refusal *refusal) noexcept nogil:
    cdef rs_limiter *m = _of(gate)
    cdef rs_waiter *waiter = slot.waiter
    cdef const int64_t *cost
    if waiter.state == RS_WAITER_QUEUED:
        _pump(gate, m, now_ns, waiter)
    if waiter.state == RS_WAITER_GRANTED:
        _collect(slot, waiter)
        return RS_ADMITTED
    cost = _cost_of(waiter)
    if waiter.state == RS_WAITER_QUEUED and now_ns < waiter.deadline_ns:
        slot.wake_ns = waiter.deadline_ns
        if m.queue.head == waiter:
            slot.wake_ns = min(slot.wake_ns, now_ns + _wait(m, cost, now_ns))
        return RS_WAIT
    if waiter.state == RS_WAITER_REFUSED:
        _refuse(m, waiter.reason, cost, now_ns, 1, refusal)
    else:
        _refuse(m, TOO_LATE, cost, now_ns, _wait(m, cost, now_ns), refusal)
        refusal.measured = (now_ns - waiter.enqueued_ns) * 1e-9
        refusal.limit = (waiter.deadline_ns - waiter.enqueued_ns) * 1e-9
        _leave(gate, m, waiter, now_ns)
    free(waiter.claim)
    waiter.claim = NULL
    return RS_REJECTED


# ---- the end ---------------------------------------------------------------------------------------------------------

cdef inline const int64_t *_held(rs_limiter *m, rs_slot *slot) noexcept nogil:
    """What the slot has taken, rate by rate."""
    if slot.generation != 0:
        return &(<rs_claim *>slot.generation).cost[0]
    return &slot.amount if m.rates == 1 else &m.cost[0]


cdef inline void _refund(rs_gate *gate, rs_limiter *m, uint32_t version, const int64_t *cost,
                         int64_t now_ns) noexcept nogil:
    """Give back what was taken, unless it belongs to another configuration: those tokens are no more."""
    if version == m.version:
        _give_back(m, cost)
        _sooner(gate, m, now_ns)


cdef void _cancel(rs_gate *gate, rs_slot *slot, int64_t now_ns) noexcept nogil:
    cdef rs_limiter *m = _of(gate)
    cdef rs_waiter *waiter = slot.waiter
    cdef rs_claim *claim
    if slot.state == RS_SLOT_HELD:
        _refund(gate, m, slot.mark, _held(m, slot), now_ns)
        free(<void *>slot.generation)
        slot.generation = 0
    elif waiter != NULL:
        claim = <rs_claim *>waiter.claim
        if waiter.state == RS_WAITER_GRANTED:
            _refund(gate, m, claim.version, claim.cost, now_ns)
        elif waiter.state == RS_WAITER_QUEUED:
            _leave(gate, m, waiter, now_ns)
        waiter.state = RS_WAITER_IDLE
        waiter.claim = NULL
        free(claim)


cdef void _settle(rs_gate *gate, rs_slot *slot, int outcome, int64_t latency_ns, int64_t now_ns) noexcept nogil:
    free(<void *>slot.generation)           # the callee was called: its tokens are spent
    slot.generation = 0


cdef void _forget(rs_gate *gate, int64_t now_ns) noexcept nogil:
    cdef rs_limiter *m = _of(gate)
    memset(&m.queue, 0, sizeof(m.queue))
    m.planned = False


cdef void _adjust(rs_gate *gate, uint32_t mask, int64_t amount, bint back, int64_t now_ns) noexcept nogil:
    cdef rs_limiter *m = _of(gate)
    cdef int i
    for i in range(m.rates):
        if mask >> i & 1:
            if back:
                rs_gcra_give_back(&m.bucket[i], amount)
            else:
                rs_gcra_debit(&m.bucket[i], now_ns, amount)
    m.planned = False
    if back:
        _sooner(gate, m, now_ns)


cdef void _correct(rs_gate *gate, rs_slot *slot, uint32_t mask, const int64_t *actual, int64_t now_ns) noexcept nogil:
    """The call that holds *slot* costs something else than was taken, in the rates of *mask*."""
    cdef rs_limiter *m = _of(gate)
    cdef int64_t *held = &slot.amount
    cdef int i
    if slot.state != RS_SLOT_HELD or slot.mark != m.version:
        return
    if m.rates > 1:
        if slot.generation == 0:
            slot.generation = <uint64_t>_claim(m, m.cost)
        if slot.generation == 0:            # no memory to remember it: the estimate stays
            return
        held = &(<rs_claim *>slot.generation).cost[0]
    for i in range(m.rates):
        if mask >> i & 1:
            rs_gcra_debit(&m.bucket[i], now_ns, actual[i] - held[i])
            rs_gcra_give_back(&m.bucket[i], held[i] - actual[i])
            held[i] = actual[i]
    m.planned = False
    _sooner(gate, m, now_ns)


cdef void _fill(rs_gate *gate, int64_t now_ns) noexcept nogil:
    cdef rs_limiter *m = _of(gate)
    cdef int i
    for i in range(m.rates):
        rs_gcra_fill(&m.bucket[i], now_ns)
    m.planned = False
    _sooner(gate, m, now_ns)


# ---- configuration ---------------------------------------------------------------------------------------------------

ctypedef struct rs_setting:
    bint kept                   # the rate has the same unit as before
    double amount
    int64_t period_ns
    int64_t cost
    rs_gcra bucket              # full


cdef void _reassess(rs_gate *gate, rs_limiter *m, bint other_units) noexcept nogil:
    """Refuse those in the queue whose cost is too large now; after a change of units all cost what a call costs."""
    cdef rs_waiter *waiter = m.queue.head
    cdef rs_waiter *following
    cdef rs_claim *claim
    while waiter != NULL:
        following = waiter.next
        claim = <rs_claim *>waiter.claim
        if other_units:
            memcpy(claim.cost, m.cost, sizeof(claim.cost))
        m.queue.amount += claim.cost[0] - waiter.amount
        waiter.amount = claim.cost[0]
        if _too_large(m, claim.cost) >= 0:
            rs_queue_remove(&m.queue, waiter)
            waiter.state = RS_WAITER_REFUSED
            waiter.reason = TOO_LARGE
            rs_gate_wake(gate, waiter)
        waiter = following


cdef void _install(rs_gate *gate, rs_setting *setting, int rates, bint other_units, int64_t most_queued,
                   int64_t max_wait_ns, int64_t now_ns) noexcept nogil:
    cdef rs_limiter *m = _of(gate)
    cdef int i
    for i in range(rates):
        m.cost[i] = setting[i].cost
        if setting[i].kept:
            rs_gcra_reconfigure(&m.bucket[i], setting[i].amount, setting[i].period_ns, setting[i].bucket.burst, now_ns)
        else:
            m.bucket[i] = setting[i].bucket
    m.rates = rates
    m.most_queued = most_queued
    m.max_wait_ns = max_wait_ns
    m.version += 1
    m.planned = False
    _reassess(gate, m, other_units)
    _sooner(gate, m, now_ns)


# ---- costs -----------------------------------------------------------------------------------------------------------

cdef int64_t _millionths(object tokens) except -1:
    """A cost as the buckets count it, rounded up; what is no number of tokens is an error."""
    cdef double amount
    if isinstance(tokens, bool):
        raise TypeError(tokens)
    amount = tokens
    if not (isfinite(amount) and amount >= 0.0):
        raise ValueError(tokens)
    return TOO_MUCH if amount >= TOO_MUCH / _TOKEN else <int64_t>ceil(amount * _TOKEN - 1e-3)


cdef int64_t _ask(LimiterGate self, PyObject *function, const rs_request *request) noexcept:
    """Ask a cost function. One that raises, or says nonsense, costs one token: it must not decide over the call."""
    try:
        return _millionths(PyObject_Vectorcall(function, request.args, request.nargs, request.kwnames))
    except BaseException as error:
        self.bad_costs += 1
        if isinstance(error, KeyboardInterrupt):
            PyErr_SetInterrupt()            # not the function's: raised again at the next safe point
    return TOKEN


cdef void _tell(rs_slot *slot, uint32_t version, const int64_t *cost) noexcept nogil:
    cdef rs_told *told = rs_told_new(slot)
    slot.mark = 1
    slot.amount = cost[0]
    told.version = version
    memcpy(told.cost, cost, sizeof(told.cost))


cdef int _prepare(rs_gate *gate, rs_slot *slot, const rs_request *request) noexcept:
    cdef PyObject *costs = (<LimiterGate>gate).costs
    cdef int64_t cost[MOST_RATES]
    cdef rs_limiter *m = _of(gate)
    cdef uint32_t version = m.version
    cdef PyObject *function
    cdef int i, rates
    slot.mark = 0
    if _is_reservation(request):
        if (<rs_amounts_object *>request.args[0]).version == version:
            _tell(slot, version, (<rs_amounts_object *>request.args[0]).cost)
    elif costs != NULL:
        memcpy(cost, m.cost, sizeof(cost))
        rates = min(m.rates, <int>PyTuple_GET_SIZE(costs))
        for i in range(rates):
            function = PyTuple_GET_ITEM(costs, i)
            if function != Py_None:
                cost[i] = _ask(<LimiterGate>gate, function, request)
        _tell(slot, version, cost)
    return 0


cdef rs_gate_ops OPS                        # field by field: a struct made at once leaves the others undefined
OPS.kind = "rate_limit"
OPS.error = "RateLimitedError"
OPS.reasons = &REASONS[0]
OPS.prepare = _prepare
OPS.admit = _admit
OPS.poll = _poll
OPS.cancel = _cancel
OPS.settle = _settle
OPS.forget = _forget


cdef class Amounts:
    """What one call costs, rate by rate: passed to an acquire as its only argument it is taken instead of the costs."""

    def __init__(self):
        raise TypeError("amounts are made by LimiterGate.amounts()")

    @property
    def shadow(self):
        """Whether nothing was taken, because enforcement would have refused the call or made it wait."""
        return bool(self.shadow)

    def of(self, str unit):
        """Return the tokens of *unit*; with several rates in it, of the first."""
        return self.cost[self.units.index(unit)] / _TOKEN


_amounts_type = <void *><PyObject *>Amounts


cdef int64_t _mask(tuple units, str unit) except -1:
    """The rates that count *unit*, as bits."""
    cdef int64_t mask = 0
    for i, known in enumerate(units):
        mask |= <int64_t>(known == unit) << i
    if mask == 0:
        raise ValueError(f"no rate counts {unit!r}; there are: {', '.join(dict.fromkeys(units))}")
    return mask


cdef int64_t _checked(str unit, object tokens) except -1:
    try:
        return _millionths(tokens)
    except TypeError:
        raise TypeError(f"{unit} must be a number of tokens >= 0, not {tokens!r}") from None
    except ValueError:
        raise ValueError(f"{unit} must be a number of tokens >= 0, not {tokens!r}") from None


cdef int64_t _asked_aside(LimiterGate self, object function, tuple args, dict kwargs) except -1:
    try:
        return _millionths(function(*args, **kwargs))
    except Exception:
        self.bad_costs += 1
    return TOKEN


cdef int _read(rs_setting *setting, object rates, tuple before, int64_t now_ns) except -1:
    """Turn what a user says into numbers, before anything is changed."""
    if not 1 <= len(rates) <= MOST_RATES:
        raise ValueError(f"there must be from 1 to {MOST_RATES} rates, not {len(rates)}")
    for i, (unit, amount, period_ns, burst, cost) in enumerate(rates):
        setting[i].amount = amount * _TOKEN
        setting[i].period_ns = period_ns
        setting[i].cost = TOKEN if callable(cost) else _millionths(cost)
        setting[i].kept = i < len(before) and before[i] == unit
        if rs_gcra_init(&setting[i].bucket, setting[i].amount, period_ns, _millionths(burst), now_ns) < 0:
            raise ValueError(f"{amount:g} {unit} every {period_ns / 1e9:g} s with a burst of {burst:g} is out of range")
    return 0


cdef class LimiterGate(Gate):
    """
    The buckets of one rate limit and those who wait for tokens, shared by all that it guards.

    `resilio.rate_limit` is its public face and checks every option; here they are taken as they are. The methods are
    atomic and may be called from any thread.
    """

    def __cinit__(self, *args, **kwargs):
        cdef rs_limiter_object *seen = <rs_limiter_object *><PyObject *>self
        cdef Amounts amounts = Amounts.__new__(Amounts)
        if (<void *>&seen.limiter != <void *>&self.limiter
                or <void *>(<rs_amounts_object *><PyObject *>amounts).cost != <void *>amounts.cost):
            raise SystemError("resilio._native.limiter was built against another gate.h")
        self.ops = &OPS
        self.kept = []
        self.units = ()

    def __init__(self, *, rates, max_queued=0, max_wait_ns=0):
        """Make a limit with full buckets and the options of :meth:`configure`."""
        self.configure(rates=rates, max_queued=max_queued, max_wait_ns=max_wait_ns)

    def configure(self, *, rates, int64_t max_queued, int64_t max_wait_ns):
        """
        Replace every option at once, keeping tokens, debts and the queue.

        A rate whose unit stands at the same place before and after keeps its tokens, up to the new burst. Those who
        queue keep what they cost, unless units have changed, and are refused if that is too large now.

        Args:
            rates: 1 to 8 tuples (unit, amount, period_ns, burst, cost): *amount* tokens every *period_ns*, at most
                *burst* at once, and *cost* a number of tokens or a function of the call's arguments.

            max_queued: Calls that may wait, >= 0.

            max_wait_ns: How long, >= 0.

        Raises:
            ValueError: More rates than 8, none, or a rate that cannot be counted.
        """
        cdef rs_setting setting[MOST_RATES]
        cdef int64_t now_ns = clock.now_ns()
        cdef tuple units = tuple([rate[0] for rate in rates])
        cdef tuple functions = tuple([rate[4] if callable(rate[4]) else None for rate in rates])
        cdef PyObject *costs = <PyObject *>functions if any(functions) else NULL
        cdef bint other_units = units != self.units
        _read(setting, rates, self.units, now_ns)
        self.kept.append((units, functions))    # another thread may be reading those of before
        rs_lock_acquire(&self.lock)
        _install(<rs_gate *><PyObject *>self, setting, PyTuple_GET_SIZE(<PyObject *>units), other_units, max_queued,
                 max_wait_ns, now_ns)
        self.costs = costs
        rs_lock_release(&self.lock)
        self.units = units
        self.deliver()

    def amounts(self, tuple args=(), dict kwargs=None, dict given=None):
        """
        Return what a call costs, for an acquire that takes this instead.

        Args:
            args: What cost functions see of the call, for the units that are not given.

            kwargs: The same by keyword.

            given: Tokens by unit, >= 0.

        Raises:
            ValueError: A unit that no rate has, or no number of tokens.
        """
        cdef Amounts amounts = Amounts.__new__(Amounts)
        cdef object functions = <object>self.costs if self.costs != NULL else ()
        cdef dict told = given or {}
        amounts.units = self.units
        amounts.version = self.limiter.version
        memcpy(amounts.cost, self.limiter.cost, sizeof(amounts.cost))
        for unit in told:
            _mask(self.units, unit)
        for i, unit in enumerate(self.units):
            if unit in told:
                amounts.cost[i] = _checked(unit, told[unit])
            elif i < len(functions) and functions[i] is not None:
                amounts.cost[i] = _asked_aside(self, functions[i], args, kwargs or {})
        return amounts

    def adjust(self, str unit, double tokens):
        """
        Take *tokens* more of *unit*, into debt if they are not there, or give them back if negative.

        Args:
            unit: Of one or several rates; all are adjusted.

            tokens: Finite.
        """
        cdef int64_t amount = _checked(unit, abs(tokens))
        cdef int64_t now_ns = clock.now_ns()
        cdef uint32_t mask = _mask(self.units, unit)
        rs_lock_acquire(&self.lock)
        _adjust(<rs_gate *><PyObject *>self, mask, amount, tokens < 0, now_ns)
        rs_lock_release(&self.lock)
        self.deliver()

    def settle_slot(self, size_t address, dict actual not None):
        """
        Correct what the call which holds the slot at *address* has taken, as the core asks for `current().settle()`.

        Args:
            address: Of a slot of this gate, whose call is under way.

            actual: Tokens by unit, >= 0; the others stay.
        """
        cdef Amounts amounts = self.amounts((), {}, actual)
        cdef int64_t now_ns = clock.now_ns()
        cdef uint32_t mask = 0
        for unit in actual:
            mask |= _mask(self.units, unit)
        rs_lock_acquire(&self.lock)
        _correct(<rs_gate *><PyObject *>self, <rs_slot *>address, mask, amounts.cost, now_ns)
        rs_lock_release(&self.lock)
        self.deliver()

    def fill(self):
        """Fill every bucket, and serve those who wait from it."""
        cdef int64_t now_ns = clock.now_ns()
        rs_lock_acquire(&self.lock)
        _fill(<rs_gate *><PyObject *>self, now_ns)
        rs_lock_release(&self.lock)
        self.deliver()

    def wait(self, Amounts amounts not None):
        """
        Return the seconds that a call which costs *amounts* would have to wait now, behind those who do; 0.0: it would
        not. Infinity: it is too large. Changes nothing.
        """
        cdef int64_t wait_ns
        cdef int64_t now_ns = clock.now_ns()
        rs_lock_acquire(&self.lock)
        wait_ns = -1 if _too_large(&self.limiter, amounts.cost) >= 0 else _wait_behind(
            &self.limiter, amounts.cost, now_ns, False)
        rs_lock_release(&self.lock)
        return float("inf") if wait_ns < 0 else wait_ns / 1e9

    def available(self):
        """Return the tokens there now by unit, of the emptiest of its buckets; below zero while in debt."""
        cdef int64_t tokens[MOST_RATES]
        cdef int64_t now_ns = clock.now_ns()
        cdef tuple units = self.units
        cdef int i
        rs_lock_acquire(&self.lock)
        for i in range(self.limiter.rates):
            tokens[i] = rs_gcra_available(&self.limiter.bucket[i], now_ns)
        rs_lock_release(&self.lock)
        result = {}
        for i, unit in enumerate(units):
            result[unit] = min(result.get(unit, float("inf")), tokens[i] / _TOKEN)
        return result

    @property
    def cost_errors(self):
        """How often a cost function raised or answered nonsense; such a call cost one token."""
        return self.bad_costs
