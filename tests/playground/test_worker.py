"""The playground's worker, in this process: it decodes what a DecodingSession decodes, and every error is one
sentence."""

from __future__ import annotations

import itertools
import math
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from tests.models.fake_hub import HUB_ID, serve
from tui_lab.core.errors import LabError
from tui_lab.data.templates import TEMPLATE_FILE, load_tokenizer
from tui_lab.decoding.records import DecodingRequest, TokenRecord
from tui_lab.decoding.session import DecodingSession
from tui_lab.decoding.strategies import parse
from tui_lab.models.load_progress import report_load_progress
from tui_lab.playground import event_batcher, prompts
from tui_lab.playground.event_batcher import EventBatcher
from tui_lab.playground.messages import (
    ChatTurn,
    Generated,
    GenerateRequest,
    GenerationEvent,
    LaneDone,
    LoadRequest,
    PromptLength,
    PromptTooLongError,
    ScoreRequest,
    Tokens,
    TooLong,
)
from tui_lab.playground.prompts import Prompter, PromptInput, encode
from tui_lab.playground.worker import Worker, out_of_memory_message
from tui_lab.pocket import MODEL_DIR

LANES = (
    "greedy", "beam num_beams=3", "top-k k=20 seed=1", "top-p p=0.9 seed=2", "temperature t=1.3 seed=3",
    "contrastive", "greedy on=tuned", "top-p p=0.9 seed=2 on=tuned",
)  # fmt: skip
PROMPT = "Tell me a story about a fox."


@pytest.fixture(scope="module")
def worker(adapters: dict[str, Path]) -> Worker:
    worker = Worker()
    worker.load(LoadRequest(dtype="float32"), quiet)
    worker.add("tuned", str(adapters["own"]), quiet)
    return worker


def answer(worker: Worker, request: GenerateRequest) -> tuple[list[LaneDone], list[Any]]:
    """The lanes in order, and all events. The length of the prompt comes first."""
    events: list[Any] = []
    result = worker.generate(request, events.append, lambda: False)
    assert isinstance(result, Generated)
    done = {event.lane: event for event in events if isinstance(event, LaneDone)}
    assert sorted(done) == list(result.perplexities) == list(range(len(request.lanes)))
    length = events.pop(0)
    assert length == PromptLength(len(done[0].prompt_token_ids), 2048)
    return [done[lane] for lane in sorted(done)], events


def quiet(_text: str) -> None:
    pass


def test_tokens_are_those_of_the_stage(worker: Worker, pocket_session: DecodingSession) -> None:
    done, told = answer(worker, GenerateRequest(PROMPT, LANES, max_new_tokens=24))
    prompt = encode(pocket_session.model, worker._loaded.prompters.of(), PromptInput(PROMPT))
    assert tuple(prompt.ids) == done[0].prompt_token_ids
    lanes = tuple(parse(text) for text in LANES)
    expected = pocket_session.decode(DecodingRequest(tuple(prompt.ids), lanes, 24, prompt.stop_ids)).values()
    assert [lane.token_ids for lane in done] == [lane.token_ids for lane in expected]
    assert [lane.text for lane in done] == [lane.text for lane in expected]
    assert done[0].token_ids != done[6].token_ids  # the adapter does something
    speed = worker.status.speed
    assert speed is not None and speed.steps == max(len(lane.token_ids) for lane in done)
    for lane in done:
        streamed = "".join(e.text for e in told if isinstance(e, Tokens) and e.lane == lane.lane)
        assert streamed == lane.text


@pytest.fixture(scope="module")
def pocket_session(adapters: dict[str, Path]) -> DecodingSession:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(MODEL_DIR, dtype=torch.float32, use_safetensors=True)
    session = DecodingSession(model, load_tokenizer(str(MODEL_DIR)))
    session.add_adapter("tuned", adapters["own"])
    return session


def test_cancelling_ends_at_the_next_step(worker: Worker) -> None:
    calls = itertools.count(1)
    events: list[Any] = []
    request = GenerateRequest(PROMPT, ("greedy", "top-k k=5 seed=1"), max_new_tokens=500)
    worker.generate(request, events.append, lambda: next(calls) > 5)
    done = [event for event in events if isinstance(event, LaneDone)]
    assert {lane.finish_reason for lane in done} == {"cancelled"}
    assert all(len(lane.token_ids) <= 5 for lane in done)


