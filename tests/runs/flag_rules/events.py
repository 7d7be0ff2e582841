"""Made-up logs for the rules on runs."""

import math
import random
from typing import Any

from tests.records import parse
from tui_lab.runs.flag_rules.flag import Flag
from tui_lab.runs.flags import flags
from tui_lab.runs.state import RunState

Events = list[dict[str, Any]]


def steps(losses: list[float], **fields: Any) -> Events:
    """One step event a loss; a field may be a list (by step) or one value."""
    return [
        {
            "kind": "step",
            "step": at + 1,
            "loss": loss,
            **{name: value[at] if isinstance(value, list) else value for name, value in fields.items()},
        }
        for at, loss in enumerate(losses)
    ]


def found(*parts: Events) -> dict[str, Flag]:
    state = RunState()
    state.apply(parse([event for part in parts for event in part]))
    return {flag.name: flag for flag in flags(state)}


def falling(count: int = 200, first: float = 3.0, last: float = 0.8, noise: float = 0.1) -> list[float]:
    chance = random.Random(1)
    return [
        last + (first - last) * math.exp(-4 * at / count) + chance.uniform(-noise, noise)
        for at in range(count)
    ]


def evals(*pairs: tuple[int, float]) -> Events:
    return [{"kind": "eval", "step": step, "loss": loss, "rows": 10} for step, loss in pairs]


HEALTHY = [
    {"kind": "data", "train_rows": 90, "validation_rows": 10, "rows_used": 90, "validation_rows_used": 10,
     "train_trained_tokens": 900, "truncated": 1, "too_long": 0, "fully_masked": 0, "refused_by_template": 0},
    {"kind": "plan", "total_steps": 200},
    *steps(falling(), grad_norm=1.0, tok_per_s=1_000.0, learning_rate=1e-4),
    *evals((0, 3.0), (100, 1.1), (200, 0.85)),
]  # fmt: skip


def score(when: str, value: float, step: int = 0, **fields: Any) -> dict[str, Any]:
    return {
        "kind": "score",
        "when": when,
        "name": "exact",
        "value": value,
        "step": step,
        "rows": 64,
        **fields,
    }


def answers(*texts: str) -> list[dict[str, str]]:
    return [{"prompt": f"question {i}", "answer": t, "expected": f"e{i}"} for i, t in enumerate(texts)]


def probe(verdict: str, value: float, post: float, suite: str = "everyday", p: float = 1e-6) -> Events:
    figures = {"value": value, "low": value - 0.03, "high": value + 0.03}
    return [
        {"kind": "item_probe", "step": 100, "suite": suite, "n": 400, "pre": 0.9, "post": post,
         "retention": figures, "above_chance": figures, "verdict": verdict, "mcnemar_p": p}
    ]  # fmt: skip


def distances(*values: float) -> Events:
    return [
        {
            "kind": "kl_probe",
            "step": 50 * at,
            "general": {"value": v, "low": v * 0.9, "high": v * 1.1},
            "task": {"value": v, "low": v, "high": v},
        }
        for at, v in enumerate(values)
    ]


def data(**fields: Any) -> Events:
    return [
        {"kind": "data", "rows_used": 90, "validation_rows_used": 10, "train_trained_tokens": 9, **fields}
    ]
