"""`python -m benchmarks.micro`."""

import sys

from benchmarks.micro import main

sys.exit(main())
