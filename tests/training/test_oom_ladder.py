"""Running out of memory: real runs under a real limit on live bytes, whose losses are those of an undisturbed
run; every rung; what is remembered; and giving up with everything safe."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from tests.training import architectures
from tests.training.conftest import VOCABULARY, losses, recipe_for, rows
from tui_lab.recipes.recipe import Recipe, build
from tui_lab.runs import folder, launch, wording
from tui_lab.runs.event_lines import encode_event
from tui_lab.runs.event_parts import LadderSettings
from tui_lab.runs.flags import flags
from tui_lab.runs.schema import RunEvent
from tui_lab.runs.state import RunState, Watcher
from tui_lab.training import memory_limit
from tui_lab.training.memory_limit import LimitedStorages
from tui_lab.training.oom_ladder import (
    LOSS_TILES,
    Ladder,
    LadderState,
    OutOfMemory,
    enable_checkpointing,
    why_no_checkpointing,
)
from tui_lab.training.trainer import LabTrainer
from tui_lab.training.trainer_config import TASK_COLUMN
from tui_lab.training.trainer_seams import set_loss_tile

Make = Callable[..., LabTrainer]
SMALL = {"max_steps": 2, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 2}


@pytest.fixture(autouse=True)
def chunks_of_trl() -> Any:
    yield
    set_loss_tile(*LOSS_TILES[0])


@pytest.fixture
def make(make_trainer: Make) -> Callable[..., tuple[LabTrainer, list[dict[str, Any]]]]:
    """A trainer on a rung of the ladder, and the events that it writes."""

    def made(recipe: Recipe, at: LadderState | None = None, **kwargs: Any) -> Any:
        events: list[dict[str, Any]] = []
        trainer = make_trainer(recipe, **kwargs)
        trainer.restarter.ladder = Ladder(
            recipe, write=lambda event: events.append(json.loads(encode_event(event)))
        )
        trainer.ladder.state = at or trainer.ladder.state
        return trainer, events

    return made


def fails(trainer: LabTrainer, calls: set[int] | Callable[[int], bool]) -> list[int]:
    """Makes some of the model's training forwards run out of memory after their work, by their number."""
    seen = [0]

    def hook(module: Any, args: Any, output: Any) -> None:
        if module.training:
            seen[0] += 1
            if calls(seen[0]) if callable(calls) else seen[0] in calls:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    trainer.model.register_forward_hook(hook)
    return seen


# --------------------------------------------------------------------------------------------------
# a real limit, every rung

RUNGS = [
    LadderState(),
    LadderState(2),
    LadderState(2, True),
    LadderState(2, True, 1),
    LadderState(2, True, 2),
]


