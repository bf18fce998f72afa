"""``python -m loopwright``: the same as the ``loopwright`` command."""

from __future__ import annotations

import sys

from loopwright.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
