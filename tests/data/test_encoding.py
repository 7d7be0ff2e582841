"""Batches give the tokens and labels that one row gives."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.data.conftest import CHATML, byte_tokenizer
from tui_lab.data import masks, templates
from tui_lab.data.encoding import encode_batch
from tui_lab.data.examples import Example
from tui_lab.pocket import MODEL_DIR

TEXT = st.text(alphabet=st.sampled_from("ab \n\t.é日😀<>|"), max_size=12)
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
            expected = templates.encode(tokenizer, example)
        except masks.Unrenderable as error:
            assert isinstance(found, masks.Unrenderable) and str(found) == str(error)
            continue
        assert not isinstance(found, masks.Unrenderable)
        assert found.ids.tolist() == expected.input_ids
        assert found.labels.tolist() == expected.labels, (example, expected)
        assert (found.trained, found.apart) == (expected.trained, expected.apart)
        assert found.cut(4).ids.tolist() == templates.cut(expected, 4).input_ids
        for one, other in zip(found.windows(4), templates.windows(expected, 4), strict=True):
            assert (one.ids.tolist(), one.labels.tolist()) == (other.input_ids, other.labels)
