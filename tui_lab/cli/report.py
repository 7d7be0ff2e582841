"""``tui-lab report``: writes a run's report anew, with whatever was measured of it since. Every start of the
command line reads the grammar, so what the command needs is imported when it runs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

_EXAMPLES = """examples:
  tui-lab report latest                            report.md and report.html in the run's folder
  tui-lab report latest --format html --out ~/talk a page that can be sent: it needs nothing else
  tui-lab report latest --json                     the same facts for a program
a run writes its report by itself when it ends; this writes it anew, with retention that was measured since"""


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Adds the command to the grammar."""
    made: argparse.ArgumentParser = subparsers.add_parser(
        "report",
        help="write what a run did, cost, learned and kept as Markdown and as one HTML page",
        description="Write what a run did, cost, learned and kept as Markdown and as one HTML page.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.set_defaults(run="cli.report:run")
    made.add_argument("name", metavar="RUN", help="a run's id, a part of it, its folder, or `latest`")
    made.add_argument("--out", type=Path, metavar="FOLDER", help="where to (default: the run's own folder)")
    made.add_argument(
        "--format", choices=("md", "html", "both"), default="both", help="what is written (default both)"
    )
    made.add_argument("--json", action="store_true", help="print the facts and where they were written")
    made.add_argument(
        "--runs-dir", type=Path, metavar="FOLDER", default=argparse.SUPPRESS, help="where runs are kept"
    )
    return made


def run(args: argparse.Namespace) -> int:
    """Carries the command out; the exit code. Raises LabError."""
    from tui_lab.cli.output import as_json
    from tui_lab.core.sanitize import sanitize
    from tui_lab.report import facts as report
    from tui_lab.report import write
    from tui_lab.runs import folder

    found = folder.open_run(args.name, getattr(args, "runs_dir", None))
    facts = report.read(found)
    paths = write.write(found, args.out, args.format, facts)
    if args.json:
        as_json({"kind": "report", "written": [str(path) for path in paths], **facts.plain()})
        return 0
    print(f"run {found.id} ({facts.state}):")
    for path in paths:
        print(f"  {sanitize(str(path))}")
    return 0
