"""Answers of safety suites scored by a classifier and by a judge: against the pipeline of transformers, by
hand, and through the evaluation on the bundled model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tui_lab.core.errors import LabError
from tui_lab.evaluation import answer_scorers, evaluate
from tui_lab.evaluation.answer_scorers import ClassifierScorer, JudgeScorer
from tui_lab.evaluation.records import EvaluationAnswer, read_request
from tui_lab.pocket import MODEL_DIR
from tui_lab.retention.scoring.metrics import ItemScore
from tui_lab.retention.suites import registry, scored

LABELS = {"0": "not_toxic", "1": "toxic", "2": "REJECTION"}


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random classifier with the tokenizer of the bundled model."""
    import torch
    from transformers import LlamaConfig, LlamaForSequenceClassification

    folder = tmp_path_factory.mktemp("classifier")
    shutil.copy(MODEL_DIR / "tokenizer.json", folder)
    shutil.copy(MODEL_DIR / "tokenizer_config.json", folder)
    vocabulary = json.loads((MODEL_DIR / "config.json").read_text())["vocab_size"]
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=2, initializer_range=1.0, pad_token_id=0,
        id2label={int(key): name for key, name in LABELS.items()},
    )  # fmt: skip
    LlamaForSequenceClassification(config).save_pretrained(folder, safe_serialization=True)
    return folder


class Rule:
    """Says yes to answers with an e, in either order of the options, and counts what it is asked."""

    name, identity = "rule", "rule of the e"

    def __init__(self) -> None:
        self.questions: list[str] = []

    def letter(self, question: str, letters: object = ()) -> str:
        self.questions.append(question)
        answer = question.split("[Answer]\n")[-1].split("[Continuation]\n")[-1].partition("\n\n")[0]
        yes = "A" if "\nA: it refuses or" in question or "\nA: it is hateful" in question else "B"
        return yes if "e" in answer else "AB"[yes == "A"]

    def text(self, question: str, max_new_tokens: int) -> str:
        raise NotImplementedError


def ask(**values: Any) -> EvaluationAnswer:
    return evaluate.evaluate(read_request({"limit": 6, "model": "pocket", "dtype": "float32", **values}))


def test_a_classifier_finds_what_the_pipeline_of_transformers_finds(classifier: Path) -> None:
    from transformers import pipeline

    texts = ["I hate you.", "The sky is blue.", "No.", "Dogs like bread and water", "Why?", "You are fine."]
    found = ClassifierScorer(str(classifier), "", ["harm", "refusal"])
    independent = pipeline("text-classification", str(classifier), top_k=None, device="cpu")
    rows = [{each["label"]: each["score"] for each in independent(text)[0]} for text in texts]
    assert [found.decide("harm", "", text) for text in texts] == [row["toxic"] >= 0.5 for row in rows]
    refuses = [found.decide("refusal", "", text) for text in texts]
    assert refuses == [row["REJECTION"] >= 0.5 for row in rows] and len(set(refuses)) == 2


def test_what_is_no_classifier_is_refused_before_it_is_loaded(classifier: Path, tmp_path: Path) -> None:
    with pytest.raises(LabError, match="is no folder"):
        ClassifierScorer(str(tmp_path / "none"), "", ["harm"])
    with pytest.raises(LabError, match="is no sequence classifier"):
        ClassifierScorer(str(MODEL_DIR), "", ["harm"])
    with pytest.raises(LabError, match="no label FINE; it has not_toxic, toxic, REJECTION"):
        ClassifierScorer(str(classifier), "FINE", ["harm"])
    copy = tmp_path / "copy"
    shutil.copytree(classifier, copy)
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "id2label": {"0": "LABEL_0", "1": "LABEL_1"}}))
    with pytest.raises(LabError, match="says harm: name it with --classifier-label"):
        ClassifierScorer(str(copy), "", ["harm"])
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    with pytest.raises(LabError, match="no safetensors"):
        ClassifierScorer(str(copy), "LABEL_1", ["harm"])


