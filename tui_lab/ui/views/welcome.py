"""The message of the very first start. A marker file in the state folder records that it was shown; users
with runs or a settings file do not see it."""

from __future__ import annotations

from collections.abc import Mapping

from tui_lab.core import settings
from tui_lab.core.paths import path_exists, state_dir
from tui_lab.runs.folder import list_runs
from tui_lab.ui.views import empty

#: The marker file.
MARK = "welcomed"
SECONDS = 25.0


def message(keymap: Mapping[str, str] | None = None) -> str:
    """The message to show now; "" on every start but the first."""
    mark = state_dir() / MARK
    if path_exists(mark) or path_exists(settings.path()) or list_runs():
        return ""
    try:
        mark.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        mark.touch()
    except OSError:
        return ""  # it would be shown at every start
    return empty.welcome(keymap)
