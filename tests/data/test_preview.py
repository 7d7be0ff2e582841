"""The preview as the lab starts it: a child process that answers in JSON lines."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.data.conftest import CHATML, byte_tokenizer
from tui_lab.core.errors import LabError
from tui_lab.core.records import from_plain
from tui_lab.data import preview
from tui_lab.data.preview_records import PreviewRequest


@pytest.fixture
def model(tmp_path: Path) -> str:
    folder = tmp_path / "model"
    byte_tokenizer(CHATML, eos_token="<|im_end|>").save_pretrained(folder)
    return str(folder)


def ask(request: dict[str, Any]) -> tuple[int, list[dict[str, Any]]]:
    done = subprocess.run(
        [sys.executable, "-m", "tui_lab.data.preview"],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        timeout=300,
    )
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


def test_the_job(model: str, tmp_path: Path) -> None:
    data = tmp_path / "a.jsonl"
    rows = [{"question": f"Was {n}?", "answer": f"日本 {n} 😀\x1b[31m"} for n in range(300)] + [
        {"question": "x"}
    ]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, lines = ask({"data": str(data), "model": model, "rows": 2, "start": 1, "max_length": 64})
    assert code == 0 and {line["kind"] for line in lines[:-1]} == {"progress"}
    assert lines[-1]["kind"] == "result"
    result = lines[-1]["answer"]
    assert result["format"] == "question_answer"
    assert result["reason"] == "columns question, answer → question–answer"
    assert result["facts"]["rows"] == 300 and result["facts"]["rows_bad"] == 1
    assert result["facts"]["sampled_rows"] == 301 and not result["facts"]["estimated"]
    assert result["facts"]["template_source"] == "the model's own template"
    assert "line 301" in result["warnings"][0]
    assert [row["place"] for row in result["rows"]] == ["line 2", "line 3"]
    pieces = result["rows"][0]["pieces"]
    assert "".join(text for text, trained in pieces if trained) == "日本 1 😀\x1b[31m<|im_end|>"
    assert "".join(text for text, _ in pieces).startswith("<|im_start|>user\nWas 1?<|im_end|>\n")


def test_refusals_are_one_error_line(model: str, tmp_path: Path) -> None:
    code, lines = ask({"data": str(tmp_path / "none.jsonl"), "model": model})
    assert code == 1 and lines[-1]["kind"] == "error" and "no data file" in lines[-1]["message"]


@pytest.mark.parametrize(
    ("request_fields", "message"),
    [
        ({}, "needs the name"),
        ({"data": 3}, "data must be text"),
        ({"data": "a", "rows": "x"}, "rows must be a whole number, not text"),
        ({"data": "a", "max_length": 1}, "max_length must be .* >= 8"),
    ],
)
def test_bad_requests(request_fields: dict[str, Any], message: str) -> None:
    with pytest.raises(LabError, match=message):
        preview.preview(from_plain(request_fields, PreviewRequest, "The request"), lambda *_: None)


def test_rows_that_do_not_fit_the_preference_loss_are_refused(tmp_path: Path) -> None:
    votes = tmp_path / "votes.jsonl"
    votes.write_text('{"prompt": "Why?", "completion": "So.", "label": true}\n')
    for loss, reason in (
        ("kto", "every answer is desirable"),
        ("dpo", "needs the columns chosen and rejected"),
    ):
        with pytest.raises(LabError, match=reason):
            preview.preview(PreviewRequest(data=str(votes), preference_loss=loss), lambda *_: None)


def test_row_refused_by_the_template(tmp_path: Path) -> None:
    folder = tmp_path / "strict"
    byte_tokenizer(
        "{{ raise_exception('too many turns') if messages | length > 2 }}{% for m in messages %}"
        "{{ '<|' + m['role'] + '|>' + m['content'] + '<|end|>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
    ).save_pretrained(folder)
    turns = [{"role": role, "content": "x"} for role in ("user", "assistant") * 2]
    (tmp_path / "a.jsonl").write_text(
        json.dumps({"messages": turns}) + "\n" + json.dumps({"messages": turns[:2]})
    )
    result = preview.preview(
        PreviewRequest(data=str(tmp_path / "a.jsonl"), model=str(folder)), lambda *_: None
    )
    assert "too many turns" in result.rows[0].error and result.rows[1].trained == 2
    assert result.facts.refused_by_template == 1


def test_a_length_is_suggested_where_rows_are_cut(model: str, tmp_path: Path) -> None:
    data = tmp_path / "long.jsonl"
    rows = [{"question": f"{n}?", "answer": "x" * (300 if n % 4 == 0 else 10)} for n in range(40)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    request = PreviewRequest(data=str(data), model=model, max_length=128, rows=0, deduplicate=False)
    facts = preview.preview(request, lambda *_: None).facts
    assert facts.cut == 10 and facts.too_long_share == pytest.approx(0.25)
    # a quarter of the rows has 300 characters and the template around them, each a token of the byte
    # tokenizer
    assert 300 < facts.suggested_length <= 448 and facts.suggested_length % 64 == 0
    longer = msgspec.structs.replace(request, max_length=facts.suggested_length)
    assert preview.preview(longer, lambda *_: None).facts.too_long_share == 0


@pytest.mark.parametrize("by", ["rows", "tokens"])
def test_a_mixture_shows_each_part(model: str, tmp_path: Path, by: str) -> None:
    answers = {"a": "yes", "b": "a very long answer " * 4}
    for name, answer in answers.items():
        lines = [json.dumps({"question": f"{name}{n}{n * n}?", "answer": f"{answer}{n}"}) for n in range(20)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    fields = {
        "data": f"{tmp_path / 'a.jsonl'}:2 + {tmp_path / 'b.jsonl'}:1",
        "model": model,
        "rows": 3,
        "deduplicate": False,
        "mixture_by": by,
    }
    found = preview.preview(from_plain(fields, PreviewRequest, "request"), lambda *_: None)
    first, second = found.sources
    assert first.train_rows == 18 and first.rows_usable == second.rows_usable == 18
    assert second.train_rows == 9 if by == "rows" else second.train_rows < 9
    assert found.facts.train_rows == first.train_rows + second.train_rows
    assert found.facts.trained_tokens == first.train_trained_tokens + second.train_trained_tokens
    if by == "tokens":
        assert first.train_trained_tokens == pytest.approx(2 * second.train_trained_tokens, rel=0.05)
    places = [row.place for row in found.rows]
    assert places == [f"{name}.jsonl, line {n}" for name in answers for n in (1, 2)]
