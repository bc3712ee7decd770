"""Spans of calls (span.h), against the oracle of the breaker: they count what a list of the calls would."""

from __future__ import annotations

import ctypes
import random
import subprocess
from pathlib import Path
from typing import Any

import pytest
from thread_sanitizer import COMPILER, INCLUDES, SOURCES

from oracles.breaker import Span

SOURCE = """
#include "span.h"
static rs_span span;
void begin(unsigned number) { rs_span_begin(&span, number, 0); }
void add(unsigned number, int failed) { rs_span_add(&span, number, failed); }
void pass(unsigned number) { rs_span_pass(&span, number); }
unsigned long calls(void) { return rs_span_calls(&span); }
long pending(long inflight) { return rs_span_pending(&span, inflight); }
unsigned failed(void) { return span.failed; }
"""

pytestmark = [
    pytest.mark.skipif(COMPILER is None, reason="NOT TESTED: spans by themselves, for want of a C compiler"),
    pytest.mark.skipif(not SOURCES.exists(), reason="NOT TESTED: spans by themselves, whose source is not here"),
]


@pytest.fixture(scope="module")
def span(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The functions of the header; they have one span."""
    folder: Path = tmp_path_factory.mktemp("span")
    (folder / "span.c").write_text(SOURCE)
    command = [str(COMPILER), "-std=gnu11", "-shared", "-fPIC", *INCLUDES, "span.c", "-o", "span.so"]
    subprocess.run(command, cwd=folder, check=True)
    return ctypes.CDLL(str(folder / "span.so"))


@pytest.mark.parametrize("seed", range(200))
def test_a_span_counts_what_a_list_of_its_calls_counts(span: Any, seed: int) -> None:
    """Calls end in any order, with a failure, a success or no evidence; their numbers wrap in between."""
    draw = random.Random(seed)
    first, offset = draw.randrange(20), 2**32 - 10
    span.begin(first + offset)
    listed = Span(first, 0)
    numbers = [first, *draw.sample([n for n in range(60) if n != first], 50)]
    for i, number in enumerate(numbers):
        how = "failed" if i == 0 else draw.choice(["failed", "answered", "passed"])
        if how == "passed":
            span.__getattr__("pass")(number + offset)
            listed.pass_over(number)
        else:
            span.add(number + offset, how == "failed")
            listed.add(number, failed=how == "failed")
        assert (span.calls(), span.failed()) == (listed.calls, listed.failed)
        assert [span.pending(n) for n in (0, 5, 100)] == [max(0, listed.pending(n)) for n in (0, 5, 100)]
