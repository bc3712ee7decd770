"""What the native types say to those who use them in ways that nobody should, and that they stay whole."""

from __future__ import annotations

import subprocess
import sys
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from resilio import bulkhead, circuit_breaker, current, rate_limit
from resilio._native import core


@pytest.fixture
def breaker() -> Any:
    return circuit_breaker()


def answer(*args: Any) -> Any:
    """Return the arguments."""
    return args


async def answer_later() -> int:
    return 42


# ---- guards -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1, answer, "sync"), "must be resilio._native.core.Pipeline"),
        (("breaker", 1, "sync"), "fn: must be callable, not 1"),
        (("breaker", answer, "odd"), "kind"),
        (("breaker", answer, "generator"), "stream: a guard of a generator needs what drives it"),
        (("breaker",), "argument"),
    ],
)
def test_a_guard_rejects_what_it_cannot_guard(breaker: Any, arguments: tuple[Any, ...], message: str) -> None:
    """Each with the parameter that is wrong."""
    given = [breaker if argument == "breaker" else argument for argument in arguments]
    with pytest.raises((TypeError, ValueError), match=message):
        core.Guard(*given)


def test_a_guard_shows_what_the_function_has(breaker: Any) -> None:
    """Attributes set on the guard go before the function's; what neither has is an AttributeError that says so."""
    guarded = breaker(answer)
    assert guarded.__defaults__ is None
    guarded.__defaults__ = (1,)
    assert guarded.__defaults__ == (1,)
    del guarded.__defaults__
    assert guarded.__defaults__ is None
    with pytest.raises(KeyError):
        del guarded.__defaults__
    plain = core.Guard(breaker, weakref.ref, "sync")
    with pytest.raises(AttributeError, match="has no attribute '__code__'"):
        _ = plain.__code__
    assert guarded.kind == "sync"
    assert repr(guarded) == f"<guarded {answer!r} by {breaker!r}>"
    assert weakref.ref(guarded)() is guarded
    assert guarded.__reduce__() == "answer"
    assert guarded.__get__(None, int) is guarded


def test_a_guarded_stream_has_no_single_result(breaker: Any) -> None:
    """`try_call` says that it is to be iterated."""

    def items() -> Any:
        yield 1

    for method in (breaker(items).try_call, breaker(items).try_acall):
        with pytest.raises(TypeError, match=r"try_a?call: a stream has no single result"):
            method()


def test_a_coroutine_function_is_tried_by_try_acall(breaker: Any) -> None:
    """One method adapted to its function, so that a forgotten `await` gave a result that is true; now it says so."""
    for method in (breaker(answer_later).try_call, lambda: breaker.try_call(answer_later)):
        with pytest.raises(TypeError, match=r"try_call: .* is a coroutine function, use `await try_acall\(...\)`"):
            method()
    assert breaker.snapshot().calls == 0


def test_weak_references_to_natives_are_told(breaker: Any) -> None:
    """Of guards, permits, calls and policies."""
    told: list[str] = []
    for name, make in {
        "guard": lambda: breaker(answer),
        "permit": breaker.acquire,
        "call": lambda: breaker.acall(answer_later),
        "pipeline": lambda: core.Pipeline(breaker.gates),
    }.items():
        native = make()
        reference = weakref.ref(native, lambda _, name=name: told.append(name))
        if name == "call":
            native.close()
        del native
        assert reference() is None
    assert told == ["guard", "permit", "call", "pipeline"]


# ---- calls --------------------------------------------------------------------------------------------------------


class Plain:
    """An awaitable without throw and close."""

    def __await__(self) -> Any:
        return iter([1, 2])


@pytest.mark.parametrize(
    ("thrown", "raised"),
    [
        (lambda: [OSError("own")], OSError),
        (lambda: [OSError], OSError),
        (lambda: [OSError, "value"], OSError),
        (lambda: [OSError, OSError("own")], OSError),
        (lambda: [OSError, None, None], OSError),
        (lambda: [1], TypeError),
        (list, TypeError),
    ],
)
@pytest.mark.parametrize("begun", [False, True])
def test_an_exception_is_thrown_into_a_call_in_every_form(
    breaker: Any, thrown: Callable[[], list[Any]], raised: type[Exception], begun: bool
) -> None:
    """As into a coroutine: an instance, a class, a class with a value; anything else is a TypeError."""
    call = breaker.acall(Plain)
    if begun:
        assert call.send(None) == 1
    with pytest.raises(raised):
        call.throw(*thrown())
    call.close()
    assert breaker.snapshot().inflight == 0


def test_a_call_of_a_plain_awaitable_is_closed(breaker: Any) -> None:
    """One that cannot be closed is dropped."""
    call = breaker.acall(Plain)
    assert call.send(None) == 1
    call.close()
    assert breaker.snapshot().inflight == 0


def test_a_call_that_has_ended_answers_no_more(breaker: Any) -> None:
    """Whoever kept `current()` is told."""
    kept: Any = breaker(current)()
    uses: list[Callable[[], object]] = [kept.fail, kept.ignore, kept.first_item, lambda: kept.gates]
    uses.append(lambda: kept.settle(breaker))
    for use in uses:
        with pytest.raises(RuntimeError, match="ended already"):
            use()


