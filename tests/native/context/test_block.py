"""Blocks of a policy by themselves: who owns the permit of `with policy:`, and what the steps are to others."""

from __future__ import annotations

import contextlib
import gc
import inspect
import threading
import weakref
from typing import Any

import anyio
import pytest

from resilio import BulkheadFullError, Policy, bulkhead
from resilio._native import core

pytestmark = pytest.mark.skipif(
    core._private_state()["with_order"] != "in use",
    reason="no block is taken for one of `with` here: all are found again by where they are",
)


@pytest.fixture
def pool() -> Any:
    return bulkhead(1)


def test_a_block_that_is_never_left_gives_its_permit_back_with_its_exit(pool: Any) -> None:
    """The exit on the frame's stack owns the permit: when it goes, so does the permit, even if that is kept."""
    enter, leave = pool.__enter__, pool.__exit__
    permit = enter()
    assert (pool.used, permit.ended) == (1, False)
    del leave
    assert (pool.used, permit.ended, pool.snapshot().ignored) == (0, True, 1)


def test_an_exception_on_its_way_passes_an_exit_that_goes(pool: Any) -> None:
    """A function in C raises, then frees its argument: the permit that comes back so does not lose the exception."""
    enter, leave = pool.__enter__, pool.__exit__
    enter()
    held = [leave]
    del leave
    with pytest.raises(TypeError, match="has no len"):
        len(held.pop())
    assert pool.used == 0


def test_an_exit_that_is_fetched_again_finds_the_block(pool: Any) -> None:
    """Entered by hand and left by hand, each fetched when it is called."""
    pool.__enter__()
    assert pool.used == 1
    pool.__exit__(None, None, None)
    assert (pool.used, pool.snapshot().successes) == (0, 1)


def test_an_exit_fetched_long_before_is_not_the_blocks_own(pool: Any) -> None:
    """
    Only the exit fetched between the entry and its call belongs to that.

    From 3.14 on `with` fetches the exit first: then it is the one fetched just before the entry.
    """
    early = pool.__exit__
    assert hasattr(bulkhead(1), "__enter__")  # another one's, fetched meanwhile
    pool.__enter__()
    pool.__exit__(None, None, None)
    assert pool.used == 0
    enter, early = pool.__enter__, pool.__exit__
    assert hasattr(bulkhead(1), "__exit__")  # another one's, fetched meanwhile
    enter()
    early(None, None, None)
    assert pool.used == 0


def test_a_thread_that_has_ended_keeps_nothing_of_the_exit_that_it_fetched(pool: Any) -> None:
    """Without the GIL each such thread left a weak reference behind, and nothing freed it."""

    def dead() -> int:
        return sum(type(one) is weakref.ref and one() is None for one in gc.get_objects())

    gc.collect()
    before = dead()
    for _ in range(20):
        thread = threading.Thread(target=getattr, args=(pool, "__exit__"))
        thread.start()
        thread.join()
    gc.collect()
    assert dead() - before < 10


def test_steps_of_another_kind_do_not_belong_together(pool: Any) -> None:
    """`__enter__` and `__aexit__` of hand-written code are no block: each finds its own way."""
    enter, leave = pool.__enter__, pool.__aexit__
    enter()
    with pytest.raises(StopIteration):
        leave(None, None, None).send(None)
    assert pool.used == 0


def test_one_pair_of_steps_serves_for_many_blocks(pool: Any) -> None:
    """Entered and left again and again, also one inside the other."""
    pool.reconfigure(max_concurrent=2)
    enter, leave = pool.__enter__, pool.__exit__
    for _ in range(3):
        enter()
        enter()
        assert pool.used == 2
        leave(None, None, None)
        leave(OSError, OSError("boom"), None)
    assert (pool.used, pool.snapshot().successes, pool.snapshot().failures) == (0, 3, 3)


