"""The state of a run in one word, with its glyph and colour role, and the time in its id."""

from __future__ import annotations

from tui_lab.core.sanitize import sanitize

#: A glyph for every state of a run, so that no state is shown by colour alone.
STATE_GLYPHS = {
    "queued": "…",
    "created": "·",
    "starting": "◌",
    "running": "▶",
    "paused": "‖",
    "finished": "✓",
    "stopped": "■",
    "failed": "✗",
    "crashed": "✗",
}


STATE_ROLES = {
    "queued": "undecided",
    "starting": "state-running",
    "running": "state-running",
    "paused": "state-paused",
    "finished": "state-finished",
    "stopped": "state-finished",
    "failed": "state-failed",
    "crashed": "state-failed",
}


def state_text(state: str) -> str:
    """A run's state with its glyph."""
    return f"{STATE_GLYPHS.get(state, '·')} {state}"


def run_time(run_id: str) -> str:
    """Month, day and time at which a run was created, from its id: 11-21 12:59."""
    digits = run_id[:8] + run_id[9:13]
    if len(digits) == 12 and digits.isdigit():
        return f"{digits[4:6]}-{digits[6:8]} {digits[8:10]}:{digits[10:12]}"
    return sanitize(run_id)
