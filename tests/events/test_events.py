"""Events: frozen records, delivered in order after locks are released; a listener changes nothing."""

from __future__ import annotations

import gc
import logging
import os
import signal
import subprocess
import sys
import textwrap
import threading
import weakref
from typing import Any

import attrs
import pytest

from resilio import CircuitOpenError, bulkhead, circuit_breaker, events, keyed, pipeline, registry
from resilio._events import delivery as _event_delivery
from resilio._events import log
from resilio._events import subscriptions as _event_subscriptions
from resilio._events.delivery import postponed
from resilio._events.taps import Samples
from resilio.events import Rejected, Settled, StateChanged, subscribe


@pytest.fixture
def seen() -> Any:
    """Every event of every policy, and a subscription that ends with the test."""
    recorded: list[Any] = []
    stop = subscribe(recorded.append, kinds=(StateChanged, Rejected, Settled))
    yield recorded
    stop()


def boom() -> None:
    raise OSError("boom")


def trip(policy: Any) -> None:
    for _ in range(10):
        policy.try_call(boom)
    assert policy.state == "open"


def test_a_state_change_is_a_frozen_record(seen: list[Any], vt: Any) -> None:
    """It says who, from where to where, why and when, in the order in which it happened."""
    policy = circuit_breaker("payments")
    trip(policy)
    policy.reset()
    changes = [event for event in seen if isinstance(event, StateChanged)]
    assert [(event.old, event.new, event.reason) for event in changes] == [
        ("closed", "open", "consecutive"),
        ("open", "closed", "manual"),
    ]
    assert {(event.kind, event.name) for event in changes} == {("circuit_breaker", "payments")}
    assert changes[0].at_ns <= changes[1].at_ns
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        changes[0].new = "closed"


def test_a_rejection_and_an_end_are_records(seen: list[Any], vt: Any) -> None:
    """A rejection has what its exception has; an end has its outcome and time."""
    limit = bulkhead(1, name="pool")
    with limit:
        vt.advance(0.5)
        limit.try_call(boom)
    limit.try_call(boom)
    rejected, good, bad = seen
    assert (rejected.kind, rejected.name, rejected.reason) == ("bulkhead", "pool", "full")
    assert (rejected.measured, rejected.limit) == (1.0, 1.0)
    assert (good.outcome, good.seconds, bad.outcome) == ("success", 0.5, "failure")
    assert isinstance(rejected, Rejected)
    assert isinstance(good, Settled)


def test_a_listener_hears_what_it_asked_for() -> None:
    """By policy, by kind of event, and until it stops."""
    mine, other = circuit_breaker("mine"), circuit_breaker("other")
    changes, rejections = [], []
    stop = mine.on_event(changes.append)
    mine.on_event(rejections.append, kinds=Rejected)
    for policy in (mine, other):
        policy.force_open()
        policy.try_call(boom)
    stop()
    mine.reset()
    assert [(event.name, event.new) for event in changes] == [("mine", "forced_open")]
    assert [event.name for event in rejections] == ["mine"]


def throttling(name: str) -> Any:
    """A breaker that rejects a share: a change of its mode ends that, which is a change of state."""
    policy = circuit_breaker(name, mode="probabilistic", consecutive=None)
    for number in range(200):
        policy.try_call(boom if number % 5 else int)
    assert policy.state == "half_open"
    return policy


def change_one(policy: Any) -> None:
    policy.reconfigure(mode="window")


def change_many(policy: Any) -> None:
    registry.configure({policy.name: {"mode": "window"}})


