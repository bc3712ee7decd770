"""What a retry costs, what comes back when its call succeeds, and how that tells overloads from the rest."""

from __future__ import annotations

import asyncio
import contextlib
import random

import pytest

import resilio
from resilio import RetryBudget, full_jitter, retry, retrying

TOOK = 0.02


class Broken(Exception):
    """What the dependency raises."""


class Dependency:
    """Fails by what `fails()` says, after `fails_in` seconds; counts attempts."""

    def __init__(self, fails, fails_in=0.001, took=TOOK):
        self.fails, self.fails_in, self.took, self.attempts = fails, fails_in, took, 0

    async def answer(self):
        self.attempts += 1
        failed = self.fails()
        await asyncio.sleep(self.fails_in if failed else self.took)
        if failed:
            raise Broken


def chance(share, seed=5):
    draw = random.Random(seed)
    return lambda: draw.random() < share


async def load(dependency, policy, rate, calls):
    """Call at a steady rate; return the share that ended well, and the attempts for each call."""
    call = policy(dependency.answer)
    before, tasks = dependency.attempts, []
    for _ in range(calls):
        tasks.append(asyncio.ensure_future(call()))
        await asyncio.sleep(1.0 / rate)
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    return sum(outcome is None for outcome in ended) / calls, (dependency.attempts - before) / calls


def offered(vt, dependency, policy, rate, calls):
    """As `load`, run here."""
    return vt.run(load, dependency, policy, rate, calls)


def policy_of_defaults(**options):
    return retry(on=Broken, budget=RetryBudget(), **options)


@pytest.mark.parametrize("share", [0.25, 0.4, 0.5])
def test_rejections_at_once_are_tried_again_as_often_as_attempts_says(vt, share):
    """Three of eight replicas reject: a tenth of a token a success paid for a quarter of the retries."""
    good, sent = offered(vt, Dependency(chance(share)), policy_of_defaults(), 60, 3000)
    assert good >= 0.97 * (1 - share**3)
    assert sent == pytest.approx(1 + share + share**2, abs=0.05)


def test_a_client_that_calls_every_ten_seconds_has_its_retries(vt):
    """A quarter is rejected: of one call in ten seconds nine in ten were answered, since few had retries."""
    good, _ = offered(vt, Dependency(chance(0.25)), policy_of_defaults(), 0.1, 400)
    assert good >= 0.97


def test_failures_by_chance_that_are_slow_are_paid_for_up_to_a_quarter(vt):
    """12 % and 20 % fail as late as others succeed: what was taken for calls that succeed in the end stayed away."""
    for share in (0.12, 0.2):
        good, _ = offered(vt, Dependency(chance(share), fails_in=TOOK), policy_of_defaults(), 60, 3000)
        assert good >= 0.98


@pytest.mark.parametrize("seed", [5, 6, 7])
def test_slow_failures_of_four_in_ten_are_paid_for(vt, seed):
    """They were taken for an overload's: .665 of the calls were answered where naive retries have .936."""
    dependency, policy = Dependency(chance(0.4, seed), fails_in=TOOK), policy_of_defaults()
    offered(vt, dependency, policy, 60, 600)
    good, _ = offered(vt, dependency, policy, 60, 3000)
    assert good >= 0.87
    assert "it comes back 3 times" in policy._explained()


def test_retries_that_cannot_succeed_end_soon(vt):
    """All calls of two tenants of five fail slowly, and so do their retries: 1.1 x the calls are sent, not 1.8."""
    dependency, policy = Dependency(chance(0.0), fails_in=TOOK), policy_of_defaults()
    broken = Dependency(chance(1.0), fails_in=TOOK)

    async def main():
        for _ in range(1200):
            for tenant in (dependency, broken, dependency, broken, dependency):
                with contextlib.suppress(Broken):
                    await policy(tenant.answer)()

    vt.run(main)
    assert dependency.attempts == 3600
    assert broken.attempts <= 2400 + 0.1 * 6000


