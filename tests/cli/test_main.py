"""The command line as users and scripts use it, with real folders: in this process, or in a process of its
own where signals, pipes, terminals or encodings are the subject. The run process is tests/fake_worker: a real
event log without a model."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from tests.cli.helpers import lab
from tui_lab.cli import follow
from tui_lab.cli.grammar import parser
from tui_lab.cli.options import wants_json
from tui_lab.cli.suggestions import COMMAND_ALIASES
from tui_lab.doctor import packages
from tui_lab.doctor.check import ChildFailed
from tui_lab.recipes.presets import make_recipe
from tui_lab.recipes.recipe import FIELDS, KEY_ALIASES
from tui_lab.runs import folder
from tui_lab.runs.folder import is_locked
from tui_lab.runs.state import Watcher

LAB = [sys.executable, "-m", "tui_lab"]
ESCAPES = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]")


@pytest.fixture(autouse=True)
def own_places(runs_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No test touches, or waits on, what belongs to the person who runs it."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    yield
    for run in folder.list_runs(runs_dir):
        if is_locked(run) and (started := Watcher(run).read_all().started) and (pid := started.pid):
            os.kill(int(pid), signal.SIGKILL)


def lab_process(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own."""
    return subprocess.run(
        [*LAB, *arguments], capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL
    )


def sentence(done: subprocess.CompletedProcess[str]) -> str:
    """The one sentence of a refusal: status 2, nothing on stdout, no traceback."""
    assert done.returncode == 2, done
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    return done.stderr


TRAIN = ("train", "--set", "max_steps=20")

# --------------------------------------------------------------------------------------------------
# words


def test_version_and_help() -> None:
    assert re.fullmatch(r"tui-lab \d+\.\d+\.\d+\S*\n", lab_process("--version").stdout)
    top = lab("--help")
    assert top.returncode == 0
    for word in ("train", "models", "presets", "data", "runs", "locate", "doctor", "resume", "130"):
        assert word in top.stdout
    for command in ("train", "watch", "resume", "stop", "runs", "models", "presets", "locate", "doctor"):
        assert "exit codes" in lab(command, "--help").stdout


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (("trian",), "there is no command trian: did you mean train?"),
        (("finetune",), "did you mean train?"),
        (("data", "preveiw"), "did you mean preview?"),
        (("explode",), "`tui-lab --help` lists the commands"),
        (("train", "--lr", "1e-4"), "train: there is no option --lr: write `--set learning_rate=1e-4`"),
        (("queue", "add", "--batch-size=4"), "`--set per_device_train_batch_size=4`"),
        (("train", "--epochs", "2", "--detach"), "`--set num_train_epochs=2`"),
        (("train", "--rank"), "`--set lora_r=16`"),
        (("train", "--load-in-4bit", "true"), "`--set quantization=nf4`"),
        (("train", "--load-in-8bit", "true"), "`--set quantization=int8`"),
        (("train", "--target-modules", "q_proj, v_proj"), "`--set target_modules='q_proj, v_proj'`"),
        (("train", "--warmup-ratio", "0.1"), "did you mean `--set warmup_steps=…`?"),
        (("train", "--dataset", "rows.jsonl"), "did you mean --data?"),
        (("export", "latest", "--ass", "merged"), "did you mean --as?"),
        (("--thme", "lab-light"), "did you mean --theme?"),
        (("--limit", "3", "runs"), "write it after a command, as in `tui-lab runs --limit`"),
        (("runs", "--limit", "-1"), "`tui-lab runs --help` explains the command"),
        (("stop",), "usage: tui-lab stop"),
        (("data",), "usage: tui-lab data"),
    ],
)
def test_wrong_usage_is_status_two_with_what_was_meant(arguments: tuple[str, ...], answer: str) -> None:
    assert answer in sentence(lab(*arguments))


