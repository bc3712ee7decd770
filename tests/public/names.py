"""
Facts about the public names, read from the sources and stubs: nothing is imported, so no client has to be installed.

Only the options of policies come from their records, which hold them once.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections import deque
from collections.abc import Iterable, Iterator
from copy import deepcopy
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import resilio
from resilio._policy.factory import Reading

ROOT = Path(resilio.__file__).parent
LONG = 140
"""The length from which on the options of a function have lines of their own."""
HOUSEKEEPING = {
    "__class_getitem__",
    "__copy__",
    "__deepcopy__",
    "__del__",
    "__delattr__",
    "__dir__",
    "__eq__",
    "__getattr__",
    "__getattribute__",
    "__getstate__",
    "__hash__",
    "__init_subclass__",
    "__new__",
    "__reduce__",
    "__reduce_ex__",
    "__repr__",
    "__set_name__",
    "__setattr__",
    "__setstate__",
    "__sizeof__",
    "__str__",
}
"""Methods that callers do not call."""
NOT_READ = "not read"
"""Mark of a function whose options are known only where its client is installed."""
SHOWN = {"asynccontextmanager", "classmethod", "contextmanager", "fixture", "staticmethod"}
"""Decorators that change how a function is used."""
OF_A_RECORD = {"makes", "makes_named_of_several", "makes_of_several", "makes_or_guards", "takes"}
"""Decorators that give a function the options of a record."""
INNER = ("resilio._native.gates", "resilio._native.shared", "resilio.sharing._")
GATE = ("resilio._native.core", "Gate")
"""Places of classes that signatures name and callers do not use."""
Place = tuple[str, str]
"""A module and a name in it."""


def lines() -> Iterator[str]:
    """Yield one line for each fact about a public name, and about the types that their signatures name."""
    public: dict[Place, str] = {}
    for module in modules():
        for name in exported(module):
            path = f"{module}.{name}"
            found = resolve(module, name)
            if found is None:
                yield f"{path}: module"
            elif found in public:
                yield f"{path} = {public[found]}"
            else:
                public[found] = path
    waiting = deque(public)
    known = dict(public)
    while waiting:
        place = waiting.popleft()
        about = About(place, known[place], public)
        yield from about.lines()
        for other in sorted(about.named - set(known)):
            path = f"...{other[1]}"
            known[other] = path if path not in known.values() else f"...{other[0].split('.')[-1]}.{other[1]}"
            waiting.append(other)


def modules() -> list[str]:
    """Return the names of the public modules, those with fewest dots first."""
    found = []
    for path in ROOT.rglob("*.py"):
        parts = ["resilio", *path.relative_to(ROOT).with_suffix("").parts]
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        if not any(part.startswith("_") for part in parts):
            found.append(".".join(parts))
    return sorted(found, key=lambda name: (name.count("."), name))


def exported(module: str) -> list[str]:
    """Return what a module exports: its `__all__`, and of a plugin the fixtures."""
    names: list[str] = []
    for node in contents(module).get("__all__", []):
        names += ast.literal_eval(node.value)
    for name, nodes in contents(module).items():
        fixture = any("fixture" in ast.unparse(one) for one in getattr(nodes[-1], "decorator_list", ()))
        names += [name] if fixture and not name.startswith("_") else []
    return names


@cache
def contents(module: str) -> dict[str, list[Any]]:
    """Return the definitions of a module by their names, those for type checkers included."""
    base = ROOT.joinpath(*module.split(".")[1:])
    candidates = (base.with_suffix(".pyi"), base.with_suffix(".py"), base / "__init__.py")
    path = next((one for one in candidates if one.is_file()), None)
    found: dict[str, list[Any]] = {}
    for node in flat(ast.parse(path.read_text(encoding="utf-8")).body if path else ()):
        for name in bound(node):
            found.setdefault(name, []).append(node)
    return found


def flat(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield statements, with those in the first branch of an `if` or `try`."""
    for node in body:
        if isinstance(node, (ast.If, ast.Try)):
            yield from flat(node.body)
        else:
            yield node


