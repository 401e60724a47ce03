"""`python -m mdan_zoo` is `mdan-zoo`."""

import sys

from mdan_zoo.cli.main import main

sys.exit(main())
