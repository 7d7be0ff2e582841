"""``tui-lab report``: writes a run's report again, with everything that was measured since."""

from __future__ import annotations

import argparse

from tui_lab.cli.output import Answer, as_json, note
from tui_lab.core.errors import LabError
from tui_lab.core.sanitize import sanitize
from tui_lab.report import content, write
from tui_lab.runs import folder, searches


class ReportAnswer(Answer, tag="report", kw_only=True, frozen=True):
    """The content of a report without its curves, which are in the run's event log. ``written``: the files;
    fields of objects are those of the run's events and results, without those that have no value."""

    written: list[str]
    run: str
    folder: str
    state: str
    message: str
    started_at: float | None
    updated_at: float | None
    last_words: list[str]
    written_at: float
    written_by: str
    recipe: dict[str, object]
    changed: dict[str, object]
    base_preset: str
    command: str
    choices: list[dict[str, object]]
    warnings: list[str]
    data: dict[str, object]
    model: dict[str, object]
    plan: dict[str, object]
    versions: dict[str, str]
    device: dict[str, object]
    threads: int | None
    attempts: int
    course: list[dict[str, object]]
    step: int
    total_steps: int
    losses: dict[str, float | None]
    scores: list[dict[str, object]]
    samples: list[dict[str, object]]
    examples: list[dict[str, object]]
    answers: list[dict[str, str]]
    acquisition: dict[str, object]
    results: dict[str, dict[str, object]]
    flips: dict[str, dict[str, int]]
    item_probes: list[dict[str, object]]
    kl_probes: list[dict[str, object]]
    stages: dict[str, object]
    search: dict[str, object]
    threshold: float
    probe_reason: str
    strength: dict[str, object]
    memory: dict[str, object]
    flags: list[dict[str, object]]
    ladder: list[dict[str, object]]
    ladder_cost: str
    spent: dict[str, object]
    prices: dict[str, object]
    saved: dict[str, object]
    unknown: list[str]
    problems: list[str]


def run(args: argparse.Namespace) -> int:
    """Runs the command; the exit code. Raises LabError."""
    if bool(args.name) == bool(args.search):
        raise LabError("name a run (`tui-lab report latest`) or a search (`--search latest`)")
    found = folder.open_run(args.name or _chosen_by(args), args.runs_dir)
    for sentence in write.require_unchanged(found):
        note(sentence)
    report = content.read(found)
    paths = write.write(found, args.out, args.format, report)
    if args.json:
        as_json(ReportAnswer(written=[str(path) for path in paths], **content.as_json(report)))
        return 0
    print(f"run {found.id} ({report.status}):")
    for path in paths:
        print(f"  {sanitize(str(path))}")
    return 0


def _chosen_by(args: argparse.Namespace) -> str:
    """The run that a search chose. Raises LabError."""
    place = searches.find(args.runs_dir, args.search)
    result = searches.read_result(place)
    if result.chosen is None:
        raise LabError(f"search {result.search} has not measured a pilot yet: there is no run to report on")
    return result.chosen.pilot.run
