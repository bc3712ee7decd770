"""
The circuit breaker as a gate: it trips or throttles on outcomes, probes carefully, and drops stale results.

The state machine is in breaker_machine.pxi, the evidence of failures among overlapping calls in breaker_rows.pxi, the
probabilistic mode in breaker_throttle.pxi. breaker_host.pxi is the state that the workers of a host share, and
breaker_fleet.pxi that of a fleet. This file has the options, the class, and what it shows.
"""

from libc.math cimport NAN
from libc.stdint cimport INT64_MAX, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memset

from resilio._support.random_seed import seed64
from resilio._native.clock cimport rs_clock, rs_clock_import, rs_clock_now
from resilio._native.gate cimport (
    RS_ADMITTED, RS_FAILURE, RS_LEFT, RS_NEVER, RS_OF_FLEET, RS_PROBES, RS_REJECTED,
    RS_SLOT_SHADOW, RS_SUCCESS, Gate, rs_counters, rs_gate, rs_gate_change, rs_gate_enforced, rs_gate_ops,
    rs_histogram_quantile, rs_is_evidence, rs_lock_acquire, rs_lock_release, rs_rejection, rs_request, rs_slot,
)
from resilio._native.options cimport ns_of
from resilio._native.shared cimport (
    RS_CELL_BREAKER, RS_CELL_VERDICT, Cell, rs_courier_ring, rs_member_owner, rs_member_peers,
)

cdef extern from "platform.h" nogil:
    void *rs_aligned_alloc(size_t line, size_t size)
    void rs_aligned_free(void *)
    uint32_t rs_process_id()

cdef enum BreakerState:
    BREAKER_CLOSED, OPEN, HALF_OPEN, FORCED_OPEN, FORCED_CLOSED, DISABLED
    THROTTLING                              # reported as half open: some calls pass, some do not

cdef enum BreakerReason:
    BY_OPEN, BY_PROBING, BY_RAMP, BY_FORCED_OPEN                    # of rejections
    BY_FAILURE_RATE, BY_CONSECUTIVE, BY_SLOW_RATE, BY_PROBE_FAILED  # of opening
    BY_ELAPSED, BY_PROBES_SUCCEEDED, BY_MANUAL                      # of the other changes
    BY_THROTTLE, BY_RECOVERED                                       # a rejection and a change of the probabilistic mode

cdef const char *BREAKER_STATES[8]
BREAKER_STATES[:] = ["closed", "open", "half_open", "forced_open", "forced_closed", "disabled", "half_open", NULL]
cdef const char *BREAKER_REASONS[14]
BREAKER_REASONS[:] = ["open", "probing", "ramp", "forced_open", "failure_rate", "consecutive", "slow_rate",
                      "probe_failed",
                      "elapsed", "probes_succeeded", "manual", "throttled", "recovered", NULL]

cdef enum:
    CLOCK_JUMP_NS = 1_000_000_000           # a step back beyond this is another clock, not a race between two threads
    LONGEST_LEASE_NS = 60_000_000_000
    SHORTEST_OVERDUE_NS = 1_000_000_000     # overdue calls: a shorter pause is no failure
    SHORTEST_PATIENCE_NS = 250_000_000      # calls in flight: a younger one may still succeed
    TOGETHER_NS = 10_000_000                # callers: those that leave within this time do so for one reason
    BREAKER_HOPELESS = 4                            # unusually long: more than this many medians
    ENOUGH = 20                             # enough samples: successes before their latency counts
    FEW = 8                                 # calls in flight: few if at most one in this many
    WHOLE = 1_000_000_000                   # parts of a call, in which the ramp counts: exact on every platform
    FIRST_SHARE = 100_000_000               # of a ramp, in such parts: 10 %
cdef uint64_t NO_GENERATION = 0             # a breaker counts from 1
cdef double SURE = 2.0                      # standard errors by which a failure rate must exceed its limit to be sure
cdef double JITTER = 0.1                    # an open time is at most this share shorter


