"""Policy x scope: what a host or a fleet shares is held, counted and paid as in one process."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator
from typing import Any

import attrs
import pytest
from crossings.recipes import READY, REJECTING, STRATEGIES, Way
from crossings.stacks import FORMS, Books, play

from resilio import RetryBudget, constant, registry, retry
from resilio._policy.base import make
from resilio._registry.kinds import known_kinds, loaded
from resilio.sharing import Fleet, MemoryEngine, host
from resilio.testing import VirtualTime

pytestmark = pytest.mark.filterwarnings("ignore::resilio.PipelineWarning")

SHARED = sorted(
    kind for kind in known_kinds() if "scope" in {field.name for field in attrs.fields(loaded[kind].Config)}
)
"""Kinds with the option `scope`, by their records."""
SCOPES = ("host", "fleet")
CALLS = ("call", "acall")
AROUND = [kind for kind in READY if kind not in ("hedge", "timeout")]
"""Without what has no threads: these are crossed in tasks with each rejection, below."""
PAIRS = len(SHARED) * len(AROUND) * len(SCOPES) * len(CALLS)
_numbers = itertools.count()


@pytest.fixture(params=SCOPES)
def scope(request: pytest.FixtureRequest, vt: VirtualTime) -> Iterator[Any]:
    """A scope of this process alone."""
    registry.clear()
    with tempfile.TemporaryDirectory() as name:
        if request.param == "host":
            yield host("crossings", directory=name)
        else:
            yield Fleet("crossings", MemoryEngine(), is_stepped=True)
        registry.clear()


def shared(kind: str, scope: Any, way: Way, name: str | None = None) -> Any:
    """Return a policy of this kind that shares in a scope, by a name of its own or this one."""
    name = name or f"{kind}-{next(_numbers)}"
    if kind == "retry_budget":
        budget = RetryBudget(name, cap=100, initial=100, scope=scope)
        return retry(on="http", idempotent=True, backoff=constant(0.05), budget=budget)
    plain = READY[kind](way)
    return make(type(plain), name, attrs.evolve(plain.config, scope=scope))


@pytest.mark.parametrize("form", CALLS)
@pytest.mark.parametrize("inner", SHARED)
def test_a_shared_policy_is_one_of_the_process_too(vt: VirtualTime, scope: Any, inner: str, form: str) -> None:
    """Within each other policy, and within limits of the same scope."""
    way = FORMS[form]
    if isinstance(scope, Fleet) and inner == "adaptive_limit":
        with pytest.raises(TypeError, match="its law learns from the latency of each call"):
            shared(inner, scope, way)
        return
    for place, outer in enumerate(AROUND):
        books = Books(vt, READY[outer](way), shared(inner, scope, way), raising=place % 2 == 0, scope=scope)
        play(books, form)
        books.check()
        if inner not in STRATEGIES:
            books.judged(inner, books.policies[1])


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_a_shared_limit_pays_for_no_call_that_was_never_made(vt: VirtualTime, scope: Any, strategy: str) -> None:
    """The tokens and the money of a host or a fleet come back, with any strategy between."""
    for rejecting in REJECTING:
        full = REJECTING[rejecting]()
        books = Books(vt, READY[strategy](FORMS["acall"]), full.policy, scope=scope)
        play(books, "acall")
        assert not books.server.calls
        full.let_in()
        books.check()
