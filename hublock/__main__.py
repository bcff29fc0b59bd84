"""``python -m hublock``."""

import sys

from hublock.cli.main import main

sys.exit(main())
