"""``python -m orfeas``: see `orfeas.cli`."""

import sys

from orfeas.cli import main

sys.exit(main())
