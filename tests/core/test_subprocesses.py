"""What children that compute find in their environment."""

from __future__ import annotations

import asyncio
import os

import pytest

from tui_lab.core import privacy, subprocesses
from tui_lab.core.subprocesses import child_environment, temporary_environment


def test_the_environment_of_children() -> None:
    assert child_environment({"A": "1"}, {"B": "2"}) == {
        **privacy.environment(),
        "GOMP_SPINCOUNT": "1000",
        "PYTORCH_ALLOC_CONF": "expandable_segments:True",
        "TOKENIZERS_PARALLELISM": "false",
        "A": "1",
        "B": "2",
    }
    assert child_environment({}, {"GOMP_SPINCOUNT": "7"})["GOMP_SPINCOUNT"] == "7"
    assert "GOMP_SPINCOUNT" not in child_environment({}, {"OMP_WAIT_POLICY": "active"})


@pytest.mark.parametrize("name", ["PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"])
def test_the_users_settings_of_the_allocator_apply(name: str) -> None:
    found = child_environment({}, {name: "max_split_size_mb:64"})
    assert {key: value for key, value in found.items() if "ALLOC" in key} == {name: "max_split_size_mb:64"}


async def test_a_job_finds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    seen: dict[str, dict[str, str]] = {}

    async def started(*words: str, env: dict[str, str], **more: object) -> asyncio.subprocess.Process:
        seen["env"] = env
        raise OSError(2, "there is none")

    monkeypatch.setattr(asyncio, "create_subprocess_exec", started)
    with pytest.raises(subprocesses.LabError, match=r"no\.module cannot be started"):
        await subprocesses.spawn("no.module", {"CUDA_VISIBLE_DEVICES": "GPU-1"})
    assert seen["env"]["GOMP_SPINCOUNT"] == "1000" and seen["env"]["CUDA_VISIBLE_DEVICES"] == "GPU-1"


def test_variables_are_as_before_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUI_LAB_TEST_A", "before")
    monkeypatch.delenv("TUI_LAB_TEST_B", raising=False)
    with (
        pytest.raises(ZeroDivisionError),
        temporary_environment({"TUI_LAB_TEST_A": "1", "TUI_LAB_TEST_B": "2"}),
    ):
        assert (os.environ["TUI_LAB_TEST_A"], os.environ["TUI_LAB_TEST_B"]) == ("1", "2")
        raise ZeroDivisionError
    assert os.environ["TUI_LAB_TEST_A"] == "before" and "TUI_LAB_TEST_B" not in os.environ
