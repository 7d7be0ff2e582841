"""``tui-lab judge``: what a judge prefers, as a table or as one JSON object."""

from __future__ import annotations

import argparse
import math
import os
from pathlib import Path

import msgspec
from msgspec.structs import asdict

from tui_lab.cli.output import json_line, print_text, table
from tui_lab.cli.predict import answered
from tui_lab.core import format, input_files
from tui_lab.core.errors import LabError
from tui_lab.core.paths import expanded
from tui_lab.core.sanitize import sanitize
from tui_lab.evaluation.judging import JUDGE, MAX_TURNS, JudgePrompt, JudgeRequest, VotedPair
from tui_lab.evaluation.records import EvaluationRequest
from tui_lab.playground import vote_rows, votes
from tui_lab.retention.statistics import Interval
from tui_lab.retention.stored import JudgeResult
from tui_lab.runs import folder


class JudgeAnswer(JudgeResult, tag_field="kind", tag="judge", kw_only=True, frozen=True):
    """The answer of ``judge``."""

    v: int = 1


def run(args: argparse.Namespace) -> int:
    """Runs the command; the exit code. Raises LabError for invalid input."""
    found_run = folder.open_run(args.name, args.runs_dir)
    request = JudgeRequest(
        target=EvaluationRequest(
            run=str(found_run.path), allow_large=args.allow_large, runs_dir=str(args.runs_dir or "")
        ),
        judge=judge_of(args.judge),
        rubric=args.rubric,
        limit=args.limit,
        max_new_tokens=args.max_new_tokens,
        votes=_votes(
            Path(expanded(args.votes)) if args.votes else found_run.path / votes.FILE_NAME, args.votes
        ),
    )
    if args.prompts:
        request = msgspec.structs.replace(
            request, prompts=read_prompts(args.prompts), name=Path(args.prompts).name
        )
    request = request.validated()
    from tui_lab.evaluation.judge import judge

    found = answered(lambda on_progress, cancelled: judge(request, on_progress, cancelled))
    if args.json:
        json_line(JudgeAnswer(**asdict(found)))
        return 0
    _print(found)
    return 0


def judge_of(asked: str) -> str:
    """The judge of an option, else that of the settings. Raises LabError where neither names one."""
    if found := asked or os.environ.get(JUDGE, ""):
        return found
    raise LabError("no judge was named: --judge MODEL, --judge endpoint, or the setting judge")


def read_prompts(source: str) -> tuple[JudgePrompt, ...]:
    """The prompts of a file: rows with ``turns``, else as those of a blind comparison. Raises LabError."""
    path = expanded(Path(source))
    found = []
    if path.suffix.lower() == ".jsonl":
        try:
            lines = input_files.read_text(path).splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise LabError(f"{sanitize(source)} cannot be read ({error})") from None
        for number, line in enumerate(lines, 1):
            row = input_files.parse_json(line) if line.strip() else None
            if not isinstance(row, dict) or "turns" not in row:
                continue
            turns = row["turns"]
            if (
                not isinstance(turns, list)
                or not 1 <= len(turns) <= MAX_TURNS
                or not all(isinstance(turn, str) and turn.strip() for turn in turns)
            ):
                raise LabError(f"{sanitize(source)}, line {number}: turns must be 1 to {MAX_TURNS} texts")
            found.append(JudgePrompt(tuple(turns), str(row.get("kind", ""))[:40]))
    return tuple(found) or tuple(JudgePrompt((text,)) for text in votes.read_prompts(source))


def _votes(path: Path, asked: str) -> tuple[VotedPair, ...]:
    if not path.is_file():
        if asked:
            raise LabError(f"{sanitize(asked)} is no file of votes")
        return ()
    try:
        return tuple(VotedPair(*pair) for pair in vote_rows.pairs_of(path))
    except OSError as error:
        raise LabError(f"{sanitize(str(path))} cannot be read ({error.strerror})") from None


def _print(found: JudgeResult) -> None:
    unread = f", {found.unreadable} not readable" if found.unreadable else ""
    print_text(
        f"{sanitize(found.prompts)}: {format.plural(found.pairs, 'pair')}{unread} · judge {found.judge}"
    )
    rows = [
        ("wins, ties, losses of the tuned model", f"{found.wins}, {found.ties}, {found.losses}"),
        ("win rate by the judge alone", _interval(found.rate)),
        ("the same at equal length", _interval(found.equal_length)),
    ]
    if found.calibrated is not None:
        rows.append((f"calibrated on {found.votes} votes", _interval(found.calibrated)))
        rows.append(("votes that the judge shares", format.percent(found.agreement)))
    rows.append(("same choice in both orders", format.percent(found.consistent)))
    if not math.isnan(found.first.value):  # not only ties
        rows.append(("answer that stands first is chosen", _interval(found.first)))
    rows += [(f"win rate, {kind}", format.decimal(rate, 2)) for kind, rate in found.kinds.items() if kind]
    table(("figure", "value"), rows)
    print_text(found.sentence)


def _interval(found: Interval) -> str:
    return format.interval(found.value, found.low, found.high)
