"""Strategies: parts of a policy that decide when, how often and for how long a call runs."""

from cpython.pycapsule cimport PyCapsule_GetPointer

from resilio._native.strategy cimport rs_core_api

from resilio._native import core

cdef const rs_core_api *api = <const rs_core_api *>PyCapsule_GetPointer(core._api, "resilio._native.core._api")

include "strategies/computed_times.pxi"
include "strategies/timing.pxi"
include "strategies/retry.pxi"
include "strategies/hedge.pxi"
include "strategies/fallback.pxi"

__all__ = [
    "ANSWERS",
    "STOP_REASONS",
    "SUPERSEDED",
    "AsyncioCutoff",
    "DeadlineGate",
    "FallbackStage",
    "HedgeGate",
    "RetryGate",
    "Scope",
    "TimeLimit",
    "TimeoutGate",
    "TriedBlock",
    "Tries",
    "late_error",
    "locked",
    "stream_began",
    "stream_ended",
]
