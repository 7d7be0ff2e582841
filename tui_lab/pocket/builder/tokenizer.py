"""The pocket model's byte-level BPE tokenizer, and how a document of the corpus becomes tokens with loss
weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from tui_lab.pocket import CONTEXT, MODEL_DIR
from tui_lab.pocket.builder.corpus import Corpus, Document

VOCABULARY = 3072  # a multiple of 64; most answers are one or two tokens
SEPARATOR, PAD, END = "<|endoftext|>", "<|pad|>", "<|end|>"
ROLES = ("<|system|>", "<|user|>", "<|assistant|>")
SPECIAL = (SEPARATOR, PAD, END, *ROLES)
_SAMPLE_DOCUMENTS = 60_000


def _texts(seed: int) -> Iterator[str]:
    for document in islice(Corpus(seed).documents(), _SAMPLE_DOCUMENTS):
        yield from (piece.text for piece in document if not piece.special)


def train_tokenizer(seed: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE (every text has tokens, no unknown) with single digits, learned from the corpus."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            # One digit, one token: numbers are copied and compared digit by digit.
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(_texts(seed), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token=END,
        pad_token=PAD,
        additional_special_tokens=[SEPARATOR, *ROLES],
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
        chat_template=(MODEL_DIR / "chat_template.jinja").read_text("utf-8").rstrip("\n"),
    )


def load_tokenizer(folder: Path = MODEL_DIR) -> PreTrainedTokenizerFast:
    tokenizer: PreTrainedTokenizerFast = PreTrainedTokenizerFast.from_pretrained(folder)
    return tokenizer


def token_id(tokenizer: PreTrainedTokenizerFast, token: str) -> int:
    """The id of one token, which must exist."""
    found = tokenizer.convert_tokens_to_ids(token)
    if not isinstance(found, int):
        raise ValueError(f"the tokenizer has no token {token!r}")
    return found


class Encoder:
    """Documents to (token ids, loss weight of each token)."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self._core = tokenizer.backend_tokenizer
        self._special = {
            name: token_id(tokenizer, f"<|{name}|>") for name in ("system", "user", "assistant", "end")
        }
        self.separator = token_id(tokenizer, SEPARATOR)
        self.pad = token_id(tokenizer, PAD)

    def encode(self, documents: list[Document]) -> list[tuple[list[int], list[float]]]:
        texts = [piece.text for document in documents for piece in document if not piece.special]
        encoded = iter(self._core.encode_batch(texts, add_special_tokens=False))
        made = []
        for document in documents:
            ids: list[int] = []
            weights: list[float] = []
            for piece in document:
                part = [self._special[piece.text]] if piece.special else next(encoded).ids
                ids.extend(part)
                weights.extend([piece.weight] * len(part))
            made.append((ids, weights))
        return made
