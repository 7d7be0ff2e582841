"""GPUs through a driver that answers, refuses, fails, goes away or is not there, below the real pynvml;
processes through real ones."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from dataclasses import fields, replace
from pathlib import Path

import psutil
import pynvml
import pytest

from tests.hardware.fake_nvml import (
    ERRORS,
    FUNCTIONS,
    MIB,
    NO_PERMISSION,
    NOT_AVAILABLE,
    FakeDriver,
    a100_slices,
    install,
    rtx_4090,
    t4,
    vgpu,
)
from tui_lab.hardware import gpu

# --------------------------------------------------------------------------------------------------
# pynvml itself


def test_every_name_that_is_used_exists_in_the_real_package() -> None:
    source = Path(gpu.__file__).read_text("utf-8")
    used = set(re.findall(r"\bnvml\.(\w+)", source)) | set(gpu.THROTTLE_REASONS)
    used |= {"NVML_PCIE_UTIL_RX_BYTES", "NVML_PCIE_UTIL_TX_BYTES"}
    assert len(used) > 30
    assert not [name for name in sorted(used) if not hasattr(pynvml, name)]


def test_the_codes_that_mean_gone_are_the_ones_of_the_package() -> None:
    names = {value: name for name, value in ERRORS.items()}
    assert [names[code] for code in gpu.LOST_CODES] == [
        "NVML_ERROR_UNINITIALIZED",
        "NVML_ERROR_DRIVER_NOT_LOADED",
        "NVML_ERROR_GPU_IS_LOST",
        "NVML_ERROR_LIB_RM_VERSION_MISMATCH",
    ]
    assert names[gpu.UNKNOWN_ERROR] == "NVML_ERROR_UNKNOWN"
    assert len(ERRORS) >= 31


def test_what_the_fake_answers_are_functions_of_the_real_package() -> None:
    source = Path(pynvml.__file__).read_text("utf-8")
    assert not [name for name in FUNCTIONS if f'_nvmlGetFunctionPointer("{name}")' not in source]


# --------------------------------------------------------------------------------------------------
# figures


def test_figures_in_their_units(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = FakeDriver(t4(compute=[(77, 1_000 * MIB)], graphics=[(78, 27 * MIB)]), rtx_4090())
    install(monkeypatch, driver)
    first, second = gpu.sample()
    assert first == gpu.Gpu(
        index=0,
        name="Tesla T4",
        uuid="GPU-3ac9bb3c-7a9d-4e0f-9d9b-0f5b3c1a2e11",
        memory_total_bytes=15_360 * MIB,
        memory_used_bytes=1_476 * MIB,
        utilization_percent=40,
        temperature_c=61,
        power_w=50.5,
        compute_capability=(7, 5),
        memory_reserved_bytes=449 * MIB,
        memory_utilization_percent=17,
        clock_mhz=1_350,
        clock_max_mhz=1_590,
        throttle=("power limit",),
        energy_j=4_000.0,
        processes=(gpu.GpuProcess(77, 1_000 * MIB), gpu.GpuProcess(78, 27 * MIB)),
        cores=2_560,
    )
    assert (second.index, second.power_w, second.throttle) == (1, 31.02, ())  # idle is not slowed down
    assert second.processes == (gpu.GpuProcess(1_201, 1_000 * MIB), gpu.GpuProcess(2_044, 100 * MIB))
    assert (first.bf16, second.bf16) == (False, True)
    assert gpu.driver() == gpu.Driver("550.54.14", (12, 4))
    gpu.sample()
    assert driver.calls.count("nvmlInitWithFlags") == 1


def test_what_moves_over_the_bus_is_asked_only_when_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = FakeDriver(t4())
    install(monkeypatch, driver)
    watch = gpu.GpuMonitor()
    assert watch.read()[0].pcie_rx_bytes_s is None
    assert "nvmlDeviceGetPcieThroughput" not in driver.calls
    [card] = watch.read(pcie=True)
    assert (card.pcie_rx_bytes_s, card.pcie_tx_bytes_s) == (900_000_000, 120_000_000)


def test_facts_that_never_change_are_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = FakeDriver(t4())
    install(monkeypatch, driver)
    watch = gpu.GpuMonitor()
    watch.read()
    driver.calls.clear()
    watch.read()
    assert len(driver.calls) < 15
    assert not {"nvmlDeviceGetName", "nvmlDeviceGetUUID", "nvmlDeviceGetHandleByIndex_v2"} & set(driver.calls)


def test_an_older_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without functions that came later: their former names give the same, memory is one sum."""
    newer = ("nvmlDeviceGetMemoryInfo_v2", "nvmlDeviceGetTemperatureV", "nvmlDeviceGetNumGpuCores")
    newer += ("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetMPSComputeRunningProcesses_v3")
    install(monkeypatch, FakeDriver(t4(), lacks=(*newer, "nvmlSystemGetCudaDriverVersion_v2")))
    [card] = gpu.sample()
    assert (card.temperature_c, card.throttle) == (61, ("power limit",))
    assert (card.memory_used_bytes, card.memory_reserved_bytes, card.cores) == (1_476 * MIB, None, None)
    assert gpu.driver() == gpu.Driver("550.54.14", None)


