"""
Default rules of a client for the outcome of an answer, used by policies without a rule of their own.

A policy may guard functions and several clients at once, so it is not changed. The judges belong to the client's own
pipeline. A gate with a rule of its own uses that, any other gate the pipeline's. This is decided at each call, so
`reconfigure` takes effect at once, also for the keys of a keyed policy.

5xx is a failure of the server; 4xx is not. 429, and a 503 with a Retry-After, are refusals: a breaker does not count
them, an endpoint of a pool is held, an adaptive limit shrinks, and a retry pays nothing into its budget. Errors need no
rule here: those of the client's own making were separated before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from resilio import presets
from resilio._failures.outcome import Judge, Outcome, judge_error, judge_value
from resilio.presets import Part, Preset

__all__ = ["HTTP", "Judges", "judges_of"]

Judges = tuple[Judge | None, ...]
"""Judges of errors and answers, by `rs_rule` of gate.h: failing, dropping, in doubt, placed. None: the gate's own."""


def judges_of(failing: Callable[[Any], object] | None, preset: Preset = presets.http) -> Judges:
    """
    Return judges for a client.

    Args:
        failing: Function that returns True for an answer that is a failure of the server; None: no answer is.

        preset: The kind of server, with rules for its answers.
    """
    errors, answers = preset.part("drops")
    drops = judge_error(errors, rejections=True), judge_value(answers)
    fails, places = (judge_value(_answers(failing, part, preset)) for part in ("failing", "endpoint"))
    return (None, fails, *drops, None, judge_value(_in_doubt(preset)), None, places)


def _answers(failing: Callable[[Any], object] | None, part: Part, preset: Preset) -> Callable[[Any], object] | None:
    """Return the rule of one part of the preset for answers; what the caller's own function calls a failure is one."""
    fails: Any = preset.failing_result
    theirs: Any = preset.part(part)[1]
    if failing is None or failing is fails:
        return failing and theirs

    def judged(answer: Any) -> object:
        found = failing(answer)
        if found or isinstance(found, Outcome):
            return found
        return Outcome.SUCCESS if fails(answer) else theirs(answer)

    return judged


def _in_doubt(preset: Preset) -> Callable[[Any], Outcome]:
    """Return a rule: IGNORED for a momentary failure, which another attempt may not meet, else SUCCESS."""
    momentary: Any = preset.momentary_result
    return lambda answer: Outcome.IGNORED if momentary(answer) else Outcome.SUCCESS


HTTP = judges_of(presets.http.failing_result)
"""Judges by the status: 5xx fails."""
