"""Opens a data set by its name: a file, a folder, or a set of the hub."""

from __future__ import annotations

import contextlib
import difflib
import re
from collections.abc import Iterable
from pathlib import Path

from tui_lab.core.errors import LabError
from tui_lab.core.hub_errors import classify
from tui_lab.core.paths import expanded
from tui_lab.core.sanitize import first_line
from tui_lab.data import hub, hub_download
from tui_lab.data.files import (
    EXTENSIONS,
    RawData,
    Stream,
    choose_splits,
    from_datasets,
    iterate_file,
)
from tui_lab.data.folders import read_folder
from tui_lab.data.json_files import json_splits
from tui_lab.data.streams import OnBytes, data_suffix

HUB_NAME = re.compile(r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(:[\w.\- ]+)?$")


def read_raw(
    source: str, max_rows: int = 0, bundled_names: Iterable[str] = (), on_bytes: OnBytes | None = None
) -> RawData:
    """Opens a file, a folder or a hub id.

    Args:
        source: a path, or ``owner/name`` or ``owner/name:config`` of the hub.
        max_rows: > 0 stops after that many records of each split.
        bundled_names: names that an error may suggest.
        on_bytes: called with the bytes read of the present file.

    Raises:
        LabError: one sentence with file, place and cause; also while the records are read.
    """
    path = expanded(source)
    if path.is_dir():
        return read_folder(path, max_rows, on_bytes)
    if path.exists():
        return _read_one(source, path, max_rows, on_bytes)
    if _is_hub_name(source, path):
        return _read_hub(source, max_rows)
    raise LabError(_missing(source, path, list(bundled_names)))


def check_exists(source: str, bundled_names: Iterable[str] = ()) -> None:
    """Raises LabError for a name that is no file, no folder and cannot be one of the hub. Reads nothing."""
    path = expanded(source)
    if not path.exists() and not _is_hub_name(source, path):
        raise LabError(_missing(source, path, list(bundled_names)))


def _is_hub_name(source: str, path: Path) -> bool:
    suffix = data_suffix(path)
    return bool(HUB_NAME.match(source)) and suffix not in EXTENSIONS and not path.parent.is_dir()


def _missing(source: str, path: Path, bundled_names: list[str]) -> str:
    near: list[str] = difflib.get_close_matches(source, bundled_names, 1)
    if not near and path.parent.is_dir():
        try:
            siblings = [entry.name for entry in path.parent.iterdir()]
        except OSError:
            siblings = []
        near = [str(path.parent / name) for name in difflib.get_close_matches(path.name, siblings, 1)]
    hint = _weight_hint(source, bundled_names) or (f" Did you mean {near[0]}?" if near else "")
    return (
        f"There is no data file or folder {source}.{hint} Give a file ({', '.join(EXTENSIONS)}), a folder of "
        f"such files, a bundled set ({', '.join(bundled_names) or 'none'}) or a hub id (owner/name)."
    )


def _weight_hint(source: str, bundled_names: list[str]) -> str:
    """What is wrong with the weight of a set that is there; "" where that is not the cause."""
    name, colon, weight = source.rpartition(":")
    if not colon or not (name in bundled_names or (name and expanded(name).exists())):
        return ""
    try:
        float(weight)
    except ValueError:
        return f" The weight {weight!r} of {name} is no number."
    return f" A weight needs a second data set beside {name}."


def _read_one(source: str, path: Path, max_rows: int, on_bytes: OnBytes | None) -> RawData:
    if data_suffix(path) == ".json" and path.is_file():
        splits = json_splits(path)
        if splits is not None:
            raw = choose_splits(str(path), splits, max_rows)
            raw.paths = [path]
            return raw
    return RawData(source, Stream(lambda: iterate_file(path, max_rows, on_bytes)), paths=[path])


def _read_hub(source: str, max_rows: int) -> RawData:
    import datasets

    name, _, config = source.partition(":")
    datasets.disable_progress_bars()
    reachable = hub.reachable()
    try:
        with contextlib.nullcontext() if reachable else hub.cache_only():
            if reachable:
                hub_download.fetch(datasets.load_dataset_builder(name, config or None))
            loaded = datasets.load_dataset(name, config or None)
    except LabError:
        raise
    except Exception as error:  # noqa: BLE001 - datasets raises whatever its readers and the hub do
        raise LabError(_hub_failure(source, error, reachable)) from None
    return from_datasets(source, loaded, max_rows)


def _hub_failure(source: str, error: Exception, reachable: bool) -> str:
    problem = classify(error)
    if not reachable or problem == "offline":
        return (
            f"There is no file or folder {source}, and as a hub id it could not be fetched: the hub is not "
            "reachable from here, and the set is not in the local cache. Give a local file or a bundled set."
        )
    if "config" in str(error).lower() and "missing" in str(error).lower():
        names = ", ".join(re.findall(r"\[([^\]]*)\]", str(error))[:1])[:300]
        return f"The hub set {source} has several configurations ({names}); choose one: owner/name:config."
    if problem is not None:
        return f"There is no file or folder {source}, nor such a set on the hub (or it is private or gated)."
    return f"The hub set {source} could not be loaded: {type(error).__name__}, {first_line(error)}."
