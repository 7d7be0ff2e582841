"""The sweep of a run's strength: equal to evaluations at its ends, resumed where it stopped, saved for plain
peft, and refused with a reason."""

from __future__ import annotations

import json
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from tui_lab.core.errors import LabError
from tui_lab.core.records import from_json, from_plain, to_json
from tui_lab.data.templates import TEMPLATE_FILE
from tui_lab.decoding.adapters import load_peft_model
from tui_lab.evaluation import evaluate, score_cache, strength_sweep
from tui_lab.evaluation.records import EvaluationRequest, SavedStrength, SweepRequest
from tui_lab.evaluation.strength_target import LoadedTarget, SweepTarget
from tui_lab.models.loading import ModelSource, Precision, load_model
from tui_lab.pocket import MODEL_DIR
from tui_lab.recipes.recipe import build
from tui_lab.retention.scoring import score as scoring
from tui_lab.retention.stored import StrengthCurve
from tui_lab.retention.strength import AdapterScale
from tui_lab.runs import folder as runs

IDS = torch.arange(10, 40)[None]


#: Items of the suite and held-out rows in most tests.
ITEMS, ROWS = 12, 3


def handle(**values: Any) -> StrengthCurve | SavedStrength:
    request = from_plain(values, SweepRequest, "the request")
    return strength_sweep.handle(request, lambda text, done=None, total=None: None)


def sweep(run: runs.Run, **values: Any) -> StrengthCurve:
    curve = handle(**{"run": run.id, "limit": ITEMS, "strengths": [0.5, 1.0], **values})
    assert isinstance(curve, StrengthCurve)
    return curve


