"""One reading for all viewers: who gets what, who is dropped, and that nothing runs when nobody looks."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from resilio import circuit_breaker
from resilio._backends import park_sync
from resilio.live import live
from resilio.live._feed import events_in
from resilio.live._hub import Hub, Viewer, encode_rows
from resilio.live._sampler import SLICE, Tick
from resilio.testing import VirtualTime

PAUSE = 0.02


class Numbers:
    """A source with a number that grows at every reading."""

    def __init__(self) -> None:
        self.value = 0
        self.rests = 0
        self.problem: Exception | None = None
        self.still = False

    def read(self) -> Tick:
        if self.problem is not None:
            raise self.problem
        if not self.still:
            self.value += 1
        return Tick([] if self.still else [{"id": 1, "value": self.value}], [], [])

    def snapshot(self) -> dict[str, Any]:
        return {"value": self.value}

    def rest(self) -> None:
        self.rests += 1


@pytest.fixture
def source() -> Numbers:
    return Numbers()


@pytest.fixture
def hub(source: Numbers) -> Iterator[Hub]:
    made = Hub(source, PAUSE, "boot", colour="green")
    yield made
    until(lambda: not made.running)


def until(met: Callable[[], object]) -> None:
    """Wait for something that another thread does; a hang is ended by the run's own limit."""
    while not met():
        time.sleep(0.002)


def frames(viewer: Viewer, least: int = 1) -> list[tuple[str, Any]]:
    """The next events of a viewer, at least so many."""
    found: list[tuple[str, Any]] = []
    while len(found) < least:
        park_sync(viewer, None)
        found += events_in(b"".join(viewer.take()).splitlines(keepends=True))
    return found


def test_a_viewer_gets_everything_first_and_then_each_reading(hub: Hub) -> None:
    """A snapshot, then deltas whose numbers follow on it."""
    viewer = hub.join()
    (name, first), *rest = frames(viewer, 3)
    hub.leave(viewer)
    assert (name, first["boot"], first["colour"], first["value"]) == ("snapshot", "boot", "green", first["seq"])
    assert [(name, data["seq"]) for name, data in rest[:2]] == [
        ("delta", first["seq"] + 1),
        ("delta", first["seq"] + 2),
    ]
    assert rest[0][1]["changed"] == [{"id": 1, "value": first["value"] + 1}]


def test_all_viewers_get_the_same_bytes(hub: Hub) -> None:
    """A reading is encoded once, however many look."""
    viewers = [hub.join() for _ in range(10)]
    until(lambda: all(len(viewer._frames) >= 3 for viewer in viewers))
    taken = [viewer.take() for viewer in viewers]
    for viewer in viewers:
        hub.leave(viewer)
    deltas = [{id(data): data for data in each if b"event: delta" in data} for each in taken]
    shared = set.intersection(*(set(each) for each in deltas))
    assert len(shared) >= 1


def test_nobody_looking_ends_the_thread(hub: Hub, source: Numbers) -> None:
    """Once the last viewer has left the source rests; the next one starts it anew."""
    assert not hub.running
    for _ in range(2):
        viewer = hub.join()
        assert hub.running
        frames(viewer)
        before = source.rests
        hub.leave(viewer)
        until(lambda: not hub.running)
        assert source.rests == before + 1
    value = source.value
    time.sleep(3 * PAUSE)
    assert source.value == value


def test_who_is_too_slow_is_dropped_to_a_snapshot(hub: Hub) -> None:
    """The queue of a viewer is bounded: who does not take gets everything later, and nobody else notices."""
    slow, quick = hub.join(), hub.join()
    got: list[tuple[str, Any]] = []
    while not (slow.stalled and len(got) > 12):
        got += frames(quick)
        assert len(slow._frames) <= 4
    assert {name for name, _ in got[1:]} == {"delta"}
    assert slow.take() == []
    caught_up = frames(slow)
    for viewer in (slow, quick):
        hub.leave(viewer)
    assert caught_up[0][0] == "snapshot"
    assert caught_up[0][1]["value"] > 4


