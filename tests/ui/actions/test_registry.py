"""The registry: ids and keys are unique where they meet, every action exists where it is bound, and every
binding of the lab's own comes from it."""

from __future__ import annotations

import importlib
import pkgutil

from textual.binding import Binding
from textual.dom import DOMNode

import tui_lab.ui
from tui_lab.ui.actions.help import help_content
from tui_lab.ui.actions.keymap import conflicts
from tui_lab.ui.actions.keys import key_name
from tui_lab.ui.actions.registry import (
    ACTIONS,
    BY_ID,
    GROUPS,
    PANE_GROUPS,
    WIDGET_GROUPS,
    Action,
    bindings,
    first_key,
    keys_now,
    keys_of,
)


def owners() -> dict[str, list[type[DOMNode]]]:
    """The classes of the lab by the group that their bindings are of."""
    for module in pkgutil.walk_packages(tui_lab.ui.__path__, "tui_lab.ui."):
        importlib.import_module(module.name)
    found: dict[str, list[type[DOMNode]]] = {}
    classes = {DOMNode}
    while new := {sub for each in classes for sub in each.__subclasses__()} - classes:
        classes |= new
    for each in classes:
        if each.__module__.startswith("tui_lab.") and "BINDINGS" in vars(each):
            ids = {b.id or "" for b in each.BINDINGS if isinstance(b, Binding)}
            for group in {BY_ID[i].group for i in ids if i in BY_ID}:
                found.setdefault(group, []).append(each)
    return found


OWNERS = owners()


def test_ids_are_unique_and_groups_known() -> None:
    assert len(BY_ID) == len(ACTIONS)
    assert {action.group for action in ACTIONS} == GROUPS.keys()
    assert all(action.tooltip.endswith(".") or action.tooltip.endswith("?") for action in ACTIONS)
    assert all(action.label for action in ACTIONS)


def test_no_key_means_two_things_where_both_are_in_force() -> None:
    assert list(conflicts({})) == []


#: What a letter means on every pane that has it, and the names of the actions that do that.
MEANINGS = {
    "s": ("start", {"start", "run", "measure"}),
    "x": ("stop", {"stop", "cancel"}),
    "c": ("copy", {"copy"}),
    "k": ("measure", {"calibrate", "probe", "measure", "retention"}),
    "K": ("the longer measurement", {"probe", "sweep"}),
    "r": ("another run", {"runs", "tuned"}),
    "R": ("go again", {"resume", "again"}),
    "b": ("base against tuned", {"playground", "base", "models"}),
    "w": ("save", {"checkpoint", "save"}),
    "u": ("undo", {"undo"}),
    "p": ("presets", {"presets", "sets"}),
    "m": ("model", {"models", "model"}),
    "a": ("add", {"queue", "add"}),
    "h": ("hyperparameters", {"fields", "edit"}),
    "t": ("the next part", {"next"}),
    "right_square_bracket": ("the next part", {"next"}),
    "T": ("the part before", {"previous"}),
    "left_square_bracket": ("the part before", {"previous"}),
    "slash": ("filter, or find", {"filter", "path", "history"}),
    "enter": ("open", {"open", "inspect"}),
    "space": ("mark, or pause", {"mark", "pause"}),
    "delete": ("remove", {"remove", "delete"}),
    "backspace": ("remove", {"remove", "delete"}),
    "l": ("logarithmic axis", {"log"}),
    "z": ("zoom in", {"zoom_in"}),
    "Z": ("zoom out", {"zoom_out"}),
    "left": ("to the left", {"previous", "cursor_left"}),
    "right": ("to the right", {"next", "cursor_right"}),
    "shift+left": ("pan to the left", {"pan_left"}),
    "shift+right": ("pan to the right", {"pan_right"}),
}


def test_a_key_means_the_same_on_every_pane() -> None:
    """A key that several panes have does the same there; a new action whose key means something else fails
    here: give it a key of its own."""
    used: dict[str, set[str]] = {}
    for action in ACTIONS:
        if action.group in PANE_GROUPS:
            for key in keys_now(action.id):
                used.setdefault(key, set()).add(action.id)
    for key, ids in used.items():
        if len(ids) > 1:
            meaning, names = MEANINGS.get(key, ("one action", {min(ids).partition(".")[2]}))
            others = {each for each in ids if each.partition(".")[2] not in names}
            assert not others, f"{key_name(key)} means {meaning}, but not for {others}"


def test_no_pane_takes_a_key_of_the_whole_lab() -> None:
    everywhere = {key for action in ACTIONS if action.group == "app" for key in keys_now(action.id)}
    for action in ACTIONS:
        if action.group in PANE_GROUPS or action.group in WIDGET_GROUPS:
            assert not everywhere & set(keys_now(action.id)), action.id


def test_the_digits_are_the_numbers_of_the_function_keys() -> None:
    for number, name in enumerate(("help", "setup", "train", "playground", "retention", "runs"), 1):
        assert keys_now(f"app.{name}") == [f"f{number}", str(number)]


def test_every_action_can_be_run_where_it_is_bound() -> None:
    assert OWNERS.keys() == GROUPS.keys()
    for owner in {each for classes in OWNERS.values() for each in classes}:
        for binding in owner.BINDINGS:
            assert isinstance(binding, Binding)
            where, _, name = binding.action.split("(")[0].rpartition(".")
            if not where:
                assert hasattr(owner, f"action_{name}"), (binding.id, owner)


def test_bindings_carry_id_and_tooltip() -> None:
    made = [binding for group in GROUPS for binding in bindings(group)]
    assert all(isinstance(b, Binding) and b.id in BY_ID and b.tooltip for b in made)


def test_no_binding_of_the_lab_goes_past_the_registry() -> None:
    """But moving in a table, which is as Textual's own lists have it."""
    plain = {"up", "down", "pageup", "pagedown", "home", "end"}
    for module in pkgutil.walk_packages(tui_lab.ui.__path__, "tui_lab.ui."):
        for name, each in vars(importlib.import_module(module.name)).items():
            ours = isinstance(each, type) and each.__module__.startswith("tui_lab.")
            if ours and issubclass(each, DOMNode) and "BINDINGS" in vars(each):
                past = [b for b in each.BINDINGS if not isinstance(b, Binding) or b.id not in BY_ID]
                assert {b.key for b in past if isinstance(b, Binding)} <= plain, (name, past)


def test_the_help_names_every_key() -> None:
    text = help_content("train").plain
    for action in ACTIONS:
        if action.keys:
            assert keys_of(action.id) in text
        assert action.tooltip.split()[0] in text
    assert text.index("Train\n") < text.index("Setup\n"), "the pane that is shown comes first"


def test_the_help_shows_only_lines_with_the_words() -> None:
    text = help_content("train", query="checkpoint save").plain
    assert "Save a checkpoint" in text and "Setup\n" not in text
    assert "Nothing here has" in help_content("train", query="zebra").plain


def test_keys_as_people_read_them() -> None:
    assert keys_of("setup.start") == "s or Ctrl+S"
    assert key_name("ctrl+s") == "Ctrl+S"
    assert keys_of("setup.start", {"setup.start": "g"}) == "g"
    assert keys_of("setup.start", {"setup.start": ""}) == "Ctrl+P Start"
    assert first_key("app.train") == "F3"
    assert isinstance(ACTIONS[0], Action)
