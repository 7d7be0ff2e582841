"""Retention on demand: what is scored is what the scorer alone gives, baselines are kept and used again, what
was interrupted goes on, a baseline of another precision is not mistaken for this one's; a run's folder."""

from __future__ import annotations

import io
import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from tui_lab.core import job_protocol
from tui_lab.core.errors import LabError
from tui_lab.core.records import to_json
from tui_lab.data import bundled
from tui_lab.evaluation import evaluate, score_cache
from tui_lab.evaluation.evaluate import file_stem
from tui_lab.evaluation.records import EvaluationAnswer, EvaluationRequest, read_request
from tui_lab.evaluation.score_cache import LoadConfig, ScoreFile
from tui_lab.models import digests
from tui_lab.pocket import MODEL_DIR
from tui_lab.recipes.recipe import build
from tui_lab.retention import results
from tui_lab.retention.scoring import score
from tui_lab.retention.scoring.score import Cancelled
from tui_lab.retention.suites import registry
from tui_lab.runs import folder as runs

#: Items of the suite and held-out rows in most tests.
ITEMS, ROWS = 12, 3
#: The recipe keys that decide how long the acquisition takes.
FEW = {"max_rows": 20, "score_rows": ROWS, "sample_max_new_tokens": 8}


def ask(**values: Any) -> EvaluationAnswer:
    return evaluate.evaluate(read_request({"suites": ["everyday"], "limit": ITEMS, **values}))


