"""What the run process imports, imported once in the server that the tests' runs are forked from (see
warm_start.py): the libraries cost seven seconds of a core, most runs of the tests two."""

from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # read once, at import; runs of tests need no network

import tui_lab.training.__main__
import tui_lab.training.attempt
import tui_lab.training.trainer  # noqa: F401