def test_every_rung_gives_the_losses_of_a_run_without_limit(make: Any) -> None:
    recipe = recipe_for(**{**SMALL, "per_device_train_batch_size": 2})
    peaks, expected, validation = [], [], 0.0
    for rung in RUNGS:
        trainer, _ = make(recipe, rung)
        trainer.args.eval_strategy = trainer.args.save_strategy = "no"
        with LimitedStorages() as counted:
            trainer.train()
        peaks.append(counted.peak_bytes)
        if rung == LadderState():
            expected, validation = losses(trainer), trainer.validation_loss()
    assert peaks == sorted(peaks, reverse=True) and len(set(peaks)) == len(peaks)
    for at in range(1, len(RUNGS)):
        trainer, events = make(recipe)
        trainer.args.eval_strategy = trainer.args.save_strategy = "no"
        with LimitedStorages((peaks[at - 1] + peaks[at]) // 2) as limited:
            trainer.train()
        rungs = [event for event in events if event["kind"] == "ladder"]
        assert limited.refusals >= len(rungs) and limited.peak_bytes <= limited.limit_bytes
        assert trainer.ladder.state == RUNGS[at]
        assert losses(trainer) == pytest.approx(expected, abs=2e-6)
        assert trainer.validation_loss() == pytest.approx(validation, abs=2e-6)
        assert trainer.state.global_step == recipe.max_steps
        assert [event["rung"] for event in rungs] == ["split", "checkpointing", "loss_chunks", "loss_chunks"][
            :at
        ]
        for event, after in pairwise(rungs):
            assert event["after"] == after["before"]
        assert rungs[0]["before"]["micro_batch"] == 2 and rungs[0]["after"]["micro_batch"] == 1
        assert rungs[0]["after"]["accumulation"] == 4 and "on 2 rows of up to" in rungs[0]["text"]


def test_last_rung(make: Any, tmp_path: Path) -> None:
    trainer, events = make(recipe_for(**{**SMALL, "per_device_train_batch_size": 2}))
    with LimitedStorages(900_000), pytest.raises(OutOfMemory) as stopped:
        trainer.train()
    assert "out of memory at step 1 even with one row of" in str(stopped.value)
    assert "no step was done yet" in str(stopped.value) and "lower max_length" in str(stopped.value)
    assert events[-1]["rung"] == "give_up" and events[-1]["text"] == str(stopped.value)
    assert trainer.ladder.state == RUNGS[-1]


# --------------------------------------------------------------------------------------------------
# beginning again


@pytest.mark.parametrize("values", [{}, {"kl_weight": 0.3, "l2_to_start": 0.1}, {"packing": True}])
def test_repeated_step_is_bit_identical(make: Any, values: Any) -> None:
    """With dropout on and nothing split: random states, gradients and counts go back to where they were."""
    recipe = recipe_for(**{**SMALL, "max_steps": 3}, lora_dropout=0.3, **values)
    plain, _ = make(recipe)
    plain.train()
    again, _ = make(recipe)
    again.ladder.climb = lambda *_: True
    fails(again, {2, 3, 8})  # of step 1 the second micro-batch, its repetition; of step 2 or 3 another
    again.train()
    assert losses(again) == losses(plain)
    for before, after in zip(plain.state.log_history, again.state.log_history, strict=True):
        timed = ("train_runtime", "train_samples_per_second", "train_steps_per_second")
        assert {k: v for k, v in before.items() if k not in timed} == {
            k: v for k, v in after.items() if k not in timed
        }
    for (name, weight), (_, other) in zip(
        plain.model.named_parameters(), again.model.named_parameters(), strict=True
    ):
        assert torch.equal(weight, other), name


def test_logged_losses_belong_to_the_gradients(make: Any) -> None:
    """With dropout, what was computed before the failure is not what is computed after it."""
    recipe = recipe_for(**SMALL, lora_dropout=0.3)
    twice = []
    for _ in range(2):
        trainer, events = make(recipe)
        fails(trainer, {2})
        trainer.train()
        assert [event["rung"] for event in events] == ["split"]
        twice.append(losses(trainer))
    started_so, _ = make(recipe, LadderState(2))
    started_so.train()
    assert twice[0] == twice[1] == pytest.approx(losses(started_so), abs=1e-6)


def test_giving_up_saves_the_last_step(make: Any) -> None:
    recipe = recipe_for(**{**SMALL, "max_steps": 5}, lora_dropout=0.2)
    uninterrupted, _ = make(recipe, folder="whole")
    uninterrupted.train()
    broken, events = make(recipe, LadderState(4, True, 2), folder="broken")
    seen = fails(broken, lambda call: broken.state.global_step == 3)
    with pytest.raises(OutOfMemory, match="the checkpoint of step 3 is safe"):
        broken.train()
    assert seen[0] > 3 and events[-1]["rung"] == "give_up"
    [checkpoint] = Path(broken.args.output_dir).glob("checkpoint-3")
    first, _ = make(recipe, LadderState(4, True, 2), folder="first")
    first.train()
    resumed, _ = make(recipe, LadderState(4, True, 2), folder="broken")
    resumed.train(resume_from_checkpoint=str(checkpoint))
    assert losses(resumed) == losses(first)
    assert len(losses(uninterrupted)) == 5


def test_out_of_memory_in_the_optimiser_saves_nothing(make: Any) -> None:
    trainer, events = make(recipe_for(**SMALL))

    def no_room(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    made = trainer.create_optimizer

    def create(*args: Any) -> Any:
        optimizer = made(*args)
        optimizer.step = no_room
        return optimizer

    trainer.create_optimizer = create
    with pytest.raises(OutOfMemory, match="optimiser's step"):
        trainer.train()
    assert not list(Path(trainer.args.output_dir).glob("checkpoint-*"))
    assert events[-1]["rung"] == "give_up" and "paged_adamw_8bit" in events[-1]["text"]


def test_other_errors_are_not_swallowed(make: Any) -> None:
    trainer, events = make(recipe_for(**SMALL))
    trainer.model.register_forward_hook(lambda *_: (_ for _ in ()).throw(ValueError("a bug")))
    with pytest.raises(ValueError, match="a bug"):
        trainer.train()
    assert events == []


def test_held_out_rows_that_do_not_fit_give_one_warning(make: Any) -> None:
    trainer, events = make(recipe_for(**SMALL))
    one_batch = trainer.validation_loss()
    longest = max(len(row["input_ids"]) for row in rows(16, seed=1))

    def hook(module: Any, args: Any, kwargs: Any) -> None:
        if kwargs["input_ids"].shape[1] == longest:
            raise torch.OutOfMemoryError("CUDA out of memory")

    trainer.model.register_forward_pre_hook(hook, with_kwargs=True)
    for _ in range(2):
        assert trainer.validation_loss() != one_batch
    assert [event["kind"] for event in events].count("warning") == 1
    assert events[0]["rung"] == "validation" and trainer.ladder.state.evaluation_parts == 4


# --------------------------------------------------------------------------------------------------
# parts add up

KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "packed": {"packing": True, "kl_weight": 0.5},
    "held": {"kl_weight": 0.5, "l2_to_start": 0.3, "label_smoothing_factor": 0.1},
    "tasks": {"uncertainty_weighting": True},
    "adalora": {"method": "adalora", "init_r": 4, "target_r": 2},
}


@pytest.mark.parametrize("kind", list(KINDS))
def test_gradients_of_parts_add_up(make: Any, kind: str) -> None:
    trainer, _ = make(recipe_for(**{**SMALL, "max_steps": 12}, **KINDS[kind]))
    trainer.current_gradient_accumulation_steps = 2
    trainer.create_optimizer()
    objective = trainer.objective
    weights = [weight for weight in trainer.model.parameters() if weight.requires_grad]
    if objective is not None and objective.raw_sigma is not None:
        objective.tasks = ["a", "b", "c"]
        objective.raw_sigma = torch.nn.Parameter(torch.tensor([0.2, 0.5, 0.9]))
        weights.append(objective.raw_sigma)
    with torch.no_grad():  # away from the start, where half of an adapter's gradients are zero
        for number, weight in enumerate(weights):
            weight += 0.05 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(number))

    @settings(max_examples=6, suppress_health_check=[HealthCheck.too_slow])
    @given(some.integers(2, 6), some.integers(0, 99), some.integers(2, 8), some.booleans())
    def same(count: int, seed: int, parts: int, counted: bool) -> None:
        data = [{**row, TASK_COLUMN: at % 3} for at, row in enumerate(rows(count, seed))]
        if kind == "packed":
            data = [{**row, "seq_lengths": [len(row["input_ids"])]} for row in data]
        batch = trainer.data_collator(data)
        # models that take no count of tokens get the mean of each batch from the Trainer
        trainer.model_accepts_loss_kwargs = counted or kind != "plain"
        tokens = torch.tensor(137) if trainer.model_accepts_loss_kwargs else None
        found = []
        for number in (1, parts):
            for weight in weights:
                weight.grad = None
            trainer.train_metrics.clear()
            trainer.ladder.state = LadderState(number)
            loss = trainer.restarter.training_step(
                super(LabTrainer, trainer).training_step, trainer.model, batch, tokens
            )
            figures = {n: [float(each) for each in values] for n, values in trainer.train_metrics.items()}
            figures.pop("num_tokens")
            found.append((loss, [w.grad.clone() for w in weights if w.grad is not None], figures))
        (loss, gradients, figures), (in_parts, of_parts, joined) = found
        assert float(in_parts) == pytest.approx(float(loss), rel=1e-5, abs=1e-6)
        assert len(gradients) == len(of_parts) > 0
        for one, other in zip(gradients, of_parts, strict=True):
            assert torch.allclose(one, other, rtol=1e-4, atol=1e-6)
        assert figures.keys() == joined.keys()
        for name, values in figures.items():
            assert joined[name] == pytest.approx(values, rel=1e-4, abs=1e-6), name

    same()


