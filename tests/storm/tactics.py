"""Random strategies for a storm: what runs attempts, or cuts them short by itself, around and between the gates."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import attrs
import trio
from measured import measured

import resilio

__all__ = ["Tactic", "choose", "surely_inside"]

COPIES = ("hedge", "thread_timeout")
"""Of what is outside of these, one permit may be held for several callees."""

NOT_FOR_STREAMS = ("fallback", "hedge", "keyed", "thread_timeout")


@attrs.frozen
class Tactic:
    """A strategy, and what it is here."""

    policy: Any
    kind: str


def ms(rng: random.Random, low: int, high: int) -> float:
    """Return whole milliseconds, in seconds, so that things often fall on the same instant."""
    return rng.randint(low, high) / 1000


def choose(rng: random.Random, callee_error: type[Exception], place: str) -> list[Tactic]:
    """
    Return strategies in no order, perhaps none.

    Args:
        rng: What is random here.

        callee_error: What callees raise that is worth another attempt.

        place: "tasks", or "threads": whom they are for.
    """
    makers = {"retry": _retry, "fallback": _fallback, "deadline": _deadline, "keyed": _keyed}
    if place == "threads":
        makers["thread_timeout"] = _thread_timeout
    else:
        makers |= {"timeout": _timeout, "nested": _timeout, "learned": _learned, "hedge": _hedge}
    chosen = rng.sample(sorted(makers), rng.choice([0, 1, 1, 2, 3, len(makers)]))
    return [Tactic(makers[kind](rng, callee_error, place), kind) for kind in chosen]


def surely_inside(layers: list[Any], tactics: list[Tactic]) -> list[Any]:
    """Return the policies of which each callee that runs holds a permit of its own."""
    kinds = {id(tactic.policy): tactic.kind for tactic in tactics}
    last = max((at for at, layer in enumerate(layers) if kinds.get(id(layer)) in COPIES), default=-1)
    return layers[last + 1 :]


def for_streams(layers: list[Any], tactics: list[Tactic]) -> list[Any]:
    """Return the layers that can guard generators."""
    kinds = {id(tactic.policy): tactic.kind for tactic in tactics}
    return [layer for layer in layers if kinds.get(id(layer)) not in NOT_FOR_STREAMS]


def _retry(rng: random.Random, callee_error: type[Exception], place: str) -> Any:
    on = (callee_error, resilio.BulkheadFullError, resilio.CallTimeoutError)
    backoff = rng.choice([0.0, 0.0001 if place == "threads" else 0.002, resilio.full_jitter(0.001, cap=0.002)])
    budget = rng.choice([None, resilio.RetryBudget(ratio=0.5, cap=100)])
    return resilio.retry(on=on, attempts=rng.randint(2, 3), backoff=backoff, budget=budget)


def _fallback(rng: random.Random, callee_error: type[Exception], place: str) -> Any:
    async def elsewhere(*_: object, **__: object) -> str:
        await _sleep(0.001)
        if rng.random() < 0.3:
            raise callee_error("elsewhere")
        return "elsewhere"

    def at_once(*_: object, **__: object) -> str:
        return "at once"

    targets = [at_once] if place == "threads" or rng.random() < 0.3 else [elsewhere]
    on = (callee_error, resilio.CallTimeoutError) if rng.random() < 0.5 else Exception
    return resilio.fallback(*targets, on=on, memory=0.002)


async def _sleep(seconds: float) -> None:
    """Sleep on either kind of loop, also where a call is driven outside of any task."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        await trio.sleep(seconds)
    else:
        await asyncio.sleep(seconds)


def _deadline(rng: random.Random, _: type[Exception], place: str) -> Any:
    return resilio.deadline(ms(rng, 1, 20))


def _timeout(rng: random.Random, _: type[Exception], place: str) -> Any:
    return resilio.timeout(ms(rng, 1, 10))


def _learned(rng: random.Random, _: type[Exception], place: str) -> Any:
    return resilio.timeout("p90*1.5", floor=0.001, ceiling=ms(rng, 2, 10))


def _thread_timeout(rng: random.Random, _: type[Exception], place: str) -> Any:
    return resilio.timeout(ms(rng, 1, 5), thread=True)


def _hedge(rng: random.Random, _: type[Exception], place: str) -> Any:
    after = rng.choice([0.0, 0.001, 0.003, [0.001, 0.002]])
    return measured(after, typical=0.005, saved=10, min_delay=0.0, discard=rng.choice([None, _discard]))


async def _discard(result: object) -> None:
    await _sleep(0.001)


def _keyed(rng: random.Random, callee_error: type[Exception], place: str) -> Any:
    makers = [_retry, _deadline] if place == "threads" else [_retry, _timeout]
    maker = rng.choice(makers)
    seed = rng.random()
    return resilio.keyed(
        lambda: maker(random.Random(seed), callee_error, place), key=_key, max_keys=rng.choice([1, 3, 100]), idle=0.01
    )


def _key(plan: Any = None, *_: object) -> int:
    return 0 if plan is None else int(plan.number % 5)
