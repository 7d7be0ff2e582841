"""What a recipe's steps take of memory, counted and not estimated: the run's own trainer does two real
optimiser steps over a model of fake tensors, and every storage that lives meanwhile is counted (the second
has the optimiser's states from its start and, where a step has several batches, the gradients of one before:
nothing new would come after that). Needs no weights, no GPU and no download; takes seconds. The job is
``python -m tui_lab.training.memory_probe``.

For a CUDA card the operations are those that CUDA would run where they differ from the CPU's: Triton's fused
output layer, dropout with a byte a value, AdamW over lists of tensors, 4-bit products over dequantised
weights. Rows are taken as long as ``max_length`` and as trained on at every token: the most that they can be.
"""

from __future__ import annotations

import logging
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl.kernels.chunked_logprob import ChunkedLogProbFunction

from tui_lab.core import job_protocol
from tui_lab.core.errors import LabError
from tui_lab.data.rows import TokenRow
from tui_lab.hardware.device import DeviceFacts
from tui_lab.models import catalog, target_modules
from tui_lab.models.loading import DTYPES, ModelSource, load_config
from tui_lab.models.module_stats import linear_names
from tui_lab.pocket import MODEL_DIR
from tui_lab.recipes.recipe import Recipe, build
from tui_lab.recipes.resolve import METHODS_WITH_TARGETS, resolve
from tui_lab.training import fake_model, objective, trainer
from tui_lab.training.base_model import weights_dtype
from tui_lab.training.live_storages import LiveStorages, rounded
from tui_lab.training.regularise import Dense

FORWARD, LOSS, BACKWARD, OPTIMIZER = "forward", "loss", "backward", "optimizer"


@dataclass(frozen=True)
class MemoryCount:
    """Bytes, as CUDA's allocator or the CPU's would hold them: ``peak_bytes`` all at the worst moment,
    ``peaks`` the worst of each phase (forward, loss, backward, optimizer), ``gradients_bytes`` those of a
    whole step, ``saved_bytes`` what lives beside the model and earlier gradients when the loss is reached."""

    peak_bytes: int
    peaks: dict[str, int]
    weights_bytes: int
    adapter_bytes: int
    gradients_bytes: int
    optimizer_bytes: int
    protections_bytes: int
    saved_bytes: int
    seconds: float


class _FakeTrainer(trainer.LabTrainer):
    """The run's trainer, over a model that lies on no device yet."""

    def _move_model_to_device(self, model: Any, device: Any) -> None:
        return


def probe(config: Any, recipe: Recipe, values: dict[str, Any], device: str) -> MemoryCount:
    """Two steps of ``recipe`` on a model of ``config`` (transformers'), with the resolved ``values``, as
    ``device`` (``cuda`` or ``cpu``) would do them."""
    began = time.monotonic()
    compute = DTYPES[str(values["compute_dtype"])]
    if compute is torch.float16:
        compute = torch.bfloat16  # as large; a CPU has no loss scaling
    values = {**values, "compute_dtype": "float32" if compute is torch.float32 else "bfloat16"}
    # pages are memory too, where there is room
    values["optim"] = str(values["optim"]).removeprefix("paged_").replace("adamw_32bit", "adamw_torch")
    model = fake_model.meta_model(
        config,
        DTYPES[weights_dtype(recipe, str(values["compute_dtype"]))],
        str(values["attn_implementation"]),
        nf4=recipe.quantization == "nf4",
        double=recipe.double_quantization,
        compute=compute,
    )
    rows = recipe.per_device_train_batch_size
    length = int(values["max_length"])
    many = rows > 1 and not recipe.packing
    uniform = not (recipe.packing or many)
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    counting = LiveStorages(uniform, _dequantized)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        stack.enter_context(_quiet())
        stack.enter_context(patch("peft.tuners.lora.dora.deepcopy", lambda module: module))
        stack.enter_context(
            patch("peft.tuners.lora.dora.dequantize_module_weight", fake_model.dequantized_weight)
        )
        made = _trainer(recipe, model, values, Path(folder))
        fake_model.make_fake(made.model, mode)
        stack.enter_context(_as_on(device))
        stack.enter_context(mode)
        counting.hold(fake_model.tensors_of(made.model))
        trained = [each for each in made.model.parameters() if each.requires_grad]
        adapter = sum(rounded(each.nbytes) for each in trained) if recipe.is_adapter else 0
        weights = counting.live_bytes - adapter
        if objective.is_needed(recipe):
            _protect(made, recipe, config, values, mode, counting)
        protections = counting.live_bytes - adapter - weights
        result = _steps(made, recipe, counting, rows, length, device)
    return MemoryCount(
        weights_bytes=weights,
        adapter_bytes=adapter,
        protections_bytes=protections,
        seconds=round(time.monotonic() - began, 2),
        **result,
    )


