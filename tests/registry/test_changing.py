"""Options change while other threads change some too, make policies, look up keys and fork."""

from __future__ import annotations

import functools
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest

from resilio import RetryBudget, bulkhead, circuit_breaker, configure, keyed, registry, retry
from resilio._registry import names

LONG = 20.0
"""Seconds after which a thread hangs. None of the tests below waits as long as that."""


class Halt:
    """A factory's halt: the thread called "halted" stops in it until it is let go."""

    def __init__(self) -> None:
        self.reached, self.go = threading.Event(), threading.Event()

    def __call__(self) -> Any:
        if threading.current_thread().name == "halted":
            self.reached.set()
            assert self.go.wait(LONG)
        return circuit_breaker(consecutive=2)

    def run(self, function: Callable[[], object]) -> threading.Thread:
        """Have a thread called "halted" call `function`, and return once it has stopped here."""
        thread = threading.Thread(target=function, name="halted", daemon=True)
        thread.start()
        assert self.reached.wait(LONG)
        return thread


def in_a_child(test: Callable[[], None]) -> Callable[[Any], None]:
    """Run a test in a child, which is ended if it hangs: a lock that stays taken would hang all other tests."""

    @functools.wraps(test)
    def run(in_child: Any) -> None:
        def child() -> None:
            signal.alarm(int(LONG))
            test()

        in_child(child)

    del run.__wrapped__  # pytest asks it for the parameters
    return run


def ends(thread: threading.Thread) -> bool:
    """Tell whether a thread ends at all."""
    thread.join(LONG / 2)
    return not thread.is_alive()


@in_a_child
def test_options_are_changed_without_a_call_of_the_factory() -> None:
    """
    It ran with the lock of all names taken, for a policy to check the options with. It may wait for other threads.

    Two of them hung for good where each had a lock that the other's factory came to.
    """
    halt = Halt()
    with registry.isolated():
        hosts = keyed(halt, key="host", name="hosts")
        hosts["a"].call(int)
        for change in (
            lambda: hosts.reconfigure(consecutive=5),
            lambda: configure({"hosts": {"consecutive": 6, "max_keys": 9}}),
        ):
            changing = threading.Thread(target=change, name="halted", daemon=True)
            changing.start()
            assert ends(changing)
        assert not halt.reached.is_set()
        assert (hosts["a"].config.consecutive, hosts["b"].config.consecutive, hosts.config.max_keys) == (6, 6, 9)


@in_a_child
def test_a_call_with_a_new_key_does_not_wait_for_a_change() -> None:
    """What a call makes has no name: whoever changes options, for however long, does not hold it up."""
    with registry.isolated(), names.changing():
        tenants = keyed(lambda: bulkhead(1), key="tenant")
        calling = threading.Thread(target=tenants(lambda tenant: tenant), args=("t",), daemon=True)
        calling.start()
        assert ends(calling)
        assert tenants.snapshot().successes == 1


@in_a_child
def test_who_makes_a_named_policy_waits_for_no_factory() -> None:
    """
    A factory ran with the lock of all names taken.

    One that imports a module was waited for by the thread that imports that module and makes named policies there, and
    waited for it: for good.
    """
    halt = Halt()
    with registry.isolated():
        making = halt.run(lambda: keyed(halt, key="host", name="hosts"))
        found: list[Any] = []
        other = threading.Thread(target=lambda: found.append(circuit_breaker("payments")), daemon=True)
        other.start()
        assert ends(other)
        assert registry.get("payments") is found[0]
        halt.go.set()
        assert ends(making)
        assert registry.get("hosts").kind == "keyed"


@in_a_child
def test_who_is_second_to_make_a_named_policy_gets_the_first() -> None:
    """While one thread makes it another may, since nobody waits; there is one under the name, and for both."""
    halt, found = Halt(), []
    with registry.isolated():
        making = halt.run(lambda: found.append(keyed(halt, key="host", name="hosts")))
        mine = keyed(halt, key="host", name="hosts")
        halt.go.set()
        assert ends(making)
        assert found == [mine]
        assert registry.get("hosts") is mine


@in_a_child
def test_a_named_policy_that_is_made_meanwhile_has_the_changed_options() -> None:
    """`configure` comes between: the name has no policy yet, and its options are for the one that is about to come."""
    halt, found = Halt(), []
    with registry.isolated():
        making = halt.run(lambda: found.append(keyed(halt, key="host", name="hosts")))
        configure({"hosts": {"consecutive": 7}})
        halt.go.set()
        assert ends(making)
        assert found[0]["a"].config.consecutive == 7


def test_a_factory_may_make_named_policies() -> None:
    """As a fallback's target, or a budget, that all keys share."""
    with registry.isolated():

        def factory() -> Any:
            return retry(on=OSError, budget=RetryBudget("shared"))

        hosts = keyed(factory, key="host", name="hosts")
        assert hosts["a"].budget is hosts["b"].budget is registry.get("shared")


def test_a_key_that_is_made_meanwhile_has_the_changed_options() -> None:
    """
    Its factory had begun before the change and ended after it.

    It was not yet among the keys that were changed, and had the old options for good.
    """
    halt = Halt()
    hosts = keyed(halt, key="host")
    making = halt.run(lambda: hosts["slow"])
    hosts.reconfigure(consecutive=9)
    assert "slow" not in hosts
    halt.go.set()
    assert ends(making)
    assert hosts["slow"].config.consecutive == 9
    hosts.reconfigure(max_keys=1)
    for host in range(10):
        hosts.call(lambda host: host, host)
    assert "slow" not in hosts  # and with what was changed for all it is as new


def test_a_child_can_change_options_that_another_thread_was_changing(in_child: Any) -> None:
    """The thread is not there in the child, so its lock is nobody's; the child hung at the first change."""
    reached, go = threading.Event(), threading.Event()

    def change() -> None:
        with names.changing():
            reached.set()
            assert go.wait(LONG)

    changing = threading.Thread(target=change, daemon=True)
    changing.start()
    assert reached.wait(LONG)

    def child() -> int | None:
        signal.alarm(int(LONG))
        breaker = circuit_breaker()
        breaker.reconfigure(consecutive=7)
        return breaker.config.consecutive

    assert in_child(child) == 7
    go.set()
    assert ends(changing)


@pytest.mark.parametrize(
    "make", [lambda: bulkhead(1, name="hosts"), lambda: keyed(lambda: bulkhead(1), key="host", name="hosts")]
)
def test_a_value_that_was_set_before_is_checked_where_the_policy_is_made(make: Callable[[], Any]) -> None:
    """Of a keyed policy, too, which has no key yet: the first call would have met the error."""
    configure({"hosts": {"max_concurrent": -3}})
    with pytest.raises(ValueError, match=r"configure\(\) for 'hosts': max_concurrent must be an int .*, not -3"):
        make()
