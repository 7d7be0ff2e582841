"""The registry: ids and keys are unique where they meet, and every action exists on its pane."""

from __future__ import annotations

from collections import Counter

from textual.binding import Binding

from tui_lab.ui.actions import ACTIONS, BY_ID, GROUPS, bindings, key_name, keymap_problems, keys_of
from tui_lab.ui.app import LabApp
from tui_lab.ui.help import help_content
from tui_lab.ui.screens.choose import ChoosePane
from tui_lab.ui.screens.compare import ComparePane
from tui_lab.ui.screens.keep import KeepPane
from tui_lab.ui.screens.runs import RunsPane
from tui_lab.ui.screens.tune import TunePane
from tui_lab.ui.widgets.form import Rows

OWNERS = {
    "app": LabApp,
    "choose": ChoosePane,
    "tune": TunePane,
    "compare": ComparePane,
    "keep": KeepPane,
    "runs": RunsPane,
    "form": Rows,
}


def test_ids_are_unique_and_groups_known() -> None:
    assert len(BY_ID) == len(ACTIONS)
    assert {action.group for action in ACTIONS} == GROUPS.keys() == OWNERS.keys()
    assert all(action.tooltip.endswith(".") and action.label for action in ACTIONS)


def test_no_key_means_two_things_on_a_pane() -> None:
    for group in GROUPS:
        keys = Counter(
            key for action in ACTIONS if action.group in ("app", group) for key in action.keys.split(",")
        )
        assert [key for key, count in keys.items() if count > 1] == [], group


def test_every_action_can_be_run_where_it_is_bound() -> None:
    for action in ACTIONS:
        name = action.action.split("(")[0]
        assert hasattr(OWNERS[action.group], f"action_{name}"), action.id


def test_bindings_carry_id_and_tooltip() -> None:
    made = [binding for group in GROUPS for binding in bindings(group)]
    assert all(isinstance(b, Binding) and b.id in BY_ID and b.tooltip for b in made)


def test_the_help_names_every_key() -> None:
    text = help_content("tune").plain
    for action in ACTIONS:
        assert keys_of(action.id) in text
        assert action.tooltip.split()[0] in text
    assert text.index("Tune\n") < text.index("Choose\n"), "the pane that is shown comes first"


def test_keys_as_people_read_them() -> None:
    assert keys_of("app.help") == "F1 or ?"
    assert key_name("ctrl+s") == "Ctrl+S"
    assert keys_of("choose.start", {"choose.start": "g"}) == "g"
    assert keymap_problems({"choose.start": "g", "nope": "x"}) == [
        "keys: 'nope' is not an action; `F1` lists them"
    ]
