"""`python -m entrypoints` is the command `minitill`."""

import sys

from entrypoints.cli import main

sys.exit(main())
