"""
The tables of options in the docs are what the records and the docstrings say.

`python tests/options/test_option_tables.py` writes them anew.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import attrs
import pytest

import resilio
from resilio._options.fields import options_of

DOCS = Path(__file__).parents[2] / "docs" / "reference" / "patterns"
PAGES = {
    "adaptive_limit": "adaptive-limit.md",
    "bulkhead": "bulkhead.md",
    "circuit_breaker": "circuit-breaker.md",
    "custom_gate": "../../how-to/custom-gates.md",
    "deadline": "deadlines.md",
    "fallback": "fallback.md",
    "hedge": "hedge.md",
    "keyed": "keyed.md",
    "load_shed": "load-shedding.md",
    "pool": "pool.md",
    "rate_limit": "rate-limit.md",
    "retry": "retry.md",
    "RetryBudget": "retry.md",
    "spend_limit": "spend-limit.md",
    "standard": "standard.md",
    "timeout": "timeout.md",
}
HEAD = "| option | type | unit | default | |\n|---|---|---|---|---|\n"
DEFAULTS = {
    "<by preset and name>": "by preset and name",
    "<one for the policy>": "one for the policy",
    "()": "none",
    "<no default>": "none",
}


def table(name: str) -> str:
    """Return the table of a function's options, a row each."""
    function: Any = getattr(resilio, name)
    record = getattr(function, "options_record", None) or function.Config
    units = {field.name: field.metadata["unit"] for field in options_of(record)}
    meanings = dict(documented(function))
    rows = []
    for option in inspect.signature(function).parameters.values():
        about = (written(option.annotation, record), units.get(option.name, ""), default(option), meanings[option.name])
        cells = [cell.replace("|", r"\|") for cell in about]
        rows.append(f"| `{option.name}` | {' | '.join(cells)} |\n")
    return HEAD + "".join(rows).replace("|  ", "| ")


def documented(function: Any) -> Iterator[tuple[str, str]]:
    """Yield each option with what the section "Args" says of it, in one line."""
    section = (inspect.getdoc(function) or "").partition("Args:\n")[2].partition("\nRaises:")[0]
    for name, text in re.findall(r"^    (\w+): (.*(?:\n     .*)*)", section, re.MULTILINE):
        plain = re.sub(r":\w+:`[\w.]*?(\w+)`", r"`\1`", " ".join(text.split()))
        yield name, plain.removesuffix(".")


def written(annotation: Any, record: type[Any]) -> str:
    """Return a type as users would write it: strings by their values, modules left out."""
    known = {name: value for cls in record.__mro__ for name, value in names_of(cls).items()}
    literal = known.get(annotation) if isinstance(annotation, str) else None
    if get_origin(literal) is Literal:
        return ", ".join(f'`"{value}"`' for value in get_args(literal))
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    return "`" + re.sub(r"(collections\.abc|datetime|typing|resilio[.\w]*)\.", "", text) + "`"


def names_of(cls: type[Any]) -> dict[str, Any]:
    """Return the names of the module in which a record is declared."""
    return vars(inspect.getmodule(cls)) if attrs.has(cls) else {}


def default(option: inspect.Parameter) -> str:
    """Return the default as users would write it."""
    if option.kind is option.VAR_POSITIONAL or option.default is option.empty:
        return "" if option.kind is option.VAR_POSITIONAL else "required"
    value = option.default
    if isinstance(value, tuple) and value and all(isinstance(one, type) for one in value):
        return ", ".join(f"`{one.__name__}`" for one in value)
    text = {type: lambda: value.__name__, type(...): lambda: "..."}.get(type(value), lambda: repr(value))()
    return DEFAULTS.get(text, f"`{text}`".replace("'", '"'))


def rewritten(page: str) -> str:
    """Return a page with its tables as they have to be."""
    text = (DOCS / page).read_text()
    fresh = lambda match: f"{match[1]}{table(match[2])}<!-- end -->"  # noqa: E731
    return re.sub(r"(<!-- options: (\w+) -->\n).*?<!-- end -->", fresh, text, flags=re.DOTALL)


@pytest.mark.parametrize("page", sorted(set(PAGES.values())))
def test_the_tables_of_options_are_what_the_declarations_say(page: str) -> None:
    """Seven pages had tables written by hand: that of the hedge lacked three options."""
    assert rewritten(page) == (DOCS / page).read_text(), "run python tests/options/test_option_tables.py"


@pytest.mark.parametrize("name", PAGES)
def test_every_function_has_its_table(name: str) -> None:
    """A policy without a table would be left out by the test above."""
    assert f"<!-- options: {name} -->" in (DOCS / PAGES[name]).read_text()


if __name__ == "__main__":
    for one in set(PAGES.values()):
        (DOCS / one).write_text(rewritten(one))
