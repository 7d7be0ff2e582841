"""The measurement on the bundled model: prompts, cached answers, an interruption, and what cannot be done."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tui_lab.core.errors import LabError
from tui_lab.core.paths import cache_dir
from tui_lab.evaluation import predict
from tui_lab.evaluation.advice import AdviseRequest, TuningAdvice
from tui_lab.evaluation.advise import advise
from tui_lab.evaluation.predict import Interrupted
from tui_lab.evaluation.records import EvaluationRequest


def data() -> str:
    """A folder of rows for examples, and seven others that are held out."""
    folder = cache_dir() / "rows"
    folder.mkdir(parents=True, exist_ok=True)
    for name, numbers in (("train", range(12)), ("test", range(90, 97))):
        rows = ({"question": f"What comes after {n}?", "answer": str(n + 1)} for n in numbers)
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(folder)


def measure(adapter: str = "", cancelled: Any = lambda: False, **values: Any) -> TuningAdvice:
    target = EvaluationRequest(model="pocket", adapter=adapter, dtype="float32")
    settings: dict[str, Any] = {"data": data(), "limit": 7, "max_new_tokens": 4, "shots": 2} | values
    return advise(AdviseRequest(target, **settings), lambda *_: None, cancelled)


def answers(found: TuningAdvice, method: int) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(found.methods[method].file).read_text().splitlines()][1:]


def test_methods_answer_the_same_rows_and_a_base_is_asked_once(
    runs_dir: Path, adapters: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    base = measure()
    assert [method.name for method in base.methods] == ["zero-shot", "2-shot", "retrieval"]
    assert base.rows == 7 and base.methods[0].gain is None and base.verdict.text
    asked = [answers(base, method) for method in range(3)]
    assert [row["prompt"] for row in asked[0]] == [row["prompt"] for row in asked[2]]
    assert all(a["prompt_tokens"] < b["prompt_tokens"] for a, b in zip(asked[0], asked[1], strict=True))
    assert (
        len({b["prompt_tokens"] - a["prompt_tokens"] for a, b in zip(asked[0], asked[1], strict=True)}) == 1
    )
    assert ["seconds" in row for row in asked[0]] == [True] * 5 + [False] * 2
    for method, rows in zip(base.methods, asked, strict=True):
        assert method.score.value == sum(row["base"]["score"] for row in rows) / 7
        assert method.prompt_tokens == sum(row["prompt_tokens"] for row in rows) / 7
        assert method.seconds is not None and method.cost is None

    one = measure(retrieved=1)
    assert one.methods[:2] == base.methods[:2], "only the retrieved examples are fewer"
    assert one.methods[2].prompt_tokens < base.methods[2].prompt_tokens

    sides: list[tuple[str, ...]] = []
    make = predict.Predictor.__init__

    def noted(self: Any, session: Any, side: tuple[str, ...], *rest: Any) -> None:
        sides.append(side)
        make(self, session, side, *rest)

    monkeypatch.setattr(predict.Predictor, "__init__", noted)
    monkeypatch.setenv("TUI_LAB_PRICE_PER_HOUR", "3.6")
    found = measure(str(adapters["own"]))
    assert sides == [(predict.TUNED,)] * 2, "the answers of the base are cached"
    assert [m.score for m in found.methods[:3]] == [m.score for m in base.methods]
    assert [m.name for m in found.methods[3:]] == ["tuned", "tuned + retrieval"]
    assert found.methods[3].cost == pytest.approx(found.methods[3].seconds / 1000)
    assert [row["base"]["text"] for row in answers(found, 3)] != [row["base"]["text"] for row in asked[0]]

    monkeypatch.setattr(predict, "load_session", pytest.fail)
    assert measure(str(adapters["own"])).methods == found.methods


def test_an_interrupted_measurement_goes_on(runs_dir: Path) -> None:
    calls = 0

    def after_two() -> bool:
        nonlocal calls
        calls += 1
        return calls > 12

    with pytest.raises(Interrupted):
        measure(cancelled=after_two, limit=6)
    (place,) = (cache_dir() / "advice").glob("*.jsonl")
    before = place.read_text().splitlines()
    assert 1 < len(before) < 7
    assert measure(limit=6).rows == 6
    assert set(before) <= set(place.read_text().splitlines()), "seconds and all: not asked again"


def test_what_cannot_be_compared_is_said(runs_dir: Path, tmp_path: Path) -> None:
    texts = tmp_path / "texts.jsonl"
    texts.write_text(
        "".join(json.dumps({"text": f"A text of its own, number {n}."}) + "\n" for n in range(40))
    )
    for values, sentence in (
        ({"data": ""}, "no data was named"),
        ({"data": str(texts)}, "texts without questions"),
        ({"shots": 99}, "--shots"),
        ({"data": "no-such-file.jsonl"}, "no-such-file.jsonl"),
    ):
        with pytest.raises(LabError, match=sentence):
            measure(**values)
