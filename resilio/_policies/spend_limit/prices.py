"""Prices of models, as data: no list of ours, since lists go out of date."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Literal, Self

import attrs

from resilio._context.time_of_day import wall_ns
from resilio._options.fields import option
from resilio._options.validators import choice, meant, number, positive_int, reject
from resilio._policies.spend_limit.money import LARGEST, currency_code, trillionths
from resilio._policies.spend_limit.periods import NS

__all__ = ["Price", "Prices", "UnknownModelError", "Usage", "is_version"]

PER = 1_000_000
"""The tokens that a price is for."""
_DATE = re.compile(r"[-@](\d{4}-\d{2}-\d{2}|\d{8})$")


class UnknownModelError(LookupError):
    """A model has no price."""


@attrs.frozen(kw_only=True)
class Usage:
    """
    The tokens that a call has used; each is in one field only.

    Attributes:
        input: Tokens of the request that are billed in full.

        cached: Tokens of the request that were read from the provider's cache.

        written: Tokens of the request that were written to it.

        output: Tokens of the answer, those of reasoning included.
    """

    input: float = 0.0
    cached: float = 0.0
    written: float = 0.0
    output: float = 0.0


def _amount(name: str, value: object, *, none_ok: bool = False) -> Any:
    return None if value is None and none_ok else number(name, value, low=0.0, high=LARGEST)


def _date(name: str, value: object, *, none_ok: bool) -> date | None:
    if isinstance(value, str):
        try:
            return date.fromisoformat(value)
        except ValueError:
            reject(name, value, "a date like 2026-11-01")
    if value is None and none_ok:
        return None
    if isinstance(value, datetime) or not isinstance(value, date):
        reject(name, value, "a date like 2026-11-01, or None: always", TypeError)
    return value


@attrs.frozen(kw_only=True)
class Price:
    """
    The price of a model: amounts of money for a million tokens.

    Attributes:
        input: For a million tokens of the request.

        output: For a million tokens of the answer.

        cached: For a million tokens of the request that the provider has read from its cache; None: `input`.

        written: For a million tokens of the request that it has written to its cache; None: `input`.

        request: For each request, whatever its tokens.

        currency: The currency of all of these.

        valid_from: The first day, in UTC, on which it applies; None: always.

        max_output: The most tokens that an answer of the model can have; None: unknown.
    """

    input: float = option(_amount)
    output: float = option(_amount, default=0.0)
    cached: float | None = option(_amount, default=None, none_ok=True)
    written: float | None = option(_amount, default=None, none_ok=True)
    request: float = option(_amount, default=0.0)
    currency: str = option(currency_code, default="USD")
    valid_from: date | None = option(_date, default=None, none_ok=True)
    max_output: int | None = option(positive_int, default=None, none_ok=True)

    def of(self, usage: Usage) -> float:
        """Return the cost of a call in the currency."""
        return self.exactly(usage) / 1e12

    def exactly(self, usage: Usage) -> int:
        """Return the cost of a call in trillionths of the currency."""
        cached = self.input if self.cached is None else self.cached
        written = self.input if self.written is None else self.written
        parts = (
            (usage.input, self.input),
            (usage.cached, cached),
            (usage.written, written),
            (usage.output, self.output),
        )
        tokens = sum(round(count * _a_token(amount)) for count, amount in parts)
        return tokens + trillionths(self.request)

    def at_most(self, input_tokens: float, output_tokens: float) -> int:
        """Return the most that a call of this size can cost, in trillionths, whatever the provider's cache does."""
        dearest = max(self.input, self.cached or 0.0, self.written or 0.0)
        asked = round(input_tokens * _a_token(dearest))
        return asked + round(output_tokens * _a_token(self.output)) + trillionths(self.request)


def _a_token(amount: float) -> int:
    """Return the price of one token in trillionths, from that of a million."""
    return trillionths(amount) // PER


