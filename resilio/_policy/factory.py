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

from resilio._options.fields import NamedFirstOptions, NamedOptions, options_of
from resilio._options.suggestions import reject_unknown
from resilio._policy.rules import is_preset_name
from resilio._policy.types import Converted
from resilio._support.show import show

__all__ = ["Reading", "makes", "makes_named_of_several", "makes_of_several", "makes_or_guards", "takes"]

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


class NamedOfSeveral(Protocol[T_contra, P, R_co]):  # pyright: ignore[reportInvalidTypeVarUse]
    """As `OfSeveral`, after the policy's name."""

    @overload
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...
    @overload
    def __call__(self, name: str | None, a: T_contra, /, *args: P.args, **kwargs: P.kwargs) -> R_co: ...
    @overload
    def __call__(self, name: str | None, a: T_contra, b: T_contra, /, *args: P.args, **kwargs: P.kwargs) -> R_co: ...
    @overload
    def __call__(
        self, name: str | None, a: T_contra, b: T_contra, c: T_contra, /, *args: P.args, **kwargs: P.kwargs
    ) -> R_co: ...
    @overload
    def __call__(
        self, name: str | None, a: T_contra, b: T_contra, c: T_contra, d: T_contra, /, *args: P.args, **kwargs: P.kwargs
    ) -> R_co: ...
    @overload
    def __call__(
        self,
        name: str | None,
        a: T_contra,
        b: T_contra,
        c: T_contra,
        d: T_contra,
        e: T_contra,
        /,
        *more: T_contra,
        **options: Any,
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
            first = args[0] if args else None
            if args and _is_guardable(first):
                if len(args) > 1 or options:
                    raise TypeError(
                        f"{fn.__name__} guards a function with its defaults: write {fn.__name__}(options)(function) to "
                        f"guard {show(first)} with options"
                    )
                return make()(first)
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


def makes_named_of_several(
    of: Callable[[str, object], tuple[T, ...]],  # noqa: ARG001 - gives T its type
    config: Callable[P, C],
    *examples: str,
) -> Callable[[Makes[C, R]], NamedOfSeveral[T, P, R]]:
    """Return a decorator as `makes_of_several` does; the policy's name comes before the several arguments."""
    return lambda fn: _public(fn, config, *examples)


def takes(config: Callable[P, C]) -> Callable[[Callable[[Any, C], None]], Callable[Concatenate[Any, P], None]]:
    """Return a decorator that turns a constructor with a record into one with the record's options."""

    def decorate(written: Callable[[Any, C], None]) -> Any:
        reading = Reading(written.__qualname__.partition(".")[0], config)
        read = reading.read

        @wraps(written)
        def construct(self: Any, /, *args: Any, **options: Any) -> None:
            written(self, read(args, options)[0])

        vars(construct)["__signature__"] = reading.of_method
        return construct

    return decorate


def _public(fn: Any, config: Any, *examples: str) -> Any:
    reading = Reading(fn.__name__, config, *examples)
    read, signature = reading.read, reading.signature
    returns = fn.__annotations__["return"]

    @wraps(fn)
    def make(*args: Any, **options: Any) -> Any:
        return fn(*read(args, options))

    make.__annotations__ = {one.name: one.annotation for one in signature.parameters.values()}
    make.__annotations__["return"] = returns
    vars(make).update(__signature__=signature.replace(return_annotation=returns), options_record=config)
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
        self._takes_function = any(field.metadata["takes_function"] for field in options_of(config))
        self._required = {one.name: None for one in taken if one.default is Parameter.empty}

    @property
    def of_method(self) -> Signature:
        """The signature, after `self`."""
        return Signature([Parameter("self", Parameter.POSITIONAL_ONLY), *self.signature.parameters.values()])

    def read(self, args: tuple[Any, ...], options: dict[str, Any]) -> tuple[Any, str | None]:
        """Return the record and the name."""
        if options and not options.keys() <= self._known:
            reject_unknown(self._function, options, self._known)
        if args or self._several:
            self._place(args, options)
        missing: list[str] = []
        if not self._required.keys() <= options.keys():
            missing = [one for one in self._required if one not in options]
            options.update(dict.fromkeys(missing))
        name = options.pop("name", None) if self._named else None
        try:
            return self._config(**options), name
        except (TypeError, ValueError) as error:
            better = self._better(str(error), missing, args)
            if better is None:
                raise
            raise (TypeError if isinstance(error, TypeError) else ValueError)(better) from None

    def _better(self, message: str, missing: list[str], args: tuple[Any, ...]) -> str | None:
        """Return a better message than the check's for a missing option and for a misplaced name."""
        if missing and any(message.startswith(f"{one} ") for one in missing):
            return f"{self._function} needs {' and '.join(missing)}{self._like()}: {message.removesuffix(', not None')}"
        if self._names_first(args) and args[0].isidentifier():
            return f"{message}; a name goes by its parameter, name={args[0]!r}"
        return None

    def _like(self) -> str:
        return f", like {self._by_name}" if self._by_name else ""

    def _names_first(self, args: tuple[Any, ...]) -> bool:
        """Return True if the first argument may be meant as the name, which goes by its parameter."""
        return self._named and "name" not in self._positions and bool(args) and isinstance(args[0], str)

    def _place(self, args: tuple[Any, ...], options: dict[str, Any]) -> None:
        """Add the positional arguments to the options."""
        if self._bare and args:
            if "on" in self._known:
                _reject_exceptions(args[0], self._function)
            if not (options and self._takes_function):
                _reject_bare(args[0], self._function, self._bare)
        if self._several is not None:
            if self._several in options:
                given = f"{self._several}={show(options[self._several])}"
                raise TypeError(f"{self._function} takes {self._several} by position{self._like()}, not {given}")
            options[self._several] = args[len(self._positions) :]
        elif len(args) > len(self._positions):
            self._reject_more(args)
        for name, value in zip(self._positions, args, strict=False):
            if name in options:
                raise TypeError(f"{self._function} is given {name!r} twice, by position and by name")
            options[name] = value

    def _reject_more(self, args: tuple[Any, ...]) -> NoReturn:
        """Raise the TypeError for more positional arguments than there are."""
        if self._names_first(args) and len(args) == len(self._positions) + 1:
            right = ", ".join([*map(repr, args[1:]), *([] if args[1:] else ["..."]), f"name={args[0]!r}"])
            raise TypeError(f"{self._function} takes its name by its parameter: write {self._function}({right})")
        value = show(args[len(self._positions)])
        raise TypeError(f"{self._function} takes its options by name{self._like()}, not {value} by position")


def _signature(config: Any) -> Signature:
    names = vars(sys.modules[config.__module__])
    taken = [_parameter(field, names) for field in options_of(config)]
    if issubclass(config, NamedOptions):
        first = issubclass(config, NamedFirstOptions)
        kind = Parameter.POSITIONAL_OR_KEYWORD if first else Parameter.KEYWORD_ONLY
        last = len(taken) - sum(one.name in ("enforce", "scope") for one in taken)
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


def _reject_exceptions(value: object, factory: str) -> None:
    """Raise the TypeError for `retry(OSError)` or `retry("http")` in place of `retry(on=OSError)`."""
    several = isinstance(value, (tuple, list))
    kinds = value if isinstance(value, (tuple, list)) else (value,)
    names = [kind.__name__ for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseException)]
    if names and len(names) == len(kinds):
        on = f"({', '.join(names)})" if several else names[0]
    elif isinstance(value, str) and is_preset_name(value):
        on = repr(value)
    else:
        return
    raise TypeError(f"{factory} takes exceptions by name: write {factory}(on={on}), not {factory}({on})")


def _is_guardable(value: object) -> bool:
    """Return True for a function, and for what users take for one: a property, a coroutine."""
    return callable(value) or hasattr(value, "__get__") or hasattr(value, "__await__")
