"""Themes: shipped files are complete and readable, a bad file gives one message, defaults fill short ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.design import ColorSystem

from tui_lab.core.errors import LabError
from tui_lab.ui.terminal import themes


def shipped() -> list[Path]:
    return sorted(themes.resource_dir("themes").glob("*.toml"))


def test_there_is_a_dark_a_light_a_contrast_and_an_ansi_theme() -> None:
    found, messages = themes.load_themes(shipped())
    assert messages == []
    names = (
        "dark light contrast contrast-light colorblind colorblind-light projector projector-dark ansi mono"
    )
    assert found.keys() == {f"lab-{name}" for name in names.split()}
    assert found["lab-dark"].dark and not found["lab-light"].dark and found["lab-ansi"].ansi


def test_a_short_file_is_a_complete_theme() -> None:
    theme = themes.parse_theme('[colors]\nprimary = "#123456"\nerror = "red"', "mine")
    values = themes.fallbacks(theme)
    assert values.keys() == themes.SEMANTIC.keys() | themes.CHROME.keys()
    assert values["train"] == "#123456" and values["forgotten"] == "red"


@pytest.mark.parametrize("more", ["", "ansi = true", "ansi = true\ndark = false"])
def test_a_short_file_defines_every_style_sheet_variable(more: str) -> None:
    theme = themes.parse_theme(f'{more}\n[colors]\nprimary = "red"', "mine")
    known = themes.fallbacks(theme) | theme.to_color_system().generate()
    assert ColorSystem("red").generate().keys() <= known.keys()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[colors", "not valid TOML"),
        (f"colors = {'[' * 20_000}", "not valid TOML"),
        ('[colors]\nprimary = "no-colour"', "is not a colour"),
        ('[colors]\nprimray = "red"', "primray"),
        ('[colors]\nprimary = "red"\n[semantic]\ntrian = "red"', "trian"),
        ("[semantic]", "primary"),
        ("colors = 3\n", "table"),
        ('[colors]\nprimary = "red"\n[x]', "'x'"),
        ('[colors]\nprimary = "red"\n[plot]\nmarker = "dots"', "marker = 'dots'.*braille, block, ascii"),
        ('[colors]\nprimary = "red"\n[plot]\nwidth = "2"', "'width'"),
        ('name = "not a class!"\n[colors]\nprimary = "red"', "letters, digits"),
        ('name = 3\n[colors]\nprimary = "red"', "name = 3"),
        ('[colors]\nprimary = "red"\n[variables]\nborder = "bold"', "border = 'bold'"),
        ('[colors]\nprimary = "red"\n[variables]\nbordr = "red"', "bordr"),
        ('[colors]\nprimary = "red"\nsurface = "transparent"', "surface = 'transparent': .*ansi_default"),
        ('[colors]\nprimary = "red"\n[variables]\nbackground-darken-1 = "red 30%"', "cannot be mixed"),
        ('[colors]\nprimary = "red"\n[variables]\nborder = "auto 30%"', "border = 'auto 30%'"),
        ('[colors]\nprimary = "red"\n[variables]\nblock-cursor-text-style = "loud"', "loud"),
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


def test_a_theme_can_set_how_plots_are_drawn() -> None:
    said = themes.parse_theme('[colors]\nprimary = "red"\n[plot]\nmarker = "block"\nweight = "thick"', "mine")
    assert (said.marker, said.weight) == ("block", "thick")
    silent = themes.parse_theme('[colors]\nprimary = "red"', "mine")
    assert (silent.marker, silent.weight) == ("", "normal")


def test_an_unknown_theme_lists_the_known_ones() -> None:
    text = themes.unknown_theme("lab-dakr\x1b[2J", ["lab-light", "lab-dark"])
    assert "lab-dark, lab-light" in text and "\x1b" not in text


def test_the_name_of_a_bad_file_is_sanitized(tmp_path: Path) -> None:
    (tmp_path / "a\x1b[31m\n.toml").write_text("[[[")
    found, [message] = themes.load_themes(list(tmp_path.glob("*.toml")))
    assert found == {} and message.isprintable() and message.startswith("theme a␛[31m␊.toml: not valid TOML")
