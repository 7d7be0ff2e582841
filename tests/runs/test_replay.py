"""A replay, driven by a clock of the test's own: records come as they did, the recording's clock is told,
commands act on the replay, and nothing of the original changes, whatever state it is in."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tui_lab.cli import main, options
from tui_lab.core.errors import LabError
from tui_lab.recipes.recipe import Recipe
from tui_lab.runs import commands, replay, wording
from tui_lab.runs.cost_so_far import cost_so_far
from tui_lab.runs.folder import Run, RunLock, create
from tui_lab.runs.replay import Replay
from tui_lab.runs.state import Watcher

pytestmark = pytest.mark.usefixtures("runs_dir")
BEGAN = 1_700_000_000.0


class Clock:
    """The watcher's clock, in the test's hands."""

    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        return self.now

    def go(self, playing: Replay, seconds: float) -> None:
        """So many seconds pass, in ticks of a tenth."""
        for _ in range(round(seconds * 10)):
            self.now += 0.1
            playing.advance()


def step(number: int, t: float) -> dict[str, Any]:
    return {
        "v": 1, "t": t, "kind": "step", "step": number, "loss": 4.0 / number, "tok_per_s": 10.0,
        "eta_s": (20 - number) * 2.0, "memory": {"resident": 1000 + number},
    }  # fmt: skip


def recorded(steps: int = 20, end: str = "finished", every_s: float = 2.0) -> tuple[Run, list[bytes]]:
    """A run of which every step took two seconds; a night lies after step 10."""
    run = create(Recipe(preset="minute"), name="r")
    records: list[dict[str, Any]] = [
        {"v": 1, "t": BEGAN, "kind": "resumed", "from_step": 0, "attempt": 1},
        {"v": 1, "t": BEGAN, "kind": "started", "device": {"type": "cpu"}},
        {"v": 1, "t": BEGAN, "kind": "plan", "total_steps": steps},
    ]
    night = 0.0
    for number in range(1, steps + 1):
        records.append(step(number, BEGAN + number * every_s + night))
        night = 30_000.0 if number >= 10 else 0.0
    if end:
        t = BEGAN + steps * every_s + night
        records.append({"v": 1, "t": t, "kind": "end", "state": end, "step": steps, "seconds": 40.0})
    lines = [json.dumps(record).encode() + b"\n" for record in records]
    run.events_path.write_bytes(b"".join(lines))
    return run, lines


def everything(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def clock() -> Iterator[Clock]:
    yield Clock()


def test_records_are_replayed_at_the_given_speed(clock: Clock) -> None:
    run, lines = recorded()
    before = everything(run.path)
    with Replay(run, 10.0, clock=clock) as playing:
        place = playing.run.path.parent
        assert stat.S_IMODE(place.stat().st_mode) == 0o700 and playing.run.id == run.id
        assert playing.run.recipe() == run.recipe()
        watcher = Watcher(playing.run)
        playing.advance()
        watcher.read_all()
        assert watcher.state.total_steps == 20 and watcher.state.step == 0 and watcher.status == "starting"
        clock.go(playing, 1.0)  # ten seconds of the recording: five steps
        state = watcher.read_all()
        assert state.step == 5 and watcher.status == "running" and state.eta_s == 30.0
        assert playing.now() == pytest.approx(BEGAN + 10.0, abs=0.11)
        assert state.updated_at == BEGAN + 10.0, "times are those of the recording"
        assert cost_so_far(state, watcher.status, now=playing.now()).seconds == pytest.approx(10.0, abs=0.11)
        clock.go(playing, 0.1)
        assert playing.now() == pytest.approx(BEGAN + 11.0, abs=0.11), "between two records it goes on"
        clock.go(playing, 0.9 + 3.0)  # the night takes three seconds at ten times: thirty of it
        assert 10 <= watcher.read_all().step <= 11
        clock.go(playing, 2.1)
        state = watcher.read_all()
        assert watcher.status == "finished" and playing.ended and state.loss.values[-1] == 4.0 / 20
        assert playing.run.events_path.read_bytes() == b"".join(lines), "to the last byte"
        assert playing.now() == pytest.approx(BEGAN + 30_040.0)
    assert everything(run.path) == before and not place.exists()


def test_speed_changes_and_pauses_take_effect(clock: Clock) -> None:
    run, _ = recorded()
    with Replay(run, 1.0, clock=clock) as playing:
        watcher = Watcher(playing.run)
        clock.go(playing, 4.1)
        assert watcher.read_all().step == 2 and playing.label == "REPLAY ×1"
        assert [playing.faster(1), playing.faster(1), playing.faster(-1)] == [2.0, 5.0, 2.0]
        clock.go(playing, 2.0)
        assert watcher.read_all().step == 4
        asked = commands.send(playing.run, "pause")
        clock.go(playing, 30.0)
        state = watcher.read_all()
        assert state.step == 4 and watcher.status == "paused" and asked in state.acknowledged
        held = playing.now()
        clock.go(playing, 5.0)
        assert playing.now() == held, "the recording's clock stands, too"
        commands.send(playing.run, "continue")
        clock.go(playing, 1.1)
        assert watcher.read_all().step == 5 and watcher.status == "running"
        clock.now += 3600.0  # a lab that was suspended for an hour
        playing.advance()
        assert watcher.read_all().step == 6, "counts for one tick"


def test_stop_ends_the_replay_and_other_commands_have_no_effect(clock: Clock) -> None:
    run, _ = recorded()
    before = everything(run.path)
    with Replay(run, 10.0, clock=clock) as playing:
        watcher = Watcher(playing.run)
        clock.go(playing, 0.5)
        commands.send(playing.run, "checkpoint")
        clock.go(playing, 0.1)
        assert any(
            "this is a replay: checkpoint" in wording.sentence(event) for event in watcher.read_all().feed
        )
        commands.send(playing.run, "stop")
        clock.go(playing, 5.0)
        state = watcher.read_all()
        assert watcher.status == "stopped" and playing.ended and state.step < 20
        assert "the run itself is unchanged" in state.end.message
    assert everything(run.path) == before


def test_recorded_pauses_are_skipped_by_continue(clock: Clock) -> None:
    run, lines = recorded()
    told = [{"v": 1, "t": BEGAN + 4.0, "kind": "paused", "step": 2},
            {"v": 1, "t": BEGAN + 24.0, "kind": "continued", "step": 2}]  # fmt: skip
    run.events_path.write_bytes(
        b"".join(lines[:5]) + b"".join(json.dumps(one).encode() + b"\n" for one in told) + b"".join(lines[5:])
    )
    with Replay(run, 1.0, clock=clock) as playing:
        watcher = Watcher(playing.run)
        clock.go(playing, 5.0)
        assert watcher.read_all().paused and watcher.status == "paused"
        commands.send(playing.run, "continue")
        clock.go(playing, 0.2)
        assert not watcher.read_all().paused


def test_a_replay_starts_at_a_step(clock: Clock) -> None:
    run, lines = recorded()
    with Replay(run, 10.0, from_step=15, clock=clock) as playing:
        watcher = Watcher(playing.run)
        assert watcher.read_all().step == 14 and not watcher.state.end
        clock.go(playing, 0.1)
        assert watcher.read_all().step == 15
        clock.go(playing, 10)
        assert playing.run.events_path.read_bytes() == b"".join(lines)
    with pytest.raises(LabError, match="its last one is 20"):
        Replay(run, 10.0, from_step=21, clock=clock)


def test_a_crashed_run_is_replayed_to_its_crash(clock: Clock) -> None:
    run, lines = recorded(end="")
    damaged = b"".join(
        [*lines[:6], b'{"half a rec\n', b"\x00\xff\n", b"[]\n", b"\n", *lines[6:12], b'{"v":1,"t']
    )
    run.events_path.write_bytes(damaged)
    run.recipe_path.write_text("model = [")
    run.log_path.write_text("Killed\n")
    (run.path / "retention").mkdir()
    (run.path / "retention" / "everyday.json").write_text('{"a": 1}')
    with Replay(run, 100.0, clock=clock) as playing:
        watcher = Watcher(playing.run)
        playing.advance()
        assert watcher.recipe is None and "recipe.toml" in watcher.problem
        assert playing.run.log_tail() == [] and not (playing.run.path / "retention").exists()
        clock.go(playing, 3.0)
        assert watcher.read_all().step == 9 and watcher.status == "crashed"
        assert playing.run.log_tail() == ["Killed"]
        assert (playing.run.path / "retention" / "everyday.json").is_file()
        assert playing.run.events_path.read_bytes() == damaged[: damaged.rindex(b"\n") + 1]


def test_impossible_times_do_not_delay_the_replay(clock: Clock) -> None:
    run, _ = recorded()
    times: list[Any] = [BEGAN, BEGAN + 1, BEGAN - 9e8, "x", None, 1e300, -1, float("nan"), True, BEGAN + 3]
    records = [{"v": 1, "t": t, "kind": "warning", "text": str(n)} for n, t in enumerate(times)]
    run.events_path.write_text("".join(json.dumps(record) + "\n" for record in records))
    with Replay(run, 100.0, clock=clock) as playing:
        clock.go(playing, 1.0)
        assert playing.ended and playing.run.events_path.read_bytes() == run.events_path.read_bytes()
        assert Watcher(playing.run).read_all().warnings == ["0", "1", "2", "5", "6", "9"]
        assert BEGAN - 9e8 <= playing.now() <= BEGAN + 3


def test_a_long_log_is_replayed_in_portions(clock: Clock) -> None:
    run, _ = recorded()
    records = [step(number, BEGAN) for number in range(1, replay.MOST_RECORDS_A_TICK + 2)]
    run.events_path.write_text("".join(json.dumps(record) + "\n" for record in records))
    with Replay(run, 1.0, clock=clock) as playing:
        assert [playing.advance() for _ in range(3)] == [replay.MOST_RECORDS_A_TICK, 1, 0]


def test_a_deleted_folder_ends_the_replay_with_a_sentence(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, _ = recorded()
    playing = Replay(run, 10.0, clock=clock)
    playing._log.close()
    monkeypatch.setattr(playing, "_log", open("/dev/full", "ab", buffering=0))  # noqa: SIM115, PTH123
    clock.go(playing, 1.0)
    assert playing.ended and "the replay ended: No space left" in playing.problem
    playing.close()
    playing.close()


def test_runs_that_cannot_be_replayed_are_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    run, _ = recorded()
    lock = RunLock.take(run)
    assert main.main(["replay", "latest"]) == options.EXIT_USAGE
    assert "is in progress" in capsys.readouterr().err
    lock.release()
    for speed in ("0", "-1", "nan", "1e9"):
        assert main.main(["replay", "latest", f"--speed={speed}"]) == options.EXIT_USAGE
        assert "times real time" in capsys.readouterr().err
    assert main.main(["replay", "latest"]) == options.EXIT_USAGE
    assert "needs a terminal" in capsys.readouterr().err
    run.recipe_path.unlink()
    assert replay.find(str(run.path)).path == run.path, "a folder with nothing but a log"
    with pytest.raises(LabError, match="there are no runs in"):
        replay.find(run.id)
    with pytest.raises(LabError, match="no event log"):
        replay.find(create(Recipe(), name="empty").id)
