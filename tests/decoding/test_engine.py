"""What the decoder tells and how it ends: records, stop strings, cancellation, refusals, the context."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from tests.decoding.conftest import prompt_of
from tests.decoding.test_adapters import NoText, adapter_folder, config_of
from tests.decoding.test_parity import lockstep, numbers
from tui_lab.core.errors import LabError
from tui_lab.decoding.detokenize import decoder_of
from tui_lab.decoding.engine import Lockstep, decode_all
from tui_lab.decoding.records import BeamRecord, DecodingRecord, DecodingRequest, LaneResult, TokenRecord
from tui_lab.decoding.score_tokens import perplexity, score_tokens
from tui_lab.decoding.session import DecodingSession
from tui_lab.decoding.strategies import PRESETS, Beam, Contrastive, Greedy, Lane, Sample

CLASSICS = PRESETS["six classics"]


def test_records_say_what_the_model_thought(tiny_model: Any) -> None:
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
        assert perplexity(judged) == pytest.approx(math.exp(-mean), rel=1e-3)


@pytest.mark.parametrize("method", ["lora", "prefix", "prompt_tuning"])
def test_judged_by_an_adapter(tiny_model: Any, tmp_path: Any, method: str) -> None:
    model = tiny_model("llama")
    stage = DecodingSession(model, NoText())
    stage.add_adapter("x", adapter_folder(model, config_of(method, "llama"), tmp_path / method))
    result = stage.decode(DecodingRequest(prompt_of(9), (Lane(on="x"),), 8))[0]
    judged = score_tokens(stage, prompt_of(9), result.token_ids, on="x")
    assert [j.logprob for j in judged] == pytest.approx([t.logprob for t in result.tokens], abs=1e-3)
    assert all(j.rank == 1 for j in judged)
    with pytest.raises(LabError, match="no 'y' to judge by"):
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


def test_everything_told_adds_up(stories: tuple[Any, Any]) -> None:
    model, tokenizer = stories
    prompt = tuple(tokenizer("One day, a dog")["input_ids"])
    told: list[DecodingRecord] = []
    session = Lockstep(
        model, DecodingRequest(prompt, CLASSICS, 40, frozenset({1, 2})), decoder_of(tokenizer), told.append
    )
    results = decode_all([session])
    assert [r.lane for r in results] == list(range(6))
    for result in results:
        tokens = [r for r in told if isinstance(r, TokenRecord) and r.lane == result.lane]
        assert tuple(tokens) == result.tokens
        assert "".join(t.text for t in tokens) == result.text
        assert result.finish_reason == "length" and len(result.token_ids) == 40
        assert 0 < result.first_token_s <= result.seconds and result.tok_per_s > 0
        assert [r for r in told if isinstance(r, LaneResult)].count(result) == 1
    beams = [r for r in told if isinstance(r, BeamRecord)]
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
    for result in results:
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


@pytest.mark.parametrize("after", [0, 1, 5])
def test_cancellation_within_one_step(tiny_model: Any, after: int) -> None:
    steps = 0
    model = tiny_model("llama", sharpness=6.0)

    def cancelled() -> bool:
        nonlocal steps
        steps += 1
        return steps > after

    results = decode_all([Lockstep(model, DecodingRequest(prompt_of(9), CLASSICS, 50), numbers)], cancelled)
    if after == 0:
        assert results == []
        return
    assert [r.finish_reason for r in results] == ["cancelled"] * 6
    # contrastive search tells a token one forward later than the others
    lengths = [len(r.token_ids) for r in results]
    assert lengths == [after] * 5 + [after - 1]
    full = lockstep(model, prompt_of(9), *CLASSICS, max_new_tokens=50)
    for cut, whole in zip(results, full, strict=True):
        if not isinstance(cut.description.strategy, Beam):
            assert whole.token_ids[: len(cut.token_ids)] == cut.token_ids


def test_the_context_ends_a_lane(tiny_model: Any) -> None:
    model = tiny_model("llama", max_position_embeddings=24)
    results = lockstep(model, prompt_of(20), Greedy(), Beam(2), Contrastive(), max_new_tokens=50)
    assert [(r.finish_reason, len(r.token_ids)) for r in results] == [("context", 4)] * 3
    with pytest.raises(LabError, match="30 tokens and the model's context is 24: cut 7 tokens"):
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
