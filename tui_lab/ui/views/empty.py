"""The texts of empty panes: what the pane is for, and which key to press next. Keys are shown as the user has
mapped them."""

from __future__ import annotations

from collections.abc import Mapping

from tui_lab.ui.actions.registry import first_key as key

Keymap = Mapping[str, str] | None


def no_run(keymap: Keymap = None) -> str:
    """Without any run."""
    return (
        f"No run yet. {key('app.setup', keymap)} goes to Setup, where "
        f"{key('setup.start', keymap)} starts one: the defaults work as they are."
    )


def no_run_measured(keymap: Keymap = None) -> str:
    """Without a run to measure."""
    return f"{no_run(keymap)} What it forgets is measured here."


def no_runs(keymap: Keymap = None) -> str:
    """An empty table of runs."""
    start, wait = key("setup.start", keymap), key("setup.queue", keymap)
    return (
        f"No runs yet. {key('app.setup', keymap)} goes to Setup, where {start} starts one, and {wait} "
        "lets it wait its turn."
    )


def not_measured(keymap: Keymap = None) -> str:
    """A run without results."""
    return f"Nothing was measured yet: {key('retention.measure', keymap)} measures a suite."


def not_saved(lives: bool, keymap: Keymap = None) -> str:
    """A run without saved weights. ``lives``: it may still save some."""
    if lives:
        return "Nothing saved yet: wait for the end, or stop the run."
    return f"This run ended without saving: {key('train.resume', keymap)} on Train resumes it."


def no_sweep(keymap: Keymap = None) -> str:
    """A run without a strength sweep."""
    return f"{key('retention.sweep', keymap)} tries the adapter at several strengths: gain against retention."


def no_points(keymap: Keymap = None) -> str:
    """No run has gain and retention."""
    return f"Runs appear here once gain and retention are measured: {key('retention.measure', keymap)}."


def no_model(keymap: Keymap = None) -> str:
    """The Playground without a model."""
    send, model, tuned = (
        key(each, keymap) for each in ("prompt.send", "playground.model", "playground.tuned")
    )
    return (
        f"no model yet: {send} in the prompt loads the bundled one; in the lanes {model} any, {tuned} a run"
    )


def welcome(keymap: Keymap = None) -> str:
    """The message of the first start."""
    return (
        f"{key('setup.start', keymap)} starts a first run: a small bundled model learns to talk like a "
        f"pirate, in about a minute, here and without a network. {key('app.help', keymap)} explains "
        f"everything, {key('app.quit', keymap)} leaves."
    )
