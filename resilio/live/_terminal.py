"""Terminal view of policies: a table, problems first, and the last events below it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

__all__ = ["Screen", "severity"]

_TONES = {
    "closed": "green",
    "admitting": "green",
    "normal": "green",
    "serving": "green",
    "half_open": "yellow",
    "overloaded": "yellow",
    "low": "yellow",
    "spent": "bold red",
    "open": "bold red",
    "forced_open": "bold red",
    "closed_down": "bold red",
    "draining": "bold red",
    "drained": "bold red",
    "well": "green",
    "probing": "yellow",
    "ejected": "bold red",
    "warming": "cyan",
    "drained_by_hand": "cyan",
    "forced_closed": "cyan",
    "disabled": "cyan",
}
_RANKS = ("bold red", "yellow", "cyan", "", "green")  # the worst first; "" for a state that is not known here
_FIELDS = {"calls": "calls_s", "failures": "failures_s", "rejections": "rejected_s", "p99": "p99"}
_COLUMNS = (
    *("state", "policy", "in flight", "queue", "calls/s", "failed/s", "rejected/s"),
    *("p50 ms", "p95 ms", "p99 ms", "last rejection"),
)
_WORDS = {"state": 11, "policy": 20, "last rejection": 20}  # minimum width in characters
_MORE = frozenset({"queue", "p50 ms", "p95 ms", "last rejection"})  # left out on a narrow terminal
_NARROW = 110  # characters
_WIDE = 160  # characters of a line in a file
_EVENTS = 6
_RECENT = 10.0  # seconds for which a rejection is shown


def severity(policy: dict[str, Any]) -> int:
    """Return how much a policy needs a look: 3 open, shut, in error; 2 rejects; 1 failures, not shared; 0 healthy."""
    tones = [_TONES.get(state, "") for state in _states(policy)]
    if policy.get("trouble") or "bold red" in tones:
        return 3
    if policy.get("rejected_s") or "yellow" in tones:
        return 2
    return int(_failing(policy) > 0.05 or bool((policy.get("shared") or {}).get("degraded")))


def _failing(policy: dict[str, Any]) -> float:
    calls = policy.get("calls_s")
    return float(policy["failures_s"] / calls) if calls else 0.0


def _states(policy: dict[str, Any]) -> list[str]:
    state = policy.get("state")
    if isinstance(state, dict):
        return [name for name, count in state.items() if count]
    return [] if state is None else [state]


class Screen:
    """
    Renderer of a source's snapshots.

    Args:
        sort: "problems", "name", "calls", "failures", "rejections" or "p99".

        wanted: Lower-case text to find in kind, name or state; empty: every policy is shown.
    """

    def __init__(self, sort: str, wanted: str, console: Console | None = None) -> None:
        self._sort = sort
        self._wanted = wanted
        self._console = console or Console()

    def print(self, seen: dict[str, Any]) -> None:
        """Print all policies once; wide if the output is not a terminal."""
        if not self._console.is_terminal:
            self._console.width = max(self._console.width, _WIDE)
        self._console.print(self._table(self._chosen(_readable(seen))))

    @contextmanager
    def live(self) -> Iterator[Callable[[dict[str, Any], str | None], None]]:
        """Take over the terminal for the duration of a block; yields the function that draws."""
        with Live(console=self._console, screen=True, auto_refresh=False) as display:
            yield lambda seen, problem: display.update(self.picture(seen, problem), refresh=True)

    def picture(self, seen: dict[str, Any], problem: str | None = None) -> Group:
        """Return a picture that fits the terminal: a summary line, the table, and the last events."""
        seen, problem = _readable(seen), _readable(problem)
        chosen = self._chosen(seen)
        events = seen.get("events", [])[-_EVENTS:]
        room = max(1, self._console.height - len(events) - 6)
        more = Text(f"and {len(chosen) - room} more", "dim") if len(chosen) > room else Text()
        return Group(
            self._head(seen, chosen, problem), self._table(chosen[:room]), more, *map(_event, reversed(events))
        )

    def _chosen(self, seen: dict[str, Any]) -> list[dict[str, Any]]:
        found = [policy for policy in seen.get("policies", []) if "calls" in policy and self._wanted in _words(policy)]
        return [policy for _, group in self._groups(found) for policy in group]

    def _groups(self, shown: list[dict[str, Any]]) -> list[tuple[float, list[dict[str, Any]]]]:
        """Return each stack, outermost policy first, with the worst measure in it; the worst stack first."""
        by_id = {policy.get("id", id(policy)): policy for policy in shown}
        inner = {part for policy in shown for part in policy.get("parts", ())}
        groups = []
        for ident, head in sorted(by_id.items(), key=lambda one: (one[0] in inner, one[1]["name"])):
            if by_id.pop(ident, None) is not None:
                parts = [{**part, "inside": True} for one in head.get("parts", ()) if (part := by_id.pop(one, None))]
                group = [head, *parts]
                groups.append((max(map(self._measure, group)), group))
        return groups if self._sort == "name" else sorted(groups, key=lambda one: -one[0])

    def _measure(self, policy: dict[str, Any]) -> float:
        if self._sort == "name":
            return 0.0
        return severity(policy) if self._sort == "problems" else policy[_FIELDS[self._sort]] or 0.0

    def _head(self, seen: dict[str, Any], chosen: list[dict[str, Any]], problem: str | None) -> Text:
        about = seen.get("process", {})
        problems = sum(severity(policy) > 0 for policy in chosen)
        head = Text("resilio", "bold")
        if about:
            head.append(f"  process {about['pid']} on {about['host']}", "dim")
        if about.get("disabled"):
            head.append(f"  {about['disabled']}", "bold red")
        head.append(f"  {len(chosen)} {'policy' if len(chosen) == 1 else 'policies'}")
        head.append(f"  {problems} {'needs' if problems == 1 else 'need'} a look", "bold red" if problems else "green")
        if problem is not None:
            head.append(f"  no connection: {problem}", "bold red")
        return head.append("  q ends", "dim")

    def _table(self, policies: list[dict[str, Any]]) -> Table:
        """Return a table of all columns, or on a narrow terminal of the most important ones."""
        wide = self._console.width >= _NARROW
        columns = [name for name in _COLUMNS if wide or name not in _MORE]
        table = Table(box=None, pad_edge=False, header_style="dim")
        for name in columns:
            words = name in _WORDS
            least = _WORDS[name] if words else max(len(name), 5)
            table.add_column(name, justify="left" if words else "right", no_wrap=True, min_width=least)
        for policy in policies:
            cells = _cells(policy)
            table.add_row(*(cells[name] for name in columns))
        return table


def _readable(data: Any) -> Any:
    """Escape unprintable characters: another process's escape sequences must not control this terminal."""
    if isinstance(data, dict):
        return {_readable(key): _readable(value) for key, value in data.items()}
    if isinstance(data, list):
        return [_readable(value) for value in data]
    if isinstance(data, str) and not data.isprintable():
        return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in data)
    return data


