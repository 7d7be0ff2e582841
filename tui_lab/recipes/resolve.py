"""The settings of a recipe on one machine and one model, each with its reason.

A recipe may leave values open (``compute_dtype = "auto"``), use names (``target_modules = "all"``) or
request what the device does not support (paged states without CUDA). :func:`resolve` decides all of it
before anything is loaded; the run writes the reasons to its event log. No torch."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Protocol

from msgspec import Struct

from tui_lab.core import format
from tui_lab.core.errors import LabError
from tui_lab.core.paths import expanded
from tui_lab.hardware import cuda_support, precision
from tui_lab.hardware.device import DeviceFacts
from tui_lab.models import target_modules
from tui_lab.models.shapes import known
from tui_lab.models.stored_forms import DESCRIPTIONS, READERS, StoredForm
from tui_lab.recipes.packed_attention import VARLEN_MODELS, why_mask
from tui_lab.recipes.presets import replaced_max_steps
from tui_lab.recipes.recipe import Recipe
from tui_lab.recipes.rules import LORA_LIKE_METHODS, VIRTUAL_TOKEN_METHODS, warnings_for
from tui_lab.recipes.schema import TRACKERS

#: Methods that attach to layers; the others learn virtual tokens or train every weight.
METHODS_WITH_TARGETS = (*LORA_LIKE_METHODS, "ia3", "osf")

#: Their attention caps its logits (softcap), which the sdpa kernels leave out.
SOFTCAP_MODELS = ("gemma2",)
#: A float32 CPU run of more than this is a matter of hours, not of minutes.
CPU_PARAMETERS_LIMIT = 200_000_000
#: The shortest useful row, in tokens (also the lower limit of max_length).
SHORTEST_ROW = 16
VALIDATIONS_A_RUN = 8
#: Validations take at most this share of the training, unless they then have fewer rows than this.
VALIDATION_SHARE, FEWEST_VALIDATION_ROWS = 0.1, 256


class ModelFacts(Protocol):
    """The facts about a model; :class:`tui_lab.models.catalog.Entry` has them. None means unknown."""

    @property
    def label(self) -> str: ...
    @property
    def model_type(self) -> str | None: ...
    @property
    def parameters(self) -> int | None: ...
    @property
    def context(self) -> int | None: ...
    @property
    def chat_template(self) -> bool | None: ...


@dataclass(frozen=True)
class ResolvedChoice:
    """One resolved field, with the reason."""

    field: str
    value: object
    reason: str


class ResolvedValues(Struct, kw_only=True):
    """The values that a run uses. ``quantization``: none, nf4, int8 or fp8 as the weights are in memory, ""
    as the recipe says. ``target_modules`` and ``feedforward_modules`` are empty while the model's
    layers are not known: the run looks them up when it has loaded the model."""

    compute_dtype: str
    quantization: str = ""
    optim: str
    attn_implementation: str = "sdpa"
    packed_attention: str = "mask"  # or "varlen"
    liger_kernel: bool = False
    row_mask: bool = True  # whether padded rows have a mask, which causal attention does not need
    max_length: int
    target_modules: list[str] = []
    feedforward_modules: list[str] = []


def unresolved(recipe: Recipe) -> ResolvedValues:
    """The recipe's own values, for forecasts without a device."""
    return ResolvedValues(
        compute_dtype=recipe.compute_dtype, optim=recipe.optim, max_length=recipe.max_length
    )


@dataclass(frozen=True)
class Resolution:
    """The resolved ``values``, with the ``reasons`` in the order of the choices."""

    values: ResolvedValues
    reasons: list[ResolvedChoice]
    warnings: list[str]


@dataclass(frozen=True)
class _Case:
    """What is resolved, and where the choices go."""

    recipe: Recipe
    device: DeviceFacts
    model: ModelFacts
    found: Resolution

    def note(self, field: str, value: object, reason: str) -> None:
        """Adds a reason for a value that the recipe itself has."""
        self.found.reasons.append(ResolvedChoice(field, value, reason))

    def settle(self, field: str, value: object, reason: str) -> None:
        """Sets a resolved value, with its reason."""
        setattr(self.found.values, field, value)
        self.note(field, value, reason)


