"""Fixtures for every test: runs and settings of one's own, and a run process that needs no model."""

from __future__ import annotations

import asyncio
import gc
import importlib
import io
import json
import os
import sys
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from hypothesis import HealthCheck, settings

from tui_lab.core import job_client, job_protocol, records
from tui_lab.core.errors import LabError
from tui_lab.core.paths import cache_dir

# read when torch is loaded: the models of the tests are so small that two threads mostly wait for each
# other, and a run beside them for both
os.environ.setdefault("OMP_NUM_THREADS", "1")

# `make test` checks the same few examples every time and keeps none; `make fuzz` searches for new ones.
# "ci" is the old name of "test".
_CHECKS = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("test", derandomize=True, database=None, max_examples=40, **_CHECKS)
settings.register_profile("ci", settings.get_profile("test"))
settings.register_profile("fuzz", max_examples=1_000, **_CHECKS)
settings.load_profile(os.environ.get("TUI_LAB_HYPOTHESIS_PROFILE", "test"))

#: New modules after which what is loaded is frozen again: transformers and trl import much at first use.
MANY_MODULES = 100
FAKE_WORKER = Path(__file__).parent / "fake_worker"


def _no_driver(name: str) -> object:
    raise OSError(f"{name}: the tests do not look for a GPU; `-m gpu` runs those that need one")


def pytest_configure(config: pytest.Config) -> None:
    """Hides the GPUs of this machine from the tests and their children, unless those for a GPU are asked for:
    the others say what a machine without one does. Fake drivers go below pynvml (tests/hardware)."""
    if "gpu" not in str(config.getoption("-m")).replace("not gpu", ""):
        import pynvml

        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        pynvml.CDLL = _no_driver


def pytest_make_parametrize_id(config: pytest.Config, val: object, argname: str) -> str | None:
    """Names without addresses: pytest-xdist compares the names that its workers collect."""
    return getattr(val, "__name__", argname) if callable(val) and not isinstance(val, type) else None


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Imports without garbage collections, which find nothing there and cost a second of a core."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        _freeze()


def pytest_runtest_logfinish() -> None:
    if len(sys.modules) > _freeze.modules + MANY_MODULES:  # type: ignore[attr-defined]
        _freeze()


def _freeze() -> None:
    """Exempts everything that is loaded from collections: each full one would look at half a million objects
    of the libraries (0.3 s), and accelerate asks for one in every training."""
    gc.collect()
    gc.freeze()
    _freeze.modules = len(sys.modules)  # type: ignore[attr-defined]
    # apps are large circles: with Python's thresholds the lab's tests spend a quarter of their time here
    gc.set_threshold(10_000, 20, 50)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache folder of this session: what the runs of tests measure does not reach a person's forecasts, nor
    theirs the tests. What only saves time is shared."""
    before = os.environ.get("TUI_LAB_CACHE_DIR")
    theirs, folder = cache_dir(), tmp_path_factory.mktemp("cache")
    for name in ("torchinductor", "baselines"):
        (theirs / name).mkdir(parents=True, exist_ok=True, mode=0o700)
        (folder / name).symlink_to(theirs / name)
    os.environ["TUI_LAB_CACHE_DIR"] = str(folder)
    yield
    if before is None:
        del os.environ["TUI_LAB_CACHE_DIR"]
    else:
        os.environ["TUI_LAB_CACHE_DIR"] = before


@pytest.fixture
def runs_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty runs folder that everything in this test uses, children too; the config folder is empty."""
    folder = tmp_path / "runs"
    monkeypatch.setenv("TUI_LAB_RUNS_DIR", str(folder))
    monkeypatch.setenv("TUI_LAB_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("TUI_LAB_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("TUI_LAB_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("TUI_LAB_STATE_DIR", str(tmp_path / "state"))
    return folder


@pytest.fixture
def fake_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs started by this test, in whatever process, are tests/fake_worker: a log without a model."""
    before = os.environ.get("PYTHONPATH")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(FAKE_WORKER), before])))


def run_job_here(
    module: str,
    request: Any,
    _on_progress: object = None,
    environment: Mapping[str, str] | None = None,
    *,
    answer: Any = dict,
) -> Any:
    """What a job answers, computed in this process. Takes the arguments of job_client.run_job."""
    assert not environment
    out = io.StringIO()
    job = importlib.import_module(module)
    handle = getattr(job, "handle", None) or job.preview
    request_type = next(iter(get_type_hints(handle).values()))
    job_protocol.run(handle, io.StringIO(records.to_json(request) + "\n"), out, request_type)
    last = json.loads(out.getvalue().splitlines()[-1])
    if last["kind"] == "error":
        raise LabError(last["message"])
    return records.from_plain(last["answer"], answer, "the answer")


@pytest.fixture
def jobs_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """The jobs of the command line and of the lab answer in this process, which has the libraries: seconds
    less a job. That each job is a program which answers: tests/cli/test_jobs.py and
    tests/core/test_job_client.py."""

    async def run_job(*arguments: Any, **options: Any) -> Any:
        return await asyncio.to_thread(run_job_here, *arguments, **options)

    monkeypatch.setattr(job_client, "run_job", run_job)


@pytest.fixture
def playground_in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients of the playground start its server in a thread of this process: seconds less than a child."""
    from tests.playground.in_process import ThreadProcess
    from tui_lab.playground import client

    monkeypatch.setattr(client, "spawn", ThreadProcess.start)


@pytest.fixture(autouse=True)
def settings_stay_here() -> Iterator[None]:
    """A command hands its settings over to what it starts, through the environment: not to other tests."""
    before = {name: value for name, value in os.environ.items() if name.startswith("TUI_LAB_")}
    yield
    for name in [name for name in os.environ if name.startswith("TUI_LAB_")]:
        if name not in before:
            del os.environ[name]
    os.environ.update(before)


@pytest.fixture(autouse=True)
def gradients_stay_on() -> Iterator[None]:
    """A test that leaves torch without gradients would break others far away: it fails itself."""
    yield
    if (torch := sys.modules.get("torch")) is not None:
        on = torch.is_grad_enabled()
        torch.set_grad_enabled(True)
        assert on, "this test leaves gradients disabled"