def test_peers_names_are_of_recipe_keys_and_of_commands() -> None:
    assert set(KEY_ALIASES.values()) <= set(FIELDS) and not set(KEY_ALIASES) & set(FIELDS)
    assert set(COMMAND_ALIASES.values()) <= set(parser().commands)
    assert not set(COMMAND_ALIASES) & set(parser().commands)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("trian", "--json"), 2, "there is no command trian: did you mean train?"),
        (("runs", "--limt", "3", "-o", "json"), 2, "runs: there is no option --limt: did you mean --limit?"),
        (("presets", "startr", "-o", "json"), 2, "did you mean starter?"),
        (("watch", "none", "--json"), 2, "none"),
    ],
)
def test_errors_are_json_where_json_is_wanted(arguments: tuple[str, ...], code: int, message: str) -> None:
    done = lab(*arguments)
    assert done.returncode == code
    answer = json.loads(done.stdout)
    assert (answer["v"], answer["kind"], answer["error"]["exit_code"]) == (1, "error", code)
    assert message in answer["error"]["message"] and message in done.stderr


def test_the_output_is_json_only_where_it_is_asked_for() -> None:
    assert lab("runs", "-o", "json").stdout == lab("runs", "--json").stdout
    assert lab("presets", "-o", "text").stdout == lab("presets").stdout
    assert sentence(lab("runs", "-o", "xml")) and not wants_json(
        ["generate", "--prompt", "a --json", "--", "--json"]
    )


def test_without_a_terminal_the_lab_says_so() -> None:
    assert "needs a terminal" in sentence(lab())


# --------------------------------------------------------------------------------------------------
# lists


def test_models_for_people_and_scripts() -> None:
    shown = lab("models")
    assert shown.returncode == 0
    assert shown.stdout.splitlines()[0].split() == [
        "model",
        "parameters",
        "layers",
        "context",
        "licence",
        "notes",
    ]
    assert not ESCAPES.search(shown.stdout)
    assert all(line == line.rstrip() for line in shown.stdout.splitlines())
    everything = json.loads(lab("models", "--all", "--json").stdout)["items"]
    tunable = json.loads(lab("models", "--json").stdout)["items"]
    assert {e["id"] for e in tunable} < {e["id"] for e in everything}
    assert all(entry["refused"] for entry in everything if entry not in tunable)
    assert "Qwen/Qwen2.5-0.5B" in {entry["id"] for entry in tunable}


def test_presets_for_people_and_scripts(tmp_path: Path) -> None:
    own = tmp_path / "config" / "presets"
    own.mkdir(parents=True)
    (own / "mine.toml").write_text("# why\nlora_r = 4\n# hostile: \u202e\ntitle = 'Mine'\n", encoding="utf-8")
    (own / "bad.toml").write_text("lora_r = 0\n")
    (own / "broken.toml").write_text("= =\n")
    shown = lab("presets")
    assert shown.returncode == 0
    assert "starter" in shown.stdout and "mine" in shown.stdout and "has mistakes" in shown.stdout
    assert "broken.toml" in shown.stderr
    listed = json.loads(lab("presets", "--json").stdout)
    assert {p["name"]: p["own"] for p in listed["presets"]}["mine"] is True
    starter = lab("presets", "starter").stdout
    assert "# " in starter and "lora_r = 16" in starter
    assert not ESCAPES.search(lab("presets", "mine").stdout)
    assert json.loads(lab("presets", "starter", "--json").stdout)["values"]["lora_r"] == 16
    assert "lora_r = 0: must be a whole number from 1 to 1024" in sentence(lab("presets", "bad"))
    assert "did you mean starter?" in sentence(lab("presets", "startr"))


def test_all_keys_are_explained() -> None:
    shown = lab("presets", "--keys").stdout
    assert "lora_r = 16    # a whole number from 1 to 1024" in shown
    keys = {key["name"]: key for key in json.loads(lab("presets", "--keys", "--json").stdout)["items"]}
    assert keys["quantization"]["choices"] == ["none", "nf4", "int8", "fp8"]
    assert all(key["help"] and key["allowed"] for key in keys.values())


