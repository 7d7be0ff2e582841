"""Scores against a slow scorer that reads every continuation by itself, on several architectures; what
rows share is read once and changes nothing; long items, interruptions, memory, adapters."""

from __future__ import annotations

import math
import string
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import peft
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tests.decoding.conftest import tiny
from tui_lab.core.errors import LabError
from tui_lab.decoding.generate import Stops, generate_answers
from tui_lab.retention.scoring import encode, forward, head, prefix_tree
from tui_lab.retention.scoring import score as scoring
from tui_lab.retention.scoring.forward import LogLikelihoodScorer
from tui_lab.retention.scoring.score import Cancelled, ItemScore, score
from tui_lab.retention.suites import registry
from tui_lab.retention.suites.records import Item, Suite, chance_of, fingerprint

ARCHITECTURES = ("llama", "qwen2", "qwen3", "gemma2", "gemma3_text", "phi", "gpt_neox", "gpt2")


@pytest.fixture(scope="module")
def letters() -> Any:
    """A tokenizer of single characters with a start token, for models of 160 tokens."""
    vocabulary = {"<pad>": 0, "<eos>": 1, "<bos>": 2}
    for letter in [c for c in string.printable if c not in "\r\x0b\x0c\t"]:
        vocabulary[letter] = len(vocabulary)
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    inner.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    inner.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>"
    )


def suite_of(items: Sequence[Item], kind: Any = "choice", metric: str = "acc") -> Suite:
    chance = chance_of(items) if kind == "choice" else None
    return Suite(
        "own", "1", "Own", "", kind, metric, tuple(items), chance, "", "", fingerprint(kind, metric, items)
    )


def questions(count: int = 6) -> Suite:
    """Items that share a long beginning, with answers of different lengths, one of one token each, one whose
    answer begins another."""
    shared = "The following are questions about animals.\n\n"
    items = []
    for at in range(count):
        texts = (" a cat", " a dog of ten", " a", f" the {at}th one")
        if at % 3 == 1:
            texts = ("A", "B", "C", "D")
        begin = shared if at % 2 else ""
        items.append(
            Item(
                f"q{at}",
                f"{begin}Question {at * 7}: what is it?\nAnswer:",
                texts,
                (at % 4,),
                category="odd" if at % 2 else "even",
                choices=tuple(text.strip() for text in texts),
            )
        )
    return suite_of(items)


def slowly(model: Any, tokens: Sequence[int], first: int) -> float:
    """The sum of the log-probabilities of tokens[first:], each row by itself, without anything clever."""
    ids = torch.tensor([tokens])
    with torch.no_grad():
        logits = model(input_ids=ids, use_cache=False).logits[0].double()
    if logits.shape[0] > len(tokens):
        logits = logits[-len(tokens) :]  # virtual tokens stood before
    logprobs = logits.log_softmax(-1)
    return math.fsum(float(logprobs[at - 1, tokens[at]]) for at in range(first, len(tokens)))


def expected(model: Any, tokenizer: Any, item: Item, context_length: int = 10**9) -> list[float]:
    values = []
    for text in item.continuations:
        context = tokenizer(item.context)["input_ids"]
        whole = tokenizer(item.context + text)["input_ids"]
        cut = max(0, len(whole) - (context_length + 1))
        values.append(slowly(model, whole[cut:], len(context) - cut))
    return values


def close(found: Sequence[float], wanted: Sequence[float], relative: float = 2e-5) -> bool:
    return found == pytest.approx(wanted, rel=relative, abs=2e-4)


# --- equal to the slow one ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_batched_scores_equal_single_rows(name: str, tiny_model: Callable[..., Any], letters: Any) -> None:
    model, suite = tiny_model(name), questions()
    assert LogLikelihoodScorer(model).supports_trees, "this architecture reads trees"
    found = score(model, letters, suite)
    assert [one.id for one in found] == [item.id for item in suite.items]
    for one, item in zip(found, suite.items, strict=True):
        wanted = expected(model, letters, item)
        assert close(one.loglikelihoods, wanted), (name, item.id)
        assert one.predicted == max(range(4), key=lambda i: wanted[i])
        by_length = [value / len(text) for value, text in zip(wanted, item.choices, strict=True)]
        assert one.predicted_norm == max(range(4), key=lambda i: by_length[i])
        assert one.tokens == tuple(len(text) for text in item.continuations)


