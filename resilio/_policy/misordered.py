"""The warning about policies in an order that does not work, at the user's code."""

from __future__ import annotations

import sys
import warnings

from resilio._support.call_site import outside

__all__ = ["PipelineWarning", "warn_of"]


class PipelineWarning(UserWarning):
    """Warning about an order of a pipeline's policies that does not work."""


def warn_of(rule: str, message: str) -> None:
    """Warn where the user's code made the policies."""
    level, _ = outside(sys._getframe())
    warnings.warn(f"{message} [{rule}]", PipelineWarning, stacklevel=level)