def _words(policy: dict[str, Any]) -> str:
    return " ".join([policy["kind"], policy["name"], *_states(policy), _state(policy).plain]).lower()


def _cells(policy: dict[str, Any]) -> dict[str, Text]:
    limit = policy.get("limit")
    indent = "  " if policy.get("inside") else ""
    load = f"{policy['inflight']}" if limit is None else f"{policy['inflight']}/{limit:g}"
    return {
        "state": _state(policy),
        "policy": _who(policy, indent),
        "in flight": Text(load),
        "queue": Text(str(policy["queued"] or "")),
        "calls/s": Text(_number(policy["calls_s"])),
        "failed/s": Text(_number(policy["failures_s"]), "yellow" if policy["failures_s"] else "dim"),
        "rejected/s": Text(_number(policy["rejected_s"]), "bold red" if policy["rejected_s"] else "dim"),
        **{f"{name} ms": Text(_number(policy[name])) for name in ("p50", "p95", "p99")},
        "last rejection": Text(_why(policy.get("why")), "red"),
    }


def _who(policy: dict[str, Any], indent: str) -> Text:
    """Return the name and the kind, and the processes that share it."""
    endpoint = policy.get("endpoint")
    if endpoint is not None:
        return Text(indent + policy["name"]).append(f"  {_worth(endpoint)}", "dim")
    text = Text(indent + policy["name"]).append(f"  {policy['kind']}{_money(policy.get('spend'))}", "dim")
    shared = policy.get("shared")
    if shared is None:
        return text
    if shared["degraded"]:
        return text.append(f"  not shared: {shared['degraded'].replace('_', ' ')}", "yellow")
    who = "asker" if shared.get("fleet") else "worker"
    many = "" if shared["peers"] == 1 else "s"
    regime = f", {shared['regime']}" if shared.get("regime") else ""
    return text.append(f"  {shared['peers']} {who}{many}{regime}{_of_all(shared)}", "dim")


