"""What a fallback promises."""

from __future__ import annotations

import asyncio
import math
import re
import time
from types import SimpleNamespace

import anyio
import anyio.lowlevel
import pytest

from resilio import Outcome, bulkhead, circuit_breaker, current, deadline, fallback, pipeline, retry
from resilio.errors import BulkheadFullError, CircuitOpenError, RejectedError
from resilio.testing import assert_no_leaks

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])


class Place:
    """A function that fails while it is told to, and counts its calls."""

    def __init__(self, name, error=None):
        self.__qualname__ = name
        self.error = error
        self.calls = []

    def __call__(self, *args, **kwargs):
        self.calls.append((args, kwargs))
        if self.error is not None:
            raise self.error
        return self.__qualname__

    def later(self):
        """The same as an async function."""

        async def call(*args, **kwargs):
            await anyio.sleep(0.01)
            return self(*args, **kwargs)

        call.__qualname__ = self.__qualname__
        return call


# ---- options ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("targets", [(5,), (None,), ("name",), (bulkhead(1),)]),
        ("on", ["ConnectionError", 5, (1,), None]),
        ("ignore", [ValueError(), 5]),
        ("failed_if", [5, "empty"]),
        ("handler", [5, "x", bulkhead(1)]),
        ("memory", [-1, math.nan, True, "5", 1e12]),
        ("name", ["", " x", 5]),
    ],
)
def test_a_bad_option_is_rejected_by_name_and_value(name, values):
    """Whatever makes no sense is rejected at construction, with what it was and what it should be."""
    for value in values:
        options = {"on": ConnectionError, name: value}
        targets = options.pop("targets", (print,))
        with pytest.raises((TypeError, ValueError), match=rf"^{name} must be .*, not "):
            fallback(*targets, **options)


def test_a_fallback_to_nowhere_is_rejected():
    """Nothing to fall back to is an error that shows what to write, and so is a default that a handler would hide."""
    with pytest.raises(TypeError, match=re.escape("write @fallback(other_function, on=ConnectionError)")):
        fallback(on=ConnectionError)
    with pytest.raises(TypeError, match=r"default must be left out where there is a handler .*print.*, not 5"):
        fallback(on=ConnectionError, default=5, handler=print)
    with pytest.raises(TypeError, match="on"):
        fallback(print)


def test_used_as_a_block_it_says_what_to_do():
    """A block cannot be run again elsewhere."""
    with pytest.raises(TypeError, match="a fallback runs a function"), fallback(on=Exception, default=0):
        pass


def test_one_name_is_one_fallback():
    """The same name and options give the same object; other options are rejected."""
    made = fallback(print, on=OSError, name="one-fallback")
    assert fallback(print, on=OSError, name="one-fallback") is made
    with pytest.raises(ValueError, match="default=<no default> against 3"):
        fallback(print, on=OSError, default=3, name="one-fallback")


# ---- where a call goes -----------------------------------------------------------------------------------------------


def test_a_primary_that_succeeds_is_all_there_is():
    """Nothing else is called while the primary works, and its arguments and result are its own."""
    first, second = Place("first"), Place("second")
    call = fallback(second, on=Exception)(first)
    assert call(1, key=2) == "first"
    assert (first.calls, second.calls) == ([((1,), {"key": 2})], [])


@BACKENDS
def test_targets_are_tried_in_order_with_the_arguments_of_the_call(vt, backend):
    """What has failed goes on to the first target that succeeds; targets of an async call may be async or not."""
    places = [Place("primary", OSError()), Place("one", ConnectionError()), Place("two"), Place("three")]
    stage = fallback(places[1].later(), places[2], places[3].later(), on=OSError)
    call = stage(places[0].later())

    async def main():
        assert await call(1, key=2) == "two"
        assert [place.calls for place in places] == [[((1,), {"key": 2})]] * 3 + [[]]

    vt.run(main, backend=backend)
    snapshot = stage.snapshot()
    assert (snapshot.calls, snapshot.successes, snapshot.fell_back) == (1, 1, 1)
    assert [(one.name, one.answered, one.failed) for one in snapshot.targets] == [
        ("one", 0, 1),
        ("two", 1, 0),
        ("three", 0, 0),
    ]
    assert_no_leaks(stage)


