"""What the core calls of the layers above it is registered by them; the core imports none of it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from resilio._composition import hooks as _hooks
from resilio._native import core

SOURCE = Path(os.environ.get("RESILIO_SOURCE_TREE", Path(__file__).resolve().parents[3])) / "src_c" / "resilio"
ASKED = re.compile(r'\b(?:rs_hook|core\.hook|context_flag|says|from_python)\([^"()]*"(\w+)"')


@pytest.mark.skipif(not SOURCE.is_dir(), reason="the sources of the native layer are not here")
def test_every_hook_that_native_code_asks_for_is_there():
    """
    A hook that is missing, or misspelt, would fail in the first call that needs it.

    The core called up by strings, `rs_python("resilio.events", ...)`: no tool saw those arrows, and no move of a file.
    """
    sources = [path for suffix in ("c", "pyx", "pxi") for path in (SOURCE / "_native").rglob(f"*.{suffix}")]
    asked = {name for path in sources for name in ASKED.findall(path.read_text())}
    assert {"park", "deliver", "bypass", "AsyncioRace"} <= asked
    assert all(core.hook(name) is not None for name in asked)
    registered = {name for names in _hooks._HOOKS.values() for name in names if not name.endswith("Error")}
    assert registered - asked == {"share", "share_keys", "stacked"}  # policies ask for those


@pytest.mark.skipif(not SOURCE.is_dir(), reason="the sources of the native layer are not here")
def test_the_core_imports_no_module_of_the_package():
    """It finds itself, and two leaves that it needs when it is imported."""
    named = {name for path in (SOURCE / "_native" / "core").rglob("*.c") for name in _strings(path)}
    assert named == {"resilio._native.core", "resilio._native.proofs", "resilio._support.after_fork"}


def _strings(path):
    return [".".join(name.split(".")[:3]) for name in re.findall(r'"(resilio\.[\w.]+)"', path.read_text())]


def test_a_hook_that_nobody_has_registered_says_how():
    """The name, and the call that registers it."""
    with pytest.raises(LookupError, match=r"hook 'nonesuch': core.set_hooks\(load, 'nonesuch'\)"):
        core.hook("nonesuch")
    with pytest.raises(TypeError, match="takes a function"):
        core.set_hooks("park")


INTERRUPTED = """
import sys
from resilio import circuit_breaker

def interrupt(frame, event, arg):
    if frame.f_code.co_name == "import_module":
        raise KeyboardInterrupt

breaker = circuit_breaker()

@breaker
def fail():
    raise OSError

sys.settrace(interrupt)
try:
    try:
        fail()
    except OSError:
        pass
    for _ in range(20):
        pass
except KeyboardInterrupt:
    print("interrupted", breaker.snapshot().failures)
"""


@pytest.mark.untraced  # a tracer imports beside the hook, and the Ctrl-C falls there
def test_a_ctrl_c_in_the_import_of_a_hook_comes_out_and_the_hook_is_there():
    """A process that was interrupted as it judged its first error lost both: the Ctrl-C was swallowed."""
    settings = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, env=settings, check=True)
    assert (done.stdout, done.stderr) == ("interrupted 1\n", "")
