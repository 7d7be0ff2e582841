"""What a run tries on its GPU before it loads the model, because it would fail later or end the process: a
Triton kernel for trl's fused output layer, and managed memory for paged optimisers."""

from __future__ import annotations

import subprocess
import sys

import torch
from trl.kernels.chunked_logprob import ChunkedLogProbFunction

from tui_lab.core.subprocesses import child_environment
from tui_lab.hardware.device import DeviceFacts
from tui_lab.hardware.gpu_trial import COMPILER_ADVICE, TOLERANCE, reason, relative_error, triton_problem
from tui_lab.models.loading import DTYPES
from tui_lab.recipes.resolve import ResolvedValues
from tui_lab.runs.events import EventWriter
from tui_lab.runs.schema import ChoiceEvent, WarningEvent
from tui_lab.training.trainer_seams import DEFAULT_LOSS_TILE, disable_triton

#: Optimisers that take the place of paged ones.
UNPAGED = {"paged_adamw_8bit": "adamw_8bit", "paged_adamw_32bit": "adamw_torch_fused"}
#: bitsandbytes ends the process where the driver refuses managed memory (WSL), so a child tries it.
_TRY_PAGED = """
import torch
from bitsandbytes.functional import get_paged
values = get_paged(1024, dtype=torch.float32, device=torch.device("cuda", 0))
values.fill_(1)
assert float(values.sum()) == 1024
"""
_TIMEOUT_S = 180


def prepare_gpu(events: EventWriter, device: DeviceFacts, values: ResolvedValues) -> None:
    """Tries both where they are used. What does not work is replaced in ``values`` and in trl, and said."""
    if device.type != "cuda":
        return
    if problem := triton_problem():
        disable_triton()
        text = f"Triton runs no kernel here ({problem}): the output layer is computed without it, more slowly"
        events.write(WarningEvent(text=f"{text}; {COMPILER_ADVICE}"))
    elif problem := output_layer_problem(values.compute_dtype):
        disable_triton()
        text = f"trl's kernels of the output layer do not work on this card ({problem})"
        events.write(WarningEvent(text=f"{text}: it is computed without them, more slowly"))
    if values.optim in UNPAGED and not works_paged():
        values.optim = UNPAGED[values.optim]
        why = "this driver refuses managed memory, so that states stay on the GPU"
        events.write(ChoiceEvent(field="optim", value=values.optim, reason=why))


def output_layer_problem(dtype: str, device: str = "cuda") -> str:
    """Why trl's fused output layer cannot be trusted in this type, forward and backward; "" where it
    computes what the plain one does. Triton may support a kernel of one line on a card and not these."""
    return reason(lambda: _try_output_layer(dtype, device))


def _try_output_layer(dtype: str, device: str) -> str:
    generator = torch.Generator().manual_seed(0)
    states, weight = (torch.randn(rows, 64, generator=generator) / 8 for rows in (16, 3_000))
    labels = torch.randint(3_000, (16,), generator=generator)
    plain = [each.to(DTYPES[dtype]).float().requires_grad_() for each in (states, weight)]
    expected = (8 * plain[0] @ plain[1].T).log_softmax(-1).gather(1, labels[:, None])[:, 0]
    expected.sum().backward()
    mine = [each.detach().to(device, DTYPES[dtype]).requires_grad_() for each in (states, weight)]
    found = ChunkedLogProbFunction.apply(
        *mine, None, labels.to(device), 1.0, DEFAULT_LOSS_TILE[1], None, 8.0, ("entropy", "is_top1")
    )[0]
    found.sum().backward()
    errors = [
        relative_error(found.detach(), expected.detach()),
        *(relative_error(one.grad, other.grad) for one, other in zip(mine, plain, strict=True)),
    ]
    wrong = [error for error in errors if not error < TOLERANCE]  # NaN, too
    return f"wrong values, relative error {max(wrong):.2f}" if wrong else ""


def works_paged(code: str = _TRY_PAGED) -> bool:
    """Whether managed memory can be allocated and used."""
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", code],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_TIMEOUT_S,
            env=child_environment(),
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
