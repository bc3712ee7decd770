"""The state of one replica under faults."""

from __future__ import annotations

from resilio.simulation._faults import Cold, Errors, Fault, Outage, Shrink, Slow

__all__ = ["Condition"]


class Condition:
    """
    Combined effect of the active faults on one replica.

    Attributes:
        outage: The outage that began last, or None.

        failing: The share of requests that get an error.

        workers: Number of workers that take on work.

        usual: True if work takes its usual time.
    """

    def __init__(self, workers: int) -> None:
        self.outage: Outage | None = None
        self.failing = 0.0
        self.workers = workers
        self._all_workers = workers
        self.usual = True
        self._slow = 1.0
        self._cold: tuple[Cold, ...] = ()
        self._faults: list[Fault] = []

    def begin(self, fault: Fault) -> None:
        """Add a fault."""
        self._faults.append(fault)
        self._sum_up()

    def end(self, fault: Fault) -> None:
        """Remove a fault."""
        self._faults.remove(fault)
        self._sum_up()

    def factor(self, now: float) -> float:
        """Return the factor on the duration of work that begins at `now`, in seconds of the run."""
        factor = self._slow
        for cold in self._cold:
            share = min(1.0, max(0.0, (now - cold.at) / cold.lasts))
            factor /= cold.start + (1.0 - cold.start) * share
        return factor

    def _sum_up(self) -> None:
        faults = self._faults
        self.outage = next((fault for fault in reversed(faults) if isinstance(fault, Outage)), None)
        self._cold = tuple(fault for fault in faults if isinstance(fault, Cold))
        self._slow, self.failing, workers = 1.0, 0.0, float(self._all_workers)
        for fault in faults:
            if isinstance(fault, Slow):
                self._slow *= fault.factor
            elif isinstance(fault, Shrink):
                workers *= fault.share
            elif isinstance(fault, Errors):
                self.failing = 1.0 - (1.0 - self.failing) * (1.0 - fault.share)
        self.workers = max(1, round(workers))
        self.usual = self._slow == 1.0 and not self._cold
