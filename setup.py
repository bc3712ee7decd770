"""
Build the native layer: hand-written C for the core, Cython for the rest. All other metadata is in pyproject.toml.

RESILIO_COVERAGE=1 makes lines of Cython and C countable (slow), RESILIO_SANITIZE=1 adds AddressSanitizer and UBSan,
RESILIO_DEBUG=1 keeps symbols and line numbers for gdb and perf. Without one of them the modules are stripped.
RESILIO_ONLY=core,gates builds these modules alone and unoptimised: for gdb, and for a look at one change (`make
mutation`). A tree that was built in another way before is built anew.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from importlib.metadata import version
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

NATIVE = "src_c/resilio/_native"
COVERAGE = os.environ.get("RESILIO_COVERAGE") == "1"
SANITIZE = os.environ.get("RESILIO_SANITIZE") == "1"

MACROS = [("CYTHON_TRACE_NOGIL", "1"), ("CYTHON_USE_SYS_MONITORING", "0")] if COVERAGE else []
SANITIZERS = ["-fsanitize=address,undefined"] if SANITIZE else []
DEBUG = os.environ.get("RESILIO_DEBUG") == "1"
ONLY = [name for name in os.environ.get("RESILIO_ONLY", "").split(",") if name]
if SANITIZE:
    OPTIMISE = ["-O1", "-g", "-fno-omit-frame-pointer"]
elif COVERAGE:
    OPTIMISE = ["-O0", "--coverage"]
else:
    # A Python built with -g passes that on: debug data is 5/6 of a module.
    OPTIMISE = ["-O0" if ONLY else "-O3", "-g" if DEBUG else "-g0"]
WINDOWS = sys.platform == "win32"
# What runs in a call is quick, the rest is small: it takes a third less room and time to build.
QUICK = {"core", "gates", "strategies"}
SMALL = [] if COVERAGE or SANITIZE or ONLY else ["/O1" if WINDOWS else "-Os"]
# Code in a segment of its own takes a page more of each module.
LINUX = ["-Wl,-s,-z,noseparate-code"]
STRIP = [] if COVERAGE or SANITIZE or DEBUG or WINDOWS else ["-Wl,-x"] if sys.platform == "darwin" else LINUX
# Methods are those of C, with signatures for stubtest and `help`, and nothing is pickled: a fifth of a module less.
DIRECTIVES = {
    "language_level": "3",
    "freethreading_compatible": True,
    "auto_pickle": False,
    "binding": False,
    "embedsignature": True,
    "embedsignature.format": "clinic",
    "emit_code_comments": COVERAGE,
    "linetrace": COVERAGE,
}
FLAGS = " ".join([*OPTIMISE, *SMALL, *SANITIZERS, *STRIP, *(name for name, _ in MACROS), json.dumps(DIRECTIVES)])
WARNINGS = ["-Wall", "-Wextra", "-Wno-unused-parameter", "-Wno-missing-field-initializers"]
# On Windows by clang-cl, which takes the options of MSVC: MSVC itself has none of the builtins.
COMPILE = ["/O2", "/clang:-std=gnu11"] if WINDOWS else [*OPTIMISE, "-std=gnu11", "-fvisibility=hidden"]


def files(folder, pattern):
    """The files that match, sorted, relative to this one as setuptools wants them."""
    return sorted(str(path) for path in Path(folder).glob(pattern))


HEADERS = files("src_c/include", "*.h") + files("src_c/algorithms", "**/*.h") + files(f"{NATIVE}/core", "**/*.h")

COMPILING = {"bdist_egg", "bdist_wheel", "build", "build_ext", "develop", "editable_wheel", "install"}
HELP = """
resilio-sdk needs {what} to build its native layer.
  Debian, Ubuntu:  apt install gcc python3-dev
  Fedora:          dnf install gcc python3-devel
  Alpine:          apk add gcc musl-dev python3-dev
  macOS:           xcode-select --install
  Windows:         LLVM (clang-cl) and the Build Tools of Visual Studio
