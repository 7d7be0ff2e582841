"""``python -m tui_lab`` is ``tui-lab``."""

import sys

from tui_lab.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
