"""What a run tries on its GPU before it loads the model, because it would fail later or end the process: a
Triton kernel for trl's fused output layer, and managed memory for paged optimisers."""

from __future__ import annotations

import subprocess
import sys

from tui_lab.core.subprocesses import child_environment
from tui_lab.hardware.device import DeviceFacts
from tui_lab.hardware.gpu_trial import COMPILER_ADVICE, triton_problem
from tui_lab.recipes.resolve import ResolvedValues
from tui_lab.runs.events import EventWriter
from tui_lab.runs.schema import ChoiceEvent, WarningEvent
from tui_lab.training.trainer_seams import disable_triton

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
    if values.optim in UNPAGED and not works_paged():
        values.optim = UNPAGED[values.optim]
        reason = "this driver refuses managed memory, so that states stay on the GPU"
        events.write(ChoiceEvent(field="optim", value=values.optim, reason=reason))


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
