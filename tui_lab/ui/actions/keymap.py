"""Other keys for actions, as the settings give them: what can be used of them, and a sentence for each thing
that cannot: unknown actions, unknown keys, and two actions that would be on one key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tui_lab.core.errors import LabError
from tui_lab.core.sanitize import sanitize
from tui_lab.ui.actions.keys import goes_first, parse_keys
from tui_lab.ui.actions.registry import ACTIONS, BY_ID, GROUPS, OVER_GROUPS, WIDGET_GROUPS, key_name, keys_now


def checked(keymap: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """What of ``keymap`` holds, keys as Textual names them, and what is wrong with the rest. An empty text
    means that the action has no key."""
    found: dict[str, str] = {}
    problems = []
    for action_id, keys in keymap.items():
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
    while found and (clash := next(conflicts(found), None)):
        key, one, other = clash
        # of two that were re-mapped the later one goes; the next round looks at the keys it then has again
        order = list(found)
        left_out = max((each for each in (one, other) if each in found), key=order.index)
        kept = other if left_out == one else one
        problems.append(
            f"keys: {left_out} = {sanitize(repr(keymap[left_out]))}: {key_name(key)} is the key of {kept} "
            f"({BY_ID[kept].label}); {left_out} keeps its own"
        )
        del found[left_out]
    return found, problems


def conflicts(keymap: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """Every key that two actions would have where both are in force: (key, id, id)."""
    for group in GROUPS:
        taken: dict[str, str] = {}
        for action in ACTIONS:
            if action.group not in meeting(group):
                continue
            for key in keys_now(action.id, keymap):
                far = action.group == "app" and group in OVER_GROUPS and group not in WIDGET_GROUPS
                if far and not goes_first(key):
                    continue  # a screen over a pane keeps the lab's letters and digits away
                if taken.setdefault(key, action.id) != action.id:
                    yield key, taken[key], action.id


def meeting(group: str) -> tuple[str, ...]:
    """The groups whose keys are in force together with ``group``'s."""
    return tuple(dict.fromkeys((group, WIDGET_GROUPS.get(group, group), "app")))


def keymap_problems(keymap: Mapping[str, str]) -> list[str]:
    """What is wrong with a user's key map, a sentence each."""
    return checked(keymap)[1]
