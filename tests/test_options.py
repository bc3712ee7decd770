"""One declaration of each option: the record, from which signature, docs and the native setter follow."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import attrs
import pytest

import resilio
from resilio import bulkhead
from resilio._options import options_of

PACKAGE = Path(resilio.__file__).parent


for name in resilio.__all__:  # loaded when they are named
    getattr(resilio, name)
FACTORIES = [
    (made, made.options_record) for made in map(resilio.__dict__.get, dir(resilio)) if hasattr(made, "options_record")
]


def parameters(factory: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Return the parameters that `help()` and editors show."""
    return dict(inspect.signature(factory).parameters)


@pytest.mark.parametrize(("factory", "config"), FACTORIES)
def test_the_signature_is_that_of_the_record(factory: Callable[..., Any], config: type[Any]) -> None:
    """A default changed in the record alone is the one that `help()` shows; it stood twice before."""
    shown = parameters(factory)
    for field in options_of(config):
        if "several" not in field.metadata:
            default = inspect.Parameter.empty if field.default is attrs.NOTHING else field.default
            assert shown[field.name].default is default
    assert shown.keys() - {field.name for field in options_of(config)} <= {"name"}


@pytest.mark.parametrize(("factory", "config"), FACTORIES)
def test_each_option_is_documented_once(factory: Callable[..., Any], config: type[Any]) -> None:
    """The docstring of the function has every option, in the order of the signature."""
    assert list(documented(factory)) == list(parameters(factory))


def documented(factory: Callable[..., Any]) -> Iterator[str]:
    """Yield the options of the section "Args"."""
    text = inspect.getdoc(factory) or ""
    section = text.partition("Args:\n")[2].partition("\n\nRaises:")[0]
    return (found[1] for found in re.finditer(r"^    (\w+): ", section, re.MULTILINE))


def test_what_users_write_is_shown_where_the_record_keeps_another_type() -> None:
    """`max_wait` is kept as seconds, and taken as a timedelta as well."""
    assert parameters(bulkhead)["max_wait"].annotation == float | timedelta | None
    assert bulkhead(1, max_queued=1, max_wait=timedelta(seconds=2)).config.max_wait == 2.0
