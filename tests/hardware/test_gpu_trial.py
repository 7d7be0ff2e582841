"""What a run needs of a GPU, tried here on the CPU where the library can, and with a Triton that fails."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from tui_lab.hardware import gpu_trial


@pytest.fixture
def triton(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[..., None]], None]:
    """Installs a Triton whose kernels do what is given."""

    def install(launch: Callable[..., None]) -> None:
        class Kernel:
            def __init__(self, function: object) -> None: ...

            def __getitem__(self, grid: object) -> Callable[..., None]:
                return launch

        language = ModuleType("triton.language")
        language.constexpr = int  # type: ignore[attr-defined]
        module = ModuleType("triton")
        module.jit, module.language = Kernel, language  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "triton", module)
        monkeypatch.setitem(sys.modules, "triton.language", language)
        monkeypatch.delitem(sys.modules, "tui_lab.hardware.triton_kernel", raising=False)

    return install


def test_without_a_compiler_the_reason_is_told(triton: Any) -> None:
    def no_compiler(*_: object, **__: object) -> None:
        raise RuntimeError("Failed to find C compiler. Please specify via CC environment variable.")

    triton(no_compiler)
    assert "Failed to find C compiler" in gpu_trial.triton_problem("cpu")

    def no_headers(*_: object, **__: object) -> None:
        raise subprocess.CalledProcessError(1, ["/usr/bin/gcc", "cuda_utils.c"])

    triton(no_headers)
    assert "gcc" in gpu_trial.triton_problem("cpu")


def test_a_kernel_that_works_and_one_that_does_not(triton: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    triton(lambda values, count, block: values.mul_(2))
    assert gpu_trial.triton_problem("cpu") == ""
    triton(lambda values, count, block: None)
    assert "wrong values" in gpu_trial.triton_problem("cpu")
    monkeypatch.setitem(sys.modules, "triton", None)
    monkeypatch.delitem(sys.modules, "tui_lab.hardware.triton_kernel", raising=False)
    assert "not installed" in gpu_trial.triton_problem("cpu")


def test_a_layer_in_4_bits_and_a_product() -> None:
    assert gpu_trial._try_nf4("cpu") == ""
    assert gpu_trial._try_arithmetic("cpu", "bfloat16") == ""
    assert gpu_trial.reason(lambda: gpu_trial._try_nf4("cuda")) != ""  # there is none here


def test_values_that_are_no_numbers_are_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_trial, "relative_error", lambda *_: math.nan)
    assert gpu_trial._try_nf4("cpu") == "a layer gives wrong values (relative error nan)"
    assert gpu_trial._try_arithmetic("cpu", "bfloat16") == "a product is wrong (relative error nan)"
