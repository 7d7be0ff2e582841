"""Where the repository lies, and the optional folder of real models and data beside it."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
#: Real tokenizers, models and data sets; tests that need them are skipped where the folder is absent.
SHARED = Path(os.environ.get("TUI_LAB_SHARED") or ROOT.parent / "shared")
