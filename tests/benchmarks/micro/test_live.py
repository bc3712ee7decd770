"""The benchmark of the live page."""

from __future__ import annotations

import importlib.util
import threading

import pytest

from benchmarks.micro import _live
from benchmarks.micro._targets import TARGETS
from resilio.live import live
from resilio.live._serve import listen, serving


def test_the_table_has_ten_viewers_one_and_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """The figure that has a target stands first; with nobody looking nothing is read."""
    pytest.importorskip("uvicorn", reason="uvicorn is not installed")
    monkeypatch.setattr(_live, "POLICIES", 20)
    monkeypatch.setattr(_live, "SETTLE", 0.1)
    table = _live.live_table(0.2)
    many, one, nobody = table.rows
    assert (many.unit, many.target, one.target) == ("%", "live_page", None)
    assert many.value > 0
    assert 0 <= nobody.value < 100
    assert TARGETS["live_page"].must == 2.0


@pytest.mark.parametrize(
    ("lacks", "reason"), [("uvicorn", "uvicorn is not installed"), ("clock", "tells no processor time of a thread")]
)
def test_what_is_missing_is_said(lacks: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a server or a clock of threads there is no figure, and no error."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if lacks == "uvicorn" else object())
    monkeypatch.delattr("time.pthread_getcpuclockid", raising=False)
    (skip,) = _live.live_table(1.0).skips
    assert reason in skip.reason


def test_viewers_read_until_the_streams_end() -> None:
    """What they are sent is thrown away; when the page stops they do."""
    pytest.importorskip("uvicorn", reason="uvicorn is not installed")
    page = live(interval=0.1)
    with serving(page, listen("127.0.0.1", 0)) as port:
        viewers = threading.Thread(target=_live.look, args=(port, 3))
        viewers.start()
        _live._wait_for(lambda: len(page.hub) == 3)
    viewers.join()


def test_viewers_that_do_not_come_end_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """A benchmark does not hang."""
    times = iter([0.0, 1.0, 30.0])
    monkeypatch.setattr(_live.time, "monotonic", lambda: next(times))
    monkeypatch.setattr(_live.time, "sleep", lambda seconds: None)
    with pytest.raises(RuntimeError, match="did not come"):
        _live._wait_for(lambda: False)
