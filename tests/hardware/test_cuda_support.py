"""A driver that shows a GPU, and a torch that can or cannot use it: nothing computes on the CPU unasked."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.hardware.fake_nvml import FakeDriver, a100_slices, install, rtx_4090, t4
from tui_lab.core.errors import LabError
from tui_lab.hardware import cuda_support, gpu, memory_budget
from tui_lab.hardware.cuda_support import TorchBuild, TorchView, find_problem, has_kernels
from tui_lab.models import loading
from tui_lab.recipes.recipe import build
from tui_lab.training import device as training_device

CUDA_13 = TorchBuild("2.13.0", "13.0")
ARCHITECTURES = ("sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120")


def a_v100(**changes: Any) -> Any:
    values = {"name": "Tesla V100-SXM2-16GB", "capability": (7, 0), "uuid": "GPU-f00dcafe-1", **changes}
    return t4(**values)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Gives the machine cards, a driver and a build of torch that is not imported."""

    def make(*cards: Any, cuda: int = 13_000, build: TorchBuild | None = CUDA_13, visible: str | None = None):
        driver = FakeDriver(*cards, cuda=cuda)
        install(monkeypatch, driver)
        monkeypatch.setattr(cuda_support, "installed_torch", lambda: build)
        if visible is None:
            monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        else:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        return driver

    return make


@pytest.mark.parametrize(
    ("capability", "runs"),
    [
        ((7, 0), False),
        ((6, 1), False),
        ((7, 5), True),
        ((8, 0), True),
        ((8, 7), True),  # kernels of sm_86
        ((8, 9), True),
        ((9, 0), True),
        ((10, 3), True),
        ((11, 0), False),  # later than sm_100, earlier than the intermediate code
        ((12, 1), True),
        ((13, 0), True),  # by the intermediate code
    ],
)
def test_kernels_run_within_their_generation(capability: tuple[int, int], runs: bool) -> None:
    assert has_kernels(capability, ARCHITECTURES) is runs


def test_kernels_of_one_card_only_and_an_unknown_list() -> None:
    assert has_kernels((9, 0), ["sm_90a"]) and not has_kernels((10, 0), ["sm_90a"])
    assert has_kernels((7, 0), []) and has_kernels((7, 0), ["gfx90a"])


def test_an_older_driver_is_refused_with_what_to_do(machine: Any) -> None:
    machine(t4(), cuda=12_040)
    [budget] = memory_budget.detect()
    assert budget.device.type == "cuda"  # the forecast is about the card
    for text in (
        "driver 550.54.14",
        "CUDA up to 12.4",
        "built for CUDA 13.0",
        "Tesla T4",
        "580 or later",
        "make setup TORCH_INDEX=cu126",
        "--cpu",
    ):
        assert text in budget.problem
    with pytest.raises(LabError, match="550"):
        memory_budget.current().check()
    assert memory_budget.current("cpu").check().device.type == "cpu"


def test_a_driver_that_no_build_fits(machine: Any) -> None:
    machine(t4(), cuda=11_040)
    assert "update the driver to 580 or later;" in memory_budget.current().problem
    assert "TORCH_INDEX" not in memory_budget.current().problem


def test_minor_versions_of_a_driver_are_compatible(machine: Any) -> None:
    machine(t4(), cuda=12_020, build=TorchBuild("2.13.0+cu126", "12.6"))
    assert memory_budget.current().problem == ""
    machine(t4(), cuda=13_000, build=TorchBuild("2.13.0", "13.2"))
    assert memory_budget.current().problem == ""


def test_a_build_without_cuda(machine: Any) -> None:
    machine(rtx_4090(), build=TorchBuild("2.13.0+cpu", None))
    assert "was built without CUDA" in memory_budget.current().problem
    assert "default build" in memory_budget.current().problem
    machine(rtx_4090(), cuda=12_080, build=TorchBuild("2.13.0+cpu", None))
    assert "TORCH_INDEX=cu126" in memory_budget.current().problem


def test_a_card_without_kernels_is_known_before_torch_is_imported(machine: Any) -> None:
    machine(a_v100())
    problem = memory_budget.current().problem
    assert "no kernels for the Tesla V100-SXM2-16GB (compute capability 7.0)" in problem
    assert "TORCH_INDEX=cu126" in problem
    machine(a_v100(), build=TorchBuild("2.13.0+cu126", "12.6"))
    assert memory_budget.current().problem == ""


