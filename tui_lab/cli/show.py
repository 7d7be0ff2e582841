"""The read-only commands: models, presets, data preview, runs, locate, doctor."""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from msgspec import to_builtins

from tui_lab import doctor as checks
from tui_lab.cli import jobs
from tui_lab.cli.options import EXIT_FAILED, EXIT_OK
from tui_lab.cli.output import as_json, columns, has_colours, note, table
from tui_lab.cli.results import listed_run, result_of
from tui_lab.core import format, input_files
from tui_lab.core.errors import LabError
from tui_lab.core.paths import cache_dir, config_dir, data_dir, path_exists, resource_dir, state_dir, user_dir
from tui_lab.core.records import jsonable
from tui_lab.core.sanitize import sanitize
from tui_lab.core.settings import path as settings_file
from tui_lab.data.preview import PreviewAnswer, PreviewFacts, PreviewRequest, PreviewRow
from tui_lab.models import catalog
from tui_lab.pocket import MODEL_DIR
from tui_lab.recipes.presets import list_presets, load_preset
from tui_lab.recipes.recipe import FIELDS
from tui_lab.runs import folder
from tui_lab.runs.event_parts import Acquisition
from tui_lab.runs.folder import runs_dir as default_runs_dir
from tui_lab.runs.queue import queue
from tui_lab.runs.state import Watcher

# --------------------------------------------------------------------------------------------------
# models and presets


def models(args: argparse.Namespace) -> int:
    """``tui-lab models``."""
    entries = [entry for entry in catalog.load() if args.all or not entry.refused]
    if args.json:
        as_json([asdict(entry) for entry in entries])
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


def presets(args: argparse.Namespace) -> int:
    """``tui-lab presets``."""
    if args.keys:
        return _keys(args.json)
    if args.name:
        return _one_preset(args.name, args.json)

    found, messages = list_presets()
    if args.json:
        as_json({"presets": [_preset_json(preset) for preset in found], "messages": messages})
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


def _preset_json(preset: Any) -> dict[str, Any]:
    return {
        "name": preset.name,
        "title": preset.title,
        "description": preset.description,
        "card": preset.card,
        "path": str(preset.path),
        "own": preset.own,
        "values": preset.values,
        "pocket": preset.pocket,
        "problems": [problem.message for problem in preset.problems],
    }


def _one_preset(name: str, json_wanted: bool) -> int:

    preset = load_preset(name)
    if json_wanted:
        as_json(_preset_json(preset))
    else:
        print(f"# {preset.path}")
        print(sanitize(input_files.read_text(preset.path), keep_newlines=True).rstrip())
    return EXIT_OK


def _keys(json_wanted: bool) -> int:

    if json_wanted:
        as_json([{**asdict(info), "allowed": info.allowed()} for info in FIELDS.values()])
        return EXIT_OK
    group = ""
    for info in FIELDS.values():
        if info.group != group:
            print(f"{'' if not group else chr(10)}[{info.group}]")
            group = info.group
        default = json.dumps(info.default) if info.default != "" else '""'
        print(f"{info.name} = {default}    # {info.allowed()}")
        print(f"    {info.help}")
    return EXIT_OK


# --------------------------------------------------------------------------------------------------
# data


def data_preview(args: argparse.Namespace) -> int:
    """``tui-lab data preview``: the answer of the preview job as text or JSON."""
    request = PreviewRequest(
        data=args.data,
        model=args.model,
        data_format=args.format,
        columns=args.columns,
        rows=args.rows,
        max_length=args.max_length,
        chat_template=args.chat_template,
        thinking=args.thinking,
    )
    answer = jobs.run_job("tui_lab.data.preview", request, answer=PreviewAnswer)
    if args.json:
        as_json({"kind": "result", **jsonable(answer)})
        return EXIT_OK
    facts = answer.facts
    print(f"{sanitize(answer.data)}: {sanitize(answer.reason)}")
    print(f"  {_counts(facts)}")
    if facts.mean_tokens:
        lengths = f"{facts.mean_tokens} tokens a row, the longest {facts.longest_tokens}"
        print(f"  {lengths}; {facts.trained_tokens:,} of {facts.train_tokens:,} tokens are trained")
    for column, use in answer.columns.items():
        print(f"  column {sanitize(column)}: {use}")
    for column in answer.unused:
        print(f"  column {sanitize(column)}: not used")
    template = sanitize(facts.template_source)
    print(f"  {facts.trained_share:.0%} of the tokens are trained; template: {template}")
    for warning in answer.warnings:
        print(f"  warning: {sanitize(warning)}")
    for row in answer.rows:
        _show_row(row)
    return EXIT_OK


