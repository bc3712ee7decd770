"""
Bytes an object holds, all included: Python objects, native memory, what the allocator rounds up to.

A fresh process makes many of them and reads, before and after, how many bytes malloc has handed out. In that process
CPython's own allocator is off (PYTHONMALLOC=malloc), so malloc sees everything: objects, buffers, native memory that
was allocated and never touched, and the allocator's header on each. That is an upper bound of what a service pays.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from importlib import import_module

from benchmarks.micro._child import child
from benchmarks.micro._comparison import Unavailable

__all__ = ["bytes_each"]

_MANY = 1000
_FIELDS = (
    "arena",
    "ordblks",
    "smblks",
    "hblks",
    "hblkhd",
    "usmblks",
    "fsmblks",
    "uordblks",
    "fordblks",
    "keepcost",
)


class _MallocInfo(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in _FIELDS]


def bytes_each(factory: str, many: int = _MANY) -> float:
    """
    Return the bytes that one object of *factory* holds.

    Args:
        factory: "package.module:function"; the function takes a number and returns the object.

        many: How many to make.

    Raises:
        Unavailable: This malloc does not say what it handed out, or the objects cannot be made.
    """
    try:
        return float(child(["-m", __name__, factory, str(many)], PYTHONMALLOC="malloc"))
    except RuntimeError as error:
        raise Unavailable(str(error)) from error


def _handed_out() -> int:
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallinfo2"):
        raise SystemExit("this malloc has no mallinfo2")
    library.mallinfo2.restype = _MallocInfo
    info = library.mallinfo2()
    return int(info.uordblks + info.hblkhd)


def _main(factory: str, many: int) -> None:
    module, _, name = factory.partition(":")
    make = getattr(import_module(module), name)
    kept = [make(-1)]  # what is made once for all is not part of the price of one
    kept += [None] * many
    gc.collect()
    before = _handed_out()
    for i in range(many):
        kept[i + 1] = make(i)
    gc.collect()
    print((_handed_out() - before) / many)


if __name__ == "__main__":
    _main(sys.argv[1], int(sys.argv[2]))
