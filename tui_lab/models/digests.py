"""Digests that show whether a model, its tokenizer, an adapter or a data file is still what it was. No torch.

Up to :data:`WHOLE_BYTES` of a file are hashed completely. Of a larger weights file the header and blocks at
the beginning, middle and end of every tensor are hashed: training, merging or quantising changes all of them,
and a change of single bytes may be missed. Times and names of folders do not count.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from tui_lab.core import input_files, safetensors_file
from tui_lab.core.paths import expanded
from tui_lab.models import catalog

#: Files up to this size are hashed completely: below a second.
WHOLE_BYTES = 256 << 20
_BLOCK_BYTES = 16 << 10
#: Blocks of a large file that is not safetensors, spread evenly.
_BLOCKS = 4096
_ADAPTER_WEIGHTS = "adapter_model.safetensors"
#: Files that decide how text becomes tokens.
_TOKENIZER = re.compile(
    r"tokenizer\.json|tokenizer_config\.json|special_tokens_map\.json|added_tokens\.json|chat_template\.(jinja|json)"
    r"|vocab\.(json|txt)|merges\.txt|.*\.model"
)
#: Keys of a config that change when a folder is saved again as it is.
_INCIDENTAL = ("transformers_version", "_name_or_path")


def model_folder(location: str, revision: str = "") -> Path | None:
    """The folder with the files of a folder or hub id at a revision; None where they are not on this
    machine."""
    if not Path(location).is_dir() and revision:
        return catalog.revision_folder(location, revision)
    return catalog.local_folder(location)


def identity(location: str, revision: str = "", adapter: Path | None = None) -> str:
    """A hash of a model's weights, tokenizer and template, and of an adapter's weights: for folders by the
    content of their files; for hub ids with the commit in the cache, whose files never change."""
    parts = [location, revision]
    if Path(location).is_dir():
        parts += [weights_digest(location), tokenizer_digest(location)]
    else:
        parts.append(_cached_commit(location, revision))
    if adapter is not None:
        parts += [weights_digest(adapter), data_digest(adapter / "adapter_config.json")]
    return hashlib.sha256(json.dumps(parts).encode("utf-8", "replace")).hexdigest()


def _cached_commit(hub_id: str, revision: str) -> str:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(hub_id, "config.json", revision=revision or "main")
    except (HFValidationError, ValueError):
        return ""
    return Path(found).parent.name if isinstance(found, str) else ""


def weights_digest(location: str | Path, revision: str = "") -> str:
    """The digest of a model's weights and config, or of an adapter's weights; "" where they are not on this
    machine or cannot be read."""
    folder = model_folder(str(location), revision)
    if folder is None:
        return ""
    try:
        adapter = folder / _ADAPTER_WEIGHTS
        if adapter.is_file() and not (folder / "config.json").is_file():
            return _files_digest(_signatures([adapter]))
        weights = [path for path in sorted(folder.glob("*.safetensors")) if path.name != adapter.name]
        return _combined(_config_digest(folder / "config.json"), _files_digest(_signatures(weights)))
    except (OSError, ValueError, RecursionError):
        return ""


def tokenizer_digest(location: str | Path, revision: str = "", template: str = "") -> str:
    """The digest of a model's tokenizer files and chat templates; ``template``: a file that is used in place
    of the model's. "" where they are not on this machine."""
    folder = model_folder(str(location), revision)
    if folder is None:
        return ""
    try:
        files = [
            path for path in sorted(folder.iterdir()) if _TOKENIZER.fullmatch(path.name) and path.is_file()
        ]
        own = expanded(template) if template else None
        extra = _files_digest(_signatures([own], names=False)) if own is not None and own.is_file() else ""
        return _combined(_files_digest(_signatures(files)), extra)
    except (OSError, ValueError, RuntimeError):
        return ""


def data_digest(path: str | Path) -> str:
    """The digest of a data file or of the files of a data folder; "" for what is no local path."""
    try:
        place = expanded(Path(path))
        if place.is_file():
            return _files_digest(_signatures([place], names=False))
        if place.is_dir():
            return _files_digest(_signatures(sorted(each for each in place.rglob("*") if each.is_file())))
    except (OSError, ValueError):
        pass
    return ""


Signature = tuple[str, str, int, int, int]  # path, name in the digest, size, time of change, inode


def _signatures(paths: list[Path], names: bool = True) -> tuple[Signature, ...]:
    found = []
    for path in paths:
        stat = path.stat()
        name = path.name if names else ""
        found.append((str(path), name, stat.st_size, stat.st_ctime_ns, stat.st_ino))
    return tuple(found)


@lru_cache(maxsize=64)  # one command asks several times
def _files_digest(files: tuple[Signature, ...]) -> str:
    """The digest of files with their names. Raises OSError and ValueError."""
    found = hashlib.sha256()
    for path, name, size, *times in files:
        found.update(f"{name} {size}\n".encode("utf-8", "surrogateescape"))
        if size <= WHOLE_BYTES:
            found.update(_content(path, size, *times))
            continue
        with input_files.open_regular(path) as file:
            for at in _sampled(Path(path), size):
                file.seek(at)
                found.update(file.read(_BLOCK_BYTES))
    return found.hexdigest()


@lru_cache(maxsize=1024)  # the key of the prepared data asks for the same files as the run's record
def _content(path: str, size: int, changed_ns: int, inode: int) -> bytes:  # noqa: ARG001 (they identify it)
    with input_files.open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").digest()


def content_digest(path: Path) -> str:
    """The digest of all of a file, however large. Raises OSError and ValueError."""
    [(name, _, *identity)] = _signatures([path])
    return _content(name, *identity).hex()


def _sampled(path: Path, size: int) -> Iterator[int]:
    """Where the hashed blocks of a large file begin."""
    if path.suffix != ".safetensors":
        yield from ((size - _BLOCK_BYTES) * at // (_BLOCKS - 1) for at in range(_BLOCKS))
        return
    tensors = safetensors_file.read_header(path).values()
    begin = size - max((tensor.data_offsets[1] for tensor in tensors), default=0)
    yield from range(0, begin, _BLOCK_BYTES)  # the header
    for tensor in tensors:
        first, last = tensor.data_offsets
        for at in (first, (first + last) // 2, max(first, last - _BLOCK_BYTES)):
            yield begin + at


def _config_digest(path: Path) -> str:
    """The digest of a config's values. Raises OSError, ValueError and RecursionError."""
    if not path.is_file():
        return ""
    config = input_files.read_json(path)
    if isinstance(config, dict):
        config = {key: value for key, value in config.items() if key not in _INCIDENTAL}
    return _combined(json.dumps(config, sort_keys=True))


def _combined(*parts: str) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