@pytest.mark.parametrize("change", [change_one, change_many])
def test_a_change_of_options_is_told_with_all_locks_free(change: Any) -> None:
    """A listener may wait for another thread that looks at policies and changes them; it sees the change made."""
    policy, other = throttling("changed"), bulkhead(1, name="other")
    seen: list[Any] = []

    def elsewhere() -> None:
        other.reconfigure(max_concurrent=2)
        registry.configure({"other": {"max_queued": 3, "max_wait": 1.0}})
        seen.append((policy.snapshot().state, policy.config.mode, registry.get("other") is other))

    def listener(event: StateChanged) -> None:
        thread = threading.Thread(target=elsewhere, daemon=True)
        thread.start()
        thread.join(10)  # with a lock held it would not end
        seen.append((event.new, thread.is_alive()))
        policy.reconfigure(open_for=0.1)

    policy.on_event(listener)
    change(policy)
    assert seen == [("closed", "window", True), ("closed", False)]
    assert (policy.config.open_for, other.config.max_queued) == (0.1, 3)


def test_what_a_rejected_change_has_caused_is_told() -> None:
    """Events of a block that raises are delivered all the same, in order, after its end."""
    policy = circuit_breaker("postponed")
    heard: list[str] = []
    policy.on_event(lambda event: heard.append(event.new))
    with pytest.raises(ValueError, match="no"), postponed():
        policy.force_open()
        with postponed():
            policy.reset()
        assert heard == []
        raise ValueError("no")
    assert heard == ["forced_open", "closed"]


def test_a_listener_of_a_pipeline_hears_all_its_policies() -> None:
    """One subscription covers every gate inside."""
    breaker, limit = circuit_breaker("breaker"), bulkhead(1, name="pool")
    both = pipeline(breaker, limit, name="both")
    heard: list[Any] = []
    both.on_event(heard.append, kinds=(StateChanged, Rejected))
    with both:
        both.try_call(boom)
    breaker.force_open()
    both.drain()
    assert [event.kind for event in heard] == ["bulkhead", "circuit_breaker", "pipeline", "pipeline"]


def test_a_subscription_to_all_covers_policies_made_later(seen: list[Any]) -> None:
    """Also an unnamed one, which has no name yet."""
    circuit_breaker().force_open()
    assert [(event.name, event.new) for event in seen] == [(None, "forced_open")]


def in_a_process_of_its_own(script: str) -> None:
    """Run assertions where no other test has left a listener: a page that is not collected yet, or never will be."""
    command = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_nothing_listens_by_default() -> None:
    """
    Without a listener the core is not asked to report rejections and ends; with one, and only then, it is.

    What a page of another test listened to was in the sum: this one failed, wherever that page was not collected.
    """
    in_a_process_of_its_own("""
        from resilio import circuit_breaker
        from resilio.events import Rejected, Settled, StateChanged
        from resilio.metrics import logging

        policy = circuit_breaker()
        gate = policy.gates[0]
        assert gate.listening == 0
        stops = [policy.on_event(print, kinds=kind) for kind in (StateChanged, Rejected, Settled)]
        assert gate.listening == 3
        for stop in stops:
            stop()
            stop()
        assert gate.listening == 0
        logging.enable()
        assert gate.listening == 1
        logging.disable()
        assert gate.listening == 0
    """)


@pytest.mark.parametrize(
    ("listener", "options"),
    [
        (None, {}),
        (print, {"kinds": ()}),
        (print, {"kinds": (int,)}),
        (print, {"policy": 3}),
        (print, {"policy": print}),
    ],
)
def test_what_is_no_subscription_is_rejected(listener: Any, options: Any) -> None:
    """A TypeError that says what was expected."""
    with pytest.raises(TypeError):
        subscribe(listener, **options)


def test_cb17_a_raising_listener_changes_no_result_and_is_logged_once(caplog: Any) -> None:
    """CB-17: the call, the state and the other listeners are as without it; its errors are counted."""
    policy, heard = circuit_breaker("payments", consecutive=10), []

    def bad(event: Any) -> None:
        raise RuntimeError("listener's own")

    stops = [
        subscribe(bad, policy=policy, kinds=(StateChanged, Rejected, Settled)),
        subscribe(heard.append, policy=policy),
    ]
    before = events.listener_errors()
    with pytest.raises(OSError, match="boom"):
        policy.call(boom)
    assert policy.call(lambda: "paid") == "paid"
    trip(policy)
    with pytest.raises(CircuitOpenError):
        policy.call(boom)
    for stop in stops:
        stop()
    assert [event.new for event in heard] == ["open"]
    assert events.listener_errors() - before == 14
    blamed = [record for record in caplog.records if "a listener of events raised" in record.message]
    assert len(blamed) == 1
    assert "listener's own" in blamed[0].exc_text