@pytest.fixture
def run(
    runs_dir: Path, adapters: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> runs.Run:
    """A finished run on the bundled data ``support``, asked few rows."""
    monkeypatch.setenv("TUI_LAB_CACHE_DIR", str(tmp_path / "cache"))
    few = {"max_rows": 20, "score_rows": ROWS, "sample_max_new_tokens": 8}
    made = runs.create(build({"model": "pocket", "data": "support", **few}), name="tuned")
    shutil.copytree(adapters["own"], made.adapter_path)
    return made


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many items each call of the scorer still had to score."""
    seen: list[int] = []
    plain: Callable[..., Any] = scoring.score

    def noted(model: Any, tokenizer: Any, suite: Any, **how: Any) -> Any:
        seen.append(len(suite.items) - len(how["done"]))
        return plain(model, tokenizer, suite, **how)

    monkeypatch.setattr(scoring, "score", noted)
    return seen


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(IDS).logits


def pocket() -> Any:
    return AutoModelForCausalLM.from_pretrained(MODEL_DIR, dtype=torch.float32, use_safetensors=True).eval()


def test_strengths_0_and_1_equal_an_evaluation(run: runs.Run) -> None:
    curve = sweep(run)
    [zero, half, one] = curve.points
    assert [point.strength for point in curve.points] == [0.0, 0.5, 1.0]
    answer = evaluate.evaluate(EvaluationRequest(("everyday",), run.id, limit=ITEMS))
    [suite] = answer.suites
    for name in ("pre", "post", "b", "c", "mcnemar_p", "verdict"):
        assert getattr(one, name) == getattr(suite.comparison, name)
    assert suite.comparison is not None and one.retention == suite.comparison.above_chance
    assert answer.acquisition is not None
    scores = answer.acquisition.metrics["exact"]
    assert (zero.acquisition, one.acquisition) == (scores.base.value, scores.tuned.value)
    assert (zero.b, zero.c, zero.retention.value) == (0, 0, 1.0)
    assert zero.pre == half.pre == one.pre
    assert (curve.acquisition_metric, curve.acquisition_rows, curve.keep) == ("exact", ROWS, 0.95)
    written = run.path / "retention" / "strength.json"
    assert json.loads(written.read_text()) == json.loads(to_json(curve))
    assert from_json(written.read_bytes(), StrengthCurve, "the curve") == curve
    assert stat.S_IMODE(written.parent.stat().st_mode) == 0o700


def test_known_strengths_are_not_measured_again(run: runs.Run, scored: list[int]) -> None:
    first = sweep(run)
    assert scored == [ITEMS] * 3
    assert sweep(run) == first and scored == [ITEMS] * 3
    more = sweep(run, strengths=[0.25], keep=0.5)
    assert scored == [ITEMS] * 4
    assert [point.strength for point in more.points] == [0.0, 0.25, 0.5, 1.0], "the curve grows"
    assert more.points[2:] == first.points[1:] and more.keep == 0.5
    # of another suite it is another curve
    other = sweep(run, suite="format", strengths=[1.0], limit=4)
    assert [point.strength for point in other.points] == [0.0, 1.0]


def test_an_interrupted_sweep_continues_at_the_item(
    run: runs.Run, scored: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    add, left = score_cache.ScoreFile.add, [ITEMS + 5]

    def stopping(self: Any, score: Any) -> None:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        add(self, score)

    monkeypatch.setattr(score_cache.ScoreFile, "add", stopping)
    with pytest.raises(KeyboardInterrupt):
        sweep(run)
    assert json.loads((run.path / "retention" / "strength.json").read_text())["points"][0]["strength"] == 0
    monkeypatch.setattr(score_cache.ScoreFile, "add", add)
    found = sweep(run)
    assert scored == [ITEMS, ITEMS, ITEMS - 5, ITEMS], "five of the second strength's items were on disk"
    shutil.rmtree(run.path / "retention")
    assert sweep(run) == found, "in parts it comes to what it comes to in one go"


def test_changed_weights_are_measured_again(run: runs.Run, scored: list[int]) -> None:
    before = sweep(run, strengths=[1.0])
    path = run.adapter_path / "adapter_model.safetensors"
    save_file({name: 3 * value for name, value in load_file(path).items()}, path, {"format": "pt"})
    after = sweep(run, strengths=[1.0])
    assert scored == [ITEMS] * 3, "the base is the same"
    assert after.weights != before.weights


def test_another_template_is_measured_again(run: runs.Run, scored: list[int]) -> None:
    before = sweep(run, strengths=[1.0])
    template = (MODEL_DIR / TEMPLATE_FILE).read_text()
    (run.adapter_path / TEMPLATE_FILE).write_text("{{ '' }}" + template)
    after = sweep(run, strengths=[1.0])
    assert scored == [ITEMS] * 4, "base and adapter are asked otherwise"
    assert after.weights != before.weights
    assert len(json.loads((run.path / "retention/strength/marks.json").read_text())) == 4
    sweep(run, strengths=[1.0])
    assert scored == [ITEMS] * 4


def test_plain_peft_loads_a_saved_strength(run: runs.Run) -> None:
    assert handle(run=run.id, save=0.6) == SavedStrength("adapter-strength-0.60")
    place = run.path / "adapter-strength-0.60"
    loaded = logits(peft.PeftModel.from_pretrained(pocket(), str(place)).eval())
    whole = peft.PeftModel.from_pretrained(pocket(), str(run.adapter_path)).eval()
    with peft.helpers.rescale_adapter_scale(whole, 0.6):
        in_place = logits(whole)
    torch.testing.assert_close(loaded, in_place, atol=1e-4, rtol=1e-4)
    assert (logits(whole) - loaded).abs().max() > 1e-3
    target = LoadedTarget(SweepTarget.of(run))
    target.scale.set(0.6)
    assert torch.equal(logits(target.model), loaded), "what was measured is what was saved"
    names = {path.name for path in run.adapter_path.iterdir()}
    assert {path.name for path in place.iterdir()} == names
    assert not list(run.path.glob(".*partial"))
    assert handle(run=run.id, save=0.625).saved.endswith("-0.625")


def test_strength_0_on_a_4_bit_base_equals_the_base(adapters: dict[str, Path]) -> None:
    base = load_model(ModelSource(str(MODEL_DIR)), Precision(quantization="nf4"), device="cpu")
    alone = logits(base)
    tuned = load_peft_model(base, adapters["own"], "own")
    whole, scale = logits(tuned), AdapterScale(tuned)
    scale.set(0.0)
    assert torch.equal(logits(tuned), alone)
    scale.set(1.0)
    assert torch.equal(logits(tuned), whole) and (whole - alone).abs().max() > 0.1


def test_a_full_model_is_interpolated_with_its_base(run: runs.Run) -> None:
    shutil.rmtree(run.adapter_path)
    tuned, base = pocket(), pocket()
    torch.manual_seed(2)
    with torch.no_grad():
        for value in tuned.parameters():
            value += 0.02 * torch.randn_like(value)
    tuned.save_pretrained(run.model_path)
    found = sweep(run, strengths=[1.0], limit=8)
    assert found.points[0].retention.value == 1.0
    assert handle(run=run.id, save=0.5) == SavedStrength("model-strength-0.50")
    place = run.path / "model-strength-0.50"
    loaded = AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32)
    for value, start, end in zip(loaded.parameters(), base.parameters(), tuned.parameters(), strict=True):
        torch.testing.assert_close(value, (start + end) / 2)


def changed(run: runs.Run, **config: Any) -> None:
    path = run.adapter_path / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **config}))


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"use_dora": True}, "DoRA"),
        ({"init_lora_weights": "pissa"}, "pissa"),
        ({"peft_type": "PREFIX_TUNING"}, "virtual tokens"),
    ],
)
def test_an_adapter_that_cannot_be_scaled_is_refused(
    run: runs.Run, config: dict[str, Any], reason: str
) -> None:
    changed(run, **config)
    with pytest.raises(LabError, match=f"cannot be changed: .*{reason}"):
        sweep(run)
    with pytest.raises(LabError, match=reason):
        handle(run=run.id, save=0.5)
    assert not list(run.path.glob("adapter-strength*"))


def test_a_run_that_began_on_a_changed_base_is_refused(runs_dir: Path, adapters: dict[str, Path]) -> None:
    """Its saved adapter no longer says so: it was converted for the original base."""
    recipe = build(
        {"model": "pocket", "data": "support", "init_lora_weights": "pissa", "quantization": "none"}
    )
    run = runs.create(recipe)
    shutil.copytree(adapters["own"], run.adapter_path)
    with pytest.raises(LabError, match="pissa"):
        sweep(run)


def test_runs_that_cannot_be_swept(run: runs.Run, adapters: dict[str, Path]) -> None:
    lock = runs.RunLock.take(run)
    with pytest.raises(LabError, match="still runs"):
        sweep(run)
    lock.release()
    with strength_sweep.locked(run), pytest.raises(LabError, match="being swept already"):
        sweep(run)
    shutil.rmtree(run.adapter_path)
    with pytest.raises(LabError, match="no adapter and no model"):
        sweep(run)
    shutil.copytree(adapters["other"], run.adapter_path)
    with pytest.raises(LabError, match="does not fit"):
        sweep(run)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"run": ""},
        {"run": "none-such"},
        {"run": "x", "strengths": "0.5"},
        {"run": "x", "strengths": [True]},
        {"run": "x", "strengths": [float("nan")]},
        {"run": "x", "strengths": [3]},
        {"run": "x", "strengths": [0.1] * 40},
        {"run": "x", "keep": 0},
        {"run": "x", "keep": float("inf")},
        {"run": "x", "limit": float("inf")},
        {"run": "x", "save": -1},
        {"run": "x", "save": "half"},
    ],
)
def test_invalid_sweep_requests_are_refused(fields: dict[str, Any], runs_dir: Path) -> None:
    with pytest.raises(LabError):
        handle(**fields)


def test_damaged_answer_scores_are_measured_again(run: runs.Run) -> None:
    found = sweep(run, strengths=[1.0])
    for damage in ("[1]", '{"a": ["x"]}'):
        (run.path / "retention" / "strength" / "marks.json").write_text(damage)
        assert sweep(run, strengths=[1.0]) == found
    (run.path / "retention" / "strength.json").write_text('{"points": 3}')
    assert sweep(run, strengths=[1.0]) == found
