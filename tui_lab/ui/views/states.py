"""Every state that the lab shows, each with its glyph, its word and its colour in the theme: no state is
shown by colour alone, and a glyph means one thing on all panes and on the command line. ASCII terminals get
the replacements of ``ui/terminal/ascii.py``."""

from __future__ import annotations

from typing import NamedTuple


class State(NamedTuple):
    """How a state is shown. ``role``: a variable of the theme, "" for plain text."""

    glyph: str
    word: str
    role: str = ""


#: Of a run, by the state of its folder.
RUN_STATES = {
    "queued": State("…", "queued", "undecided"),
    "created": State("·", "created"),
    "starting": State("◌", "starting", "state-running"),
    "running": State("▶", "running", "state-running"),
    "stopping": State("◌", "stopping", "state-paused"),
    "paused": State("‖", "paused", "state-paused"),
    "finished": State("✓", "finished", "state-finished"),
    "stopped": State("■", "stopped", "state-finished"),
    "failed": State("✗", "failed", "state-failed"),
    "crashed": State("✗", "crashed", "state-failed"),
}
#: Of the playground process and of a lane.
PLAYGROUND_STATES = {
    "off": State("·", "off"),
    "idle": State("·", "idle"),
    "starting": State("◌", "starting", "state-running"),
    "loading": State("◌", "loading", "state-running"),
    "waiting": State("◌", "waiting", "state-running"),
    "ready": State("✓", "ready", "state-finished"),
    "busy": State("▶", "busy", "state-running"),
    "running": State("▶", "running", "state-running"),
    "done": State("✓", "done", "state-finished"),
    "stopped": State("■", "stopped", "state-finished"),
    "died": State("✗", "died", "state-failed"),
}
#: Whether a recipe or a model fits this machine, by the verdicts of forecast/remedies.py.
FIT_STATES = {
    "fits": State("✓", "fits", "text-success"),
    "tight": State("≈", "tight", "text-warning"),
    "over": State("✗", "does not fit", "text-error"),
    "unknown": State("?", "unknown", "text-muted"),
}
#: Of a check of the doctor.
CHECK_STATES = {
    "ok": State("✓", "ok", "text-success"),
    "warn": State("!", "warn", "text-warning"),
    "fail": State("✗", "fail", "text-error"),
}
TABLES = (RUN_STATES, PLAYGROUND_STATES, FIT_STATES, CHECK_STATES)


def run_state(name: str) -> State:
    """The state of a run; one of a newer version shows its own name."""
    return RUN_STATES.get(name) or State("·", name.replace("_", " "))


def state_text(name: str) -> str:
    """A run's state: glyph and word."""
    state = run_state(name)
    return f"{state.glyph} {state.word}"