def test_a_listener_may_use_the_policy_that_it_hears_of() -> None:
    """No lock is held: what it does to the policy is an event too, which comes after the one at hand."""
    policy, order = circuit_breaker("payments"), []

    def listen(event: StateChanged) -> None:
        if event.new == "open":
            policy.reset()
        order.append(event.new)

    policy.on_event(listen)
    for _ in range(10):
        policy.try_call(boom)
    assert (order, policy.state) == (["open", "closed"], "closed")


def test_events_of_many_threads_are_told_one_at_a_time_and_each_policy_in_order() -> None:
    """Nobody waits for a listener: who finds one at work leaves the event to it."""
    policies = [circuit_breaker(f"p{n}") for n in range(4)]
    inside, overlaps, heard = [0], [0], []

    def listen(event: StateChanged) -> None:
        inside[0] += 1
        overlaps[0] += inside[0] > 1
        heard.append((event.name, event.new))
        inside[0] -= 1

    stop = subscribe(listen)
    barrier = threading.Barrier(4)

    def toggle(policy: Any) -> None:
        barrier.wait()
        for _ in range(100):
            policy.force_open()
            policy.reset()

    threads = [threading.Thread(target=toggle, args=(policy,)) for policy in policies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stop()
    assert overlaps == [0]
    for policy in policies:
        assert [new for name, new in heard if name == policy.name] == ["forced_open", "closed"] * 100


def test_changes_of_one_policy_are_told_in_order_whichever_thread_tells_them() -> None:
    """A thread that comes between what another has done and its being told tells that too, and does not overtake it."""
    policy, heard = circuit_breaker("payments"), []

    def reset_by_another() -> None:
        if policy.state == "forced_open":
            thread = threading.Thread(target=policy.reset)
            thread.start()
            thread.join()

    stop = subscribe(lambda event, _: heard.append((event.old, event.new)), policy=policy, capture=reset_by_another)
    policy.force_open()
    stop()
    assert heard == [("closed", "forced_open"), ("forced_open", "closed")]


@pytest.mark.untraced
def test_the_changes_that_many_threads_make_to_one_policy_are_a_chain() -> None:
    """Each begins where the one before has ended, so that whoever listens knows the state."""
    policy, heard, by_others = circuit_breaker("payments"), [], [0]
    barrier = threading.Barrier(4)

    def listen(event: StateChanged, origin: object) -> None:
        heard.append((event.old, event.new))
        by_others[0] += origin != threading.get_ident()

    def toggle() -> None:
        barrier.wait()
        for _ in range(2000):
            policy.force_open()
            policy.reset()

    stop = subscribe(listen, policy=policy, capture=threading.get_ident)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=toggle) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
        stop()
    assert policy.gates[0].changes_lost == 0
    assert [old for old, _ in heard] == ["closed", *(new for _, new in heard[:-1])]
    assert by_others[0] > 0, "the threads did not race: none has told another's change"


def test_a_slow_listener_does_not_hold_up_other_calls() -> None:
    """While one thread is in a listener, another one's call goes on and its event waits."""
    first, second = circuit_breaker("first"), circuit_breaker("second")
    entered, release, heard = threading.Event(), threading.Event(), []

    def slow(event: StateChanged) -> None:
        heard.append(event.name)
        if event.name == "first":
            entered.set()
            assert release.wait(30)

    stop = subscribe(slow)
    thread = threading.Thread(target=first.force_open)
    thread.start()
    assert entered.wait(30)
    second.force_open()
    assert (second.state, heard) == ("forced_open", ["first"])
    release.set()
    thread.join()
    stop()
    assert heard == ["first", "second"]


