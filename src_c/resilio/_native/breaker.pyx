# cython: boundscheck=False, wraparound=False, cdivision=True
"""
The circuit breaker as a gate: trips on what it sees, probes carefully, drops results that are stale.

Everything above the class runs with the gate's lock held: C arithmetic only. The hot path is `_admit` and `_settle` while
the breaker is closed; all else is rare. A slot's generation is the breaker's at admission; its mark is the lease of a
probe, or 1 for a call that the ramp let through.
"""

from libc.math cimport NAN
from libc.stdint cimport INT64_MAX, int64_t, uint8_t, uint32_t, uint64_t
from posix.unistd cimport getpid

from resilio._entropy import seed64
from resilio._native.clock cimport rs_clock, rs_clock_import, rs_clock_now
from resilio._native.gate cimport (
    RS_ADMITTED, RS_FAILURE, RS_IGNORED, RS_NEVER, RS_REJECTED, RS_SLOT_SHADOW, Gate, rs_counters, rs_gate, rs_gate_change,
    rs_gate_enforced, rs_gate_ops, rs_histogram_quantile, rs_lock_acquire, rs_lock_release, rs_refusal, rs_request, rs_slot,
)

__all__ = ["BreakerGate"]

cdef enum State:
    CLOSED, OPEN, HALF_OPEN, FORCED_OPEN, FORCED_CLOSED, DISABLED

cdef enum Reason:
    BY_OPEN, BY_PROBING, BY_RAMP, BY_FORCED_OPEN                        # of refusals
    BY_FAILURE_RATE, BY_CONSECUTIVE, BY_SLOW_RATE, BY_PROBE_FAILED      # of opening
    BY_ELAPSED, BY_PROBES_SUCCEEDED, BY_MANUAL                          # of the other changes

cdef const char *STATES[7]
STATES[:] = ["closed", "open", "half_open", "forced_open", "forced_closed", "disabled", NULL]
cdef const char *REASONS[12]
REASONS[:] = ["open", "probing", "ramp", "forced_open", "failure_rate", "consecutive", "slow_rate", "probe_failed",
              "elapsed", "probes_succeeded", "manual", NULL]

cdef enum:
    PROOF = 2                               # successful probes that close
    CLOCK_JUMP_NS = 1_000_000_000           # a step back beyond this is another clock, not a race between two threads
    LONGEST_LEASE_NS = 60_000_000_000
    WHOLE = 1_000_000_000                   # the ramp counts in parts of a call, so that it is exact everywhere
    FIRST_SHARE = 100_000_000               # of a ramp
cdef uint64_t NO_GENERATION = 0             # a breaker counts from 1
cdef double JITTER = 0.1                    # an open time is at most this share shorter


cdef inline rs_breaker *_of(rs_gate *gate) noexcept nogil:
    return &(<rs_breaker_object *>gate).breaker


cdef int64_t _monotone(rs_breaker *b, int64_t now_ns) noexcept nogil:
    """Time never goes back: a small step is clamped; after a large one all that is kept moves to the new clock."""
    cdef int64_t step = now_ns - b.last_ns
    cdef uint32_t i
    if step < 0:
        if step > -CLOCK_JUMP_NS:
            return b.last_ns
        b.until_ns += step
        if b.ramp_end_ns:
            b.ramp_end_ns += step
        for i in range(b.leases):
            b.lease[i].until_ns += step
    b.last_ns = now_ns
    return now_ns


cdef double _uniform(rs_breaker *b) noexcept nogil:
    """In [0, 1), by xorshift64*. Source: Vigna, "An experimental exploration of Marsaglia's xorshift generators"."""
    b.random ^= b.random >> 12
    b.random ^= b.random << 25
    b.random ^= b.random >> 27
    return <double>((b.random * <uint64_t>0x2545F4914F6CDD1D) >> 11) * (1.0 / 9007199254740992.0)


# ---- changes of state ------------------------------------------------------------------------------------------------

