"""The clock: agreement with time.monotonic(), order, fallback, virtual time."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from resilio._native import clock
from resilio._native.primitives import TokenBucket

MILLISECOND = 10**6


@pytest.fixture
def real_time():
    """Undo virtual time, whatever the test did."""
    yield
    clock.clear_virtual()


def assert_agrees() -> None:
    before = time.monotonic_ns()
    now = clock.now_ns()
    after = time.monotonic_ns()
    assert before - MILLISECOND <= now <= after + MILLISECOND


def run(script: str, **env: str) -> str:
    """What a script prints in a Python of its own: what it does to the clock is for good."""
    head = "import os, time\nfrom resilio._native import clock\n"
    tail = "def known():\n    time.sleep(0.011)\n    clock.now_ns()\n    return clock.source()\n"
    result = subprocess.run(
        [sys.executable, "-c", head + tail + script], env=os.environ | env, capture_output=True, text=True, check=False
    )
    return result.stdout + result.stderr


def test_it_agrees_with_time_monotonic_across_anchors():
    """Real time is within a millisecond of time.monotonic(), before and after the counter's anchor moves."""
    for _ in range(6):
        assert_agrees()
        time.sleep(0.06)
    assert clock.source() in {"tsc", "monotonic"}


def test_real_time_never_goes_backwards_in_a_thread():
    """Every reading of a thread is at or after its last one, while two threads read across several anchors."""
    steps_back, moved = [], []

    def read() -> None:
        last = start = clock.now_ns()
        while last - start < 250 * MILLISECOND:
            now = clock.now_ns()
            if now < last:
                steps_back.append((last, now))
            last = now
        moved.append(last - start)

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert steps_back == []
    assert len(moved) == 2


def test_virtual_time_wins_and_ends(real_time):
    """set_virtual() stops the clock at a value, for all threads; clear_virtual() gives real time back."""
    clock.set_virtual(123)
    assert (clock.now_ns(), clock.source()) == (123, "virtual")
    seen = []
    thread = threading.Thread(target=lambda: seen.append(clock.now_ns()))
    thread.start()
    thread.join()
    clock.set_virtual(5)
    assert (seen, clock.now_ns()) == ([123], 5)
    clock.clear_virtual()
    clock.clear_virtual()
    assert clock.source() != "virtual"
    assert_agrees()


def test_native_classes_read_virtual_time(real_time):
    """A structure without a clock argument uses the same clock, through the capsule."""
    clock.set_virtual(10**9)
    bucket = TokenBucket(1.0, 1)
    assert bucket.try_acquire()
    assert not bucket.try_acquire()
    clock.set_virtual(2 * 10**9)
    assert bucket.try_acquire()


@pytest.mark.parametrize(
    ("value", "error"),
    [(1.0, TypeError), (True, TypeError), ("1", TypeError), (-1, ValueError), (2**61 + 1, ValueError)],
)
def test_bad_virtual_times_are_named(real_time, value, error):
    """What is no time in ns is rejected, and time stays as it was."""
    with pytest.raises(error, match=f"ns must be .*not {value!r}"):
        clock.set_virtual(value)
    assert clock.source() != "virtual"


def test_the_environment_chooses_the_source():
    """RESILIO_CLOCK=monotonic is clock_gettime, whatever the processor offers; auto and tsc may be the counter."""
    assert run("print(known())", RESILIO_CLOCK="monotonic") == "monotonic\n"
    assert run("print(known())", RESILIO_CLOCK="tsc") in {"tsc\n", "monotonic\n"}
    assert run("print(known())", RESILIO_CLOCK="") == run("print(known())", RESILIO_CLOCK="auto")
    assert "RESILIO_CLOCK must be auto, tsc or monotonic, not 'sundial'" in run("", RESILIO_CLOCK="sundial")


def kernel_trusts_the_counter() -> bool:
    """Return True if the kernel keeps time by the counter, and the processor reports it as invariant."""
    try:
        source = Path("/sys/devices/system/clocksource/clocksource0/current_clocksource").read_text()
        flags = Path("/proc/cpuinfo").read_text().split("processor", 2)[1].split()
    except (OSError, IndexError):
        return False
    return source.strip() == "tsc" and {"constant_tsc", "nonstop_tsc"} <= set(flags)


@pytest.mark.skipif(not kernel_trusts_the_counter(), reason="the kernel keeps time by another source")
def test_the_counter_is_used_where_the_kernel_trusts_it():
    """A clock that never went over to it passed all tests. A process whose readings are interrupted does without."""
    assert any(run("for _ in range(10): known()\nprint(known())") == "tsc\n" for _ in range(5))


def test_going_over_to_the_counter_is_no_step_back():
    """The clock begins on clock_gettime and goes over to the counter while it is read, without stepping back."""
    script = """
readings = [clock.now_ns()]
while readings[-1] - readings[0] < 30_000_000:
    readings.append(clock.now_ns())
print(readings == sorted(readings))
"""
    assert run(script) == "True\n"


@pytest.mark.parametrize("error_ns", [500_000, -500_000, 0])
def test_a_small_error_is_mended_without_a_step_back(error_ns):
    """A counter that is half a millisecond off is brought back within two anchors, and time never goes backwards."""
    script = f"""
before = known()
clock._inject_error({error_ns})
readings = [clock.now_ns()]
while readings[-1] - readings[0] < 350_000_000:
    readings.append(clock.now_ns())
first, now, last = time.monotonic_ns(), clock.now_ns(), time.monotonic_ns()
print(readings == sorted(readings), before == clock.source(), first - 50_000 <= now <= last + 50_000)
"""
    assert run(script) == "True True True\n"


@pytest.mark.parametrize("error_ns", [5 * MILLISECOND, -5 * MILLISECOND])
def test_an_error_above_a_millisecond_switches_the_counter_off_for_good(error_ns):
    """A counter that disagrees is not used again; time goes on with clock_gettime and never goes backwards."""
    script = f"""
known()
clock._inject_error({error_ns})
readings = [clock.now_ns()]
while readings[-1] - readings[0] < 150_000_000:
    readings.append(clock.now_ns())
first, now, last = time.monotonic_ns(), clock.now_ns(), time.monotonic_ns()
print(readings == sorted(readings), clock.source(), first <= now <= last)
"""
    assert run(script) == "True monotonic True\n"


@pytest.mark.real(1.0)
@pytest.mark.parametrize("error_ns", [1_300_000, -1_300_000])
def test_a_clock_that_rested_may_be_further_off(error_ns):
    """
    After a second without a reading, 2 ms are the kernel's slewing (0.1 % of the time since): the counter stays in use.

    A process that is asked once a second would lose the counter otherwise.
    """
    script = f"""
before = known()
clock._inject_error({error_ns})
time.sleep(1.0)
clock.now_ns()
print(before == clock.source())
"""
    assert run(script) == "True\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_has_a_clock():
    """The child of a fork reads the same clock."""
    script = """
known()
before = clock.now_ns()
child = os.fork()
if child == 0:
    os._exit(0 if before <= clock.now_ns() < before + 10_000_000_000 else 1)
print(os.waitpid(child, 0)[1])
"""
    assert run(script) == "0\n"