def test_locate_names_every_folder(runs_dir: Path, tmp_path: Path) -> None:
    found = json.loads(lab("locate", "--json").stdout)
    assert found["runs"]["path"] == str(runs_dir)
    place = str(tmp_path / "config" / "presets")
    assert found["own presets"] == {"name": "own presets", "path": place, "exists": False}
    assert found["own presets"] in found["items"]
    assert found["presets"]["exists"] and found["themes"]["exists"]
    assert {"data", "state"} <= found.keys()  # the page on memory sends people to the state folder
    assert (
        json.loads(lab("locate", "--json", "--runs-dir", "elsewhere").stdout)["runs"]["path"] == "elsewhere"
    )
    assert (
        json.loads(lab("--runs-dir", "elsewhere", "locate", "--json").stdout)["runs"]["path"] == "elsewhere"
    )
    assert str(runs_dir) in lab("locate").stdout


def test_runs_without_any(runs_dir: Path) -> None:
    none = lab("runs")
    assert (none.returncode, none.stdout) == (0, "")
    assert "there are no runs" in none.stderr
    assert json.loads(lab("runs", "--json").stdout)["items"] == []


# --------------------------------------------------------------------------------------------------
# refusals come before anything is made


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--model", "poket"), "did you mean 'pocket'?"),
        (("--model", "meta-llama/Llama-2-7b-hf"), "over the lab's limit of 3 B"),
        (("--preset", "minut"), "did you mean minute?"),
        (("--preset", "no.toml"), "there is no such file"),
        (("--data", "nowhere.jsonl"), "nowhere.jsonl"),
        (("--data", "pirat"), "pirate"),
        (("--set", "lora_r"), "write it as key=value"),
        (("--set", "lr=1"), "did you mean learning_rate?"),
        (("--set", "lora_r=0"), "lora_r = 0: must be a whole number from 1 to 1024"),
        (("--set", "method=full"), "rounded weights cannot be trained"),
        (("--set", "target_modules=q_prj"), "q_proj"),
        (("--set", "chat_template=none.jinja"), "the file does not exist"),
        (("--set", "data=\x1b[2Jevil.jsonl"), "evil.jsonl"),
    ],
)
def test_a_mistake_is_refused_before_anything_is_made(
    runs_dir: Path, arguments: tuple[str, ...], said: str
) -> None:
    text = sentence(lab("train", *arguments))
    assert said in text
    assert not ESCAPES.search(text)
    assert not runs_dir.exists()


