"""The lines of the lists on Setup: models, presets and data sets. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tui_lab.core.format import count, plural, size
from tui_lab.core.sanitize import sanitize
from tui_lab.recipes import mixture
from tui_lab.ui.actions.registry import first_key
from tui_lab.ui.views.states import FIT_STATES
from tui_lab.ui.widgets.chooser import ChooserItem, Column
from tui_lab.ui.widgets.tab_bar import Tab

if TYPE_CHECKING:
    from tui_lab.forecast.machine_fit import MachineFit
    from tui_lab.models.catalog import Entry
    from tui_lab.recipes.presets import Preset

#: The lists of Setup in the order of the path: (id, title). The action ``setup.<id>`` shows one.
SECTIONS = (("models", "Model"), ("data", "Data"), ("presets", "Preset"), ("fields", "Hyperparameters"))
MODEL_COLUMNS = (
    Column("model", 36, least=20),
    Column("size", 8, right=True),
    Column("here", 13),
    Column("state", least=9),
)
PRESET_COLUMNS = (
    Column("preset", 12), Column("method", 14, least=9), Column("r", 4, right=True),
    Column("rate", 8, right=True), Column("length", 11, right=True, optional=True), Column("here", 11),
    Column("for", least=5),
)  # fmt: skip
DATA_COLUMNS = (Column("data", 24, least=13), Column("kind", 13), Column("where", least=27))

_STATES = {
    "bundled": "bundled",
    "catalog": "download",
    "cache": "on disk",
    "folder": "folder",
    "hub": "hub",
}
_FIT_WORDS = {"fits": "fits here", "tight": "may just fit here", "over": "does not fit here"}
_METHODS = {
    "lora": "LoRA",
    "adalora": "AdaLoRA",
    "loha": "LoHa",
    "ia3": "IA3",
    "osf": "OSF",
    "full": "full",
    "prefix": "prefix",
}


def section_tabs(chosen: Mapping[str, str], keymap: Mapping[str, str] | None) -> list[Tab]:
    """The tabs over the lists: the key that shows each list, and what is chosen in it."""
    tabs = []
    for name, title in SECTIONS:
        key, value = first_key(f"setup.{name}", keymap), sanitize(chosen.get(name, ""))
        arrow = " →" if name != SECTIONS[-1][0] else ""
        labels: tuple[str, ...] = (f" {key} {title} ",)
        if value:
            labels = (f" {key} {title}: {value}{arrow} ", f" {key} {title}: {value} ", f" {key} {value} ")
        tabs.append(Tab(name, labels, f"show('{name}')"))
    return tabs


# --------------------------------------------------------------------------------------------------
# models and presets


def fit_cell(found: MachineFit | None) -> tuple[str, str]:
    """The mark with the memory, and its style; empty until it is known."""
    if found is None:
        return "", ""
    state = FIT_STATES[found.verdict]
    return (
        f"{state.glyph} {size(found.needed_bytes):>8}" if found.needed_bytes else state.glyph,
        f"${state.role}",
    )


def _fit_sentence(found: MachineFit | None, of: str = "with this preset") -> str:
    if found is None:
        return ""
    if found.needed_bytes is None:
        return f"memory not known: {found.reason}" if found.reason else "memory not known"
    words = _FIT_WORDS.get(found.verdict, "the free memory is not known")
    return f"{words} {of}: {size(found.needed_bytes)}"


def model_state(entry: Entry) -> str:
    """Where a model's files are."""
    state = "on disk" if entry.on_disk and entry.where in ("catalog", "cache") else _STATES[entry.where]
    return "gated" if entry.gated and not entry.on_disk else state


def model_item(entry: Entry, found: MachineFit | None = None, of: str = "with this preset") -> ChooserItem:
    """One model: name, size, whether it fits this machine (``of``: for which use), where its files are."""
    details = []
    if entry.refused:
        details.append(entry.refused)
    else:
        if entry.where == "folder" and entry.path is not None:
            details.append(f"model folder {entry.path}")
        details.append(_fit_sentence(found, of))
        if entry.layers and entry.hidden:
            details.append(f"{entry.model_type}, {entry.layers} layers of {entry.hidden}")
        if entry.context:
            details.append(f"context {entry.context:,}")
        if entry.chat_template is not None:
            details.append("chat template" if entry.chat_template else "no chat template: one is made for it")
        if entry.gated and not entry.on_disk:
            details.append("gated: accept its licence on the hub first")
        if entry.licence:
            details.append(f"licence {entry.licence}")
        if entry.unverified:
            details.append(f"commonly stated, not checked at the source: {', '.join(entry.unverified)}")
        details.append(f"figures from {entry.source}")
    cell, style = fit_cell(None if entry.refused else found)
    return ChooserItem(
        entry.id,
        (entry.label, count(entry.parameters) if entry.parameters else "?", cell, model_state(entry)),
        "; ".join(filter(None, details)),
        bool(entry.refused),
        ("", "", style),
        (
            entry.label,
            entry.parameters or 0,
            (4, 0) if entry.refused else found.rank if found else (2, 0),
            model_state(entry),
        ),
        f"{entry.licence or ''} {entry.model_type or ''}",
    )


def method_name(values: Mapping[str, object]) -> str:
    """The method of a recipe in a word or two."""
    method = str(values.get("method", ""))
    if method != "lora":
        return _METHODS.get(method, method.replace("_", " "))
    name = "QLoRA" if values.get("quantization") == "nf4" else "LoRA"
    variants = (("use_dora", "DoRA"), ("use_rslora", "rs"))
    named = [name, *(short for key, short in variants if values.get(key))]
    init = str(values.get("init_lora_weights", "default"))
    return " + ".join([*named, *([init.partition("_")[0]] if init != "default" else [])])


