"""
The rate limit as a gate: a token bucket or a sliding window for each rate, and a fair queue.

A call takes its tokens from all rates or from none. The state machine is in limiter_machine.pxi, the costs of calls in
limiter_costs.pxi. A limit of a host or of a fleet is in limiter_host.pxi, what a fleet's courier sees and does in
limiter_fleet.pxi, limiter_asks.pxi, limiter_wants.pxi and limiter_tie.pxi; this file has the options and the class.
Tokens are counted in millionths: rates, bursts and costs may be fractions, and every sum is exact.
"""

cimport cython
from cpython.exc cimport PyErr_SetInterrupt
from cpython.object cimport PyObject
from libc.math cimport NAN, ceil, isfinite
from libc.stdint cimport INT64_MAX, int64_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from resilio._native import clock
from resilio._native.budget cimport RetryBudget
from resilio._native.gate cimport *
from resilio._native.options cimport ns_of
from resilio._native.shared cimport RS_CELL_KEYS, RS_CELL_LEASE, RS_CELL_LIMIT, Cell, rs_member_owner

cdef extern from "Python.h":
    object PyObject_Vectorcall(object, PyObject *const *, size_t, PyObject *)

cdef enum LimiterReason:
    RATE, LIMITER_QUEUE_FULL, LIMITER_TOO_LATE, TOO_LARGE, PAUSED, LIMITER_NONE

cdef const char *LIMITER_REASONS[6]
LIMITER_REASONS[:] = ["rate", "queue_full", "wait", "too_large", "paused", NULL]

cdef enum:
    LONG_QUEUE = 1000
    TOLERANCE_NS = 1_000_000

cdef int64_t TOKEN = 1_000_000
cdef int64_t LIMITER_TOO_MUCH = 2_000_000_000 * TOKEN   # more than any bucket holds
cdef double _TOKEN = 1e6
cdef void *_amounts_type = NULL                 # the class Amounts, known at the end of this module


cdef rs_gate_ops LIMITER_OPS                        # field by field: a struct made at once leaves the others undefined
cdef rs_gate_ops SHARED_LIMITER_OPS                 # of a limit of a host or of a fleet
cdef rs_gate_ops DOOR_OPS                           # of a limit without rates

cdef extern from *:
    """
    static RS_APART int rs_limiter_decide(rs_gate *, rs_slot *, const rs_request *, int64_t, rs_rejection *);
    static RS_APART int rs_door_decide(rs_gate *, rs_slot *, const rs_request *, int64_t, rs_rejection *);
    static RS_APART int rs_limiter_price(rs_gate *, rs_slot *, const rs_request *);
    """

include "limiter_machine.pxi"
include "limiter_host.pxi"
include "limiter_costs.pxi"
include "limiter_fleet.pxi"


LIMITER_OPS.kind = "rate_limit"
LIMITER_OPS.segment = RS_RATE_LIMIT
LIMITER_OPS.error = "RateLimitedError"
LIMITER_OPS.reasons = &LIMITER_REASONS[0]
LIMITER_OPS.prepare = _limiter_prepare
LIMITER_OPS.admit = _limiter_admit
LIMITER_OPS.poll = _limiter_poll
LIMITER_OPS.cancel = _limiter_cancel
LIMITER_OPS.settle = _limiter_settle
LIMITER_OPS.forget = _limiter_forget
LIMITER_OPS.leave = _leave_unasked
LIMITER_OPS.pristine = _limiter_pristine
DOOR_OPS = LIMITER_OPS
DOOR_OPS.prepare = NULL
DOOR_OPS.admit = _door_admit
DOOR_OPS.settle = NULL
SHARED_LIMITER_OPS = LIMITER_OPS
SHARED_LIMITER_OPS.admit = _limiter_shared_admit
SHARED_LIMITER_OPS.is_shared = _limiter_is_shared


