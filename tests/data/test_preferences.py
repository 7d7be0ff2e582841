"""Preference data in the shapes that people bring: pairs and answers with a verdict."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from tui_lab.core.errors import LabError
from tui_lab.data import formats
from tui_lab.data.examples import Example
from tui_lab.data.preferences import check_verdicts
from tui_lab.data.preflight import check_rows
from tui_lab.data.prepare import Preparation, PreparedData, prepare
from tui_lab.pocket import MODEL_DIR

Q = {"role": "user", "content": "Why?"}


def a(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


#: Each shape asks "Why?", prefers "Because." and rejects "No idea."
SHAPES: dict[str, dict[str, Any]] = {
    "texts": {"prompt": "Why?", "chosen": "Because.", "rejected": "No idea."},
    "trl's turns": {"prompt": [Q], "chosen": [a("Because.")], "rejected": [a("No idea.")]},
    "whole chats": {"chosen": [Q, a("Because.")], "rejected": [Q, a("No idea.")]},
    "UltraFeedback": {
        "prompt": "Why?", "chosen": [Q, a("Because.")], "rejected": [Q, a("No idea.")], "score_chosen": 8.0,
    },
    "one turn": {"prompt": "Why?", "chosen": a("Because."), "rejected": a("No idea.")},
    "hh-rlhf": {
        "chosen": "\n\nHuman: Why?\n\nAssistant: Because.",
        "rejected": "\n\nHuman: Why?\n\nAssistant: No idea.",
    },
    "Orca": {"system": "", "question": "Why?", "chosen": "Because.", "rejected": "No idea."},
    "capitals": {"Prompt": "Why?", "Chosen": "Because.", "Rejected": "No idea."},
    "JSON in a cell": {
        "prompt": "Why?", "chosen": json.dumps([a("Because.")]), "rejected": json.dumps([a("No idea.")]),
    },
    "LLaMA-Factory": {
        "conversations": [{"from": "human", "value": "Why?"}],
        "chosen": {"from": "gpt", "value": "Because."}, "rejected": {"from": "gpt", "value": "No idea."},
    },
}  # fmt: skip


def read(tmp_path: Path, rows: list[dict[str, Any]], **more: Any) -> formats.DataSource:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return formats.read(str(path), **more)


def prepared(tmp_path: Path, rows: list[dict[str, Any]], loss: str, max_length: int = 64) -> PreparedData:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    tokenizer = AutoTokenizer.from_pretrained(MODEL_DIR)
    return prepare(
        formats.open_data(str(path)), tokenizer, Preparation(max_length, 0.0, preference_loss=loss)
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_gives_the_same_pair(tmp_path: Path, shape: str) -> None:
    source = read(tmp_path, [SHAPES[shape]])
    [example] = source.rows
    assert source.format == "preference"
    assert example.messages is not None and example.rejected is not None
    assert [(m["role"], m["content"]) for m in example.messages] == [
        ("user", "Why?"),
        ("assistant", "Because."),
    ]
    assert example.expected == "Because."
    other = example.with_rejected
    assert other is not None and other.expected == "No idea." and other.rejected is None


def test_texts_without_a_prompt_share_their_beginning(tmp_path: Path) -> None:
    [example] = read(tmp_path, [{"chosen": "Two and two is four", "rejected": "Two and two is five"}]).rows
    assert (example.prompt, example.completion, example.rejected) == ("Two and two is ", "four", "five")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"prompt": "Why?", "chosen": "So.", "rejected": "So. "}, "chosen and rejected are the same"),
        ({"prompt": "Why?", "chosen": "So.", "rejected": " "}, "the rejected answer is empty"),
        ({"prompt": "Why?", "chosen": "", "rejected": "No."}, "the chosen answer is empty"),
        ({"prompt": "Why?", "chosen": "So.", "rejected": None}, "no rejected answer"),
        ({"chosen": "So.", "rejected": "No."}, "there is no prompt"),
        (
            {"chosen": [Q, a("So.")], "rejected": [{**Q, "content": "How?"}, a("No.")]},
            "answer different prompts",
        ),
        ({"chosen": [Q], "rejected": [Q]}, "chosen does not end with an assistant turn"),
        ({"prompt": "Why?", "chosen": [a("So.")], "rejected": "No."}, "have different shapes"),
    ],
)
def test_pairs_that_compare_nothing_are_left_out_with_their_reason(
    tmp_path: Path, row: dict[str, Any], reason: str
) -> None:
    source = read(tmp_path, [row, SHAPES["texts"]])
    assert len(source.rows) == 1 and source.rows_bad + source.rows_empty == 1
    assert reason in " ".join(source.warnings)


def test_verdicts(tmp_path: Path) -> None:
    rows = [
        {"prompt": "Why?", "completion": "So.", "label": True},
        {"prompt": "Why?", "completion": "No.", "label": "False"},
    ]
    source = read(tmp_path, rows)
    assert source.format == "feedback" and [row.task for row in source.rows] == ["desirable", "undesirable"]


def test_a_label_that_is_no_verdict_is_plain_data(tmp_path: Path) -> None:
    source = read(tmp_path, [{"prompt": "Why?", "completion": "So.", "label": 3}])
    assert source.format == "prompt_completion" and "label" in source.unused


def test_both_sides_follow_each_other_and_share_the_prompt(tmp_path: Path) -> None:
    rows = [
        {"prompt": f"Is {n} odd?", "chosen": f"It is {n}, yes.", "rejected": f"No, {n} never."}
        for n in range(6)
    ]
    made = prepared(tmp_path, rows, "dpo")
    assert len(made.train) == 12 and made.summary.train_rows == 6
    for at in range(0, 12, 2):
        chosen, rejected = made.train[at], made.train[at + 1]
        prompt = sum(label == -100 for label in chosen["labels"])
        assert chosen["input_ids"][:prompt] == rejected["input_ids"][:prompt]
        assert chosen["input_ids"] != rejected["input_ids"]
        assert rejected["labels"][:prompt] == [-100] * prompt


def test_pairs_whose_difference_the_length_cuts_away_are_left_out(tmp_path: Path) -> None:
    long = "one and the same long beginning of both answers that goes on and on and on and on "
    rows = [{"prompt": "Why?", "chosen": long + "good", "rejected": long + "bad"}, SHAPES["texts"]]
    made = prepared(tmp_path, rows, "simpo", 20)
    assert made.summary.train_rows == 1 and made.summary.too_long == 1


def test_data_and_loss_that_do_not_fit_are_one_sentence(tmp_path: Path) -> None:
    plain = [{"question": "Why?", "answer": "So."}]
    with pytest.raises(
        LabError, match=r"preference_loss = 'dpo' needs the columns chosen and rejected; rows.jsonl"
    ):
        prepared(tmp_path, plain, "dpo")
    with pytest.raises(LabError, match="needs the columns prompt, completion and a label of true or false"):
        prepared(tmp_path, [SHAPES["texts"]], "kto")
    only = [{"prompt": f"Why {n}?", "completion": "So.", "label": True} for n in range(4)]
    with pytest.raises(LabError, match="every answer is desirable"):
        check_verdicts(prepared(tmp_path, only, "kto").train.tasks())
    with pytest.raises(LabError, match=r"Empty in the first rows: chosen\."):
        prepared(tmp_path, [{"prompt": "Why?", "chosen": "", "rejected": "no"}], "dpo")


def test_answers_of_one_verdict_are_refused_before_the_run(tmp_path: Path) -> None:
    path = tmp_path / "votes.jsonl"
    path.write_text('{"prompt": "Why?", "completion": "So.", "label": true}\n')
    with pytest.raises(LabError, match="every answer is desirable"):
        check_rows(str(path), "auto", 0, preference_loss="kto")
    check_rows(str(path), "auto", 0)


def test_plain_tuning_on_pairs_says_what_it_does_not_use(tmp_path: Path) -> None:
    made = prepared(tmp_path, [SHAPES["texts"]], "none")
    assert len(made.train) == 1 and any("rejected answers are not used" in text for text in made.warnings)


def test_plain_tuning_leaves_out_what_is_not_desirable(tmp_path: Path) -> None:
    rows = [{"prompt": f"Why {n}?", "completion": "So.", "label": n > 0} for n in range(4)]
    made = prepared(tmp_path, rows, "none")
    assert len(made.train) == 3 and "1 answer left out, because their label is false." in made.warnings


def test_bundled_sets_of_preferences() -> None:
    for name, form in (("pirate_pairs", "preference"), ("pirate_votes", "feedback")):
        source = formats.read(name)
        assert source.format == form and len(source.rows) > 500 and source.scorer == "manner"
        assert not source.rows_bad and not source.rows_empty
    kinds = [example.task for example in formats.read("pirate_votes").rows]
    assert abs(kinds.count("desirable") - kinds.count("undesirable")) <= 1


def test_an_example_without_rejected_answer_has_no_other_side() -> None:
    assert Example(prompt="a", completion="b").with_rejected is None


def test_verdicts_of_a_mixture_are_checked_over_all_parts(tmp_path: Path) -> None:
    row = {"prompt": "a", "completion": "b"}
    for name, labels in (("one", [True]), ("same", [True, True]), ("both", [True, False]), ("empty", [])):
        lines = [json.dumps({**row, "label": label}) + "\n" for label in labels]
        (tmp_path / f"{name}.jsonl").write_text("".join(lines))
    of = {name: tmp_path / f"{name}.jsonl" for name in ("one", "same", "both", "empty", "absent")}
    check_rows(f"{of['one']}:1 + {of['both']}:1", preference_loss="kto")
    for data, sentence in (
        (f"{of['one']}:1 + {of['same']}:1", "every answer is desirable"),
        (f"{of['one']}:1 + {of['empty']}:1", r"empty\.jsonl"),
        (f"{of['both']}:1 + {of['absent']}:1", r"absent\.jsonl"),
    ):
        with pytest.raises(LabError, match=sentence):
            check_rows(data, preference_loss="kto")
