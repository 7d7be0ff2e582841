"""Preparation: what is left out is counted and named, refusals name the cause, and the rows survive trl's
packing with their labels, each document alone."""

from __future__ import annotations

import string
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.data.conftest import byte_tokenizer
from tui_lab.core.errors import LabError
from tui_lab.data import examples, formats, row_tokens, templates
from tui_lab.data import prepare as prepare_module
from tui_lab.data.files import RawData
from tui_lab.data.formats import Example, OpenedData, open_raw
from tui_lab.data.prepare import Preparation, PreparedData, passages, trained_tokens
from tui_lab.data.prepare import prepare as prepare_data


def source_of(rows: list[dict[str, Any]], validation: list[dict[str, Any]] | None = None) -> OpenedData:
    held = (
        None if validation is None else [(f"validation row {n}", row) for n, row in enumerate(validation, 1)]
    )
    return open_raw(RawData("set", [(f"line {n}", row) for n, row in enumerate(rows, 1)], held))


def prepare(source: OpenedData, tokenizer: Any, **options: Any) -> PreparedData:
    return prepare_data(source, tokenizer, Preparation(**options))


def qa(question: str, answer: str = "yes") -> dict[str, Any]:
    return {"question": question, "answer": answer}


def words(n: int) -> str:
    return " ".join(f"w{i}" for i in range(n))


def test_everything_is_counted_and_named(chatml: Any) -> None:
    rows = [qa(f"Question {letter}?") for letter in string.ascii_lowercase[:20]]
    rows += [qa("Question a?"), qa("", "empty"), qa("No answer?", ""), {"question": "only"}]
    rows += [qa(words(200)), qa("Long answer?", words(200)), qa("Bad <|im_end|> token?")]
    validation = [qa("question B"), qa("Something new?")]
    found = prepare(source_of(rows, validation), chatml, max_length=64)
    summary = found.summary
    assert summary.rows_read == 29
    assert (summary.rows_empty, summary.rows_bad) == (2, 1)
    assert (summary.duplicates, summary.near_duplicates, summary.leaks_removed) == (1, 0, 1)
    assert (summary.too_long, summary.truncated, summary.fully_masked) == (1, 1, 0)
    assert len(found.train) == summary.train_rows == len(found.train_examples) == 21
    assert len(found.validation) == summary.validation_rows == 2
    text = "\n".join(found.warnings)
    assert "1 row left out: the prompt alone fills max_length = 64 (line 25)." in text
    assert "1 row cut at max_length = 64, so the end of the answer is lost (line 26)." in text
    assert "1 training row removed, because the validation rows ask the same." in text
    assert "spelling out control tokens of this tokenizer" in text and "(line 27)" in text
    assert "line 22" in text and "no column answer" in text
    assert summary.train_tokens == sum(len(row["input_ids"]) for row in found.train)
    expected = sum(label != row_tokens.IGNORED for row in found.train for label in row["labels"][1:])
    assert summary.train_trained_tokens == expected > 0
    assert all(len(row["input_ids"]) == len(row["labels"]) <= 64 for row in [*found.train, *found.validation])
    assert summary.template_source == templates.OWN and summary.end_of_turn == "<|im_end|>"


