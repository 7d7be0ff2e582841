"""The records of the decoder and how it ends: stop strings, cancellation, refusals, the context."""

from __future__ import annotations

import gc
import itertools
import math
import weakref
from typing import Any

import pytest
import torch

from tests.decoding.conftest import prompt_of
from tests.decoding.test_adapters import NoText, adapter_folder, config_of
from tests.decoding.test_parity import STOPS, lockstep, numbers
from tui_lab.core.errors import LabError
from tui_lab.decoding.detokenize import decoder_of
from tui_lab.decoding.engine import Lockstep, decode_all
from tui_lab.decoding.metrics import perplexity
from tui_lab.decoding.records import Beams, DecodingRecord, DecodingRequest, LaneResult, TokenRecord
from tui_lab.decoding.score_tokens import score_tokens
from tui_lab.decoding.session import DecodingSession
from tui_lab.decoding.strategies import PRESETS, Beam, Contrastive, Greedy, Lane, Sample

CLASSICS = PRESETS["six classics"]


def test_records_equal_the_distribution_of_the_model(tiny_model: Any) -> None:
    """Log-probability, rank and entropy of every token of every lane, against one plain forward."""
    model = tiny_model("llama", sharpness=6.0)
    prompt = prompt_of(10)
    results = lockstep(model, prompt, *CLASSICS, max_new_tokens=12)
    for result in results:
        ids = list(prompt + result.token_ids)
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0, len(prompt) - 1 : -1].double()
        log_probs = logits.log_softmax(-1)
        for at, token in enumerate(result.tokens):
            assert token.position == at and token.lane == result.lane
            assert token.logprob == pytest.approx(float(log_probs[at, token.token_id]), abs=1e-4)
            assert token.rank == int((logits[at] > logits[at, token.token_id] + 1e-6).sum()) + 1
            expected = float(-(log_probs[at].exp() * log_probs[at]).sum())
            assert token.entropy == pytest.approx(expected, abs=1e-4)
        stage = DecodingSession(model, NoText())
        judged = score_tokens(stage, prompt, result.token_ids, top=3)
        assert [j.logprob for j in judged] == pytest.approx([t.logprob for t in result.tokens], abs=1e-4)
        assert [j.rank for j in judged] == [t.rank for t in result.tokens]
        assert all(j.top[0][2] >= j.logprob - 1e-6 and len(j.top) == 3 for j in judged)
        mean = sum(t.logprob for t in result.tokens) / len(result.tokens)
        assert perplexity([j.logprob for j in judged]) == pytest.approx(math.exp(-mean), rel=1e-3)


@pytest.mark.parametrize("method", ["lora", "prefix", "prompt_tuning"])
def test_scores_of_an_adapter(tiny_model: Any, tmp_path: Any, method: str) -> None:
    model = tiny_model("llama")
    stage = DecodingSession(model, NoText())
    stage.add_adapter("x", adapter_folder(model, config_of(method, "llama"), tmp_path / method))
    result = stage.decode(DecodingRequest(prompt_of(9), (Lane(on="x"),), 8))[0]
    judged = score_tokens(stage, prompt_of(9), result.token_ids, on="x")
    assert [j.logprob for j in judged] == pytest.approx([t.logprob for t in result.tokens], abs=1e-3)
    assert all(j.rank == 1 for j in judged)
    with pytest.raises(LabError, match="no model 'y'"):
        score_tokens(stage, prompt_of(9), result.token_ids, on="y")


def test_alternatives_before_and_after_warping(tiny_model: Any) -> None:
    model = tiny_model("llama", sharpness=6.0)
    lanes = (
        Lane(Sample("top-k", top_k=3), 1),
        Lane(Sample("top-p", top_p=0.1), 1),
        Lane(Sample("min-p", min_p=0.5), 1),
        Lane(Sample("temperature", temperature=0.5), 1),
        Lane(Greedy()),
    )
    results = lockstep(model, prompt_of(10), *lanes, max_new_tokens=6, inspect=8)
    cuts = {a.cut_by for r in results for t in r.tokens for a in t.alternatives}
    assert cuts == {None, "top_k", "top_p", "min_p"}
    for result in results:
        for token in result.tokens:
            shown = token.alternatives
            best = [a.logprob for a in shown[:8]]
            assert len(best) == 8 and best == sorted(best, reverse=True)
            for a in shown:
                assert (a.warped_probability == 0) == (a.cut_by is not None) or a.warped_probability < 1e-6
            mine = [a for a in shown if a.token_id == token.token_id]
            assert len(mine) == 1 and mine[0].warped_probability > 0
            assert mine[0].logprob == pytest.approx(token.logprob, abs=1e-5)
    assert all(len([a for a in t.alternatives if a.warped_probability > 0]) == 3 for t in results[0].tokens)


