"""Which arguments may be passed once more: retries, fallbacks and hedges, by their looks and by the user's word."""

from __future__ import annotations

import io
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock, MagicMock, Mock

import pytest

from resilio import configure, constant, fallback, hedge, pipeline, retry
from resilio._failures.replayable import is_lasting, name_one_shot
from resilio.testing import virtual_time


class Consumer:
    """A consumer of Kafka, as kafka-python has it: one that is iterated over, and asked for more."""

    def __iter__(self) -> Consumer:
        return self

    def __next__(self) -> int:
        raise StopIteration

    def subscribe(self, *topics: str) -> None: ...

    def poll(self) -> None: ...


class AsyncConsumer:
    """The same as aiokafka has it."""

    def __aiter__(self) -> AsyncConsumer:
        return self

    async def __anext__(self) -> int:
        raise StopAsyncIteration

    def subscribe(self, *topics: str) -> None: ...

    async def getone(self) -> None: ...


class Sent(io.RawIOBase):
    """What can be read once: the body of a response, say."""

    def readable(self) -> bool:
        return True


@pytest.fixture(autouse=True, scope="module")
def database() -> Iterator[None]:
    """A database for the cursors, closed in the end."""
    opened.append(sqlite3.connect(":memory:"))
    yield
    opened.pop().close()


opened: list[sqlite3.Connection] = []


def a_cursor() -> sqlite3.Cursor:
    return opened[0].cursor()


def a_file() -> Any:
    return io.BytesIO(b"body")


def read_to_its_end() -> Any:
    file = io.BytesIO(b"body")
    file.read()
    return file


def in_the_middle_of_a_line() -> Any:
    file = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed by the test
    file.write("one\ntwo\n")
    file.seek(0)
    next(file)
    return file


def closed() -> Any:
    file = io.BytesIO()
    file.close()
    return file


async def stream() -> AsyncIterator[int]:
    yield 1


LASTING = (MagicMock, Mock, AsyncMock, lambda: MagicMock(spec=io.BytesIO), a_cursor)
USED = (lambda: iter([1]), lambda: map(int, ()), lambda: (one for one in ()), stream, read_to_its_end, Sent, closed)


def again() -> Any:
    return retry(on=OSError, attempts=3, backoff=constant(0.0), budget=None)


def tried(policy: Any, argument: Any) -> int:
    """How often a function that fails is called with an argument."""
    calls: list[Any] = []

    def send(body: Any) -> None:
        calls.append(body)
        raise OSError("broken pipe")

    with virtual_time(), pytest.raises(OSError, match="broken"):
        policy(send)(argument)
    return len(calls)


@pytest.mark.parametrize("make", [*LASTING, Consumer, AsyncConsumer, a_file])
def test_what_is_talked_to_is_passed_again(make: Callable[[], Any]) -> None:
    """A cursor, a consumer or a mock was taken for an iterator that is used up: one attempt, and no way out."""
    assert tried(again(), make()) == 3
    assert tried(again(), {"in": [make()]}) == 3
    assert name_one_shot(print, (), {"it": make()}) is None


@pytest.mark.parametrize("make", [*USED, in_the_middle_of_a_line])
def test_what_is_used_up_is_not(make: Callable[[], Any]) -> None:
    """Generators, iterators, streams, and files that were read would be empty the second time."""
    argument = make()
    assert tried(again(), argument) == 1
    assert tried(again(), {"in": [argument]}) == 1
    getattr(argument, "close", lambda: None)()


def test_a_file_that_the_function_rewinds_is_sent_again(tmp_path: Path) -> None:
    """An upload that seeks to the beginning when it fails had one attempt all the same."""
    path = tmp_path / "scan"
    path.write_bytes(b"scan")
    sent: list[bytes] = []

    @again()
    def upload(file: Any) -> None:
        sent.append(file.read())
        file.seek(0)
        raise OSError("reset")

    with path.open("rb") as file, virtual_time(), pytest.raises(OSError, match="reset"):
        upload(file)
    assert sent == [b"scan"] * 3


