"""The ambient priority: set by blocks and decorators, inherited, carried, hidden; and never taken from strangers."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import math
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import anyio
import pytest

from resilio import carry, current_priority, detached, ignored_priorities, priority, priority_from, timeout
from resilio._context import variables
from resilio._context.priority import CLASSES
from resilio._native.core import AmbientPriority, ambient_priority

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])


def task_here():
    """What the calls made here belong to."""
    here = ambient_priority()
    return None if here is None else here.task


# ---- blocks and decorators -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", CLASSES)
def test_a_block_sets_the_priority_and_puts_back_the_one_before(level):
    """Inside it is that class, nested ones go first, and after each end the one before holds again."""
    assert current_priority() == "standard"
    with priority(level, task="order-17"):
        assert (current_priority(), task_here()) == (level, "order-17")
        with priority("background"):
            assert (current_priority(), task_here()) == ("background", "order-17"), "a part of the same task"
        with priority("critical", task="other"):
            assert (current_priority(), task_here()) == ("critical", "other")
        assert (current_priority(), task_here()) == (level, "order-17")
    assert (current_priority(), ambient_priority()) == ("standard", None)


@BACKENDS
def test_tasks_and_threads_inherit_it(vt, backend):
    """A task started in the block has it, also after the block; so has a thread of the library, and of anyio."""
    seen = []

    async def later():
        await anyio.sleep(1)
        seen.append((current_priority(), task_here()))

    async def main():
        async with anyio.create_task_group() as group:
            async with priority("critical", task=7):
                group.start_soon(later)
                seen.append(await anyio.to_thread.run_sync(current_priority))
            seen.append(current_priority())

    vt.run(main, backend=backend)
    assert seen[0] == "critical"
    assert ("critical", 7) in seen
    assert "standard" in seen


def test_a_thread_of_a_timeout_inherits_it():
    """A function that is run in a thread of the library has the priority of whoever called it."""
    with priority("background", task=7):
        assert timeout(30.0, thread=True)(lambda: (current_priority(), task_here()))() == ("background", 7)


@BACKENDS
def test_a_decorated_function_has_it_on_each_call(vt, backend):
    """Functions and async functions, also at once and recursively: each call has a block of its own."""

    @priority("sheddable", task="nightly")
    def plain():
        return current_priority(), task_here()

    @priority("critical")
    async def waits(depth):
        await anyio.sleep(0.1)
        return await waits(depth - 1) if depth else current_priority()

    async def main():
        assert plain() == ("sheddable", "nightly")
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(waits, 2)
        assert await waits(2) == "critical"
        assert current_priority() == "standard"

    vt.run(main, backend=backend)


def test_what_cannot_be_decorated_honestly_is_rejected():
    """A generator's items are taken in its consumer's context, and a class is no function."""

    def items():
        yield 1

    async def aitems():
        yield 1

    for wrong in (items, aitems, int, 5):
        with pytest.raises(TypeError, match="fn must be"):
            priority("critical")(wrong)


def test_one_object_serves_many_blocks_at_once():
    """Entered inside of itself, by hand and at once in two threads: each end puts back what was before it."""
    block, both, seen = priority("critical"), threading.Barrier(2), []
    with block:
        with priority("background"), block:
            assert current_priority() == "critical"
        block.__enter__()
        block.__exit__(None, None, None)
        assert current_priority() == "critical"
    assert current_priority() == "standard"

    def work():
        with block:
            both.wait()
            seen.append(current_priority())
            both.wait()
        seen.append(current_priority())

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(seen) == ["critical", "critical", "standard", "standard"]


@pytest.mark.parametrize("level", ["", "high", "CRITICAL", None, 1, True, math.nan, b"critical"])
def test_a_bad_class_is_rejected_by_name_and_value(level):
    """The classes are a closed set, and the error lists them."""
    with pytest.raises((TypeError, ValueError), match="level must be one of 'critical', 'standard'"):
        priority(level)


def test_a_task_without_a_hash_is_rejected():
    """What cannot be hashed cannot be told apart, and says so at once rather than inside of the block."""
    for task in ([], {}, {1, 2}):
        with pytest.raises(TypeError, match="task must be hashable"):
            priority("critical", task=task)


# ---- generators ------------------------------------------------------------------------------------------------------


def test_a_block_in_a_generator_does_not_reach_its_consumer():
    """Between two items the consumer has its own priority; inside, the generator has the one that it set."""

    def items():
        with priority("critical", task=1):
            yield current_priority()
            yield current_priority()

    inner = items()
    assert (next(inner), current_priority()) == ("critical", "standard")
    with priority("background"):
        assert (next(inner), current_priority()) == ("critical", "background")
        assert list(inner) == []
        assert current_priority() == "background"
    assert current_priority() == "standard"


def test_what_a_generator_calls_goes_before_what_it_has_set():
    """A block of a function that a running generator calls is inside of the generator's, and its consumer's is not."""

    @priority("sheddable")
    def called():
        return current_priority()

    def items():
        with priority("critical"):
            yield called()
            yield called(), current_priority()

    inner = items()
    with priority("background"):
        assert next(inner) == "sheddable"
        with priority("standard"):
            assert next(inner) == ("sheddable", "critical")
            assert current_priority() == "standard"
        assert current_priority() == "background"
    assert list(inner) == []


@BACKENDS
def test_a_block_in_an_async_generator_does_not_reach_its_consumer(vt, backend):
    """The same for async generators, also when the consumer's block outlives the generator's."""

    async def items():
        async with priority("sheddable"):
            yield current_priority()
        yield current_priority()

    async def main():
        inner = items()
        assert await anext(inner) == "sheddable"
        assert current_priority() == "standard"
        with priority("critical"):
            assert await anext(inner) == "critical"
            assert current_priority() == "critical"
        assert current_priority() == "standard"
        assert [item async for item in inner] == []
        assert variables.priority.get() is None

    vt.run(main, backend=backend)


# ---- taken away, taken along -----------------------------------------------------------------------------------------


@BACKENDS
def test_a_detached_block_has_the_standard_priority(vt, backend):
    """`detached()` hides it, tasks started there included; in a generator only while that runs."""
    seen = []

    async def audit():
        seen.append((current_priority(), task_here()))

    def items():
        with detached():
            yield current_priority()

    async def main():
        async with anyio.create_task_group() as group:
            with priority("critical", task=1):
                with detached():
                    seen.append((current_priority(), task_here()))
                    group.start_soon(audit)
                    with priority("sheddable"):
                        assert (current_priority(), task_here()) == ("sheddable", None)
                inner = items()
                assert (next(inner), current_priority()) == ("standard", "critical")
                assert list(inner) == []
                assert current_priority() == "critical"

    vt.run(main, backend=backend)
    assert seen == [("standard", None)] * 2


def test_carry_takes_it_into_threads_that_drop_it():
    """Executors and threads have it with `carry`, also what was set in a generator's frame."""

    def items():
        with priority("critical", task=3):
            yield carry(lambda: (current_priority(), task_here()))

    carried = next(items())
    with ThreadPoolExecutor(1) as pool, priority("background"):
        assert pool.submit(carried).result() == ("critical", 3)
        assert pool.submit(current_priority).result() == "standard"
        assert pool.submit(carry(current_priority)).result() == "background"


