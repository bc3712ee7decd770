"""Prices: amounts for a million tokens, by model and day, from TOML and from LiteLLM's JSON."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from resilio.cost import Price, Prices, UnknownModelError, Usage
from resilio.testing import virtual_time

TOML = """
currency = "EUR"
unknown = "dearest"

[models."large"]
input = 2
cached = 0.5
written = 2.5
output = 8
max_output = 1000

[[models.small]]
input = 0.15
output = 0.6
request = 0.001

[[models.small]]
valid_from = 2026-01-03
input = 0.1
output = 0.5
"""


def test_each_token_has_its_price() -> None:
    """Cached tokens, those written to the cache and the request cost what it says; else the input's."""
    price = Price(input=2, cached=0.5, written=2.5, output=8, request=0.01)
    usage = Usage(input=1000, cached=2000, written=3000, output=4000)
    assert price.of(usage) == pytest.approx((1000 * 2 + 2000 * 0.5 + 3000 * 2.5 + 4000 * 8) / 1e6 + 0.01)
    assert Price(input=2).of(usage) == pytest.approx(6000 * 2 / 1e6)
    assert price.exactly(Usage(output=1)) == 8_000_000 + 10_000_000_000


def test_prices_are_loaded_from_toml(tmp_path: Path) -> None:
    """A file with a table for each model; prices of one model apply from their days on."""
    path = tmp_path / "prices.toml"
    path.write_text(TOML)
    prices = Prices.load(path)
    assert list(prices) == ["large", "small"]
    assert prices["large"] == Price(input=2, cached=0.5, written=2.5, output=8, max_output=1000, currency="EUR")
    assert prices.currencies() == {"EUR"}
    with virtual_time() as vt:
        assert prices["small"].input == 0.15
        vt.advance(3 * 86400)
        assert prices["small"].input == 0.1
        assert prices["small"].valid_from == date(2026, 1, 3)


def test_names_with_a_date_or_a_prefix_are_found() -> None:
    """A dated version, and the name that a gateway gives it, have the price of the model unless they have their own."""
    own = Price(input=3)
    prices = Prices({"gpt-5.5": Price(input=1), "gpt-5.5-2026-04-01": own})
    assert prices["gpt-5.5-2026-05-01"].input == prices["openai/gpt-5.5"].input == 1
    assert prices["openai/gpt-5.5-2026-04-01"] is own
    assert "gpt-5.5-20260501" in prices
    assert "gpt-5.5-mini" not in prices


def test_unknown_models() -> None:
    """An unknown model is an error that suggests a name, or as dear as the dearest in each kind of token."""
    prices = {"large": Price(input=2, output=8, max_output=100), "small": Price(input=1, cached=3, output=4)}
    with pytest.raises(UnknownModelError, match=r"'larger' has no price \(did you mean 'large'\?\)"):
        Prices(prices)["larger"]
    assert Prices(prices).get("larger") is None
    dearest = Prices(prices, unknown="dearest")["larger"]
    assert (dearest.input, dearest.output, dearest.max_output) == (3, 8, None)


def test_litellms_list_is_converted(tmp_path: Path) -> None:
    """Its amounts are for one token; what is not billed by tokens is left out."""
    data = {
        "sample_spec": {"input_cost_per_token": "x"},
        "gpt-4o-mini": {
            "input_cost_per_token": 1.5e-07,
            "output_cost_per_token": 6e-07,
            "cache_read_input_token_cost": 7.5e-08,
            "max_output_tokens": 16384,
        },
        "dall-e-3": {"input_cost_per_image": 0.04},
    }
    path = tmp_path / "model_prices_and_context_window.json"
    path.write_text(json.dumps(data))
    prices = Prices.of_litellm(path)
    assert list(prices) == ["gpt-4o-mini"]
    assert prices["gpt-4o-mini"] == Price(input=0.15, cached=0.075, output=0.6, max_output=16384)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"models": {"m": {"input": -1}}}, "models.m: input must be a number >= 0"),
        ({"models": {"m": {"inputs": 1}}}, "models.m: .*inputs"),
        ({"models": {"m": {"input": 1, "output": 2, "cache": 1}}}, r"no field 'cache' \(did you mean 'cached'\?\)"),
        ({"models": {"m": {"output": 2}}}, "models.m: input is missing"),
        ({"models": {"m": {"input": 1}}}, "models.m: output is missing: .*, or 0"),
        (
            {"models": {"m-5": {"5": {"input": 1, "output": 2}}}},
            r'models.m-5.5: write \[models."..."\], a name with a dot',
        ),
        ({}, r"prices have tables \[models.NAME\], currency and unknown, and there is no \[models.NAME\]"),
        ({"models": {"m": 1}}, "models.m must be a table"),
        ({"models": {"m": {"input": 1, "currency": "dollars"}}}, "models.m: currency must be"),
        ({"models": {"m": [{"input": 1, "output": 0}, {"input": 2, "output": 0}]}}, "different valid_from"),
        ({"prices": {}}, "tables"),
        ({"models": {"m": {"input": 1, "output": 0}}, "unknown": "free"}, "unknown must be"),
    ],
)
def test_bad_prices_are_named(data: Any, message: str) -> None:
    """The error names the model and the field; without `output` a list would count a small part of the cost."""
    with pytest.raises((TypeError, ValueError), match=message):
        Prices.of(data)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("prices.toml", "currency = USD", r"prices\.toml: Invalid value"),
        ("prices.toml", "[models.gpt-5.5]\ninput = 1\noutput = 2", r"prices\.toml: models\.gpt-5\.5: .* needs quotes"),
        ("prices.json", "{}", r"prices\.json: .*use Prices\.of_litellm"),
    ],
)
def test_a_bad_file_of_prices_is_named(tmp_path: Path, name: str, text: str, message: str) -> None:
    """The dot of gpt-5.5 is a table of its own to TOML, and was an error about a keyword argument '5'."""
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        Prices.load(path)


def test_a_list_without_a_price_is_not_one_of_litellm() -> None:
    """The error was about a mapping that the caller had not made."""
    with pytest.raises(ValueError, match="no entry has an input_cost_per_token"):
        Prices.of_litellm({"gpt-5.5": {"input": 1.25}})
