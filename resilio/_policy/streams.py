"""
Guarded generators and async generators: the permit lasts from the first `next` to the end of the stream.

The user's generator object is made at the call, as without a guard, so that wrong arguments raise at once; its body
does not run before admission. Latency is measured up to the first item. If the consumer closes or drops a stream, its
outcome is ignored; the user's generator is closed first, then the permit is returned.

All stages of a stream write into one ledger, that of the outermost stage that holds a permit.

A strategy runs the stream itself, by `gate.stream(make)` or `gate.astream(make)`. There `make()` returns a new stream
of the stages inside the strategy, not yet begun.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from typing import TYPE_CHECKING, Any, Self

from resilio._failures.replayable import used_up
from resilio._native import core
from resilio._options.arity import takes_named
from resilio._policy.late_streams import Late, LateAsyncStream, LateStream
from resilio._policy.stream_permits import StagePermit

if TYPE_CHECKING:
    from resilio._backends.protocols import Cutoff
    from resilio._failures.replayable import Replayable
    from resilio._native.core import Gate, Permit, Pipeline

__all__ = ["Abandoned", "Custody", "Inside", "async_stream", "drive", "drive_async", "stream"]


class Abandoned(BaseException):
    """Thrown into a guarded stream whose reader was dropped: the stream ends as if closed; each gate counts it."""


def stream(pipeline: Pipeline, fn: Callable[..., Generator[Any, Any, Any]]) -> Callable[..., Any]:
    """Return the function that a guarded generator function runs when called."""
    stages = _stages(pipeline, "stream")
    late = LateStream if _takes_endpoint(pipeline, fn) else None

    def start(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        begun: Generator[Any, Any, Any] = _through(stages, _Maker(fn, args, kwargs, late))
        return begun

    return start


def async_stream(pipeline: Pipeline, fn: Callable[..., AsyncGenerator[Any, Any]]) -> Callable[..., Any]:
    """Return the function that a guarded async generator function runs when called."""
    stages = _stages(pipeline, "astream")
    late = LateAsyncStream if _takes_endpoint(pipeline, fn) else None

    def start(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        begun: AsyncGenerator[Any, Any] = _through_async(stages, _Maker(fn, args, kwargs, late))
        return begun

    return start


class _Maker:
    """Factory of the user's generator; makes the first one at the call, so that wrong arguments raise at once."""

    __slots__ = ("args", "calls", "cuts", "endpoint", "first", "fn", "found", "kwargs", "late", "outermost")

    def __init__(
        self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], late: type[Late] | None = None
    ) -> None:
        self.fn = fn
        self.args = args
        self.kwargs = kwargs
        self.endpoint: Any = None  # of the pool, chosen for the attempt in flight
        self.late = late  # the function is given the endpoint, so it is called once that is chosen
        self.calls = 0  # of the user's functions so far, by all attempts: generators begun, and targets of a fallback
        self.cuts: list[Cutoff] = []
        self.found: dict[Any, Any] = {}  # of keyed policies: one look-up a call, however many attempts it has
        self.outermost: Permit | None = None  # the permit of the stage that counts the stream's time
        self.first: list[Any] = [fn(*args, **kwargs) if late is None else self.with_endpoint()]
        if late is not None:  # its arguments are right; it was made for no endpoint
            self.first.clear()

    def __call__(self) -> Any:
        if self.late is not None:
            return self.late(self)
        return self.first.pop() if self.first else self.fn(*self.args, **self.kwargs)

    def with_endpoint(self) -> Any:
        """Return the user's generator for the endpoint that was chosen."""
        return self.fn(*self.args, **{"endpoint": self.endpoint, **self.kwargs})

    def go_to(self, permit: Permit) -> None:
        """Take the endpoint of a permit, if it is for one; hand the outermost permit what Python gates keep."""
        if self.outermost is not None:
            self.outermost._keep_calls(permit)
        if self.late is not None and permit.endpoint is not None:
            self.endpoint = permit.endpoint

    def acquire(self, pipeline: Pipeline) -> Permit:
        """Acquire the permit of a stage."""
        if self.outermost is None:
            return pipeline.acquire(*self.args, **self.kwargs)
        return pipeline._acquire_within(self.outermost, *self.args, **self.kwargs)

    def aacquire(self, pipeline: Pipeline) -> Awaitable[Permit]:
        """Acquire the permit of a stage, awaited."""
        if self.outermost is None:
            return pipeline.aacquire(*self.args, **self.kwargs)
        return pipeline._aacquire_within(self.outermost, *self.args, **self.kwargs)

    def is_outermost(self, permit: Permit) -> bool:
        """Return True if this permit, the first that was acquired, counts the stream's time."""
        if self.outermost is None:
            self.outermost = permit
        return self.outermost is permit

    def at(self, segment: str, attempt: int = 0) -> None:
        """Count the stream's time as this segment of this attempt from now on; 0: the attempt in flight."""
        if self.outermost is not None:
            self.outermost._at(segment, attempt)

    def has_untried(self) -> bool:
        """Return True if a further attempt goes to an endpoint of a pool that none has been to."""
        return self.outermost is not None and self.outermost._has_untried()

    def one_shot(self, gate: Gate, rule: Replayable) -> str | None:
        """Return the name of an argument that a second generator could not use; see :func:`used_up`."""
        return used_up(gate, rule, self.fn, self.args, self.kwargs)

    def own(self, gate: Any) -> Gate:
        """Return the gate of this call's key if the gate is of a keyed policy, else the gate itself."""
        if _is_keyed(gate):
            if gate.table not in self.found:
                self.found[gate.table] = gate.table.policy_for_stream(self.fn, self.args, self.kwargs)
            gate = self.found[gate.table].gates[gate.index]
        found: Gate = gate
        return found


