"""A GGUF file in llama.cpp, with the interface that measurements need of a model of transformers:
log-likelihoods of rows, greedy answers, logits. The same suites are asked of it, with the same token ids.

llama.cpp runs on the CPU here: what its kernels compute is what users of the file get, and the memory of a
GPU stays free."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy
import torch

from tui_lab.core.errors import LabError
from tui_lab.core.sanitize import sanitize
from tui_lab.retention.scoring.encode import shared_prefix_length
from tui_lab.retention.scoring.prefix_tree import Pack

#: Tokens of one call; the logits of so many positions are in memory at most.
BATCH_TOKENS = 128
#: The longest context, which takes memory for its keys and values at once.
MAX_CONTEXT = 4096


class GgufModel(torch.nn.Module):
    """A GGUF file. ``like``: a model's ``config`` and ``generation_config``, which the file was made from.

    ``log_likelihoods`` makes it a scorer for :func:`tui_lab.retention.scoring.score.score`. Raises LabError
    for a file that llama.cpp does not load."""

    supports_trees = False  # beginnings are shared by the cache instead
    virtual_tokens = 0
    token_cost_ratio = math.inf
    max_width = MAX_CONTEXT

    def __init__(self, file: Path, config: Any, generation_config: Any, context: int) -> None:
        import llama_cpp

        super().__init__()
        self.warnings: list[str] = []
        self.config, self.generation_config = config, generation_config
        self._library = llama_cpp
        try:
            self._llama = llama_cpp.Llama(
                str(file),
                n_ctx=min(context, MAX_CONTEXT),
                n_batch=BATCH_TOKENS,
                n_ubatch=BATCH_TOKENS,
                n_gpu_layers=0,
                verbose=False,
            )
        except (ValueError, RuntimeError) as error:
            raise LabError(
                f"llama.cpp cannot load {sanitize(file.name)}: {sanitize(str(error))[:200]}"
            ) from None
        self.metadata: dict[str, str] = dict(self._llama.metadata)
        self.vocabulary = int(self._llama.n_vocab())
        # what transformers' code asks of a model: its device and its input embeddings
        self._embedding = torch.nn.Embedding(1, 1)
        self._batch = llama_cpp.llama_batch_init(BATCH_TOKENS, 0, 1)
        self._cached: list[int] = []

    def get_input_embeddings(self) -> torch.nn.Module:
        """A stand-in on the CPU: only its device is read."""
        return self._embedding

    def close(self) -> None:
        """Frees the model."""
        self._library.llama_batch_free(self._batch)
        self._llama.close()

    def tokenize(self, text: str) -> list[int]:
        """The tokens of a text as llama.cpp's server makes them: special tokens are read, and a beginning
        token is added if the file says so."""
        found: list[int] = self._llama.tokenize(text.encode(), add_bos=True, special=True)
        return found

    # --- computing --------------------------------------------------------------------------------

    def last_logits(self, ids: Sequence[int], count: int) -> numpy.ndarray:
        """The logits after the last ``count`` tokens of a row: float32 (count, V)."""
        first = len(ids) - count
        start = min(shared_prefix_length(self._cached, ids), first)
        memory = self._library.llama_get_memory(self._llama.ctx)
        if not self._library.llama_memory_seq_rm(memory, 0, start, -1):
            self._library.llama_memory_clear(memory, True)  # a recurrent model cannot go back
            start = 0
        self._cached = list(ids[:start])
        found = numpy.empty((count, self.vocabulary), dtype=numpy.float32)
        for begin in range(start, len(ids), BATCH_TOKENS):
            tokens = ids[begin : begin + BATCH_TOKENS]
            self._decode(tokens, begin, first)
            for at in range(max(0, first - begin), len(tokens)):
                pointer = self._library.llama_get_logits_ith(self._llama.ctx, at)
                found[begin + at - first] = numpy.ctypeslib.as_array(pointer, (self.vocabulary,))
        return found

    def _decode(self, tokens: Sequence[int], begin: int, first: int) -> None:
        batch = self._batch
        batch.n_tokens = len(tokens)
        for at, token in enumerate(tokens):
            batch.token[at], batch.pos[at] = token, begin + at
            batch.n_seq_id[at], batch.seq_id[at][0] = 1, 0
            batch.logits[at] = ctypes.c_int8(begin + at >= first).value
        code = self._library.llama_decode(self._llama.ctx, batch)
        if code:
            self._cached = []
            raise LabError(
                f"llama.cpp could not compute a row of {begin + len(tokens):,} tokens (code {code})"
            )
        self._cached += tokens

    def log_likelihoods(self, packs: Sequence[Pack]) -> list[list[float]]:
        """As :meth:`tui_lab.retention.scoring.forward.LogLikelihoodScorer.log_likelihoods`."""
        return [[self._log_likelihood(row.tokens, row.targets) for row in pack.rows] for pack in packs]

    def _log_likelihood(self, tokens: Sequence[int], targets: Sequence[int]) -> float:
        logits = self.last_logits(tokens, len(targets)).astype(numpy.float64)
        top = logits.max(axis=-1, keepdims=True)
        normaliser = numpy.log(numpy.exp(logits - top).sum(axis=-1)) + top[:, 0]
        return math.fsum(logits[numpy.arange(len(targets)), list(targets)] - normaliser)

    def generate(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        max_new_tokens: int,
        eos_token_id: Sequence[int],
        pad_token_id: int,
        stopping_criteria: Any = None,
        **_: object,
    ) -> torch.Tensor:
        """Greedy answers: ids (B, T), padded on the left, with the new tokens after them (B, T + new)."""
        answers = []
        for row, mask in zip(input_ids.tolist(), attention_mask.tolist(), strict=True):
            prompt = [token for token, seen in zip(row, mask, strict=True) if seen]
            answers.append(self.greedy(prompt, max_new_tokens, eos_token_id))
            if stopping_criteria and bool(stopping_criteria(input_ids, None)[0]):
                break
        answers += [[]] * (len(input_ids) - len(answers))
        width = max(map(len, answers))
        padded = [answer + [pad_token_id] * (width - len(answer)) for answer in answers]
        return torch.cat([input_ids, torch.tensor(padded, dtype=input_ids.dtype)], dim=1)

    def greedy(self, prompt: Sequence[int], max_new_tokens: int, stop_ids: Sequence[int]) -> list[int]:
        """The answer to a prompt, with the stop token that ended it."""
        ids = list(prompt)
        room = min(max_new_tokens, self._llama.n_ctx() - len(ids))
        for _ in range(room):
            ids.append(int(self.last_logits(ids, 1)[0].argmax()))
            if ids[-1] in stop_ids:
                break
        return ids[len(prompt) :]