"""


def native(name, sources):
    """One extension module resilio._native.<name>."""
    return Extension(
        f"resilio._native.{name}",
        sources,
        include_dirs=["src_c/include", "src_c/algorithms", f"{NATIVE}/core"],
        depends=HEADERS,
        define_macros=MACROS,
        extra_compile_args=[*COMPILE, *([] if name in QUICK else SMALL), *WARNINGS, *SANITIZERS],
        extra_link_args=["--coverage"] if COVERAGE else [*SANITIZERS, *STRIP],
    )


# The slowest to compile come first: two compilers take them in turn, and none is left alone with a long one.
CYTHON = (
    "gates",
    "strategies",
    "simulation",
    "primitives",
    "keyed",
    "shared",
    "pool",
    "budget",
    "sse",
    "custom",
    "clock",
)
EXTENSIONS = [
    native("core", files(f"{NATIVE}/core", "**/*.c")),
    *(native(name, [f"{NATIVE}/{name}.pyx"]) for name in CYTHON),
]
if ONLY:
    EXTENSIONS = [extension for extension in EXTENSIONS if extension.name.rpartition(".")[2] in ONLY]


class BuildNative(build_ext):
    """
    Runs Cython only when something is built: an sdist lists the .pyx and never the C made from it.

    A traced build leaves that C beside its .pyx, where Cython.Coverage looks for it; any other under build/cython.
    """

    def finalize_options(self):
        """Two compilers at once unless the command line says otherwise; all anew after another way to build."""
        super().finalize_options()
        self.parallel = self.parallel or 2
        self._built_by = Path(self.build_temp, "flags")  # beside the objects, which builds in place and wheels share
        if self._built_by.exists() and self._built_by.read_text() != FLAGS:
            self.force = True

    def build_extensions(self):
        """Translate all Cython at once, then compile."""
        if WINDOWS:
            self._use_clang()
        from Cython.Build import cythonize

        translated = cythonize(
            [extension for extension in self.extensions if extension.sources[0].endswith(".pyx")],
            include_path=["src_c"],
            build_dir=None if COVERAGE else "build/cython",
            force=self.force,
            compiler_directives=DIRECTIVES,
        )
        sources = {extension.name: extension.sources for extension in translated}
        for extension in self.extensions:
            extension.sources = sources.get(extension.name, extension.sources)
        super().build_extensions()
        self._built_by.parent.mkdir(parents=True, exist_ok=True)
        self._built_by.write_text(FLAGS)

    def _use_clang(self):
        """Compile with clang-cl, link with the linker of MSVC, and with Clang's division of 128 bits."""
        self.compiler.initialize()
        clang = shutil.which("clang-cl") or r"C:\Program Files\LLVM\bin\clang-cl.exe"
        if not Path(clang).exists():
            raise SystemExit(HELP.format(what="clang-cl of LLVM (it was not found)"))
        self.compiler.cc = clang
        asked = [clang, "/clang:-print-libgcc-file-name", "/clang:--rtlib=compiler-rt"]
        library = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
        for extension in self.extensions:
            extension.extra_link_args.append(library)


def require_tools():
    """Reject with what to install, before setuptools has copied and told of hundreds of files."""
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")[0]
    if shutil.which(compiler) is None:
        raise SystemExit(HELP.format(what=f"a C compiler ({compiler!r} was not found)"))
    header = Path(sysconfig.get_path("include"), "Python.h")
    if not header.exists():
        raise SystemExit(HELP.format(what=f"the headers of this Python ({header} was not found)"))


PROJECT = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]


def readme():
    """README.md for an index, which has no files beside it: links to files of the tree lead to those of the tag."""

    def absolute(link):
        image, text, target = link.groups()
        if not Path(target.partition("#")[0]).exists():
            return link[0]
        kind = "raw" if image else "blob"
        return f"{image}[{text}]({PROJECT['urls']['Source']}/{kind}/v{PROJECT['version']}/{target})"

    return re.sub(r"(!?)\[([^]]*)\]\(([\w./][^)\s]*)\)", absolute, Path("README.md").read_text(encoding="utf-8"))


class Wheel(bdist_wheel):
    """A wheel that lists what was compiled into it: a bill of materials, as PEP 770 has it."""

    def egg2dist(self, egginfo_path, distinfo_path):
        """Make the folder of metadata, with the bill in it."""
        super().egg2dist(egginfo_path, distinfo_path)
        path = Path(distinfo_path, "sboms", f"{PROJECT['name']}.cdx.json")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self._bill(), indent=2) + "\n")

    @staticmethod
    def _bill():
        def component(name, number, license_id):
            reference = f"pkg:pypi/{name.lower()}@{number}"
            named = {"type": "library", "bom-ref": reference, "name": name, "version": number, "purl": reference}
            return {**named, "licenses": [{"license": {"id": license_id}}]}

        # Cython's own C is in each module that it has made; everything else in them is this project's.
        itself = component(PROJECT["name"], PROJECT["version"], PROJECT["license"])
        parts = [component("Cython", version("Cython"), "Apache-2.0")]
        return {
            "bomFormat": "CycloneDX",
            "specVersion": "1.6",
            "version": 1,
            "metadata": {"component": itself},
            "components": parts,
            "dependencies": [{"ref": itself["bom-ref"], "dependsOn": [part["bom-ref"] for part in parts]}],
        }


if os.name == "posix" and COMPILING.intersection(sys.argv[1:]):
    require_tools()
setup(
    ext_modules=EXTENSIONS,
    cmdclass={"build_ext": BuildNative, "bdist_wheel": Wheel},
    long_description=readme(),
    long_description_content_type="text/markdown",
)
