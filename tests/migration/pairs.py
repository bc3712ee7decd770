"""The pairs of snippets under docs/how-to/migration/, and a callee for them that fails as a script says."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from resilio.testing import VirtualTime

PAGES = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "migration"

_places = count()
_FENCE = r"^```python\n(.*?)^```\n"
_PAIR = re.compile(rf"^<!-- pair: (?P<name>\S+) -->\n{_FENCE}\n{_FENCE}", re.MULTILINE | re.DOTALL)
_SNIPPET = re.compile(_FENCE, re.MULTILINE | re.DOTALL)


class ServerBusy(Exception):
    """An answer of a server, with headers."""

    def __init__(self, status: int = 503, **headers: str) -> None:
        super().__init__(status)
        self.status = status
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}
        self.response = self


class Rejected(Exception):
    """Says in its own way when to come back."""

    def __init__(self, cooldown: float) -> None:
        super().__init__(cooldown)
        self.cooldown = cooldown


class Client:
    """What the snippets call: each call takes the next step of the script, whose last one repeats."""

    def __init__(self, script: Iterable[Any], vt: VirtualTime) -> None:
        self.script = list(script)
        self.arguments: list[Any] = []
        self.times: list[float] = []
        self._vt = vt

    @property
    def calls(self) -> int:
        """How often it was called."""
        return len(self.times)

    @property
    def waits(self) -> list[float]:
        """The seconds between the calls."""
        return [round(after - before, 6) for before, after in zip(self.times, self.times[1:], strict=False)]

    def get(self, argument: Any) -> Any:
        """Do what the script says."""
        step = self.script[min(self.calls, len(self.script) - 1)]
        self.times.append(self._vt.now)
        self.arguments.append(argument)
        if callable(step) and not isinstance(step, type):
            step = step(argument)
        if isinstance(step, BaseException) or (isinstance(step, type) and issubclass(step, BaseException)):
            raise step
        return step


class AsyncClient(Client):
    """The same for coroutines."""

    async def get(self, argument: Any) -> Any:
        """Do what the script says."""
        return super().get(argument)


@dataclass(frozen=True)
class Ended:
    """How a call came out."""

    value: Any = None
    error: BaseException | None = None

    @property
    def shown(self) -> tuple[Any, ...]:
        """What must be equal."""
        return self.value, type(self.error), str(self.error)


class Side:
    """One snippet of a pair, run, with a client of its own."""

    def __init__(self, code: str, place: str, script: Iterable[Any], vt: VirtualTime) -> None:
        self.vt = vt
        self.backend = "asyncio"
        self.client = (AsyncClient if "await client" in code else Client)(script, vt)
        self.names: dict[str, Any] = {
            "__name__": place,
            "client": self.client,
            "Rejected": Rejected,
            "ServerBusy": ServerBusy,
        }
        # Never at the same line twice: `retrying` knows its place by the code object, and equal ones are equal.
        apart = "\n" * next(_places)
        exec(compile(apart + code, place, "exec", dont_inherit=True), self.names)

    def __getitem__(self, name: str) -> Any:
        return self.names[name]

    def call(self, argument: Any = "/users", *, name: str = "fetch") -> Ended:
        """Call what the snippet defines."""
        return self.run(self.names[name], argument)

    def run(self, function: Callable[..., Any], *arguments: Any) -> Ended:
        """Call anything; in an event loop if the client is asynchronous."""
        try:
            if isinstance(self.client, AsyncClient):
                return Ended(self.vt.run(function, *arguments, backend=self.backend))
            return Ended(function(*arguments))
        except BaseException as error:
            return Ended(error=error)


def pairs_of(page: Path) -> dict[str, tuple[str, str]]:
    """Return the pairs of a page by name: before, after."""
    return {match["name"]: (match[2], match[3]) for match in _PAIR.finditer(page.read_text())}


def snippets_of(page: Path) -> list[str]:
    """Return all Python snippets of a page, whether they are in a pair or not."""
    return _SNIPPET.findall(page.read_text())


class Pair:
    """A page's pair of snippets."""

    def __init__(self, page: str, name: str, vt: VirtualTime) -> None:
        self.place = f"migration_{page}_{name}"
        self._codes = pairs_of(PAGES / f"{page}.md")[name]
        self._vt = vt

    def before(self, *script: Any) -> Side:
        """Run the other library's snippet."""
        return Side(self._codes[0], f"{self.place}_before", script, self._vt)

    def after(self, *script: Any) -> Side:
        """Run ours."""
        return Side(self._codes[1], f"{self.place}_after", script, self._vt)

    def both(self, *script: Any) -> tuple[Side, Side]:
        """Run both, each with a client of the same script."""
        return self.before(*script), self.after(*script)


def call_both(sides: tuple[Side, Side], *arguments: Any, name: str = "fetch") -> Ended:
    """Call both sides; they must come out the same, after equally many calls."""
    before, after = (side.call(*arguments, name=name) for side in sides)
    assert after.shown == before.shown
    assert sides[1].client.calls == sides[0].client.calls
    return after
