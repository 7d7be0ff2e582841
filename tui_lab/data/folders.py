"""Folders of data: files beside each other, a clone of a hub data set, or what ``datasets`` saved.

The splits of a clone are those that its README names; without them a file belongs to the split that its own
name or its folder's name begins with (data/train-00000-of-00002.parquet, validation/part.jsonl)."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from tui_lab.core.errors import LabError
from tui_lab.core.sanitize import first_line, sanitize
from tui_lab.data.files import (
    EXTENSIONS,
    RawData,
    Stream,
    choose_splits,
    from_datasets,
    iterate_file,
)
from tui_lab.data.json_files import TRAIN_NAMES, VALIDATION_NAMES
from tui_lab.data.streams import FileRecord, OnBytes, Records, data_stem, data_suffix
from tui_lab.data.value_names import LABEL_FILES

MAX_DEPTH = 4  # folders below the given one
MAX_FILES = 10_000
README_BYTES = 4 << 20
_SKIPPED = ("readme", "license", "licence", "dataset_infos", "dataset_info", "state", "config")


def read_folder(folder: Path, max_rows: int, on_bytes: OnBytes | None = None) -> RawData:
    """The splits of a folder. Raises LabError where it holds no data."""
    if _is_saved(folder):
        return _read_saved(folder, max_rows)
    try:
        files = list(itertools.islice(_data_files(folder, 0), MAX_FILES))
        files = files or list(itertools.islice(_data_files(folder, 0, notes=True), MAX_FILES))
        declared = _declared_splits(folder)
    except OSError as error:
        raise LabError(
            f"The folder {folder} could not be read: {error.strerror or first_line(error)}."
        ) from None
    if not files:
        raise LabError(
            f"The folder {folder} holds no data files. It should hold files ending in "
            f"{', '.join(EXTENSIONS[:-1])}; train.* and validation.* are taken as such."
        )
    groups = declared or _splits_by_name(folder, files)
    splits: dict[str, Records] = {
        key: Stream(lambda paths=paths: _rows(folder, paths, max_rows, on_bytes))  # type: ignore[misc]
        for key, paths in groups.items()
    }
    raw = choose_splits(str(folder), splits, max_rows)
    used = [path for paths in groups.values() for path in paths]
    raw.notes.insert(0, f"{len(used)} file{'s' if len(used) > 1 else ''} of the folder")
    raw.paths = used
    return raw


def _rows(folder: Path, paths: list[Path], max_rows: int, on_bytes: OnBytes | None) -> Iterator[FileRecord]:
    before = 0
    for path in paths:
        read = None if on_bytes is None else lambda count, start=before: on_bytes(start + count)
        for place, row in iterate_file(path, max_rows, read):
            yield f"{path.relative_to(folder)} {place}", row
        before += path.stat().st_size


def _data_files(folder: Path, depth: int, notes: bool = False) -> Iterator[Path]:
    """Data files in order; hidden entries, links out of the folder and descriptions of the data left out. A
    folder without data may consist of notes in Markdown."""
    entries = sorted(folder.iterdir())
    for path in entries:
        if path.name.startswith(".") or not path.is_file() or data_suffix(path) not in EXTENSIONS:
            continue
        # A README describes the data; it is not data.
        described = data_stem(path).lower() in _SKIPPED or path.name.lower() in LABEL_FILES
        if described or (data_suffix(path) == ".md" and not notes):
            continue
        yield path
    for path in entries:
        if depth < MAX_DEPTH and path.is_dir() and not path.is_symlink() and not path.name.startswith("."):
            yield from _data_files(path, depth + 1, notes)


def _splits_by_name(folder: Path, files: list[Path]) -> dict[str, list[Path]]:
    named = [(path, _split_of(path.relative_to(folder))) for path in files]
    has_train = any(name in TRAIN_NAMES for _, name in named)
    groups: dict[str, list[Path]] = {}
    for path, name in named:
        groups.setdefault(name if name and has_train else "train", []).append(path)
    return groups


def _split_of(path: Path) -> str:
    """The split that the name of a file or of one of its folders begins with; "" for none."""
    names = [data_stem(path), *reversed(path.parts[:-1])]
    for name in names:
        for split in (*TRAIN_NAMES, *VALIDATION_NAMES):
            if re.match(rf"{split}($|[^a-z])", name.lower()) is not None:
                return split
    # some sets end with the split: squad_train.jsonl, my-data.validation.csv
    for split in (*TRAIN_NAMES, *VALIDATION_NAMES):
        if re.search(rf"[^a-z]{split}($|[^a-z])", names[0].lower()) is not None:
            return split
    return ""


def _declared_splits(folder: Path) -> dict[str, list[Path]]:
    """The splits that the README of a hub clone names for its default configuration."""
    readme = folder / "README.md"
    if not readme.is_file() or readme.stat().st_size > README_BYTES:
        return {}
    from huggingface_hub.repocard import metadata_load

    try:
        metadata = metadata_load(readme)
    except Exception:  # noqa: BLE001 - a README need not have metadata, nor valid YAML
        return {}
    configs = metadata.get("configs") if isinstance(metadata, dict) else None
    configs = [config for config in configs if isinstance(config, dict)] if isinstance(configs, list) else []
    configs = [config for config in configs if config.get("data_files")]
    if not configs:
        return {}
    chosen = next(
        (c for c in configs if c.get("default") is True or c.get("config_name") == "default"), configs[0]
    )
    if len(configs) > 1 and chosen is configs[0] and chosen.get("config_name") != "default":
        names = sanitize(", ".join(str(config.get("config_name")) for config in configs[:12]))
        if not chosen.get("default"):
            raise LabError(
                f"The folder {folder} has several configurations ({names}), none of them the default one; "
                "give the path of the files or of the folder of one."
            )
    return _expand(folder, chosen["data_files"])


def _expand(folder: Path, data_files: object) -> dict[str, list[Path]]:
    entries: list[tuple[str, object]] = []
    if isinstance(data_files, str):
        entries = [("train", data_files)]
    elif isinstance(data_files, Mapping):
        entries = [(str(split), path) for split, path in data_files.items()]
    elif isinstance(data_files, list):
        for entry in data_files:
            if isinstance(entry, Mapping):
                entries.append((str(entry.get("split", "train")), entry.get("path")))
            else:
                entries.append(("train", entry))
    groups: dict[str, list[Path]] = {}
    for split, patterns in entries:
        for pattern in (
            [patterns] if isinstance(patterns, str) else patterns if isinstance(patterns, list) else []
        ):
            if not isinstance(pattern, str) or pattern.startswith("/") or ".." in pattern:
                continue
            for path in sorted(folder.glob(pattern)):
                if path.is_file() and data_suffix(path) in EXTENSIONS:
                    groups.setdefault(split, []).append(path)
    return groups


def _is_saved(folder: Path) -> bool:
    """Whether ``datasets`` saved the folder. A dataset_info.json alone is LLaMA-Factory's list of files."""
    saved = all((folder / name).is_file() for name in ("dataset_info.json", "state.json"))
    return saved or (folder / "dataset_dict.json").is_file()


def _read_saved(folder: Path, max_rows: int) -> RawData:
    import datasets

    for path in itertools.islice(folder.glob("**/*"), MAX_FILES):
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise LabError(f"The folder {folder} holds a pipe or a device, {path.name}; remove it.")
    try:
        saved = datasets.load_from_disk(str(folder))
    except Exception as error:  # noqa: BLE001 - datasets raises whatever its readers and the hub do
        raise LabError(
            f"The folder {folder} looks like a saved data set but could not be read: {first_line(error)}."
        ) from None
    raw = from_datasets(str(folder), saved, max_rows)
    raw.paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return raw
