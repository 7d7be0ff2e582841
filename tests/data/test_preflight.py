"""What a run reads is asked for before it begins: its data and its general rows."""

from __future__ import annotations

from pathlib import Path

import pytest

from tui_lab.core.errors import LabError
from tui_lab.data import hub, preflight
from tui_lab.models import download
from tui_lab.recipes.recipe import Recipe


def test_general_rows_count_where_they_are_used(tmp_path: Path) -> None:
    assert preflight.data_of(Recipe()) == ()  # the bundled set, no general rows
    assert preflight.data_of(Recipe(data="a.jsonl", replay_data="b.jsonl")) == ("a.jsonl",)
    assert preflight.data_of(Recipe(data="a.jsonl", replay_data="b.jsonl", replay_fraction=0.1)) == (
        "a.jsonl",
        "b.jsonl",
    )
    assert preflight.data_of(Recipe(replay_data="b.jsonl", ewc_lambda=1.0)) == ("b.jsonl",)
    assert preflight.data_of(Recipe(data="pirate:3 + a.jsonl:1 + x/y:z:2")) == ("a.jsonl", "x/y:z")
    assert preflight.data_of(Recipe(data="x/y", replay_data="x/y", replay_fraction=0.1)) == ("x/y",)


def test_what_is_missing_is_named_before_the_model_is_asked_about(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(hub, "preflight", asked.append)
    monkeypatch.setattr(download, "preflight", lambda *_: pytest.fail("the data is not there"))
    here = tmp_path / "rows.jsonl"
    here.write_text('{"text": "x"}\n')
    gone = str(tmp_path / "general.jsonl")
    with pytest.raises(LabError, match="general"):
        preflight.preflight(Recipe(data=str(here), replay_data=gone, replay_fraction=0.1))
    assert asked == [str(here)]
    monkeypatch.setattr(download, "preflight", lambda *_: None)
    assert preflight.preflight(Recipe(data="owner/set", replay_data="other/set", ewc_lambda=1.0)) is None
    assert asked[1:] == ["owner/set", "other/set"]


def test_a_refusal_of_the_hub_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: str) -> None:
        raise LabError(f"data {source} cannot be read: it is gated")

    monkeypatch.setattr(hub, "preflight", refuse)
    with pytest.raises(LabError, match="owner/set cannot be read: it is gated"):
        preflight.preflight(Recipe(data="owner/set"))