@pytest.fixture
def run(runs_dir: Path, adapters: dict[str, Path]) -> runs.Run:
    """A finished run on the bundled data ``support``, asked few rows."""
    made = runs.create(build({"model": "pocket", "data": "support", **FEW}), name="tuned")
    shutil.copytree(adapters["own"], made.adapter_path)
    return made


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The locations from which models were loaded."""
    from tui_lab.models import loading

    seen: list[str] = []
    plain = loading.load_model

    def noted(source: Any, *how: Any, **options: Any) -> Any:
        seen.append(source.location)
        return plain(source, *how, **options)

    monkeypatch.setattr(loading, "load_model", noted)
    return seen


def test_a_run_against_its_base(run: runs.Run, adapters: dict[str, Path], loads: list[str]) -> None:
    found = ask(run=run.id)
    [result] = found.suites
    suite = registry.load("everyday", ITEMS)
    base = AutoModelForCausalLM.from_pretrained(MODEL_DIR, dtype=torch.float32, use_safetensors=True).eval()
    tokenizer = AutoTokenizer.from_pretrained(MODEL_DIR)
    before = score.score(base, tokenizer, suite)
    after = score.score(peft.PeftModel.from_pretrained(base, adapters["own"]), tokenizer, suite)
    for item, one, other in zip(result.items, before, after, strict=True):
        assert item.base.loglikelihoods == pytest.approx(one.loglikelihoods, rel=1e-5)
        assert item.tuned.loglikelihoods == pytest.approx(other.loglikelihoods, rel=1e-5)
    assert result.comparison.pre == sum(score.correct(suite, before)) / ITEMS
    assert result.comparison.post == sum(score.correct(suite, after)) / ITEMS
    assert result.comparison.threshold == run.recipe().retention_threshold
    assert loads == [str(MODEL_DIR)], "one model serves both"
    place = run.path / "retention"
    assert stat.S_IMODE(place.stat().st_mode) == 0o700 and not (place / "parts").exists()
    assert results.read(place / "everyday.json").items == result.items
    learned = json.loads((place / "acquisition.json").read_text())
    assert learned == json.loads(to_json(found.acquisition))
    assert learned["rows"] == ROWS and learned["scorer"] == "exact" and learned["v"] == 1
    expected = [row["messages"][-1]["content"] for row in bundled.load("support").validation]
    assert [item["expected"] for item in learned["items"]] == expected[:ROWS]
    for side in ("base", "tuned"):
        marks = [item[side]["token_f1"] for item in learned["items"]]
        assert learned["metrics"]["token_f1"][side]["value"] == pytest.approx(sum(marks) / ROWS)
    # everything is known now but what was tuned, whose scores are in the result
    again = ask(run=run.id)
    assert again.suites[0].comparison == result.comparison
    assert to_json(again.acquisition) == to_json(found.acquisition)


def test_a_baseline_is_computed_once_for_each_load_configuration(
    runs_dir: Path, loads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    [first] = ask().suites
    assert loads == [str(MODEL_DIR)]
    [again] = ask().suites
    assert len(loads) == 1 and again.items == first.items and not again.warnings
    [half] = ask(dtype="bfloat16").suites
    assert len(loads) == 2 and half.dtype == "bfloat16"
    [said] = half.warnings
    assert "without quantisation in float32" in said and "in bfloat16" in said and "measured again" in said
    assert half.items[0].base.loglikelihoods != first.items[0].base.loglikelihoods
    assert not ask(dtype="bfloat16").suites[0].warnings, "said once: the baseline is there now"
    [quarter] = ask(quantization="nf4").suites
    assert quarter.quantization == "nf4"
    assert "in nf4 in" in quarter.warnings[0] and "measured again" in quarter.warnings[0]
    assert quarter.items[0].base.loglikelihoods != first.items[0].base.loglikelihoods
    loads.pop()
    ask(limit=ITEMS - 2)
    assert len(loads) == 3, "a part of a suite is another suite"
    monkeypatch.setattr(score_cache, "SCORER", 999)
    ask()
    assert len(loads) == 4, "scores of an older scorer are void"


def test_a_run_is_measured_as_it_was_trained(runs_dir: Path, adapters: dict[str, Path]) -> None:
    made = runs.create(build({"model": "pocket", "data": "support", "quantization": "nf4"}), name="four")
    shutil.copytree(adapters["own"], made.adapter_path)
    [result] = ask(run=made.id, acquisition=False).suites
    assert result.quantization == "nf4"
    [other] = ask(run=made.id, quantization="none", acquisition=False).suites
    assert other.quantization == "none" and "measured again" in other.warnings[0]


def test_without_its_data_only_acquisition_is_missing(
    runs_dir: Path, adapters: dict[str, Path], tmp_path: Path
) -> None:
    made = runs.create(build({"model": "pocket", "data": str(tmp_path / "gone.jsonl")}), name="gone")
    shutil.copytree(adapters["own"], made.adapter_path)
    found = ask(run=made.id)
    assert found.acquisition is None and found.suites[0].comparison
    assert any("gone.jsonl" in text for text in found.suites[0].warnings)


def test_a_run_without_saved_weights_is_refused(runs_dir: Path) -> None:
    made = runs.create(build({"model": "pocket", "data": "support"}), name="empty")
    with pytest.raises(LabError, match="saved no adapter"):
        ask(run=made.id)
    with pytest.raises(LabError, match="no-such-run"):
        ask(run="no-such-run")


def test_other_weights_of_the_same_size_and_time_are_scored_again(
    tmp_path: Path, runs_dir: Path, loads: list[str]
) -> None:
    place = tmp_path / "model"
    shutil.copytree(MODEL_DIR, place)
    ask(model=str(place))
    ask(model=str(place))
    assert len(loads) == 1
    weights = place / "model.safetensors"
    os.utime(weights, ns=(1, 1))
    ask(model=str(place))
    assert len(loads) == 1
    tensors = load_file(weights)
    tensors["model.norm.weight"] = tensors["model.norm.weight"] * 2
    save_file(tensors, weights, metadata={"format": "pt"})
    os.utime(weights, ns=(1, 1))
    ask(model=str(place))
    assert len(loads) == 2


def test_full_weights_and_their_base_are_loaded_in_turn(runs_dir: Path, loads: list[str]) -> None:
    made = runs.create(build({"model": "pocket", "data": "support", "method": "full"}), name="whole")
    shutil.copytree(MODEL_DIR, made.model_path)
    [result] = ask(run=made.id, acquisition=False).suites
    assert loads == [str(MODEL_DIR), str(made.model_path)]
    assert result.comparison.b == result.comparison.c == 0 and result.adapter == made.id
    low = result.comparison.above_chance.low
    assert low < 1, "no flips, and yet the interval has a width"
    assert not (made.path / "retention" / "acquisition.json").exists()
    loads.clear()
    ask(run=made.id, acquisition=False)
    assert loads == [str(made.model_path)], "the baseline is kept: the base is not loaded at all"


@pytest.mark.parametrize("side", ["base", "tuned"])
def test_an_interrupted_evaluation_continues_at_the_item(
    side: str, run: runs.Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = ask(run=run.id).suites[0]
    shutil.rmtree(run.path / "retention")
    if side == "base":
        shutil.rmtree(score_cache.folder())
    asked: list[list[str]] = []
    plain = score.score

    def noted(model: Any, tokenizer: Any, suite: Any, *, done: Any, on_score: Any, **_: Any) -> Any:
        ids: list[str] = []
        asked.append(ids)

        def counted(one: Any) -> None:
            ids.append(one.id)
            on_score(one)

        def stopped() -> bool:
            return len(asked) == 1 and len(ids) >= 4

        return plain(
            model, tokenizer, suite, done=done, on_score=counted, cancelled=stopped, batch_tokens=128
        )

    monkeypatch.setattr(score, "score", noted)
    with pytest.raises(Cancelled):
        ask(run=run.id, acquisition=False)
    assert 4 <= len(asked[0]) < ITEMS
    [again] = ask(run=run.id, acquisition=False).suites
    assert not set(asked[0]) & set(asked[1]) and len(asked[0]) + len(asked[1]) == ITEMS
    assert again.comparison == whole.comparison


def test_damaged_lines_are_scored_again(runs_dir: Path) -> None:
    [first] = ask().suites
    [path] = score_cache.folder().glob("*.jsonl")
    lines = path.read_bytes().splitlines(keepends=True)
    damaged = [lines[0], b"\xff\x00nonsense\n", b"[1]\n", *lines[3:-1], lines[-1][:20]]
    path.write_bytes(b"".join(damaged))
    [again] = ask().suites
    for one, other in zip(again.items, first.items, strict=True):
        assert one.base.loglikelihoods == pytest.approx(other.base.loglikelihoods, rel=1e-5)
    suite = registry.load("everyday", ITEMS)
    with ScoreFile(score_cache.folder(), _identity(), LoadConfig("none", again.dtype, "cpu"), suite) as kept:
        assert kept.path == path and kept.complete


def _identity() -> str:
    return digests.identity(str(MODEL_DIR))


def test_a_run_is_found_by_path_and_as_model(run: runs.Run, tmp_path: Path, loads: list[str]) -> None:
    place = run.path / "retention" / "everyday.json"
    for names in (
        {"adapter": run.id},
        {"model": "pocket", "adapter": run.id},
        {"model": run.id},
        {"run": str(run.path)},
    ):
        place.unlink(missing_ok=True)
        [result] = ask(**names, acquisition=False).suites
        assert (result.model, result.adapter) == ("pocket", run.id), names
        assert results.read(place).comparison == result.comparison
    other = tmp_path / "other"
    shutil.copytree(MODEL_DIR, other)
    place.unlink()
    [result] = ask(model=str(other), adapter=run.id, acquisition=False).suites
    assert result.model == str(other) and not place.exists(), "on another base it is not the run's result"


def test_a_limited_result_does_not_replace_a_larger_one(run: runs.Run) -> None:
    ask(run=run.id, limit=30, acquisition=False)
    ask(run=run.id, limit=10, acquisition=False)
    assert results.read(run.path / "retention" / "everyday.json").n == 30


def test_an_adapter_folder_and_several_suites(
    runs_dir: Path, adapters: dict[str, Path], tmp_path: Path
) -> None:
    own = tmp_path / "mine.jsonl"
    rows = [{"question": f"What is {n}?", "choices": ["this", "that"], "answer": n % 2} for n in range(6)]
    own.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = ask(model="pocket", adapter=str(adapters["own"]), suites=["everyday", str(own), "toxicity"])
    assert [result.suite for result in found.suites] == ["everyday", "mine", "toxicity"]
    assert all(result.comparison for result in found.suites) and found.acquisition is None
    with pytest.raises(LabError, match="does not fit this llama model"):
        ask(model="pocket", adapter=str(adapters["other"]))


@pytest.mark.parametrize(
    ("request_", "part"),
    [
        ({}, "no suite was named"),
        ({"suites": "everyday"}, "suites must be a list"),
        ({"suites": ["everyday"], "limit": "x"}, "limit must be a whole number"),
        ({"suites": ["everyday"], "limit": -1}, "limit is 0"),
        ({"suites": ["everyday"], "dtype": "int8"}, "dtype is auto"),
        ({"suites": ["everyday"], "quantization": "q4"}, "quantization is one of auto"),
    ],
)
def test_invalid_requests_are_refused_with_a_sentence(request_: dict[str, Any], part: str) -> None:
    with pytest.raises(LabError, match=part):
        read_request(request_)


def test_unknown_fields_are_ignored() -> None:
    wanted = EvaluationRequest(("everyday", "format"))
    assert read_request({"suites": ["everyday", "format", "everyday"], "colour": 1}) == wanted


def test_suite_names_become_file_names() -> None:
    assert file_stem("mmlu@5") == "mmlu@5" and file_stem("../a b") == "a-b"
    assert file_stem("strength") == "strength-suite" and file_stem("…") == "suite"


def test_the_job_speaks_the_protocol(runs_dir: Path) -> None:
    """In this process, which has the libraries; the child refuses a request before it imports them."""
    out = io.StringIO()
    request = json.dumps({"suites": ["everyday"], "limit": 4}) + "\n"
    assert job_protocol.run(evaluate.handle, io.StringIO(request), out, EvaluationRequest) == 0
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert lines[-1]["kind"] == "result" and lines[-1]["answer"]["suites"][0]["n"] == 4
    assert {"done": 4, "total": 4}.items() <= lines[-2].items()
    done = subprocess.run(
        [sys.executable, "-P", "-m", "tui_lab.evaluation.evaluate"],
        input="{}\n", capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == job_protocol.EXIT_REFUSED, done.stderr
    [line] = [json.loads(line) for line in done.stdout.splitlines()]
    assert line["kind"] == "error" and "no suite was named" in line["message"]


def test_a_folder_that_cannot_be_written_is_a_sentence(
    runs_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("TUI_LAB_CACHE_DIR", str(blocked / "cache"))
    with pytest.raises(LabError, match="TUI_LAB_CACHE_DIR"):
        ask()
