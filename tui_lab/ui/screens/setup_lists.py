"""What the lists of Setup hold: the models of the catalog and those that were typed, presets and data, and
the marks that say what fits this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from tui_lab.ui.screens import setup_items as items
from tui_lab.ui.screens.pane import Pane
from tui_lab.ui.screens.setup_marks import FitMarks, MarkRequest
from tui_lab.ui.widgets.chooser import Chooser

if TYPE_CHECKING:
    from tui_lab.models.catalog import Entry
    from tui_lab.recipes.presets import Preset
    from tui_lab.ui.screens.memory_fit import MemoryFit


class ChosenRecipe(Protocol):
    """What is chosen, as :class:`SetupLists` sees it."""

    preset: str
    presets: dict[str, Preset]
    values: dict[str, object]
    overrides: dict[str, object]
    memory: MemoryFit


class SetupLists:
    """See the module's docstring. ``pane`` has the lists, ``chosen`` the recipe; both are the Setup pane."""

    def __init__(self, pane: Pane, chosen: ChosenRecipe) -> None:
        self._pane, self._chosen = pane, chosen
        self.entries: list[Entry] = []  # of the catalog
        self._typed_models: list[Entry] = []
        self._typed: list[str] = []  # data that is not in the list
        self._marks = FitMarks(pane, self._show_marks)
        self._marked_at: int | None = None  # the free memory at which marks were shown

    @property
    def _model(self) -> str:
        return str(self._chosen.values.get("model", ""))

    def load(self) -> None:
        """Reads the catalog in a thread, and shows it."""
        from tui_lab.models import catalog

        self._pane.in_thread(catalog.load, self._show_models, "catalog")

    def _show_models(self, entries: list[Entry]) -> None:
        self.entries = entries
        self._pane.query_one("#model-list", Chooser).chosen = self._model
        self._show_marks()
        self.update_marks()

    def show_data(self, *typed: str) -> None:
        """Shows the bundled data sets, and what was typed so far."""
        self._typed += typed  # that of an earlier run may be a file too
        data = self._pane.query_one("#data-list", Chooser)
        data.set_items(items.with_typed(items.bundled_items(), self._typed))

    def add_model(self, entry: Entry) -> None:
        """Shows a model that was typed."""
        self._typed_models = [*(each for each in self._typed_models if each.id != entry.id), entry]
        self._show_marks()  # the cursor goes to what is in the list

    def all_entries(self) -> list[Entry]:
        """The models of the catalog, once it was read, and those that were typed."""
        typed = [entry for entry in self._typed_models if all(entry.id != each.id for each in self.entries)]
        return [*self.entries, *typed] if self.entries else []

    def _show_marks(self) -> None:
        """Shows models and presets with what is known of how they fit."""
        found, budget = self._marks.found, self._chosen.memory.budget
        free = budget.free_bytes if budget is not None else None
        models = {name: each.at(free) for name, each in found.models.items()}
        presets = {name: each.at(free) for name, each in found.presets.items()}
        self._pane.query_one("#model-list", Chooser).set_items(
            [items.model_item(entry, models.get(entry.id)) for entry in self.all_entries()]
        )
        self._pane.query_one("#preset-list", Chooser).set_items(
            [
                items.preset_item(preset, preset.every_value(self._model), presets.get(name))
                for name, preset in self._chosen.presets.items()
            ]
        )

    def update_marks(self) -> None:
        """Has the marks worked out again, if the recipe or the machine has changed."""
        from tui_lab.recipes.presets import POCKET

        chosen, budget = self._chosen, self._chosen.memory.budget
        if budget is None or not self.entries or not chosen.preset:
            return
        entries, model = self.all_entries(), self._model
        others = {key: value for key, value in chosen.overrides.items() if key != "model"}
        pinned = {key: value for key, value in others.items() if key != "data"}
        preset = chosen.presets[chosen.preset]
        plain, bundled = ({**preset.every_value(name), **others} for name in ("", POCKET))
        request = MarkRequest(
            next((entry for entry in entries if entry.id == model), None),
            entries,
            {entry.id: plain if entry.where != "bundled" else bundled for entry in entries},
            {name: each.every_value(model) for name, each in chosen.presets.items() if not each.problems},
            pinned,
            budget,
            chosen.memory.data,
        )
        self._marks.update(request)
        if self._marked_at != (free := budget.free_bytes):
            self._marked_at = free
            self._show_marks()  # what is known, at the memory that is free now
