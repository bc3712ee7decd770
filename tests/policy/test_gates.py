"""A gate of one's own: admitted, rejected, settled, cancelled; a raising one changes no call."""

from __future__ import annotations

import gc
import subprocess
import sys
import textwrap
from typing import Any

import pytest

from resilio import Outcome, RejectedError, bulkhead, circuit_breaker, configure, custom_gate, pipeline
from resilio.gates import GateProtocol, Reject


class Recorder:
    """Admits what it is told to, and writes down what it hears."""

    kind = "recorder"
    reasons = ("rejected", "closed for lunch")

    def __init__(self, rejection: Any = None) -> None:
        self.rejection = rejection
        self.heard: list[Any] = []

    def admit(self, call: Any) -> Any:
        self.heard.append(("admit", call.args, call.kwargs))
        call.data = len(self.heard)
        return self.rejection

    def settle(self, call: Any, outcome: Outcome, seconds: float) -> None:
        self.heard.append(("settle", call.data, outcome, seconds))

    def cancel(self, call: Any) -> None:
        self.heard.append(("cancel", call.data))


class Minimal:
    def admit(self, call: Any) -> None: ...

    def settle(self, call: Any, outcome: Outcome, seconds: float) -> None: ...


def test_a_gate_sees_the_call_and_its_end(vt: Any) -> None:
    """Arguments as they were given, its own data back, the outcome and the time."""
    gate = Recorder()
    assert isinstance(gate, GateProtocol)
    policy = custom_gate(gate)

    @policy
    def call(a: int, *, b: int = 0) -> int:
        vt.advance(2)
        return 1 // (a + b)

    assert call(1) == 1
    with pytest.raises(ZeroDivisionError):
        call(1, b=-1)
    assert gate.heard == [
        ("admit", (1,), {}),
        ("settle", 1, Outcome.SUCCESS, 2.0),
        ("admit", (1,), {"b": -1}),
        ("settle", 3, Outcome.FAILURE, 2.0),
    ]


def test_a_gate_rejects_with_its_reason() -> None:
    """The rejection carries the gate's kind, the policy's name, and what the gate said."""
    gate = Recorder(Reject("closed for lunch", retry_after=30.0, measured=13, limit=12))
    policy = custom_gate(gate, name="kitchen")
    with pytest.raises(RejectedError) as rejection:
        policy.call(int)
    error = rejection.value
    assert type(error) is RejectedError
    assert (error.policy, error.name, error.reason) == ("recorder", "kitchen", "closed for lunch")
    assert (error.retry_after, error.measured, error.limit, error.called) == (30.0, 13.0, 12.0, False)
    assert not policy.try_acquire()
    seen = policy.snapshot()
    assert (seen.kind, seen.rejected, seen.inflight, policy.gates[0].rejections()["closed for lunch"]) == (
        "recorder",
        2,
        0,
        2,
    )


def test_a_rejection_without_details_or_with_an_unknown_reason() -> None:
    """Reasons are a closed set: another one counts as the first."""
    for rejection in (Reject(), Reject("made up on the spot")):
        with pytest.raises(RejectedError) as raised:
            custom_gate(Recorder(rejection)).call(int)
        error = raised.value
        assert (error.reason, error.retry_after, error.measured, error.limit) == ("rejected", None, None, None)


def test_a_call_that_another_policy_rejects_is_cancelled_and_not_settled() -> None:
    """The gate takes back what it had noted."""
    gate, breaker = Recorder(), circuit_breaker("inner")
    both = pipeline(custom_gate(gate), breaker)
    breaker.force_open()
    assert both.try_call(int).outcome == "rejected"
    assert gate.heard == [("admit", (), {}), ("cancel", 1)]


def test_cancel_is_optional() -> None:
    """A gate that notes nothing in admit has nothing to take back."""
    breaker = circuit_breaker("inner")
    both = pipeline(custom_gate(Minimal()), breaker)
    breaker.force_open()
    assert both.try_call(int).outcome == "rejected"
    assert both.snapshot().parts[0].inflight == 0


