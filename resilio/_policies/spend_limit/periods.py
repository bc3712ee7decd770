"""
Income: money that comes in at the beginning of a calendar period, or evenly.

Both are one form. What has come in since an origin is known from the time alone; `taken` counts what was ever taken. A
`Span` has the two numbers between which `taken` may be now. What was taken beyond one period is paid by the next.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Protocol

import attrs

from resilio._context.time_of_day import ORIGIN, ORIGIN_NS, wall_ns
from resilio._native import clock
from resilio._options.validators import reject
from resilio._policies.spend_limit.money import Period

__all__ = ["Calendar", "Income", "Pace", "Span", "length_of", "timezone"]

NS = 1_000_000_000
FIRST = ORIGIN.date()
"""The first day that is counted. A clock that shows an earlier one is wrong."""
_LENGTHS: dict[str, float] = {"minute": 60.0, "hour": 3600.0, "day": 86400.0, "week": 7 * 86400.0}
MONTH = 365.25 / 12 * 86400.0
"""The mean length of a month in seconds, where money comes in evenly."""


def timezone(name: str, value: object) -> tzinfo:
    """Return a time zone of its name, like "Europe/Vienna"."""
    if isinstance(value, tzinfo):
        return value
    right = "a time zone like 'UTC' or 'Europe/Vienna', or a tzinfo"
    if not isinstance(value, str):
        reject(name, value, right, TypeError)
    if value == "UTC":  # needs no data of time zones
        return UTC
    from zoneinfo import ZoneInfo  # it reads the system's configuration

    try:
        return ZoneInfo(value)
    except (KeyError, ValueError, OSError):
        reject(name, value, f"{right}; its data come with the system, or with the package 'tzdata'")


def length_of(period: Period) -> float:
    """Return the mean length of a period in seconds."""
    return _LENGTHS.get(period, MONTH)


@attrs.frozen
class Span:
    """
    The numbers between which `taken` may be at one moment.

    Attributes:
        base: What has lapsed: below it nothing can be taken.

        most: What may be taken up to now.

        number: The number of the period; 0 where money comes in evenly.

        resets_in: Seconds until the next period; where money comes in evenly, until an empty bucket would be full.
    """

    base: int
    most: int
    number: int
    resets_in: float


class Income(Protocol):
    """Money that comes in over time."""

    @property
    def limit(self) -> int:
        """The most that can be there at once, in billionths."""
        ...

    def span(self) -> Span:
        """Return the span now."""
        ...

    def restart(self) -> None:
        """Forget the periods that have been: the clock may show an earlier one."""

    def wait(self, span: Span, short: int) -> float:
        """Return the seconds after `span` in which `short` billionths more will have come in."""
        ...


class Calendar:
    """A limit for each period of the calendar, of a time zone."""

    __slots__ = ("_ends_ns", "_number", "_period", "_zone", "limit")

    def __init__(self, limit: int, period: Period, zone: tzinfo) -> None:
        """Begin with the period of now."""
        self.limit: int = limit
        self._period: Period = period
        self._zone = zone
        self._number = -1
        self._ends_ns = 0

    def span(self) -> Span:
        """Return the span now. A clock that is set back does not bring a period back."""
        now_ns = wall_ns()
        if now_ns >= self._ends_ns:
            number, ends_ns = self._at(now_ns)
            self._number, self._ends_ns = max(number, self._number, 0), ends_ns
        base = self._number * self.limit
        return Span(base, base + self.limit, self._number, max(self._ends_ns - now_ns, 1) / NS)

    def restart(self) -> None:
        """Forget the periods that have been."""
        self._number, self._ends_ns = -1, 0

    def wait(self, span: Span, short: int) -> float:
        """Return the seconds until the beginning of the period that brings the missing amount."""
        begins_ns, number = self._ends_ns, span.number
        for _ in range(max(-(-short // self.limit) - 1, 0)):
            number, begins_ns = self._at(begins_ns)
            if number > span.number + 1000:  # a debt of many periods: the time is an estimate from there on
                break
        return span.resets_in + (begins_ns - self._ends_ns) / NS

    def _at(self, wall: int) -> tuple[int, int]:
        """Return the number of the period at this time of day, and when it ends."""
        if self._period in ("minute", "hour"):
            length = int(_LENGTHS[self._period]) * NS
            return (wall - ORIGIN_NS) // length, wall - wall % length + length
        today = datetime.fromtimestamp(wall // NS, self._zone).date()
        number, following = _days(today, self._period)
        return number, self._midnight_ns(following)

    def _midnight_ns(self, day: date) -> int:
        """Return when a day begins; where the clocks are changed at midnight, at its first moment that exists."""
        begins = datetime(day.year, day.month, day.day, tzinfo=self._zone)
        return int(begins.astimezone(UTC).timestamp()) * NS


def _days(day: date, period: Period) -> tuple[int, date]:
    """Return the number of the period of a day, and the first day of the next one."""
    if period == "month":
        number = (day.year - FIRST.year) * 12 + day.month - FIRST.month
        return number, date(day.year + day.month // 12, day.month % 12 + 1, 1)
    if period == "week":  # from Monday on; the origin was a Thursday
        monday = day - timedelta(days=day.weekday())
        return (monday - FIRST).days // 7 + 1, monday + timedelta(days=7)
    return (day - FIRST).days, day + timedelta(days=1)


class Pace:
    """A limit that comes in evenly over its period, of which at most `burst` is saved up."""

    __slots__ = ("_amount", "_period_ns", "limit")

    def __init__(self, amount: int, period: Period, burst: int) -> None:
        """Begin full."""
        self.limit: int = burst
        self._amount = amount
        self._period_ns = round(length_of(period) * NS)

    def span(self) -> Span:
        """Return the span now."""
        base = clock.now_ns() * self._amount // self._period_ns
        return Span(base, base + self.limit, 0, self._seconds(self.limit))

    def restart(self) -> None:
        """Do nothing: there are no periods."""

    def wait(self, span: Span, short: int) -> float:  # noqa: ARG002 - a calendar's depends on it
        """Return the seconds in which the missing amount comes in."""
        return self._seconds(short)

    def _seconds(self, amount: int) -> float:
        return amount * self._period_ns / self._amount / NS
