"""A real model, end to end: ``python -m tests.benchmarks.real_model --model FOLDER --data FOLDER``.

``--data`` has ``gsm8k/train.jsonl``, ``hellaswag/`` and ``mmlu/``. Each part works on a few items or steps;
its figures go into one JSON object on stdout (progress goes to stderr). What can be compared is compared with
plain transformers, trl and peft, and with lm-evaluation-harness where it can be imported. Speeds are given by
the wall clock and by the processor's: other programs on the same cores spoil the first more than the second.
The exit code is 1 where a part fails or a check is false. All parts take some minutes on two idle cores.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib.util
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from tests.benchmarks.__main__ import machine, versions
from tests.benchmarks.bench_decoding import one_by_one
from tests.benchmarks.bench_scoring import by_harness, differences
from tui_lab.data import templates
from tui_lab.decoding.records import DecodingRequest
from tui_lab.decoding.session import DecodingSession
from tui_lab.decoding.strategies import PRESETS
from tui_lab.export import job as export_job
from tui_lab.export.records import ExportRequest
from tui_lab.models.loading import ModelSource, Precision, load_model, quiet_libraries
from tui_lab.recipes.presets import make_recipe
from tui_lab.recipes.recipe import Recipe
from tui_lab.retention.scoring.score import ItemScore, score
from tui_lab.retention.suites import registry
from tui_lab.retention.suites.records import Suite
from tui_lab.runs import launch
from tui_lab.runs.events import EventTail
from tui_lab.runs.folder import Run
from tui_lab.runs.schema import EndEvent, ForecastEvent, RunEvent, StepEvent, ValidationEvent

PROMPT = "The capital of France is"
MIB = 2**20
#: Nats between two computations of one log-likelihood from logits in float32, and between two such logits.
TOLERANCE = 5e-4
#: The harness sums over the vocabulary in float32.
HARNESS_TOLERANCE = 5e-3

Figures = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """What is measured and how much of it. ``work`` takes runs and exports; ``dtype``: of the run."""

    model: str
    data: Path
    work: Path
    new_tokens: int = 16
    items: int = 12
    rows: int = 16
    batch: int = 2
    steps: int = 8
    max_length: int = 192
    dtype: str = "float32"

    def recipe(self, **changes: object) -> Recipe:
        """QLoRA on rows of GSM8K, two epochs or more of the same rows, without what interrupts the steps."""
        return make_recipe(
            "minute",
            **{
                "model": self.model,
                "data": str(self.data / "gsm8k" / "train.jsonl"),
                "max_rows": self.rows,
                "max_steps": self.steps,
                "max_length": self.max_length,
                "per_device_train_batch_size": self.batch,
                "learning_rate": 1e-3,
                "warmup_steps": 1,
                "compute_dtype": self.dtype,
                "device": "cpu",
                "score_rows": 0,
                "probe_share": 0.0,
                "logging_steps": 1,
                **changes,
            },
        )

    def base(self, four_bit: bool = False) -> Any:
        """The model in float32, or in NF4 with products in float32."""
        return load_model(
            ModelSource(self.model), Precision("float32", "nf4" if four_bit else "none"), device="cpu"
        )

    def tokenizer(self) -> Any:
        return templates.load_tokenizer(self.model, "")

    def suites(self) -> list[Suite]:
        """A few items of HellaSwag and of MMLU."""
        names = ("hellaswag", "mmlu")
        return [registry.load(f"{name}:{self.data / name}", self.items) for name in names]


@contextlib.contextmanager
def seconds(into: Figures, name: str) -> Iterator[None]:
    """The time of a block on the wall and on the processor."""
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    into[f"{name}_s"] = time.perf_counter() - wall
    into[f"{name}_cpu_s"] = time.process_time() - cpu


# ------------------------------------------------------------------ decoding


def decode(case: Case) -> Figures:
    """Six decodings of one prompt in one batch, against six calls of transformers."""
    model, tokenizer, found = case.base(), case.tokenizer(), Figures()
    lanes, ids = PRESETS["six classics"], tokenizer(PROMPT)["input_ids"]
    session = DecodingSession(model, tokenizer)
    prompt = torch.tensor([ids])
    with torch.inference_mode():
        session.decode(DecodingRequest(tuple(ids), lanes, 2))  # what the first forward loads is nobody's time
        with seconds(found, "lockstep"):
            results = session.decode(DecodingRequest(tuple(ids), lanes, case.new_tokens))
        with seconds(found, "six_calls"):
            one_by_one(model, prompt, case.new_tokens, lanes)
        plain = {
            name: model.generate(
                prompt,
                attention_mask=torch.ones_like(prompt),
                max_new_tokens=case.new_tokens,
                do_sample=False,
                num_beams=beams,
                eos_token_id=None,
                pad_token_id=0,
            )[0, len(ids) :].tolist()
            for name, beams in (("greedy", 1), ("beam", lanes[1].strategy.rows))
        }
    found["times_as_fast_cpu"] = found["six_calls_cpu_s"] / found["lockstep_cpu_s"]
    found["texts"] = {str(lane.strategy): results[at].text for at, lane in enumerate(lanes)}
    found["check_greedy_equals_generate"] = list(results[0].token_ids) == plain["greedy"]
    found["check_beam_equals_generate"] = list(results[1].token_ids) == plain["beam"]
    return found


# ------------------------------------------------------------------ scoring


@torch.inference_mode()
def plain_scores(model: Any, tokenizer: Any, suite: Suite) -> list[list[float]]:
    """The log-likelihood of every continuation by the harness's rules, one forward each: context and
    continuation are encoded together and divided at the length of the encoded context."""
    return [
        [plain_score(model, tokenizer, item.context, text) for text in item.continuations]
        for item in suite.items
    ]


def plain_score(model: Any, tokenizer: Any, context: str, continuation: str) -> float:
    """The log-likelihood of one continuation, by transformers' own logits. The sum over the vocabulary is in
    float64: in float32 it is off by 2e-5 a token at Gemma's 262,144 words."""
    stripped = context.rstrip()
    continuation = context[len(stripped) :] + continuation
    begin, ids = (tokenizer(text)["input_ids"] for text in (stripped, stripped + continuation))
    count = len(ids) - len(begin)
    logits = model(torch.tensor([ids[:-1]]), logits_to_keep=count).logits[0].double()
    return float(logits.log_softmax(-1).gather(1, torch.tensor(ids[-count:])[:, None]).sum())


