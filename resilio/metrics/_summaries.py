"""Periodic summaries of rejections, one log line a policy, read from the native counters at no cost for a rejection."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from resilio._events import log
from resilio._native import clock
from resilio._policy.base import Policy
from resilio.metrics import _trouble
from resilio.metrics._book import Book
from resilio.metrics._buckets import Chooser
from resilio.metrics._fork import after_fork

__all__ = ["MOST_LINES", "Summaries"]

MOST_LINES = 20
"""Maximum number of lines at a time; further policies are summed in one more."""

Own = tuple[str, str]


class Summaries:
    """
    Thread that periodically logs the rejections since the last time; policies without any are omitted.

    Args:
        every: Seconds between two summaries.

        level: Log level of the lines.

        policies: Policies to summarise; None: all.
    """

    def __init__(self, every: float, level: int, policies: Iterable[Policy[Any]] | None) -> None:
        """Start a daemon thread."""
        self._every = every
        self._level = level
        self._book = Book(policies, Chooser((1.0,)))
        self._known = self._counted()
        self._since_ns = clock.now_ns()
        after_fork(self)
        self._run()

    def stop(self) -> None:
        """Log a last summary, and stop."""
        if not self._stopped.is_set():
            self._stopped.set()
            self.tell()

    def tell(self) -> None:
        """Log the rejections since the last time. Never raises."""
        try:
            self._tell()
        except Exception:  # noqa: BLE001 - a log handler may raise anything
            _trouble.count()

    def forked(self) -> None:
        """Continue in a forked child, for this process alone."""
        if not self._stopped.is_set():
            self._book.forked()
            self._known = self._counted()
            self._run()

    def _run(self) -> None:
        self._stopped = threading.Event()
        thread = threading.Thread(target=self._tell_on, args=(self._stopped,), name="resilio-log-summary", daemon=True)
        with suppress(RuntimeError):  # no thread can start
            thread.start()

    def _tell_on(self, stopped: threading.Event) -> None:
        while not stopped.wait(self._every):
            self.tell()

    def _counted(self) -> Counter[tuple[Own, str]]:
        """Return rejections by policy and reason; those of shadow mode have the reason "", which no policy uses."""
        counted: Counter[tuple[Own, str]] = Counter()
        for (name, labels), value in self._book.read().counters.items():
            if name == "rejected":
                counted[labels[:2], labels[2]] = int(value)  # type: ignore[index]
            elif name == "would_reject":
                counted[labels[:2], ""] = int(value)  # type: ignore[index]
        return counted

    def _tell(self) -> None:
        counted, now_ns = self._counted(), clock.now_ns()
        recent = counted - self._known
        seconds = (now_ns - self._since_ns) / 1e9
        self._known, self._since_ns = counted, now_ns
        by_policy: dict[Own, Counter[str]] = {}
        for (own, reason), count in recent.items():
            by_policy.setdefault(own, Counter())[reason] = count
        busiest = sorted(by_policy, key=lambda own: -by_policy[own].total())
        for own in busiest[:MOST_LINES]:
            self._say(own, by_policy[own], seconds)
        rest = [by_policy[own] for own in busiest[MOST_LINES:]]
        if rest:
            total = sum(one.total() for one in rest)
            text = "%s other policies rejected %s calls in %.3g s"
            log.say(self._level, text, len(rest), f"{total:,}", seconds, fields={"rejected": total})

    def _say(self, own: Own, reasons: Counter[str], seconds: float) -> None:
        shadow = reasons.pop("", 0)
        kind, policy = own
        where = log.describe(kind, None if policy == "unnamed" else policy)
        fields = {"policy": kind, "policy_name": policy, "seconds": round(seconds, 3)}
        if reasons:
            why = ", ".join(f"{reason} {count:,}" for reason, count in reasons.most_common())
            more = fields | {"rejected": reasons.total(), "reasons": dict(reasons)}
            text = "%s rejected %s calls in %.3g s: %s"
            log.say(self._level, text, where, f"{reasons.total():,}", seconds, why, fields=more)
        if shadow:
            text = "%s would have rejected %s calls in %.3g s"
            log.say(self._level, text, where, f"{shadow:,}", seconds, fields=fields | {"would_reject": shadow})
