"""Whole runs: folders, events, commands, crashes and resumes; as processes where the process is the
subject."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.records import read_log
from tests.training.conftest import VOCABULARY
from tui_lab.recipes.recipe import build
from tui_lab.runs import commands, folder, launch
from tui_lab.runs.state import ENDED, Watcher

DEADLINE_S = 240.0


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """A text file of sixty lines with a rule: each word is the one before plus seven."""
    path = tmp_path / "counting.txt"
    lines = [" ".join(f"w{3 + (start + i * 7) % (VOCABULARY - 3)}" for i in range(14)) for start in range(60)]
    path.write_text("\n\n".join(lines), encoding="utf-8")
    return path


@pytest.fixture
def make_run(tiny_llama: Path, texts: Path, tmp_path: Path) -> Callable[..., folder.Run]:
    def make(**values: Any) -> folder.Run:
        recipe = build(
            {
                "model": str(tiny_llama),
                "data": str(texts),
                "max_length": 32,
                "max_steps": 12,
                "eval_steps": 4,
                "learning_rate": 1e-2,
                "per_device_train_batch_size": 8,
                "gradient_accumulation_steps": 1,
                "sample_max_new_tokens": 4,
                "probe_share": 0.0,  # tests/training/test_probe.py has runs that are probed
                **values,
            }
        )
        return folder.create(recipe, tmp_path / "runs")

    return make


def until(run: folder.Run, condition: Callable[[Watcher], Any]) -> Watcher:
    """Watches a run until a condition holds; fails with the end of its log when it does not."""
    watcher, deadline = Watcher(run), time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        watcher.read_all()
        if condition(watcher):
            return watcher
        if not folder.is_locked(run):
            watcher.read_all()
            if condition(watcher):
                return watcher
            break
        time.sleep(0.05)
    raise AssertionError(f"{watcher.state.phase}, step {watcher.state.step}: {run.log_tail()}")


def ended(watcher: Watcher) -> bool:
    return watcher.status in ENDED and not folder.is_locked(watcher.run)


def run_in_process(run: folder.Run) -> Watcher:
    """Trains a run in this process: for tests whose subject is not the process."""
    from tui_lab.runs.events import EventWriter
    from tui_lab.training.attempt import open_attempt, run_attempt

    assert run_attempt(open_attempt(run, EventWriter(run.events_path))) == 0
    watcher = Watcher(run)
    watcher.read_all()
    return watcher


def kinds(run: folder.Run) -> list[str]:

    return [event["kind"] for event in read_log(run.events_path)]


#: Loaded by an interpreter before anything else: writes down every address that the process looks up or
#: connects to.
SOCKET_HOOK = """
import os, sys
def note(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto", "socket.gethostbyname"):
        address = arguments[1] if event in ("socket.connect", "socket.sendto") else arguments[0]
        with open(os.environ["SOCKET_NOTES"], "a") as file:
            file.write(f"{event} {address!r}\\n")
sys.addaudithook(note)
"""


@pytest.fixture
def connections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file with the connections of the interpreters that this test starts; the hook is seen to work."""
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(SOCKET_HOOK)
    notes = tmp_path / "connections.txt"
    path = [str(tmp_path / "hook"), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path))
    monkeypatch.setenv("SOCKET_NOTES", str(notes))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    program = "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(('127.0.0.1', 9))"
    subprocess.run([sys.executable, "-c", program], check=True)
    assert notes.read_text() == "socket.connect ('127.0.0.1', 9)\n"
    notes.write_text("")
    return notes


def test_a_run_from_recipe_to_adapter(
    make_run: Callable[..., folder.Run], cold_start: None, connections: Path
) -> None:
    run = make_run(quantization="nf4")
    launch.start(run)
    assert folder.is_locked(run)  # from the first instant, before the process has done anything
    state = until(run, ended).state
    assert state.end.state == "finished", run.log_tail()
    assert state.loss.steps == list(range(1, 13))
    assert state.validation.steps == [0, 4, 8, 12]
    assert state.validation.values[-1] < state.validation.values[0] - 0.1
    assert state.end.validation_loss == state.validation.last
    assert state.model.quantized_modules == 14
    assert state.model.modules == {"Linear4bit": 14, "Linear": 1}
    assert state.plan.total_steps == 12
    assert state.last_step.tokens > 0 and state.last_step.tok_per_s > 0
    assert state.peak_memory["resident"] > 50e6
    # four operations a weight of blocks and output layer, six a weight of the adapter, and little else
    least = 4 * 73_728 + 6 * state.model.trainable
    assert least < state.plan.cost.flops_per_token < 1.1 * (least + 4 * 320 * 64)
    assert state.end.flops_per_token == state.plan.cost.flops_per_token
    assert state.end.mfu is None and state.end.energy_j is None  # unknown without a GPU
    assert [sample.step for sample in state.samples] == [0, 4, 8, 12]
    names = {path.name for path in run.adapter_path.iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json"} <= names
    readable = [path for path in run.path.rglob("*") if path.stat().st_mode & 0o077]
    assert run.path.stat().st_mode & 0o777 == 0o700 and not readable
    assert connections.read_text() == ""  # nothing was sent to anyone, telemetry included
    assert not list(run.path.rglob("training_args.bin"))
    assert kinds(run)[0] == "resumed" and kinds(run)[-2:] == ["telemetry", "end"]
    assert state.telemetry.seconds > 0 and state.telemetry.resident.peak > 50e6 and not state.telemetry.gpus
    assert state.telemetry.resident.steps[-1] == 12


def test_full_tuning_leaves_a_model(make_run: Callable[..., folder.Run]) -> None:
    from transformers import AutoModelForCausalLM

    run = make_run(method="full", learning_rate=1e-3)
    state = run_in_process(run).state
    assert state.end.state == "finished", run.log_tail()
    model = AutoModelForCausalLM.from_pretrained(run.model_path)
    assert state.model.trainable == state.model.parameters == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("init", ["pissa", "olora"])
def test_saved_pissa_adapter_fits_the_original_base(
    make_run: Callable[..., folder.Run], tiny_llama: Path, init: str
) -> None:
    import peft
    from transformers import AutoModelForCausalLM, AutoTokenizer

    run = make_run(init_lora_weights=init, lora_r=4)
    watcher = run_in_process(run)
    assert watcher.state.end.state == "finished", run.log_tail()
    base = AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.float32)
    model = peft.PeftModel.from_pretrained(base, run.adapter_path).eval()
    tokenizer = AutoTokenizer.from_pretrained(run.adapter_path)
    total, tokens = 0.0, 0
    from tui_lab.data import formats
    from tui_lab.data.prepare import Preparation, prepare

    recipe = run.recipe()
    validation = prepare(
        formats.open_data(recipe.data), tokenizer, Preparation(recipe.max_length, seed=recipe.seed)
    ).validation
    for row in validation:
        ids, labels = torch.tensor([row["input_ids"]]), torch.tensor([row["labels"]])
        count = int((labels[:, 1:] != -100).sum())
        with torch.no_grad():
            total += float(model(input_ids=ids, labels=labels).loss) * count
        tokens += count
    assert total / tokens == pytest.approx(watcher.state.end.validation_loss, abs=2e-3)


