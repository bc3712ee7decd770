"""Sphinx configuration. `make docs` builds against the installed wheel and turns warnings into errors."""

import os
from importlib.metadata import version as _version

project = "resilio"
author = "The resilio authors"
copyright = f"2026, {author}"
release = _version("resilio-sdk")
version = release

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
exclude_patterns = ["_build"]
nitpicky = False

myst_enable_extensions = ["colon_fence", "deflist", "fieldlist"]
myst_heading_anchors = 3

# OpenTelemetry is read for its signatures only.
autodoc_mock_imports = ["opentelemetry"]
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "show-inheritance": True}

html_theme = "furo"
html_baseurl = os.environ.get("READTHEDOCS_CANONICAL_URL", "")  # on a host with versions: search finds one of them
html_static_path = ["_css"]
html_css_files = ["wide.css"]
html_title = f"resilio {release}"
html_show_sphinx = False

# `Law` is a class of `resilio.laws` and one of `resilio.simulation`: in the scope of each its own is meant.
suppress_warnings = ["ref.python"]