def resolve(recipe: Recipe, device: DeviceFacts, model: ModelFacts) -> Resolution:
    """Resolves everything that the recipe leaves open. Raises LabError where the device or the model cannot
    run it."""
    found = Resolution(unresolved(recipe), [], warnings_for(recipe, model.parameters))
    case = _Case(recipe, device, model, found)
    for settle in (
        _device,
        _compute_dtype,
        _quantization,
        _optim,
        _attention,
        _packed_attention,
        _max_length,
        _targets,
        _gradient_checkpointing,
        _epochs,
        _liger_kernel,
        _measuring,
        _chat_template,
        _processes,
        _trackers,
    ):
        settle(case)
    return found


# --------------------------------------------------------------------------------------------------
# device and precision


def _device(case: _Case) -> None:
    memory = f", {format.size(case.device.memory_bytes)}" if case.device.memory_bytes else ""
    if case.device.type == "cuda":
        case.note("device", "cuda", f"the GPU: {case.device.name}{memory}")
    elif case.device.type == "mps":
        case.note("device", "mps", f"Apple's GPU{memory}")
    else:
        threads = "1 thread" if case.device.threads == 1 else f"{case.device.threads} threads"
        asked = case.recipe.device == "cpu"
        reason = "because the recipe sets it" if asked else cuda_support.without_gpu_reason(os.environ)
        case.note("device", "cpu", f"{reason}: the CPU, {threads}{memory}")
        if case.model.parameters and case.model.parameters > CPU_PARAMETERS_LIMIT:
            case.found.warnings.append(
                f"{case.model.label} has {case.model.parameters / 1e6:,.0f} M parameters and the run uses no "
                "GPU: expect hours; the bundled model (model = 'pocket') is made for a CPU"
            )


def _compute_dtype(case: _Case) -> None:
    requested = case.recipe.compute_dtype
    if requested == "float16" and case.device.type != "cuda":
        raise LabError(
            "compute_dtype = 'float16' needs a CUDA GPU, whose loss scaling keeps small gradients alive; "
            "here use compute_dtype = 'auto' or 'float32'"
        )
    if requested == "bfloat16" and not case.device.bf16:
        where = case.device.name if case.device.type == "cuda" else "this device"
        case.found.warnings.append(
            f"compute_dtype = 'bfloat16': {where} has no bfloat16 of its own and emulates it slowly; "
            "compute_dtype = 'auto' chooses what it is fast at"
        )
    if requested != "auto":
        case.settle("compute_dtype", requested, "because the recipe sets it")
    else:
        best = precision.best_dtype(case.device.type, case.device.bf16, case.model.model_type)
        scaling = "; training scales the loss; set float32 if it becomes NaN" * (best.dtype == "float16")
        case.settle("compute_dtype", best.dtype, best.reason + scaling)
    if case.recipe.method == "full" and case.found.values.compute_dtype == "bfloat16":
        case.note(
            "weights",
            "float32",
            "trained weights stay in float32: updates of 1e-5 are lost in bfloat16's eight bits",
        )


_EIGHT_BITS = {
    "int8": "LLM.int8 because the recipe sets it: the frozen weights take half of bfloat16's memory",
    "fp8": "FP8 (e4m3) because the recipe sets it: half of bfloat16's memory, unpacked for each product",
}