def _counts(facts: PreviewFacts) -> str:
    """What the run does with the rows."""
    read = f"{facts.rows_read:,} rows read"
    if facts.estimated:
        read = f"about {read}, estimated from the first {facts.sampled_rows:,}"
    counts = {
        "to train on": facts.train_rows,
        "held out": facts.held_out_rows,
        "unusable": facts.rows_bad,
        "empty": facts.rows_empty,
        "removed as repeated or leaked": facts.removed,
        "cut": facts.cut,
        "trained in windows": facts.windowed,
        "left out as too long": facts.too_long,
        "refused by the template": facts.refused_by_template,
        "without anything to train": facts.fully_masked,
    }
    return f"{read}: " + ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)


def _show_row(row: PreviewRow) -> None:
    """Prints a row with the trained tokens in colour, or between ⟦ and ⟧ where colours are not available."""
    print(f"\n{sanitize(row.place)}: ", end="")
    if row.error:
        print(f"left out: {sanitize(row.error)}")
        return
    cut = ", cut to the length" if row.truncated else ""
    print(f"{row.tokens} tokens, {row.trained} trained{cut}")
    opening, closing = ("\033[32m", "\033[0m") if has_colours(sys.stdout) else ("⟦", "⟧")
    text, was = "", False
    for piece, trained in row.pieces:
        if trained != was:
            text, was = text + (opening if trained else closing), trained
        text += sanitize(piece, keep_newlines=True)
    print(text + (closing if was else ""))


# --------------------------------------------------------------------------------------------------
# runs, folders, machine


def runs(args: argparse.Namespace) -> int:
    """``tui-lab runs``."""
    directory = args.runs_dir or folder.runs_dir()
    every = folder.list_runs(directory)
    found = every[: args.limit or None]
    watchers = [(run, Watcher(run)) for run in found]
    results = []
    for run, watcher in watchers:
        watcher.read_all()
        results.append((result_of(run, watcher, watcher.status), listed_run(run, watcher)))
    if args.json:
        as_json([{**to_builtins(result), **to_builtins(listed)} for result, listed in results])
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
    for result, listed in results:
        total = f"/{result.total_steps}" if result.total_steps else ""
        gained = result.acquisition
        score = (
            f"{format.significant(gained.start, 2)} → {format.significant(gained.end, 2)}"
            if gained != Acquisition()
            else ""
        )
        began = listed.started_at
        when = time.strftime("%m-%d %H:%M", time.localtime(began)) if began else ""
        rows.append(
            [
                result.run + (f" ({listed.name})" if listed.name else ""),
                result.state,
                f"{result.step}{total}",
                format.significant(result.train_loss, 3),
                format.significant(result.validation_loss, 3),
                score,
                when,
            ]
        )
    table(("run", "state", "step", "loss", "val loss", "score", "started"), rows, right=(2, 3, 4))
    if len(every) > len(found):
        note(f"{len(every) - len(found)} older runs are not listed; --limit 0 lists all")
    return EXIT_OK


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
        as_json({name: {"path": str(path), "exists": path_exists(path)} for name, path in found.items()})
        return EXIT_OK
    table(
        ("name", "path", ""),
        [
            [name, str(path), "" if path_exists(path) else "does not exist yet"]
            for name, path in found.items()
        ],
    )
    return EXIT_OK


def doctor(args: argparse.Namespace) -> int:
    """``tui-lab doctor``: prints each finding at once."""
    from tui_lab.ui.user_files import CHECKS

    found = []
    width = columns(sys.stdout) if sys.stdout.isatty() else 0
    for check in checks.iter_checks(args.online, args.runs_dir, CHECKS):
        found.append(check)
        if not args.json:
            print(checks.line(check, width), flush=True)
    print(checks.to_json(found) if args.json else f"\n{checks.summary(found, width)}")
    return EXIT_FAILED if checks.exit_code(found) else EXIT_OK
