"""
How many tokens a call will cost, before it is made: by what calls of the same model have cost of late.

The input is so many tokens for each byte of the request, the output a mean, never above what the request allows. Both
are exponentially weighted. Until a model has answered once, a byte is a quarter of a token, and an answer as long as
`UNKNOWN_OUTPUT`: to reserve all that a request allows would refuse the first call of many.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping

import attrs

from resilio._support.after_fork import free_lock

__all__ = ["UNKNOWN_OUTPUT", "Estimates"]

UNKNOWN_OUTPUT = 256.0
WEIGHT = 0.2
"""Of the latest call."""
MOST_MODELS = 256
"""Names of models come from requests: beyond so many they share one estimate."""


@attrs.define
class _Model:
    input_a_byte: float = 0.25
    output: float = UNKNOWN_OUTPUT
    seen: bool = False

    def learn(self, size: int, input_tokens: float | None, output_tokens: float | None) -> None:
        weight = WEIGHT if self.seen else 1.0
        if input_tokens is not None and size > 0:
            self.input_a_byte += weight * (input_tokens / size - self.input_a_byte)
        if output_tokens is not None:
            self.output += weight * (output_tokens - self.output)
            self.seen = True


class Estimates:
    """What each model's calls have cost of late; for any thread."""

    def __init__(self) -> None:
        """Know nothing yet."""
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
        Return the tokens that a call will probably cost: "input_tokens", "output_tokens" and "tokens".

        Args:
            model: Its name.

            size: Bytes of the request.

            most: The most that the answer may cost; None: without limit.
        """
        with self._lock:
            known = self._model(model)
            asked, answer = known.input_a_byte * size, known.output
        answer = answer if most is None else float(min(answer, most))
        return {"input_tokens": asked, "output_tokens": answer, "tokens": asked + answer}

    def learn(self, model: str | None, size: int, usage: Mapping[str, float]) -> None:
        """
        Take note of what a call has cost.

        Args:
            model: Its name.

            size: Bytes of the request.

            usage: "input_tokens" and "output_tokens", as far as they are known.
        """
        with self._lock:
            self._model(model).learn(size, usage.get("input_tokens"), usage.get("output_tokens"))