def test_a_wrong_call_of_a_step_is_a_type_error(pool: Any) -> None:
    """As of any method, and the permit is still the block's."""
    enter, leave = pool.__enter__, pool.__exit__
    enter()
    with pytest.raises(TypeError, match="positional argument"):
        enter(1)
    with pytest.raises(TypeError, match="missing"):
        leave(None)
    with pytest.raises(TypeError, match="takes an exception"):
        leave(OSError, "boom", None)
    assert (pool.used, pool.snapshot().ignored) == (0, 1)


@pytest.mark.anyio
async def test_what_is_acquired_must_be_a_permit() -> None:
    """A subclass that acquires something else is told so."""

    class Odd(Policy[Any]):
        def acquire(self, *args: Any, **kwargs: Any) -> Any:
            return "permit"

        def aacquire(self, *args: Any, **kwargs: Any) -> Any:
            async def acquire() -> str:
                return "permit"

            return acquire() if self.plain else self.acall(acquire)

        plain = True

    odd = Odd(bulkhead(1).gates[0], None)
    with pytest.raises(TypeError, match="acquired 'permit', which is not a permit"), odd:
        pytest.fail("entered")
    for odd.plain in (True, False):
        with pytest.raises(TypeError, match="acquired 'permit', which is not a permit"):
            async with odd:
                pytest.fail("entered")


def test_a_rejected_block_holds_nothing(pool: Any) -> None:
    """The rejection is raised, and the next one is admitted."""
    with pool:
        with pytest.raises(BulkheadFullError), pool:
            pytest.fail("entered")
        assert pool.used == 1
    with pool:
        assert pool.used == 1


def test_steps_are_like_bound_methods(pool: Any) -> None:
    """Equal for the same policy, hashable, with the name, the documentation and the signature of the function."""
    step = pool.__enter__
    assert step == pool.__enter__
    assert step != pool.__exit__
    assert step != bulkhead(1).__enter__
    assert step != 1
    with pytest.raises(TypeError, match="not supported"):
        assert step < step  # noqa: PLR0124
    assert len({pool.__enter__, pool.__enter__, pool.__exit__}) == 2
    assert (step.__self__, step.__name__, step.__doc__) == (pool, "__enter__", Policy.__enter__.__doc__)
    assert step.__func__ is Policy.__enter__
    assert repr(step) == f"<bound method {Policy.__enter__.__qualname__} of {pool!r}>"
    assert list(inspect.signature(Policy.__exit__).parameters) == ["self", "kind", "error", "traceback"]
    with pytest.raises(AttributeError, match="nonsense"):
        _ = step.nonsense
    assert weakref.ref(step)() is step
    descriptor = inspect.getattr_static(Policy, "__enter__")
    assert descriptor.__wrapped__ is descriptor.__get__(None, Policy) is Policy.__enter__
    assert Policy.__enter__ in gc.get_referents(descriptor)


def test_only_the_four_methods_of_blocks_are_made_steps() -> None:
    """What is given something else says so."""
    with pytest.raises(TypeError, match="must be given a function, not 1"):
        core.block_method(1)  # type: ignore[type-var]
    with pytest.raises(ValueError, match="neither enters nor leaves"):
        core.block_method(test_only_the_four_methods_of_blocks_are_made_steps)


def test_a_block_in_a_cycle_of_garbage_gives_its_permit_back(pool: Any) -> None:
    """A generator that waits inside the block and reaches itself is found by the collector."""

    def generator(own: list[Any]) -> Any:
        with pool:
            yield own

    own: list[Any] = []
    own.append(generator(own))
    next(own[0])
    assert pool.used == 1
    del own
    gc.collect()
    assert pool.used == 0


def test_many_blocks_may_be_open_at_once() -> None:
    """More than steps are kept for reuse."""
    pool = bulkhead(100)

    def generator() -> Any:
        with pool:
            yield

    running = [generator() for _ in range(100)]
    for each in running:
        next(each)
    assert pool.used == 100
    for each in running:
        assert next(each, "left") == "left"
    assert pool.used == 0


# ---- async with ---------------------------------------------------------------------------------------------------