def test_pause_checkpoint_continue_stop_and_resume(make_run: Callable[..., folder.Run]) -> None:
    run = make_run(max_steps=4000, eval_steps=2000, sample_steps=2000)
    process = launch.start(run)
    until(run, lambda w: w.state.step >= 2)
    commands.send(run, "pause")
    watcher = until(run, lambda w: w.status == "paused")
    held_at = watcher.state.step
    time.sleep(0.6)
    assert watcher.read_all().step == held_at
    commands.send(run, "checkpoint")
    until(run, lambda w: w.state.checkpoints)
    commands.send(run, "continue")
    until(run, lambda w: w.state.step > held_at)
    assert watcher.read_all().end is None
    commands.send(run, "stop")
    state = until(run, ended).state
    assert process.wait(timeout=30) == 0
    assert state.end.state == "stopped" and "resumed" in state.end.message
    assert (run.adapter_path / "adapter_model.safetensors").is_file()
    assert len(state.acknowledged) == 4
    stopped_at = state.step

    launch.start(run)
    commands.send(run, "pause")  # while it still loads: meant for this attempt
    until(run, lambda w: w.state.attempt == 2 and w.status == "paused")
    commands.send(run, "continue")
    resumed = until(run, lambda w: w.state.attempt == 2 and w.state.step > stopped_at + 1)
    assert resumed.state.loss.steps == list(range(1, resumed.state.step + 1))
    commands.send(run, "stop")
    assert until(run, ended).state.end.state == "stopped"


def test_killed_run_resumes_to_the_same_losses(
    make_run: Callable[..., folder.Run],
) -> None:
    values = {"lora_dropout": 0.2, "max_steps": 30, "eval_steps": 5, "sample_steps": 30}
    uninterrupted = make_run(**values)
    launch.start(uninterrupted)
    run = make_run(**values)
    process = launch.start(run)
    until(run, lambda w: w.state.step >= 12)
    process.kill()
    process.wait()
    watcher = Watcher(run)
    watcher.read_all()
    if watcher.status != "finished":  # the kill came in time
        assert watcher.status == "crashed"
        launch.start(run)
    state = until(run, ended).state
    undisturbed = until(uninterrupted, ended).state
    assert state.loss.values == undisturbed.loss.values
    assert state.validation.values == undisturbed.validation.values


def test_sigterm_stops_and_sighup_does_not(make_run: Callable[..., folder.Run]) -> None:
    run = make_run(max_steps=4000, eval_steps=4000, sample_steps=4000)
    process = launch.start(run)
    until(run, lambda w: w.state.step >= 1)
    os.kill(process.pid, signal.SIGHUP)
    step = Watcher(run).read_all().step
    until(run, lambda w: w.state.step > step)
    os.kill(process.pid, signal.SIGTERM)
    assert until(run, ended).state.end.state == "stopped"


def test_early_stopping_saves_the_best_weights(make_run: Callable[..., folder.Run]) -> None:
    """A rate that destroys: the validation loss rises at once, and the first state is the best."""
    run = make_run(
        max_steps=60,
        eval_steps=2,
        early_stopping_patience=2,
        learning_rate=1.0,
        warmup_steps=0,
        max_grad_norm=0.0,
        optim="sgd",
    )
    state = run_in_process(run).state
    assert state.end.state == "finished", run.log_tail()
    if state.step < 60:
        assert "best at step" in state.end.message
    assert state.end.validation_loss == pytest.approx(min(state.validation.values[1:]), rel=1e-4)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"data": "/nowhere/rows.jsonl"}, "rows.jsonl"),
        ({"model": "nobody/no-such-model"}, "no-such-model"),
    ],
)
def test_impossible_runs_end_with_one_sentence(
    make_run: Callable[..., folder.Run], values: dict[str, Any], sentence: str
) -> None:
    run = make_run(**values)
    assert launch.start(run).wait(timeout=DEADLINE_S) == 1
    state = Watcher(run).read_all()
    assert state.end.state == "failed"
    assert sentence in state.end.message and "Traceback" not in state.end.message
