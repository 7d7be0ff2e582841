"""Paths that a text begins."""

from __future__ import annotations

from pathlib import Path

from tui_lab.core.path_completion import common_start, completions, looks_like_path


def test_folders_end_with_a_slash_and_hidden_ones_wait_for_their_dot(tmp_path: Path) -> None:
    for name in ("data", "Dates", ".hidden"):
        (tmp_path / name).mkdir()
    (tmp_path / "rows.jsonl").touch()
    (tmp_path / "notes.md").touch()
    here = f"{tmp_path}/"
    assert completions(here) == [f"{here}data/", f"{here}Dates/", f"{here}notes.md", f"{here}rows.jsonl"]
    assert completions(f"{here}dat") == [f"{here}data/", f"{here}Dates/"]
    assert completions(f"{here}.h") == [f"{here}.hidden/"]
    assert completions(here, lambda entry: entry.name.endswith(".jsonl"))[2:] == [f"{here}rows.jsonl"]
    assert completions(f"{here}none/") == [] and completions("~") == ["~/"]


def test_the_common_start_is_never_shorter_than_what_was_typed() -> None:
    assert common_start("/a/d", ["/a/data/", "/a/date/"]) == "/a/dat"
    assert common_start("/a/data/", ["/a/data/x"]) == "/a/data/x"
    assert common_start("smol", ["HuggingFaceTB/SmolLM2", "pocket"]) == "smol"
    assert common_start("x", []) == "x"


def test_what_is_meant_as_a_path() -> None:
    assert looks_like_path("~/x") and looks_like_path("./x") and not looks_like_path("Qwen/Qwen3-0.6B")