def entry_of(pool: Any) -> tuple[Any, Any]:
    """Return what `async with` awaits first, and the exit to which the permit will belong."""
    enter, leave = pool.__aenter__, pool.__aexit__
    return enter(), leave


def test_an_entry_is_a_coroutine_to_others(pool: Any) -> None:
    """It is sent to, iterated and looked at like the call that it awaits."""
    for drive in (lambda entry: entry.send(None), next, lambda entry: next(iter(entry))):
        entry, leave = entry_of(pool)
        assert entry.cr_running is False
        with pytest.raises(StopIteration) as stop:
            drive(entry)
        assert stop.value.value.admitted
        assert pool.used == 1
        with pytest.raises(RuntimeError, match="already awaited"):
            entry.send(None)
        with pytest.raises(StopIteration):
            leave(None, None, None).send(None)
        assert pool.used == 0


@pytest.mark.anyio
async def test_an_entry_that_waits_is_cancelled(vt: Any) -> None:
    """Cancelled in the queue it holds nothing, and the one who was inside gives the permit to the next."""
    pool = bulkhead(1, max_queued=5, max_wait=10)
    async with pool:
        with anyio.move_on_after(1):
            async with pool:
                pytest.fail("entered")
        assert (pool.used, pool.snapshot().queued) == (1, 0)
        async with anyio.create_task_group() as tasks:

            async def next_one() -> None:
                async with pool:
                    await anyio.sleep(1)

            tasks.start_soon(next_one)
            await anyio.sleep(1)
            assert pool.snapshot().queued == 1
            gc.collect()
            tasks.cancel_scope.cancel()
    assert (pool.used, pool.snapshot().queued) == (0, 0)


def test_an_entry_is_thrown_into_and_closed(pool: Any) -> None:
    """As a coroutine that has not started; afterwards nothing is held."""
    entry, _leave = entry_of(pool)
    with pytest.raises(OSError, match="thrown"):
        entry.throw(OSError("thrown"))
    entry, _leave = entry_of(pool)
    entry.close()
    with pytest.raises(RuntimeError, match="already awaited"):
        entry.send(None)
    entry, _leave = entry_of(pool)
    gc.collect()
    with pytest.warns(RuntimeWarning, match="never awaited"):
        del entry, _leave
    assert (pool.used, pool.snapshot().calls) == (0, 0)


def test_an_entry_passes_on_what_an_acquisition_makes_of_an_exception() -> None:
    """One that swallows it and goes on waits on, one that returns a permit has acquired it; without throw says so."""

    class Own(Policy[Any]):
        def aacquire(self, *args: Any, **kwargs: Any) -> Any:
            return self.acquiring()

    pool = bulkhead(1)
    own = Own(pool.gates[0], None)

    def stubborn() -> Any:
        for _ in range(2):
            with contextlib.suppress(OSError):
                yield "waiting"
        return own.acquire()

    own.acquiring = stubborn  # type: ignore[attr-defined]
    entry, leave = entry_of(own)
    assert entry.send(None) == "waiting"
    assert entry.throw(OSError()) == "waiting"
    with pytest.raises(StopIteration) as stop:
        entry.throw(OSError())
    assert stop.value.value.admitted
    assert pool.used == 1
    del leave, entry
    assert pool.used == 0
    own.acquiring = lambda: iter([1])  # type: ignore[attr-defined]
    entry, _leave = entry_of(own)
    with pytest.raises(AttributeError, match="throw"):
        entry.throw(OSError())


def test_the_end_of_an_async_block_waits_for_nothing(pool: Any) -> None:
    """It can be awaited, closed and sent to, and there is nothing to throw into."""
    entry, leave = entry_of(pool)
    next(entry, None)
    end = leave(None, None, None)
    end.close()
    with pytest.raises(RuntimeError, match="nothing to throw into"):
        end.throw(OSError())
    with pytest.raises(AttributeError, match="cr_frame"):
        _ = end.cr_frame
    assert next(end, "ended") == "ended"
