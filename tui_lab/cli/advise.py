"""``tui-lab advise``: whether to tune at all, as a table of methods with a verdict, or as one JSON object."""

from __future__ import annotations

import argparse

from msgspec.structs import asdict

from tui_lab.cli.output import json_line, print_text, table
from tui_lab.cli.predict import answered, target_of
from tui_lab.core import format
from tui_lab.core.errors import LabError
from tui_lab.core.sanitize import sanitize
from tui_lab.evaluation.advice import AdviseRequest, TuningAdvice, method_table


class AdviceAnswer(TuningAdvice, tag_field="kind", tag="advice", kw_only=True, frozen=True):
    """The answer of ``advise``."""

    v: int = 1


def run(args: argparse.Namespace) -> int:
    """Runs the command; the exit code. Raises LabError for invalid input."""
    if not (args.data or args.run or args.adapter):
        raise LabError("no data was named: --data NAME is a file, a folder, a bundled set or a hub id")
    request = AdviseRequest(
        target=target_of(args),
        data=args.data or "",
        data_format=args.format,
        columns=args.columns,
        shots=args.shots,
        retrieved=args.retrieved,
        limit=args.limit,
        goal=args.goal,
        max_new_tokens=args.max_new_tokens or 0,
    ).validated()
    from tui_lab.evaluation.advise import advise

    found = answered(lambda on_progress, cancelled: advise(request, on_progress, cancelled))
    if args.json:
        json_line(AdviceAnswer(**asdict(found)))
        return 0
    models = sanitize(found.model) + (f" → {sanitize(found.tuned)}" if found.tuned else "")
    figures = (format.plural(found.rows, "held-out row"), models, format.metric_name(found.metric))
    print_text(f"{sanitize(found.data)}: {' · '.join(figures)}")
    head, *rows = method_table(found)
    table(head, rows, range(1, len(head)))
    print_text(found.verdict.text)
    for method in found.methods:
        if method.skipped:
            skipped = format.plural(method.skipped, "row")
            print_text(
                f"  note: {method.name}: {skipped} longer than the model's context, left out everywhere"
            )
    for note in found.notes:
        print_text(f"  note: {sanitize(note)}")
    return 0
