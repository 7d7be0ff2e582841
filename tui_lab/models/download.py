"""Downloads from the hub: what is missing and whether the hub gives it, then the bytes.

:func:`preflight` asks the hub before anything starts, so that a gated model, a missing licence, no network
or a full disk is known at once. :func:`ensure` downloads what is missing of a model into the hub's own cache
and reports bytes, total and speed; :func:`adapter_folder` and :func:`fetch` do the same for adapters and for
files of data sets. A download that was interrupted continues where it ended: the hub's client deletes the
part of a file that it has, so large files are written here, under its lock and by its names. No torch.
"""

from __future__ import annotations

import contextlib
import glob
import io
import re
import shutil
import time
import urllib.parse
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tui_lab.core import hub_connection, hub_errors
from tui_lab.core.errors import LabError
from tui_lab.core.files import sha256
from tui_lab.core.format import size, transfer
from tui_lab.core.paths import expanded
from tui_lab.core.sanitize import sanitize
from tui_lab.models import catalog, checkpoint

if TYPE_CHECKING:
    from huggingface_hub.hf_api import DatasetInfo, ModelInfo

#: Seconds to wait for an answer of the hub.
HUB_TIMEOUT_S = 10.0
#: Seconds over which the speed is averaged.
SPEED_WINDOW_S = 8.0
#: Files from this size on continue after an interruption; smaller ones begin again.
RESUMED_BYTES = 4_000_000
CHUNK_BYTES = 1 << 20
PARTIAL_CONTENT = 206
#: Connections in a row that bring no byte, before a download ends, and seconds between them.
MOST_TRIES, RETRY_S = 5, 1.0
#: The files of an adapter.
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
#: What it may bring beside them: tokens, a chat template, and how the lab asked (data.prompt_settings).
OPTIONAL_ADAPTER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "chat_template.jinja", "prompt.json",
)  # fmt: skip
#: Ends of the names of files that a model needs beside its weights.
_OTHER_FILES = (".json", ".jinja", ".model", ".txt", "README.md")
_SINGLE, _INDEX = "model.safetensors", "model.safetensors.index.json"
_SHARD = re.compile(r"model-\d+-of-\d+\.safetensors")
_PART = ".part"
_ADVICE: dict[hub_errors.HubProblem, str] = {
    "gated": "it is gated: accept its licence on its hub page, then log in with `hf auth login`",
    "not_found": "the hub has no such model or revision, or it is private: check the name, "
    "or log in with `hf auth login`",
    "unauthorized": "the hub refuses access to it: log in with `hf auth login` and accept its licence",
    "offline": "it is not on this machine and the hub cannot be reached; name a folder, or download it first",
}


@dataclass(frozen=True)
class DownloadProgress:
    """Bytes of a model that are on this machine, of all that it needs, and the speed ("bytes_per_s", 0 while
    unknown)."""

    name: str
    done_bytes: int
    total_bytes: int
    bytes_per_s: float

    @property
    def text(self) -> str:
        """The progress as a sentence."""
        amount = transfer(self.done_bytes, self.total_bytes, self.bytes_per_s)
        return f"downloading {self.name}: {amount}"


OnDownload = Callable[[DownloadProgress], None]
Kind = Literal["model", "adapter", "data set"]  # as messages name it

#: Seconds between two reports.
INTERVAL_S = 0.25
_listener: ContextVar[tuple[OnDownload | None, float]] = ContextVar("on_download", default=(None, INTERVAL_S))


@contextlib.contextmanager
def reporting(on_download: OnDownload, interval_s: float = INTERVAL_S) -> Iterator[None]:
    """Inside, downloads report to ``on_download`` where they have no listener of their own."""
    token = _listener.set((on_download, interval_s))
    try:
        yield
    finally:
        _listener.reset(token)


@dataclass(frozen=True)
class HubFile:
    """A file of a model on the hub. ``is_here``: it is in the cache."""

    name: str
    size_bytes: int
    is_here: bool


@dataclass(frozen=True)
class DownloadPlan:
    """What a download of a model, of an adapter or of files of a data set would bring."""

    hub_id: str
    revision: str
    commit: str
    files: tuple[HubFile, ...]
    kind: Kind = "model"

    @property
    def repo_type(self) -> Literal["model", "dataset"]:
        """The kind of its repository, as the hub's client names it."""
        return "dataset" if self.kind == "data set" else "model"

    @property
    def total_bytes(self) -> int:
        """Bytes of all files."""
        return sum(file.size_bytes for file in self.files)

    @property
    def missing_bytes(self) -> int:
        """Bytes of the files that are not in the cache."""
        return sum(file.size_bytes for file in self.files if not file.is_here)

    @property
    def text(self) -> str:
        """The plan as a sentence."""
        return f"{sanitize(self.hub_id)}: {size(self.missing_bytes)} to download"


