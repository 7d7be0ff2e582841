"""Themes as data: TOML files of the lab and of the user become Textual themes. Colours have semantic names
(train, validation, retained …) that fall back to the base colours, so that a short file is a complete theme
and code never names a colour. A file that cannot be used gives one message; the lab starts without it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from rich.style import Style
from textual.color import Color, ColorParseError
from textual.design import ColorSystem
from textual.theme import BUILTIN_THEMES, Theme

from tui_lab.core import input_files
from tui_lab.core.errors import LabError
from tui_lab.core.paths import resource_dir, user_files
from tui_lab.core.sanitize import sanitize
from tui_lab.core.settings import PLOTS

DEFAULT_THEME = "lab-dark"
#: For terminals of sixteen colours: palette codes.
ANSI_THEME = "lab-ansi"
#: For NO_COLOR: brightness only (see ui/terminal/filters.py).
MONO_THEME = "lab-mono"

#: Every semantic name with the base colour that it falls back to.
SEMANTIC: dict[str, str] = {
    "train": "primary",
    "smoothed": "accent",
    "validation": "warning",
    "forecast": "secondary",
    "memory": "secondary",
    "memory-reserved": "accent",
    "memory-total": "warning",
    "throughput": "success",
    "learning-rate": "accent",
    "retained": "success",
    "forgotten": "error",
    "undecided": "warning",
    "base-model": "secondary",
    "tuned-model": "accent",
    "strategy-greedy": "primary",
    "strategy-beam": "secondary",
    "strategy-top-k": "accent",
    "strategy-top-p": "success",
    "strategy-temperature": "warning",
    "strategy-contrastive": "error",
    "run-1": "primary",
    "run-2": "warning",
    "run-3": "success",
    "run-4": "accent",
    "run-5": "error",
    "run-6": "secondary",
    "state-running": "success",
    "state-paused": "warning",
    "state-finished": "primary",
    "state-failed": "error",
    "changed": "accent",
    "trained-token": "success",
    "surprise-0": "foreground",
    "surprise-1": "success",
    "surprise-2": "accent",
    "surprise-3": "warning",
    "surprise-4": "error",
}
#: Parts of a plot other than its curves.
CHROME: dict[str, str] = {"axis": "foreground", "legend": "foreground", "title": "foreground"}

#: Variables that Textual 8.2.8 uses but does not define in a theme of palette codes: (dark, light).
_ANSI = {
    "ansi-background": ("ansi_black", "ansi_white"),
    "ansi-foreground": ("ansi_white", "ansi_black"),
    "foreground-disabled": ("ansi_bright_black", "ansi_bright_black"),
    "surface-active": ("ansi_default", "ansi_default"),
}

BASE_COLOURS = (
    "primary", "secondary", "warning", "error", "success", "accent", "foreground", "background", "surface",
    "panel", "boost",
)  # fmt: skip
_KEYS = {"name", "dark", "ansi", "colors", "semantic", "plot", "variables"}
WEIGHTS = ("normal", "thick")
#: Keys of [plot] with their values.
PLOT = {"marker": PLOTS, "weight": WEIGHTS}
#: Names of themes, which Textual uses as CSS classes.
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,39}")
_WITH_ALPHA = re.compile(r"(.+?)\s+\d{1,3}(?:\.\d+)?%")
#: Faint texts. Textual 8.2.8 mixes "auto 60%" with the background in style sheets, but draws it as white or
#: black within a text, so the lab mixes these itself.
_FAINT = ("text-muted", "text-disabled")
_STYLE_WORDS = {
    "none", "not", "bold", "b", "italic", "i", "underline", "u", "reverse", "r", "strike", "dim", "d",
}  # fmt: skip


@dataclass
class LabTheme(Theme):
    """A theme that also sets how plots are drawn."""

    marker: str = ""  # one of PLOTS; "" leaves it to the lab
    weight: str = "normal"


# --------------------------------------------------------------------------------------------------
# reading files


def parse_theme(text: str, name: str) -> LabTheme:
    """The theme of one TOML file; ``name`` is used where the file names none. Raises LabError."""
    try:
        data = input_files.parse_toml(text)
    except ValueError as error:
        raise LabError(f"not valid TOML: {error}") from None
    problems = [f"unknown key {key!r}" for key in sorted(data.keys() - _KEYS)]
    colors = _table(data, "colors", problems)
    semantic = _table(data, "semantic", problems)
    variables = _table(data, "variables", problems)
    plot = _table(data, "plot", problems)
    problems += [
        f"unknown colour name {key!r} in [colors]" for key in sorted(set(colors) - set(BASE_COLOURS))
    ]
    problems += [
        f"unknown name {key!r} in [semantic]"
        for key in sorted(set(semantic) - SEMANTIC.keys() - CHROME.keys())
    ]
    for table in (colors, semantic):
        problems += [
            f"{key} = {value!r} is not a colour" for key, value in table.items() if not _is_colour(value)
        ]
    problems += _variable_problems(variables)
    problems += [
        f"{key} = {value!r}: nothing can be drawn on it; 'ansi_default' is the terminal's own colour"
        for key, value in (colors | variables).items()
        if key in BASE_COLOURS and key != "boost" and _is_colour(value) and Color.parse(value).a == 0
    ]
    for key, value in plot.items():
        if key not in PLOT:
            problems.append(f"unknown key {key!r} in [plot]")
        elif value not in PLOT[key]:
            problems.append(f"{key} = {value!r} in [plot]: one of {', '.join(PLOT[key])}")
    if "primary" not in colors:
        problems.append("[colors] needs at least primary")
    for key in ("dark", "ansi"):
        if not isinstance(data.get(key, False), bool):
            problems.append(f"{key} must be true or false")
    name = data.get("name", name)
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        problems.append(f"name = {name!r}: letters, digits and hyphens, a letter first, 40 at most")
    if problems:
        raise LabError("; ".join(problems))
    theme = LabTheme(
        name=name,
        dark=data.get("dark", True),
        ansi=data.get("ansi", False),
        variables={**variables, **semantic},
        **plot,
        **colors,
    )
    try:
        generated = theme.to_color_system().generate()
    except (ColorParseError, ValueError) as error:  # some are mixed with others: no "red 30%" there
        raise LabError(f"its colours cannot be mixed: {error}") from None
    if not theme.ansi:
        for key in _FAINT:
            theme.variables[key] = _mixed(theme.variables.get(key, generated[key]), generated["surface"])
    return theme


def _mixed(value: str, ground: str) -> str:
    """``value`` such as "auto 60%" mixed with ``ground``; other colours are returned unchanged."""
    if (found := _WITH_ALPHA.fullmatch(value)) is None or found[1] != "auto":
        return value
    share = float(value.split()[1].rstrip("%")) / 100
    return (Color.parse(ground) + Color.automatic().multiply_alpha(share)).hex


def _table(data: Mapping[str, Any], key: str, problems: list[str]) -> dict[str, Any]:
    table = data.get(key, {})
    if not isinstance(table, dict) or not all(isinstance(value, str) for value in table.values()):
        problems.append(f"[{key}] must be a table of texts")
        return {}
    return table


def _is_colour(value: str) -> bool:
    try:
        Color.parse(value)
    except (ColorParseError, ValueError):
        return False
    return True


@cache
def _variable_names() -> frozenset[str]:
    """Textual's theme variables other than the base colours."""
    known = {*ColorSystem("red").generate(), *ColorSystem("red", ansi=True).generate()}
    return frozenset(known.union(*(theme.variables for theme in BUILTIN_THEMES.values())))


