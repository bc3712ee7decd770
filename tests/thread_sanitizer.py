"""Programs in C under ThreadSanitizer, where the compiler and the machine have it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

COMPILER = next(filter(shutil.which, [(sysconfig.get_config_var("CC") or "cc").split()[0], "cc", "gcc", "clang"]), None)
SOURCES = Path(__file__).parents[1] / "src_c"
INCLUDES = [f"-I{SOURCES / 'algorithms'}", f"-I{SOURCES / 'include'}"]


def built(source: Path, program: Path, *options: str) -> bool:
    """Compile with ThreadSanitizer; return False if the compiler has none."""
    common = ["-std=gnu11", "-O1", "-g", "-fsanitize=thread", *options, *INCLUDES, "-pthread"]
    command = [str(COMPILER), *common, str(source), "-o", str(program), "-lm"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@contextmanager
def folder_of_programs() -> Iterator[Path]:
    """A folder in memory if the machine has such a place; skip where ThreadSanitizer does not run."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as name:
        plain, program = Path(name, "plain.c"), Path(name, "plain")
        plain.write_text("int main(void) { return 0; }\n")
        if not built(plain, program) or subprocess.run([str(program)], check=False).returncode != 0:
            pytest.skip("NOT TESTED: this compiler, or this machine, has no ThreadSanitizer")
        yield Path(name)


def printed(program: Path, *arguments: str) -> dict[str, int]:
    """Run a program that prints a name and a number a line; the test fails if it has found a race."""
    ran = subprocess.run([str(program), *arguments], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    return {name: int(number) for name, number in map(str.split, ran.stdout.splitlines())}