def test_slow_failures_of_a_half_get_nothing_back(vt):
    """An overload's failures are slow: the load is that of R6, whatever retries bring."""
    _, sent = offered(vt, Dependency(chance(0.5), fails_in=TOOK), policy_of_defaults(attempts=4), 60, 3000)
    assert sent <= 1.06


def test_timeouts_take_what_is_saved_and_no_more(vt):
    """A dependency that was well hangs: each retry costs a token, though little has failed before, and stays paid."""
    down = False
    dependency = Dependency(lambda: down, fails_in=1.0)
    policy = policy_of_defaults()
    offered(vt, dependency, policy, 10, 500)
    down = True
    _, sent = offered(vt, dependency, policy, 10, 500)
    assert (sent - 1) * 500 <= 5 + 2 + 1  # saved, lent by twenty under way, the reserve


def test_a_small_client_keeps_its_savings_where_nothing_answers(vt):
    """
    200 small clients spent five tokens each on an outage: two more seconds of work for the server that came back.

    When attempts of other calls have failed in a row, and no more are under way, no savings are spent.
    """
    down = False
    dependency = Dependency(lambda: down, fails_in=1.0)
    policy = policy_of_defaults()
    offered(vt, dependency, policy, 1.4, 170)
    assert policy.budget.balance > 4
    down = True
    _, sent = offered(vt, dependency, policy, 1.4, 14)
    assert (sent - 1) * 14 <= 4
    assert policy.budget.balance > 1
    down = False
    offered(vt, dependency, policy, 1.4, 1)
    dependency.fails = iter([True, False]).__next__
    assert offered(vt, dependency, policy, 1.4, 1) == (1, 2)


def test_a_dependency_that_rejects_all_is_left_alone_soon(vt):
    """Cheap retries end where nothing is served: of three thousand calls to it fewer than a hundred are tried again."""
    down = False
    dependency = Dependency(lambda: down)
    policy = policy_of_defaults()
    offered(vt, dependency, policy, 60, 600)
    down = True
    _, sent = offered(vt, dependency, policy, 60, 3000)
    assert (sent - 1) * 3000 < 100
    assert policy.budget.snapshot().failing > 0.9


def test_retries_are_dear_while_successes_are_slow(vt):
    """A server with a queue that sheds at once: its rejections are as quick as a dead replica's, not its answers."""
    dependency = Dependency(chance(0.0))
    policy = policy_of_defaults()
    offered(vt, dependency, policy, 60, 600)
    dependency.fails, dependency.took = chance(0.4), 2.5 * TOOK
    offered(vt, dependency, policy, 60, 300)
    _, sent = offered(vt, dependency, policy, 60, 2000)
    assert sent <= 1.1
    assert "successes are slow" in policy._explained()


def test_the_quickest_of_a_first_batch_are_not_what_is_usual(vt):
    """Of 200 calls at a time the first 64 to return set the pace: all later ones were slow, and .92 were answered."""
    draw, good = random.Random(3), 0
    dependency, policy = Dependency(chance(0.18), fails_in=0.001), policy_of_defaults()

    async def call():
        dependency.took = draw.uniform(0.05, 0.15)
        await policy(dependency.answer)()

    async def batch():
        return await asyncio.gather(*(call() for _ in range(200)), return_exceptions=True)

    for _ in range(12):
        good += vt.run(batch).count(None)
    assert good >= 0.98 * 2400


@pytest.mark.real(1.0)
def test_what_is_slow_for_good_becomes_usual(vt):
    """A release that is slower is no overload for ever: after twenty thousand calls retries are cheap again."""
    dependency = Dependency(chance(0.0))
    policy = policy_of_defaults()
    offered(vt, dependency, policy, 60, 600)
    dependency.took = 1.6 * TOOK
    offered(vt, dependency, policy, 60, 20_000)
    dependency.fails = chance(0.4)
    good, _ = offered(vt, dependency, policy, 60, 2000)
    assert good >= 0.92


