"""Files written by commit caf9144 work today: see tests/fixtures/caf9144/README.md."""

from __future__ import annotations

import json
import shutil
import tomllib
from pathlib import Path

import pytest

from tui_lab.cli import main
from tui_lab.core import settings
from tui_lab.core.records import to_json
from tui_lab.recipes import presets
from tui_lab.runs import changes, checkpoints, commands, folder, notes
from tui_lab.runs.event_lines import encode_event
from tui_lab.runs.events import EventTail
from tui_lab.runs.folder import Run
from tui_lab.runs.index import RunIndex
from tui_lab.runs.overlay import CurveReader
from tui_lab.runs.queue import queue, sweep
from tui_lab.runs.replay import Replay
from tui_lab.runs.schema import UnknownEvent
from tui_lab.runs.state import Watcher

WRITTEN = Path(__file__).parent / "fixtures" / "caf9144"


@pytest.fixture
def written(runs_dir: Path) -> Path:
    """The runs folder of the tests, with what caf9144 wrote."""
    shutil.copytree(WRITTEN / "runs", runs_dir)
    return runs_dir


@pytest.fixture
def finished(written: Path) -> Run:
    return folder.open_run("finished", written)


@pytest.fixture
def crashed(written: Path) -> Run:
    return folder.open_run("crashed", written)


@pytest.mark.parametrize("name", ["finished", "crashed"])
def test_every_event_is_known_and_is_written_as_it_was(written: Path, name: str) -> None:
    run = folder.open_run(name, written)
    tail = EventTail(run.events_path)
    lines = tail.read_lines(max_records=10_000, max_s=60)
    assert lines and not tail.skipped and tail.at_end
    for line, event in lines:
        assert not isinstance(event, UnknownEvent)
        before = json.loads(line)
        after = json.loads(encode_event(event))
        # fields without a value are left out now, which readers treat alike; new fields have an empty default
        assert {key: value for key, value in before.items() if value is not None} == {
            key: value for key, value in after.items() if value or key in before
        } | ({"cost": before["cost"]} if "cost" in before else {})


def test_a_finished_run_is_watched(finished: Run) -> None:
    watcher = Watcher(finished)
    assert watcher.status == "finished"
    state = watcher.read_all()
    assert watcher.status == "finished" and watcher.recipe is not None
    assert (state.step, state.total_steps, state.attempt) == (6, 6, 1)
    assert len(state.loss.values) == 6 and len(state.item_probes) == 5 and state.verdict
    assert state.data and state.data.train_rows == 40 and state.started and state.started.device
    assert state.saved and state.saved.what == "adapter" and len(state.samples) == 3
    assert CurveReader(finished).read().points["validation"].steps == [0, 3, 6]


def test_a_crashed_run_is_watched(crashed: Run) -> None:
    assert Watcher(crashed).status == "crashed"
    watcher = Watcher(crashed)
    assert watcher.read_all().step == 2 and watcher.status == "crashed"
    found = checkpoints.find(crashed.checkpoints_path)
    assert found.chosen and checkpoints.step_of(found.chosen) == 2 and not found.passed_over
    assert changes.last_used(crashed, 2) == crashed.recipe()
    [command] = commands.Inbox(crashed, set()).poll()
    assert command.name == "checkpoint" and command.sent_at > 1e9