def test_a_divided_card_is_its_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FakeDriver(a100_slices(), t4()))
    one, other, last = gpu.sample()
    assert (one.name, one.mig, one.index) == ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", True, 0)
    assert (one.memory_total_bytes, one.memory_used_bytes) == (4_864 * MIB, 600 * MIB)
    assert one.uuid != other.uuid and one.card_uuid == other.card_uuid == a100_slices().uuid
    assert one.utilization_percent is None and one.energy_j is None  # the card's, not this slice's
    assert (one.power_w, one.temperature_c, one.clock_max_mhz) == (68.0, 35, 1_410)
    assert one.bf16 is True
    assert (last.name, last.mig, last.index) == ("Tesla T4", False, 1)


def test_a_card_that_may_be_divided_and_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FakeDriver(a100_slices(slices=None), a100_slices(slices=[None, None])))
    assert [(card.name, card.mig) for card in gpu.sample()] == [("NVIDIA A100-SXM4-40GB", False)] * 2


def test_a_virtual_gpu_gives_little(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FakeDriver(vgpu()))
    [card] = gpu.sample()
    assert (card.memory_used_bytes, card.utilization_percent) == (700 * MIB, 12)
    assert (card.power_w, card.temperature_c, card.energy_j, card.throttle) == (None, None, None, ())
    assert card.processes == (gpu.GpuProcess(4_242, None),)


def test_a_figure_that_is_no_figure_counts_as_none_also_untranslated(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FakeDriver(t4()))
    one = pynvml.nvmlFriendlyObject({"pid": 5, "usedGpuMemory": NOT_AVAILABLE})
    monkeypatch.setattr(pynvml, "nvmlDeviceGetComputeRunningProcesses", lambda handle: [one])
    assert gpu.sample()[0].processes == (gpu.GpuProcess(5, None),)


def test_names_from_the_driver_are_made_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FakeDriver(t4(name="\x1b[31mcard")))
    assert gpu.sample()[0].name.isprintable()


# --------------------------------------------------------------------------------------------------
# a driver that is not there, comes, or goes


def test_no_driver_then_one(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = FakeDriver(t4())
    driver.gone = pynvml.NVML_ERROR_DRIVER_NOT_LOADED
    install(monkeypatch, driver)
    assert (gpu.sample(), gpu.driver()) == ([], None)
    driver.gone = 0
    assert [card.name for card in gpu.sample()] == ["Tesla T4"]


def test_no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, None)
    assert (gpu.sample(), gpu.driver()) == ([], None)
    watch = gpu.GpuMonitor()
    assert watch.read() == [] and watch.problem == "no NVIDIA driver answers"


def test_no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)  # makes the import fail
    monkeypatch.setattr(gpu, "_nvml", None)
    assert (gpu.sample(), gpu.driver()) == ([], None)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("code", [1, 9, 15, 18, 999])
