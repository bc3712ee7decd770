"""
Timeout of streams that a sync client reads, because a policy cannot interrupt a thread.

The time left on the clocks bounds each wait of the socket; see `_socket_time`. Pings are not progress and add no time.
With a custom transport, the request's read timeout is narrowed to the clocks instead, and the time is checked after
each read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resilio._native import clock
from resilio._native.strategies import TimeLimit
from resilio._policies.timeout import Timeout
from resilio.integrations._shared.socket_time import narrow_reads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from resilio._policy.base import Policy

__all__ = ["SyncClocks", "clocks_in"]


def clocks_in(parts: Iterable[Policy[Any]]) -> Timeout | None:
    """Return the timeout among the parts of a policy; None if there is none."""
    return next((one for one in parts if isinstance(one, Timeout) and not one.config.thread), None)


class SyncClocks:
    """The clocks of one attempt."""

    __slots__ = ("_any", "_began_ns", "_given", "_of", "_since_ns")

    def __init__(self, of: Timeout | None) -> None:
        """Begin at the start of the request."""
        self._of = of
        self._any = False
        self._given: Any = None
        self._began_ns = self._since_ns = clock.now_ns()

    def narrow(self, request: Any, *, body: bool) -> None:
        """Narrow the client's read timeout to the clocks, for the headers or for the body."""
        if self._of is None:
            return
        if self._given is not None:  # the body has a timeout of its own
            request.extensions["timeout"] = self._given
        config = self._of.config
        clocks = [config.first, config.idle] if body else [config.first]
        known = [limit for limit in clocks if limit is not None]
        if len(known) == len(clocks):
            self._given = narrow_reads(request, max(known))

    def run(self, step: Callable[..., Any], *args: Any) -> Any:
        """Call the function of a step, within its time limit."""
        limit = self._nearest()
        return step(*args) if limit is None else limit.run(step, *args)

    def each(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """Yield the pieces of an answer, each within its time limit."""
        while True:
            chunk = self.run(next, chunks, None)
            if chunk is None:
                return
            yield chunk

    def saw(self, moved: bool) -> None:
        """
        Note data that was read.

        Raises:
            CallTimeoutError: It arrived too late, or was a ping while the time ran out.
        """
        self.check()
        if moved:
            self._any, self._since_ns = True, clock.now_ns()

    def check(self) -> None:
        """Raise if the time is up."""
        limit = self._nearest()
        if limit is not None and clock.now_ns() >= limit.until_ns:
            raise limit.expired()

    def resume(self) -> None:
        """Restart the clocks after a yield: the consumer's own time does not count."""
        now_ns = clock.now_ns()
        self._began_ns += now_ns - self._since_ns
        self._since_ns = now_ns

    def _nearest(self) -> TimeLimit | None:
        if self._of is None:
            return None
        gate, config = self._of._gate, self._of.config
        which, seconds = ("idle", config.idle) if self._any else ("first", config.first)
        limits = [] if seconds is None else [TimeLimit(gate, self._since_ns + _ns(seconds), seconds, which)]
        total = config.total
        if total is not None and not isinstance(total, float):
            total = config.ceiling  # it is learned from whole answers, or computed for them
        if total is not None:
            limits.append(TimeLimit(gate, self._began_ns + _ns(total), total))
        return min(limits, key=lambda limit: limit.until_ns, default=None)


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)
