"""`resilio top`: the live page in a terminal; q ends it."""

from __future__ import annotations

import argparse
import io
import secrets
import sys
from collections.abc import Sequence
from time import sleep
from typing import Any

from resilio._options.validators import seconds_of_argument
from resilio.live._feed import CONNECTING, picture
from resilio.live._journal import Journal
from resilio.live._keys import quit_key
from resilio.live._sampler import Sampler
from resilio.live._targets import TargetError, is_address, load, remote

__all__ = ["main"]

SORTS = ("problems", "name", "calls", "failures", "rejections", "p99")
_PATIENCE = 10.0  # seconds that --once waits for a connection which is neither made nor rejected
_PAUSE = 0.05


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="resilio top", description=__doc__)
    parser.add_argument("target", help="the address of a live page, or a module that is imported here")
    parser.add_argument("--sort", choices=SORTS, default="problems")
    parser.add_argument(
        "--filter", default="", metavar="TEXT", help="show policies that have this in kind, name or state"
    )
    parser.add_argument(
        "--interval",
        type=seconds_of_argument,
        default=1.0,
        metavar="TIME",
        help="between two looks, like 1 or 500ms (default: 1)",
    )
    parser.add_argument("--once", action="store_true", help="print one table and end")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """
    Show the policies until q or Ctrl-C.

    Args:
        argv: The arguments without the program's name; None: those of the process.

    Returns:
        The exit code: 0, or 1 if the target cannot be watched.
    """
    parser = _parser()
    options = parser.parse_args(argv)
    if not 0.1 <= options.interval <= 3600:
        parser.error(f"argument --interval: must be from 0.1 to 3600 seconds, not {options.interval:g}")
    try:
        from resilio.live._terminal import Screen
    except ImportError:
        print("resilio top needs rich: pip install 'resilio-sdk[cli]'", file=sys.stderr)
        return 1
    try:
        source = _source(options.target)
    except TargetError as error:
        print(f"resilio top: {error}", file=sys.stderr)
        return 1
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # characters that the terminal's encoding lacks must not raise
    screen = Screen(options.sort, options.filter.lower())
    try:
        if options.once:
            return _once(source, screen, options.interval, options.target)
        return _follow(source, screen, options.interval)
    except KeyboardInterrupt:
        return 0
    finally:
        source.rest()


def _source(target: str) -> Any:
    if is_address(target):
        return remote(target)
    load(target)
    return Sampler(Journal(show_keys=True, secret=secrets.token_bytes(16)))


def _look(source: Any) -> tuple[dict[str, Any], str | None]:
    """Return the full state, and the connection's error if there is one."""
    try:
        return picture(source), None
    except ConnectionError as error:
        return source.snapshot(), str(error)


def _once(source: Any, screen: Any, interval: float, target: str) -> int:
    """Print a table of one interval: rates need two readings."""
    seen, problem = _found(source)
    if problem is None:
        sleep(interval)
        seen, problem = _look(source)
    if problem is None:
        screen.print(seen)
        return 0
    print(f"resilio top: no live page can be read at {target}: {problem}", file=sys.stderr)
    return 1


def _found(source: Any) -> tuple[dict[str, Any], str | None]:
    """Return the first state, or the first error; no error of a connection is tried again."""
    for _ in range(round(_PATIENCE / _PAUSE)):
        seen, problem = _look(source)
        if problem != CONNECTING:
            return seen, problem
        sleep(_PAUSE)
    return {}, f"no answer within {_PATIENCE:g} s"


def _follow(source: Any, screen: Any, interval: float) -> int:
    with quit_key() as pressed, screen.live() as show:
        while True:
            show(*_look(source))
            if pressed(interval):
                return 0
