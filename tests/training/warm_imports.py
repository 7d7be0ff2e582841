"""What the run process imports, imported once in the server that the tests' runs are forked from (see
warm_start.py): the libraries cost seven seconds of a core, most runs of the tests two."""

from __future__ import annotations

import gc
import importlib
import os

os.environ["HF_HUB_OFFLINE"] = "1"  # read once, at import; runs of tests need no network

gc.disable()  # collections find nothing while modules are imported
for name in ("__main__", "attempt", "trainer"):
    importlib.import_module(f"tui_lab.training.{name}")
gc.freeze()  # what is loaded is never collected: the runs share its pages
gc.enable()
