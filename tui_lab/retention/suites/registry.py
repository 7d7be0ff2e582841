"""The suites by name: what there is (`names`) and how one is loaded (`load`), whether it is bundled, a
standard benchmark from the hub or from local files, or a user's own JSONL. No torch, and nothing that a
data set brings is ever executed. Every failure is one sentence."""

from __future__ import annotations

import difflib
import re
import tomllib
from dataclasses import fields, replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from msgspec import structs

from tui_lab.core.errors import LabError
from tui_lab.core.paths import expanded
from tui_lab.core.records import from_plain
from tui_lab.core.sanitize import sanitize
from tui_lab.retention.suites import custom, local
from tui_lab.retention.suites import standard as suites_standard
from tui_lab.retention.suites.records import (
    BenchmarkSource,
    Item,
    Suite,
    SuiteInfo,
    chance_of,
    fingerprint,
    subset,
)

__all__ = ["BUNDLED", "Item", "Suite", "SuiteInfo", "load", "names"]

#: In the order in which people are shown them.
BUNDLED = ("everyday", "format", "instructions", "diversity", "refusals", "toxicity", "stereotypes", "say_do")
MOST_SHOTS = 8  # MMLU has five examples a subject, GSM8K is shown with five or eight
_NAMED = re.compile(r"^([a-z0-9_]+)(?:@(\d{1,2}))?(?::(.+))?$", re.DOTALL)


def names() -> list[SuiteInfo]:
    """Every suite that has a name, the bundled ones first. Standard ones are not loaded for it."""
    standard = [_info(source, name=name, bundled=False) for name, source in standard_sources().items()]
    return [*_bundled_info(), *standard]


def load(name_or_path: str, limit: int = 0) -> Suite:
    """A suite by name ("everyday", "hellaswag", "mmlu@5" with five examples), as NAME:PATH, or by the path of
    local files or of the user's JSONL. With `limit` > 0 at most so many items, always the same balanced part.
    Raises LabError."""
    name = str(name_or_path).strip()
    if not name or "\0" in name:
        raise LabError(f"No suite was named; known: {', '.join(_all_names())}, or the path of a file.")
    if name in BUNDLED:
        return _limited(_read_bundled(name), limit)
    found = _NAMED.match(name)
    if found and found[1] in standard_sources():
        return _standard(found[1], found[2], found[3], limit)
    require(name)
    return _by_path(expanded(name), limit)


def require(name: str) -> None:
    """Raises LabError where there is neither a suite nor a file of this name. Loads nothing."""
    found = _NAMED.match(name)
    if name in BUNDLED or (found and found[1] in standard_sources()):
        return
    try:
        there = expanded(name).exists()
    except OSError:  # a name longer than any file's
        there = False
    if not there:
        near = difflib.get_close_matches(name, _all_names(), 1)
        hint = f" Did you mean {near[0]}?" if near else f" Known: {', '.join(_all_names())}."
        raise LabError(f"There is no suite or file {sanitize(name)[:200]}.{hint}")


def _all_names() -> list[str]:
    return [*BUNDLED, *standard_sources()]


@cache
def standard_sources() -> dict[str, BenchmarkSource]:
    """The sources of the standard suites by name, from ``suites/standard.toml``."""
    text = (resources.files("tui_lab.retention") / "suites" / "standard.toml").read_text("utf-8")
    found = from_plain(tomllib.loads(text), dict[str, BenchmarkSource], "standard.toml")
    return {
        name: benchmark
        if benchmark.source
        else structs.replace(benchmark, source=f"https://huggingface.co/datasets/{benchmark.hub}")
        for name, benchmark in found.items()
    }


# --- bundled ----------------------------------------------------------------------------------------


@cache
def _read_bundled(name: str) -> Suite:
    with resources.as_file(resources.files("tui_lab.retention") / "suites" / f"{name}.jsonl") as path:
        return custom.read(path, shown=f"The bundled suite {name}")


def _bundled_info() -> list[SuiteInfo]:
    return [
        _info(suite, name=suite.name, bundled=True, items=len(suite.items))
        for suite in map(_read_bundled, BUNDLED)
    ]


