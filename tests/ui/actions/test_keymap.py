"""Keys that people give actions: what is accepted, what is said of the rest, and what a key then does."""

from __future__ import annotations

from pathlib import Path

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st
from textual.binding import Binding, BindingsMap

from tests.ui.helpers import screen_text, until
from tui_lab.core.errors import LabError
from tui_lab.core.settings import KEYMAPS, Settings
from tui_lab.ui.actions.keymap import NEWER, checked, conflicts, current_id, old_names, ready
from tui_lab.ui.actions.keys import goes_first, key_name, parse_key, parse_keys, remapped
from tui_lab.ui.actions.registry import ACTIONS, BY_ID, PANE_GROUPS, keys_now
from tui_lab.ui.app import LabApp
from tui_lab.ui.widgets.dialogs import Pick


@pytest.mark.parametrize(
    ("written", "key", "printed"),
    [
        ("Ctrl+S", "ctrl+s", "Ctrl+S"),
        ("?", "question_mark", "?"),
        ("Esc", "escape", "Esc"),
        ("f5", "f5", "F5"),
        ("shift+a", "A", "A"),
        ("A", "A", "A"),
        ("+", "plus", "+"),
        ("ctrl++", "ctrl+plus", "Ctrl++"),
        ("minus", "minus", "-"),
        ("PgUp", "pageup", "PgUp"),
        (" space ", "space", "Space"),
        ("comma", "comma", ","),
    ],
)
def test_keys_are_read_and_printed(written: str, key: str, printed: str) -> None:
    assert parse_key(written) == key and key_name(key) == printed


@pytest.mark.parametrize("written", ["", " ", "ctrl+", "ctrl+nope", "f99", "hello", "strg+s"])
def test_what_is_no_key_is_named(written: str) -> None:
    with pytest.raises(LabError, match="is no key"):
        parse_key(written)


@given(st.text(max_size=12))
def test_any_text_is_keys_or_a_sentence(text: str) -> None:
    try:
        keys = parse_keys(text)
    except LabError:
        return
    assert [parse_key(key) for key in keys] == keys, "what was read is read again as the same"


def test_every_key_of_the_registry_is_one() -> None:
    for action in ACTIONS:
        assert parse_keys(action.keys) == [key for key in action.keys.split(",") if key], action.id


def test_problems_are_a_sentence_each_and_the_rest_holds() -> None:
    keys, problems = checked(
        {
            "setup.strt": "g",
            "train.stop": "ctrl+nope",
            "playground.add": "shift+x",
            "retention.sweep": "k",  # the key of retention.measure
            "train.pause": "",
            "app.setup": "m",  # a key of Setup
        }
    )
    assert keys == {"playground.add": "X", "train.pause": ""}
    assert [problem.split(":")[1].split("=")[0].strip() for problem in problems] == [
        "'setup.strt' is no action; is 'setup.start' meant?",
        "train.stop",
        "app.setup",
        "retention.sweep",
    ]
    assert "retention.measure" in problems[3] and "keeps its own" in problems[3]


def test_two_actions_may_change_places() -> None:
    swapped = {"setup.start": "a", "setup.queue": "s,ctrl+s"}
    assert checked(swapped) == (swapped, [])


def test_the_later_of_two_on_one_key_goes() -> None:
    keys, problems = checked({"train.stop": "F13", "train.pause": "f13"})
    assert keys == {"train.stop": "f13"} and "train.pause" in problems[0] and len(problems) == 1


@hypothesis.settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(sorted(BY_ID)), st.sampled_from(["", "a", "f3", "x,y", "ctrl+o", "?", "enter", "1"])
    )
)
def test_what_is_accepted_never_clashes(keymap: dict[str, str]) -> None:
    keys, problems = checked(keymap)
    assert list(conflicts(keys)) == []
    assert len(keys.keys() & keymap.keys()) + len(problems) == len(keymap)


def test_remapping_leaves_neighbours_alone_and_takes_the_keys_nature() -> None:
    bindings = BindingsMap(
        [
            Binding("f3", "one", id="a", priority=True),
            Binding("2", "one", id="a"),
            Binding("x", "two", id="b"),
            Binding("x", "three", id="c"),
        ]
    )
    assert list(remapped(bindings, {"a": "g"}, everywhere=True).key_to_bindings) == ["g", "x"], "its order"
    found = remapped(bindings, {"a": "g,f9", "b": ""}, everywhere=True)
    assert {key: [b.action for b in each] for key, each in found.key_to_bindings.items()} == {
        "x": ["three"],
        "g": ["one"],
        "f9": ["one"],
    }
    assert [found.key_to_bindings[key][0].priority for key in ("g", "f9")] == [False, True]
    assert goes_first("f10") and goes_first("ctrl+o") and not goes_first("1") and not goes_first("enter")


async def test_function_keys_work_in_a_text_and_digits_are_text_there() -> None:
    app = LabApp(settings=Settings(pane="playground"))
    async with app.run_test(size=(100, 30)) as pilot:
        await until(lambda: app.focused is not None and app.focused.id == "prompt")
        await pilot.press("end", "1", "6")
        await until(lambda: app.focused.text.endswith("16"))  # type: ignore[union-attr]
        assert app.pane == "playground"
        await pilot.press("f6")  # TextArea itself has F6 and F7
        await until(lambda: app.pane == "runs")
        await pilot.press("2")
        await until(lambda: app.pane == "setup")


async def test_enter_is_a_new_line_where_another_key_sends_the_prompt() -> None:
    app = LabApp(settings=Settings(pane="playground", keys={"prompt.send": "ctrl+s", "prompt.line": ""}))
    async with app.run_test(size=(100, 30)) as pilot:
        await until(lambda: app.focused is not None and app.focused.id == "prompt")
        await pilot.press("end", "enter", "x")
        await until(lambda: app.focused.text.endswith("\nx"))  # type: ignore[union-attr]


