"""Policy x policy x form of a call x answer: permits, tokens, money, counters, times told, deadlines."""

from __future__ import annotations

import pytest
from crossings.recipes import JUDGING, READY, REJECTING, Part
from crossings.stacks import FORMS, Books, impossible, play

from resilio.testing import VirtualTime, assert_no_leaks

pytestmark = pytest.mark.filterwarnings("ignore::resilio.PipelineWarning")

INNER = [*((kind, True) for kind in READY), *((kind, False) for kind in REJECTING)]


def crossed(outer: str, form: str) -> list[tuple[str, bool]]:
    """Return the inner policies that a policy is crossed with; a stack has one pool."""
    way = FORMS[form]
    if impossible(outer, way):
        return []
    return [pair for pair in INNER if not impossible(pair[0], way) and (outer, pair[0]) != ("pool", "pool")]


PAIRS = sum(len(crossed(outer, form)) for outer in READY for form in FORMS)


def marks(outer: str, form: str) -> list[pytest.MarkDecorator]:
    """Return the time of a case whose threads hand virtual time to each other."""
    return [pytest.mark.real(3)] if outer == "timeout" and FORMS[form].threads else []


CASES = [
    pytest.param(outer, form, id=f"{outer}-{form}-{len(crossed(outer, form))}-pairs", marks=marks(outer, form))
    for outer in READY
    for form in FORMS
    if crossed(outer, form)
]


def within(kind: str, form: str, *, ready: bool) -> Part:
    """Return the inner policy, to be kept as long as it is to reject."""
    return Part(READY[kind](FORMS[form])) if ready else REJECTING[kind]()


@pytest.mark.parametrize(("outer", "form"), CASES)
def test_each_promise_holds_where_two_policies_meet(vt: VirtualTime, outer: str, form: str) -> None:
    """Around each other policy, ready and rejecting, with each answer of the server."""
    way = FORMS[form]
    for place, (inner, ready) in enumerate(crossed(outer, form)):
        part = within(inner, form, ready=ready)
        books = Books(vt, READY[outer](way), part.policy, raising=way.stream or (place + len(outer)) % 2 == 0)
        try:
            play(books, form, "trio" if place % 3 == 0 else "asyncio")
            assert bool(books.server.calls) is ready
            part.let_in()
            books.check(charges_apart=way.block or (way.threads and "timeout" in (outer, inner)))
            if ready and inner in JUDGING:
                books.judged(inner, books.policies[1])
        except AssertionError as error:
            error.add_note(f"{outer} around {inner}, {'ready' if ready else 'rejecting'}, by {form}")
            raise
    assert_no_leaks()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", READY)
def test_what_cannot_be_crossed_is_rejected_where_it_is_made(vt: VirtualTime, kind: str, form: str) -> None:
    """So no pair is left out but for those that the library refuses with a TypeError."""
    assert Books(vt, READY[kind](FORMS[form])).fits(form) is not impossible(kind, FORMS[form])
