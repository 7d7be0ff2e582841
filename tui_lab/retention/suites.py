"""The suites by name: what there is (`names`) and how one is loaded (`load`), whether it is bundled, a
standard benchmark from the hub or from local files, or a user's own JSONL. No torch, and nothing that a
data set brings is ever executed. Every failure is one sentence."""

from __future__ import annotations

from functools import cache
from importlib import resources
from pathlib import Path

from tui_lab.errors import LabError
from tui_lab.retention import suites_own
from tui_lab.retention.suites_records import Item, Kind, Suite, SuiteInfo

__all__ = ["BUNDLED", "Item", "Kind", "Suite", "SuiteInfo", "load", "names"]

#: In the order in which people are shown them.
BUNDLED = ("everyday", "format", "instructions", "diversity", "refusals", "toxicity", "stereotypes")


def names() -> list[SuiteInfo]:
    """Every suite that has a name: the bundled ones first. No items are kept."""
    return list(_bundled_info())


@cache
def _bundled_info() -> tuple[SuiteInfo, ...]:
    found = []
    for name in BUNDLED:
        suite = _bundled(name)
        found.append(
            SuiteInfo(
                suite.name, suite.version, suite.title, suite.description, suite.kind, suite.metric,
                suite.chance, suite.licence, suite.source, True, len(suite.items),
            )
        )  # fmt: skip
    return tuple(found)


def _bundled(name: str, limit: int = 0) -> Suite:
    with resources.as_file(resources.files("tui_lab.retention") / "suites" / f"{name}.jsonl") as path:
        return suites_own.read(path, limit, shown=f"The bundled suite {name}")


def load(name_or_path: str, limit: int = 0) -> Suite:
    """A suite by its name, as NAME:PATH, or from a file of one's own; at most `limit` items when > 0."""
    name = str(name_or_path).strip()
    if name in BUNDLED:
        return _bundled(name, limit)
    path = Path(name).expanduser()
    if path.is_file():
        return suites_own.read(path, limit)
    raise LabError(f"There is no suite {name!r}.")