async def test_the_users_keys_are_in_force_and_shown_everywhere() -> None:
    keys = {"app.train": "f13", "app.setup": "", "train.runs": "ctrl+t", "pick.leave": "z", "train.stop": ""}
    app = LabApp(settings=Settings(keys=keys))
    async with app.run_test(size=(120, 30)) as pilot:
        await until(lambda: "starts the run" in screen_text(app))
        assert "F13 Train" in screen_text(app) and "F3" not in screen_text(app)
        await pilot.press("f3")
        assert app.pane == "setup"
        await pilot.press("f13")
        await until(lambda: "No run yet" in screen_text(app))
        assert "Ctrl+P Setup" in screen_text(app), "no key: how the palette goes there"
        assert keys_now("train.stop", app._keymap) == []
        await until(lambda: "Ctrl+T Other run" in screen_text(app).splitlines()[-1])
        assert "Stop" not in screen_text(app).splitlines()[-1]
        app.push_screen(Pick("List", [("one", "")]))
        await until(lambda: "z cancels" in screen_text(app))
        await pilot.press("escape")
        assert isinstance(app.screen, Pick)
        await pilot.press("z")
        await until(lambda: app.pane == "train" and not isinstance(app.screen, Pick))


def test_former_ids_of_actions_still_work() -> None:
    former = {
        "choose.start": "G",
        "app.tune": "f13",
        "keep.compare": "v",
        "runs.keep": "i",
        "explain.all": "f14",
        "app.explain": "f15",
    }
    keys, problems = checked(former)
    assert keys == {
        "setup.start": "G",
        "app.train": "f13",
        "retention.playground": "v",
        "runs.retention": "i",
        "help.all": "f14",
        "app.explain": "f15",
    }
    assert problems == []
    assert old_names(former)[0] == "keys: choose.start is now called setup.start; the old name still works"
    assert len(old_names(former)) == 5 and old_names(keys) == []
    assert checked({"tune.stop": "f13", "train.stop": "y"})[0] == {"train.stop": "y"}


def test_keys_of_the_removed_dashboard_are_ignored_with_a_sentence() -> None:
    keys, problems = checked({"dashboard.open": "f14", "app.dashboard": "f7", "train.stop": "y"})
    assert keys == {"train.stop": "y"}
    assert [problem.partition(" is ignored: Train")[0] for problem in problems] == [
        "keys: dashboard.open",
        "keys: app.dashboard",
    ]


def test_every_id_of_the_first_release_is_known() -> None:
    ids = (Path(__file__).parent / "ids_of_caf9144.txt").read_text().split()
    assert len(ids) > 150
    assert [each for each in ids if current_id(each) not in BY_ID and "dashboard" not in each] == []


def test_newer_actions_give_way_to_the_users_keys() -> None:
    first = {current_id(each) for each in (Path(__file__).parent / "ids_of_caf9144.txt").read_text().split()}
    newer = {each for each in BY_ID.keys() - first if BY_ID[each].group in ("app", *PANE_GROUPS)}
    assert newer | {each for each in BY_ID.keys() - first if each.endswith(".filter")} == NEWER
    keys, problems = checked({"train.stop": "z", "train.pause": "escape"})
    assert keys == {"train.stop": "z", "train.pause": "escape", "train.zoom_in": "", "train.clear": ""}
    assert not problems and list(conflicts(keys)) == []


@pytest.mark.parametrize("name", KEYMAPS)
def test_a_ready_keymap_has_actions_that_exist_and_no_conflicts(name: str) -> None:
    assert set(ready(name)) <= BY_ID.keys()
    assert list(conflicts(ready(name))) == []
    assert all(parse_keys(keys) == [key for key in keys.split(",") if key] for keys in ready(name).values())


def test_the_classic_keymap_has_the_old_keys() -> None:
    """The keys of 0.1.0 on every pane, as its page of the keyboard listed them."""
    old = {
        "app.setup": "f2,1", "app.runs": "f6,5", "setup.fit": "x", "setup.fields": "f",
        "train.checkpoint": "k",
        "train.arm": "a", "train.probe": "p", "playground.run": "ctrl+r,r", "playground.edit": "e",
        "playground.copy": "y", "playground.template": "c", "playground.system": "S", "playground.blind": "b",
        "retention.measure": "e", "retention.sweep": "s", "runs.sort": "s", "runs.delete": "d,delete",
        "runs.tags": "g", "train.stop": "x", "setup.start": "s,ctrl+s",
    }  # fmt: skip
    keys, problems = checked({}, "classic")
    assert {action: ",".join(keys_now(action, keys)) for action in old} == old and problems == []


def test_own_keys_go_before_a_ready_keymap_and_cannot_take_its_keys() -> None:
    keys, problems = checked({"train.stop": "f18", "setup.start": "x"}, "classic")
    assert keys_now("train.stop", keys) == ["f18"] and keys_now("setup.fit", keys) == ["x"]
    assert keys_now("setup.start", keys) == ["s", "ctrl+s"] and "setup.fit" in problems[0]


async def test_the_classic_keymap_is_a_setting_that_acts_at_once() -> None:
    app = LabApp(settings=Settings(keymap="classic"))
    async with app.run_test(size=(100, 30)) as pilot:
        await until(lambda: "starts the run" in screen_text(app))
        await pilot.press("5")
        await until(lambda: app.pane == "runs")
        app.settings = Settings()
        app.use_keys()
        await pilot.press("5")
        await until(lambda: app.pane == "retention")
