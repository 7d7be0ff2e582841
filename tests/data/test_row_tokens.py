"""The tokens of rows and prompts: labels, borders, windows, pieces, ends."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.data.conftest import SPECIALS, byte_tokenizer
from tests.data.rows import chat, encode, trained_texts
from tui_lab.data import row_tokens, templates
from tui_lab.data.formats import Example
from tui_lab.data.row_tokens import IGNORED


def test_prompt_and_completion(base: Any) -> None:
    encoded = encode(base, Example(prompt="The answer is", completion=" Paris."), 100)
    assert base.decode(encoded.input_ids) == "The answer is Paris.<|endoftext|>"
    assert trained_texts(base, encoded) == [" Paris.<|endoftext|>"]
    assert row_tokens.prompt_ids(base, "The answer is") == encoded.input_ids[: encoded.labels.count(IGNORED)]


def test_a_cut_chat_keeps_what_fits(chatml: Any) -> None:
    encoded = encode(chatml, chat("Hi?", "Paris is the answer."), 500)
    first = encoded.labels.index(next(label for label in encoded.labels if label != IGNORED))
    short = encode(chatml, chat("Hi?", "Paris is the answer."), first + 2)
    assert short.truncated and short.trained == 2 and short.input_ids == encoded.input_ids[: first + 2]
    assert encode(chatml, chat("Hi?", "Paris is the answer."), first).trained == 0


@given(length=st.integers(0, 60), size=st.integers(2, 20))
def test_windows_train_every_token_once(length: int, size: int) -> None:
    ids = list(range(100, 100 + length))
    parts = row_tokens.windows(row_tokens.Encoded(ids, list(ids)), size)
    learnt = [label for part in parts for label in part.labels[1:] if label != IGNORED]
    assert learnt == ids[1:]
    assert all(len(part.input_ids) <= size for part in parts)
    assert all(len(part.input_ids) >= 2 for part in parts) or length < 2


WILD = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(question=WILD, answer=WILD.filter(str.strip), system=WILD, kind=st.sampled_from(["chatml", "base"]))
def test_any_row_trains_the_answer_and_its_end(
    question: str, answer: str, system: str, kind: str, chatml: Any, base: Any
) -> None:
    if any(special in text for special in SPECIALS for text in (question, answer, system)):
        return
    tokenizer = {"chatml": chatml, "base": base}[kind]
    if kind == "base":
        templates.set_template(tokenizer)
    encoded = encode(tokenizer, chat(question, answer, system=system), 10_000)
    end = tokenizer.eos_token
    [text] = trained_texts(tokenizer, encoded)
    shown = answer.strip() if kind == "base" else answer
    assert text.endswith(end) and encoded.input_ids.count(tokenizer.eos_token_id) >= 1
    # Blanks at the start may have melted into the header's newline; that token is not trained.
    assert shown.endswith(text.removesuffix(end)) and shown.lstrip() in text
    assert "".join(piece for piece, _ in row_tokens.pieces(tokenizer, encoded)) == tokenizer.decode(
        encoded.input_ids
    )


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.sampled_from("a é日😀👨\u200d\ufffd\n"), min_size=1, max_size=30))
def test_pieces_never_break_a_character(text: str, base: Any) -> None:
    encoded = encode(base, Example(text=text), 10_000)
    found = row_tokens.pieces(base, encoded)
    assert "".join(piece for piece, _ in found) == text + "<|endoftext|>"
    assert sum("\ufffd" in piece for piece, _ in found) <= text.count("\ufffd")


def test_pieces_of_real_tokenizers(shared: Any) -> None:
    for folder in ("tokenizers/qwen2", "tokenizers/gpt2", "models/stories260K"):
        tokenizer = templates.load_tokenizer(shared / folder)
        encoded = encode(
            tokenizer, chat("Was? 日本", "Größe 👨‍👩‍👧 über  alles\n\n Ende", system="Sei nett"), 500
        )
        found = row_tokens.pieces(tokenizer, encoded)
        assert "".join(piece for piece, _ in found) == tokenizer.decode(encoded.input_ids)
        learnt = "".join(piece for piece, trained in found if trained)
        assert learnt.strip() == "Größe 👨‍👩‍👧 über  alles\n\n Ende" + tokenizer.eos_token


@pytest.mark.parametrize(("prompt", "completion"), [("A: ", "Bo"), ("The ans", "wer is"), ("x\n", "\ny")])
def test_prompt_and_completion_are_apart_where_the_border_is_inside_a_token(
    base: Any, prompt: str, completion: str
) -> None:
    encoded = row_tokens.encode(base, Example(prompt=prompt, completion=completion))
    asked = row_tokens.prompt_ids(base, prompt)
    assert encoded.input_ids[: len(asked)] == asked == base(prompt)["input_ids"]
    assert trained_texts(base, encoded) == [completion + "<|endoftext|>"]
    assert encoded.apart == (base(prompt + completion)["input_ids"][: len(asked)] != asked)


def test_a_sentencepiece_answer_gets_no_blank_of_its_own(shared: Any) -> None:
    tokenizer = templates.load_tokenizer(shared / "models" / "stories260K")
    encoded = row_tokens.encode(tokenizer, Example(prompt="Once up", completion="on a time"))
    asked = row_tokens.prompt_ids(tokenizer, "Once up")
    assert encoded.input_ids[: len(asked)] == asked
    assert tokenizer.decode(encoded.input_ids, skip_special_tokens=True) == "Once upon a time"


def test_start_and_end_tokens_are_not_doubled() -> None:
    from tokenizers.processors import TemplateProcessing

    tokenizer = byte_tokenizer(bos_token="<s>", eos_token="</s>")
    tokenizer._tokenizer.post_processor = TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.bos_token_id)]
    )
    start, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    for example in (
        Example(text="<s>[INST] Hi? [/INST] Yes.</s>"),
        Example(text="<s>[INST] Hi? [/INST] Yes.</s>\n"),
        Example(prompt="<s>Hi?", completion="Yes.</s>"),
        Example(prompt="<s>Hi?", completion="Yes."),
    ):
        ids = row_tokens.encode(tokenizer, example).input_ids
        assert (ids.count(start), ids.count(end)) == (1, 1) and ids[0] == start
    assert row_tokens.prompt_ids(tokenizer, "<s>Once")[:2].count(start) == 1
    closed = row_tokens.encode(tokenizer, Example(prompt="a", completion="b<|im_end|>"))
    assert end not in closed.input_ids and trained_texts(tokenizer, closed) == ["b<|im_end|>"]


def test_lone_surrogates_are_replaced_everywhere(chatml: Any) -> None:
    bad = "a \ud83d b"
    example = Example(
        messages=(
            {"role": "system", "content": bad},
            {"role": "user", "content": bad},
            {"role": "assistant", "content": bad, "reasoning_content": bad},
        )
    )
    assert chatml.decode(row_tokens.encode(chatml, example).input_ids).count("a ? b") == 4
    for shaped in (Example(text=bad), Example(prompt=bad, completion=bad)):
        assert "a ? b" in chatml.decode(row_tokens.encode(chatml, shaped).input_ids)
    assert row_tokens.prompt_ids(chatml, bad) == row_tokens.prompt_ids(chatml, "a ? b")


def test_end_tokens_that_are_no_numbers_are_ignored() -> None:
    model = SimpleNamespace(
        generation_config=SimpleNamespace(eos_token_id=float("inf")), config=SimpleNamespace(eos_token_id=2)
    )
    tokenizer = SimpleNamespace(eos_token_id=7, chat_template=None)
    assert row_tokens.stop_ids(tokenizer, model, chat=False) == [7]  # type: ignore[arg-type]
    model.generation_config.eos_token_id = [5, "x", 3]
    assert row_tokens.stop_ids(tokenizer, model, chat=False) == [3, 5]  # type: ignore[arg-type]
