"""`python -m examples.demo`."""

import sys

from examples.demo._main import main

sys.exit(main())
