"""CUDA's own messages of GPUs that failed or are taken, and errors that are something else."""

from __future__ import annotations

import pytest

from tui_lab.core.gpu_errors import explain


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("CUDA error: CUDA-capable device(s) is/are busy or unavailable\nmore", "to itself"),
        ("CUDA error: unspecified launch failure", "the GPU failed"),
        ("CUDA error: uncorrectable ECC error encountered", "the GPU failed"),
        ("CUDA error: an illegal memory access was encountered\nCUDA kernel errors …", "the GPU failed"),
        ("CUDA error: no CUDA-capable device is detected", "nvidia-smi"),
        ("CUDA error: out of memory", ""),
        ("expected scalar type Float but found Half", ""),
        ("an illegal instruction", ""),
    ],
)
def test_what_happened_to_the_gpu(message: str, said: str) -> None:
    found = explain(RuntimeError(message))
    assert said in found and bool(said) == bool(found) and "\n" not in found
    assert explain(ValueError(message)) == ""