def test_labels_that_say_no_are_no_harm() -> None:
    labels = ["non-toxic", "nothate", "unsafe", "harmless_no", "hateful"]
    assert answer_scorers._yes(labels, "harm", "", "x") == (2, 3, 4)


def test_a_judge_decides_where_both_orders_agree() -> None:
    assert [scored.found_of(*letters) for letters in ("AB", "BA", "AA", "BB")] == [True, False, None, None]
    rule = Rule()
    found = [JudgeScorer(rule).decide("refusal", "a request", text) for text in ("never", "ok")]
    assert found == [True, False] and len(rule.questions) == 4


def test_requests_are_passed_by_what_was_found_and_by_phrases_where_nothing_was() -> None:
    suite = registry.load("refusals")
    harmful = next(item for item in suite.items if item.category == "harmful")
    harmless = next(item for item in suite.items if item.category == "harmless")

    def passed(item: Any, text: str, found: bool | None) -> bool:
        score = scored.scored_score("refusal", item, ItemScore(item.id, extra={"text": text}), found)
        return score.extra["passed"]

    by_hand = [(harmful, "Sure.", True, True), (harmful, "I cannot.", False, False),
               (harmful, "I cannot.", None, True), (harmless, "Sure.", True, False),
               (harmless, "I cannot.", False, True), (harmless, "", False, False)]  # fmt: skip
    assert [passed(*case[:3]) for case in by_hand] == [case[3] for case in by_hand]


def test_base_and_tuned_answers_are_judged_once_and_compared_as_any_suite(
    runs_dir: Path, adapters: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    rule = Rule()
    monkeypatch.setattr(answer_scorers, "judge_named", lambda *_: lambda _: rule)
    values = {"suites": ["refusals", "everyday"], "adapter": str(adapters["own"]), "judge": "rule"}
    found, other = ask(**values).suites
    assert (found.suite, found.title) == ("refusals@judge", "Refusing harm, scored by rule")
    assert set(found.categories) == {"harmful", "harmless"} and other.suite == "everyday"
    assert found.comparison is not None and found.comparison.n == 6
    for item in found.items:
        for side in (item.base, item.tuned):
            assert side is not None
            refused = "e" in side.text
            assert side.correct == (
                refused if item.category == "harmful" else bool(side.text) and not refused
            )
    asked = len(rule.questions)
    assert ask(**values).suites[0].items == found.items and len(rule.questions) == asked
    plain = ask(suites=["refusals"], adapter=values["adapter"]).suites[0]
    assert plain.suite == "refusals" and plain.sha256 != found.sha256
    assert [item.base.text for item in plain.items] == [item.base.text for item in found.items]


def test_beginnings_of_texts_are_continued_for_a_classifier(classifier: Path, runs_dir: Path) -> None:
    found = ask(suites=["toxicity"], classifier=str(classifier)).suites[0]
    assert (found.suite, found.kind, found.n) == ("toxicity@classifier", "generate", 6)
    alone = ClassifierScorer(str(classifier), "", ["harm"])
    assert [item.base.correct for item in found.items] == [
        not alone.decide("harm", "", item.base.text) for item in found.items
    ]
    with pytest.raises(LabError, match=r"scores the answers of refusals, .* not of everyday"):
        ask(suites=["everyday"], classifier=str(classifier))
    with pytest.raises(LabError, match="use one of them"):
        ask(suites=["toxicity"], classifier=str(classifier), judge="pocket")


def test_the_strength_of_a_scored_suite_is_swept_on_the_suite_itself() -> None:
    names = ("refusals@judge", "toxicity@classifier", "redteam@judge", "mmlu@5", "everyday", "own@judge")
    assert [scored.suite_of(name) for name in names] == ["refusals", "toxicity", "", "mmlu@5", "everyday", ""]


def test_a_note_says_what_a_judge_did_not_decide() -> None:
    assert scored.undecided_note("refusals", "rule", 0, 6, "refusal") == ""
    note = scored.undecided_note("refusals", "rule", 5, 6, "refusal")
    assert "rule decided nothing on 5 of 6 answers" in note and "by position" in note
