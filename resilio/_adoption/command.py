"""`resilio run`: a program, as it is, with its clients guarded."""

from __future__ import annotations

import argparse
import runpy
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from resilio._adoption.install import install

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

_EPILOG = """\
examples:
  resilio run --shadow app.py --port 8000       as `python app.py --port 8000`, nothing is changed
  resilio run -m uvicorn shop.main:app          as `python -m uvicorn shop.main:app`, guarded

The report is printed to standard error as the process ends. Processes that the program starts anew, as workers by
spawn, are not guarded; those that it forks are.
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="resilio run",
        description="Runs a Python program with the clients that it imports guarded, one standard stack a host.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--shadow", action="store_true", default=None, help="change nothing, and report what would be")
    parser.add_argument("--config", type=Path, help="a TOML file: shadow, clients, and options by host")
    parser.add_argument("-m", dest="module", action="store_true", help="the program is a module, as with python -m")
    parser.add_argument("program", help="a file, or with -m a module")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="...", help="for the program")
    return parser


def main(argv: Sequence[str]) -> int:
    """
    Run a program under guard.

    Args:
        argv: The arguments of the command.

    Returns:
        0 if the program returns; its own exit comes as SystemExit.
    """
    options = _parser().parse_args(argv)
    if not options.module and not Path(options.program).exists():
        print(f"resilio run: no file {options.program!r}; a module is run by -m", file=sys.stderr)
        return 2
    try:
        install(options.config, shadow=options.shadow)
    except (OSError, ValueError, TypeError) as error:
        print(f"resilio run: {error}", file=sys.stderr)
        return 2
    sys.argv = [options.program, *options.arguments]
    if options.module:
        sys.path.insert(0, "")
        runpy.run_module(options.program, run_name="__main__", alter_sys=True)
    else:
        sys.path.insert(0, str(Path(options.program).resolve().parent))
        runpy.run_path(options.program, run_name="__main__")
    return 0
