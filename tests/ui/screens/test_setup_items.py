"""The lists of Setup: what every bundled preset and data set says is read whole where the window is large."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from rich.cells import cell_len

from tui_lab.recipes.presets import list_presets
from tui_lab.ui.screens.setup_items import DATA_COLUMNS, PRESET_COLUMNS, bundled_items, preset_item
from tui_lab.ui.widgets.chooser import MARK_CELLS, ChooserItem, Column, fitted

#: Cells of a line of the list at 200 x 60 and at 80 x 24.
PRESET_CELLS, DATA_CELLS = 81, (55, 79)


def cut(columns: Sequence[Column], items: Sequence[ChooserItem], width: int) -> list[str]:
    """The texts that do not fit their columns."""
    cells = fitted(columns, width)
    rest = width - MARK_CELLS - sum(cells)
    return [
        text
        for item in items
        for text, have in zip(item.columns, cells, strict=True)
        if cell_len(text) > (have - 1 if have else rest)
    ]


def test_no_preset_is_cut() -> None:
    presets = [preset for preset in list_presets()[0] if not preset.own]
    items = [preset_item(preset, preset.every_value("pocket")) for preset in presets]
    assert len(items) >= 20 and cut(PRESET_COLUMNS, items, PRESET_CELLS) == []
    # method, rank, rate and length of a LoRA preset stand beside its name
    minute = next(item for item in items if item.id == "minute")
    assert minute.columns[:5] == ("minute", "QLoRA", "16", "0.005", "300 steps")


@pytest.mark.parametrize("width", DATA_CELLS)
def test_no_bundled_data_set_is_cut(width: int) -> None:
    items = bundled_items()
    assert len(items) >= 5 and cut(DATA_COLUMNS, items, width) == []