def test_shadow_mode_lets_pass_what_the_gate_rejects_and_settles_nothing() -> None:
    """The gate learns only from calls that enforcement would have admitted."""
    gate = Recorder(Reject())
    policy = custom_gate(gate, enforce=False)
    assert policy.call(lambda: "let through") == "let through"
    assert [event[0] for event in gate.heard] == ["admit"]
    assert (policy.snapshot().would_reject, policy.snapshot().rejected) == (1, 0)
    policy.reconfigure(enforce=True)
    assert policy.try_call(int).outcome == "rejected"


class Broken(Recorder):
    """Raises where it is told to."""

    def __init__(self, where: str, error: BaseException) -> None:
        super().__init__()
        self.where, self.error = where, error

    def admit(self, call: Any) -> Any:
        if self.where == "admit":
            raise self.error
        return "no rejection" if self.where == "answer" else super().admit(call)

    def settle(self, call: Any, outcome: Outcome, seconds: float) -> None:
        if self.where == "settle":
            raise self.error
        super().settle(call, outcome, seconds)

    def cancel(self, call: Any) -> None:
        if self.where == "cancel":
            raise self.error
        super().cancel(call)


@pytest.mark.parametrize("where", ["admit", "answer", "settle", "cancel"])
def test_a_raising_gate_admits_and_changes_no_call(where: str, caplog: Any) -> None:
    """What it raises is counted and logged once; the call's result, its exception and the permits are as without it."""
    policy, inner = custom_gate(Broken(where, RuntimeError("gate's own"))), bulkhead(1)
    both = pipeline(policy, inner)
    for _ in range(3):
        assert both.call(lambda: "done") == "done"
        with pytest.raises(OSError, match="mine"):
            both.call(raise_, OSError("mine"))
        with inner:
            assert both.try_call(int).error.policy == "bulkhead"
    assert policy.errors == {"admit": 9, "answer": 9, "settle": 6, "cancel": 3}[where]
    assert (policy.snapshot().inflight, inner.snapshot().inflight, policy.snapshot().cancelled) == (0, 0, 3)
    blamed = [record for record in caplog.records if "calls are admitted without it" in record.message]
    assert len(blamed) == 1
    assert caplog.text.count("gate's own") == (0 if where == "answer" else 1)


def raise_(error: BaseException) -> None:
    raise error


@pytest.mark.untraced
def test_a_ctrl_c_in_a_gate_is_raised_and_loses_nothing() -> None:
    """The program is interrupted at the next safe point, and the permit is accounted for."""
    script = """
        import resilio
        class Gate:
            def admit(self, call):
                raise KeyboardInterrupt
            def settle(self, call, outcome, seconds): ...
        policy = resilio.custom_gate(Gate())
        try:
            policy.call(int)
            for _ in range(10**7): pass
        except KeyboardInterrupt:
            print("interrupted", policy.snapshot().inflight, policy.errors)
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("interrupted 0 1\n", "")


def test_a_dropped_permit_is_settled_as_ignored() -> None:
    """Also in the collector, where the gate is asked while another exception may be on its way."""
    gate = Recorder()
    policy = custom_gate(gate)

    def dropping() -> None:
        permit = policy.try_acquire()
        cycle: list[Any] = [permit]
        cycle.append(cycle)
        raise ValueError(permit.admitted)

    with pytest.raises(ValueError, match="True"):
        dropping()
    gc.collect()
    assert [event[2] for event in gate.heard if event[0] == "settle"] == [Outcome.IGNORED]
    assert policy.snapshot().inflight == 0


def test_a_call_is_let_go_of_when_it_has_ended() -> None:
    """The gate's data and the arguments live no longer than the call, however it ends."""

    class Payload: ...

    gate, breaker = Recorder(), circuit_breaker("inner")
    both = pipeline(custom_gate(gate), breaker)
    both.call(id, Payload())
    both.try_call(raise_, OSError())
    both.call(lambda payload: None, Payload())
    breaker.force_open()
    both.try_call(id, Payload())
    gate.heard.clear()
    gc.collect()
    assert [one for one in gc.get_objects() if isinstance(one, Payload)] == []


