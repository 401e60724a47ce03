"""`python -m mdan_zoo` is `mdan-zoo`."""

import sys

from mdan_zoo.cli import main

sys.exit(main())
