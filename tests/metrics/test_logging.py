"""Where lines go, what a minute's rejections look like, and handlers that raise, block or are out of disk."""

from __future__ import annotations

import errno
import logging
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from resilio import bulkhead, circuit_breaker, custom_gate, keyed, registry
from resilio._events import log as _log
from resilio.metrics import _trouble
from resilio.metrics import logging as resilio_logging
from resilio.metrics._background_log import MOST_WAITING
from resilio.metrics._summaries import MOST_LINES, Summaries


def boom() -> None:
    raise OSError


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    registry.clear()
    yield
    resilio_logging.use("auto")
    resilio_logging.in_background(False)
    for thread in threading.enumerate():
        if thread.name == "resilio-log":
            thread.join()
    resilio_logging.disable()


@pytest.fixture
def lines(caplog: Any) -> Any:
    """Level and text of all that resilio logs, from INFO on."""
    caplog.set_level(logging.INFO, "resilio")
    return lambda: [(record.levelname, record.getMessage()) for record in caplog.records if record.name == "resilio"]


@pytest.fixture
def summaries() -> Iterator[Any]:
    """Summaries that are told by hand."""
    made = []

    def make(**options: Any) -> Summaries:
        made.append(Summaries(3600.0, logging.INFO, options.get("policies")))
        return made[-1]

    yield make
    for one in made:
        one.stop()


def reject(policy: Any, times: int) -> None:
    for _ in range(times):
        policy.try_call(int)


# ---- summaries -------------------------------------------------------------------------------------------------------


def test_rejections_are_summed_up_in_a_line_a_policy(lines: Any, vt: Any, summaries: Any, caplog: Any) -> None:
    """How many, in which time and why, with fields; what rejected nothing is not mentioned, nor what came before."""
    pool, quiet = bulkhead(1, name="pool"), bulkhead(1, name="quiet")
    with pool:
        reject(pool, 7)
        told = summaries()
        reject(pool, 1200)
    quiet.call(int)
    vt.advance(60)
    told.tell()
    told.tell()
    assert lines() == [("INFO", "bulkhead 'pool' rejected 1,200 calls in 60 s: full 1,200")]
    record = caplog.records[-1]
    assert (record.policy, record.policy_name, record.rejected, record.seconds) == ("bulkhead", "pool", 1200, 60.0)
    assert record.reasons == {"full": 1200}


def test_shadow_mode_is_summed_up_too(lines: Any, vt: Any, summaries: Any) -> None:
    """What enforcement would have rejected, in a line of its own."""
    pool, told = bulkhead(1, name="pool", enforce=False), summaries()
    with pool:
        for _ in range(3):
            pool.call(int)
    vt.advance(10)
    told.tell()
    assert lines() == [("INFO", "bulkhead 'pool' would have rejected 3 calls in 10 s")]


def test_many_policies_do_not_fill_the_log(lines: Any, vt: Any, summaries: Any) -> None:
    """The busiest have a line each, the others one together."""
    told = summaries()
    for at in range(MOST_LINES + 5):
        pool = bulkhead(1, name=f"pool{at:02}")
        with pool:
            reject(pool, at + 1)
    vt.advance(60)
    told.tell()
    assert len(lines()) == MOST_LINES + 1
    assert lines()[0][1].startswith("bulkhead 'pool24' rejected 25 calls")
    assert lines()[-1] == ("INFO", "5 other policies rejected 15 calls in 60 s")


def test_a_thread_tells_them_and_ends_with_a_last_one(lines: Any) -> None:
    """Nobody needs to ask; the function that is returned says the rest and stops it."""
    pool = bulkhead(1, name="pool")
    with pool:
        stop = resilio_logging.summaries(every=0.005)
        reject(pool, 1)
        while not lines():
            pass
        thread = next(one for one in threading.enumerate() if one.name == "resilio-log-summary" and one.is_alive())
        stop()
        thread.join()
        reject(pool, 1)
        stop()
        assert len(lines()) == 1
    with pool:
        stop = resilio_logging.summaries(every=3600)
        reject(pool, 2)
        stop()
    assert "rejected 2 calls" in lines()[-1][1]


def test_a_summary_that_cannot_be_written_is_counted(summaries: Any, monkeypatch: Any) -> None:
    """A log that is broken ends no thread, and the next line has its numbers."""
    told, before = summaries(), _trouble.errors()
    pool = bulkhead(1, name="pool")
    with pool:
        reject(pool, 1)
    with monkeypatch.context() as patched:
        patched.setattr(_log, "say", lambda *_, **__: 1 / 0)
        told.tell()
    assert _trouble.errors() == before + 1


@pytest.mark.parametrize("options", [{"every": 0}, {"every": -1.0}, {"level": 0}])
def test_bad_options_are_rejected(options: Any) -> None:
    """By name."""
    with pytest.raises(ValueError, match=next(iter(options))):
        resilio_logging.summaries(**options)


# ---- handlers --------------------------------------------------------------------------------------------------------


