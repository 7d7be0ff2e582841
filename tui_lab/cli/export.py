"""``tui-lab export``: runs the export job and prints its result."""

from __future__ import annotations

import argparse

from msgspec.structs import asdict

from tui_lab.cli import jobs
from tui_lab.cli.output import as_json, print_text
from tui_lab.export import records


class ExportAnswer(records.ExportResult, tag_field="kind", tag="export", kw_only=True):
    """What was exported, the checks that compared it with the run, and its files."""


def run(args: argparse.Namespace) -> int:
    """Runs the command; the exit code. Raises LabError."""
    answer = jobs.run_job(
        records.JOB_MODULE,
        records.ExportRequest(
            run=args.name,
            kind=args.kind,
            dtype=args.dtype,
            out=args.out,
            strength=args.strength,
            force=args.force,
            with_base=args.with_base,
            gguf_type=args.gguf_type,
            suites=tuple(args.suite or ()),
            runs_dir=str(args.runs_dir or ""),
        ),
        answer=records.ExportResult,
    )
    if args.json:
        as_json(ExportAnswer(**asdict(answer)))
    else:
        print_text("\n".join(records.sentences(answer)))
    return 0
