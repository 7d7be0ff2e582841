"""Batches cut in parts: the same rows in the same order, parts as even as can be, and shares that add up."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as some
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from tui_lab.training import micro_batches


def padded(lengths: list[int], tasks: list[int] | None = None) -> dict[str, Any]:
    """Rows of given lengths, as trl pads them."""
    rows = [{"input_ids": list(range(n)), "labels": [-100, *range(1, n)]} for n in lengths]
    batch: dict[str, Any] = DataCollatorForLanguageModeling(pad_token_id=0)(rows)
    if tasks is not None:
        batch["task"] = torch.tensor(tasks)
    return batch


def packed(rows: list[list[int]]) -> dict[str, Any]:
    """Packed rows of documents of given lengths, as trl lays them out."""
    examples = [
        {"input_ids": list(range(sum(row))), "labels": list(range(sum(row))), "seq_lengths": row}
        for row in rows
    ]
    found: dict[str, Any] = DataCollatorForLanguageModeling(pad_token_id=0, padding_free=True)(examples)
    return found


LENGTHS = some.lists(some.integers(2, 9), min_size=1, max_size=9)


@given(some.lists(some.integers(1, 30), min_size=1, max_size=8), some.integers(1, 9))
def test_contiguous_ranges_are_as_even_as_possible(sizes: list[int], parts: int) -> None:
    runs = micro_batches.contiguous(sizes, parts)
    assert [at for begin, end in runs for at in range(begin, end)] == list(range(len(sizes)))
    assert len(runs) <= parts
    best = min(  # every way to cut
        max(sum(sizes[a:b]) for a, b in zip((0, *cuts), (*cuts, len(sizes)), strict=True))
        for count in range(min(parts, len(sizes)))
        for cuts in combinations(range(1, len(sizes)), count)
    )
    assert max(sum(sizes[a:b]) for a, b in runs) == best


@given(LENGTHS, some.integers(1, 12))
def test_rows_lose_only_padding(lengths: list[int], parts: int) -> None:
    batch = padded(lengths, [at % 3 for at in range(len(lengths))])
    cut = micro_batches.split(batch, parts)
    seen = []
    for part in cut:
        inputs = part.inputs
        alone = inputs["attention_mask"].sum(1)
        assert len(cut) == 1 or inputs["input_ids"].shape[1] == alone.max()
        for row, width in enumerate(alone.tolist()):
            seen.append((inputs["input_ids"][row, :width].tolist(), inputs["task"][row].item()))
    assert seen == [(list(range(n)), at % 3) for at, n in enumerate(lengths)]
    assert max(len(part.inputs["input_ids"]) for part in cut) == -(-len(lengths) // parts)
    assert sum(part.trained_tokens for part in cut) == sum(n - 1 for n in lengths)
    assert abs(sum(part.share.tokens for part in cut) / len(cut) - 1) < 1e-9
    if len(cut) > 1:
        for task in set(range(min(3, len(lengths)))):
            assert abs(sum(part.share.tasks.get(task, 0) for part in cut) / len(cut) - 1) < 1e-9


@given(some.lists(LENGTHS, min_size=1, max_size=3), some.integers(2, 12))
def test_packed_documents_equal_their_own_batch(rows: list[list[int]], parts: int) -> None:
    batch = packed(rows)
    lengths = [length for row in rows for length in row]
    at = 0
    for part in micro_batches.split(batch, parts):
        inputs = part.inputs
        here = inputs["cu_seq_lens_q"].diff().tolist()
        assert here == lengths[at : at + len(here)]
        expected = packed([here])
        for name in (
            "position_ids",
            "cu_seq_lens_q",
            "cu_seq_lens_k",
            "max_length_q",
            "max_length_k",
            "seq_idx",
        ):
            assert torch.equal(torch.as_tensor(inputs[name]), torch.as_tensor(expected[name])), name
        assert inputs["input_ids"].shape == inputs["labels"].shape == (1, sum(here))
        at += len(here)
    assert at == len(lengths)
    joined = torch.cat([part.inputs["input_ids"] for part in micro_batches.split(batch, parts)], 1)
    assert torch.equal(joined, batch["input_ids"])


def test_batches_that_cannot_be_split() -> None:
    assert micro_batches.finer(padded([5]), 1) == 0
    assert micro_batches.finer(padded([5, 5, 5]), 1) == 2 and micro_batches.finer(padded([5, 5, 5]), 2) == 4
    assert micro_batches.finer(padded([5, 5, 5]), 4) == 0
    assert micro_batches.finer(packed([[9]]), 1) == 0
    # halves do not help where one document is longer than the rest
    assert (
        micro_batches.finer(packed([[2, 2, 9]]), 1) == 2 and micro_batches.finer(packed([[2, 2, 9]]), 2) == 0
    )
    assert micro_batches.split(padded([5, 4]), 1)[0].share == micro_batches.WHOLE
    assert micro_batches.describe(packed([[2, 2, 9]])) == "3 packed documents of 13 tokens in all"