def scoring(case: Case) -> Figures:
    """Item log-likelihoods of HellaSwag and MMLU against plain transformers and, if there is one, the
    harness."""
    model, tokenizer, found = case.base(), case.tokenizer(), Figures()
    suites = case.suites()
    score(model, tokenizer, replace(suites[0], items=suites[0].items[:1]))  # loads what a first forward loads
    for suite in suites:
        each = found[suite.name] = Figures(items=len(suite.items))
        with seconds(each, "here"):
            ours = score(model, tokenizer, suite)
        with seconds(each, "plain"):
            theirs = plain_scores(model, tokenizer, suite)
        each |= compared(suite, ours, theirs, "plain")
        each["times_as_fast_as_plain_cpu"] = each["plain_cpu_s"] / each["here_cpu_s"]
        if importlib.util.find_spec("lm_eval") is not None:
            theirs, each["harness_s"], each["harness_cpu_s"] = by_harness(model, tokenizer, suite, 1)
            each |= compared(suite, ours, theirs, "harness", HARNESS_TOLERANCE)
        each["accuracy"] = accuracy(suite, ours)
    if importlib.util.find_spec("lm_eval") is None:
        found["missing"] = "lm-evaluation-harness is not installed"
    return found


def compared(
    suite: Suite, ours: list[ItemScore], theirs: list[list[float]], name: str, tolerance: float = TOLERANCE
) -> Figures:
    """The largest difference, and whether every choice is the same."""
    largest, _, choices = differences(suite, ours, theirs)
    return {
        f"largest_difference_{name}_nats": largest,
        f"choices_unlike_{name}": choices,
        f"check_equal_to_{name}": largest < tolerance and choices == 0,
    }


def accuracy(suite: Suite, scores: Sequence[ItemScore]) -> float:
    right = [one.predicted in item.answers for item, one in zip(suite.items, scores, strict=True)]
    return sum(right) / len(right)


