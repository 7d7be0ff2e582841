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
from tui_lab.ui.actions.registry import ACTIONS, BY_ID, GROUPS, Action, bindings, first_key, keys_of


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
