"""``tui-lab settings``: lists every setting with its value and source, or changes some in the settings
file."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

from msgspec import Struct

from tui_lab.cli.options import EXIT_OK
from tui_lab.cli.output import Answer, as_json, note, table
from tui_lab.core import settings
from tui_lab.core.errors import LabError
from tui_lab.core.paths import path_exists
from tui_lab.core.sanitize import sanitize
from tui_lab.core.settings_file import template, write_many


class SettingRow(Struct, kw_only=True, frozen=True):
    """A setting. ``source``: default, file, environment or command line; ``environment``: its variable."""

    name: str
    value: object
    source: str
    environment: str
    help: str


class SettingList(Answer, tag="settings", kw_only=True, frozen=True):
    """Every setting (by name under ``settings`` too, as in earlier versions)."""

    file: str
    items: list[SettingRow]
    settings: dict[str, SettingRow]
    problems: list[str]


class SettingsWritten(Answer, tag="settings_written", kw_only=True, frozen=True):
    """The settings that were written to the file, and which of them something else overrides."""

    file: str
    items: list[str]
    notes: list[str]


def run(args: argparse.Namespace) -> int:
    """Runs the command; the exit code. Raises LabError."""
    if args.template:
        if args.changes or args.json:
            raise LabError(
                "--template takes no other arguments: `tui-lab settings --template > settings.toml`"
            )
        print(template(), end="")
        return EXIT_OK
    if args.prices:
        from tui_lab.forecast.card_prices import shipped

        print(shipped(), end="")
        return EXIT_OK
    if args.changes:
        _write(args.changes, args.loaded, args.json)
        return EXIT_OK
    return _list(args)


def _write(changes: list[str], loaded: Any, json_wanted: bool) -> None:

    wanted: dict[str, Any] = {}
    for text in changes:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not equals:
            raise LabError(f"{sanitize(text)}: write it as NAME=VALUE, such as theme=lab-light")
        if name.startswith("keys."):
            from tui_lab.ui.actions.keymap import current_id, with_current_ids

            keys = wanted.setdefault("keys", with_current_ids(loaded.settings.keys))
            keys.pop(action := current_id(name.removeprefix("keys.")), None)
            if value:
                keys[action] = value
        elif name == "keys":
            raise LabError("name the action too: keys.train.stop=ctrl+x")
        else:
            wanted[name] = value or None
    _check_keys(wanted.get("keys", {}), loaded.settings)
    _check_theme(wanted.get("theme"))
    file = write_many(wanted)
    notes = []
    for name in wanted:
        if (source := loaded.sources[name]) in ("environment", "command line"):
            variable = settings.FIELDS[name].metadata["env"]
            what = f"the environment ({variable})" if source == "environment" else f"the {source}"
            notes.append(f"{name}: {what} overrides the file")
    if json_wanted:
        as_json(SettingsWritten(file=str(file), items=list(wanted), notes=notes))
        return
    print(f"written to {sanitize(str(file))}")
    for text in notes:
        note(f"tui-lab: {text}")


def _check_keys(keys: dict[str, str], before: settings.Settings) -> None:
    """Raises LabError for a problem with the keys that did not exist before."""
    if keys == before.keys:
        return
    old = _key_problems(before)
    new_problems = _key_problems(replace(before, keys=keys))
    if new := [problem for problem in new_problems if problem not in old]:
        raise LabError(new[0])


def _key_problems(values: settings.Settings) -> list[str]:
    """A sentence for each key that is left out, and for each action that is named by its former id."""
    if not (keys := values.keys):
        return []
    from tui_lab.ui.actions.keymap import checked, old_names

    return [*checked(keys, values.keymap)[1], *old_names(keys)]


def _check_theme(name: str | None) -> None:
    """Raises LabError for a theme without a valid file."""
    if not name:
        return
    from tui_lab.ui.terminal.themes import load_themes, unknown_theme

    known, faults = load_themes()
    if name not in known:
        fault = next((each for each in faults if each.startswith(f"theme {name}.toml:")), "")
        raise LabError(fault or unknown_theme(name, known))


def _list(args: argparse.Namespace) -> int:

    loaded = args.loaded
    if args.json:
        rows = {
            name: SettingRow(
                name=name,
                value=getattr(loaded.settings, name),
                source=loaded.sources[name],
                environment=each.metadata["env"],
                help=each.metadata["help"],
            )
            for name, each in settings.FIELDS.items()
        }
        problems = [*loaded.problems, *_key_problems(loaded.settings)]
        file = str(settings.path())
        as_json(SettingList(file=file, items=list(rows.values()), settings=rows, problems=problems))
        return EXIT_OK
    place = settings.path()
    print(f"{sanitize(str(place))}{'' if path_exists(place) else ' (does not exist yet)'}\n")
    lines = []
    for name, each in settings.FIELDS.items():
        value = getattr(loaded.settings, name)
        text = f"{len(value)} changed" if name == "keys" else settings.format_value(value) or "–"
        lines.append([name, text, loaded.sources[name], each.metadata["env"], each.metadata["help"]])
    table(("setting", "value", "from", "environment", "description"), lines)
    for action, keys in loaded.settings.keys.items():
        print(f"  keys.{sanitize(action)} = {sanitize(keys)}")
    for problem in _key_problems(loaded.settings):
        note(f"tui-lab: {problem}")
    return EXIT_OK