cdef extern from *:
    """
    static RS_APART int rs_breaker_decide(rs_gate *, rs_slot *, const rs_request *, int64_t, rs_rejection *);
    static RS_APART void rs_breaker_weigh(rs_gate *, rs_slot *, int, int64_t, int64_t);
    static RS_APART int rs_breaker_host_decide(rs_gate *, rs_slot *, const rs_request *, int64_t, rs_rejection *);
    static RS_APART void rs_breaker_host_weigh(rs_gate *, rs_slot *, int, int64_t, int64_t);
    static RS_APART int rs_breaker_fleet_decide(rs_gate *, rs_slot *, const rs_request *, int64_t, rs_rejection *);
    static RS_APART void rs_breaker_fleet_weigh(rs_gate *, rs_slot *, int, int64_t, int64_t);
    """

include "breaker_machine.pxi"
include "breaker_rows.pxi"
include "breaker_throttle.pxi"
include "breaker_host.pxi"
include "breaker_fleet.pxi"


cdef rs_gate_ops BREAKER_OPS
BREAKER_OPS.kind = "circuit_breaker"
BREAKER_OPS.error = "CircuitOpenError"
BREAKER_OPS.reasons = BREAKER_REASONS
BREAKER_OPS.states = BREAKER_STATES
BREAKER_OPS.admit = _breaker_admit
BREAKER_OPS.recheck = _recheck
BREAKER_OPS.cancel = _breaker_cancel
BREAKER_OPS.settle = _breaker_settle
BREAKER_OPS.first_item = _breaker_first_item
BREAKER_OPS.forget = _breaker_forget
BREAKER_OPS.pristine = _breaker_pristine
BREAKER_OPS.share = _breaker_share

cdef rs_gate_ops HOST_BREAKER               # of a breaker that the workers of a host share
HOST_BREAKER = BREAKER_OPS
HOST_BREAKER.admit = _host_admit
HOST_BREAKER.recheck = _host_recheck
HOST_BREAKER.cancel = _host_cancel
HOST_BREAKER.settle = _host_settle
HOST_BREAKER.first_item = _host_first_item
HOST_BREAKER.forget = _host_forget
HOST_BREAKER.pristine = _host_pristine
HOST_BREAKER.is_shared = _breaker_is_shared
HOST_BREAKER.share = _host_share

cdef rs_gate_ops FLEET_BREAKER              # of a breaker of a fleet, before either of those
FLEET_BREAKER = BREAKER_OPS
FLEET_BREAKER.admit = _fleet_admit
FLEET_BREAKER.recheck = _fleet_recheck
FLEET_BREAKER.cancel = _fleet_cancel
FLEET_BREAKER.settle = _fleet_settle
FLEET_BREAKER.first_item = _fleet_first_item
FLEET_BREAKER.forget = _fleet_forget
FLEET_BREAKER.pristine = _fleet_pristine
FLEET_BREAKER.is_shared = _rejecting_scope
FLEET_BREAKER.share = _fleet_share


# ---- the Python face -------------------------------------------------------------------------------------------------

cdef rs_clock *_clock = rs_clock_import()
_NAMES = ("closed", "open", "half_open", "forced_open", "forced_closed", "disabled", "half_open")
_BY_HAND = {"closed": BREAKER_CLOSED, "forced_open": FORCED_OPEN, "forced_closed": FORCED_CLOSED, "disabled": DISABLED}


cdef uint8_t _by_hand(str parameter, object state) except 255:
    if state not in _BY_HAND:
        raise ValueError(f"{parameter} must be one of {', '.join(_BY_HAND)}, not {state!r}")
    return _BY_HAND[state]


# ---- what it shows of its state --------------------------------------------------------------------------------------

cdef double _passing_share(rs_breaker *b, int64_t now_ns) noexcept nogil:
    """The average share of calls that pass now."""
    if b.state != BREAKER_CLOSED and b.state != THROTTLING:
        return b.passing
    cdef double share = 1.0 if b.state == BREAKER_CLOSED else _share(b)
    return share * _ramp_parts(b, b.ramp_end_ns - now_ns) / WHOLE if b.ramp_end_ns > now_ns else share


cdef object _retry_after(rs_breaker *b, int64_t now_ns):
    """Seconds until a probe may pass; None unless open, forced open for a time, or half-open and refused."""
    if b.state == OPEN or (b.state == HALF_OPEN and now_ns < b.until_ns):
        return max(0, b.until_ns - now_ns) / 1e9
    return max(0, b.forced_ns - now_ns) / 1e9 if b.state == FORCED_OPEN and b.forced_ns else None


