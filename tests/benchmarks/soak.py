"""The soak: runs of the bundled model that are killed at random moments, the run and who watches it, by
SIGKILL, SIGTERM and SIGHUP, and resumed until they finish. ``python -m tests.benchmarks.soak [--runs 50]``

After every kill the run must be readable (whole lines, a true state) and be gone on from its last
checkpoint; at the end losses, validations and the saved adapter must be, bit for bit, those of a run that
nobody disturbed. Every thirteenth run is started by ``tui-lab train`` as people start it, and its starter is
killed too; the others are forked from a process that has loaded the libraries already, which takes nothing
but the loading time away. Prints its figures and writes them to tests/benchmarks/results/soak.md.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import pty
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.benchmarks.__main__ import machine, versions
from tui_lab.recipes.recipe import build
from tui_lab.runs import checkpoints, folder, launch
from tui_lab.runs.folder import ATTEMPT_MARK, Run, RunLock, is_locked
from tui_lab.runs.state import ENDED, RunState, Watcher

RESULT = Path(__file__).parent / "results" / "soak.md"
STEPS, EVAL_STEPS = 12, 4
RECIPE = {
    "model": "pocket", "max_length": 48, "max_steps": STEPS, "eval_steps": EVAL_STEPS, "save_steps": 2,
    "learning_rate": 1e-3, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 1, "lora_r": 8,
    "lora_dropout": 0.1, "score_rows": 4, "sample_max_new_tokens": 4, "probe_share": 0.0,
    "validation_fraction": 0.1,
}  # fmt: skip
ROWS = 60
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP)
#: Kills of a run at most; what is left of it then is let finish.
MOST_KILLS = 2
REAL_EVERY = 13
DEADLINE_S = 300.0


class Broken(AssertionError):
    """What the lab promises did not hold."""


@dataclass
class Figures:
    """What the soak counts."""

    kills: Counter[str] = field(default_factory=Counter)
    watchers: Counter[str] = field(default_factory=Counter)
    where: Counter[str] = field(default_factory=Counter)
    lost_steps: list[int] = field(default_factory=list)
    attempts: int = 0
    torn_lines: int = 0
    events: int = 0
    passed_over: int = 0
    survived: int = 0
    real: int = 0
    unhit: int = 0
    stopped: int = 0


# --------------------------------------------------------------------------------------------------
# starting


class Attempt:
    """A run's process, started now."""

    def __init__(self, run: Run, real: bool) -> None:
        self.run, self.real = run, real
        self.begun_before = sum(event.get("kind") == "resumed" for event in whole_log(run)[0])
        self.starter: subprocess.Popen[bytes] | None = None
        if real:
            # people's way: a command on a terminal of its own, which is hung up later
            words = [sys.executable, "-m", "tui_lab", "resume", str(run.path)]
            self.starter = on_terminal(words)
            self.pid = 0
            until = time.monotonic() + DEADLINE_S
            while not is_locked(run) and self.starter.poll() is None and time.monotonic() < until:
                time.sleep(0.02)  # the command takes a moment
        else:
            self.pid = forked(run)

    def process(self) -> int:
        """The pid of the run's process; 0 while there is none."""
        if self.pid:
            return self.pid
        words = ["tui_lab.training", str(self.run.path)]
        for one in psutil.process_iter(["cmdline"]):
            if (one.info["cmdline"] or [])[-2:] == words:
                return int(one.pid)
        return 0

    def gone(self) -> None:
        """Waits until the process has let go of the lock."""
        deadline = time.monotonic() + DEADLINE_S
        while is_locked(self.run):
            if time.monotonic() > deadline:
                raise Broken(f"{self.run.id} does not end")
            self.reap()
            time.sleep(0.02)
        self.reap(wait=True)

    def reap(self, wait: bool = False) -> None:
        if self.pid:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self.pid, 0 if wait else os.WNOHANG)


