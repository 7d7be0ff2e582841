"""The parts of ``make gpu`` in order, with the seconds that each may take; their sum is 535."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from tests.gpu.bench import Bench, PartLog


@dataclass(frozen=True)
class Part:
    """A part: its module is ``tests.gpu.part_NAME``."""

    name: str
    budget_s: float
    text: str

    def run(self, bench: Bench, log: PartLog) -> None:
        """Runs the part."""
        module = importlib.import_module(f"tests.gpu.part_{self.name}")
        cast(Callable[[Bench, PartLog], None], module.run)(bench, log)


PARTS = (
    Part("machine", 20, "versions, torch's code for the card, Triton, a layer in 4 bits"),
    Part("ceilings", 30, "copy, matrix product, launches"),
    Part("right", 80, "the card computes what the CPU does"),
    Part("peaks", 110, "memory of training against the forecast"),
    Part("training", 120, "training speed, plain TRL beside it"),
    Part("decoding", 90, "six lanes against six calls"),
    Part("scoring", 40, "256 items, KL probe"),
    Part("calibration", 30, "the lab's own measurement"),
    Part("paged", 15, "paged AdamW"),
)
