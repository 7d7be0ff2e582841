"""Loads causal language models for runs, the playground, evaluation, exports and tests.

Weights come from safetensors only, and no code comes with them (``trust_remote_code`` stays off). A failure
is one sentence with its cause. ``prepare_model_for_kbit_training`` of peft is not used: it casts the
embedding and a tied head to float32 (0.27 GB at 0.5 B parameters); freezing, checkpointing and input
gradients are set elsewhere.
"""

from __future__ import annotations

import logging as standard_logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError

from tui_lab.core import hub_errors
from tui_lab.core.errors import LabError
from tui_lab.core.out_of_memory import is_out_of_memory
from tui_lab.core.sanitize import first_line, sanitize
from tui_lab.hardware import precision as precisions
from tui_lab.hardware.cuda_memory import memory_of_others
from tui_lab.hardware.cuda_support import torch_device
from tui_lab.hardware.gpu import BF16_CAPABILITY
from tui_lab.models import accounting, catalog, checkpoint, download, rounded_layers, shapes
from tui_lab.models.module_stats import disable_cpu_repacking
from tui_lab.models.stored_forms import READERS, StoredForm, UnreadableForm, stored_form

if TYPE_CHECKING:
    from transformers import BitsAndBytesConfig, PreTrainedConfig, PreTrainedModel

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

#: Said where rounded weights are asked for and :func:`has_quantized` is false.
NO_QUANTIZED = "Apple's GPU has no quantised weights here: plain weights are used"
#: What from_pretrained raises for files that it cannot use; anything else is a fault of the program.
_LOAD_ERRORS = (OSError, ValueError, KeyError, ImportError, RuntimeError, MemoryError, SafetensorError)


@dataclass(frozen=True)
class ModelSource:
    """Where a model comes from: a folder, or a hub id with its revision ("" means the main branch)."""

    location: str
    revision: str = ""


@dataclass(frozen=True)
class Precision:
    """How weights are stored and computed with.

    ``dtype``: of the weights (a key of :data:`DTYPES`), "auto" for the device's best; ``quantization``: how
    linear layers are stored, one of :data:`tui_lab.hardware.precision.QUANTIZATIONS`;
    ``double_quantization``: the scales of NF4 are quantised, too; ``compute_dtype``: of products with 4-bit
    weights, "" for ``dtype``; ``unquantized_modules``: full names of linear layers that NF4 leaves as they
    are. Weights that are stored in bitsandbytes' 4 or 8 bits stay so, unless ``unquantized``, which turns
    them into ``dtype``.
    """

    dtype: str = "auto"
    quantization: str = "none"
    double_quantization: bool = True
    compute_dtype: str = ""
    unquantized: bool = False
    unquantized_modules: tuple[str, ...] = ()

    @property
    def four_bit(self) -> bool:
        return self.quantization == "nf4"

    def quantization_config(self, dtype: str) -> BitsAndBytesConfig | None:
        """bitsandbytes' configuration for transformers; None for weights that it does not quantise."""
        from transformers import BitsAndBytesConfig

        if self.quantization == "int8":
            return BitsAndBytesConfig(load_in_8bit=True)
        if not self.four_bit:
            return None
        return BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=self.double_quantization,
            bnb_4bit_compute_dtype=DTYPES[self.compute_dtype or dtype],
        )


def best_dtype(device: str, model_type: str | None) -> str:
    """The type of weights for a device (:mod:`tui_lab.hardware.precision`): cuda (the current one), mps or
    cpu."""
    bf16 = device == "cuda" and torch.cuda.get_device_capability() >= BF16_CAPABILITY
    return precisions.best_dtype(device, bf16, model_type).dtype


