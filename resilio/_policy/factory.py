"""
The functions that make policies, derived from the records of their options.

A record declares each option once. The decorator `makes` turns a function of a record and a name into the public one:
it takes the record's options, shows them in its signature, and suggests an option for a misspelt one. Type checkers
follow it as well: the parameters are those of the record's constructor.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from inspect import Parameter, Signature  # already imported by attrs
from typing import Any, Concatenate, ForwardRef, NoReturn, ParamSpec, Protocol, TypeVar, get_args, get_origin, overload

import attrs

from resilio._options.fields import EnforcedOptions, NamedFirstOptions, NamedOptions, options_of
from resilio._options.suggestions import reject_unknown
from resilio._policy.types import Converted
from resilio._support.show import show

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
"""The function to decorate: it takes the checked record and the policy's name."""


def makes(config: Callable[P, C], *examples: str) -> Callable[[Makes[C, R]], Callable[P, R]]:
    """
    Return a decorator that turns a function of a record and a name into one of the record's options.

    Args:
        config: The record.

        examples: Examples of use, like "@bulkhead(10)", for error messages: the first if a function is guarded without
            options, the second, if there is one, if a keyword option is passed by position.
    """
    return lambda fn: _public(fn, config, *examples)


def makes_or_guards(config: Callable[P, C]) -> Callable[[Makes[C, R]], OrGuards[P, R]]:
    """Return a decorator as `makes` does; a function that is the only argument is guarded with the defaults."""

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
    """Return a decorator as `makes` does; the first option is any number of positional arguments, checked by `of`."""
    return lambda fn: _public(fn, config, *examples)


def takes(config: Callable[P, C]) -> Callable[[Callable[[Any, C], None]], Callable[Concatenate[Any, P], None]]:
    """Return a decorator that turns a constructor with a record into one with the record's options."""

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
    """Conversion of arguments to a record and a name; errors include an example of right use."""

    def __init__(self, function: str, config: Any, bare: str = "", by_name: str = "") -> None:
        """
        Read the record's signature.

        Args:
            function: The name of the function, for messages.

            config: The record.

            bare: The example for a function as first argument.

            by_name: The example for a keyword option that is passed by position; empty: `bare`.
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
            reject_unknown(self._function, options, self._known)
        if args or self._several:
            self._place(args, options)
        for one in self._required:
            if one not in options:
                options[one] = None  # rejected by the check, whose message names the right values
        name = options.pop("name", None) if self._named else None
        return self._config(**options), name

    def _place(self, args: tuple[Any, ...], options: dict[str, Any]) -> None:
        """Add the positional arguments to the options."""
        if self._bare and args:
            _reject_bare(args[0], self._function, self._bare)
        if self._several is not None:
            if self._several in options:
                _refuse_by_name(self._several, options[self._several], self._function, self._by_name)
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
    """Return the type that users write; for a converted option that of its input."""
    alias = names.get(annotation)
    if get_origin(alias) is not Converted:
        return annotation
    given = get_args(alias)[0]
    return given.__forward_arg__ if isinstance(given, ForwardRef) else given


def _reject_bare(value: object, factory: str, example: str) -> None:
    """Raise the TypeError for `@bulkhead` in place of `@bulkhead(10)`, the `example`."""
    if callable(value) or isinstance(value, (staticmethod, classmethod)):
        raise TypeError(f"{factory} needs options before it can guard a function: write {example}, not @{factory}")


def _refuse_by_name(option: str, value: object, factory: str, example: str) -> NoReturn:
    """Raise the TypeError for `rate_limit(rates="10/s")`."""
    like = f", like {example}" if example else ""
    raise TypeError(f"{factory} takes {option} by position{like}, not {option}={show(value)}")