@pytest.mark.parametrize("after", [0, 1, 2])
def test_figures_of_cancelled_lanes_belong_to_their_lane(worker: Worker, after: int) -> None:
    """Lanes on the base and on an adapter that is a batch of its own; each has its own perplexity."""
    lanes = ("greedy", "greedy on=tuned", "contrastive", "beam num_beams=2 on=tuned", "sample seed=3")
    calls = itertools.count()
    events: list[Any] = []
    result = worker.generate(GenerateRequest(PROMPT, lanes), events.append, lambda: next(calls) >= after)
    assert isinstance(result, Generated) and list(result.perplexities) == [0, 1, 2, 3, 4]
    done = {event.lane: event for event in events if isinstance(event, LaneDone)}
    assert sorted(done) == [0, 1, 2, 3, 4]
    for lane, perplexity in result.perplexities.items():
        assert done[lane].finish_reason == "cancelled"
        assert math.isnan(perplexity) == (not done[lane].token_ids)
        if done[lane].on == "base":
            assert perplexity == pytest.approx(done[lane].perplexity_base, nan_ok=True)


def test_the_prompt_is_encoded_once(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    real = prompts.encode

    def counted(model: Any, prompter: Prompter, source: PromptInput) -> Any:
        seen.append(source.prompt)
        return real(model, prompter, source)

    monkeypatch.setattr(prompts, "encode", counted)
    answer(worker, GenerateRequest(PROMPT, ("greedy", "beam"), max_new_tokens=2))
    assert seen == [PROMPT]


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
    loaded = worker._loaded
    text = "ok 🎉👩‍👩‍👧 漢字 é مرحبا ✓"
    script = loaded.prompters.of().tokenizer(text, add_special_tokens=False)["input_ids"]
    assert len(script) > len(text)  # characters are split over tokens here
    said = iter(script)

    def say(_module: Any, _inputs: Any, logits: torch.Tensor) -> torch.Tensor:
        forced = torch.full_like(logits, -30.0)
        forced[..., next(said)] = 30.0
        return forced

    monkeypatch.setattr(event_batcher, "FLUSH_S", 0.0)
    hook = loaded.session.model.get_output_embeddings().register_forward_hook(say)
    try:
        done, told = answer(worker, GenerateRequest(PROMPT, ("greedy",), max_new_tokens=len(script)))
    finally:
        hook.remove()
    pieces = [event.text for event in told if isinstance(event, Tokens)]
    assert done[0].text == text and "".join(pieces) == text
    assert len(pieces) > 10 and not any("\ufffd" in piece for piece in pieces)


def test_a_prompt_beyond_the_context(worker: Worker) -> None:
    words = " ".join(f"word{n}" for n in range(3000))
    events: list[Any] = []
    length = worker.generate(GenerateRequest(words, ("greedy",)), events.append, lambda: False)
    assert isinstance(length, TooLong) and length.context == 2048 < length.tokens and not events
    said = str(PromptTooLongError(length))
    assert f"has {length.tokens} tokens and the model's context holds 2048" in said and "cut" in said
    done, _ = answer(worker, GenerateRequest(words, ("greedy",), max_new_tokens=4, cut=True))
    assert len(done[0].prompt_token_ids) <= 2048 - 4
    read = worker._loaded.prompters.of().tokenizer.decode(done[0].prompt_token_ids)
    assert "word0" in read and "word2999" in read and "word1500" not in read and "…" in read


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
    monkeypatch.setattr("tui_lab.decoding.session.free_bytes", lambda device: 1_000_000)
    with pytest.raises(LabError, match=r"need .* GB for keys and values.*take fewer lanes or beams"):
        answer(worker, GenerateRequest(PROMPT, ("beam n=64", "beam n=64"), max_new_tokens=500))


def test_adapters_come_and_go(worker: Worker, adapters: dict[str, Path]) -> None:
    for name, location, said in (
        ("wrong", adapters["other"], "wrong"),
        ("tuned", adapters["own"], "is taken"),
        ("two words", adapters["own"], "cannot name an adapter"),
        ("a=b", adapters["own"], "cannot name an adapter"),
        ("ghost", "no-such-run", "no-such-run"),
    ):
        with pytest.raises(LabError, match=said) as error:
            worker.add(name, str(location), quiet)
        assert "\n" not in str(error.value)
    assert worker.status.names == ("base", "tuned")
    worker.add("again", str(adapters["own"]), quiet)
    done, _ = answer(
        worker, GenerateRequest(PROMPT, ("greedy on=tuned", "greedy on=again"), max_new_tokens=8)
    )
    assert done[0].token_ids == done[1].token_ids
    worker.remove("again")
    assert worker.status.names == ("base", "tuned")
    with pytest.raises(LabError, match="there is no adapter 'again'"):
        worker.remove("again")


def test_each_lane_goes_on_with_its_own_conversation(worker: Worker, pocket_session: DecodingSession) -> None:
    lanes = ("greedy", "greedy on=tuned", "top-p p=0.9 seed=2")
    first, _ = answer(worker, GenerateRequest(PROMPT, lanes, max_new_tokens=12))
    turns = tuple((ChatTurn(PROMPT, lane.text),) for lane in first)
    follow = GenerateRequest("And then?", lanes, max_new_tokens=12, turns=turns, system="Be short.")
    done, _ = answer(worker, follow)
    tokenizer = worker._loaded.prompters.of().tokenizer
    prompt = encode(pocket_session.model, worker._loaded.prompters.of(), PromptInput("x"))
    for lane, before in zip(done, first, strict=True):
        chat = [
            {"role": "system", "content": "Be short."},
            {"role": "user", "content": PROMPT},
            {"role": "assistant", "content": before.text},
            {"role": "user", "content": "And then?"},
        ]
        ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True)["input_ids"]
        assert list(lane.prompt_token_ids) == list(ids), "as transformers renders the chat"
        alone = DecodingRequest(
            lane.prompt_token_ids, (parse(lane.description),), 12, prompt.stop_ids,
        )  # fmt: skip
        assert pocket_session.decode(alone)[0].token_ids == lane.token_ids
    assert done[0].prompt_token_ids != done[1].prompt_token_ids
    scored = worker.score(ScoreRequest(done[1].prompt_token_ids, done[1].token_ids, ("base",)))
    assert first[1].text in "".join(scored.prompt), "the tokens of the earlier turns as text"