def test_all_mistakes_of_all_kinds_come_at_once(runs_dir: Path) -> None:
    text = sentence(
        lab(
            *("train", "--model", "poket", "--data", "no.jsonl"),
            *("--set", "lora_r=0", "--set", "lr=1", "--set", "packing=maybe"),
        )
    )
    assert "5 mistakes, nothing was started" in text
    for word in ("poket", "no.jsonl", "lora_r = 0", "learning_rate", "packing = 'maybe'"):
        assert word in text
    assert not runs_dir.exists()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("empty.jsonl", b"", "empty"),
        ("bad.jsonl", b'{"text": "a"}\n{"text": \n', "line 2"),
        ("columns.jsonl", b'{"foo": 1}\n{"foo": 2}\n', "foo"),
        ("silent.jsonl", b'{"messages": [{"role": "user", "content": "hi"}]}\n' * 3, "assistant"),
        ("picture.txt", b"\x89PNG\x00\x00", "binary"),
    ],
)
def test_damaged_data_is_refused_with_its_cause(
    runs_dir: Path, tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    (tmp_path / name).write_bytes(content)
    text = sentence(lab("train", "--data", str(tmp_path / name)))
    assert said in text and name in text
    assert not runs_dir.exists()


def test_a_folder_without_a_config_is_no_model(runs_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    assert "config.json" in sentence(lab("train", "--model", str(tmp_path / "model")))
    assert not runs_dir.exists()


def test_a_runs_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "cannot create a run in" in sentence(lab("train", "--runs-dir", str(tmp_path / "file" / "runs")))


def test_a_dry_run_says_what_and_why_and_makes_nothing(runs_dir: Path) -> None:
    done = lab("train", "--dry-run", "--model", "Qwen/Qwen2.5-0.5B", "--preset", "starter")
    assert done.returncode == 0
    # 2 · r · Σ (in + out) over the seven matrices of 24 layers, by hand: 24 · 16 · 22,912
    assert "trains 8,798,208 of 494,032,768 parameters" in done.stdout
    assert "compute_dtype" in done.stdout and "because" in done.stdout
    as_json = json.loads(lab("train", "--dry-run", "--json", "--preset", "starter").stdout)
    assert as_json["recipe"]["preset"] == "starter"
    assert {"compute_dtype", "optim"} <= {choice["field"] for choice in as_json["choices"]}
    assert not runs_dir.exists()


# --------------------------------------------------------------------------------------------------
# following


def test_a_run_is_followed_in_plain_lines(fake_worker: None, runs_dir: Path) -> None:
    done = lab(*TRAIN)
    assert done.returncode == 0, done.stderr
    (run,) = folder.list_runs(runs_dir)
    assert run.recipe() == make_recipe(max_steps=20)
    text = done.stdout
    assert f"run {run.id}: minute on pocket, data pirate" in text
    assert "step 20/20" in text and "finished at step 20" in text
    assert "validation 3 → 1" in text and "acquisition 0.25 → 0.75 (exact match)" in text
    assert str(run.path / "adapter") in text
    assert not ESCAPES.search(text)
    assert "[red]hi[/red]" in text  # as it is: nothing is read as markup


def test_json_is_every_event_and_the_result_last(fake_worker: None, runs_dir: Path) -> None:
    done = lab(*TRAIN, "--json", "--name", "my run")
    assert done.returncode == 0
    assert done.stdout.isascii()

    def no_constant(name: str) -> None:
        pytest.fail(f"{name} is not JSON")

    lines = [json.loads(line, parse_constant=no_constant) for line in done.stdout.splitlines()]
    (run,) = folder.list_runs(runs_dir)
    logged = [json.loads(line) for line in run.events_path.read_text().splitlines()]
    assert lines[:-1] == logged
    assert "my-run" in run.id
    result = lines[-1]
    assert result["kind"] == "result"
    assert (result["run"], result["path"], result["state"]) == (run.id, str(run.path), "finished")
    assert (result["train_loss"], result["validation_loss"]) == (0.15, 1.0)
    assert result["acquisition"] == {"name": "exact", "start": 0.25, "end": 0.75}
    assert result["saved"] == str(run.path / "adapter")


def test_a_failed_run_is_status_one_with_its_sentence(
    fake_worker: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_END", "failed")
    done = lab(*TRAIN, "--json")
    assert done.returncode == 1
    assert "the data ran" in done.stderr and not ESCAPES.search(done.stderr)
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["state"] == "failed" and "dry" in result["message"]


@pytest.mark.parametrize(("how", "word"), [("crash", "a last word"), ("silent", "Illegal instruction")])
def test_a_crashed_run_is_status_one_with_its_last_words(
    fake_worker: None, monkeypatch: pytest.MonkeyPatch, how: str, word: str
) -> None:
    monkeypatch.setenv("FAKE_END", how)
    done = lab(*TRAIN)
    assert done.returncode == 1
    assert "crashed" in done.stderr and word in done.stderr and "tui-lab resume" in done.stderr
    assert not ESCAPES.search(done.stderr)


def test_a_crashed_run_is_resumed(fake_worker: None, monkeypatch: pytest.MonkeyPatch, runs_dir: Path) -> None:
    monkeypatch.setenv("FAKE_END", "crash")
    lab(*TRAIN)
    monkeypatch.setenv("FAKE_END", "finished")
    again = lab("resume", "latest", "--json")
    assert again.returncode == 0, again.stderr
    lines = [json.loads(line) for line in again.stdout.splitlines()]
    assert lines[0]["kind"] == "resumed" and lines[0]["attempt"] == 2  # what came before is not told again
    assert lines[-1]["state"] == "finished" and lines[-1]["step"] == 20
    assert "it has finished" in sentence(lab("resume", "latest"))
    whole = lab("watch", "latest")
    assert whole.returncode == 0
    assert "attempt 2 continues from step 10" in whole.stdout


def test_a_resume_that_dies_at_once_is_not_taken_for_the_end_before(
    fake_worker: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_END", "failed")
    assert lab(*TRAIN).returncode == 1
    monkeypatch.setenv("FAKE_END", "silent")
    again = lab("resume", "latest", "--json")
    assert again.returncode == 1
    assert json.loads(again.stdout.splitlines()[-1])["state"] == "crashed"
    assert "the data ran" not in again.stderr


def test_detach_returns_at_once_and_the_run_goes_on(
    fake_worker: None, monkeypatch: pytest.MonkeyPatch, runs_dir: Path
) -> None:
    monkeypatch.setenv("FAKE_STEP_S", "0.1")
    done = lab("train", "--set", "max_steps=3000", "--detach")
    assert done.returncode == 0
    (run,) = folder.list_runs(runs_dir)
    assert done.stdout == f"{run.id}\n"
    assert f"tui-lab watch {run.id}" in done.stderr
    (listed,) = json.loads(lab("runs", "--json").stdout)["items"]
    assert listed["state"] in ("starting", "running")
    assert "running already" in sentence(lab("resume", run.id))
    lab("stop", run.id)
    followed = lab("watch", run.id)
    assert followed.returncode == 0 and "stopped at step" in followed.stdout
    shown = lab("runs").stdout
    assert run.id in shown and "stopped" in shown and "/3000" in shown and "0.25 → 0.75" in shown


def test_runs_are_steered_and_say_whether_they_heard(
    fake_worker: None, monkeypatch: pytest.MonkeyPatch, runs_dir: Path
) -> None:
    monkeypatch.setenv("FAKE_STEP_S", "0.2")
    name = lab("train", "--set", "max_steps=2000", "--detach").stdout.strip()
    for command in ("pause", "continue", "checkpoint"):
        done = lab(command, "latest")
        assert (done.returncode, done.stdout.split()[0]) == (0, command), done.stderr
    stopped = lab("stop", name, "--json")
    assert stopped.returncode == 0
    answer = json.loads(stopped.stdout)
    assert (
        answer["kind"] == "command_answer"
        and answer["answered"]
        and answer["outcome"].startswith("stop at step")
    )
    end = lab("watch", name)
    assert end.returncode == 0 and "stopped at step" in end.stdout
    assert "it is not running (stopped)" in sentence(lab("stop", name))
    assert "there is none of that name" in sentence(lab("stop", "nothing"))


def test_a_run_that_does_not_answer_is_status_one(runs_dir: Path) -> None:
    run = folder.create(make_recipe(), runs_dir)
    lock = folder.RunLock.take(run)  # it lives, and hears nothing
    try:
        done = lab("pause", run.id, "--wait", "0.3")
    finally:
        lock.release()
    assert done.returncode == 1
    assert "has not answered yet" in done.stderr


def test_a_run_s_name_with_a_slip_is_answered_with_the_nearest(runs_dir: Path) -> None:
    folder.create(make_recipe(), runs_dir, "keeper")
    assert "did you mean latest?" in sentence(lab("watch", "latst"))
    assert "did you mean keeper?" in sentence(lab("export", "keper", "--as", "adapter"))
    assert "did you mean" not in sentence(lab("stop", "nothing-like-it"))


def test_a_run_without_a_recipe_has_a_result_too(runs_dir: Path) -> None:
    run = folder.create(make_recipe(), runs_dir, "gone")
    run.recipe_path.unlink()
    out = io.StringIO()
    with redirect_stdout(out), redirect_stderr(io.StringIO()):
        code = follow.print_end(run, Watcher(run), "crashed", True, False, detached=False, interrupted=False)
    assert code == 1 and json.loads(out.getvalue())["state"] == "crashed"


def test_a_damaged_run_does_not_hide_the_others(runs_dir: Path) -> None:
    good, bad = folder.create(make_recipe(), runs_dir, "good"), folder.create(make_recipe(), runs_dir, "bad")
    bad.recipe_path.write_text("lora_r = = 1")
    bad.events_path.write_bytes(b'{"kind":"end"}\n\xff\xfe{{{\n')
    listed = {entry["run"]: entry for entry in json.loads(lab("runs", "--json").stdout)["items"]}
    assert set(listed) == {good.id, bad.id}
    assert "not valid TOML" in listed[bad.id]["problem"]
    assert lab("runs").returncode == 0


# --------------------------------------------------------------------------------------------------
# Ctrl+C, pipes and closed streams


def started(*arguments: str, **options: Any) -> subprocess.Popen[bytes]:
    """A follower in a process group of its own, its stdout up to the first step read."""
    child = subprocess.Popen(
        [*LAB, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        start_new_session=True, **options,
    )  # fmt: skip
    assert child.stdout is not None
    for line in child.stdout:
        if b'"step"' in line or line.startswith(b"step 1/"):
            return child
    pytest.fail(f"no step came: {child.communicate()}")


def wait_for_state(runs_dir: Path, state: str) -> None:
    deadline = time.monotonic() + 60
    (run,) = folder.list_runs(runs_dir)
    watcher = Watcher(run)
    while time.monotonic() < deadline:
        watcher.poll()
        if watcher.status == state:
            return
        time.sleep(0.05)
    pytest.fail(f"the run is {watcher.status}, not {state}")


def test_one_ctrl_c_detaches(fake_worker: None, monkeypatch: pytest.MonkeyPatch, runs_dir: Path) -> None:
    monkeypatch.setenv("FAKE_STEP_S", "0.25")
    child = started("train", "--set", "max_steps=60", "--json")
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=60)
    assert child.returncode == 130
    assert b"detached: the run continues" in err and b"tui-lab watch" in err and b"tui-lab stop" in err
    result = json.loads(out.splitlines()[-1])
    assert (result["kind"], result["state"]) == ("result", "running")
    (run,) = folder.list_runs(runs_dir)
    assert is_locked(run)
    lab("stop", "latest")
    wait_for_state(runs_dir, "stopped")


def test_two_ctrl_c_stop_the_run_and_wait_for_it(
    fake_worker: None, monkeypatch: pytest.MonkeyPatch, runs_dir: Path
) -> None:
    monkeypatch.setenv("FAKE_STEP_S", "0.2")
    child = started("train", "--set", "max_steps=5000", "--json")
    child.send_signal(signal.SIGINT)
    assert child.stderr is not None
    assert b"detached" in child.stderr.readline()
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=60)
    assert child.returncode == 130
    assert b"stopping after the current step" in err
    assert json.loads(out.splitlines()[-1])["state"] == "stopped"
    wait_for_state(runs_dir, "stopped")


def test_a_reader_that_goes_away_ends_the_follower_not_the_run(
    fake_worker: None, monkeypatch: pytest.MonkeyPatch, runs_dir: Path
) -> None:
    monkeypatch.setenv("FAKE_STEP_S", "0.05")
    child = started("train", "--set", "max_steps=80", "--json")
    assert child.stdout is not None and child.stderr is not None
    child.stdout.close()
    assert child.wait(timeout=60) == 141
    assert child.stderr.read() == b""
    child.stderr.close()
    wait_for_state(runs_dir, "finished")


def test_a_short_pipe_is_no_traceback() -> None:
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m tui_lab presets --keys | head -1"],
        capture_output=True,
        text=True,
    )
    assert done.stdout == "[model]\n"
    assert done.stderr == ""


def test_closed_and_full_streams() -> None:
    closed = subprocess.run(["bash", "-c", f"{sys.executable} -m tui_lab models >&-"], capture_output=True)
    assert (closed.returncode, b"Traceback" in closed.stderr) == (0, False)
    if Path("/dev/full").exists():
        full = subprocess.run(
            ["bash", "-c", f"{sys.executable} -m tui_lab presets >/dev/full"], capture_output=True
        )
        assert full.returncode == 1
        assert b"No space left" in full.stderr and b"Traceback" not in full.stderr


def test_train_returns_when_the_run_s_process_has_gone(
    runs_dir: Path, fake_worker: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_REPORT_S", "1")
    assert lab(*TRAIN).returncode == 0
    [run] = folder.list_runs()
    assert not is_locked(run) and (run.path / "report.md").is_file()


def test_an_encoding_without_arrows_is_no_crash(fake_worker: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    done = lab_process(*TRAIN)
    assert done.returncode == 0, done.stderr
    assert "\\u2192" in done.stdout


def on_a_terminal(*arguments: str) -> tuple[int, str]:
    """Exit status and output of a command whose stdout is a terminal of 100 columns."""
    master, slave = pty.openpty()
    child = subprocess.Popen(
        [*LAB, *arguments], stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30"},
    )  # fmt: skip
    os.close(slave)
    out = b""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if select.select([master], [], [], 0.2)[0]:
            try:
                chunk = os.read(master, 65536)
            except OSError:  # the other end is closed
                break
            out += chunk
    os.close(master)
    return child.wait(timeout=10), out.decode("utf-8", "replace")


def test_on_a_terminal_it_is_drawn_in_place_and_hostile_text_stays_text(fake_worker: None) -> None:
    status, out = on_a_terminal(*TRAIN)
    assert status == 0
    assert "step 20/20" in out and "finished at step 20" in out
    assert "\x1b[?25l" in out and "\x1b[?25h" in out  # the cursor is hidden, and comes back
    assert "\x1b]0;owned" not in out and "\x9b2J" not in out and "\u202e" not in out
    assert "[red]hi[/red]" in out


# --------------------------------------------------------------------------------------------------
# jobs


def test_data_preview_shows_what_is_trained(tmp_path: Path, jobs_here: None) -> None:
    rows = [{"question": f"What is {n} plus {n}?", "answer": f"{n + n}"} for n in range(8)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = lab("data", "preview", str(tmp_path / "rows.jsonl"), "--rows", "1")
    assert done.returncode == 0, done.stderr
    assert "8 rows" in done.stdout and "⟦" in done.stdout
    trained = "".join(re.findall(r"⟦(.*?)⟧", done.stdout, re.DOTALL))
    assert "0" in trained and "plus" not in trained


def test_data_preview_for_programs(tmp_path: Path, jobs_here: None) -> None:
    (tmp_path / "rows.jsonl").write_text('{"question": "a?", "answer": "b"}\n' * 4)
    answer = json.loads(lab("data", "preview", str(tmp_path / "rows.jsonl"), "-o", "json").stdout)
    assert (answer["kind"], answer["v"], answer["facts"]["rows_read"]) == ("data_preview", 1, 4)
    assert answer["rows"][0]["tokens"] > answer["rows"][0]["trained"] > 0


def test_data_preview_refuses_with_one_sentence(tmp_path: Path, jobs_here: None) -> None:
    (tmp_path / "bad.jsonl").write_text('{"a": 1}\n{"a": \n')
    assert "line 2" in sentence(lab("data", "preview", str(tmp_path / "bad.jsonl")))
    assert "nothing.jsonl" in sentence(lab("data", "preview", str(tmp_path / "nothing.jsonl")))


def test_doctor_reports_and_its_status_is_its_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ChildFailed("it crashed")

    monkeypatch.setattr(packages, "run_child", fail)  # tests/doctor runs the real ones
    done = lab("doctor", "--json")
    report = json.loads(done.stdout)
    assert report["kind"] == "doctor" and report["items"] == report["checks"]
    assert done.returncode == report["exit_code"] == 1
    checks = {check["name"]: check["state"] for check in report["checks"]}
    assert checks["torch"] == "fail" and {"Python", "bitsandbytes", "settings", "presets"} <= set(checks)
    assert "1. torch: reinstall tui-lab" in lab("doctor").stdout
