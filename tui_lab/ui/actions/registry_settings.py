"""Actions of the screens with which the lab is set up and looked over: settings, other keys, doctor."""

from __future__ import annotations

from tui_lab.ui.actions.action import Action

#: Titles of the groups, in the order of the help screen.
SETTINGS_GROUPS = {"settings": "Settings", "remap": "Other keys for actions", "doctor": "Doctor"}

# fmt: off
SETTINGS_ACTIONS: tuple[Action, ...] = (
    Action("settings.change", "enter", "change", "Change",
           "Turn a switch, or choose or type another value.", "settings"),
    Action("settings.next", "right", "screen.turn(1)", "Next choice",
           "Take the next choice, or turn the switch.", "settings"),
    Action("settings.previous", "left", "screen.turn(-1)", "Choice before",
           "Take the choice before, or turn the switch.", "settings"),
    Action("settings.reset", "backspace,delete", "reset", "Reset",
           "Give the default back: the file says nothing of it any more.", "settings"),
    Action("settings.close", "escape,q,comma", "dismiss", "Close", "Back to the pane.", "settings"),
    Action("remap.replace", "enter", "replace", "Other key",
           "Press the key that the action gets instead of its own.", "remap"),
    Action("remap.add", "a", "add", "One more", "Press a key that the action gets beside its own.", "remap"),
    Action("remap.reset", "backspace,delete", "reset", "Reset",
           "Give the action its own keys back.", "remap"),
    Action("remap.close", "escape,q", "dismiss", "Close", "Back to the settings.", "remap"),
    Action("doctor.again", "r", "again", "Again", "Look at everything once more.", "doctor"),
    Action("doctor.close", "escape,q", "dismiss", "Close", "Back to the pane.", "doctor"),
)
# fmt: on
