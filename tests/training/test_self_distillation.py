"""The phase that rewrites training answers: its file, its resumption, and what is trained."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.training.conftest import word_tokenizer
from tests.training.test_attempt import run_in_process
from tui_lab.core.errors import LabError
from tui_lab.data.examples import Example
from tui_lab.recipes.recipe import build
from tui_lab.runs import folder
from tui_lab.runs.events import EventWriter
from tui_lab.runs.schema import SelfDistillationEvent
from tui_lab.runs.wording import sentence
from tui_lab.training import self_distillation
from tui_lab.training.attempt import open_attempt, run_attempt

MODEL: Any = SimpleNamespace(
    config=SimpleNamespace(get_text_config=lambda: SimpleNamespace(max_position_embeddings=400)),
    generation_config=SimpleNamespace(eos_token_id=1),
)


class Writer:
    """Stands for the model's generation: it repeats the reference with a word more, and answers every fifth
    row wrongly. Ends after ``batches``."""

    def __init__(self, batches: int = 10**9) -> None:
        self.batches, self.asked = batches, 0

    def __call__(self, _model: Any, tokenizer: Any, prompts: list[list[int]], **how: Any) -> list[str]:
        if not self.batches:
            raise KeyboardInterrupt
        self.batches -= 1
        self.asked += len(prompts)
        references = [tokenizer.decode(prompt).split()[-3:-1] for prompt in prompts]
        assert 0 < how["max_new_tokens"] - self_distillation.LENGTH_MORE <= 2 * 3
        return ["w9" if int(first[1:]) % 5 == 0 else f"w7 {first} {last}" for first, last in references]


@pytest.fixture
def rows() -> list[Example]:
    # w0, w1 and w2 are special, also at the beginning of a word
    return [Example(prompt=f"w3{at % 10} w4{at // 10}", completion=f"w{40 + at} w5") for at in range(60)]


@pytest.fixture
def template(monkeypatch: pytest.MonkeyPatch) -> None:
    """A prompt of words that the tokenizer of the tests knows."""
    monkeypatch.setattr(self_distillation.self_distillation, "TEMPLATE", "{instruction} w3 {reference} w4")


@pytest.mark.usefixtures("template")
def test_an_interrupted_phase_goes_on_with_the_same_answers(
    rows: list[Example], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(self_distillation, "BATCH_ROWS", 16)
    tokenizer, found = word_tokenizer(), {}
    for name, batches in (("whole", [10]), ("parts", [1, 1, 10])):
        path = tmp_path / f"{name}.jsonl"
        asked = 0
        for limit in batches:
            writer = Writer(limit)
            monkeypatch.setattr(self_distillation, "generate_answers", writer)
            done = self_distillation._read(path, "digest")
            try:
                self_distillation._rewrite(MODEL, tokenizer, rows, path, done, lambda *_: None)
            except KeyboardInterrupt:
                with path.open("a") as file:
                    file.write('{"row": 59, "te')  # it died while it wrote
            asked += writer.asked
        assert asked == len(rows)  # no row twice
        found[name] = self_distillation._read(path, "digest")
    assert found["whole"] == found["parts"] and len(found["whole"]) == len(rows)
    assert found["whole"][0].lost == "words missing" and found["whole"][1].text == "w7 w41 w5"
    with pytest.raises(LabError, match="start a new run"):
        self_distillation._read(tmp_path / "whole.jsonl", "another digest")


@pytest.mark.usefixtures("template")
def test_long_rows_keep_their_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(self_distillation, "generate_answers", Writer())
    long = Example(prompt=" ".join(["w30"] * 390), completion="w40 w5")
    done: dict[int, Any] = {}
    examples = [long, Example(prompt="w31", completion="w41 w5")]
    self_distillation._rewrite(MODEL, word_tokenizer(), examples, tmp_path / "f", done, lambda *_: None)
    assert [done[row].lost for row in (0, 1)] == ["too long", ""]


@pytest.mark.usefixtures("template")
def test_a_run_trains_the_rewritten_answers_and_the_next_one_reads_them(
    tiny_llama: Path, rows: list[Example], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUI_LAB_CACHE_DIR", str(tmp_path / "cache"))
    data = tmp_path / "rows.jsonl"
    data.write_text(
        "".join(json.dumps({"prompt": row.prompt, "completion": f" {row.completion}"}) + "\n" for row in rows)
    )
    values = {
        "model": str(tiny_llama), "data": str(data), "max_length": 32, "max_steps": 2, "score_rows": 0,
        "sample_max_new_tokens": 4, "probe_share": 0.0, "self_distillation": True, "validation_fraction": 0.1,
        "per_device_train_batch_size": 4, "gradient_accumulation_steps": 1,
    }  # fmt: skip
    asked = []
    for _ in range(2):
        writer = Writer()
        monkeypatch.setattr(self_distillation, "generate_answers", writer)
        run = folder.create(build(values), tmp_path / "runs")
        watcher = run_in_process(run)
        assert watcher.status == "finished"
        asked.append(writer.asked)
    assert asked == [54, 0]  # the second run has them from the cache
    [event] = [each for each in watcher.state.feed if isinstance(each, SelfDistillationEvent)]
    lost = [row for row in event_rows(run) if row["lost"]]
    assert event.rows == 54 and event.rewritten == 54 - len(lost)
    assert event.kept == {"words missing": len(lost)} and len(lost) > 5
    first = event.examples[0]
    assert first.text == f"w7 {first.reference.strip()}"
    assert f"{event.rewritten} of 54 answers rewritten by the base" in sentence(event)
    assert (run.path / self_distillation.FILE).read_bytes().count(b"\n") == 55


def event_rows(run: folder.Run) -> list[dict[str, Any]]:
    lines = (run.path / self_distillation.FILE).read_text().splitlines()[1:]
    return [{"lost": "", **json.loads(line)} for line in lines]


def test_plain_text_is_refused_in_one_sentence(tiny_llama: Path, tmp_path: Path) -> None:
    data = tmp_path / "text.txt"
    data.write_text("\n\n".join(f"w{at} w{at + 1} w{at + 2}" for at in range(3, 60)))
    values = {"model": str(tiny_llama), "data": str(data), "max_length": 32, "self_distillation": True}
    run = folder.create(build(values), tmp_path / "runs")
    with pytest.raises(LabError, match="plain text without answers"):
        run_attempt(open_attempt(run, EventWriter(run.events_path)))
