"""What a run needs that may not be on this machine, asked before it starts or waits in the queue: its data,
its general rows and its model."""

from __future__ import annotations

from collections.abc import Iterable

from tui_lab.core.paths import expanded
from tui_lab.data import bundled, formats, hub, preferences, sources
from tui_lab.data.bundled import NAMES
from tui_lab.models import catalog, download
from tui_lab.models.download import DownloadPlan
from tui_lab.recipes import mixture
from tui_lab.recipes.recipe import Recipe

#: The value of ``replay_data`` that needs nothing: the bundled corpus.
AUTO = "auto"
#: Larger files are not read before a run.
CHECKED_DATA_BYTES = 64 << 20


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


def check_rows(
    data: str, data_format: str = "auto", max_rows: int = 0, columns: str = "", preference_loss: str = "none"
) -> None:
    """Reads small local data completely, so that a damaged row is reported before a run is created, and the
    first rows of other local data, of each part of a mixture. Sets of the hub are checked by the run. Raises
    LabError."""
    parts = mixture.parts_of(data)
    found = [_verdicts(part.name, data_format, max_rows, columns, preference_loss) for part in parts]
    known = [verdicts for verdicts in found if verdicts is not None]
    if preference_loss == "kto" and len(known) == len(found):
        preferences.check_verdicts(verdict for verdicts in known for verdict in verdicts)


def _verdicts(
    data: str, data_format: str, max_rows: int, columns: str, preference_loss: str
) -> set[str | None] | None:
    """The verdicts of one data set's rows; None where they are not all read. Raises LabError."""
    path = expanded(data)
    if data in NAMES:
        _, form = bundled.PREFERENCES.get(data, ("", "messages"))
        preferences.check_form(form, data, preference_loss)
        return None
    if path.exists() or not sources.HUB_NAME.match(data):  # LabError with the closest name
        opened = formats.open_data(data, data_format, max_rows, columns)
        preferences.check_form(opened.plan.format, opened.name, preference_loss)
        small = path.is_file() and path.stat().st_size <= CHECKED_DATA_BYTES
        if small and path.suffix.lower() != ".parquet":
            verdicts: set[str | None] = {example.task for example in opened.train}
            if not verdicts:
                raise formats.none_usable(opened)
            return verdicts
    return None


def preflight(recipe: Recipe) -> DownloadPlan | None:
    """What has to be downloaded for the model; None where nothing is missing. Raises LabError where the run
    could not begin."""
    check_data(data_of(recipe))
    entry = catalog.find(recipe.model, recipe.allow_large)
    return download.preflight(entry.loadable, recipe.revision)
