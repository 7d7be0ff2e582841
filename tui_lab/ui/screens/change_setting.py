"""Changes one setting from within the lab: writes the user's file, applies what can be applied at once, and
returns a sentence on what was done and on what overrides the file at the next start."""

from __future__ import annotations

import os
from dataclasses import replace

from tui_lab.core import settings, settings_file
from tui_lab.ui.actions import explanations
from tui_lab.ui.lab import Lab

NOW = "takes effect at once"
NEXT_RUN = "takes effect with the next run"
NEXT_START = "takes effect at the next start of the lab"
#: When a change of the setting shows.
EFFECT = {
    "theme": NOW,
    "plots": NOW,
    "ascii": NEXT_START,
    "color": NEXT_START,
    "slow_link": NOW,
    "mouse": NEXT_START,
    "pane": NEXT_START,
    "runs_dir": NEXT_START,
    "price_per_hour": "takes effect with the next forecast",
    "currency": "takes effect with the next forecast",
    "grid_g_co2_per_kwh": "takes effect with the next forecast",
    "machine_watts": "takes effect with the next search",
    "playground_idle_s": "takes effect when the playground's process starts next",
    "notify_command": NEXT_RUN,
    "notify_webhook": NEXT_RUN,
    "judge": "takes effect with the next judgement",
    "classifier": "takes effect with the next measurement",
    "judge_url": "takes effect with the next judgement",
    "judge_model": "takes effect with the next judgement",
    "notify_terminal": NEXT_RUN,
    "keymap": NOW,
    "keys": NOW,
}


def label(name: str) -> str:
    """What people call a setting."""
    return explanations.read()[f"settings.{name}"].title


def overriding_source(lab: Lab, name: str) -> str:
    """What overrides the settings file for this setting, as text; "" where nothing does."""
    source = lab.sources.get(name)
    if source == "command line":
        return "the command line of this start"
    if source == "environment":
        variable = settings.FIELDS[name].metadata["env"]
        return variable if os.environ.get(variable) or name != "color" else "NO_COLOR"
    return ""


def change(lab: Lab, name: str, value: object) -> str:
    """Sets ``name`` (None: to its default) in the file and in this lab; returns a sentence on what was done.
    Raises LabError, and then nothing has changed."""
    settings_file.write(name, value)
    new = settings.default_of(name) if value is None else settings.checked(name, value)
    lab.settings = replace(lab.settings, **{name: new})
    _apply(lab, name, new)
    override = overriding_source(lab, name)
    if not override:
        lab.sources[name] = "default" if value is None else "file"
    shown = "its default" if value is None else settings.format_value(new)
    what = f"{label(name)} is now {shown}"
    if name == "keys":
        what = "all keys are reset" if not new else f"{len(new)} actions have keys of your own"
    text = f"{what}. That {EFFECT[name]}."
    if override:
        text += f" {override} overrides the file whenever it is set."
    return text


def _apply(lab: Lab, name: str, value: object) -> None:
    if name == "theme":
        lab.appearance.show_wanted_theme()
    elif name == "plots":
        lab.forget_marker()
    elif name == "slow_link":
        lab.slow_link = bool(value)
    elif name in ("keymap", "keys"):
        lab.use_keys()
    elif EFFECT[name] != NEXT_START:  # read from the environment by whoever needs it
        variable = settings.FIELDS[name].metadata["env"]
        if value in (None, ""):
            os.environ.pop(variable, None)
        else:
            os.environ[variable] = str(value)