def test_records_add_up_to_the_result(stories: tuple[Any, Any]) -> None:
    model, tokenizer = stories
    prompt = tuple(tokenizer("One day, a dog")["input_ids"])
    records: list[DecodingRecord] = []
    session = Lockstep(
        model, DecodingRequest(prompt, CLASSICS, 40, frozenset({1, 2})), decoder_of(tokenizer), records.append
    )
    results = decode_all([session])
    assert [r.lane for r in results.values()] == list(results) == list(range(6))
    for result in results.values():
        tokens = [r for r in records if isinstance(r, TokenRecord) and r.lane == result.lane]
        assert tuple(tokens) == result.tokens
        assert "".join(t.text for t in tokens) == result.text
        assert result.finish_reason == "length" and len(result.token_ids) == 40
        assert 0 < result.first_token_s <= result.seconds and result.tok_per_s > 0
        assert [r for r in records if isinstance(r, LaneResult)].count(result) == 1
    beams = [r for r in records if isinstance(r, Beams)]
    assert [b.step for b in beams] == list(range(1, 41))
    for record in beams[:-1]:
        live = [h for h in record.hypotheses if not h.finished]
        assert len(live) == 4 and [h.score for h in live] == sorted((h.score for h in live), reverse=True)
        assert all(len(h.token_ids) == record.step for h in live)
        assert all(h.text == tokenizer.decode(h.token_ids, skip_special_tokens=True) for h in live)


def test_stop_strings_end_lanes_as_in_generate(stories: tuple[Any, Any]) -> None:
    model, tokenizer = stories
    ids = tokenizer("Once upon a time", return_tensors="pt")["input_ids"]
    request = DecodingRequest(tuple(ids[0].tolist()), CLASSICS, 80, frozenset({1, 2}), (" Lily", " park."))
    results = decode_all([Lockstep(model, request, decoder_of(tokenizer))])
    strings = list(request.stop_strings)
    for result in results.values():
        assert not any(stop in result.text for stop in request.stop_strings)
        whole = tokenizer.decode(result.token_ids, skip_special_tokens=True)
        assert whole.startswith(result.text)
        assert (result.finish_reason == "stop_string") == any(s in whole for s in request.stop_strings)
    assert results[0].finish_reason == "stop_string"
    out = model.generate(ids, max_new_tokens=80, do_sample=False, eos_token_id=[1, 2], pad_token_id=0,
                         stop_strings=strings, tokenizer=tokenizer)  # fmt: skip
    assert list(results[0].token_ids) == out[0, ids.shape[1] :].tolist()
    out = model.generate(ids, max_new_tokens=80, do_sample=False, eos_token_id=[1, 2], pad_token_id=0,
                         num_beams=4, stop_strings=strings, tokenizer=tokenizer)  # fmt: skip
    assert list(results[1].token_ids) == out[0, ids.shape[1] :].tolist()


#: Every algorithm, alone and in every order of ending: sampling, beam, contrastive, and their greedy limits.
MIXES: dict[str, tuple[Lane, ...]] = {
    "classics": CLASSICS,
    "sampling": (Lane(Greedy()), Lane(Sample(), 3), Lane(Sample("top-p", top_p=0.8), 4)),
    "beam": (Lane(Beam(3)), Lane(Beam(1)), Lane(Beam(2, early_stopping=True))),
    "contrastive": (Lane(Contrastive()), Lane(Contrastive(0.0, 4)), Lane(Contrastive(0.4, 3))),
    "penalised": (Lane(Beam(2, repetition_penalty=1.3)), Lane(Greedy(1.3)), Lane(Contrastive(0.6, 5))),
}


