"""The lists of Setup as widgets. They bring the recipe's schema with them, so this module is imported after
the first frame."""

from __future__ import annotations

from collections.abc import Mapping

from textual.containers import Vertical

from tui_lab.ui.actions.registry import first_key
from tui_lab.ui.screens import setup_items as items
from tui_lab.ui.widgets.chooser import Chooser
from tui_lab.ui.widgets.form import FieldsForm
from tui_lab.ui.widgets.panel import as_panel
from tui_lab.ui.widgets.preview import Preview


def parts(keymap: Mapping[str, str] | None) -> list[Vertical]:
    """One panel for each list, in the order of the path."""
    models = Chooser(
        items.MODEL_COLUMNS, "reading the catalog …", "other: a folder or a hub id …", id="model-list"
    )
    data = Chooser(
        items.DATA_COLUMNS, "reading data sets …", "other: a file, a folder or a hub id …", id="data-list"
    )
    preview = Preview(
        "Here rows appear as the model sees them, with the tokens that are trained.", id="preview"
    )
    presets = Chooser(items.PRESET_COLUMNS, "reading presets …", id="preset-list")
    made = {
        "models": Vertical(models, id="models"),
        "data": Vertical(data, preview, id="data"),
        "presets": Vertical(presets, id="presets"),
        "fields": Vertical(FieldsForm(id="form"), id="fields"),
    }
    for name, title in items.SECTIONS:
        made[name].add_class("part")
        as_panel(made[name], title, first_key(f"setup.{name}", keymap))
    return [made[name] for name, _ in items.SECTIONS]