def bound(node: ast.stmt) -> Iterator[str]:
    """Yield the names that a statement binds."""
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            yield node.name
        case ast.ImportFrom() | ast.Import():
            yield from (alias.asname or alias.name for alias in node.names)
        case ast.Assign():
            for one in node.targets:
                yield from (name.id for name in getattr(one, "elts", [one]) if isinstance(name, ast.Name))
        case ast.AnnAssign(target=ast.Name()):
            yield node.target.id


def resolve(module: str, name: str) -> Place | None:
    """Return where a name is defined; None: it is a module, or defined elsewhere than in this package."""
    head, _, rest = name.partition(".")
    nodes = contents(module).get(head)
    if not nodes:
        return None
    node = nodes[-1]
    if isinstance(node, ast.ImportFrom):
        source = str(node.module)
        original = next(alias.name for alias in node.names if head in (alias.name, alias.asname))
        if source.split(".", maxsplit=1)[0] != "resilio":
            return None
        if original not in contents(source) or contents(f"{source}.{original}"):  # a module
            return resolve(f"{source}.{original}", rest) if rest else None
        return resolve(source, original)
    return None if isinstance(node, ast.Import) or rest else (module, head)


class Plain(ast.NodeTransformer):
    """Annotations without quotes, and the values of constants in the place of their names."""

    def __init__(self, module: str, *, annotation: bool) -> None:
        self._module = module
        self._annotation = annotation

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        """Open a quoted annotation."""
        if self._annotation and isinstance(node.value, str):
            return ast.parse(node.value, mode="eval").body
        return node

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        """Leave the strings of a Literal quoted."""
        return node if ast.unparse(node.value).endswith("Literal") else self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> ast.AST:
        """Replace the name of a constant."""
        if self._annotation or not node.id.strip("_").isupper():
            return node
        place = resolve(self._module, node.id)
        value = getattr(contents(place[0])[place[1]][-1], "value", None) if place else None
        return value if value is not None and len(ast.unparse(value)) < LONG / 2 else node


