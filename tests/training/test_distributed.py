"""A run on several devices: here two processes on the CPU that talk over gloo. The same rows a step, the same
losses and tokens as one process with the same effective batch; one log; one will."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.records import read_log
from tests.training.test_attempt import ended, kinds, make_run, texts, until  # noqa: F401 (fixtures)
from tui_lab.runs import checkpoints, commands, folder, launch
from tui_lab.training import distributed, launch_distributed


def test_single_process_sends_nothing() -> None:
    alone = distributed.ProcessGroup()
    assert alone.is_main and alone.size == 1
    assert alone.broadcast("x") == "x" and alone.all_gather(3) == [3]


def test_launcher_arguments() -> None:
    from accelerate.commands import launch as accelerates

    parser = accelerates.launch_command_parser()
    found = parser.parse_args(launch_distributed.arguments("the-run", 3, ""))
    assert (found.num_processes, found.num_machines, found.multi_gpu) == (3, 1, True)
    assert (found.module, found.training_script) == (True, "tui_lab.training")
    assert found.training_script_args == ["the-run"]
    found = parser.parse_args(launch_distributed.arguments("the-run", 1, "machines.yaml"))
    assert (found.config_file, found.num_processes) == ("machines.yaml", None)
    assert parser.parse_args(launch_distributed.arguments("r", 8, "machines.yaml")).num_processes == 8


def test_output_of_other_processes_is_prefixed(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as file:
        stream = distributed.PrefixedStream(file, "[process 1] ")
        stream.write("one\ntw")
        stream.write("o\n")
    assert (tmp_path / "log").read_text() == "[process 1] one\n[process 1] two\n"


def test_exit_reason_of_another_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = folder.Run(tmp_path)
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert distributed.exit_reason_of_others(run, 0) == ""
    distributed.write_exit_reason(run, 2, "LabError: no room")
    assert distributed.exit_reason_of_others(run) == "process 2 of 3: LabError: no room"
    distributed.write_exit_reason(run, 2, "")
    assert distributed.exit_reason_of_others(run, 0) == ""
    assert distributed.is_lost_connection(
        RuntimeError("[…/gloo/transport/tcp/pair.cc] Connection closed by peer")
    )
    assert not distributed.is_lost_connection(ValueError("shapes differ"))


def children(pid: int) -> list[int]:
    """The pids of a run's own processes below their launcher."""
    return [one.pid for one in psutil.Process(pid).children() if "tui_lab.training" in one.cmdline()]


def test_two_processes(make_run: Callable[..., folder.Run]) -> None:  # noqa: F811
    # 48 rows to train on: accelerate fills a last step up with rows that were there already
    values: dict[str, Any] = {"max_steps": 12, "eval_steps": 4, "sample_steps": 12, "lora_dropout": 0.0}
    values["validation_fraction"] = 0.2
    one = make_run(per_device_train_batch_size=8, **values)
    launch.start(one)
    two = make_run(per_device_train_batch_size=4, num_processes=2, **values)
    process = launch.start(two)

    # one will: both hold after the same step, save it, and go on
    commands.send(two, "pause")
    until(two, lambda w: w.status == "paused")
    pids = children(process.pid)
    assert len(pids) == 2
    for pid in (process.pid, *pids):
        os.kill(pid, signal.SIGHUP)  # a hang-up ends none of them
    commands.send(two, "checkpoint")
    commands.send(two, "continue")
    state, expected = until(two, ended).state, until(one, ended).state
    assert state.end.state == expected.end.state == "finished", two.log_tail()

    assert state.loss.steps == expected.loss.steps
    assert state.loss.values == pytest.approx(expected.loss.values, rel=2e-4)
    assert state.validation.values == pytest.approx(expected.validation.values, rel=2e-4)
    assert state.grad_norm.values == pytest.approx(expected.grad_norm.values, rel=5e-3)
    assert state.learning_rate.values == expected.learning_rate.values
    assert state.last_step.tokens == expected.last_step.tokens
    assert state.total_steps == 12
    assert [sample.text for sample in state.samples] == [sample.text for sample in expected.samples]

    # one log, with the memory of each
    assert kinds(two).count("resumed") == kinds(two).count("end") == 1
    steps = [event for event in read_log(two.events_path) if event["kind"] == "step"]
    assert [len(step["devices"]) for step in steps] == [2] * 12
    assert all(step["memory"]["resident"] == max(d["resident"] for d in step["devices"]) for step in steps)
    assert {c["outcome"].split()[0] for c in read_log(two.events_path) if c["kind"] == "command"}
    assert checkpoints.find(two.checkpoints_path).chosen is not None
    assert (checkpoints.find(two.checkpoints_path).chosen / "rng_state_1.pth").is_file()  # type: ignore[operator]
    process.wait(timeout=60)


def test_one_process_dies(make_run: Callable[..., folder.Run]) -> None:  # noqa: F811
    run = make_run(
        num_processes=2, per_device_train_batch_size=4, max_steps=4000, eval_steps=2000, sample_steps=2000
    )
    process = launch.start(run)
    until(run, lambda w: w.state.step >= 3)
    main = int(until(run, lambda w: w.state.started).state.started.pid)
    [other] = [pid for pid in children(process.pid) if pid != main]
    os.kill(other, signal.SIGKILL)
    watcher = until(run, ended)
    assert watcher.status == "failed"
    assert "another process of this run ended" in watcher.state.end.message, run.log_tail()
    assert process.wait(timeout=60) == 1
    time.sleep(0.1)
    assert not folder.is_locked(run)