def test_a_call_in_a_thread_falls_back_as_well():
    """The same for functions that are not async, and by hand."""
    one, two = Place("one", OSError()), Place("two")
    stage = fallback(one, two, on=OSError)
    assert stage(Place("primary", OSError()))(5) == "two"
    assert stage.call(Place("primary", OSError()), 5) == "two"
    result = stage.try_call(Place("primary", OSError()), 5)
    assert (result.ok, result.value) == (True, "two")


@BACKENDS
@pytest.mark.parametrize("default", [None, 0, "", False, []])
def test_a_default_may_be_anything(vt, backend, default):
    """None and what is false are defaults like any other, and come back as the very object."""
    stage = fallback(Place("one", OSError()), on=OSError, default=default)
    broken = Place("primary", OSError())

    async def main():
        assert await stage(broken.later())() is default

    vt.run(main, backend=backend)
    assert stage(broken)() is default
    assert stage.snapshot().defaulted == 2


@BACKENDS
def test_a_handler_gets_the_exception_of_the_primary(vt, backend):
    """After all targets, and its result is the call's; it may be async in an async call."""
    error = OSError("primary")

    async def later(caught):
        await anyio.sleep(0.01)
        return caught

    async def main():
        assert await fallback(Place("one", OSError()), on=OSError, handler=later)(Place("p", error).later())() is error
        assert await fallback(on=OSError, handler=repr)(Place("p", error).later())() == repr(error)

    vt.run(main, backend=backend)
    stage = fallback(on=OSError, handler=lambda caught: caught)
    assert stage(Place("p", error))(1, 2) is error
    assert [(one.name.split(".")[-1], one.answered) for one in stage.snapshot().targets] == [("<lambda>", 1)]


def test_what_a_handler_raises_comes_out():
    """The handler has the last word; what it raises is shown as raised while the primary's exception was handled."""

    def translate(error):
        raise LookupError("translated") from error

    def stumble(_):
        raise LookupError("stumbled")

    def again(error):
        raise error

    broken = Place("primary", OSError("down"))
    with pytest.raises(LookupError, match="translated") as caught:
        fallback(on=OSError, handler=translate)(broken)()
    assert caught.value.__cause__ is broken.error
    with pytest.raises(LookupError, match="stumbled") as caught:
        fallback(on=OSError, handler=stumble)(broken)()
    assert caught.value.__context__ is broken.error
    with pytest.raises(OSError, match="down") as same:
        fallback(on=OSError, handler=again)(broken)()
    assert same.value is broken.error
    assert same.value.__context__ is None


# ---- what counts -----------------------------------------------------------------------------------------------------


def test_what_does_not_match_comes_out_as_it_is():
    """An exception that `on` does not name, or `ignore` does, comes out: something else is wrong."""
    stage = fallback(on=OSError, ignore=FileNotFoundError, default=0)
    for error in (ValueError("bug"), FileNotFoundError("none"), KeyError(1)):
        with pytest.raises(type(error)) as caught:
            stage(Place("primary", error))()
        assert caught.value is error
    assert stage(Place("primary", PermissionError()))() == 0
    assert stage.snapshot().fell_back == 1


def test_what_a_target_raises_and_does_not_match_comes_out():
    """A bug in a target is not covered up by the next one; the primary's exception is its context."""
    primary, target, last = Place("primary", OSError("down")), Place("one", ValueError("bug")), Place("last")
    with pytest.raises(ValueError, match="bug") as caught:
        fallback(target, last, on=OSError)(primary)()
    assert caught.value.__context__ is primary.error
    assert last.calls == []


