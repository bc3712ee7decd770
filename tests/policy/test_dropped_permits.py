"""Permits that are dropped where they are taken, and guard nothing."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from resilio import PermitWarning, bulkhead, circuit_breaker, keyed, pipeline, rate_limit
from resilio._native import core
from resilio.testing import virtual_time


@pytest.fixture
def heard() -> Iterator[list[str]]:
    """What was warned of, all of it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        texts: list[str] = []
        yield texts
        texts += [str(one.message) for one in caught if issubclass(one.category, PermitWarning)]


def warned(run: Callable[[], Any]) -> list[tuple[str, int]]:
    """Return file and line of each warning."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run()
    return [(one.filename, one.lineno) for one in caught if issubclass(one.category, PermitWarning)]


def in_a_condition(policy: Any) -> None:
    """Take a permit and drop it, as in a port from a library whose `allow()` is a bool."""
    if policy.try_acquire():
        pass


def in_a_statement(policy: Any) -> None:
    """Drop what `acquire` returns."""
    policy.acquire()


def negated(policy: Any) -> bool:
    """Ask whether there is none."""
    return not policy.try_acquire()


def in_a_loop(policy: Any) -> None:
    """Wait for one, and drop it."""
    while not policy.try_acquire():
        pass


@pytest.mark.parametrize("drops", [in_a_condition, in_a_statement, negated, in_a_loop])
def test_a_permit_that_is_dropped_at_once_warns(drops: Callable[[Any], object]) -> None:
    """`if breaker.try_acquire(): call()` looks as if it guarded the call: the permit was gone before it, silently."""
    found = warned(lambda: drops(circuit_breaker("payments")))
    assert found == [(__file__, drops.__code__.co_firstlineno + 2)]
    with pytest.warns(
        PermitWarning, match=r"permit of circuit_breaker 'payments' was dropped .* end it by success\(\)"
    ):
        drops(circuit_breaker("payments"))


@pytest.mark.anyio
async def test_an_awaited_permit_warns_too() -> None:
    """As with the others."""
    with pytest.warns(PermitWarning, match="permit of bulkhead was dropped"):
        await bulkhead(3).aacquire()


@pytest.mark.parametrize(
    "make", [lambda: pipeline(rate_limit("9/s"), bulkhead(3)), lambda: keyed(circuit_breaker, key=str)]
)
def test_any_policy_warns_whose_permit_is_held_for_something(make: Callable[[], Any]) -> None:
    """Except a rate limit, whose tokens are spent when they are taken."""
    policy = make()
    with pytest.warns(PermitWarning):
        policy.try_acquire("a")
    assert warned(lambda: in_a_condition(rate_limit("9/s"))) == []


def test_a_permit_that_is_kept_does_not_warn() -> None:
    """Ended by hand, by a block, or dropped by a frame that has held it: the last is counted, as before."""
    policy = bulkhead(9)

    def kept() -> None:
        policy.acquire().success()
        permit = policy.try_acquire()
        if permit:
            permit.failure()
        with policy, policy.permit() as held:
            held.ignore()
        many = [policy.try_acquire() for _ in range(3)]
        many.clear()
        forgotten = policy.try_acquire()
        assert forgotten.admitted
        assert not policy.try_acquire().ended

    def raises() -> None:
        permit = policy.try_acquire()
        raise KeyError(permit)

    def run() -> None:
        kept()
        with pytest.raises(KeyError):
            raises()

    assert warned(run) == []
    assert policy.snapshot().inflight == 0


def test_a_permit_that_was_kept_in_a_list_does_not_warn() -> None:
    """`held.pop()` gives back a permit that has guarded something, and was told that it never had."""
    held = [bulkhead(9).try_acquire() for _ in range(2)]
    by_key = {"a": held[0]}

    def run() -> None:
        held.pop()
        held.clear()
        if by_key.pop("a"):
            pass

    assert warned(run) == []


def test_code_of_the_same_place_is_not_taken_for_what_stood_there_before() -> None:
    """What is typed at a prompt is line 1 of "<stdin>" each time: a place that has warned made another one warn."""

    def run(source: str) -> None:
        pool = bulkhead(9)
        exec(compile(source, "<stdin>", "exec"), {"pool": pool, "held": pool.try_acquire()})

    assert warned(lambda: run("pool.acquire()")) == [("<stdin>", 1)]
    assert warned(lambda: run("held = pool.snapshot()")) == []


def test_rejections_do_not_warn() -> None:
    """There is nothing to hold."""
    breaker = circuit_breaker()
    breaker.force_open()
    assert warned(lambda: in_a_condition(breaker)) == []


def test_a_place_is_told_once() -> None:
    """By the usual rule of warnings: once for each line."""
    breaker = circuit_breaker()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(5):
            in_a_condition(breaker)
    assert len(caught) == 1


def test_a_warning_made_an_error_loses_nothing() -> None:
    """It cannot be raised where an object goes: the permit is given back, and the exception at hand stays."""
    script = """
        import warnings, resilio
        warnings.simplefilter("error")
        pool = resilio.bulkhead(3)
        try:
            try:
                raise KeyError("mine")
            finally:
                pool.try_acquire()
        except KeyError as error:
            print(error, pool.snapshot().inflight)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True)
    assert done.stdout == "'mine' 0\n"
    assert "PermitWarning" in done.stderr


def test_a_permit_whose_holder_is_gone_counts_as_abandoned() -> None:
    """Not as a success or a failure: at each policy of a pipeline, once for each permit."""
    breaker, pool = circuit_breaker(), bulkhead(3)
    held = [pipeline(breaker, pool).try_acquire() for _ in range(2)]
    pool.acquire().success()
    held.clear()
    seen = [(one.abandoned, one.ignored, one.inflight) for one in (breaker.snapshot(), pool.snapshot())]
    assert seen == [(2, 2, 0), (2, 2, 0)]


def test_in_virtual_time_it_warns_as_ever() -> None:
    """And nothing of the clock is needed."""
    with virtual_time(), pytest.warns(PermitWarning):
        in_a_statement(bulkhead(1))


def test_a_permit_of_a_bare_native_pipeline_is_the_librarys_own() -> None:
    """
    A stream that was interrupted as a function began dropped one: the warning blamed the user's statement.

    Before that it asked a pipeline of gates for a name that only policies have: AttributeError in a finaliser.
    """
    bare = core.Pipeline(bulkhead(2).gates)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        in_a_statement_by_hand(bare)
    assert caught == []


def in_a_statement_by_hand(bare: Any) -> None:
    """Drop what `try_acquire` returns."""
    bare.try_acquire()
