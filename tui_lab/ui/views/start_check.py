"""The first line of the card on Setup: whether the run can start, and the first obstacle with the key that
removes it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from textual.content import Content

from tui_lab.core.format import size
from tui_lab.core.sanitize import sanitize
from tui_lab.forecast.remedies import OVER, TIGHT
from tui_lab.ui.views.access import Access
from tui_lab.ui.views.forecast import ForecastView, verdict
from tui_lab.ui.views.recipe_summary import RecipeSummary


def headline(
    summary: RecipeSummary, shown: ForecastView | None, access: Access, keys: Mapping[str, str]
) -> Content:
    """One obstacle, or the key that starts the run. ``keys`` by the name of the action."""
    if summary.refusals:
        other = "fields" if summary.entry is not None else "models"
        lines = [Content.styled(f"✗ {sanitize(refusal)}", "$text-error") for refusal in summary.refusals]
        lines[-1] = lines[-1].append_text(_key(keys, other, "changes it"), "$text-muted")
        return Content("\n").join(lines)
    if shown is not None and (problem := shown.estimate.budget.problem):
        return Content.styled(f"✗ No run can start here: {sanitize(problem)}", "$text-error")
    if access.problem:
        section = "models" if access.of == "model" else "data"
        does = "shows why" if access.of == "rows" else "chooses another"
        return Content.assemble(
            (f"✗ {sanitize(access.problem)}", "$text-error"),
            (_key(keys, section, does), "$text-muted"),
        )
    if shown is not None and shown.estimate.verdict == OVER:
        return verdict(shown)
    if access.asking:
        return Content.styled(f"◌ {sanitize(access.asking)}", "$text-muted")
    start = keys.get("start", "")
    if access.missing_bytes:
        amount = size(access.missing_bytes)
        return Content.styled(f"▶ {start} downloads {amount} and starts the run", "bold $text-warning")
    colour = ""  # until the memory is known
    if shown is not None:
        colour = "$text-warning" if shown.estimate.verdict == TIGHT else "$text-success"
    return Content.styled(f"▶ {start} starts the run", f"bold {colour}".strip())


def _key(keys: Mapping[str, str], name: str, does: str) -> str:
    return f" · {keys[name]} {does}" if keys.get(name) else ""


def download_line(summary: RecipeSummary, access: Access) -> Content | None:
    """What is downloaded first and whether the model is gated; None where all is on this machine."""
    entry = summary.entry
    if entry is None or entry.on_disk:
        return None
    parts: list[Any] = [("download ", "$text-muted")]
    if access.missing_bytes:
        parts.append((size(access.missing_bytes), "bold"))
    else:
        parts.append("not on this machine" if access.problem else "size not known yet")
    if entry.gated:
        place = f"huggingface.co/{sanitize(entry.id)}"
        parts.append(f"; gated: accept the licence at {place}, then log in with `hf auth login`")
    return Content.assemble(*parts)
