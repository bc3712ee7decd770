"""Policy x pool x form of a call x model: the bill is that of the models that have answered."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from crossings.recipes import READY
from crossings.server import Call, Server
from crossings.stacks import FORMS, Books, impossible, play

from resilio import Endpoint, pool
from resilio.cost import Price, Prices, Usage, bill, spend_limit
from resilio.testing import VirtualTime, assert_no_leaks

pytestmark = pytest.mark.filterwarnings("ignore::resilio.PipelineWarning")

USAGE = Usage(input=1000, output=100)
CHEAP, DEAR, OWN = (Price(input=each, output=4 * each, max_output=200) for each in (1, 100, 10))
PRICES = Prices({"cheap": CHEAP, "dear": DEAR})
FORMS_OF_MONEY = ("call", "stream", "acall", "astream")
SCRIPTS = [[answer, "200"] for answer in ("200", "429 for 2 s", "500", "lost", "slow")]
AROUND = [kind for kind in READY if kind not in ("pool", "timeout")]
"""A timeout in threads pays what was reserved, which `test_policies.py` has."""


@attrs.frozen
class Request:
    """A call to a model, the first argument of the guarded function."""

    endpoints: tuple[Endpoint, ...]
    model: str = "cheap"
    size: int = 4000
    max_tokens: int = 200


@attrs.frozen
class Told:
    """Where two endpoints tell which model answers, what an answer costs there, and the price that is reserved."""

    labels: tuple[dict[str, Any], ...]
    named: tuple[str | None, ...]
    prices: tuple[Price, ...]
    reserved: Price


MODELS = {
    "by the endpoint": Told(({"model": "dear"}, {"model": "cheap"}), (None, None), (DEAR, CHEAP), DEAR),
    "by the answer": Told(({}, {}), ("dear-2026-01-01", "cheap"), (DEAR, CHEAP), CHEAP),
    "by a mapping": Told(({"model": {"cheap": "dear"}}, {}), ("dear", None), (DEAR, CHEAP), DEAR),
    "by a price": Told(({"price": OWN}, {"model": "dear"}), (None, None), (OWN, DEAR), DEAR),
}


class Models(Server):
    """Two endpoints with models of their own, of which the bill gets the usage."""

    def __init__(self, vt: VirtualTime, told: Told, **options: Any) -> None:
        super().__init__(vt, **options)
        self.told = told
        self.limit: Any = None
        self.short: list[float] = []

    def _charge(self, call: Call) -> None:
        place = "ab".index(call.endpoint or "")
        call.cost = self.told.prices[place].of(USAGE)
        spend = self.limit.snapshot().spend
        is_first = sum(one.number == call.number for one in self.calls) == 1  # its bill replaces what was reserved
        if is_first and spend.reserved < self.told.reserved.of(USAGE):
            self.short.append(spend.reserved)
        bill().use(USAGE, self.told.named[place])


@pytest.mark.parametrize("told", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("form", FORMS_OF_MONEY)
def test_the_bill_is_that_of_the_models_that_answered(vt: VirtualTime, form: str, told: Told) -> None:
    """Around a pool of models and each other policy; what is reserved is enough for the dearest of them."""
    way = FORMS[form]
    for outer in AROUND:
        if impossible(outer, way):
            continue
        ends = [Endpoint(name, **labels) for name, labels in zip("ab", told.labels, strict=True)]
        server = Models(vt, told)
        server.limit = spend_limit("1000 USD/day", prices=PRICES, reserve="max")
        books = Books(
            vt,
            READY[outer](way),
            pool(None, *ends, on="http"),
            server=server,
            day=server.limit,
            request=(Request(tuple(ends)),),
        )
        play(books, form, some=SCRIPTS)
        try:
            books.check()
            assert not server.short, server.short
            assert {call.endpoint for call in server.calls} == {"a", "b"}
        except AssertionError as error:
            error.add_note(f"in {outer}, by {form}")
            raise
    assert_no_leaks()
