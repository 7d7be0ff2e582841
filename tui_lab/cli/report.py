"""``tui-lab report``: writes a run's report again, with everything that was measured since."""

from __future__ import annotations

import argparse

from tui_lab.cli.output import as_json
from tui_lab.core.sanitize import sanitize
from tui_lab.report import content, write
from tui_lab.runs import folder


def run(args: argparse.Namespace) -> int:
    """Runs the command; the exit code. Raises LabError."""
    found = folder.open_run(args.name, args.runs_dir)
    report = content.read(found)
    paths = write.write(found, args.out, args.format, report)
    if args.json:
        as_json({"kind": "report", "written": [str(path) for path in paths], **content.as_json(report)})
        return 0
    print(f"run {found.id} ({report.status}):")
    for path in paths:
        print(f"  {sanitize(str(path))}")
    return 0
