"""Themes: the shipped files are whole and readable, a bad file is one message, fall-backs fill short ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.color import Color

from tui_lab.errors import LabError
from tui_lab.ui import themes


def shipped() -> list[Path]:
    return sorted(themes.resource_dir("themes").glob("*.toml"))


def contrast(a: Color, b: Color) -> float:
    """WCAG 2 contrast ratio, written from the standard."""

    def luminance(color: Color) -> float:
        def channel(value: int) -> float:
            part = value / 255
            return part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4

        return 0.2126 * channel(color.r) + 0.7152 * channel(color.g) + 0.0722 * channel(color.b)

    light, dark = sorted((luminance(a), luminance(b)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_there_is_a_dark_a_light_a_contrast_and_an_ansi_theme() -> None:
    found, messages = themes.load_themes(shipped())
    assert messages == []
    assert {"lab-dark", "lab-light", "lab-contrast", "lab-ansi"} <= found.keys()
    assert found["lab-dark"].dark and not found["lab-light"].dark and found["lab-ansi"].ansi


@pytest.mark.parametrize("path", shipped(), ids=lambda path: path.stem)
def test_every_curve_can_be_told_from_the_background(path: Path) -> None:
    theme = themes.read_theme(path)
    if theme.ansi:
        pytest.skip("the terminal's own palette decides")
    background = Color.parse(str(theme.background))
    colours = {**themes.fallbacks(theme), **theme.variables}
    for name in (*themes.SEMANTIC, *themes.CHROME):
        assert contrast(Color.parse(colours[name]), background) >= 3, name  # WCAG 2 for graphics
    assert contrast(Color.parse(str(theme.foreground)), background) >= 7


def test_a_short_file_is_a_whole_theme() -> None:
    theme = themes.parse_theme('[colors]\nprimary = "#123456"\nerror = "red"', "mine")
    values = themes.fallbacks(theme)
    assert values.keys() == themes.SEMANTIC.keys() | themes.CHROME.keys()
    assert values["train"] == "#123456" and values["forgotten"] == "red"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[colors", "not valid TOML"),
        ('[colors]\nprimary = "no-colour"', "is not a colour"),
        ('[colors]\nprimray = "red"', "primray"),
        ('[colors]\nprimary = "red"\n[semantic]\ntrian = "red"', "trian"),
        ("[semantic]", "primary"),
        ("colors = 3\n", "table"),
        ('[colors]\nprimary = "red"\n[x]', "'x'"),
    ],
)
def test_mistakes_are_named(text: str, words: str) -> None:
    with pytest.raises(LabError, match=words):
        themes.parse_theme(text, "bad")


def test_one_bad_file_does_not_hide_the_others(tmp_path: Path) -> None:
    (tmp_path / "good.toml").write_text('[colors]\nprimary = "red"')
    (tmp_path / "bad.toml").write_text("[[[")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    found, messages = themes.load_themes(sorted(tmp_path.glob("*.toml")))
    assert set(found) == {"good"}
    assert len(messages) == 2 and "bad.toml" in messages[0] and "binary.toml" in messages[1]


def test_terminals_of_sixteen_colours_get_native_codes() -> None:
    assert themes.default_for("standard") == "lab-ansi"
    assert themes.default_for("truecolor") == themes.default_for("256") == "lab-dark"
