"""Whole answers through the real SDKs over real sockets: rejections, retries, what errors mean."""

from __future__ import annotations

import importlib
import json
import sys
import warnings
from email.utils import formatdate
from inspect import isawaitable
from typing import Any

import anyio
import pytest
from servers.misbehaving import START, Misbehaving, closed_port
from servers.models import OpenAI, answers, cuts, fails, hangs, provide
from servers.sdks import SDKS, Sdk, one_sdk

from resilio import (
    DeadlineExceededError,
    RateLimitedError,
    Segments,
    bulkhead,
    circuit_breaker,
    constant,
    deadline,
    fallback,
    hedge,
    keyed,
    pipeline,
    rate_limit,
    registry,
    retry,
    standard,
    timeout,
)
from resilio._failures.retry_trail import attach
from resilio._native import clock
from resilio._policies.rate_limit.policy import RateLimit
from resilio.integrations.llm import (
    InnerRetryWarning,
    given_up,
    guard_of,
    meaning_of,
    partial_of,
    rejection_of,
    segments_of,
    token_rate,
    trail_of,
)
from resilio.testing import assert_no_leaks

pytestmark = pytest.mark.anyio


def quickly(attempts: int = 3) -> Any:
    """A retry that does not wait."""
    from resilio import presets

    return retry(on=presets.model.momentary, attempts=attempts, backoff=constant(0.001), budget=None)


async def test_guarded_client_answers(sdk: Sdk, server: Misbehaving) -> None:
    """A guarded client answers as before, and the policy counts the call."""
    provide(server, sdk.wire, answers("hello"))
    policy = standard(f"{sdk.name}-answers", on="model")
    async with sdk.client(server, policy) as client:
        assert sdk.text(await sdk.ask(client)) == "hello"
        assert client.max_retries == 0
    assert policy.snapshot().successes == 1
    assert_no_leaks(policy)


def test_guarded_sync_client_answers(sdk: Sdk, server: Misbehaving) -> None:
    """The client for threads does, too."""
    provide(server, sdk.wire, answers("hello"))
    policy = standard(f"{sdk.name}-answers-sync", on="model")
    with sdk.sync_client(server, policy) as client:
        assert sdk.text(sdk.ask(client)) == "hello"
    assert policy.snapshot().successes == 1
    assert_no_leaks(policy)