def forked(run: Run) -> int:
    """What :func:`launch.start` does, with a child of this process, which has the libraries loaded."""
    lock = RunLock.take(run)
    log = os.open(run.log_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(log, f"{ATTEMPT_MARK}{time.time()}\n".encode())
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        os.close(log)
        lock.release()
        return pid
    try:
        os.setsid()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.chdir(run.path)
        os.environ[launch.LOCK_ENV] = str(lock.descriptor)
        from tui_lab.training.__main__ import main

        code = main([str(run.path)])
    except BaseException:
        code = 70
    os._exit(code)


def on_terminal(words: list[str]) -> subprocess.Popen[bytes]:
    """A command on a terminal of its own; what it draws is thrown away."""
    leader, follower = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color"}
    process = subprocess.Popen(
        words, stdin=follower, stdout=follower, stderr=follower, start_new_session=True, env=environment
    )
    os.close(follower)

    def drain() -> None:
        with contextlib.suppress(OSError):
            while os.read(leader, 65_536):
                pass
        os.close(leader)

    threading.Thread(target=drain, daemon=True).start()
    return process


# --------------------------------------------------------------------------------------------------
# looking


def whole_log(run: Run) -> tuple[list[dict[str, object]], int]:
    """The events, and how many lines were none: at most one a killed attempt may be."""
    lines = run.events_path.read_bytes().split(b"\n") if run.events_path.exists() else []
    events, torn = [], 0
    for line in lines:
        if not line.strip():
            continue
        try:
            events.append(json.loads(line))
        except ValueError:
            torn += 1
    return events, torn


def state_of(run: Run) -> tuple[str, RunState]:
    watcher = Watcher(run)
    state = watcher.read_all()
    return watcher.status, state


def adapter_digest(run: Run) -> str:
    return hashlib.sha256((run.adapter_path / "adapter_model.safetensors").read_bytes()).hexdigest()


def results(run: Run) -> dict[str, object]:
    """Everything that must be equal."""
    _, state = state_of(run)
    return {
        "loss": (state.loss.steps, state.loss.values),
        # one that is stopped as asked is measured once more where it stopped
        "validation": [
            pair
            for pair in zip(state.validation.steps, state.validation.values, strict=True)
            if not pair[0] % EVAL_STEPS
        ],
        "rate": state.learning_rate.values,
        "norm": state.grad_norm.values,
        "samples": [(s["step"], s["text"]) for s in state.samples],
        "scores": [(s["when"], s["value"]) for s in state.scores],
        "tokens": state.last_step.tokens,
        "adapter": adapter_digest(run),
    }


def last_checkpoint(run: Run) -> int:
    """The step of the newest checkpoint that the log speaks of: no later step may be lost with it."""
    events, _ = whole_log(run)
    return max((int(str(e["step"])) for e in events if e.get("kind") == "checkpoint"), default=0)


# --------------------------------------------------------------------------------------------------
# one run


def soaked(run: Run, chance: random.Random, real: bool, attempt_s: float, figures: Figures) -> int:
    """Starts, kills and resumes a run until it has finished; how many of its attempts were ended."""
    kills, ended = chance.randint(1, MOST_KILLS), 0
    while True:
        before = last_checkpoint(run)
        torn_before = whole_log(run)[1]
        attempt = Attempt(run, real)
        figures.attempts += 1
        watcher = None
        if chance.random() < 0.25:
            how = chance.choice(["watch", "lab"])
            words = ["watch", str(run.path)] if how == "watch" else []
            watcher = on_terminal([sys.executable, "-m", "tui_lab", *words])
        if ended < kills:
            time.sleep(chance.uniform(0.05, attempt_s))
            _kill(attempt, number := chance.choice(SIGNALS), figures)
            if number == signal.SIGHUP:
                time.sleep(chance.uniform(0, attempt_s / 4))
                _kill(attempt, chance.choice(SIGNALS[:2]), figures)
        for process in (watcher, attempt.starter):
            if process is not None:
                number = chance.choice(SIGNALS)
                running = is_locked(run)
                process.send_signal(number)
                process.wait(timeout=60)
                figures.watchers[number.name] += 1
                figures.survived += running and is_locked(run)
        attempt.gone()
        status, state = state_of(run)
        events, torn = whole_log(run)
        if torn - torn_before > 1:
            raise Broken(f"{run.id}: {torn - torn_before} torn lines of one attempt")
        if status not in ENDED:
            raise Broken(f"{run.id}: {status}, and no process holds its lock")
        if status == "failed":
            raise Broken(f"{run.id}: {state.end and state.end.message}: {run.log_tail()}")
        if run.id not in {one.id for one in folder.list_runs(run.path.parent)}:
            raise Broken(f"{run.id} is not listed")
        begun = [e for e in events if e.get("kind") == "resumed"]
        if len(begun) > attempt.begun_before and int(str(begun[-1]["from_step"])) < before:
            raise Broken(
                f"{run.id}: went on from {begun[-1]['from_step']}, there was a checkpoint at {before}"
            )
        if status == "finished":
            figures.torn_lines += torn
            figures.events += len(events)
            figures.passed_over += sum("passed over" in str(e.get("text")) for e in events)
            return ended
        ended += 1
        figures.where[state.phase.replace("_", " ") or "loading the libraries"] += 1
        figures.stopped += status == "stopped"
        found = checkpoints.find(run.checkpoints_path).chosen
        kept = checkpoints.step_of(found) if found else 0
        if kept < last_checkpoint(run):
            raise Broken(f"{run.id}: the checkpoint of step {last_checkpoint(run)} is not whole")
        figures.lost_steps.append(max(0, state.step - kept))


def _kill(attempt: Attempt, number: signal.Signals, figures: Figures) -> None:
    """Sends a signal to the run; a hang-up must not end it."""
    pid = attempt.process()
    if not pid or not is_locked(attempt.run):
        return
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
        figures.kills[number.name] += 1
    if number == signal.SIGHUP:
        time.sleep(0.1)
        ended = whole_log(attempt.run)[0][-1:]
        if not is_locked(attempt.run) and not (ended and ended[0].get("kind") == "end"):
            raise Broken(f"{attempt.run.id}: a hang-up ended it")


# --------------------------------------------------------------------------------------------------
# the whole


def report(figures: Figures, runs: int, seconds: float) -> str:
    lost = figures.lost_steps or [0]
    kills = ", ".join(f"{count} {name}" for name, count in sorted(figures.kills.items()))
    watchers = ", ".join(f"{count} {name}" for name, count in sorted(figures.watchers.items()))
    where = ", ".join(f"{count} × {phase}" for phase, count in figures.where.most_common())
    return (
        f"| what | figure |\n|---|---|\n"
        f"| runs of {STEPS} steps, each killed and resumed until it finished | {runs} "
        f"({figures.real} started by `tui-lab`, {runs - figures.real} forked) |\n"
        f"| beside them, finished before a signal came | {figures.unhit} |\n"
        f"| attempts | {figures.attempts} |\n"
        f"| signals to the run | {kills} |\n"
        f"| signals to its starter, a watcher or the lab | {watchers} "
        f"(the run lived on in {figures.survived}; else it had ended) |\n"
        f"| where attempts ended | {where}; {figures.stopped} of them stopped as asked (SIGTERM) |\n"
        f"| steps done again after a kill | mean {statistics.mean(lost):.2f}, most {max(lost)} "
        f"(a checkpoint every {RECIPE['save_steps']}) |\n"
        f"| checkpoints lost | 0 |\n"
        f"| unfinished checkpoints passed over | {figures.passed_over} |\n"
        f"| events, torn lines | {figures.events}, {figures.torn_lines} |\n"
        f"| runs equal to the undisturbed one, bit for bit | {runs} of {runs} "
        f"(losses, validations, rates, norms, samples, scores, tokens, adapter) |\n"
        f"| took | {seconds / 60:.0f} min |\n\n{versions()}; {machine()}.\n"
    )


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, prog="soak", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--no-write", action="store_true", help="print the figures only")
    args = parser.parse_args(words)
    seed = args.seed if args.seed is not None else random.randrange(1 << 30)
    chance, figures, began = random.Random(seed), Figures(), time.monotonic()
    print(f"seed {seed}", flush=True)

    import tui_lab.training.attempt  # noqa: F401 (what the forked runs find loaded)

    with tempfile.TemporaryDirectory(prefix="tui-lab-soak-") as place:
        os.environ["TUI_LAB_RUNS_DIR"] = str(Path(place) / "runs")
        os.environ["TUI_LAB_STATE_DIR"] = str(Path(place) / "state")
        data = Path(place) / "sums.jsonl"
        rows = [
            {"question": f"What is {i} and {i + 3}?", "answer": f"It is {2 * i + 3}."} for i in range(ROWS)
        ]
        data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        recipe = build({**RECIPE, "data": str(data)})
        undisturbed = folder.create(recipe, name="undisturbed")
        started = time.monotonic()
        launch.start(undisturbed).wait()
        real_s = time.monotonic() - started
        if state_of(undisturbed)[0] != "finished":
            raise Broken(f"undisturbed: {undisturbed.log_tail()}")
        expected = results(undisturbed)
        twin = folder.create(recipe, name="twin")
        started = time.monotonic()
        Attempt(twin, real=False).gone()
        attempt_s = time.monotonic() - started
        if results(twin) != expected:
            raise Broken("two undisturbed runs differ")
        hit = 0
        while hit < args.runs:
            real = hit % REAL_EVERY == 0
            run = folder.create(recipe, name=f"soak{hit}")
            ended = soaked(run, chance, real, real_s if real else attempt_s, figures)
            found = results(run)
            for what, value in expected.items():
                if found[what] != value:
                    raise Broken(f"{run.id}: {what} differs: {found[what]} instead of {value}")
            if not ended:
                figures.unhit += 1  # it had finished before the signal came
                continue
            hit += 1
            figures.real += real
            print(f"{hit}/{args.runs}: {ended} attempts ended, then equal", flush=True)
    text = report(figures, args.runs, time.monotonic() - began)
    print(text)
    if not args.no_write:
        RESULT.parent.mkdir(exist_ok=True)
        RESULT.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
