"""The one list of everything that can be done with a key. It feeds key bindings, footer, command palette,
cheat sheet and help, so that none of them can say something else. Keys are re-mapped by an action's id. This
is the table of the whole lab and of its panes; what lies over panes is in :mod:`tui_lab.ui.actions.registry_modal`."""

from __future__ import annotations

from collections.abc import Mapping

from textual.binding import Binding, BindingType

from tui_lab.ui.actions.action import Action
from tui_lab.ui.actions.keys import goes_first, key_name
from tui_lab.ui.actions.registry_modal import OVER_ACTIONS, OVER_GROUPS

__all__ = [
    "ACTIONS",
    "BY_ID",
    "GROUPS",
    "OVER_GROUPS",
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
    "choose": "Choose",
    "tune": "Tune",
    "compare": "Compare",
    "keep": "Keep",
    "runs": "Runs",
    "dashboard": "Dashboard",
    **OVER_GROUPS,
}
#: Groups of the panes; their keys and those of the whole lab are in force together.
PANE_GROUPS = tuple(group for group in GROUPS if group not in OVER_GROUPS and group != "app")
#: Widgets whose keys meet those of their pane. (Where a text is typed the field's own keys go first.)
WIDGET_GROUPS = {"form": "choose", "lane": "compare"}

# fmt: off
ACTIONS: tuple[Action, ...] = (
    # --- everywhere
    Action("app.keys", "question_mark", "cheat_sheet", "Keys",
           "The keys of this pane on one screen.", show=True),
    Action("app.help", "f1", "help", "Help", "Everything: what each pane is for, every key; / searches."),
    Action("app.choose", "f2,1", "pane('choose')", "Choose", "Go to Choose: model, preset, data, fields."),
    Action("app.tune", "f3,2", "pane('tune')", "Tune", "Go to Tune: watch a run, pause it, stop it."),
    Action("app.compare", "f4,3", "pane('compare')", "Compare", "Go to Compare: decodings side by side."),
    Action("app.keep", "f5,4", "pane('keep')", "Keep", "Go to Keep: what a run forgot, and what to do."),
    Action("app.runs", "f6,5", "pane('runs')", "Runs", "Go to Runs: all of them, sweeps and the queue."),
    Action("app.dashboard", "f7,6", "pane('dashboard')", "Dashboard",
           "Go to the dashboard: a run at a glance."),
    Action("app.jump", "ctrl+o", "jump", "Jump",
           "Put letters on everything in view; typing one goes there."),
    Action("app.explain", "f10,ctrl+g", "explain", "Explain",
           "Explain the field or the figures in view, in two sentences with a source.", show=True),
    Action("app.whether", "H", "whether", "Tune at all?",
           "One page: fine-tune, or prompt, or retrieve, and how to find out here."),
    Action("app.palette", "ctrl+p", "command_palette", "Commands", "Search everything that can be done."),
    Action("app.theme", "f9", "change_theme", "Theme", "Choose another theme."),
    Action("app.plots", "f8", "next_marker", "Plot marks",
           "Draw plots in braille, in blocks, or in plain ASCII."),
    Action("app.slow-link", "f12", "slow_link", "Slow link",
           "Send less over the line: plots and streams are drawn less often; again as usual."),
    Action("app.redraw", "ctrl+l", "redraw", "Redraw",
           "Send the whole screen anew, for when something else has written on it."),
    Action("app.export", "E", "export", "Export",
           "Take what the run learned elsewhere: adapter, model, GGUF."),
    Action("app.report", "W", "report", "Report", "Write the report of the run, and say where it lies."),
    Action("app.settings", "comma,f11", "settings", "Settings",
           "See every setting with where it came from, and change it."),
    Action("app.doctor", "D", "doctor", "Doctor", "Check what this machine can do, and what would help."),
    Action("app.quit", "q,ctrl+q", "leave", "Quit", "Leave the lab. A run in progress goes on without it.",
           show=True),
    # --- choose
    Action("choose.start", "s,ctrl+s", "start", "Start",
           "Start a run with what is chosen here, and watch it on Tune.", "choose", show=True),
    Action("choose.queue", "a", "queue", "Queue",
           "Let a run with what is chosen here wait its turn in the queue.", "choose", show=True),
    Action("choose.copy", "c", "copy_command", "Copy command",
           "Copy the tui-lab train command.", "choose", show=True),
    Action("choose.fit", "x", "make_fit", "Make it fit",
           "Change the recipe as little as it takes to fit into memory; again takes it back.", "choose"),
    Action("choose.ways", "X", "ways", "Ways to fit",
           "List every way to make the recipe fit, with what each costs.", "choose"),
    Action("choose.probe", "e", "exact", "Count memory",
           "Count the memory of two real steps exactly, without weights: takes seconds.", "choose"),
    Action("choose.calibrate", "k", "calibrate", "Measure speed",
           "Measure ten steps of this recipe here, so that time is measured and not assumed.", "choose"),
    Action("choose.gpu", "g", "next_gpu", "Next GPU",
           "Run on the next GPU of this machine, and forecast for it.", "choose"),
    Action("choose.models", "m", "show('models')", "Models", "Choose a model.", "choose"),
    Action("choose.presets", "p", "show('presets')", "Presets", "Choose a preset.", "choose"),
    Action("choose.data", "d", "show('data')", "Data",
           "Choose the data, and see it as the model will.", "choose"),
    Action("choose.fields", "f", "show('fields')", "Fields", "Edit every field of the recipe.", "choose"),
    Action("choose.path", "slash", "type_name", "Type a name",
           "Type a folder, a file or a hub name instead of picking from the list.", "choose", show=True),
    # --- tune
    Action("tune.pause", "space", "pause", "Pause",
           "Hold the run after the step in hand, or go on.", "tune", show=True),
    Action("tune.checkpoint", "k", "checkpoint", "Checkpoint",
           "Save a checkpoint after the step in hand.", "tune", show=True),
    Action("tune.stop", "x", "stop", "Stop",
           "End the run after the step in hand; what was learned is saved.", "tune", show=True),
    Action("tune.runs", "r", "choose_run", "Runs",
           "Show another run: a live one or one that has ended.", "tune", show=True),
    Action("tune.arm", "a", "arm", "Arm",
           "Stop the run on its own once retention is surely lost, or let it go on.", "tune", show=True),
    Action("tune.probe", "p", "probe", "Probe",
           "Measure retention and the distance from the base after the step in hand.", "tune"),
    Action("tune.flags", "f", "flags", "Red flags",
           "Read what goes wrong in this run, and what helps.", "tune"),
    Action("tune.log", "l", "log_scale", "Log scale",
           "Draw the loss on a logarithmic axis, or back.", "tune"),
    Action("tune.next", "t,right_square_bracket", "turn_tab(1)", "Tab",
           "Show the next tab.", "tune", show=True),
    Action("tune.previous", "T,left_square_bracket", "turn_tab(-1)", "Previous tab",
           "Show the tab before.", "tune"),
    Action("tune.faster", "plus", "speed(1)", "Faster", "Play a replay faster.", "tune", show=True),
    Action("tune.slower", "minus", "speed(-1)", "Slower", "Play a replay slower.", "tune", show=True),
    Action("tune.resume", "R", "resume", "Resume",
           "Start a run again from its last checkpoint.", "tune", show=True),
    # --- compare
    Action("compare.run", "ctrl+r,r", "run", "Run", "Run every lane on the prompt, again if it ran before.",
           "compare", show=True),
    Action("compare.stop", "x", "stop", "Stop",
           "End all lanes at their next token; what they have stays.", "compare", show=True),
    Action("compare.prompt", "i,slash", "prompt", "Prompt",
           "Go to the prompt.", "compare", show=True),
    Action("compare.edit", "e", "edit", "Edit",
           "Edit the lane in place: a strategy and its parameters.", "compare", show=True),
    Action("compare.inspect", "enter", "inspect", "Inspect",
           "Look into the lane token by token.", "compare", show=True),
    Action("compare.next", "right_square_bracket,right,l", "lane(1)", "Next lane",
           "Go to the next lane.", "compare"),
    Action("compare.previous", "left_square_bracket,left", "lane(-1)", "Previous lane",
           "Go to the lane before.", "compare"),
    Action("compare.add", "a", "add", "Add", "Add a lane after this one.", "compare"),
    Action("compare.duplicate", "d", "duplicate", "Duplicate",
           "Put the same lane beside it, with the next seed.", "compare"),
    Action("compare.remove", "delete,minus", "remove", "Remove", "Take the lane away.", "compare"),
    Action("compare.sets", "p", "sets", "Lane sets",
           "Choose a set of lanes: six classics, ladders, base against tuned.", "compare", show=True),
    Action("compare.tuned", "t", "tuned", "Tuned run",
           "Load a run's adapter beside its base, and lanes that show the difference.", "compare", show=True),
    Action("compare.model", "m", "model", "Model",
           "Load another model, in another precision.", "compare", show=True),
    Action("compare.seeds", "v", "seeds", "Seeds",
           "Draw with the same seeds in every run, or with fresh ones.", "compare"),
    Action("compare.tokens", "n", "tokens", "Length", "Set how many new tokens a lane may have.", "compare"),
    Action("compare.template", "c", "template", "Chat template",
           "Ask through the chat template, or give the prompt as plain text.", "compare"),
    Action("compare.system", "S", "system", "System prompt", "Set the system prompt.", "compare"),
    Action("compare.history", "h", "history", "History", "Take a prompt that was run before.", "compare"),
    Action("compare.copy", "y", "copy", "Copy", "Copy the lane's text.", "compare"),
    Action("compare.save", "w", "save", "Save",
           "Save the comparison as Markdown and JSON.", "compare", show=True),
    Action("compare.blind", "b", "blind", "Blind A/B",
           "Vote between two lanes without knowing which is which.", "compare"),
    Action("compare.unload", "u", "unload", "Free memory",
           "Free the model's memory; the next run loads it again.", "compare"),
    # --- keep
    Action("keep.measure", "e", "measure", "Measure",
           "Ask the base and the tuned model a suite's questions.", "keep", show=True),
    Action("keep.sweep", "s", "sweep", "Strength",
           "Try the adapter at several strengths: what it gains and keeps at each.", "keep", show=True),
    Action("keep.save", "w", "save_strength", "Save strength",
           "Save the adapter at a strength of the sweep.", "keep", show=True),
    Action("keep.next", "t,right_square_bracket", "turn_tab(1)", "Tab",
           "Show the next tab.", "keep", show=True),
    Action("keep.previous", "T,left_square_bracket", "turn_tab(-1)", "Previous tab",
           "Show the tab before.", "keep"),
    Action("keep.runs", "r", "choose_run", "Runs", "Show another run.", "keep", show=True),
    Action("keep.compare", "c", "compare", "Compare",
           "See this run beside its base on Compare.", "keep", show=True),
    Action("keep.cancel", "x", "cancel", "End",
           "End the measurement in hand; what was scored is kept.", "keep"),
    # --- runs
    Action("runs.open", "enter", "open", "Tune", "Show the run on Tune.", "runs", show=True),
    Action("runs.keep", "k", "keep", "Keep", "Show on Keep what the run forgot.", "runs"),
    Action("runs.compare", "c", "compare", "Compare", "See the run beside its base on Compare.", "runs"),
    Action("runs.mark", "space", "mark", "Mark",
           "Mark the run to compare it with others, or to delete several.", "runs", show=True),
    Action("runs.mark_shown", "a", "mark_shown", "Mark all",
           "Mark all runs that the filter shows, or all of the run's sweep.", "runs"),
    Action("runs.unmark", "u", "unmark", "Unmark", "Take all marks away.", "runs"),
    Action("runs.filter", "slash", "filter", "Filter", "Show only runs with these words.", "runs", show=True),
    Action("runs.clear", "escape", "clear", "Clear",
           "Show every run again; then take the marks away.", "runs"),
    Action("runs.sort", "s", "sort(1)", "Sort", "Sort by the next column.", "runs", show=True),
    Action("runs.sort_back", "S", "sort(-1)", "Sort back", "Sort by the column before.", "runs"),
    Action("runs.reverse", "r", "reverse", "Reverse", "Sort the other way round.", "runs"),
    Action("runs.next", "t,right_square_bracket", "turn_tab(1)", "Tab",
           "Show the next tab.", "runs", show=True),
    Action("runs.previous", "T,left_square_bracket", "turn_tab(-1)", "Previous tab",
           "Show the tab before.", "runs"),
    Action("runs.metric", "m", "metric", "Curve",
           "Draw training loss, validation loss, or retention.", "runs"),
    Action("runs.axis", "x", "axis", "Axis", "Draw by steps, by tokens, or by time.", "runs"),
    Action("runs.criterion", "b", "criterion", "Best by",
           "Change what the best run of a sweep means.", "runs"),
    Action("runs.tags", "g", "tags", "Tags", "Write tags on the run.", "runs", show=True),
    Action("runs.note", "n", "note", "Note", "Write a note on the run.", "runs", show=True),
    Action("runs.rename", "e", "rename", "Rename", "Give the run a name; its folder keeps its own.", "runs"),
    Action("runs.delete", "d,delete", "delete", "Delete",
           "Delete the marked runs, else this one, after a question.", "runs", show=True),
    Action("runs.queue", "h", "queue", "Queue", "Hold the queue, or let it go on.", "runs", show=True),
    # --- dashboard
    Action("dashboard.open", "enter", "open", "Open", "Open the pane that the tile is taken from.",
           "dashboard", show=True),
    Action("dashboard.ask", "i,slash", "ask", "Ask",
           "Ask the model of the run something: the answer streams in the lane's tile.",
           "dashboard", show=True),
    Action("dashboard.samples", "escape", "samples", "Samples",
           "Show the run's own samples again in the lane's tile.", "dashboard"),
    Action("dashboard.next", "right,down,t,right_square_bracket", "tile(1)", "Next tile",
           "Go to the next tile.", "dashboard", show=True),
    Action("dashboard.previous", "left,up,T,left_square_bracket", "tile(-1)", "Previous tile",
           "Go to the tile before.", "dashboard"),
    Action("dashboard.pause", "space", "pause", "Pause",
           "Hold the run after the step in hand, or go on.", "dashboard", show=True),
    Action("dashboard.checkpoint", "k", "checkpoint", "Checkpoint",
           "Save a checkpoint after the step in hand.", "dashboard", show=True),
    Action("dashboard.stop", "x", "stop", "Stop",
           "End the run after the step in hand; what was learned is saved.", "dashboard", show=True),
    Action("dashboard.runs", "r", "choose_run", "Runs",
           "Show another run: a live one or one that has ended.", "dashboard", show=True),
    Action("dashboard.arm", "a", "arm", "Arm",
           "Stop the run on its own once retention is surely lost, or let it go on.", "dashboard"),
    Action("dashboard.probe", "p", "probe", "Probe",
           "Measure retention and the distance from the base after the step in hand.", "dashboard"),
    Action("dashboard.faster", "plus", "speed(1)", "Faster", "Play a replay faster.",
           "dashboard", show=True),
    Action("dashboard.slower", "minus", "speed(-1)", "Slower", "Play a replay slower.",
           "dashboard", show=True),
    Action("dashboard.flags", "f", "flags", "Red flags",
           "Read on Tune what goes wrong in this run, and what helps.", "dashboard"),
    Action("dashboard.resume", "R", "resume", "Resume",
           "Start a run again from its last checkpoint.", "dashboard", show=True),
    *OVER_ACTIONS,
)
# fmt: on