def test_a_block_left_in_another_context_harms_nobody():
    """A block may end where its context is not seen: there nothing changes, and nothing raises."""
    block = priority("critical")
    contextvars.copy_context().run(block.__enter__)
    block.__exit__(None, None, None)
    assert current_priority() == "standard"


def test_nobody_looks_while_none_is_set():
    """When the last value is gone from all contexts, reading the priority is a look at a counter again."""
    with priority("critical", task=object()):
        pass
    gc.collect()
    assert ambient_priority() is None


def test_the_native_value_rejects_what_it_cannot_hold():
    """Bad use of the type raises, and leaves nothing counted."""
    for arguments, error in [((), TypeError), (("x",), TypeError), ((1, []), TypeError), ((1, None, 5), TypeError)]:
        with pytest.raises(error):
            AmbientPriority(*arguments)
    with pytest.raises(TypeError):
        AmbientPriority(1, None, None, 5)
    value = AmbientPriority(1, 0)
    assert (value.level, value.task, value.outer, value.closed) == (1, 0, None, False)


def test_a_cycle_through_a_task_is_collected():
    """A task object that leads back to the context's value does not keep it for ever."""

    class Task:
        pass

    task, died = Task(), threading.Event()
    task.value = AmbientPriority(1, task)
    weakref.finalize(task, died.set)
    del task
    gc.collect()
    assert died.is_set()


def test_concurrent_tasks_do_not_see_each_other(vt):
    """Each task has its own, whatever others set between its awaits."""

    async def one(level):
        with priority(level):
            for _ in range(5):
                await asyncio.sleep(0.1)
                assert current_priority() == level

    async def main():
        await asyncio.gather(*(one(level) for level in CLASSES * 3))

    vt.run(main)


# ---- from a header ---------------------------------------------------------------------------------------------------


def test_a_header_is_read_only_of_those_who_may_choose():
    """Trusted: any spelling of a class; otherwise the default, whatever it says."""
    for text in ("critical", " Critical ", b"CRITICAL", "critical\r\n"):
        assert priority_from(text, trusted=True) == "critical"
        assert priority_from(text) == "standard"
        assert priority_from(text, default="sheddable") == "sheddable"
    with pytest.raises(ValueError, match="default must be one of"):
        priority_from("critical", default="urgent")


@pytest.mark.parametrize(
    "strange", ["", "urgent", "0", "critical,background", "\x00", "x" * 10**6, b"\xff\xfe", 5, object()]
)
def test_strange_headers_are_ignored_and_counted(strange):
    """No value raises, none that is no class has an effect, and each is counted by why it was ignored."""
    before = ignored_priorities()
    assert priority_from(strange, trusted=True) == "standard"
    assert priority_from(strange) == "standard"
    assert priority_from(None) == priority_from(None, trusted=True) == "standard"
    after = ignored_priorities()
    assert {why: after[why] - before[why] for why in after} == {"unknown": 1, "untrusted": 1}
