"""``tui-lab runs delete``, ``restore`` and ``trash``."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence

from msgspec import Struct

from tui_lab.cli.options import EXIT_FAILED, EXIT_OK
from tui_lab.cli.output import Answer, as_json, note, table
from tui_lab.core import format
from tui_lab.core.errors import LabError
from tui_lab.core.sanitize import sanitize
from tui_lab.runs import folder, notes, removal


class RunsMoved(Answer, tag="runs_moved", kw_only=True, frozen=True):
    """The answer of ``runs delete`` and ``runs restore``: the ids of the runs that were moved, and a sentence
    for each that was not."""

    items: list[str]
    problems: list[str]


class DeletedRun(Struct, frozen=True):
    """A run in the trash. ``deleted_at``: seconds since 1970."""

    run: str
    name: str
    deleted_at: int
    bytes: int


class TrashList(Answer, tag="trash", kw_only=True, frozen=True):
    """The answer of ``runs trash``, the run deleted last first."""

    items: list[DeletedRun]


class TrashEmptied(Answer, tag="trash_emptied", kw_only=True, frozen=True):
    """The answer of ``runs trash --empty``: how many runs were removed from the disk."""

    removed: int


def delete(args: argparse.Namespace) -> int:
    """``tui-lab runs delete``."""

    def move(name: str) -> str:
        run = folder.open_run(name, args.runs_dir)
        removal.delete(run)
        return run.id

    return _each(args, move, "deleted", "`tui-lab runs restore` takes it back, for 30 days")


def restore(args: argparse.Namespace) -> int:
    """``tui-lab runs restore``."""

    def move(name: str) -> str:
        return removal.restore(removal.find(name, args.runs_dir)).id

    return _each(args, move, "restored", "")


def _each(args: argparse.Namespace, move: Callable[[str], str], done: str, hint: str) -> int:
    """Moves every run that is named. One that cannot be moved does not keep the others from it."""
    moved: list[str] = []
    problems: list[str] = []
    for name in args.names:
        try:
            moved.append(move(name))
        except LabError as error:
            problems.append(str(error))
    if args.json:
        as_json(RunsMoved(items=moved, problems=problems))
    else:
        for run_id in moved:
            print(f"{done}: {run_id}")
        if moved and hint:
            note(hint)
        for problem in problems:
            note(f"tui-lab: {sanitize(problem)}")
    return EXIT_FAILED if problems else EXIT_OK


def trash(args: argparse.Namespace) -> int:
    """``tui-lab runs trash``."""
    if args.empty:
        removed = removal.empty_trash(args.runs_dir, older_than_days=None)
        if args.json:
            as_json(TrashEmptied(removed=removed))
        else:
            print(f"{format.plural(removed, 'run')} removed from the disk")
        return EXIT_OK
    found = removal.trashed(args.runs_dir)
    if args.json:
        as_json(TrashList(items=[_record(each) for each in found]))
    elif found:
        table(("run", "name", "deleted", "size"), [_row(each) for each in found], right=(3,))
    else:
        note("the trash is empty")
    return EXIT_OK


def _record(found: removal.TrashedRun) -> DeletedRun:
    name = notes.read(folder.Run(found.path)).name
    return DeletedRun(found.id, name, found.at, found.size_bytes)


def _row(found: removal.TrashedRun) -> Sequence[str]:
    when = time.strftime("%m-%d %H:%M", time.localtime(found.at))
    return found.id, notes.read(folder.Run(found.path)).name, when, format.size(found.size_bytes)