def test_a_thread_that_ended_while_it_delivered_is_waited_for_by_nobody() -> None:
    """An exception that was thrown into it may have kept it from saying so."""
    policy, heard = circuit_breaker("payments"), []
    policy.on_event(lambda event: heard.append(event.new))

    def end() -> None:
        _event_delivery._lane["owner"] = _event_delivery._here.sign

    thread = threading.Thread(target=end)
    thread.start()
    thread.join()
    for _ in range(2):
        policy.force_open()
        policy.reset()
    assert heard == ["forced_open", "closed"] * 2


def test_a_change_that_a_finaliser_makes_is_delivered() -> None:
    """A failing call that ends in the collector trips its breaker like any other."""
    policy, heard = circuit_breaker("payments", consecutive=1), []
    policy.on_event(heard.append)

    class Cycle:
        def __init__(self) -> None:
            self.permit, self.me = policy.try_acquire(), self

        def __del__(self) -> None:
            self.permit.failure(OSError())

    Cycle()
    gc.collect()
    assert [event.new for event in heard] == ["open"]


def test_a_subscription_does_not_keep_an_unnamed_policy_alive() -> None:
    """A listener holds on to what it listens to no more than the registry does."""
    policy = circuit_breaker()
    gates = len(_event_subscriptions._gates)
    stop = policy.on_event(print)
    del policy
    gc.collect()
    assert len(_event_subscriptions._gates) < gates
    stop()


@pytest.mark.untraced
def test_samples_do_not_keep_the_policies_that_they_have_sampled() -> None:
    """While nobody asks for more, what has rejected once may go: a page open to nobody, and a million tenants' keys."""
    heard: list[Any] = []
    samples = Samples(lambda event, _: heard.append(event), (Rejected,))
    rejected = bulkhead(1)
    with rejected:
        assert not rejected.try_acquire()
        assert not rejected.try_acquire()
    gone = weakref.ref(rejected.gates[0])
    assert [event.reason for event in heard] == ["full"]
    del rejected
    gc.collect()
    assert gone() is None
    samples.end()


