"""The command line."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError

import pytest

from resilio import cli


def test_version_names_the_distribution(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """`resilio version` prints distribution and version, and so does what people try first."""
    monkeypatch.setattr(cli, "version", lambda name: f"1.2.3 of {name}")
    for asked in ("version", "--version", "-V"):
        assert cli.main([asked]) == 0
        assert capsys.readouterr().out == "resilio-sdk 1.2.3 of resilio-sdk\n"


def test_version_of_a_source_tree_is_an_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing is installed there is no version, and the command says so."""

    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(cli, "version", missing)
    assert cli.main(["version"]) == 1
    assert "resilio-sdk is not installed" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], []])
def test_help_lists_every_command(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """The help names all commands and what they are for."""
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 0
    output = capsys.readouterr().out
    assert all(name in output for name in ("doctor", "simulate", "version"))


def test_command_gets_its_own_options(capsys: pytest.CaptureFixture[str]) -> None:
    """Options behind the command belong to it, `--help` too."""
    with pytest.raises(SystemExit) as caught:
        cli.main(["simulate", "--help"])
    assert caught.value.code == 0
    assert "--json" in capsys.readouterr().out


@pytest.mark.skipif(sys.platform == "win32", reason="no pipes that break")
def test_a_reader_that_goes_is_no_error() -> None:
    """`resilio ... | head` ends without a traceback."""
    program = "import sys; from resilio import cli; sys.exit(cli.main(['simulate', 'metastable', '--show']))"
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-uc", program], stdout=write, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_letters_that_the_terminal_does_not_have_are_no_error(encoding: str) -> None:
    """They are shown by their numbers: a scenario's title ended a long run without its result."""
    program = "import sys; from resilio import cli; cli._COMMANDS['version'] = ('', lambda _: print('caf\xe9') or 0)"
    done = subprocess.run(
        [sys.executable, "-c", f"{program}; sys.argv[1:] = ['version']; sys.exit(cli.main())"],
        stdout=subprocess.PIPE,
        check=True,
        env={**os.environ, "PYTHONIOENCODING": encoding},
    )
    assert done.stdout.split() == [{"ascii": b"caf\\xe9", "utf-8": "caf\xe9".encode()}[encoding]]


@pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX shell")
@pytest.mark.parametrize("closed", ["1", "2"])
def test_a_closed_output_is_no_error(closed: str) -> None:
    """As under a supervisor that opens none: what would be printed there is nobody's, and not the other one's."""
    command = f'"{sys.executable}" -m resilio simulate --list {closed}>&-'
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    assert ("metastable" in done.stdout) == (closed == "2")
    assert done.stderr == ""


@pytest.mark.parametrize("arguments", [["nonsense"], ["--nonsense"], ["version", "--nonsense"], ["version", "3"]])
def test_wrong_usage_is_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """No command or an unknown one is an error with the usage."""
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2
    assert "usage: resilio" in capsys.readouterr().err


def test_interruption_is_code_130(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C that a command does not handle itself ends it without a traceback."""

    def interrupted(_argv: list[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setitem(cli._COMMANDS, "version", ("", interrupted))
    assert cli.main(["version"]) == 130


def test_importing_the_command_line_loads_no_command() -> None:
    """A command's modules are imported when it is asked for, not before."""
    code = "import sys, resilio.cli; print(*(name for name in ('resilio.simulation._main', 'rich', 'matplotlib')"
    code += " if name in sys.modules))"
    path = ":".join(sys.path)
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, text=True, env={"PYTHONPATH": path}
    )
    assert output.stdout.strip() == ""
