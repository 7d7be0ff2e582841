"""`tui-lab resume --set`: what changes is said with what it means, and what cannot change is refused before
anything is started. The run process is tests/fake_worker."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.test_main import lab, sentence
from tui_lab.runs import checkpoints, folder
from tui_lab.runs.folder import Run, is_locked


@pytest.fixture
def crashed(fake_worker: None, runs_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run that died at half of its twenty steps, with a checkpoint of step 10."""
    monkeypatch.setenv("FAKE_STEP_S", "0")
    monkeypatch.setenv("FAKE_END", "crash")
    lab("train", "--set", "max_steps=20")
    [run] = folder.list_runs(runs_dir)
    checkpoint = run.checkpoints_path / "checkpoint-10"
    checkpoint.mkdir(parents=True, exist_ok=True)
    (checkpoint / "optimizer.pt").write_bytes(b"states")
    checkpoints.seal(checkpoint)
    monkeypatch.setenv("FAKE_END", "finished")
    return run


def test_a_change_that_matters_is_said_and_used(crashed: Run) -> None:
    before = crashed.recipe()
    done = lab("resume", crashed.id, "--set", "learning_rate=1e-4", "--set", "logging_steps=2")
    assert done.returncode == 0, done.stderr
    assert f"learning_rate: {before.learning_rate:g} → 0.0001; changes the training" in done.stderr
    assert "logging_steps: 1 → 2; no effect on the training" in done.stderr
    assert crashed.recipe() == before.changed(learning_rate=1e-4, logging_steps=2)


def test_nothing_is_said_where_nothing_changes(crashed: Run) -> None:
    before = crashed.recipe_path.read_bytes()
    done = lab("resume", crashed.id, "--set", "max_steps=20")
    assert done.returncode == 0 and "matter" not in done.stderr
    assert crashed.recipe_path.read_bytes() == before


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("lora_r=4", "would not fit"),
        ("seed=3", "held out"),
        ("learning_rat=3", "did you mean learning_rate"),
        ("learning_rate=-1", "must be"),
        ("report_to=wandb", "pip install wandb"),
    ],
)
def test_what_cannot_be_is_refused_before_anything(crashed: Run, setting: str, words: str) -> None:
    before, log = crashed.recipe_path.read_bytes(), crashed.log_path.read_bytes()
    done = lab("resume", crashed.id, "--set", setting)
    assert words in sentence(done)
    assert (crashed.recipe_path.read_bytes(), crashed.log_path.read_bytes()) == (before, log)
    assert not is_locked(crashed)


def test_without_a_checkpoint_everything_may_change(crashed: Run) -> None:
    (crashed.checkpoints_path / "checkpoint-10" / "optimizer.pt").unlink()
    assert lab("resume", crashed.id, "--set", "lora_r=4").returncode == 0
    assert crashed.recipe().lora_r == 4


def test_a_finished_run_goes_on_when_it_is_to_be_longer(crashed: Run) -> None:
    assert lab("resume", crashed.id).returncode == 0
    assert "max_steps" in sentence(lab("resume", crashed.id))
    assert "it has finished" in sentence(lab("resume", crashed.id, "--set", "max_steps=10"))
    longer = lab("resume", crashed.id, "--set", "max_steps=25")
    assert longer.returncode == 0 and "step 25" in longer.stdout


def test_training_options_are_recipe_fields(runs_dir: Path) -> None:
    done = lab("train", "--num-processes", "2", "--dry-run", "--json")
    assert '"num_processes": 2' in done.stdout and "an effective batch of" in done.stdout
    assert "no such file" in sentence(lab("train", "--accelerate-config", "nowhere.yaml", "--dry-run"))
    assert "report_to must be" in sentence(lab("train", "--report-to", "somewhere", "--dry-run"))