def test_a_user_says_that_arguments_may_be_passed_again() -> None:
    """`replayable=True` is the way out for what looks used up and is not: a file that each attempt rewinds first."""
    sent: list[bytes] = []

    @retry(on=OSError, attempts=3, backoff=constant(0.0), replayable=True)
    def upload(file: Any) -> None:
        file.seek(0)
        sent.append(file.read())
        raise OSError("reset")

    with virtual_time(), pytest.raises(OSError, match="reset"):
        upload(io.BytesIO(b"scan"))
    assert sent == [b"scan"] * 3


def test_a_user_says_that_arguments_must_not_be_passed_again() -> None:
    """`replayable=False`, or a function of the arguments that says no, ends it with the reason `not_replayable`."""
    options = {"on": OSError, "attempts": 3, "backoff": constant(0.0)}
    assert tried(retry(**options, replayable=False), "text") == 1
    assert tried(retry(**options, replayable=lambda body: body != "text"), "text") == 1
    assert tried(retry(**options, replayable=lambda body: body != "text"), iter(())) == 3
    policy = retry(**options, replayable=False)
    with pytest.raises(OSError, match="down") as caught:
        policy.call(fails, "text")
    assert caught.value.resilio.stop_reason == "not_replayable"
    assert caught.value.resilio.one_shot is None
    assert policy.snapshot().stopped["not_replayable"] == 1


def fails(*_: Any) -> Any:
    raise OSError("down")


def test_the_note_names_the_argument_and_the_way_out() -> None:
    """The note on an exception after one attempt says why, and which option changes it."""
    with pytest.raises(OSError, match="down") as caught:
        again().call(fails, iter(()))
    assert caught.value.resilio.stop_reason == "not_replayable"
    (note,) = caught.value.__notes__
    assert "not_replayable" in note
    assert "can be used only once; if it can be passed again: replayable=True" in note


def test_a_rule_that_raises_says_no_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """A defect of the user's rule neither hides the call's own error nor sends a body twice."""
    policy = retry(on=OSError, backoff=constant(0.0), name="uploads", replayable=lambda body: body.missing)
    assert tried(policy, "text") == 1
    assert "uploads" in caplog.text
    assert "replayable=" in caplog.text


async def generated(items: Any) -> AsyncIterator[int]:
    raise OSError("down")
    yield len(items)


@pytest.mark.anyio
@pytest.mark.parametrize(("rule", "attempts"), [(None, 1), (True, 3), (False, 1)])
async def test_streams_obey_the_rule_too(rule: Any, attempts: int) -> None:
    """The first item of a generator is tried again with the same arguments."""
    policy = retry(on=OSError, attempts=3, backoff=constant(0.0), budget=None, replayable=rule)

    def plain(items: Any) -> Iterator[int]:
        raise OSError("down")
        yield len(items)

    for made in (policy(generated), policy(plain)):
        with pytest.raises(OSError, match="down") as caught:
            if made.__name__ == "generated":
                await anext(made(iter(())))
            else:
                next(made(iter(())))
        assert len(caught.value.resilio.attempts) == attempts
        reason = "attempts" if attempts == 3 else "not_replayable"
        assert caught.value.resilio.stop_reason == reason


# ---- self ------------------------------------------------------------------------------------------------------------


class Reader:
    """A class of iterators whose methods are guarded."""

    def __init__(self) -> None:
        self.calls = 0

    def __iter__(self) -> Reader:
        return self

    def __next__(self) -> int:
        raise StopIteration

    @again()
    def refill(self) -> None:
        self.calls += 1
        raise OSError("down")

    @fallback(lambda self: self.calls, on=OSError)
    def size(this) -> int:  # noqa: N805 - any name is a method's first parameter
        this.calls += 1
        raise OSError("down")


def test_self_is_never_an_argument_that_is_used_up() -> None:
    """A fallback around a method of an iterator, or of a file, never called its targets: `self` looked used up."""
    reader = Reader()
    with virtual_time(), pytest.raises(OSError, match="down"):
        reader.refill()
    assert reader.calls == 3
    assert reader.size() == 4


