"""``python -m minispike``: the same as the command ``minispike``."""

import sys

from minispike.cli import main

sys.exit(main())
