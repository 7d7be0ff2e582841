"""The user's settings: one TOML file in the config folder, every key of which has an environment variable
and, where it is worth one, an option of the command line. Command line goes before environment, environment
before file, file before default. What is wrong in a file is one sentence each; the rest of it holds.

``Settings`` is a plain dataclass: the lab reads it before its first frame, which leaves no time for more."""

from __future__ import annotations

import math
import os
import sys
import tomllib
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from tui_lab.core.errors import LabError
from tui_lab.core.paths import config_dir
from tui_lab.core.sanitize import sanitize

FILE = "settings.toml"
PLOTS = ("braille", "block", "ascii")
PANES = ("setup", "train", "playground", "retention", "runs")
#: Former names of panes, which settings may still have.
OLD_PANES = {
    "choose": "setup",
    "tune": "train",
    "compare": "playground",
    "keep": "retention",
    "dashboard": "train",
}
Source = Literal["command line", "environment", "file", "default"]


def _setting(default: Any, env: str, help: str, **more: Any) -> Any:
    return field(default=default, metadata={"env": env, "help": help, **more})


@dataclass(frozen=True)
class Settings:
    """Every setting. ``metadata`` of a field: ``env`` (its environment variable), ``help`` (one sentence),
    ``choices`` (the values that it may have), ``exported`` (other processes of the lab read it from the
    environment, which :func:`export_to_env` fills), ``example`` (a value, where the default is none)."""

    theme: str = _setting(
        "",
        "TUI_LAB_THEME",
        "The lab's colours; empty chooses by what the terminal can do.",
    )
    plots: str = _setting(
        "auto",
        "TUI_LAB_PLOTS",
        "How curves are drawn: auto as the theme says; braille is finest, block and ascii suit any font.",
        choices=("auto", *PLOTS),
    )
    ascii: bool = _setting(
        False,
        "TUI_LAB_ASCII",
        "Write nothing but ASCII: for fonts and terminals that know no more.",
    )
    color: bool = _setting(
        True,
        "TUI_LAB_COLOR",
        "Use colours at all; NO_COLOR in the environment switches them off, too.",
    )
    slow_link: bool = _setting(
        False,
        "TUI_LAB_SLOW_LINK",
        "Send less over the line: plots and streams are drawn less often.",
    )
    mouse: bool = _setting(
        True,
        "TUI_LAB_MOUSE",
        "Take the mouse; without it the terminal's own selection and copying work as usual.",
    )
    pane: str = _setting(
        "setup", "TUI_LAB_PANE", "The pane that the lab opens on.", choices=PANES, aliases=OLD_PANES
    )
    runs_dir: str = _setting(
        "",
        "TUI_LAB_RUNS_DIR",
        "The folder that runs are kept in; empty is `runs` in the data folder.",
        exported=True,
    )
    price_per_hour: float | None = _setting(
        None,
        "TUI_LAB_PRICE_PER_HOUR",
        "What an hour of this machine costs, for the forecast of money; empty when nobody pays by the hour.",
        exported=True,
        example=2.5,
    )
    currency: str = _setting("$", "TUI_LAB_CURRENCY", "The currency of that price.", exported=True)
    grid_g_co2_per_kwh: float | None = _setting(
        None,
        "TUI_LAB_GRID_G_CO2_PER_KWH",
        "Grams of CO2 that a kilowatt-hour costs here; empty takes the world's average.",
        exported=True,
        example=445.0,
    )
    host_idle_s: float = _setting(
        600.0,
        "TUI_LAB_HOST_IDLE_S",
        "Seconds without a question after which the playground's model leaves the memory.",
        exported=True,
    )
    keys: dict[str, str] = field(
        default_factory=dict,
        metadata={
            "env": "",
            "help": "Other keys for actions, by the action's id; commas between several keys.",
        },
    )


FIELDS = {each.name: each for each in fields(Settings)}
_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


@dataclass(frozen=True)
class Loaded:
    """Settings with where each came from, and a sentence for each thing that was left out."""

    settings: Settings
    sources: dict[str, Source]
    problems: list[str]


def path() -> Path:
    """The user's file. It need not exist."""
    return config_dir() / FILE


def default_of(name: str) -> Any:
    """What holds where nothing is said."""
    return getattr(Settings(), name)


