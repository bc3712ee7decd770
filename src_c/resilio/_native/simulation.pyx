"""The simulator: an event loop in virtual time, and the servers that it runs."""

include "simulation/simulation.pxi"
include "simulation/workers.pxi"

__all__ = ["Counts", "Due", "EventLoop", "Job", "Request", "Source", "StandstillError", "Tally", "Timer", "Workers"]
