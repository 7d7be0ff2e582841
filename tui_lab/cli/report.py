"""``tui-lab report``: writes a run's report again, with everything that was measured since."""

from __future__ import annotations

import argparse

from tui_lab.cli.output import as_json, note
from tui_lab.core.sanitize import sanitize
from tui_lab.models import catalog
from tui_lab.report import content, write
from tui_lab.runs import folder, inputs


def run(args: argparse.Namespace) -> int:
    """Runs the command; the exit code. Raises LabError."""
    found = folder.open_run(args.name, args.runs_dir)
    recipe = found.recipe()
    base = catalog.find(recipe.model, allow_large=True).loadable
    for sentence in inputs.require_unchanged(
        inputs.changed_of_run(found, recipe, base, data=False), f"run {found.id}"
    ):
        note(sentence)
    report = content.read(found)
    paths = write.write(found, args.out, args.format, report)
    if args.json:
        as_json({"kind": "report", "written": [str(path) for path in paths], **content.as_json(report)})
        return 0
    print(f"run {found.id} ({report.status}):")
    for path in paths:
        print(f"  {sanitize(str(path))}")
    return 0
