"""The shipped model, loaded once."""

from __future__ import annotations

import pytest
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from tui_lab.pocket.builder.quiz import load


@pytest.fixture(scope="session")
def pocket() -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    return load()
