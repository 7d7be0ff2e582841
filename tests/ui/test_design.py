"""The rules of docs/design.md on every pane and dialog: what has a frame has a title, a title is never cut
without an ellipsis, and glyphs of states come from one table."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest
from textual.content import Content
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Input

import tui_lab
from tests.paths import ROOT
from tests.ui.helpers import lane_done, screen_text, until
from tests.ui.sample_runs import make_run, typed_result
from tests.ui.screens.test_blind import PaperClient
from tui_lab.core.settings import Settings
from tui_lab.decoding.records import TokenRecord
from tui_lab.playground.client import PlaygroundClient
from tui_lab.playground.votes import BlindSettings
from tui_lab.runs.folder import Run
from tui_lab.ui.app import LabApp
from tui_lab.ui.screens.blind import Blind
from tui_lab.ui.screens.export import ExportScreen
from tui_lab.ui.screens.inspector import Inspector
from tui_lab.ui.screens.item_view import ItemView
from tui_lab.ui.screens.pane import Pane
from tui_lab.ui.terminal.types import AnyScreen
from tui_lab.ui.views import retention
from tui_lab.ui.views.states import RUN_STATES
from tui_lab.ui.widgets.dialogs import TITLE_CELLS, AskText, Confirm, Pick, RemedyDialog, headed
from tui_lab.ui.widgets.panel import key_hints, panel_title
from tui_lab.ui.widgets.run_list import RunList

PANES = ("setup", "train", "playground", "retention", "runs")
SIZES = ((80, 24), (160, 50))
#: Kinds of borders that draw nothing, or only show where the focus is.
NO_LINES = {"", "none", "hidden", "blank", "outer", "inner"}
LONG = (
    "A question that is far longer than what fits into the frame of a dialog, so that it goes below the title"
)
DIALOGS: dict[str, Callable[[], AnyScreen]] = {
    "confirm": lambda: Confirm("Stop the run at step 4?", "stop it", "let it run"),
    "ask": lambda: AskText("Tags, separated by spaces; the filter finds them as tag:word"),
    "ask at length": lambda: AskText(LONG),
    "pick": lambda: Pick(
        "A list with a heading that is longer than a window of sixty cells holds", [("a", "b")]
    ),
    "remedies": lambda: RemedyDialog("9 GiB of 8 GiB", []),
    "runs": lambda: RunList(""),
}


def over_the_panes(run: Run, folder: Path) -> dict[str, AnyScreen]:
    """The screens that panes open on what they have: export, an item, the tokens of a lane, a blind vote."""
    tokens = tuple(TokenRecord(0, n, n, word, -1.0, 1, 1.0) for n, word in enumerate(("once", " upon")))
    settings = BlindSettings(("greedy on=base", "greedy on=tuned"), ("a question",))
    client = cast("PlaygroundClient", PaperClient())
    return {
        "export": ExportScreen(run),
        "item": ItemView(lambda at, width: retention.item(typed_result(), at, width), 2, 1),
        "inspector": Inspector(lane_done(0, "greedy", "once upon", tokens=tokens)),
        "blind vote": Blind(client, settings, folder / "votes.jsonl", seed=1),
    }


def framed(screen: Screen[object]) -> Iterator[Widget]:
    """Widgets in view with a line above them. Fields for text are framed by what they ask for."""
    for widget in screen.walk_children(Widget):
        kind, _ = widget.styles.border_top
        if kind not in NO_LINES and widget.region.area and not isinstance(widget, Input):
            yield widget


def faults(app: LabApp) -> list[str]:
    """Frames without a title, and titles that are cut without an ellipsis."""
    lines = screen_text(app).splitlines()
    found = []
    for widget in framed(app.screen):
        title = widget._border_title
        plain = title.plain if isinstance(title, Content) else ""
        if not plain.strip():
            found.append(f"{widget!r} has no title")
            continue
        area = widget.region.intersection(app.screen.region)
        if area.y != widget.region.y:
            continue  # its top is scrolled out of view
        row = lines[area.y][area.x : area.right]
        if plain not in row and "…" not in row:
            found.append(f"{widget!r}: {plain!r} is cut in {row!r}")
        if not widget.has_class("panel"):
            found.append(f"{widget!r} is framed without the class panel")
    return found


@pytest.mark.parametrize("size", SIZES, ids=str)
async def test_every_frame_has_a_title(size: tuple[int, int], tmp_path: Path) -> None:
    run = make_run()
    app = LabApp(settings=Settings(theme="lab-dark"), run_id=run.id)
    async with app.run_test(size=size) as pilot:
        seen = 0
        for pane in PANES:
            app.action_pane(pane)
            await until(lambda pane=pane: isinstance(app.screen, Pane) and pane == app.screen.GROUP)  # type: ignore[misc]
            await until(lambda: app.screen.is_filled)  # type: ignore[attr-defined]
            await pilot.pause()
            assert faults(app) == [], pane
            seen += len(list(framed(app.screen)))
        assert seen >= (20 if size[0] >= 120 else 1)
        for name, make in DIALOGS.items():
            await app.push_screen(make())
            await pilot.pause()
            assert faults(app) == [], name
            assert list(framed(app.screen)), name
            app.pop_screen()
        for name, screen in over_the_panes(run, tmp_path).items():
            await app.push_screen(screen)
            await until(lambda name=name: name == "inspector" or any(framed(app.screen)), what=name)  # type: ignore[misc]
            await until(lambda: "? Keys" in screen_text(app) or "Esc" in screen_text(app), what=name)
            assert faults(app) == [], name
            app.pop_screen()
        for name in ("help", "cheat_sheet", "themes", "settings", "doctor", "whether"):
            app.action_open(name)
            await until(lambda: len(app.screen_stack) > 1, what=name)
            await pilot.pause()
            assert faults(app) == [], name
            app.pop_screen()
            await pilot.pause()


async def test_the_focus_is_drawn_in_the_accent_and_nothing_else_is() -> None:
    app = LabApp(settings=Settings(theme="lab-dark"), pane="runs")
    async with app.run_test(size=(120, 40)) as pilot:
        await until(lambda: isinstance(app.screen, Pane) and app.screen.focused is not None)
        await pilot.pause()
        accent = app.theme_variables["primary"]
        focused = [
            widget
            for widget in framed(app.screen)
            if widget.styles.border_top[1].hex.lower() == accent.lower()
        ]
        assert [widget.id for widget in focused] == ["list"]


def test_a_key_stands_before_its_title() -> None:
    title = panel_title("Model", "m")
    assert title.plain == "m Model" and [span.style for span in title.spans if span.start == 0] == [
        "$primary bold"
    ]
    assert panel_title("a\x1b[31mb").plain == "a␛[31mb"


def test_keys_in_the_frame_of_a_dialog_have_the_accent() -> None:
    def keys(hints: str) -> list[str]:
        shown = key_hints(hints)
        assert shown.plain == hints
        return [shown.plain[span.start : span.end] for span in shown.spans if span.end > span.start]

    assert keys("Enter opens, Esc closes") == ["Enter", "Esc"]
    assert keys("← → other items, Ctrl+X closes") == ["← →", "Ctrl+X"]
    assert keys("y stop it, n let it run") == ["y", "n"] and keys("") == []


def test_short_questions_are_titles() -> None:
    assert headed("A note on this run") == ("A note on this run", "")
    assert headed("Model: a folder with weights, or a hub id such as Qwen/Qwen2.5") == (
        "Model",
        "A folder with weights, or a hub id such as Qwen/Qwen2.5",
    )
    assert headed("The run's name (its folder keeps its own; empty: the time it was made)") == (
        "The run's name",
        "Its folder keeps its own; empty: the time it was made",
    )
    heading, text = headed(LONG)
    assert len(heading) <= TITLE_CELLS and text == LONG


def _texts(tree: ast.AST) -> Iterator[str]:
    """Constants of a module without its docstrings."""
    docs = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
            yield node.value


def test_words_of_run_states_have_their_glyph_from_the_table() -> None:
    """No other module of the panes writes a glyph and a state of its own."""
    own = {f"{glyph} {state.word}" for state in RUN_STATES.values() for glyph in "▶‖■◌✓✗!·…"}
    for path in sorted((Path(tui_lab.__file__).parent / "ui").rglob("*.py")):
        if path.name != "states.py":
            for text in _texts(ast.parse(path.read_text(encoding="utf-8"))):
                assert text.strip() not in own, (path.name, text)


#: What programs said to users before: each has a word of the field now.
OLD_WORDS = re.compile(
    r"makes of it|hub name|\bsurely\b|no hub has|\bArm\b|new task|Take it:|starting the host"
    r"|apparently|formula knows"
)


def test_no_text_has_the_old_words() -> None:
    """In texts of the lab, of commands and reports; the bundled model's own training text is not one."""
    package = Path(tui_lab.__file__).parent
    for path in sorted(package.rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        if "builder" not in path.parts and OLD_WORDS.search(source):  # parsing every module takes seconds
            for text in _texts(ast.parse(source)):
                assert not OLD_WORDS.search(text), (path.name, text)
    for path in sorted((package / "ui").rglob("*.toml")):
        assert not OLD_WORDS.search(path.read_text(encoding="utf-8")), path.name


def test_the_tests_that_the_page_names_exist() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / "docs/design.md").read_text(encoding="utf-8"))
    assert len(named) > 25
    for file, name in named:
        assert re.search(rf"^(async )?def {name}\(", (ROOT / file).read_text(encoding="utf-8"), re.M), name
