"""LatencyHistogram against the sorted list of all samples."""

from __future__ import annotations

import copy
import math
import pickle
import random
import sys
from binascii import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from oracles.histogram import LONGEST_NS, ExactHistogram
from resilio._native.primitives import LatencyHistogram

QUANTILES = ("0", "0.01", "0.07", "0.5", "0.9", "0.95", "0.99", "0.999", "0.9999", "1")
nanoseconds = st.one_of(
    st.integers(0, 2000),
    st.integers(0, 2**45),
    st.integers(6, 44).map(lambda bits: 2**bits),
    st.integers(6, 44).map(lambda bits: 2**bits - 1),
)


def ns_of(seconds: float) -> int:
    return round(seconds * 1e9)


def made_of(samples: list[int]) -> LatencyHistogram:
    histogram = LatencyHistogram()
    for ns in samples:
        histogram.record_ns(ns)
    return histogram


def assert_close(got_ns: int, exact_ns: int) -> None:
    assert abs(got_ns - exact_ns) <= exact_ns * 0.008, (got_ns, exact_ns)


def sealed(body: bytes) -> bytes:
    return body + crc32(body).to_bytes(4, "little")


def varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def body_of(*numbers: int, version: int = 1) -> bytes:
    return b"RH" + bytes([version]) + b"".join(varint(number) for number in numbers)


class HistogramMachine(RuleBasedStateMachine):
    """Several histograms that record, merge, travel as bytes and are reset, each beside its oracle."""

    histograms: Bundle[tuple[LatencyHistogram, ExactHistogram]] = Bundle("histograms")

    def __init__(self) -> None:
        super().__init__()
        self.pairs: list[tuple[LatencyHistogram, ExactHistogram]] = []

    @rule(target=histograms, samples=st.lists(nanoseconds, max_size=40))
    def make(self, samples):
        pair = made_of(samples), ExactHistogram()
        for ns in samples:
            pair[1].record_ns(ns)
        self.pairs.append(pair)
        return pair

    @rule(pair=histograms, ns=nanoseconds, n=st.integers(1, 5))
    def record(self, pair, ns, n):
        for _ in range(n):
            pair[0].record_ns(ns)
            pair[1].record_ns(ns)

    @rule(into=histograms, other=histograms)
    def merge(self, into, other):
        if len(into[1].samples) + len(other[1].samples) > 2000:
            return
        into[0].merge(other[0])
        into[1].merge(other[1])

    @rule(target=histograms, pair=histograms, how=st.sampled_from([pickle.dumps, None]))
    def clone(self, pair, how):
        clone = pickle.loads(how(pair[0])) if how else pair[0].copy()
        exact = ExactHistogram()
        exact.merge(pair[1])
        self.pairs.append((clone, exact))
        return self.pairs[-1]

    @rule(pair=histograms)
    def reset(self, pair):
        pair[0].reset()
        pair[1].samples.clear()

    @rule(pair=histograms, ns=nanoseconds)
    def count_at_or_below(self, pair, ns):
        (count,) = pair[0].buckets([ns / 1e9])
        assert pair[1].at_or_below(ns * (1 - 0.008)) <= count <= pair[1].at_or_below(ns * (1 + 0.008))

    @invariant()
    def agrees_with_the_oracle(self):
        for histogram, exact in self.pairs:
            assert histogram.count == len(exact.samples)
            assert histogram.lost == 0
            assert math.isclose(histogram.sum, sum(exact.samples) / 1e9, rel_tol=1e-15)
            if exact.samples:
                assert (ns_of(histogram.min), ns_of(histogram.max)) == (exact.samples[0], exact.samples[-1])
                for q in QUANTILES:
                    assert_close(ns_of(histogram.quantile(float(q))), exact.quantile_ns(q))


HistogramMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)
test_histogram_agrees_with_the_sorted_list = HistogramMachine.TestCase


@pytest.mark.parametrize("scale", [300.0, 1e4, 1e6, 1e8, 1e10])
def test_quantiles_from_p50_to_p9999_are_within_0_8_percent(scale):
    """The error is at most 0.8 % at every scale, from nanoseconds to seconds."""
    rng = random.Random(scale)
    samples = [int(rng.lognormvariate(0, 1.2) * scale) for _ in range(20_000)]
    histogram, exact = made_of(samples), ExactHistogram()
    exact.samples = sorted(samples)
    for q in QUANTILES:
        assert_close(ns_of(histogram.quantile(float(q))), exact.quantile_ns(q))


