"""The state of a run in one word: glyph, colour role and text."""

from __future__ import annotations

#: A glyph for every state of a run: state is never told by colour alone.
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
