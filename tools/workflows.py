"""
Runs the commands of the public CI here: each `run:` of .github/workflows that this machine can run, in their order.

A step that needs the CI (its context, a package manager, a tree of its own) is named and left out. A task of the
Makefile is run by its own name.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from environments import ROOT, Environment

WORKFLOWS = ROOT / ".github" / "workflows"
_ONLY_THERE = re.compile(r"\$\{\{|\$GITHUB_|\$\{GITHUB_|\bsudo\b|\bgh \b|--inplace|^python -m pip install")
_TASK = re.compile(r"make (?!.*;)[\w -]+")
_READS_YAML = """
import json, sys, yaml
print(json.dumps({name: yaml.safe_load(open(name)) for name in sys.argv[1:]}, default=str))
"""


def steps(workflow: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield job and command of each step that has one."""
    for name, job in workflow["jobs"].items():
        yield from ((name, step["run"].strip()) for step in job["steps"] if "run" in step)


def why_not(command: str, path: str) -> str:
    """
    Return the reason why a command is not run here; nothing: it is.

    Args:
        command: Of the shell.

        path: Where programs are looked for.
    """
    if _ONLY_THERE.search(command):
        return "it needs the CI"
    if _TASK.match(command):
        return "it is a task of its own"
    program = command.split(maxsplit=1)[0]
    return "" if shutil.which(program, path=path) else f"there is no {program} here"


def run(environment: Environment, workflows: dict[str, Any]) -> int:
    """Run the commands with the programs of the environment; return 1 if one fails."""
    path = f"{Path(environment.python).parent}{os.pathsep}{os.environ['PATH']}"
    settings = {**os.environ, "PATH": path, "VIRTUAL_ENV": str(environment.path)}
    failed = []
    for file, workflow in workflows.items():
        for job, command in steps(workflow):
            title = f"{Path(file).name}, {job}: {command.splitlines()[0]}"
            reason = why_not(command, path)
            print(f"=== {title}" + (f"  SKIPPED: {reason}" if reason else ""), flush=True)
            shell = ["bash", "-eo", "pipefail", "-c", command]
            if not reason and subprocess.run(shell, cwd=ROOT, env=settings, check=False).returncode:
                failed.append(title)
    print("workflows: all that can run here passes" if not failed else "workflows FAILED:\n  " + "\n  ".join(failed))
    return int(bool(failed))


def read(environment: Environment) -> dict[str, Any]:
    """Return each workflow by its path."""
    files = [str(path) for path in sorted(WORKFLOWS.glob("*.yml"))]
    command = [environment.python, "-c", _READS_YAML, *files]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