@BACKENDS
def test_a_rejection_inside_falls_back(vt, backend):
    """An open breaker or a full bulkhead is what a fallback is for: `on=Exception` covers them, as their names do."""
    breaker = circuit_breaker(consecutive=1, open_for=10.0, max_open_for=10.0)
    broken = Place("primary", OSError("down"))

    async def main():
        call = pipeline(fallback(on=Exception, default="stale"), breaker)(broken.later())
        assert [await call(), await call()] == ["stale", "stale"]
        assert len(broken.calls) == 1
        named = pipeline(fallback(on=RejectedError, default="stale"), breaker)(broken.later())
        assert await named() == "stale"
        other = pipeline(fallback(on=OSError, default="stale"), breaker)(broken.later())
        with pytest.raises(CircuitOpenError):
            await other()

    vt.run(main, backend=backend)
    full = bulkhead(1)
    with full:
        assert pipeline(fallback(on=BulkheadFullError, default="stale"), full)(Place("primary"))() == "stale"


def test_a_result_may_count_as_a_failure():
    """`failed_if` finds fault with results of all; the primary's comes out if nothing is left."""
    stage = fallback(lambda: "", lambda: "short", on=OSError, failed_if=lambda text: len(text) < 6)
    assert stage(lambda: "no")() == "no"
    assert stage(lambda: "enough")() == "enough"
    assert fallback(lambda: "longer", on=OSError, failed_if=lambda text: text == "")(lambda: "")() == "longer"
    assert fallback(on=OSError, failed_if=lambda text: text == "", handler=lambda text: [text])(lambda: "")() == [""]
    snapshot = stage.snapshot()
    assert (snapshot.fell_back, snapshot.exhausted, snapshot.successes, snapshot.failures) == (1, 1, 1, 1)


def test_a_predicate_decides_and_one_that_raises_decides_nothing():
    """`on` may be a function of the exception; a broken one lets the exception pass."""
    by_text = fallback(on=lambda error: "soft" in str(error), default=0)
    assert by_text(Place("primary", OSError("soft")))() == 0
    with pytest.raises(OSError, match="hard"):
        by_text(Place("primary", OSError("hard")))()
    with pytest.raises(OSError, match="any"):
        fallback(on=lambda error: error.missing, default=0)(Place("primary", OSError("any")))()
    assert fallback(on=lambda _: Outcome.FAILURE, default=0)(Place("primary", OSError()))() == 0


def test_a_group_falls_back_if_one_of_it_matches():
    """The leaves of an ExceptionGroup are judged."""
    stage = fallback(on=ConnectionError, default=0)
    assert stage(Place("primary", ExceptionGroup("two", [ValueError(), ConnectionError()])))() == 0
    with pytest.raises(ExceptionGroup):
        stage(Place("primary", ExceptionGroup("one", [ValueError()])))()


def test_a_call_that_says_itself_that_it_failed_falls_back():
    """`current().fail()` inside of the function turns its result into a failure."""

    def partial():
        current().fail()
        return "half"

    assert fallback(lambda: "whole", on=OSError)(partial)() == "whole"


@BACKENDS
def test_a_cancellation_is_never_fallen_back_from(vt, backend):
    """Neither while the primary runs nor while a target does: it goes out, and nothing is held."""
    reached = []

    async def slow(number):
        reached.append(number)
        await anyio.sleep(100)

    async def broken(_):
        raise OSError

    stage = fallback(slow, Place("never"), on=BaseException, default="never")

    async def main():
        for primary in (slow, broken):
            with anyio.move_on_after(1) as scope:
                await stage(primary)(len(reached))
            assert scope.cancelled_caught

    vt.run(main, backend=backend)
    assert reached == [0, 1]
    assert stage.snapshot().ignored == 2
    assert stage.snapshot().targets[1].answered == 0
    assert_no_leaks(stage)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError])
def test_what_ends_the_program_is_never_fallen_back_from(error):
    """`on=BaseException` does not cover it either."""
    with pytest.raises(error):
        fallback(on=BaseException, default=0)(Place("primary", error()))()


# ---- when all fails --------------------------------------------------------------------------------------------------


@BACKENDS
def test_if_all_fail_the_exception_of_the_primary_comes_out_with_notes(vt, backend):
    """The very exception, not a wrapper; each target's end is a note on it."""
    primary = Place("primary", ConnectionError("down"))
    stage = fallback(Place("one", OSError("also")).later(), Place("two", TimeoutError()), on=OSError)

    async def main():
        with pytest.raises(ConnectionError, match="down") as caught:
            await stage(primary.later())()
        assert caught.value is primary.error
        assert caught.value.__notes__ == [
            "resilio: fallback one: OSError('also')",
            "resilio: fallback two: TimeoutError()",
        ]

    vt.run(main, backend=backend)
    assert (stage.snapshot().exhausted, stage.snapshot().failures) == (1, 1)


