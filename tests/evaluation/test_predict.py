"""Predictions: greedy answers equal those of transformers, an interrupted prediction gives the same file, and
what cannot be answered or continued is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from tests.cli.json_check import problems
from tui_lab.core.errors import LabError
from tui_lab.data import row_tokens, templates
from tui_lab.data.formats import read
from tui_lab.decoding.session import DecodingSession, NotEnoughMemoryError
from tui_lab.evaluation import predict as module
from tui_lab.evaluation.predict import Interrupted, PredictionRequest, predict
from tui_lab.evaluation.prediction_summary import PredictionSummary
from tui_lab.evaluation.records import EvaluationRequest
from tui_lab.pocket import MODEL_DIR

QUESTIONS = (
    ("What colour is the sky?", "blue"),
    ("Where is my parcel? I have waited for a week.", "on its way"),
    ("What colour is the sea?", "blue"),
    ("What is two and two?", "four"),
    ("Name a fruit.", "apple"),
    ("What colour is the sun?", "yellow"),
    ("Which number comes after nine?", "ten"),
)
#: More tokens than the context of the bundled model.
TOO_LONG = "word " * 3000


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return rows_in(tmp_path / "rows.jsonl", QUESTIONS)


def rows_in(path: Path, rows: Any) -> Path:
    path.write_text("".join(json.dumps({"question": q, "answer": a}) + "\n" for q, a in rows))
    return path


def ask(data: Path, adapter: Path | None, cancelled: Any = lambda: False, **values: Any) -> PredictionSummary:
    values.setdefault("max_new_tokens", 6)
    values.setdefault("out", str(data.with_name("out.jsonl")))
    target = EvaluationRequest(model="pocket", adapter=str(adapter or ""), dtype="float32")
    return predict(PredictionRequest(str(data), target, **values), lambda *_: None, cancelled)


def lines(path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def test_greedy_equals_generate_of_transformers(
    runs_dir: Path, data: Path, adapters: dict[str, Path]
) -> None:
    found = ask(data, adapters["own"])
    model = AutoModelForCausalLM.from_pretrained(MODEL_DIR, dtype=torch.float32, use_safetensors=True)
    tokenizer = templates.load_for(str(MODEL_DIR))
    stops = row_tokens.stop_ids(tokenizer, model)

    def answer(model: Any, example: Any) -> str:
        ids = torch.tensor([row_tokens.prompt_ids(tokenizer, example)])
        out = model.generate(ids, max_new_tokens=6, do_sample=False, eos_token_id=stops, pad_token_id=0)
        return str(tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True))

    examples = read(str(data)).rows
    settings, *rows = lines(found.path)
    assert settings["kind"] == "prediction_settings" and len(rows) == len(examples) == len(QUESTIONS)
    assert not any(problems(each) for each in (settings, *rows)), "the file is in the schema"
    assert [row["row"] for row in rows] == [1, 2, 3, 4, 5, 6, 7] and rows[1]["place"] == "line 2"
    assert [(row["prompt"], row["expected"]) for row in rows] == list(QUESTIONS)
    assert [row["base"]["text"] for row in rows] == [answer(model, example) for example in examples]
    tuned = PeftModel.from_pretrained(model, adapters["own"])
    assert [row["tuned"]["text"] for row in rows] == [answer(tuned, example) for example in examples]
    assert found.differ == sum(row["base"]["text"] != row["tuned"]["text"] for row in rows) > 0
    right = [row["base"]["score"] for row in rows]
    assert (
        found.metrics["exact"].base.value == sum(right) / len(rows) and next(iter(found.metrics)) == "exact"
    )


@pytest.mark.parametrize("lane", ["greedy", "top-p p=0.9"])
def test_a_cut_file_is_continued_to_the_same_file(
    runs_dir: Path, data: Path, adapters: dict[str, Path], lane: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Path(ask(data, adapters["own"], lane=lane, batch_rows=2).path)
    whole = place.read_bytes()
    kept = whole.splitlines(keepends=True)
    place.write_bytes(b"".join((*kept[:3], kept[5], kept[6][:40])))
    assert ask(data, adapters["own"], lane=lane, batch_rows=2).resumed == 3
    assert place.read_bytes() == whole

    place.write_bytes(b"".join((*kept[:2], b'{"kind": "prediction", "row": "x"}\n', *kept[2:])))
    monkeypatch.setattr(module, "load_weights", pytest.fail)  # all rows are there
    assert ask(data, adapters["own"], lane=lane, batch_rows=2).rows == 7
    assert place.read_bytes() == whole, "a damaged line is dropped"


def test_an_interrupted_prediction_goes_on(runs_dir: Path, data: Path) -> None:
    whole = Path(ask(data, None, out=str(data.with_name("whole.jsonl"))).path).read_bytes()
    place = data.with_name("out.jsonl")
    with pytest.raises(Interrupted):
        ask(data, None, cancelled=lambda: len(lines(str(place))) > 3)
    before = len(lines(str(place))) - 1
    assert 0 < before < len(QUESTIONS)
    found = ask(data, None)
    assert found.resumed == before and place.read_bytes() == whole
    assert all(row["tuned"] is None for row in lines(found.path)[1:])
    assert found.metrics["exact"].difference is None


def test_samples_do_not_depend_on_the_batch(runs_dir: Path, data: Path) -> None:
    one, many = (
        ask(data, None, lane="sample seed=5", batch_rows=rows, out=str(data.with_name(f"{rows}.jsonl")))
        for rows in (1, 8)
    )
    assert lines(one.path) == lines(many.path)


def test_limit_and_a_longer_data_set(runs_dir: Path, data: Path) -> None:
    assert ask(data, None, limit=2).rows == 2
    assert (ask(data, None, limit=4).resumed, ask(data, None).rows) == (2, 7)
    rows_in(data, QUESTIONS[:5])
    with pytest.raises(LabError, match="changed: the rows; --force replaces it"):
        ask(data, None)
    assert ask(data, None, force=True).rows == 5


def test_what_cannot_be_continued_is_refused(runs_dir: Path, data: Path) -> None:
    ask(data, None, limit=1)
    with pytest.raises(LabError, match=r"changed: the lane \(greedy, now beam num_beams=2\), max_new_tokens"):
        ask(data, None, lane="beam num_beams=2", max_new_tokens=7, limit=1)
    own = data.with_name("own.jsonl")
    own.write_text("mine")
    with pytest.raises(LabError, match="is no file of predictions"):
        ask(data, None, out=str(own))
    assert own.read_text() == "mine"
    with pytest.raises(LabError, match="without on="):
        ask(data, None, lane="greedy on=base")
    with pytest.raises(LabError, match="cannot be written"):
        ask(data, None, out=str(data.parent))


def test_a_row_beyond_the_context_is_skipped(runs_dir: Path, data: Path) -> None:
    rows_in(data, (QUESTIONS[0], (TOO_LONG, "x"), QUESTIONS[1]))
    found = ask(data, None)
    assert (found.rows, found.skipped, found.scored) == (3, 1, 2)
    [place] = found.skipped_places
    assert place.startswith("line 2: the prompt has 3") and "the model's context is" in place
    assert lines(found.path)[2]["base"] is None
    assert ask(data, None).resumed == 3


@pytest.mark.parametrize("error", [RuntimeError("CUDA out of memory"), NotEnoughMemoryError("no space")])
def test_out_of_memory_halves_the_batch(
    runs_dir: Path, data: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    rows_in(data, [QUESTIONS[0]] * 5)
    decode, sizes = DecodingSession.decode, []

    def small(self: DecodingSession, request: Any, *rest: Any) -> Any:
        sizes.append(len(request.lanes))
        if len(request.lanes) > most:
            raise error
        return decode(self, request, *rest)

    monkeypatch.setattr(DecodingSession, "decode", small)
    most = 2
    assert ask(data, None).rows == 5 and sizes == [5, 2, 2, 1]
    most = 0
    with pytest.raises(LabError, match="line 1 does not fit into memory, even alone"):
        ask(data, None, max_new_tokens=5, force=True)


@pytest.mark.parametrize(
    ("row", "asked", "expected"),
    [
        ({"question": "Why?"}, "Why?", None),
        ({"instruction": "Count.", "input": "a b"}, "Count.\n\na b", None),
        ({"messages": [{"role": "user", "content": "Hi"}]}, "Hi", None),
        ({"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}, "a", "b"),
        ({"prompt": "The sky is"}, "The sky is", None),
        ({"prompt": "The sky is", "completion": " blue"}, "The sky is", " blue"),
        ({"prompt": "a", "chosen": "b", "rejected": "c"}, "a", "b"),
        ({"text": "one two three four five six seven eight nine"}, "one two three four five six seven eight",
         "one two three four five six seven eight nine"),
    ],
)  # fmt: skip
def test_every_shape_of_row(
    runs_dir: Path, data: Path, row: dict[str, Any], asked: str, expected: str | None
) -> None:
    data.write_text(json.dumps(row) + "\n")
    found = ask(data, None)
    [made] = lines(found.path)[1:]
    assert (made["prompt"], made["expected"]) == (asked, expected)
    assert made["base"]["text"] and found.scored == (expected is not None)
    assert (made["base"]["score"] is None) == (expected is None) == (made["base"]["scores"] == {})


def test_a_chat_that_ends_with_the_user_is_answered(runs_dir: Path, data: Path) -> None:
    chat = [{"role": role, "content": role[0]} for role in ("user", "assistant", "user")]
    rows = [{"messages": chat}, {"messages": chat[:2]}, {"messages": [{"role": "moon", "content": "x"}]}]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = ask(data, None)
    first, second = lines(found.path)[1:]
    assert (first["expected"], second["expected"]) == (None, "a")
    assert first["prompt_tokens"] > second["prompt_tokens"] and (found.rows, found.scored) == (2, 1)
    assert any("line 3" in note for note in found.notes)
    data.write_text('{"colour": 1}\n')
    with pytest.raises(LabError, match="has the columns colour; that is no format"):
        ask(data, None)


def test_samples_are_scored_together(runs_dir: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = {"question": "Write f.", "answer": "def f(): return 7", "tests": "assert f() == 7"}
    data.write_text(json.dumps(row) + "\n")
    asked: list[str] = []

    def half_right(answers: Any, tests: Any) -> list[bool]:
        asked.extend(answers)
        return [at % 2 == 0 for at in range(len(answers))]

    monkeypatch.setattr("tui_lab.data.code_tests.passed", half_right)
    found = ask(data, None, lane="sample seed=5", samples=6)
    [made] = lines(found.path)[1:]
    texts = [made["base"]["text"], *made["base"]["others"]]
    assert [text.strip() for text in texts] == asked and len(set(texts)) == 6, "six different samples"
    # 3 of 6 pass: of the 20 ways to draw 5 of 6, and of the one to draw 6, all hold a right one
    assert (
        made["base"]["scores"] | {"pass_at_1": 0.5, "pass_at_5": 1.0, "pass_at_6": 1.0}
        == made["base"]["scores"]
    )
    assert next(iter(found.metrics)) == "pass_at_1" and not problems(made)
    single = ask(data, None, lane="sample seed=5", out=str(data.with_name("single.jsonl")))
    assert lines(single.path)[1]["base"]["text"] == texts[0]
    with pytest.raises(LabError, match=r"changed: samples \(6, now 2\)"):
        ask(data, None, lane="sample seed=5", samples=2)
    with pytest.raises(LabError, match="greedy gives the same answer each time"):
        ask(data, None, samples=2)
