"""The options of keyed policies, and what their factory and key functions may be."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Generic, Literal, TypeVar

from resilio._composition.pipeline import Pipeline
from resilio._options.call_key import call_key
from resilio._options.fields import NamedOptions, changed, kept, option, record
from resilio._options.scope import Scope, checked_scope
from resilio._options.validators import positive_int, reject, seconds, show
from resilio._policy.base import Policy
from resilio._policy.types import Seconds

__all__ = ["NOT_NEW", "KeyedConfig", "make_of", "parts_of", "reject_names", "takes_key"]

P = TypeVar("P", bound=Policy[Any])
NOT_NEW = (
    "factory must make a new policy for each key, and returned one twice: write it as a function that makes one, like "
    "`lambda: circuit_breaker()`, and put one that keys share around the keyed one"
)
OWN = frozenset({"max_keys", "idle", "scope"})


def _factory(name: str, value: Any) -> Any:
    if not callable(value) or isinstance(value, Policy):
        reject(name, value, "a function that makes a policy, like `lambda: circuit_breaker()`", TypeError)
    if hasattr(value, "options_record") and takes_key(value):  # it would take the key for its first option
        called = value.__name__
        reject(name, value, f"a function that makes a policy by itself, like `lambda: {called}(...)`", TypeError)
    return value


@record
class KeyedConfig(NamedOptions, Generic[P]):
    """
    The options of a keyed policy, checked; :func:`keyed` documents each.

    Attributes:
        overrides: Options of the keys' policies that were changed by `reconfigure`.
    """

    factory: Callable[..., P] = option(_factory, kw_only=False)
    key: str | Callable[..., Any] = option(call_key)
    max_keys: int = option(positive_int, default=10_000)
    idle: Seconds = option(seconds, default=600.0)
    scope: Literal["process", "host"] | Scope | None = option(checked_scope, default=None, none_ok=True)
    overrides: dict[str, Any] = kept(factory=dict)

    def changed(self, values: Mapping[str, Any]) -> KeyedConfig[P]:
        """Return these options with `values` changed: its own, or those of the keys' policies."""
        changed = self.replaced(values)
        if changed.overrides != self.overrides:
            make_of(self, by_key=takes_key(self.factory))._checked(changed.overrides)
        return changed

    def replaced(self, values: Mapping[str, Any]) -> KeyedConfig[P]:
        """Return the result of `changed`, with options of the keys' policies still unchecked."""
        own = {name: value for name, value in values.items() if name in OWN}
        others = {name: value for name, value in values.items() if name not in OWN}
        if "factory" in others or "key" in others:
            raise TypeError("factory and key cannot be changed: policies and keys have been made of them")
        return changed(self, **own, overrides={**self.overrides, **others})


def parts_of(policy: Policy[Any]) -> tuple[Policy[Any], ...]:
    """Return the policy and its parts, at any depth."""
    inner = policy.config.policies if isinstance(policy, Pipeline) else ()
    return (policy, *[part for one in inner for part in parts_of(one)])


def takes_key(factory: Callable[..., Any]) -> bool:
    """Return True if the factory has a positional parameter without a default."""
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):  # a builtin without a signature
        return False
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return any(one.kind in positional and one.default is inspect.Parameter.empty for one in parameters)


def make_of(config: KeyedConfig[Any], key: Any = None, *, by_key: bool) -> Policy[Any]:
    """Return what the factory makes, of the key if it takes one; a TypeError if that is no policy."""
    made = config.factory(key) if by_key else config.factory()
    if not isinstance(made, Policy):
        raise TypeError(f"factory must make a policy; {show(config.factory)} made {show(made)}")
    return made


def reject_names(policy: Policy[Any]) -> None:
    """Raise a ValueError if a policy of a key, or a part of it, has a name."""
    for part in parts_of(policy):
        if part._given is not None:
            raise ValueError(
                f"factory must make policies without a name, not {part.name!r}: name the keyed policy, and put one "
                "that all keys share around it"
            )
