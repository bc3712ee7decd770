"""What a block sets in its context by itself: put back whole, once, and whatever ends badly beside it."""

from __future__ import annotations

import contextvars
import gc
from contextvars import ContextVar
from typing import Any

import pytest

from resilio import deadline, priority, remaining
from resilio._context import variables
from resilio._native import core
from resilio.errors import DeadlineExceededError

by_exit = pytest.mark.skipif(
    core._private_state()["with_order"] != "in use",
    reason="blocks are found again by where they are, not by their exit",
)

VARIABLES: list[ContextVar[Any]] = [ContextVar(f"variable {number}", default="before") for number in range(9)]


class Cutoff:
    """Interrupts nobody; its end goes as it was told."""

    def __init__(self, *ends: object) -> None:
        self.ends = list(ends)
        self.closed_by: list[object] = []

    def close(self, error: object) -> object:
        """Raise or return what comes next."""
        self.closed_by.append(error)
        end = self.ends.pop(0)
        if isinstance(end, BaseException):
            raise end
        return end


def ended_by(cutoff: Cutoff, error: BaseException | None = None) -> BaseException | None:
    """Return what comes out of a block of which this is the cutoff."""
    setting = core.AmbientSetting()
    setting.set(VARIABLES[0], "inside")
    setting.cutoff = cutoff
    try:
        setting.leave(error)
    except BaseException as raised:
        return raised
    finally:
        assert VARIABLES[0].get() == "before"
        assert setting.cutoff is None
    return None


def test_all_that_was_set_is_put_back_once() -> None:
    """However many variables, one of them twice; a second end changes nothing."""
    setting = core.AmbientSetting()
    for variable in [*VARIABLES, VARIABLES[0]]:
        setting.set(variable, object())
    assert "before" not in [variable.get() for variable in VARIABLES]
    assert {id(variable) for variable in VARIABLES} < set(map(id, gc.get_referents(setting)))
    setting.leave(None)
    assert {variable.get() for variable in VARIABLES} == {"before"}
    VARIABLES[0].set("later")
    setting.leave(None)
    assert VARIABLES[0].get() == "later"
    VARIABLES[0].set("before")


def test_it_holds_where_it_was_set() -> None:
    """In its context, until it is left, and not in one that was copied before."""
    setting, elsewhere = core.AmbientSetting(), contextvars.copy_context()
    setting.set(VARIABLES[0], "inside")
    assert (VARIABLES[0].get(), elsewhere.run(VARIABLES[0].get)) == ("inside", "before")
    elsewhere.run(setting.leave, None)
    assert VARIABLES[0].get() == "inside", "put back in a context that does not have it: this one keeps it"
    VARIABLES[0].set("before")


def test_bad_use_is_a_type_error() -> None:
    """What is no variable is rejected, and so are other numbers of arguments."""
    setting = core.AmbientSetting()
    with pytest.raises(TypeError, match="ContextVar"):
        setting.set("variable", 1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="2 arguments, not 1"):
        setting.set(VARIABLES[0])  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        core.AmbientSetting(1)  # type: ignore[call-arg]
    setting.leave(None)


def test_an_end_that_is_interrupted_is_gone_through_again() -> None:
    """A Ctrl-C in the midst of it comes out, when the cutoff has ended."""
    interrupt, body = KeyboardInterrupt(), OSError()
    cutoff = Cutoff(interrupt, False)
    assert ended_by(cutoff, body) is interrupt
    assert cutoff.closed_by == [body, body]


def test_of_several_errors_of_one_end_a_ctrl_c_is_not_lost() -> None:
    """What the end itself raises comes out, unless a Ctrl-C came after it; after too many of those it is given up."""
    own, interrupt, late = OSError(), KeyboardInterrupt(), OSError()
    assert ended_by(Cutoff(own, False)) is own
    assert ended_by(Cutoff(own, late, False)) is own
    assert ended_by(Cutoff(own, interrupt, False)) is interrupt
    assert ended_by(Cutoff(interrupt, own, False)) is interrupt
    endless = Cutoff(*[KeyboardInterrupt() for _ in range(100)])
    assert isinstance(ended_by(endless), KeyboardInterrupt)
    assert 1 < len(endless.closed_by) < 20


def test_a_late_end_raises_for_the_deadline() -> None:
    """In place of the cancellation, which is its cause; and what its error cannot be made of comes out as it is."""
    setting, cancellation = core.AmbientSetting(), RuntimeError("cancelled")
    setting.set(variables.deadline, core.AmbientDeadline(1, 2_000_000_000))
    setting.cutoff = Cutoff(True)
    with pytest.raises(DeadlineExceededError, match="of 2 s has passed") as caught:
        setting.leave(cancellation)
    assert caught.value.__cause__ is cancellation
    assert isinstance(ended_by(Cutoff(True)), AttributeError), "no deadline was set"
    assert remaining() is None


@by_exit
def test_a_block_that_is_never_left_ends_with_its_exit() -> None:
    """The exit on the frame's stack owns what was set: when it goes, what there was before holds again."""
    for block in (deadline(5.0), priority("critical")):
        before = [variable.get() for variable in variables.AMBIENT]
        enter, leave = block.__enter__, block.__exit__
        enter()
        assert [variable.get() for variable in variables.AMBIENT] != before
        del leave
        assert [variable.get() for variable in variables.AMBIENT] == before


@by_exit
def test_what_goes_wrong_at_the_end_of_a_block_that_nobody_left_is_not_told() -> None:
    """Its frame is gone: nobody could catch it."""
    block = Broken()
    enter, leave = block.__enter__, block.__exit__
    enter()
    assert VARIABLES[0].get() == "inside"
    del leave
    assert VARIABLES[0].get() == "before"


class Broken:
    """A block whose cutoff cannot be closed."""

    def _begin_block(self, setting: core.AmbientSetting, generator: object, enforced: bool) -> None:
        setting.set(VARIABLES[0], "inside")
        setting.cutoff = self

    @core.ambient_method
    def __enter__(self) -> None: ...

    @core.ambient_method
    def __exit__(self, *error: object) -> None: ...

    def close(self, error: object) -> bool:
        """Fail."""
        raise OSError
