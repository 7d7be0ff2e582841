"""What the run itself computes: the logits and greedy answers that an export is compared with."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tui_lab.core.job_protocol import OnProgress
from tui_lab.core.out_of_memory import free_memory
from tui_lab.export import check
from tui_lab.export import source as sources
from tui_lab.export.check import Model, Tokenizer
from tui_lab.export.source import ComparedText, SavedRun

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Reference:
    """``path`` is a safetensors file of logits (positions, V): ``exact.N`` of row N by the unrounded weights
    and, where the run computes otherwise, ``own.N`` by the run as trained. ``device`` and ``dtype`` are those
    of the unrounded weights; ``own`` describes the run's own setup, "" where it is the same."""

    path: Path
    device: str
    dtype: str
    positions: int
    answers: list[list[int]]
    own: str
    commit: str
    tied: bool


def compute_reference(
    source: SavedRun,
    text: ComparedText,
    tokenizer: Tokenizer,
    work: Path,
    on_progress: OnProgress,
) -> tuple[Reference, Model]:
    """The reference, written into ``work``, and the unrounded model, which is still loaded. Raises
    LabError."""
    from safetensors.torch import save_file

    from tui_lab.data import row_tokens

    setup = sources.trained_setup(source)
    device, dtype = sources.device_for_exact(source.entry.parameters or 0)
    logits: dict[str, Tensor] = {}
    answers: list[list[int]] | None = None
    stops: list[int] = []
    differs = source.quantized or setup.dtype != dtype
    if differs:
        trained = _counted(on_progress, "computing with the run as it was trained", text)
        own = sources.load_as_trained(source, setup)
        stops = row_tokens.stop_ids(tokenizer, own)
        positions = _positions(own, 2 * len(text.rows))
        for at, ids in enumerate(text.rows):
            logits[f"own.{at}"] = check.last_logits(own, ids, positions)
            trained()
        answers = _answers(own, text, tokenizer, stops, trained)
        del own
        free_memory()
    unrounded = _counted(on_progress, "computing with the run's unrounded weights", text)
    exact = sources.load_exact(source, device, dtype)
    stops = stops or row_tokens.stop_ids(tokenizer, exact)
    positions = _positions(exact, len(text.rows) * (2 if differs else 1))
    for at, ids in enumerate(text.rows):
        logits[f"exact.{at}"] = check.last_logits(exact, ids, positions)
        unrounded()
    path = work / "reference.safetensors"
    save_file({name: value.contiguous() for name, value in logits.items()}, path)
    return Reference(
        path=path,
        device=device,
        dtype=dtype,
        positions=positions,
        answers=answers if answers is not None else _answers(exact, text, tokenizer, stops, unrounded),
        own=setup.description if differs else "",
        commit=str(getattr(exact.config, "_commit_hash", "") or ""),
        tied=check.tied(exact),
    ), exact


def _positions(model: Model, rows: int) -> int:
    return sources.compared_positions(model.config.get_text_config().vocab_size, rows)


def _counted(on_progress: OnProgress, what: str, text: ComparedText) -> Callable[[], None]:
    """A function that is called after each row and each answer, and reports how many are done."""
    total, numbers = len(text.rows) + len(text.prompts), itertools.count(1)
    on_progress(what, 0, total)
    return lambda: on_progress(what, next(numbers), total)


def _answers(
    model: Model,
    text: ComparedText,
    tokenizer: Tokenizer,
    stops: list[int],
    answered: Callable[[], None],
) -> list[list[int]]:
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else (stops or [0])[0]
    found = []
    for ids in text.prompts:
        found.append(check.greedy(model, ids, sources.ANSWER_TOKENS, stop_ids=stops, pad_id=pad))
        answered()
    return found