def test_quantiles_of_few_samples_have_the_exact_rank():
    """The q-quantile of n samples is the one of rank ceil(q * n), also where q * n is rounded up as a float."""
    for n in range(1, 61):
        histogram = made_of(list(range(n)))
        for percent in range(1, 100):
            assert ns_of(histogram.quantile(percent / 100)) == -(-percent * n // 100) - 1


def test_an_empty_histogram_says_so():
    """Without samples the count and the sum are 0, and everything else is NaN."""
    histogram = LatencyHistogram()
    assert (histogram.count, histogram.sum, histogram.lost) == (0, 0.0, 0)
    assert all(math.isnan(x) for x in (histogram.mean, histogram.min, histogram.max, histogram.quantile(0.5)))
    assert histogram.buckets([0.1, math.inf]) == [0, 0]
    assert LatencyHistogram.from_bytes(histogram.to_bytes()).count == 0


def test_seconds_are_rounded_to_a_nanosecond_and_clamped_to_the_range():
    """record() takes seconds as int or float; what is longer than 4.9 hours counts as that."""
    histogram = LatencyHistogram()
    histogram.record(1.4e-9)
    histogram.record(1)
    histogram.record(1e9)
    histogram.record_ns(2**63 - 1)
    assert (ns_of(histogram.min), ns_of(histogram.max), histogram.count) == (1, LONGEST_NS, 4)
    assert histogram.sum == (1 + 10**9 + 2 * LONGEST_NS) / 1e9
    assert histogram.mean == histogram.sum / 4


def test_prometheus_buckets_are_cumulative_and_take_infinity():
    """A bound includes what was recorded as exactly that bound, and infinity includes everything."""
    histogram = LatencyHistogram()
    for seconds in (0.001, 0.005, 0.005, 0.2, 7.0):
        histogram.record(seconds)
    assert histogram.buckets([0.0005, 0.0012, 0.0051, 0.3, 7.0, math.inf]) == [0, 1, 3, 4, 5, 5]


def test_memory_grows_by_octaves_and_stays_below_12_kb():
    """A service with latencies of 1 to 100 ms needs about 2.5 KB; one that hits every octave at most 12 KB."""
    empty = sys.getsizeof(LatencyHistogram())
    service = made_of([int(1e6 * 1.01**i) for i in range(463)])
    every_octave = made_of([1 << bits for bits in range(45)])
    assert empty < 450
    assert sys.getsizeof(service) < 2700
    assert sys.getsizeof(every_octave) <= 12 * 1024 - 39 * 16  # what malloc adds to 39 pages
    every_octave.reset()
    assert sys.getsizeof(every_octave) == empty


def test_cells_count_beyond_32_bits():
    """Counts never wrap: a cell that outgrows 32 bits goes on exactly, by recording, by merging and as bytes."""
    histogram = LatencyHistogram.from_bytes(sealed(body_of(0, 5 * (2**32 - 1), 0, 5, 5, 5, 2**32 - 1)))
    histogram.record_ns(5)
    histogram.record_ns(50)
    assert histogram.count == 2**32 + 1
    assert histogram.buckets([5e-9, 1.0]) == [2**32, 2**32 + 1]
    for _ in range(8):
        histogram.merge(histogram)
    histogram = LatencyHistogram.from_bytes(histogram.to_bytes())
    assert histogram.buckets([5e-9, 1.0]) == [2**40, 2**40 + 2**8]
    assert ns_of(histogram.quantile(0.9)) == 5


def test_the_sum_needs_more_than_64_bits_and_has_them():
    """The sum of many long latencies is exact beyond 2**64 ns."""
    histogram = made_of([LONGEST_NS])
    for _ in range(40):
        histogram.merge(histogram)
    assert histogram.sum == LONGEST_NS * 2**40 / 1e9
    assert LatencyHistogram.from_bytes(histogram.to_bytes()).sum == histogram.sum


def test_more_than_2_to_the_63_samples_are_rejected_not_wrapped():
    """A merge beyond the range of counts changes nothing; a record beyond it is counted as lost."""
    histogram = LatencyHistogram.from_bytes(sealed(body_of(0, 0, 0, 0, 0, 0, 2**63 - 1)))
    before = histogram.to_bytes()
    with pytest.raises(OverflowError, match="2\\*\\*63"):
        histogram.merge(histogram)
    assert histogram.to_bytes() == before
    histogram.record_ns(0)
    assert (histogram.count, histogram.lost) == (2**63 - 1, 1)
    sink = made_of([0])
    with pytest.raises(OverflowError):
        sink.merge(histogram)
    assert (sink.count, sink.lost) == (1, 0)
    assert histogram.copy().lost == LatencyHistogram.from_bytes(histogram.to_bytes()).lost == 1


def test_a_copy_is_independent_and_so_is_a_pickle():
    """copy(), the copy module and pickle give the same contents, and no shared state."""
    histogram = made_of([1, 10**6, 10**9])
    for clone in (
        histogram.copy(),
        copy.copy(histogram),
        copy.deepcopy(histogram),
        pickle.loads(pickle.dumps(histogram)),
    ):
        assert clone.to_bytes() == histogram.to_bytes()
        clone.record(1.0)
        assert histogram.count == 3


@given(st.lists(nanoseconds, max_size=30), st.data())
def test_altered_bytes_are_rejected(samples, data):
    """One changed, missing or additional byte is a ValueError, and the original still reads."""
    whole = made_of(samples).to_bytes()
    assert LatencyHistogram.from_bytes(bytearray(whole)).to_bytes() == whole
    at = data.draw(st.integers(0, len(whole) - 1))
    changed = bytes([*whole[:at], whole[at] ^ data.draw(st.integers(1, 255)), *whole[at + 1 :]])
    for wrong in (changed, whole[:at], whole + b"\0"):
        with pytest.raises(ValueError, match="data must be bytes that LatencyHistogram"):
            LatencyHistogram.from_bytes(wrong)


def test_a_cell_after_the_last_one_is_rejected():
    """Nothing may follow the cell of the longest duration: it would be written behind the histogram."""
    body = made_of([2**63 - 1]).to_bytes()[:-4]
    for more in (b"\x00\x01", b"\xff\x7f\x01"):
        with pytest.raises(ValueError, match="data must be bytes that LatencyHistogram"):
            LatencyHistogram.from_bytes(sealed(body + more))


@given(st.lists(nanoseconds, max_size=10), st.data())
def test_forged_bytes_are_rejected_or_are_what_they_say(samples, data):
    """Bytes with a right checksum around wrong contents are rejected, or are consistent and read back the same."""
    body = bytearray(made_of(samples).to_bytes()[:-4])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(body)))
        body[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
    try:
        histogram = LatencyHistogram.from_bytes(sealed(bytes(body)))
    except ValueError:
        return
    assert histogram.to_bytes() == sealed(bytes(body))
    assert histogram.count == 0 or histogram.min <= histogram.quantile(0.5) <= histogram.max


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (b"", "not a histogram"),
        (b"XX\x01\0\0\0\0\0", "not a histogram"),
        (body_of(0, 0, 0, 0, 0, version=2), "unknown version"),
        (body_of(0, 0, 0, 0), "cut off"),
        (b"RH\x01\x80\x00" + b"\0" * 4, "malformed"),
        (body_of(0, 0, 0, 0, 0) + b"\xff" * 9 + b"\x7f\x01", "malformed"),
        (body_of(0, 5, 0, 5, 5, 5), "cut off"),
        (body_of(0, 5, 0, 5, 5, 5, 0), "out of range"),
        (body_of(0, 5, 0, 5, 5, 39 * 64, 1), "out of range"),
        (body_of(0, 5, 0, 5, 5, 2**64 - 1, 1), "out of range"),
        (body_of(0, 0, 0, 0, 0, 0, 2**63), "out of range"),
        (body_of(0, 0, 0, 0, 1, 0, 2**63 - 1, 0, 1), "out of range"),
        (body_of(0, 5, 0, 4, 5, 5, 1), "do not fit"),
        (body_of(0, 5, 0, 5, 6, 5, 1), "do not fit"),
        (body_of(0, 6, 0, 5, 5, 5, 1), "do not fit"),
        (body_of(0, 5, 1, 5, 5, 5, 1), "do not fit"),
        (body_of(0, 1, 0, 0, 0), "do not fit"),
        (body_of(0, 0, 0, 0, 1), "do not fit"),
        (body_of(0, 2**45, 0, 2**45, 2**45, 39 * 64 - 1, 1), "do not fit"),
        (body_of(0, 257, 0, 257, 256, 2 * 64 + 64, 1), "do not fit"),
    ],
)
def test_each_kind_of_inconsistent_bytes_is_named(body, what):
    """The error says what is wrong with bytes whose checksum is right."""
    with pytest.raises(ValueError, match=what):
        LatencyHistogram.from_bytes(sealed(body))


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda h: h.record(-1.0), ValueError, "seconds must be .*not -1.0"),
        (lambda h: h.record(math.nan), ValueError, "seconds must be .*not nan"),
        (lambda h: h.record(math.inf), ValueError, "seconds must be .*not inf"),
        (lambda h: h.record(True), TypeError, "seconds must be .*not True"),
        (lambda h: h.record("1"), TypeError, "seconds must be .*not '1'"),
        (lambda h: h.record_ns(-1), ValueError, "ns must be .*not -1"),
        (lambda h: h.record_ns(2**63), ValueError, f"ns must be .*not {2**63}"),
        (lambda h: h.record_ns(1.0), TypeError, "ns must be .*not 1.0"),
        (lambda h: h.record_ns(True), TypeError, "ns must be .*not True"),
        (lambda h: h.quantile(1.01), ValueError, "q must be .*not 1.01"),
        (lambda h: h.quantile(-0.01), ValueError, "q must be .*not -0.01"),
        (lambda h: h.quantile(math.nan), ValueError, "q must be .*not nan"),
        (lambda h: h.quantile(True), TypeError, "q must be .*not True"),
        (lambda h: h.quantiles([0.5, "x"]), TypeError, "q must be .*not 'x'"),
        (lambda h: h.buckets([math.nan]), ValueError, "bounds must be .*not nan"),
        (lambda h: h.buckets([-1]), ValueError, "bounds must be .*not -1"),
        (lambda h: h.merge(None), TypeError, "other must be a LatencyHistogram, not None"),
        (lambda h: h.from_bytes("RH"), TypeError, "data must be bytes .*not 'RH'"),
    ],
)
def test_bad_arguments_name_parameter_and_value(call, error, words):
    """Wrong types, NaN, infinity, bool and values out of range are rejected, and nothing is recorded."""
    histogram = LatencyHistogram()
    with pytest.raises(error, match=words):
        call(histogram)
    assert histogram.count == 0