def auto_dtype(source: ModelSource, device: str) -> str:
    """The type that "auto" stands for with this model. Reads its configuration where that matters. Raises
    LabError."""
    if device != "cuda" or torch.cuda.get_device_capability() >= BF16_CAPABILITY:
        return best_dtype(device, None)
    return best_dtype(device, load_config(source).model_type)


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Suppresses warnings and progress bars of huggingface_hub, transformers and bitsandbytes."""
    from huggingface_hub.utils.tqdm import disable_progress_bars
    from transformers.utils import logging

    disable_progress_bars()
    logging.disable_progress_bar()
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    four_bit = standard_logging.getLogger("bitsandbytes")  # it warns about optional kernels
    four_bit_before = four_bit.level
    four_bit.setLevel(standard_logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(before)
        four_bit.setLevel(four_bit_before)


def has_quantized(device: str) -> bool:
    """Whether weights can be quantised: bitsandbytes has its own code for CUDA and processors, and Apple's
    GPU has no FP8."""
    return device != "mps"


def load_model(
    source: ModelSource,
    precision: Precision = Precision(),
    *,
    device: str = "",
    attention: str | None = None,
    allow_large: bool = False,
) -> PreTrainedModel:
    """The model of a folder or hub id, in evaluation mode, with every weight accounted for.

    ``device``: cuda (the current one), mps or cpu, "" for the best; ``attention``: implementation by
    transformers' name, None for its default; ``allow_large``: permits models over the lab's limit. Where
    :func:`has_quantized` is false, weights stay plain. Raises LabError.
    """
    config = load_config(source)
    form = _check_config(source, config, allow_large)
    device = device or torch_device()
    if form in READERS:
        _check_reader(source, config, device)
        if precision.unquantized:
            raise LabError(
                f"model {sanitize(source.location)} is stored in the quantised form {form}, which cannot be "
                "turned into plain weights: take the original model"
            )
    dtype = best_dtype(device, config.model_type) if precision.dtype == "auto" else precision.dtype
    rounded, place = form in ("bnb4", "bnb8"), device
    if not has_quantized(device):
        precision = replace(precision, quantization="none", unquantized=True)
        place = "cpu" if rounded else device
    in_place = form in ("plain", "fp8") and precision.quantization == "fp8"
    if in_place:
        place = "cpu"  # plain weights need not fit the GPU
    try:
        model, info = _from_files(source, config, form, precision, dtype, place, attention)
        if form in READERS:  # its products may not be defined for the sizes of these layers
            with torch.inference_mode():
                model(input_ids=torch.zeros((1, 1), dtype=torch.long, device=model.device))
        if rounded and precision.unquantized:
            model = _dequantized(model, dtype, device)
        if in_place or (form == "fp8" and precision.quantization != "none"):
            quantize(model, precision, dtype)
        if in_place:
            moved: Any = model
            model = moved.to(device)
    except Exception as error:
        if is_out_of_memory(error):
            raise _does_not_fit(source, device, precision.four_bit) from error
        raise load_error(source, error) from error
    if problem := accounting.problem(model, info):
        raise LabError(f"model {sanitize(source.location)} cannot be used: {problem}")
    if precision.four_bit or form == "bnb4":
        disable_cpu_repacking(model)
    model.eval()
    return model


def _does_not_fit(source: ModelSource, device: str, four_bit: bool) -> LabError:
    where = "the GPU's" if device == "cuda" else "the machine's"
    others = memory_of_others() if device == "cuda" else ""
    smaller = "take a smaller model" if four_bit else "load it in 4 bits or take a smaller model"
    remedy = f"{others}; end them, or {smaller}" if others else smaller
    return LabError(f"model {sanitize(source.location)} does not fit {where} free memory: {remedy}")


def _check_config(source: ModelSource, config: PreTrainedConfig, allow_large: bool) -> StoredForm:
    """The form of the weights. Raises LabError for one that is not read, and for a model that is too
    large."""
    values = config.to_dict()
    try:
        shape = shapes.from_config(values)
        form = stored_form(values)
    except shapes.ShapeError as error:
        raise LabError(f"model {sanitize(source.location)} cannot be loaded: {error}") from error
    except UnreadableForm as error:
        raise LabError(f"model {sanitize(source.location)}: {error}") from None
    if shape is not None:
        catalog.check_size(source.location, shapes.parameter_count(shape), allow_large)
    return form


def _check_reader(source: ModelSource, config: PreTrainedConfig, device: str) -> None:
    """Raises LabError where transformers' reader of a quantised form does not work on this machine."""
    from transformers.quantizers.auto import AutoHfQuantizer

    try:
        reader = AutoHfQuantizer.from_config(config.quantization_config, pre_quantized=True)
        reader.validate_environment(device_map={"": device})
    except (ImportError, RuntimeError, ValueError, TypeError) as error:
        cause = sanitize(first_line(error)).rstrip(".")
        raise LabError(
            f"model {sanitize(source.location)} cannot be loaded: {cause}. Or take the original model"
        ) from None


def _from_files(
    source: ModelSource,
    config: PreTrainedConfig,
    form: StoredForm,
    precision: Precision,
    dtype: str,
    device: str,
    attention: str | None,
) -> tuple[PreTrainedModel, dict[str, Any]]:
    """The model as transformers reads it, and its account of missing, unexpected and mismatched tensors."""
    from transformers import AutoModelForCausalLM

    options: dict[str, Any] = {}
    quantization = precision.quantization_config(dtype) if form == "plain" else None
    if quantization is not None:
        options["quantization_config"] = quantization
        if precision.unquantized_modules:
            quantization.llm_int8_skip_modules = [*precision.unquantized_modules, *_head_names(config)]
    elif form == "bnb4":  # products are computed as here, whatever machine the weights were stored on
        config.quantization_config["bnb_4bit_compute_dtype"] = precision.compute_dtype or dtype
    elif form == "fp8":
        config.quantization_config["dequantize"] = True
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        source.location,
        config=config,
        dtype=DTYPES[dtype],
        device_map={"": torch.cuda.current_device() if device == "cuda" else device},
        attn_implementation=attention,
        use_safetensors=True,
        trust_remote_code=False,
        revision=source.revision or "main",
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # the account names them
        **options,
    )
    model, info = loaded
    return model, info