@cache
def _contrast_names() -> frozenset[str]:
    """The variables that may be "auto": colours of texts."""
    return frozenset(
        name for name, value in ColorSystem("red").generate().items() if value.startswith("auto")
    )


def _variable_problems(variables: Mapping[str, str]) -> list[str]:
    """A sentence for each variable that Textual cannot read, which would end the lab."""
    problems = []
    for name, value in variables.items():
        if name not in _variable_names():
            problems.append(f"unknown variable {name!r} in [variables]")
        elif "style" in name.split("-"):
            if not value.split() or not set(value.split()) <= _STYLE_WORDS:
                problems.append(f"{name} = {value!r} is not a text style, such as 'bold underline'")
        else:
            colour = found[1] if (found := _WITH_ALPHA.fullmatch(value)) else value
            if colour == "auto" and name in _contrast_names():
                continue
            if not _is_colour(colour):
                problems.append(f"{name} = {value!r} is not a colour")
    return problems


def read_theme(path: Path) -> LabTheme:
    """The theme in a file. Raises LabError with the file's name in it."""
    try:
        return parse_theme(input_files.read_text(path, input_files.TOML_BYTES), path.stem)
    except LabError as error:
        raise LabError(sanitize(f"theme {path.name}: {error}")) from None
    except (OSError, UnicodeDecodeError) as error:
        raise LabError(sanitize(f"theme {path.name}: cannot be read ({error})")) from None


def theme_files() -> list[Path]:
    """The lab's files, then the user's, which replace those of the same name."""
    return sorted(resource_dir("themes").glob("*.toml")) + user_files("themes")


def load_themes(paths: list[Path] | None = None) -> tuple[dict[str, LabTheme], list[str]]:
    """Every theme that can be read, by name, and one sentence for each file that cannot."""
    themes: dict[str, LabTheme] = {}
    messages: list[str] = []
    for path in theme_files() if paths is None else paths:
        try:
            theme = read_theme(path)
        except LabError as error:
            messages.append(str(error))
        else:
            themes[theme.name] = theme
    return themes, messages


def load_theme(name: str) -> LabTheme | None:
    """One of the lab's own themes, for the first frame; None when its file cannot be read."""
    try:
        return read_theme(resource_dir("themes") / f"{name}.toml")
    except LabError:
        return None


def default_for(color_system: str | None) -> str:
    """The default theme of a terminal with rich's ``color_system``."""
    return ANSI_THEME if color_system in ("standard", "windows") else DEFAULT_THEME


def unknown_theme(name: str, known: Iterable[str]) -> str:
    """The message about a theme that does not exist."""
    return f"theme {sanitize(name)[:40]!r}: there is none of that name; there are {', '.join(sorted(known))}"


# --------------------------------------------------------------------------------------------------
# using them


def fallbacks(theme: Theme) -> dict[str, str]:
    """A default for every semantic name, from the base colours of ``theme``."""
    found = {
        name: getattr(theme, base) or theme.foreground or theme.primary
        for name, base in (*SEMANTIC.items(), *CHROME.items())
    }
    return found | {name: codes[not theme.dark] for name, codes in _ANSI.items()} if theme.ansi else found


@lru_cache(maxsize=512)
def _style(colour: str, bold: bool, dim: bool) -> Style:
    if colour.startswith("auto"):  # Textual's contrast colours need a background: the default is readable
        return Style(bold=bold, dim=dim)
    try:
        return Style(color=Color.parse(colour).rich_color, bold=bold, dim=dim)
    except (ColorParseError, ValueError):
        return Style(bold=bold)


def role_style(variables: Mapping[str, str], role: str) -> Style:
    """The style of a role in a plot or a text; plain for unknown roles."""
    colour = variables.get(role) or variables.get("foreground") or "auto"
    # a theme of palette codes cannot say how faint the axis is
    return _style(colour, role == "title", role == "axis" and colour == "ansi_default")