def test_the_call_does_not_show_its_arguments() -> None:
    """They may be secrets, and calls end up in logs."""
    shown: list[str] = []

    class Gate(Minimal):
        def admit(self, call: Any) -> None:
            shown.append(repr(call))

    custom_gate(Gate()).call(len, "password")
    assert shown == ["<GateCall>"]


def test_the_state_of_a_gate_is_shown() -> None:
    """If it has an attribute of that name; anything but a string is none."""

    class Gate(Minimal):
        state: Any = "green"

    policy = custom_gate(Gate())
    assert policy.snapshot().state == "green"
    policy.gate.state = 3
    assert policy.snapshot().state is None


class Async:
    async def admit(self, call: Any) -> None: ...

    def settle(self, call: Any, outcome: Outcome, seconds: float) -> None: ...


class NoSettle:
    def admit(self, call: Any) -> None: ...


@pytest.mark.parametrize(
    ("gate", "options", "error", "message"),
    [
        (object(), {}, TypeError, "gate must be an object with admit"),
        (Minimal, {}, TypeError, "gate must be an object with admit"),
        (NoSettle(), {}, TypeError, "gate must be an object with admit"),
        (Async(), {}, TypeError, "admit must answer at once"),
        (Minimal(), {"kind": "Not A Kind"}, ValueError, "kind must be a lower-case identifier"),
        (Minimal(), {"kind": 3}, TypeError, "kind must be"),
        (Minimal(), {"reasons": ()}, ValueError, "reasons must be"),
        (Minimal(), {"reasons": "open"}, TypeError, "reasons must be"),
        (Minimal(), {"reasons": ("a", "a")}, ValueError, "reasons must be"),
        (Minimal(), {"reasons": ("a", "")}, ValueError, "reasons must be"),
        (Minimal(), {"reasons": tuple(map(str, range(17)))}, ValueError, "reasons must be"),
        (Minimal(), {"enforce": 2}, ValueError, "enforce must be"),
        (Minimal(), {"on": 3}, TypeError, "on must be"),
    ],
)
def test_what_is_no_gate_is_rejected(gate: Any, options: Any, error: Any, message: str) -> None:
    """A clear error where it is made."""
    with pytest.raises(error, match=message):
        custom_gate(gate, **options)


def test_a_custom_gate_is_named_and_configured_like_any_policy() -> None:
    """The same object under the same name; enforcement by configuration; what makes the gate is fixed."""
    gate = Minimal()
    policy = custom_gate(gate, name="mine")
    assert custom_gate(gate, name="mine") is policy
    with pytest.raises(ValueError, match="the name 'mine' is taken"):
        custom_gate(Minimal(), name="mine")
    configure({"mine": {"enforce": False}})
    assert policy.config.enforce == 0.0
    with pytest.raises(TypeError, match="reasons of a custom gate cannot be changed"):
        policy.reconfigure(reasons=("a",))


def test_judges_apply_to_a_custom_gate() -> None:
    """What counts as a failure is said as for a breaker."""
    gate = Recorder()
    policy = custom_gate(gate, on=OSError, ignore=ConnectionError, failed_if=lambda result: result == 0)
    policy.try_call(raise_, ValueError())
    policy.try_call(raise_, ConnectionError())
    policy.try_call(int)
    assert [event[2].name for event in gate.heard if event[0] == "settle"] == ["SUCCESS", "IGNORED", "FAILURE"]


def test_there_is_an_end_to_the_kinds_of_gates() -> None:
    """A kind is a label: sixteen in a process, and the error says so."""
    script = """
        import resilio
        class Gate:
            def admit(self, call): ...
            def settle(self, call, outcome, seconds): ...
        made = [resilio.custom_gate(Gate(), kind=f"kind{n}") for n in range(16) for _ in range(2)]
        assert all(policy.call(int) == 0 for policy in made)
        try:
            resilio.custom_gate(Gate(), kind="another")
        except ValueError as error:
            print(error)
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert "at most 16 kinds of custom gates in a process, and 'another' is one more" in done.stdout, done.stderr
