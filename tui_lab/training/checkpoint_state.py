"""What the Trainer's own state in a checkpoint (``trainer_state.json``) says about the training."""

from __future__ import annotations

from pathlib import Path

import msgspec

from tui_lab.core import input_files


class _LogEntry(msgspec.Struct, frozen=True):
    num_tokens: float = 0.0


class _ControlFlags(msgspec.Struct, frozen=True):
    should_training_stop: bool = False


class _TrainerControl(msgspec.Struct, frozen=True):
    args: _ControlFlags = _ControlFlags()


class _Callbacks(msgspec.Struct, frozen=True):
    control: _TrainerControl = msgspec.field(default=_TrainerControl(), name="TrainerControl")


class _TrainerState(msgspec.Struct, frozen=True):
    global_step: int
    max_steps: int = 0
    log_history: tuple[_LogEntry, ...] = ()
    stateful_callbacks: _Callbacks = _Callbacks()


def _read(checkpoint: Path) -> _TrainerState:
    # json reads its NaN, msgspec does not
    value = input_files.read_json(checkpoint / "trainer_state.json", input_files.SCORES_BYTES)
    return msgspec.convert(value, _TrainerState)


def is_finished(checkpoint: Path, total_steps: int) -> bool:
    """Whether the training had ended in a checkpoint: at the last step, or by early stopping."""
    state = _read(checkpoint)
    if state.global_step >= total_steps:
        return True
    stopped = state.stateful_callbacks.control.args.should_training_stop
    return stopped and state.global_step < state.max_steps


def tokens_trained(checkpoint: Path) -> int:
    """Tokens trained on until a checkpoint."""
    return int(max((entry.num_tokens for entry in _read(checkpoint).log_history), default=0))