def test_notes_survive_exceptions_that_are_hostile():
    """A repr that raises or is endless, and an exception that forbids notes, change nothing."""

    class Rude(OSError):
        def __repr__(self):
            raise ValueError

    class Long(OSError):
        def __repr__(self):
            return "x" * 10_000

    class Closed(OSError):
        def add_note(self, note):
            raise TypeError

    with pytest.raises(OSError, match="down") as caught:
        fallback(Place("one", Rude()), Place("two", Long()), on=OSError)(Place("primary", OSError("down")))()
    assert caught.value.__notes__[0] == "resilio: fallback one: Rude(...)"
    assert len(caught.value.__notes__[1]) < 300
    with pytest.raises(Closed):
        fallback(Place("one", OSError()), on=OSError)(Place("primary", Closed()))()


def test_a_target_that_returned_a_failure_is_noted_as_that():
    """There is no exception of it to show."""
    with pytest.raises(OSError, match="down") as caught:
        fallback(lambda: "", on=OSError, failed_if=lambda text: text == "")(Place("primary", OSError("down")))()
    assert caught.value.__notes__[0].endswith("returned a failure")


# ---- memory ----------------------------------------------------------------------------------------------------------


def test_a_target_that_has_failed_is_tried_last_for_a_while(vt):
    """For `memory` seconds others go first; then the order is the given one again."""
    one, two = Place("one", OSError()), Place("two")
    stage = fallback(one, two, on=OSError, memory=5.0)
    call = stage(Place("primary", OSError()))
    for _ in range(10):
        assert call() == "two"
    assert len(one.calls) == 1
    assert [target.resting for target in stage.snapshot().targets] == [True, False]
    vt.advance(4.9)
    call()
    assert len(one.calls) == 1
    one.error = None
    vt.advance(0.2)
    assert call() == "one"
    assert [target.resting for target in stage.snapshot().targets] == [False, False]


def test_a_resting_target_is_still_the_last_resort(vt):
    """Resting targets are tried after the others, in order, and a success ends the rest."""
    one, two = Place("one", OSError()), Place("two", OSError())
    stage = fallback(one, two, on=OSError, memory=60.0)
    call = stage(Place("primary", OSError()))
    with pytest.raises(OSError):
        call()
    one.error = None
    assert call() == "one"
    assert [target.resting for target in stage.snapshot().targets] == [False, True]
    stage.reset()
    assert [target.resting for target in stage.snapshot().targets] == [False, False]


def test_without_memory_the_order_is_always_the_same(vt):
    """`memory=0` begins with the first target each time."""
    one, two = Place("one", OSError()), Place("two")
    call = fallback(one, two, on=OSError, memory=0)(Place("primary", OSError()))
    assert [call() for _ in range(5)] == ["two"] * 5
    assert len(one.calls) == 5


def test_an_error_that_does_not_count_does_not_make_a_target_rest(vt):
    """A bug says nothing about whether the target is there."""
    one = Place("one", ValueError())
    stage = fallback(one, on=OSError)
    with pytest.raises(ValueError):
        stage(Place("primary", OSError()))()
    assert [(target.failed, target.resting) for target in stage.snapshot().targets] == [(1, False)]


def test_options_change_while_what_is_known_of_targets_stays(vt):
    """reconfigure keeps the memory of the targets that stay; wrong options change nothing."""
    one, two, three = Place("one", OSError()), Place("two"), Place("three")
    stage = fallback(one, two, on=OSError)
    call = stage(Place("primary", OSError()))
    call()
    stage.reconfigure(targets=(one, three))
    assert (call(), len(one.calls)) == ("three", 1)
    with pytest.raises(TypeError, match="somewhere to go"):
        stage.reconfigure(targets=())
    stage.reconfigure(targets=(), default=7)
    assert call() == 7
    stage.reconfigure(on=KeyError)
    with pytest.raises(OSError):
        call()