def test_the_first_argument_of_a_bound_method_is_none_of_its_own() -> None:
    """What a bound method is called with is consumed as what a function is called with."""
    sender = Sender()
    with virtual_time(), pytest.raises(OSError, match="down"):
        again().call(sender.send, iter(()))
    assert sender.calls == 1


class Sender:
    """A class with a method that consumes its argument."""

    calls = 0

    def send(self, items: Any) -> None:
        self.calls += len([*items, 1])
        raise OSError("down")


class Upload(io.RawIOBase):
    """A file whose own method is hedged."""

    def __init__(self) -> None:
        super().__init__()
        self.started = 0

    def readable(self) -> bool:
        return True


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_self_does_not_keep_a_hedge_from_copying(backend: str) -> None:
    """A hedge around a method of a file never sent a copy."""
    from anyio import sleep

    async def slow(self: Upload) -> int:
        self.started += 1
        await sleep(1.0 if self.started == 1 else 0.01)
        return self.started

    async def scenario() -> tuple[int, int]:
        upload = Upload()
        stage = hedge(idempotent=True, after=0.1, max_extra=1.0)
        guarded = stage(slow)
        for _ in range(20):  # so many have to be known
            upload.started = 5
            await guarded(upload)
        upload.started = 0
        return await guarded(upload), upload.started

    with virtual_time() as vt:
        assert vt.run(scenario, backend=backend) == (2, 2)


def test_two_at_a_time_use_only_what_bears_it() -> None:
    """A hedge's copy runs beside the primary: neither a cursor nor a file, rewound or not, is for two at a time."""
    assert is_lasting(MagicMock(), True)
    for make in (Consumer, a_file, a_cursor):
        assert is_lasting(make(), False)
        assert not is_lasting(make(), True)


# ---- fallback --------------------------------------------------------------------------------------------------------


def test_a_fallback_passes_on_what_is_talked_to() -> None:
    """A cursor or a mock is the target's as well as the primary's."""
    for make in (*LASTING, Consumer, a_file):
        assert fallback(lambda _: "other", on=OSError)(fails)(make()) == "other"


@pytest.mark.parametrize(("rule", "answer"), [(True, "other"), (lambda _: True, "other"), (False, "default")])
def test_a_fallback_obeys_the_rule(rule: Any, answer: str) -> None:
    """`replayable=` decides whether targets are called with what the primary has had; a default needs no arguments."""
    assert fallback(lambda _: "other", on=OSError, default="default", replayable=rule)(fails)(iter(())) == answer


def test_a_fallback_notes_why_no_target_was_called() -> None:
    """The note names the argument and the option, or the option alone if it was that which said no."""
    with pytest.raises(OSError, match="down") as caught:
        fallback(print, on=OSError, replayable=False)(fails)("text")
    assert caught.value.__notes__ == ["resilio: fallback targets: not called: replayable=... says no"]


@pytest.mark.anyio
async def test_a_fallback_of_streams_obeys_the_rule() -> None:
    """A stream that fails before its first item goes elsewhere with the same arguments if the user says so."""

    async def other(_: Any) -> AsyncIterator[int]:
        yield 7

    assert [item async for item in fallback(other, on=OSError, replayable=True)(generated)(iter(()))] == [7]
    with pytest.raises(OSError, match="down") as caught:
        await anext(fallback(other, on=OSError)(generated)(iter(())))
    assert "items can be used only once, and has been; if it can be passed again: replayable=True" in str(
        caught.value.__notes__
    )


# ---- the option ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make", [lambda **more: retry(on=OSError, **more), lambda **more: fallback(int, on=OSError, **more)]
)
def test_the_option_is_checked_shown_and_changed(make: Callable[..., Any]) -> None:
    """It is rejected by name if it is no rule, shown by `explain`, and changed by `reconfigure` and `configure`."""
    with pytest.raises(TypeError, match="replayable must be a function or None, not 1"):
        make(replayable=1)
    policy = make(name="uploads")
    assert "replayable" not in str(pipeline(policy).explain())
    configure({"uploads": {"replayable": True}})
    assert policy.config.replayable is True
    assert "replayable=True" in str(pipeline(policy).explain())
    policy.reconfigure(replayable=None)
    assert policy.config.replayable is None
