"""
Spend limits around pools whose endpoints have models of their own: the bill is that of the model that answered.

Ten answers of a model that was a hundred times dearer were charged as those of the model asked for, 0.002 for 0.2 USD.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

import attrs
import pytest
from servers.misbehaving import Misbehaving
from servers.models import Behaviour, fails, provide
from servers.sdks import Sdk

from resilio import Endpoint, RateLimitedError, constant, fallback, pipeline, pool, presets, retry
from resilio.cost import Price, Prices, SpendLimit, Usage, bill, spend_limit
from resilio.integrations.llm import rejection_of
from resilio.testing import VirtualTime

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore:Async generator '(openai|anthropic|httpx2?|httpcore2?)[.]:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:a stream of:resilio.integrations.llm.UsageWarning"),
]

CHEAP = Price(input=2, output=8, max_output=100)
DEAR = Price(input=200, output=800, max_output=100)
PRICES = Prices({"cheap": CHEAP, "dear": DEAR})
USAGE = Usage(input=7, output=5)
CALLS = 2
"""Answers of each form: whole ones and streams."""


def served(model: str, *, usage: bool = True, seen: Callable[[], None] = lambda: None) -> Behaviour:
    """An answer by a model of this name, whole or as a stream; without usage if asked to."""

    def edited(data: bytes) -> bytes:
        data = data.replace(b'"model": "m"', f'"model": "{model}"'.encode())
        return data if usage else data.replace(b'"usage"', b'"nothing"')

    async def behave(exchange: Any, wire: Any) -> None:
        seen()
        if not json.loads(exchange.body).get("stream"):
            body = edited(json.dumps(wire.answer("hello", (7, 5))).encode())
            await exchange.answer(body, headers={"content-type": "application/json"})
            return
        await exchange.head(headers={"content-type": "text/event-stream"})
        for piece in (*wire.opening((7, 5)), wire.delta("hello"), *wire.closing((7, 5))):
            await exchange.chunk(edited(piece))
        await exchange.chunk(b"")

    return behave


@attrs.frozen
class Case:
    """
    A pool of two endpoints, an answer, and its bill.

    Attributes:
        near: The labels of the endpoint that is called.

        far: Those of the endpoint that may be called instead.

        asked: The model in the request.

        named: The model in the answer.

        price: The price of the answer.

        model: The model under which its cost stands.

        usage: Whether the answer has a usage.

        dearest: The price that is reserved.
    """

    near: dict[str, Any]
    far: dict[str, Any]
    asked: str
    named: str
    price: Price
    model: str
    usage: bool = True
    dearest: Price = DEAR


SMALL, LARGE = {"model": "cheap"}, {"model": "dear"}
ALIAS = {"model": {"chat": "cheap"}}
CASES = {
    "the same model": Case({}, {}, "cheap", "cheap", CHEAP, "cheap", dearest=CHEAP),
    "a dated name": Case({}, {}, "cheap", "openai/cheap-2026-01-01", CHEAP, "cheap", dearest=CHEAP),
    "an alias": Case(SMALL, LARGE, "chat", "cheap", CHEAP, "cheap"),
    "an alias in a mapping": Case(ALIAS, ALIAS, "chat", "cheap-2026-01-01", CHEAP, "cheap", dearest=CHEAP),
    "a dearer model": Case(LARGE, SMALL, "cheap", "dear", DEAR, "dear"),
    "a cheaper model": Case(SMALL, LARGE, "dear", "cheap", CHEAP, "cheap"),
    "a model without a name in the answer": Case(LARGE, SMALL, "cheap", "", DEAR, "dear"),
    "an answer that names another model": Case({}, {}, "cheap", "dear", DEAR, "dear", dearest=CHEAP),
    "an answer of a model without a price": Case(LARGE, SMALL, "cheap", "new", DEAR, "dear"),
    "an endpoint with a price": Case({"price": DEAR}, {}, "cheap", "cheap", DEAR, "cheap"),
    "another model there": Case({"price": DEAR}, {}, "dear", "cheap", CHEAP, "cheap"),
    "a price for a model of no list": Case({"model": "own", "price": DEAR}, SMALL, "cheap", "own", DEAR, "own"),
    "no usage": Case(SMALL, LARGE, "chat", "cheap", CHEAP, "cheap", usage=False),
    "no usage, dear": Case(LARGE, SMALL, "chat", "dear", DEAR, "dear", usage=False),
}


class Served:
    """A guarded client over a pool of two endpoints, and the spend limit around them."""

    def __init__(self, sdk: Sdk, server: Misbehaving, case: Case, *, is_async: bool) -> None:
        self.team = spend_limit("100 USD/day", prices=PRICES, reserve="max")
        self.reserved: list[float] = []
        self.sizes: list[int] = []
        provide(server, sdk.wire, served(case.named, usage=case.usage, seen=self._see))
        http = sdk.http.AsyncClient if is_async else sdk.http.Client
        self.clients = [  # without TLS, whose setup takes most of a test
            sdk.bare(server, is_async=is_async, http_client=http(verify=False)) for _ in range(3)
        ]
        near, far = (
            Endpoint(name, level=level, use=client, **labels)
            for name, level, labels, client in zip(
                ("near", "far"), (0, 1), (case.near, case.far), self.clients[:2], strict=True
            )
        )
        chat = pool(f"{sdk.name} billed", near, far)
        self.client = sdk.llm.guard(self.clients[2], pipeline(self.team, chat))

    def _see(self) -> None:
        self.reserved.append(self.team.snapshot().spend.reserved)

    def check(self, case: Case) -> None:
        """Check the bill of all calls to a billionth, and what was reserved for each."""
        spend = self.team.snapshot().spend
        assert len(self.reserved) == 2 * CALLS
        assert min(self.reserved) >= case.dearest.of(Usage(output=64))
        if not case.usage:
            assert spend.used == spend.kept
            assert (
                case.price.of(Usage(output=64)) * 2 * CALLS < spend.used < case.price.of(Usage(input=1000)) * 2 * CALLS
            )
            assert self.team.costs.keys() == {("chat", "lost")}
            return
        assert round(spend.used * 1e9) * 1000 == case.price.exactly(USAGE) * 2 * CALLS
        assert self.team.costs == {(case.model, "answer"): pytest.approx(spend.used, abs=1e-12)}
        assert spend.kept == spend.reserved == 0


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
async def test_the_bill_is_that_of_the_model_that_answered(sdk: Sdk, server: Misbehaving, case: Case) -> None:
    """Each answer costs what its model costs, to the last digit; what is reserved is what the dearest can cost."""
    made = Served(sdk, server, case, is_async=True)
    for _ in range(CALLS):
        await sdk.ask(made.client, model=case.asked)
        async for _event in await sdk.stream(made.client, model=case.asked):
            pass
    for client in made.clients:
        await client.close()
    made.check(case)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_the_bill_of_threads(sdk: Sdk, server: Misbehaving, case: Case) -> None:
    """The same for the client of threads."""
    made = Served(sdk, server, case, is_async=False)
    for _ in range(CALLS):
        sdk.ask(made.client, model=case.asked)
        for _event in sdk.stream(made.client, model=case.asked):
            pass
    for client in made.clients:
        client.close()
    made.check(case)


def dear_reserved(team: SpendLimit) -> bool:
    """Return True if the reservations of this limit pay for an answer of the dear model."""
    return team.snapshot().spend.reserved >= DEAR.of(Usage(output=64))


async def test_what_is_reserved_stays_for_the_next_endpoint(sdk: Sdk, server: Misbehaving) -> None:
    """
    An endpoint that fails costs nothing, and gave the reservation back: the next one, the dear one, had none.

    With `reserve="max"` a hundred such calls exceeded the limit.
    """
    team, during = spend_limit("100 USD/day", prices=PRICES, reserve="max"), []
    provide(server, sdk.wire, fails(503), served("dear", seen=lambda: during.append(dear_reserved(team))))
    again = retry(on=presets.model.momentary, attempts=2, backoff=constant(0.001), budget=None)
    async with sdk.bare(server) as near, sdk.bare(server) as far:
        chat = pool("one fails", Endpoint("near", use=near, **SMALL), Endpoint("far", level=1, use=far, **LARGE))
        async with sdk.client(server, pipeline(team, again, chat)) as client:
            await sdk.ask(client, model="chat")
    assert during == [True]
    assert team.costs == {("dear", "retry"): pytest.approx(DEAR.of(USAGE), abs=1e-12)}
    assert team.snapshot().spend.reserved == 0


async def test_a_fallback_to_another_model_is_billed_as_that(sdk: Sdk, server: Misbehaving) -> None:
    """A limit around a function and its fallback is charged the model that has answered, by its client."""
    team = spend_limit("100 USD/day", prices=PRICES, reserve=0.5)
    provide(server, sdk.wire, fails(400), served("cheap"))
    async with sdk.client(server, retry(on=ValueError, attempts=2)) as client:

        async def small() -> str:
            return sdk.text(await sdk.ask(client, model="cheap"))

        @pipeline(team, fallback(small, on=Exception))
        async def answer() -> str:
            return sdk.text(await sdk.ask(client, model="dear"))

        assert await answer() == "hello"
    assert team.snapshot().spend.used == pytest.approx(CHEAP.of(USAGE), abs=1e-9)


async def test_a_limit_of_an_endpoint_reserves_for_its_model(sdk: Sdk, server: Misbehaving) -> None:
    """The limit that `each` makes for an endpoint reserves and charges what that costs, not what the others do."""
    teams: dict[str, SpendLimit] = {}
    during: list[float] = []

    def limited(endpoint: Endpoint) -> SpendLimit:
        teams[endpoint.name] = spend_limit("100 USD/day", prices=PRICES, reserve="max")
        return teams[endpoint.name]

    provide(server, sdk.wire, served("cheap", seen=lambda: during.append(teams["near"].snapshot().spend.reserved)))
    async with sdk.bare(server) as near, sdk.bare(server) as far:
        ends = Endpoint("near", use=near, **SMALL), Endpoint("far", level=1, use=far, **LARGE)
        async with sdk.client(server, pool("each its own", *ends, each=limited)) as client:
            await sdk.ask(client, model="chat")
    assert CHEAP.of(Usage(output=64)) < during[0] < DEAR.of(Usage(output=64))
    assert teams["near"].snapshot().spend.used == pytest.approx(CHEAP.of(USAGE), abs=1e-9)
    assert teams["far"].snapshot().spend.used == 0


async def test_a_name_that_stands_for_others_is_reserved_as_they_are(sdk: Sdk, server: Misbehaving) -> None:
    """A provider's "auto" is answered by a dearer model: once that is known, the next call reserves its price."""
    team, during = spend_limit("100 USD/day", prices=PRICES, reserve="max"), []
    provide(server, sdk.wire, served("dear", seen=lambda: during.append(dear_reserved(team))))
    async with sdk.client(server, team) as client:
        await sdk.ask(client, model="cheap")
        await sdk.ask(client, model="cheap")
    assert during == [False, True]