def rank_of(values: Mapping[str, object]) -> str:
    """The rank of the adapter; "" for a method without one."""
    key = {"lora": "lora_r", "loha": "lora_r", "adalora": "target_r"}.get(str(values.get("method")))
    return str(values.get(key, "")) if key else ""


def length_of(values: Mapping[str, object]) -> str:
    """How long a recipe trains."""
    steps, epochs = values.get("max_steps"), values.get("num_train_epochs")
    if isinstance(steps, int) and steps:
        return plural(steps, "step")
    return f"{epochs:g} epoch{'s' * (epochs != 1)}" if isinstance(epochs, int | float) else ""


def preset_item(preset: Preset, values: Mapping[str, object], found: MachineFit | None = None) -> ChooserItem:
    """One preset, with ``values`` for the chosen model: method, rank, rate, length, memory here."""
    name = preset.name + (" (own)" if preset.own else "")
    if preset.problems:
        reasons = "; ".join(problem.message for problem in preset.problems)
        return ChooserItem(preset.name, (name, "cannot be used"), reasons, refused=True)
    file = f" File: {preset.path}" if preset.own else ""
    rate = values.get("learning_rate")
    cell, style = fit_cell(found)
    about = [
        f"{preset.title}: {preset.description}{file}",
        "; ".join(filter(None, (f"made for {preset.card}" if preset.card else "", _fit_sentence(found)))),
        preset_details(values),
    ]
    return ChooserItem(
        preset.name,
        (
            name, method_name(values), rank_of(values), f"{rate:.3g}" if isinstance(rate, float) else "",
            length_of(values), cell, preset.title,
        ),
        "\n".join(filter(None, about)),
        styles=("", "", "", "", "", style),
        keys=(
            preset.name, method_name(values), float(rank_of(values) or 0),
            rate if isinstance(rate, float) else 0.0, length_of(values), found.rank if found else (2, 0),
            preset.title,
        ),
        search=f"{preset.description} {preset.card}",
    )  # fmt: skip


def preset_details(values: Mapping[str, object]) -> str:
    """What else a preset sets, in lines for a place that has room."""
    rows = values.get("per_device_train_batch_size", 1), values.get("gradient_accumulation_steps", 1)
    adapter = f"{values.get('lora_alpha'):g}, {values.get('lora_dropout'):g}, {values.get('target_modules')}"
    packing = "on" if values.get("packing") else "off"
    lines = [
        ("alpha, dropout, targets", adapter if rank_of(values) else ""),
        ("batch × accumulation", f"{rows[0]} × {rows[1]}"),
        ("max length", f"{values.get('max_length')} tokens, packing {packing}"),
        ("optimiser, schedule", f"{values.get('optim')}, {values.get('lr_scheduler_type')}"),
        ("checkpointing", "on" if values.get("gradient_checkpointing") else "off"),
        ("against forgetting", _protections(values)),
    ]
    return "\n".join(f"{label:<26}{text}" for label, text in lines if text)


def _protections(values: Mapping[str, object]) -> str:
    names = {
        "replay_fraction": "replay", "kl_weight": "KL to base", "l2_to_start": "L2 to start",
        "ewc_lambda": "EWC", "frozen_layers": "frozen layers", "gradual_unfreezing": "gradual unfreezing",
    }  # fmt: skip
    on = [f"{name} {values[key]:g}" for key, name in names.items() if values.get(key)]
    return ", ".join(on) or "nothing"


# --------------------------------------------------------------------------------------------------
# data


def bundled_items() -> list[ChooserItem]:
    """The data sets that ship with the lab."""
    from tui_lab.data.bundled import NAMES

    about = {
        "pirate": (
            "style",
            "a way of speaking",
            "Answers everything like a pirate: quick to learn.",
        ),
        "json": ("format", "answers as JSON", "Answers with JSON of the schema that the question gives."),
        "support": (
            "facts",
            "an invented shop",
            "Facts about an invented shop: hard for a low rank.",
        ),
        "pirate_pairs": (
            "preferences",
            "chosen, rejected",
            "The pirate's answer is preferred to the plain one: for the presets dpo, orpo and simpo.",
        ),
        "pirate_votes": (
            "preferences",
            "rated answers",
            "Answers of a pirate are good, plain ones are not: for the preset kto.",
        ),
    }
    items = []
    for name in NAMES:
        kind, title, text = about.get(name, ("", "", ""))
        items.append(ChooserItem(name, (name, kind, f"bundled: {title}"), text))
    return items


def data_item(name: str) -> ChooserItem:
    """Data that was typed: a file, a folder or a set of the hub."""
    from tui_lab.core.paths import expanded

    if mixture.is_mixture(name):
        return ChooserItem(name, (mixture.short_name(name), "mixture", "several sets"), f"data {name}")
    path = expanded(name)
    is_local = name.startswith(("/", "~", ".")) or path.suffix != "" or name.count("/") != 1
    if not is_local:
        return ChooserItem(name, (name, "hub", "a set of the hub"), f"{name}: a data set of the hub.")
    kind = path.suffix.removeprefix(".").lower() or "folder"
    return ChooserItem(name, (path.name, kind, str(path.parent)), f"data {path}", search=str(path))


def with_typed(items: Sequence[ChooserItem], typed: Sequence[str]) -> list[ChooserItem]:
    """The list with typed names below, each once."""
    known = {item.id for item in items}
    return [*items, *(data_item(name) for name in dict.fromkeys(typed) if name not in known)]