def _trainer(recipe: Recipe, model: Any, values: dict[str, Any], folder: Path) -> Any:
    tokenizer = AutoTokenizer.from_pretrained(MODEL_DIR)
    rows: list[TokenRow] = [{"input_ids": [1, 1], "labels": [1, 1]}] * 2
    later = {"kl_weight": 0.0, "l2_to_start": 0.0, "ewc_lambda": 0.0, "uncertainty_weighting": False}
    plain = recipe.model_copy(
        update={"packing": False, "init_lora_weights": "default", "max_steps": 100, **later}
    )
    with patch.object(trainer, "LabTrainer", _FakeTrainer):
        return trainer.build_trainer(
            plain,
            model,
            tokenizer,
            rows,
            rows,
            values,
            folder=folder,
            device="cpu",
            callbacks=[],
            after_step=lambda _: None,
        )


def _protect(
    made: Any,
    recipe: Recipe,
    config: Any,
    values: dict[str, Any],
    mode: FakeTensorMode,
    counting: LiveStorages,
) -> None:
    """What losses of one's own and the pull towards the base keep beside the model."""
    frozen = None
    if recipe.kl_weight and not recipe.is_adapter:
        compute, attention = DTYPES[str(values["compute_dtype"])], str(values["attn_implementation"])
        with unset_fake_temporarily():
            frozen = fake_model.meta_model(
                config, compute, attention, nf4=False, double=False, compute=compute
            )
        fake_model.make_fake(frozen.requires_grad_(False), mode)
        counting.hold(fake_model.tensors_of(frozen))
    uniform, counting.uniform = counting.uniform, False  # adapters start at zero
    with counting:
        # weights of tasks are a handful of numbers, and told apart by values that there are none of
        plain = recipe.model_copy(update={"uncertainty_weighting": False})
        made.objective = objective.Objective(plain, made.model, frozen)
        if recipe.ewc_lambda:
            for name, change in made.objective.changes.items():
                shape = (
                    change.weight.shape if isinstance(change, Dense) else (len(change.b), change.a.shape[1])
                )
                made.objective.importance[name] = torch.zeros(shape)
    counting.uniform = uniform


def _steps(
    made: Any, recipe: Recipe, counting: LiveStorages, rows: int, length: int, device: str
) -> dict[str, Any]:
    accumulation = recipe.gradient_accumulation_steps
    made.current_gradient_accumulation_steps = accumulation
    optimizer = made.create_optimizer()
    if device == "cuda":
        for group in optimizer.param_groups:
            if "foreach" in group and not group.get("fused"):
                group["foreach"] = True
    if made.args.activation_checkpointing:  # as the Trainer does when training begins
        made.model.activation_checkpointing_enable()
    model = made.accelerator.prepare_model(made.model, device_placement=False)
    gradients, before = 0, counting.live_bytes
    with counting, _told_apart(counting) as saved:
        for step in (1, 2):
            counting.phase = FORWARD
            inputs = _batch(recipe, rows, length)
            made.training_step(model, inputs, torch.tensor(rows * (length - 1) * accumulation))
            del inputs
            held = [each.grad for each in made.model.parameters() if each.grad is not None]
            gradients = sum(rounded(each.nbytes) for each in held)
            counting.phase = OPTIMIZER
            if recipe.max_grad_norm:
                torch.nn.utils.clip_grad_norm_(made.model.parameters(), recipe.max_grad_norm)
            del held
            optimizer.step()
            if step == 2 or accumulation == 1:
                made.model.zero_grad(set_to_none=True)
            # else they stay, as those of the second step's first batch beside its second
    states = [
        value
        for state in optimizer.state.values()
        for value in state.values()
        if isinstance(value, torch.Tensor) and value.dim()
    ]
    unique = {each.untyped_storage()._cdata: rounded(each.untyped_storage().nbytes()) for each in states}
    return {
        "peak_bytes": max(counting.peaks.values()),
        "peaks": dict(counting.peaks),
        "saved_bytes": saved[0] - before,
        "gradients_bytes": gradients,
        "optimizer_bytes": sum(unique.values()),
    }


def _batch(recipe: Recipe, rows: int, length: int) -> dict[str, torch.Tensor]:
    """Inputs as trl's collators make them: one long row of packed documents, or padded rows (B, T)."""
    if recipe.packing:
        ids = torch.zeros((1, rows * length), dtype=torch.int64)
        return {"input_ids": ids, "labels": ids.clone(), "position_ids": ids.clone()}
    ids = torch.zeros((rows, length), dtype=torch.int64)
    return {"input_ids": ids, "labels": ids.clone(), "attention_mask": ids.clone()}


@contextmanager
def _told_apart(counting: LiveStorages) -> Iterator[list[int]]:
    """Sets the phase around the output layer; the list gets what is live each time that it is reached."""
    function: Any = ChunkedLogProbFunction
    forward, backward, reached = function.forward, function.backward, []

    def to_loss(ctx: Any, *args: Any) -> Any:
        reached.append(counting.live_bytes)
        counting.phase = LOSS
        return forward(ctx, *args)

    def from_loss(ctx: Any, *gradients: Any) -> Any:
        found = backward(ctx, *gradients)
        counting.phase = BACKWARD
        return found

    with (
        patch.object(function, "forward", staticmethod(to_loss)),
        patch.object(function, "backward", staticmethod(from_loss)),
    ):
        yield reached


