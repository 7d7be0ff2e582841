"""Tokenizers for the tests of data: a small byte-level one made here, so that no file is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from tests.paths import SHARED

SPECIALS = ["<|endoftext|>", "<s>", "</s>", "<|im_start|>", "<|im_end|>", "<start_of_turn>", "<end_of_turn>"]
SPECIALS += [
    "<|user|>",
    "<|assistant|>",
    "<|system|>",
    "<|end|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
]
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def byte_tokenizer(template: str | None = None, **names: str) -> Any:
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=256 + len(SPECIALS) + 60,
        special_tokens=SPECIALS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(["Hello there, what is the answer? The answer is Paris.\n\n"] * 3, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        **{"eos_token": "<|endoftext|>", **names},
        additional_special_tokens=[s for s in SPECIALS if s not in names.values()],
    )
    tokenizer.chat_template = template
    return tokenizer


@pytest.fixture
def base() -> Any:
    """A base model's tokenizer: no chat template, no start token."""
    return byte_tokenizer()


@pytest.fixture
def chatml() -> Any:
    return byte_tokenizer(CHATML, eos_token="<|im_end|>")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real tokenizers and data sets beside the checkout, if there is one."""
    if not SHARED.is_dir():
        pytest.skip("no shared folder with real tokenizers and data")
    return SHARED
