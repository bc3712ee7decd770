"""A rejection names whose state it comes from: this process's, or that of all processes of the host."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from resilio import adaptive_limit, bulkhead, circuit_breaker, events, keyed, rate_limit
from resilio.errors import CircuitOpenError, RateLimitedError, RejectedError
from resilio.gates import custom_gate
from resilio.sharing import host


def rejected(policy: Any) -> RejectedError:
    """The rejection of a call."""
    with pytest.raises(RejectedError) as found:
        policy.call(int)
    return found.value


_held: list[Any] = []


@pytest.fixture(autouse=True)
def _given_back(resilio_virtual_time: Any) -> Iterator[None]:
    """No permit outlives its test, and no token comes in meanwhile."""
    yield
    while _held:
        _held.pop().success()


def full(policy: Any) -> Any:
    """The policy with all its permits or tokens taken."""
    while permit := policy.try_acquire():
        _held.append(permit)
    return policy


SHARED: dict[str, Callable[[Any], Any]] = {
    "adaptive limit": lambda scope: full(adaptive_limit(name="shared", start=3, scope=scope)),
    "bulkhead": lambda scope: full(bulkhead(3, name="shared", scope=scope)),
    "bulkhead with weights": lambda scope: full(bulkhead(3, name="shared", weight=lambda *_: 1, scope=scope)),
    "token bucket": lambda scope: full(rate_limit("1/s", burst=3, name="shared", scope=scope)),
    "window": lambda scope: full(rate_limit("3/min", name="shared", scope=scope)),
}


@pytest.mark.parametrize("kind", SHARED)
def test_a_rejection_of_a_shared_policy_is_the_host_s(kind: str) -> None:
    """The numbers were the host's already, and looked as if this worker alone had made three calls."""
    policy = SHARED[kind]("host")
    error = rejected(policy)
    assert error.scope == "host"
    assert str(error).startswith(f"{policy.kind} 'shared' of this host rejected the call: ")
    again = pickle.loads(pickle.dumps(error))
    assert (again.scope, str(again)) == (error.scope, str(error))
    assert policy.try_acquire().scope == "host"


@pytest.mark.parametrize("kind", SHARED)
def test_a_rejection_of_a_process_s_own_policy_is_the_process_s(kind: str) -> None:
    """Its text says nothing of a scope."""
    policy = SHARED[kind]("process")
    error = rejected(policy)
    assert error.scope == policy.try_acquire().scope == "process"
    assert "host" not in str(error)


@pytest.mark.parametrize("kind", SHARED)
def test_a_policy_that_is_not_shared_any_more_says_so(kind: str) -> None:
    """Its rejections are the process's again."""
    policy = SHARED[kind]("host")
    policy.reconfigure(scope="process")
    assert rejected(full(policy)).scope == "process"


def test_a_breaker_s_own_trouble_is_not_the_host_s() -> None:
    """It opens by its own rule for itself; what all have seen, or an operator decides, is the host's."""
    breaker = circuit_breaker("payments", consecutive=3, scope=host("shop"))
    for _ in range(3):
        breaker.acquire().failure(OSError())
    assert breaker.snapshot().host_state == "closed"
    assert rejected(breaker).scope == "process"
    breaker.force_open()
    error = rejected(breaker)
    assert isinstance(error, CircuitOpenError)
    assert (error.scope, str(error)) == (
        "host",
        "circuit_breaker 'payments' of this host rejected the call: forced_open",
    )


def test_a_worker_that_closes_its_bulkhead_rejects_by_itself() -> None:
    """`close()` is a matter of one process, which ends."""
    pool = bulkhead(3, name="db", scope="host")
    pool.close()
    assert rejected(pool).scope == "process"


def test_a_key_s_rejection_is_the_host_s() -> None:
    """The tokens of a key are in the host's table."""
    users = keyed(lambda: rate_limit("1/min"), key="user", name="users", scope="host")

    @users
    def serve(user: str) -> str:
        return user

    serve("ada")
    with pytest.raises(RateLimitedError) as found:
        serve("ada")
    assert found.value.scope == "host"


def test_an_event_has_the_scope() -> None:
    """As the error has it."""
    seen: list[events.Rejected] = []
    for scope in ("host", "process"):
        policy = full(rate_limit("1/min", name=f"of the {scope}", scope=scope))
        policy.on_event(seen.append, kinds=[events.Rejected])
        rejected(policy)
    assert [one.scope for one in seen] == ["host", "process"]


def test_errors_made_elsewhere_are_the_process_s() -> None:
    """Those of a user's own gate, and those that code makes by itself or has pickled before there was a scope."""

    class Never:
        kind, reasons = "never", ("never",)

        def admit(self, call: Any, /) -> Any:
            from resilio.gates import Reject

            return Reject("never")

        def settle(self, *_: Any) -> None:
            raise AssertionError

    assert rejected(custom_gate(Never())).scope == "process"
    made = RejectedError("bulkhead", "db", "full", 3.0, 3.0, None)
    assert made.scope == "process"
    made.scope = "host"
    assert str(made) == "bulkhead 'db' of this host rejected the call: full (3 against 3)"