def test_who_was_away_for_a_moment_gets_what_was_missed(hub: Hub) -> None:
    """With the id of the last event a viewer goes on without a snapshot; with an old or foreign one it does not."""
    keeper = hub.join()
    frames(keeper, 4)
    seq = hub._seq
    back = hub.join(last=f"boot-{seq - 1}")
    name, data = frames(back)[0]
    assert (name, data["seq"]) == ("delta", seq)
    for strange in ("boot-0", "other-3", "boot-x", "boot-99999999999999999999", "boot-999", "", None):
        viewer = hub.join(last=strange)
        assert frames(viewer)[0][0] == "snapshot"
        hub.leave(viewer)
    for viewer in (keeper, back):
        hub.leave(viewer)


def test_everything_is_encoded_once_between_two_readings(source: Numbers) -> None:
    """However many viewers come at once."""
    hub = Hub(source, 60.0, "boot")
    encoded: list[int] = []
    snapshot = source.snapshot
    source.snapshot = lambda: encoded.append(1) or snapshot()  # type: ignore[method-assign,func-returns-value]
    viewers = [hub.join() for _ in range(20)]
    for viewer in viewers:
        assert frames(viewer)[0][0] == "snapshot"
        hub.leave(viewer)
    assert encoded == [1]
    hub._thread = None  # it need not wait for its next reading to see that nobody is left
    hub._asked.set()


def test_who_asks_once_has_it_read_only_if_nobody_looks(hub: Hub, source: Numbers) -> None:
    """What is read for one answer is missing in no stream."""
    hub.refresh()
    assert source.value == 1
    viewer = hub.join()
    source.still = True
    frames(viewer)
    value = source.value
    source.still = False
    source.read = lambda: Tick([], [], [])  # type: ignore[method-assign]
    hub.refresh()
    assert source.value == value
    hub.leave(viewer)


def test_the_first_frame_of_a_viewer_does_not_average_the_hours_before(vt: VirtualTime) -> None:
    """
    One request had everything read, and three hours later the first viewer came.

    Its first frame had the rates, the quantiles and the time spent of these hours. They begin with the viewer now.
    """
    policy, app = circuit_breaker("payments"), live(interval=60.0)
    app.hub.refresh()
    for _ in range(10):
        policy.try_call(vt.advance, 1080.0)
    viewer = app.hub.join()
    name, first = frames(viewer)[0]
    app.hub.leave(viewer)
    (row,) = first["policies"]
    assert (name, row["calls"], row["calls_s"]) == ("snapshot", 10, 0.0)
    assert (row["p50"], row["p99"], row["time"]) == (None, None, {})


class Connecting(Numbers):
    """A source that needs three readings to be there, as the page of another process does."""

    left = 3

    def rest(self) -> None:
        self.rests, self.left = self.rests + 1, 3

    def read(self) -> Tick:
        self.left -= 1
        if self.left > 0:
            raise ConnectionError("connecting")
        return super().read()


def test_a_source_that_is_not_there_yet_is_left_to_connect() -> None:
    """
    The page of another process waited for ever: each reading that failed dropped the connection that was being made.

    It came by luck all the same, if the thread of a dropped connection still delivered a frame; least so on 3.14.
    """
    source = Connecting()
    source.still = True  # nothing follows the snapshot
    hub = Hub(source, PAUSE, "boot")
    viewer = hub.join()
    found = [name for name, _ in frames(viewer, 3)]
    rests = source.rests
    hub.leave(viewer)
    until(lambda: not hub.running)
    assert (found, rests) == (["trouble", "trouble", "snapshot"], 1)


def test_many_rows_are_encoded_in_slices() -> None:
    """The same JSON as in one piece, but others get the interpreter in between."""
    for many in (0, 1, SLICE, SLICE + 1, 2 * SLICE + 10):
        rows = [{"id": number, "name": "a\u00e9"} for number in range(many)]
        assert json.loads(encode_rows(rows)) == rows


def test_nothing_new_sends_nothing(hub: Hub, source: Numbers) -> None:
    """An idle service costs its viewers no byte."""
    source.still = True
    viewer = hub.join()
    assert frames(viewer)[0][0] == "snapshot"
    time.sleep(4 * PAUSE)
    assert viewer.take() == []
    hub.leave(viewer)


