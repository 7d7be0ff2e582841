"""Puts the worker beside this file into a started playground process: see ``terminal.environment``."""

from pathlib import Path

import tui_lab.playground

tui_lab.playground.__path__.insert(0, str(Path(__file__).parent / "playground"))
