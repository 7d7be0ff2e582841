"""A GPU without a compiler beside it, and a driver that refuses managed memory: bitsandbytes ends on it."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import trl.kernels.chunked_divergence as divergence
import trl.kernels.chunked_logprob as logprob
import trl.trainer.utils as trl_utils

from tui_lab.hardware.device import DeviceFacts
from tui_lab.recipes.recipe import build
from tui_lab.recipes.resolve import ResolvedValues, unresolved
from tui_lab.runs.events import EventWriter
from tui_lab.runs.folder import Run
from tui_lab.runs.state import RunState, Watcher
from tui_lab.training import gpu_setup
from tui_lab.training.gpu_setup import output_layer_problem

CARD = DeviceFacts("cuda", "a card", 1 << 34, True, 1)


def prepared(folder: Path, optim: str, device: DeviceFacts = CARD) -> tuple[ResolvedValues, RunState]:
    values = unresolved(build({"optim": optim}))
    run = Run(folder)
    gpu_setup.prepare_gpu(EventWriter(run.events_path), device, values)
    return values, Watcher(run).read_all()


@pytest.fixture(autouse=True)
def triton_in_trl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logprob, "_TRITON_AVAILABLE", True)
    monkeypatch.setattr(gpu_setup, "triton_problem", lambda: "")
    monkeypatch.setattr(gpu_setup, "output_layer_problem", lambda _: "")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_the_output_layer_is_tried_as_it_is_used(
    dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert output_layer_problem(dtype, "cpu") == ""
    right = logprob.ChunkedLogProbFunction.apply
    wrong = SimpleNamespace(apply=lambda *args: tuple(
        1.5 * each if each is not None and each.is_floating_point() else each for each in right(*args)
    ))  # fmt: skip
    with monkeypatch.context() as patch:
        patch.setattr(gpu_setup, "ChunkedLogProbFunction", wrong)
        assert output_layer_problem(dtype, "cpu") == "wrong values, relative error 0.50"

    def without_gradients(*args: object) -> Any:
        found = right(*args)
        found[0].register_hook(lambda gradient: gradient * math.nan)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(gpu_setup, "ChunkedLogProbFunction", SimpleNamespace(apply=without_gradients))
        assert output_layer_problem(dtype, "cpu") == "wrong values, relative error nan"

    def fails(*_: object) -> None:
        raise RuntimeError("PassManager::run failed\nmore")

    with monkeypatch.context() as patch:
        patch.setattr(gpu_setup, "ChunkedLogProbFunction", SimpleNamespace(apply=fails))
        patch.setattr(gpu_setup, "output_layer_problem", lambda _: output_layer_problem(dtype, "cpu"))
        _, state = prepared(tmp_path, "adamw_torch_fused")
    [warning] = state.warnings
    assert "RuntimeError: PassManager::run failed)" in warning and "computed without them" in warning
    assert not logprob._use_triton(torch.device("cuda"))


def test_without_a_compiler_the_output_layer_needs_no_triton(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda = torch.device("cuda")
    assert logprob._use_triton(cuda)
    monkeypatch.setattr(gpu_setup, "triton_problem", lambda: "RuntimeError: Failed to find C compiler")
    _, state = prepared(tmp_path, "adamw_torch_fused")
    [warning] = state.warnings
    assert "Failed to find C compiler" in warning and "python3-dev" in warning and "without it" in warning
    assert not any(module._use_triton(cuda) for module in (logprob, divergence, trl_utils))


@pytest.mark.parametrize(
    ("code", "optim", "used"),
    [
        ("raise SystemExit(1)", "paged_adamw_8bit", "adamw_8bit"),
        ("raise SystemExit(1)", "paged_adamw_32bit", "adamw_torch_fused"),
        ("import os; os.abort()", "paged_adamw_8bit", "adamw_8bit"),
        ("", "paged_adamw_8bit", "paged_adamw_8bit"),
    ],
)
def test_paged_states_are_tried_before_they_are_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, optim: str, used: str
) -> None:
    works = gpu_setup.works_paged
    monkeypatch.setattr(gpu_setup, "works_paged", lambda: works(code))
    values, state = prepared(tmp_path, optim)
    assert values.optim == used and not state.warnings
    said = [choice for choice in state.choices if choice.field == "optim"]
    assert [choice.value for choice in said] == ([] if used == optim else [used])


def test_others_try_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never() -> bool:
        raise AssertionError

    monkeypatch.setattr(gpu_setup, "works_paged", never)
    assert prepared(tmp_path, "adamw_8bit")[0].optim == "adamw_8bit"
    monkeypatch.setattr(gpu_setup, "triton_problem", never)
    prepared(tmp_path, "paged_adamw_8bit", DeviceFacts("cpu", "cpu", 1, False, 1))
