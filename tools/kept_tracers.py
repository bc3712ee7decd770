"""
Coverage's plugin for Cython, which keeps each file tracer that it has made: the suite puts it beside coverage.

Coverage asks for a tracer when a thread comes to a file for the first time, and uses it without a reference of its own
for as long as a function of that file runs. If several threads come at once, each gets another tracer, and coverage
keeps the last one: the others are freed while they are in use, and the process ends with a segmentation fault. So each
file has one tracer here.
"""

from __future__ import annotations

from typing import Any

from Cython import Coverage

__all__ = ["Plugin", "coverage_init"]


class Plugin(Coverage.Plugin):
    """Cython's plugin, with one tracer a file."""

    def __init__(self) -> None:
        """Begin without tracers."""
        super().__init__()
        self._tracers: dict[str, Any] = {}

    def file_tracer(self, filename: str) -> Any:
        """Return the tracer of a file, or None for one that is not Cython's."""
        tracer = super().file_tracer(filename)
        return None if tracer is None else self._tracers.setdefault(filename, tracer)


def coverage_init(registry: Any, options: dict[str, str]) -> None:  # noqa: ARG001 - coverage passes it
    """Register the plugin, as coverage asks of the module that has one."""
    plugin = Plugin()
    registry.add_configurer(plugin)
    registry.add_file_tracer(plugin)
