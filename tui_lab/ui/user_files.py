"""Checks of the user's own files: settings, keys, themes and presets. A fault in one of them is reported here
and never ends the lab."""

from __future__ import annotations

from collections.abc import Sequence

from tui_lab.core.paths import path_exists
from tui_lab.core.sanitize import sanitize
from tui_lab.doctor import NamedCheck
from tui_lab.doctor.check import DoctorCheck


def _check(name: str, fine: str, faults: Sequence[str], advice: str) -> DoctorCheck:
    if not faults:
        return DoctorCheck(name, "ok", fine)
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return DoctorCheck(name, "warn", f"{sanitize(faults[0])}{more}", advice)


def check_settings() -> DoctorCheck:
    """The settings file, the environment variables that override it, and the keys of actions."""
    from tui_lab.core import settings
    from tui_lab.ui.actions import keymap

    loaded = settings.load()
    keys = loaded.settings.keys
    faults = [*loaded.problems, *keymap.checked(keys, loaded.settings.keymap)[1], *keymap.old_names(keys)]
    path = settings.path()
    count = sum(source != "default" for source in loaded.sources.values())
    fine = f"{sanitize(str(path))}{'' if path_exists(path) else ' (does not exist)'}, {count} set"
    advice = f"correct {sanitize(str(path))}; `tui-lab settings` lists the values in force"
    return _check("settings", fine, faults, advice)


def check_themes() -> DoctorCheck:
    """Whether every theme can be read, and the theme of the settings exists."""
    from tui_lab.core import settings
    from tui_lab.core.paths import user_dir
    from tui_lab.ui.terminal import themes

    found, faults = themes.load_themes()
    wanted = settings.load().settings.theme
    if wanted and wanted not in found:
        faults = [themes.unknown_theme(wanted, sorted(found)), *faults]
    advice = f"fix or remove the file in {sanitize(str(user_dir('themes')))}, or choose another theme"
    return _check(
        "themes", f"{len(found)}: {', '.join(sanitize(name) for name in sorted(found))}", faults, advice
    )


def check_presets() -> DoctorCheck:
    """Whether every preset is valid."""
    from tui_lab.core.paths import user_dir
    from tui_lab.recipes.presets import list_presets

    presets, faults = list_presets()
    faults += [f"{preset.path.name}: {preset.problems[0].message}" for preset in presets if preset.problems]
    own = sum(preset.own for preset in presets)
    advice = f"fix or remove the file in {sanitize(str(user_dir('presets')))}"
    return _check("presets", f"{len(presets)}, {own} of your own", faults, advice)


#: Passed to the doctor by its callers.
CHECKS: tuple[NamedCheck, ...] = (
    ("settings", check_settings),
    ("themes", check_themes),
    ("presets", check_presets),
)
