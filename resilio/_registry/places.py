"""
Places of policies' definitions, and detection of repeated definitions, as in a notebook or by a reload.

A definition is repeated if it stands at the same place and its code has been run anew. The place is module, file and
function, not the line, which moves when the file is edited. Code is run anew if the function has been defined again, or
the module around it has been executed again: another code object, or another namespace. A function that is merely
called twice is the same run, and so are two lines of one module.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable
from types import CodeType, FrameType

from resilio._support.call_site import outside

__all__ = ["Place", "here"]

MODULE = "<module>"
_ALIKE = ("<lambda>", "<genexpr>", "<listcomp>", "<setcomp>", "<dictcomp>")
"""Names that several functions at one place have; their lines and columns distinguish them."""


class Place:
    """
    The place in the code at which a policy was made.

    Attributes:
        file: The file of the code.

        line: Its line.

        module: The name of the module.
    """

    __slots__ = ("_code", "_run", "_where", "file", "line", "module")

    def __init__(self, frame: FrameType | None) -> None:
        """Record the code that runs in `frame`; None: the Python code is unknown."""
        code = None if frame is None else frame.f_code
        self.file = "<unknown>" if code is None else code.co_filename
        self.line = 0 if frame is None else frame.f_lineno
        self.module = "__main__" if frame is None else _module_of(frame)
        self._code = code
        self._run = _Run(_around(frame))
        self._where = None if frame is None else (*_file_of(frame), *_function(frame.f_code))

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"

    def is_again(self, other: Place) -> bool:
        """Return True if this is the definition at `other`, run anew."""
        if self._where is None or self._where != other._where or self._run.where != other._run.where:
            return False
        return self._code is not other._code or not self._run.is_same(other._run)


class _Run:
    """One execution of a module: a reload or a notebook's cell has new code, a script run again a new namespace."""

    __slots__ = ("_code", "_namespace", "where")

    def __init__(self, frame: FrameType | None) -> None:
        self.where = None if frame is None else _file_of(frame)
        self._code = None if frame is None else frame.f_code
        self._namespace = _nothing if frame is None else _namespace(frame)

    def is_same(self, other: _Run) -> bool:
        """Return True if both have the same code and namespace."""
        return self._code is other._code and self._namespace() is other._namespace()


def here() -> Place:
    """Return the place in the user's code that has called resilio."""
    return Place(outside(sys._getframe())[1])


def _module_of(frame: FrameType) -> str:
    name = frame.f_globals.get("__name__")
    return name if isinstance(name, str) else "__main__"


def _file_of(frame: FrameType) -> tuple[str, object]:
    """Return module and file; a notebook and a prompt have no file, although each of their cells is compiled as one."""
    return _module_of(frame), frame.f_globals.get("__file__")


def _function(code: CodeType) -> tuple[str, int, int]:
    if code.co_name not in _ALIKE:
        return code.co_qualname, 0, 0
    column = next((begins for _, _, begins, _ in code.co_positions() if begins), 0)
    return code.co_qualname, code.co_firstlineno, column


def _around(frame: FrameType | None) -> FrameType | None:
    """Return the nearest frame that executes a module; None in a thread that has none."""
    while frame is not None and frame.f_code.co_name != MODULE:
        frame = frame.f_back
    return frame


def _namespace(frame: FrameType) -> Callable[[], object]:
    """
    Return a function that returns the namespace while it lives.

    A namespace that belongs to no module is kept alive, so that no other one gets its address.
    """
    names = frame.f_globals
    module = sys.modules.get(_module_of(frame))
    if module is None or getattr(module, "__dict__", None) is not names:
        return lambda: names
    alive = weakref.ref(module)
    return lambda: getattr(alive(), "__dict__", None)


def _nothing() -> None:
    """Return None, the namespace of code that runs in no module."""