cdef int _read(rs_setting *setting, object rates, tuple before) except -1:
    """Convert the configured rates into settings, before anything changes."""
    if len(rates) > RS_MOST_RATES:
        raise ValueError(f"there must be at most {RS_MOST_RATES} rates, not {len(rates)}")
    for i, (unit, amount, period_ns, burst, cost, window) in enumerate(rates):
        setting[i].amount = amount * _TOKEN
        setting[i].period_ns = period_ns
        setting[i].cost = TOKEN if callable(cost) else _millionths(cost)
        setting[i].kept = i < len(before) and before[i] == unit
        if rs_own_set_rate(&setting[i].bucket.tokens, setting[i].amount, period_ns, _millionths(burst)) < 0:
            raise ValueError(f"{amount:g} {unit} every {period_ns / 1e9:g} s with a burst of {burst:g} is out of range")
        if window:
            setting[i].log = rs_log_new(setting[i].bucket.tokens.most, period_ns, <uint32_t>min(ceil(burst), 1e6))
            if setting[i].log == NULL:
                raise MemoryError
    return 0


cdef void _free_logs(rs_setting *setting) noexcept nogil:
    cdef int i
    for i in range(RS_MOST_RATES):
        rs_log_free(setting[i].log)


cdef class LimiterGate(Gate):
    """
    The buckets and the queue of one rate limit, shared by all that it guards.

    `resilio.rate_limit` is its public face and checks every option; this class does not. The methods are atomic and
    may be called from any thread.
    """

    def __cinit__(self, *args, **kwargs):
        cdef rs_limiter_object *seen = <rs_limiter_object *><PyObject *>self
        cdef Amounts amounts = Amounts.__new__(Amounts)
        if (<void *>&seen.limiter != <void *>&self.limiter
                or <void *>(<rs_amounts_object *><PyObject *>amounts).cost != <void *>amounts.cost):
            raise SystemError("resilio._native.gates was built against another gate.h")
        self.ops = &LIMITER_OPS
        self.units = self.functions = ()

    def __dealloc__(self):
        cdef int i
        for i in range(RS_MOST_RATES):
            rs_log_free(self.limiter.buckets.log[i])
        free(self.limiter.buckets.host)
        Py_XDECREF(self.cell)

    def __sizeof__(self):
        """Return the bytes held, logs of sliding windows included."""
        cdef int64_t logs = 0
        cdef int i
        rs_lock_acquire(&self.lock)
        for i in range(RS_MOST_RATES):
            logs += rs_log_memory(self.limiter.buckets.log[i])
        rs_lock_release(&self.lock)
        return Gate.__sizeof__(self) + logs

    def __init__(self, config):
        """Make a limit with full buckets and the options of *config*, a `RateLimitConfig`."""
        self.configure(config)

    def configure(self, config):
        """
        Take the options of *config*, all at once, keeping tokens, debts and the queue.

        A rate whose unit stands at the same place before and after keeps its tokens, up to the new burst. Queued calls
        keep their costs, unless units have changed, and are rejected if these are too large now.

        Raises:
            ValueError: More rates than 8, or a rate that cannot be counted.
        """
        cdef list rates = [rate.native() for rate in config.resolved()]
        cdef int64_t max_queued = config.max_queued, max_wait_ns = ns_of(config.max_wait)
        cdef rs_setting setting[RS_MOST_RATES]
        cdef int64_t now_ns = clock.now_ns()
        cdef tuple units = tuple([rate[0] for rate in rates])
        cdef tuple functions = tuple([rate[4] if callable(rate[4]) else None for rate in rates])
        cdef tuple old_units = self.units, old_functions = self.functions   # freed after the lock is released
        cdef bint variable = any(functions), other_units = units != old_units
        cdef bint same_stock = self.rates is not None and _stock(self.rates) == _stock(tuple(rates))
        cdef int n = len(rates)
        memset(setting, 0, sizeof(setting))
        try:
            _read(setting, rates, old_units)
        except BaseException:
            _free_logs(setting)
            raise
        rs_lock_acquire(&self.lock)
        self.units = units
        self.functions = functions
        if not same_stock:
            _limiter_leave_host(<rs_gate *><PyObject *>self, now_ns)
        _install(<rs_gate *><PyObject *>self, setting, n, other_units, variable, max_queued, max_wait_ns, now_ns)
        _become_door_or_limit(self)
        rs_lock_release(&self.lock)
        _free_logs(setting)
        self.rates, self.is_exact = tuple(rates), config.accuracy == "exact"
        self.deliver()

    def cell_wanted(self):
        """Return what the limit needs of a region: the kind of cell, the options that define its stock, the bytes."""
        cdef rs_host_rates host
        _describe(&host, self.rates)
        return RS_CELL_LIMIT, _stock(self.rates), rs_rates_size(&host)

    def share(self, Cell cell):
        """
        Count in this cell from now on, with all processes that do.

        Args:
            cell: As :meth:`cell_wanted` describes it; None: the state is the gate's own, with the tokens of now.
        """
        cdef rs_host_rates *host = NULL
        if cell is not None:
            host = _limiter_host_of(self.rates)
            rs_rates_begin(host, cell.member, cell.body)
        _limiter_change_host(self, cell, host)

    def fleet_cell_wanted(self):
        """Return the same for a fleet's limit."""
        return _leases_wanted(self)

    def share_fleet(self, Cell cell):
        """Draw on the leases in this cell from now on, see :class:`Leases`; None: on the gate's own state."""
        if cell is None:
            _limiter_change_host(self, None, NULL)
        else:
            _share_leases(self, cell)

    def keys_wanted(self, uint64_t max_keys):
        """Return what a table needs that has a limit like this one for each of *max_keys* keys."""
        cdef rs_host_rates host
        self.max_keys = max_keys
        _describe(&host, _of_keys(self.rates))
        return RS_CELL_KEYS, _stock(_of_keys(self.rates)) + b" %d" % max_keys, rs_rates_keys_size(&host, max_keys)

    def fill_keys(self, Cell cell):
        """Fill the limits of all keys of this table, which :meth:`keys_wanted` has described."""
        cdef rs_host_rates host
        _describe(&host, _of_keys(self.rates))
        rs_rates_begin_key(&host, cell.member, cell.body, self.max_keys, 0)
        with nogil:
            rs_rates_fill_keys(&host)

    def share_key(self, Cell cell, bytes key):
        """Count in this table from now on, as :meth:`keys_wanted` has described it, for *key* in its canonical form."""
        cdef const char *raw = key
        cdef rs_host_rates *host = _limiter_host_of(_of_keys(self.rates))
        rs_rates_begin_key(host, cell.member, cell.body, self.max_keys, rs_siphash(cell.key, raw, <size_t>len(key)))
        _limiter_change_host(self, cell, host)

    def amounts(self, tuple args=(), dict kwargs=None, dict given=None):
        """
        Return the cost of a call, to pass to an acquire.

        Args:
            args: The positional arguments for cost functions, asked for units that *given* does not name.

            kwargs: The same by keyword.

            given: Tokens by unit, >= 0.

        Raises:
            ValueError: A unit that no rate has, or an invalid number of tokens.
        """
        cdef Amounts amounts = Amounts.__new__(Amounts)
        cdef tuple functions
        cdef dict tokens = given or {}
        rs_lock_acquire(&self.lock)
        amounts.units = self.units
        functions = self.functions
        amounts.version = self.limiter.version
        memcpy(amounts.cost, self.limiter.cost, sizeof(amounts.cost))
        rs_lock_release(&self.lock)
        for unit in tokens:
            _mask(amounts.units, unit)
        for i, unit in enumerate(amounts.units):
            if unit in tokens:
                amounts.cost[i] = _checked(unit, tokens[unit])
            elif functions[i] is not None:
                amounts.cost[i] = _computed_cost(self, functions[i], args, kwargs or {})
        return amounts

    def adjust(self, str unit, double tokens, int64_t taken_ns=INT64_MAX):
        """
        Take *tokens* more of *unit*, into debt if necessary, or give them back if negative.

        Args:
            unit: Of one or several rates; all are adjusted.

            tokens: Finite.

            taken_ns: When the returned tokens were taken. A sliding window that they have left regained them already.
        """
        cdef int64_t amount = _checked(unit, abs(tokens))
        cdef int64_t now_ns = clock.now_ns()
        cdef uint32_t mask = _mask(_units(self), unit)
        rs_lock_acquire(&self.lock)
        _adjust(<rs_gate *><PyObject *>self, mask, amount, tokens < 0, taken_ns, now_ns)
        rs_lock_release(&self.lock)
        self.deliver()

    def actual(self, dict given not None):
        """Return the true cost of a call for :meth:`settle_slot`: tokens by unit, >= 0; other units stay."""
        cdef Amounts amounts = Amounts.__new__(Amounts)
        rs_lock_acquire(&self.lock)
        amounts.units = self.units
        amounts.version = self.limiter.version
        rs_lock_release(&self.lock)
        for unit in given:
            amounts.mask |= _mask(amounts.units, unit)
        for i, unit in enumerate(amounts.units):
            if unit in given:
                amounts.cost[i] = _checked(unit, given[unit])
        return amounts

    def settle_slot(self, size_t address, Amounts actual not None):
        """
        Correct the tokens taken by the call in the slot at *address*; the core calls this for `current().settle()`.

        It runs no user code, so the call cannot end meanwhile. :meth:`deliver` must follow.

        Args:
            address: Of a slot of this gate, whose call is in flight; or is about to end, and has released it.

            actual: Of :meth:`actual`; without effect if the configuration has changed since.
        """
        cdef int64_t now_ns = clock.now_ns()
        rs_lock_acquire(&self.lock)
        if actual.version == self.limiter.version:
            _correct(<rs_gate *><PyObject *>self, <rs_slot *>address, actual.mask, actual.cost, now_ns)
        rs_lock_release(&self.lock)

    def observe(self, Amounts remaining not None):
        """
        Lower the tokens to what another counter, such as the server's, reports; queued calls wait for the rest.

        Args:
            remaining: Of :meth:`actual`; units that it does not name stay. Without effect if the configuration has
                changed since.
        """
        cdef int64_t now_ns = clock.now_ns()
        rs_lock_acquire(&self.lock)
        if remaining.version == self.limiter.version:
            _lower(<rs_gate *><PyObject *>self, remaining.mask, remaining.cost, now_ns)
        rs_lock_release(&self.lock)

    def hold(self, int64_t wait_ns):
        """
        Pause: admit nothing for *wait_ns* from now on; all rates are empty when it ends.

        Queued calls may wait longer by the length of the pause; those with a deadline wait until that.

        Args:
            wait_ns: >= 0.
        """
        cdef int64_t now_ns = clock.now_ns()
        rs_lock_acquire(&self.lock)
        _hold(<rs_gate *><PyObject *>self, now_ns + wait_ns, now_ns)
        rs_lock_release(&self.lock)

    @property
    def paused(self):
        """Seconds until the end of the pause; 0.0 if there is none."""
        return max(0, self.limiter.paused_until_ns - clock.now_ns()) / 1e9

    def fill(self):
        """Fill every bucket, end the pause, and serve queued calls."""
        cdef int64_t now_ns = clock.now_ns()
        rs_lock_acquire(&self.lock)
        _fill(<rs_gate *><PyObject *>self, now_ns)
        rs_lock_release(&self.lock)
        self.deliver()

    def wait(self, Amounts amounts not None):
        """
        Return the seconds that a call of cost *amounts* would wait now, behind the queue; infinity if it is too large.

        Changes nothing.
        """
        cdef int64_t wait_ns
        cdef int64_t now_ns = clock.now_ns()
        rs_lock_acquire(&self.lock)
        wait_ns = -1
        if rs_buckets_too_small(&self.limiter.buckets, amounts.cost) < 0:
            wait_ns = _wait_behind(&self.limiter, amounts.cost, now_ns)
        rs_lock_release(&self.lock)
        return float("inf") if wait_ns < 0 else wait_ns / 1e9

    def available(self):
        """Return the tokens available now by unit, of the emptiest of its buckets; negative while in debt."""
        cdef int64_t tokens[RS_MOST_RATES]
        cdef int64_t now_ns = clock.now_ns()
        cdef tuple units
        cdef int i
        rs_lock_acquire(&self.lock)
        units = self.units
        for i in range(self.limiter.buckets.n):
            tokens[i] = rs_rate_available(&self.limiter.buckets, i, now_ns)
        rs_lock_release(&self.lock)
        result = {}
        for i, unit in enumerate(units):
            result[unit] = min(result.get(unit, float("inf")), tokens[i] / _TOKEN)
        return result

    @property
    def cost_errors(self):
        """Times that a cost function raised or returned nonsense; that cost counted as one token."""
        return self.bad_costs
