"""What a run reads, as digests: base weights, tokenizer with chat template, data file and encoded rows. A run
writes them into its log and beside what it saves; whoever continues, loads, exports or reports compares them
first. No torch."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import msgspec

from tui_lab import __version__
from tui_lab.core import input_files
from tui_lab.core.changed_inputs import ChangedInputs, accepted
from tui_lab.core.errors import LabError
from tui_lab.core.files import write_atomically
from tui_lab.core.paths import expanded
from tui_lab.core.records import from_json, to_json
from tui_lab.core.sanitize import sanitize
from tui_lab.models import catalog, digests
from tui_lab.recipes import mixture
from tui_lab.recipes.recipe import Recipe
from tui_lab.runs.folder import Run
from tui_lab.runs.references import ModelReference
from tui_lab.runs.schema import InputsEvent

#: The file beside an adapter or model that a run saved.
CARD_FILE = "tui-lab.json"
#: Recipe fields that change the encoded rows; rows of other settings, or of another version of the lab, are
#: not compared.
_ROW_FIELDS = frozenset(
    {
        "data", "data_format", "chat_template", "validation_fraction", "max_rows", "deduplicate", "packing",
        "seed", "replay_fraction", "replay_data", "max_length", "columns", "thinking", "method",
        "num_virtual_tokens", "model", "revision", "preference_loss",
    }
)  # fmt: skip


#: Those that change the rows of several data sets only.
_MIXTURE_FIELDS = frozenset({"mixture_by", "mixture_sampling"})


class InputsCard(msgspec.Struct, frozen=True, omit_defaults=True):
    """``tui-lab.json``: the run, its base by name, and digests of what it read and of the saved weights."""

    run: str = ""
    base_name: str = ""
    base: str = ""
    tokenizer: str = ""
    data: str = ""
    rows: str = ""
    weights: str = ""
    v: int = 1


def current_inputs(recipe: Recipe) -> InputsEvent:
    """The digests of a recipe's files as they are now; without encoded rows. Raises LabError."""
    base = catalog.find(recipe.model, allow_large=True).loadable
    return InputsEvent(
        base=digests.weights_digest(base, recipe.revision),
        tokenizer=digests.tokenizer_digest(base, recipe.revision, recipe.chat_template),
        data=_data_digest(recipe.data),
    )


def _data_digest(data: str) -> str:
    """The digest of the data files of a recipe; "" where one of them is no local path."""
    found = [digests.data_digest(part.name) for part in mixture.parts_of(data)]
    if len(found) == 1:
        return found[0]
    return hashlib.sha256(" ".join(found).encode()).hexdigest() if all(found) else ""


def changed_since(before: InputsEvent, now: InputsEvent, recipe: Recipe) -> list[str]:
    """What differs, as sentences; what is not known on either side does not."""
    model = sanitize(expanded(Path(recipe.model)).name)
    found = []
    if _differ(before.base, now.base):
        found.append(f"the weights of the base model {model} have changed since")
    if _differ(before.tokenizer, now.tokenizer):
        found.append(f"the tokenizer or the chat template of {model} has changed since")
    if before.settings == now.settings and _differ(before.rows, now.rows):
        found.append(_rows_sentence(before, now))
    elif before.rows and now.rows and before.settings != now.settings and _differ(before.data, now.data):
        found.append(_data_sentence(recipe))
    return found


def _data_sentence(recipe: Recipe) -> str:
    return f"the data file {sanitize(mixture.short_name(recipe.data))} has changed since"


def _rows_sentence(before: InputsEvent, now: InputsEvent) -> str:
    rows, rows_now = before.train_rows + before.validation_rows, now.train_rows + now.validation_rows
    if rows != rows_now:
        return f"the data has changed since ({rows:,} → {rows_now:,} rows)"
    if before.data and before.data == now.data:
        return "the rows are encoded into other tokens than before, from the same data file"
    return f"the data has changed since ({rows:,} rows, with other tokens)"


