"""
What an answer over HTTP says to policies that were not given a rule of their own: the client's judges.

A policy may guard functions and several clients at once, so nothing is changed of it. The judges belong to the pipeline
that is made for the client; each gate knows whether it was given a rule, and goes by the pipeline's if it was not. That
is read at each call: what `reconfigure` gives it holds from then on, for each key of a keyed policy too.

5xx says that the server is unwell. 4xx does not, and 429 only that it has too much to do: a breaker learns nothing bad
of it, an adaptive limit shrinks, a retry pays nothing into its budget. Errors need no rule here: what a client raises
of its own making has been told apart before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from resilio import presets
from resilio._failures.outcome import Judge, Outcome, judge_error, judge_value

__all__ = ["HTTP", "Judges", "judges_of"]

Judges = tuple[Judge | None, ...]
"""Of errors and of answers by rule, `rs_rule` of gate.h: what fails, drops, or is in doubt. None: the gate's own."""


def judges_of(failing: Callable[[Any], object] | None) -> Judges:
    """
    Return judges for a client over HTTP.

    Args:
        failing: Which answers say that the server is unwell; None: none does.
    """
    errors, answers = presets.http.part("drops")
    drops = judge_error(errors, refusals=True), judge_value(answers)
    return (None, judge_value(failing), *drops, None, judge_value(_is_in_doubt))


def _is_in_doubt(answer: Any) -> Outcome:
    """What another attempt may not meet is no success, though it is not for this policy to try again."""
    momentary: Any = presets.http.momentary_result
    return Outcome.IGNORED if momentary(answer) else Outcome.SUCCESS


HTTP = judges_of(presets.http.failing_result)
"""By the status: 5xx fails."""
