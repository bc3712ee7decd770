"""The report of a trial: a row for each host, and the code that would make it permanent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from resilio import presets
from resilio._adoption.points import POINTS
from resilio._policies.timeout import Timeout

if TYPE_CHECKING:
    from collections.abc import Iterable

    from resilio._adoption.hosts import Hosts, Stack

__all__ = ["HostReport", "Report", "report_of"]

_MANY = 20
_LEAST_TIMEOUT = 1.0
_FACTOR = 3.0


@attrs.frozen
class HostReport:
    """
    One host. In shadow the counts are those of an enforced stack.

    Attributes:
        host: The host, with its port unless that is the scheme's own.

        client: The client that called it first.

        preset: The name of the preset by which its calls are judged.

        calls: Calls that ended.

        failed: Calls that failed, as the preset judges.

        rejected: Calls that breaker, limits or a server's Retry-After rejected.

        retried: In shadow, failed calls that a retry would repeat, at least once if its budget allowed; else retries.

        hedged: Copies of slow calls; in shadow, calls that would have had one. 0 unless the host is `idempotent`.

        timed_out: Attempts that took longer than their timeout; in shadow, than `p99.9*3`, at least a second.

        median: Seconds of the median call, to the headers of its answer.

        slowest: Seconds of one call in a hundred, or longer.

        saved: Seconds for which callers waited for calls that the breaker would have rejected; 0.0 if it is enforced.
    """

    host: str
    client: str
    preset: str
    calls: int
    failed: int
    rejected: int
    retried: int
    hedged: int
    timed_out: int
    median: float
    slowest: float
    saved: float


@attrs.frozen
class Report:
    """
    A trial until now; `str` of it is the table that is printed at the end of the process.

    Attributes:
        shadow: Whether nothing was enforced.

        seconds: The length of the trial.

        hosts: Its hosts, those with the most calls first.
    """

    shadow: bool
    seconds: float
    hosts: tuple[HostReport, ...]

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterable[str]:
        calls = sum(one.calls for one in self.hosts)
        changed = "nothing was changed" if self.shadow else "enforced"
        counted = f"{_counted(calls, 'call')} to {_counted(len(self.hosts), 'host')}"
        yield f"resilio: {counted} in {self.seconds:.0f} s, {changed}"
        yield ""
        yield from _table(self.hosts[:_MANY], self.shadow)
        if len(self.hosts) > _MANY:
            yield f"and {len(self.hosts) - _MANY} more"
        saved = sum(one.saved for one in self.hosts)
        if self.shadow and saved:
            yield f"callers waited {saved:.1f} s for calls that a breaker would have rejected at once"
        yield ""
        yield "as code, for the busiest host of each client:"
        yield ""
        yield from self.code().splitlines()

    def code(self) -> str:
        """Return the lines that guard these hosts in code, one client of each kind."""
        lines = ["from resilio import standard"]
        for client in dict.fromkeys(one.client for one in self.hosts):
            one = next(one for one in self.hosts if one.client == client)
            known, call = next(point.permanent for point in POINTS if point.client == client)
            stack = f'standard("{one.host}", on="{one.preset}")'
            lines += [*known.splitlines(), call.replace("{stack}", stack)]
        return "\n".join(lines)


def report_of(hosts: Hosts, seconds: float) -> Report:
    """
    Return the report of a trial.

    Args:
        hosts: Its stacks.

        seconds: Its length until now.
    """
    rows = [_in_shadow(stack) if stack.tally else _enforced(stack) for stack in hosts]
    return Report(hosts.settings.shadow, seconds, tuple(sorted(rows, key=lambda row: (-row.calls, row.host))))


def _in_shadow(stack: Stack) -> HostReport:
    parts: Any = stack.policy
    tally: Any = stack.tally
    snapshots = [part.snapshot() for part in parts.policies]
    median, slow, rare = tally.times.quantiles([0.5, 0.99, 0.999]) if tally.times.count else (0.0, 0.0, 0.0)
    most = presets.ALL[stack.preset].timeout
    limit = min(max(rare * _FACTOR, _LEAST_TIMEOUT), most)
    return HostReport(
        host=stack.host,
        client=stack.client,
        preset=stack.preset,
        calls=tally.times.count,
        failed=tally.breaker.snapshot().failures,
        rejected=sum(one.would_reject for one in snapshots),
        retried=tally.repeatable,
        hedged=0,
        timed_out=tally.slower_than(limit),
        median=median,
        slowest=slow,
        saved=tally.in_vain,
    )


def _enforced(stack: Stack) -> HostReport:
    parts: Any = stack.policy
    whole = parts.snapshot()
    median, slow = parts.latency.quantiles([0.5, 0.99]) if parts.latency.count else (0.0, 0.0)
    snapshots: list[Any] = [part.snapshot() for part in parts.policies]
    timeouts = [sum(part._gate.timeouts.values()) for part in parts.policies if isinstance(part, Timeout)]
    return HostReport(
        host=stack.host,
        client=stack.client,
        preset=stack.preset,
        calls=whole.calls,
        failed=whole.failures,
        rejected=sum(one.rejected for one in snapshots),
        retried=sum(getattr(one, "retries", 0) for one in snapshots),
        hedged=sum(getattr(one, "hedges", 0) for one in snapshots),
        timed_out=sum(timeouts),
        median=median,
        slowest=slow,
        saved=0.0,
    )


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def _table(hosts: tuple[HostReport, ...], shadow: bool) -> Iterable[str]:
    would = "would be " if shadow else ""
    names = ("host", "calls", "failed", f"{would}rejected", "retried", "timed out", "hedged", "p50", "p99")
    rows = [names] + [
        (
            one.host,
            *(f"{count:,}" for count in (one.calls, one.failed, one.rejected, one.retried, one.timed_out, one.hedged)),
            _time(one.median),
            _time(one.slowest),
        )
        for one in hosts
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(names))]
    for row in rows:
        others = (cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
        yield "  ".join([row[0].ljust(widths[0]), *others])


def _time(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1.0 else f"{seconds * 1e3:.1f} ms"
