"""``tui-lab retention``: what people and programs read, and every kind of bad input as one sentence."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import peft
import pytest
from transformers import AutoModelForCausalLM

from tests.decoding.test_adapters import adapter_folder
from tests.paths import SHARED
from tui_lab.cli import main, options
from tui_lab.pocket import MODEL_DIR

pytestmark = pytest.mark.skipif(
    not (MODEL_DIR / "model.safetensors").is_file(), reason="the bundled model is not built yet"
)


def spoiled(base: Path, place: Path) -> Path:
    """A random adapter for a model."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype="float32", use_safetensors=True)
    config = peft.LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"])
    return adapter_folder(model, config, place, seed=3)


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return spoiled(MODEL_DIR, tmp_path_factory.mktemp("adapters") / "own")


def command(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert main.main(["retention", "--json", *words]) == 0
    shown = capsys.readouterr()
    assert "Traceback" not in shown.err
    found = json.loads(shown.out, parse_constant=pytest.fail)
    assert isinstance(found, dict) and found["kind"] == "retention"
    return found


def jsonl(path: Path, *rows: Any) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def test_json_has_every_item(
    runs_dir: Path,
    adapter: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["--model", "pocket", "--adapter", str(adapter), "--suite", "everyday", "--limit", "40"]
    [result] = command(capsys, *words, "--dtype", "float32")["suites"]
    assert result["n"] == len(result["items"]) == 40 and result["dtype"] == "float32"
    for item in result["items"]:
        assert len(item["base"]["loglikelihoods"]) == len(item["choices"]) == 4 and len(item["answer"]) == 1
        for side in ("base", "tuned"):
            best = max(range(4), key=lambda i, values=item[side]["loglikelihoods"]: values[i])
            assert item[side]["predicted"] == best and item[side]["correct"] == (best in item["answer"])
    share = sum(item["tuned"]["correct"] for item in result["items"]) / 40
    assert result["tuned"]["acc"]["value"] == share == result["comparison"]["post"]
    error = math.sqrt(share * (1 - share) / 39)
    assert result["tuned"]["acc"]["se"] == pytest.approx(error)
    compared = result["comparison"]
    assert compared["a"] + compared["b"] + compared["c"] + compared["d"] == 40
    assert compared["retention"]["low"] < compared["retention"]["value"] < compared["retention"]["high"]


def test_people_get_a_table(
    runs_dir: Path,
    adapter: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["retention", "--adapter", str(adapter), "--model", "pocket", "--limit", "40"]
    assert main.main(words) == 0
    shown = capsys.readouterr()
    assert "Everyday knowledge" in shown.out and "retention above chance" in shown.out
    assert "~ undecided" in shown.out, "four items a category; said as the lab says it"
    assert "not rehearsed (animals, work)" in shown.out and "forgotten (" in shown.out
    assert "everyday: tuned" in shown.err and "everyday: base" in shown.err
    assert max(map(len, shown.out.splitlines())) < 200


def test_a_hostile_suite_cannot_draw_on_the_terminal(
    runs_dir: Path,
    adapter: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = [
        {
            "question": f"{n}\x1b[2J\x1b]0;x\x07 [red]?",
            "choices": ["\x1b[1mone", "\rtwo"],
            "answer": n % 2,
            "category": "\x1b[5m" + "ab"[n % 2],
        }
        for n in range(12)
    ]
    path = jsonl(tmp_path / "hostile.jsonl", *rows)
    assert main.main(["retention", "--adapter", str(adapter), "--model", "pocket", "--suite", path]) == 0
    shown = capsys.readouterr()
    assert not any(ord(c) < 32 and c != "\n" for c in shown.out + shown.err)


def test_suites_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["retention", "--list"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in ("everyday", "hellaswag", "mmlu", "truthfulqa_mc2", "wikitext"))
    assert main.main(["retention", "--list", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["suites"]) == len(shown.splitlines()) - 1  # the head


QUESTION = {"question": "What is wet?", "choices": ["water", "sand"], "answer": 0}


@pytest.mark.parametrize(
    ("rows", "part"),
    [
        ([{"question": "What is wet?", "choices": ["water", "sand"]}], "answer"),
        ([{**QUESTION, "choices": ["water"]}], "choice"),
        ([QUESTION, {**QUESTION, "question": "What is dry?", "answer": 7}], "answer"),
        ([QUESTION, QUESTION], "the same item"),
        ([QUESTION, {**QUESTION, "question": "Why?", "choices": ["a", "s " * 3000]}], "more than the 2,048"),
        ([], "empty"),
    ],
    ids=["no answers", "one choice", "no such answer", "duplicates", "too long an answer", "empty"],
)
def test_bad_suites_are_one_sentence(
    rows: list[Any], part: str, runs_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = jsonl(tmp_path / "bad.jsonl", *rows)
    assert main.main(["retention", "--suite", path]) == options.EXIT_USAGE
    shown = capsys.readouterr()
    last = shown.err.strip().splitlines()[-1]
    assert last.startswith("tui-lab: ") and part in last and "Traceback" not in shown.err and shown.out == ""


def test_items_longer_than_the_context_are_cut_and_it_is_said(
    runs_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long = {**QUESTION, "question": "so " * 4000 + "what is wet?"}
    path = jsonl(tmp_path / "long.jsonl", QUESTION, long)
    [result] = command(capsys, "--suite", path)["suites"]
    assert any("longer than the model's context" in text for text in result["warnings"])
    assert result["items"][1]["base"]["cut"] > 1000 and "cut" not in result["items"][0]["base"]


def test_a_suite_of_another_language_is_said(
    runs_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{**QUESTION, "question": f"Was ist die Zahl {n} und wo ist der Hund nicht?"} for n in range(6)]
    [result] = command(capsys, "--suite", jsonl(tmp_path / "german.jsonl", *rows))["suites"]
    assert any("German" in text for text in result["warnings"])


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--suite", "no-such-suite"], "no-such-suite"),
        (["--model", "no-such-model"], "no-such-model"),
        (["--adapter", "no-such-run"], "no-such-run"),
        (["--limit", "-3"], "limit is 0"),
        (["--threshold", "90"], "--threshold must be a share"),
        (["--judge", "pocket"], "a classifier or judge scores the answers of refusals"),
        (["--suite", "refusals", "--judge", "no-such-judge"], "no-such-judge"),
        (["--suite", "refusals", "--classifier", "no-folder"], "is no folder"),
        (["--judge", "pocket", "--classifier", "x"], "use one of them"),
    ],
)
def test_bad_words_are_one_sentence(
    words: list[str], part: str, runs_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["retention", *words]) == options.EXIT_USAGE
    shown = capsys.readouterr()
    assert part in shown.err and len(shown.err.strip().splitlines()) == 1 and shown.out == ""


def test_control_c_keeps_what_was_scored(runs_dir: Path) -> None:
    words = [sys.executable, "-m", "tui_lab.cli.main", "retention", "--suite", "everyday", "--json"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )  # fmt: skip
    assert process.stderr is not None and process.stdout is not None
    said = [process.stderr.readline()]
    while said[-1] and "everyday: base" not in said[-1]:
        said.append(process.stderr.readline())
    process.send_signal(signal.SIGINT)
    rest = process.stderr.read()
    assert process.wait(60) == options.EXIT_INTERRUPTED, (said, rest)
    assert "repeat the command to continue" in rest and "Traceback" not in rest
    assert json.loads(process.stdout.read())["error"]["exit_code"] == options.EXIT_INTERRUPTED
    [kept] = (runs_dir.parent / "cache" / "baselines").glob("*.jsonl")
    assert len(kept.read_text().splitlines()) < 1 + 452
    process.stdout.close()
    process.stderr.close()


# --- the small real model -----------------------------------------------------------------------------

STORIES = SHARED / "models" / "stories260K"
needs_stories = pytest.mark.skipif(
    not (STORIES / "model.safetensors").is_file(), reason="the shared model is not here"
)


@needs_stories
def test_hellaswag_near_chance_cannot_be_told(
    runs_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adapter = _other(tmp_path)
    words = ["--model", str(STORIES), "--adapter", str(adapter), "--limit", "48"]
    [result] = command(capsys, *words, "--suite", f"hellaswag:{SHARED / 'data' / 'hellaswag'}")["suites"]
    assert result["comparison"]["verdict"] == "cannot_tell" and result["metric"] == "acc_norm"
    assert "not clearly above guessing" in result["comparison"]["sentence"]


@needs_stories
def test_perplexity_of_stories_before_and_after(
    runs_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    [text] = (SHARED / "data" / "tinystories").glob("*.json")
    words = ["--model", str(STORIES), "--adapter", str(_other(tmp_path))]
    [result] = command(capsys, *words, "--suite", f"perplexity:{text}", "--limit", "20")["suites"]
    compared = result["comparison"]
    assert 1 < result["base"]["perplexity"]["value"] < 10, "it was trained on such stories"
    assert compared["post"] > compared["pre"] and compared["retention"]["value"] < 0.9
    assert compared["retention"]["value"] == pytest.approx(compared["pre"] / compared["post"])
    assert compared["verdict"] == "red"


def _other(place: Path) -> Path:
    """An adapter that spoils the small model."""
    return spoiled(STORIES, place / "adapter")
