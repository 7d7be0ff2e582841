"""Tiny random models and rows for the tests of the run process: seconds on one core, no network."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.utils import imports as accelerate_imports
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tests.training.warm_start import Opener
from tui_lab.hardware.device import DeviceFacts
from tui_lab.models.loading import ModelSource
from tui_lab.recipes.recipe import Recipe, build
from tui_lab.recipes.resolve import ResolvedValues
from tui_lab.runs import launch
from tui_lab.training.base_model import load_base
from tui_lab.training.build_trainer import EncodedRows, TrainerHooks, build_trainer
from tui_lab.training.trainer import LabTrainer
from tui_lab.training.types import Model

CPU = DeviceFacts("cpu", "cpu", 0, True, 1)
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
IA3 = ["k_proj", "v_proj", "down_proj"]
VOCABULARY = 320


@pytest.fixture
def cold_start() -> None:
    """Asked for by the tests whose runs start as people's do: a fresh interpreter that imports everything."""


@pytest.fixture(autouse=True)
def warm_start(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The runs of all other tests are forked from a process that has imported the libraries."""
    if "cold_start" not in request.fixturenames:
        monkeypatch.setattr(launch, "subprocess", Opener)


@pytest.fixture(scope="session", autouse=True)
def packages_looked_up_once() -> Iterator[None]:
    """accelerate asks the file system forty times a training which packages there are: here once each."""
    cached = functools.cache(accelerate_imports._is_package_available)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(accelerate_imports, "_is_package_available", cached)
        yield


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of two layers whose sizes NF4 can pack in blocks of 64."""
    folder = tmp_path_factory.mktemp("models") / "tiny-llama"
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        eos_token_id=1,
        pad_token_id=2,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    word_tokenizer().save_pretrained(folder)
    return folder


def word_tokenizer() -> PreTrainedTokenizerFast:
    """One word, one token: w0 … w319."""
    words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(VOCABULARY)}, unk_token="w0"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=words, eos_token="w1", pad_token="w2")


def rows(count: int, seed: int = 0) -> list[dict[str, list[int]]]:
    """Rows with a rule to learn (each token is the one before plus 7), the first two unlabelled."""
    chance = random.Random(seed)
    out = []
    for _ in range(count):
        first = chance.randrange(3, 60)
        ids = [first + (i * 7) % 50 for i in range(chance.randrange(6, 20))]
        out.append({"input_ids": ids, "labels": [-100, -100, *ids[2:]]})
    return out


def recipe_for(**values: Any) -> Recipe:
    """A recipe of a dozen steps; keyword arguments go on top."""
    return build(
        {
            "learning_rate": 1e-2,
            "max_steps": 12,
            "per_device_train_batch_size": 8,
            "gradient_accumulation_steps": 1,
            "max_length": 64,
            "warmup_steps": 1,
            "lora_dropout": 0.0,
            **values,
        }
    )


@pytest.fixture
def make_trainer(tiny_llama: Path, tmp_path: Path) -> Callable[..., LabTrainer]:
    """Builds the trainer of a recipe over the tiny Llama, as a run does; it ``saves`` only if told to."""

    def make(
        recipe: Recipe,
        after_step: Any = lambda trainer: None,
        folder: str = "checkpoints",
        saves: bool = False,
        packed_attention: str = "mask",
        compute_dtype: str = "float32",
        row_mask: bool = True,
        start: Callable[[Model], None] = lambda model: None,
        encoded: EncodedRows | None = None,
    ) -> LabTrainer:
        torch.manual_seed(recipe.seed)
        values = ResolvedValues(
            target_modules=list(IA3 if recipe.method == "ia3" else ALL),
            feedforward_modules=["down_proj"],
            compute_dtype=compute_dtype,
            optim=recipe.optim,
            max_length=recipe.max_length,
            packed_attention=packed_attention,
            row_mask=row_mask,
        )
        base = load_base(ModelSource(str(tiny_llama)), recipe, CPU, values)
        trainer = build_trainer(
            recipe,
            base,
            word_tokenizer(),
            encoded or EncodedRows(rows(64), rows(16, seed=1)),
            values,
            folder=tmp_path / folder,
            device="cpu",
            hooks=TrainerHooks(start=start, after_step=after_step),
        )
        trainer.args.eval_steps = trainer.args.save_steps = 1_000
        if not saves:  # a checkpoint at the end takes longer than the steps
            trainer.args.save_strategy = "no"
        return trainer

    return make


def losses(trainer: LabTrainer) -> list[float]:
    """The training loss of every step."""
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