def advice(problem: hub_errors.HubProblem) -> str:
    """What to do about a refusal of the hub."""
    return _ADVICE[problem]


def is_here(location: str, revision: str = "") -> bool:
    """Whether nothing has to be downloaded: the location is a folder, or the cache holds every file. A folder
    that cannot be used for another reason counts as here: loading says why."""
    if expanded(Path(location)).is_dir():
        return True
    folder = _snapshot(location, revision)
    return folder is not None and not checkpoint.inspect(folder).incomplete


def check_reachable(location: str, revision: str = "") -> None:
    """Raises LabError at once for a model that is not on this machine while the hub cannot be reached."""
    if not is_here(location, revision) and not hub_connection.reachable():
        raise LabError(f"model {sanitize(location)} cannot be loaded: {advice('offline')}")


def preflight(location: str, revision: str = "") -> DownloadPlan | None:
    """What has to be downloaded for a model; None where everything is on this machine, and then the hub is
    not asked. Raises LabError where the hub refuses the model, cannot be reached, or the disk is too full."""
    if is_here(location, revision):
        return None
    check_reachable(location, revision)
    from huggingface_hub import HfApi, get_hf_file_metadata, hf_hub_url

    try:
        info = HfApi().model_info(
            location, revision=revision or None, files_metadata=True, timeout=HUB_TIMEOUT_S
        )
        plan = _plan(location, revision, info)
        # the list of a gated model is public, its files are not
        get_hf_file_metadata(
            hf_hub_url(location, plan.files[-1].name, revision=plan.commit), timeout=HUB_TIMEOUT_S
        )
    except LabError:
        raise
    except Exception as error:
        raise _refusal("model", location, error) from error
    _check_space(plan)
    return plan


def _check_space(plan: DownloadPlan) -> None:
    """Raises LabError where the disk is too full for what is missing."""
    directory = catalog.hub_cache_dir()
    free = shutil.disk_usage(next(path for path in (directory, *directory.parents) if path.exists())).free
    if plan.missing_bytes > free:
        raise LabError(
            f"{plan.kind} {sanitize(plan.hub_id)} cannot be downloaded: {size(plan.missing_bytes)} are "
            f"missing and {size(free)} are free in {sanitize(str(directory))}; free some space, or set "
            "HF_HOME to another disk"
        )