@pytest.mark.parametrize("inspect", [0, 3])
@pytest.mark.parametrize("mix", MIXES)
def test_every_lane_has_a_result_at_every_step_of_a_cancellation(
    tiny_model: Any, mix: str, inspect: int
) -> None:
    """Results are keyed by lane id; a lane cancelled before its first token has a result without tokens."""
    model = tiny_model("llama", sharpness=6.0)
    request = DecodingRequest(prompt_of(9), MIXES[mix], 8, STOPS, inspect=inspect)
    ids = list(range(7, 7 + len(request.lanes)))[::-1]  # ids are not positions
    complete = decode_all([Lockstep(model, request, numbers, lane_ids=ids)])
    for after in range(10):
        calls = itertools.count()
        emitted: list[DecodingRecord] = []
        engine = Lockstep(model, request, numbers, emitted.append, lane_ids=ids)
        results = decode_all([engine], lambda calls=calls, after=after: next(calls) >= after)
        assert list(results) == sorted(ids)
        assert [r for r in emitted if isinstance(r, LaneResult)] == list(engine.results.values())
        for lane_id, result in results.items():
            lane = request.lanes[ids.index(lane_id)]
            tokens = tuple(r for r in emitted if isinstance(r, TokenRecord) and r.lane == lane_id)
            assert (result.lane, result.description, result.tokens) == (lane_id, lane, tokens)
            assert "".join(t.text for t in tokens) == result.text
            if result.finish_reason != "cancelled":
                assert result.token_ids == complete[lane_id].token_ids
                continue
            # contrastive search emits a token one forward later than the others
            late = lane.strategy.algorithm == "contrastive"
            if lane.strategy.algorithm != "beam":
                assert result.token_ids == complete[lane_id].token_ids[: max(0, after - late)]
            assert bool(result.tokens) == (after > late)


def test_a_cancelled_session_has_a_result_for_every_lane(tiny_model: Any, tmp_path: Any) -> None:
    """Also for the lanes of batches that have not started: several batches take turns."""
    model = tiny_model("llama")
    session = DecodingSession(model, NoText())
    session.add_adapter("lora", adapter_folder(model, config_of("lora", "llama"), tmp_path / "lora"))
    session.add_adapter("soft", adapter_folder(model, config_of("prompt_tuning", "llama"), tmp_path / "soft"))
    lanes = tuple(Lane(s, on=on) for s in (Greedy(), Beam(2), Contrastive()) for on in ("soft", "", "lora"))
    complete = session.decode(DecodingRequest(prompt_of(9), lanes, 4))
    for after in range(10):
        calls = itertools.count()
        stop = lambda calls=calls, after=after: next(calls) >= after  # noqa: E731
        results = session.decode(DecodingRequest(prompt_of(9), lanes, 4), cancelled=stop)
        assert list(results) == list(range(9))
        for lane_id, result in results.items():
            assert result.description == lanes[lane_id]
            if lanes[lane_id].strategy.algorithm != "beam":
                assert complete[lane_id].token_ids[: len(result.token_ids)] == result.token_ids


def test_the_context_ends_a_lane(tiny_model: Any) -> None:
    model = tiny_model("llama", max_position_embeddings=24)
    results = lockstep(model, prompt_of(20), Greedy(), Beam(2), Contrastive(), max_new_tokens=50)
    assert [(r.finish_reason, len(r.token_ids)) for r in results] == [("context", 4)] * 3
    with pytest.raises(LabError, match="30 tokens and the model's context is 24: cut at least 7 tokens"):
        lockstep(model, prompt_of(30), Greedy())


def test_refusals_come_at_once(tiny_model: Any) -> None:
    model = tiny_model("llama")
    with pytest.raises(LabError) as caught:
        decode_all([Lockstep(model, DecodingRequest((), (Lane(Sample()),), 0), numbers)])
    assert all(part in str(caught.value) for part in ("prompt is empty", "has no seed", "at least 1"))
    with pytest.raises(LabError, match="beyond the model's vocabulary"):
        lockstep(model, (3, 160), Greedy())
    with pytest.raises(LabError, match="no lane"):
        lockstep(model, (3, 4))


@pytest.mark.parametrize("method", ["lora", "prefix"])
def test_prompts_of_one_length_share_a_batch(tiny_model: Any, tmp_path: Any, method: str) -> None:
    """Lanes with prompts of their own, on the base and on an adapter, equal each of them alone."""
    model = tiny_model("gemma2", sharpness=6.0)
    stage = DecodingSession(model, NoText())
    stage.add_adapter("x", adapter_folder(model, config_of(method, "gemma2"), tmp_path / method))
    strategies = (Greedy(), Greedy(1.5), Beam(2, repetition_penalty=1.5), Contrastive(), Sample())
    prompts, lanes = [], []
    for seed, strategy in enumerate(strategies):
        for on in ("", "x"):
            prompts.append(prompt_of(14, seed))
            lanes.append(Lane(strategy, seed, on=on))
    request = DecodingRequest(prompts[0], tuple(lanes), 12, STOPS, lane_prompts=tuple(prompts))
    together = stage.decode(request)
    for number, (prompt, lane) in enumerate(zip(prompts, lanes, strict=True)):
        alone = stage.decode(DecodingRequest(prompt, (lane,), 12, STOPS))[0]
        assert alone.token_ids == together[number].token_ids, lane.text
    assert len({result.token_ids for result in together.values()}) > 6


