"""
The clock that all of resilio reads, and virtual time.

A thin layer over clock.h (reading) and clock_source.h (calibration), which hold the arithmetic and its reasons. Native
modules read the same clock through the capsule `_CLOCK`: see `rs_clock_import` in clock.h.

It is not the event loop's, since one policy serves several loops and threads at once. Where a loop fakes its own time,
as with trio's `MockClock`, sleeps follow that; windows, tokens and `remaining()` do not. `virtual_time()` moves all.
"""

from cpython.pycapsule cimport PyCapsule_New
from libc.stdint cimport INT64_MAX, int64_t, uint32_t

import os

from resilio._native.clock cimport rs_clock, rs_clock_now

__all__ = ["NEVER_NS", "clear_virtual", "now_ns", "set_virtual", "source"]

cdef extern from "clock_source.h":
    ctypedef enum rs_clock_choice:
        RS_CLOCK_AUTO
        RS_CLOCK_USE_TSC
        RS_CLOCK_USE_MONOTONIC
    rs_clock *rs_clock_begin(rs_clock_choice choice)
    uint32_t rs_clock_mode() noexcept
    uint32_t RS_CLOCK_TSC, RS_CLOCK_VIRTUAL
    void rs_clock_set_virtual(int64_t ns) noexcept
    void rs_clock_clear_virtual() noexcept
    void rs_clock_inject_error(int64_t error_ns) noexcept

cdef int64_t LATEST_NS = 1 << 61


cdef rs_clock_choice _choice() except *:
    value = os.environ.get("RESILIO_CLOCK", "") or "auto"
    if value == "auto":
        return RS_CLOCK_AUTO
    if value == "tsc":
        return RS_CLOCK_USE_TSC
    if value == "monotonic":
        return RS_CLOCK_USE_MONOTONIC
    raise ValueError(f"environment variable RESILIO_CLOCK must be auto, tsc or monotonic, not {value!r}")


cdef rs_clock *_clock = rs_clock_begin(_choice())
NEVER_NS = INT64_MAX                    # a time that does not come
_CLOCK = PyCapsule_New(_clock, "resilio._native.clock._CLOCK", NULL)


def now_ns() -> int:
    """
    The time in nanoseconds that every policy reads; real time agrees with `time.monotonic()` within a millisecond.

    Real time never goes backwards in a thread. Virtual time is the last argument of `set_virtual`.

    Returns:
        Nanoseconds since an arbitrary moment, >= 0.
    """
    return rs_clock_now(_clock)


def source() -> str:
    """
    The source that `now_ns` reads at this moment.

    Returns:
        "virtual", "tsc" (the processor's time stamp counter), or "monotonic" (clock_gettime: where the counter is not
        trustworthy, where RESILIO_CLOCK=monotonic chose it, and until two readings 10 ms apart have given the counter's
        rate).
    """
    cdef uint32_t mode = rs_clock_mode()
    if mode & RS_CLOCK_VIRTUAL:
        return "virtual"
    return "tsc" if mode & RS_CLOCK_TSC else "monotonic"


def set_virtual(ns) -> None:
    """
    Stop time at *ns*, for the whole process, until the next call or `clear_virtual`.

    Args:
        ns: Nanoseconds, 0 to 2**61. May be earlier than before.

    Raises:
        TypeError: *ns* is not an int.
        ValueError: *ns* is out of range.
    """
    if isinstance(ns, bool) or not isinstance(ns, int):
        raise TypeError(f"ns must be an int from 0 to 2**61, not {ns!r}")
    if not 0 <= ns <= LATEST_NS:
        raise ValueError(f"ns must be an int from 0 to 2**61, not {ns!r}")
    rs_clock_set_virtual(ns)


def clear_virtual() -> None:
    """Return to real time; without effect if time is real."""
    rs_clock_clear_virtual()


def _inject_error(int64_t error_ns) -> None:
    """Falsify the counter by *error_ns*, for tests: found within 100 ms; without effect on clock_gettime."""
    rs_clock_inject_error(error_ns)
