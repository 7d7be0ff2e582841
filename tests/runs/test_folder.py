"""Run folders: private, whole from the first instant, found by what people type; the lock tells who lives."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tui_lab.core.errors import LabError
from tui_lab.core.files import write_atomically
from tui_lab.recipes.recipe import Recipe
from tui_lab.runs import folder
from tui_lab.runs.events import EventWriter
from tui_lab.runs.folder import Run, RunLock, create, is_locked, list_runs, open_run, runs_dir
from tui_lab.runs.schema import EndEvent, ResumedEvent


def test_a_new_run_is_private_and_has_its_recipe(tmp_path: Path) -> None:
    recipe = Recipe(data="json", learning_rate=1e-3)
    run = create(recipe, tmp_path / "deep" / "runs")
    assert run.path.stat().st_mode & 0o777 == 0o700
    assert run.recipe() == recipe
    assert "pocket-json" in run.id
    assert [entry.name for entry in run.path.iterdir()] == ["recipe.toml"]


@pytest.mark.parametrize("name", ["My run!", "../../etc/passwd", "a/b", "\x1b[31m", "é", "-", "x" * 300])
def test_names_become_harmless_folders(tmp_path: Path, name: str) -> None:
    run = create(Recipe(), tmp_path, name)
    assert run.path.parent == tmp_path
    assert len(run.id) < 60 and run.id.isascii() and run.id.isprintable()


def test_runs_of_one_second_have_folders_of_their_own(tmp_path: Path) -> None:
    assert len({create(Recipe(), tmp_path).id for _ in range(20)}) == 20


def test_runs_are_listed_newest_first_and_only_runs(tmp_path: Path) -> None:
    for name in ("20260101-000000-a-0000", "20260301-000000-c-0000", "20260201-000000-b-0000"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "recipe.toml").write_text("")
    (tmp_path / "notes").mkdir()
    (tmp_path / "file").write_text("")
    assert [run.id[16] for run in list_runs(tmp_path)] == ["c", "b", "a"]
    assert list_runs(tmp_path / "nowhere") == []


def test_an_unreadable_folder_does_not_hide_other_runs(tmp_path: Path) -> None:
    run = create(Recipe(preset="minute"), tmp_path)
    # cannot be looked into by root either, as another's folder by anybody else
    (tmp_path / "29990101-000000-shut").symlink_to("x" * 300)
    assert list_runs(tmp_path) == [run] and open_run("latest", tmp_path) == run


def test_a_run_is_found_by_id_part_path_and_latest(tmp_path: Path) -> None:
    first, second = create(Recipe(), tmp_path, "first"), create(Recipe(), tmp_path, "second")
    assert open_run(first.id, tmp_path) == first
    assert open_run("second", tmp_path) == second
    assert open_run(str(first.path)) == first
    assert open_run("latest", tmp_path) == list_runs(tmp_path)[0]
    with pytest.raises(LabError, match="there is none of that name"):
        open_run("third", tmp_path)
    with pytest.raises(LabError, match="could be any of 2"):
        open_run("20", tmp_path)
    with pytest.raises(LabError, match="there is none"):
        open_run("", tmp_path)
    with pytest.raises(LabError, match=r"there are no runs in .*nowhere yet; `tui-lab train` starts one"):
        open_run("latest", tmp_path / "nowhere")


def test_a_damaged_recipe_is_named(tmp_path: Path) -> None:
    run = create(Recipe(), tmp_path)
    run.recipe_path.write_text("model = = 1")
    with pytest.raises(LabError, match=r"recipe\.toml: not valid TOML"):
        run.recipe()


def test_an_unwritable_folder_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LabError, match=r"cannot create a run in .*--runs-dir"):
        create(Recipe(), tmp_path / "file" / "runs")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_one_sentence(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(LabError, match="Permission denied"):
            create(Recipe(), tmp_path)
    finally:
        tmp_path.chmod(0o700)


def test_the_folder_of_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TUI_LAB_RUNS_DIR", str(tmp_path))
    assert runs_dir() == tmp_path
    monkeypatch.delenv("TUI_LAB_RUNS_DIR")
    assert runs_dir().name == "runs"


def test_a_relative_folder_of_runs_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = create(Recipe(), Path("mine"))
    assert run.path.parent == tmp_path / "mine"
    assert list_runs(Path("mine")) == [run] and open_run("latest", Path("mine")) == run


def test_local_paths_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rows.jsonl").write_text("{}")
    Path("rows").mkdir()
    Path("pirate").mkdir()  # a folder that is called as a bundled set
    Path("chat.jinja").write_text("")
    resolved = folder.absolute_paths(Recipe(data="rows.jsonl", chat_template="chat.jinja"))
    assert (resolved.data, resolved.chat_template) == (
        str(tmp_path / "rows.jsonl"),
        str(tmp_path / "chat.jinja"),
    )
    assert folder.absolute_paths(Recipe(data="rows")).data == str(tmp_path / "rows")
    assert folder.absolute_paths(Recipe(data="pirate")).data == "pirate"
    assert folder.absolute_paths(Recipe(data="owner/name")).data == "owner/name"
    assert folder.absolute_paths(Recipe(model="pocket")).model == "pocket"
    mixed = folder.absolute_paths(Recipe(data="rows.jsonl:0.75 + pirate:0.25 + owner/name"))
    assert mixed.data == f"{tmp_path / 'rows.jsonl'}:0.75 + pirate:0.25 + owner/name:1"
    assert folder.absolute_paths(mixed) == mixed


def test_the_log_tail_is_the_end_of_the_newest_attempt(tmp_path: Path) -> None:
    run = create(Recipe(), tmp_path)
    assert run.log_tail() == []
    run.log_path.write_bytes(b"".join(b"line %d \xff\n\n" % n for n in range(100_000)))
    words = run.log_tail(3)
    assert [word.split()[1] for word in words] == ["99997", "99998", "99999"]


# --------------------------------------------------------------------------------------------------
# whole files


def test_a_failed_write_does_not_change_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file.toml"
    write_atomically(path, "old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file.toml"]


# --------------------------------------------------------------------------------------------------
# the lock

HOLDER = """
import sys, time
from pathlib import Path
from tui_lab.runs.folder import Run, RunLock
lock = RunLock.take(Run(Path(sys.argv[1])))
print("held", flush=True)
time.sleep(60)
"""


def test_the_lock_is_free_held_and_free_again(tmp_path: Path) -> None:
    run = create(Recipe(), tmp_path)
    assert not is_locked(run)
    lock = RunLock.take(run)
    assert is_locked(run)
    lock.release()
    assert not is_locked(run)


def test_a_second_lock_is_refused_until_the_holder_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder, "LOCK_PATIENCE_S", 0.05)
    run = create(Recipe(), tmp_path)
    child = subprocess.Popen([sys.executable, "-c", HOLDER, str(run.path)], stdout=subprocess.PIPE)
    assert child.stdout is not None and child.stdout.readline() == b"held\n"
    assert is_locked(run)
    with pytest.raises(LabError, match="it is running already"):
        RunLock.take(run)
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    assert not is_locked(run)
    RunLock.take(run).release()


def test_the_lock_waits_for_an_ended_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The end is written some time before the process has gone: it writes the report, it unloads torch."""
    monkeypatch.setattr(folder, "LOCK_PATIENCE_S", 0.05)
    run = create(Recipe(), tmp_path)
    leaving = RunLock.take(run)
    events = EventWriter(run.events_path)
    events.write(EndEvent(state="failed", message="it went wrong"))
    threading.Timer(0.3, leaving.release).start()
    again = RunLock.take(run)
    monkeypatch.setattr(folder, "LEAVING_PATIENCE_S", 0.1)
    with pytest.raises(LabError, match="about to exit; try again"):
        RunLock.take(run)
    events.write(ResumedEvent(from_step=0, attempt=2))
    with pytest.raises(LabError, match="running already"):
        RunLock.take(run)
    again.release()


def test_an_inherited_lock_stays_held(tmp_path: Path) -> None:
    """As launch does it: the child inherits the descriptor, the launcher closes its own."""
    run = create(Recipe(), tmp_path)
    lock = RunLock.take(run)
    child = subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()"],
        stdin=subprocess.PIPE,
        pass_fds=(lock.descriptor,),
    )
    lock.release()
    assert is_locked(run)
    child.communicate()
    assert not is_locked(run)


def test_testing_a_lock_does_not_hinder_taking_it(tmp_path: Path) -> None:
    run = create(Recipe(), tmp_path)
    (run.path / "lock").touch()
    for _ in range(200):
        assert not is_locked(run)
        RunLock.take(run).release()


def test_a_missing_folder_is_not_locked_and_cannot_be_locked(tmp_path: Path) -> None:
    gone = Run(tmp_path / "gone")
    assert not is_locked(gone)
    with pytest.raises(LabError, match="cannot be written"):
        RunLock.take(gone)