def test_a_session_is_freed_with_its_last_reference(tiny_model: Any) -> None:
    """Without the garbage collector: the memory of a model is needed for the next one at once."""
    gc.disable()
    try:
        session = DecodingSession(tiny_model("llama"), NoText())
        session.decode(DecodingRequest(prompt_of(5, 1), (Lane(Greedy()),), 3, STOPS))
        freed = weakref.ref(session)
        del session
        assert freed() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("name", ["llama", "gemma3_text", "gpt2"])
def test_prompts_of_different_lengths_share_a_batch(tiny_model: Any, name: str) -> None:
    """Each lane decodes what it decodes alone, with its own limit and stop string; lanes leave early."""
    model = tiny_model(name)
    prompts = tuple(prompt_of(length, length) for length in (5, 21, 12, 9))
    penalised = Sample("top-p", 0.8, top_p=0.9, repetition_penalty=1.3)
    lanes = (Lane(Greedy()), Lane(Sample(), 4), Lane(penalised, 5), Lane(Greedy()))
    limits = (14, 3, 9, 14)
    alone = [
        decode_all([Lockstep(model, DecodingRequest(prompt, (lane,), limit), numbers)])[0]
        for prompt, lane, limit in zip(prompts, lanes, limits, strict=True)
    ]
    stop = " ".join(alone[3].text.split()[2:4])
    request = DecodingRequest(
        prompts[0], lanes, 14, lane_prompts=prompts, lane_limits=limits, lane_stops=((), (), (), (stop,))
    )
    together = decode_all([Lockstep(model, request, numbers)])
    for number in range(3):
        assert together[number].token_ids == alone[number].token_ids
        assert together[number].finish_reason == "length"
        ours, theirs = (
            [token.logprob for token in each.tokens] for each in (together[number], alone[number])
        )
        assert ours == pytest.approx(theirs, abs=1e-4)
    assert together[3].finish_reason == "stop_string" and stop not in together[3].text
    abandoned = iter([(), (), (), (0, 2), *[(0, 2)] * 40])
    ended = decode_all([Lockstep(model, request, numbers)], abandoned=lambda: next(abandoned))
    assert [ended[number].finish_reason for number in range(3)] == ["cancelled", "length", "cancelled"]
    assert len(ended[0].token_ids) == 3 and ended[3].text == together[3].text


def test_prompts_of_a_batch_must_fit(tiny_model: Any) -> None:
    model = tiny_model("llama")
    request = DecodingRequest((3, 4), (Lane(Beam(2)), Lane()), lane_prompts=((3, 4), (3, 4, 5)))
    with pytest.raises(LabError, match="must have the same length"):
        Lockstep(model, request, numbers)
    request = DecodingRequest((3, 4), (Lane(), Lane()), lane_prompts=((3, 4),))
    with pytest.raises(LabError, match="1 prompts for 2 lanes"):
        Lockstep(model, request, numbers)
    request = DecodingRequest((3, 4), (Lane(), Lane()), lane_prompts=((3, 4), (3, 160)))
    with pytest.raises(LabError, match="beyond the model's vocabulary"):
        Lockstep(model, request, numbers)


def test_rows_beyond_memory_are_refused(tiny_model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("llama")
    stage = DecodingSession(model, NoText())
    request = DecodingRequest(prompt_of(9), (Lane(Beam(64)), Lane()), 91)
    # 2 for keys and values, 3 layers, 65 rows, 100 positions, 2 heads of 8, 4 bytes
    assert stage.kv_bytes(request) == 2 * 3 * 65 * 100 * 2 * 8 * 4
    monkeypatch.setattr("tui_lab.decoding.session.free_bytes", lambda device: 2_000_000)
    with pytest.raises(LabError, match=r"65 rows of 100 tokens need 0.0 GB.*fewer lanes or beams"):
        stage.decode(request)


def test_half_precision_runs(tiny_model: Any) -> None:
    """bf16 rounds by the batch's shape, so equality is not asked for: only sense."""
    import copy

    model = copy.deepcopy(tiny_model("qwen2")).to(torch.bfloat16)
    for result in lockstep(model, prompt_of(9), *CLASSICS, max_new_tokens=10):
        assert len(result.token_ids) == 10 and all(math.isfinite(t.logprob) for t in result.tokens)