# ---- what cannot be used ---------------------------------------------------------------------------------------------


def test_an_async_target_of_a_plain_function_is_rejected_where_it_is_decorated():
    """A call in a thread could not await it: a TypeError at decoration, in pipelines and stacks as well."""

    async def target(*args):
        """Never called."""

    def primary():
        """Never called."""

    async def agen():
        yield 1

    for stage in (
        fallback(target, on=OSError),
        fallback(on=OSError, handler=target),
        pipeline(bulkhead(1), fallback(target, on=OSError)),
    ):
        with pytest.raises(
            TypeError, match=r"fallback cannot guard .*primary.* not async, as its (target|handler) .*target"
        ):
            stage(primary)
    with pytest.raises(TypeError, match="cannot guard"):
        fallback(target, on=OSError)(bulkhead(1)(primary))
    with pytest.raises(TypeError, match="cannot guard"):
        fallback(agen, on=OSError)(primary)


def test_an_async_target_of_a_call_in_a_thread_is_an_error_then():
    """Where it shows only in the call, it is an error that names the target, and no coroutine is left alone."""

    async def target():
        """Never called."""

    with pytest.raises(TypeError, match=r"fallback to .*target, which is async, from a call that is not") as caught:
        fallback(target, Place("never"), on=OSError).call(Place("primary", OSError()))
    assert isinstance(caught.value.__context__, OSError)
    with pytest.raises(TypeError, match="returned an awaitable to a call that is not async"):
        fallback(lambda *_: target(), on=OSError)(Place("primary", OSError()))()
    with pytest.raises(TypeError, match="returned an awaitable to a call that is not async"):
        fallback(on=OSError, handler=lambda _: target())(Place("primary", OSError()))()


def test_arguments_that_are_used_up_are_not_used_again():
    """An iterator that the primary has begun is not handed to a target: it would be empty."""
    target = Place("one")

    def primary(items):
        list(items)
        raise OSError("down")

    with pytest.raises(OSError, match="down") as caught:
        fallback(target, on=OSError)(primary)(iter([1, 2]))
    assert caught.value.__notes__ == [
        (
            "resilio: fallback targets: not called: items can be used only once, and has been; if it can be passed "
            "again: replayable=True"
        )
    ]
    assert target.calls == []
    assert fallback(target, on=OSError, default=0)(primary)(iter([1, 2])) == 0
    full = bulkhead(1)
    with full:  # rejected: the argument is whole
        assert pipeline(fallback(target, on=Exception), full)(primary)(iter([1, 2])) == "one"


@BACKENDS
def test_targets_are_not_called_once_the_deadline_has_passed(vt, backend):
    """What cannot finish does not start; the default needs no time."""
    target = Place("one")

    async def slow():
        await anyio.lowlevel.checkpoint()
        vt.advance(2.0)
        raise OSError("down")

    async def main():
        with deadline(1.0):
            with pytest.raises(OSError, match="down") as caught:
                await fallback(target, on=OSError)(slow)()
            assert "the deadline has passed" in caught.value.__notes__[0]
            assert await fallback(target, on=OSError, default=0)(slow)() == 0
        assert target.calls == []

    vt.run(main, backend=backend)


# ---- together with others --------------------------------------------------------------------------------------------


@BACKENDS
def test_rt11_a_bulkhead_that_is_full_after_a_backoff_still_reaches_the_fallback(vt, backend):
    """RT-11: a retry sleeps without its permit; if that cannot be had again, the call falls back all the same."""
    pool = bulkhead(1)
    stack = pipeline(fallback(on=OSError, default="stale"), retry(on=OSError, backoff=1.0), pool)
    rejection = pipeline(fallback(on=Exception, default="stale"), retry(on=OSError, backoff=1.0), pool)

    async def broken():
        raise ConnectionError

    async def main():
        for stage in (stack, rejection):
            async with anyio.create_task_group() as group:
                answers = []

                async def call(stage=stage, answers=answers):
                    answers.append(await stage(broken)())

                group.start_soon(call)
                await anyio.sleep(0.5)  # it sleeps before the second attempt, without its permit
                assert pool.snapshot().inflight == 0
                async with pool:
                    await anyio.sleep(10)
            assert answers == ["stale"]

    vt.run(main, backend=backend)
    assert_no_leaks(pool)


