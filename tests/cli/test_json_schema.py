"""The schema and the page in docs/ are what the records yield, and every command prints what they say. All
other tests of this folder compare what they print with the schema too (conftest.py)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.helpers import lab
from tests.cli.json_check import SCHEMA, problems
from tui_lab.cli.json_schema import ANSWERS, page, schema, schema_text
from tui_lab.recipes.presets import make_recipe
from tui_lab.runs import folder

DOCS = Path(__file__).parents[2] / "docs"
REMEDY = "write it with: make json"

#: Cheap commands, with the kind of record that each prints.
PRINTED = {
    "models": ("models", "--all"),
    "presets": ("presets",),
    "preset": ("presets", "starter"),
    "keys": ("presets", "--keys"),
    "runs": ("runs",),
    "folders": ("locate",),
    "runs_moved": ("runs", "delete", "one"),
    "trash": ("runs", "trash"),
    "trash_emptied": ("runs", "trash", "--empty"),
    "settings": ("settings",),
    "settings_written": ("settings", "theme=lab-light"),
    "suites": ("retention", "--list"),
    "dry_run": ("train", "--dry-run"),
    "queue_dry_run": ("train", "--queue", "--dry-run", "--sweep", "lora_r=4,8"),
    "queue_list": ("queue", "list"),
    "queue": ("queue", "stop"),
    "removed": ("queue", "remove", "--ended"),
    "forecast": ("forecast", "--preset", "starter"),
    "forecast_table": ("forecast", "--model", "qwen2.5-0.5b", "--gpu", "RTX 4090"),
    "card_costs": ("forecast", "--preset", "starter", "--prices"),
    "report": ("report", "latest"),
    "votes": ("votes",),
    "learn": ("learn", "scaling"),
    "error": ("watch", "no-such-run"),
}
#: Those of the other tests of this folder.
ELSEWHERE = {
    "advice": "test_advise.py",
    "command_answer": "test_main.py",
    "data_preview": "test_main.py",
    "doctor": "test_main.py",
    "export": "test_export.py",
    "generation": "test_generate.py",
    "import": "test_import_recipe.py",
    "judge": "test_judge.py",
    "prediction": "test_predict.py",
    "prediction_settings": "test_predict.py",
    "predictions": "test_predict.py",
    "queued": "test_queue.py",
    "redteam": "test_redteam.py",
    "result": "test_main.py",
    "retention": "test_retention.py",
    "search": "test_search.py",
    "stages": "test_stages.py",
    "strength": "test_strength.py",
    "strength_saved": "test_strength.py",
    "sweep": "test_queue.py",
    "worker_log": "test_logs.py",
}


def test_the_committed_files_are_current() -> None:
    assert (DOCS / "json.schema.json").read_text(encoding="utf-8") == schema_text(), REMEDY
    assert (DOCS / "json.md").read_text(encoding="utf-8") == page(), REMEDY
    assert json.loads(schema_text()) == json.loads(json.dumps(schema()))


def test_kinds_are_distinct_and_all_are_tested() -> None:
    kinds = [each.kind for each in ANSWERS]
    assert len(set(kinds)) == len(kinds)
    assert set(kinds) == {*PRINTED, *ELSEWHERE}
    for kind, file in ELSEWHERE.items():
        assert f'"{kind}"' in (Path(__file__).parent / file).read_text(encoding="utf-8"), (kind, file)


@pytest.mark.parametrize("kind", PRINTED)
def test_a_command_prints_one_record_of_its_kind(kind: str, runs_dir: Path) -> None:
    folder.create(make_recipe(), runs_dir, "one")
    done = lab(*PRINTED[kind], "-o", "json")
    printed = json.loads(done.stdout)
    assert (printed["kind"], printed["v"]) == (kind, 1), done.stderr
    assert problems(printed) == []


def test_the_validator_finds_what_differs() -> None:
    good = {"kind": "removed", "v": 1, "items": ["a"], "runs": ["a"]}
    assert problems(good) == []
    assert problems({**good, "items": [1]}) == ["$.items[0]: 1 is no string"]
    assert problems({**good, "more": 1}) == ["$: more is not in the schema"]
    assert problems({"kind": "removed", "v": 1, "items": []}) == ["$: runs is missing"]
    assert problems({"kind": "unheard", "v": 1}) == ["$: there is no kind 'unheard'"]
    point = {"$ref": "#/$defs/EstimateRange"}
    assert problems([1.0, "nan", 3], point) == []
    assert problems([1.0, "two"], point)[0] == "$: 2 values, not 3 to 3"
    assert problems(True, {"type": "integer"}) and problems(1, {"type": "boolean"})
    assert set(SCHEMA["$defs"]) > {"RunResult", "Number", "Event"}
