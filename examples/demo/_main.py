"""The demo: services go through the same trouble twice, bare and guarded, and what came of it is shown."""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import platform
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from examples.demo._acts import RUNS, Act, acts
from examples.demo._load import poisson_arrivals
from resilio import registry

if TYPE_CHECKING:
    from examples.demo._progress import Progress
    from examples.demo._run import Run

__all__ = ["main"]

_INTERRUPTED = 130  # the exit code that shells give to Ctrl-C
_PORT = 8765  # of the live page
_GRACE = 120.0  # seconds for the last answers, and for a server to start and stop: a busy machine takes its time


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m examples.demo", description=__doc__)
    quick = "short acts, their two runs side by side: 16 seconds instead of a minute"
    parser.add_argument("--quick", action="store_true", help=quick)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--seed", type=int, default=7, help="of the load and of the servers (default: 7)")
    parser.add_argument(
        "--retries", type=int, choices=range(4), default=1, help="of a failed call in the outage (default: 1)"
    )
    parser.add_argument("--watch", action="store_true", help="serve the live page of its policies while it runs")
    parser.add_argument("--output", type=Path, default=Path("demo-output"), help="folder for demo.svg, demo.json")
    return parser


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = _parser()
    options = parser.parse_args(argv)
    try:
        options.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:  # now, and not after a minute
        parser.error(f"argument --output: {options.output}: {error.strerror}")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run the demo from the command line.

    Args:
        argv: Its arguments, without the program's name.

    Returns:
        The exit code: 0, 1 if something is missing or went wrong, 130 after Ctrl-C (with a partial result).
    """
    options = _options(argv)
    missing = [name for name in ("httpx2", "h11") if importlib.util.find_spec(name) is None]
    if missing:
        print(f"The demo needs {missing[0]}: pip install 'resilio-sdk[httpx]'", file=sys.stderr)
        return 1
    if options.watch and importlib.util.find_spec("uvicorn") is None:
        print("The demo with --watch needs uvicorn: pip install 'resilio-sdk[live]'", file=sys.stderr)
        return 1
    has_picture = importlib.util.find_spec("matplotlib") is not None
    if not has_picture:
        print("No picture will be drawn; for one: pip install 'resilio-sdk[cli]'", file=sys.stderr)
    all_acts = acts(quick=options.quick)
    runs: list[Run] = []
    with _watched() if options.watch else nullcontext():
        trouble = _play(runs, all_acts, options)
    _finish(_result(runs, all_acts, options, trouble), runs, all_acts, options, has_picture)
    return 0 if trouble is None else _INTERRUPTED if trouble == "interrupted" else 1


@contextmanager
def _watched() -> Iterator[None]:
    """Serve the live page in a thread beside the demo; the policies of a run are on it as long as the run."""
    from resilio.live import live
    from resilio.live._serve import listen, serving

    try:
        sock = listen("127.0.0.1", _PORT)
    except OSError:  # it is taken: any other will do
        sock = listen("127.0.0.1", 0)
    with serving(live(), sock) as port:
        print(f"Watch it: http://127.0.0.1:{port}/ (policies are there in the guarded runs)", file=sys.stderr)
        yield


def _play(runs: list[Run], all_acts: Sequence[Act], options: argparse.Namespace) -> str | None:
    """Make all runs; return what ended them early, or None. *runs* holds what happened until then."""
    from examples.demo._progress import progress_for

    progress = progress_for()
    try:
        asyncio.run(_perform(runs, all_acts, options, progress))
    except KeyboardInterrupt:
        return "interrupted"
    except TimeoutError:
        return "timed out"
    except (OSError, RuntimeError) as error:
        return str(error)
    finally:
        progress.close()
    return None


async def _perform(runs: list[Run], all_acts: Sequence[Act], options: argparse.Namespace, progress: Progress) -> None:
    """Make one run after the other; or both of an act side by side, and the next act when its load has been offered."""
    from examples.demo._progress import follow

    follower = asyncio.create_task(follow(runs, progress))
    try:
        with registry.isolated():
            if options.quick:
                begins = accumulate((act.schedule.seconds for act in all_acts), initial=0.0)
                plan = [(act, name, begin) for act, begin in zip(all_acts, begins, strict=False) for name in RUNS]
                await asyncio.gather(*(_make(runs, act, name, options, begin) for act, name, begin in plan))
            else:
                for act in all_acts:
                    await _judge(runs, act, options)
    finally:
        follower.cancel()
        with suppress(asyncio.CancelledError):
            await follower


async def _judge(runs: list[Run], act: Act, options: argparse.Namespace) -> None:
    """Make both runs of an act; once more if the machine was too busy to offer their load on time."""
    from examples.demo._report import doubts
    from examples.demo._summary import summary_of

    for last in (False, True):
        first = len(runs)
        for name in RUNS:
            await _make(runs, act, name, options)
        if last or not doubts({act.name: {run.name: summary_of(run) for run in runs[first:]}}):
            return
        print(f"{act.name}: this machine was too busy, so it is run again", file=sys.stderr, flush=True)
        del runs[first:]


async def _make(runs: list[Run], act: Act, name: str, options: argparse.Namespace, delay: float = 0.0) -> None:
    from examples.demo._run import Run, execute

    load = poisson_arrivals(options.seed, act.schedule.seconds, act.rates)
    await asyncio.sleep(delay)
    run = Run(name, act, len(load))
    runs.append(run)
    async with asyncio.timeout(run.seconds + _GRACE):
        await execute(run, options.seed, load, options.retries)


def _result(
    runs: Sequence[Run], all_acts: Sequence[Act], options: argparse.Namespace, trouble: str | None
) -> dict[str, Any]:
    from examples.demo._summary import summary_of

    return {
        "complete": trouble is None,
        "ended_early": trouble,
        "seed": options.seed,
        "retries": options.retries,
        "python": platform.python_version(),
        "acts": {act.name: act.to_json() for act in all_acts},
        "runs": {act.name: {run.name: summary_of(run) for run in runs if run.act is act} for act in all_acts},
    }


def _where(runs: Sequence[Run]) -> str:
    return f", {runs[-1].elapsed:.1f} s into the {runs[-1].name} run of the {runs[-1].act.name}" if runs else ""


def _finish(
    result: dict[str, Any],
    runs: Sequence[Run],
    all_acts: Sequence[Act],
    options: argparse.Namespace,
    has_picture: bool,
) -> None:
    from examples.demo._report import definitions, doubts, rows_of, show

    partial = None if result["complete"] else f"PARTIAL RESULT: {result['ended_early']}{_where(runs)}"
    (options.output / "demo.svg").unlink(missing_ok=True)  # an older run's, should none be drawn now
    (options.output / "demo.json").write_text(json.dumps(result, indent=2) + "\n")
    judged = [act for act in all_acts if not doubts({act.name: result["runs"][act.name]})]
    notes = [
        *doubts(result["runs"]),
        *definitions({act.name: result["runs"][act.name] for act in judged}),
        f"Figures: {options.output / 'demo.json'}",
    ]
    if has_picture and judged:
        from examples.demo._picture import draw

        draw(judged, [run for run in runs if run.act in judged], result["runs"], options.output / "demo.svg", partial)
        notes.append(f"Picture: {options.output / 'demo.svg'}")
    notes += [
        f"Live, at http://127.0.0.1:{_PORT}/ while it runs: make demo ARGS=--watch",
        'Next: make demo ARGS="--retries 0", make quick, make docs',
    ]
    if options.json:
        print(json.dumps(result))
    else:
        show(rows_of(judged, result["runs"]), [partial, *notes] if partial else notes)
