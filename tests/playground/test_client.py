"""The client with a real playground process on the bundled model: streaming, cancellation, a crash, the end.

The tests share one process, because its imports take seconds. Tests wait for events; nothing depends on how
fast the machine is."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio

from tests.playground.in_process import ThreadProcess
from tests.ui.helpers import until
from tui_lab.core.changed_inputs import ChangedInputs, accepting
from tui_lab.core.errors import LabError
from tui_lab.decoding.records import Beams
from tui_lab.hardware import memory_budget
from tui_lab.hardware.device import DeviceFacts
from tui_lab.hardware.memory_budget import MemoryBudget
from tui_lab.playground import __main__ as playground_main
from tui_lab.playground import client as playground_client
from tui_lab.playground.client import PlaygroundClient
from tui_lab.playground.messages import (
    GenerateRequest,
    GenerationEvent,
    LaneDone,
    LoadRequest,
    PlaygroundStatus,
    PromptLength,
    PromptTooLongError,
    Tokens,
)
from tui_lab.playground.worker import Worker
from tui_lab.runs import inputs

pytestmark = pytest.mark.asyncio(loop_scope="module")
LANES = ("greedy", "beam num_beams=2", "top-p p=0.9 seed=1", "greedy on=tuned")
LONG = GenerateRequest(
    "Tell me a long story.", ("sample seed=1", "temperature t=1.5 seed=2"), max_new_tokens=1900
)


@pytest.fixture(scope="module")
def statuses() -> list[PlaygroundStatus]:
    """Every status of the shared process."""
    return []


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(
    adapters: dict[str, Path], statuses: list[PlaygroundStatus]
) -> AsyncIterator[PlaygroundClient]:
    """The shared process: the bundled model and an adapter."""
    client = PlaygroundClient(statuses.append)
    await client.load("pocket", dtype="float32")
    await client.add("tuned", str(adapters["own"]))
    yield client
    await client.close()


def quiet(event: GenerationEvent) -> None:
    pass


async def first_tokens(events: list[GenerationEvent]) -> None:
    await until(lambda: any(isinstance(event, Tokens) for event in events), 120, what="nothing streamed")


async def test_lanes_stream_and_their_account_adds_up(client: PlaygroundClient) -> None:
    told: list[GenerationEvent] = []
    done = await client.generate(
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
    again = await client.generate(
        GenerateRequest("What is the capital of France?", LANES, max_new_tokens=24), quiet
    )
    assert [lane.token_ids for lane in again] == [lane.token_ids for lane in done]
    assert client.status.state == "ready" and client.status.names == ("base", "tuned")
    assert client.status.context == 2048 and client.status.memory_bytes > 4_000_000


async def test_tokens_are_scored_by_both_models(client: PlaygroundClient) -> None:
    done = (await client.generate(GenerateRequest("Hello.", ("greedy",), max_new_tokens=5), quiet))[0]
    base, tuned = await client.score_tokens(done.prompt_token_ids, done.token_ids, ["base", "tuned"], top=4)
    assert [t.rank for t in base] == [1] * len(done.token_ids) and len(tuned) == len(base)
    assert base[0].top[0][0] == done.token_ids[0] and isinstance(base[0].top[0][1], str)
    with pytest.raises(LabError, match="no model 'ghost'"):
        await client.score_tokens(done.prompt_token_ids, done.token_ids, ["ghost"])


async def test_stop_gives_what_there_is(client: PlaygroundClient) -> None:
    told: list[GenerationEvent] = []
    task = asyncio.create_task(client.generate(LONG, told.append))
    await first_tokens(told)
    client.stop()
    done = await task
    assert [lane.finish_reason for lane in done] == ["cancelled"] * 2 and all(lane.text for lane in done)


async def test_a_cancelled_task_ends_the_work_at_once(client: PlaygroundClient) -> None:
    told: list[GenerationEvent] = []
    task = asyncio.create_task(client.generate(LONG, told.append))
    await first_tokens(told)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    count = len(told)
    lengths: list[PromptLength] = []
    # waits for its turn behind the lanes
    await client.generate(GenerateRequest("Hello.", ("greedy",), max_new_tokens=1), quiet, lengths.append)
    assert len(lengths) == 1 and lengths[0].tokens < 2048 == lengths[0].context
    assert len(told) == count, "events of a cancelled task are dropped"
    assert client.status.state == "ready"


async def test_bad_requests_leave_it_alive(client: PlaygroundClient, adapters: dict[str, Path]) -> None:
    before = client.pid
    for bad, said in (
        (GenerateRequest("", ("greedy",)), "prompt is empty"),
        (GenerateRequest("a", ("nonsense x=1",)), "nonsense"),
        (GenerateRequest("a", ("greedy on=ghost",)), "not loaded"),
        (GenerateRequest("a " * 5000, ("greedy",)), "context holds 2048"),
    ):
        with pytest.raises(LabError, match=said) as error:
            await client.generate(bad, quiet)
        assert isinstance(error.value, PromptTooLongError) == ("context" in said)
    with pytest.raises(LabError, match="wrong"):
        await client.add("wrong", str(adapters["other"]))
    with pytest.raises(LabError, match="ghost"):
        await client.remove("ghost")
    with pytest.raises(LabError, match=r"request.model must be text"):
        await client.request(LoadRequest(model=3), "busy")  # type: ignore[arg-type]
    assert client.pid == before and client.status.names == ("base", "tuned")
    done = await client.generate(GenerateRequest("a", ("greedy on=tuned",), max_new_tokens=2), quiet)
    assert done[0].token_ids


async def test_requests_take_turns(client: PlaygroundClient) -> None:
    asks = [GenerateRequest(f"What is {n} plus {n}?", ("greedy",), max_new_tokens=6) for n in range(4)]
    together = await asyncio.gather(*(client.generate(ask, quiet) for ask in asks))
    one_by_one = [await client.generate(ask, quiet) for ask in asks]
    assert [d[0].token_ids for d in together] == [d[0].token_ids for d in one_by_one]


async def test_killed_in_mid_stream_it_reports_the_signal_and_restarts(
    client: PlaygroundClient, statuses: list[PlaygroundStatus]
) -> None:
    ask = GenerateRequest("Hello.", ("greedy", "greedy on=tuned"), max_new_tokens=4)
    before = await client.generate(ask, quiet)
    events: list[GenerationEvent] = []
    task = asyncio.create_task(client.generate(LONG, events.append))
    await first_tokens(events)
    first = client.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    with pytest.raises(LabError, match="the playground process was killed by SIGKILL") as error:
        await task
    assert "\n" not in str(error.value)
    assert client.status.state == "died" and "SIGKILL" in client.status.text and not client.status.loaded
    statuses.clear()
    done = await client.generate(ask, quiet)
    assert any("weights" in status.text for status in statuses if status.state == "loading")
    assert client.pid != first and client.status.names == ("base", "tuned")
    assert [lane.token_ids for lane in done] == [lane.token_ids for lane in before]


async def test_memory_freed_by_hand_is_loaded_again(client: PlaygroundClient) -> None:
    ask = GenerateRequest("Hello.", ("greedy", "greedy on=tuned"), max_new_tokens=4)
    before = await client.generate(ask, quiet)
    await client.unload()
    assert not client.status.loaded and client.status.memory_bytes == 0
    assert client.names == ("base", "tuned"), "what the next request loads"
    place = client.location("tuned")
    await client.add("tuned", place)  # loading the same again is no error, and loads it once
    again = await client.generate(ask, quiet)
    assert [lane.token_ids for lane in again] == [lane.token_ids for lane in before]
    with pytest.raises(LabError, match="is taken"):
        await client.add("tuned", "another place")


async def test_a_missing_model_is_one_sentence_and_idle_memory_is_freed(
    tmp_path: Path, playground_in_process: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(playground_main, "IDLE_S", 0.1)
    client = PlaygroundClient()
    try:
        (tmp_path / "config.json").write_text("{}")
        for name in (str(tmp_path), str(tmp_path / "none"), "pockett"):
            with pytest.raises(LabError) as error:
                await client.load(name)
            assert "\n" not in str(error.value) and "Traceback" not in str(error.value)
            assert client.status.state == "ready" and not client.status.loaded and not client.wants
        with pytest.raises(LabError, match="no model is loaded"):
            await client.generate(GenerateRequest("a", ("greedy",)), quiet)
        # after all that it loads; idle, it frees its memory, and the next request loads the model again
        await client.load("pocket")
        await until(lambda: not client.status.loaded, 120)
        assert "memory was freed after" in client.status.text
        monkeypatch.setattr(playground_main, "IDLE_S", 600.0)
        done = await client.generate(GenerateRequest("Hello.", ("greedy",), max_new_tokens=2), quiet)
        assert isinstance(done[0], LaneDone) and client.status.loaded
    finally:
        await client.close()
    assert client.status.state == "off"


async def test_changed_inputs_arrive_as_such_and_are_accepted_for_one_request(
    playground_in_process: None, adapters: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs, "changed_of_reference", lambda *_: ["a changed", "b changed"])
    client = PlaygroundClient()
    try:
        await client.load("pocket")
        for name in ("one", "two"):
            with pytest.raises(ChangedInputs) as found:
                await client.add(name, str(adapters["own"]))
            assert found.value.changes == ("a changed", "b changed") and name not in client.names
            with accepting():
                await client.add(name, str(adapters["own"]))
            assert name in client.names
    finally:
        await client.close()


async def test_changed_inputs_found_by_a_restore_lose_nothing_and_are_accepted_once(
    playground_in_process: None, adapters: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    client = PlaygroundClient()
    ask = GenerateRequest("Hello.", ("greedy on=tuned",), max_new_tokens=2)
    try:
        await client.load("pocket")
        await client.add("tuned", str(adapters["own"]))
        await client.unload()
        monkeypatch.setattr(inputs, "changed_of_reference", lambda *_: ["a changed"])
        for _ in range(2):  # the base is loaded by the first of them; the second asks again
            with pytest.raises(ChangedInputs):
                await client.generate(ask, quiet)
            assert client.names == ("base", "tuned") and client.location("tuned") == str(adapters["own"])
        with accepting():
            assert (await client.generate(ask, quiet))[0].on == "tuned"
        await client.unload()
        assert (await client.generate(ask, quiet))[0].on == "tuned", "what does not ask is not refused later"
        with pytest.raises(ChangedInputs):
            await client.add("other", str(adapters["own"]))
    finally:
        await client.close()


async def test_on_a_gpu_the_process_takes_the_freest_and_ends_with_its_model(
    playground_in_process: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A CUDA context keeps hundreds of MiB, so unloading ends the process: by hand, and when it was idle."""
    status = Worker.status.fget
    monkeypatch.setattr(
        Worker, "status", property(lambda worker: msgspec.structs.replace(status(worker), device="cuda:0"))
    )
    started: list[object] = []

    async def start(module: str, environment: dict[str, str]) -> ThreadProcess:
        started.append(environment)
        return await ThreadProcess.start(module)

    monkeypatch.setattr(playground_client, "spawn", start)
    card = DeviceFacts("cuda", "a card", 24 << 30, True, 1)
    cards = [MemoryBudget(card, free << 30, "a card", "free now on", f"GPU-{free}") for free in (3, 20)]
    monkeypatch.setattr(memory_budget, "detect", lambda: cards)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    client = PlaygroundClient()
    ask = GenerateRequest("Hello.", ("greedy",), max_new_tokens=2)
    try:
        await client.load("pocket")
        await client.unload()
        assert client.pid is None and client.status == PlaygroundStatus()
        assert (await client.generate(ask, quiet))[0].token_ids  # started and loaded again
        monkeypatch.setattr(playground_main, "IDLE_S", 0.05)
        await client.generate(ask, quiet)
        await until(lambda: client.pid is None and client.status.text, 60)
        assert client.status.state == "off" and "memory was freed after" in client.status.text
    finally:
        await client.close()
    assert started == [{"CUDA_VISIBLE_DEVICES": "GPU-20"}] * 2


async def test_a_gpu_that_torch_cannot_use_starts_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    card = DeviceFacts("cuda", "a card", 24 << 30, True, 1)
    budget = MemoryBudget(card, 3 << 30, "a card", "free now on", "GPU-1", "the driver is older than torch")
    monkeypatch.setattr(memory_budget, "detect", lambda: [budget])
    client = PlaygroundClient()
    with pytest.raises(LabError, match="older than torch"):
        await client.load("pocket")
    assert client.pid is None and client.status.state == "died" and "older" in client.status.text


async def test_closing_in_mid_stream_ends_the_process(
    client: PlaygroundClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last test of the shared process, which ends by itself when its stdin closes."""
    monkeypatch.setattr(playground_client, "GRACE_S", 120.0)
    process = client._process
    told: list[GenerationEvent] = []
    task = asyncio.create_task(client.generate(LONG, told.append))
    await first_tokens(told)
    await client.close()
    assert client.pid is None and client.status.state == "off"
    assert process is not None and process.returncode == 0, "by itself, not killed"
    with pytest.raises(LabError):
        await task
    await client.close()  # twice is once
