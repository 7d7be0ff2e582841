"""All actions that have a key, and their texts. Key bindings, footer, command palette, cheat sheet and help
are made from this registry. Users remap keys by an action's id. This module has the actions of the whole lab
and of its panes; those of modal screens are in :mod:`tui_lab.ui.actions.registry_modal`."""

from __future__ import annotations

from collections.abc import Mapping

from textual.binding import Binding, BindingType

from tui_lab.ui.actions.action import Action
from tui_lab.ui.actions.keys import goes_first, key_name
from tui_lab.ui.actions.registry_modal import MODAL_ACTIONS, MODAL_GROUPS

__all__ = [
    "ACTIONS",
    "BY_ID",
    "GROUPS",
    "MODAL_GROUPS",
    "Action",
    "bindings",
    "first_key",
    "key_cell",
    "key_name",
    "keys_now",
    "keys_of",
]

#: Titles of the groups, in the order of the help screen.
GROUPS = {
    "app": "Everywhere",
    "setup": "Setup",
    "train": "Train",
    "playground": "Playground",
    "retention": "Retention",
    "runs": "Runs",
    **MODAL_GROUPS,
}
#: Groups of the panes; their keys and those of the whole lab are in force together.
PANE_GROUPS = tuple(group for group in GROUPS if group not in MODAL_GROUPS and group != "app")
#: Widgets whose keys are in force together with their pane's. (A text field takes its own keys first.)
WIDGET_GROUPS = {"form": "setup", "lane": "playground"}

