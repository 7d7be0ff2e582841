"""The counts of the preview in words."""

from __future__ import annotations

from typing import Any

from tui_lab.core.records import from_plain
from tui_lab.data.preview_records import PreviewFacts
from tui_lab.ui.views.preview import too_long_text

NUMBERS = (
    "rows", "rows_read", "rows_bad", "rows_empty", "longest_tokens", "longer_than_max_length",
    "refused_by_template", "system_folded",
)  # fmt: skip
FACTS: dict[str, Any] = {
    **dict.fromkeys(NUMBERS, 0),
    "validation_rows": None, "sampled_rows": 500, "mean_tokens": 200.0, "lengths": [], "trained_share": 0.5,
    "mask_methods": [], "template_source": "", "end_of_turn": None, "scorer": None, "description": "",
}  # fmt: skip


def facts(**values: Any) -> PreviewFacts:
    return from_plain({**FACTS, **values}, PreviewFacts, "facts")


def test_what_is_lost_is_a_share_of_all_rows_and_says_what_was_sampled() -> None:
    found = facts(train_rows=6973, held_out_rows=500, cut=3030, estimated=True, suggested_length=448)
    assert too_long_text(found) == (
        "max_length cuts 41% of the rows (3,030, in 500 sampled); max_length = 448 holds 95% of them"
    )
    assert too_long_text(facts(train_rows=900, held_out_rows=100)) == ""
    left_out = facts(train_rows=90, held_out_rows=9, too_long=1)
    assert too_long_text(left_out) == "max_length cuts 1% of the rows (1)"


def test_windows_of_a_raw_text_lose_nothing() -> None:
    assert too_long_text(facts(train_rows=50, windowed=50)) == ""
