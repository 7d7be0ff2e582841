"""What a pane says while it has nothing to show: what it is for in a few words, and which key to press next.
The keys are those of the registry, as the user has mapped them."""

from __future__ import annotations

from collections.abc import Mapping

from tui_lab.ui.actions import keys_of

Keymap = Mapping[str, str] | None


def no_run(keymap: Keymap = None) -> str:
    """There is no run at all."""
    return (
        f"No run yet. {keys_of('app.choose', keymap)} goes to Choose, and {keys_of('choose.start', keymap)} "
        "there starts one: the defaults work."
    )