def _quantization(case: _Case) -> None:
    wanted = case.recipe.quantization
    form: StoredForm = getattr(case.model, "form", "plain")  # stand-ins of models have none
    if case.recipe.unquantized_budget and form != "plain":
        raise LabError(
            f"unquantized_budget: {DESCRIPTIONS[form]}, so no layer of {case.model.label} can be left "
            "unquantised; use unquantized_budget = 0, or the original model"
        )
    case.found.values.quantization = wanted
    if form in ("bnb4", "bnb8") and (case.recipe.method == "full" or case.device.type == "mps"):
        why = "all are trained" if case.recipe.method == "full" else "bitsandbytes needs CUDA or a CPU"
        case.settle("quantization", "none", f"the stored 4- or 8-bit weights become plain ones: {why}")
    elif form in READERS and case.recipe.method == "full":
        raise LabError(
            f"{case.model.label}: {DESCRIPTIONS[form]}, so method = 'full' cannot train them. Take the "
            "original model, or method = 'lora'."
        )
    elif form in ("bnb4", "bnb8", *READERS):
        stored = "int8" if form == "bnb8" else "nf4"  # GPTQ and AWQ take as much as NF4
        _check_method_on_rounded_weights(case, stored)
        case.settle("quantization", stored, DESCRIPTIONS[form])
    elif wanted == "nf4" and case.device.type == "mps":
        reason = (
            "Apple's GPU: 4-bit weights need bitsandbytes' CUDA or CPU code, so plain weights are adapted"
        )
        case.settle("quantization", "none", f"{reason} in {case.found.values.compute_dtype}")
        case.found.warnings.append(
            f"quantization = 'nf4' is not used on {reason} in {case.found.values.compute_dtype}, which takes "
            "more memory"
        )
    elif wanted in _EIGHT_BITS and case.device.type == "mps":
        raise LabError(
            f"quantization = '{wanted}' is not possible on Apple's GPU, which has neither bitsandbytes' code "
            "nor FP8: use quantization = 'none', or device = 'cpu'"
        )
    elif wanted in _EIGHT_BITS:
        case.note("quantization", wanted, _EIGHT_BITS[wanted])
    elif wanted == "nf4":
        double = " with double quantisation" if case.recipe.double_quantization else ""
        if case.device.type == "cuda":
            reason = "because the recipe sets it: the frozen weights take a quarter of bfloat16's memory"
        else:
            reason = "on a CPU because the recipe sets it: it saves memory, not time"
        case.note("quantization", "nf4", f"NF4{double} {reason}")
    if form == "fp8":
        case.note("weights", case.found.values.compute_dtype, DESCRIPTIONS[form])


def _check_method_on_rounded_weights(case: _Case, stored: str) -> None:
    """Raises LabError for methods that a recipe with quantization = ``stored`` refuses, too."""
    if case.recipe.quantization == stored:
        return
    try:
        case.recipe.changed(quantization=stored)
    except LabError as error:
        raise LabError(
            f"{case.model.label} has rounded weights, as with quantization = '{stored}': {error}"
        ) from None


def _optim(case: _Case) -> None:
    requested = case.recipe.optim
    if case.device.type == "cuda" or requested in ("adamw_torch", "adamw_torch_fused", "adafactor", "sgd"):
        reason = "because the recipe sets it"
        if requested.startswith("paged"):
            reason = "because the recipe sets it: its states move to the host's memory when the GPU is full"
        case.settle("optim", requested, reason)
    elif requested == "paged_adamw_32bit":
        case.settle("optim", "adamw_torch", "paging needs CUDA; without it this is plain AdamW")
    elif case.device.type == "mps":
        case.settle("optim", "adamw_torch", f"{requested} is not made for Apple's GPU")
    elif requested == "paged_adamw_8bit":
        case.settle("optim", "adamw_8bit", "8-bit states without paging: paging needs CUDA")
    else:
        case.settle("optim", requested, "because the recipe sets it")


def _attention(case: _Case) -> None:
    if case.model.model_type in SOFTCAP_MODELS:
        reason = f"eager because {case.model.model_type} caps its attention logits, which sdpa leaves out"
        case.settle("attn_implementation", "eager", reason)
    else:
        reason = "torch's own fused attention: exact, on every device"
        case.settle("attn_implementation", "sdpa", reason)


