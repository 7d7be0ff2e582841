"""--ascii: only ASCII, the same width, and distinct replacements for distinct states."""

from __future__ import annotations

import ast
from itertools import combinations, pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

import tui_lab
from tui_lab.runs.verdicts import VERDICTS
from tui_lab.ui.terminal import ascii
from tui_lab.ui.views import plot_series
from tui_lab.ui.views.run import SPINNER
from tui_lab.ui.views.states import TABLES

PACKAGE = Path(tui_lab.__file__).parent
#: Whose texts come to the screen, beside the lab's own modules.
SHOWN = [
    *PACKAGE.glob("ui/**/*.py"),
    *PACKAGE.glob("runs/*.py"),
    PACKAGE / "core/format.py",
    PACKAGE / "core/sanitize.py",
]
#: A mark that a cell is unknown, and what only reports say.
NOT_SHOWN = {"\uffff", "∞"}


def written(path: Path) -> set[str]:
    """Every character of the texts in a module, without its docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docs = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    texts = (
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs
    )
    return set("".join(texts))


@pytest.mark.parametrize("path", SHOWN, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_character_of_the_lab_has_an_ascii_replacement(path: Path) -> None:
    unknown = {char for char in written(path) - NOT_SHOWN if ascii.of(char) == ascii.UNKNOWN}
    assert unknown <= {"?"}


def test_states_stay_distinct() -> None:
    verdicts = {name: glyph for name, (glyph, _) in VERDICTS.items()}
    states = ({name: state.glyph for name, state in table.items()} for table in TABLES)
    for table in (*states, verdicts):
        assert table
        for one, other in combinations(set(table.values()), 2):
            assert ascii.of(one) != ascii.of(other), (one, other)
    plain = [ascii.of(glyph) for glyph in ascii.GLYPHS]
    assert len(set(plain)) == len(plain)


def test_line_styles_stay_distinct_with_every_marker() -> None:
    for marker in plot_series.STYLES:
        for weight in ("normal", "thick"):
            options = plot_series.PlotOptions(marker=marker, weight=weight)  # type: ignore[arg-type]
            styles = ("thin", "thick", "points", "dashed")
            drawn = [(options.mark(style), plot_series.WIDE.get((style, weight))) for style in styles]  # type: ignore[arg-type, call-overload]
            found = [options.glyph(style) for style in styles]  # type: ignore[arg-type]
            assert len(set(drawn)) == len(set(found)) == 4
            if marker == "ascii":
                assert "".join(found).isascii()


@given(st.text())
def test_any_text_becomes_ascii_of_the_same_width(text: str) -> None:
    plain = ascii.to_ascii(text)
    assert plain.isascii()
    if any(char < " " or char == "\x7f" for char in text):
        return  # control characters have no width of their own; they never come to a row
    assert len(plain) == cell_len(text)


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("✓ finished", "v finished"),
        ("retention 0.92 – 1.21", "retention 0.92 - 1.21"),
        ("7.83 → 0.294", "7.83 ->0.294"),
        ("╭─ Prompt ─╮", "+- Prompt -+"),
        ("│┃║", "|||"),
        ("█▉▏", "#||"),
        ("你好 café 🙂", "???? caf? ??"),
        ("plain", "plain"),
    ],
)
def test_examples(text: str, plain: str) -> None:
    assert ascii.to_ascii(text) == plain


def test_the_spinner_turns() -> None:
    turned = [ascii.of(frame) for frame in SPINNER]
    assert all(one != other for one, other in pairwise(turned))