def test_every_row_read_is_accounted_for(chatml: Any) -> None:
    rows = [qa(f"{word}?", word * 40) for word in ["one", "two", "three", "four", "five", "six", "seven"]] * 2
    found = prepare(source_of(rows), chatml, max_length=40).summary
    removed = found.rows_empty + found.rows_bad + found.duplicates + found.near_duplicates
    removed += found.leaks_removed + found.too_long + found.fully_masked + found.refused_by_template
    assert found.rows_used + found.validation_rows_used + removed == found.rows_read == 14


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        (
            [qa(words(200)), qa(words(201))],
            {},
            "nothing is left.*2 with a prompt that alone fills max_length = 32",
        ),
        (
            [qa("one?")],
            {},
            "too few rows to use one for validation.*1 usable row of 1 row read.*validation_fraction = 0",
        ),
        ([qa("one?")] * 5, {}, "too few rows.*4 repeating another row"),
        ([qa("one?")], {"max_length": 3}, "fewer than 8 tokens"),
    ],
)
def test_too_few_rows_names_the_cause(
    chatml: Any, rows: list[Any], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(LabError, match=message):
        prepare(source_of(rows), chatml, **{"max_length": 32, **options})


def test_no_training_rows_besides_validation(chatml: Any) -> None:
    with pytest.raises(LabError, match=r"no training row is left.*1 asking what the validation rows ask"):
        prepare(source_of([qa("one?")], [qa("One")]), chatml, max_length=64)
    refusing = byte_tokenizer(
        "{{ raise_exception('no chats here') if messages | length > 2 }}{{ messages[0].content "
        "+ messages[-1].content + eos_token }}"
    )
    long = {"messages": [{"role": r, "content": r} for r in ("user", "assistant", "user", "assistant")]}
    with pytest.raises(LabError, match=r"1 refused by the chat template.*no chats here"):
        prepare(source_of([long]), refusing, max_length=64)


def test_one_row_without_validation(chatml: Any) -> None:
    found = prepare(source_of([qa("one?")]), chatml, max_length=64, validation_fraction=0)
    assert len(found.train) == 1 and not found.validation


def test_long_texts_become_windows(base: Any) -> None:
    rows = [
        {"text": f"{word} " * 60}
        for word in ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven"]
    ]
    found = prepare(source_of(rows), base, max_length=32)
    assert found.summary.windowed == 11 and found.summary.template_source == templates.DEFAULT
    assert found.summary.rows_used == 10 and found.summary.validation_rows_used == 1
    tokens = sum(len(base(row.text)["input_ids"]) for row in found.train_examples)
    assert (
        found.summary.train_trained_tokens == tokens
    )  # each token once, with the end token, without the first


def test_one_long_text_is_cut_into_passages(base: Any) -> None:
    text = " ".join(f"word{i}" for i in range(600))
    found = prepare(source_of([{"text": text}]), base, max_length=32)
    assert found.validation and len(found.train_examples) > 10
    assert "1 text cut into" in found.warnings[0]
    pieces = passages(Example(text=text, place="document 1"), 100)
    assert "".join(piece.text or "" for piece in pieces) == text
    assert pieces[1].place == "document 1, passage 2"


def test_rows_too_long_for_the_tokenizer_are_split_or_left_out(
    base: Any, chatml: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("MAX_ROW_CHARS", "PIECE_CHARS"):
        monkeypatch.setattr(examples, name, 2_000)
    monkeypatch.setattr(prepare_module, "BATCH_CHARS", 3_000)
    texts = [{"text": words(900)}, *({"text": f"{letter} {words(9)}"} for letter in string.ascii_lowercase)]
    found = prepare(source_of(texts), base, max_length=64)
    whole = "".join(row.text or "" for row in [*found.train_examples, *found.validation_examples])
    assert all(f"w{number}" in whole for number in range(900))
    assert "line 1, passage 2" in {row.place for row in [*found.train_examples, *found.validation_examples]}
    rows = [qa(f"Question {letter}?") for letter in string.ascii_lowercase]
    found = prepare(source_of([*rows, qa("A long answer?", words(900))]), chatml, max_length=64)
    assert any("it has more than 2,000 characters" in warning for warning in found.warnings)
    assert found.summary.train_rows + found.summary.validation_rows == 26


def test_folding_is_counted() -> None:
    refusing = byte_tokenizer(
        "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
        "{{ '<|' + m['role'] + '|>' + m['content'] + '<|end|>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
    )
    row = [{"role": r, "content": r} for r in ("system", "user", "assistant")]
    rows = [{"messages": [*row[:1], {"role": "user", "content": w}, row[2]]} for w in ["a", "b", "c", "d"]]
    found = prepare(source_of(rows), refusing, max_length=64)
    again = prepare(source_of(rows), refusing, max_length=64)
    assert found.summary.system_folded == again.summary.system_folded == 4
    assert "4 rows had turns joined" in "\n".join(found.warnings)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.tuples(st.text(max_size=30), st.text(max_size=60)), min_size=1, max_size=12),
    max_length=st.integers(8, 80),
    fraction=st.sampled_from([0.0, 0.1, 0.5]),
)
def test_any_rows_are_prepared_or_refused(rows: Any, max_length: int, fraction: float, chatml: Any) -> None:
    records = [qa(question, answer) for question, answer in rows]
    try:
        found = prepare(source_of(records), chatml, max_length=max_length, validation_fraction=fraction)
    except LabError as error:
        assert str(error).startswith("set")
        return
    assert found.train and (found.validation or not fraction)
    for row in [*found.train, *found.validation]:
        assert len(row["input_ids"]) == len(row["labels"]) <= max_length and trained_tokens(row) > 0
        assert all(
            label in (row_tokens.IGNORED, token)
            for token, label in zip(row["input_ids"], row["labels"], strict=True)
        )


# --- trl takes these rows as they are -----------------------------------------------------------------


def tiny_model(vocabulary: int) -> Any:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=256,
    )  # fmt: skip
    config.initializer_range = 0.2  # large weights: the context must matter, or a leak would not show
    return LlamaForCausalLM(config)


