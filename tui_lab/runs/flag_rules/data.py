"""Rules on the prepared rows: nothing to learn in them, or their ends cut off."""

from __future__ import annotations

from collections.abc import Iterator

from tui_lab.runs.flag_rules.flag import Flag
from tui_lab.runs.state import RunState

TRUNCATED_SHARE, MASKED_SHARE = 0.05, 0.2


def prepared_rows(state: RunState) -> Iterator[Flag]:
    data = state.data
    if data is None:
        return
    rows = data.rows_used + data.validation_rows_used or data.train_rows + data.validation_rows
    masked = data.fully_masked + data.refused_by_template
    nothing = data.train_trained_tokens == 0
    if nothing or masked:
        seen = (
            "No token of any row is trained: all labels are masked."
            if nothing
            else f"{masked:,} rows have nothing to learn: their labels are all masked, or the chat template "
            "refuses them."
        )
        share = masked / (rows + masked) if masked else 0.0
        yield Flag(
            "nothing_to_learn",
            "red" if nothing or share > MASKED_SHARE else "amber",
            0,
            seen,
            "`tui-lab data preview` shows the trained tokens of each row; give each row an assistant's "
            "answer.",
        )
    cut = data.truncated + data.too_long
    if rows and cut > TRUNCATED_SHARE * (rows + data.too_long):
        yield Flag(
            "truncated_rows",
            "amber",
            0,
            f"{cut:,} of {rows + data.too_long:,} rows are longer than max_length: their ends "
            "are lost, or they are left out.",
            "Raise max_length, or shorten the rows: a model that never sees an end does not learn to stop.",
        )