def test_a_source_that_raises_is_told_and_tried_again(
    hub: Hub, source: Numbers, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged once, each viewer is told at every reading, and goes on when it works again."""
    source.problem = RuntimeError("broken")
    viewer = hub.join()
    assert frames(viewer, 3)[:3] == [("trouble", {"error": "RuntimeError"})] * 3
    source.problem = None
    seen = frames(viewer)
    while seen[-1][0] == "trouble":
        seen = frames(viewer)
    hub.leave(viewer)
    assert "snapshot" in {name for name, _ in seen}
    assert len([record for record in caplog.records if record.levelno == logging.ERROR]) == 1


def test_a_handler_that_raises_does_not_end_the_page(hub: Hub, source: Any) -> None:
    """What cannot be logged is told to the viewers all the same, by the thread that goes on."""

    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise OSError("disk full")

    log, handler = logging.getLogger("resilio"), Broken()
    log.addHandler(handler)
    try:
        source.problem = RuntimeError("broken")
        viewer = hub.join()
        assert frames(viewer, 3)[:3] == [("trouble", {"error": "RuntimeError"})] * 3
        assert hub.running
    finally:
        log.removeHandler(handler)
        hub.leave(viewer)


def test_a_viewer_that_is_given_something_while_it_binds_does_not_sleep() -> None:
    """No wake-up is lost between looking and waiting."""
    viewer = Viewer()
    calls: list[int] = []
    assert viewer.bind(lambda: calls.append(1)) is False
    viewer.offer(b"x")
    assert calls == [1]
    assert viewer.bind(lambda: calls.append(2)) is True
    viewer.unbind()
    viewer.offer(b"y")
    assert calls == [1]


def test_a_forked_child_has_viewers_of_its_own(hub: Hub, in_child: Callable[[Callable[[], Any]], Any]) -> None:
    """The thread is not in the child, and its lock may have been held: there it begins anew."""
    viewer = hub.join()
    frames(viewer)

    def child() -> list[str]:
        assert not hub.running
        assert len(hub) == 0
        return [name for name, _ in frames(hub.join(), 2)]

    assert in_child(child)[0] == "snapshot"
    hub.leave(viewer)


def test_a_forked_child_waits_for_no_lock_of_the_thread_that_stayed_behind(
    hub: Hub, in_child: Callable[[Callable[[], Any]], Any]
) -> None:
    """The thread was just looking whether it was asked for something: the first viewer in the child hung."""
    with hub._asked._cond:
        assert in_child(lambda: hub.running) is False
        assert in_child(lambda: frames(hub.join())[0][0]) == "snapshot"


@pytest.mark.parametrize("trouble", ["viewer never reads", "sampler raises", "everybody leaves"])
def test_no_trouble_of_the_page_touches_a_call(trouble: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that never reads, a reading that raises, viewers that vanish: calls go on as without a page."""
    policy, app = circuit_breaker("payments"), live(interval=0.1)
    viewer = app.hub.join()
    if trouble == "sampler raises":
        monkeypatch.setattr(app.hub.source, "read", lambda: 1 / 0)
    if trouble == "everybody leaves":
        app.hub.leave(viewer)
    for _ in range(2000):
        assert policy.call(int) == 0
    app.hub.leave(viewer)
    assert policy.snapshot().successes == 2000
    until(lambda: not app.hub.running)


@pytest.mark.real(1.0)
def test_the_page_shows_what_the_policies_counted_while_threads_call_them() -> None:
    """The last reading after all calls is exact: nothing was lost on the way."""
    policy, app = circuit_breaker("payments"), live(interval=0.1)
    viewer = app.hub.join()
    threads = [threading.Thread(target=lambda: [policy.call(int) for _ in range(3000)]) for _ in range(3)]
    for thread in threads:
        thread.start()
    seen: dict[str, Any] = {}
    while seen.get("calls") != 9000:
        for name, data in frames(viewer):
            for news in data["policies"] if name == "snapshot" else data["changed"]:
                seen |= news
    for thread in threads:
        thread.join()
    app.hub.leave(viewer)
    assert (seen["successes"], seen["name"]) == (9000, "payments")
    assert json.dumps(seen, allow_nan=False)
    until(lambda: not app.hub.running)
