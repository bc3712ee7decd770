"""Spend limits around the real SDKs over real sockets: what is reserved, what is charged, what is given back."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

import anyio
import pytest
from servers.misbehaving import Misbehaving, closed_port
from servers.models import Behaviour, OpenAI, answers, cuts, fails, hangs, provide, streams
from servers.sdks import SDKS, Sdk, one_sdk
from sniffio import current_async_library

from resilio import (
    CircuitBreaker,
    Endpoint,
    RateLimitedError,
    circuit_breaker,
    constant,
    hedge,
    keyed,
    pipeline,
    pool,
    presets,
    retry,
    standard,
    timeout,
)
from resilio.cost import Price, Prices, SpendLimit, Usage, spend_limit
from resilio.integrations.llm import UsageWarning, rejection_of
from resilio.testing import assert_no_leaks

pytestmark = [
    pytest.mark.anyio,
    # The SDKs and httpx2 leave generators of their own unfinished, which trio warns of.
    pytest.mark.filterwarnings("ignore:Async generator '(openai|anthropic|httpx2?|httpcore2?)[.]:ResourceWarning"),
]

PRICE = Price(input=2, output=8, max_output=100)
PRICES = Prices({"m": PRICE})
COST = PRICE.of(Usage(input=7, output=5))
"""What an answer of the provider on loopback costs: seven tokens asked, five answered."""


def limited(limit: str = "1 USD/day", **options: Any) -> SpendLimit:
    """A spend limit with these prices."""
    return spend_limit(limit, prices=PRICES, **options)


def quickly(attempts: int = 3) -> Any:
    """A retry that does not wait."""
    return retry(on=presets.model.momentary, attempts=attempts, backoff=constant(0.001), budget=None)


async def read(stream: Any) -> None:
    """Read a stream to its end."""
    async for _ in stream:
        pass


async def test_an_answer_is_reserved_and_settled(sdk: Sdk, server: Misbehaving) -> None:
    """While a call is under way its most is reserved; its answer's usage is what it has cost, to a millionth."""
    team = limited(reserve="max")
    during: list[Any] = []

    async def answer(exchange: Any, wire: Any) -> None:
        during.append(team.snapshot().spend)
        await answers()(exchange, wire)

    provide(server, sdk.wire, answer)
    async with sdk.client(server, team) as client:
        await sdk.ask(client)
    (reserved,) = during
    spend = team.snapshot().spend
    assert reserved.reserved == reserved.used > COST
    assert reserved.at_risk == 0
    assert spend.used == spend.charged == pytest.approx(COST, abs=1e-9)
    assert spend.reserved == spend.at_risk == spend.kept == 0
    assert team.costs == {("m", "answer"): pytest.approx(COST, abs=1e-9)}
    assert_no_leaks(team)


def test_a_client_of_threads_is_settled(sdk: Sdk, server: Misbehaving) -> None:
    """The same for the client of threads, whole and as a stream."""
    team = limited(reserve="max")
    provide(server, sdk.wire, answers(), streams("a", "b"))
    with sdk.sync_client(server, team) as client:
        sdk.ask(client)
        for _ in sdk.stream(client):
            pass
    assert team.snapshot().spend.used == pytest.approx(2 * COST, abs=1e-9)


async def test_a_call_beyond_the_limit_is_not_sent(sdk: Sdk, server: Misbehaving) -> None:
    """A call whose reservation is not left is rejected here, with the time of the next period: no request is made."""
    team = limited("0.0016 USD/day", reserve=0.001)
    provide(server, sdk.wire, answers(tokens=(100, 100)))
    async with sdk.client(server, team) as client:
        await sdk.ask(client)
        with pytest.raises(sdk.module.RateLimitError) as caught:
            await sdk.ask(client.with_options(max_retries=0))
    rejection = rejection_of(caught.value)
    assert isinstance(rejection, RateLimitedError)
    assert (rejection.policy, rejection.reason) == ("spend_limit", "spend")
    assert rejection.retry_after == pytest.approx(team.snapshot().spend.resets_in, abs=60)
    assert server.total == 1


async def test_a_model_without_price_is_rejected(sdk: Sdk, server: Misbehaving) -> None:
    """What a call of an unknown model costs is unknown, so that no limit could hold: it is rejected as unpriced."""
    strict, lenient = limited(), spend_limit("1 USD/day", prices=Prices({"other": PRICE}, unknown="dearest"))
    provide(server, sdk.wire, answers())
    async with sdk.client(server, strict) as client:
        with pytest.raises(sdk.module.RateLimitError) as caught:
            await sdk.ask(client.with_options(max_retries=0), model="unheard-of")
    async with sdk.client(server, lenient) as client:
        await sdk.ask(client)
    rejection = rejection_of(caught.value)
    assert isinstance(rejection, RateLimitedError)
    assert rejection.reason == "unpriced"
    assert lenient.snapshot().spend.used == pytest.approx(COST, abs=1e-9)