def _packed_attention(case: _Case) -> None:
    recipe, values = case.recipe, case.found.values
    if not recipe.packing:
        causal = values.attn_implementation == "sdpa" and case.model.model_type in VARLEN_MODELS
        values.row_mask = not (
            causal and case.device.type == "cuda" and recipe.method not in VIRTUAL_TOKEN_METHODS
        )
        return
    asked = case.recipe.packed_attention
    reason = "because the recipe sets it"
    if asked != "mask":
        is_sdpa, is_float32 = values.attn_implementation == "sdpa", values.compute_dtype == "float32"
        on_cpu = asked == "varlen"
        reason = why_mask(case.model.model_type, case.device, is_sdpa, is_float32, on_cpu)
    if reason:
        if asked == "varlen":
            case.found.warnings.append(f"packed_attention = 'varlen' is not possible here: {reason}")
        tokens = case.recipe.per_device_train_batch_size * case.recipe.max_length
        case.settle(
            "packed_attention", "mask", f"{reason}; the mask has up to {tokens:,} × {tokens:,} entries"
        )
        return
    if case.device.type == "cuda":
        reason = "each packed row is computed by its bounds in one kernel, without a mask of the whole batch"
    else:
        reason = "each packed row is computed by its bounds, one after the other"
    case.settle("packed_attention", "varlen", reason)


# --------------------------------------------------------------------------------------------------
# shape of the work


def _max_length(case: _Case) -> None:
    virtual = case.recipe.num_virtual_tokens if case.recipe.method in VIRTUAL_TOKEN_METHODS else 0
    if not case.model.context:
        case.settle(
            "max_length",
            case.recipe.max_length,
            "because the recipe sets it; the model's context is not known",
        )
        return
    available = case.model.context - virtual
    if available < SHORTEST_ROW:
        raise LabError(
            f"num_virtual_tokens = {virtual} leaves {max(0, available)} of {case.model.label}'s context of "
            f"{case.model.context} tokens for the rows; use at most "
            f"{max(1, case.model.context - SHORTEST_ROW)}"
        )
    if case.recipe.max_length <= available:
        case.settle(
            "max_length", case.recipe.max_length, f"within the model's context of {case.model.context}"
        )
        return
    less = f" less {virtual} virtual tokens" if virtual else ""
    case.settle("max_length", available, f"cut to the model's context of {case.model.context}{less}")
    case.found.warnings.append(
        f"max_length = {case.recipe.max_length} is over what {case.model.label} can hold: {available} is used"
    )


def _targets(case: _Case) -> None:
    if case.recipe.method == "full":
        case.note("target_modules", "", "every weight is trained")
        return
    if case.recipe.method not in METHODS_WITH_TARGETS:
        case.note(
            "target_modules", "", f"no layer changes: {case.recipe.num_virtual_tokens} tokens are learned"
        )
        return
    if not known(case.model.model_type):
        reason = f"{case.recipe.target_modules!r}, looked up in the model's own layers when it is loaded"
        case.note("target_modules", case.recipe.target_modules, reason)
        return
    explained = target_modules.explain(str(case.model.model_type), case.recipe.target_modules)
    reason = f"{case.recipe.target_modules!r} on {case.model.model_type}"
    if explained.notes:
        reason += "; " + "; ".join(explained.notes)
    case.settle("target_modules", list(explained.modules), reason)
    if case.recipe.method == "ia3":
        case.found.values.feedforward_modules = list(explained.feedforward)
        case.note(
            "feedforward_modules",
            list(explained.feedforward),
            "of the targets, those that IA3 scales at their input",
        )


def _gradient_checkpointing(case: _Case) -> None:
    if case.recipe.gradient_checkpointing:
        case.note(
            "gradient_checkpointing",
            True,
            "because the recipe sets it: activations are computed twice, a step takes about a third longer",
        )


