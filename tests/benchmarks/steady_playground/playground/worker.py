"""A stand-in for the playground's worker that needs no model: every lane streams English words at one and the
same rate, so that what the lab writes does not depend on how busy this machine is. All else of the process is
real: its messages, ten portions a second, a beam lane whose text is sent anew at every step."""

from __future__ import annotations

import math
import os
import random
import time
from collections.abc import Callable
from typing import Any

from tui_lab.decoding import strategies
from tui_lab.decoding.records import Hypothesis
from tui_lab.playground.messages import (
    Beams,
    Generated,
    GenerateRequest,
    GenerationEvent,
    LaneDone,
    LoadRequest,
    PlaygroundStatus,
    PromptLength,
    Tokens,
)

#: About what six lanes of a model of half a billion parameters get on one GPU.
TOK_PER_S = float(os.environ.get("TUI_LAB_STEADY_TOK_PER_S", "40"))
PORTIONS_PER_S = 10
WORDS = (  # noqa: SIM905
    "the a of to and in that it was he she they said with for on his her at by one two three little cat dog "
    "house garden morning evening water river mountain walked looked found never always because wonderful "
    "ing ed ly s , . ! ? \n"
).split(" ")


class Worker:
    """See the module's docstring."""

    def __init__(self) -> None:
        self.status = PlaygroundStatus("ready")

    def load(self, request: LoadRequest, on_progress: Callable[[str], None]) -> None:
        self.status = PlaygroundStatus(
            "ready", "", "steady", "float32", "none", "cpu", ("base",), 17 << 20, 4096
        )

    def unload(self) -> None:
        self.status = PlaygroundStatus("ready")

    def generate(
        self,
        ask: GenerateRequest,
        emit: Callable[[PromptLength | GenerationEvent], None],
        cancelled: Callable[[], bool],
    ) -> Generated:
        """Emits words up to the limit, different ones in each lane."""
        emit(PromptLength(12, 4096))
        lanes = strategies.parse_all(ask.lanes)
        chance = [random.Random(number) for number in range(len(lanes))]
        texts, told, began = [""] * len(lanes), 0, time.monotonic()
        while told < ask.max_new_tokens and not cancelled():
            time.sleep(1 / PORTIONS_PER_S)
            due = min(ask.max_new_tokens, round((time.monotonic() - began) * TOK_PER_S))
            for number, lane in enumerate(lanes):
                new = [_word(chance[number]) for _ in range(due - told)]
                if lane.strategy.name == "beam":
                    for step, word in enumerate(new, told):
                        texts[number] += word
                        emit(Beams(number, step, (Hypothesis((), texts[number], -1.0, False),)))
                else:
                    texts[number] += "".join(new)
                    emit(Tokens(number, "".join(new), due))
            told = due
        seconds = time.monotonic() - began
        why: Any = "cancelled" if told < ask.max_new_tokens else "length"
        for number, text in enumerate(texts):
            words: Any = (number, ask.lanes[number], "base", text, (), (), (), why, 0.1, seconds)
            emit(LaneDone(*words, told / max(seconds, 0.01), -1.0, math.e, 0.0, 1.0))
        return Generated(dict.fromkeys(range(len(lanes)), math.e))


def _word(chance: random.Random) -> str:
    word = chance.choice(WORDS)
    return word if word in ("ing", "ed", "ly", "s", ",", ".", "!", "?", "\n") else f" {word}"


def out_of_memory_message(error: BaseException, four_bit: bool = False) -> str | None:
    return None
