"""Private names of CPython, asyncio, uvloop, trio and greenlet."""

from __future__ import annotations

import asyncio
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from resilio._native import core
from resilio._private_names._record import Private, State, attribute, in_core, of_module

__all__ = ["INTERPRETER"]

_CORE = "src_c/resilio/_native/core/"


def _has_frames() -> State:
    frame: Any = sys._getframe() if hasattr(sys, "_getframe") else None
    return "in use" if isinstance(frame, types.FrameType) and core.generator_of(frame) is None else "failed"


def _future_says() -> State:
    loop = asyncio.new_event_loop()
    try:
        return "in use" if loop.create_future()._asyncio_future_blocking is False else "failed"
    except AttributeError:
        return "failed"
    finally:
        loop.close()


def _nothing() -> Iterator[None]:
    yield


def _scheduled(found: Any) -> bool:
    loop = found.SelectorEventLoop()
    try:
        return isinstance(loop._scheduled, list)
    finally:
        loop.close()


INTERPRETER = (
    Private(
        name="The order in which `with` and `async with` fetch `__enter__` and `__exit__`",
        of="CPython",
        words=(),
        where=(_CORE + "call/block.c", "resilio/_native/proofs.py"),
        versions="entry first up to 3.13, exit first from 3.14",
        check="at import, two blocks note the order of the fetches, and whether the exit lives as long as its frame",
        otherwise="blocks are found again by frame and context (`resilio/_context/blocks.py`); a Ctrl-C between entry "
        "and body may then keep a permit until the policy is reset",
        state=in_core("with_order"),
    ),
    Private(
        name="The holder of the running loop in the thread's dict, `__asyncio_running_event_loop__`",
        of="asyncio",
        words=("__asyncio_running_event_loop__",),
        where=(_CORE + "timers/running_loop.c",),
        versions="3.11",
        check="at first use, it must hold the result of `get_running_loop`, for this process",
        otherwise="`asyncio.get_running_loop` is called",
        state=in_core("running_loop_holder"),
    ),
    Private(
        name="`asyncio._get_running_loop`, which raises nothing where no loop runs",
        of="asyncio",
        words=("_get_running_loop",),
        where=(_CORE + "timers/running_loop.c", "resilio/_backends/__init__.py", "resilio/integrations/_grpc/calls.py"),
        versions="3.11 to 3.15",
        check="at first use, that asyncio has it",
        otherwise="`asyncio.get_running_loop`, with its exception caught",
        state=attribute("asyncio", "_get_running_loop"),
    ),
    Private(
        name="`asyncio.tasks._current_tasks`",
        of="asyncio",
        words=("_current_tasks",),
        where=(_CORE + "call/timer.c",),
        versions="3.11; it is slower to ask later, and empty since 3.14",
        check="at first use, it must be a dict that has the result of `current_task`",
        otherwise="`asyncio.current_task` is called",
        state=in_core("current_tasks"),
    ),
    Private(
        name="`_asyncio_future_blocking`, which makes an object a future to asyncio's tasks",
        of="asyncio",
        words=("_asyncio_future_blocking",),
        where=(_CORE + "call/invoke.c",),
        versions="3.11 to 3.15",
        check="at each use, that the object has it",
        otherwise="the object counts as any awaitable: it is awaited, and settled when that ends",
        state=_future_says,
    ),
    Private(
        name="`PyThreadState.coroutine_origin_tracking_depth`",
        of="CPython",
        words=("coroutine_origin_tracking_depth",),
        where=("src_c/include/private.h",),
        versions="3.11 to 3.15",
        check="at import, another depth is set, read, and put back",
        otherwise="`sys.get_coroutine_origin_tracking_depth()`",
        state=in_core("origin_depth"),
    ),
    Private(
        name="The layout of StopIteration, of which one is used again for the result of each `await`",
        of="CPython",
        words=("value", "traceback", "context", "cause", "notes", "dict"),
        where=(_CORE + "call/drive.c", _CORE + "private.c"),
        versions="3.11 to 3.15; used again from 3.12 on, with the GIL",
        check="at import, one is made and filled, and its fields must show it; at each use, that it is not shared",
        otherwise="a new StopIteration for each result",
        state=in_core("stop_iteration"),
    ),
    Private(
        name="The vectorcall in a Python function",
        of="CPython",
        words=("vectorcall",),
        where=(_CORE + "core.h",),
        versions="3.11 to 3.15",
        check="at import, it must equal the result of `PyVectorcall_Function`",
        otherwise="`PyObject_Vectorcall`",
        state=in_core("function"),
    ),
    Private(
        name="How `contextlib.contextmanager` calls what it makes, `contextmanager.<locals>.helper`",
        of="CPython",
        words=("helper",),
        where=("resilio/_policy/decorate.py",),
        versions="3.11 to 3.15",
        check="at decoration",
        otherwise="a context manager is guarded as a function, without a TypeError that gives the remedy",
        state=lambda: (
            "in use"
            if contextmanager(_nothing).__code__.co_qualname.endswith("contextmanager.<locals>.helper")
            else "failed"
        ),
    ),
    Private(
        name="`PyCodeObject.co_flags`; up to 3.11 `PyGenObject.gi_code`",
        of="CPython",
        words=("co_flags", "gi_code"),
        where=("src_c/include/private.h", _CORE + "core.h"),
        versions="3.11 to 3.15",
        check="at import, they must equal the attribute `co_flags`",
        otherwise="the attribute is asked",
        state=in_core("code_flags"),
    ),
    Private(
        name="The names of a Python function in its struct",
        of="CPython",
        words=("func_name", "func_qualname"),
        where=(_CORE + "call/block.c",),
        versions="3.11 to 3.15",
        check="when the library is imported: a method of another name fails it",
        otherwise="none: the import fails with what was expected",
        state=lambda: "in use",
    ),
    Private(
        name="The leaves of an exception group, `excs`",
        of="CPython",
        words=("excs",),
        where=("src_c/resilio/_native/core/private.c",),
        versions="3.11 to 3.15",
        check="at import, a group is made, and must have its leaf there",
        otherwise="the attribute `exceptions` of the base class is asked",
        state=in_core("exception_group"),
    ),
    Private(
        name="`_Py_NewReference`: the steps of blocks are kept for the next",
        of="CPython",
        words=("_Py_NewReference",),
        where=(_CORE + "call/block.c",),
        versions="3.11 to 3.15, with the GIL",
        check="at import, an object is laid aside and used again",
        otherwise="each is made anew",
        state=in_core("spare_steps"),
    ),
    Private(
        name="An object that is alive again after its `tp_dealloc`: calls are kept for the next",
        of="CPython",
        words=(),
        where=(_CORE + "call/call.c",),
        versions="3.11 to 3.15, with the GIL",
        check="at import, an object is laid aside and used again",
        otherwise="each is made anew",
        state=in_core("spare_calls"),
    ),
    Private(
        name="`_PyType_Lookup`",
        of="CPython",
        words=("_PyType_Lookup",),
        where=(_CORE + "private.c",),
        versions="3.11 to 3.15",
        check="at import, it finds a method of list's, and not one that is not there",
        otherwise="`PyObject_GetAttr` of the type",
        state=in_core("type_lookup"),
    ),
    Private(
        name="`_PyObject_LookupAttr`, `_Py_IsFinalizing`, `_Py_HashPointer`",
        of="CPython",
        words=("_PyObject_LookupAttr", "_Py_IsFinalizing", "_Py_HashPointer"),
        where=(_CORE + "engine/answer_judge.c", _CORE + "engine/deliver.c", _CORE + "call/block.c"),
        versions="3.11 and 3.12, which change no more",
        check="when the library is compiled",
        otherwise="from 3.13 on their public names",
        state=lambda: "in use" if sys.version_info < (3, 13) else "not applicable",
    ),
    Private(
        name="The shared count of references of a build without the GIL",
        of="CPython",
        words=("_Py_IsOwnedByCurrentThread", "_Py_IsImmortal", "_Py_REF_SHARED_SHIFT", "ob_ref_shared"),
        where=("src_c/include/try_hold.h",),
        versions="3.13t, which changes no more",
        check="when the library is compiled",
        otherwise="from 3.14 on `PyUnstable_TryIncRef`",
        state=lambda: "in use" if sys.version_info < (3, 14) and _without_gil() else "not applicable",
    ),
    Private(
        name="`sys._getframe`, and whose frame it is (`generator_of`)",
        of="CPython",
        words=("_getframe",),
        where=(
            "resilio/_policy/blocks.py",
            "resilio/_composition/pipeline.py",
            "resilio/_context/scope.py",
            "resilio/_context/frames.py",
        ),
        versions="3.11 to 3.15",
        check="at the call: every CPython has it",
        otherwise="none: without frames a block cannot be found again",
        state=_has_frames,
    ),
    Private(
        name="`sys._is_gil_enabled`, `sys._current_frames`",
        of="CPython",
        words=("_is_gil_enabled", "_current_frames"),
        where=("resilio/_doctor/_facts.py", "resilio/testing/_threads.py"),
        versions="3.13 to 3.15; 3.11 to 3.15",
        check="at the call",
        otherwise="the GIL is taken to be there; virtual time beside other threads needs the frames",
        state=attribute("sys", "_current_frames"),
    ),
    Private(
        name="How functions of the standard library and of trio that wait in C are called",
        of="CPython",
        words=(
            "_recv",
            "_communicate",
            "_try_wait",
            "_wait",
            "_wait_for_tstate_lock",
            "_worker",
            "_work",
            "_block",
            "_turn",
            "_next_job",
        ),
        where=("resilio/testing/_threads.py",),
        versions="3.11 to 3.15; trio 0.26 to 0.35",
        check="under virtual time, a thread whose frame is not known counts as busy",
        otherwise="virtual time waits for it in real time",
        state=lambda: "in use",
    ),
    Private(
        name="`_log_destroy_pending` of a task",
        of="asyncio",
        words=("_log_destroy_pending",),
        where=("resilio/integrations/_grpc/relay.py",),
        versions="3.11 to 3.15",
        check="at each use, that the task lets it be set",
        otherwise="a task that is collected as it waits writes a line to the log",
        state=attribute("asyncio", "Task._log_destroy_pending"),
    ),
    Private(
        name="`_scheduled` of asyncio's loop",
        of="asyncio",
        words=("_scheduled",),
        where=("resilio/testing/_asyncio_loop.py",),
        versions="3.11 to 3.15",
        check="when a virtual loop is made",
        otherwise="none: RuntimeError names the Python; only tests run on virtual time",
        state=of_module("asyncio", _scheduled),
    ),
    Private(
        name="`_autojump` of trio's MockClock",
        of="trio",
        words=("_autojump",),
        where=("resilio/testing/_trio_clock.py",),
        versions="trio 0.26 to 0.35",
        check="when virtual time begins on trio",
        otherwise="none: RuntimeError names the version; only tests run on virtual time",
        state=attribute("trio.testing", "MockClock._autojump"),
    ),
    Private(
        name="The fifth entry of greenlet's table `_C_API`",
        of="greenlet",
        words=("_C_API",),
        where=(_CORE + "context/greenlets.c",),
        versions="greenlet 0.4 to 3.5",
        check="when greenlet is seen, it must return the result of `greenlet.getcurrent()`",
        otherwise="`greenlet.getcurrent()`",
        state=in_core("greenlet"),
    ),
)


def _without_gil() -> bool:
    return not getattr(sys, "_is_gil_enabled", lambda: True)()