class _ByKey:
    """A stage of a keyed policy, or a run of gates that contains some: each call has its own."""

    __slots__ = ("_stage",)

    def __init__(self, stage: Any) -> None:
        self._stage = stage

    def own(self, make: _Maker) -> Any:
        """Return the stage of one call."""
        if isinstance(self._stage, core.Pipeline):
            return core.Pipeline(tuple(make.own(gate) for gate in self._stage.gates))
        return make.own(self._stage)


def _stages(pipeline: Pipeline, method: str) -> tuple[Any, ...]:
    """Return the stages of the stream, outermost first: runs of gates as pipelines, and the strategies between."""
    stages: list[Any] = []
    gates: list[Gate] = []
    for gate in pipeline.gates:
        if hasattr(_one_of(gate), method):
            stages += [*_run(gates), _ByKey(gate) if _is_keyed(gate) else gate]
            gates = []
        else:
            gates.append(gate)
    return (*stages, *_run(gates)) if stages or any(map(_is_keyed, gates)) else (pipeline,)


def _run(gates: list[Gate]) -> tuple[Any, ...]:
    if not gates:
        return ()
    run = core.Pipeline(tuple(gates))
    return (_ByKey(run) if any(map(_is_keyed, gates)) else run,)


def _is_keyed(gate: Any) -> bool:
    """Return True for a stage of a keyed policy; those of a pool are found by the core, in one run."""
    return hasattr(gate, "table") and hasattr(gate.table, "overflow")


def _takes_endpoint(pipeline: Pipeline, fn: Callable[..., Any]) -> bool:
    return any(gate.kind == "pool" for gate in pipeline.gates) and takes_named(fn, "endpoint")


def _one_of(gate: Any) -> Gate:
    """Return the gate; for a keyed policy's stage the overflow gate, which has the same methods as the keys' gates."""
    shown: Gate = gate.table.overflow.gates[gate.index] if _is_keyed(gate) else gate
    return shown


def _through(stages: tuple[Any, ...], make: _Maker) -> Any:
    if not stages:
        return make()
    stage = stages[0].own(make) if isinstance(stages[0], _ByKey) else stages[0]
    if isinstance(stage, core.Pipeline):
        return drive(_through(stages[1:], make), stage, make, not stages[1:])
    return stage.stream(Inside(_through, stages[1:], make))


def _through_async(stages: tuple[Any, ...], make: _Maker) -> Any:
    if not stages:
        return make()
    stage = stages[0].own(make) if isinstance(stages[0], _ByKey) else stages[0]
    if isinstance(stage, core.Pipeline):
        return drive_async(_through_async(stages[1:], make), stage, make, not stages[1:])
    return stage.astream(Inside(_through_async, stages[1:], make))


class Inside:
    """Factory of streams of the stages inside a strategy; each call makes one that is not yet begun."""

    __slots__ = ("_make", "_stages", "_through")

    def __init__(self, through: Callable[..., Any], stages: tuple[Any, ...], make: _Maker) -> None:
        self._through = through
        self._stages = stages
        self._make = make

    def __call__(self) -> Any:
        if not self._stages:  # the user's own, which the strategy begins
            self._make.calls += 1
        return self._through(self._stages, self._make)

    @property
    def args(self) -> tuple[Any, ...]:
        """The call's positional arguments."""
        return self._make.args

    @property
    def kwargs(self) -> dict[str, Any]:
        """The call's keyword arguments."""
        return self._make.kwargs

    @property
    def cuts(self) -> list[Cutoff]:
        """Cutoffs that may interrupt the step in flight, shared by all stages; a stage adds the cutoffs it begins."""
        return self._make.cuts

    @property
    def maker(self) -> _Maker:
        """The state that all stages of the call share."""
        return self._make

    def one_shot(self, gate: Gate, rule: Replayable) -> str | None:
        """Return the name of an argument that a second stream could not use; see :func:`used_up`."""
        return self._make.one_shot(gate, rule)


