"""Loads a model for looking at: weights from safetensors only, no code from anywhere, in float32, half
precision or 4 bits. The true cause of a failure in one sentence."""

from __future__ import annotations

import logging as standard_logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from tui_lab.core.errors import LabError
from tui_lab.core.out_of_memory import is_out_of_memory
from tui_lab.core.sanitize import sanitize

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def best_device() -> str:
    """cuda where there is one, else mps, else cpu."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def best_dtype(device: str) -> str:
    """bfloat16 where the GPU computes in it, else float32: processors are no faster in half precision."""
    if device == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
    return "float32"


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Keeps the libraries' warnings and progress bars out of what people read."""
    from huggingface_hub.utils import disable_progress_bars
    from transformers.utils import logging

    disable_progress_bars()
    logging.disable_progress_bar()
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    four_bit = standard_logging.getLogger("bitsandbytes")  # tells of kernels that it does without
    four_bit_before = four_bit.level
    four_bit.setLevel(standard_logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(before)
        four_bit.setLevel(four_bit_before)


def load_model(
    location: str,
    *,
    dtype: str = "auto",
    four_bit: bool = False,
    device: str = "",
    revision: str = "",
    local_only: bool = False,
) -> Any:
    """The model of a folder or hub id, in evaluation mode. ``four_bit`` stores it as NF4 with double
    quantisation and computes in ``dtype``. Raises LabError."""
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    device = device or best_device()
    kind = DTYPES[best_dtype(device) if dtype == "auto" else dtype]
    quantization = None
    if four_bit:
        quantization = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=kind,
        )
    try:
        model = AutoModelForCausalLM.from_pretrained(
            location,
            dtype=kind,
            quantization_config=quantization,
            device_map={"": 0 if device == "cuda" else device},
            use_safetensors=True,
            trust_remote_code=False,
            revision=revision or "main",
            local_files_only=local_only,
        )
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            where = "the GPU's" if device == "cuda" else "the machine's"
            smaller = "take a smaller model" if four_bit else "load it in 4 bits or take a smaller model"
            raise LabError(
                f"model {sanitize(location)} does not fit {where} free memory: {smaller}"
            ) from None
        raise LabError(f"model {sanitize(location)} cannot be loaded: {_cause(error)}") from None
    if four_bit:
        _one_arithmetic(model)
    return model.eval()


def _one_arithmetic(model: Any) -> None:
    """Keeps bitsandbytes from repacking 4-bit weights for processors at the first forward in evaluation: it
    computes in bfloat16 from then on, but no longer once an adapter is put on, so that a base and the same
    base with an adapter of no effect differed (logits of the bundled model by 0.13)."""
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def _cause(error: Exception) -> str:
    text = str(error)
    low = text.lower()
    if "gated" in low or "401" in text or "403" in text:
        return "it is gated: accept its licence on its hub page, then log in with `hf auth login`"
    if "safetensors" in low:
        return "it has no whole safetensors weights; save it again with `save_pretrained`"
    if any(word in low for word in ("offline", "connect", "resolve", "couldn't find them in the cached")):
        return "it is not on this machine and the hub cannot be reached; name a folder, or download it first"
    lines = text.strip().splitlines()
    return sanitize(lines[0][:300]) if lines else type(error).__name__


def stop_ids(model: Any) -> frozenset[int]:
    """The tokens at which ``generate`` would stop with this model."""
    for config in (model.generation_config, model.config):
        end = getattr(config, "eos_token_id", None)
        if end is not None:
            return frozenset([end] if isinstance(end, int) else end)
    return frozenset()
