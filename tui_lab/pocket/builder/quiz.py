"""Measure the pocket model: `python -m tui_lab.pocket.builder.quiz [FOLDER]`.

Every fact of the world is asked in phrasings that no document of the corpus used. Measured on the file as
it ships: four-choice accuracy (log-likelihood of the answer, in the chat template and as plain "Question:
… Answer:" text), free exact answers by greedy decoding, whether turns end, the loss by position up to the
full context, recall of a word across a long conversation, and how much sampling differs from greedy
decoding.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from tui_lab.pocket import CONTEXT, MODEL_DIR
from tui_lab.pocket.builder.corpus import Corpus
from tui_lab.pocket.builder.world import QuizItem, quiz

# transformers' own annotations of `generate` and of tokenizers do not fit its own classes.
Model = Any
Tokens = Any

QUIZ_SEED = 2026
_HELD_OUT_DOCUMENTS_SEED = 987_654_321  # far from every seed that a build gives its blocks
_BATCH = 64
POSITION_BANDS = ((0, 256), (256, 512), (512, 1024), (1024, 1536), (1536, 2048))


@dataclass(frozen=True)
class Answers:
    """How well the facts are known."""

    items: int
    chat_choice: float
    plain_choice: float
    free_exact: float
    ended: float
    dtype: str
    by_relation: dict[str, tuple[int, float, float]]
    """relation -> (items, four-choice accuracy in the chat, free exact answers)"""


@dataclass(frozen=True)
class Measured(Answers):
    """The numbers of the model card."""

    loss_by_position: dict[str, float]
    recall_at_1000: float
    distinct_samples: float
    seconds: float


def load(folder: Path = MODEL_DIR, dtype: torch.dtype = torch.float32) -> tuple[Model, Tokens]:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
    return model, AutoTokenizer.from_pretrained(folder)


def chat_prompt(tokenizer: Tokens, question: str) -> list[int]:
    messages = [{"role": "user", "content": question}]
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def _pair(tokenizer: Tokens, item: QuizItem, choice: str, style: str) -> tuple[list[int], list[int]]:
    if style == "chat":
        answer = tokenizer(choice + tokenizer.eos_token, add_special_tokens=False)["input_ids"]
        return chat_prompt(tokenizer, item.question), answer
    context = f"Question: {item.question}\nAnswer:"
    whole = tokenizer(f"{context} {choice}", add_special_tokens=False)["input_ids"]
    split = len(tokenizer(context, add_special_tokens=False)["input_ids"])
    return whole[:split], whole[split:]


@torch.inference_mode()
def log_likelihoods(model: Model, pairs: list[tuple[list[int], list[int]]], pad: int) -> list[float]:
    """Summed log-probability of each continuation after its context."""
    order = sorted(range(len(pairs)), key=lambda i: len(pairs[i][0]) + len(pairs[i][1]))
    found = [0.0] * len(pairs)
    for start in range(0, len(order), _BATCH):
        rows = order[start : start + _BATCH]
        length = max(len(pairs[i][0]) + len(pairs[i][1]) for i in rows)
        ids = torch.full(
            (len(rows), length), pad
        )  # (B, T), padded on the right: causal attention never sees it
        for row, i in enumerate(rows):
            tokens = [*pairs[i][0], *pairs[i][1]]
            ids[row, : len(tokens)] = torch.tensor(tokens)
        logits = model(input_ids=ids, use_cache=False).logits  # (B, T, V)
        for row, i in enumerate(rows):
            context, continuation = pairs[i]
            at = logits[row, len(context) - 1 : len(context) + len(continuation) - 1].float().log_softmax(-1)
            found[i] = at.gather(1, torch.tensor(continuation)[:, None]).sum().item()
    return found


def choose(model: Model, tokenizer: Tokens, items: list[QuizItem], style: str) -> list[bool]:
    """Whether the right choice is the likeliest, item by item; `style` is "chat" or "plain"."""
    pairs = [_pair(tokenizer, item, choice, style) for item in items for choice in item.choices]
    scores = torch.tensor(log_likelihoods(model, pairs, tokenizer.pad_token_id)).view(len(items), 4)
    picked = scores.argmax(-1).tolist()
    return [pick == item.right for pick, item in zip(picked, items, strict=True)]


@torch.inference_mode()
def answer(
    model: Model,
    tokenizer: Tokens,
    questions: list[str],
    max_new_tokens: int = 16,
    sample: bool = False,
) -> list[tuple[str, bool]]:
    """(answer, whether its turn ended) to each question, in the chat template."""
    answers: list[tuple[str, bool]] = []
    for start in range(0, len(questions), _BATCH):
        prompts = [chat_prompt(tokenizer, question) for question in questions[start : start + _BATCH]]
        length = max(len(prompt) for prompt in prompts)
        ids = torch.tensor([[tokenizer.pad_token_id] * (length - len(p)) + p for p in prompts])
        mask = torch.tensor([[0] * (length - len(p)) + [1] * len(p) for p in prompts])
        how = {"do_sample": True, "top_k": 0} if sample else {"do_sample": False}
        out: Tensor = model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=max_new_tokens, **how)
        for row in out[:, length:].tolist():
            ended = tokenizer.eos_token_id in row
            answers.append((tokenizer.decode(row, skip_special_tokens=True), ended))
    return answers


def normalised(text: str) -> str:
    """Answers are compared without case, outer punctuation and leading article."""
    stripped = re.sub(r"\s+", " ", text).strip(" .!?,;:\"'").casefold()
    return re.sub(r"^(a|an|the) ", "", stripped)


@torch.inference_mode()
def loss_by_position(model: Model, tokenizer: Tokens, windows: int = 24) -> dict[str, float]:
    """Mean loss of answers and stories in bands of positions, over windows of the full context."""
    from tui_lab.pocket.builder.tokenizer import Encoder

    encoder, corpus = Encoder(tokenizer), Corpus(_HELD_OUT_DOCUMENTS_SEED)
    documents = corpus.documents()
    totals = {band: [0.0, 0.0] for band in POSITION_BANDS}
    for _ in range(windows):
        ids: list[int] = []
        weights: list[float] = []
        while len(ids) <= CONTEXT:
            ((more, more_weights),) = encoder.encode([next(documents)])
            ids.extend([*more, encoder.separator])
            weights.extend([*more_weights, 0.0])
        row, weight = torch.tensor(ids[:CONTEXT]), torch.tensor(weights[:CONTEXT])
        log_probs = model(input_ids=row[None], use_cache=False).logits[0].float().log_softmax(-1)
        losses = -log_probs[:-1].gather(1, row[1:, None])[:, 0]
        for low, high in POSITION_BANDS:
            span = slice(max(0, low - 1), high - 1)
            totals[low, high][0] += (losses[span] * weight[1:][span]).sum().item()
            totals[low, high][1] += weight[1:][span].sum().item()
    return {f"{low}-{high}": loss / weight for (low, high), (loss, weight) in totals.items()}


@torch.inference_mode()
def recall_at_1000(model: Model, tokenizer: Tokens, trials: int = 24) -> float:
    """Share of conversations of 1,000 and more tokens in which a word of the first turn is found again."""
    corpus = Corpus(_HELD_OUT_DOCUMENTS_SEED + 1)
    right = 0
    for _ in range(trials):
        fillers = 50
        while True:
            pieces = corpus.remember(fillers)
            word = pieces[-2].text
            text = "".join(f"<|{piece.text}|>" if piece.special else piece.text for piece in pieces[:-2])
            ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
            if 1000 <= ids.shape[1] <= CONTEXT - 16:
                break
            fillers += 5 if ids.shape[1] < 1000 else -5
        out = model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False
        )
        right += normalised(tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)) == normalised(
            word
        )
    return right / trials


def distinct_samples(model: Model, tokenizer: Tokens, samples: int = 16) -> float:
    """Share of sampled stories that differ from the greedy one and from each other."""
    ask = "Tell me a story."
    state = torch.random.get_rng_state()
    torch.manual_seed(QUIZ_SEED)
    told = [text for text, _ in answer(model, tokenizer, [ask] * samples, max_new_tokens=48, sample=True)]
    torch.random.set_rng_state(state)
    (greedy, _), *_ = answer(model, tokenizer, [ask], max_new_tokens=48)
    return len(set(told) - {greedy}) / samples


def measure_answers(model: Model, tokenizer: Tokens, limit: int = 0, seed: int = QUIZ_SEED) -> Answers:
    """The whole quiz, or a random sample of `limit` items."""
    items = quiz(seed, limit=limit)
    chat_right = choose(model, tokenizer, items, "chat")
    plain_right = choose(model, tokenizer, items, "plain")
    answers = answer(model, tokenizer, [item.question for item in items])
    exact = [
        normalised(text) == normalised(item.answer) for (text, _), item in zip(answers, items, strict=True)
    ]
    relations: dict[str, list[int]] = {}
    for index, item in enumerate(items):
        relations.setdefault(item.relation, []).append(index)

    def share(flags: list[bool], of: list[int] | None = None) -> float:
        chosen = flags if of is None else [flags[i] for i in of]
        return sum(chosen) / len(chosen)

    return Answers(
        items=len(items),
        chat_choice=share(chat_right),
        plain_choice=share(plain_right),
        free_exact=share(exact),
        ended=share([ended for _, ended in answers]),
        dtype=str(model.dtype).removeprefix("torch."),
        by_relation={
            name: (len(of), share(chat_right, of), share(exact, of)) for name, of in relations.items()
        },
    )


def measure(model: Model, tokenizer: Tokens, limit: int = 0, seed: int = QUIZ_SEED) -> Measured:
    """The quiz and the measurements of context, recall and sampling."""
    began = time.monotonic()
    answers = measure_answers(model, tokenizer, limit, seed)
    return Measured(
        **asdict(answers),
        loss_by_position=loss_by_position(model, tokenizer),
        recall_at_1000=recall_at_1000(model, tokenizer),
        distinct_samples=distinct_samples(model, tokenizer),
        seconds=time.monotonic() - began,
    )


def mistakes(model: Model, tokenizer: Tokens, count: int = 40, seed: int = QUIZ_SEED) -> list[str]:
    """Questions that were answered wrongly, for a look at what is missing."""
    items = quiz(seed)
    answers = answer(model, tokenizer, [item.question for item in items])
    wrong = [
        f"{item.relation}: {item.question} -> {text!r}, not {item.answer!r}"
        for (text, _), item in zip(answers, items, strict=True)
        if normalised(text) != normalised(item.answer)
    ]
    return random.Random(seed).sample(wrong, min(count, len(wrong)))


def lines_of(found: Measured) -> list[str]:
    """The measurement for people."""
    bands = ", ".join(f"{band}: {loss:.3f}" for band, loss in found.loss_by_position.items())
    return [
        f"questions                     {found.items} (held-out phrasings, {found.dtype})",
        f"four choices, chat            {found.chat_choice:.1%}",
        f"four choices, plain text      {found.plain_choice:.1%}",
        f"free exact answers, chat      {found.free_exact:.1%}",
        f"turns ended                   {found.ended:.1%}",
        f"loss by position              {bands}",
        f"word recalled, 1,000+ tokens  {found.recall_at_1000:.1%}",
        f"sampled stories, distinct     {found.distinct_samples:.1%}",
        f"seconds                       {found.seconds:.0f}",
    ]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        prog="python -m tui_lab.pocket.builder.quiz",
        description="Measure the pocket model.",
    )
    parser.add_argument(
        "folder", nargs="?", type=Path, default=MODEL_DIR, help="model folder (default: the shipped one)"
    )
    parser.add_argument(
        "--dtype", choices=("float32", "bfloat16"), default="float32", help="type to compute in"
    )
    parser.add_argument("--limit", type=int, default=0, help="ask a random sample of this many questions")
    parser.add_argument("--seed", type=int, default=QUIZ_SEED, help="seed of phrasings and distractors")
    parser.add_argument("--mistakes", action="store_true", help="list questions that were answered wrongly")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    chosen = parser.parse_args(arguments)
    model, tokenizer = load(chosen.folder, getattr(torch, chosen.dtype))
    found = measure(model, tokenizer, chosen.limit, chosen.seed)
    if chosen.json:
        print(json.dumps(asdict(found)))  # noqa: T201
        return
    print("\n".join(lines_of(found)))  # noqa: T201
    for name, (count, choice, free) in sorted(found.by_relation.items(), key=lambda pair: pair[1][2]):
        print(f"  {name:16} {count:4}  choice {choice:6.1%}  free {free:6.1%}")  # noqa: T201
    if chosen.mistakes:
        print("\n".join(mistakes(model, tokenizer)))  # noqa: T201


if __name__ == "__main__":
    main()
