"""All actions that have a key, and their texts, read from ``actions.toml``. Key bindings, footer, command
palette, cheat sheet and help are made from this registry. Users remap keys by an action's id."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from textual.binding import Binding, BindingType

from tui_lab.ui.actions.keys import goes_first, key_name


@dataclass(frozen=True)
class Action:
    """One thing that a key does. ``group`` is where it works: everywhere ("app"), on one pane, in one kind of
    widget, or on one kind of modal screen."""

    id: str
    keys: str  # Textual's names, separated by commas; "" for an action of the palette and the help only
    action: str  # what Textual runs
    label: str  # one or two words, for the footer
    tooltip: str  # a sentence, for the help and the palette
    group: str
    show: bool  # in the footer
    display: str = ""  # how the footer writes the keys; "" for the first key


def _read() -> tuple[dict[str, str], dict[str, str], tuple[Action, ...]]:
    """The titles of the groups of panes and of modal screens, and all actions, in the order of the file."""
    text = Path(__file__).with_name("actions.toml").read_text(encoding="utf-8")
    titles: dict[str, dict[str, str]] = {}
    actions = []
    for kind, groups in tomllib.loads(text).items():
        titles[kind] = {group: rows.pop("title") for group, rows in groups.items()}
        for group, rows in groups.items():
            for name, (keys, action, label, tooltip, *display) in rows.items():
                shown, own = keys.startswith("*"), keys.removeprefix("*")
                actions.append(Action(f"{group}.{name}", own, action, label, tooltip, group, shown, *display))
    return titles["pane"], titles["modal"], tuple(actions)


_PANE_TITLES, MODAL_GROUPS, ACTIONS = _read()
#: Titles of the groups, in the order of the help screen.
GROUPS = {**_PANE_TITLES, **MODAL_GROUPS}
#: Groups of the panes; their keys and those of the whole lab are in force together.
PANE_GROUPS = tuple(group for group in _PANE_TITLES if group != "app")
#: Widgets whose keys are in force together with their pane's. (A text field takes its own keys first.)
WIDGET_GROUPS = {"form": "setup", "lane": "playground"}
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


def pane_digits() -> list[BindingType]:
    """The digits of the panes, for screens that only show something; function keys work on every screen."""
    return [
        Binding(key, f"app.{action.action}", action.label, show=False, tooltip=action.tooltip, id=action.id)
        for action in ACTIONS
        if action.group == "app" and action.action.startswith("pane(")
        for key in action.keys.split(",")
        if not goes_first(key)
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


_ACTION_ID = re.compile(r"\{([a-z_.-]+)\}")


def filled(text: str, keymap: Mapping[str, str] | None = None) -> str:
    """``text`` with the ids of actions in braces replaced by their keys."""
    return _ACTION_ID.sub(lambda found: first_key(found[1], keymap), text)
