"""The queue's process with real run processes: one after the other, whatever becomes of each, and whatever
becomes of the runner."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tui_lab.hardware.cuda_support import GPUS_ENV
from tui_lab.recipes.recipe import Recipe
from tui_lab.runs import commands, folder, launch
from tui_lab.runs.folder import Run, RunLock, is_locked
from tui_lab.runs.queue import queue, workers
from tui_lab.runs.queue import runner as runner_module
from tui_lab.runs.queue.runner import Runner
from tui_lab.runs.state import Watcher


@pytest.fixture
def directory(runs_dir: Path, fake_worker: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of runs whose processes are tests/fake_worker; nothing is left running."""
    monkeypatch.setenv("FAKE_STEP_S", "0.01")
    yield runs_dir
    stop_all(runs_dir)


class ThreadRunner:
    """As much of the queue's process as its starters use, in a thread."""

    def __init__(self, directory: Path, descriptor: int) -> None:
        self._thread = threading.Thread(target=Runner(directory, descriptor).go, daemon=True)
        self._thread.start()

    def wait(self, timeout: float) -> int:
        self._thread.join(timeout)
        assert not self._thread.is_alive()
        return 0


class Opener:
    """Stands in for the module ``subprocess`` in ``queue``."""

    DEVNULL, STDOUT = subprocess.DEVNULL, subprocess.STDOUT

    @staticmethod
    def Popen(arguments: list[str], *, pass_fds: tuple[int], **_: object) -> ThreadRunner:
        return ThreadRunner(Path(arguments[-2]), os.dup(pass_fds[0]))


@pytest.fixture
def runner_in_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """The queue's runner in this process, at once instead of after half a second."""
    monkeypatch.setattr(queue, "subprocess", Opener)
    monkeypatch.setattr(runner_module, "POLL_S", 0.03)
    monkeypatch.setattr(runner_module, "OTHERS_POLL_S", 0.05)


def stop_all(directory: Path) -> None:
    queue.hold(directory)
    for run in folder.list_runs(directory):
        if is_locked(run) and (started := Watcher(run).read_all().started) and (pid := started.pid):
            os.kill(int(pid), signal.SIGKILL)


def until(condition: Callable[[], object], what: str, seconds: float = 40) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"after {seconds} s: {what}")
        time.sleep(0.03)


def states(directory: Path) -> list[str]:
    return [item.state for item in queue.items(directory)]


def start(directory: Path) -> subprocess.Popen[bytes]:
    child = queue.start_runner(directory)
    assert child is not None
    return child


def began(run: Run, directory: Path) -> float:
    return Watcher(Run(directory / run.id)).read_all().started_at


def test_runs_are_executed_in_order_and_the_runner_exits(directory: Path) -> None:
    runs = queue.add([Recipe(max_steps=8), Recipe(max_steps=4), Recipe(max_steps=4)], directory)
    child = start(directory)
    assert queue.is_running(directory), "from before its first instruction"
    assert queue.start_runner(directory) is None, "exactly one goes"
    assert os.getsid(child.pid) == child.pid != os.getsid(0), "a session of its own"
    until(lambda: states(directory) == ["done"] * 3, "all are done")
    assert child.wait(timeout=20) == 0
    assert not queue.is_running(directory)
    ends = [Watcher(Run(directory / run.id)).read_all().updated_at for run in runs]
    starts = [began(run, directory) for run in runs]
    assert all(end < start for end, start in zip(ends, starts[1:], strict=False)), "never two at once"
    assert [run.path.name for run in folder.list_runs(directory)] == sorted(
        (run.id for run in runs), reverse=True
    )