def nf4(case: Case) -> Figures:
    """The same items with 4-bit weights against float32: what quantisation changes."""
    suites, tokenizer, found = case.suites(), case.tokenizer(), Figures()
    scores: list[list[list[ItemScore]]] = []
    for four_bit in (False, True):
        model = case.base(four_bit)
        found["nf4_weights_mib" if four_bit else "float32_weights_mib"] = weight_bytes(model) / MIB
        scores.append([score(model, tokenizer, suite) for suite in suites])
        del model
        gc.collect()
    for suite, exact, rounded in zip(suites, *scores, strict=True):
        off = [
            abs(a - b) / max(1, tokens)
            for one, other in zip(exact, rounded, strict=True)
            for a, b, tokens in zip(one.loglikelihoods, other.loglikelihoods, one.tokens, strict=True)
        ]
        same = [one.predicted == other.predicted for one, other in zip(exact, rounded, strict=True)]
        found[suite.name] = {
            "items": len(suite.items),
            "accuracy_float32": accuracy(suite, exact),
            "accuracy_nf4": accuracy(suite, rounded),
            "same_choice": sum(same) / len(same),
            "mean_difference_nats_per_token": sum(off) / len(off),
            "largest_difference_nats_per_token": max(off),
        }
    return found


def weight_bytes(model: Any) -> int:
    return sum({each.data_ptr(): each.nbytes for each in model.parameters()}.values())


# ------------------------------------------------------------------ a run and its export


def run(case: Case) -> Figures:
    """A run in a process of its own: falling loss, and the forecast against its resident memory."""
    # one validation and one short answer at the end: the steps are what is measured
    recipe = case.recipe(eval_steps=case.steps, sample_steps=case.steps, sample_max_new_tokens=4)
    made, process = launch.create_and_start(recipe, case.work / "runs")
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    events = EventTail(made.events_path).read_all()
    if process.returncode:
        reasons = [event.message for event in events if isinstance(event, EndEvent)]
        return {"check_finished": False, "message": reasons[-1] if reasons else "it died without a reason"}
    scale = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss
    found = run_figures(events, usage.ru_maxrss * scale)
    return {"check_finished": True, "process_cpu_s": usage.ru_utime + usage.ru_stime, **found}


def run_figures(events: Sequence[RunEvent], peak_bytes: int) -> Figures:
    """The figures of a run's log beside the most memory that its process had resident."""
    steps = [event for event in events if isinstance(event, StepEvent) and event.loss is not None]
    found = falling([float(event.loss or 0.0) for event in steps])
    found["validation_loss"] = [event.loss for event in events if isinstance(event, ValidationEvent)]
    found["tok_per_s"] = [event.tok_per_s for event in steps]
    forecast = next(event for event in events if isinstance(event, ForecastEvent))
    found["forecast_parts_mib"] = {name: each / MIB for name, each in forecast.parts.items()}
    found["forecast_mib"] = forecast.total / MIB
    found["forecast_low_mib"], found["forecast_high_mib"] = forecast.low / MIB, forecast.high / MIB
    found["peak_resident_mib"] = peak_bytes / MIB
    found["steps_resident_mib"] = max(event.memory.get("resident", 0.0) for event in steps) / MIB
    found["forecast_to_resident"] = forecast.total / peak_bytes
    found["check_resident_within_forecast"] = forecast.low <= peak_bytes <= forecast.high
    return found


