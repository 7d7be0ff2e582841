"""The user's settings: one TOML file in the config folder. Each key has an environment variable, some have a
command-line option. The command line overrides the environment, which overrides the file, which overrides the
default. Each invalid key becomes one sentence; the other keys apply.

``Settings`` is a plain dataclass, because the lab reads it before its first frame.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from tui_lab.core import input_files
from tui_lab.core.errors import LabError
from tui_lab.core.paths import config_dir
from tui_lab.core.sanitize import sanitize

FILE = "settings.toml"
PLOTS = ("braille", "block", "ascii")
#: The lab's own keys, and ready keymaps of ``ui/actions/keymaps``.
KEYMAPS = ("lab", "classic")
PANES = ("setup", "train", "playground", "retention", "runs")
#: Former names of panes, which settings may still have.
OLD_PANES = {
    "choose": "setup",
    "tune": "train",
    "compare": "playground",
    "keep": "retention",
    "dashboard": "train",
}
#: Former names of settings, which files may still have.
OLD_NAMES = {"host_idle_s": "playground_idle_s"}
SettingSource = Literal["command line", "environment", "file", "default"]


def _setting(default: Any, env: str, help: str, **more: Any) -> Any:
    return field(default=default, metadata={"env": env, "help": help, **more})


@dataclass(frozen=True)
class Settings:
    """Every setting. ``metadata`` of a field: ``env`` (its environment variable), ``help`` (one sentence),
    ``choices`` (the allowed values), ``aliases`` (former values and their successors), ``exported`` (other
    processes of the lab read it from the environment, see :func:`export_to_env`), ``old_env`` (the former
    variable), ``example`` (a value, where the default is None), ``unset`` (what an empty value
    stands for)."""

    theme: str = _setting(
        "",
        "TUI_LAB_THEME",
        "The lab's colours; empty selects by the abilities of the terminal.",
        unset="auto",
    )
    plots: str = _setting(
        "auto",
        "TUI_LAB_PLOTS",
        "How curves are drawn: auto follows the theme; braille is finest, block and ascii suit any font.",
        choices=("auto", *PLOTS),
    )
    ascii: bool = _setting(
        False,
        "TUI_LAB_ASCII",
        "Write only ASCII, for fonts and terminals without other characters.",
    )
    color: bool = _setting(
        True,
        "TUI_LAB_COLOR",
        "Use colours; NO_COLOR in the environment switches them off too.",
    )
    slow_link: bool = _setting(
        False,
        "TUI_LAB_SLOW_LINK",
        "Send less over the connection: plots and streams are drawn less often.",
    )
    mouse: bool = _setting(
        True,
        "TUI_LAB_MOUSE",
        "React to the mouse; without it the terminal's own selection and copying work as usual.",
    )
    pane: str = _setting(
        "setup", "TUI_LAB_PANE", "The pane that the lab opens on.", choices=PANES, aliases=OLD_PANES
    )
    runs_dir: str = _setting(
        "",
        "TUI_LAB_RUNS_DIR",
        "The folder of the runs; empty is `runs` in the data folder.",
        exported=True,
        unset="in the data folder",
    )
    price_per_hour: float | None = _setting(
        None,
        "TUI_LAB_PRICE_PER_HOUR",
        "The price of an hour on this machine, for the forecast of costs; empty without a price.",
        exported=True,
        example=2.5,
    )
    currency: str = _setting("$", "TUI_LAB_CURRENCY", "The currency of that price.", exported=True)
    grid_g_co2_per_kwh: float | None = _setting(
        None,
        "TUI_LAB_GRID_G_CO2_PER_KWH",
        "Grams of CO2 per kilowatt-hour of the local grid; empty uses the world's average.",
        exported=True,
        example=445.0,
        unset="world average",
    )
    machine_watts: float | None = _setting(
        None,
        "TUI_LAB_MACHINE_WATTS",
        "Watts of this machine in training, for a budget in kWh where no card measures its power.",
        exported=True,
        example=120.0,
    )
    playground_idle_s: float = _setting(
        600.0,
        "TUI_LAB_PLAYGROUND_IDLE_S",
        "Seconds without a request after which the playground unloads its model.",
        exported=True,
        old_env="TUI_LAB_HOST_IDLE_S",
    )
    keymap: str = _setting(
        "lab",
        "TUI_LAB_KEYMAP",
        "The keys of all actions: those of the lab, or classic for those of version 0.1.0.",
        choices=KEYMAPS,
    )
    notify_command: str = _setting(
        "",
        "TUI_LAB_NOTIFY_COMMAND",
        "A shell command that a run calls at its end; it gets TUI_LAB_RUN, TUI_LAB_STATE and TUI_LAB_TEXT.",
        exported=True,
    )
    notify_webhook: str = _setting(
        "",
        "TUI_LAB_NOTIFY_WEBHOOK",
        "An address that a run sends a JSON message to at its end, such as one of Slack or Discord.",
        exported=True,
    )
    judge: str = _setting(
        "",
        "TUI_LAB_JUDGE",
        "The judge of `tui-lab judge` and of the lab: a model's name or folder, or endpoint.",
        exported=True,
    )
    classifier: str = _setting(
        "",
        "TUI_LAB_CLASSIFIER",
        "A folder with a sequence classifier that the lab offers to score answers of safety suites.",
        exported=True,
    )
    judge_url: str = _setting(
        "",
        "TUI_LAB_JUDGE_URL",
        "The address of an OpenAI-compatible endpoint for `tui-lab judge --judge endpoint`; its key is only "
        "read from TUI_LAB_JUDGE_KEY.",
        exported=True,
    )
    judge_model: str = _setting("", "TUI_LAB_JUDGE_MODEL", "The model of that endpoint.", exported=True)
    notify_terminal: bool = _setting(
        False,
        "TUI_LAB_NOTIFY_TERMINAL",
        "Ring the terminal's bell and show a desktop notification when a run ends, over SSH too.",
        exported=True,
    )
    keys: dict[str, str] = field(
        default_factory=dict,
        metadata={
            "env": "",
            "help": "Other keys for actions, by the action's id; several keys are separated by commas.",
        },
    )


FIELDS = {each.name: each for each in fields(Settings)}
_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


def is_true(text: str) -> bool:
    """Whether a switch, as text from a file or the environment, is on."""
    return text.lower() in _TRUE


@dataclass(frozen=True)
class Loaded:
    """Settings, the source of each, and a sentence for each invalid value that was left out."""

    settings: Settings
    sources: dict[str, SettingSource]
    problems: list[str]


def path() -> Path:
    """The user's settings file. It need not exist."""
    return config_dir() / FILE