@pytest.mark.parametrize("name", list(architectures.MAKERS))
@pytest.mark.parametrize("full", [False, True])
def test_checkpointing_during_training(name: str, full: bool) -> None:
    base = architectures.make(name)
    model = base
    if not full:
        model = peft.get_peft_model(
            base, peft.LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM")
        )
    model.train()
    block = next(m for m in base.modules() if isinstance(m, torch.nn.ModuleList))[0]
    calls = [0]
    next(iter(block.children())).register_forward_hook(lambda *_: calls.__setitem__(0, calls[0] + 1))
    ids = torch.randint(2, 90, (2, 9), generator=torch.Generator().manual_seed(0))

    def gradients() -> list[torch.Tensor]:
        model.zero_grad()
        torch.manual_seed(0)
        model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
        return [w.grad.clone() for w in model.parameters() if w.requires_grad and w.grad is not None]

    plain, once = gradients(), calls[0]
    assert why_no_checkpointing(model) == ""
    enable_checkpointing(model)
    enable_checkpointing(model)
    recomputed = gradients()
    assert calls[0] == 3 * once  # the block is computed again on the way back
    assert len(plain) == len(recomputed) > 0
    assert all(torch.equal(one, other) for one, other in zip(plain, recomputed, strict=True))


def test_a_prefix_cannot_be_recomputed(make: Any) -> None:
    trainer, _ = make(recipe_for(**SMALL, method="prefix", num_virtual_tokens=4), LadderState(4))
    assert "prefix" in why_no_checkpointing(trainer.model)
    fails(trainer, {1})
    trainer.train()
    assert trainer.ladder.state == LadderState(4, False, 1)


