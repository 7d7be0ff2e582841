"""The client with real playground processes on the bundled model: streaming, cancellation, crashes.

Tests wait for events; nothing depends on how fast the machine is."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.ui.helpers import until
from tui_lab.core.errors import LabError
from tui_lab.decoding.records import Beams
from tui_lab.playground.client import HostClient
from tui_lab.playground.messages import (
    GenerateRequest,
    GenerationEvent,
    HostStatus,
    LaneDone,
    LoadRequest,
    PromptLength,
    PromptTooLongError,
    Tokens,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")
LANES = ("greedy", "beam num_beams=2", "top-p p=0.9 seed=1", "greedy on=tuned")
LONG = GenerateRequest(
    "Tell me a long story.", ("sample seed=1", "temperature t=1.5 seed=2"), max_new_tokens=1900
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def host(
    tmp_path_factory: pytest.TempPathFactory, adapters: dict[str, Path]
) -> AsyncIterator[HostClient]:
    """One host for what leaves it as it was: the bundled model, an adapter beside it."""
    client = HostClient()
    await client.load("pocket", dtype="float32")
    await client.add("tuned", str(adapters["own"]))
    yield client
    await client.close()


def quiet(event: GenerationEvent) -> None:
    pass


async def first_tokens(events: list[GenerationEvent]) -> None:
    await until(lambda: any(isinstance(event, Tokens) for event in events), 120, what="nothing streamed")


async def test_lanes_stream_and_their_account_adds_up(host: HostClient) -> None:
    told: list[GenerationEvent] = []
    done = await host.generate(
        GenerateRequest("What is the capital of France?", LANES, max_new_tokens=24), told.append
    )
    assert [lane.lane for lane in done] == [0, 1, 2, 3] and [lane.on for lane in done] == ["base"] * 3 + [
        "tuned"
    ]
    assert any(isinstance(event, Beams) for event in told)
    for lane in done:
        mine = [event for event in told if isinstance(event, Tokens) and event.lane == lane.lane]
        assert "".join(event.text for event in mine) == lane.text and len(lane.tokens) == len(lane.token_ids)
        assert mine[-1].count == len(lane.token_ids) and lane.perplexity_base >= 1
        assert 0 < lane.first_token_s <= lane.seconds
    again = await host.generate(
        GenerateRequest("What is the capital of France?", LANES, max_new_tokens=24), quiet
    )
    assert [lane.token_ids for lane in again] == [lane.token_ids for lane in done]
    assert host.status.state == "ready" and host.status.names == ("base", "tuned")
    assert host.status.context == 2048 and host.status.memory_bytes > 4_000_000


async def test_tokens_are_scored_by_both_models(host: HostClient) -> None:
    done = (await host.generate(GenerateRequest("Hello.", ("greedy",), max_new_tokens=5), quiet))[0]
    base, tuned = await host.score_tokens(done.prompt_token_ids, done.token_ids, ["base", "tuned"], top=4)
    assert [t.rank for t in base] == [1] * len(done.token_ids) and len(tuned) == len(base)
    assert base[0].top[0][0] == done.token_ids[0] and isinstance(base[0].top[0][1], str)
    with pytest.raises(LabError, match="no model 'ghost'"):
        await host.score_tokens(done.prompt_token_ids, done.token_ids, ["ghost"])


async def test_stop_gives_what_there_is(host: HostClient) -> None:
    told: list[GenerationEvent] = []
    task = asyncio.create_task(host.generate(LONG, told.append))
    await first_tokens(told)
    host.stop()
    done = await task
    assert [lane.finish_reason for lane in done] == ["cancelled"] * 2 and all(lane.text for lane in done)


async def test_a_cancelled_task_ends_the_work_at_once(host: HostClient) -> None:
    told: list[GenerationEvent] = []
    task = asyncio.create_task(host.generate(LONG, told.append))
    await first_tokens(told)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    count = len(told)
    lengths: list[PromptLength] = []
    # waits for its turn behind the lanes
    await host.generate(GenerateRequest("Hello.", ("greedy",), max_new_tokens=1), quiet, lengths.append)
    assert len(lengths) == 1 and lengths[0].tokens < 2048 == lengths[0].context
    assert len(told) == count, "events of a cancelled task are dropped"
    assert host.status.state == "ready"


async def test_bad_requests_leave_it_alive(host: HostClient, adapters: dict[str, Path]) -> None:
    before = host.pid
    for bad, said in (
        (GenerateRequest("", ("greedy",)), "prompt is empty"),
        (GenerateRequest("a", ("nonsense x=1",)), "nonsense"),
        (GenerateRequest("a", ("greedy on=ghost",)), "not loaded"),
        (GenerateRequest("a " * 5000, ("greedy",)), "context holds 2048"),
    ):
        with pytest.raises(LabError, match=said) as error:
            await host.generate(bad, quiet)
        assert isinstance(error.value, PromptTooLongError) == ("context" in said)
    with pytest.raises(LabError, match="wrong"):
        await host.add("wrong", str(adapters["other"]))
    with pytest.raises(LabError, match="ghost"):
        await host.remove("ghost")
    with pytest.raises(LabError, match=r"request.model must be text"):
        await host.request(LoadRequest(model=3), "busy")  # type: ignore[arg-type]
    assert host.pid == before and host.status.names == ("base", "tuned")
    done = await host.generate(GenerateRequest("a", ("greedy on=tuned",), max_new_tokens=2), quiet)
    assert done[0].token_ids


async def test_requests_take_turns(host: HostClient) -> None:
    asks = [GenerateRequest(f"What is {n} plus {n}?", ("greedy",), max_new_tokens=6) for n in range(4)]
    together = await asyncio.gather(*(host.generate(ask, quiet) for ask in asks))
    one_by_one = [await host.generate(ask, quiet) for ask in asks]
    assert [d[0].token_ids for d in together] == [d[0].token_ids for d in one_by_one]


async def test_killed_in_mid_stream_it_says_so_and_comes_back(adapters: dict[str, Path]) -> None:
    states: list[HostStatus] = []
    host = HostClient(states.append)
    try:
        await host.load("pocket", dtype="float32")
        await host.add("tuned", str(adapters["own"]))
        assert any("weights" in status.text for status in states if status.state == "loading")
        told: list[GenerationEvent] = []
        task = asyncio.create_task(host.generate(LONG, told.append))
        await first_tokens(told)
        first = host.pid
        os.kill(first, signal.SIGKILL)
        with pytest.raises(LabError, match="the playground process was killed by SIGKILL") as error:
            await task
        assert "\n" not in str(error.value)
        assert host.status.state == "died" and "SIGKILL" in host.status.text and not host.status.loaded
        done = await host.generate(
            GenerateRequest("Hello.", ("greedy", "greedy on=tuned"), max_new_tokens=4), quiet
        )
        assert len(done) == 2 and host.pid != first and host.status.names == ("base", "tuned")
        # freed by hand, it is there again when it is asked
        await host.unload()
        assert not host.status.loaded and host.status.memory_bytes == 0
        again = await host.generate(
            GenerateRequest("Hello.", ("greedy", "greedy on=tuned"), max_new_tokens=4), quiet
        )
        assert [lane.token_ids for lane in again] == [lane.token_ids for lane in done]
    finally:
        await host.close()
    assert host.status.state == "off"


async def test_a_model_that_is_not_there_is_one_sentence_and_idle_memory_is_freed(
    tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setenv("TUI_LAB_HOST_IDLE_S", "0.4")
    host = HostClient()
    try:
        (tmp_path / "config.json").write_text("{}")
        for name in (str(tmp_path), str(tmp_path / "none"), "pockett"):
            with pytest.raises(LabError) as error:
                await host.load(name)
            assert "\n" not in str(error.value) and "Traceback" not in str(error.value)
            assert host.status.state == "ready" and not host.status.loaded and not host.wants
        with pytest.raises(LabError, match="no model is loaded"):
            await host.generate(GenerateRequest("a", ("greedy",)), quiet)
        # after all that it loads; left alone it frees its memory, says so, and is back when it is asked
        await host.load("pocket")
        await until(lambda: not host.status.loaded, 120)
        assert not host.status.loaded and "memory was freed after" in host.status.text
        done = await host.generate(GenerateRequest("Hello.", ("greedy",), max_new_tokens=2), quiet)
        assert isinstance(done[0], LaneDone) and host.status.loaded
    finally:
        await host.close()


async def test_closing_in_mid_stream_is_quick(host: HostClient) -> None:
    """The last test of the one host."""
    told: list[GenerationEvent] = []
    task = asyncio.create_task(host.generate(LONG, told.append))
    await first_tokens(told)
    await host.close()
    assert host.pid is None
    with pytest.raises(LabError):
        await task
    await host.close()  # twice is once
