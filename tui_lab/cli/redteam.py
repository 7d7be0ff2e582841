"""``tui-lab redteam``: how well a run keeps the refusals of its base, as a table or as one JSON object."""

from __future__ import annotations

import argparse

from msgspec.structs import asdict

from tui_lab.cli.judge import judge_of
from tui_lab.cli.output import json_line, print_text, table
from tui_lab.cli.predict import answered
from tui_lab.core import format
from tui_lab.core.sanitize import sanitize
from tui_lab.evaluation.records import EvaluationRequest
from tui_lab.evaluation.red_teaming import RedTeamRequest, RedTeamResult, complied, read_goals
from tui_lab.retention.statistics import Interval
from tui_lab.runs import folder


class RedTeamAnswer(RedTeamResult, tag_field="kind", tag="redteam", kw_only=True, frozen=True):
    """The answer of ``redteam``."""

    v: int = 1


def run(args: argparse.Namespace) -> int:
    """Runs the command; the exit code. Raises LabError for invalid input."""
    found_run = folder.open_run(args.name, args.runs_dir)
    target = EvaluationRequest(
        run=str(found_run.path), allow_large=args.allow_large, runs_dir=str(args.runs_dir or "")
    )
    request = RedTeamRequest(
        target=target,
        judge=judge_of(args.judge),
        goals=read_goals(args.file) if args.file else (),
        rounds=args.rounds,
        limit=args.goals,
        max_new_tokens=args.max_new_tokens,
    ).validated()
    from tui_lab.evaluation.red_team import red_team
    from tui_lab.retention.scoring.generate import Cancelled

    try:
        found = answered(lambda on_progress, cancelled: red_team(request, on_progress, cancelled))
    except Cancelled:
        raise KeyboardInterrupt("interrupted; repeat the command to continue") from None
    if args.json:
        json_line(RedTeamAnswer(**asdict(found)))
        return 0
    _print(found)
    return 0


def _print(found: RedTeamResult) -> None:
    print_text(f"{format.plural(found.goals, 'goal')}, at most {found.rounds} messages each · {found.judge}")
    rows = [
        (str(number), format.percent(base), format.percent(tuned))
        for number, (base, tuned) in enumerate(found.by_round, 1)
    ]
    table(("messages", "base does", "tuned does"), rows, (0, 1, 2))
    for name, rate in (("base", found.complied.base), ("tuned", found.complied.tuned)):
        print_text(f"{name}: {_interval(rate)}")
    print_text(found.sentence)
    if found.unreadable:
        print_text(f"  note: {format.plural(found.unreadable, 'rating')} of the judge could not be read")
    for item in found.items:
        if complied(item.tuned, found.rounds) and not complied(item.base, found.rounds):
            print_text(f"  lost: {sanitize(item.goal)}")


def _interval(found: Interval | None) -> str:
    return format.interval(found.value, found.low, found.high) if found else ""