# fmt: off
ACTIONS: tuple[Action, ...] = (
    # --- everywhere
    Action("app.keys", "question_mark", "open('cheat_sheet')", "Keys",
           "Show the keys of this pane on one screen.", show=True),
    Action("app.help", "f1", "open('help')", "Help",
           "Show what each pane is for, and every key; / searches."),
    Action("app.setup", "f2,1", "pane('setup')", "Setup", "Go to Setup: model, preset, data, fields."),
    Action("app.train", "f3,2", "pane('train')", "Train", "Go to Train: watch a run, pause it, stop it."),
    Action("app.playground", "f4,3", "pane('playground')", "Playground",
           "Go to Playground: compare decodings side by side."),
    Action("app.retention", "f5,4", "pane('retention')", "Retention",
           "Go to Retention: what a run forgot, and what to do about it."),
    Action("app.runs", "f6,5", "pane('runs')", "Runs", "Go to Runs: all runs, sweeps and the queue."),
    Action("app.jump", "ctrl+o", "open('jump')", "Jump",
           "Show letters on everything in view; type one to go there."),
    Action("app.explain", "f10,ctrl+g", "open('explanations')", "Explain",
           "Explain the field or the figures in view in two sentences with a source.", show=True),
    Action("app.whether", "H", "open('whether')", "Tune at all?",
           "One page on whether to fine-tune, prompt or retrieve, and how to find out here."),
    Action("app.palette", "ctrl+p", "command_palette", "Commands", "Search all actions."),
    Action("app.theme", "f9", "open('themes')", "Theme", "Choose another theme."),
    Action("app.plots", "f8", "next_marker", "Plot marks",
           "Draw plots in braille, in blocks, or in ASCII."),
    Action("app.slow-link", "f12", "slow_link", "Slow link",
           "Send less to the terminal: plots and streams are drawn less often; again: as usual."),
    Action("app.redraw", "ctrl+l", "redraw", "Redraw",
           "Send the whole screen again, after something else has written on it."),
    Action("app.export", "E", "open('export')", "Export",
           "Export what the run learned: adapter, merged model, GGUF."),
    Action("app.report", "W", "open('report')", "Report",
           "Write the report of the run, and show where it is."),
    Action("app.settings", "comma,f11", "open('settings')", "Settings",
           "Show and change every setting, with where its value comes from."),
    Action("app.doctor", "D", "open('doctor')", "Doctor", "Check what this machine can do, and what to fix."),
    Action("app.quit", "q,ctrl+q", "leave", "Quit", "Leave the lab. A run in progress continues without it.",
           show=True),
    # --- setup
    Action("setup.start", "s,ctrl+s", "start", "Start",
           "Start a run with this recipe, and watch it on Train.", "setup", show=True),
    Action("setup.queue", "a", "queue", "Queue",
           "Put a run with this recipe into the queue.", "setup", show=True),
    Action("setup.copy", "c", "copy_command", "Copy command",
           "Copy the tui-lab train command.", "setup", show=True),
    Action("setup.fit", "x", "make_fit", "Make it fit",
           "Change the recipe as little as possible so that it fits into memory; again: undo.", "setup"),
    Action("setup.ways", "X", "ways", "Ways to fit",
           "List every way to make the recipe fit, with what each costs.", "setup"),
    Action("setup.probe", "e", "exact", "Count memory",
           "Count the memory of two real steps exactly, without loading weights, in seconds.", "setup"),
    Action("setup.calibrate", "k", "calibrate", "Measure speed",
           "Measure ten steps of this recipe here, so that the forecast of time is measured.", "setup"),
    Action("setup.gpu", "g", "next_gpu", "Next GPU",
           "Run on the next GPU of this machine, and forecast for it.", "setup"),
    Action("setup.models", "m", "show('models')", "Models", "Choose a model.", "setup"),
    Action("setup.presets", "p", "show('presets')", "Presets", "Choose a preset.", "setup"),
    Action("setup.data", "d", "show('data')", "Data",
           "Choose the data, and see it as the model does.", "setup"),
    Action("setup.fields", "f", "show('fields')", "Fields", "Edit every field of the recipe.", "setup"),
    Action("setup.path", "slash", "type_name", "Type a name",
           "Type a folder, a file or a hub name.", "setup", show=True),
    # --- train
    Action("train.pause", "space", "pause", "Pause",
           "Pause the run after the current step, or continue it.", "train", show=True),
    Action("train.checkpoint", "k", "checkpoint", "Checkpoint",
           "Save a checkpoint after the current step.", "train", show=True),
    Action("train.stop", "x", "stop", "Stop",
           "End the run after the current step; what was learned is saved.", "train", show=True),
    Action("train.runs", "r", "choose_run", "Runs",
           "Show another run, live or ended.", "train", show=True),
    Action("train.arm", "a", "arm", "Arm",
           "Arm the run, so that it stops once retention is surely lost; again: disarm.", "train", show=True),
    Action("train.probe", "p", "probe", "Probe",
           "Measure retention and the distance from the base after the current step.", "train"),
    Action("train.flags", "f", "flags", "Red flags",
           "Show what goes wrong in this run, and what helps.", "train"),
    Action("train.log", "l", "log_scale", "Log scale",
           "Draw the loss on a logarithmic axis, or back.", "train"),
    Action("train.next", "t,right_square_bracket", "turn_tab(1)", "Tab",
           "Show the next tab.", "train", show=True),
    Action("train.previous", "T,left_square_bracket", "turn_tab(-1)", "Previous tab",
           "Show the previous tab.", "train"),
    Action("train.faster", "plus", "speed(1)", "Faster", "Play a replay faster.", "train", show=True),
    Action("train.slower", "minus", "speed(-1)", "Slower", "Play a replay slower.", "train", show=True),
    Action("train.resume", "R", "resume", "Resume",
           "Start the run again from its last checkpoint.", "train", show=True),
    # --- playground
    Action("playground.run", "ctrl+r,r", "run", "Run", "Run every lane on the prompt.",
           "playground", show=True),
    Action("playground.stop", "x", "stop", "Stop",
           "End all lanes at their next token; their text stays.", "playground", show=True),
    Action("playground.prompt", "i,slash", "prompt", "Prompt",
           "Go to the prompt.", "playground", show=True),
    Action("playground.edit", "e", "edit", "Edit",
           "Edit the lane: its strategy and parameters.", "playground", show=True),
    Action("playground.inspect", "enter", "inspect", "Inspect",
           "Inspect the lane token by token.", "playground", show=True),
    Action("playground.next", "right_square_bracket,right,l", "lane(1)", "Next lane",
           "Go to the next lane.", "playground"),
    Action("playground.previous", "left_square_bracket,left", "lane(-1)", "Previous lane",
           "Go to the previous lane.", "playground"),
    Action("playground.add", "a", "add", "Add", "Add a lane after this one.", "playground"),
    Action("playground.duplicate", "d", "duplicate", "Duplicate",
           "Duplicate the lane, with the next seed.", "playground"),
    Action("playground.remove", "delete,minus", "remove", "Remove", "Remove the lane.", "playground"),
    Action("playground.sets", "p", "sets", "Lane sets",
           "Choose a set of lanes, such as six classics or base against tuned.", "playground", show=True),
    Action("playground.tuned", "t", "tuned", "Tuned run",
           "Load a run's adapter next to its base, with lanes that show the difference.",
           "playground", show=True),
    Action("playground.model", "m", "model", "Model",
           "Load another model, or another precision.", "playground", show=True),
    Action("playground.seeds", "v", "seeds", "Seeds",
           "Use the same seeds in every run, or new ones.", "playground"),
    Action("playground.tokens", "n", "tokens", "Length",
           "Set the maximum number of new tokens.", "playground"),
    Action("playground.template", "c", "template", "Chat template",
           "Use the chat template, or give the prompt as plain text.", "playground"),
    Action("playground.system", "S", "system", "System prompt", "Set the system prompt.", "playground"),
    Action("playground.history", "h", "history", "History", "Choose an earlier prompt.", "playground"),
    Action("playground.copy", "y", "copy", "Copy", "Copy the lane's text.", "playground"),
    Action("playground.save", "w", "save", "Save",
           "Save the comparison as Markdown and JSON.", "playground", show=True),
    Action("playground.blind", "b", "blind", "Blind A/B",
           "Vote on two lanes without seeing which is which.", "playground"),
    Action("playground.unload", "u", "unload", "Free memory",
           "Free the model's memory; the next run loads it again.", "playground"),
    # --- retention
    Action("retention.measure", "e", "measure", "Measure",
           "Measure the base and the tuned model on a suite.", "retention", show=True),
    Action("retention.sweep", "s", "sweep", "Strength",
           "Measure the adapter at several strengths: gain and retention at each.", "retention", show=True),
    Action("retention.save", "w", "save_strength", "Save strength",
           "Save the adapter at a strength of the sweep.", "retention", show=True),
    Action("retention.next", "t,right_square_bracket", "turn_tab(1)", "Tab",
           "Show the next tab.", "retention", show=True),
    Action("retention.previous", "T,left_square_bracket", "turn_tab(-1)", "Previous tab",
           "Show the previous tab.", "retention"),
    Action("retention.runs", "r", "choose_run", "Runs", "Show another run.", "retention", show=True),
    Action("retention.playground", "c", "playground", "Playground",
           "Compare this run with its base on Playground.", "retention", show=True),
    Action("retention.cancel", "x", "cancel", "End",
           "End the measurement; what was scored is saved.", "retention"),
    # --- runs
    Action("runs.open", "enter", "open", "Train", "Show the run on Train.", "runs", show=True),
    Action("runs.retention", "k", "retention", "Retention", "Show on Retention what the run forgot.", "runs"),
    Action("runs.playground", "c", "playground", "Playground",
           "Compare the run with its base on Playground.", "runs"),
    Action("runs.mark", "space", "mark", "Mark",
           "Mark the run, to compare or delete several.", "runs", show=True),
    Action("runs.mark_shown", "a", "mark_shown", "Mark all",
           "Mark all runs that the filter shows, or all runs of this sweep.", "runs"),
    Action("runs.unmark", "u", "unmark", "Unmark", "Remove all marks.", "runs"),
    Action("runs.filter", "slash", "filter", "Filter",
           "Show only runs that contain these words.", "runs", show=True),
    Action("runs.clear", "escape", "clear", "Clear",
           "Remove the filter, then the marks.", "runs"),
    Action("runs.sort", "s", "sort(1)", "Sort", "Sort by the next column.", "runs", show=True),
    Action("runs.sort_back", "S", "sort(-1)", "Sort back", "Sort by the previous column.", "runs"),
    Action("runs.reverse", "r", "reverse", "Reverse", "Reverse the order.", "runs"),
    Action("runs.next", "t,right_square_bracket", "turn_tab(1)", "Tab",
           "Show the next tab.", "runs", show=True),
    Action("runs.previous", "T,left_square_bracket", "turn_tab(-1)", "Previous tab",
           "Show the previous tab.", "runs"),
    Action("runs.metric", "m", "metric", "Curve",
           "Draw training loss, validation loss, or retention.", "runs"),
    Action("runs.axis", "x", "axis", "Axis", "Draw over steps, tokens, or time.", "runs"),
    Action("runs.criterion", "b", "criterion", "Best by",
           "Change how the best run of a sweep is chosen.", "runs"),
    Action("runs.tags", "g", "tags", "Tags", "Write tags on the run.", "runs", show=True),
    Action("runs.note", "n", "note", "Note", "Write a note on the run.", "runs", show=True),
    Action("runs.rename", "e", "rename", "Rename", "Name the run; its folder keeps its name.", "runs"),
    Action("runs.delete", "d,delete", "delete", "Delete",
           "Delete the marked runs, or this one, after a question.", "runs", show=True),
    Action("runs.queue", "h", "queue", "Queue", "Hold the queue, or let it continue.", "runs", show=True),
    *MODAL_ACTIONS,
)
# fmt: on