@pytest.mark.parametrize("around", [False, True], ids=["alone", "inside a retry"])
async def test_a_stream_is_settled_at_its_end(sdk: Sdk, server: Misbehaving, around: bool) -> None:
    """A stream has its usage at its end, when it is outside of its call's context: it is charged all the same."""
    team = limited(reserve="max")
    provide(server, sdk.wire, streams("a", "b"))
    async with sdk.client(server, pipeline(quickly(), team) if around else team) as client:
        stream = await sdk.stream(client)
        assert team.snapshot().spend.reserved > COST
        await read(stream)
    spend = team.snapshot().spend
    assert spend.used == pytest.approx(COST, abs=1e-9)
    assert spend.reserved == spend.kept == 0


async def test_a_cancelled_stream_keeps_its_reservation(sdk: Sdk, server: Misbehaving) -> None:
    """Providers bill what they have generated for a reader that left; what that was is not known."""
    team = limited(reserve=0.25)
    provide(server, sdk.wire, streams("a", end="hang"))
    async with sdk.client(server, team) as client:
        stream = await sdk.stream(client)
        await anext(aiter(stream))
        await stream.close()
    spend = team.snapshot().spend
    assert spend.used == spend.kept == 0.25
    assert spend.reserved == spend.at_risk == 0
    assert team.costs == {("m", "lost"): 0.25}


@pytest.mark.parametrize(
    ("behaviour", "kept"),
    [(fails(400, "invalid_request_error"), 0.0), (hangs, 0.25)],
    ids=["the provider answers with an error", "the call times out"],
)
async def test_what_failed_calls_cost(sdk: Sdk, server: Misbehaving, behaviour: Behaviour, kept: float) -> None:
    """An error in place of an answer is not billed; a call that was given up may be."""
    team = limited(reserve=0.25)
    provide(server, sdk.wire, behaviour)
    async with sdk.client(server, pipeline(timeout(0.2), team)) as client:
        with pytest.raises(sdk.module.APIError):
            await sdk.ask(client.with_options(max_retries=0))
    assert team.snapshot().spend.used == kept


async def test_calls_that_are_never_made_give_back(sdk: Sdk, server: Misbehaving) -> None:
    """A call that another policy rejects, and one to a server that is not there, have spent nothing."""
    team, breaker = limited(reserve=0.25), circuit_breaker()
    breaker.force_open()
    async with sdk.client(server, pipeline(team, breaker)) as client:
        with pytest.raises(sdk.module.APIError):
            await sdk.ask(client.with_options(max_retries=0))
    assert team.snapshot().spend.used == 0
    with closed_port() as port:
        async with sdk.client(server, team) as client:
            gone = client.with_options(base_url=f"http://127.0.0.1:{port}", max_retries=0)
            with pytest.raises(sdk.module.APIConnectionError):
                await sdk.ask(gone)
    assert team.snapshot().spend.used == 0
    assert_no_leaks(team)


@pytest.mark.parametrize("lost", [2, 3])
@pytest.mark.parametrize("outside", [False, True], ids=["a limit for attempts", "a limit for calls"])
async def test_each_attempt_that_is_lost_is_charged(sdk: Sdk, server: Misbehaving, outside: bool, lost: int) -> None:
    """A connection that is cut before the answer: the provider may bill each attempt, also if the last one is lost."""
    team = limited(reserve=0.25)
    provide(server, sdk.wire, *[cuts] * lost, answers())
    async with sdk.client(server, pipeline(*((team, quickly()) if outside else (quickly(), team)))) as client:
        if lost == 3:
            with pytest.raises(sdk.module.APIConnectionError):
                await sdk.ask(client.with_options(max_retries=0))
        else:
            await sdk.ask(client)
    assert server.total == 3
    costs = {("m", "lost"): lost * 0.25}
    if lost == 2:
        costs["m", "retry"] = pytest.approx(COST, abs=1e-9)
    assert team.costs == costs
    assert team.snapshot().spend.used == pytest.approx(sum(team.costs.values()), abs=1e-9)
    assert_no_leaks(team)


