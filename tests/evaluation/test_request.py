"""What the names of an evaluation mean."""

from __future__ import annotations

from pathlib import Path

from tests.ui import sample_runs as made
from tui_lab.evaluation.records import EvaluationRequest
from tui_lab.evaluation.request import resolve_target
from tui_lab.pocket import MODEL_DIR


def test_a_model_is_meant_where_its_name_is_part_of_a_runs_too(runs_dir: Path) -> None:
    run = made.make_run(name="of-pocket")
    (run.adapter_path / "adapter_config.json").write_text('{"base_model_name_or_path": ""}')
    assert "pocket" in run.id
    found = resolve_target(EvaluationRequest(model="pocket", dtype="float32"))
    assert found.tuned is None and found.base.location == str(MODEL_DIR)
    named = resolve_target(EvaluationRequest(model=run.id, dtype="float32"))
    assert named.run is not None and named.tuned is not None and named.tuned.adapter == run.adapter_path