def test_a_ctrl_c_in_a_listener_is_raised_and_not_swallowed() -> None:
    """It is nobody's error: the program is interrupted at the next safe point, and events go on."""
    script = """
        import resilio
        policy, heard, interrupted = resilio.circuit_breaker("payments"), [], False
        def listen(event):
            if event.new == "open":
                raise KeyboardInterrupt
            heard.append(event.new)
        policy.on_event(listen)
        try:
            for _ in range(10):
                policy.try_call(int, "x")
            for _ in range(10**7):
                pass
        except KeyboardInterrupt:
            interrupted = True
        policy.reset()
        print(interrupted, heard, policy.state, resilio.events.listener_errors())
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("True ['closed'] closed 0\n", "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_delivers_though_a_parents_thread_was_in_a_listener() -> None:
    """The child has no other threads: it waits for none of them."""
    policy, entered, release = circuit_breaker("payments"), threading.Event(), threading.Event()
    heard: list[str] = []

    def listen(event: StateChanged) -> None:
        heard.append(event.new)
        if threading.current_thread() is not threading.main_thread():
            entered.set()
            assert release.wait(30)

    stop = policy.on_event(listen)
    thread = threading.Thread(target=policy.force_open)
    thread.start()
    assert entered.wait(30)
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        policy.reset()
        os._exit(0 if heard[-1] == "closed" else 1)
    status = os.waitpid(child, 0)[1]
    release.set()
    thread.join()
    stop()
    assert os.waitstatus_to_exitcode(status) == 0


def test_logging_that_fails_changes_no_call() -> None:
    """A broken handler is counted, and that is all."""

    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise RuntimeError("disk full")

    handler, logger = Broken(), logging.getLogger("resilio")
    logger.addHandler(handler)
    before = log.errors()
    policy = circuit_breaker("payments")
    try:
        with pytest.raises(RuntimeError, match="disk full"):
            logger.warning("the handler is there")
        policy.force_open()
    except RuntimeError:
        pytest.fail("a log handler's exception reached the caller")
    finally:
        logger.removeHandler(handler)
    assert (policy.state, log.errors() - before) == ("forced_open", 1)


def test_a_new_policy_takes_no_lock_of_logging(monkeypatch):
    """It asks for a level only: up to 3.12 a Ctrl-C can leave `getLogger` with the lock that all threads wait for."""
    circuit_breaker()
    asked: list[Any] = []
    with monkeypatch.context() as patched:  # pytest asks for loggers too
        patched.setattr(logging, "getLogger", asked.append)
        circuit_breaker()
    assert asked == []


# ---- many subscriptions ----------------------------------------------------------------------------------------------


def test_one_more_subscription_is_no_work_for_the_others() -> None:
    """Each went over all that there were, for each gate: the four thousandth took 2 ms, and all of them seconds."""
    in_a_process_of_its_own("""
        import weakref
        from resilio._events import subscriptions as _event_subscriptions
        from resilio._events.subscriptions import Subscription
        from resilio.events import Rejected, Settled, subscribe

        class Mask:  # stands for a gate, and counts how often it is asked for other events
            entry = None
            times = -1

            def __init__(self):
                self.listening = 0

            def __setattr__(self, name, value):
                if name == "listening":
                    super().__setattr__("times", self.times + 1)
                super().__setattr__(name, value)

        gates = [Mask() for _ in range(50)]
        for gate in gates:
            _event_subscriptions.attach(gate)
        before = sum(gate.times for gate in gates)
        stops = [subscribe(print, kinds=[Rejected]) for _ in range(40)]
        assert sum(gate.times for gate in gates) - before == 50
        own = [
            _event_subscriptions.add(Subscription(print, (Settled,), weakref.WeakSet(gates[:1]))) for _ in range(40)
        ]
        assert [gate.times - before // 50 for gate in gates[:2]] == [41, 1]
        assert [gate.listening for gate in gates[:2]] == [3, 1]
        for stop in (*stops[1:], *own):
            stop()
        assert {gate.listening for gate in gates} == {1}
        stops[0]()
        stops[0]()
        assert {gate.listening for gate in gates} == {0}
    """)


def test_listeners_are_told_in_the_order_in_which_they_came() -> None:
    """Whichever they listen to: one policy, a keyed policy's key, or all."""
    hosts, heard = keyed(circuit_breaker, key="host"), []
    stops = [
        hosts["a"].on_event(lambda _: heard.append("key")),
        subscribe(lambda _: heard.append("all")),
        hosts.on_event(lambda _: heard.append("hosts")),
        hosts["a"].on_event(lambda _: heard.append("key again")),
        subscribe(lambda _: heard.append("all again")),
    ]
    hosts["a"].force_open()
    assert heard == ["key", "all", "hosts", "key again", "all again"]
    hosts["b"].force_open()
    assert heard[5:] == ["all", "hosts", "all again"]
    for stop in stops:
        stop()
    hosts["a"].reset()
    assert len(heard) == 8


def test_a_key_that_is_listened_to_alone_stays_so_when_others_come_and_go() -> None:
    """A subscription to the whole keyed policy sets what all its keys tell."""
    hosts, heard = keyed(circuit_breaker, key="host"), []
    stop = hosts["a"].on_event(heard.append, kinds=[Settled])
    other = hosts.on_event(print, kinds=[Rejected])
    hosts["a"].call(int)
    other()
    subscribe(print, kinds=[Rejected])()
    hosts["a"].call(int)
    hosts["b"].call(int)
    assert len(heard) == 2
    stop()