# --------------------------------------------------------------------------------------------------
# words, costs, memory


def test_cost_of_a_rung() -> None:
    events: list[dict[str, Any]] = []
    ladder = Ladder(recipe_for(**SMALL), write=lambda event: events.append(json.loads(encode_event(event))))
    model = architectures.make("llama")
    batch = {"input_ids": torch.ones(4, 9), "labels": torch.ones(4, 9)}
    for seconds in (1.0, 1.2, 1.1):
        ladder.timed(1, seconds)
    assert ladder.climb(model, batch, batch, 5, 0.7) and ladder.climb(model, batch, batch, 6, 0.2)
    assert "0.7 s of work are repeated" in events[0]["cost"]
    for step, seconds in enumerate((1.7, 1.65, 1.5)):
        assert len(events) == 2
        ladder.timed(step, seconds)
    assert events[2]["kind"] == "ladder_cost" and (events[2]["before_s"], events[2]["after_s"]) == (1.1, 1.65)
    assert "+50%" in events[2]["text"]


@given(some.integers(), some.integers(), some.none() | some.booleans())
def test_states_of_events_are_clamped(parts: int, level: int, checkpointing: bool | None) -> None:
    found = LadderState.from_record(
        LadderSettings(None, None, parts, checkpointing, None, None, level, parts)
    )
    assert found.parts == found.evaluation_parts >= 1 and 0 <= found.tile_level < len(LOSS_TILES)


def test_invalid_memory_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(memory_limit.ENVIRONMENT, raising=False)
    assert memory_limit.limit_bytes() == 0
    monkeypatch.setenv(memory_limit.ENVIRONMENT, "8 GB")
    with pytest.raises(Exception, match="takes a number of bytes"):
        memory_limit.limit_bytes()


def test_live_bytes() -> None:
    with LimitedStorages(10_000_000) as counted:
        one = torch.zeros(1_000_000)
        view = one[:10].view(2, 5)
        assert counted.live_bytes == pytest.approx(4_000_000, abs=1024)
        del one
        assert counted.live_bytes == pytest.approx(4_000_000, abs=1024)  # its view holds it
        with pytest.raises(torch.OutOfMemoryError, match="wanted"):
            torch.zeros(2_000_000)
        assert counted.live_bytes == pytest.approx(4_000_000, abs=1024)
        del view
        assert counted.live_bytes < 1024 and torch.zeros(2_000_000).sum() == 0