async def test_a_whole_answer_is_parsed_once(sdk: Sdk, server: Misbehaving, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was looked at for errors and usage is what the SDK gets; the response is one that it has read by itself."""
    provide(server, sdk.wire, answers("hello"))
    parsed, loads = [], json.loads

    def counted(text: Any, **options: Any) -> Any:
        parsed.extend(["hello"] if b"hello" in (text if isinstance(text, bytes) else text.encode()) else [])
        return loads(text, **options)

    monkeypatch.setattr(json, "loads", counted)
    async with sdk.client(server, circuit_breaker()) as client:
        raw = await sdk.endpoint(client).with_raw_response.create(**sdk.asked)
        got = raw.parse()
    assert sdk.text(await got if isawaitable(got) else got) == "hello"
    assert parsed == ["hello"]
    response = raw.http_response
    assert response.is_closed
    assert response.elapsed.total_seconds() > 0
    assert int(response.headers["content-length"]) == len(response.content)
    assert response.json() == response.json() == loads(response.content)


async def test_a_whole_answer_may_be_iterated_over(sdk: Sdk, server: Misbehaving) -> None:
    """Who asks the SDK for the response as a stream of bytes gets one, raw bytes included."""
    provide(server, sdk.wire, answers("hello"))
    async with (
        sdk.client(server, circuit_breaker()) as client,
        sdk.endpoint(client).with_streaming_response.create(**sdk.asked) as streamed,
    ):
        pieces = [piece async for piece in streamed.http_response.aiter_raw()]
    assert b"hello" in b"".join(pieces)


async def test_rejection_is_the_sdks_own_error(sdk: Sdk, server: Misbehaving) -> None:
    """A rejected call makes no request, raises the SDK's typed error once, and the rejection is found on it."""
    provide(server, sdk.wire, answers())
    limit = rate_limit("1/min")
    bare = sdk.bare(server, max_retries=5)
    async with sdk.llm.guard(bare, limit) as client:
        await sdk.ask(client)
        with pytest.raises(sdk.module.RateLimitError) as caught:
            await sdk.ask(client)
    rejection = rejection_of(caught.value)
    assert isinstance(rejection, RateLimitedError)
    assert rejection.retry_after is not None
    assert rejection.retry_after > 50
    assert meaning_of(caught.value) == "rejected"
    assert float(caught.value.response.headers["retry-after"]) >= rejection.retry_after
    assert server.total == 1
    assert limit.snapshot().rejected == 1


async def test_open_breaker_is_an_internal_server_error(sdk: Sdk, server: Misbehaving) -> None:
    """An open breaker and a full bulkhead are a 503, of which each SDK makes what it makes of a 503."""
    provide(server, sdk.wire, answers())
    breaker = circuit_breaker()
    breaker.force_open()
    async with sdk.client(server, breaker) as client:
        with pytest.raises(sdk.module.APIStatusError) as caught:
            await sdk.ask(client)
    assert caught.value.status_code == 503
    assert isinstance(caught.value, sdk.module.InternalServerError) or sdk.wire.name == "anthropic"
    assert rejection_of(caught.value).reason == "forced_open"
    assert server.total == 0


def test_rejection_of_a_sync_client(sdk: Sdk, server: Misbehaving) -> None:
    """The client for threads rejects in the same way."""
    provide(server, sdk.wire, answers())
    full = bulkhead(1)
    permit = full.acquire()
    with sdk.sync_client(server, full) as client, pytest.raises(sdk.module.APIStatusError) as caught:
        sdk.ask(client)
    permit.ignore()
    assert rejection_of(caught.value).reason == "full"
    assert server.total == 0


async def test_retry_owns_the_attempts(sdk: Sdk, server: Misbehaving) -> None:
    """Three attempts of the policy are three requests, whatever max_retries was, and each says which one it is."""
    provide(server, sdk.wire, fails(503), fails(503), answers("at last"))
    async with sdk.llm.guard(sdk.bare(server, max_retries=4), quickly()) as client:
        assert sdk.text(await sdk.ask(client)) == "at last"
    assert server.total == 3
    assert [seen["x-stainless-retry-count"] for seen in server.seen] == ["0", "1", "2"]


async def test_exhausted_retry_raises_the_last_error(sdk: Sdk, server: Misbehaving) -> None:
    """After the last attempt the SDK raises its own error for the last response, with the trail of attempts on it."""
    provide(server, sdk.wire, fails(503), fails(500))
    async with sdk.client(server, quickly(2)) as client:
        with pytest.raises(sdk.module.InternalServerError) as caught:
            await sdk.ask(client, extra_headers={"x-mine": "1"})
    assert caught.value.status_code == 500
    assert server.total == 2
    trail = trail_of(caught.value)
    assert trail is not None
    assert len(trail.attempts) == 2
    assert trail.stop_reason == "attempts"
    assert rejection_of(caught.value) is None
    assert not partial_of(caught.value)


async def test_sdks_own_retries_are_seen(sdk: Sdk, server: Misbehaving, monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries that the SDK makes in spite of the policy's are counted and warned of once."""
    monkeypatch.setattr(sdk.module._base_client, "INITIAL_RETRY_DELAY", 0.001)
    provide(server, sdk.wire, cuts)
    async with sdk.client(server, quickly(1)) as client:
        multiplied = client.with_options(max_retries=1)
        with pytest.warns(InnerRetryWarning, match="multiply"), pytest.raises(sdk.module.APIConnectionError):
            await sdk.ask(multiplied)
        with warnings.catch_warnings(), pytest.raises(sdk.module.APIConnectionError):
            warnings.simplefilter("error")
            await sdk.ask(multiplied)
        guard = guard_of(multiplied)
        assert guard is not None
        assert guard.inner_retries == 2
    assert server.total == 4


async def test_final_status_is_not_retried_by_the_sdk(sdk: Sdk, server: Misbehaving) -> None:
    """Where the policy retries, the SDK is told not to, even if its own retries are on."""
    provide(server, sdk.wire, fails(503))
    async with sdk.client(server, quickly(2)) as client:
        with pytest.raises(sdk.module.APIStatusError):
            await sdk.ask(client.with_options(max_retries=3))
    assert server.total == 2


async def test_a_retry_around_a_guarded_client_is_the_one_that_acts(sdk: Sdk, server: Misbehaving) -> None:
    """
    The client's own retry stands aside for one around the call, which makes the attempts.

    The header that keeps the SDK from a retry of its own kept that one from it too: nothing was tried again at all.
    """
    provide(server, sdk.wire, fails(503), answers())
    async with sdk.client(server, quickly()) as client:
        assert sdk.text(await quickly().acall(sdk.ask, client)) == "hello"
    assert server.total == 2


@one_sdk
async def test_a_retry_that_goes_elsewhere_waits_for_the_clients_own(sdk: Sdk, server: Misbehaving) -> None:
    """
    The client's retry makes all its attempts at one provider, and then the one around the call sees the error.

    The client's stood aside at once for a retry around a pool, which left a provider at its first 500.
    """
    tried: list[int] = []

    async def ask(client: Any) -> Any:
        tried.append(server.total)
        return await sdk.ask(client)

    provide(server, sdk.wire, fails(503), fails(503), fails(503), fails(503), answers())
    async with sdk.client(server, quickly(3)) as client:
        elsewhere = retry(on=given_up, attempts=2, backoff=constant(0.001), budget=None)
        assert sdk.text(await elsewhere.acall(ask, client)) == "hello"
    assert tried == [0, 3]
    assert server.total == 5
    assert given_up(ValueError())


async def test_a_retry_around_a_guarded_client_heeds_the_provider(sdk: Sdk, server: Misbehaving) -> None:
    """What the provider itself forbids to try again is tried once."""
    provide(server, sdk.wire, fails(503, x_should_retry="false"), answers())
    async with sdk.client(server, quickly()) as client:
        with pytest.raises(sdk.module.InternalServerError):
            await quickly().acall(sdk.ask, client)
    assert server.total == 1


async def test_policy_without_retry_leaves_the_sdks_retries(sdk: Sdk, server: Misbehaving) -> None:
    """A breaker alone does not take the SDK's retries away: each of its attempts is a call of the policy."""
    provide(server, sdk.wire, fails(503, retry_after_ms="1"), answers("again"))
    breaker = circuit_breaker()
    async with sdk.client(server, breaker) as client:
        assert client.max_retries == 2
        assert sdk.text(await sdk.ask(client)) == "again"
    assert breaker.snapshot().failures == 1
    assert breaker.snapshot().successes == 1


QUOTA = {"openai": (429, "insufficient_quota", "insufficient_quota"), "anthropic": (402, "billing_error", None)}


async def test_quota_is_not_retried(sdk: Sdk, server: Misbehaving) -> None:
    """A quota that is used up is one request, one error, and nothing that a breaker learns from."""
    provide(server, sdk.wire, fails(*QUOTA[sdk.wire.name]))
    policy = standard(f"{sdk.name}-quota", on="model", idempotent=True)
    async with sdk.client(server, policy) as client:
        with pytest.raises(sdk.module.APIStatusError) as caught:
            await sdk.ask(client)
    assert meaning_of(caught.value) == "quota"
    assert server.total == 1
    breaker = next(part for part in policy.policies if part.kind == "circuit_breaker")
    assert breaker.snapshot().failures == 0
    assert breaker.snapshot().ignored == 1


@pytest.mark.parametrize(
    "header",
    [{"retry_after": "2"}, {"retry_after_ms": "1500"}, {"retry_after": formatdate(START + 2, usegmt=True)}],
    ids=["seconds", "ms", "date"],
)
async def test_rate_error_stops_all_calls(sdk: Sdk, server: Misbehaving, header: dict[str, str]) -> None:
    """A 429 with Retry-After stops other calls of the limit for as long at least, not only the one that met it."""
    provide(server, sdk.wire, fails(429, "rate_limit_error", **header), answers())
    limit = rate_limit("1000/s")
    async with sdk.client(server, limit) as client:
        with pytest.raises(sdk.module.RateLimitError) as caught:
            await sdk.ask(client.with_options(max_retries=0))
        assert meaning_of(caught.value) == "rate"
        assert rejection_of(caught.value) is None
        with pytest.raises(sdk.module.RateLimitError) as caught:
            await sdk.ask(client)
    rejection = rejection_of(caught.value)
    assert rejection is not None
    assert rejection.reason == "paused"
    assert 1.0 < rejection.retry_after <= 4.1
    assert server.total == 1


@one_sdk
@pytest.mark.real(1.0)
async def test_other_calls_wait_out_a_rate_error(sdk: Sdk, server: Misbehaving) -> None:
    """After one 429 with Retry-After half of all other calls were rejected at once, though they had time to wait."""
    provide(server, sdk.wire, fails(429, "rate_limit_error", retry_after_ms="300"), answers())
    limit, came = rate_limit("50/s"), []

    async def ask(client: Any) -> None:
        async with deadline(60.0):
            assert sdk.text(await sdk.ask(client)) == "hello"
        came.append(clock.now_ns())

    async with sdk.client(server, limit) as client:
        with pytest.raises(sdk.module.RateLimitError):
            await sdk.ask(client.with_options(max_retries=0))
        until_ns = clock.now_ns() + round(limit.paused * 1e9)
        async with anyio.create_task_group() as group:
            for _ in range(8):
                group.start_soon(ask, client)
    assert server.total == 9
    assert all(moment >= until_ns + number * 20_000_000 for number, moment in enumerate(came, 1)), "at the limit's rate"
    assert limit.snapshot().rejected == 0
    assert_no_leaks(limit)


async def test_calls_without_time_for_a_rate_error_are_rejected_as_paused(sdk: Sdk, server: Misbehaving) -> None:
    """A call whose deadline comes before the end of Retry-After is rejected at once, with a reason of its own."""
    provide(server, sdk.wire, fails(429, "rate_limit_error", retry_after="60"), answers())
    async with sdk.client(server, rate_limit("50/s", max_wait=1.0)) as client:
        with pytest.raises(sdk.module.RateLimitError):
            await sdk.ask(client.with_options(max_retries=0))
        with pytest.raises(sdk.module.RateLimitError) as caught:
            async with deadline(5.0):
                await sdk.ask(client)
    rejection = rejection_of(caught.value)
    assert rejection is not None
    assert (rejection.reason, rejection.called) == ("paused", False)
    assert rejection.retry_after > 30
    assert server.total == 1


async def test_rate_error_pauses_no_longer_than_allowed(sdk: Sdk, server: Misbehaving) -> None:
    """A Retry-After of a day, a typing error say, stops calls for `max_pause` seconds."""
    provide(server, sdk.wire, fails(429, "rate_limit_error", retry_after="86400"))
    limit = rate_limit("1000/s")
    async with sdk.client(server, limit, max_pause=3000.0) as client:
        with pytest.raises(sdk.module.RateLimitError):
            await sdk.ask(client.with_options(max_retries=0))
    assert 2000 < limit.peek() <= 3001


@pytest.mark.parametrize(("most", "held"), [(60.0, (2.0, 4.0)), (0.5, (0.4, 0.5)), (0.0, (0.0, 0.0))])
async def test_a_stack_without_rates_has_a_door(
    sdk: Sdk, server: Misbehaving, most: float, held: tuple[float, float]
) -> None:
    """Without a rate limit a 429 stopped nothing but its own call; the guard's cap is that of the stack's door."""
    provide(server, sdk.wire, fails(429, "rate_limit_error", retry_after="2"), answers())
    stack = standard("models", on="model", attempts=1, deadline=1.0)
    async with sdk.client(server, stack, max_pause=most) as client:
        with pytest.raises(sdk.module.RateLimitError):
            await sdk.ask(client.with_options(max_retries=0))
        paused = registry.get("models.rate_limit", RateLimit).paused
        assert held[0] - 0.3 <= paused <= held[1]
        if most > 1.0:
            with pytest.raises(sdk.module.RateLimitError) as caught:
                await sdk.ask(client)
            assert rejection_of(caught.value).reason == "paused"
    assert server.total == 1


RESETS = {
    "openai": {"x_ratelimit_remaining_requests": "0", "x_ratelimit_reset_requests": "7m30s"},
    "anthropic": {
        "anthropic_ratelimit_requests_remaining": "0",
        "anthropic_ratelimit_requests_reset": "2023-11-14T22:20:50Z",
    },
}


async def test_reset_stands_in_for_retry_after(sdk: Sdk, server: Misbehaving) -> None:
    """A 429 without Retry-After stops calls until the limit that is used up is as new."""
    provide(server, sdk.wire, fails(429, "rate_limit_error", **RESETS[sdk.wire.name]))
    limit = rate_limit("1000/s")
    async with sdk.client(server, limit, max_pause=1000.0) as client:
        with pytest.raises(sdk.module.RateLimitError):
            await sdk.ask(client.with_options(max_retries=0))
    assert 300.0 < limit.peek() <= 451.0


LEFT = {
    "openai": {"x_ratelimit_remaining_requests": "3", "x_ratelimit_remaining_tokens": "500"},
    "anthropic": {"anthropic_ratelimit_requests_remaining": "3", "anthropic_ratelimit_tokens_remaining": "500"},
}


async def test_remaining_lowers_the_limit(sdk: Sdk, server: Misbehaving) -> None:
    """What a response says is left is what the limit has left, units that it does not count aside."""
    provide(server, sdk.wire, answers(**LEFT[sdk.wire.name]))
    limit = rate_limit("60/min", token_rate("1200/min"), burst=60)
    async with sdk.client(server, limit) as client:
        await sdk.ask(client)
    left = limit.available
    assert 3 <= left["requests"] < 5
    assert 500 <= left["tokens"] < 700


async def test_rl06_tokens_are_reserved_and_settled(sdk: Sdk, server: Misbehaving) -> None:
    """RL-06: a call reserves an estimate before it goes out, and has cost what its usage says."""
    provide(server, sdk.wire, answers(tokens=(40, 60)))
    limit = rate_limit(token_rate("1/h", burst=10_000))
    async with sdk.client(server, limit) as client:
        await sdk.ask(client)
        assert limit.available["tokens"] == pytest.approx(9_900, abs=1)
        await sdk.ask(client)
        assert limit.available["tokens"] == pytest.approx(9_800, abs=1)
        guard = guard_of(client)
        assert guard is not None
        estimate = guard.estimates.of("m", 100, None)
    assert estimate["output_tokens"] == pytest.approx(60)


async def test_rl06_reservation_rejects_before_the_request(sdk: Sdk, server: Misbehaving) -> None:
    """RL-06: a call whose estimate does not fit any more is rejected here, and not by the provider."""
    provide(server, sdk.wire, answers(tokens=(100, 100)))
    limit = rate_limit(token_rate("1/h", unit="output_tokens", burst=150))
    async with sdk.client(server, limit) as client:
        await sdk.ask(client)
        with pytest.raises(sdk.module.RateLimitError) as caught:
            await sdk.ask(client)
    assert rejection_of(caught.value) is not None
    assert server.total == 1


async def test_error_gives_the_tokens_back(sdk: Sdk, server: Misbehaving) -> None:
    """A provider that answers with an error has charged nothing: the reservation goes back."""
    provide(server, sdk.wire, fails(400, "invalid_request_error"))
    limit = rate_limit(token_rate("1/h", burst=10_000))
    async with sdk.client(server, limit) as client:
        with pytest.raises(sdk.module.BadRequestError) as caught:
            await sdk.ask(client)
    assert meaning_of(caught.value) == "terminal"
    assert limit.available["tokens"] == pytest.approx(10_000, abs=1)


async def test_keyed_limits_are_fed_as_well(sdk: Sdk, server: Misbehaving) -> None:
    """A limit for each model learns what that model's calls have cost."""
    provide(server, sdk.wire, answers(tokens=(40, 60)))
    limits = keyed(lambda: rate_limit(token_rate("1/h", burst=1_000)), key=lambda call: call.model)
    async with sdk.client(server, limits) as client:
        await sdk.ask(client)
    assert limits["m"].available["tokens"] == pytest.approx(900, abs=1)


async def test_error_inside_of_a_200_is_an_error(sdk: Sdk, server: Misbehaving) -> None:
    """An error in the body of a 200 is a failure for the policy, retried, and in the end the SDK's typed error."""
    provide(server, sdk.wire, fails(200, "overloaded_error"))
    breaker = circuit_breaker()
    async with sdk.client(server, pipeline(quickly(2), breaker)) as client:
        with pytest.raises(sdk.module.APIStatusError) as caught:
            await sdk.ask(client)
    assert caught.value.status_code in (503, 529)
    assert meaning_of(caught.value) == "overloaded"
    assert server.total == 2
    assert breaker.snapshot().failures == 2


async def test_timeout_is_the_sdks_timeout(sdk: Sdk, server: Misbehaving) -> None:
    """A timeout of ours is the SDK's APITimeoutError, and its cause says which clock it was."""
    provide(server, sdk.wire, hangs)
    async with sdk.client(server, timeout(0.05)) as client:
        with pytest.raises(sdk.module.APITimeoutError) as caught:
            await sdk.ask(client.with_options(max_retries=0))
    assert caught.value.__cause__.clock == "total"
    assert caught.value.__cause__.limit == 0.05
    assert meaning_of(caught.value) == "timeout"


async def test_deadline_is_the_sdks_timeout(sdk: Sdk, server: Misbehaving) -> None:
    """A deadline that passes is one, too."""
    provide(server, sdk.wire, hangs)
    async with sdk.client(server, pipeline(deadline(0.05), quickly(5))) as client:
        with pytest.raises(sdk.module.APITimeoutError):
            await sdk.ask(client)
    assert server.total <= 1  # none, where it took that long to connect


async def test_connection_errors_are_seen_as_the_sdks(sdk: Sdk) -> None:
    """Rules that name the SDK's exceptions mean what they say, for connections that fail as well."""
    with closed_port() as port:
        dead = type("Dead", (), {"url": f"http://127.0.0.1:{port}"})()
        policy = retry(on=sdk.module.APIConnectionError, attempts=3, backoff=constant(0.001), budget=None)
        async with sdk.llm.guard(sdk.bare(dead), policy) as client:
            with pytest.raises(sdk.module.APIConnectionError) as caught:
                await sdk.ask(client)
    assert policy.snapshot().retries == 2
    assert type(caught.value.__cause__).__name__ == "ConnectError"
    assert meaning_of(caught.value) == "failed"


async def test_rules_may_name_the_sdks_errors(sdk: Sdk, server: Misbehaving) -> None:
    """`on=sdk.RateLimitError` retries just that."""
    provide(server, sdk.wire, fails(429, "rate_limit_error"), fails(500))
    policy = retry(on=sdk.module.RateLimitError, backoff=constant(0.001), budget=None)
    async with sdk.client(server, policy) as client:
        with pytest.raises(sdk.module.InternalServerError):
            await sdk.ask(client)
    assert server.total == 2


async def test_full_pool_is_not_the_providers_fault(sdk: Sdk, server: Misbehaving) -> None:
    """CB-16: a call that finds no free connection in time says nothing about the provider, and is not retried."""
    http = sdk.http
    provide(server, sdk.wire, hangs)
    options = {"limits": http.Limits(max_connections=0), "timeout": http.Timeout(5.0, pool=0.01)}
    breaker = circuit_breaker(consecutive=1)
    bare = sdk.bare(server, http_client=http.AsyncClient(**options), max_retries=0)
    async with sdk.llm.guard(bare, pipeline(quickly(3), breaker)) as client:
        with pytest.raises(sdk.module.APITimeoutError) as caught:
            await sdk.ask(client)
    assert type(caught.value.__cause__).__name__ == "PoolTimeout"
    assert meaning_of(caught.value) == "local"
    assert breaker.snapshot().failures == 0
    assert server.total == 0


@one_sdk
async def test_hedge_takes_the_answer_that_comes_first(sdk: Sdk, server: Misbehaving) -> None:
    """Whole answers may be hedged: the second request answers while the first hangs."""
    provide(server, sdk.wire, *[answers()] * 20, hangs, answers("second"))
    policy = pipeline(hedge(idempotent=True, after=0.05, max_extra=1.0), timeout(5.0))
    async with sdk.client(server, policy) as client:
        for _ in range(20):  # before that it knows nothing of how long calls take
            await sdk.ask(client)
        assert sdk.text(await sdk.ask(client)) == "second"
    assert server.total == 22
    assert_no_leaks(policy)


async def test_other_requests_pass_through(sdk: Sdk, server: Misbehaving) -> None:
    """What is no call of a model is guarded, and left as it is."""

    async def models(exchange: Any) -> None:
        body = b'{"object": "list", "data": [{"id": "m", "object": "model"}], "has_more": false}'
        await exchange.answer(body, headers={"content-type": "application/json"})

    server.routes["/v1/models"] = models
    limit = rate_limit("100/s", token_rate("100/s"))
    async with sdk.client(server, limit) as client:
        if not hasattr(client, "models"):
            pytest.skip("this SDK lists no models")
        assert [model.id async for model in client.models.list()] == ["m"]
    assert limit.snapshot().successes == 1
    assert limit.available["tokens"] == 100


def test_fallback_is_rejected(sdk: Sdk, server: Misbehaving) -> None:
    """A fallback does not belong below the SDK: it would have to give an HTTP response."""
    with sdk.bare(server, is_async=False) as client, pytest.raises(ValueError, match="your own function"):
        sdk.llm.guard(client, pipeline(fallback(default=None, on=Exception), bulkhead(1)))


def test_wrong_arguments_are_told(sdk: Sdk, server: Misbehaving) -> None:
    """What is no client, no policy, or guarded already is rejected with what to do."""
    with sdk.bare(server, is_async=False) as client:
        with pytest.raises(TypeError, match="policy must be a policy"):
            sdk.llm.guard(client, "policy")
        with pytest.raises(TypeError, match="client must be"):
            sdk.llm.guard(object(), bulkhead(1))
        with pytest.raises(ValueError, match="max_pause"):
            sdk.llm.guard(client, bulkhead(1), max_pause=-1)
        assert sdk.llm.guard(client, bulkhead(1)) is client
        with pytest.raises(ValueError, match="not guarded yet"):
            sdk.llm.guard(client, bulkhead(2))
        assert "ModelGuard" in repr(guard_of(client))
    assert guard_of(object()) is None


@pytest.mark.parametrize("name", ["openai", "anthropic"])
def test_missing_sdk_says_what_to_install(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the SDK the module says which extra brings it."""
    monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, f"resilio.integrations.llm.{name}", raising=False)
    with pytest.raises(ImportError, match=rf"pip install 'resilio-sdk\[{name}\]'"):
        importlib.import_module(f"resilio.integrations.llm.{name}")


def test_old_httpx_is_served_too(server: Misbehaving) -> None:
    """OpenAI's SDK takes a client of httpx as well, and so does the guard."""
    pytest.importorskip("openai")
    httpx = pytest.importorskip("httpx")
    provide(server, OpenAI(), fails(503), answers("old"))
    sdk = SDKS[0]
    with sdk.llm.guard(sdk.bare(server, is_async=False, http_client=httpx.Client()), quickly()) as client:
        assert sdk.text(sdk.ask(client)) == "old"
    assert server.total == 2


def test_a_deadline_around_a_call_has_its_trail_and_segments() -> None:
    """A block that passes raises its own error, of which `trail_of` and `segments_of` were None."""
    error = DeadlineExceededError(0.5, 0.0)
    assert (trail_of(error), segments_of(error)) == (None, None)
    attach(error, OSError("late"), "deadline", [(OSError("busy"), 1, 2)], 0, 3)
    error.resilio_segments = Segments(attempt=0.5)  # type: ignore[attr-defined]
    outer = RuntimeError("what an app makes of it")
    outer.__cause__ = error
    for shown in (error, outer):
        trail = trail_of(shown)
        assert trail is not None
        assert (len(trail.attempts), trail.stop_reason) == (2, "deadline")
        assert segments_of(shown) == Segments(attempt=0.5)
