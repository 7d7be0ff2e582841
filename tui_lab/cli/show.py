"""The commands that list: models, presets, runs, locate."""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from msgspec import Struct, field

from tui_lab.cli.options import EXIT_OK
from tui_lab.cli.output import Answer, as_json, note, print_text, table
from tui_lab.cli.results import RunsAnswer, listed_run
from tui_lab.core import format, input_files
from tui_lab.core.errors import LabError
from tui_lab.core.paths import cache_dir, config_dir, data_dir, path_exists, resource_dir, state_dir, user_dir
from tui_lab.core.sanitize import sanitize
from tui_lab.core.settings import path as settings_file
from tui_lab.models import catalog
from tui_lab.models.shapes import Shape
from tui_lab.models.stored_forms import StoredForm
from tui_lab.pocket import MODEL_DIR
from tui_lab.recipes.fields import FieldInfo
from tui_lab.recipes.presets import Preset, list_presets, load_preset
from tui_lab.recipes.recipe import FIELDS
from tui_lab.runs import folder
from tui_lab.runs.event_parts import Acquisition
from tui_lab.runs.folder import runs_dir as default_runs_dir
from tui_lab.runs.queue import queue
from tui_lab.runs.state import Watcher
from tui_lab.ui.views.states import state_text

# --------------------------------------------------------------------------------------------------
# models and presets


class ModelRow(Struct, kw_only=True, frozen=True):
    """A model and its facts; null is unknown. ``context``: tokens; ``refused``: why the lab does not tune it;
    ``needs_flag``: for its size alone, --allow-large permits it; ``unverified``: facts that were not read at
    their source."""

    id: str
    label: str
    where: catalog.Where
    path: str | None
    on_disk: bool
    model_type: str | None
    shape: Shape | None
    parameters: int | None
    context: int | None
    licence: str | None
    gated: bool | None
    chat_template: bool | None
    suggested_targets: str
    source: str
    unverified: tuple[str, ...]
    aliases: tuple[str, ...]
    refused: str | None
    needs_flag: bool
    form: StoredForm


class ModelList(Answer, tag="models", kw_only=True, frozen=True):
    """The models that can be fine-tuned; with --all those that are refused too."""

    items: list[ModelRow]


class PresetAnswer(Answer, tag="preset", kw_only=True, frozen=True):
    """A preset. ``own``: made by the user; ``values``: its recipe keys; ``pocket``: those that differ for the
    bundled model; ``problems``: empty when it is valid."""

    name: str
    title: str
    description: str
    card: str
    path: str
    own: bool
    values: dict[str, object]
    pocket: dict[str, object]
    problems: list[str]


class PresetList(Answer, tag="presets", kw_only=True, frozen=True):
    """All presets (under ``presets`` too, as in earlier versions). ``messages``: files that are not read."""

    items: list[PresetAnswer]
    presets: list[PresetAnswer]
    messages: list[str]


class KeyRow(Struct, kw_only=True, frozen=True):
    """A recipe key: its kind (choice, int, float, bool, text), range and meaning. Limits are inclusive unless
    ``exclusive_minimum`` or ``exclusive_maximum``."""

    name: str
    label: str
    help: str
    group: str
    kind: str
    default: object
    choices: tuple[str, ...]
    minimum: float | None
    maximum: float | None
    exclusive_minimum: bool
    exclusive_maximum: bool
    allowed: str


class KeyList(Answer, tag="keys", kw_only=True, frozen=True):
    """Every recipe key."""

    items: list[KeyRow]


def models(args: argparse.Namespace) -> int:
    """``tui-lab models``."""
    entries = [entry for entry in catalog.load() if args.all or not entry.refused]
    if args.json:
        as_json(ModelList(items=[_model_row(entry) for entry in entries]))
        return EXIT_OK
    rows = []
    for entry in entries:
        notes = [entry.refused] if entry.refused else []
        if not entry.refused:
            notes += ["on disk"] if entry.on_disk else []
            notes += ["gated"] if entry.gated and not entry.on_disk else []
            notes += ["no chat template"] if entry.chat_template is False else []
        context = f"{entry.context:,}" if entry.context else "?"
        rows.append(
            [
                entry.id,
                format.count(entry.parameters),
                str(entry.layers or "?"),
                context,
                entry.licence or "?",
                ", ".join(notes),
            ]
        )
    table(("model", "parameters", "layers", "context", "licence", "notes"), rows, right=(1, 2, 3))
    if not args.all:
        hint = "a local folder or a hub id works too; --all also lists refused models with the reason"
        note(hint)
    return EXIT_OK


def _model_row(entry: catalog.Entry) -> ModelRow:
    facts = {name: getattr(entry, name) for name in ModelRow.__struct_fields__}
    shape = (
        None if entry.shape is None else replace(entry.shape)
    )  # with its defaults, which are left out else
    return ModelRow(**{**facts, "shape": shape, "path": None if entry.path is None else str(entry.path)})


def presets(args: argparse.Namespace) -> int:
    """``tui-lab presets``."""
    if args.keys:
        return _keys(args.json)
    if args.name:
        return _one_preset(args.name, args.json)

    found, messages = list_presets()
    if args.json:
        listed = [_preset_answer(preset) for preset in found]
        as_json(PresetList(items=listed, presets=listed, messages=messages))
    else:
        rows = []
        for preset in found:
            about = preset.description
            if preset.problems:
                about = f"has mistakes: `tui-lab presets {preset.name}` names them"
            rows.append([preset.name, preset.card, "own" if preset.own else "", about])
        table(("preset", "card", "", "for"), rows)
        for message in messages:
            note(f"tui-lab: {sanitize(message)}")
    return EXIT_OK


