"""Several runs side by side: the logs and recipes of those that are compared, read on as they grow and let go
when they are compared no more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tui_lab.core.errors import LabError
from tui_lab.recipes.recipe import Recipe
from tui_lab.runs.index import RunSummary
from tui_lab.runs.overlay import CurveReader, RunCurves, differing


@dataclass(frozen=True)
class Compared:
    """What was read: the runs with their curves, the fields that their recipes differ in, and whether the
    logs were read to their ends."""

    runs: tuple[RunSummary, ...] = ()
    curves: tuple[RunCurves, ...] = ()
    differences: tuple[tuple[str, list[str]], ...] = ()
    complete: bool = True


class RunComparison:
    """Keeps the readers of the compared runs. One thread at a time."""

    def __init__(self) -> None:
        self._readers: dict[str, CurveReader] = {}
        self._recipes: dict[str, Recipe | None] = {}

    def read(self, runs: Sequence[RunSummary]) -> Compared:
        """The curves of these runs as they are now."""
        readers, recipes = {}, {}
        for run in runs:
            reader = self._readers.get(run.id)
            if reader is None or reader.run != run.run:  # new, or it waited in the queue and has begun
                reader = CurveReader(run.run)
            readers[run.id] = reader
            recipes[run.id] = self._recipes[run.id] if run.id in self._recipes else _recipe(run)
        self._readers, self._recipes = readers, recipes
        curves = tuple(readers[run.id].read() for run in runs)
        rows = differing([recipes[run.id] for run in runs])
        complete = all(reader.at_end for reader in readers.values())
        return Compared(tuple(runs), curves, tuple(rows), complete)


def _recipe(run: RunSummary) -> Recipe | None:
    try:
        return run.run.recipe()
    except LabError:
        return None
