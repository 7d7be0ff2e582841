"""Actions of the settings, of the screen that remaps keys, and of the doctor."""

from __future__ import annotations

from tui_lab.ui.actions.action import Action

#: Titles of the groups, in the order of the help screen.
SETTINGS_GROUPS = {"settings": "Settings", "remap": "Keys of actions", "doctor": "Doctor"}

# fmt: off
SETTINGS_ACTIONS: tuple[Action, ...] = (
    Action("settings.change", "enter", "change", "Change",
           "Change the value.", "settings"),
    Action("settings.next", "right", "screen.turn(1)", "Next choice",
           "Take the next choice, or flip the switch.", "settings"),
    Action("settings.previous", "left", "screen.turn(-1)", "Previous choice",
           "Take the previous choice, or flip the switch.", "settings"),
    Action("settings.reset", "backspace,delete", "reset", "Reset",
           "Reset to the default, which removes it from the file.", "settings"),
    Action("settings.close", "escape,q,comma", "dismiss", "Close", "Close.", "settings"),
    Action("remap.replace", "enter", "replace", "Other key",
           "Replace the keys of the action by the next key that you press.", "remap"),
    Action("remap.add", "a", "add", "One more", "Add the next key that you press to the action.", "remap"),
    Action("remap.reset", "backspace,delete", "reset", "Reset",
           "Reset the action to its own keys.", "remap"),
    Action("remap.close", "escape,q", "dismiss", "Close", "Close.", "remap"),
    Action("doctor.again", "r", "again", "Again", "Run all checks again.", "doctor"),
    Action("doctor.close", "escape,q", "dismiss", "Close", "Close.", "doctor"),
)
# fmt: on
