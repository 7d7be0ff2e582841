"""What people write on a run: kept whole, bounded, and never in its log."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tui_lab.core.errors import LabError
from tui_lab.recipes.recipe import Recipe
from tui_lab.runs import notes
from tui_lab.runs.folder import Run, create
from tui_lab.runs.notes import Notes


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return create(Recipe(), tmp_path)


def test_each_note_field_is_changed_separately(run: Run) -> None:
    assert notes.read(run) == Notes()
    notes.write(run, name="the good one")
    notes.write(run, tags="#good, rank8  good")
    notes.write(run, note="lower the rate\nnext time")
    assert notes.read(run) == Notes("the good one", ("good", "rank8"), "lower the rate\nnext time")
    notes.write(run, name="", tags="")
    assert notes.read(run) == Notes(note="lower the rate\nnext time")
    assert not run.events_path.exists(), "the log is the run's own"
    assert sorted(entry.name for entry in run.path.iterdir()) == ["notes.json", "recipe.toml"]


def test_notes_are_bounded(run: Run) -> None:
    found = notes.write(run, name="n" * 999, tags=" ".join(f"t{n}" for n in range(99)), note="x" * 9_999)
    assert len(found.name) == notes.LONGEST_NAME and len(found.note) == notes.LONGEST_NOTE
    assert len(found.tags) == notes.MOST_TAGS


@given(st.binary(max_size=80))
def test_a_damaged_file_gives_empty_notes(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    run = Run(tmp_path_factory.mktemp("run"))
    (run.path / notes.FILE).write_bytes(content)
    assert isinstance(notes.read(run), Notes)


def test_a_damaged_file_is_not_overwritten(run: Run) -> None:
    damaged = '{"name": 1, "tags": ["a"], "note": "kept"}'
    (run.path / notes.FILE).write_text(damaged)
    assert notes.read(run) == Notes()
    with pytest.raises(LabError, match=r"notes\.json: name must be text, not a whole number; correct or"):
        notes.write(run, note="new")
    assert (run.path / notes.FILE).read_text() == damaged


def test_unknown_fields_are_ignored(run: Run) -> None:
    (run.path / notes.FILE).write_text('{"v": 2, "name": "x", "colour": "red"}')
    assert notes.read(run) == Notes("x")


def test_a_missing_run_folder_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="cannot be written"):
        notes.write(Run(tmp_path / "gone"), name="x")
