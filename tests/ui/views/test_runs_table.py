"""The tables of the Runs pane: exact widths at any width, with any name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from rich.cells import cell_len

from tui_lab.runs.index import COLUMNS as SORTED_BY
from tui_lab.runs.index import RunSummary
from tui_lab.ui.views import runs_table


def summary(number: int = 1, **fields: object) -> RunSummary:
    return RunSummary(id=f"20260102-0304{number:02}-pocket-pirate-abcd", path="/nowhere", **fields)  # type: ignore[arg-type]


RUN = summary(
    state="finished", model="Qwen/Qwen3-0.6B", preset="starter", data="rows.jsonl", loss=0.25, validation=0.5,
    score_name="exact", score_start=0.1, score_end=0.9, retention=0.95, retention_low=0.9, retention_high=1.0,
    shape="!P~",
    peak_bytes=3 * 2**30, peak_of="cuda_peak", seconds=3661.0, tags=("good",), note="lower the rate",
)  # fmt: skip


@given(st.integers(60, 240))
def test_a_row_has_exactly_its_width(width: int) -> None:
    columns = runs_table.fitted_columns(width)
    text = "".join(part for part, _ in runs_table.row(RUN, columns))
    assert cell_len(text) + runs_table.MARK_CELLS <= width
    assert cell_len(runs_table.head(columns, "loss", True)) == cell_len(text) + runs_table.MARK_CELLS
    assert {"state", "started", "model", "loss", "time"} <= {column.id for column, _ in columns}


def test_no_column_fits_a_table_without_width() -> None:
    assert runs_table.fitted_columns(0) == ()


def test_eighty_columns_show_every_metric() -> None:
    found = [column.id for column, _ in runs_table.fitted_columns(79)]
    ids = "state started model preset data loss curve acquisition retention time"
    assert set(ids.split()) <= set(found)
    text = "".join(part for part, _ in runs_table.row(RUN, runs_table.fitted_columns(79)))
    for part in ("✓", "01-02 03:04", "starter", "0.250", "0.10→0.90", "0.95", "▁▅█", "1:01…"):
        assert part.rstrip("…") in text


def test_sort_keys_are_columns_or_the_name() -> None:
    shown = {column.id for column in runs_table.COLUMNS}
    assert shown - set(SORTED_BY) <= {"curve", "from", "steps", "tags", "note", "method", "id"}
    assert set(SORTED_BY) - shown == {"name"}, "a name stands in the place of the time"


def test_the_details_of_a_run() -> None:
    text = "\n".join(runs_table.detail(RUN))
    for part in (
        RUN.id,
        "acquisition 0.100→0.900 (exact match)",
        "retention of the last probe 0.95 (0.90–1.00)",
        "CUDA peak 3 GiB",
        "#good",
        "lower the",
    ):
        assert part in text
    failed = summary(state="failed", message="no \x1b[31mrows")
    assert "failed: no ␛[31mrows" in runs_table.detail(failed)[2]
    assert runs_table.detail(None) == []


def test_columns_take_the_width_of_what_is_in_them() -> None:
    bare = summary(model="pocket", shape="~!")
    ids = [column.id for column in runs_table.columns_for([bare])]
    assert "tags" not in ids and "note" not in ids and "curve" in ids
    assert "tags" in [column.id for column in runs_table.columns_for([bare, RUN])]
    for width, title in ((79, "ret."), (200, "retention")):
        columns = runs_table.fitted_columns(width, runs_table.columns_for([bare, RUN]))
        assert title in runs_table.head(columns, "started", True)
        text = "".join(part for part, _ in runs_table.row(RUN, columns))
        assert ("0.95 (0.90–1.00)" in text) == (width == 200)


def test_a_wide_window_has_the_whole_id_and_little_empty_width() -> None:
    run = replace(
        summary(model="pocket", preset="keeper", data="support", method="full", shape="~" * 32),
        id="20260102-030401-keeper-abcd",
    )
    columns = runs_table.fitted_columns(196, runs_table.columns_for([run]))
    text = "".join(part for part, _ in runs_table.row(run, columns))
    assert run.id in text and " full " in text
    assert cell_len(text) > 0.95 * 196


def test_a_base_at_chance_has_no_retention_in_the_table() -> None:
    columns = runs_table.fitted_columns(79)
    run = summary(verdict="cannot_tell", retention=-0.5, retention_low=-9.0, retention_high=9.0)
    text = "".join(part for part, _ in runs_table.row(run, columns))
    assert "n/a" in text and "0.5" not in text


@pytest.mark.parametrize(
    ("values", "width", "shown"),
    [
        (["/data/sets/pirate/a.jsonl", "/data/sets/pirate/b.jsonl"], 12, ["…a.jsonl", "…b.jsonl"]),
        (["/d/a", "/d/b"], 12, ["/d/a", "/d/b"]),
        (["qwen2.5-0.5b-instruct", "gemma"], 12, ["qwen2.5-0.5b-instruct", "gemma"]),
        (["x" * 60 + "1", "x" * 60 + "2"], 12, ["…xxx1", "…xxx2"]),
    ],
)
def test_long_values_lose_the_beginning_that_they_share(
    values: list[str], width: int, shown: list[str]
) -> None:
    assert runs_table.distinct(values, width) == shown


@given(
    st.lists(st.text(st.characters(codec="ascii"), max_size=40), min_size=2, max_size=4), st.integers(4, 30)
)
def test_values_that_differ_differ_when_shortened(values: list[str], width: int) -> None:
    shown = runs_table.distinct(values, width)
    assert [shown.index(each) for each in shown] == [values.index(each) for each in values]


def test_differences_side_by_side_and_in_two_tables() -> None:
    rows = [("learning_rate", ["0.0001", "0.001", "0.01"]), ("optim", ["adamw_torch"] * 3)]
    heads = ["A 01-02 03:04", "B 01-02 03:05", "C 01-02 03:06"]
    wide = runs_table.differences(rows, heads, 100, "Space")
    assert len(wide) == 3 and all(head in wide[0] for head in heads)
    narrow = runs_table.differences(rows, heads, 50, "Space")
    assert len(narrow) == 7 and "C" in narrow[4], "the third run below the others"
    assert max(map(cell_len, narrow)) <= 50
    assert "recipes are the same" in runs_table.differences([], heads, 80, "Space")[0]
    assert "at least two runs" in runs_table.differences([], heads[:1], 80, "Space")[0]
    assert "Mark runs" in runs_table.differences([], [], 80, "Space")[0]


@pytest.mark.parametrize("width", [60, 76, 120, 200])
@pytest.mark.parametrize("criterion", ["validation", "acquisition", "retention", "time"])
def test_a_sweep_shows_values_and_criterion_at_any_width(width: int, criterion: str) -> None:
    runs = [
        summary(n, state="finished", validation=n / 10, score_start=0.0, score_end=n / 100, retention=n / 20,
                retention_low=0.0, retention_high=1.0, seconds=60.0 * n, sweep="s", sweep_number=n,
                sweep_values={"learning_rate": n * 1e-4, "lora_r": 8})
        for n in (1, 2, 3)
    ]  # fmt: skip
    lines = runs_table.sweep_lines(runs, runs[1].id, criterion, width)
    assert max(cell_len(line) for line, _ in lines) <= width
    assert [marked for _, marked in lines] == [False, False, True, False]
    asked = {"validation": "0.200", "acquisition": "0.00→0.02", "retention": "0.10", "time": "2:00"}
    assert "★" in lines[2][0] and asked[criterion] in lines[2][0] and "0.0002" in lines[2][0]


def test_no_sweep_says_how_to_make_one() -> None:
    assert "--sweep" in runs_table.sweep_lines([], "", "validation", 80)[1][0]


@given(st.lists(st.integers(1, 40), max_size=12), st.integers(20, 80), st.integers(1, 4))
def test_a_legend_in_lines(lengths: list[int], width: int, most: int) -> None:
    names = ["x" * length for length in lengths]
    lines = runs_table.in_lines(names, width, most)
    shown = [i for line in lines for i in line]
    assert shown == list(range(len(shown))) and len(lines) <= most
    assert all(len(line) == 1 or sum(lengths[i] + 3 for i in line) - 3 <= width for line in lines)


def test_questions_before_runs_are_deleted() -> None:
    one = runs_table.delete_question([RUN], 0, "u")
    assert "Delete the run" in one and "u restores what was deleted, for 30 days" in one
    waiting = runs_table.delete_question([summary(state="queued", model="pocket", data="json")], 0, "u")
    assert "from the queue" in waiting and "restores" not in waiting
    assert "2 in progress are not deleted" in runs_table.delete_question([RUN, RUN], 2, "u")


def test_unknown_figures_are_dashes() -> None:
    text = "".join(part for part, _ in runs_table.row(summary(), runs_table.fitted_columns(120)))
    assert "nan" not in text and text.count("–") >= 5
