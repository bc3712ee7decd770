"""The command `resilio`: a table of subcommands; each has a parser of its own and is imported when it is called."""

from __future__ import annotations

import argparse
import importlib
import io
import os
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from resilio._support.one_package import mixture

__all__ = ["main"]

_DISTRIBUTION = "resilio-sdk"
_SIGPIPE = 141  # the exit code that shells report for a program whose reader has gone


def _version(argv: Sequence[str]) -> int:
    argparse.ArgumentParser(prog="resilio version", description="Says which version is installed.").parse_args(argv)
    try:
        print(f"{_DISTRIBUTION} {version(_DISTRIBUTION)}")
    except PackageNotFoundError:
        print(f"{_DISTRIBUTION} is not installed; this is a source tree", file=sys.stderr)
        return 1
    return 0


def _lazily(module: str) -> Callable[[Sequence[str]], int]:
    """Return the main function of a module that is imported at the call."""

    def run(argv: Sequence[str]) -> int:
        main: Callable[[Sequence[str]], int | None] = importlib.import_module(module).main
        return main(argv) or 0

    return run


_COMMANDS: dict[str, tuple[str, Callable[[Sequence[str]], int]]] = {
    "doctor": ("see what is installed here, and whether each protection fires", _lazily("resilio._doctor._main")),
    "export": ("print the Grafana dashboard or the alert rules", _lazily("resilio.metrics._assets")),
    "run": ("run a program with its clients guarded, or in shadow", _lazily("resilio._adoption.command")),
    "shared": ("see which processes of this host share policies", _lazily("resilio.sharing._command")),
    "simulate": ("compare stacks under load and faults, on virtual time", _lazily("resilio.simulation._main")),
    "top": ("see the policies of a running service in this terminal", _lazily("resilio.live._top")),
    "version": ("say which version is installed", _version),
    "watch": ("serve the live page of a service that runs here or elsewhere", _lazily("resilio.live._watch")),
}


_USUAL = {(): ("--help",), ("--version",): ("version",), ("-V",): ("version",)}
"""Common first arguments of new users, and the commands that they mean."""


def _parser() -> argparse.ArgumentParser:
    lines = [f"  {name:<10}{what}" for name, (what, _) in _COMMANDS.items()]
    parser = argparse.ArgumentParser(
        prog="resilio",
        description="Keeps services and the calls between them standing.",
        epilog="\n".join(["commands:", *lines, "", "`resilio COMMAND --help` tells more."]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=_COMMANDS, metavar="COMMAND", help="one of those below")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="...", help="for the command")
    return parser


def _can_print() -> None:
    """Escape characters that the terminal cannot encode, and discard the output of a closed stream."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - to the process's end
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run the command line.

    Args:
        argv: The arguments without the program's name; None takes those of the process.

    Returns:
        The exit code: 0 on success, 1 if another distribution's files are among these, 2 for wrong usage (raised as
        SystemExit), 130 after Ctrl-C, 141 if the reader of the output has gone.
    """
    given = argv
    if given is None:
        given = sys.argv[1:]
        _can_print()
    options = _parser().parse_args(_USUAL.get(tuple(given), given))
    problem = mixture()
    if problem is not None:
        print(f"NOT PROTECTED: {problem}", file=sys.stderr)
        return 1
    try:
        return _COMMANDS[options.command][1](options.arguments)
    except BrokenPipeError:  # `resilio ... | head`: the reader has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter flushes it once more
        return _SIGPIPE
    except KeyboardInterrupt:  # outside of the time in which the command handles it itself
        return 130