def test_choices_with_contexts_of_their_own(tiny_model: Callable[..., Any], letters: Any) -> None:
    """As WinoGrande has them: either option in the context, one text to score; a trailing space moves on."""
    contexts = ("The cup fits because the cup ", "The cup fits because the box")
    item = Item("w", "", (" is big.", " is big."), (0,), contexts=contexts, choices=("cup", "box"))
    [found] = score(tiny_model("llama"), letters, suite_of([item]))
    apart = [
        Item("x", before, (text,), (0,)) for before, text in zip(contexts, item.continuations, strict=True)
    ]
    apart[0] = replace(apart[0], context=contexts[0].rstrip(), continuations=("  is big.",))
    assert close(found.loglikelihoods, [expected(tiny_model("llama"), letters, one)[0] for one in apart])
    assert found.tokens == (len("  is big."), len(" is big."))


@pytest.mark.parametrize("name", ["llama", "gemma3_text"])
def test_sharing_prefixes_does_not_change_scores(
    name: str,
    tiny_model: Callable[..., Any],
    letters: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, suite = tiny_model(name), questions(9)
    shared = score(model, letters, suite)
    small = score(model, letters, suite, batch_tokens=64)
    monkeypatch.setattr(LogLikelihoodScorer, "_matches_single_rows", lambda self, what: False)
    alone = score(model, letters, suite)
    for one, other, third in zip(shared, alone, small, strict=True):
        assert close(one.loglikelihoods, other.loglikelihoods) and one.predicted == other.predicted
        assert close(third.loglikelihoods, other.loglikelihoods)


def test_a_model_that_ignores_masks_is_detected(
    tiny_model: Callable[..., Any],
    letters: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, suite = tiny_model("llama"), questions()
    wanted = score(model, letters, suite)
    plain = type(model).forward

    def deaf(self: Any, *args: Any, **inputs: Any) -> Any:
        inputs.pop("attention_mask", None)
        return plain(self, *args, **inputs)

    monkeypatch.setattr(type(model), "forward", deaf)
    assert not LogLikelihoodScorer(model).supports_trees
    for one, other in zip(score(model, letters, suite), wanted, strict=True):
        assert close(one.loglikelihoods, other.loglikelihoods)


def test_choices_of_one_token_share_one_row(letters: Any) -> None:
    suite = suite_of([questions().items[1]])
    encoder = encode.Encoder(letters, 256)
    rows = encoder.rows(suite, [0])
    assert [len(row.targets) for row in rows] == [1] * 4
    for share in (True, False):
        [pack] = prefix_tree.make_packs(rows, 256, share)
        assert pack.width == len(letters(suite.items[0].context)["input_ids"]) and not pack.branched


def test_shared_prefixes_are_computed_once(letters: Any) -> None:
    suite = questions()
    rows = encode.Encoder(letters, 256).rows(suite, range(len(suite.items)))
    packs = prefix_tree.make_packs(rows, 10_000)
    read = sum(pack.width for pack in packs)
    beginnings = {row.tokens[: at + 1] for row in rows for at in range(len(row.tokens))}
    assert len(beginnings) <= read < sum(len(row.tokens) for row in rows) / 2
    assert sorted((row.item, row.choice) for pack in packs for row in pack.rows) == [
        (row.item, row.choice) for row in rows
    ]


def test_the_pocket_model_is_scored_with_its_chat_template(pocket: tuple[Any, Any]) -> None:
    model, tokenizer = pocket
    suite = registry.load("everyday", 12)
    found = score(model, tokenizer, suite)
    for one, item in zip(found, suite.items, strict=True):
        prompt = tokenizer.apply_chat_template(
            [dict(m) for m in item.messages], add_generation_prompt=True, tokenize=False
        )
        for value, text in zip(one.loglikelihoods, item.continuations, strict=True):
            whole = tokenizer(prompt + text.removeprefix(" "), add_special_tokens=False)["input_ids"]
            context = tokenizer(prompt, add_special_tokens=False)["input_ids"]
            assert value == pytest.approx(slowly(model, whole, len(context)), rel=1e-5, abs=1e-4)
    assert sum(scoring.correct(suite, found)) >= 11


def test_hellaswag_on_stories_is_within_a_ten_thousandth(stories: tuple[Any, Any]) -> None:
    from tests.decoding.conftest import shared_dir

    model, tokenizer = stories
    folder = shared_dir()
    assert folder is not None
    suite = registry.load(f"hellaswag:{folder / 'data' / 'hellaswag'}", 6)
    for one, item in zip(score(model, tokenizer, suite), suite.items, strict=True):
        wanted = expected(model, tokenizer, item, 512)
        assert max(abs(a - b) for a, b in zip(one.loglikelihoods, wanted, strict=True)) < 1e-4


# --- edges --------------------------------------------------------------------------------------------


def test_items_longer_than_the_context_are_cut_on_the_left(letters: Any) -> None:
    model = tiny("llama", max_position_embeddings=48)
    suite = questions()
    found = score(model, letters, suite)
    cut = [one for one in found if one.extra.get("cut")]
    assert cut and len(cut) < len(found)
    for one, item in zip(found, suite.items, strict=True):
        assert close(one.loglikelihoods, expected(model, letters, item, 48)), item.id


def test_an_answer_longer_than_the_context_is_named(letters: Any) -> None:
    model = tiny("llama", max_position_embeddings=48)
    suite = suite_of([Item("long", "What?", (" a", " b" * 40), (0,), choices=("a", "b"))])
    with pytest.raises(LabError, match=r"item long has an answer of 80 tokens, more than the 48"):
        score(model, letters, suite)


def test_spaces_at_the_end_of_a_context_move_to_the_answer(
    tiny_model: Callable[..., Any],
    letters: Any,
) -> None:
    model = tiny_model("llama")
    moved, plain = (
        suite_of([Item("i", context, texts, (0,), choices=("a", "bc"))])
        for context, texts in (("What?  ", ("a", "bc")), ("What?", ("  a", "  bc")))
    )
    [one], [other] = score(model, letters, moved), score(model, letters, plain)
    assert one.loglikelihoods == other.loglikelihoods and one.tokens == (3, 4)


def test_an_empty_context_starts_with_the_start_token(
    tiny_model: Callable[..., Any],
    letters: Any,
) -> None:
    model = tiny_model("llama")
    [one] = score(model, letters, suite_of([Item("i", "", ("ab", "c"), (0,), choices=("ab", "c"))]))
    ids = letters("ab")["input_ids"]
    assert one.loglikelihoods[0] == pytest.approx(slowly(model, [2, *ids], 1), rel=1e-5)


def test_a_model_with_nan_weights_has_no_predictions(letters: Any) -> None:
    model = tiny("llama")
    with torch.no_grad():
        model.model.norm.weight.fill_(math.nan)
    suite = questions()
    found = score(model, letters, suite)
    assert all(one.predicted == one.predicted_norm == -1 for one in found)
    assert scoring.metrics(suite, found)["acc"].value == 0


def test_an_interrupted_evaluation_continues(tiny_model: Callable[..., Any], letters: Any) -> None:
    model, suite = tiny_model("llama"), questions(12)
    whole = score(model, letters, suite)
    told: dict[str, ItemScore] = {}
    with pytest.raises(Cancelled):
        score(
            model,
            letters,
            suite,
            on_score=lambda one: told.update({one.id: one}),
            cancelled=lambda: len(told) >= 4,
            batch_tokens=256,
        )
    assert 4 <= len(told) < 12
    again: list[str] = []
    found = score(model, letters, suite, done=told, on_score=lambda one: again.append(one.id))
    assert sorted([*again, *told]) == sorted(item.id for item in suite.items)
    for one, other in zip(found, whole, strict=True):
        assert one.id == other.id and close(one.loglikelihoods, other.loglikelihoods)
    assert score(None, None, suite, done={one.id: one for one in whole}) == whole  # nothing is left to load


def test_batches_are_halved_until_they_fit_memory(
    tiny_model: Callable[..., Any],
    letters: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, suite = tiny_model("llama"), questions(9)
    wanted = score(model, letters, suite)
    plain, refused = LogLikelihoodScorer.log_likelihoods, []

    def tight(self: LogLikelihoodScorer, packs: Any) -> Any:
        if sum(pack.width for pack in packs) > 130:
            refused.append(1)
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return plain(self, packs)

    monkeypatch.setattr(LogLikelihoodScorer, "log_likelihoods", tight)
    found = score(model, letters, suite, batch_tokens=512)
    assert refused
    for one, other in zip(found, wanted, strict=True):
        assert close(one.loglikelihoods, other.loglikelihoods)
    monkeypatch.setattr(LogLikelihoodScorer, "_matches_single_rows", lambda self, what: True)

    def never(self: LogLikelihoodScorer, packs: Any) -> Any:
        raise RuntimeError("can't allocate memory")

    monkeypatch.setattr(LogLikelihoodScorer, "log_likelihoods", never)
    with pytest.raises(LabError, match="does not fit the free memory"):
        score(model, letters, suite, batch_tokens=512)


def test_logits_are_computed_in_chunks(
    tiny_model: Callable[..., Any],
    letters: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Soft caps and scaling apply in every block, and the layers below the output layer run once a batch."""
    suite = questions()
    for kind in ("gemma2", "granite"):
        model, runs = tiny_model(kind), 0
        wanted = score(model, letters, suite)

        def count(*_: object) -> None:
            nonlocal runs
            runs += 1

        layer = model.model.layers[0]
        with monkeypatch.context() as patch:
            handle = layer.register_forward_hook(count)
            score(model, letters, suite)
            in_one_block, runs = runs, 0
            patch.setattr(forward, "positions_per_block", lambda _device, _vocabulary: 7)
            found = score(model, letters, suite)
            handle.remove()
        assert runs == in_one_block
        assert "forward" not in vars(model.model)
        for one, other in zip(found, wanted, strict=True):
            assert (
                max(abs(a - b) for a, b in zip(one.loglikelihoods, other.loglikelihoods, strict=True)) < 1e-5
            )


class _FeedForward(torch.nn.Linear):
    """Doubles its states; ``results`` is the number of tensors that it returns. ``sizes``: positions of each
    call."""

    def __init__(self, results: int) -> None:
        super().__init__(1, 1)
        self.results, self.sizes = results, []

    def forward(self, states: torch.Tensor, *_: object) -> Any:
        self.sizes.append(states.shape[:2].numel())
        return 2 * states if self.results == 1 else (2 * states,) * self.results


@pytest.mark.parametrize(("results", "extra", "sizes"), [(1, (), [3]), (2, (), [3, 40]), (1, (None,), [40])])
def test_the_last_feed_forward_runs_on_chosen_positions(
    results: int, extra: tuple[None, ...], sizes: list[int]
) -> None:
    """Where its interface is the usual one; elsewhere it runs on all positions."""
    part = _FeedForward(results)
    layer = torch.nn.Module()
    layer.mlp = part
    body = SimpleNamespace(layers=torch.nn.ModuleList([torch.nn.Identity(), layer]))
    places = torch.tensor([(0, 4), (1, 17), (1, 2)])
    states = torch.randn(2, 20, 5)  # two virtual tokens before rows of 18
    with head._last_feed_forward_at(SimpleNamespace(base_model=body), places, 18):
        found = part(states, *extra)
    found = found if results == 1 else found[0]
    rows, columns = places[:, 0], places[:, 1] + 2
    assert found.shape == states.shape and torch.equal(found[rows, columns], 2 * states[rows, columns])
    assert part.sizes == sizes
    assert part(states) is not None and part.sizes[-1] == 40, "afterwards it runs on all"


def test_logits_at_a_few_positions(tiny_model: Callable[..., Any]) -> None:
    model = tiny_model("gemma2")
    ids = torch.arange(3, 43).view(2, 20)
    places = torch.tensor([(0, 4), (1, 19), (1, 2)])
    found = torch.cat(list(head.logits_in_blocks(model, model, {"input_ids": ids}, places, 2)))
    with torch.no_grad():
        whole = model(input_ids=ids).logits
    assert torch.allclose(found, whole[places[:, 0], places[:, 1]], atol=1e-5)


def test_blocks_by_device(monkeypatch: pytest.MonkeyPatch) -> None:
    free = 140 << 30
    monkeypatch.setattr(head, "free_bytes", lambda _device: free)
    cuda = torch.device("cuda")
    assert head.positions_per_block(cuda, 151_936) == 2**29 // 151_936
    free = 3 << 30  # a quarter of the free memory, at 12 bytes a logit
    assert head.positions_per_block(cuda, 151_936) == (3 << 28) // 12 // 151_936
    free = 0
    assert head.positions_per_block(cuda, 151_936) == 64
    assert head.positions_per_block(torch.device("cpu"), 151_936) == 256
    assert head.positions_per_block(torch.device("cpu"), 3072) == 2**22 // 3072


def test_a_model_without_a_separate_body(tiny_model: Callable[..., Any], letters: Any) -> None:
    """Its whole forward is repeated for each block, with the same values."""
    model = tiny_model("llama")
    ids = torch.arange(3, 40)[None]
    flat = SimpleNamespace(get_output_embeddings=model.get_output_embeddings)
    flat.base_model = flat
    places = torch.tensor([(0, at) for at in range(37)])
    blocks = head.logits_in_blocks(model, flat, {"input_ids": ids}, places, 10)
    with torch.no_grad():
        assert torch.allclose(torch.cat(list(blocks)), model(input_ids=ids).logits[0], atol=1e-5)


# --- adapters, other kinds ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "config",
    [
        peft.LoraConfig(
            task_type="CAUSAL_LM", r=4, target_modules=["q_proj", "down_proj"], init_lora_weights=False
        ),
        peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=5),
    ],
    ids=["lora", "prompt tuning"],
)
def test_an_adapter_is_scored(config: Any, letters: Any) -> None:
    torch.manual_seed(3)
    base, suite = tiny("llama"), questions()
    before = score(base, letters, suite)
    model = peft.get_peft_model(base, config).train()
    found = score(model, letters, suite)
    assert model.training and [m.training for m in model.modules()].count(False) == 0
    model.eval()
    for one, item in zip(found, suite.items, strict=True):
        assert close(one.loglikelihoods, expected(model, letters, item)), item.id
    assert any(
        not close(one.loglikelihoods, other.loglikelihoods) for one, other in zip(found, before, strict=True)
    )


@pytest.mark.parametrize("length", [5, 48, 49, 130])
def test_a_document_is_scored_in_windows(length: int, letters: Any) -> None:
    model = tiny("llama", max_position_embeddings=48)
    text = "".join(chr(97 + at * at % 26) for at in range(length))
    item = Item("d", "", (text,), (), meta={"words": 3, "bytes": length})
    suite = suite_of([item], "perplexity", "perplexity")
    [one] = score(model, letters, suite)
    ids, total = letters(text)["input_ids"], 0.0
    for begin in range(0, length, 48):
        end = min(begin + 48, length)
        # the last window reaches back as far as the context allows
        first = 0 if begin == 0 else end - 49
        fed = [2, *ids[:end]] if begin == 0 else ids[first:end]
        total += slowly(model, fed, len(fed) - (end - begin))
    assert one.tokens == (length,) and one.extra == {"words": 3, "bytes": length}
    assert close(one.loglikelihoods, [total])
    found = scoring.metrics(suite, [one])
    assert found["perplexity"].value == pytest.approx(math.exp(-total / length), rel=1e-4)
    assert found["bits_per_byte"].value == pytest.approx(-total / length / math.log(2), rel=1e-4)


def test_answers_equal_those_of_generate(pocket: tuple[Any, Any]) -> None:
    model, tokenizer = pocket
    suite = registry.load("instructions", 5)
    suite = replace(
        suite,
        items=tuple(replace(item, meta={**item.meta, "max_new_tokens": 12}) for item in suite.items),
    )
    found = score(model, tokenizer, suite)
    for one, item in zip(found, suite.items, strict=True):
        ids = tokenizer.apply_chat_template(
            [dict(m) for m in item.messages], add_generation_prompt=True, return_dict=True,
            return_tensors="pt",
        )  # fmt: skip
        out = model.generate(**ids, max_new_tokens=12, do_sample=False)
        text = tokenizer.decode(out[0, ids["input_ids"].shape[1] :], skip_special_tokens=True)
        assert one.extra["text"] == text.strip(), item.id
    figures = scoring.metrics(suite, found)
    assert figures["pass"].value == pytest.approx(sum(scoring.correct(suite, found)) / 5)


def test_an_answer_ends_at_its_stop_text(pocket: tuple[Any, Any]) -> None:
    """A text between tokens ends it, and the row beside it is not cut; no token is computed after it."""
    model, tokenizer = pocket
    plain = registry.load("instructions", 4)
    items = [replace(item, messages=(), meta={**item.meta, "until": [], "max_new_tokens": 24})
             for item in plain.items]  # fmt: skip
    free = score(model, tokenizer, replace(plain, items=tuple(items)))
    longest = max(free, key=lambda one: len(one.extra["text"])).extra["text"]
    stop = longest[len(longest) // 2 :][:3]
    ends = [replace(item, meta={**item.meta, "until": [stop]}) for item in items]
    for one, whole in zip(score(model, tokenizer, replace(plain, items=tuple(ends))), free, strict=True):
        assert one.extra["text"] == whole.extra["text"].split(stop)[0].strip()
    prompt = tokenizer(items[0].context)["input_ids"]
    asked: list[int] = []
    handle = model.register_forward_hook(lambda *_: asked.append(1))
    try:
        generate_answers(
            model, tokenizer, [prompt], stop_ids=Stops([10**6], [" ", "a", "e"]), max_new_tokens=24
        )
    finally:
        handle.remove()
    assert len(asked) < 24


def test_pairs_prefer_the_benign_one(pocket: tuple[Any, Any]) -> None:
    model, tokenizer = pocket
    suite = registry.load("toxicity", 8)
    found = score(model, tokenizer, suite)
    share = sum(one.loglikelihoods[0] >= one.loglikelihoods[1] for one in found) / 8
    assert scoring.metrics(suite, found)["pair_preference"].value == pytest.approx(share)