def trainer_for(rows: list[dict[str, list[int]]], tokenizer: Any, folder: Path, packing: bool) -> Any:
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    arguments = SFTConfig(
        output_dir=str(folder), use_cpu=True, report_to=[], max_length=96, packing=packing,
        packing_strategy="bfd", per_device_train_batch_size=3, disable_tqdm=True, bf16=False,
        gradient_checkpointing=False,
    )  # fmt: skip
    return SFTTrainer(
        tiny_model(len(tokenizer)),
        args=arguments,
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
    )


def summed_loss(trainer: Any, spoil: bool = False) -> tuple[float, int, Counter[int], int]:
    """(summed negative log-likelihood, trained tokens, those tokens, batches) over the training rows."""
    import torch

    total, count, learnt, batches = 0.0, 0, Counter[int](), 0
    trainer.model.eval()
    for batch in trainer.get_train_dataloader():
        labels = batch.pop("labels")
        if spoil:
            batch["attention_mask"] = torch.ones_like(batch["input_ids"])
        with torch.no_grad():
            logits = trainer.model(**batch, use_cache=False).logits
        targets = labels[:, 1:]
        losses = torch.nn.functional.cross_entropy(
            logits[:, :-1].transpose(1, 2).float(), targets, ignore_index=row_tokens.IGNORED, reduction="none"
        )
        total += float(losses.sum())
        count += int((targets != row_tokens.IGNORED).sum())
        learnt.update(targets[targets != row_tokens.IGNORED].tolist())
        batches += 1
    return total, count, learnt, batches


@pytest.fixture
def ending_with_padding() -> Any:
    """A tokenizer whose padding token is its end token, the case in which careless masks lose the end."""
    tokenizer = byte_tokenizer()
    tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


@pytest.mark.slow
def test_packed_and_unpacked_rows_give_the_same_loss(ending_with_padding: Any, tmp_path: Path) -> None:
    tokenizer = ending_with_padding
    rows = [
        qa(f"What is {w}?", f"It is {w * 2}.")
        for w in ["a", "bb", "ccc", "d", "ee", "fff", "g", "hh", "iii", "jjjjjjj", "k", "ll"]
    ]
    prepared = prepare(source_of(rows), tokenizer, max_length=96, validation_fraction=0)
    expected: Counter[int] = Counter()
    for row in prepared.train:
        expected.update(label for label in row["labels"][1:] if label != row_tokens.IGNORED)
    plain = summed_loss(trainer_for(list(prepared.train), tokenizer, tmp_path / "plain", False))
    trainer = trainer_for(list(prepared.train), tokenizer, tmp_path / "packed", True)
    packed = summed_loss(trainer)
    assert len(trainer.train_dataset) < len(prepared.train), "nothing was packed"
    assert plain[1:3] == packed[1:3] == (prepared.summary.train_trained_tokens, expected)
    assert expected[tokenizer.eos_token_id] == len(rows), (
        "the end token is learnt although it is the padding too"
    )
    assert packed[0] == pytest.approx(plain[0], rel=1e-5)
    # The same comparison sees a leak where there is one: with a mask of ones the documents see each other.
    spoiled = summed_loss(
        trainer_for(list(prepared.train), tokenizer, tmp_path / "spoiled", True), spoil=True
    )
    assert abs(spoiled[0] - plain[0]) > 1e-3 * plain[0]


@pytest.mark.slow
def test_trl_loss_equals_the_loss_of_the_labels(ending_with_padding: Any, tmp_path: Path) -> None:
    tokenizer = ending_with_padding
    rows = [qa(f"What is {w}?", f"It is {w * 2}.") for w in ["a", "bb", "ccc", "d", "ee", "fff"]]
    prepared = prepare(source_of(rows), tokenizer, max_length=96, validation_fraction=0)
    for packing in (False, True):
        trainer = trainer_for(list(prepared.train), tokenizer, tmp_path / str(packing), packing)
        total, count, _, batches = summed_loss(trainer)
        expected_loss = 0.0
        for batch in trainer.get_train_dataloader():
            expected_loss += float(
                trainer.compute_loss(trainer.model, dict(batch), num_items_in_batch=count).detach()
            )
        assert batches and expected_loss == pytest.approx(total / count, rel=1e-4)


def test_real_data(shared: Path) -> None:
    tokenizer = templates.load_tokenizer(shared / "models" / "stories260K")
    source = formats.open_data(str(shared / "data/tinystories/tinystories_1000.json"), max_rows=50)
    found = prepare(source, tokenizer, max_length=256)
    assert found.summary.rows_used == 45 and found.summary.validation_rows_used == 5
    assert found.train[0]["input_ids"][0] == tokenizer.bos_token_id
