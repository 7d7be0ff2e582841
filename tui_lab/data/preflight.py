"""What a run needs that may not be on this machine, asked before it starts or waits in the queue: its data,
its general rows and its model."""

from __future__ import annotations

from collections.abc import Iterable

from tui_lab.data import hub, sources
from tui_lab.data.bundled import NAMES
from tui_lab.models import catalog, download
from tui_lab.models.download import DownloadPlan
from tui_lab.recipes import mixture
from tui_lab.recipes.recipe import Recipe

#: The value of ``replay_data`` that needs nothing: the bundled corpus.
AUTO = "auto"


def data_of(recipe: Recipe) -> tuple[str, ...]:
    """The data sets that a run reads: its own, and general rows where it mixes them in or measures them."""
    general = (recipe.replay_data,) if recipe.replay_fraction or recipe.ewc_lambda else ()
    parts = [part.name for part in mixture.parts_of(recipe.data)]
    named = [source for source in (*parts, *general) if source != AUTO and source not in NAMES]
    return tuple(dict.fromkeys(named))


def check_data(names: Iterable[str]) -> None:
    """Raises LabError for data that is not there, or that the hub refuses or cannot give now."""
    for source in dict.fromkeys(names):
        sources.check_exists(source, NAMES)
        hub.preflight(source)


def preflight(recipe: Recipe) -> DownloadPlan | None:
    """What has to be downloaded for the model; None where nothing is missing. Raises LabError where the run
    could not begin."""
    check_data(data_of(recipe))
    entry = catalog.find(recipe.model, recipe.allow_large)
    return download.preflight(entry.loadable, recipe.revision)
