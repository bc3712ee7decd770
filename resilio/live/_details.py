"""Details of one policy: options, totals, rejections by reason, and the steps of a pipeline."""

from __future__ import annotations

import math
import types
from collections.abc import Callable, Iterator, Mapping
from heapq import nlargest
from itertools import islice
from typing import TYPE_CHECKING, Any

import attrs

from resilio._composition.explain import Step, explain
from resilio._native.custom import latency_of
from resilio._options.fields import Window
from resilio._policies.rate_limit.rate import Rate
from resilio._policies.spend_limit.snapshot import Spend
from resilio.live._rows import counted
from resilio.live._sampler import pause

if TYPE_CHECKING:
    from resilio._native.primitives import LatencyHistogram
    from resilio._policy.base import Policy

__all__ = ["details_of", "editable"]

_LATENCIES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p99.9": 0.999, "max": 1.0}
_MOST_KEYS = 50
_BY_KEY = ("queued", "rejected", "failures", "calls")
_CALM = frozenset({"closed", "admitting", "normal", "serving", None})
_DATA = frozenset({"default"})  # options that hold a result for callers, which may be confidential


def details_of(policy: Policy[Any], tag: Callable[[Any], str]) -> dict[str, Any]:
    """
    Return a policy's options and numbers as plain data, without any argument of a call.

    Args:
        policy: The policy.

        tag: Returns the text that stands for a key.
    """
    if policy.kind == "endpoint":
        return _endpoint(policy)
    stage = policy.gates[0]
    gate = counted(stage)  # sums all keys in one pass, without blocking other threads
    snapshot = policy.snapshot() if gate is stage else policy._snapshot(None, gate.counters())
    found: dict[str, Any] = {
        "kind": policy.kind,
        "name": policy.name,
        "health": list(policy.health().reasons),
        "numbers": dict(_numbers(attrs.asdict(snapshot, recurse=False))),
        "rejections": {reason: count for reason, count in gate.rejections().items() if count},
        "latency": _latencies(policy.latency if gate is stage else latency_of(gate)),
    }
    if policy.kind == "pipeline":
        return found | {"explain": _explained(policy)}
    found["options"] = list(_options(policy.config))
    return found | ({"keys": _keys(policy, tag)} if policy.kind == "keyed" else {})


def _endpoint(endpoint: Any) -> dict[str, Any]:
    """Return an endpoint's numbers and its own policies; of its labels, which may be secret, nothing."""
    seen, policy = endpoint.snapshot(), endpoint.policy
    policies = getattr(policy, "policies", (policy,))
    steps = explain(policy.name, policies).steps
    return {
        "kind": "endpoint",
        "name": seen.name,
        "health": [],
        "numbers": dict(_numbers(attrs.asdict(seen, recurse=False))),
        "rejections": {},
        "latency": _latencies(endpoint.latency),
        "explain": {"steps": [_step(step) for step in steps], "warnings": []},
    }


def _explained(policy: Any) -> dict[str, Any]:
    explained = explain(policy.name, policy.policies)
    return {
        "steps": [_step(step) for step in explained.steps],
        "warnings": [warning.message for warning in explained.warnings],
    }


def _step(step: Step) -> dict[str, Any]:
    options = {name: _text(name, value) for name, value in step.options.items()}
    return {"kind": step.kind, "name": step.name, "options": options}


def _numbers(snapshot: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the numbers of a snapshot, those in its mappings included."""
    for name, value in snapshot.items():
        if isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
            yield name, round(value, 4) if isinstance(value, float) else value
        elif isinstance(value, Mapping):
            yield from _numbers({f"{name}.{key}": number for key, number in value.items()})
        elif isinstance(value, Spend):
            yield from _numbers({name: attrs.asdict(value)})


def _latencies(latency: LatencyHistogram) -> dict[str, float]:
    if not latency.count:
        return {}
    return {name: round(1000 * latency.quantile(share), 4) for name, share in _LATENCIES.items()}


def _options(config: Any) -> Iterator[dict[str, Any]]:
    for field in attrs.fields(type(config)):
        value = getattr(config, field.name)
        yield {"name": field.name, "value": _text(field.name, value), "plain": editable(field.name, value)}


def editable(name: str, value: object) -> bool:
    """Return True if the page may change an option: a number, bool, string or None, and no result for callers."""
    return name not in _DATA and (value is None or isinstance(value, bool | int | float | str))


def _text(name: str, value: Any) -> str:
    """Return an option as text: numbers, strings, names of types and functions; the type alone for all other values."""
    if name in _DATA:
        return f"<{type(value).__name__}>"
    if value is None or isinstance(value, bool | int | float | str):
        return str(value)
    if isinstance(value, type | types.FunctionType | types.BuiltinFunctionType | types.MethodType):
        return value.__qualname__
    if isinstance(value, Window):
        return " and ".join(part for part in (_calls(value.calls), _seconds(value.seconds)) if part)
    if isinstance(value, tuple | list | frozenset):
        return ", ".join(_text(name, part) for part in value) or "none"
    return value.rate if isinstance(value, Rate) else f"<{type(value).__name__}>"


def _calls(calls: int | None) -> str:
    return "" if calls is None else f"{calls} calls"


def _seconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:g} s"


def _keys(policy: Any, tag: Callable[[Any], str]) -> list[dict[str, Any]]:
    """
    Return the keys that need a look, at most 50.

    They are those not in their normal state or with queued calls. Policies without states, such as a rate limit or a
    retry, show the keys with most queued, rejected, failed and other calls, in this order.
    """
    found = _counted_keys(policy)
    if policy.gates[0].states:
        chosen = list(islice((key for key in found if key[1] not in _CALM or key[2]["queued"]), _MOST_KEYS))
    else:
        chosen = nlargest(_MOST_KEYS, found, key=lambda key: [key[2][name] for name in _BY_KEY])
    return [
        {"key": tag(key), "state": state, **{name: counters[name] for name in ("inflight", *_BY_KEY)}}
        for key, state, counters in chosen
    ]


def _counted_keys(policy: Any) -> Iterator[tuple[Any, str | None, Mapping[str, int]]]:
    """Yield the keys with state and counters of their policies."""
    for number, (key, one) in enumerate(policy._table.all().items(), 1):
        pause(number)
        yield key, one._state(), one.gates[0].counters()
