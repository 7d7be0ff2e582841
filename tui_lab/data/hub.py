"""Whether the hub gives a data set; without a connection its clients read the local cache directly."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from tui_lab.core import hub_errors
from tui_lab.core.errors import LabError
from tui_lab.core.hub_connection import reachable
from tui_lab.core.paths import expanded
from tui_lab.core.sanitize import sanitize
from tui_lab.models import catalog
from tui_lab.models.download import HUB_TIMEOUT_S

#: Files of a gated set that are public.
_PUBLIC_FILES = ("README.md", ".gitattributes")
_REFUSALS: dict[hub_errors.HubProblem, str] = {
    "gated": "it is gated: accept its terms on its hub page, then log in with `hf auth login`",
    "not_found": "there is no such file or folder, nor such a set on the hub (or it is private)",
    "unauthorized": "the hub refuses access to it: log in with `hf auth login` and accept its terms",
    "offline": "it is not on this machine and the hub cannot be reached; give a local file or a bundled set",
}

__all__ = ["cache_only", "preflight", "reachable"]


@contextlib.contextmanager
def cache_only() -> Iterator[None]:
    """Inside, the hub's clients read only their cache, as with HF_HUB_OFFLINE."""
    import datasets
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE = before


def preflight(source: str) -> None:
    """Asks the hub whether it gives the data set ``owner/name`` or ``owner/name:config``, so that a refusal
    is known before a run starts or waits. Local data and sets in a cache are not asked about. Raises
    LabError."""
    from huggingface_hub import HfApi, get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import HFValidationError

    name = source.partition(":")[0]
    if name.count("/") != 1 or expanded(Path(source)).exists() or _is_cached(name):
        return
    if not reachable():  # at once: the clients retry
        raise LabError(f"data {sanitize(source)} cannot be read: {_REFUSALS['offline']}")
    try:
        info = HfApi().dataset_info(name, timeout=HUB_TIMEOUT_S)
        files = [each.rfilename for each in info.siblings or () if each.rfilename not in _PUBLIC_FILES]
        if files:  # the list of a gated set is public, its files are not
            url = hf_hub_url(name, files[0], repo_type="dataset", revision=info.sha)
            get_hf_file_metadata(url, timeout=HUB_TIMEOUT_S)
    except HFValidationError:
        return  # no name of the hub: reading the data says what is wrong
    except Exception as error:
        if hub_errors.classify(error) is None and hub_errors.status_code(error) is None:
            raise
        raise _refusal(source, error) from None


def _is_cached(name: str) -> bool:
    """Whether a set is in the hub's cache, or prepared in that of the library datasets."""
    from huggingface_hub import constants

    prepared = os.environ.get("HF_DATASETS_CACHE") or str(Path(constants.HF_HOME) / "datasets")
    places = (
        catalog.repository_folder(name, kind="dataset") / "snapshots",
        expanded(Path(prepared)) / name.lower().replace("/", "___"),
        expanded(Path(prepared)) / name.replace("/", "___"),
    )
    return any(place.is_dir() for place in places)


def _refusal(source: str, error: Exception) -> LabError:
    kind = hub_errors.classify(error)
    status = hub_errors.status_code(error)
    reason = _REFUSALS[kind] if kind else f"the hub answers with the error {status}; try again later"
    return LabError(f"data {sanitize(source)} cannot be read: {reason}")