# --------------------------------------------------------------------------------------------------
# what differs from device to device


@contextmanager
def _as_on(device: str) -> Iterator[None]:
    """Reading fake tensors as if they had values, and CUDA's operations where they are not the CPU's."""
    with ExitStack() as stack:
        stack.enter_context(patch("transformers.masking_utils.is_tracing", lambda *_: False))
        stack.enter_context(patch.object(FakeTensor, "tolist", lambda tensor: [1.0] * tensor.numel()))
        if device == "cuda":
            for name, stand_in in _CUDA.items():
                stack.enter_context(patch(name, stand_in, create=name.endswith(".triton")))
        yield


class _Launched:
    """A Triton kernel: works in place, allocates nothing."""

    def __getitem__(self, grid: Any) -> Any:
        return lambda *args, **kwargs: None


class _Triton:
    """The one function of Triton that is called outside of its kernels."""

    @staticmethod
    def cdiv(numerator: int, denominator: int) -> int:
        return -(-numerator // denominator)


def _fused_dropout(
    input: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
) -> torch.Tensor:
    if not training or p == 0:
        return input
    return torch.native_dropout(input, p, True)[0]


_attention = torch.nn.functional.scaled_dot_product_attention


def _flash_attention(*args: Any, **kwargs: Any) -> torch.Tensor:
    """On CUDA dropout takes place inside of the fused kernel; the CPU leaves its own for it."""
    return _attention(*args, **{**kwargs, "dropout_p": 0.0})


_LAUNCHED = _Launched()
#: What trl and torch do otherwise on CUDA: kernels that work in place, products that write in place.
_CUDA: dict[str, Any] = {
    "torch.nn.functional.dropout": _fused_dropout,
    "torch.nn.functional.scaled_dot_product_attention": _flash_attention,
    "trl.trainer.utils._use_triton": lambda _: True,
    **{
        f"trl.kernels.{module}.{name}": stand_in
        for module, kernels in {
            "chunked_logprob": ("_forward_kernel", "_backward_kernel"),
            "chunked_divergence": ("_stats_kernel", "_backward_kernel"),
        }.items()
        for name, stand_in in {
            **dict.fromkeys(kernels, _LAUNCHED),
            "_use_triton": lambda _: True,
            "_addmm_fp32": lambda acc, a, b: None,
            "triton": _Triton,
        }.items()
    },
    "trl.kernels.chunked_divergence._project": lambda *_: None,
}


_GEMM_4BIT = torch.ops.bitsandbytes.gemm_4bit.default


def _dequantized(func: Any, args: tuple[Any, ...]) -> int:
    """Over about 1,500 rows bitsandbytes multiplies with weights that it dequantises inside the product."""
    if func is not _GEMM_4BIT:
        return 0
    out_features, in_features = args[2]
    return rounded(out_features * in_features * args[0].element_size())


@contextmanager
def _quiet() -> Iterator[None]:
    """Warnings about a model without weights are of no use to anybody."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


# --------------------------------------------------------------------------------------------------
# the job


def handle(request: dict[str, Any], progress: Any) -> dict[str, Any]:
    """Answers a job's request: ``recipe`` (its plain values) and ``device`` (the facts of a card or CPU)."""
    recipe = build(request["recipe"])
    device = DeviceFacts(**request["device"])
    entry = catalog.find(recipe.model, allow_large=recipe.allow_large)
    values = dict(resolve(recipe, device, entry).values)
    progress(f"building {entry.label} without its weights")
    config = _config(entry, recipe)
    if recipe.method in METHODS_WITH_TARGETS and not values["target_modules"]:
        with torch.device("meta"):
            names = linear_names(AutoModelForCausalLM.from_config(config))
        found = target_modules.explain(config.model_type, recipe.target_modules, names)
        values |= {"target_modules": found.modules, "feedforward_modules": found.feedforward}
    kind = "cuda" if device.type == "cuda" else "cpu"
    progress(f"counting what two steps of {entry.label} hold")
    probed = probe(config, recipe, values, kind)
    return {**asdict(probed), "phase": max(probed.peaks, key=lambda name: probed.peaks[name]), "device": kind}


def _config(entry: catalog.Entry, recipe: Recipe) -> Any:
    """The model's configuration: its own file where that is on this machine, else from the catalog's sizes.
    Raises LabError."""
    if entry.path is not None or entry.shape is None:
        try:
            return load_config(
                ModelSource(str(entry.path or entry.loadable), "" if entry.path else recipe.revision)
            )
        except LabError:
            if entry.shape is None:
                raise
    assert entry.shape is not None
    return fake_model.config_of(entry.shape)


if __name__ == "__main__":
    sys.exit(job_protocol.serve(handle))