def default_of(name: str) -> Any:
    """The default of a setting."""
    return getattr(Settings(), name)


def format_value(value: object) -> str:
    """A value as text that :func:`checked` accepts; "" for None."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:.10g}" if isinstance(value, float) else sanitize(str(value))


def unknown(name: str) -> str:
    """The sentence for an unknown name."""
    return f"{_repr(name)} is not a setting; the settings are {', '.join(FIELDS)}"


def checked(name: str, value: object) -> Any:
    """``value`` converted for the setting ``name``. Text is parsed as in an environment variable. Raises
    LabError with the allowed values."""
    field_ = FIELDS[name]
    kind = str(field_.type)
    choices = field_.metadata.get("choices")
    if isinstance(value, str):
        value = value.strip()
    if kind == "bool":
        if isinstance(value, str) and value.lower() in _TRUE + _FALSE:
            return is_true(value)
        if not isinstance(value, bool):
            raise LabError(f"{name} = {_repr(value)}: must be true or false")
    elif kind.startswith("float"):
        if value in ("", None) and "None" in kind:
            return None
        try:
            number = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if not math.isfinite(number) or number < 0:
            raise LabError(f"{name} = {_repr(value)}: must be a number of 0 or more")
        return number
    elif kind == "str":
        if not isinstance(value, str) or "\0" in value:  # neither a path nor the environment can contain it
            raise LabError(f"{name} = {_repr(value)}: must be text")
        value = field_.metadata.get("aliases", {}).get(value, value)
        if choices and value not in choices:
            raise LabError(f"{name} = {_repr(value)}: must be one of {', '.join(choices)}")
    elif not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise LabError(f'[{name}] must be a table of texts, such as "setup.start" = "g"')
    return value


def _repr(value: object) -> str:
    return sanitize(repr(value))[:60]


def read(file: Path | None = None) -> tuple[dict[str, Any], list[str]]:
    """The values in the file, and a sentence for each unknown or invalid key. A missing file sets nothing."""
    file = path() if file is None else file
    try:
        data = input_files.read_toml(file)
    except FileNotFoundError:
        return {}, []
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        return {}, [f"{file.name} cannot be read: {sanitize(str(reason))}; the defaults apply"]
    found, problems = dict[str, Any](), []
    for old, new in OLD_NAMES.items():
        if old in data:
            value = data.pop(old)
            data.setdefault(new, value)
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
    arguments: Mapping[str, object] | None = None,
    environment: Mapping[str, str] | None = None,
    file: Path | None = None,
) -> Loaded:
    """Every setting from its first source. ``arguments``: the options of the command line, None and "" for
    those that were not given. Raises LabError for an invalid option; other invalid values become problems."""
    env = os.environ if environment is None else environment
    values, problems = read(file)
    sources: dict[str, SettingSource] = {
        name: "file" if name in values and values[name] != {} else "default" for name in FIELDS
    }
    for name, field_ in FIELDS.items():
        variable, old = field_.metadata["env"], field_.metadata.get("old_env", "")
        if old and variable not in env:
            variable = old
        if variable and (text := env.get(variable, "")).strip():
            try:
                values[name] = checked(name, text)
                sources[name] = "environment"
            except LabError as error:
                problems.append(f"{variable}: {error}")
    if env.get("NO_COLOR") and sources["color"] != "environment":
        values["color"], sources["color"] = False, "environment"
    if sources["ascii"] == "default" and ascii_reason(env):
        values["ascii"], sources["ascii"] = True, "environment"
    for name, value in (arguments or {}).items():
        if name in FIELDS and value not in (None, ""):
            values[name], sources[name] = checked(name, value), "command line"
    return Loaded(Settings(**values), sources, problems)


def ascii_reason(env: Mapping[str, str]) -> str:
    """Why only ASCII should be written to this terminal: its locale or Python's encoding is set and is not
    UTF-8; "" without a reason. A missing locale is no reason, because containers seldom have one."""
    encoding = env.get("PYTHONIOENCODING", "").partition(":")[0]
    if encoding and not _is_utf8(encoding):
        return (
            f"PYTHONIOENCODING={sanitize(encoding)[:40]} is not UTF-8, so only ASCII is written. "
            "TUI_LAB_ASCII=0 overrides that."
        )
    locales = {name: env.get(name, "") for name in ("LC_ALL", "LC_CTYPE", "LANG")}
    if locales["LC_CTYPE"] == "C.UTF-8" and locales["LANG"] in ("C", "POSIX") and sys.flags.utf8_mode:
        locales["LC_CTYPE"] = ""  # set by Python itself (PEP 538)
    name, value = next(((name, value) for name, value in locales.items() if value), ("", ""))
    if not value or _is_utf8(value):
        return ""
    return (
        f"{name}={sanitize(value)[:40]} is not a UTF-8 locale, so only ASCII is written. "
        "TUI_LAB_ASCII=0 overrides that."
    )


def _is_utf8(name: str) -> bool:
    return "utf8" in name.lower().replace("-", "").replace("_", "")


def export_to_env(settings: Settings, environment: MutableMapping[str, str] | None = None) -> None:
    """Sets the variables that other processes of the lab (runs, jobs, the playground) read. Variables of
    settings at their defaults are removed, since their values may be invalid."""
    env = os.environ if environment is None else environment
    for name, field_ in FIELDS.items():
        if not field_.metadata.get("exported"):
            continue
        value, variable = getattr(settings, name), field_.metadata["env"]
        if value in (None, "", field_.default):
            env.pop(variable, None)
        else:
            env[variable] = str(value)
