"""
How the function that makes a policy follows from the record of its options.

A record declares each option once. A function of a record and a name becomes, by `makes`, the one that users call: it
takes the record's options, shows them in its signature, and answers what does not exist with what may be meant. Type
checkers follow it as well: the parameters are those of the record's constructor.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from inspect import Parameter, Signature  # attrs has loaded it
from typing import Any, ForwardRef, ParamSpec, Protocol, TypeVar, get_args, get_origin, overload

import attrs

from resilio._misspelt import refuse_unknown
from resilio._options import GateOptions, NamedOptions, options_of
from resilio._policy import refuse_bare, refuse_position
from resilio._types import Converted

__all__ = ["makes", "makes_of_several", "makes_or_guards"]

C = TypeVar("C")
F = TypeVar("F", bound=Callable[..., Any])
P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
R_co = TypeVar("R_co", covariant=True)
T_contra = TypeVar("T_contra", contravariant=True)


class OrGuards(Protocol[P, R_co]):
    """A function that makes a policy, or guards the function that is its only argument."""

    @overload
    def __call__(self, fn: F, /) -> F: ...
    @overload
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...


class OfSeveral(Protocol[T_contra, P, R_co]):
    """A function that makes a policy of several things: four one by one, more as `*things`, for type checkers."""

    @overload
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...
    @overload
    def __call__(self, a: T_contra, /, *args: P.args, **kwargs: P.kwargs) -> R_co: ...
    @overload
    def __call__(self, a: T_contra, b: T_contra, /, *args: P.args, **kwargs: P.kwargs) -> R_co: ...
    @overload
    def __call__(self, a: T_contra, b: T_contra, c: T_contra, /, *args: P.args, **kwargs: P.kwargs) -> R_co: ...
    @overload
    def __call__(
        self, a: T_contra, b: T_contra, c: T_contra, d: T_contra, /, *args: P.args, **kwargs: P.kwargs
    ) -> R_co: ...


Makes = Callable[[C, str | None], R]
"""What is written: a function of the checked record and the policy's name."""


def makes(config: Callable[P, C], example: str = "") -> Callable[[Makes[C, R]], Callable[P, R]]:
    """
    Return a decorator: a function of a record and a name becomes one of the record's options.

    Args:
        config: The record.

        example: How it is used, "@bulkhead(10)": the answer where a function is guarded without options.
    """
    return lambda fn: _public(fn, config, example)


def makes_or_guards(config: Callable[P, C]) -> Callable[[Makes[C, R]], OrGuards[P, R]]:
    """As `makes`, where the name comes first, and a function in its place is guarded by the defaults."""
    return lambda fn: _public(fn, config, guards=True)


def makes_of_several(
    of: Callable[[str, object], tuple[T, ...]],  # noqa: ARG001 - the type of the things
    config: Callable[P, C],
    example: str = "",
) -> Callable[[Makes[C, R]], OfSeveral[T, P, R]]:
    """As `makes`, where the first option is given by position, any number of things, which `of` checks."""
    return lambda fn: _public(fn, config, example)


def _public(fn: Any, config: Any, example: str = "", *, guards: bool = False) -> Any:
    signature = _signature(config, name_first=guards)
    bind = _Binding(fn.__name__, signature, example)
    named = issubclass(config, NamedOptions)

    @wraps(fn)
    def make(*args: Any, **options: Any) -> Any:
        if guards and args and _is_function(args[0]):
            return fn(config(), None)(args[0])
        options = bind(args, options)
        name = options.pop("name", None) if named else None
        return fn(config(**options), name)

    returns = fn.__annotations__["return"]
    make.__annotations__ = {one.name: one.annotation for one in signature.parameters.values()} | {"return": returns}
    vars(make).update(__signature__=signature.replace(return_annotation=returns), options_record=config)
    return make


class _Binding:
    """Arguments as options by name: those by position, and the answers to wrong ones."""

    def __init__(self, function: str, signature: Signature, example: str) -> None:
        taken = signature.parameters.values()
        self._function = function
        self._example = example
        self._known = frozenset(signature.parameters)
        self._positions = [one.name for one in taken if one.kind is Parameter.POSITIONAL_OR_KEYWORD]
        self._several = next((one.name for one in taken if one.kind is Parameter.VAR_POSITIONAL), None)
        self._required = frozenset(
            one.name for one in taken if one.default is Parameter.empty and one.name != self._several
        )

    def __call__(self, args: tuple[Any, ...], options: dict[str, Any]) -> dict[str, Any]:
        """Return all options that were given, by name."""
        if not options.keys() <= self._known:
            refuse_unknown(self._function, options, self._known)
        if args or self._several:
            options |= self._by_position(args, options)
        if not self._required <= options.keys():
            missing = next(name for name in self._positions + sorted(self._required) if name not in options)
            like = f", like {self._example[1:]}" if self._example else ""
            raise TypeError(f"{self._function} needs the option {missing!r}{like}")
        return options

    def _by_position(self, args: tuple[Any, ...], options: dict[str, Any]) -> dict[str, Any]:
        if self._example and args:
            refuse_bare(args[0], self._function, self._example)
        if self._several is not None:
            return {self._several: args}
        if len(args) > len(self._positions):
            refuse_position(args[len(self._positions)], self._function, self._example)
        given = dict(zip(self._positions, args, strict=False))
        for name in given.keys() & options.keys():
            raise TypeError(f"{self._function} is given {name!r} twice, by position and by name")
        return given


def _is_function(value: object) -> bool:
    return callable(value) or isinstance(value, (staticmethod, classmethod))


def _signature(config: type[Any], *, name_first: bool) -> Signature:
    names = vars(sys.modules[config.__module__])
    taken = [_parameter(field, names) for field in options_of(config)]
    if issubclass(config, NamedOptions):
        kind = Parameter.POSITIONAL_OR_KEYWORD if name_first else Parameter.KEYWORD_ONLY
        last = len(taken) - issubclass(config, GateOptions)
        taken.insert(0 if name_first else last, Parameter("name", kind, default=None, annotation="str | None"))
    return Signature(sorted(taken, key=lambda one: one.kind))


def _parameter(field: attrs.Attribute[Any], names: dict[str, Any]) -> Parameter:
    kind = Parameter.KEYWORD_ONLY if field.kw_only else Parameter.POSITIONAL_OR_KEYWORD
    if "several" in field.metadata:
        return Parameter(field.name, Parameter.VAR_POSITIONAL, annotation=_given(field.type, names))
    default = Parameter.empty if field.default is attrs.NOTHING else field.default
    return Parameter(field.name, kind, default=default, annotation=_given(field.type, names))


def _given(annotation: Any, names: dict[str, Any]) -> Any:
    """Return the type that users write, of one that is converted."""
    alias = names.get(annotation)
    if get_origin(alias) is not Converted:
        return annotation
    given = get_args(alias)[0]
    return given.__forward_arg__ if isinstance(given, ForwardRef) else given