def _info(suite: Suite | BenchmarkSource, **values: Any) -> SuiteInfo:
    shared = {field.name: getattr(suite, field.name, None) for field in fields(SuiteInfo)}
    return SuiteInfo(**{**shared, **values})


def _limited(suite: Suite, limit: int) -> Suite:
    """A part of a suite is a suite of its own: its fingerprint differs, so no baseline is mistaken for it."""
    items = subset(suite.items, limit)
    return replace(suite, items=items, sha256=fingerprint(suite.kind, suite.metric, items))


# --- standard ---------------------------------------------------------------------------------------


def _standard(name: str, requested_shots: str | None, path: str | None, limit: int) -> Suite:
    benchmark = standard_sources()[name]
    shots = int(requested_shots or 0)
    if shots and not benchmark.shots:
        takers = " and ".join(suites_standard.FEW_SHOT)
        raise LabError(f"{name} takes no examples: remove @{shots}; only {takers} take them.")
    if shots > MOST_SHOTS:
        raise LabError(f"{name}@{shots} is too many: at most {MOST_SHOTS} examples are shown.")
    if path:
        local_path = expanded(path)
        records, examples = local.read_local(name, local_path, benchmark, shots)
        shown = str(local_path)
    elif benchmark.hub:
        records, examples = local.read_hub(name, benchmark, shots)
        shown = f"{benchmark.hub} on the hub"
    else:
        raise LabError(f"{name} needs a file: {name}:PATH.")
    items = local.items_of(name, benchmark, records, shown, examples)
    if not items:
        raise LabError(f"{shown} holds no items of {name}.")
    chosen = subset(items, limit)
    computed = chance_of(chosen) if benchmark.kind in ("choice", "pairs") else None
    return Suite(
        name=name + (f"@{shots}" if shots else ""),
        version=benchmark.version,
        title=benchmark.title + (f", {shots}-shot" if shots else ""),
        description=benchmark.description,
        kind=benchmark.kind,
        metric=benchmark.metric,
        items=chosen,
        chance={"mcc": 0.0, "f1": None}.get(benchmark.metric, computed),
        licence=benchmark.licence,
        source=shown if path else benchmark.source,
        sha256=fingerprint(benchmark.kind, benchmark.metric, chosen),
    )


def reader_of(path: Path) -> str | None:
    """The benchmark that a file or folder is of by what it holds; None for a suite of the user. Raises
    LabError for a folder that is no benchmark, and for what cannot be read."""
    if path.is_dir():
        name = _folder_name(path)
        if name is None:
            raise LabError(
                f"The folder {path} is not recognised as a benchmark; say which one it is "
                f"(hellaswag:{path}), or name a file of it."
            )
        return name
    if path.suffix.lower() in (".txt", ".text", ".raw", ".tokens"):
        return "wikitext" if local.is_wikitext(path) else "perplexity"
    if path.suffix.lower() == ".csv" and re.search(r"_(test|dev|val)$", path.stem):
        return "mmlu"
    if path.suffix.lower() == ".json" and local.is_stereoset(path):
        return "stereoset"
    records = custom.records_of(path)
    return suites_standard.looks_like(records[0][1]) if records else None


def _by_path(path: Path, limit: int) -> Suite:
    """A path without a name: a benchmark where the files say so, else a suite of the user."""
    if (name := reader_of(path)) is not None:
        return _standard(name, None, str(path), limit)
    suite = custom.from_records(custom.records_of(path), str(path), path.stem, limit)
    # Results are filed by name: a suite of the user must not be taken for a standard one.
    return replace(suite, name=f"{suite.name}-own") if suite.name in _all_names() else suite


def _folder_name(path: Path) -> str | None:
    """Which benchmark a folder holds: by its layout (MMLU), else by the name of the folder."""
    if any((path / "test").glob("*_test.csv")) or any(path.glob("*_test.csv")):
        return "mmlu"
    wanted = re.sub(r"[^a-z0-9]+", "_", path.name.lower())
    by_name = {"ai2_arc_arc_easy": "arc_easy", "wikitext2": "wikitext"}
    return wanted if wanted in standard_sources() else by_name.get(wanted)