def unpriced(labels: dict[str, Any]) -> Iterable[Any]:
    """The endpoints of a pool, of which one has these labels."""
    return Endpoint("near", **SMALL), Endpoint("far", level=1, **labels)


@pytest.mark.parametrize(
    ("labels", "line"),
    [
        (
            {"model": "new"},
            "the model has no price; add it to prices, or set unknown='dearest', or give the endpoint 'far'",
        ),
        ({"model": "new", "price": DEAR}, ""),
        (
            {"model": "new", "price": Price(input=1, output=1)},
            "nothing bounds the answer; set max_tokens in the request, or max_output in the price",
        ),
    ],
    ids=["without a price", "with a price", "without a bound"],
)
async def test_the_remedy_for_an_endpoint_without_a_price(
    sdk: Sdk, server: Misbehaving, caplog: pytest.LogCaptureFixture, labels: dict[str, Any], line: str
) -> None:
    """The log named the caller's alias, which no request had, and advised to give it a price."""
    if sdk.name == "anthropic":
        pytest.skip("its requests have a bound")
    team = spend_limit("100 USD/day", prices=PRICES, reserve="max", name="strict")
    provide(server, sdk.wire, served("cheap"))
    async with sdk.bare(server) as own:
        ends = (attrs.evolve(one, use=own) for one in unpriced(labels))
        async with sdk.client(server, pipeline(team, pool("remedies", *ends))) as client:
            if not line:
                await sdk.ask(client, model="chat")
                return
            with pytest.raises(sdk.module.RateLimitError, match="its model has no price, at an endpoint") as caught:
                await sdk.ask(client.with_options(max_retries=0), model="chat")
    rejection = rejection_of(caught.value)
    assert isinstance(rejection, RateLimitedError)
    assert rejection.reason == "unpriced"
    (record,) = [one for one in caplog.records if one.name == "resilio"]
    assert record.getMessage().startswith(f"spend_limit 'strict': calls to 'new' are rejected: {line}")