def test_gates_inside_are_given_back_before_a_target_runs():
    """A target runs outside of the primary's bulkhead, and inside of what is outside of the fallback."""
    inner, outer = bulkhead(1), bulkhead(1)

    def target():
        return inner.snapshot().inflight, outer.snapshot().inflight

    assert pipeline(outer, fallback(target, on=OSError), inner)(Place("primary", OSError()))() == (0, 1)


def test_fallbacks_nest():
    """What the inner one could not help goes on to the outer one."""
    call = fallback(on=OSError, default="outer")(
        fallback(Place("one", OSError()), on=OSError)(Place("primary", OSError()))
    )
    assert call() == "outer"


@pytest.mark.filterwarnings(
    "ignore::resilio._composition.pipeline.PipelineWarning"
)  # the order is not the recommended one
def test_a_breaker_outside_sees_what_came_out_in_the_end():
    """A call that was answered by a fallback is a success for what is around it."""
    breaker = circuit_breaker(consecutive=1)
    call = pipeline(breaker, fallback(on=OSError, default=0))(Place("primary", OSError()))
    assert [call() for _ in range(3)] == [0, 0, 0]
    assert breaker.snapshot().successes == 3


# ---- streams ---------------------------------------------------------------------------------------------------------


@BACKENDS
def test_a_stream_is_begun_elsewhere_before_its_first_item_only(vt, backend):
    """Targets, a handler or the default give the items; what fails after the first item fails."""
    given = []

    async def broken(items):
        given.append(items)
        raise ConnectionError("at once")
        yield

    async def late(items):
        yield items
        raise ConnectionError("late")

    async def other(items):
        for item in (items, items + 1):
            yield item

    async def handler(error):
        return [str(error)]

    async def main():
        async def read(*targets, primary=broken, **options):
            return [item async for item in fallback(*targets, on=OSError, **options)(primary)(1)]

        assert await read(other) == [1, 2]
        assert await read(broken, lambda items: [items, 5]) == [1, 5]
        assert await read(handler=handler) == ["at once"]
        assert await read(default=("a", "b")) == ["a", "b"]
        assert await read(other, primary=other) == [1, 2]
        with pytest.raises(ConnectionError, match="at once") as caught:
            await read(broken)
        assert caught.value.__notes__[0].endswith("broken: ConnectionError('at once')")
        stage = fallback(other, on=OSError)
        stream = stage(late)(7)
        assert await anext(stream) == 7
        with pytest.raises(ConnectionError, match="late"):
            await anext(stream)
        assert (stage.snapshot().fell_back, stage.snapshot().failures) == (0, 1)

    vt.run(main, backend=backend)


def test_a_plain_stream_is_begun_elsewhere_too():
    """Generators in a thread; a target that raises where it is called counts like one that fails at its first item."""

    def broken(items):
        raise ConnectionError("at once")
        yield

    def raises(items):
        raise ConnectionError("in the call")

    def other(items):
        sent = yield items
        yield sent

    def empty(items):
        yield from ()

    stage = fallback(raises, other, on=OSError)
    stream = stage(broken)(1)
    assert (next(stream), stream.send("sent"), list(stream)) == (1, "sent", [])
    assert [(target.answered, target.failed) for target in stage.snapshot().targets] == [(0, 1), (1, 0)]
    assert list(fallback(on=OSError, default=[])(broken)(1)) == []
    assert list(fallback(empty, on=OSError)(broken)(1)) == []
    assert list(fallback(on=OSError, handler=lambda error: [error.args])(broken)(1)) == [("at once",)]
    with pytest.raises(ValueError, match="bug"):
        list(fallback(lambda items: (_ for _ in ()).throw(ValueError("bug")), other, on=OSError)(broken)(1))
    with pytest.raises(ConnectionError):
        list(fallback(other, on=OSError)(broken)(iter([1])))
    opened = fallback(other, on=OSError)(broken)(1)
    next(opened)
    with pytest.raises(LookupError):
        opened.throw(LookupError())
    opened = fallback(other, on=OSError)(broken)(1)
    next(opened)
    opened.close()
    assert_no_leaks(stage)


