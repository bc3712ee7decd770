"""Hooks that run once a module is imported: clients are guarded then, and none is imported for it."""

from __future__ import annotations

import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING, Any

from resilio._events import log

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Hook = Callable[[ModuleType], object]

__all__ = ["forget", "when_imported"]


def when_imported(name: str, hook: Hook) -> None:
    """
    Call a hook with a module: now, if it is imported, else once it is. An error of the hook is logged.

    Args:
        name: The module's full name.
        hook: A function of the module.
    """
    module = sys.modules.get(name)
    if module is not None:
        _call(hook, module)
        return
    finder = next((one for one in sys.meta_path if isinstance(one, _Finder)), None)
    if finder is None:
        finder = _Finder()
        sys.meta_path.insert(0, finder)
    finder.hooks.setdefault(name, []).append(hook)


def forget() -> None:
    """Call no hook any more."""
    sys.meta_path[:] = [one for one in sys.meta_path if not isinstance(one, _Finder)]


def _call(hook: Hook, module: ModuleType) -> None:
    try:
        hook(module)
    except Exception as error:  # noqa: BLE001 - the import of a client must not fail for it
        log.say(log.WARNING, "%s is not guarded", module.__name__, error=error)


class _Finder(MetaPathFinder):
    """A finder that finds nothing by itself: it asks the others, and puts a loader around theirs."""

    def __init__(self) -> None:
        self.hooks: dict[str, list[Hook]] = {}

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        """Return the spec of a module that has hooks, with a loader that calls them; None for any other."""
        hooks = self.hooks.pop(fullname, None)  # before the others are asked: this one is asked again
        if hooks is None:
            return None
        found = find_spec(fullname)
        if found is None or found.loader is None:
            self.hooks[fullname] = hooks
            return found
        found.loader = _Loader(found.loader, hooks)
        return found


class _Loader(Loader):
    """The loader of a module, which calls hooks once the module is ready."""

    def __init__(self, inner: Any, hooks: list[Hook]) -> None:
        self._inner = inner
        self._hooks = hooks

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Create the module as its own loader does."""
        made: ModuleType | None = self._inner.create_module(spec)
        return made

    def exec_module(self, module: ModuleType) -> None:
        """Execute the module, put its own loader back, and call the hooks."""
        self._inner.exec_module(module)
        module.__loader__ = self._inner
        if module.__spec__ is not None:
            module.__spec__.loader = self._inner
        for hook in self._hooks:
            _call(hook, module)
