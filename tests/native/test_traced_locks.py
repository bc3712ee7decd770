"""In a build for coverage the sections of the native core exclude each other, although Python runs at each line."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest

from resilio import Endpoint, pool
from resilio._native import core

pytestmark = pytest.mark.skipif(not core._build_facts()["traced"], reason="only a build for coverage traces Cython")
ROOT = Path(__file__).parents[2]


class Held:
    """A thread that makes one call, and that a trace function holds where it is about to take the chosen endpoint."""

    def __init__(self, p: pool, meanwhile: threading.Thread) -> None:
        self.p, self.meanwhile = p, meanwhile
        self.ended_meanwhile: list[bool] = []
        self.went_to: list[str] = []

    def call(self) -> None:
        sys.settrace(self.trace)
        try:
            self.went_to.append(self.p.call(lambda endpoint: endpoint.name))
        finally:
            sys.settrace(None)

    def trace(self, frame, event, arg):
        code = frame.f_code
        if code.co_name != "choose" or not code.co_filename.endswith("pool_stage.pxi"):
            return self.trace
        line = (ROOT / code.co_filename).read_text().splitlines()[frame.f_lineno - 1]
        if event == "line" and line.strip() == "gate = seat.gate" and not self.ended_meanwhile:
            self.meanwhile.start()
            self.meanwhile.join(0.5)
            self.ended_meanwhile.append(not self.meanwhile.is_alive())
        return self.trace


def test_an_endpoint_is_not_removed_between_its_choice_and_its_call():
    """
    Coverage's trace function gave the GIL up between the choice of an endpoint and the reference to it.

    Another thread removed the endpoint, and the call went on with freed memory: a segmentation fault. Ordinary builds
    run no Python there.
    """
    p = pool(None, Endpoint("first"), Endpoint("second"), balance="order")
    held = Held(p, threading.Thread(target=p.remove, args=("first",)))
    caller = threading.Thread(target=held.call)
    caller.start()
    caller.join()
    held.meanwhile.join()
    assert held.ended_meanwhile == [False]  # it raced, and waited
    assert held.went_to == ["first"]
    assert [endpoint.name for endpoint in p.endpoints] == ["second"]
