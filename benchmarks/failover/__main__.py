"""
`python -m benchmarks.failover`: each system against sixteen misbehaving providers, on loopback, in real time.

Each system has a process of its own, in which all scenarios run side by side: nearly all of their time is waiting. It
takes as long as the longest scenario, a minute and three quarters.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence

import anyio
import attrs

from benchmarks.efficacy._results import record, section
from benchmarks.failover._card import Card, Cell, cell_of, header, reasons, rows
from benchmarks.failover._catalogue import SCENARIOS, WELL, Scenario
from benchmarks.failover._play import System, play
from benchmarks.failover.systems import SYSTEMS, load

__all__ = ["main"]

_TITLE = "R18 providers that fail"
_ABOUT = (
    "`python -m benchmarks.failover`: the sixteen scenarios of Failover Bench 0.1 against a scripted provider on "
    "loopback, in real time. **pass**: the ideal outcome, and all rules of conduct kept; **partial**: an advisory rule "
    "broken; **safe**: no answer, but a clean error; **fail**: the rest. In brackets: requests at the primary and at "
    "the fallback, and the time of the (last) call. The openai SDK and litellm's first column have the source's "
    "baseline: two retries, 30 s. litellm's second column has 10 s for streams, a cooldown and a policy of retries too."
)
_WARM = Scenario("warm", "all well", WELL, (), patience=60.0)


def main(arguments: Sequence[str] | None = None) -> int:
    """Play, print the scorecard, and return 1 if a scenario of ours did not pass."""
    options = _parser().parse_args(arguments)
    if options.child:
        print(json.dumps(attrs.asdict(_own_card(options))))
        return 0
    cards = _cards(options)
    columns = list(cards.values())
    text = section(_ABOUT, header(columns), rows(columns))
    print(text, "", *reasons(columns), sep="\n")
    if options.record:
        record(_TITLE, text)
    return int(any(cell.outcome != "pass" for cell in cards["resilio"].cells.values()) if "resilio" in cards else 0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.failover", description=__doc__)
    keys = [scenario.key for scenario in SCENARIOS]
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS), metavar="SYSTEM")
    parser.add_argument("--only", nargs="+", choices=keys, default=keys, metavar="KEY", help="scenarios, like S06")
    parser.add_argument("--whole", action="store_true", help="ask for whole answers, where the source streams them all")
    parser.add_argument("--record", action="store_true", help="write the scorecard into benchmarks/RESULTS.md")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    return parser


def _cards(options: argparse.Namespace) -> dict[str, Card]:
    """Return the systems' columns; each is played in a process of its own, all at once."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.failover", "--child", *["--whole"] * options.whole]
    played = [*command, "--only", *options.only]
    children = {
        name: subprocess.Popen([*played, "--systems", name], stdout=subprocess.PIPE, text=True)
        for name in options.systems
    }
    return {name: _read(child.communicate()[0]) for name, child in children.items()}


def _read(text: str) -> Card:
    card = json.loads(text)
    return Card(card["name"], {key: Cell(**cell) for key, cell in card["cells"].items()})


def _own_card(options: argparse.Namespace) -> Card:
    (name,) = options.systems
    try:
        system = load(name)
    except ImportError as error:
        print(f"{name}: SKIPPED: {error}", file=sys.stderr)
        return Card(f"{name}, not installed", {})
    return Card(system.name, anyio.run(_play_all, system, options.only, not options.whole))


async def _play_all(system: System, keys: Sequence[str], stream: bool) -> Mapping[str, Cell]:
    """Play scenarios side by side, after one that pays for imports and threads."""
    cells: dict[str, Cell] = {}

    async def one(scenario: Scenario) -> None:
        cells[scenario.key] = cell_of(scenario, await play(scenario, system, stream=stream))

    await play(_WARM, system, stream=stream)
    async with anyio.create_task_group() as group:
        for scenario in SCENARIOS:
            if scenario.key in keys:
                group.start_soon(one, scenario)
    return {key: cells[key] for key in keys}


if __name__ == "__main__":
    sys.exit(main())
