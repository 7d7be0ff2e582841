"""Recognises out-of-memory errors of a GPU or of the machine without importing torch: torch's errors by their
type name, those of other libraries by their message. Frees memory."""

from __future__ import annotations

import gc

#: In the messages of failed allocations: torch on a CPU, CUDA's runtime, cuBLAS, cuDNN.
_MESSAGES = (
    "can't allocate memory",
    "cannot allocate memory",
    "not enough memory",
    "out of memory",
    "cublas_status_alloc_failed",
    "cublas_status_not_initialized",  # there was no memory for its workspace
    "cudnn_status_alloc_failed",
    "cudnn_status_not_initialized",
    "cusolver_status_alloc_failed",
    "cusparse_status_alloc_failed",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out."""
    if isinstance(error, MemoryError) or any(
        kind.__name__ == "OutOfMemoryError" for kind in type(error).__mro__
    ):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(message in text for message in _MESSAGES)


def free_memory() -> None:
    """Collects garbage and returns the cached memory of the device to its driver. Imports torch."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif torch.backends.mps.is_available():
        torch.mps.empty_cache()