def test_a_long_conversation_loses_its_oldest_turns(worker: Worker) -> None:
    old = ChatTurn("first " * 1500, "one")
    turns = (old, ChatTurn("second " * 600, "two"), ChatTurn("third", "three"))
    request = GenerateRequest("And?", ("greedy",), max_new_tokens=4, turns=(turns,))
    assert isinstance(worker.generate(request, lambda event: None, lambda: False), TooLong)
    done, _ = answer(worker, msgspec.structs.replace(request, cut=True))
    read = worker._loaded.prompters.of().tokenizer.decode(done[0].prompt_token_ids)
    assert "first" not in read and "third" in read and "And?" in read


def test_several_turns_need_a_chat_template(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    request = GenerateRequest("b", ("greedy",), turns=((ChatTurn("a", "x"),),))
    with pytest.raises(LabError, match="which is off: switch it on"):
        answer(worker, msgspec.structs.replace(request, raw=True))
    loaded = worker._loaded
    monkeypatch.setattr(loaded.prompters, "own", replace(loaded.prompters.own, has_template=False))
    assert not worker.status.has_template
    with pytest.raises(LabError, match="this model has none: load a chat model"):
        answer(worker, request)
    with pytest.raises(LabError, match="turns of 2 lanes and 1 lanes"):
        answer(worker, msgspec.structs.replace(request, turns=((), ())))
    answer(worker, msgspec.structs.replace(request, turns=()))


def test_adapters_are_prompted_by_their_own_templates(
    worker: Worker, adapters: dict[str, Path], tmp_path: Path
) -> None:
    template = (MODEL_DIR / TEMPLATE_FILE).read_text()
    for name in ("polite", "terse"):
        folder = shutil.copytree(adapters["own"], tmp_path / name)
        (folder / TEMPLATE_FILE).write_text(f"{name}: {template}")
        worker.add(name, str(folder), quiet)
    lanes = ("greedy", "greedy on=polite", "greedy on=terse", "greedy on=tuned")
    done, _ = answer(worker, GenerateRequest(PROMPT, lanes, max_new_tokens=4))
    tokenizer = worker._loaded.prompters.of().tokenizer
    texts = [tokenizer.decode(lane.prompt_token_ids) for lane in done]
    assert texts[1].startswith("polite:") and texts[2].startswith("terse:")
    assert texts[0] == texts[3] == texts[1], "what has no template is asked as the first that has one"
    worker.remove("polite")
    worker.remove("terse")
    again, _ = answer(worker, GenerateRequest(PROMPT, ("greedy",), max_new_tokens=4))
    assert not tokenizer.decode(again[0].prompt_token_ids).startswith("polite:"), "the base's own again"


def test_judging_says_what_the_steps_said(worker: Worker) -> None:
    done, _ = answer(worker, GenerateRequest(PROMPT, ("greedy on=tuned",), max_new_tokens=12))
    lane = done[0]
    request = ScoreRequest(lane.prompt_token_ids, lane.token_ids, ("base", "tuned"), top=3)
    base, tuned = (worker.score_tokens(request, name) for name in request.on)
    for token, seen in zip(lane.tokens, tuned, strict=True):
        assert seen.logprob == pytest.approx(token.logprob, abs=1e-3) and seen.rank == 1 == token.rank
        assert seen.top[0][0] == token.token_id and len(seen.top) == 3
    assert any(abs(a.logprob - b.logprob) > 0.01 for a, b in zip(base, tuned, strict=True))


def test_nothing_works_before_a_model_is_loaded() -> None:
    empty = Worker()
    assert not empty.status.loaded
    for call in (
        lambda: empty.generate(GenerateRequest("a", ("greedy",)), lambda event: None, lambda: False),
        lambda: empty.score_tokens(ScoreRequest((1,), (1,), ("base",)), "base"),
        lambda: empty.remove("x"),
    ):
        with pytest.raises(LabError, match="no model is loaded"):
            call()
    with pytest.raises(LabError, match="quantization is one of none, nf4"):
        empty.load(LoadRequest(quantization="int3"), quiet)
    with pytest.raises(LabError, match="dtype is auto"):
        empty.load(LoadRequest(dtype="float8"), quiet)


# ------------------------------------------------------------------ small parts


def test_messages_come_about_ten_times_a_second() -> None:
    now = 0.0
    told: list[GenerationEvent] = []
    batches = EventBatcher(told.append, lambda result: None, lambda: now)  # type: ignore[arg-type, return-value]
    for at in range(100):  # three seconds of two lanes
        now = at * 0.03
        for lane in (0, 1):
            batches.add(TokenRecord(lane, at, 7, "x", -1.0, 1, 1.0))
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
    said = out_of_memory_message(error)
    assert said and "fewer lanes or beams" in said and "4 bits" in said and "\n" not in said
    assert "4 bits" not in (out_of_memory_message(error, four_bit=True) or "")
    assert out_of_memory_message(RuntimeError("shape mismatch")) is None


def test_loading_tells_how_far_it_is() -> None:
    said: list[str] = []
    Worker().load(LoadRequest(), said.append)
    counts = [line for line in said if "weights" in line]
    assert said[0].startswith("loading") and counts
    done, total = counts[-1].split(": ")[1].split(" weights")[0].split(" of ")
    assert done == total and int(total) > 10


def test_a_download_reports_bytes_and_total(tmp_path: Path, monkeypatch: Any) -> None:
    said: list[str] = []
    with serve(MODEL_DIR, tmp_path / "hub", monkeypatch), report_load_progress(said.append, "model", HUB_ID):
        pass
    assert said[-1].startswith(f"downloading {HUB_ID}: 8.")
    done, total = said[-1].split(": ")[1].split(",")[0].split(" of ")
    assert done == total and total.endswith("MiB")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