def drive(
    inner: Generator[Any, Any, Any], pipeline: Pipeline, make: _Maker, begins: bool | None = None
) -> Generator[Any, Any, Any]:
    """
    Run a stream with a permit that is held from its first item to its end.

    Args:
        inner: The stream, not yet begun.

        pipeline: The pipeline that grants the permit.

        make: The call's factory.

        begins: Whether *inner* is the user's own generator; None for a strategy, which counts what it has decided.
    """
    permit = make.acquire(pipeline)
    make.go_to(permit)
    held = StagePermit(permit, make, begins)
    try:
        item = permit._within(next, inner) if make.is_outermost(permit) else next(inner)
        held.first_item()
        while True:
            try:
                sent = yield item
            except GeneratorExit:
                inner.close()
                raise
            except BaseException as error:  # noqa: BLE001 - it is the consumer's, for the user's generator
                item = inner.throw(error)
            else:
                if sent is None:  # nothing sent: from here on the interpreter delegates the items
                    value = yield from inner
                    break
                item = inner.send(sent)
    except StopIteration as stop:
        value = stop.value
    except Abandoned:
        permit.abandon()
        raise
    except BaseException as error:
        held.raised(error)
        raise
    held.success()
    return value


async def drive_async(
    inner: AsyncGenerator[Any, Any], pipeline: Pipeline, make: _Maker, begins: bool | None = None
) -> AsyncGenerator[Any, Any]:
    """
    Run an async stream with a permit; see :func:`drive`. The first item comes from its method `begin` if it has one.

    A cancellation by one of the call's cutoffs (a timeout outside this stage) is a failure.
    """
    permit = await make.aacquire(pipeline)
    make.go_to(permit)
    custody = Custody()
    held = StagePermit(permit, make, begins)
    try:
        first = custody.first(inner)
        # Only the first item has phases: each later one would cost two stores and a call.
        item = await (_Within(permit, first) if make.is_outermost(permit) else first)
        held.first_item()
        while True:
            try:
                sent = yield item
            except GeneratorExit:
                await inner.aclose()
                raise
            except BaseException as error:  # noqa: BLE001 - it is the consumer's, for the user's generator
                item = await inner.athrow(error)
            else:
                item = await inner.asend(sent)
    except StopAsyncIteration:
        held.success()
    except Abandoned:
        permit.abandon()
        raise
    except BaseException as error:
        held.raised(error, make.cuts)
        raise
    finally:
        custody.driven = False


class _Within:
    """Awaitable for a stream's first item; phases reported meanwhile go to the stream's permit."""

    __slots__ = ("_permit", "_step")

    def __init__(self, permit: Permit, awaitable: Awaitable[Any]) -> None:
        self._permit = permit
        self._step: Any = awaitable.__await__()

    def __await__(self) -> Self:
        return self

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        return self._permit._within(next, self._step)

    def send(self, value: Any) -> Any:
        """Resume the step with a value, within the permit."""
        return self._permit._within(self._step.send, value)

    def throw(self, *error: Any) -> Any:
        """Raise an exception in the step, within the permit."""
        return self._permit._within(self._step.throw, *error)

    def close(self) -> None:
        """Close the step, within the permit."""
        self._permit._within(self._step.close)


class Custody:
    """
    Custody of the user's generator: its driver closes it, and the event loop only after the driver has ended.

    A loop that shuts down closes all generators that it knows at once. Closing the driver closes the user's generator
    too, and the two closings clash. If the garbage collector finds both in one cycle, it finalises both: the loop
    closes the driver, which closes the user's generator. That one must not have been closed before, outside of any
    loop, where its cleanup cannot await.
    """

    __slots__ = ("_finalizer", "driven")

    def __init__(self) -> None:
        self.driven = True
        self._finalizer: Callable[[AsyncGenerator[Any, Any]], object] | None = None

    def first(self, inner: AsyncGenerator[Any, Any]) -> Any:
        """Begin the user's generator without registering it with the loop."""
        begin = getattr(inner, "begin", None)
        if begin is not None:
            return begin(self)
        hooks = sys.get_asyncgen_hooks()
        self._finalizer = hooks.finalizer
        try:
            sys.set_asyncgen_hooks(None, self._finalize)
            return inner.__anext__()
        finally:
            sys.set_asyncgen_hooks(*hooks)

    def _finalize(self, inner: AsyncGenerator[Any, Any]) -> None:
        if self.driven:
            return
        if self._finalizer is not None:
            self._finalizer(inner)
        else:
            with contextlib.suppress(StopIteration, StopAsyncIteration):  # as the interpreter does without a loop
                inner.aclose().send(None)
