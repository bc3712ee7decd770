"""
Places of policies' definitions, and detection of repeated definitions, as in a notebook or by a reload.

A definition is repeated if it stands at the same place and its code has been run anew. The place is module, file and
function, not the line, which moves when the file is edited. Code is run anew if the function has been defined again, or
the module around it has been executed again: another code object, or another namespace. A function that is merely
called twice is the same run, and so are two lines of one module. Lambdas have no name of their own: two of one run are
two definitions.
"""

from __future__ import annotations

import sys
from types import FrameType

from resilio._support.call_site import outside

__all__ = ["Place", "here"]

MODULE = "<module>"


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
        code, around = frame and frame.f_code, frame
        while around is not None and around.f_code.co_name != MODULE:
            around = around.f_back
        self.file = code.co_filename if code else "<unknown>"
        self.line = frame.f_lineno if frame else 0
        self.module = _file_of(frame)[0] if frame else "__main__"
        self._code = code
        # A reload or a notebook's cell has new code around it, a script run again a new namespace. That is kept until
        # the definition is made again, so that no other namespace gets its address.
        self._run = (None, None) if around is None else (around.f_code, around.f_globals)
        self._where = frame and (frame.f_code.co_qualname, _file_of(frame), around and _file_of(around))

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"

    def is_again(self, other: Place) -> bool:
        """Return True if this is the definition at `other`, run anew."""
        if self._code is None or self._where != other._where:
            return False
        if self._run[0] is not other._run[0] or self._run[1] is not other._run[1]:
            return True
        return self._code is not other._code and not self._code.co_name.startswith("<")  # a function defined again


def here() -> Place:
    """Return the place in the user's code that has called resilio."""
    return Place(outside(sys._getframe())[1])


def _file_of(frame: FrameType) -> tuple[str, object]:
    """Return module and file; a notebook and a prompt have no file, although each of their cells is compiled as one."""
    name = frame.f_globals.get("__name__")
    return name if isinstance(name, str) else "__main__", frame.f_globals.get("__file__")