def falling(losses: Sequence[float]) -> Figures:
    """The losses, and whether the mean of the last third is below that of the first."""
    third = max(1, len(losses) // 3)
    first, last = sum(losses[:third]) / third, sum(losses[-third:]) / third
    return {"losses": losses, "loss_first": first, "loss_last": last, "check_loss_falls": last < first}


def saved_runs(runs: Path) -> list[Path]:
    """Folders of runs that saved an adapter, the newest last."""
    return sorted(path for path in runs.glob("*") if Run(path).saved_path is not None)


def export(case: Case) -> Figures:
    """The merged export of the run, loaded again by plain transformers, against peft's own merge."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    runs = case.work / "runs"
    done = (
        sorted(path for path in runs.glob("*") if Run(path).saved_path is not None) if runs.is_dir() else []
    )
    if not done:
        run(case)
        done = sorted(path for path in runs.glob("*") if Run(path).saved_path is not None)
    name, found = done[-1].name, Figures()
    with seconds(found, "export"):
        made = export_job.handle(
            ExportRequest(run=name, kind="merged", dtype="float32", runs_dir=str(runs)), lambda _: None
        )
    found["checks"] = {check.name: check.text for check in made.checks}
    found["check_all_passed"] = all(check.passed for check in made.checks)
    reloaded = AutoModelForCausalLM.from_pretrained(made.path, dtype=torch.float32).eval()
    base = AutoModelForCausalLM.from_pretrained(case.model, dtype=torch.float32).eval()
    ids = torch.tensor([case.tokenizer()(PROMPT)["input_ids"]])
    with torch.inference_mode():
        before = base(ids).logits
        own = PeftModel.from_pretrained(base, done[-1] / "adapter").merge_and_unload()(ids).logits
        exported = reloaded(ids).logits
    found["largest_logit_difference_from_peft"] = float((exported - own).abs().max())
    found["largest_logit_change_by_training"] = float((own - before).abs().max())
    found["check_equal_to_peft"] = found["largest_logit_difference_from_peft"] < TOLERANCE
    found["check_differs_from_base"] = found["largest_logit_change_by_training"] > TOLERANCE
    return found


# ------------------------------------------------------------------ all of it


def parts() -> dict[str, Callable[[Case], Figures]]:
    """The parts in their order."""
    from tests.benchmarks import real_model_training as training

    return {
        "decode": decode,
        "scoring": scoring,
        "nf4": nf4,
        "train": training.beside_trl,
        "profile": training.profiled,
        "choices": training.choices,
        "run": run,
        "export": export,
    }


def failed_checks(figures: Figures) -> list[str]:
    """The names of checks that are false, at any depth."""
    found = []
    for name, value in figures.items():
        if isinstance(value, dict):
            found += [f"{name}.{each}" for each in failed_checks(value)]
        elif name.startswith("check_") and not value:
            found.append(name)
    return found


def measure(case: Case, names: Sequence[str]) -> Figures:
    """The figures of parts. A part that fails is one sentence under ``error``, and the others follow."""
    found = Figures(date=time.strftime("%Y-%m-%d"), versions=versions(), machine=machine())
    found["threads"], found["parts"] = torch.get_num_threads(), Figures()
    for name in names:
        began = time.perf_counter()
        try:
            with quiet_libraries():
                figures = parts()[name](case)
        except Exception as error:
            figures = {"error": f"{type(error).__name__}: {error}"}
        figures["seconds"] = time.perf_counter() - began
        figures["load"] = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
        found["parts"][name] = figures
        print(json.dumps({name: figures}), file=sys.stderr, flush=True)
        gc.collect()
    found["failed"] = [name for name, each in found["parts"].items() if "error" in each]
    found["failed"] += failed_checks(found["parts"])
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.real_model", description=__doc__)
    parser.add_argument("--model", required=True, help="folder of a model")
    parser.add_argument("--data", required=True, type=Path, help="folder with gsm8k, hellaswag and mmlu")
    parser.add_argument("--parts", nargs="+", choices=list(parts()), default=list(parts()))
    parser.add_argument("--threads", type=int, default=0, help="of torch; 0: as many as it takes")
    counts = ("new_tokens", "items", "rows", "batch", "steps", "max_length")
    for name in counts:
        default = getattr(Case, name)
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=default, help=f"{default}")
    parser.add_argument(
        "--dtype", default=Case.dtype, choices=("float32", "bfloat16"), help="of the training"
    )
    args = parser.parse_args(arguments)
    if args.threads:
        torch.set_num_threads(args.threads)
        os.environ["OMP_NUM_THREADS"] = str(args.threads)  # of the run's process
    with tempfile.TemporaryDirectory() as work:
        case = Case(
            str(args.model),
            args.data,
            Path(work),
            dtype=args.dtype,
            **{name: getattr(args, name) for name in counts},
        )
        found = measure(case, args.parts)
    print(json.dumps(found, indent=1))
    return 1 if found["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