def test_settling_a_limit_that_the_call_did_not_pass_is_a_lookup_error(breaker: Any) -> None:
    """Named by the policy that was given."""
    limit = rate_limit("1/s")

    def settle() -> None:
        view = current()
        assert view is not None
        with pytest.raises(LookupError, match="went through no rate limit"):
            view.settle(limit)
        with pytest.raises(TypeError):
            view.settle()  # type: ignore[call-arg]

    breaker(settle)()


# ---- pipelines ----------------------------------------------------------------------------------------------------


def test_a_pipeline_is_made_once_of_gates(breaker: Any) -> None:
    """Not of anything else, not of too many, not twice, and not used before."""
    with pytest.raises(TypeError, match="item 0 must be a gate, not 1"):
        core.Pipeline((1,))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at most 32 gates"):
        core.Pipeline(tuple(breaker.gates) * 33)
    made = core.Pipeline(breaker.gates)
    with pytest.raises(RuntimeError, match="set once"):
        made.__init__(breaker.gates)  # type: ignore[misc]
    unmade = core.Pipeline.__new__(core.Pipeline)
    for use in (unmade.acquire, lambda: unmade.call(answer), lambda: unmade.acall(answer_later)):
        with pytest.raises(RuntimeError, match="no gates yet"):
            use()
    with pytest.raises(TypeError):
        core.Pipeline(1)  # type: ignore[arg-type]


def test_what_is_called_must_be_a_function(breaker: Any) -> None:
    """Each method says which argument."""
    for method in (breaker.call, breaker.acall, breaker.try_call):
        with pytest.raises(TypeError, match="the first argument is the function"):
            method()
        with pytest.raises(TypeError, match="must be given a function, not 1"):
            method(1)


# ---- permits ------------------------------------------------------------------------------------------------------


def test_a_permit_ends_once_and_with_an_exception() -> None:
    """By any of its methods; what is no exception is rejected, and the permit is still held."""
    pool = bulkhead(1)
    permit = pool.acquire()
    for wrong in (lambda: permit.failure(1), lambda: permit.failure(1, 2), lambda: permit.raised(1)):
        with pytest.raises(TypeError, match="takes an exception"):
            wrong()
    assert pool.used == 1
    permit.first_item()
    permit.ignore()
    permit.first_item()
    for again in (permit.success, permit.failure, permit.ignore, permit.cancel, lambda: permit.returned(1)):
        with pytest.raises(RuntimeError, match="ends exactly once"):
            again()
    with pytest.raises(RuntimeError, match="ends exactly once"):
        permit.raised(OSError())
    assert pool.used == 0


# ---- what strategies ask of a call -----------------------------------------------------------------------------------


def test_a_stage_that_a_call_has_not_is_named(breaker: Any) -> None:
    """So is one that is no number, and an interruption with too little said."""
    call = breaker.acall(answer_later)
    try:
        for stage in (-1, 1, 99):
            with pytest.raises(ValueError, match=f"none of the number {stage}"):
                call._inner(stage)
        with pytest.raises(TypeError):
            call._inner("outermost")
        with pytest.raises(TypeError, match="_interrupt"):
            call._interrupt(0)
        assert call._interrupt(0, 1) == 0  # not begun, so that nothing is interrupted
        assert call._context() is None
        assert not call._ending()
    finally:
        call.close()


def test_an_exception_that_cannot_be_made_is_raised_instead(breaker: Any) -> None:
    """What is thrown into a call as a class is made then; the traceback given with it is its own."""

    class Unmade(Exception):
        def __init__(self) -> None:
            raise LookupError("cannot be made")

    with pytest.raises(LookupError, match="cannot be made"):
        breaker.acall(answer_later).throw(Unmade)
    traceback = _traceback()
    with pytest.raises(OSError, match="thrown") as caught:
        breaker.acall(answer_later).throw(OSError, OSError("thrown"), traceback)
    assert caught.traceback[-1].name == "_traceback"


def _traceback() -> Any:
    try:
        raise KeyError
    except KeyError as error:
        return error.__traceback__


def test_a_ctrl_c_in_a_hook_of_a_gate_is_not_lost(breaker: Any) -> None:
    """The call ends as it would, and the interrupt comes at the next safe point."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    def broken() -> None:
        raise OSError

    breaker.gates[0].on_trip = interrupted
    with pytest.raises(KeyboardInterrupt):
        for _ in range(1000):
            breaker.try_call(broken)
    assert breaker.state == "open"


def test_a_kind_that_cannot_be_asked_for_says_so() -> None:
    """
    At the interpreter's end, in somebody's `__del__`, nothing can be imported any more.

    The error came with whatever was done next, as a SystemError of an innocent function.
    """
    program = """
import sys
from resilio import bulkhead
from resilio._native.core import Gate
gate = bulkhead(1).gates[0]
del sys.modules["resilio.errors"]
sys.meta_path.clear()
try:
    gate.kind
except ImportError:
    print(Gate().kind, Gate().rejections(), Gate().reasons)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "None {} ()\n"


class Unbound:
    """A proxy without its object, as frameworks have them outside of a request: it can be called, and not examined."""

    @property
    def __class__(self):
        """Raise."""
        raise RuntimeError("working outside of a request")

    def __call__(self, value):
        """Return the value."""
        return value


def test_a_callable_that_cannot_be_examined_is_called():
    """Whether it is a coroutine function is asked of it, and what that raises is no error of the call."""
    limit = bulkhead(1)
    assert limit.call(Unbound(), 3) == 3
    assert limit.try_call(Unbound(), 4).value == 4
    assert (limit.snapshot().successes, limit.snapshot().inflight) == (2, 0)