def test_a_crash_and_a_stop_do_not_end_the_queue(
    directory: Path, runner_in_thread: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_END", "crash")
    queue.add([Recipe(max_steps=4)], directory)
    child = start(directory)
    until(lambda: states(directory) == ["failed"], "it crashed")
    assert child.wait(timeout=20) == 0
    assert queue.items(directory)[0].reason, "and says why"
    monkeypatch.delenv("FAKE_END")
    stopped, _ = queue.add([Recipe(max_steps=10_000), Recipe(max_steps=2)], directory)
    child = start(directory)
    until(lambda: states(directory) == ["failed", "running", "queued"], "the next one goes")
    until(lambda: Watcher(Run(directory / stopped.id)).read_all().step > 0, "it trains")
    commands.send(Run(directory / stopped.id), "stop")
    until(lambda: states(directory) == ["failed", "done", "done"], "and the one after the stopped one")
    assert [item.outcome for item in queue.items(directory)] == ["crashed", "stopped", "finished"]
    child.wait(timeout=20)


def test_a_restarted_runner_continues_the_queue(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_STEP_S", "0.05")
    first, second = queue.add([Recipe(max_steps=40), Recipe(max_steps=2)], directory)
    child = start(directory)
    until(lambda: states(directory)[0] == "running", "the first goes")
    child.kill()
    child.wait()
    assert not queue.is_running(directory)
    assert states(directory) == ["running", "queued"], "the run outlives the queue's process"
    again = start(directory)
    until(lambda: states(directory) == ["done", "done"], "the second began after the first")
    again.wait(timeout=20)
    assert Watcher(Run(directory / first.id)).read_all().attempt == 1, "and the first ran once"
    assert began(second, directory) > Watcher(Run(directory / first.id)).read_all().updated_at


def test_a_run_started_by_hand_ends_first(directory: Path, runner_in_thread: None) -> None:
    by_hand = folder.create(Recipe(max_steps=10_000), directory)
    child = launch.start(by_hand)
    queue.add([Recipe(max_steps=2)], directory)
    runner = start(directory)
    until(lambda: "started outside the queue" in queue.describe(directory), "it says what it waits for")
    time.sleep(0.3)  # six looks of the runner
    assert states(directory) == ["queued"]
    queue.release(directory, waits=False)  # unless one wants both at once
    until(lambda: states(directory) == ["done"], "beside the other")
    assert is_locked(by_hand)
    child.kill()
    child.wait()
    runner.wait(timeout=20)


def test_a_held_queue_starts_nothing_and_later_runs_are_executed(
    directory: Path, runner_in_thread: None
) -> None:
    queue.add([Recipe(max_steps=2)], directory)
    queue.hold(directory)
    assert start(directory).wait(timeout=30) == 0
    assert states(directory) == ["queued"]
    queue.release(directory)
    child = start(directory)
    until(lambda: states(directory) == ["done"], "it goes on")
    queue.add([Recipe(max_steps=2)], directory)  # it may be about to leave: then another is started
    queue.start_runner(directory)
    until(lambda: states(directory) == ["done", "done"], "and nothing is left behind")
    child.wait(timeout=20)


def test_a_run_gets_the_gpus_of_the_process_that_added_it(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(GPUS_ENV, "3")
    queue.add([Recipe(max_steps=1)], directory)
    queue.add([Recipe(max_steps=1)], directory, gpus="GPU-1")
    seen: list[str | None] = []

    def start(run: Run, environment: dict[str, str]) -> subprocess.Popen[bytes]:
        seen.append(environment.get(GPUS_ENV))
        return subprocess.Popen(["true"])

    monkeypatch.setattr(launch, "start", start)
    monkeypatch.setenv(GPUS_ENV, "0")
    runner = Runner(directory, os.open(directory, os.O_RDONLY))
    for _ in range(2):
        runner.turn()
        (directory / queue.items(directory)[len(seen) - 1].run.id / "worker.log").write_text("ended")
    assert seen == ["3", "GPU-1"]
    monkeypatch.delenv(GPUS_ENV)
    (third,) = queue.add([Recipe()], directory)
    assert queue.find(third.id, directory).entry.gpus is None


def test_two_workers_execute_each_run_once_and_in_order(directory: Path, runner_in_thread: None) -> None:
    runs = queue.add([Recipe(max_steps=steps) for steps in (10_000, 10_000, 8, 2)], directory)
    queue.release(directory, workers=("cpu", "cpu"))
    child = start(directory)
    until(lambda: states(directory) == ["running", "running", "queued", "queued"], "two at once")
    assert queue.describe(directory) == "2 runs wait, 2 runs are running"
    for run in runs[:2]:
        until(lambda run=run: Watcher(Run(directory / run.id)).read_all().step > 0, "it trains")  # type: ignore[misc]
        commands.send(Run(directory / run.id), "stop")
    until(lambda: states(directory) == ["done"] * 4, "all are done")
    child.wait(timeout=20)
    found = [Watcher(Run(directory / run.id)).read_all() for run in runs]
    assert [state.attempt for state in found] == [1] * 4
    for at in (state.started_at for state in found):
        assert sum(state.started_at <= at < state.updated_at for state in found) <= 2


def test_a_killed_run_is_marked_and_its_worker_goes_on(
    directory: Path, runner_in_thread: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed, _, _ = queue.add(
        [Recipe(max_steps=10_000), Recipe(max_steps=10_000), Recipe(max_steps=2)], directory
    )
    queue.release(directory, workers=("cpu", "cpu"))
    start(directory)
    until(lambda: states(directory) == ["running", "running", "queued"], "two at once")
    until(lambda: (begun := Watcher(Run(directory / killed.id)).read_all().started) and begun.pid, "it began")
    begun = Watcher(Run(directory / killed.id)).read_all().started
    assert begun is not None and begun.pid
    os.kill(int(begun.pid), signal.SIGKILL)
    until(lambda: states(directory) == ["failed", "running", "done"], "its worker has the next one")
    assert queue.items(directory)[0].outcome == "crashed"
    assert queue.describe(directory).startswith("the last run of the queue is running")


def test_each_worker_has_its_device(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Turn by turn, with locks in place of processes and another runner each time."""
    queue.add([Recipe(max_steps=steps) for steps in (1, 2, 3, 4)], directory)
    queue.release(directory, workers=("0", "1", "1", "cpu"))
    seen: list[dict[str, str]] = []
    locks: list[RunLock] = []

    def begin(run: Run, environment: dict[str, str]) -> subprocess.Popen[bytes]:
        seen.append(dict(environment))
        locks.append(RunLock.take(run))
        return subprocess.Popen(["true"])

    monkeypatch.setattr(launch, "start", begin)
    monkeypatch.setattr(workers, "_fits", lambda recipe, device: recipe.max_steps != 1 or device == "1")
    monkeypatch.setattr(workers.cpu, "threads", lambda: 8)
    for _ in range(5):
        Runner(directory, os.open(directory, os.O_RDONLY)).turn()
    assert [each[GPUS_ENV] for each in seen] == ["1", "0", "1", ""], "the first fits on GPU 1 only"
    assert seen[3] == {GPUS_ENV: "", "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "8")}
    assert [item.entry.device for item in queue.items(directory)] == ["1", "0", "1", "cpu"]
    for lock in locks:
        lock.release()


def test_the_queue_can_be_changed_while_a_device_is_chosen(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To other workers: the run then waits for the next turn, which has a device of theirs."""
    queue.add([Recipe(max_steps=1)], directory)
    queue.release(directory, workers=("0",))
    seen: list[str] = []

    def choose(devices: tuple[str, ...], *_: object) -> str:
        queue.release(directory, workers=("1",))  # takes the queue's lock
        return devices[0]

    def begin(_run: Run, environment: dict[str, str]) -> subprocess.Popen[bytes]:
        seen.append(environment[GPUS_ENV])
        return subprocess.Popen(["true"])

    monkeypatch.setattr(workers, "free_device", choose)
    monkeypatch.setattr(launch, "start", begin)
    runner = Runner(directory, os.open(directory, os.O_RDONLY))
    assert runner.turn() > 0 and not seen
    assert runner.turn() > 0 and seen == ["1"]


def test_a_run_that_cannot_be_started_is_failed_with_its_reason(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this process: turn by turn."""
    broken, _ = queue.add([Recipe(max_steps=2), Recipe(max_steps=2)], directory)
    (directory / broken.id).write_text("a file stands in its way")
    runner = Runner(directory, os.open(directory, os.O_RDONLY))
    assert runner.turn() > 0
    item = queue.items(directory)[0]
    assert item.state == "failed" and "cannot be moved" in item.reason
    assert runner.turn() > 0
    until(lambda: states(directory) == ["failed", "done"], "the next one is no worse for it")
    until(lambda: runner.turn() == 0, "and it leaves")