def _epochs(case: _Case) -> None:
    """Epochs that were asked for replace the ``max_steps`` of the preset."""
    if steps := replaced_max_steps(case.recipe):
        epochs = f"num_train_epochs = {case.recipe.num_train_epochs:g}"
        case.note(
            "max_steps", 0, f"{epochs} decides the length, in place of the preset's max_steps = {steps}"
        )


def _liger_kernel(case: _Case) -> None:
    asked, on_gpu = case.recipe.liger_kernel, case.device.type == "cuda"
    installed = find_spec("liger_kernel") is not None
    if asked == "on" and on_gpu and not installed:
        raise LabError(
            "liger_kernel = 'on': the package liger-kernel is not installed here; install it "
            "(`pip install liger-kernel`), or set liger_kernel = 'auto'"
        )
    if asked == "on" and not on_gpu:
        case.note("liger_kernel", False, "its kernels need an NVIDIA GPU")
    if not on_gpu:
        return
    case.found.values.liger_kernel = installed and asked != "off"
    if asked == "off":
        reason = "because the recipe sets it"
    elif installed:
        reason = "norms, rotations and feed-forward in one kernel each"
    else:
        reason = (
            "the package liger-kernel is not installed (`pip install liger-kernel`): more kernels a layer"
        )
    case.note("liger_kernel", case.found.values.liger_kernel, reason)


def validation_rows(recipe: Recipe, held_out: int, trained: float) -> int:
    """The rows of each validation, of ``held_out`` ones; ``trained``: rows that the whole run trains on, each
    as often as it is read. A step costs at least two forward passes, a validation one."""
    if recipe.validation_rows:
        return min(held_out, recipe.validation_rows)
    steps = trained / recipe.effective_batch_size
    times = steps / recipe.eval_steps if recipe.eval_steps else min(VALIDATIONS_A_RUN, steps)
    affordable = int(VALIDATION_SHARE * 2 * trained / (times + 1))
    return min(held_out, max(FEWEST_VALIDATION_ROWS, affordable))


def _measuring(case: _Case) -> None:
    if not case.recipe.eval_steps:
        case.note("eval_steps", 0, f"about {VALIDATIONS_A_RUN} validations a run")
    if case.recipe.early_stopping_patience:
        case.note(
            "early_stopping_patience",
            case.recipe.early_stopping_patience,
            "stops after so many validations without a better one, and keeps the best",
        )


def _chat_template(case: _Case) -> None:
    if case.recipe.chat_template:
        case.note("chat_template", case.recipe.chat_template, "because the recipe sets it")
    elif case.model.chat_template is False:
        case.note(
            "chat_template",
            "",
            f"{case.model.label} has none: a plain one of tokens it has is saved with the adapter",
        )


def _processes(case: _Case) -> None:
    count = case.recipe.num_processes
    if count > 1 and case.device.type == "mps":
        raise LabError("num_processes above 1: Apple's GPU is one device; use num_processes = 1")
    if count > 1:
        rows, each = case.recipe.effective_batch_size, case.recipe.per_device_train_batch_size
        reason = (
            f"{count} processes with {each} rows each, {case.recipe.gradient_accumulation_steps} times a "
            f"step: an effective batch of {rows}; out of memory ends the run: a step is split in one only"
        )
        case.note("num_processes", count, reason)
    if case.recipe.accelerate_config:
        if not expanded(case.recipe.accelerate_config).is_file():
            raise LabError(f"accelerate_config = {case.recipe.accelerate_config!r}: there is no such file")
        case.note("accelerate_config", case.recipe.accelerate_config, "the work is shared out as it says")


def _trackers(case: _Case) -> None:
    for name in case.recipe.trackers:
        packages = TRACKERS[name]
        if not any(find_spec(package) for package in packages):
            raise LabError(
                f"report_to = {case.recipe.report_to!r}: the package {packages[0]} is not installed here; "
                f"install it (`pip install {packages[0]}`), or set report_to = 'none'"
            )
        where = "into the run's folder" if name == "tensorboard" else f"to {name}, as {name} is set up here"
        case.note("report_to", name, f"figures and settings of this run also go {where}")
