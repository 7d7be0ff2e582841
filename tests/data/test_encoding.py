"""Batches give the tokens and labels that one row gives."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.data.conftest import CHATML, byte_tokenizer
from tui_lab.data import masks, row_tokens, templates
from tui_lab.data.encoding import encode_batch, encode_by_marks, marks_of
from tui_lab.data.examples import Example
from tui_lab.pocket import MODEL_DIR

TEXT = st.text(alphabet=st.sampled_from("ab \n\t.é日😀<>|"), max_size=12) | st.lists(
    st.sampled_from(["a", " ", "\n", "<|im_start|>", "<|im_end|>", "<|im_start|>assistant\n", "<s>"]),
    max_size=4,
).map("".join)
STARTING = (  # answers stand behind a blank of the header, which many tokenizers join with the answer
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'assistant' %}"
    "{{ 'A: ' + m['content'] + eos_token }}"
    "{% else %}{{ 'Q: ' + m['content'] + '\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'A:' }}{% endif %}"
)


@pytest.fixture(scope="module", params=["chatml", "starting", "pocket"])
def tokenizer(request: pytest.FixtureRequest) -> Any:
    if request.param == "pocket":
        found = templates.load_tokenizer(MODEL_DIR)
        templates.set_template(found)
        return found
    template = {"chatml": CHATML, "starting": STARTING}[request.param]
    return byte_tokenizer(template, bos_token="<s>")


def chat(turns: list[str]) -> Example:
    roles = ("user", "assistant")
    return Example(messages=tuple({"role": roles[at % 2], "content": text} for at, text in enumerate(turns)))


EXAMPLES = st.lists(
    st.builds(lambda turns: chat(turns + ["x"] * (len(turns) % 2)), st.lists(TEXT, min_size=2, max_size=4))
    | st.builds(lambda a, b: Example(prompt=a, completion=b), TEXT, TEXT)
    | st.builds(lambda a: Example(text=a), TEXT),
    max_size=5,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(examples=EXAMPLES)
def test_a_batch_gives_what_each_row_gives(tokenizer: Any, examples: list[Example]) -> None:
    batch = encode_batch(tokenizer, examples)
    assert len(batch) == len(examples)
    for example, found in zip(examples, batch, strict=True):
        try:
            expected = row_tokens.encode(tokenizer, example)
        except masks.Unrenderable as error:
            assert isinstance(found, masks.Unrenderable) and str(found) == str(error)
            continue
        assert not isinstance(found, masks.Unrenderable)
        assert found.ids.tolist() == expected.input_ids
        assert found.labels.tolist() == expected.labels, (example, expected)
        assert (found.trained, found.apart) == (expected.trained, expected.apart)
        assert found.cut(4).ids.tolist() == row_tokens.cut(expected, 4).input_ids
        for one, other in zip(found.windows(4), row_tokens.windows(expected, 4), strict=True):
            assert (one.ids.tolist(), one.labels.tolist()) == (other.input_ids, other.labels)


def test_chats_with_control_tokens_need_no_offsets() -> None:
    tokenizer = byte_tokenizer(CHATML)
    rows = dict(
        enumerate(row_tokens.render_row(tokenizer, chat(["a", "b", "c", answer])) for answer in ("d", "\nd"))
    )
    found = encode_by_marks(tokenizer.backend_tokenizer, marks_of(tokenizer), rows)
    assert found[0].ids.tolist() == row_tokens.encode_row(tokenizer, rows[0]).input_ids
    assert found[0].labels.tolist() == row_tokens.encode_row(tokenizer, rows[0]).labels


def test_a_control_token_that_begins_a_longer_one_is_not_mistaken_for_it() -> None:
    tokenizer = byte_tokenizer(CHATML)
    tokenizer.add_special_tokens(
        {"additional_special_tokens": ["<|im_end|>!"]}, replace_extra_special_tokens=False
    )
    row = chat(["<|im_end|>! and <|im_end|>", "a <|im_end|>! b"])
    [found] = encode_batch(tokenizer, [row])
    expected = row_tokens.encode(tokenizer, row)
    assert not isinstance(found, masks.Unrenderable)
    assert (found.ids.tolist(), found.labels.tolist()) == (expected.input_ids, expected.labels)