def display(value: Any) -> str:
    """A value as people read it and may type it; "" where there is none."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:.10g}" if isinstance(value, float) else sanitize(str(value))


def unknown(name: str) -> str:
    """A sentence about a name that no setting has."""
    return f"{_shown(name)} is no setting; there are {', '.join(FIELDS)}"


def checked(name: str, value: Any) -> Any:
    """``value`` as the setting ``name`` holds it. Text is read as in an environment variable. Raises
    LabError with what it must be."""
    each = FIELDS[name]
    kind = str(each.type)
    choices = each.metadata.get("choices")
    if isinstance(value, str):
        value = value.strip()
    if kind == "bool":
        if isinstance(value, str) and value.lower() in _TRUE + _FALSE:
            return value.lower() in _TRUE
        if not isinstance(value, bool):
            raise LabError(f"{name} = {_shown(value)}: must be true or false")
    elif kind.startswith("float"):
        if value in ("", None) and "None" in kind:
            return None
        try:
            number = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if not math.isfinite(number) or number < 0:
            raise LabError(f"{name} = {_shown(value)}: must be a number of 0 or more")
        return number
    elif kind == "str":
        if not isinstance(value, str) or "\0" in value:  # which neither a path nor the environment can hold
            raise LabError(f"{name} = {_shown(value)}: must be text")
        value = each.metadata.get("aliases", {}).get(value, value)
        if choices and value not in choices:
            raise LabError(f"{name} = {_shown(value)}: must be one of {', '.join(choices)}")
    elif not isinstance(value, dict) or not all(isinstance(word, str) for word in value.values()):
        raise LabError(f'[{name}] must be a table of texts, such as "setup.start" = "g"')
    return value


def _shown(value: Any) -> str:
    return sanitize(repr(value))[:60]


def read(file: Path | None = None) -> tuple[dict[str, Any], list[str]]:
    """What the file sets, and a sentence for each key that is unknown or wrong. No file sets nothing."""
    file = path() if file is None else file
    try:
        data = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}, []
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        why = getattr(error, "strerror", None) or error
        return {}, [f"{file.name} cannot be read: {sanitize(str(why))}; the defaults hold"]
    found, problems = dict[str, Any](), []
    for name, value in data.items():
        if name not in FIELDS:
            problems.append(f"{file.name}: {unknown(name)}")
            continue
        try:
            found[name] = checked(name, value)
        except LabError as error:
            problems.append(f"{file.name}: {error}")
    return found, problems


def load(
    arguments: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
    file: Path | None = None,
) -> Loaded:
    """Every setting from wherever it is said first. ``arguments``: what the command line says, None and ""
    where it says nothing. Raises LabError for what was typed just now, on the command line."""
    words = os.environ if environment is None else environment
    values, problems = read(file)
    sources: dict[str, Source] = {
        name: "file" if name in values and values[name] != {} else "default" for name in FIELDS
    }
    for name, each in FIELDS.items():
        variable = each.metadata["env"]
        if variable and (text := words.get(variable, "")).strip():
            try:
                values[name] = checked(name, text)
                sources[name] = "environment"
            except LabError as error:
                problems.append(f"{variable}: {error}")
    if words.get("NO_COLOR") and sources["color"] != "environment":
        values["color"], sources["color"] = False, "environment"
    if sources["ascii"] == "default" and ascii_reason(words):
        values["ascii"], sources["ascii"] = True, "environment"
    for name, value in (arguments or {}).items():
        if name in FIELDS and value not in (None, ""):
            values[name], sources[name] = checked(name, value), "command line"
    return Loaded(Settings(**values), sources, problems)


def ascii_reason(words: Mapping[str, str]) -> str:
    """Why only ASCII should be written to this terminal: its locale is set, and is not one of UTF-8, or
    Python is told to write something else; "" when there is no reason. No locale at all is no reason:
    containers seldom have one."""
    told = words.get("PYTHONIOENCODING", "").partition(":")[0]
    if told and not _is_utf8(told):
        return (
            f"PYTHONIOENCODING={sanitize(told)[:40]} is not UTF-8, so only ASCII is written. "
            "TUI_LAB_ASCII=0 overrules that."
        )
    locales = {name: words.get(name, "") for name in ("LC_ALL", "LC_CTYPE", "LANG")}
    if locales["LC_CTYPE"] == "C.UTF-8" and locales["LANG"] in ("C", "POSIX") and sys.flags.utf8_mode:
        locales["LC_CTYPE"] = ""  # Python put it there itself (PEP 538)
    name, value = next(((name, value) for name, value in locales.items() if value), ("", ""))
    if not value or _is_utf8(value):
        return ""
    return (
        f"{name}={sanitize(value)[:40]} is no UTF-8 locale, so only ASCII is written. "
        "TUI_LAB_ASCII=0 overrules that."
    )


def _is_utf8(name: str) -> bool:
    return "utf8" in name.lower().replace("-", "").replace("_", "")


def export_to_env(settings: Settings, environment: MutableMapping[str, str] | None = None) -> None:
    """Puts into the environment what other programs of the lab (runs, jobs, the host) read from there. Where
    the default holds nothing stays: they would read again what was refused."""
    words = os.environ if environment is None else environment
    for name, each in FIELDS.items():
        if not each.metadata.get("exported"):
            continue
        value, variable = getattr(settings, name), each.metadata["env"]
        if value in (None, "", each.default):
            words.pop(variable, None)
        else:
            words[variable] = str(value)
