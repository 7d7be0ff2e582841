"""Whether the three ways to begin are shown. A marker file in the state folder records that they were; users
with runs or a settings file do not see them."""

from __future__ import annotations

from tui_lab.core import settings
from tui_lab.core.paths import path_exists, state_dir
from tui_lab.runs.folder import list_runs

#: The marker file.
MARK = "welcomed"


def is_due() -> bool:
    """True on the very first start, and on no other."""
    mark = state_dir() / MARK
    if path_exists(mark) or path_exists(settings.path()) or list_runs():
        return False
    try:
        mark.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        mark.touch()
    except OSError:
        return False  # it would be shown at every start
    return True
