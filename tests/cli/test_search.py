"""``tui-lab search``: a stored search is shown; what cannot be searched is refused before a run is made."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from tests.evaluation.test_search import pilot
from tui_lab.cli.main import main
from tui_lab.core.records import to_json
from tui_lab.evaluation import search_plan as plan
from tui_lab.runs.searches import SearchResult


@pytest.fixture
def stored(runs_dir: Path) -> Path:
    pilots = [pilot(0, (0.5, 0.4, 0.95), (1.0, 0.8, 0.7)), pilot(1, (1.0, 0.5, 0.92))]
    result = SearchResult(
        search="search-1", model="pocket", data="support", keep=0.9, budget_s=600.0, spent_s=60.0,
        suite="everyday", pilots=pilots, front=plan.front(pilots), chosen=plan.choose(pilots, 0.9),
    )  # fmt: skip
    result = msgspec.structs.replace(result, sentence=plan.sentence(result))
    folder = runs_dir / ".searches" / "search-1"
    folder.mkdir(parents=True)
    (folder / "search.json").write_text(to_json(result))
    return folder


def test_a_stored_search_is_shown(stored: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", "--show", "latest"]) == 1  # not confirmed
    shown = capsys.readouterr().out
    assert "r1" in shown and "not confirmed" in shown and "tui-lab strength r1 --save 1" in shown
    assert main(["search", "--show", "search-1", "-o", "json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["kind"] == "search", found
    assert found["chosen"]["pilot"]["run"] == "r1"
    assert len(found["pilots"]) == 2 and found["front"][0]["point"]["gain"] == 0.8


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--keep", "1.5"], "--keep is the share of retention"),
        (["--budget", "soon"], "--budget is a time"),
        (["--show", "none"], "there is no search with none in its name"),
        (["--set", "method=ia3"], "search varies LoRA"),
        (["--suite", "nope"], "There is no suite or file nope."),
        (["--steps", "0"], "--steps must be at least 1"),
        (["--data", "none"], "There is no data file or folder none."),
        (["--suite", "hellaswg"], "There is no suite or file hellaswg. Did you mean hellaswag?"),
    ],
)
def test_what_cannot_be_searched(
    arguments: list[str], sentence: str, runs_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["search", *arguments]) == 2
    assert sentence in " ".join(capsys.readouterr().err.split())
    assert not list(runs_dir.glob("*/recipe.toml"))