@pytest.mark.parametrize("outside", [False, True], ids=["a limit for attempts", "a limit for calls"])
async def test_attempts_are_counted_apart(sdk: Sdk, server: Misbehaving, outside: bool) -> None:
    """
    What a retry costs is told from what first attempts cost, wherever the limit stands.

    A call of two attempts, of which the provider has billed both, costs both.
    """
    team = limited(reserve=0.25)
    provide(server, sdk.wire, streams("a", before=("die",)), streams("a"))
    parts = (team, quickly()) if outside else (quickly(), team)
    async with sdk.client(server, pipeline(*parts)) as client:
        await read(await sdk.stream(client))
    assert team.costs == {("m", "lost"): 0.25, ("m", "retry"): pytest.approx(COST, abs=1e-9)}
    assert team.snapshot().spend.used == pytest.approx(0.25 + COST, abs=1e-9)


@one_sdk
async def test_a_copy_that_lost_keeps_its_reservation(sdk: Sdk, server: Misbehaving) -> None:
    """The copy that answers is a hedge, the primary that is cancelled is lost: both are paid, each once."""
    team = limited(reserve=0.25)
    provide(server, sdk.wire, *[answers()] * 20, hangs, answers())
    async with sdk.client(server, pipeline(hedge(after=0.02, idempotent=True, max_extra=1.0), team)) as client:
        for _ in range(20):  # before that it knows nothing of how long calls take
            await sdk.ask(client)
        before = team.costs["m", "answer"]
        await sdk.ask(client)
    assert server.total == 22
    assert team.costs == {
        ("m", "answer"): before,
        ("m", "lost"): 0.25,
        ("m", "hedge"): pytest.approx(COST, abs=1e-9),
    }
    assert team.snapshot().spend.used == pytest.approx(before + 0.25 + COST, abs=1e-9)


async def test_each_tenant_has_its_own(sdk: Sdk, server: Misbehaving) -> None:
    """A keyed limit has the money of each key apart."""
    teams = keyed(lambda: limited("0.0001 USD/day", reserve=0.0001), key=lambda call: call.model)
    provide(server, sdk.wire, answers())
    async with sdk.client(server, teams) as client:
        await sdk.ask(client)
        with pytest.raises(sdk.module.RateLimitError):
            await sdk.ask(client.with_options(max_retries=0))
    assert teams["m"].snapshot().spend.used == pytest.approx(COST, abs=1e-9)
    assert teams["another"].snapshot().spend.used == 0


async def test_the_limits_around_the_callers_function_are_charged(sdk: Sdk, server: Misbehaving) -> None:
    """A handler's own limit is charged what the models that it calls cost, however their clients are guarded."""
    day, provider = spend_limit("1 USD/day", prices=PRICES, reserve=0.5), limited(reserve="max")
    provide(server, sdk.wire, answers())
    async with sdk.client(server, provider) as client:

        @day
        async def handle() -> None:
            await sdk.ask(client)
            await sdk.ask(client)

        await handle()
    assert provider.snapshot().spend.used == pytest.approx(2 * COST, abs=1e-9)
    assert day.snapshot().spend.used == pytest.approx(2 * COST, abs=1e-9)


async def test_an_endpoint_has_a_price_of_its_own(sdk: Sdk, server: Misbehaving) -> None:
    """The label `price` of the endpoint that answered is the price, whatever the call's model costs elsewhere."""
    dear = Price(input=20, output=80)
    team = limited(reserve=0.25)
    provide(server, sdk.wire, answers())
    async with sdk.bare(server) as own:
        chat = pool(f"{sdk.name}-priced", Endpoint("dear", use=own, price=dear))
        async with sdk.client(server, pipeline(team, chat)) as client:
            await sdk.ask(client)
    assert team.snapshot().spend.used == pytest.approx(10 * COST, abs=1e-9)


async def test_shadow_mode_counts_what_is_spent(sdk: Sdk, server: Misbehaving) -> None:
    """Calls that enforcement would have rejected are made and paid: the money is counted, as a debt."""
    team = limited("0.00006 USD/day", reserve=0.00005, enforce=False)
    provide(server, sdk.wire, answers())
    async with sdk.client(server, team) as client:
        for _ in range(3):
            await sdk.ask(client)
    snapshot = team.snapshot()
    assert snapshot.would_reject == 2
    assert snapshot.spend.used == pytest.approx(3 * COST, abs=1e-9)


