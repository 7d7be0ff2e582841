"""The models to choose from: the bundled one, those of ``catalog.toml``, models in the local hub cache, any
local folder, and any hub id.

An entry has the facts that a picker and a forecast need, and their source; unknown facts are None. Models
that the lab cannot tune are listed with a sentence that says why and what to take instead. No heavy imports:
the cache is read by its public folder layout, a folder by :mod:`tui_lab.models.checkpoint`.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

from msgspec import Struct

from tui_lab.core import input_files
from tui_lab.core.errors import LabError
from tui_lab.core.paths import expanded, path_exists
from tui_lab.core.records import from_plain
from tui_lab.core.sanitize import sanitize
from tui_lab.models.checkpoint import FolderFacts, inspect
from tui_lab.models.shapes import Shape, parameter_count
from tui_lab.models.stored_forms import StoredForm
from tui_lab.pocket import MODEL_DIR

#: Presets, forecasts and time budgets are made for models up to this size.
MAX_PARAMETERS = 3_000_000_000
POCKET = "pocket"

_CATALOG_FILE = Path(__file__).with_name("catalog.toml")
_POCKET_DIR = MODEL_DIR
#: Hub ids: letters, digits and ``-_.``, at most 96 characters per part.
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)

Where = Literal["bundled", "catalog", "cache", "folder", "hub"]


_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Entry:
    """A model and its facts; None means unknown."""

    id: str  # value of a recipe's ``model``: pocket, a hub id, or a folder
    label: str  # for display; safe for a terminal
    where: Where
    path: Path | None = None  # its folder on this machine
    on_disk: bool = False  # its weights need no download
    model_type: str | None = None
    shape: Shape | None = None
    parameters: int | None = None
    context: int | None = None  # tokens
    licence: str | None = None
    gated: bool | None = None  # a licence must be accepted on the hub first
    chat_template: bool | None = None  # its tokenizer has one
    suggested_targets: str = "all"
    source: str = ""  # source of the facts
    unverified: tuple[str, ...] = ()  # facts that were not read at their source
    aliases: tuple[str, ...] = ()
    refused: str | None = None  # why the lab does not tune it, and what to take instead
    needs_flag: bool = False  # refused for its size alone: allow_large permits it
    form: StoredForm = "plain"  # how its files store the weights

    @property
    def layers(self) -> int | None:
        return self.shape.layers if self.shape else None

    @property
    def hidden(self) -> int | None:
        return self.shape.hidden if self.shape else None

    @property
    def intermediate(self) -> int | None:
        return self.shape.intermediate if self.shape else None

    @property
    def heads(self) -> int | None:
        return self.shape.heads if self.shape else None

    @property
    def kv_heads(self) -> int | None:
        return self.shape.kv_heads if self.shape else None

    @property
    def head_dim(self) -> int | None:
        return self.shape.head_dim if self.shape else None

    @property
    def vocabulary(self) -> int | None:
        return self.shape.vocabulary if self.shape else None

    @property
    def tied(self) -> bool | None:
        return self.shape.tied if self.shape else None

    @property
    def short(self) -> str:
        """The name without its owner."""
        return self.id.rpartition("/")[2]

    @property
    def loadable(self) -> str:
        """The argument of ``from_pretrained``: the folder of the bundled model or of a local one, else the
        hub id (the hub's client finds the cache)."""
        return str(self.path) if self.path is not None and self.where in ("bundled", "folder") else self.id


def _too_large(label: str, parameters: int | None, smaller: str = "") -> str | None:
    """The sentence for a model over the size limit; None for any other."""
    if parameters is None or parameters <= MAX_PARAMETERS:
        return None
    instead = f" (such as {smaller})" if smaller else ""
    return (
        f"{label} has {parameters / 1e9:.2f} B parameters, over the lab's limit of 3 B: "
        f"take a smaller one{instead}, or allow it with --allow-large"
    )


# --------------------------------------------------------------------------------------------------
# the file


class _Row(Struct, kw_only=True):
    """A row of ``catalog.toml`` without its sizes; the file's head explains the keys. ``like``: the id of the
    row with the sizes."""

    id: str
    source: str
    like: str = ""
    context: int | None = None
    licence: str | None = None
    gated: bool | None = None
    chat_template: bool | None = None
    suggested_targets: str = "all"
    unverified: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    refused: str | None = None
    smaller: str = ""


class _CatalogFile(Struct):
    model: list[dict[str, object]]


@lru_cache(maxsize=1)
def _listed() -> tuple[Entry, ...]:
    """The entries of ``catalog.toml``, in its order."""
    file = tomllib.loads(_CATALOG_FILE.read_text(encoding="utf-8"))
    values = {str(row.get("id")): row for row in from_plain(file, _CatalogFile, _CATALOG_FILE.name).model}
    entries = []
    for id, plain in values.items():
        where = f"{_CATALOG_FILE.name}, {id}"
        row = from_plain(plain, _Row, where)
        sizes = {**values[row.like or id], "context": row.context or 0}
        shape = from_plain(sizes, Shape, where) if "model_type" in sizes else None
        entries.append(_from_row(row, shape))
    return tuple(entries)


def _from_row(row: _Row, shape: Shape | None) -> Entry:
    parameters = parameter_count(shape) if shape else None
    large = _too_large(row.id, parameters, row.smaller)
    return Entry(
        id=row.id,
        label=row.id,
        where="catalog",
        model_type=shape.model_type if shape else None,
        shape=shape,
        parameters=parameters,
        context=row.context,
        licence=row.licence,
        gated=row.gated,
        chat_template=row.chat_template,
        suggested_targets=row.suggested_targets,
        source=row.source,
        unverified=row.unverified,
        aliases=row.aliases,
        refused=row.refused or large,
        needs_flag=row.refused is None and large is not None,
    )


# --------------------------------------------------------------------------------------------------
# folders and the hub cache


def _from_folder(facts: FolderFacts, *, id: str, label: str, where: Where, source: str) -> Entry:
    # files missing from the cache are downloaded; a local folder must be complete
    problem = None if where == "cache" and facts.incomplete else facts.problem
    large = _too_large(label, facts.parameters)
    return Entry(
        id=id,
        label=label,
        where=where,
        path=facts.path,
        on_disk=facts.has_weights,
        model_type=facts.model_type,
        shape=facts.shape,
        parameters=facts.parameters,
        context=facts.context,
        licence=facts.licence,
        gated=False,  # its files are on this machine
        chat_template=facts.chat_template,
        form=facts.form,
        source=source,
        refused=problem or large,
        needs_flag=problem is None and large is not None,
    )


def pocket() -> Entry:
    """The bundled model, by its own files."""
    if not (_POCKET_DIR / "config.json").is_file():
        return Entry(
            id=POCKET,
            label=POCKET,
            where="bundled",
            path=_POCKET_DIR,
            licence="apache-2.0",
            source="this package",
            refused="the bundled model is missing from this installation: "
            "reinstall it, or in a checkout run `python -m tui_lab.pocket.builder.build`",
        )
    facts = inspect(_POCKET_DIR, name="the bundled model")
    source = "its config.json, in this package"
    made = _from_folder(facts, id=POCKET, label=POCKET, where="bundled", source=source)
    return replace(made, licence="apache-2.0")


def hub_cache_dir() -> Path:
    """The folder of the hub's cache, by the same variables as huggingface_hub."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if value := os.environ.get(variable):
            return _expanded(value)
    place = os.environ.get("HF_HOME") or str(
        Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    )
    return _expanded(place) / "hub"


def _expanded(path: str) -> Path:
    return expanded(Path(os.path.expandvars(path)))


def local_folder(location: str, cache_dir: Path | None = None) -> Path | None:
    """The folder that holds a model's files: the folder itself, or the newest snapshot of a hub id in the
    cache; None where nothing is on this machine."""
    if (folder := expanded(Path(location))).is_dir():
        return folder
    return _snapshot(repository_folder(location, cache_dir))


def repository_folder(hub_id: str, cache_dir: Path | None = None, kind: str = "model") -> Path:
    """Where the hub's cache keeps a hub id, whether it is there or not; ``kind``: model or dataset."""
    return (cache_dir or hub_cache_dir()) / f"{kind}s--{hub_id.replace('/', '--')}"


def revision_folder(hub_id: str, revision: str) -> Path | None:
    """The snapshot of a branch, tag or commit of a hub id in the cache; None where there is none."""
    repository = repository_folder(hub_id)
    commit = revision
    if not _COMMIT.fullmatch(revision):
        try:
            commit = input_files.read_text(repository / "refs" / revision, 1024).strip()
        except (OSError, ValueError):
            return None
    snapshot = repository / "snapshots" / commit
    return snapshot if _COMMIT.fullmatch(commit) and snapshot.is_dir() else None


def _snapshot(repository: Path) -> Path | None:
    """The snapshot of ``main``, else the newest one with a config."""
    snapshots = repository / "snapshots"
    try:
        revision = input_files.read_text(repository / "refs" / "main", 1024).strip()
        if _COMMIT.fullmatch(revision) and (snapshots / revision / "config.json").is_file():
            return snapshots / revision
    except (OSError, UnicodeDecodeError):
        pass
    try:
        found = [path for path in snapshots.iterdir() if (path / "config.json").is_file()]
        return max(found, key=lambda path: path.stat().st_mtime, default=None)
    except OSError:
        return None


def _cached(directory: Path) -> dict[str, Path]:
    """Snapshot folder by hub id, for every model in the cache with a config."""
    found = {}
    try:
        repositories = sorted(path for path in directory.iterdir() if path.name.startswith("models--"))
    except OSError:
        return {}
    for repository in repositories:
        parts = repository.name.split("--")[1:]
        hub_id = "/".join(parts) if len(parts) <= 2 else f"{parts[0]}/{'--'.join(parts[1:])}"
        snapshot = _snapshot(repository)
        if snapshot is not None:
            found[hub_id] = snapshot
    return found


def _in_cache(entry: Entry, snapshot: Path) -> Entry:
    """A listed entry whose files are in the cache."""
    facts = inspect(snapshot)
    read = {"chat_template": facts.chat_template, "licence": facts.licence}
    unverified = tuple(name for name in entry.unverified if read.get(name) is None)
    return replace(
        entry,
        path=snapshot,
        on_disk=facts.has_weights,
        form=facts.form,
        unverified=unverified,
        chat_template=entry.chat_template if facts.chat_template is None else facts.chat_template,
        licence=facts.licence or entry.licence,
    )


def _from_cache(hub_id: str, snapshot: Path) -> Entry:
    return _from_folder(
        inspect(snapshot, name=sanitize(hub_id)),
        id=hub_id,
        label=sanitize(hub_id),
        where="cache",
        source="its config.json, in the hub cache",
    )


# --------------------------------------------------------------------------------------------------
# look-up


def load(cache_dir: Path | None = None) -> list[Entry]:
    """Every model that can be named without a path: bundled, catalog, then the rest of the cache. Includes
    refused ones. Needs no network and no torch.
    """
    cached = _cached(cache_dir or hub_cache_dir())
    entries = [pocket()]
    for entry in _listed():
        snapshot = cached.pop(entry.id, None)
        entries.append(_in_cache(entry, snapshot) if snapshot else entry)
    entries += [_from_cache(hub_id, snapshot) for hub_id, snapshot in cached.items()]
    return entries


def _names(entries: Iterable[Entry]) -> dict[str, Entry]:
    """Entries by lower-case name: ids, then aliases, then names without owner; the first one wins."""
    names: dict[str, Entry] = {}
    ordered = list(entries)
    for entry in ordered:
        names.setdefault(entry.id.lower(), entry)
    for entry in ordered:
        for alias in entry.aliases:
            names.setdefault(alias.lower(), entry)
    for entry in ordered:
        names.setdefault(entry.short.lower(), entry)
    return names


def _suggestion(name: str, names: Iterable[str], entries: Mapping[str, Entry]) -> str:
    near = difflib.get_close_matches(name.lower(), list(names), n=1, cutoff=0.5)
    return f"; did you mean {entries[near[0]].id!r}?" if near else ""


def _looks_like_path(name: str) -> bool:
    return name.startswith(("/", "./", "../", "~", ".\\")) or name in (".", "..")


def find(name: str, allow_large: bool = False, cache_dir: Path | None = None) -> Entry:
    """The model of a name: pocket, a catalog or cache name (with or without its owner, in any case), a local
    folder, or a hub id ``org/name``.

    Raises LabError, with advice, for unknown names and refused models. ``allow_large`` permits those over 3 B
    parameters. A hub id that is not in the catalog is returned with unknown facts; whether it exists shows
    when it is loaded.
    """
    wanted = name.strip()
    if not wanted:
        raise LabError("model is empty: name one of `tui-lab models`, a local folder, or a hub id org/name")
    entry = _find(wanted, cache_dir)
    if entry.refused is None or (allow_large and entry.needs_flag):
        return replace(entry, refused=None, needs_flag=False)
    raise LabError(f"model {entry.refused}" if entry.where == "folder" else entry.refused)


def is_hub_id(name: str) -> bool:
    """Whether a name can be one of a hub model, and is no folder."""
    return bool(_HUB_ID.fullmatch(name)) and not path_exists(expanded(name))


def check_size(name: str, parameters: int, allow_large: bool) -> None:
    """Raises LabError for a model over the limit whose size is known only once it is loaded."""
    if not allow_large and (sentence := _too_large(sanitize(name), parameters)):
        raise LabError(sentence)


def _find(wanted: str, cache_dir: Path | None) -> Entry:
    shown = sanitize(wanted)
    folder = expanded(Path(wanted))
    if not _looks_like_path(wanted):
        entries = load(cache_dir)
        names = _names(entries)
        if entry := names.get(wanted.lower()):
            return entry
    if folder.is_dir():
        facts = inspect(folder.resolve(), name=shown)
        return _from_folder(
            facts, id=str(folder.resolve()), label=sanitize(folder.resolve().name) or shown, where="folder",
            source="its config.json",
        )  # fmt: skip
    if folder.is_file():
        raise LabError(f"model {shown}: is a file; name the folder that holds config.json and the weights")
    if _looks_like_path(wanted) or wanted.count("/") > 1:
        raise LabError(f"model {shown}: there is no such folder")
    suggestion = _suggestion(wanted, names, names)
    if _HUB_ID.fullmatch(wanted) and ".." not in wanted and "--" not in wanted:
        return Entry(
            id=wanted, label=shown, where="hub", source="the hub; nothing is known before it is loaded"
        )
    raise LabError(
        f"model {shown!r} is not known{suggestion or '; `tui-lab models` lists what is'} "
        "(a local folder or a hub id org/name works too)"
    )
