"""Description of a pipeline as data that prints as a table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations
from types import BuiltinFunctionType, FunctionType
from typing import TYPE_CHECKING, Any

import attrs

from resilio._composition.lint import LintWarning, lint
from resilio._context.process_switch import note
from resilio._options.fields import Window
from resilio._options.quantile import Quantile
from resilio._options.validators import show
from resilio._policies.rate_limit.rate import Rate

if TYPE_CHECKING:
    from resilio._policy.base import Policy

__all__ = ["Explanation", "Step", "explain"]


@attrs.frozen(kw_only=True)
class Step:
    """
    One policy of a pipeline.

    Attributes:
        position: 1 is outermost. A keyed policy takes as many positions as the policy of one key.

        kind: The kind of the policy.

        name: Its name; None while it has none.

        options: The options that differ from their default, and those without default.

        rejects_with: The exception class that it raises by itself, in `resilio.errors`; None: it raises none.
    """

    position: int
    kind: str
    name: str | None
    options: dict[str, Any]
    rejects_with: str | None


@attrs.frozen(kw_only=True)
class Explanation:
    """
    A pipeline in words: `print(pipeline.explain())`.

    Attributes:
        name: The pipeline's name; None while it has none.

        steps: Its policies, outermost first.

        warnings: Pairs of policies in an order that does not work.

        notes: Facts beyond the options: the law of a timeout, the reach of a deadline, a timeout that never fires, the
            policies left out.
    """

    name: str | None
    steps: tuple[Step, ...]
    warnings: tuple[LintWarning, ...] = ()
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = _table([("", "policy", "name", "options", "rejects with"), *map(_row, self.steps)])
        texts = [f"note: {note}" for note in self.notes]
        texts += [f"warning: {warning.message} [{warning.rule}]" for warning in self.warnings]
        return "\n".join([*lines, *(_wrapped(text, _WIDTH, "      ") for text in texts)])


_WIDTH = 100
"""Columns of an explanation: a terminal's, beside the window of an editor."""
_LEAST = 24
_OPTIONS = 3


def _row(step: Step) -> tuple[str, ...]:
    options = ", ".join(f"{name}={_text(value)}" for name, value in step.options.items())
    return str(step.position), step.kind, step.name or "-", options or "defaults", step.rejects_with or "-"


def _text(value: object) -> str:
    """Return the value as text; classes and functions by their names, without an address in memory."""
    if isinstance(value, tuple) and value and all(isinstance(one, (type, str, Rate)) for one in value):
        names = ", ".join(_text(one) for one in value)
        return names if len(value) == 1 else f"({names})"
    if isinstance(value, (type, FunctionType, BuiltinFunctionType)):
        return value.__name__
    if isinstance(value, Window):
        parts = [] if value.calls is None else [str(value.calls)]
        parts += [] if value.seconds is None else [f"'{value.seconds:g}s'"]
        return parts[0] if len(parts) == 1 else f"({', '.join(parts)})"
    return repr(str(value)) if isinstance(value, (Quantile, Rate)) else show(value)


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table that is `_WIDTH` wide: long options take several lines of their column."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    others = sum(widths) - widths[_OPTIONS] + 2 * (len(widths) - 1)
    widths[_OPTIONS] = min(widths[_OPTIONS], max(_LEAST, _WIDTH - others))
    return [_line(cells, widths) for row in rows for cells in _lines(row, widths[_OPTIONS])]


def _lines(row: Sequence[str], width: int) -> Iterator[list[str]]:
    """Yield the row's cells line by line."""
    first, *rest = _wrapped(row[_OPTIONS], width).split("\n")
    yield [*row[:_OPTIONS], first, *row[_OPTIONS + 1 :]]
    for line in rest:
        yield [*[""] * _OPTIONS, line, *[""] * (len(row) - _OPTIONS - 1)]


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def _wrapped(text: str, width: int, indent: str = "") -> str:
    import textwrap  # only to print

    return textwrap.fill(text, width, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False)


def explain(name: str | None, policies: Sequence[Policy[Any]]) -> Explanation:
    """Describe these policies, outermost first; keyed ones are described by the policy of one key."""
    shown = [(part, policy) for policy in policies for part in policy._seen_through()]
    steps = tuple(_step(position, part, policy) for position, (part, policy) in enumerate(shown, 1))
    switch = note()
    parts = [part for part, _ in shown]
    notes = (*([] if switch is None else [switch]), *_notes(shown), *_unreachable(parts))
    return Explanation(name=name, steps=steps, warnings=tuple(lint(policies)), notes=notes)


def _notes(shown: Iterable[tuple[Policy[Any], Policy[Any]]]) -> Iterator[str]:
    for position, (part, policy) in enumerate(shown, 1):
        explained = getattr(part, "_explained", None)  # of kinds that their options do not describe fully
        text = None if explained is None else explained()
        if text is not None:
            yield f"{part.kind} ({position}): {text}"
        sharing = policy._sharing() or part._sharing()  # a keyed policy is shared, and seen through
        if sharing is not None:
            yield f"{part.kind} ({position}): {sharing}"
        budget = getattr(part, "budget", None)  # of a retry
        shared = None if budget is None else budget._about_sharing()
        if shared is not None:
            yield f"{part.kind} ({position}): of its budget {shared}"


def _unreachable(parts: Sequence[Policy[Any]]) -> Iterator[str]:
    """Yield a note for each fixed timeout that never ends an attempt, as a deadline around it is no longer."""
    for (outer_at, outer), (at, part) in combinations(enumerate(parts, 1), 2):
        total = part.config.total if part.kind == "timeout" else None
        if outer.kind == "deadline" and isinstance(total, float) and outer.config.seconds <= total:
            deadline = f"deadline ({outer_at}) of {outer.config.seconds:g} s"
            yield f"timeout ({at}): {total:g} s never end an attempt, since the {deadline} ends the call before"


_RAISES = {
    "deadline": "DeadlineExceededError",
    "fallback": None,
    "hedge": None,
    "retry": None,
    "timeout": "CallTimeoutError",
}
"""The exceptions that strategies raise by themselves; a gate knows its own."""


def _step(position: int, policy: Policy[Any], whole: Policy[Any]) -> Step:
    error = _RAISES.get(policy.kind, policy.gates[0].error)
    options = dict(_options(policy.config))
    if whole is not policy:
        options |= {name: value for name, value in _options(whole.config) if name not in ("factory", "overrides")}
    return Step(position=position, kind=policy.kind, name=policy.name, options=options, rejects_with=error)


def _options(config: Any) -> Iterator[tuple[str, Any]]:
    for field in attrs.fields(type(config)):
        value = getattr(config, field.name)
        key: Any = field.eq_key or _itself
        if key(value) != key(_default(field)):
            yield field.name, value


def _itself(value: Any) -> Any:
    return value


def _default(field: attrs.Attribute[Any]) -> Any:
    """Return the default in its internal form; without a default the field itself, which equals no value."""
    if field.default is attrs.NOTHING:
        return field
    check = field.metadata.get("check")
    return field.default if check is None else check(field.default, field)
