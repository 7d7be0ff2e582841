"""Versions of the lab and of its libraries, as results and logs record them."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import version

from tui_lab import __version__


def versions_of(libraries: Iterable[str]) -> dict[str, str]:
    """The versions of the lab and of installed distributions by name. Raises PackageNotFoundError."""
    return {"tui_lab": __version__, **{name: version(name) for name in libraries}}
