"""Which suite to measure: one with a name, a safety suite scored by the judge or classifier of the settings,
or a file or folder, for which the list of readers begins with the one that is recognised."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tui_lab.core.errors import LabError
from tui_lab.core.format import plural
from tui_lab.core.paths import expanded
from tui_lab.core.sanitize import sanitize
from tui_lab.evaluation.judging import JUDGE
from tui_lab.ui.screens.pane import Pane

CLASSIFIER = "TUI_LAB_CLASSIFIER"
FILE = "file…"


class SuiteChoice(NamedTuple):
    """A suite as the job loads it, the name under which its result is stored, and who scores its answers."""

    suite: str
    name: str
    judge: str = ""
    classifier: str = ""

    @property
    def request(self) -> dict[str, object]:
        """The fields of the request of the job that measures it."""
        scorers = {"judge": self.judge, "classifier": self.classifier}
        return {"suites": [self.suite], "limit": 0} | {name: by for name, by in scorers.items() if by}


def ask_suite(
    pane: Pane, current: str, others: Sequence[tuple[str, str]], take: Callable[[SuiteChoice], object]
) -> None:
    """Asks for a suite and takes it. ``others``: further lines, as (name, explanation)."""
    from tui_lab.retention.suites import registry, scored

    infos = list(registry.names())
    found = [(SuiteChoice(info.name, info.name), info.title) for info in infos]
    titles = {info.name: info.title for info in infos}
    scorers: tuple[tuple[scored.ScoredBy, str], ...] = (
        ("judge", os.environ.get(JUDGE, "")),
        ("classifier", os.environ.get(CLASSIFIER, "")),
    )
    for by, scorer in scorers:
        for name in scored.SCORED if scorer else ():
            choice = SuiteChoice(name, scored.name_of(name, by), **{by: scorer})
            found.append((choice, f"{titles[name]}, answers scored by {Path(scorer).name}"))
    found += [(SuiteChoice(name, name), about) for name, about in others]
    lines = [(choice.name, about) for choice, about in found]
    lines.append((FILE, "a file or folder of a benchmark, a safety set, or a suite of your own"))
    at = next((n for n, (choice, _) in enumerate(found) if choice.name == current), 0)

    def picked(number: int) -> None:
        if number < len(found):
            take(found[number][0])
        else:
            _ask_file(pane, take)

    pane.pick("Which suite?", lines, picked, at)


def _ask_file(pane: Pane, take: Callable[[SuiteChoice], object]) -> None:
    def entered(text: str) -> None:
        if text:
            pane.in_thread(partial(_readers, text), partial(_pick_reader, pane, text, take), "suite")

    pane.ask("Which file or folder?", "", entered, "toxigen.csv, StereoSet/dev.json, arc.jsonl or a folder")


def _readers(text: str) -> list[tuple[SuiteChoice, str]]:
    """The suites that a file may be read as: the recognised one first, else all benchmarks. Raises
    LabError."""
    from tui_lab.retention.suites import registry

    path = expanded(text)
    if not path.exists():
        raise LabError(f"There is no file or folder {sanitize(text)}.")
    sources = registry.standard_sources()
    lines = [(SuiteChoice(f"{name}:{path}", name), each.title) for name, each in sources.items()]
    try:
        suite = registry.load(str(path))
    except LabError as error:
        if not path.is_dir() and registry.reader_of(path) is None:  # not even a suite of the user
            lines.insert(0, (SuiteChoice(str(path), path.stem), sanitize(str(error))))
        return lines
    items = plural(len(suite.items), "item")
    first = SuiteChoice(str(path), suite.name), f"recognised: {suite.title}, {items}, {suite.metric}"
    return [first, *(line for line in lines if line[0].name != suite.name)]


def _pick_reader(
    pane: Pane, text: str, take: Callable[[SuiteChoice], object], found: list[tuple[SuiteChoice, str]]
) -> None:
    lines = [(choice.name, about) for choice, about in found]
    pane.pick(f"Read {Path(text).name} as", lines, lambda number: take(found[number][0]))