# --------------------------------------------------------------------------------------------------
# a run as a process

#: The output layer's tile alone takes 8 rows × 14 tokens × 32,768 × 4 bytes = 14.7 MB.
PROCESS_LIMIT = "9000000"


def test_resumed_run_starts_on_its_last_rung(
    tiny_llama: Path, runs_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "counting.txt"
    lines = [" ".join(f"w{3 + (start + i * 7) % (VOCABULARY - 3)}" for i in range(14)) for start in range(60)]
    data.write_text("\n\n".join(lines), encoding="utf-8")
    recipe = build(
        {
            "model": str(tiny_llama), "data": str(data), "max_length": 32, "max_steps": 3, "eval_steps": 3,
            "learning_rate": 1e-2, "per_device_train_batch_size": 8, "gradient_accumulation_steps": 2,
            "sample_max_new_tokens": 2, "probe_share": 0.0, "lora_dropout": 0.0,
        }
    )  # fmt: skip
    monkeypatch.setenv(memory_limit.ENVIRONMENT, PROCESS_LIMIT)
    run = folder.create(recipe)
    assert launch.start(run).wait(timeout=240) == 0, run.log_tail()
    state = Watcher(run).read_all()
    rungs = [event.rung for event in state.ladder]
    assert "split" in rungs and "give_up" not in rungs and state.end.state == "finished"
    assert state.loss.steps == [1, 2, 3]
    assert any("micro-batches of 4" in wording.sentence(event) for event in state.feed)
    [flag] = [flag for flag in flags(state) if flag.name == "out_of_memory"]
    assert flag.severity == "amber" and "micro-batches of" in flag.sentence
    after = state.ladder[-1].after
    choices: list[Any] = []
    resumed = Ladder(recipe, write=choices.append)
    resumed.resume(after)
    [choice] = choices
    assert choice.value == after == resumed.record(resumed.state) and "in an earlier attempt" in choice.reason


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_memory_limit(
    tiny_llama: Path, runs_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tile of the output layer takes 16 rows × 200 tokens × 32,768 × 4 bytes = 420 MB, most of it all."""
    data = tmp_path / "counting.txt"
    lines = [
        " ".join(f"w{3 + (start + i * 7) % (VOCABULARY - 3)}" for i in range(200)) for start in range(60)
    ]
    data.write_text("\n\n".join(lines), encoding="utf-8")
    recipe = build(
        {
            "model": str(tiny_llama), "data": str(data), "max_length": 256, "max_steps": 6, "eval_steps": 6,
            "learning_rate": 1e-2, "per_device_train_batch_size": 16, "gradient_accumulation_steps": 2,
            "sample_max_new_tokens": 2, "probe_share": 0.0, "lora_dropout": 0.0, "compute_dtype": "float32",
        }
    )  # fmt: skip

    def finished(limit: str) -> RunState:
        monkeypatch.setenv(memory_limit.ENVIRONMENT, limit)
        run = folder.create(recipe)
        assert launch.start(run).wait(timeout=300) == 0, run.log_tail()
        return Watcher(run).read_all()

    plain = finished("")
    limited = finished(str(int(0.7 * plain.peak_memory["cuda_reserved"])))
    assert plain.ladder == [] and "split" in [event.rung for event in limited.ladder]
    assert limited.peak_memory["cuda_reserved"] < 0.75 * plain.peak_memory["cuda_reserved"]
    assert limited.loss.values == pytest.approx(plain.loss.values, abs=1e-3)


def test_memory_of_other_processes_is_the_cause_and_not_the_recipe() -> None:
    written: list[RunEvent] = []
    held = "other processes (process 7) hold 10 GiB of this GPU"
    ladder = Ladder(recipe_for(**SMALL), None, written.append, lambda: held)
    said = str(ladder.give_up(4, "on 2 rows", "step 3 is saved"))
    assert said == f"out of memory at step 4 on 2 rows; step 3 is saved; {held}: end them, then resume"
    assert "lower max_length" in str(Ladder(recipe_for(**SMALL)).give_up(4, "on 2 rows", "step 3 is saved"))
