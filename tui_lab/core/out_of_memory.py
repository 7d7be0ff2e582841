"""Whether an error means that memory ran out, on a GPU or in the machine. torch is not imported: its errors
are known by their name, and libraries below it say so only in words."""

from __future__ import annotations

#: What RuntimeErrors say when an allocation failed: torch on a CPU, CUDA's runtime, cuBLAS, cuDNN.
_WORDS = (
    "can't allocate memory",
    "cannot allocate memory",
    "not enough memory",
    "out of memory",
    "cublas_status_alloc_failed",
    "cudnn_status_alloc_failed",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out."""
    if isinstance(error, MemoryError) or any(
        kind.__name__ == "OutOfMemoryError" for kind in type(error).__mro__
    ):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(words in text for words in _WORDS)