@pytest.mark.parametrize("arguments", [["watch", "finished", "--plain"], ["logs", "finished"], ["runs"]])
def test_commands_show_it(finished: Run, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(arguments) == 0
    out = capsys.readouterr().out
    assert "finished" in out and (arguments[0] == "runs" or "etention" in out)


def test_the_report_is_written(finished: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["report", finished.id, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["state"] == "finished" and found["step"] == 6 and not found["problems"]
    assert found["results"]["everyday"]["comparison"] and len(found["item_probes"]) == 5


def test_it_is_replayed(finished: Run) -> None:
    now = [0.0]
    with Replay(finished, 10_000.0, clock=lambda: now[0]) as replay:
        watcher = Watcher(replay.run)
        for _ in range(20):
            now[0] += 1.0
            replay.advance()
        assert replay.ended and watcher.read_all().step == 6 and watcher.status == "finished"


@pytest.mark.slow
def test_a_crashed_run_resumes(crashed: Run, capfd: pytest.CaptureFixture[str]) -> None:
    less = ["--set", "max_steps=3", "--set", "probe_share=0", "--set", "score_rows=1"]
    assert main.main(["resume", crashed.id, *less, "--json"]) == 0
    state = Watcher(crashed).read_all()
    assert state.attempt == 2 and state.end and (state.end.state, state.end.step) == ("finished", 3)
    assert state.loss.steps == [1, 2, 3] and not state.warnings


@pytest.mark.slow
def test_the_adapter_is_exported(finished: Run, tmp_path: Path) -> None:
    from tui_lab.export import job
    from tui_lab.export.records import ExportRequest

    result = job.handle(
        ExportRequest(run=finished.id, kind="adapter", out=str(tmp_path / "out")), lambda *_: None
    )
    answer = json.loads(to_json(result))
    assert (Path(answer["path"]) / "adapter_model.safetensors").is_file()
    assert all(check["passed"] for check in answer["checks"])


def test_notes_and_the_place_in_a_sweep(finished: Run) -> None:
    found = notes.read(finished)
    assert (found.name, found.tags, found.note) == ("first try", ("good", "small"), "written by caf9144")
    place = sweep.place_of(finished)
    assert place is not None
    assert (place.number, place.of, place.values) == (1, 2, {"learning_rate": 1e-3})


def test_the_index(written: Path) -> None:
    index = json.loads((written / ".index.json").read_text())
    for name, entry in index["runs"].items():  # as if the files had not been copied
        path = written / name
        stamp = []
        for file in ("events.jsonl", "recipe.toml", "notes.json"):
            found = (path / file).stat() if (path / file).exists() else None
            stamp += [found.st_ino, found.st_size, found.st_mtime_ns] if found else [0, 0, 0]
        entry[0] = stamp
    (written / ".index.json").write_text(json.dumps(index))
    cached = RunIndex(written)
    from_cache = cached.refresh()
    assert all(run.shape is not None for run in from_cache), (
        "logs are read once, because it has no loss curves"
    )
    again = RunIndex(written)
    again.refresh()
    assert again.read == 0, "then no log is read"
    (written / ".index.json").unlink()
    anew = RunIndex(written).refresh()
    assert [repr(run) for run in from_cache] == [repr(run) for run in anew]
    assert {run.state for run in anew} == {"finished", "crashed", "queued"}


def test_the_queue(written: Path) -> None:
    found = queue.items(written)
    assert [item.state for item in found] == ["queued", "queued"]
    assert queue.read(written).held and found[0].entry.gpus == ""
    assert [item.run.recipe().max_steps for item in found] == [4, 5]
    queue.release(written)
    assert [item.state for item in queue.items(written)] == ["queued", "queued"]


@pytest.fixture
def config(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    target = tmp_path / "written"
    shutil.copytree(WRITTEN / "config", target)
    monkeypatch.setenv("TUI_LAB_CONFIG_DIR", str(target))
    return target


def test_settings_and_the_keymap(config: Path) -> None:
    from tui_lab.ui.actions import keymap

    loaded = settings.load()
    assert not loaded.problems
    assert (loaded.settings.theme, loaded.settings.price_per_hour) == ("mine", 2.5)
    assert loaded.settings.pane == "runs"
    usable, problems = keymap.checked(loaded.settings.keys)
    # zooming in, which is newer, gives way
    assert usable == {"app.retention": "ctrl+k", "train.stop": "z", "train.zoom_in": ""} and not problems


def test_a_theme_and_a_preset_of_the_user(config: Path) -> None:
    from tui_lab.ui.terminal import themes

    found, messages = themes.load_themes()
    assert not messages and not found["mine"].dark
    preset = presets.load_preset("quick")
    assert preset.own
    raw = tomllib.loads((config / "presets" / "quick.toml").read_text())
    assert presets.make_recipe("quick").max_length == raw["max_length"]
