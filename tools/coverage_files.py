"""
Combines the data files in a folder and writes the report of all. It runs where coverage is installed.

Children of the tests leave such files: some are killed on purpose, now and then while they write.
"""

from __future__ import annotations

import sys
from pathlib import Path

from coverage import Coverage, CoverageData
from coverage.exceptions import CoverageException, DataError

REPORT = "coverage.json"


def combine(folder: Path) -> Coverage:
    """Combine the data files in a folder; print a line for each that is left out."""
    for line in drop_unfit(folder):
        print("coverage: left out", line)
    combined = Coverage(data_file=str(folder / ".coverage"), config_file=str(folder / "pyproject.toml"))
    for path in _data_files(folder):
        try:
            combined.combine([str(path)])
        except CoverageException as error:
            print(f"coverage: left out {path.name}: {error}")
    combined.save()
    return combined


def drop_unfit(folder: Path) -> list[str]:
    """
    Remove the data files of children that cannot be combined, and return what was wrong, a line for each.

    A child killed as it wrote leaves no data file, or half of one. One that ended before the Cython plugin named its
    files says that nobody traced them, and then the report of all fails.
    """
    dropped = []
    for path in _data_files(folder):
        problem = _problem(path)
        if problem:
            path.unlink()
            dropped.append(f"{path.name}: {problem}")
    return dropped


def modules_first(files: set[str]) -> list[str]:
    """
    Order measured files so that the Cython plugin finds all of them.

    It finds a part of a module (.pxi, .pxd) in a folder of its own only after it has read the module. Coverage hands it
    the files in the order of a set of strings, which differs from run to run.
    """
    return sorted(files, key=lambda name: (not name.endswith(".pyx"), name))


def _data_files(folder: Path) -> list[Path]:
    # A journal belongs to its data file, and reading that one removes it.
    return sorted(path for path in folder.glob(".coverage.*") if not path.name.endswith("-journal"))


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


def main() -> int:
    """Combine what is in this folder, print the table, write REPORT, and return 1 with the reason if it cannot be."""
    try:
        combined = combine(Path.cwd())
        files = modules_first(combined.get_data().measured_files())
        combined.report(files, precision=1)
        combined.json_report(files, outfile=REPORT)
    except CoverageException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
