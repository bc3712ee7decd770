"""
Estimated cost of a call in tokens, learned from recent calls of the same model.

The input is estimated in tokens per byte of the request, the output as a mean, capped at the request's own limit. Both
means are exponentially weighted. Before a model's first answer, a byte counts as a quarter of a token, and an answer as
`UNKNOWN_OUTPUT` tokens. Reserving all that a request allows would reject the first calls of many.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping

import attrs

from resilio._support.after_fork import free_lock

__all__ = ["UNKNOWN_OUTPUT", "Estimates"]

UNKNOWN_OUTPUT = 256.0
WEIGHT = 0.2
"""Weight of the latest call in the means."""
MOST_MODELS = 256
"""Bound on the models with an estimate of their own. Names come from requests; further ones share one estimate."""


@attrs.define
class _Model:
    input_a_byte: float = 0.25
    output: float = UNKNOWN_OUTPUT
    seen: bool = False

    def learn(self, size: int, input_tokens: float | None, output_tokens: float | None) -> None:
        """Move the averages towards the tokens of a call whose request had `size` bytes."""
        weight = WEIGHT if self.seen else 1.0
        if input_tokens is not None and size > 0:
            self.input_a_byte += weight * (input_tokens / size - self.input_a_byte)
        if output_tokens is not None:
            self.output += weight * (output_tokens - self.output)
            self.seen = True


class Estimates:
    """Recent cost of each model's calls; thread-safe."""

    def __init__(self) -> None:
        """Begin without models."""
        self._lock = threading.Lock()
        free_lock(self, "_lock")
        self._models: dict[str | None, _Model] = {}

    def _model(self, name: str | None) -> _Model:
        known = self._models.get(name)
        if known is None:
            known = self._models.setdefault(name if len(self._models) < MOST_MODELS else None, _Model())
        return known

    def of(self, model: str | None, size: int, most: int | None) -> dict[str, float]:
        """
        Return the expected cost of a call in "input_tokens", "output_tokens" and "tokens".

        Args:
            model: Name of the model.

            size: Bytes of the request.

            most: Upper bound on the answer's tokens; None: no limit.
        """
        with self._lock:
            known = self._model(model)
            asked, answer = known.input_a_byte * size, known.output
        answer = answer if most is None else float(min(answer, most))
        return {"input_tokens": asked, "output_tokens": answer, "tokens": asked + answer}

    def learn(self, model: str | None, size: int, usage: Mapping[str, float]) -> None:
        """
        Learn from the real cost of a call.

        Args:
            model: Name of the model.

            size: Bytes of the request.

            usage: "input_tokens" and "output_tokens", as far as they are known.
        """
        with self._lock:
            self._model(model).learn(size, usage.get("input_tokens"), usage.get("output_tokens"))