def test_items_of_a_default_are_nobodys_answer():
    """No target is told of them, neither one that has failed before nor, without one, what lies in memory."""

    class Broken:
        def __iter__(self):
            yield from ()
            raise ConnectionError("of the default")

    def broken(items):
        raise ConnectionError(items)
        yield

    for default, end in (([1, 2], None), ([], None), (Broken(), "of the default")):
        for targets in ((), (broken,)):
            stage = fallback(*targets, on=OSError, default=default)
            if end is None:
                assert list(stage(broken)(1)) == default
            else:
                with pytest.raises(ConnectionError, match=end):
                    list(stage(broken)(1))
            seen = stage.snapshot()
            assert [(target.answered, target.failed) for target in seen.targets] == [(0, 1) for _ in targets]
            assert (seen.defaulted, type(type(None)), type(SimpleNamespace)) == (1, type, type)


def test_a_default_that_gives_no_items_is_rejected_for_streams():
    """Where it is decorated."""
    with pytest.raises(TypeError, match="instead of its items it would give those of 5"):

        @fallback(on=OSError, default=5)
        def stream():
            yield 1


@pytest.mark.untraced  # the interrupt would come in the tracer
def test_a_ctrl_c_while_it_decides_is_raised():
    """It comes where nothing can be raised, and is pressed again, not logged and forgotten."""

    class Untouchable(ConnectionError):
        def add_note(self, text):
            raise KeyboardInterrupt

    def failing():
        raise Untouchable

    with pytest.raises(KeyboardInterrupt):
        fallback(failing, on=ConnectionError).try_call(failing)
        time.sleep(1)  # the next safe point comes before


def test_a_decision_that_fails_lets_pass_what_there_is(caplog, monkeypatch):
    """An error of its own is logged, and the primary's goes on; one too deep to be logged changes nothing either."""

    def broken(*args):
        raise errors.pop()

    errors = [RecursionError(), ValueError("broken")]
    monkeypatch.setattr("resilio._strategies.fallback.note_failure", broken)
    for _ in range(2):
        with pytest.raises(ConnectionError):
            fallback(_reject, on=ConnectionError).call(_reject)
    assert [record.exc_info[0] for record in caplog.records] == [ValueError, RecursionError]


def _reject():
    raise ConnectionError


@pytest.mark.anyio
@pytest.mark.parametrize("instead", ["target", "handler", "primary"])
async def test_a_result_with_an_error_is_no_success(instead):
    """`fallback(...).try_call` gave `Result(success, KeyError())` where its target raised what `on` does not list."""

    def wrong(*_):
        raise KeyError("wrong")

    def down():
        raise ConnectionError

    async def adown():
        raise ConnectionError

    async def awrong(*_):
        raise KeyError("wrong")

    policy = fallback(wrong, on=OSError) if instead == "target" else fallback(on=OSError, handler=wrong)
    result = policy.try_call(wrong if instead == "primary" else down)
    later = await policy.try_acall(awrong if instead == "primary" else adown)
    for one in (result, later):
        assert (one.ok, one.outcome, one.value, repr(one.error)) == (False, "failure", None, "KeyError('wrong')")
        with pytest.raises(KeyError):
            one.unwrap()


def test_a_result_of_a_fallback_is_what_its_caller_gets():
    """The value that came from elsewhere is a success, a failed result with nothing left a failure."""

    def down():
        raise ConnectionError

    assert fallback(on=OSError, default=None).try_call(down).outcome == "success"
    answered = fallback(lambda: 5, on=OSError).try_call(down)
    assert (answered.ok, answered.value, answered.error) == (True, 5, None)
    spoilt = fallback(lambda: None, on=OSError, failed_if=lambda value: value is None).try_call(lambda: None)
    assert (spoilt.ok, spoilt.outcome, spoilt.value, spoilt.error) == (False, "failure", None, None)
