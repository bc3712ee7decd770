"""
A rate limit lets at most N calls pass in any period of a small limit ("10/min"), or a steady flow of tokens ("100/s").

Calls beyond it are queued fairly, or rejected.

Why: a dependency with a quota rejects requests beyond it, and each rejection costs a round trip, and sometimes a ban.
When not: if the number of concurrent calls hurts the dependency, a bulkhead fits better. It is not a limit across
processes (each process has its own), nor a guard of a server against its clients.

A whole number of up to 1,000 requests in more than a second is an exact sliding window: at most that many in any such
period, all at once if need be, which satisfies a provider however it counts. Every other rate, and each with `burst`,
is a token bucket (GCRA): in any time `t` at most `burst + rate * t` tokens pass. That is twice a second's worth in the
first second after a pause. For a strict spacing set `burst` to the cost of a call.

Source: ITU-T I.371 (generic cell rate algorithm).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from resilio._failures.retry_after import LONGEST_PAUSE
from resilio._native.gates import LimiterGate
from resilio._options.fields import SharedGateOptions, option, record, several
from resilio._options.fleets import Accuracy, OnStoreDown, accuracy, on_store_down
from resilio._options.validators import positive_int, reject, seconds
from resilio._policies.rate_limit.rate import Rate, cost_of_a_call, parse_rate, tokens
from resilio._policies.rate_limit.reservation import Reservation
from resilio._policy.base import Policy, make
from resilio._policy.factory import makes_of_several
from resilio._policy.types import Seconds, Time

__all__ = ["Rate", "RateLimit", "RateLimitConfig", "rate_limit"]

MOST_RATES = 8
_SOME = f"from 1 to {MOST_RATES} rates, like '100/s'"

_TAKES = {
    "leased": "draws on tokens leased from the store, and waits for one trip where these are spent and there are more",
    "asked": "waits for the store's answer, as the burst is too small for leases",
    "exact": "waits for the store's answer",
}
_WITHOUT_STORE = {
    "local": "each host has its share of the rate",
    "open": "all calls pass",
    "closed": "no call passes",
}


def _rates(name: str, value: object) -> tuple[str | Rate, ...]:
    given = (value,) if isinstance(value, (str, Rate)) else value
    if not isinstance(given, (tuple, list)):
        reject(name, value, "rates like '100/s' or Rate('90000/min', unit='tokens')", TypeError)
    if len(given) > MOST_RATES:
        reject(name, value, _SOME)
    for rate in given:
        if not isinstance(rate, Rate):
            parse_rate(name, rate)
    return tuple(given)


@record
class RateLimitConfig(SharedGateOptions):
    """The options of a rate limit, checked; :func:`rate_limit` documents each."""

    rates: tuple[str | Rate, ...] = several(_rates)
    burst: float | None = option(tokens, default=None, positive=True, none_ok=True)
    cost: float | Callable[..., float] = option(cost_of_a_call, default=1)
    max_wait: Seconds = option(seconds, default=0.0, zero_ok=True)
    max_queued: int = option(positive_int, default=100, zero_ok=True)
    accuracy: Accuracy = option(accuracy, default="leased")
    on_store_down: OnStoreDown | None = option(on_store_down, default=None, none_ok=True)

    def __attrs_post_init__(self) -> None:
        self.resolved()  # options that contradict each other raise here, not at the gate

    def resolved(self) -> tuple[Rate, ...]:
        """Return the rates in force: `burst` and `cost` apply to rates given as strings."""
        return tuple(
            rate if isinstance(rate, Rate) else Rate(rate, cost=self.cost, burst=self.burst) for rate in self.rates
        )

    def exact(self) -> tuple[bool, ...]:
        """Return for each rate whether a fleet counts it as an exact window."""
        return tuple(self.accuracy == "exact" and rate.is_window for rate in self.resolved())


class RateLimit(Policy[RateLimitConfig]):
    """Token buckets shared by all guarded functions; see :func:`rate_limit`, which makes one."""

    kind = "rate_limit"
    Config = RateLimitConfig
    _gate: LimiterGate

    def __init__(self, config: RateLimitConfig, name: str | None = None) -> None:
        """Make a limit with full buckets."""
        super().__init__(LimiterGate(config), config, name)

    @property
    def available(self) -> dict[str, float]:
        """The tokens available now by unit, of several rates of a unit the lowest; below zero: a debt."""
        return self._gate.available()

    @property
    def paused(self) -> float:
        """Seconds until the end of the pause that :meth:`pause` began; 0.0: there is none."""
        return self._gate.paused

    @property
    def cost_errors(self) -> int:
        """The number of calls whose cost function raised or returned no number >= 0; such a call cost 1."""
        return self._gate.cost_errors

    def reset(self) -> None:
        """Fill every bucket; waiting calls are served from it."""
        self._gate.fill()

    def observe(self, **remaining: float) -> None:
        """
        Lower the buckets to the tokens that another counter, such as the server's own, reports as left.

        Buckets that hold more are lowered to it, those that hold less stay. Waiting calls go on waiting.

        Args:
            remaining: Tokens left by unit, each >= 0.

        Raises:
            ValueError: A unit that no rate has, or no number of tokens.
        """
        self._gate.observe(self._gate.actual(dict(remaining)))

    def pause(self, wait: Time) -> None:
        """
        Hold back all calls for `wait` seconds from now, as a server's Retry-After asks.

        Calls wait for the end of the pause, and then pass at the rate, one after the other. A call with a deadline
        waits until the deadline at most, any other for `max_wait` after the pause. A call that may not wait that long,
        or would have to wait without a queue, is rejected at once (reason "paused"). Its `retry_after` is the time
        until it would pass.

        Args:
            wait: Seconds >= 0. A shorter pause does not end a longer one.
        """
        self._gate.hold(round(seconds("wait", wait, zero_ok=True) * 1e9))

    def peek(self, /, *args: Any, **kwargs: Any) -> float:
        """
        Return the seconds that a call would have to wait now, behind the queue; 0.0: it would pass. Changes nothing.

        Infinity: it costs more than `burst`, so that no wait helps.

        Args:
            args: Positional arguments for cost functions.

            kwargs: Keyword arguments for them.
        """
        return self._gate.wait(self._gate.amounts(args, kwargs))

    def _checked(self, changes: Mapping[str, Any]) -> RateLimitConfig:
        config = super()._checked(changes)
        if self._config.rates and not config.rates:
            reject("rates", config.rates, _SOME)
        return config

    def _numbers_of_all(self) -> dict[str, dict[str, float]]:
        return {"tokens": self._gate.available()}

    def _explained(self) -> str | None:
        fleet, config = getattr(self._link, "fleet", None), self._config
        if not config.rates:
            return f"no rate; holds all calls while a refusal's Retry-After lasts, at most {LONGEST_PAUSE:g} s"
        if fleet is None and (config.accuracy != "leased" or config.on_store_down is not None):
            return "accuracy and on_store_down have no effect without scope=fleet(...)"
        if fleet is None or fleet.is_alone:
            return None
        regime = self._link.sharing().regime or config.accuracy  # each key has a regime of its own
        down = config.on_store_down or ("closed" if any(config.exact()) else fleet.on_store_down)
        takes = _TAKES[regime]
        return f"{takes} (fleet {fleet.name}); while the store is away {_WITHOUT_STORE[down]}"

    def _about(self) -> list[str]:
        return [text for rate in self._config.resolved() for text in (str(rate), f"burst {rate.largest_burst:g}")]

    def reserve(self, *args: Any, **amounts: float) -> Reservation:
        """
        Return a block that takes an estimate and corrects it: `async with limit.reserve(tokens=1500) as r: ...`.

        In the block or after it, `r.settle(tokens=812)` sets the actual amount.

        Args:
            args: Positional arguments for cost functions, for the units that are left out of `amounts`.

            amounts: Tokens by unit, each >= 0; a unit that is left out costs as much as for a call.

        Raises:
            ValueError: A unit that no rate has, or no number of tokens.
        """
        return Reservation(self, self._gate, self._gate.amounts(args, {}, amounts))


@makes_of_several(_rates, RateLimitConfig, '@rate_limit("100/s")')
def rate_limit(config: RateLimitConfig, name: str | None) -> RateLimit:
    """
    Return a limit: "10/min" lets at most ten calls pass in any minute, ten at once; "100/s" a steady flow.

    With several rates a call takes tokens of all or of none. Up to 1,000 requests in more than a second, without
    `burst`, are an exact sliding window; every other rate is a token bucket.

    Args:
        rates: 1 to 8 of "100/s", "90000/min", "5/2s", "1000/h", or `Rate("90000/min", unit="tokens", cost=count)`.
        burst: The most tokens that rates given as strings hold, as token buckets. None: windows as above; other rates
            hold the tokens of one second, at least 1 and at least the cost of a call. A call that costs more than the
            burst is rejected (reason "too_large").
        cost: Tokens that a call takes of the rates given as strings: a number >= 0, or a function of the call's
            arguments that returns one. If it raises or returns anything else: 1. Fractions count, to a millionth.
        max_wait: Seconds that a call waits at most, >= 0; one that would have to wait longer is rejected at once. A
            pause that the dependency has asked for does not count. In a fleet a call waits for one trip in any case, if
            the store had its tokens.
        max_queued: Calls that may wait, >= 0; they are served in the order they came, large ones too.
        accuracy: In a fleet: "leased": calls draw on tokens that the store has leased to this host, and wait for one
            trip where these are spent and the store had more; "exact": each call waits for the store's answer, for
            `max_wait` or two trips, and "100/min" is an exact window of all hosts.
        on_store_down: In a fleet, what calls get while its store is away: "local": this host's share of the rate;
            "open": all pass; "closed": none does. None: as the fleet was made; for an exact window "closed".
        name: What it is called; the same name and options give the same limit.
        enforce: False: reject nothing and count what would have been rejected; 0 to 1: enforce for this share.
        scope: "host": one state for all processes of the service on this host, found by name; or what
            :func:`resilio.sharing.host` or :func:`resilio.sharing.fleet` returns. None: that of the variable
            `RESILIO_SCOPE`, "process" by default.

    Raises:
        TypeError: An option of a wrong type; the message names it and the value.
        ValueError: An option out of range, a constant cost above burst, or a name that belongs to another policy.
    """
    if not config.rates:
        reject("rates", config.rates, _SOME)
    return make(RateLimit, name, config)