class Prices:
    """
    The prices of models, by name: `prices["gpt-5.5"]`.

    A name that ends with a date ("gpt-5.5-2026-04-01") has the price of the name without it, unless it has its own; a
    prefix up to a slash ("openai/gpt-5.5") counts likewise.
    """

    __slots__ = ("_prices", "unknown")

    def __init__(
        self, prices: Mapping[str, Price | Iterable[Price]], *, unknown: Literal["error", "dearest"] = "error"
    ) -> None:
        """
        Take prices by model.

        Args:
            prices: By name of the model its price, or several with different `valid_from`.

            unknown: The price of a model without one. "error": there is none, and a spend limit rejects its calls;
                "dearest": the highest of each kind.

        Raises:
            TypeError: Something else than prices.

            ValueError: No prices at all, or some in different currencies for one model.
        """
        given: Any = prices
        if not isinstance(given, Mapping) or not given:
            reject(
                "prices",
                prices,
                "a mapping of models to prices, like {'gpt-5.5': Price(input=1.25, output=10)}",
                TypeError,
            )
        self.unknown: str = choice("unknown", unknown, ("error", "dearest"))
        self._prices = {str(model): _history(model, given) for model, given in prices.items()}

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """
        Return the prices of a TOML file.

        It has a table `[models."NAME"]` for each model with the fields of :class:`Price`, `input` and `output` at
        least, or an array of them with different `valid_from`; at its top `currency`, "USD" by default, and `unknown`.

        Raises:
            OSError: The file cannot be read.

            ValueError: It is not of that form; the message names the file, the model and the field.
        """
        try:
            with Path(path).open("rb") as file:
                return cls.of(tomllib.load(file))
        except (TypeError, ValueError) as error:
            hint = "; for the list of LiteLLM, use Prices.of_litellm" if Path(path).suffix == ".json" else ""
            raise ValueError(f"{path}: {error}{hint}") from error

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Self:
        """Return the prices of data in the form of :meth:`load`, without a file."""
        others = set(data) - {"models", "currency", "unknown"}
        if others or not isinstance(data.get("models"), Mapping):
            wrong = f"not {min(others)!r}" if others else "and there is no [models.NAME]"
            raise ValueError(f"prices have tables [models.NAME], currency and unknown, {wrong}")
        currency = data.get("currency", "USD")
        prices = {model: list(_given(model, given, currency)) for model, given in data["models"].items()}
        return cls(prices, unknown=data.get("unknown", "error"))

    @classmethod
    def of_litellm(
        cls, data: Mapping[str, Any] | str | Path, *, unknown: Literal["error", "dearest"] = "error"
    ) -> Self:
        """
        Return the prices of the JSON that LiteLLM publishes (`model_prices_and_context_window.json`), all in USD.

        Args:
            data: The object, or the path of the file.

            unknown: As of the class.

        Models that are not billed by tokens are left out.
        """
        entries = json.loads(Path(data).read_text("utf-8")) if isinstance(data, (str, Path)) else data
        found = {name: price for name, entry in entries.items() if (price := _of_litellm(entry)) is not None}
        if not found:
            raise ValueError("data must be the list of LiteLLM: no entry has an input_cost_per_token")
        return cls(found, unknown=unknown)

    def __getitem__(self, model: str, /) -> Price:
        found = self.get(model)
        if found is None:
            known = meant(model, self._prices)
            raise UnknownModelError(f"{model!r} has no price{known}: add one, or set unknown='dearest'")
        return found

    def get(self, model: str | None) -> Price | None:
        """Return the price of a model now; of an unknown one the dearest price, with `unknown="dearest"`, else None."""
        today = datetime.fromtimestamp(wall_ns() // NS, UTC).date()
        for name in _names(model or ""):
            found = _in_force(self._prices.get(name, ()), today)
            if found is not None:
                return found
        return self._dearest(today) if self.unknown == "dearest" else None

    def __contains__(self, model: object) -> bool:
        return any(name in self._prices for name in _names(str(model)))

    def __iter__(self) -> Iterator[str]:
        return iter(self._prices)

    def __len__(self) -> int:
        return len(self._prices)

    def __repr__(self) -> str:
        return f"<Prices of {len(self)} models, unknown={self.unknown!r}>"

    def currencies(self) -> set[str]:
        """Return the currencies in use."""
        return {price.currency for history in self._prices.values() for price in history}

    def _dearest(self, today: date) -> Price | None:
        found = [price for history in self._prices.values() if (price := _in_force(history, today))]
        if not found:
            return None
        most = [price.max_output for price in found if price.max_output is not None]
        return Price(
            input=max(max(price.input, price.cached or 0.0, price.written or 0.0) for price in found),
            output=max(price.output for price in found),
            request=max(price.request for price in found),
            currency=found[0].currency,
            max_output=max(most, default=None) if len(most) == len(found) else None,
        )


def _names(model: str) -> Iterator[str]:
    """Yield the names under which a model may have a price, the most exact first."""
    for name in dict.fromkeys((model, model.rpartition("/")[2])):
        yield name
        if _DATE.search(name):
            yield _DATE.sub("", name)


def is_version(answered: str, asked: str) -> bool:
    """Return True if both name one model: with a date or a prefix, or without."""
    one, other = answered.rpartition("/")[2], asked.rpartition("/")[2]
    return one == other or _DATE.sub("", one) == other or one == _DATE.sub("", other)


def _in_force(history: tuple[Price, ...], today: date) -> Price | None:
    return next((one for one in history if one.valid_from is None or one.valid_from <= today), None)


def _history(model: object, given: object) -> tuple[Price, ...]:
    """Return the prices of a model, the latest first."""
    prices = (given,) if isinstance(given, Price) else tuple(given) if isinstance(given, Iterable) else ()
    if not prices or not all(isinstance(one, Price) for one in prices):
        reject(f"prices[{model!r}]", given, "a Price, or several with different valid_from", TypeError)
    days = [one.valid_from or date.min for one in prices]
    if len(set(days)) != len(days) or len({one.currency for one in prices}) > 1:
        raise ValueError(f"prices[{model!r}] must have different valid_from and one currency")
    return tuple(sorted(prices, key=lambda one: one.valid_from or date.min, reverse=True))


def _given(model: str, given: object, currency: str) -> Iterator[Price]:
    for entry in given if isinstance(given, list) else [given]:
        if not isinstance(entry, Mapping):
            raise TypeError(f"models.{model} must be a table, or an array of tables, not {entry!r}")
        _check_fields(model, entry)
        try:
            yield Price(**{"currency": currency, **entry})
        except (TypeError, ValueError) as error:
            raise ValueError(f"models.{model}: {error}") from None
        if "output" not in entry:  # a price list without it would count a tenth of the cost
            raise ValueError(f"models.{model}: output is missing: the amount for a million tokens of the answer, or 0")


def _check_fields(model: str, entry: Mapping[str, Any]) -> None:
    """Reject a field that no price has, and a price without one that each has."""
    fields = [field.name for field in attrs.fields(Price)]
    for name, value in entry.items():
        if isinstance(value, Mapping):  # TOML reads the dot of an unquoted name as a table inside
            raise TypeError(f'models.{model}.{name}: write [models."..."], a name with a dot needs quotes')
        if name not in fields:
            raise ValueError(f"models.{model}: no field {name!r}{meant(name, fields)}; there are: {', '.join(fields)}")
    if "input" not in entry:
        raise ValueError(f"models.{model}: input is missing: the amount for a million tokens of the request")


_LITELLM = {
    "input_cost_per_token": "input",
    "output_cost_per_token": "output",
    "cache_read_input_token_cost": "cached",
    "cache_creation_input_token_cost": "written",
}


def _of_litellm(entry: object) -> Price | None:
    """Return the price of an entry; None if it has none for tokens."""
    if not isinstance(entry, Mapping) or not isinstance(entry.get("input_cost_per_token"), (int, float)):
        return None
    amounts: dict[str, Any] = {
        name: float(f"{entry[field] * PER:.12g}")
        for field, name in _LITELLM.items()
        if isinstance(entry.get(field), (int, float))
    }
    request, most = entry.get("input_cost_per_request"), entry.get("max_output_tokens")
    return Price(
        **amounts,
        request=float(request) if isinstance(request, (int, float)) else 0.0,
        max_output=most if isinstance(most, int) and most > 0 else None,
    )
