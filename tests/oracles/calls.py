"""Calls as tasks, whose fates are compared with an oracle's: the part that the state machines of all gates share."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from oracles.stepping import StepLoop
from resilio.errors import RejectedError

__all__ = ["CallMachine"]


class CallMachine(RuleBasedStateMachine):
    """Every call is a task; its permit is held until the machine ends it."""

    error: ClassVar[type[RejectedError]]
    loop: StepLoop

    def _against(self, policy: Any, oracle: Any) -> None:
        """Begin with this policy and its oracle."""
        self.policy, self.oracle = policy, oracle
        self.tasks: dict[int, asyncio.Future[Any]] = {}
        self.keys = iter(range(10**9))

    def teardown(self) -> None:
        if hasattr(self, "loop"):
            self.loop.end()
            self.tasks.clear()
            assert self.policy.snapshot().queued == 0
            self._is_idle()

    def _is_idle(self) -> None:
        """Assert that nothing is held after all calls have ended."""
        raise NotImplementedError

    def _with(self, fate: str) -> list[int]:
        return [key for key, known in self.oracle.fate.items() if known == fate]

    def _answered(self, key: int, answer: Any) -> None:
        """Keep the answer to a call that does not wait."""
        self.tasks[key] = done = self.loop.create_future()
        if answer:
            done.set_result(answer)
        else:
            done.set_exception(answer.error)
            done.exception()  # seen: no complaint at the end

    def _end(self, data: st.DataObject) -> None:
        """End a call that holds a permit."""
        raise NotImplementedError

    def _cancelled(self, key: int) -> None:
        """Cancel the call in the oracle."""
        self.oracle.cancel(key)

    @precondition(lambda self: self._with("queued"))
    @rule(data=st.data())
    def cancel_in_the_queue(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(self._with("queued")))
        self.tasks.pop(key).cancel()
        self._cancelled(key)
        self.loop.spin()

    @precondition(lambda self: self._with("held") and self._with("queued"))
    @rule(data=st.data())
    def cancel_at_the_grant(self, data: st.DataObject) -> None:
        """A permit is granted, and its waiter is cancelled before its task has run."""
        before = set(self._with("held"))
        self._end(data)
        granted = set(self._with("held")) - before
        if granted:
            key = data.draw(st.sampled_from(sorted(granted)))
            self.tasks.pop(key).cancel()
            self._cancelled(key)
        self.loop.spin()

    def _fate(self, task: asyncio.Future[Any]) -> str:
        if not task.done():
            return "queued"
        error = task.exception()
        if error is None:
            return "held"
        assert isinstance(error, self.error)
        return error.reason

    @invariant()
    def agrees(self) -> None:
        """Every call has the fate that the oracle gives it, and the numbers are those of the calls."""
        if not hasattr(self, "loop"):
            return
        assert {key: self._fate(task) for key, task in self.tasks.items()} == self.oracle.fate
        snapshot = self.policy.snapshot()
        assert snapshot.inflight == len(self._with("held"))
        assert snapshot.queued == len(self.oracle.queue)
        self._numbers_agree(snapshot)

    def _numbers_agree(self, snapshot: Any) -> None:
        """Assert what else is the same."""
        raise NotImplementedError