def _preset_answer(preset: Preset) -> PresetAnswer:
    return PresetAnswer(
        name=preset.name,
        title=preset.title,
        description=preset.description,
        card=preset.card,
        path=str(preset.path),
        own=preset.own,
        values=preset.values,
        pocket=preset.pocket,
        problems=[problem.message for problem in preset.problems],
    )


def _one_preset(name: str, json_wanted: bool) -> int:

    preset = load_preset(name)
    if json_wanted:
        as_json(_preset_answer(preset))
    else:
        print(f"# {preset.path}")
        print(sanitize(input_files.read_text(preset.path), keep_newlines=True).rstrip())
    return EXIT_OK


def _key_row(info: FieldInfo) -> KeyRow:
    facts = {name: getattr(info, name) for name in KeyRow.__struct_fields__ if name != "allowed"}
    return KeyRow(**facts, allowed=info.allowed())


def _keys(json_wanted: bool) -> int:

    if json_wanted:
        as_json(KeyList(items=[_key_row(info) for info in FIELDS.values()]))
        return EXIT_OK
    group = ""
    for info in FIELDS.values():
        if info.group != group:
            print(f"{'' if not group else chr(10)}[{info.group}]")
            group = info.group
        default = json.dumps(info.default) if info.default != "" else '""'
        print(f"{info.name} = {default}    # {info.allowed()}")
        print_text(f"    {info.help}")
    return EXIT_OK


# --------------------------------------------------------------------------------------------------
# runs, folders, machine


def runs(args: argparse.Namespace) -> int:
    """``tui-lab runs``."""
    directory = args.runs_dir or folder.runs_dir()
    every = folder.list_runs(directory)
    found = every[: args.limit or None]
    watchers = [(run, Watcher(run)) for run in found]
    for _, watcher in watchers:
        watcher.read_all()
    results = [listed_run(run, watcher) for run, watcher in watchers]
    if args.json:
        as_json(RunsAnswer(items=results))
        return EXIT_OK
    try:
        if text := queue.describe(directory):
            note(f"{text}; `tui-lab queue list` shows them")
    except LabError as error:  # the runs are listed all the same
        note(str(error))
    if not results:
        note(f"there are no runs in {directory} yet; `tui-lab train` starts one")
        return EXIT_OK
    rows = []
    for result in results:
        total = f"/{result.total_steps}" if result.total_steps else ""
        gained = result.acquisition
        score = (
            f"{format.significant(gained.start, 2)} → {format.significant(gained.end, 2)}"
            if gained != Acquisition()
            else ""
        )
        began = result.started_at
        when = time.strftime("%m-%d %H:%M", time.localtime(began)) if began else ""
        rows.append(
            [
                result.run + (f" ({result.name})" if result.name else ""),
                state_text(result.state),
                f"{result.step}{total}",
                format.significant(result.train_loss, 3),
                format.significant(result.validation_loss, 3),
                score,
                when,
            ]
        )
    table(("run", "state", "step", "loss", "val loss", "acquisition", "started"), rows, right=(2, 3, 4))
    if len(every) > len(found):
        note(f"{len(every) - len(found)} older runs are not listed; --limit 0 lists all")
    return EXIT_OK


class FolderRow(Struct, kw_only=True, frozen=True):
    """A folder or file of the lab."""

    name: str
    path: str
    exists: bool


class FolderList(Answer, tag="folders", kw_only=True, frozen=True):
    """Where everything is stored; under each name too, as in earlier versions."""

    items: list[FolderRow]
    config: FolderRow
    settings: FolderRow
    presets: FolderRow
    own_presets: FolderRow = field(name="own presets")
    themes: FolderRow
    own_themes: FolderRow = field(name="own themes")
    runs: FolderRow
    data: FolderRow
    state: FolderRow
    cache: FolderRow
    hub_cache: FolderRow = field(name="hub cache")
    pocket_model: FolderRow = field(name="pocket model")


def lab_folders(runs_dir: Path | None) -> dict[str, Path]:
    """Every folder that the lab reads or writes, by name."""

    return {
        "config": config_dir(),
        "settings": settings_file(),
        "presets": resource_dir("presets"),
        "own presets": user_dir("presets"),
        "themes": resource_dir("themes"),
        "own themes": user_dir("themes"),
        "runs": runs_dir or default_runs_dir(),
        "data": data_dir(),
        "state": state_dir(),
        "cache": cache_dir(),
        "hub cache": catalog.hub_cache_dir(),
        "pocket model": MODEL_DIR,
    }


def locate(args: argparse.Namespace) -> int:
    """``tui-lab locate``."""
    found = lab_folders(args.runs_dir)
    if args.json:
        rows = [
            FolderRow(name=name, path=str(path), exists=path_exists(path)) for name, path in found.items()
        ]
        by_name: dict[str, Any] = {row.name.replace(" ", "_"): row for row in rows}
        as_json(FolderList(items=rows, **by_name))
        return EXIT_OK
    table(
        ("name", "path", ""),
        [
            [name, str(path), "" if path_exists(path) else "does not exist yet"]
            for name, path in found.items()
        ],
    )
    return EXIT_OK
