"""The data of a recipe, prepared once: large sets are kept in the user's cache by a digest of all that the
rows depend on, the contents of the files, the tokenizer, its template and the settings among them."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from tui_lab import __version__
from tui_lab.core.errors import LabError
from tui_lab.core.files import beyond, replace_folder
from tui_lab.core.paths import cache_dir
from tui_lab.data import formats, mixture, templates
from tui_lab.data.formats import OpenedData
from tui_lab.data.mixture import Mixing
from tui_lab.data.preferences import check_verdicts
from tui_lab.data.prepare import Preparation, PreparedData, prepare
from tui_lab.data.prompt_settings import ThinkingMode
from tui_lab.data.rows import ChatMessage, Tokenizer
from tui_lab.data.store import Store, StoredExamples, open_store
from tui_lab.data.summary import DataSummary
from tui_lab.models import digests
from tui_lab.recipes import mixture as mixture_text
from tui_lab.recipes.recipe import Recipe

LARGE_BYTES = 4 << 20  # files of less are prepared in memory
CACHED_SETS = 8
CACHED_BYTES = 40 << 30
#: Recipe keys that the rows depend on, besides the files and the tokenizer.
_KEYS = (
    "data",
    "data_format",
    "columns",
    "validation_fraction",
    "max_rows",
    "deduplicate",
    "seed",
    "preference_loss",
)
_PROBE: list[ChatMessage] = [
    {"role": "system", "content": "S"},
    {"role": "user", "content": "Q"},
    {"role": "assistant", "content": "A"},
]

OnRowCount = Callable[[int, int], None]  # rows done, rows in all (estimated while they are read)


class _Saved(msgspec.Struct):
    """What lies beside the rows of a prepared set."""

    summary: DataSummary
    warnings: list[str]


def prepare_recipe(
    recipe: Recipe,
    tokenizer: Tokenizer,
    max_length: int,
    on_progress: OnRowCount | None = None,
    saved: Path | None = None,
) -> PreparedData:
    """Reads and prepares the data of a recipe; ``max_length``, in tokens, is the resolved one. ``saved``: the
    folder where the run keeps its template and settings, which stand before those of the recipe. Raises
    LabError, see :func:`tui_lab.data.prepare.prepare`."""
    template_file, thinking = _how_asked(recipe, tokenizer, saved)
    asked = (template_file, thinking)
    parts = mixture_text.parts_of(recipe.data)
    if len(parts) == 1:
        made = _prepared(recipe, tokenizer, max_length, on_progress, asked)
    else:
        made = _mixed(recipe, tokenizer, max_length, on_progress, asked)
    if recipe.preference_loss == "kto":
        check_verdicts(made.train.tasks())
    if recipe.chat_template and not template_file:
        source = f"the file {Path(recipe.chat_template).name}, as kept with the run"
        made.summary = msgspec.structs.replace(made.summary, template_source=source)
    settings = msgspec.structs.replace(
        templates.settings_of(tokenizer), template_file=recipe.chat_template, thinking=made.summary.thinking
    )
    templates.use_settings(tokenizer, settings)
    return made


def _mixed(
    recipe: Recipe,
    tokenizer: Tokenizer,
    max_length: int,
    on_progress: OnRowCount | None,
    asked: tuple[str, ThinkingMode | None],
) -> PreparedData:
    """The sets of a mixture, each prepared and cached by itself, and then mixed."""
    parts = mixture_text.parts_of(recipe.data)
    made: list[PreparedData] = []
    for part in parts:
        made.append(_prepared(recipe.changed(data=part.name), tokenizer, max_length, on_progress, asked))
    return mixture.combine(recipe.data, parts, made, mixing_of(recipe))


def mixing_of(recipe: Recipe) -> Mixing:
    """How a recipe mixes its data sets."""
    return Mixing(
        recipe.mixture_by,
        recipe.mixture_sampling,
        recipe.seed,
        recipe.sequences_per_row,
        recipe.deduplicate,
    )


def _how_asked(recipe: Recipe, tokenizer: Tokenizer, saved: Path | None) -> tuple[str, ThinkingMode | None]:
    """The template file and the thinking setting that are still to be applied: what a run has kept is
    applied here."""
    template_file = recipe.chat_template
    if saved is None or not templates.use_saved(tokenizer, saved):
        return template_file, recipe.thinking
    settings = templates.settings_of(tokenizer)
    kept = (saved / templates.TEMPLATE_FILE).is_file() and settings.template_file in ("", template_file)
    decided = bool(settings.template_sha256) and settings.mode == recipe.thinking
    return "" if kept else template_file, None if decided else recipe.thinking


def _prepared(
    recipe: Recipe,
    tokenizer: Tokenizer,
    max_length: int,
    on_progress: OnRowCount | None,
    asked: tuple[str, ThinkingMode | None],
) -> PreparedData:
    read = 0

    def on_bytes(count: int) -> None:
        nonlocal read
        read = count

    opened = formats.open_data(recipe.data, recipe.data_format, recipe.max_rows, recipe.columns, on_bytes)
    total = total_bytes(opened)

    def on_rows(done: int) -> None:
        if on_progress is not None:
            on_progress(done, max(done, round(done * total / max(1, read)) if total else done))

    def make(folder: Path | None) -> PreparedData:
        return prepare(
            opened,
            tokenizer,
            Preparation(
                max_length,
                recipe.validation_fraction,
                recipe.seed,
                recipe.deduplicate,
                *asked,
                preference_loss=recipe.preference_loss,
            ),
            folder=folder,
            on_rows=on_rows,
        )

    if total < LARGE_BYTES:
        return make(None)
    templates.set_template(tokenizer, asked[0])
    if asked[1] is not None:
        settings = msgspec.structs.replace(templates.settings_of(tokenizer), mode=asked[1])
        templates.use_settings(tokenizer, settings)
    folder = cache_dir() / "prepared" / _digest(recipe, tokenizer, max_length, opened)
    if (found := _load(folder)) is not None:
        return found
    partial = folder.with_name(f".{folder.name}.{id(opened):x}.partial")
    try:
        partial.mkdir(parents=True, mode=0o700)
        made = make(partial)
        _save(partial, made)
        if not folder.exists():  # another process may have been faster
            replace_folder(partial, folder)
        _prune(folder)
    except OSError as error:
        raise LabError(
            f"The prepared data could not be written to {folder.parent}: {error.strerror or error}. Free "
            "some space, or set TUI_LAB_CACHE_DIR to another folder."
        ) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    loaded = _load(folder)
    return made if loaded is None else loaded


def total_bytes(opened: OpenedData) -> int:
    """The size of the files of a set; 0 for one without files of its own."""
    paths = opened.raw.paths if opened.raw is not None else ()
    return sum(path.stat().st_size for path in paths)


def _digest(recipe: Recipe, tokenizer: Tokenizer, max_length: int, opened: OpenedData) -> str:
    found = hashlib.blake2b(digest_size=20)

    def add(*values: object) -> None:
        found.update(repr(values).encode("utf-8", "replace"))

    add(__version__, max_length, [(key, getattr(recipe, key)) for key in _KEYS])
    for path in sorted(Path(__file__).parent.glob("*.py")):  # another version of this package
        found.update(path.read_bytes())
    add(tokenizer.backend_tokenizer.to_str(), tokenizer.special_tokens_map, tokenizer.chat_template)
    add(templates.settings_of(tokenizer).mode)
    with contextlib.suppress(Exception):  # a template may refuse the probe; it may also write the date
        add(templates.renderer_of(tokenizer).render(_PROBE))
    for path in opened.raw.paths if opened.raw is not None else ():
        add(str(path), digests.content_digest(path))
    return found.hexdigest()


def _save(folder: Path, made: PreparedData) -> None:
    examples = made.train_examples, made.validation_examples
    assert isinstance(examples[0], StoredExamples) and isinstance(examples[1], StoredExamples)
    indices: dict[str, Any] = {
        "train": made.train.positions,
        "validation": made.validation.positions,
        "train_examples": examples[0].positions,
        "validation_examples": examples[1].positions,
    }
    np.savez(folder / "split.npz", **indices)
    (folder / "prepared.json").write_bytes(msgspec.json.encode(_Saved(made.summary, made.warnings)))


def _load(folder: Path) -> PreparedData | None:
    """The prepared data in a folder; None where there is none, or a damaged one."""
    try:
        saved = msgspec.json.decode((folder / "prepared.json").read_bytes(), type=_Saved)
        store: Store = open_store(folder)
        with np.load(folder / "split.npz", allow_pickle=False) as arrays:
            index: Sequence[np.ndarray] = [
                arrays[name] for name in ("train", "validation", "train_examples", "validation_examples")
            ]
    except (OSError, ValueError, KeyError, msgspec.DecodeError):  # Arrow's errors are among them
        return None
    (folder / "prepared.json").touch()
    return PreparedData(
        store.rows.chosen(index[0]),
        store.rows.chosen(index[1]),
        store.examples.chosen(index[2]),
        store.examples.chosen(index[3]),
        saved.summary,
        saved.warnings,
    )


def _prune(newest: Path) -> None:
    """Removes the sets that were not used for longest, beyond CACHED_SETS and CACHED_BYTES."""
    sets = []
    for folder in newest.parent.iterdir():
        with contextlib.suppress(OSError):
            used = (folder / "prepared.json").stat().st_mtime
            sets.append((used, sum(file.stat().st_size for file in folder.iterdir()), folder))
    for folder in beyond(sets, CACHED_SETS, CACHED_BYTES):
        if folder != newest:
            shutil.rmtree(folder, ignore_errors=True)