class Handler(logging.Handler):
    """Does whatever it is told with a record."""

    def __init__(self, emit: Any) -> None:
        super().__init__()
        self.emit = emit


@pytest.fixture
def handled() -> Iterator[Any]:
    """Adds a handler to the logger "resilio" for the test."""
    added = []

    def add(emit: Any) -> None:
        added.append(Handler(emit))
        _log.logger().addHandler(added[-1])

    level = _log.logger().level
    _log.logger().setLevel(logging.DEBUG)
    yield add
    for handler in added:
        _log.logger().removeHandler(handler)
    _log.logger().setLevel(level)


def test_ob02_a_handler_that_raises_fails_no_call(handled: Any) -> None:
    """OB-02: neither a raising handler nor a full disk changes a result, a rejection or a state."""

    def full_disk(record: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    handled(full_disk)
    resilio_logging.enable()
    policy = circuit_breaker("payments", consecutive=2)
    outcomes = [policy.try_call(boom).outcome for _ in range(5)]
    assert outcomes == ["failure", "failure", "rejected", "rejected", "rejected"]
    assert policy.state == "open"
    policy.reset()
    assert policy.call(int) == 0


def test_a_raising_handler_is_counted_and_hides_no_exception(handled: Any) -> None:
    """Wherever the library has something to say: of a predicate, a key function or a listener that raises."""

    def raising(*_: Any) -> Any:
        raise ZeroDivisionError

    handled(raising)
    before = _trouble.errors()
    policy = circuit_breaker("payments", on=raising)
    assert policy.try_call(boom).outcome == "ignored"
    assert keyed(circuit_breaker, key=raising, name="hosts").call(int) == 0
    stop = policy.on_event(raising)
    policy.force_open()
    stop()
    assert policy.state == "forced_open"
    assert _trouble.errors() == before + 4  # the predicate, the key, the change of state, the listener


def test_a_predicate_that_always_raises_is_one_line(lines: Any) -> None:
    """And not a traceback a call; another kind of subject is another line."""
    policy = circuit_breaker("payments", on=lambda error: 1 / 0)
    for _ in range(100):
        policy.try_call(boom)
    text = "circuit_breaker 'payments': on raised for a OSError: ignored, and not logged again"
    assert lines() == [("WARNING", text)]
    policy.try_call(int, "x")
    assert len(lines()) == 2


def test_lines_about_a_policy_say_which_one_in_fields(lines: Any, caplog: Any) -> None:
    """Also those about a function of the user's that raised, which had their text alone."""

    class Broken:
        def admit(self, call: Any) -> None:
            raise ZeroDivisionError

        def settle(self, call: Any, outcome: Any, seconds: float) -> None:
            """Learn nothing."""

    custom_gate(Broken(), name="mine").call(int)
    keyed(lambda: bulkhead(1), key=dict, name="hosts").call(int)
    assert [text for _, text in lines()] == [
        "custom 'mine': admit() raised; calls are admitted without it",
        "keyed 'hosts': no key, or no policy for it; such calls share one policy",
    ]
    told = [(record.policy, record.policy_name, bool(record.exc_info)) for record in caplog.records]
    assert told == [("custom", "mine", True), ("keyed", "hosts", True)]


def test_a_handler_that_blocks_delays_no_call_in_the_background(handled: Any) -> None:
    """Lines wait, in order, while the handler hangs; the calls they are about are long over."""
    released, written = threading.Event(), []

    def hang(record: Any) -> None:
        released.wait(30)
        written.append(record.getMessage())

    handled(hang)
    resilio_logging.in_background()
    resilio_logging.in_background()
    policy = circuit_breaker("payments")
    for _ in range(3):
        policy.force_open()
        policy.reset()
    assert written == []  # the handler hangs to this moment
    released.set()
    while len(written) < 6:
        pass
    assert [line.rpartition("-> ")[2] for line in written] == ["forced_open (manual)", "closed (manual)"] * 3


def test_a_handler_that_hangs_for_ever_keeps_a_bounded_number_of_lines(handled: Any) -> None:
    """What is beyond is dropped and counted: memory does not grow."""
    released = threading.Event()
    handled(lambda record: released.wait(30))
    resilio_logging.in_background()
    writing, before = _log.handed_to(), _trouble.errors()
    for _ in range(MOST_WAITING + 50):
        _log.say(_log.WARNING, "a line")
    assert len(writing._waiting) <= MOST_WAITING
    assert _trouble.errors() >= before + 49
    released.set()


def test_a_handler_that_raises_in_the_background_loses_its_line_only(handled: Any) -> None:
    """The thread goes on with the next one."""
    written = []

    def emit(record: Any) -> None:
        if record.getMessage() == "bad":
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(record.getMessage())

    handled(emit)
    resilio_logging.in_background()
    for text in ("one", "bad", "two"):
        _log.say(_log.INFO, text)
    while len(written) < 2:
        pass
    assert written == ["one", "two"]


def test_a_child_of_a_fork_writes_its_own_lines_only() -> None:
    """In it the thread is started anew, and what waited in the parent is the parent's."""
    script = """
        import logging, os, sys, threading
        logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
        from resilio import bulkhead, circuit_breaker
        from resilio._events import log as _log
        from resilio.metrics import logging as resilio_logging

        resilio_logging.in_background()
        pool = bulkhead(1, name="pool")
        with pool:
            stop = resilio_logging.summaries(every=3600)
            pool.try_call(int)
        _log.say(_log.INFO, "parent")
        written = threading.Event()
        _log.handed_to()(written.set)  # after the line, in order
        written.wait()
        sys.stdout.flush()
        child = os.fork()
        if not child:
            circuit_breaker("in the child").force_open()
            with pool:
                pool.try_call(int)
                pool.try_call(int)
            stop()
            _log.handed_to().close()
            [thread.join() for thread in threading.enumerate() if thread.name == "resilio-log"]
            sys.stdout.flush()
            os._exit(0)
        os.waitpid(child, 0)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True, capture_output=True, text=True)
    first, second, third = done.stdout.splitlines()
    assert first == "parent"
    assert second == "circuit_breaker 'in the child': closed -> forced_open (manual)"
    assert third.startswith("bulkhead 'pool' rejected 2 calls in ")


def test_a_fork_waits_for_a_line_that_is_being_written() -> None:
    """A child never finds a handler's stream locked by the thread that it has not."""
    script = """
        import logging, os, sys, threading, time
        from resilio._events import log as _log
        from resilio.metrics import logging as resilio_logging

        inside, written = threading.Event(), []

        class Slow(logging.Handler):
            def emit(self, record):
                inside.set()
                time.sleep(0.05)
                written.append(record.getMessage())

        logging.getLogger("resilio").addHandler(Slow())
        resilio_logging.in_background()
        _log.say(_log.WARNING, "parent")
        inside.wait()
        child = os.fork()
        if not child:
            os._exit(0 if written == ["parent"] else 1)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        _log.say(_log.WARNING, "still there")
        while len(written) < 2:
            pass
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True, capture_output=True, text=True)
    assert done.stdout == "0\n"


# ---- structlog -------------------------------------------------------------------------------------------------------


@pytest.fixture
def structured() -> Iterator[list[dict[str, Any]]]:
    """What structlog, configured by the application, was given."""
    structlog = pytest.importorskip("structlog")
    seen: list[dict[str, Any]] = []

    def keep(_: Any, method: str, fields: Any) -> Any:
        seen.append({"level": method, **fields})
        raise structlog.DropEvent

    structlog.configure(processors=[keep], wrapper_class=structlog.make_filtering_bound_logger(logging.INFO))
    yield seen
    structlog.reset_defaults()


def test_lines_go_to_structlog_where_that_is_set_up(structured: Any, lines: Any) -> None:
    """With the fields as keywords, at the level of the application, and not to the logger as well."""
    resilio_logging.enable()
    policy = circuit_breaker("payments", consecutive=1)
    policy.try_call(boom)
    policy.try_call(boom)
    assert lines() == []
    (line,) = structured
    assert line == {
        "level": "warning",
        "event": "circuit_breaker 'payments': closed -> open (consecutive)",
        "policy": "circuit_breaker",
        "policy_name": "payments",
        "old_state": "closed",
        "new_state": "open",
        "reason": "consecutive",
    }


def test_a_handler_of_ones_own_says_that_lines_are_wanted_there(structured: Any, handled: Any) -> None:
    """Who has set up the logger "resilio" gets the lines there, unless something else is asked for."""
    written = []
    handled(written.append)
    circuit_breaker("payments").force_open()
    assert (len(written), structured) == (1, [])
    resilio_logging.use("structlog")
    circuit_breaker("payments").reset()
    assert (len(written), len(structured)) == (1, 1)
    resilio_logging.use("stdlib")
    circuit_breaker("payments").force_open()
    assert (len(written), len(structured)) == (2, 1)


def test_a_traceback_goes_to_structlog_as_well(structured: Any) -> None:
    """The exception itself, for its own formatters."""
    stop = circuit_breaker("payments").on_event(lambda event: 1 / 0)
    circuit_breaker("payments").force_open()
    stop()
    assert isinstance(structured[-1]["exc_info"], ZeroDivisionError)


def test_structlog_that_is_not_set_up_is_left_alone(lines: Any) -> None:
    """Imported or not: without a configuration, lines go to the logger."""
    pytest.importorskip("structlog")
    circuit_breaker("payments").force_open()
    assert len(lines()) == 1


def test_structlog_is_asked_for_by_name_and_missing(monkeypatch: Any) -> None:
    """One clear error; an unknown target is one, too."""
    monkeypatch.setitem(sys.modules, "structlog", None)
    with pytest.raises(ImportError, match="pip install structlog"):
        resilio_logging.use("structlog")
    with pytest.raises(ValueError, match="target must be one of"):
        resilio_logging.use("syslog")  # type: ignore[arg-type]
