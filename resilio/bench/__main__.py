"""`python -m resilio.bench` is `python -m resilio bench`."""

import sys

from resilio.bench import main

sys.exit(main())
