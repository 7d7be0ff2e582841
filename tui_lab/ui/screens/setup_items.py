"""The lines of the lists on Setup: models, presets and data sets. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tui_lab.core.format import count
from tui_lab.core.sanitize import sanitize
from tui_lab.ui.actions.registry import first_key
from tui_lab.ui.widgets.chooser import ChooserItem
from tui_lab.ui.widgets.tab_bar import Tab

if TYPE_CHECKING:
    from tui_lab.models.catalog import Entry
    from tui_lab.recipes.presets import Preset

#: The lists of Setup: (id, title). The action ``choose.<id>`` shows one.
SECTIONS = (("models", "Model"), ("presets", "Preset"), ("data", "Data"), ("fields", "Fields"))
#: Widths of the columns; the last column takes the rest.
MODEL_WIDTHS = (37, 8, 13)
PRESET_WIDTHS = (14, 22)
DATA_WIDTHS = (22, 10)

_WHERE = {
    "bundled": "bundled",
    "catalog": "to download",
    "cache": "in the cache",
    "folder": "folder",
    "hub": "hub",
}


def section_tabs(chosen: Mapping[str, str], keymap: Mapping[str, str] | None) -> list[Tab]:
    """The tabs over the lists: the key that shows each list, and what is chosen in it."""
    tabs = []
    for name, title in SECTIONS:
        key, value = first_key(f"setup.{name}", keymap), sanitize(chosen.get(name, ""))
        labels = (f" {key} {title}: {value} ", f" {key} {value} ") if value else (f" {key} {title} ",)
        tabs.append(Tab(name, labels, f"show('{name}')"))
    return tabs


def model_item(entry: Entry) -> ChooserItem:
    """One model: name, size, where it is, licence."""
    where = "on disk" if entry.on_disk and entry.where == "catalog" else _WHERE[entry.where]
    licence = entry.licence or ""
    details = []
    if entry.refused:
        details.append(entry.refused)
    else:
        if entry.layers and entry.hidden:
            details.append(f"{entry.model_type}, {entry.layers} layers of {entry.hidden}")
        if entry.context:
            details.append(f"context {entry.context:,}")
        if entry.chat_template is not None:
            details.append("chat template" if entry.chat_template else "no chat template: one is made for it")
        if entry.gated:
            details.append("gated: accept its licence on the hub first")
        if entry.unverified:
            details.append(f"commonly stated, not checked at the source: {', '.join(entry.unverified)}")
        if licence:
            details.append(f"licence {licence}")
        details.append(f"figures from {entry.source}")
    size = count(entry.parameters) if entry.parameters else "?"
    return ChooserItem(
        entry.id,
        (entry.label, size, where, ("gated: " if entry.gated else "") + licence),
        "; ".join(details),
        bool(entry.refused),
    )


def preset_item(preset: Preset) -> ChooserItem:
    """One preset: name, title, machine."""
    if preset.problems:
        about = "; ".join(problem.message for problem in preset.problems)
    else:
        about = preset.description + (f" File: {preset.path}" if preset.own else "")
    name = preset.name + (" (own)" if preset.own else "")
    return ChooserItem(preset.name, (name, preset.title, preset.card), about, bool(preset.problems))


def bundled_items() -> list[ChooserItem]:
    """The data sets that ship with the lab."""
    from tui_lab.data.bundled import NAMES

    about = {
        "pirate": (
            "manner",
            "a way of speaking",
            "Answers everything like a pirate: quick to learn.",
        ),
        "json": ("format", "answers as JSON", "Answers with JSON of the schema that the question gives."),
        "support": (
            "facts",
            "an invented shop",
            "Facts about an invented shop: hard for a low rank.",
        ),
    }
    items = []
    for name in NAMES:
        kind, title, text = about.get(name, ("", "", ""))
        items.append(ChooserItem(name, (name, kind, f"bundled: {title}"), text))
    return items


def typed_item(name: str) -> ChooserItem:
    """A file, folder or hub name that was typed."""
    shown = name if len(name) <= 40 else "…" + name[-39:]
    return ChooserItem(name, (shown,), f"{name}: JSON, JSONL, CSV, Parquet, text, a folder, or a hub name.")


def with_typed(items: Sequence[ChooserItem], typed: Sequence[str]) -> list[ChooserItem]:
    """The list with typed names below, each once."""
    known = {item.id for item in items}
    return [*items, *(typed_item(name) for name in dict.fromkeys(typed) if name not in known)]
