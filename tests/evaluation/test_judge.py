"""The job on the bundled model, with the bundled model as its own judge and with one that is a rule."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tui_lab.core.errors import LabError
from tui_lab.evaluation import judge as module
from tui_lab.evaluation import judging, predict
from tui_lab.evaluation.judging import JudgePrompt, JudgeRequest, VotedPair
from tui_lab.evaluation.predict import Interrupted
from tui_lab.evaluation.records import EvaluationRequest
from tui_lab.retention.stored import JudgeResult

PROMPTS = (JudgePrompt(("Say hello.", "Again."), "writing"), JudgePrompt(("What colour is the sky?",)))


class Rule:
    """Prefers the longer conversation, and counts what it is asked."""

    name, identity = "rule", "rule"

    def __init__(self) -> None:
        self.questions: list[str] = []

    def letter(self, question: str, letters: object = ()) -> str:
        self.questions.append(question)
        first, _, second = question.partition("[Conversation with A]")[2].partition("[Conversation with B]")
        second = second.partition("Which assistant")[0]
        return "A" if len(first) > len(second) else "B" if len(second) > len(first) else "C"


def measure(adapter: Path, cancelled: Any = lambda: False, **values: Any) -> JudgeResult:
    target = EvaluationRequest(model="pocket", adapter=str(adapter), dtype="float32")
    settings = {"judge": "pocket", "prompts": PROMPTS, "max_new_tokens": 5} | values
    return module.judge(JudgeRequest(target, **settings), lambda *_: None, cancelled)


def test_both_models_answer_each_turn_and_a_judge_compares_in_both_orders(
    runs_dir: Path, adapters: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    rule = Rule()
    monkeypatch.setattr(module, "judge_named", lambda *_: lambda _: rule)
    voted = VotedPair("Hi?", "a", "a longer answer", 1.0)
    found = measure(adapters["own"], votes=(voted,))
    first = found.items[0]
    assert [len(pair.base) for pair in found.items] == [2, 1] and first.kind == "writing"
    assert first.base != first.tuned, "the adapter changes the answers"
    for pair in found.items:
        lengths = sum(map(len, pair.base)), sum(map(len, pair.tuned))
        assert pair.win == (0.5 if lengths[0] == lengths[1] else float(lengths[1] > lengths[0]))
    assert found.votes == 1 and found.agreement == 1.0
    assert judging.RUBRICS["writing"] in rule.questions[0]
    # the second turn follows the model's own first answer
    base = f"User: Say hello.\nAssistant: {first.base[0]}\nUser: Again.\nAssistant: {first.base[1]}"
    assert base in rule.questions[0]

    asked = len(rule.questions)
    monkeypatch.setattr(predict, "load_session", pytest.fail)
    again = measure(adapters["own"], votes=(voted,))
    assert again == found and len(rule.questions) == asked, "everything is cached"


def test_an_interrupted_judgement_goes_on_and_the_model_is_read_by_probabilities(
    runs_dir: Path, adapters: dict[str, Path]
) -> None:
    asked: list[str] = []

    class Stopped(Exception):
        pass

    def progress(text: str, *_: object) -> None:
        asked.append(text)

    target = EvaluationRequest(model="pocket", adapter=str(adapters["own"]), dtype="float32")
    request = JudgeRequest(target, judge="pocket", prompts=PROMPTS, max_new_tokens=5)
    with pytest.raises(Interrupted):
        module.judge(request, progress, lambda: "judging prompts" in asked)
    found = measure(adapters["own"])
    assert found.pairs == 2 and found.judge == "pocket"
    assert found.wins + found.ties + found.losses == 2 and found.sentence


def test_what_cannot_be_judged_is_said(
    runs_dir: Path, adapters: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TUI_LAB_JUDGE_URL", raising=False)
    with pytest.raises(LabError, match="no endpoint is set"):
        measure(adapters["own"], judge="")
    request = JudgeRequest(EvaluationRequest(model="pocket"), judge="pocket", prompts=PROMPTS)
    with pytest.raises(LabError, match="no tuned model"):
        module.judge(request, lambda *_: None)