BY_ID = {action.id: action for action in ACTIONS}


def bindings(group: str) -> list[BindingType]:
    """The key bindings of a group, for a class's BINDINGS: one a key. Function keys and chords of the whole
    lab come before the widget that has the focus, so that they work while a text is typed; digits and
    letters come after it."""
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
    """The keys that an action has, re-mapped or its own; none for one that has no key."""
    keys = (keymap or {}).get(action_id, BY_ID[action_id].keys)
    return [key for key in keys.split(",") if key]


def key_cell(action_id: str, keymap: Mapping[str, str] | None = None) -> str:
    """An action's keys for a table: "F1 or ?", "–" for none."""
    return " or ".join(map(key_name, keys_now(action_id, keymap))) or "–"


def keys_of(action_id: str, keymap: Mapping[str, str] | None = None) -> str:
    """An action's keys as a sentence names them: "F1 or ?". For one without a key, how the palette runs
    it."""
    keys = keys_now(action_id, keymap)
    if not keys and action_id != "app.palette":
        return f"{first_key('app.palette', keymap)} {BY_ID[action_id].label}"
    return key_cell(action_id, keymap)


def first_key(action_id: str, keymap: Mapping[str, str] | None = None) -> str:
    """The key that is offered where there is room for one."""
    keys = keys_now(action_id, keymap)
    return key_name(keys[0]) if keys else keys_of(action_id, keymap)