cdef void _enter(rs_gate *gate, rs_breaker *b, uint8_t state, uint8_t reason, int64_t now_ns) noexcept nogil:
    rs_gate_change(gate, b.state, state, reason, now_ns)
    b.state = state
    b.generation += 1
    b.leases = 0
    b.proven = 0
    b.ramp_end_ns = 0
    b.passing = state == CLOSED or state == FORCED_CLOSED or state == DISABLED


cdef void _open(rs_gate *gate, rs_breaker *b, uint8_t reason, int64_t now_ns) noexcept nogil:
    if b.state == HALF_OPEN:
        b.open_ns = min(b.open_ns + b.open_ns // 2, b.options.max_open_ns)  # doubling overshoots a short outage
    else:
        b.open_ns = b.options.open_ns
    b.until_ns = now_ns + b.open_ns - <int64_t>(b.open_ns * JITTER * _uniform(b))
    _enter(gate, b, OPEN, reason, now_ns)


cdef void _trip(rs_gate *gate, rs_breaker *b, uint8_t reason, double measured, double limit,
                int64_t now_ns) noexcept nogil:
    b.trip_measured = measured
    b.trip_limit = limit
    _monotone(b, now_ns)
    _open(gate, b, reason, b.last_ns)


cdef void _close(rs_gate *gate, rs_breaker *b, uint8_t reason, int64_t now_ns) noexcept nogil:
    """Start afresh: what was counted before says nothing about the dependency as it is now."""
    rs_window_reset(&b.window)
    b.in_a_row = 0
    _enter(gate, b, CLOSED, reason, now_ns)


# ---- admission -------------------------------------------------------------------------------------------------------

cdef int _refuse(rs_gate *gate, rs_slot *slot, rs_refusal *refusal, int reason, double measured, double limit,
                 int64_t retry_after_ns) noexcept nogil:
    if not rs_gate_enforced(gate):
        gate.counters.would_reject += 1
        slot.state = RS_SLOT_SHADOW
        return RS_ADMITTED
    refusal.reason = reason
    refusal.measured = measured
    refusal.limit = limit
    refusal.retry_after_ns = retry_after_ns
    return RS_REJECTED


cdef int64_t _lease_ns(rs_gate *gate, rs_breaker *b) noexcept nogil:
    """How long a probe may take before its place goes to another."""
    if b.options.lease_ns:
        return b.options.lease_ns
    return min(max(b.options.max_open_ns, 2 * rs_histogram_quantile(&gate.latency, 0.99)), <int64_t>LONGEST_LEASE_NS)


cdef int64_t _drop_lapsed(rs_breaker *b, int64_t now_ns) noexcept nogil:
    """Take back the leases that ran out; return when the next one will."""
    cdef int64_t earliest = RS_NEVER
    cdef uint32_t i = 0
    while i < b.leases:
        if b.lease[i].until_ns <= now_ns:
            b.leases -= 1
            b.lease[i] = b.lease[b.leases]
            b.lapsed += 1
        else:
            earliest = min(earliest, b.lease[i].until_ns)
            i += 1
    return earliest


cdef int _probe(rs_gate *gate, rs_breaker *b, rs_slot *slot, int64_t now_ns, rs_refusal *refusal) noexcept nogil:
    """One probe until the first success of the round; then as many as make `probes` with those that succeeded."""
    cdef int64_t earliest = _drop_lapsed(b, now_ns)
    cdef uint32_t places = b.options.probes - b.proven if 0 < b.proven < b.options.probes else 1
    if b.leases >= places:
        return _refuse(gate, slot, refusal, BY_PROBING, b.leases, places, max(1, min(earliest - now_ns, b.open_ns)))
    b.last_lease += 1
    b.lease[b.leases].number = b.last_lease
    b.lease[b.leases].until_ns = now_ns + _lease_ns(gate, b)
    b.leases += 1
    slot.mark = b.last_lease
    return RS_ADMITTED


cdef int _ramp(rs_gate *gate, rs_breaker *b, rs_slot *slot, int64_t now_ns, rs_refusal *refusal) noexcept nogil:
    """Admit a share that rises from 10 % to all; by error diffusion, so that it is exact and even."""
    cdef int64_t left = b.ramp_end_ns - now_ns
    if left <= 0:
        b.ramp_end_ns = 0
        b.passing = True
        return RS_ADMITTED
    b.ramp_credit += WHOLE - <int64_t>((WHOLE - FIRST_SHARE) * min(1.0, left / <double>b.options.ramp_ns))
    if b.ramp_credit < WHOLE:
        return _refuse(gate, slot, refusal, BY_RAMP, NAN, NAN, min(left, b.options.open_ns))
    b.ramp_credit -= WHOLE
    slot.mark = 1
    return RS_ADMITTED


cdef int _decide(rs_gate *gate, rs_slot *slot, const rs_request *request, int64_t now_ns,
                 rs_refusal *refusal) noexcept nogil:
    cdef rs_breaker *b = _of(gate)
    now_ns = _monotone(b, now_ns)
    if request != NULL and request.hedge and (b.state == OPEN or b.state == HALF_OPEN):     # a copy takes no probe's place
        return _refuse(gate, slot, refusal, BY_OPEN, b.trip_measured, b.trip_limit, max(b.until_ns - now_ns, b.options.open_ns))
    if b.state == OPEN:
        if now_ns < b.until_ns:
            return _refuse(gate, slot, refusal, BY_OPEN, b.trip_measured, b.trip_limit, b.until_ns - now_ns)
        _enter(gate, b, HALF_OPEN, BY_ELAPSED, now_ns)
        slot.generation = b.generation
    if b.state == HALF_OPEN:
        return _probe(gate, b, slot, now_ns, refusal)
    if b.state == FORCED_OPEN:
        return _refuse(gate, slot, refusal, BY_FORCED_OPEN, NAN, NAN, -1)
    return _ramp(gate, b, slot, now_ns, refusal)


cdef int _admit(rs_gate *gate, rs_slot *slot, const rs_request *request, int64_t now_ns,
                rs_refusal *refusal) noexcept nogil:
    cdef rs_breaker *b = _of(gate)
    slot.generation = b.generation
    slot.mark = 0
    if b.passing:
        return RS_ADMITTED
    return _decide(gate, slot, request, now_ns, refusal)


cdef rs_lease *_lease_of(rs_breaker *b, rs_slot *slot) noexcept nogil:
    cdef uint32_t i
    if b.state == HALF_OPEN and slot.generation == b.generation:
        for i in range(b.leases):
            if b.lease[i].number == slot.mark:
                return &b.lease[i]
    return NULL


cdef void _return_lease(rs_breaker *b, rs_slot *slot) noexcept nogil:
    """A lease that lapsed is no longer there: its place is never freed twice."""
    cdef rs_lease *lease = _lease_of(b, slot)
    if lease != NULL:
        b.leases -= 1
        lease[0] = b.lease[b.leases]


cdef int _recheck(rs_gate *gate, rs_slot *slot, int64_t now_ns, rs_refusal *refusal) noexcept nogil:
    cdef rs_breaker *b = _of(gate)
    cdef rs_lease *lease = _lease_of(b, slot)
    slot.admitted_ns = now_ns               # the callee starts only now: waiting elsewhere is not its slowness
    if lease != NULL:
        lease.until_ns = _monotone(b, now_ns) + _lease_ns(gate, b)
        return RS_ADMITTED
    if slot.generation == b.generation and b.state != HALF_OPEN:
        return RS_ADMITTED
    return _admit(gate, slot, NULL, now_ns, refusal)


cdef void _cancel(rs_gate *gate, rs_slot *slot, int64_t now_ns) noexcept nogil:
    cdef rs_breaker *b = _of(gate)
    _return_lease(b, slot)
    if b.ramp_end_ns and slot.mark and slot.generation == b.generation:
        b.ramp_credit = min(b.ramp_credit + WHOLE, <int64_t>WHOLE)


# ---- learning --------------------------------------------------------------------------------------------------------

cdef void _look(rs_gate *gate, rs_breaker *b, int64_t now_ns) noexcept nogil:
    """Trip if what the window holds says so."""
    cdef double total = b.window.total
    if b.in_a_row >= b.options.consecutive:
        _trip(gate, b, BY_CONSECUTIVE, b.in_a_row, b.options.consecutive, now_ns)
    elif b.window.total < b.options.min_calls:
        return
    # A quotient, not a product: 7 / 100 is the same double as 0.07, but 0.07 * 100 is above 7.
    elif b.window.failed / total >= b.options.failure_rate:
        _trip(gate, b, BY_FAILURE_RATE, b.window.failed / total, b.options.failure_rate, now_ns)
    elif b.options.slow_ns != RS_NEVER and b.window.slow / total >= b.options.slow_rate:
        _trip(gate, b, BY_SLOW_RATE, b.window.slow / total, b.options.slow_rate, now_ns)


cdef void _verdict(rs_gate *gate, rs_breaker *b, rs_slot *slot, bint good, int64_t now_ns) noexcept nogil:
    """A probe's result counts also when its lease has lapsed: it is as fresh as any other of this round."""
    now_ns = _monotone(b, now_ns)
    if not good:
        _open(gate, b, BY_PROBE_FAILED, now_ns)
        return
    b.proven += 1
    if b.proven < min(b.options.probes, <uint32_t>PROOF):
        return
    _close(gate, b, BY_PROBES_SUCCEEDED, now_ns)
    if b.options.ramp_ns:
        b.passing = False
        b.ramp_end_ns = now_ns + b.options.ramp_ns
        b.ramp_credit = WHOLE - FIRST_SHARE # the first call passes


cdef void _settle(rs_gate *gate, rs_slot *slot, int outcome, int64_t latency_ns, int64_t now_ns) noexcept nogil:
    cdef rs_breaker *b = _of(gate)
    cdef bint failed = outcome == RS_FAILURE
    cdef bint slow = latency_ns > b.options.slow_ns
    if slot.generation != b.generation:
        b.stale += slot.generation != NO_GENERATION
        return
    if b.state == HALF_OPEN:
        _return_lease(b, slot)
        if outcome != RS_IGNORED:
            _verdict(gate, b, slot, not (failed or slow), now_ns)
        return
    if outcome == RS_IGNORED or b.state == DISABLED:
        return
    rs_window_record(&b.window, now_ns, failed, slow)
    b.in_a_row = b.in_a_row + 1 if failed else 0
    if b.state == CLOSED and (b.window.failed or b.window.slow):
        _look(gate, b, now_ns)


cdef void _first_item(rs_gate *gate, rs_slot *slot, int64_t latency_ns, int64_t now_ns) noexcept nogil:
    """A stream that began to flow: a probe's verdict does not wait for its end, which may be minutes away."""
    cdef rs_breaker *b = _of(gate)
    if slot.generation != b.generation or b.state != HALF_OPEN:
        return
    _return_lease(b, slot)
    slot.generation = NO_GENERATION                     # the end of the stream is old news
    _verdict(gate, b, slot, latency_ns <= b.options.slow_ns, now_ns)


cdef void _forget(rs_gate *gate, int64_t now_ns) noexcept nogil:
    """In the child of a fork: no probe is under way here, and the jitter must not be the parent's."""
    cdef rs_breaker *b = _of(gate)
    b.generation += 1
    b.leases = 0
    b.proven = 0
    b.random ^= <uint64_t>getpid() * <uint64_t>0x9E3779B97F4A7C15
    b.random |= b.random == 0


cdef int _pristine(rs_gate *gate, int64_t now_ns) noexcept nogil:
    """Closed, with nothing in the window and no failures in a row, however old those are: they still count."""
    cdef rs_breaker *b = _of(gate)
    if b.state != CLOSED or not b.passing or b.in_a_row:
        return False
    rs_window_advance(&b.window, now_ns)
    return b.window.total == 0


cdef rs_gate_ops OPS
OPS.kind = "circuit_breaker"
OPS.error = "CircuitOpenError"
OPS.reasons = REASONS
OPS.states = STATES
OPS.admit = _admit
OPS.recheck = _recheck
OPS.cancel = _cancel
OPS.settle = _settle
OPS.first_item = _first_item
OPS.forget = _forget
OPS.pristine = _pristine


# ---- the Python face -------------------------------------------------------------------------------------------------

cdef rs_clock *_clock = rs_clock_import()
_NAMES = ("closed", "open", "half_open", "forced_open", "forced_closed", "disabled")
_BY_HAND = {"closed": CLOSED, "forced_open": FORCED_OPEN, "forced_closed": FORCED_CLOSED, "disabled": DISABLED}


cdef uint8_t _by_hand(str parameter, object state) except 255:
    if state not in _BY_HAND:
        raise ValueError(f"{parameter} must be one of {', '.join(_BY_HAND)}, not {state!r}")
    return _BY_HAND[state]


cdef dict _status(rs_breaker *b, rs_counters *counters, int64_t now_ns):
    return {
        "state": _NAMES[b.state],
        "generation": b.generation,
        "window_calls": b.window.total,
        "window_failures": b.window.failed,
        "window_slow": b.window.slow,
        "consecutive": b.in_a_row,
        "open_for": b.open_ns / 1e9,
        "retry_after": max(0, b.until_ns - now_ns) / 1e9 if b.state == OPEN else None,
        "ramping": b.ramp_end_ns > now_ns,
        "probes": b.leases,
        "probes_succeeded": b.proven,
        "probes_lapsed": b.lapsed,
        "stale": b.stale,
        "calls": counters.calls,
        "successes": counters.successes,
        "failures": counters.failures,
        "ignored": counters.ignored,
        "rejected": counters.rejected,
        "would_reject": counters.would_reject,
        "cancelled": counters.cancelled,
        "inflight": counters.inflight,
    }


cdef class BreakerGate(Gate):
    """
    The state of one circuit breaker, shared by all that it guards.

    `resilio.circuit_breaker` is its public face and checks every option; here they are taken as they are. The methods are
    atomic and may be called from any thread.
    """

    def __cinit__(self, *args, **kwargs):
        cdef rs_breaker_object *seen = <rs_breaker_object *><void *>self
        if <void *>&seen.breaker != <void *>&self.breaker:
            raise SystemError("resilio._native.breaker was built against another gate.h")
        if rs_window_init(&self.breaker.window, 1, 0) < 0:      # until __init__; there is always one to record in
            raise MemoryError("no room for a window")
        self.ops = &OPS
        self.breaker.generation = 1
        self.breaker.passing = True
        self._seed(seed64())

    def __init__(self, *, str initial="closed", **options):
        """
        Make a breaker in its initial state.

        Args:
            initial: closed, forced_open, forced_closed or disabled.

            options: Those of :meth:`configure`.

        Raises:
            ValueError: *initial* or an option is out of its set.
        """
        cdef uint8_t state = _by_hand("initial", initial)
        self.configure(**options)
        rs_lock_acquire(&self.lock)
        self.breaker.state = state
        self.breaker.passing = state != FORCED_OPEN
        rs_lock_release(&self.lock)

    def __dealloc__(self):
        rs_window_free(&self.breaker.window)

    def __sizeof__(self):
        return Gate.__sizeof__(self) + rs_window_memory(&self.breaker.window) - sizeof(rs_window)

    def configure(self, *, double failure_rate, double slow_rate, uint64_t min_calls, int64_t consecutive, int64_t slow_ns,
                  int64_t open_ns, int64_t max_open_ns, int64_t lease_ns, int64_t ramp_ns, uint32_t probes,
                  uint32_t window_calls, int64_t window_ns):
        """
        Replace every option at once and keep the state; a window of another size begins empty.

        Args:
            failure_rate: Share of failures that opens, in (0, 1].

            slow_rate: Share of slow calls that opens, in (0, 1].

            min_calls: Calls in the window before a rate means anything, >= 1.

            consecutive: Failures in a row that open; 0 for never.

            slow_ns: A call that lasts longer is slow; 0 for never.

            open_ns: The first open time, before jitter, > 0.

            max_open_ns: The longest open time, >= open_ns.

            lease_ns: How long a probe keeps its place; 0 to take it from the latencies seen.

            ramp_ns: How long a closed breaker takes to readmit everything; 0 for at once.

            probes: Probes of one round, 1 to 16.

            window_calls: The window in calls; 0 for no such limit.

            window_ns: The window in time; 0 for no such limit.

        Raises:
            ValueError: *probes* is out of range.

            MemoryError: No room for the window.
        """
        cdef rs_breaker_options options
        cdef rs_window window
        if not 1 <= probes <= MOST_PROBES:
            raise ValueError(f"probes must be from 1 to {MOST_PROBES}, not {probes}")
        options = rs_breaker_options(
            failure_rate, slow_rate, min_calls, consecutive or INT64_MAX, slow_ns or RS_NEVER, open_ns, max_open_ns,
            lease_ns, ramp_ns, window_ns, probes, window_calls,
        )
        if rs_window_init(&window, window_calls, window_ns) < 0:
            raise MemoryError(f"no room for a window of {window_calls} calls and {window_ns} ns")
        rs_lock_acquire(&self.lock)
        if window_calls != self.breaker.options.window_calls or window_ns != self.breaker.options.window_ns:
            self.breaker.window, window = window, self.breaker.window
        self.breaker.options = options
        rs_lock_release(&self.lock)
        rs_window_free(&window)

    def extend_open(self, double seconds):
        """
        Stay open for at least *seconds* from now; without effect unless open.

        Args:
            seconds: From 0 to 1e9; the caller bounds it sensibly.

        Raises:
            ValueError: *seconds* is out of range or NaN.
        """
        if not 0 <= seconds <= 1e9:
            raise ValueError(f"seconds must be from 0 to 1e9, not {seconds}")
        cdef int64_t now_ns = rs_clock_now(_clock)
        rs_lock_acquire(&self.lock)
        now_ns = _monotone(&self.breaker, now_ns)
        if self.breaker.state == OPEN:
            self.breaker.until_ns = max(self.breaker.until_ns, now_ns + <int64_t>(seconds * 1e9))
        rs_lock_release(&self.lock)

    def force(self, str state):
        """
        Change the state by hand, at once: results of calls under way are dropped, and the change is recorded.

        Args:
            state: closed (forgets all that was seen), forced_open, forced_closed or disabled.

        Raises:
            ValueError: Another state.
        """
        cdef uint8_t to = _by_hand("state", state)
        cdef int64_t now_ns = rs_clock_now(_clock)
        rs_lock_acquire(&self.lock)
        if to == CLOSED:
            _close(<rs_gate *><void *>self, &self.breaker, BY_MANUAL, now_ns)
        else:
            _enter(<rs_gate *><void *>self, &self.breaker, to, BY_MANUAL, now_ns)
        rs_lock_release(&self.lock)

    @property
    def state(self):
        """closed, open, half_open, forced_open, forced_closed or disabled; open until a call comes to probe."""
        rs_lock_acquire(&self.lock)
        cdef uint8_t state = self.breaker.state
        rs_lock_release(&self.lock)
        return _NAMES[state]

    def status(self):
        """Everything there is to know, read at one moment, as a dict; `counters()` is part of it."""
        cdef int64_t now_ns = rs_clock_now(_clock)
        cdef rs_breaker b
        cdef rs_counters counters
        rs_lock_acquire(&self.lock)
        now_ns = max(now_ns, self.breaker.last_ns) if now_ns - self.breaker.last_ns > -CLOCK_JUMP_NS else now_ns
        rs_window_advance(&self.breaker.window, now_ns)
        b = self.breaker
        counters = self.counters
        rs_lock_release(&self.lock)
        return _status(&b, &counters, now_ns)

    def _seed(self, uint64_t seed):
        """Make the jitter repeatable."""
        self.breaker.random = seed or 1
