"""The shared algorithms under ThreadSanitizer, where the compiler has it."""

from __future__ import annotations

import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ALGORITHMS = HERE.parents[1] / "src_c" / "algorithms"
COMPILER = next(filter(shutil.which, [(sysconfig.get_config_var("CC") or "cc").split()[0], "cc", "gcc", "clang"]), None)

pytestmark = [
    pytest.mark.once,
    pytest.mark.skipif(COMPILER is None, reason="NOT TESTED: ThreadSanitizer, for want of a C compiler"),
    pytest.mark.skipif(not ALGORITHMS.exists(), reason="NOT TESTED: the shared algorithms, whose source is not here"),
]


def _built(source: Path, program: Path) -> bool:
    """Compile with ThreadSanitizer; return False if the compiler has none."""
    options = ["-std=gnu11", "-O1", "-g", "-fsanitize=thread", f"-I{ALGORITHMS}", "-pthread"]
    command = [str(COMPILER), *options, str(source), "-o", str(program), "-lm"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_threads_race_on_atomic_words_only(tmp_path: Path) -> None:
    """Four threads on one bucket, window and table: no data race, and no more admitted than the limits allow."""
    plain, program = tmp_path / "plain.c", tmp_path / "sanitized"
    plain.write_text("int main(void) { return 0; }\n")
    if not _built(plain, program) or subprocess.run([str(program)], check=False).returncode != 0:
        pytest.skip("NOT TESTED: this compiler, or this machine, has no ThreadSanitizer")
    assert _built(HERE / "sanitized.c", program)
    ran = subprocess.run([str(program)], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    bucket, purses, window, keys = map(int, ran.stdout.split())
    assert 0 < bucket <= 1200  # the burst, and 200 ns at one a nanosecond
    assert 0 < purses <= 1200
    assert 0 < window <= 50
    assert 3000 <= keys <= 3600 + 1000  # three keys; a key that two threads insert may be new twice
