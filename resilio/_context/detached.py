"""
Removal and transport of ambient values (deadline, priority): `detached()` and `carry(fn)`.

A context variable passes a deadline to all tasks that a request starts. That is wrong for work that outlives the
request, and it does not reach a thread that is started without the context.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from contextvars import ContextVar, copy_context
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from resilio._context import variables
from resilio._context.priority import STANDARD
from resilio._context.scope import AmbientBlock
from resilio._native import clock
from resilio._native.core import AmbientDeadline, AmbientPriority, ambient_deadline, ambient_priority, detach
from resilio._options.validators import reject

if TYPE_CHECKING:
    from resilio._native.core import AmbientSetting

__all__ = ["Detached", "carry", "detached"]

P = ParamSpec("P")
T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


class Detached(AmbientBlock):
    """A block, or a decorator, without ambient values; see :func:`detached`, which makes one."""

    __slots__ = ()

    def _begin_block(self, setting: AmbientSetting, generator: Any, enforced: bool) -> None:  # noqa: ARG002
        # A generator's consumer keeps the deadline and the priority.
        values: dict[ContextVar[Any], Any] = {
            variables.deadline: AmbientDeadline(clock.NEVER_NS, detach(), variables.deadline.get(), generator)
        }
        if (before := variables.priority.get()) is not None:
            values[variables.priority] = AmbientPriority(STANDARD, None, before, generator)
        for variable in variables.AMBIENT:
            setting.set(variable, values.get(variable))


@overload
def detached() -> Detached: ...
@overload
def detached(fn: F, /) -> F: ...
def detached(fn: Any = None, /) -> Any:
    """
    Return a block, or decorate a function, without the outer deadline, retry scope and priority.

    For work that has to be done however late it is, like an audit record: calls and tasks inside do not see any
    ambient value from outside. It does not protect the current task: an `async with deadline(...)` outside of the block
    still interrupts it.

    Args:
        fn: A function or async function to decorate; None: the block.

    Raises:
        TypeError: `fn` is no function, or a generator function.
    """
    return Detached() if fn is None else Detached()(fn)


def carry(fn: Callable[P, T]) -> Callable[P, T]:
    """
    Return `fn` bound to the context of this moment: deadline, priority and all other context variables.

    For threads that do not inherit it (`ThreadPoolExecutor.submit`, `loop.run_in_executor`, `threading.Thread`). It may
    be called any number of times, also at once: each call has its own copy of the context, and changes only that.

    Args:
        fn: A plain function.

    Raises:
        TypeError: An async function or a generator function, whose body would run in its consumer's context. Pass a
            context to the task instead (`create_task(..., context=contextvars.copy_context())`).
    """
    checked: object = fn
    if not callable(checked) or isinstance(checked, type):
        reject("fn", fn, "a function", TypeError)
    kinds = (inspect.iscoroutinefunction, inspect.isasyncgenfunction, inspect.isgeneratorfunction)
    if any(is_kind(fn) for is_kind in kinds):
        right = "a plain function; a task is given its context by `create_task(..., context=copy_context())`"
        reject("fn", fn, right, TypeError)
    context, deadline = copy_context(), ambient_deadline()
    if deadline is not None:  # it may come from a call, which contexts do not hold
        context.run(variables.deadline.set, deadline)
    if (priority := ambient_priority()) is not None:  # without its generator, which does not run in that context
        context.run(variables.priority.set, AmbientPriority(priority.level, priority.task))

    @functools.wraps(fn)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        return context.copy().run(fn, *args, **kwargs)

    return run
