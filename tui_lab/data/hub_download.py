"""Downloads the files of a data set of the hub before the library ``datasets`` reads them: with bytes, total
and speed (:func:`tui_lab.models.download.reporting`), and continued where an earlier download ended."""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Mapping
from typing import Protocol

from tui_lab.models import download

#: The address of a file of a data set, as builders of the library name it.
_ADDRESS = re.compile(r"hf://datasets/(?P<name>[^@]+)@(?P<revision>[^/]+)/(?P<path>.+)")


class Builder(Protocol):
    """What is used of a builder of the library."""

    @property
    def config(self) -> object: ...


def fetch(builder: Builder) -> None:
    """Downloads what is missing of the files that a builder reads. Files that are not on the hub, and a
    builder that does not name its files, are left to the library. Raises LabError for a download that ended
    early, and what the hub's client raises."""
    wanted: dict[tuple[str, str], list[str]] = {}
    for match in map(_ADDRESS.fullmatch, _addresses(builder)):
        if match is not None:
            revision = urllib.parse.unquote(match["revision"])
            wanted.setdefault((match["name"], revision), []).append(match["path"])
    for (name, revision), paths in wanted.items():
        plan = download.plan_of_files(name, revision, paths, "data set")
        if plan.missing_bytes:
            download.fetch(plan)


def _addresses(builder: Builder) -> list[str]:
    files = getattr(builder.config, "data_files", None)
    if not isinstance(files, Mapping):
        return []
    return list(dict.fromkeys(str(address) for split in files.values() for address in split))
