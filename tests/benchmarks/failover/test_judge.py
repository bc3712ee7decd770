"""The judge: what it calls pass, partial, safe and fail, and that it judges the bare SDK as the source does."""

from __future__ import annotations

import attrs
import pytest

from benchmarks.failover import _judge as conduct
from benchmarks.failover._card import Card, cell_of, header, reasons, rows
from benchmarks.failover._catalogue import SCENARIOS
from benchmarks.failover._evidence import FALLBACK, PRIMARY, Answer, Call, Evidence
from benchmarks.failover._faults import HEALTHY, Reply
from benchmarks.failover._judge import advisory, judge
from benchmarks.failover._play import play
from benchmarks.failover._provider import Request
from benchmarks.failover._wire import ANSWER

WHOLE = Answer(ANSWER, FALLBACK, 60)
SERVED = Call(0.0, 1.0, WHOLE)
PART = Call(0.0, 1.0, Answer(ANSWER[:100], PRIMARY, None))
BROKEN = Call(0.0, 1.0, error="APIError: no")
HUNG = Call(0.0, 20.0)


def found(*calls, requests=(), has_fallback=True):
    return Evidence(calls, requests, SERVED, has_fallback)


def at(second, endpoint=PRIMARY, size=10, reply=HEALTHY):
    return Request(second, endpoint, endpoint, size, reply)


def test_the_four_verdicts():
    """A whole answer passes, a clean error is safe, a part for the whole and no end at all fail."""
    outcomes = {call: judge(found(call), (), "answer").outcome for call in (SERVED, BROKEN, PART, HUNG)}
    assert list(outcomes.values()) == ["pass", "safe", "fail", "fail"]
    assert judge(found(BROKEN), (), "error").outcome == "pass"
    assert judge(found(SERVED), (), "error").outcome == "partial"


def test_a_required_rule_fails_and_an_advisory_one_does_not():
    """The same rule, broken by the same answer."""
    rule, many = conduct.at_most(1), [at(0.0), at(1.0)]
    assert judge(found(SERVED, requests=many), [rule], "answer").outcome == "fail"
    assert judge(found(SERVED, requests=many), [advisory(rule)], "answer").outcome == "partial"
    assert judge(found(BROKEN, requests=many), [advisory(rule)], "answer").outcome == "safe"
    assert judge(found(SERVED, requests=many[:1]), [rule], "answer").outcome == "pass"


@pytest.mark.parametrize(
    ("rule", "kept", "broken"),
    [
        (conduct.at_least(2), [at(0), at(1)], [at(0), at(1, FALLBACK)]),
        (conduct.at_most(2, in_first=1.5), [at(0), at(1), at(1.5)], [at(0), at(1), at(1.4)]),
        (conduct.exactly(1), [at(0)], [at(0), at(1)]),
        (conduct.gap_of(1.8), [at(3), at(5)], [at(3), at(4)]),
        (conduct.gap_of(1.8), [at(3), at(5)], [at(3)]),
        (conduct.no_blind_retry(), [at(0, size=9), at(1, size=8)], [at(0), at(1)]),
        (conduct.no_blind_retry(), [at(0)], [at(0, size=9), at(1, size=8), at(2, size=7)]),
        (conduct.back_within(30, down=60), [at(0, reply=Reply(503)), at(90)], [at(91)]),
        (conduct.back_within(30, down=60), [at(60)], [at(70, FALLBACK)]),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_rules_about_requests(rule, kept, broken):
    """Each rule, kept and broken by the provider's log alone."""
    assert rule.holds(found(SERVED, requests=kept))[0]
    assert not rule.holds(found(SERVED, requests=broken))[0]


def test_rules_about_the_answer():
    """The model's name, the usage, the time, what a fallback's error hides, and the call afterwards."""
    used, rejected = [at(1, FALLBACK)], [at(1, FALLBACK, reply=Reply(400, "invalid_prefill"))]
    wrong = attrs.evolve(SERVED, answer=Answer(ANSWER, PRIMARY, None))
    assert conduct.names_the_fallback().holds(found(SERVED, requests=used))[0]
    assert not conduct.names_the_fallback().holds(found(wrong, requests=used))[0]
    assert conduct.names_the_fallback().holds(found(wrong))[0]
    assert conduct.usage_known().holds(found(SERVED))[0]
    assert not conduct.usage_known().holds(found(wrong))[0]
    assert conduct.within(20).holds(found(HUNG))[0]
    assert not conduct.within(19).holds(found(HUNG))[0]
    assert not conduct.no_masking().holds(found(BROKEN, requests=rejected))[0]
    assert conduct.no_masking().holds(found(SERVED, requests=rejected))[0]
    assert conduct.no_masking().holds(found(BROKEN, requests=used))[0]
    assert not conduct.alive_after().holds(attrs.evolve(found(SERVED), alive=BROKEN))[0]
    assert conduct.served_while_down(60).holds(found(SERVED, attrs.evolve(BROKEN, at=60.0)))[0]
    assert not conduct.served_while_down(60).holds(found(SERVED, BROKEN))[0]


def test_rules_about_a_fallback_say_nothing_of_a_system_without_one():
    """A client that knows one endpoint is judged by what it promises."""
    rule = [conduct.served_while_down(60)]
    assert judge(found(BROKEN, has_fallback=False), rule, "answer").outcome == "safe"
    assert judge(found(BROKEN), rule, "answer").outcome == "fail"


@pytest.mark.once
@pytest.mark.anyio
@pytest.mark.usefixtures("warm_sdks")
@pytest.mark.filterwarnings("ignore:Async generator '(openai|httpx2?|httpcore2?)[.]:ResourceWarning")
async def test_the_bare_sdk_gets_the_verdicts_that_the_source_published(vt):
    """Six passes and ten clean errors: the scenarios, the provider and the judge are those of the source."""
    pytest.importorskip("openai")
    from benchmarks.failover.systems import load

    bare = load("openai")
    cells = {scenario.key: cell_of(scenario, await play(scenario, bare)) for scenario in SCENARIOS}
    passed = [key for key, cell in cells.items() if cell.outcome == "pass"]
    assert passed == ["S01", "S03", "S05", "S07", "S11", "S13"]
    assert {cell.outcome for cell in cells.values()} == {"pass", "safe"}
    card = Card(bare.name, cells)
    assert len(list(rows([card]))) == 16 + 4
    assert len(header([card])) == 3
    assert len(list(reasons([card]))) == 10