def _head_names(config: PreTrainedConfig) -> list[str]:
    """The output layer's name, which transformers leaves out by itself only without a list of ours."""
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    head = model.get_output_embeddings()
    return [name for name, module in model.named_modules() if module is head]


#: Where transformers keeps how the tensors of a folder became those of a model, to undo it when it saves.
_CONVERSIONS = "_weight_conversions"


def _dequantized(model: PreTrainedModel, dtype: str, device: str) -> PreTrainedModel:
    """A model of bitsandbytes' weights with plain ones, which can be saved."""
    plain: Any = model.dequantize(DTYPES[dtype])
    conversions = getattr(plain, _CONVERSIONS, None)
    if conversions is not None:  # those of bitsandbytes cannot be undone, and need not be
        setattr(plain, _CONVERSIONS, [each for each in conversions if not _is_of_bitsandbytes(each)])
    moved: PreTrainedModel = plain.to(device)
    return moved


def _is_of_bitsandbytes(conversion: object) -> bool:
    operations = getattr(conversion, "operations", ())
    return any("bitsandbytes" in type(operation).__module__ for operation in operations)


def quantize(model: PreTrainedModel, precision: Precision, dtype: str) -> None:
    """Rounds the linear layers of a loaded model as ``precision`` says, in place; the head stays as it is."""
    kind, compute = precision.quantization, DTYPES[precision.compute_dtype or dtype]

    def make(name: str, weight: torch.Tensor, bias: bool) -> torch.nn.Linear | None:
        if name in precision.unquantized_modules:
            return None
        if kind == "fp8":
            return rounded_layers.float8_layer(weight, bias)
        if kind == "int8":
            return rounded_layers.int8_layer(weight, bias)
        return rounded_layers.nf4_layer(weight, bias, compute, precision.double_quantization)

    rounded_layers.replace_linears(model, make)
    if kind != "fp8":
        model.config.quantization_config = precision.quantization_config(dtype)
        mark_quantized(model, kind)


def mark_quantized(model: PreTrainedModel, kind: str) -> None:
    """Sets what transformers' Trainer reads of a model that bitsandbytes' layers were put into."""
    loaded = "is_loaded_in_4bit" if kind == "nf4" else "is_loaded_in_8bit"
    attributes = {loaded: True, "is_quantized": True, "hf_quantizer": _TrainableQuantizer()}
    for name, value in attributes.items():
        setattr(model, name, value)


class _TrainableQuantizer:
    """What the Trainer asks of a quantised model before it trains an adapter on it."""

    is_trainable = True
    is_qat_trainable = False
    is_compileable = False


def load_config(source: ModelSource) -> PreTrainedConfig:
    """transformers' configuration of a model, without its weights. Raises LabError."""
    from transformers import AutoConfig

    check_hub(source)
    try:
        config: PreTrainedConfig = AutoConfig.from_pretrained(
            source.location, revision=source.revision or "main", trust_remote_code=False
        )
    except Exception as error:
        raise load_error(source, error) from error
    return config


def check_hub(source: ModelSource) -> None:
    """Sends the hub one request for a model that is not on this machine, because ``from_pretrained`` retries
    every file for half a minute when the hub cannot be reached. Raises LabError with the hub's refusal."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    if catalog.local_folder(source.location) is not None:
        return
    try:
        get_hf_file_metadata(
            hf_hub_url(source.location, "config.json", revision=source.revision or "main"),
            timeout=download.HUB_TIMEOUT_S,
        )
    except Exception as error:
        if hub_errors.classify(error) is not None:
            raise load_error(source, error) from error


def check_size(source: ModelSource, allow_large: bool) -> None:
    """Refuses a model over the lab's limit, or in a form that is not read, before its weights are read, for
    ids that the catalog does not know. Raises LabError."""
    _check_config(source, load_config(source), allow_large)


def load_error(source: ModelSource, error: Exception) -> LabError:
    """The cause of a failed load in one sentence. Raises ``error`` itself where it is none that files or the
    hub explain."""
    if (kind := hub_errors.classify(error)) is not None:
        return LabError(f"model {sanitize(source.location)} cannot be loaded: {download.advice(kind)}")
    folder = catalog.local_folder(source.location)
    if folder is not None and (problem := checkpoint.inspect(folder, sanitize(source.location)).problem):
        return LabError(f"model {problem}")
    if not isinstance(error, _LOAD_ERRORS):
        raise error
    lines = str(error).strip().splitlines()
    cause = sanitize(lines[0][:300]) if lines else type(error).__name__
    return LabError(f"model {sanitize(source.location)} cannot be loaded: {cause}")
