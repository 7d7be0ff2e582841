"""``tui-lab strength``: what a run gained and kept at several strengths of what it changed, which strength is
recommended, and the adapter saved at one. The work is done by the job that the lab uses too, so a sweep that
was interrupted here goes on there."""

from __future__ import annotations

import argparse
from typing import Any

from tui_lab.core import format
from tui_lab.core.errors import LabError
from tui_lab.core.sanitize import sanitize

MODULE = "tui_lab.evaluation.strength_sweep"
RECOMMENDED = "recommended"
_BAR = 10  # characters
_EXAMPLES = """examples:
  tui-lab strength latest                          0, 0.2 … 1.2 on the everyday suite
  tui-lab strength latest --strengths 0.5,0.7 --keep 0.97
  tui-lab strength latest --save 0.6               writes adapter-strength-0.60 in the run's folder
  tui-lab strength latest --save recommended       sweeps, and saves the recommended one
strengths that were measured before are not measured again"""


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Adds the command to the grammar."""
    made: argparse.ArgumentParser = subparsers.add_parser(
        "strength",
        help="weigh what a run gained against what it kept, at several strengths",
        description="Weigh what a run gained against what it kept, at several strengths of its adapter.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.set_defaults(run="cli.strength:run")
    made.add_argument("name", metavar="RUN", help="a run's id, a part of it, its folder, or `latest`")
    made.add_argument("--suite", default="everyday", metavar="SUITE", help="a suite's name or file")
    made.add_argument(
        "--strengths", default="", metavar="LIST", help="such as 0,0.5,1 (default 0 to 1.2 by 0.2)"
    )
    made.add_argument(
        "--keep", type=float, default=0.95, metavar="SHARE", help="retention that must stay (default 0.95)"
    )
    made.add_argument("--limit", type=int, default=0, metavar="N", help="at most so many items (0: all)")
    made.add_argument("--save", default="", metavar="S", help="save at this strength, or at `recommended`")
    made.add_argument("--json", action="store_true", help="machine-readable output")
    made.add_argument("--runs-dir", metavar="FOLDER", default=argparse.SUPPRESS, help="where runs are kept")
    return made


def run(args: argparse.Namespace) -> int:
    """Carries the command out; the exit code. Raises LabError."""
    from tui_lab.cli.jobs import run_job

    if args.limit < 0:
        raise LabError("--limit is a number of items, 0 for all of them")
    place = {"run": args.name, "runs_dir": str(getattr(args, "runs_dir", None) or "")}
    answer: dict[str, Any] = {}
    save = _save(args.save)
    if save is None or args.strengths:
        sweep = {"suite": args.suite, "limit": args.limit, "keep": args.keep}
        answer = run_job(MODULE, {**place, **sweep, "strengths": _strengths(args.strengths)})
        if args.save == RECOMMENDED:
            save = answer["recommended"]["strength"]
            if not save:
                raise LabError(f"nothing is saved: {answer['recommended']['reason']}")
    if isinstance(save, float):
        answer["saved"] = run_job(MODULE, {**place, "save": save})["saved"]
    if args.json:
        import json

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
    from tui_lab.runs import verdicts

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
                f"{sanitize(verdicts.said(point['verdict']))}{mark}"
            )
        said = sanitize(str(answer["recommended"]["reason"]))
        print(f"{said[:1].upper()}{said[1:]}." if best is None else f"Recommended: {best:g}, since {said}.")
    for warning in answer.get("warnings") or ():
        print(f"warning: {sanitize(str(warning))}")
    if answer.get("saved"):
        print(f"saved as {answer['saved']}")


def _bar(share: float) -> str:
    return f"{format.bar(share, _BAR, empty='·')} {format.decimal(share):>6}"