def row_settings(recipe: Recipe, max_length: int) -> str:
    """The digest of the settings that shape the encoded rows."""
    shaping = _ROW_FIELDS | (_MIXTURE_FIELDS if mixture.is_mixture(recipe.data) else set())
    values = {key: value for key, value in recipe.model_dump().items() if key in shaping}
    text = json.dumps([values, max_length, __version__], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _differ(before: str, now: str) -> bool:
    return bool(before) and bool(now) and before != now


# --- beside what was saved ------------------------------------------------------------------------------


def write_card(folder: Path, run: str, recipe: Recipe, inputs: InputsEvent | None) -> None:
    """Writes the card of a saved adapter or model. Raises OSError."""
    found = inputs or InputsEvent()
    base = catalog.find(recipe.model, allow_large=True).loadable
    card = InputsCard(
        run=run,
        base_name=recipe.model if "/" not in recipe.model.strip("/") else expanded(Path(recipe.model)).name,
        base=found.base,
        tokenizer=digests.tokenizer_digest(base, recipe.revision),
        data=found.data,
        rows=found.rows,
        weights=digests.weights_digest(folder),
    )
    write_atomically(folder / CARD_FILE, to_json(card) + "\n")


def copy_card(source: Path, target: Path) -> None:
    """Writes the card of a saved folder for other weights that were made of it. Raises OSError."""
    if (card := read_card(source)) is not None:
        card = msgspec.structs.replace(card, weights=digests.weights_digest(target))
        write_atomically(target / CARD_FILE, to_json(card) + "\n")


def read_card(folder: Path) -> InputsCard | None:
    """The card of a saved adapter or model; None without one, or for a damaged one."""
    try:
        return from_json(input_files.read_bytes(folder / CARD_FILE, 1 << 20), InputsCard, CARD_FILE)
    except (OSError, LabError):
        return None


def changed_beside(folder: Path, base: str = "", revision: str = "") -> list[str]:
    """What has changed since an adapter or model was saved, as sentences. ``base``: the folder or hub id that
    it is used on, "" for a whole model."""
    card = read_card(folder)
    if card is None:
        return []
    found = []
    if _differ(card.weights, digests.weights_digest(folder)):
        found.append(f"the weights in {sanitize(folder.name)} have changed since they were saved")
    if base and _differ(card.base, digests.weights_digest(base, revision)):
        what = "the adapter" if (folder / "adapter_config.json").is_file() else "the model"
        name = sanitize(Path(base).name)
        found.append(f"the base {name} has other weights than those that {what} was trained on")
    if base and _differ(card.tokenizer, digests.tokenizer_digest(base, revision)):
        found.append(f"the tokenizer or the chat template of {sanitize(Path(base).name)} has changed since")
    return found


def changed_of_reference(target: ModelReference, base: str, revision: str) -> list[str]:
    """What has changed since the weights of a reference were saved, as sentences. ``base``: the folder or hub
    id that its adapter is used on."""
    if target.adapter is not None:
        return changed_beside(target.adapter, base, revision)
    return changed_beside(Path(target.location))


def changed_of_run(run: Run, recipe: Recipe, base: str, data: bool = True) -> list[str]:
    """What has changed since a run saved its weights, as sentences; with its ``data`` file or without."""
    folder = run.adapter_path if (run.adapter_path / CARD_FILE).is_file() else run.model_path
    card = read_card(folder)
    if card is None:
        return []
    found = changed_beside(folder, base, recipe.revision)
    if data and _differ(card.data, _data_digest(recipe.data)):
        found.append(_data_sentence(recipe))
    return found


def changed_before_resuming(before: InputsEvent | None, recipe: Recipe) -> list[str]:
    """What has changed since a run read its inputs, as sentences, before it is continued with its own recipe:
    also that its data file is another one, which may give the same rows. Raises LabError."""
    if before is None:
        return []
    now = current_inputs(recipe)
    found = changed_since(before, now, recipe)
    if _differ(before.data, now.data):
        found.append(_data_sentence(recipe))
    return found


def require_unchanged(sentences: list[str], what: str) -> list[str]:
    """The sentences, where changes are accepted. Raises ChangedInputs with them where not."""
    if sentences and not accepted():
        raise ChangedInputs(what, sentences)
    return sentences
