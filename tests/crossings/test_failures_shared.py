"""Pool x policy of each endpoint x share of failures: failures that all endpoints share reject no call."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from crossings.recipes import READY, STRATEGIES, Way
from crossings.server import Server

from resilio import Endpoint, pool
from resilio.testing import VirtualTime

CALLS = 400
LEAST = 0.98
"""Of the answers that calls in turn get."""
EACH = [None, *(kind for kind in READY if kind not in STRATEGIES | {"keyed", "pool"})]
SHARES = [(2, 0.6), (3, 0.5), (6, 0.6), (10, 0.7)]
"""Endpoints, and the share of the calls that fail at each."""


@pytest.mark.parametrize(("size", "share"), SHARES, ids=str)
@pytest.mark.parametrize("each", EACH)
def test_what_fails_everywhere_is_called_everywhere(vt: VirtualTime, each: str | None, size: int, share: float) -> None:
    """Three endpoints that fail half of the time answered .24 of their calls, and .53 were rejected."""
    options: dict[str, Any] = {} if each is None else {"each": lambda _: READY[each](Way())}
    for seed, answer in enumerate(("500", "lost")):
        random, server = Random(seed), Server(vt)
        replicas = pool(None, *map(Endpoint, "abcdefghij"[:size]), on="http", **options)
        replicas._table._seed(seed)
        served = 0
        for _ in range(CALLS):
            server.begin([answer if random.random() < share else "200"])
            replicas.try_call(server.serve)
            served += server.script == ["200"]
        answered = sum(one is not None and one.status == 200 for one in server.answers())
        assert answered >= LEAST * served, (answer, replicas.snapshot())
