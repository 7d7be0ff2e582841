"""``tui-lab strength``: a sweep of a real run for people and for programs, and bad input as one sentence."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import peft
import pytest
from transformers import AutoModelForCausalLM

from tests.decoding.test_adapters import adapter_folder
from tui_lab.cli import jobs, main, options, strength
from tui_lab.core.records import from_plain
from tui_lab.evaluation.records import SavedStrength, SweepRequest
from tui_lab.pocket import MODEL_DIR
from tui_lab.recipes.recipe import build
from tui_lab.retention.statistics import Interval
from tui_lab.retention.stored import Recommendation, StrengthCurve, StrengthPoint
from tui_lab.runs import folder

pytestmark = pytest.mark.skipif(
    not (MODEL_DIR / "model.safetensors").is_file(), reason="the bundled model is not built yet"
)


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random adapter, which spoils the bundled model."""
    model = AutoModelForCausalLM.from_pretrained(MODEL_DIR, dtype="float32", use_safetensors=True)
    config = peft.LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"])
    return adapter_folder(model, config, tmp_path_factory.mktemp("adapters") / "own", seed=3)


@pytest.fixture
def run(runs_dir: Path, adapter: Path) -> folder.Run:
    made = folder.create(build({"model": "pocket", "data": "support", "score_rows": 4}), name="tuned")
    shutil.copytree(adapter, made.adapter_path)
    return made


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The sentence of a refusal."""
    assert main.main(["strength", *words]) == options.EXIT_USAGE
    shown = capsys.readouterr()
    assert not shown.out and "Traceback" not in shown.err
    [sentence] = shown.err.strip().splitlines()
    return sentence


def test_a_sweep_for_programs_and_then_for_people(
    run: folder.Run, jobs_here: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["strength", "tuned", "--strengths", "0.5,1", "--limit", "24", "--keep", "0.9"]
    assert main.main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert [point["strength"] for point in found["points"]] == [0, 0.5, 1]
    assert found["keep"] == 0.9 and found["n"] == 24
    assert found["points"][0]["retention"]["value"] == 1
    assert {**json.loads((run.path / "retention" / "strength.json").read_text()), "kind": "strength"} == found
    # people see a line for each strength
    status, out, _, _ = shown(monkeypatch, capsys, from_plain(found, StrengthCurve, "the curve"))
    lines = out.splitlines()
    assert status == 0 and [line.split()[0] for line in lines[1:4]] == ["0.00", "0.50", "1.00"]
    for line, point in zip(lines[1:4], found["points"], strict=True):
        assert f"{point['acquisition']:.3f}" in line and f"{point['retention']['value']:.3f}" in line


def test_saved_at_a_strength(run: folder.Run, jobs_here: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["strength", "latest", "--save", "0.6"]) == 0
    assert "adapter-strength-0.60" in capsys.readouterr().out
    assert main.main(["strength", "latest", "--save", "0.6", "-o", "json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["kind"] == "strength_saved" and "adapter-strength-0.60" in answer["saved"]
    saved = run.path / "adapter-strength-0.60"
    assert {path.name for path in saved.iterdir()} >= {"adapter_config.json", "adapter_model.safetensors"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--strengths", "0,half"], "--strengths 0,half"),
        (["--strengths", "3"], "between 0 (the base) and 2"),
        (["--save", "most"], "--save most"),
        (["--save", "-1"], "between 0 (the base) and 2"),
        (["--keep", "95"], "at most 1, not 95"),
        (["--limit", "-1"], "--limit"),
        (["--suite", "nosuch"], "nosuch"),
    ],
)
def test_bad_input(
    run: folder.Run, jobs_here: None, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert said in refused(capsys, "tuned", *words)


def test_runs_that_cannot(run: folder.Run, jobs_here: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert "nosuch" in refused(capsys, "nosuch")
    config = run.adapter_path / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "use_dora": True}))
    assert "DoRA" in refused(capsys, "tuned")
    shutil.rmtree(run.adapter_path)
    assert "saved no adapter" in refused(capsys, "tuned")


# --- text --------------------------------------------------------------------------------------------


def curve(best: float | None, reason: str, warnings: list[str] | None = None) -> StrengthCurve:
    def point(strength: float, acquisition: float, retention: Interval, verdict: str) -> StrengthPoint:
        return StrengthPoint(
            strength=strength, acquisition=acquisition, acquisition_interval=retention, retention=retention,
            verdict=verdict, pre=1.0, post=1.0, b=0, c=0, mcnemar_p=1.0,
        )  # fmt: skip

    return StrengthCurve(
        suite="everyday", version="1", sha256="", n=452, model="pocket", weights="", quantization="none",
        dtype="float32",
        acquisition_metric="exact", acquisition_rows=8, keep=0.95,
        points=[
            point(0.0, 0.0, Interval(1.0, 0.98, 1.02), "green"),
            point(1.0, math.nan, Interval(0.5, -math.inf, math.nan), "cannot_tell"),
        ],
        recommended=Recommendation(best, reason),
        warnings=warnings or [],
    )  # fmt: skip


def shown(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *answers: StrengthCurve | SavedStrength,
    save: str = "",
) -> tuple[int, str, str, list[SweepRequest]]:
    requests: list[SweepRequest] = []

    def job(module: str, request: SweepRequest, *, answer: type) -> StrengthCurve | SavedStrength:
        assert module == strength.MODULE
        requests.append(request)
        found = answers[len(requests) - 1]
        assert isinstance(found, answer)
        return found

    monkeypatch.setattr(jobs, "run_job", job)
    status = main.main(["strength", "latest", *(["--save", save] if save else [])])
    out = capsys.readouterr()
    return status, out.out, out.err, requests


def test_the_table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    warned = curve(0.0, "it keeps", ["half \x1b[31mthe rows"])
    _, out, _, asked = shown(monkeypatch, capsys, warned)
    head, base, whole, best, warning = out.splitlines()
    assert "acquisition" in head and "everyday, 452 items" in head
    assert "██████████  1.000 (0.980 to 1.020)" in base and "✓ kept  ← recommended" in base
    # a base at chance has no retention
    assert "? n/a: base at chance" in whole and "0.500" not in whole and "nan" not in out
    assert best == "Recommended: 0, since it keeps." and "\x1b" not in warning
    assert asked == [SweepRequest(run="latest", suite="everyday", keep=0.95)]


def test_saving_what_is_recommended(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = SavedStrength("adapter-strength-0.60")
    status, out, _, asked = shown(monkeypatch, capsys, curve(0.6, "best"), saved, save="recommended")
    assert status == 0 and "saved as adapter-strength-0.60" in out
    assert asked[1] == SweepRequest(run="latest", save=0.6)
    for none in (None, 0.0):  # the base itself is there already
        status, _, err, asked = shown(monkeypatch, capsys, curve(none, "no reason"), save="recommended")
        assert status == options.EXIT_USAGE and "nothing is saved: no reason" in err and len(asked) == 1
