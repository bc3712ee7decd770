"""
Fetches packages and sources of Debian without installing anything.

apt runs with lists and a cache of its own in a temporary folder, so neither root nor a change of the machine is needed.
Where packages come from is what the system's own sources say.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

_KEYRING = "/usr/share/keyrings/debian-archive-keyring.pgp"
_PATIENCE = 300  # seconds for one command; a machine without a network fails much earlier


class UnavailableError(Exception):
    """What was to be fetched cannot be had here; the message says why in one line."""


class Apt:
    """apt with one suite of Debian, in a temporary folder that goes at the end of the block."""

    def __init__(self, suite: str, kind: str = "deb") -> None:
        self._suite, self._kind = suite, kind
        self.folder = Path()

    def __enter__(self) -> Self:
        if shutil.which("apt-get") is None:
            raise UnavailableError("there is no apt-get")
        self.folder = Path(tempfile.mkdtemp(prefix="resilio-apt-"))
        try:
            for place in ("lists/partial", "cache/archives/partial"):
                (self.folder / place).mkdir(parents=True)
            signed = f"[signed-by={_KEYRING}] " if Path(_KEYRING).exists() else ""
            (self.folder / "sources.list").write_text(f"{self._kind} {signed}{self._archive()} {self._suite} main\n")
            self.get("update")
        except BaseException:
            shutil.rmtree(self.folder)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        shutil.rmtree(self.folder)

    def get(self, *arguments: str) -> None:
        """Run `apt-get` in the folder."""
        private = {
            "Dir::Etc::sourcelist": self.folder / "sources.list",
            "Dir::Etc::sourceparts": "-",
            "Dir::State::Lists": self.folder / "lists",
            "Dir::Cache": self.folder / "cache",
            "APT::Sandbox::User": "root",
            "APT::Update::Error-Mode": "any",  # what cannot be reached is an error, no warning
        }
        options = [part for key, value in private.items() for part in ("-o", f"{key}={value}")]
        call(["apt-get", "-qq", *options, *arguments], self.folder)

    def _archive(self) -> str:
        """Return the address of the archive that this system installs itself from."""
        listed = ["apt-get", "indextargets", "--format", "$(RELEASE) $(REPO_URI)", "Created-By: Packages"]
        answer = subprocess.run(listed, capture_output=True, text=True, check=False, timeout=_PATIENCE).stdout
        here = codename()
        for line in answer.splitlines():
            release, _, address = line.partition(" ")
            if release == here:
                return address
        raise UnavailableError(f"apt knows no archive of {here}")


def codename() -> str:
    """Return this Debian's, e.g. `trixie`."""
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        release = {}
    if release.get("ID") != "debian":
        raise UnavailableError("this is no Debian")
    return release.get("VERSION_CODENAME", "")


def call(command: list[str], folder: Path, patience: float = _PATIENCE, **options: object) -> None:
    """Run a command, or raise UnavailableError with the last line of what it says."""
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, check=False, timeout=patience, **options
        )  # type: ignore[call-overload]
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UnavailableError(f"{command[0]}: {error}") from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines() or [f"exit code {done.returncode}"]
        raise UnavailableError(f"{command[0]}: {said[-1]}")