cdef dict _status(rs_breaker *b, rs_breaker_view *host, rs_counters *counters, int64_t now_ns):
    return {
        "state": _NAMES[b.state],
        "generation": b.generation,
        "host_state": _NAMES[host.state] if host.is_shared else None,
        "host_window_calls": host.calls if host.is_shared else None,
        "host_window_failures": host.failures if host.is_shared else None,
        "window_calls": b.window.total,
        "window_failures": b.window.failed,
        "window_slow": b.window.slow,
        "consecutive": b.in_a_row,
        "open_for": b.open_ns / 1e9,
        "retry_after": _retry_after(b, now_ns),
        "share": _passing_share(b, now_ns),
        "overdue": b.overdue.overdue,
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
        "abandoned": counters.abandoned,
        "refused": counters.refused,
        "inflight": counters.inflight,
    }


cdef double _rate(object share) except -1:
    """The rate that opens the breaker; None becomes a rate that is never reached."""
    return 1e9 if share is None else share


cdef const rs_gate_ops *_ops_of(rs_breaker *b) noexcept nogil:
    """Return the operations for what the breaker shares now."""
    cdef const rs_gate_ops *below = &BREAKER_OPS if b.host == NULL else &HOST_BREAKER
    if b.fleet == NULL:
        return below
    b.fleet.below = below
    return &FLEET_BREAKER