async def test_an_answer_of_a_model_without_a_price_is_named(
    sdk: Sdk, server: Misbehaving, caplog: pytest.LogCaptureFixture
) -> None:
    """It is charged as the model asked for, and the log names the one that answered."""
    team = spend_limit("100 USD/day", prices=PRICES, reserve="max", name="answers")
    provide(server, sdk.wire, served("new"))
    async with sdk.client(server, team) as client:
        await sdk.ask(client, model="cheap")
    (record,) = [one for one in caplog.records if one.name == "resilio"]
    assert record.getMessage().startswith("spend_limit 'answers': answers of 'new', which has no price, are charged as")


def test_a_function_states_the_tokens_of_its_endpoint(vt: VirtualTime) -> None:
    """Without a guarded client the function states the tokens; the price is that of the endpoint's model."""
    team = spend_limit("100 USD/day", prices=PRICES, reserve=0.5)
    chat = pool("stated", Endpoint("near", **SMALL), Endpoint("far", level=1, **LARGE))
    answers = iter([None, "dear"])

    @pipeline(team, chat)
    def ask() -> None:
        bill().use(USAGE, next(answers))

    ask()
    ask()
    assert team.costs == {
        ("cheap", "answer"): pytest.approx(CHEAP.of(USAGE), abs=1e-12),
        ("dear", "answer"): pytest.approx(DEAR.of(USAGE), abs=1e-12),
    }
