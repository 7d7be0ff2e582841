"""``tui-lab votes``: the votes of blind comparisons, and their export as preference data."""

from __future__ import annotations

import argparse
from pathlib import Path

from msgspec import Struct

from tui_lab.cli.options import EXIT_OK
from tui_lab.cli.output import Answer, as_json, note, table
from tui_lab.core.errors import LabError
from tui_lab.core.format import plural
from tui_lab.core.paths import expanded
from tui_lab.core.sanitize import sanitize
from tui_lab.playground import vote_rows
from tui_lab.playground.votes import FILE_NAME
from tui_lab.runs import folder

#: Pairs from which a preference run is worth its time.
FEW_PAIRS = 50


class VoteFile(Struct, frozen=True):
    """A file of votes: the run that was compared ("" for none), and how many pairs its votes give; ``edited``
    of them are answers that were edited."""

    run: str
    path: str
    pairs: int
    edited: int = 0


class VoteList(Answer, tag="votes", kw_only=True, frozen=True):
    """The answer of ``votes``. ``written``: the file of pairs, "" without ``--out``."""

    items: list[VoteFile]
    pairs: int
    written: str


def run(args: argparse.Namespace) -> int:
    """Runs the command; the exit code. Raises LabError."""
    files = _files(args)
    found = [(path, vote_rows.votes_of(path)) for path in files]
    rows = [vote.row for _, each in found for vote in each]
    target: Path | None = expanded(args.out) if args.out else None
    if target is not None:
        if not rows:
            raise LabError("no vote has decided between two answers yet: `v` on Playground asks for votes")
        if target.exists() and not args.force:
            raise LabError(f"{sanitize(str(target))} exists already; --force replaces it")
        try:
            vote_rows.write_rows(rows, target)
        except OSError as error:
            shown = sanitize(str(target))
            raise LabError(f"{shown} cannot be written ({error.strerror}); name another --out") from None
    items = [
        VoteFile(vote_rows.run_of(path), str(path), len(each), sum(vote.edited for vote in each))
        for path, each in found
    ]
    if args.json:
        as_json(VoteList(items=items, pairs=len(rows), written=str(target or "")))
        return EXIT_OK
    if not items:
        note("there are no votes yet: `v` on Playground compares two lanes blindly")
        return EXIT_OK
    rows_shown = [(i.run or "-", f"{i.pairs:,}", f"{i.edited:,}", i.path) for i in items]
    table(("run", "pairs", "edited", "file"), rows_shown, right=(1, 2))
    if target is not None:
        print(f"{plural(len(rows), 'pair')} written to {sanitize(str(target))}; train on them with")
        print(f"  tui-lab train --preset dpo --data {sanitize(str(target))}")
        if len(rows) < FEW_PAIRS:
            note(f"{len(rows)} pairs are few: from about {FEW_PAIRS} on a preference shows")
    return EXIT_OK


def _files(args: argparse.Namespace) -> list[Path]:
    if not args.run:
        return vote_rows.vote_files(args.runs_dir)
    path = folder.open_run(args.run, args.runs_dir).path / FILE_NAME
    return [path] if path.is_file() else []