def test_records_of_threads_are_all_counted(race):
    """Concurrent records lose nothing; the threads are seen to have interleaved."""
    histogram = LatencyHistogram()

    def step() -> bool:
        before = histogram.count
        histogram.record_ns(before * 1000)
        return histogram.count != before + 1

    steps = race(step)
    assert histogram.count == steps
    assert histogram.buckets([math.inf, 1e9]) == [steps, steps]


def test_merges_copies_and_bytes_of_a_changing_histogram_are_consistent(race):
    """What is taken from a histogram while others merge into it is a state that it had: 2, 4, 6... samples."""
    histogram, source = LatencyHistogram(), made_of([5, 10**6])

    def step() -> bool:
        before = histogram.count
        histogram.merge(source)
        clone = LatencyHistogram.from_bytes(histogram.to_bytes())
        assert clone.buckets([1e-5, math.inf]) == [clone.count // 2, clone.count]
        return clone.count != before + 2

    assert race(step) * 2 == histogram.count


def test_repr_shows_the_figures():
    """repr names count, median, p99 and maximum."""
    assert repr(made_of([10**9])) == "<LatencyHistogram count=1 p50=1 p99=1 max=1>"


@settings(max_examples=100)
@given(st.lists(nanoseconds, max_size=60), st.lists(nanoseconds, max_size=60))
def test_the_difference_is_what_was_counted_since(before: list[int], after: list[int]) -> None:
    """A histogram since an earlier copy of it has the later samples alone: each quantile within 0.8 % of theirs."""
    histogram = made_of(before)
    earlier = histogram.copy()
    for ns in after:
        histogram.record_ns(ns)
    since, exact = histogram.since(earlier), sorted(min(ns, LONGEST_NS) for ns in after)
    assert (since.count, since.lost) == (len(after), 0)
    assert since.sum == pytest.approx(sum(exact) / 1e9, rel=1e-9, abs=1e-9)
    for q in (0.0, 0.25, 0.5, 0.75, 1.0) if after else ():
        assert_close(ns_of(since.quantile(q)), exact[max(0, math.ceil(q * len(exact)) - 1)])
    assert histogram.since(histogram).count == 0


def test_there_is_no_difference_to_what_is_not_earlier() -> None:
    """A histogram of other samples, or from before a reset, is rejected; so is what is none."""
    histogram = made_of([100, 10_000])
    for earlier in (made_of([100, 100]), made_of([2**40])):
        with pytest.raises(ValueError, match="earlier must be an earlier copy of this histogram"):
            histogram.since(earlier)
    with pytest.raises(TypeError, match="earlier must be a LatencyHistogram"):
        histogram.since(3)


def test_the_difference_of_many_samples_is_exact() -> None:
    """Counts beyond 32 bits, which a cell keeps in two halves."""
    histogram = made_of([1000])
    for _ in range(34):
        histogram.merge(histogram)
    earlier = histogram.copy()
    histogram.merge(histogram)
    assert histogram.since(earlier).count == earlier.count == 2**34