def test_a_card_newer_than_the_build(machine: Any) -> None:
    blackwell = rtx_4090(name="NVIDIA GeForce RTX 5090", capability=(12, 0))
    machine(blackwell)
    assert memory_budget.current().problem == ""
    machine(blackwell, build=TorchBuild("2.13.0+cu126", "12.6"))
    said = memory_budget.current().problem
    assert "no kernels for the NVIDIA GeForce RTX 5090" in said and "`make clean setup`" in said
    machine(blackwell, cuda=12_080)
    assert "TORCH_INDEX=cu128" in memory_budget.current().problem
    machine(blackwell, cuda=12_080, build=TorchBuild("2.11.0+cu128", "12.8"))
    assert memory_budget.current().problem == ""
    machine(blackwell, cuda=12_080, build=TorchBuild("2.13.0+cu126", "12.6"))
    assert "TORCH_INDEX=cu128" in memory_budget.current().problem


def test_of_several_cards_the_one_that_works_is_taken(machine: Any) -> None:
    machine(a_v100(total_mib=32_768), t4())
    assert [bool(budget.problem) for budget in memory_budget.detect()] == [True, False]
    assert memory_budget.current().label == "GPU 1: Tesla T4"


@pytest.mark.parametrize("visible", ["7", "GPU-none", "0x", "MIG-1"])
def test_a_wrong_list_of_gpus_is_no_choice_of_the_cpu(machine: Any, visible: str) -> None:
    machine(t4(), visible=visible if visible != "0x" else "nothing")
    problem = memory_budget.current().problem
    assert "names no GPU of this machine, which has 1 GPU" in problem and "unset it" in problem


@pytest.mark.parametrize("visible", ["", "-1"])
def test_gpus_that_are_hidden_are(machine: Any, visible: str) -> None:
    machine(t4(), cuda=12_040, visible=visible)
    found = memory_budget.current()
    assert (found.device.type, found.problem) == ("cpu", "")
    assert cuda_support.without_gpu_reason({"CUDA_VISIBLE_DEVICES": visible}).endswith("hides every GPU")


def test_a_lost_card_is_no_missing_card(machine: Any) -> None:
    driver = machine(t4(refuses={"nvmlDeviceGetHandleByIndex_v2": 15}))
    assert "the GPU no longer answers" in memory_budget.current().problem
    driver.cards.clear()
    assert memory_budget.current().problem == ""


def test_slices_of_a_card_are_used(machine: Any) -> None:
    machine(a100_slices())
    [budget] = memory_budget.detect()
    assert budget.problem == "" and budget.device.bf16 and "MIG" in budget.device.name


@pytest.mark.parametrize(
    ("name", "capability"), [("NVIDIA GB10", (12, 1)), ("Orin (nvgpu)", (8, 7)), ("NVIDIA Thor", (11, 0))]
)
def test_a_gpu_that_uses_main_memory(machine: Any, name: str, capability: tuple[int, int]) -> None:
    refuses = dict.fromkeys(["nvmlDeviceGetMemoryInfo", "nvmlDeviceGetMemoryInfo_v2"], 3)
    machine(t4(name=name, capability=capability, refuses=refuses))
    [budget] = memory_budget.detect()
    assert budget.device.memory_bytes == memory_budget.cpu.memory_bytes()
    assert budget.free_bytes is not None and 0 < budget.free_bytes <= budget.device.memory_bytes


def test_the_installed_torch_is_read_without_importing_it() -> None:
    cuda_support.installed_torch.cache_clear()
    assert cuda_support.installed_torch() == TorchBuild(torch.__version__, torch.version.cuda)


def test_the_build_of_a_cuda_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "version.py").write_text(
        "__version__ = '2.11.0+cu130'\ncuda: Optional[str] = '13.0'\nhip: Optional[str] = None\n"
    )
    spec = SimpleNamespace(origin=str(tmp_path / "__init__.py"))
    cuda_support.installed_torch.cache_clear()
    monkeypatch.setattr(cuda_support, "find_spec", lambda _: spec)
    assert cuda_support.installed_torch() == TorchBuild("2.11.0+cu130", "13.0")
    cuda_support.installed_torch.cache_clear()


# --------------------------------------------------------------------------------------------------
# the processes that have torch


