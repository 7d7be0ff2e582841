"""``tui-lab queue`` and ``tui-lab sweep`` as people and scripts use them; the runner of the queue and the
runs (tests/fake_worker: real logs without a model) are processes."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.helpers import lab
from tests.models.fake_hub import HUB_ID, serve
from tui_lab.pocket import MODEL_DIR
from tui_lab.runs import folder
from tui_lab.runs.folder import is_locked
from tui_lab.runs.queue import queue
from tui_lab.runs.state import Watcher


@pytest.fixture(autouse=True)
def own_places(
    runs_dir: Path, tmp_path: Path, fake_worker: None, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("FAKE_STEP_S", "0.001")
    yield
    queue.hold(runs_dir)
    for run in folder.list_runs(runs_dir):
        if is_locked(run) and (started := Watcher(run).read_all().started) and (pid := started.pid):
            os.kill(int(pid), signal.SIGKILL)


def test_a_sweep_from_the_grid_to_its_table(runs_dir: Path) -> None:
    done = lab("train", "--sweep", "learning_rate=1e-4,2e-4", "lora_r=8,16", "--set", "max_steps=4", "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["kind"] == "queued" and answer["items"] == answer["runs"]
    assert [run["values"] for run in answer["runs"]] == [
        {"learning_rate": rate, "lora_r": r} for rate in (1e-4, 2e-4) for r in (8, 16)
    ]
    deadline = time.monotonic() + 60
    while any(item.state in ("queued", "running") for item in queue.items(runs_dir)):
        assert time.monotonic() < deadline, lab("queue", "list").stdout
        time.sleep(0.1)
    listed = json.loads(lab("queue", "list", "--json").stdout)
    assert [run["state"] for run in listed["runs"]] == ["done"] * 4
    assert [run["sweep"] for run in listed["runs"]] == [answer["sweep"]] * 4

    table = lab("sweep", answer["sweep"][-4:])
    lines = table.stdout.splitlines()
    assert "learning_rate" in lines[0] and "peak memory" in lines[0] and len(lines) == 5
    assert sum(line.startswith("★") for line in lines) == 1
    assert "best: lowest validation loss" in table.stderr
    result = json.loads(lab("sweep", "--json", "--by", "acquisition").stdout)
    assert result["kind"] == "sweep" and result["items"] == result["runs"]
    assert result["criterion"] == "best: highest acquisition"
    assert result["best"] in [run["run"] for run in result["runs"]]
    assert result["runs"][0]["peak_memory_bytes"] == 2_000_000
    assert [folder.Run(runs_dir / run["run"]).recipe().lora_r for run in result["runs"]] == [8, 16, 8, 16]

    assert "4 removed" in lab("queue", "remove", "--ended").stdout
    assert len(folder.list_runs(runs_dir)) == 4, "the runs stay"


def test_all_mistakes_of_all_combinations_and_nothing_is_queued(runs_dir: Path, tmp_path: Path) -> None:
    wrong = lab(
        "queue", "add", "--sweep", "learning_rate=1e-4,5", "lora_r=0,8",
        "--data", str(tmp_path / "gone.jsonl"), "--set", "probe_suite=everday",
    )  # fmt: skip
    assert wrong.returncode == 2 and wrong.stdout == ""
    assert "4 mistakes, nothing was queued" in wrong.stderr
    assert "There is no suite or file everday. Did you mean everyday?" in wrong.stderr
    for part in ("learning_rate = 5.0", "lora_r = 0", "gone.jsonl"):
        assert part in wrong.stderr
    assert wrong.stderr.count("lora_r = 0:") == 1, "said once, though it concerns two combinations"
    both = lab("queue", "add", "--sweep", "seed=1,2", "--set", "seed=3")
    assert "seed is both set and swept" in both.stderr
    assert queue.items(runs_dir) == []


def test_held_listed_removed_started(runs_dir: Path) -> None:
    empty = lab("queue", "list")
    assert (empty.returncode, empty.stdout) == (0, "") and "queue add" in empty.stderr
    first = lab("queue", "add", "--hold", "--set", "max_steps=3", "--name", "first")
    assert first.returncode == 0 and "the queue is held" in first.stderr
    assert lab("train", "--queue", "--set", "max_steps=3", "--name", "second").returncode == 0
    listed = lab("queue", "list")
    assert listed.stdout.count("queued") == 2 and "2 runs wait; the queue is held" in listed.stderr
    assert lab("queue", "remove", "first").returncode == 0
    assert lab("queue", "remove", "first").returncode == 2
    assert "name the runs" in lab("queue", "remove").stderr
    assert "there is no GPU '5' here" in lab("queue", "start", "--devices", "5").stderr
    started = lab("queue", "start", "--workers", "2").stdout.splitlines()
    assert [line.split(", ")[0] for line in started[:2]] == ["worker 1: main memory", "worker 2: main memory"]
    assert "1 of 1 waiting runs fit, the largest needs" in started[0] and "1 run waits" in started[2]
    deadline = time.monotonic() + 60
    while [item.state for item in queue.items(runs_dir)] != ["done"]:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    stopped = json.loads(lab("queue", "stop", "--json").stdout)
    assert stopped["held"] is True and stopped["done"] == 1
    assert "second" in folder.list_runs(runs_dir)[0].id


def test_a_dry_run_of_a_sweep_only_checks(runs_dir: Path) -> None:
    done = lab("train", "--dry-run", "--sweep", "seed=1,2,3")
    assert done.stdout.splitlines() == [
        "3 runs could be queued; nothing was started", "  seed=1", "  seed=2", "  seed=3",
    ]  # fmt: skip
    assert queue.items(runs_dir) == []


def test_without_a_sweep_it_says_how_to_make_one() -> None:
    done = lab("sweep", "nope")
    assert done.returncode == 2 and "tui-lab train --sweep" in done.stderr


def test_a_model_that_the_hub_refuses_is_neither_queued_nor_started(
    runs_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offline = lab("queue", "add", "--model", "someone/tiny")
    assert offline.returncode != 0 and "the hub cannot be reached" in offline.stderr
    with serve(MODEL_DIR, tmp_path / "hub", monkeypatch) as hub:
        hub.status, hub.error_code = 403, "GatedRepo"
        for command in (("queue", "add"), ("train",), ("train", "--sweep", "lora_r=8,16")):
            refused = lab(*command, "--model", HUB_ID)
            assert refused.returncode != 0 and "it is gated: accept its licence" in refused.stderr
        assert not queue.items(runs_dir) and not folder.list_runs(runs_dir)
        hub.status = 200
        added = lab("queue", "add", "--model", HUB_ID, "--hold")
        assert added.returncode == 0, added.stderr
        assert f"{HUB_ID}: 8." in added.stderr and "MiB to download" in added.stderr
        assert [item.state for item in queue.items(runs_dir)] == ["queued"]
        assert not any(request.startswith("GET /lab") for request in hub.requests)
