"""A step reads nothing back from the device: a GPU does not wait for the host between two logged steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import TrainerCallback

from tests.training.conftest import losses, recipe_for
from tui_lab.recipes.resolve import unresolved
from tui_lab.training import packed_attention
from tui_lab.training.torch_internals import LOCAL_SCALAR
from tui_lab.training.trainer import LabTrainer
from tui_lab.training.trainer_config import training_arguments
from tui_lab.training.trainer_seams import SeamTrainer


class Reads(TorchDispatchMode):
    """Counts what makes the host wait for a device, while :attr:`on`: numbers that are read one by one
    (``.item()``, ``float``, ``bool``), lists, copies to the host or to numpy, and results whose size depends
    on values (boolean masks, ``nonzero``)."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.on, self.found = False, []  # type: tuple[bool, list[str]]
        for name in ("tolist", "cpu", "numpy"):  # of tensors on the CPU these are no operations
            monkeypatch.setattr(torch.Tensor, name, self._counting(name, getattr(torch.Tensor, name)))

    def _counting(self, name: str, call: Any) -> Any:
        def counted(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            if self.on:
                self.found.append(name)
            return call(tensor, *args, **kwargs)

        return counted

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self.on and func is LOCAL_SCALAR:
            self.found.append("item")
        name = func.overloadpacket.__name__
        if self.on and (
            name in ("nonzero", "masked_select", "_unique2") or (name in _INDEXING and _has_mask(args[1]))
        ):
            self.found.append("size")
        return func(*args, **(kwargs or {}))

    @contextmanager
    def counting(self) -> Iterator[list[str]]:
        self.on = True
        try:
            yield self.found
        finally:
            self.on = False


_INDEXING = ("index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index_put")


def _has_mask(indices: Any) -> bool:
    return any(each is not None and each.dtype == torch.bool for each in indices)


class Between(TrainerCallback):
    """Counts from the first micro-batch of a step to its end, and not what the data loader does."""

    def __init__(self, reads: Reads) -> None:
        self.reads, self.of_steps = reads, []  # type: tuple[Reads, list[list[str]]]

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self.reads.found = []
        self.reads.on = True

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.of_steps.append(self.reads.found)


CASES: dict[str, dict[str, Any]] = {
    "LoRA": {},
    "full": {"method": "full"},
    "packed": {"packing": True, "per_device_train_batch_size": 2},
    "KL": {"method": "full", "kl_weight": 0.1},
    "penalties": {"l2_to_start": 0.1, "focal_gamma": 2.0},
    "smoothing": {"label_smoothing_factor": 0.1},
}
#: trl's output layer selects the trained positions by a mask (hidden states, labels, and in the backward pass
#: again); what a micro-batch adds to that.
OF_TRL, ADDED = 3, {"smoothing": 1, "KL": 1}


@pytest.mark.parametrize("case", CASES)
def test_a_step_reads_nothing_but_what_is_logged(
    case: str, make_trainer: Callable[..., LabTrainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_for(
        **{
            "max_steps": 4, "logging_steps": 2, "per_device_train_batch_size": 4, "probe_share": 0.0,
            "gradient_accumulation_steps": 2, "optim": "adamw_torch_fused", **CASES[case],
        }
    )  # fmt: skip
    # the kernel's stand-in for CPUs reads the bounds of documents
    monkeypatch.setattr(packed_attention, "document_by_document", lambda query, *_: query + 0)
    reads = Reads(monkeypatch)
    after: list[list[str]] = []

    def after_step(trainer: LabTrainer) -> None:
        reads.on = False
        after.append(list(reads.found))

    # as on CUDA
    trainer = make_trainer(recipe, after_step=after_step, packed_attention="varlen", row_mask=False)
    between = Between(reads)
    trainer.add_callback(between)
    with reads:
        trainer.train()
    sizes = recipe.gradient_accumulation_steps * (OF_TRL + ADDED.get(case, 0))
    assert after[0] == after[2] == ["size"] * sizes, after[0]
    read = [each for each in after[1] if each != "size"]
    assert 3 <= len(read) <= 4, read  # loss, gradient norm, tokens, all figures at once
    assert len(between.of_steps) == 4


def test_the_counter_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    reads, tensor = Reads(monkeypatch), torch.ones(3)
    with reads, reads.counting() as found:
        tensor.sum().item()
        float(tensor[0])
        bool(tensor[0])
        tensor.tolist()
        tensor.cpu()
        tensor[tensor > 0]
        (tensor > 0).nonzero(as_tuple=True)
        tensor[torch.tensor([1, 2])]
    assert found == ["item"] * 3 + ["tolist", "cpu", "size", "size"]


@pytest.mark.parametrize(("device", "waits"), [("cuda", False), ("cpu", True)])
def test_batches_are_uploaded_without_waiting(device: str, waits: bool, tmp_path: Path) -> None:
    arguments = training_arguments(
        recipe_for(), tmp_path, device=device, values=unresolved(recipe_for(compute_dtype="float32"))
    )
    assert arguments.accelerator_config.non_blocking is not waits
    assert arguments.dataloader_pin_memory is not waits


def test_figures_are_those_of_trl(
    make_trainer: Callable[..., LabTrainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    def history() -> list[dict[str, float]]:
        trainer = make_trainer(recipe_for(max_steps=3, gradient_accumulation_steps=2, logging_steps=2))
        trainer.train()
        assert len(losses(trainer)) == 1
        entry = next(each for each in trainer.state.log_history if "loss" in each)
        assert all(isinstance(value, int | float) for value in entry.values())
        return [entry]

    ours = history()
    parent: Any = SeamTrainer.__mro__[1]
    monkeypatch.setattr(SeamTrainer, "compute_loss", parent.compute_loss)
    monkeypatch.setattr(SeamTrainer, "log", parent.log)
    assert ours == history()


@pytest.mark.parametrize(("dora", "casts"), [(False, torch.bfloat16), (True, torch.float32)])
def test_lora_does_not_copy_its_input_to_float32(
    dora: bool, casts: torch.dtype, make_trainer: Callable[..., LabTrainer]
) -> None:
    trainer = make_trainer(
        recipe_for(compute_dtype="bfloat16", use_dora=dora, max_steps=1), compute_dtype="bfloat16"
    )
    seen: set[torch.dtype] = set()
    for name, module in trainer.model.named_modules():
        if name.endswith("lora_A.default"):
            module.register_forward_pre_hook(lambda _, args: seen.add(args[0].dtype))
    trainer.train()
    assert casts in seen and len(seen) == 1
    assert all(each.cast_input_dtype_enabled for each in trainer._uncast)


@pytest.mark.parametrize("changes", [{}, {"kl_weight": 0.3}, {"gradient_checkpointing": True}])
def test_rows_padded_on_the_right_need_no_mask(
    changes: dict[str, Any], make_trainer: Callable[..., LabTrainer]
) -> None:
    """Causal attention does not look at what follows, and padding has no labels."""
    histories = []
    for row_mask in (True, False):
        recipe = recipe_for(max_steps=3, per_device_train_batch_size=8, **changes)
        trainer = make_trainer(recipe, row_mask=row_mask, folder=f"mask {row_mask}")
        trainer.train()
        histories.append([*losses(trainer), trainer.validation_loss()])
    assert histories[1] == pytest.approx(histories[0], rel=1e-5)