@pytest.fixture
def torch_cuda(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What torch says about a card, without one."""

    def make(
        capability: tuple[int, int] | None, architectures: tuple[str, ...] = ARCHITECTURES, reason: str = ""
    ) -> None:
        def init() -> None:
            raise RuntimeError(reason)

        properties = SimpleNamespace(name="A card", total_memory=1 << 34)
        properties.major, properties.minor = capability or (0, 0)
        for name, answer in {
            "is_available": lambda: capability is not None,
            "get_device_capability": lambda *_: capability,
            "get_device_name": lambda *_: "A card",
            "get_arch_list": lambda: list(architectures),
            "get_device_properties": lambda *_: properties,
            "init": init,
        }.items():
            monkeypatch.setattr(torch.cuda, name, answer)
        monkeypatch.setattr(torch.version, "cuda", "13.0")

    return make


def test_a_process_refuses_the_cpu_while_the_driver_shows_a_gpu(machine: Any, torch_cuda: Any) -> None:
    machine(t4(), cuda=12_040)
    torch_cuda(None, reason="The NVIDIA driver on your system is too old")
    for ask in (
        cuda_support.torch_device,
        training_device.detect,
        lambda: loading.load_model(loading.ModelSource(str(loading.catalog.pocket().path))),
    ):
        with pytest.raises(LabError, match=r"driver 550.*--cpu"):
            ask()
    assert training_device.detect("cpu").type == "cpu"


def test_the_reason_that_torch_gives_is_told(machine: Any, torch_cuda: Any) -> None:
    machine(t4())
    torch_cuda(None, reason="Error 802: system not yet initialized\nmore")
    with pytest.raises(LabError, match=r"shows the Tesla T4.*\(Error 802: system not yet initialized\)"):
        cuda_support.torch_device()


def test_a_card_without_kernels_is_refused_by_its_list(machine: Any, torch_cuda: Any) -> None:
    machine(a_v100())
    torch_cuda((7, 0))
    with pytest.raises(LabError, match=r"no kernels for the Tesla V100.*7\.0"):
        cuda_support.torch_device()
    machine()
    with pytest.raises(LabError, match=r"no kernels for the A card \(compute capability 7\.0\)"):
        cuda_support.torch_device()


@pytest.mark.parametrize(("capability", "bf16"), [((7, 5), False), ((8, 0), True), ((12, 1), True)])
def test_bf16_is_arithmetic_and_not_emulation(
    machine: Any, torch_cuda: Any, capability: tuple[int, int], bf16: bool
) -> None:
    machine(t4())
    torch_cuda(capability)
    found = training_device.detect()
    assert (found.type, found.bf16) == ("cuda", bf16)


def test_without_a_gpu_the_cpu_is_the_device(machine: Any, torch_cuda: Any) -> None:
    machine()
    torch_cuda(None)
    assert cuda_support.torch_device() == "cpu"


def test_of_an_unknown_driver_nothing_is_claimed() -> None:
    card = gpu.Gpu(0, "A card", None, None, None, None, None, None, None)
    seen = cuda_support.Machine([card], None)
    assert find_problem(seen, {}, CUDA_13) is None
    assert find_problem(seen, {}, None, TorchView(True, ARCHITECTURES)) is None


# --------------------------------------------------------------------------------------------------
# one rule for the dtype


@pytest.mark.parametrize(
    ("capability", "model_type", "dtype"),
    [
        ((9, 0), "qwen2", "bfloat16"),
        ((8, 0), "gemma2", "bfloat16"),
        ((7, 5), "qwen2", "float16"),
        ((7, 5), "qwen3", "float16"),
        ((7, 5), "llama", "float16"),
        ((7, 5), "gemma", "float32"),
        ((7, 5), "gemma2", "float32"),
        ((7, 5), "gemma3_text", "float32"),
        ((7, 5), None, "float16"),
    ],
)
def test_training_playground_and_retention_agree(
    torch_cuda: Any,
    monkeypatch: pytest.MonkeyPatch,
    capability: tuple[int, int],
    model_type: str,
    dtype: str,
) -> None:
    from tui_lab.evaluation import request
    from tui_lab.hardware.device import DeviceFacts
    from tui_lab.recipes.resolve import resolve
    from tui_lab.runs.references import ModelReference

    torch_cuda(capability)
    monkeypatch.setattr(loading, "load_config", lambda _: SimpleNamespace(model_type=model_type))
    facts = DeviceFacts("cuda", "A card", 1 << 34, capability >= (8, 0), 1)
    model = SimpleNamespace(label="m", model_type=model_type, parameters=1, context=512, chat_template=True)
    trained = resolve(build({"target_modules": "qv"}), facts, model)  # type: ignore[arg-type]
    assert trained.values.compute_dtype == dtype
    assert loading.best_dtype("cuda", model_type) == dtype  # the playground, once it has loaded the model
    how = request._load_config("none", "auto", ModelReference("somewhere"), None)  # retention
    assert (how.dtype, how.device) == (dtype, "cuda")
