"""The user's keys for actions: which of them can be used, and a sentence for each that cannot: an unknown
action, an unknown key, or a key that two actions would share. Ids from before panes and actions were renamed
still work."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

from tui_lab.core.errors import LabError
from tui_lab.core.sanitize import sanitize
from tui_lab.ui.actions.keys import goes_first, key_name, parse_keys
from tui_lab.ui.actions.registry import ACTIONS, BY_ID, GROUPS, MODAL_GROUPS, WIDGET_GROUPS, keys_now

#: Former names of groups (the part of an id before the dot).
OLD_GROUPS = {
    "choose": "setup",
    "tune": "train",
    "compare": "playground",
    "keep": "retention",
    "explain": "help",
}
#: Former ids of actions that were renamed apart from their group.
OLD_IDS = {
    **{f"app.{old}": f"app.{new}" for old, new in OLD_GROUPS.items() if old != "explain"},
    "keep.compare": "retention.playground",
    "runs.keep": "runs.retention",
    "runs.compare": "runs.playground",
}


#: Actions that 0.1.0 did not have. They give way to a user's own key, which was free before.
NEWER = frozenset({
    "judged.filter", "retention.judge", "runs.search", "setup.prices", "setup.search",
    "export.filter", "list.filter", "models.filter", "options.filter", "pick.filter",
    "predictions.filter", "remap.filter", "settings.filter", "themes.filter", "votes.filter",
    "app.learn", "playground.edit_answer", "playground.predictions", "playground.votes", "runs.predictions",
    "app.first", "playground.base", "playground.chat", "playground.fresh", "playground.options",
    "playground.thinking", "playground.undo", "retention.clear", "retention.copy", "retention.cursor_left",
    "retention.cursor_right", "retention.pan_left", "retention.pan_right", "retention.zoom_in",
    "retention.zoom_out", "runs.copy", "runs.cursor_left", "runs.cursor_right", "runs.go_on",
    "runs.pan_left", "runs.pan_right", "runs.undo", "runs.zoom_in", "runs.zoom_out", "setup.advise",
    "setup.name", "setup.next", "setup.previous", "setup.reverse", "setup.sort", "setup.sort_back",
    "setup.undo", "train.clear", "train.copy", "train.cursor_left", "train.cursor_right", "train.go_on",
    "train.pan_left", "train.pan_right", "train.playground", "train.skip", "train.zoom_in", "train.zoom_out",
})  # fmt: skip


def current_id(action_id: str) -> str:
    """The present id of an action that may be named by a former one."""
    group, dot, name = action_id.partition(".")
    return OLD_IDS.get(action_id) or f"{OLD_GROUPS.get(group, group)}{dot}{name}"


def with_current_ids(keymap: Mapping[str, str]) -> dict[str, str]:
    """``keymap`` by present ids. A key under the present id replaces one under the former id."""
    found = {current_id(action_id): keys for action_id, keys in keymap.items()}
    return found | {
        action_id: keys for action_id, keys in keymap.items() if current_id(action_id) == action_id
    }


def old_names(keymap: Mapping[str, str]) -> list[str]:
    """A sentence for each action that is named by its former id."""
    return [
        f"keys: {action_id} is now called {new}; the old name still works"
        for action_id in keymap
        if (new := current_id(action_id)) != action_id and new in BY_ID
    ]


def _was_removed(action_id: str) -> bool:
    return action_id == "app.dashboard" or action_id.startswith("dashboard.")


@cache
def ready(name: str) -> Mapping[str, str]:
    """The keys of a ready keymap, a file in the folder ``keymaps``, and of the actions that give way to them;
    none for "lab". It has no conflicts."""
    if name == "lab":
        return {}
    file = Path(__file__).with_name("keymaps") / f"{name}.toml"
    wanted = tomllib.loads(file.read_text(encoding="utf-8"))
    found = dict[str, str](wanted)
    while conflict := next(conflicts(found), None):
        key, one, other = conflict
        gives_way = one if other in wanted else other
        found[gives_way] = _without(gives_way, key, found)
    return found


def _without(action_id: str, key: str, keymap: Mapping[str, str]) -> str:
    """The keys of an action except one."""
    return ",".join(each for each in keys_now(action_id, keymap) if each != key)


def checked(keymap: Mapping[str, str], ready_name: str = "lab") -> tuple[dict[str, str], list[str]]:
    """(the usable part of ``keymap`` over a ready keymap, with keys as Textual names them; a sentence for
    each other entry). An empty text means that the action has no key."""
    base = dict(ready(ready_name))
    keymap = with_current_ids(keymap)
    found: dict[str, str] = {}
    problems = []
    for action_id, keys in keymap.items():
        if _was_removed(action_id):
            problems.append(f"keys: {sanitize(action_id)} is ignored: Train shows what the dashboard showed")
            continue
        if action_id not in BY_ID:
            import difflib

            near = difflib.get_close_matches(action_id, BY_ID, 1, 0.7)
            hint = f"is {near[0]!r} meant?" if near else f"{key_name('f1')} lists the actions"
            problems.append(f"keys: {sanitize(repr(action_id))} is no action; {hint}")
            continue
        try:
            found[action_id] = ",".join(parse_keys(keys))
        except LabError as error:
            problems.append(f"keys: {action_id} = {sanitize(repr(keys))}: {sanitize(str(error))}")
    while found and (conflict := next(conflicts({**base, **found}), None)):
        key, one, other = conflict
        newer = next((each for each in (one, other) if each in NEWER and each not in found), None)
        if newer is not None:
            base = {**base, newer: _without(newer, key, base)}
            continue
        # of two that were re-mapped the later one goes; the next round looks at the keys it then has again
        order = list(found)
        left_out = max((each for each in (one, other) if each in found), key=order.index)
        other_id = other if left_out == one else one
        problems.append(
            f"keys: {left_out} = {sanitize(repr(keymap[left_out]))}: {key_name(key)} is the key of "
            f"{other_id} ({BY_ID[other_id].label}); {left_out} keeps its own"
        )
        del found[left_out]
    return {**base, **found}, problems


def conflicts(keymap: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """Every key that two actions would have where both are in force: (key, id, id)."""
    for group in GROUPS:
        taken: dict[str, str] = {}
        for action in ACTIONS:
            if action.group not in meeting(group):
                continue
            for key in keys_now(action.id, keymap):
                far = action.group == "app" and group in MODAL_GROUPS and group not in WIDGET_GROUPS
                if far and not goes_first(key):
                    continue  # a screen over a pane keeps the lab's letters and digits away
                if taken.setdefault(key, action.id) != action.id:
                    yield key, taken[key], action.id


def meeting(group: str) -> tuple[str, ...]:
    """The groups whose keys are in force together with ``group``'s."""
    return tuple(dict.fromkeys((group, WIDGET_GROUPS.get(group, group), "app")))
