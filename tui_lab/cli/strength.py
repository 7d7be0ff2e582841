"""``tui-lab strength``: gain and retention of a run at several strengths of its adapter, the recommended
strength, and saving the adapter at one."""

from __future__ import annotations

import argparse
import math

from msgspec import UNSET, UnsetType
from msgspec.structs import asdict

from tui_lab.cli import jobs
from tui_lab.cli.options import EXIT_OK
from tui_lab.cli.output import Answer, json_line, print_text, table, width
from tui_lab.core import format
from tui_lab.core.errors import LabError
from tui_lab.core.sanitize import sanitize
from tui_lab.evaluation.records import SavedStrength, SweepRequest
from tui_lab.retention.stored import StrengthCurve
from tui_lab.runs import verdicts

MODULE = "tui_lab.evaluation.strength_sweep"
RECOMMENDED = "recommended"
_BAR = 10  # characters
#: Narrower terminals get the figures without their bars.
BARS_FROM_COLUMNS = 100


class StrengthAnswer(StrengthCurve, tag_field="kind", tag="strength", kw_only=True, frozen=True):
    """Gain and retention at every strength. ``saved``: the adapter that was saved at one."""

    saved: str | UnsetType = UNSET


class SavedAnswer(Answer, tag="strength_saved", kw_only=True, frozen=True):
    """The adapter that was saved, without a measurement."""

    saved: str


def run(args: argparse.Namespace) -> int:
    """Runs the command; the exit code. Raises LabError."""
    if args.limit < 0:
        raise LabError("--limit is a number of items, 0 for all of them")
    runs_dir = str(args.runs_dir or "")
    save = _strength_to_save(args.save)
    curve: StrengthCurve | None = None
    if save is None or args.strengths:
        request = SweepRequest(
            run=args.name,
            suite=args.suite,
            strengths=_strengths(args.strengths),
            keep=args.keep,
            limit=args.limit,
            runs_dir=runs_dir,
        )
        curve = jobs.run_job(MODULE, request, answer=StrengthCurve)
        if args.save == RECOMMENDED:
            save = curve.recommended.strength
            if not save:
                raise LabError(f"nothing is saved: {curve.recommended.reason}")
    saved = ""
    if save is not None:
        request = SweepRequest(run=args.name, save=save, runs_dir=runs_dir)
        saved = jobs.run_job(MODULE, request, answer=SavedStrength).saved
    if args.json:
        if curve is None:
            json_line(SavedAnswer(saved=saved))
        else:
            json_line(StrengthAnswer(**{**asdict(curve), "saved": saved or UNSET}))
        return EXIT_OK
    if curve:
        _print_curve(curve)
    if saved:
        print(f"saved as {sanitize(saved)}")
    return EXIT_OK


def _strength_to_save(text: str) -> float | None:
    """The strength of ``--save``; None for none and for the recommended one, which is not known yet."""
    if not text or text == RECOMMENDED:
        return None
    try:
        return float(text)
    except ValueError:
        raise LabError(f"--save {sanitize(text)}: give a strength such as 0.6, or `recommended`") from None


def _strengths(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.replace(",", " ").split())
    except ValueError:
        raise LabError(f"--strengths {sanitize(text)}: give numbers with commas, such as 0,0.5,1") from None


def _print_curve(curve: StrengthCurve) -> None:
    suite = sanitize(curve.suite)
    best = curve.recommended.strength
    rows: list[tuple[str, ...]] = []
    for point in curve.points:
        known = not math.isnan(point.headline.value)
        bars = (_bar(point.acquisition), _bar(point.headline.value) if known else "")
        found = point.headline
        retention = format.interval(found.value, found.low, found.high, 3) if known else ""
        mark = "  ← recommended" if point.strength == best else ""
        score = format.decimal(point.acquisition)
        row = (f"{point.strength:.2f}", bars[0], score, bars[1], retention)
        rows.append((*row, sanitize(verdicts.verdict_label(point.verdict)) + mark))
    title = f"retention on {suite}, {curve.n:,} items"
    names: tuple[str, ...] = ("strength", "", "acquisition", "", title, "verdict")
    most = width()
    if most is not None and most < BARS_FROM_COLUMNS:
        names, rows = _without_bars(names), [_without_bars(row) for row in rows]
    table(names, rows, right=(0, 1 if len(names) == 4 else 2))
    reason = sanitize(curve.recommended.reason)
    if best is None:
        print_text(f"{reason[:1].upper()}{reason[1:]}.")
    else:
        print_text(f"Recommended: {best:g}, since {reason}.")
    for warning in curve.warnings:
        print_text(f"warning: {sanitize(warning)}")


def _without_bars(row: tuple[str, ...]) -> tuple[str, ...]:
    return (row[0], row[2], *row[4:])


def _bar(share: float) -> str:
    return format.bar(share, _BAR, empty="·")