cdef class BreakerGate(Gate):
    """
    The state of one circuit breaker, shared by all that it guards.

    `resilio.circuit_breaker` is its public face and checks every option; this class does not. The methods are atomic
    and may be called from any thread.
    """

    stays_in_front = True           # of a fleet's state: this one, or that of the host

    def __cinit__(self, *args, **kwargs):
        cdef rs_breaker_object *seen = <rs_breaker_object *><void *>self
        if <void *>&seen.breaker != <void *>&self.breaker:
            raise SystemError("resilio._native.gates was built against another gate.h")
        if rs_window_init(&self.breaker.window, 1, 0) < 0:      # until __init__; there is always one to record in
            raise MemoryError("no room for a window")
        self.ops = &BREAKER_OPS
        self.breaker.generation = 1
        self.breaker.passing = True
        self._seed(seed64())

    def __init__(self, config):
        """Make a breaker in the initial state of *config*, a `CircuitBreakerConfig`."""
        cdef uint8_t state = _by_hand("initial", config.initial)
        self.configure(config)
        rs_lock_acquire(&self.lock)
        self.breaker.state = state
        self.breaker.passing = _passes(&self.breaker)
        rs_lock_release(&self.lock)

    def __dealloc__(self):
        rs_window_free(&self.breaker.window)
        rs_aligned_free(self.breaker.host)
        rs_aligned_free(self.breaker.fleet)
        Py_XDECREF(self.cell)
        Py_XDECREF(self.fleets_cell)

    def __sizeof__(self):
        cdef size_t host = 0 if self.breaker.host == NULL else sizeof(rs_breaker_of_host)
        cdef size_t fleet = 0 if self.breaker.fleet == NULL else sizeof(rs_breaker_of_fleet)
        return Gate.__sizeof__(self) + rs_window_memory(&self.breaker.window) - sizeof(rs_window) + host + fleet

    def configure(self, config):
        """
        Take the options of *config*, all at once, and keep the state; a window of another size begins empty.

        Raises:
            ValueError: Its *probes* are out of range.

            MemoryError: No room for the window.
        """
        cdef rs_breaker_options options
        cdef rs_window window
        cdef uint32_t probes = config.probes, window_calls = config.window.calls or 0
        cdef int64_t window_ns = ns_of(config.window.seconds), open_ns = ns_of(config.open_for)
        cdef uint64_t min_calls = config.min_calls
        cdef bint throttle = config.mode == "probabilistic"
        if not 1 <= probes <= MOST_PROBES:
            raise ValueError(f"probes must be from 1 to {MOST_PROBES}, not {probes}")
        options = rs_breaker_options(
            _rate(config.failure_rate), _rate(config.slow_rate),
            min(min_calls, window_calls) if window_calls else min_calls, config.consecutive or INT64_MAX,
            ns_of(config.slow_call, RS_NEVER), open_ns, max(open_ns, ns_of(config.max_open_for)),
            ns_of(config.probe_lease), ns_of(config.ramp), window_ns, probes, config.closing, window_calls, throttle,
            config.sure,
        )
        if rs_window_init(&window, window_calls, window_ns) < 0:
            raise MemoryError(f"no room for a window of {window_calls} calls and {window_ns} ns")
        cdef int64_t now_ns = rs_clock_now(_clock)
        rs_lock_acquire(&self.lock)
        if window_calls != self.breaker.options.window_calls or window_ns != self.breaker.options.window_ns:
            self.breaker.window, window = window, self.breaker.window
        self.breaker.options = options
        if self.breaker.host != NULL:
            _share_window(&self.breaker, rs_member_peers(self.breaker.host.member))
        if self.breaker.state == THROTTLING and not throttle:
            _move(<rs_gate *><void *>self, &self.breaker, BREAKER_CLOSED, BY_MANUAL, now_ns)
        self.breaker.passing = _passes(&self.breaker)
        rs_lock_release(&self.lock)
        rs_window_free(&window)

    def cell_wanted(self):
        """Return (kind, stock, size) of the cell to share. Every option is a rule, so there is one cell for a name."""
        return RS_CELL_BREAKER, b"", rs_shared_breaker_size()

    def share(self, Cell cell):
        """
        Share the state with the other workers of a region, from the next call on; None: with none any more.

        A state by hand (`initial`) becomes the state of a new cell; in a cell that others use, theirs counts.
        """
        cdef rs_breaker_of_host *host = NULL
        cdef PyObject *before
        cdef int64_t now_ns = rs_clock_now(_clock)
        if cell is not None:
            host = <rs_breaker_of_host *>rs_aligned_alloc(64, sizeof(rs_breaker_of_host))
            if host == NULL:
                raise MemoryError("no memory for a shared breaker")
            memset(host, 0, sizeof(rs_breaker_of_host))
            host.member, host.cell = cell.member, <rs_shared_breaker *>cell.body
        rs_lock_acquire(&self.lock)
        now_ns = _monotone(&self.breaker, now_ns)
        if self.breaker.host != NULL:
            _leave_host(&self.breaker)
        host, self.breaker.host = self.breaker.host, host
        if self.breaker.host != NULL:
            _leave_host(&self.breaker)              # until the next call
        self.ops = _ops_of(&self.breaker)
        rs_lock_release(&self.lock)
        before, self.cell = self.cell, _owned(cell)
        Py_XDECREF(before)
        rs_aligned_free(host)

    def fleet_cell_wanted(self):
        """Return (kind, stock, size) of the cell in which a fleet's state is known here."""
        return RS_CELL_VERDICT, b"", rs_verdict_size()

    def share_fleet(self, Cell cell):
        """Heed a fleet's state, and count what calls show, from the next call on; None: of none any more."""
        _share_fleet(self, cell)

    def fleet_is_in(self, Cell cell):
        """Return True if the fleet's state is known in this cell."""
        return self.fleets_cell == <PyObject *>cell

    def fleet_rest(self, Cell cell not None):
        """Report nothing until the next call, which rings; False: there is something to report."""
        return _fleet_rest(self, cell)

    def fleet_report(self, Cell cell not None, give_back=False):
        """
        Return what there is to report to the store, and count it as reported.

        Args:
            cell, give_back: Where the fleet's state is known. If True, end a lease that no call has used.

        Returns:
            (generation, ok, failed, slow, gone, flying, late, tail, good_ns, tail_ns, lease, wanted, ready, lease_ns,
            draw): calls that hang; how long ago the last call that did not fail, and the first failure after it, ended;
            the lease with its phase (shared/verdict.h); a random number from 0 to 1. None: it has moved.
        """
        return _fleet_report(self, cell, give_back)

    def fleet_take(self, Cell cell not None, state, reason, reopened, generation, left_ns, measured, lease, reported):
        """
        Take the store's answer.

        Args:
            cell, state: As of :meth:`fleet_report`; 0 closed, 1 open, 2 half open.

            reason: The number of the reason of its last change.

            reopened: Failed rounds of probes in a row.

            generation: The fleet's.

            left_ns: Nanoseconds until the open time ends.

            measured: What opened it.

            lease: The number of the lease of a probe; 0: none.

            reported: The lease whose end the store knows now, with its phase; 0: none.
        """
        _fleet_take(self, cell, state, reason, reopened, generation, left_ns, measured, lease, reported)

    def fleet_status(self):
        """Return (state, trip) of the fleet as it is known here; None: in no fleet, or long not heard of."""
        return _fleet_status(self)

    def extend_open(self, double seconds):
        """
        Stay open for at least *seconds* from now, or half-open without a probe; without effect in other states.

        Args:
            seconds: From 0 to 1e9; the caller chooses a sensible bound.

        Raises:
            ValueError: *seconds* is out of range or NaN.
        """
        if not 0 <= seconds <= 1e9:
            raise ValueError(f"seconds must be from 0 to 1e9, not {seconds}")
        cdef int64_t now_ns = rs_clock_now(_clock)
        rs_lock_acquire(&self.lock)
        now_ns = _monotone(&self.breaker, now_ns)
        if _is_hosts(&self.breaker) and self.breaker.state == OPEN:
            _extend_host(<rs_gate *><void *>self, &self.breaker, now_ns + <int64_t>(seconds * 1e9), now_ns)
        elif self.breaker.state == OPEN or self.breaker.state == HALF_OPEN:
            self.breaker.until_ns = max(self.breaker.until_ns, now_ns + <int64_t>(seconds * 1e9))
        rs_lock_release(&self.lock)

    def force(self, str state, double seconds=0.0):
        """
        Change the state by hand, at once: results of calls in flight are dropped, and the change is recorded.

        A breaker already in that state does not change; "closed" resets it even then.

        Args:
            state: closed (forgets all outcomes), half_open, forced_open, forced_closed or disabled.

            seconds: For forced_open, the time after which a probe may pass, at most 1e9; 0: none.

        Raises:
            ValueError: Another state.
        """
        cdef uint8_t to = HALF_OPEN if state == "half_open" else _by_hand("state", state)
        cdef int64_t now_ns = rs_clock_now(_clock)
        rs_lock_acquire(&self.lock)
        now_ns = _monotone(&self.breaker, now_ns)
        _force(<rs_gate *><void *>self, &self.breaker, to,
               now_ns + <int64_t>(seconds * 1e9) if seconds > 0 and to == FORCED_OPEN else 0, now_ns)
        rs_lock_release(&self.lock)

    @property
    def state(self):
        """closed, open, half_open, forced_open, forced_closed or disabled; open until the first probe."""
        cdef int64_t now_ns = rs_clock_now(_clock)
        rs_lock_acquire(&self.lock)
        cdef rs_breaker b = self.breaker
        if b.host != NULL:
            _view_host(&b, now_ns)
        if b.fleet != NULL:
            _view_fleet(&b, now_ns)
        rs_lock_release(&self.lock)
        return _NAMES[b.state]

    def status(self):
        """The whole state at one moment, as a dict; includes `counters()`."""
        cdef int64_t now_ns = rs_clock_now(_clock)
        cdef rs_breaker b
        cdef rs_counters counters
        cdef rs_breaker_view host
        host.is_shared = False
        rs_lock_acquire(&self.lock)
        now_ns = max(now_ns, self.breaker.last_ns) if now_ns - self.breaker.last_ns > -CLOCK_JUMP_NS else now_ns
        rs_window_advance(&self.breaker.window, now_ns)
        b = self.breaker
        if b.host != NULL:
            host = _seen_by_all(&b, now_ns)
            _view_host(&b, now_ns)
        if b.fleet != NULL:
            _view_fleet(&b, now_ns)
        counters = self.counters
        rs_lock_release(&self.lock)
        return _status(&b, &host, &counters, now_ns)

    def _seed(self, uint64_t seed):
        """Make the jitter and the throttle's choices repeatable."""
        self.breaker.random = seed or 1
