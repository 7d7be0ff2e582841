"""Each job is a program that serves its handler; tests/core/test_job_client.py has what serving is."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from typing import get_type_hints

import pytest

from tui_lab.core import job_protocol


@pytest.mark.parametrize(
    "module",
    [
        "tui_lab.data.preview",
        "tui_lab.evaluation.evaluate",
        "tui_lab.evaluation.strength_sweep",
        "tui_lab.export.job",
        "tui_lab.training.calibrate",
        "tui_lab.training.memory_probe",
    ],
)
@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
def test_a_job_serves_its_handler(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[tuple[Callable[..., object], type]] = []

    def serve(handle: Callable[..., object], request_type: type) -> int:
        served.append((handle, request_type))
        return 7

    monkeypatch.setattr(job_protocol, "serve", serve)
    with pytest.raises(SystemExit) as end:
        runpy.run_module(module, run_name="__main__")
    [(handle, request_type)] = served
    assert end.value.code == 7
    assert next(iter(get_type_hints(handle).values())).__name__ == request_type.__name__