async def in_blocks(dependency, policy):
    async for attempt in policy.retrying():
        with attempt:
            await dependency.answer()


async def in_streams(dependency, policy):
    @policy
    async def items():
        await dependency.answer()
        yield 1

    assert [item async for item in items()] == [1]


@pytest.mark.parametrize("call", [in_blocks, in_streams])
def test_blocks_and_streams_pay_and_are_repaid_as_calls_are(vt, call):
    """Every other attempt is rejected at once: each call succeeds at its second attempt, for two hundred calls."""
    turns = iter(range(1000))
    dependency, policy = Dependency(lambda: next(turns) % 2 == 0), policy_of_defaults()

    async def main():
        for _ in range(200):
            await call(dependency, policy)

    vt.run(main)
    seen = policy.budget.snapshot()
    assert (dependency.attempts, seen.rejected) == (400, 0)
    assert seen.failing == pytest.approx(0.5, abs=0.02)


def test_a_success_repays_all_that_its_retries_took(vt):
    """Two timeouts and an answer: two tokens are taken at once, and are there again, up to the cap."""
    policy = policy_of_defaults(backoff=0.0)
    fails = iter([False] * 40 + [True, True, False])
    dependency = Dependency(lambda: next(fails), fails_in=1.0)

    async def main():
        for _ in range(41):
            await policy(dependency.answer)()

    vt.run(main)
    seen = policy.budget.snapshot()
    assert (seen.balance, seen.repaid) == (5.0, 1)


def test_failures_that_are_no_reason_to_retry_say_nothing(vt):
    """Only what `on` names counts: a thousand bad arguments are no sign of a dependency that is down."""
    policy = policy_of_defaults()

    @policy
    def call():
        raise ValueError

    for _ in range(1000):
        with pytest.raises(ValueError):
            call()
    assert policy.budget.snapshot().failing == 0.5


@pytest.mark.parametrize(("asked", "price"), [(0.2, 0.25), (1.0, 0.25), (5.0, 0.05), (60.0, 1 / 240)])
def test_a_retry_costs_less_the_later_it_was_asked_for(vt, asked, price):
    """A quota's users that are told a minute paid a quarter each, and a batch of 120 of them ran out."""
    budget = RetryBudget()
    assert budget._take(1.0, int(asked * 1e9)) == pytest.approx(price)


def test_reset_forgets_what_attempts_take(vt):
    """A test that begins anew knows nothing of the successes of the one before."""
    policy = retry(on=Broken)
    offered(vt, Dependency(chance(0.0)), policy, 60, 30)
    assert policy._gate.pace[0] == pytest.approx(TOOK)
    policy.reset()
    assert policy._gate.pace == (0.0, 0.0, False)
    assert policy.budget.snapshot().failing == 0.5


def test_explain_says_what_a_retry_costs_and_why(vt):
    """One note of a stack: nothing known, all well, next to nothing working."""
    policy = policy_of_defaults()
    down = False
    dependency = Dependency(lambda: down)

    def note():
        (found,) = [note for note in resilio.pipeline(policy).explain().notes if note.startswith("retry (1)")]
        return found

    assert "costs a token until it is known what a success takes" in note()
    offered(vt, dependency, policy, 60, 300)
    assert "a success's 0.02 s that the failed attempt took, at least 0.05; it comes back 3 times if" in note()
    down = True
    offered(vt, dependency, policy, 60, 600)
    assert "costs a token: next to nothing succeeds; none comes back" in note()
    assert "retries are free" in str(resilio.pipeline(retry(on=Broken, budget=None)).explain())


def test_a_batch_of_a_model_waits_for_its_turns(vt):
    """Three minutes' worth of calls at once: the stack's own limit rejected after a second, with 600 s to spare."""

    @resilio.standard("model of the test", on="model", rates="60/min")
    async def ask():
        await asyncio.sleep(1.0)

    async def main():
        began = vt.now
        done = await asyncio.gather(*(ask() for _ in range(180)), return_exceptions=True)
        return done.count(None), vt.now - began

    answered, took = vt.run(main)
    assert answered == 180
    assert took <= 181.0


