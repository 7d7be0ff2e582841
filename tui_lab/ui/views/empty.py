"""The texts of empty panes: what the pane is for, and which key to press next. Each is a function of the
user's keymap."""

from __future__ import annotations

from functools import partial

from tui_lab.ui.actions.registry import filled

_NO_RUN = (
    "No run yet. {app.setup} goes to Setup, where {setup.start} starts one: the defaults work as they are."
)
no_run = partial(filled, _NO_RUN)
no_run_to_measure = partial(filled, f"{_NO_RUN} What it forgets is measured here.")
no_runs = partial(
    filled,
    "No runs yet. {app.setup} goes to Setup, where {setup.start} starts one, and {setup.queue} queues one.",
)
not_measured = partial(filled, "Nothing is measured yet: {retention.measure} measures a suite.")
#: A run in progress, and one that has ended, without saved weights.
not_saved_yet = partial(filled, "Nothing saved yet: wait for the end, or stop the run.")
not_saved = partial(filled, "This run ended without saving: {train.resume} on Train resumes it.")
no_sweep = partial(filled, "{retention.sweep} measures the run at several strengths.")
no_points = partial(
    filled, "Runs appear here once acquisition and retention are measured: {retention.measure}."
)
not_loaded_yet = partial(filled, "no model is loaded: {prompt.send} loads the last one")
no_model = partial(
    filled,
    "no model is loaded: {prompt.send} in the prompt loads the bundled one; in the lanes {playground.model} "
    "loads another, {playground.tuned} a run",
)