def _money(spend: dict[str, Any] | None) -> str:
    """Return how much of its money a spend limit has left."""
    return "" if spend is None else f", {spend['left']:g} of {spend['limit']:g} {spend['currency']} left"


def _of_all(shared: dict[str, Any]) -> str:
    """Return what all processes of the host have together."""
    if shared.get("used") is not None:
        return f", {shared['used']} in flight"
    if shared.get("tokens") is not None:
        return f", {shared['tokens']:g} tokens"
    return f", {shared['state'].replace('_', ' ')}" if shared.get("state") else ""


def _worth(endpoint: dict[str, Any]) -> str:
    """Return what a pool chooses an endpoint by."""
    parts = [f"level {endpoint['level']}", *([endpoint["zone"]] if endpoint["zone"] else [])]
    if endpoint["weight"] != 1:
        parts.append(f"weight {endpoint['weight']:g}")
    if endpoint["share"] < 1:
        parts.append(f"share {100 * endpoint['share']:.0f} %")
    words = {"latency": "", "price": "price "}
    parts += [f"{word}{endpoint[name]:g} ms" for name, word in words.items() if endpoint[name] is not None]
    return ", ".join(parts)


def _state(policy: dict[str, Any]) -> Text:
    """Return the unusual state; of a policy in its usual one what is wrong, or one word for all kinds."""
    if policy.get("trouble"):
        return Text(policy["trouble"], "bold red")
    worst = min(_states(policy), key=lambda state: _RANKS.index(_TONES.get(state, "")), default="normal")
    if (tone := _TONES.get(worst, "")) != "green":
        return Text(_count(policy, worst) + worst.replace("_", " "), tone)
    if policy.get("rejected_s"):
        return Text("rejecting", "yellow")
    if _failing(policy) > 0.05:
        return Text(f"{100 * _failing(policy):.0f} % failing", "yellow")
    return _healthy(policy)


def _count(policy: dict[str, Any], state: str) -> str:
    """Return how many of the keys are in this state; of a policy without keys nothing."""
    states = policy["state"]
    return f"{states[state]} of {sum(states.values())} " if isinstance(states, dict) else ""


def _healthy(policy: dict[str, Any]) -> Text:
    if policy["kind"] != "keyed":
        return Text("healthy", "green")
    return Text(f"all {policy['keys']} healthy", "green") if policy.get("keys") else Text("no keys", "dim")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}" if value >= 10 else f"{value:.2g}"


def _why(why: dict[str, Any] | None) -> str:
    if why is None or time.time() - why["at"] > _RECENT:  # wall clock: as its date
        return ""
    measured = "" if why["measured"] is None else f" {why['measured']:g}"
    against = "" if why["limit"] is None else f" against {why['limit']:g}"
    again = "" if why["retry_after"] is None else f", retry after {why['retry_after']:g} s"
    host = " of the host" if why.get("scope") == "host" else ""
    return f"{why['reason']}{measured}{against}{host}{again}"


def _event(event: dict[str, Any]) -> Text:
    at = datetime.fromtimestamp(event["at"]).strftime("%H:%M:%S")  # noqa: DTZ006 - the viewer's local time
    line = Text(f"{at}  ", "dim").append(event["name"] or event["kind"], "default")
    if "key" in event:
        line.append(f" {event['key']}", "dim")
    if event["what"] == "operation":
        return line.append(f" {event['do']} {event['options']} by an operator at {event['by']}", "cyan")
    line.append(f" {event['old']} -> ").append(str(event["new"]), _TONES.get(str(event["new"]), ""))
    return line.append(f" ({event['reason']})" if "reason" in event else "", "dim")
