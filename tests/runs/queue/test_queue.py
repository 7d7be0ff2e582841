"""The queue as a file: what is added stays together, what runs say decides, nothing is lost or half there."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.records import event
from tui_lab.core.errors import LabError
from tui_lab.recipes.recipe import Recipe
from tui_lab.runs import folder
from tui_lab.runs.events import EventWriter
from tui_lab.runs.folder import Run, RunLock
from tui_lab.runs.queue import queue


def states(directory: Path) -> list[str]:
    return [item.state for item in queue.items(directory)]


def begin(run: Run, directory: Path) -> Run:
    """Moves a waiting run among the others, as the runner does."""
    moved = Run(directory / run.id)
    run.path.rename(moved.path)
    return moved


def log(run: Run, *events: tuple[str, dict[str, object]]) -> None:
    writer = EventWriter(run.events_path)
    for kind, fields in events:
        writer.write(event(kind, **fields))
    writer.close()


@pytest.fixture
def two(tmp_path: Path) -> Iterator[list[Run]]:
    yield queue.add([Recipe(max_steps=1), Recipe(max_steps=2)], tmp_path)


def test_waiting_runs_are_private_and_not_listed(two: list[Run], tmp_path: Path) -> None:
    assert states(tmp_path) == ["queued", "queued"]
    assert [item.run.id for item in queue.items(tmp_path)] == [run.id for run in two], "in their order"
    assert folder.list_runs(tmp_path) == []
    assert [run.recipe().max_steps for run in two] == [1, 2]
    assert queue.root(tmp_path).stat().st_mode & 0o777 == 0o700


def test_runs_are_added_all_or_none(tmp_path: Path) -> None:
    def fails(run: Run, number: int) -> None:
        if number == 1:
            raise OSError(28, "No space left on device")

    with pytest.raises(LabError, match="No space left"):
        queue.add([Recipe(), Recipe(), Recipe()], tmp_path, prepare=fails)
    assert queue.items(tmp_path) == []
    assert list((queue.root(tmp_path) / "waiting").iterdir()) == []


def test_the_state_of_an_item_is_that_of_its_run(two: list[Run], tmp_path: Path) -> None:
    first = begin(two[0], tmp_path)
    lock = RunLock.take(first)
    assert states(tmp_path) == ["running", "queued"]
    log(first, ("resumed", {"from_step": 0}), ("end", {"state": "finished", "message": ""}))
    assert states(tmp_path)[0] == "running", "its process may take a moment to leave the device"
    lock.release()
    assert states(tmp_path) == ["done", "queued"]


@pytest.mark.parametrize(
    ("end", "state", "outcome", "reason"),
    [
        ({"state": "stopped", "message": "stopped as asked"}, "done", "stopped", "stopped as asked"),
        ({"state": "failed", "message": "no rows"}, "failed", "failed", "no rows"),
    ],
)
def test_outcomes_of_ended_runs(
    two: list[Run], tmp_path: Path, end: dict[str, object], state: str, outcome: str, reason: str
) -> None:
    log(begin(two[0], tmp_path), ("resumed", {"from_step": 0}), ("end", end))
    item = queue.items(tmp_path)[0]
    assert (item.state, item.outcome, item.reason) == (state, outcome, reason)


def test_a_crashed_run_shows_the_end_of_its_log(two: list[Run], tmp_path: Path) -> None:
    run = begin(two[0], tmp_path)
    log(run, ("resumed", {"from_step": 0}), ("step", {"step": 1, "loss": 1.0}))
    run.log_path.write_text("Killed\n")
    item = queue.items(tmp_path)[0]
    assert (item.state, item.outcome, item.reason) == ("failed", "crashed", "Killed")


def test_failed_starts_are_repeated_a_limited_number_of_times(two: list[Run], tmp_path: Path) -> None:
    begin(two[0], tmp_path)  # the runner was killed right here
    assert states(tmp_path)[0] == "queued"
    with queue.changing(tmp_path) as write:
        now = queue.read(tmp_path)
        first = replace(now.entries[0], starts=queue.MOST_STARTS)
        write(replace(now, entries=(first, *now.entries[1:])))
    item = queue.items(tmp_path)[0]
    assert item.state == "failed" and "never wrote an event" in item.reason


def test_a_deleted_run_is_not_listed(two: list[Run], tmp_path: Path) -> None:
    for file in two[0].path.iterdir():
        file.unlink()
    two[0].path.rmdir()
    assert states(tmp_path) == ["queued"]


def test_removing_deletes_waiting_folders_only(two: list[Run], tmp_path: Path) -> None:
    done = begin(two[0], tmp_path)
    log(done, ("resumed", {"from_step": 0}), ("end", {"state": "finished"}))
    assert queue.remove([two[0].id, two[1].id], tmp_path) == [two[0].id, two[1].id]
    assert queue.items(tmp_path) == []
    assert done.recipe_path.is_file() and not two[1].path.exists()


def test_a_run_in_progress_is_not_removed(two: list[Run], tmp_path: Path) -> None:
    lock = RunLock.take(begin(two[0], tmp_path))
    with pytest.raises(LabError, match=f"tui-lab stop {two[0].id}"):
        queue.remove([two[1].id, two[0].id], tmp_path)
    assert states(tmp_path) == ["running", "queued"], "and nothing else either"
    lock.release()


def test_items_are_found_by_part_of_their_name(two: list[Run], tmp_path: Path) -> None:
    assert queue.find(two[0].id[-4:], tmp_path).run.id == two[0].id
    with pytest.raises(LabError, match="could be any of 2"):
        queue.find("pocket", tmp_path)
    with pytest.raises(LabError, match="run 'nope': there is none of that name"):
        queue.find("nope", tmp_path)


def test_ended_runs_are_cleared(two: list[Run], tmp_path: Path) -> None:
    log(begin(two[0], tmp_path), ("resumed", {"from_step": 0}), ("end", {"state": "failed", "message": "x"}))
    assert queue.clear_ended(tmp_path) == [two[0].id]
    assert states(tmp_path) == ["queued"]


def test_the_state_of_the_queue_as_a_sentence(two: list[Run], tmp_path: Path) -> None:
    assert queue.describe(tmp_path) == "2 runs wait; the queue's process is not running"
    queue.hold(tmp_path)
    assert queue.describe(tmp_path) == "2 runs wait; the queue is held"
    queue.release(tmp_path)
    queue.log_path(tmp_path).write_text("the disk is full\n")
    assert queue.describe(tmp_path).endswith("(the disk is full)")
    lock = RunLock.take(begin(two[0], tmp_path))
    queue.remove([two[1].id], tmp_path)
    assert queue.describe(tmp_path) == f"the last run of the queue is running: {two[0].id}"
    lock.release()


def test_runs_started_by_hand_are_distinguished(two: list[Run], tmp_path: Path) -> None:
    other = folder.create(Recipe(), tmp_path)
    locks = [RunLock.take(other), RunLock.take(begin(two[0], tmp_path))]
    assert queue.live_others(queue.items(tmp_path), tmp_path) == [other]
    for lock in locks:
        lock.release()


def test_an_unwritable_queue_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LabError, match="cannot write the queue"):
        queue.add([Recipe()], tmp_path / "file" / "runs")


@settings(max_examples=60)
@given(
    st.one_of(
        st.binary(max_size=60),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=8),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(["entries", "held", "waits", "run", "starts"]), inner, max_size=3
                )
            ),
            max_leaves=8,
        ).map(lambda value: json.dumps(value).encode()),
    )
)
def test_a_damaged_queue_file_is_one_sentence(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    directory = tmp_path_factory.mktemp("runs")
    (directory / queue.FOLDER).mkdir()
    (directory / queue.FOLDER / "queue.json").write_bytes(content)
    try:
        found = queue.items(directory)
    except LabError as error:
        assert "move the file away" in str(error)
    else:
        assert found == [], "no run lies there"


def test_concurrent_writers_lose_no_entry(tmp_path: Path) -> None:
    """In two processes: each adds runs while the other does."""
    pid = os.fork()
    try:
        for _ in range(5):
            queue.add([Recipe()], tmp_path)
    finally:
        if pid == 0:
            os._exit(0)
    os.waitpid(pid, 0)
    assert len(queue.items(tmp_path)) == 10


def test_toggle_holds_and_releases_the_queue(two: list[Run], tmp_path: Path) -> None:
    lock = RunLock.take(begin(two[0], tmp_path))
    queue.remove([two[1].id], tmp_path)
    assert queue.toggle(tmp_path) == (False, None), "the last one goes, and nothing more is to start"
    assert queue.read(tmp_path).held
    assert queue.toggle(tmp_path) == (True, None)
    assert not queue.read(tmp_path).held
    lock.release()
    (tmp_path / two[0].id / "recipe.toml").unlink()
    assert queue.toggle(tmp_path) == (None, None)


def test_a_newer_file_is_read_and_a_wrong_field_is_named(tmp_path: Path) -> None:
    place = queue.root(tmp_path)
    place.mkdir()
    (place / "queue.json").write_text('{"v": 2, "colour": "red", "entries": [{"run": "a", "size": 1}]}')
    assert queue.read(tmp_path) == queue.Queue((queue.QueueEntry("a"),), v=2)
    (place / "queue.json").write_text('{"v": 1, "entries": [{"run": "a", "starts": "twice"}]}')
    with pytest.raises(LabError, match=r"entries\[0\]\.starts must be a whole number"):
        queue.read(tmp_path)
    (place / "queue.json").write_text('{"v": 1, "entries": [{"run": "../a"}]}')
    with pytest.raises(LabError, match=r"entries\[0\]\.run"):
        queue.read(tmp_path)
