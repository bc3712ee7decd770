"""The native layer: see docs/explanation/architecture.md."""

from resilio._support.one_package import require_one_package

# Each way in leads through here: `import resilio`, and a module of this package beside the __init__.py of another.
require_one_package()
