"""The work of the host, in this process: what it decodes is what the stage decodes, and whatever cannot be
is one sentence."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tui_lab.core.errors import LabError
from tui_lab.data.templates import load_tokenizer
from tui_lab.decoding.records import DecodingRequest, TokenRecord
from tui_lab.decoding.session import DecodingSession
from tui_lab.decoding.strategies import parse
from tui_lab.models.load_progress import report_load_progress
from tui_lab.playground import worker as module
from tui_lab.playground.messages import Event, GenerateRequest, LaneDone, Tokens
from tui_lab.playground.worker import EventBatcher, Worker, out_of_memory
from tui_lab.pocket import MODEL_DIR

LANES = (
    "greedy", "beam num_beams=3", "top-k k=20 seed=1", "top-p p=0.9 seed=2", "temperature t=1.3 seed=3",
    "contrastive", "greedy on=tuned", "top-p p=0.9 seed=2 on=tuned",
)  # fmt: skip
PROMPT = "Tell me a story about a fox."


@pytest.fixture(scope="module")
def worker(adapters: dict[str, Path]) -> Worker:
    worker = Worker()
    worker.load(lambda text: None, "pocket", dtype="float32")
    worker.add(lambda text: None, "tuned", str(adapters["own"]))
    return worker


def answer(worker: Worker, ask: GenerateRequest) -> tuple[list[LaneDone], list[Event]]:
    told: list[Event] = []
    worker.generate(ask, told.append, lambda: False)
    done = {event.lane: event for event in told if isinstance(event, LaneDone)}
    return [done[lane] for lane in sorted(done)], told


def test_tokens_are_those_of_the_stage(worker: Worker, pocket_stage: DecodingSession) -> None:
    done, told = answer(worker, GenerateRequest(PROMPT, LANES, max_new_tokens=24))
    request = DecodingRequest(
        done[0].prompt_token_ids, tuple(parse(text) for text in LANES), 24, frozenset(worker_stops(worker))
    )
    expected = pocket_stage.decode(request)
    assert [lane.token_ids for lane in done] == [lane.token_ids for lane in expected]
    assert [lane.text for lane in done] == [lane.text for lane in expected]
    assert done[0].token_ids != done[6].token_ids  # the adapter does something
    for lane in done:
        streamed = "".join(e.text for e in told if isinstance(e, Tokens) and e.lane == lane.lane)
        assert streamed == lane.text


def worker_stops(worker: Worker) -> frozenset[int]:
    return worker._encode(GenerateRequest(PROMPT, ("greedy",)))[1]


@pytest.fixture(scope="module")
def pocket_stage(adapters: dict[str, Path]) -> DecodingSession:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(MODEL_DIR, dtype=torch.float32, use_safetensors=True)
    stage = DecodingSession(model, load_tokenizer(str(MODEL_DIR)))
    stage.add_adapter("tuned", adapters["own"])
    return stage


def test_cancelling_ends_at_the_next_step(worker: Worker) -> None:
    seen: list[Event] = []
    asked: list[int] = []

    def cancelled() -> bool:
        asked.append(1)
        return len(asked) > 5

    worker.generate(
        GenerateRequest(PROMPT, ("greedy", "top-k k=5 seed=1"), max_new_tokens=500), seen.append, cancelled
    )
    done = [event for event in seen if isinstance(event, LaneDone)]
    assert {lane.finish_reason for lane in done} == {"cancelled"}
    assert all(len(lane.token_ids) <= 5 for lane in done)


def test_details_are_told_when_asked_for(worker: Worker) -> None:
    lanes = ("top-p p=0.5 seed=1", "contrastive")
    plain, _ = answer(worker, GenerateRequest(PROMPT, lanes, max_new_tokens=6))
    full, _ = answer(worker, GenerateRequest(PROMPT, lanes, max_new_tokens=6, details=True))
    assert [lane.token_ids for lane in plain] == [lane.token_ids for lane in full]
    assert not any(t.alternatives or t.candidates for lane in plain for t in lane.tokens)
    assert all(t.alternatives for t in full[0].tokens) and all(len(t.candidates) == 4 for t in full[1].tokens)
    assert all(t.token_id in [a.token_id for a in t.alternatives] for t in full[0].tokens)


def test_a_stop_string_ends_a_lane_and_is_not_shown(worker: Worker) -> None:
    whole, _ = answer(worker, GenerateRequest(PROMPT, ("greedy",), max_new_tokens=30))
    stop = whole[0].text[10:16]
    cut, told = answer(worker, GenerateRequest(PROMPT, ("greedy",), max_new_tokens=30, stop=(stop, "")))
    assert cut[0].finish_reason == "stop_string"
    assert cut[0].text == whole[0].text[: whole[0].text.index(stop)]
    assert "".join(e.text for e in told if isinstance(e, Tokens)) == cut[0].text


def test_characters_of_several_tokens_are_never_broken(worker: Worker, monkeypatch: Any) -> None:
    """The model is made to say a text of emoji, accents and other scripts, byte by byte."""
    assert worker._stage is not None
    text = "ok 🎉👩‍👩‍👧 漢字 é مرحبا ✓"
    script = worker._stage.tokenizer(text, add_special_tokens=False)["input_ids"]
    assert len(script) > len(text)  # characters are split over tokens here
    said = iter(script)

    def say(_module: Any, _inputs: Any, logits: torch.Tensor) -> torch.Tensor:
        forced = torch.full_like(logits, -30.0)
        forced[..., next(said)] = 30.0
        return forced

    monkeypatch.setattr(module, "FLUSH_S", 0.0)
    hook = worker._stage.model.get_output_embeddings().register_forward_hook(say)
    try:
        done, told = answer(worker, GenerateRequest(PROMPT, ("greedy",), max_new_tokens=len(script)))
    finally:
        hook.remove()
    pieces = [event.text for event in told if isinstance(event, Tokens)]
    assert done[0].text == text and "".join(pieces) == text
    assert len(pieces) > 10 and not any("\ufffd" in piece for piece in pieces)


def test_a_prompt_beyond_the_context(worker: Worker) -> None:
    words = " ".join(f"word{n}" for n in range(3000))
    facts = worker.count(GenerateRequest(words, ("greedy",)))
    assert not facts.fits and facts.context == 2048 and facts.tokens > 2048
    with pytest.raises(LabError, match=rf"has {facts.tokens} tokens and the model's context holds 2048.*cut"):
        answer(worker, GenerateRequest(words, ("greedy",)))
    done, _ = answer(worker, GenerateRequest(words, ("greedy",), max_new_tokens=4, cut=True))
    assert worker._stage is not None and len(done[0].prompt_token_ids) <= 2048 - 4
    read = worker._stage.tokenizer.decode(done[0].prompt_token_ids)
    assert "word0" in read and "word2999" in read and "word1500" not in read and "…" in read
    assert worker.count(GenerateRequest("Hello.", ("greedy",))).fits


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (GenerateRequest("", ("greedy",)), "the prompt is empty"),
        (GenerateRequest(" \n", ("greedy",)), "the prompt is empty"),
        (GenerateRequest("a", ()), "there is no lane"),
        (GenerateRequest("a", ("gredy",)), "did you mean greedy"),
        (
            GenerateRequest("a", ("top-p p=7", "beam n=0")),
            "top_p is above 0 and at most 1.*num_beams is at least 1",
        ),
        (GenerateRequest("a", ("greedy on=ghost",)), "'ghost', which is not loaded; there are base, tuned"),
        (GenerateRequest("a", ("greedy",), max_new_tokens=0), "max_new_tokens is from 1"),
        (GenerateRequest("a", ("greedy",), max_new_tokens=10**9), "max_new_tokens is from 1"),
        (GenerateRequest("a", ("greedy",), raw=True, system="Be kind."), "needs the chat template"),
    ],
)
def test_bad_requests_are_one_sentence(worker: Worker, ask: GenerateRequest, said: str) -> None:
    with pytest.raises(LabError, match=said) as error:
        answer(worker, ask)
    assert "\n" not in str(error.value) and "Traceback" not in str(error.value)


def test_rows_beyond_memory_are_refused_before_they_are_tried(worker: Worker, monkeypatch: Any) -> None:
    from tui_lab.decoding import session as stage

    monkeypatch.setattr(stage, "free_bytes", lambda device: 1_000_000)
    with pytest.raises(LabError, match=r"need .* GB for keys and values.*take fewer lanes or beams"):
        answer(worker, GenerateRequest(PROMPT, ("beam n=64", "beam n=64"), max_new_tokens=500))


def test_adapters_come_and_go(worker: Worker, adapters: dict[str, Path]) -> None:
    quiet = lambda text: None  # noqa: E731
    for name, location, said in (
        ("wrong", adapters["other"], "wrong"),
        ("tuned", adapters["own"], "is taken"),
        ("two words", adapters["own"], "cannot name an adapter"),
        ("a=b", adapters["own"], "cannot name an adapter"),
        ("ghost", "no-such-run", "no-such-run"),
    ):
        with pytest.raises(LabError, match=said) as error:
            worker.add(quiet, name, str(location))
        assert "\n" not in str(error.value)
    assert worker.status.names == ("base", "tuned")
    worker.add(quiet, "again", str(adapters["own"]))
    done, _ = answer(
        worker, GenerateRequest(PROMPT, ("greedy on=tuned", "greedy on=again"), max_new_tokens=8)
    )
    assert done[0].token_ids == done[1].token_ids
    worker.remove(quiet, "again")
    assert worker.status.names == ("base", "tuned")
    with pytest.raises(LabError, match="there is no adapter 'again'"):
        worker.remove(quiet, "again")


def test_judging_says_what_the_steps_said(worker: Worker) -> None:
    done, _ = answer(worker, GenerateRequest(PROMPT, ("greedy on=tuned",), max_new_tokens=12))
    lane = done[0]
    base, tuned = worker.judge(list(lane.prompt_token_ids), list(lane.token_ids), ["base", "tuned"], top=3)
    for token, seen in zip(lane.tokens, tuned, strict=True):
        assert seen.logprob == pytest.approx(token.logprob, abs=1e-3) and seen.rank == 1 == token.rank
        assert seen.top[0][0] == token.token_id and len(seen.top) == 3
    assert any(abs(a.logprob - b.logprob) > 0.01 for a, b in zip(base, tuned, strict=True))


def test_nothing_works_before_a_model_is_loaded() -> None:
    empty = Worker()
    assert not empty.status.loaded
    for call in (
        lambda: empty.count(GenerateRequest("a", ("greedy",))),
        lambda: empty.generate(GenerateRequest("a", ("greedy",)), lambda event: None, lambda: False),
        lambda: empty.judge([1], [1], ["base"]),
        lambda: empty.remove(lambda text: None, "x"),
    ):
        with pytest.raises(LabError, match="no model is loaded"):
            call()
    with pytest.raises(LabError, match="quantization is none or nf4"):
        empty.load(lambda text: None, "pocket", quantization="int3")
    with pytest.raises(LabError, match="dtype is auto"):
        empty.load(lambda text: None, "pocket", dtype="float8")


# ------------------------------------------------------------------ small parts


def test_messages_come_about_ten_times_a_second() -> None:
    now = 0.0
    told: list[Event] = []
    batches = EventBatcher(told.append, lambda result: None, lambda: now)  # type: ignore[arg-type, return-value]
    for at in range(100):  # three seconds of two lanes
        now = at * 0.03
        for lane in (0, 1):
            batches.tell(TokenRecord(lane, at, 7, "x", -1.0, 1, 1.0))
    batches.flush()
    assert 40 <= len(told) <= 66
    for lane in (0, 1):
        mine = [event for event in told if isinstance(event, Tokens) and event.lane == lane]
        assert "".join(event.text for event in mine) == "x" * 100 and mine[-1].count == 100


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory"
        ),
    ],
)
def test_memory_that_ran_out_says_what_to_change(error: Exception) -> None:
    said = out_of_memory(error)
    assert said and "fewer lanes or beams" in said and "4 bits" in said and "\n" not in said
    assert "4 bits" not in (out_of_memory(error, four_bit=True) or "")
    assert out_of_memory(RuntimeError("shape mismatch")) is None


def test_loading_tells_how_far_it_is() -> None:
    said: list[str] = []
    Worker().load(said.append, "pocket")
    counts = [line for line in said if "weights" in line]
    assert said[0].startswith("loading") and counts
    done, total = counts[-1].split(": ")[1].split(" weights")[0].split(" of ")
    assert done == total and int(total) > 10


def test_a_download_tells_the_bytes_that_came(tmp_path: Path, monkeypatch: Any) -> None:
    from tui_lab.models import load_progress

    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(load_progress, "INTERVAL_S", 0.01)
    blobs = tmp_path / "models--some--model" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / "old").write_bytes(b"x" * 50_000)
    said: list[str] = []
    with report_load_progress(said.append, "model", "some/model"):
        for size in (100_000, 3 << 20):
            deadline, before = time.monotonic() + 10, len(said)
            (blobs / "abc.incomplete").write_bytes(b"y" * size)
            while len(said) == before and time.monotonic() < deadline:
                time.sleep(0.01)
        time.sleep(0.1)  # a file may be seen half written
    assert len(said) >= 2 and said[-1] == "downloading model: 3 MiB so far"


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
