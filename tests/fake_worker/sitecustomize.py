"""Lets a started run be the small worker beside this file: see tests/conftest.py."""

from pathlib import Path

import tui_lab

tui_lab.__path__.insert(0, str(Path(__file__).parent))