class About:
    """Lines about one name, and the other names in its annotations."""

    def __init__(self, place: Place, path: str, public: dict[Place, str]) -> None:
        self._place, self._path, self._public = place, path, public
        self.named: set[Place] = set()

    def lines(self) -> Iterator[str]:
        """Yield the lines."""
        module, name = self._place
        nodes = contents(module)[name]
        if isinstance(nodes[-1], ast.ClassDef):
            yield from self._of_class(module, nodes[-1])
        elif isinstance(nodes[-1], (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield from self._of_function(module, nodes, self._path)
        else:
            yield self._of_value(module, nodes[-1])

    def _of_value(self, module: str, node: Any) -> str:
        """Return a constant with its type, or its value if that is short; of an alias all of it."""
        typed = isinstance(node, ast.AnnAssign)
        text = f"{self._path}: {self._annotation(module, node.annotation)}" if typed else self._path
        value = node.value and ast.unparse(node.value)
        if value and not typed:
            alias = isinstance(node.value, (ast.Attribute, ast.BinOp, ast.Name, ast.Subscript))
            text += f" = {self._annotation(module, node.value) if alias else value}"
        return text if len(text) < 2 * LONG else f"{self._path} = ..."

    def _of_class(self, module: str, node: ast.ClassDef) -> Iterator[str]:
        shown = []
        seen: set[str] = set()
        members: list[str] = []
        for owner, body, bases in self._lineage(module, node):
            shown += bases
            members += self._of_members(owner, body, seen)
        record = [ast.unparse(one) for one in node.decorator_list if "disjoint_base" not in ast.unparse(one)]
        yield f"{self._path}: {' '.join([*(f'@{one}' for one in record), 'class'])}({', '.join(shown)})"
        yield from members
        if record and "kw_only=True" not in record[0] and ("attrs" in record[0] or record[0] == "record"):
            fields = [one.target.id for _, body, _ in self._lineage(module, node) for one in body.body if is_field(one)]
            yield f"{self._path}({', '.join(fields)})"

    def _lineage(self, module: str, node: ast.ClassDef) -> Iterator[tuple[str, ast.ClassDef, list[str]]]:
        """Yield a class and its private bases, each with those of its bases that a reader can look up."""
        bases, private = [], []
        for base in node.bases:
            plain = base.value if isinstance(base, ast.Subscript) else base
            place = resolve(module, ast.unparse(plain))
            definition = contents(place[0])[place[1]][-1] if place else None
            if place is None or place in self._public or not isinstance(definition, ast.ClassDef):
                bases.append(ast.unparse(base))
            else:
                private.append((place[0], definition))
        yield module, node, bases
        for owner, definition in private:
            yield from self._lineage(owner, definition)

    def _of_members(self, module: str, node: ast.ClassDef, seen: set[str]) -> Iterator[str]:
        """Yield the members of a class that none before it has."""
        members: dict[str, list[Any]] = {}
        for one in flat(node.body):
            for name in bound(one):
                members.setdefault(name, []).append(one)
        for name, nodes in members.items():
            hidden = name.startswith("_") and not (name.startswith("__") and name.endswith("__"))
            if hidden or name in HOUSEKEEPING or name in seen or name == "__slots__":
                continue
            seen.add(name)
            path = f"{self._path}.{name}"
            if isinstance(nodes[-1], (ast.FunctionDef, ast.AsyncFunctionDef)):
                yield from self._of_function(module, nodes, path)
            elif not isinstance(nodes[-1], (ast.ImportFrom, ast.Import, ast.ClassDef)):
                yield self._of_field(module, nodes[-1], path)
        for constructor in members.get("__init__", ()):
            for name in attributes(constructor):
                if name not in seen and not name.startswith("_"):
                    seen.add(name)
                    yield f"{self._path}.{name}"

    def _of_field(self, module: str, node: Any, path: str) -> str:
        text, value = path, node.value
        if isinstance(node, ast.AnnAssign):
            text += f": {self._annotation(module, node.annotation, follow=True)}"
        if isinstance(value, ast.Call) and ast.unparse(value.func) in ("attrs.field", "field", "option"):
            given = {one.arg: one.value for one in value.keywords}
            value = given.get("default", given.get("factory"))
        return (
            text if value is None else f"{text} = {ast.unparse(Plain(module, annotation=False).visit(deepcopy(value)))}"
        )

    def _of_function(self, module: str, nodes: list[Any], path: str) -> Iterator[str]:
        overloads = [one for one in nodes if any("overload" in ast.unparse(d) for d in one.decorator_list)]
        kept = overloads or nodes  # a property with a setter has two
        for node in kept:
            record = record_of(module, node)
            if record is not None:
                yield from of_record(record, node, path)
                continue
            marks = [ast.unparse(one).rpartition(".")[2] for one in node.decorator_list]
            returns = self._annotation(module, node.returns, follow=True) if node.returns else "?"
            if "property" in marks:
                yield f"{path}: {returns} (property{', settable' if len(kept) > 1 else ''})"
            elif "setter" not in marks:
                kinds = [one for one in marks if one in SHOWN]
                kinds += ["async"] if isinstance(node, ast.AsyncFunctionDef) else []
                after = f" -> {returns}" + (f" ({', '.join(kinds)})" if kinds else "")
                yield from self._with_signature(module, node.args, path, after)

    def _with_signature(self, module: str, args: ast.arguments, path: str, after: str) -> Iterator[str]:
        """Yield a function; one with many options has a line for each."""
        args = deepcopy(args)
        for one in ast.walk(args):
            if isinstance(one, ast.arg) and one.annotation is not None:
                one.annotation = self._plain(module, one.annotation)
        value = Plain(module, annotation=False)
        args.defaults = [value.visit(one) for one in args.defaults]
        args.kw_defaults = [None if one is None else value.visit(one) for one in args.kw_defaults]
        whole = f"{path}({ast.unparse(args)}){after}"
        if len(whole) <= LONG or not args.kwonlyargs:
            yield whole
            return
        for option, default in zip(args.kwonlyargs, args.kw_defaults, strict=True):
            yield f"{path}({ast.unparse(option)}{'' if default is None else f' = {ast.unparse(default)}'})"
        args.kwonlyargs, args.kw_defaults = [ast.arg("...")], [None]
        yield f"{path}({ast.unparse(args)}){after}"

    def _annotation(self, module: str, node: ast.expr, *, follow: bool = False) -> str:
        return ast.unparse(self._plain(module, node, follow=follow))

    def _plain(self, module: str, node: ast.expr, *, follow: bool = False) -> ast.expr:
        """Return an annotation without quotes; note the aliases in it, and if `follow` the classes."""
        plain: ast.expr = Plain(module, annotation=True).visit(deepcopy(node))
        for one in ast.walk(plain):
            place = resolve(module, ast.unparse(one)) if isinstance(one, (ast.Name, ast.Attribute)) else None
            if place is not None and is_named(place, follow):
                self.named.add(place)
        return plain


def is_named(place: Place, follow: bool) -> bool:
    """Return True if what an annotation names has lines of its own: an alias, and to `follow` a class."""
    node = contents(place[0])[place[1]][-1]
    if isinstance(node, ast.ClassDef):
        return follow and not place[1].startswith("_") and not place[0].startswith(INNER) and place != GATE
    value = getattr(node, "value", None)
    return not (isinstance(value, ast.Call) and ast.unparse(value.func) in ("ParamSpec", "TypeVar"))


def is_field(node: ast.stmt) -> bool:
    """Return True if a statement of a class declares a field of a record."""
    return isinstance(node, ast.AnnAssign) and "ClassVar" not in ast.unparse(node.annotation)


def attributes(constructor: ast.FunctionDef) -> Iterator[str]:
    """Yield the attributes that a constructor sets."""
    for node in ast.walk(constructor):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and ast.unparse(node.value) == "self":
            yield node.attr


def record_of(module: str, node: ast.FunctionDef) -> Place | None:
    """Return the record whose options a function takes."""
    for one in node.decorator_list:
        if isinstance(one, ast.Call) and ast.unparse(one.func) in OF_A_RECORD:
            places = (resolve(module, given.id) for given in one.args if isinstance(given, ast.Name))
            return next(
                place for place in places if place and isinstance(contents(place[0])[place[1]][-1], ast.ClassDef)
            )
    return None


def of_record(record: Place, node: ast.FunctionDef, path: str) -> Iterator[str]:
    """Yield a function that takes the options of a record: a line for each option that has a name only."""
    try:
        config = getattr(import_module(record[0]), record[1])
    except ImportError as error:  # of a client
        yield f"{path}({NOT_READ}: {error})"
        return
    signature = Reading(path, config).signature
    heads = []
    for one in signature.parameters.values():
        stars = "*" if one.kind is one.VAR_POSITIONAL else ""
        default = "" if one.default is one.empty else f" = {shown(one.default)}"
        text = f"{stars}{one.name}: {typed(one.annotation)}{default}"
        if one.kind is one.KEYWORD_ONLY:
            yield f"{path}({text})"
        else:
            heads.append(text)
    returns = f" -> {ast.unparse(node.returns)}" if node.returns and path.rpartition(".")[2] != "__init__" else ""
    yield f"{path}({', '.join([*heads, '...'])}){returns}"


def typed(annotation: Any) -> str:
    """Return the annotation of an option without the modules of its names."""
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    return re.sub(r"(collections\.abc|datetime|typing|resilio[.\w]*)\.", "", text)


def shown(value: Any) -> str:
    """Return a default as its caller would write it."""
    if isinstance(value, tuple):
        return f"({', '.join(map(shown, value))}{',' * (len(value) == 1)})"
    if isinstance(value, frozenset):
        return f"{{{', '.join(sorted(map(str, value)))}}}"
    return value.__name__ if isinstance(value, type) else repr(value)
