"""Facts about the build of the compiled core."""

from typing import TypedDict, type_check_only

__all__ = ["build_facts"]

@type_check_only
class _BuildFacts(TypedDict):
    compiler: str
    python: str
    free_threaded: bool
    optimised: bool
    traced: bool
    sanitized: bool

def build_facts() -> _BuildFacts: ...