@one_sdk
async def test_concurrent_calls_never_exceed_the_limit(sdk: Sdk, server: Misbehaving) -> None:
    """
    A hundred calls at once, of which the limit pays a few: with `reserve="max"` not one more is sent.

    Limits that count afterwards admit all of them: the first answer comes when the last call is under way.
    """
    team = limited("0.005 USD/day", reserve="max")
    provide(server, sdk.wire, answers(tokens=(7, 60)))
    rejected = 0
    async with sdk.client(server, team) as client:

        async def ask() -> None:
            nonlocal rejected
            try:
                await sdk.ask(client.with_options(max_retries=0), max_tokens=64)
            except sdk.module.RateLimitError:
                rejected += 1

        async with anyio.create_task_group() as tasks:
            for _ in range(100):
                tasks.start_soon(ask)
    spend = team.snapshot().spend
    assert 0 < rejected < 100
    assert spend.used <= spend.limit
    assert spend.used == pytest.approx((100 - rejected) * PRICE.of(Usage(input=7, output=60)), abs=1e-6)


class WithoutUsage:
    """Streams of a provider that sends the usage only where the request asks for it, or never."""

    def __init__(self, *, may_be_asked: bool = True) -> None:
        self.may_be_asked = may_be_asked

    async def __call__(self, exchange: Any, wire: Any) -> None:
        """Stream one word."""
        asked = self.may_be_asked and b'"include_usage":true' in exchange.body.replace(b" ", b"")
        pieces = [*wire.opening((7, 5)), wire.delta("a"), *wire.closing((7, 5))]
        await exchange.head(headers={"content-type": "text/event-stream"})
        for piece in pieces:
            if asked or b'"usage": {' not in piece:
                await exchange.chunk(piece)
        await exchange.chunk(b"")


@pytest.mark.parametrize("may_be_asked", [True, False], ids=["not asked for", "not sent"])
async def test_a_stream_without_usage_is_named_once(
    server: Misbehaving, caplog: pytest.LogCaptureFixture, may_be_asked: bool
) -> None:
    """
    A day of 50 USD was used up by 39 streams that cost 0.13 USD: each kept its reservation, and no line named why.

    The first is named in the log, and the next request warns, once; the advice fits the request.
    """
    pytest.importorskip("openai")
    (chat,) = [one for one in SDKS if type(one.wire) is OpenAI]
    team = limited(reserve=0.25, name="streams")
    provide(server, chat.wire, WithoutUsage(may_be_asked=may_be_asked))
    asked = {} if may_be_asked else {"stream_options": {"include_usage": True}}
    async with chat.client(server, team) as client:
        await read(await chat.stream(client, **asked))
        (line,) = [one.getMessage() for one in caplog.records if one.name == "resilio"]
        assert "a stream of 'm' ended without its usage, so what was reserved for it counts as spent" in line
        assert ('stream_options={"include_usage": True}' in line) is may_be_asked
        with pytest.warns(UsageWarning, match="a stream of 'm' ended without its usage"):
            await read(await chat.stream(client, **asked))
        await read(await chat.stream(client, **asked))
        assert team.snapshot().spend.kept == 0.75
        if may_be_asked:
            await read(await chat.stream(client, stream_options={"include_usage": True}))
            assert team.snapshot().spend.used == pytest.approx(0.75 + COST, abs=1e-9)
    assert len([one for one in caplog.records if one.name == "resilio"]) == 1


@pytest.mark.parametrize("is_async", [True, False], ids=["tasks", "threads"])
async def test_a_client_pays_nothing_for_what_an_open_breaker_rejects(
    sdk: Sdk, server: Misbehaving, is_async: bool
) -> None:
    """The stack of the guide: one request and 99 rejections left 0.05 of 5 USD until midnight."""
    team = limited("5 USD/day", reserve=0.05)
    stack = standard(f"{sdk.name}-spent-{is_async}-{current_async_library()}", on="model")
    breaker = next(policy for policy in stack.policies if isinstance(policy, CircuitBreaker))
    provide(server, sdk.wire, answers())

    async def ask(client: Any) -> Any:
        return await sdk.ask(client) if is_async else sdk.ask(client)

    async with AsyncExitStack() as block:
        client: Any
        if is_async:
            client = await block.enter_async_context(sdk.client(server, pipeline(team, stack)))
        else:
            client = block.enter_context(sdk.sync_client(server, pipeline(team, stack)))
        await ask(client)
        breaker.force_open()
        for _ in range(9):
            with pytest.raises(sdk.module.APIError):
                await ask(client)
    assert server.total == 1
    assert team.snapshot().spend.used == pytest.approx(COST, abs=1e-9)
    assert_no_leaks(team, breaker)