def test_a_driver_that_goes_away_and_comes_back(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    driver, clock = FakeDriver(t4(), rtx_4090()), Clock()
    install(monkeypatch, driver)
    watch = gpu.GpuMonitor(retry_s=30.0, clock=clock)
    assert len(watch.read()) == 2 and watch.problem == ""
    driver.gone, driver.running = code, 0  # unloaded: it has forgotten that it was initialised
    assert watch.read() == []
    assert watch.problem
    driver.gone = 0
    clock.now = 29.0
    assert watch.read() == []  # not asked again yet
    clock.now = 30.0
    assert [card.name for card in watch.read()] == ["Tesla T4", "NVIDIA GeForce RTX 4090"]
    assert watch.problem == ""


def test_a_driver_that_stays_away_is_asked_now_and_then_only(monkeypatch: pytest.MonkeyPatch) -> None:
    driver, clock = FakeDriver(t4()), Clock()
    install(monkeypatch, driver)
    watch = gpu.GpuMonitor(retry_s=30.0, clock=clock)
    watch.read()
    driver.gone = pynvml.NVML_ERROR_DRIVER_NOT_LOADED
    watch.read()
    driver.calls.clear()
    for clock.now in range(300):
        assert watch.read() == [] and watch.problem
    assert driver.calls.count("nvmlInitWithFlags") == 9


def test_one_gpu_is_lost_and_its_neighbour_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    driver, clock = FakeDriver(t4(), rtx_4090()), Clock()
    install(monkeypatch, driver)
    watch = gpu.GpuMonitor(clock=clock)
    assert len(watch.read()) == 2
    driver.cards[0].refuses["nvmlDeviceGetMemoryInfo_v2"] = pynvml.NVML_ERROR_GPU_IS_LOST
    assert [card.index for card in watch.read()] == [1]
    assert watch.problem == "the GPU no longer answers"
    driver.cards[0].refuses["nvmlDeviceGetHandleByIndex_v2"] = pynvml.NVML_ERROR_GPU_IS_LOST
    clock.now = 31.0
    assert [card.index for card in watch.read()] == [1]
    assert watch.problem and [card.index for card in gpu.sample()] == [1]
    driver.cards[0].refuses.clear()
    clock.now = 62.0
    assert len(watch.read()) == 2 and watch.problem == ""


#: The figure that stays away when a function fails; other functions cost every figure, or none.
FIGURE = {
    "nvmlDeviceGetUUID": {"uuid"},
    "nvmlDeviceGetCudaComputeCapability": {"compute_capability"},
    "nvmlDeviceGetNumGpuCores": {"cores"},
    "nvmlDeviceGetMaxClockInfo": {"clock_max_mhz"},
    "nvmlDeviceGetClockInfo": {"clock_mhz"},
    "nvmlDeviceGetMemoryInfo_v2": {"memory_reserved_bytes"},
    "nvmlDeviceGetUtilizationRates": {"utilization_percent", "memory_utilization_percent"},
    "nvmlDeviceGetPowerUsage": {"power_w"},
    "nvmlDeviceGetTotalEnergyConsumption": {"energy_j"},
    "nvmlDeviceGetPcieThroughput": {"pcie_rx_bytes_s", "pcie_tx_bytes_s"},
    "nvmlDeviceGetComputeRunningProcesses_v3": {"processes"},
}


@pytest.mark.parametrize("error", ERRORS)
def test_every_error_of_every_function(monkeypatch: pytest.MonkeyPatch, error: str) -> None:
    """Nothing raises; of a healthy card only the figure is missing whose function fails; and when the
    trouble is over everything is back."""
    code = ERRORS[error]
    for function in FUNCTIONS:
        driver, clock = FakeDriver(t4(compute=[(5, 100 * MIB)])), Clock()
        install(monkeypatch, driver)
        watch = gpu.GpuMonitor(clock=clock)
        [healthy] = watch.read(pcie=True)
        driver.fails[function] = code
        gpu.driver()
        found = watch.read(pcie=True)
        fresh = gpu.GpuMonitor(clock=clock).read(pcie=True)
        if code in gpu.LOST_CODES:
            assert found == [] or found == [healthy]
        else:
            assert watch.problem == "", function
            assert len(found) == 1
            if function == "nvmlDeviceGetComputeRunningProcesses_v3" and error.endswith("INSUFFICIENT_SIZE"):
                continue  # asked with too small a list, by design
            if len(fresh) == 1:
                [card] = fresh
                changed = {
                    one.name for one in fields(card) if getattr(card, one.name) != getattr(healthy, one.name)
                }
                missing = {one.name for one in fields(card) if getattr(card, one.name) is None}
                if function == "nvmlDeviceGetName":
                    assert (changed, card.name) == ({"name"}, "GPU 0")
                else:
                    assert changed == FIGURE.get(function, set()), function
                    assert missing == {"card_uuid"} | changed
            else:
                assert function in (
                    "nvmlInitWithFlags", "nvmlDeviceGetCount_v2", "nvmlDeviceGetHandleByIndex_v2",
                    "nvmlDeviceGetMemoryInfo",
                ), function  # fmt: skip
        driver.fails.clear()
        clock.now += 100.0
        assert [card.name for card in watch.read()] == ["Tesla T4"], function


@pytest.mark.parametrize("error", ERRORS)
def test_every_error_of_the_whole_driver(monkeypatch: pytest.MonkeyPatch, error: str) -> None:
    driver, clock = FakeDriver(t4(), a100_slices(), vgpu()), Clock()
    install(monkeypatch, driver)
    watch = gpu.GpuMonitor(clock=clock)
    assert len(watch.read()) == 4
    driver.gone = ERRORS[error]
    for _ in range(2):
        for card in watch.read(pcie=True):  # what is left are the facts that never change
            assert (card.memory_used_bytes, card.power_w, card.processes) == (None, None, None)
        clock.now += 100.0
    assert gpu.sample() == []
    driver.gone = 0
    clock.now += 100.0
    assert len(watch.read()) == 4 and watch.problem == ""


def test_without_rights_a_figure_is_missing_and_the_rest_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    guarded = ("nvmlDeviceGetPcieThroughput", "nvmlDeviceGetComputeRunningProcesses_v3")
    guarded += ("nvmlDeviceGetPowerUsage", "nvmlDeviceGetTotalEnergyConsumption")
    install(monkeypatch, FakeDriver(t4(refuses=dict.fromkeys(guarded, NO_PERMISSION))))
    [card] = gpu.GpuMonitor().read(pcie=True)
    assert (card.pcie_rx_bytes_s, card.processes, card.power_w, card.energy_j) == (None,) * 4
    assert (card.temperature_c, card.utilization_percent) == (61, 40)


def test_chosen_gpus_only(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FakeDriver(t4(), rtx_4090(), vgpu()))
    watch = gpu.GpuMonitor(lambda cards: [cards[2], cards[0]])
    assert [card.index for card in watch.read()] == [2, 0]
    assert [card.index for card in watch.read()] == [2, 0]
    nothing = gpu.GpuMonitor(lambda cards: [])
    assert nothing.read() == [] and nothing.problem == "the driver shows no GPU"


def test_the_real_driver_never_raises() -> None:
    for card in gpu.sample():
        assert card.name
        assert card.memory_total_bytes is None or card.memory_total_bytes > 0


def test_a_gpu_can_be_made_by_hand() -> None:
    card = gpu.Gpu(0, "a card", None, None, None, None, None, None, None)
    assert card.bf16 is None and replace(card, compute_capability=(9, 0)).bf16 is True


# --------------------------------------------------------------------------------------------------
# processes


def test_process_memory_and_cpu() -> None:
    code = "b = bytearray(60_000_000)\nimport sys; print('up', flush=True)\nwhile True: sum(range(1000))"
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    try:
        assert child.stdout and child.stdout.readline() == b"up\n"
        sampler = gpu.ProcessSampler(child.pid)
        first = sampler.sample()
        assert first and first.resident_bytes > 60_000_000
        assert first.cpu_percent == 0
        time.sleep(0.5)
        second = sampler.sample()
        assert second and second.cpu_percent > 1
    finally:
        child.kill()
        child.wait()
    assert sampler.sample() is None
    assert sampler.sample() is None


def test_this_process_and_none() -> None:
    mine = gpu.ProcessSampler().sample()
    assert mine and abs(mine.resident_bytes - psutil.Process().memory_info().rss) < 50_000_000
    assert gpu.ProcessSampler(2**31 - 2).sample() is None
    assert gpu.ProcessSampler(-1).sample() is None


def test_sampling_imports_nothing_before_it_is_asked() -> None:
    code = "import sys; from tui_lab.hardware import gpu; "
    code += "print(sorted({'pynvml','psutil','torch'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("flags", "has"),
    [("fpu avx512f avx512_bf16", True), ("fpu avx2", False), ("", False), ("fp asimd bf16", True)],
)
def test_a_processor_says_whether_it_has_bf16(tmp_path: Path, flags: str, has: bool) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text(f"processor : 0\nflags : {flags}\n", encoding="utf-8")
    assert gpu.cpu_has_bf16(str(path)) is has
    assert gpu.cpu_has_bf16(str(tmp_path / "missing")) is False


def test_tests_see_no_gpu_of_this_machine(request: pytest.FixtureRequest) -> None:
    """tests/conftest.py hides it, from children too, unless `-m gpu` asks for one."""
    if "gpu" in str(request.config.getoption("-m")):
        pytest.skip("the tests for a GPU")
    assert gpu.sample() == [] and gpu.driver() is None
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""
    with pytest.raises(OSError, match="-m gpu"):
        pynvml.CDLL("libnvidia-ml.so.1")