BY_ID = {action.id: action for action in ACTIONS}


def bindings(group: str) -> list[BindingType]:
    """The key bindings of a group, for ``BINDINGS`` of a class: one for each key. Function keys and chords of
    the whole lab come before the focused widget, so that they work while text is typed; digits and letters
    come after it."""
    return [
        Binding(
            key,
            action.action,
            action.label,
            show=action.show,
            key_display=action.display or None,
            priority=group == "app" and goes_first(key),
            tooltip=action.tooltip,
            id=action.id,
        )
        for action in ACTIONS
        if action.group == group
        for key in action.keys.split(",")
        if key
    ]


def keys_now(action_id: str, keymap: Mapping[str, str] | None = None) -> list[str]:
    """The keys of an action, remapped or its own; empty for an action without a key."""
    keys = (keymap or {}).get(action_id, BY_ID[action_id].keys)
    return [key for key in keys.split(",") if key]


def key_cell(action_id: str, keymap: Mapping[str, str] | None = None) -> str:
    """An action's keys for a table: "F1 or ?", "–" for none."""
    return " or ".join(map(key_name, keys_now(action_id, keymap))) or "–"


def keys_of(action_id: str, keymap: Mapping[str, str] | None = None) -> str:
    """An action's keys as a sentence names them: "F1 or ?"; without a key, how the palette runs it."""
    keys = keys_now(action_id, keymap)
    if not keys and action_id != "app.palette":
        return f"{first_key('app.palette', keymap)} {BY_ID[action_id].label}"
    return key_cell(action_id, keymap)


def first_key(action_id: str, keymap: Mapping[str, str] | None = None) -> str:
    """The first key of an action."""
    keys = keys_now(action_id, keymap)
    return key_name(keys[0]) if keys else keys_of(action_id, keymap)
