"""
Drops the data files in a folder that would spoil the report of all others. It runs where coverage is installed.

Children of the tests leave them: some are killed on purpose, now and then while they write.
"""

from __future__ import annotations

from pathlib import Path

from coverage import CoverageData
from coverage.exceptions import DataError


def drop_unfit(folder: Path) -> list[str]:
    """
    Remove the data files of children that cannot be combined, and return what was wrong, a line for each.

    A child killed as it wrote leaves no data file, or half of one. One that ended before the Cython plugin named its
    files says that nobody traced them, and then the report of all fails.
    """
    dropped = []
    for path in sorted(folder.glob(".coverage.*")):
        problem = _problem(path)
        if problem:
            path.unlink()
            dropped.append(f"{path.name}: {problem}")
    return dropped


def _problem(path: Path) -> str:
    data = CoverageData(str(path))
    try:
        data.read()
        untraced = [
            file for file in data.measured_files() if file.endswith((".pyx", ".pxi")) and not data.file_tracer(file)
        ]
    except DataError:
        return "cannot be read"
    finally:
        data.close(force=True)
    return "ended before its Cython files were named" if untraced else ""


if __name__ == "__main__":
    for line in drop_unfit(Path.cwd()):
        print("coverage: left out", line)
