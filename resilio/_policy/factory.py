"""
The functions that make policies, derived from the records of their options.

A record declares each option once. A function of a record and a name becomes, by `makes`, the one that users call: it
takes the record's options, shows them in its signature, and names the option that a misspelt one may mean. Type
checkers follow it as well: the parameters are those of the record's constructor.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from inspect import Parameter, Signature  # attrs has loaded it
from typing import Any, Concatenate, ForwardRef, ParamSpec, Protocol, TypeVar, get_args, get_origin, overload

import attrs

from resilio._options.fields import EnforcedOptions, NamedFirstOptions, NamedOptions, options_of
from resilio._options.suggestions import refuse_unknown
from resilio._policy.types import Converted

__all__ = ["Reading", "makes", "makes_of_several", "makes_or_guards", "takes"]

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


class OfSeveral(Protocol[T_contra, P, R_co]):  # pyright: ignore[reportInvalidTypeVarUse]
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


def makes(config: Callable[P, C], *examples: str) -> Callable[[Makes[C, R]], Callable[P, R]]:
    """
    Return a decorator: a function of a record and a name becomes one of the record's options.

    Args:
        config: The record.

        examples: How it is used, "@bulkhead(10)": the answer where a function is guarded without options, and, if there
            is a second one, where an option is given by position that has to be named.
    """
    return lambda fn: _public(fn, config, *examples)


def makes_or_guards(config: Callable[P, C]) -> Callable[[Makes[C, R]], OrGuards[P, R]]:
    """As `makes`, where a function that is the only argument is guarded by the defaults."""

    def decorate(fn: Makes[C, R]) -> Any:
        make = _public(fn, config)

        @wraps(make)
        def make_or_guard(*args: Any, **options: Any) -> Any:
            if args and (callable(args[0]) or isinstance(args[0], (staticmethod, classmethod))):
                return make()(args[0])
            return make(*args, **options)

        return make_or_guard

    return decorate


def makes_of_several(
    of: Callable[[str, object], tuple[T, ...]],  # noqa: ARG001 - gives T its type
    config: Callable[P, C],
    *examples: str,
) -> Callable[[Makes[C, R]], OfSeveral[T, P, R]]:
    """As `makes`, where the first option is given by position, any number of things, which `of` checks."""
    return lambda fn: _public(fn, config, *examples)


def takes(config: Callable[P, C]) -> Callable[[Callable[[Any, C], None]], Callable[Concatenate[Any, P], None]]:
    """Return a decorator: a constructor that is given a record becomes one of the record's options."""

    def decorate(written: Callable[[Any, C], None]) -> Any:
        read = Reading(written.__qualname__.partition(".")[0], config)

        @wraps(written)
        def construct(self: Any, /, *args: Any, **options: Any) -> None:
            written(self, read(args, options)[0])

        vars(construct)["__signature__"] = read.of_method
        return construct

    return decorate


def _public(fn: Any, config: Any, *examples: str) -> Any:
    read = Reading(fn.__name__, config, *examples)
    returns = fn.__annotations__["return"]

    @wraps(fn)
    def make(*args: Any, **options: Any) -> Any:
        return fn(*read(args, options))

    make.__annotations__ = {one.name: one.annotation for one in read.signature.parameters.values()}
    make.__annotations__["return"] = returns
    vars(make).update(__signature__=read.signature.replace(return_annotation=returns), options_record=config)
    return make


class Reading:
    """Arguments read as a record and a name; a wrong one is answered with what to write."""

    def __init__(self, function: str, config: Any, bare: str = "", by_name: str = "") -> None:
        """
        Remember what may be given.

        Args:
            function: The name of the function, for messages.

            config: The record.

            bare: What to write where a function is the first argument.

            by_name: What to write where an option is given by position; empty: `bare`.
        """
        self.signature = _signature(config)
        taken = self.signature.parameters.values()
        self._function = function
        self._config = config
        self._bare = bare
        self._by_name = (by_name or bare)[1:]
        self._named = issubclass(config, NamedOptions)
        self._known = frozenset(one.name for one in taken)
        self._positions = [one.name for one in taken if one.kind is Parameter.POSITIONAL_OR_KEYWORD]
        self._several = next((one.name for one in taken if one.kind is Parameter.VAR_POSITIONAL), None)
        self._required = [one.name for one in taken if one.default is Parameter.empty]

    @property
    def of_method(self) -> Signature:
        """The signature, after `self`."""
        return Signature([Parameter("self", Parameter.POSITIONAL_ONLY), *self.signature.parameters.values()])

    def __call__(self, args: tuple[Any, ...], options: dict[str, Any]) -> tuple[Any, str | None]:
        """Return the record and the name."""
        if options and not options.keys() <= self._known:
            refuse_unknown(self._function, options, self._known)
        if args or self._several:
            self._place(args, options)
        for one in self._required:
            if one not in options:
                options[one] = None  # refused by the check, whose message names the right values
        name = options.pop("name", None) if self._named else None
        return self._config(**options), name

    def _place(self, args: tuple[Any, ...], options: dict[str, Any]) -> None:
        """Add those given by position."""
        if self._bare and args:
            _refuse_bare(args[0], self._function, self._bare)
        if self._several is not None:
            options[self._several] = args
            return
        if len(args) > len(self._positions):
            like = f", like {self._by_name}" if self._by_name else ""
            value = args[len(self._positions)]
            raise TypeError(f"{self._function} takes its options by name{like}, not {value!r} by position")
        for name, value in zip(self._positions, args, strict=False):
            if name in options:
                raise TypeError(f"{self._function} is given {name!r} twice, by position and by name")
            options[name] = value


def _signature(config: Any) -> Signature:
    names = vars(sys.modules[config.__module__])
    taken = [_parameter(field, names) for field in options_of(config)]
    if issubclass(config, NamedOptions):
        first = issubclass(config, NamedFirstOptions)
        kind = Parameter.POSITIONAL_OR_KEYWORD if first else Parameter.KEYWORD_ONLY
        last = len(taken) - issubclass(config, EnforcedOptions)
        taken.insert(0 if first else last, Parameter("name", kind, default=None, annotation="str | None"))
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


def _refuse_bare(value: object, factory: str, example: str) -> None:
    """Raise the TypeError for `@bulkhead` in place of `@bulkhead(10)`; `example` is what to write."""
    if callable(value) or isinstance(value, (staticmethod, classmethod)):
        raise TypeError(f"{factory} needs options before it can guard a function: write {example}, not @{factory}")
