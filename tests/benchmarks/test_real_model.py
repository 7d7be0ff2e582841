"""The parts of the benchmark of a real model, on the bundled model and a handful of rows. Each compares what
it measures with plain transformers or trl: a part without a false check computes the right figures."""

from __future__ import annotations

import json

import pytest

from tests.benchmarks import real_model, real_model_training
from tui_lab.pocket import MODEL_DIR
from tui_lab.runs.schema import ForecastEvent, StepEvent


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> real_model.Case:
    """Rows in the forms of GSM8K, HellaSwag and MMLU."""
    folder = tmp_path_factory.mktemp("real-model")
    for name in ("gsm8k", "hellaswag", "mmlu/test"):
        (folder / "data" / name).mkdir(parents=True)
    sums = [{"question": f"What is {n} plus {n + 3}?", "answer": f"It is {2 * n + 3}."} for n in range(8)]
    (folder / "data/gsm8k/train.jsonl").write_text("\n".join(map(json.dumps, sums)))
    scene = {"activity_label": "Cooking", "ctx_a": "A cook takes a pan.", "ctx_b": "the cook", "label": 1,
             "endings": ["flies.", "fries an egg.", "sleeps."], "source_id": "own~1"}  # fmt: skip
    (folder / "data/hellaswag/rows.jsonl").write_text(json.dumps(scene))
    questions = "What is 1 + 1?,1,2,3,4,B\nWhich is an animal?,stone,cup,dog,door,C\n"
    (folder / "data/mmlu/test/everyday_test.csv").write_text(questions)
    return real_model.Case(
        str(MODEL_DIR),
        folder / "data",
        folder / "work",
        new_tokens=3,
        items=2,
        rows=8,
        steps=2,
        max_length=96,
    )


@pytest.mark.parametrize("name", ["decode", "scoring", "nf4", "profile"])
def test_a_part_agrees_with_plain_libraries(case: real_model.Case, name: str) -> None:
    found = real_model.measure(case, [name])
    assert found["failed"] == []
    json.dumps(found, allow_nan=False)


def test_the_losses_are_those_of_plain_trl(case: real_model.Case) -> None:
    found = real_model_training.beside_trl(case)
    assert found["lab"]["tokens"] == found["trl"]["tokens"] > 0
    assert found["lab"]["losses"] == pytest.approx(found["trl"]["losses"], rel=1e-3)
    assert found["ratio_tok_per_cpu_s"] > 0


def test_a_part_that_fails_is_named_and_the_others_follow(case: real_model.Case) -> None:
    found = real_model.measure(
        real_model.Case(case.model, case.data / "absent", case.work, new_tokens=1), ["scoring", "decode"]
    )
    assert found["failed"] == ["scoring"]
    assert "absent" in found["parts"]["scoring"]["error"]


def test_figures_of_a_run_are_those_of_its_log() -> None:
    steps = [
        StepEvent(step=step, loss=4.0 - step, tok_per_s=10.0, memory={"resident": step * real_model.MIB})
        for step in (1, 2, 3)
    ]
    forecast = ForecastEvent(parts={"weights": 100}, total=100, low=90, high=120, device="cpu")
    found = real_model.run_figures([forecast, *steps], peak_bytes=125)
    assert (found["loss_first"], found["loss_last"], found["check_loss_falls"]) == (3.0, 1.0, True)
    assert found["steps_resident_mib"] == 3.0
    assert found["forecast_to_resident"] == 0.8
    assert not found["check_resident_within_forecast"]


def test_false_checks_are_found_at_any_depth() -> None:
    assert real_model.failed_checks({"a": {"check_x": False, "check_y": True}, "check_z": False}) == [
        "a.check_x", "check_z",
    ]  # fmt: skip


def test_the_output_layer_is_told_by_its_shapes() -> None:
    kind = real_model_training.kind_of
    assert kind("aten::mm", [[4, 640], [640, 9000]], 2048) == "output layer and loss"
    assert kind("aten::mm", [[4, 640], [640, 2048]], 2048) == "matrix products of the blocks"
    assert kind("bitsandbytes::dequantize_4bit", [[9000, 1], []], 2048) == "4-bit weights"
