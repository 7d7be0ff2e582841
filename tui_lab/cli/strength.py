"""``tui-lab strength``: what a run gained and kept at several strengths of its adapter, the recommended
strength, and saving the adapter at one."""

from __future__ import annotations

import argparse
import json
from typing import Any

from tui_lab.cli import jobs
from tui_lab.core import format
from tui_lab.core.errors import LabError
from tui_lab.core.sanitize import sanitize
from tui_lab.runs import verdicts

MODULE = "tui_lab.evaluation.strength_sweep"
RECOMMENDED = "recommended"
_BAR = 10  # characters


def run(args: argparse.Namespace) -> int:
    """Runs the command; the exit code. Raises LabError."""
    if args.limit < 0:
        raise LabError("--limit is a number of items, 0 for all of them")
    place = {"run": args.name, "runs_dir": str(args.runs_dir or "")}
    answer: dict[str, Any] = {}
    save = _save(args.save)
    if save is None or args.strengths:
        sweep = {"suite": args.suite, "limit": args.limit, "keep": args.keep}
        answer = jobs.run_job(MODULE, {**place, **sweep, "strengths": _strengths(args.strengths)})
        if args.save == RECOMMENDED:
            save = answer["recommended"]["strength"]
            if not save:
                raise LabError(f"nothing is saved: {answer['recommended']['reason']}")
    if isinstance(save, float):
        answer["saved"] = jobs.run_job(MODULE, {**place, "save": save})["saved"]
    if args.json:
        print(json.dumps(answer, ensure_ascii=True))
    else:
        _show(answer)
    return 0


def _save(text: str) -> float | None:
    """The strength to save at; None for none and for the recommended one, which is not known yet."""
    if not text or text == RECOMMENDED:
        return None
    try:
        return float(text)
    except ValueError:
        raise LabError(f"--save {sanitize(text)}: give a strength such as 0.6, or `recommended`") from None


def _strengths(text: str) -> list[float]:
    try:
        return [float(part) for part in text.replace(",", " ").split()]
    except ValueError:
        raise LabError(f"--strengths {sanitize(text)}: give numbers with commas, such as 0,0.5,1") from None


def _show(answer: dict[str, Any]) -> None:

    points = answer.get("points") or []
    if points:
        metric = sanitize(str(answer["acquisition_metric"] or "new task"))
        suite = f"{sanitize(str(answer['suite']))}, {answer['n']:,} items"
        print(f"strength  {metric:>{_BAR + 7}}  {'kept':>{_BAR + 7}} of {suite}")
        best = answer["recommended"]["strength"]
        for point in points:
            kept = point["retention"]
            value, low, high = (float(kept[name]) for name in ("value", "low", "high"))
            mark = "  ← recommended" if point["strength"] == best else ""
            print(
                f"{point['strength']:8.2f}  {_bar(float(point['acquisition']))}  "
                f"{_bar(value)} ({format.decimal(low)} to {format.decimal(high)})  "
                f"{sanitize(verdicts.verdict_label(point['verdict']))}{mark}"
            )
        said = sanitize(str(answer["recommended"]["reason"]))
        print(f"{said[:1].upper()}{said[1:]}." if best is None else f"Recommended: {best:g}, since {said}.")
    for warning in answer.get("warnings") or ():
        print(f"warning: {sanitize(str(warning))}")
    if answer.get("saved"):
        print(f"saved as {answer['saved']}")


def _bar(share: float) -> str:
    return f"{format.bar(share, _BAR, empty='·')} {format.decimal(share):>6}"
