"""Rules on the machine: memory that ran out or almost did, a training that became slower."""

from __future__ import annotations

from collections.abc import Iterator

from tui_lab.runs.flag_rules.flag import Flag, median_of
from tui_lab.runs.state import RunState

SLOWED_TO = 0.6
FULL_MEMORY = 0.95


def slowed(state: RunState) -> Iterator[Flag]:
    values = state.tok_per_s.values
    if len(values) < 40:
        return
    now, usual = median_of(values[-10:]), median_of(values[-500:-10])
    if now < SLOWED_TO * usual:
        yield Flag(
            "slowed_down",
            "amber",
            state.tok_per_s.steps[-1],
            f"Training runs at {now:,.0f} tokens a second; {usual:,.0f} were usual.",
            "Look for another process on the device, a hot GPU, or memory that is swapped; a run that is "
            "paused and continued may recover.",
        )


def memory(state: RunState) -> Iterator[Flag]:
    failed = state.end is not None and state.end.state == "failed"
    if state.ladder and not failed:
        # a smaller batch in validation matters less than a changed training step
        newest = ([rung for rung in state.ladder if rung.rung != "validation"] or state.ladder)[-1]
        costs = state.ladder_cost.text if state.ladder_cost else newest.cost
        yield Flag(
            "out_of_memory",
            "amber",
            newest.step,
            newest.text[:1].upper() + newest.text[1:] + ".",
            (f"What it costs: {costs}. " if costs else "")
            + "A smaller batch, a shorter max_length or the base in 4 bits would avoid it.",
        )
    texts = [state.end.message] if failed and state.end else []
    for text in [*texts, *state.warnings]:
        if "out of memory" in text.casefold():
            yield Flag(
                "out_of_memory",
                "red" if failed else "amber",
                state.step,
                text[:1].upper() + text[1:],
                "Halve the batch and double the accumulation, shorten max_length, switch on gradient "
                "checkpointing, or load the base in 4 bits.",
            )
    total = (state.started.device.memory_bytes or 0) if state.started and state.started.device else 0
    used = max(
        (curve.last for label, curve in state.memory.items() if "gpu" in label.casefold()), default=0.0
    )
    if total and used > FULL_MEMORY * total:
        yield Flag(
            "memory_almost_full",
            "amber",
            state.step,
            f"{used / total:.0%} of the GPU's memory is in use: a longer row may end the run.",
            "Halve the batch and double the accumulation, or shorten max_length.",
        )
