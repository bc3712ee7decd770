"""The options that define a stock, in units, for `resilio shared show`: what a gate writes for its cell, read back."""

from __future__ import annotations

import ast
from collections.abc import Callable

__all__ = ["in_units"]

SECOND = 1_000_000_000
BILLIONTHS = 1_000_000_000
_PERIODS: dict[float, str] = {1: "s", 60: "min", 3600: "h", 86_400: "day"}


def in_units(kind: str, options: bytes) -> str:
    """
    Return the options of a stock with their units; as they are, or in hexadecimal, if their form is not known.

    Args:
        kind: The kind of its cell, one of `KINDS`.

        options: As the gate's `cell_wanted` returns them.
    """
    text = options.decode("utf-8", "backslashreplace")
    try:
        return _TEXTS[kind](text) if kind in _TEXTS and text else _readable(text, options)
    except (IndexError, SyntaxError, TypeError, ValueError):  # of another version of the library
        return _readable(text, options)


def _readable(text: str, options: bytes) -> str:
    return text if text.isprintable() else options.hex()


def _limit(text: str) -> str:
    return ", ".join(_rate(*rate) for rate in ast.literal_eval(text))


def _rate(unit: str, amount: float, period_ns: int, burst: float, grid_ns: int) -> str:  # noqa: ARG001 - as they come
    seconds = period_ns / SECOND
    found = f"{amount:g}/{_PERIODS.get(seconds, f'{seconds:g}s')}"
    found += "" if unit == "requests" else f" {unit}"
    return found if burst == amount else f"{found} (burst {burst:g})"


def _keys(text: str) -> str:
    limits, _, most = text.rpartition(" ")
    return f"{_limit(limits)} for each of at most {int(most):,} keys"


def _permits(text: str) -> str:
    return f"{int(text):,} {'permit' if text == '1' else 'permits'}"


def _adaptive(text: str) -> str:
    _, start, floor, ceiling, _ = map(int, text.split(","))
    return f"{floor:,} to {ceiling:,} permits, {start:,} at first"


def _budget(text: str) -> str:
    cap, initial, _, gap_ns = map(int, text.split())
    return f"{cap / BILLIONTHS:g} tokens at most, {initial / BILLIONTHS:g} at first, {_reserve(f'{gap_ns}')}"


def _reserve(text: str) -> str:
    gap_ns = int(text.partition(" ")[0])
    return f"reserve {SECOND / gap_ns:g}/s" if gap_ns > 0 else "no reserve"


def _money(text: str) -> str:
    amount, currency, period, burst, zone = ast.literal_eval(text)
    return f"{amount:g} {currency}/{period}, {f'burst {burst:g}' if burst is not None else zone}"


_TEXTS: dict[str, Callable[[str], str]] = {
    "limit": _limit,
    "lease": _limit,
    "keys": _keys,
    "permits": _permits,
    "slots": _permits,
    "adaptive limit": _adaptive,
    "budget": _budget,
    "reserve": _reserve,
    "spend": _money,
    "money": _money,
}