def test_callers_that_are_told_a_minute_come_back_over_the_next_one(vt):
    """With ten minutes to go, what may be asked for at most did not leave room to come back apart."""

    class Told(Broken):
        retry_after = 60.0

    async def main():
        began, back = vt.now, []

        @retry(on=Broken, budget=RetryBudget(cap=100, initial=100))
        async def call():
            if vt.now - began < 60.0:
                raise Told
            back.append(vt.now - began)

        with resilio.deadline(600.0):
            await asyncio.gather(*(call() for _ in range(100)))
        return back

    back = vt.run(main)
    assert len(back) == 100
    assert min(back) >= 60.0
    assert max(back) > 100.0


# ---- waits -------------------------------------------------------------------------------------------------------


def ends(vt, policy, opens, calls=1, deadline=30.0):
    """When calls end, by a dependency that rejects all until `opens`; None: it failed."""

    async def main():
        began = vt.now
        dependency = Dependency(lambda: vt.now - began < opens)
        call = policy(dependency.answer)

        async def one():
            with resilio.deadline(deadline):
                await call()
            return vt.now - began

        done = await asyncio.gather(*(one() for _ in range(calls)), return_exceptions=True)
        return [None if isinstance(end, Exception) else end for end in done]

    return vt.run(main)


def test_attempts_are_not_used_up_while_a_server_starts(vt):
    """Half a second without a server took all three attempts of each of 500 clients; the third is seconds later now."""
    seen = [ends(vt, retry(on=Broken, budget=RetryBudget()), 0.5)[0] for _ in range(100)]
    assert None not in seen
    assert min(seen) >= 1.8
    assert max(seen) <= 3.9
    assert max(seen) - min(seen) > 1.0  # they come back apart


def test_a_wait_that_reaches_far_needs_a_deadline_and_a_backoff_that_does(vt):
    """Without a deadline there is no time to share; a backoff that was chosen is kept to."""
    assert ends(vt, retry(on=Broken, budget=RetryBudget(), backoff=full_jitter()), 0.5) == [None]
    assert ends(vt, retry(on=Broken, budget=RetryBudget(), backoff=0.1), 0.5) == [None]
    policy, began = retry(on=Broken, budget=RetryBudget()), vt.now
    with pytest.raises(Broken):
        vt.run(policy(Dependency(lambda: True).answer))
    assert vt.now - began < 0.5


def test_a_wait_stays_short_while_others_are_answered(vt):
    """A busy client of a server with rejecting replicas: something has succeeded since the call began, so it is up."""
    policy = policy_of_defaults()

    async def main():
        dependency = Dependency(chance(0.4))
        call, took = policy(dependency.answer), []

        async def one():
            began = vt.now
            with resilio.deadline(30.0):
                await call()
            took.append(vt.now - began)

        tasks = []
        for _ in range(1000):
            tasks.append(asyncio.ensure_future(one()))
            await asyncio.sleep(0.01)
        await asyncio.gather(*tasks, return_exceptions=True)
        return sorted(took)

    took = vt.run(main)
    assert took[int(0.98 * len(took))] < 0.5


def test_the_wait_reaches_no_further_than_its_cap(vt):
    """A deadline of an hour and a cap of a second: the third attempt is a second later, not minutes."""
    policy = retry(on=Broken, budget=RetryBudget(), backoff=full_jitter(cap=1.0, reach=0.125))
    end = ends(vt, policy, 0.3, deadline=3600.0)[0]
    assert end is not None
    assert end < 1.2


def test_blocks_reach_too(vt):
    """A block that is run again waits as a call does."""

    async def main():
        began = vt.now
        with resilio.deadline(30.0):
            async for attempt in retrying(on=Broken, budget=RetryBudget()):
                with attempt:
                    await Dependency(lambda: vt.now - began < 0.5).answer()
        return vt.now - began

    assert vt.run(main) >= 1.8
