"""What forgetting looks like and what keeps it away, measured: ``python -m tests.benchmarks.demonstrate``.

The bundled model learns the data set ``support`` with each preset and three seeds, as ``tui-lab train`` does
it. Of every run: exact answers to phrasings that it was not trained on (all held-out rows), before and after;
and retention on the suite ``everyday``, in full and on the categories that replay leaves out. Runs that lie
finished in the folder given with ``--runs`` are read and not repeated. Prints a table and writes it to
``results/``."""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.__main__ import machine, versions
from tui_lab.data import bundled
from tui_lab.pocket import MODEL_DIR
from tui_lab.recipes.presets import make_recipe
from tui_lab.retention import statistics
from tui_lab.retention.scoring import score
from tui_lab.retention.scoring.metrics import correct
from tui_lab.retention.statistics import Interval
from tui_lab.retention.suites import registry
from tui_lab.retention.suites.records import Suite
from tui_lab.retention.verdict import judge_paired
from tui_lab.runs import folder, launch
from tui_lab.runs.folder import Run
from tui_lab.runs.state import Watcher

PRESETS = ("naive", "minute", "keeper", "osf")
SEEDS = (1, 2, 3)
DATA, SUITE = "support", "everyday"
RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Row:
    """One run. ``before``/``after``: share of exact answers; retentions with their 95% interval."""

    preset: str
    seed: int
    steps: int
    seconds: float
    before: float
    after: float
    rows: int
    retention: Interval
    held_back: Interval
    verdict: str

    @property
    def gain(self) -> float:
        return self.after - self.before


def train(preset: str, seed: int, runs: Path) -> Run:
    """The finished run of a preset and a seed, made if it is not there."""
    name = f"{preset}-{seed}"
    rows = len(bundled.load(DATA).validation)
    for run in folder.list_runs(runs):
        end = Watcher(run).read_all().end
        if run.id.split("-", 2)[2].rpartition("-")[0] == name and end and end.state == "finished":
            return run
    run = folder.create(make_recipe(preset, data=DATA, seed=seed, score_rows=rows), runs, name)
    if launch.start(run).wait() != 0:
        raise SystemExit(f"{run.path}: {run.log_tail()}")
    return run


def events(run: Run, kind: str) -> list[dict[str, Any]]:
    lines = run.events_path.read_text("utf-8").splitlines()
    return [event for event in map(json.loads, lines) if event["kind"] == kind]


def answers(location: Path, suite: Suite) -> list[bool]:
    """Which items of the suite a model folder, or an adapter of the bundled model, gets right."""
    import peft
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    adapter = (location / "adapter_config.json").is_file()
    model: Any = AutoModelForCausalLM.from_pretrained(MODEL_DIR if adapter else location, dtype=torch.float32)
    if adapter:
        model = peft.PeftModel.from_pretrained(model, location)
    tokenizer = AutoTokenizer.from_pretrained(MODEL_DIR)
    return correct(suite, score.score(model.eval(), tokenizer, suite))


def measure(preset: str, seed: int, runs: Path, suite: Suite, base: Sequence[bool]) -> Row:
    run = train(preset, seed, runs)
    [end] = events(run, "end")
    start, *_, last = events(run, "score")
    now = answers(run.adapter_path if run.adapter_path.is_dir() else run.model_path, suite)
    paired = statistics.paired(base, now)
    apart = [at for at, item in enumerate(suite.items) if item.category in suite.held_back]
    part = statistics.paired([base[i] for i in apart], [now[i] for i in apart])
    return Row(
        preset, seed, end["step"], end["seconds"], start["value"], last["value"], last["rows"],
        statistics.retention(paired), statistics.retention(part), judge_paired(paired, suite.chance).colour,
    )  # fmt: skip


def spread(values: Sequence[float], digits: int = 2) -> str:
    """ "0.83 (0.81–0.85)": the mean, the lowest and the highest."""
    mean = sum(values) / len(values)
    return f"{mean:.{digits}f} ({min(values):.{digits}f}–{max(values):.{digits}f})"


def table(rows: Sequence[Row]) -> list[str]:
    """Markdown, one line a preset. Intervals are the widest of its runs'."""
    lines = [
        "| preset | exact answers gained | part of naive's | retention | 95% intervals within "
        "| held-back categories | verdicts | seconds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    naive = [row.gain for row in rows if row.preset == PRESETS[0]]
    for preset in dict.fromkeys(row.preset for row in rows):
        of = [row for row in rows if row.preset == preset]
        gains = [row.gain for row in of]
        part = (sum(gains) / len(gains)) / (sum(naive) / len(naive)) if naive else float("nan")
        low, high = min(row.retention.low for row in of), max(row.retention.high for row in of)
        lines.append(
            f"| `{preset}` | {spread(gains)} | {part:.0%} | {spread([row.retention.value for row in of], 3)} "
            f"| {low:.3f}–{high:.3f} | {spread([row.held_back.value for row in of], 3)} "
            f"| {', '.join(row.verdict for row in of)} | {spread([row.seconds for row in of], 0)} |"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, prog="python -m tests.benchmarks.demonstrate", description=__doc__
    )
    parser.add_argument("--runs", type=Path, default=Path("build/demonstration"), help="folder of the runs")
    parser.add_argument("--presets", nargs="+", default=PRESETS)
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS)
    chosen = parser.parse_args()
    os.umask(0o077)
    chosen.runs.mkdir(parents=True, exist_ok=True)
    suite = registry.load(SUITE)
    base = answers(MODEL_DIR, suite)
    began, rows = time.monotonic(), []
    for preset in chosen.presets:
        for seed in chosen.seeds:
            row = measure(preset, seed, chosen.runs, suite, base)
            rows.append(row)
            print(
                f"{preset} seed {seed}: {row.before:.3f} → {row.after:.3f}, "
                f"retention {row.retention.value:.3f} ({row.retention.low:.3f}–{row.retention.high:.3f}), "
                f"held back {row.held_back.value:.3f}, {row.verdict}, {row.seconds:.0f} s",
                flush=True,
            )
    about = (
        f"`{DATA}`: {rows[0].rows} held-out rows; `{SUITE}` version {suite.version}: {len(suite.items)} "
        f"items, base {sum(base) / len(base):.3f}, replay leaves out {', '.join(suite.held_back)}. "
        f"Means of {len(chosen.seeds)} seeds (lowest–highest). {versions()}; {machine()}."
    )
    text = "\n".join([*table(rows), "", about, ""])
    print(f"\n{text}({time.monotonic() - began:.0f} s)")
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "forgetting.md").write_text(text, encoding="utf-8")
    (RESULTS / "forgetting.json").write_text(
        json.dumps({"about": about, "runs": [asdict(row) for row in rows]}, indent=1) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