def ensure(
    location: str,
    revision: str = "",
    on_progress: OnDownload | None = None,
    *,
    interval_s: float = INTERVAL_S,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Downloads what is missing of a model, and reports about every ``interval_s`` seconds. Raises
    LabError."""
    plan = preflight(location, revision)
    if plan is None:
        return
    try:
        fetch(plan, on_progress, interval_s=interval_s, clock=clock)
    except LabError:
        raise
    except Exception as error:
        raise _refusal("model", location, error) from error


def adapter_folder(hub_id: str) -> Path:
    """The folder of an adapter of the hub, with what is missing downloaded: weights, and tokenizer and chat
    template where it has them. Without the hub the newest one
    that is here. Raises what the hub's client raises, and LabError for a download that ended early."""
    names = [*ADAPTER_FILES, *OPTIONAL_ADAPTER_FILES]
    try:
        return fetch(plan_of_files(hub_id, "", names, "adapter"))
    except LabError:
        raise
    except Exception as error:
        if hub_errors.classify(error) != "offline":
            raise
        from huggingface_hub import snapshot_download

        cache = catalog.hub_cache_dir()
        folder = Path(snapshot_download(hub_id, cache_dir=cache, allow_patterns=names, local_files_only=True))
        if not all((folder / name).is_file() for name in ADAPTER_FILES):
            raise
        return folder


def plan_of_files(hub_id: str, revision: str, names: Iterable[str], kind: Kind) -> DownloadPlan:
    """What a download of these files would bring, those that the hub has. Raises what its client raises."""
    from huggingface_hub import HfApi

    hub, asked = HfApi(), revision or None
    info: ModelInfo | DatasetInfo
    if kind == "data set":
        info = hub.dataset_info(hub_id, revision=asked, files_metadata=True, timeout=HUB_TIMEOUT_S)
    else:
        info = hub.model_info(hub_id, revision=asked, files_metadata=True, timeout=HUB_TIMEOUT_S)
    return _plan_of(hub_id, revision, info, names, kind)


def fetch(
    plan: DownloadPlan,
    on_progress: OnDownload | None = None,
    *,
    interval_s: float = INTERVAL_S,
    clock: Callable[[], float] = time.monotonic,
) -> Path:
    """Downloads what is missing of a plan, and reports as :func:`ensure` does; returns the folder. Raises
    LabError for a full disk and for a download that ended early, and what the hub's client raises before its
    first byte."""
    _check_space(plan)
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils.tqdm import disable_progress_bars

    disable_progress_bars()
    if on_progress is None:
        on_progress, interval_s = _listener.get()
    meter = _Meter(sanitize(plan.hub_id), plan, on_progress, interval_s, clock)
    try:
        for file in plan.files:
            if not file.is_here and file.size_bytes >= RESUMED_BYTES:
                _download_blob(plan, file, meter.report)
        # the small files, and the names of the large ones
        folder = snapshot_download(
            plan.hub_id,
            repo_type=plan.repo_type,
            revision=plan.revision or "main",
            cache_dir=catalog.hub_cache_dir(),
            allow_patterns=[glob.escape(file.name) for file in plan.files],
            etag_timeout=HUB_TIMEOUT_S,
        )
    except LabError:
        raise
    except Exception as error:
        at = meter.progress
        if not at.done_bytes or hub_errors.classify(error) in ("gated", "not_found", "unauthorized"):
            raise
        raise _interruption(plan, at, error) from error
    meter.finish()
    return Path(folder)


# --------------------------------------------------------------------------------------------------
# what is needed


def _snapshot(hub_id: str, revision: str) -> Path | None:
    """The folder of a revision in the cache; None where there is none."""
    if not revision:
        return catalog.local_folder(hub_id)
    folder = catalog.revision_folder(hub_id, revision)
    return folder if folder is not None and (folder / "config.json").is_file() else None


def _plan(hub_id: str, revision: str, info: ModelInfo) -> DownloadPlan:
    names = _needed(each.rfilename for each in info.siblings or ())
    if not any(name.endswith(".safetensors") for name in names):
        raise LabError(
            f"model {sanitize(hub_id)} cannot be loaded: the hub has no {_SINGLE} of it, and weights in "
            "other formats are not read; choose another model"
        )
    return _plan_of(hub_id, revision, info, names)


def _plan_of(
    hub_id: str,
    revision: str,
    info: ModelInfo | DatasetInfo,
    names: Iterable[str],
    kind: Kind = "model",
) -> DownloadPlan:
    from huggingface_hub import try_to_load_from_cache

    sizes = {each.rfilename: each.size or 0 for each in info.siblings or ()}
    plan = DownloadPlan(hub_id, revision, info.sha or revision, (), kind)

    def is_cached(name: str) -> bool:
        found = try_to_load_from_cache(hub_id, name, catalog.hub_cache_dir(), plan.commit, plan.repo_type)
        return isinstance(found, str)

    files = [HubFile(name, sizes[name], is_cached(name)) for name in names if name in sizes]
    # the weights last: a wrong config or tokenizer shows before them
    return replace(plan, files=tuple(sorted(files, key=lambda file: file.size_bytes)))


def _needed(names: Iterable[str]) -> list[str]:
    """The files of a model that transformers reads: of its weights one form, and nothing of subfolders."""
    top = [name for name in names if "/" not in name]
    shards = [name for name in top if _SHARD.fullmatch(name)] if _INDEX in top else []
    weights = [_SINGLE] if _SINGLE in top else shards
    others = [
        name
        for name in top
        if (name.endswith(_OTHER_FILES) and not name.endswith(".index.json")) or (name == _INDEX and shards)
    ]
    return weights + others


# --------------------------------------------------------------------------------------------------
# the bytes


class _Meter:
    """Counts the bytes of a download, and reports them at intervals with the speed of the last seconds."""

    def __init__(
        self,
        name: str,
        plan: DownloadPlan,
        on_progress: OnDownload | None,
        interval_s: float,
        clock: Callable[[], float],
    ) -> None:
        self._name, self._plan, self._on_progress = name, plan, on_progress
        self._interval_s, self._clock = interval_s, clock
        self._sizes = {file.name: file.size_bytes if file.is_here else 0 for file in plan.files}
        self._recent: deque[tuple[float, int]] = deque()
        self._reported_s = -interval_s

    @property
    def progress(self) -> DownloadProgress:
        """The present state."""
        done = sum(self._sizes.values())
        speed = 0.0
        if self._recent and (seconds := self._recent[-1][0] - self._recent[0][0]) > 0:
            speed = max(0, self._recent[-1][1] - self._recent[0][1]) / seconds
        return DownloadProgress(self._name, done, self._plan.total_bytes, speed)

    def report(self, name: str, done_bytes: int) -> None:
        """Takes how much of a file is on the disk."""
        self._sizes[name] = done_bytes
        now = self._clock()
        self._recent.append((now, sum(self._sizes.values())))
        while now - self._recent[0][0] > SPEED_WINDOW_S:
            self._recent.popleft()
        if now - self._reported_s >= self._interval_s:
            self._reported_s = now
            self._send()

    def finish(self) -> None:
        """Reports that everything is there."""
        self._sizes = {file.name: file.size_bytes for file in self._plan.files}
        self._send()

    def _send(self) -> None:
        if self._on_progress is not None:
            self._on_progress(self.progress)


class _CountingFile(io.FileIO):
    """A file that reports its length after each write."""

    on_length: Callable[[int], None]

    def write(self, data: object) -> int:
        written = super().write(data)  # type: ignore[arg-type]
        self.on_length(self.tell())
        return written


def _download_blob(plan: DownloadPlan, file: HubFile, report: Callable[[str, int], None]) -> None:
    """One large file into the blobs of the cache, continued from the part that is there. Raises LabError for
    a file that arrived damaged, and what the hub's client raises."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    # public names, which the package's types do not list as exported
    from huggingface_hub.utils import WeakFileLock, build_hf_headers  # type: ignore[attr-defined]

    url = hf_hub_url(plan.hub_id, file.name, repo_type=plan.repo_type, revision=plan.commit)
    metadata = get_hf_file_metadata(url, timeout=HUB_TIMEOUT_S)
    repository = catalog.repository_folder(plan.hub_id, kind=plan.repo_type)
    etag = metadata.etag or ""
    if not re.fullmatch(r"[0-9a-f]{40,64}", etag):
        return  # an unusual server: the hub's client downloads the file
    headers = build_hf_headers()
    if urllib.parse.urlsplit(metadata.location).netloc != urllib.parse.urlsplit(url).netloc:
        headers.pop("authorization", None)  # the token is for the hub, not for its storage
    lock = catalog.hub_cache_dir() / ".locks" / repository.name / f"{etag}.lock"
    blob, part = repository / "blobs" / etag, repository / "blobs" / f"{etag}{_PART}"
    lock.parent.mkdir(parents=True, exist_ok=True)
    blob.parent.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(lock):
        if blob.exists():
            return
        with _CountingFile(part, "ab+") as target:
            target.on_length = lambda length: report(file.name, length)
            if (start := target.seek(0, io.SEEK_END)) > file.size_bytes:
                start = target.truncate(0)
            target.on_length(start)
            _receive(metadata.location, headers, target, file.size_bytes)
        if len(etag) == 64 and sha256(part) != etag:
            part.unlink()
            raise LabError(
                f"{sanitize(plan.hub_id)}: {sanitize(file.name)} arrived damaged (its checksum "
                "differs); start again to download this file anew"
            )
        part.rename(blob)


def _receive(url: str, headers: dict[str, str], target: _CountingFile, total: int) -> None:
    """Appends the rest of a file of ``total`` bytes, continued when the connection breaks. Raises what the
    hub's client raises after :data:`MOST_TRIES` connections that brought nothing."""
    from huggingface_hub.utils import get_session, hf_raise_for_status  # type: ignore[attr-defined]

    tries = 0
    while (start := target.seek(0, io.SEEK_END)) < total:
        asked = {**headers, "Accept-Encoding": "identity", "Range": f"bytes={start}-"}
        try:
            with get_session().stream(
                "GET", url, headers=asked, timeout=HUB_TIMEOUT_S, follow_redirects=True
            ) as response:
                hf_raise_for_status(response)
                if response.status_code != PARTIAL_CONTENT:
                    target.truncate(target.seek(0))  # the server sends everything again
                for chunk in response.iter_bytes(CHUNK_BYTES):
                    target.write(chunk)
        except Exception as error:
            tries = tries + 1 if target.tell() <= start else 1
            if tries >= MOST_TRIES or hub_errors.classify(error) != "offline":
                raise
            time.sleep(RETRY_S)


# --------------------------------------------------------------------------------------------------
# errors


def _refusal(kind: Kind, location: str, error: Exception) -> LabError:
    """Why the hub gives no model, in a sentence. Raises ``error`` itself for a fault of the program."""
    what = f"{kind} {sanitize(location)}"
    if (problem := hub_errors.classify(error)) is not None:
        return LabError(f"{what} cannot be loaded: {_ADVICE[problem]}")
    if (status := hub_errors.status_code(error)) is not None:
        return LabError(
            f"{what} cannot be downloaded: the hub answers with the error {status}; try again later"
        )
    if isinstance(error, OSError | ValueError):
        cause = sanitize((str(error).strip().splitlines() or [type(error).__name__])[0][:300])
        return LabError(f"{what} cannot be downloaded: {cause}")
    raise error


def _interruption(plan: DownloadPlan, at: DownloadProgress, error: Exception) -> LabError:
    """Why a download ended early, in a sentence that says how it continues."""
    lost = hub_errors.classify(error) == "offline"
    cause = "the connection to the hub was lost" if lost else str(_refusal(plan.kind, plan.hub_id, error))
    return LabError(
        f"the download of {sanitize(plan.hub_id)} ended at {size(at.done_bytes)} of {size(at.total_bytes)}: "
        f"{cause}; start again to continue there"
    )
