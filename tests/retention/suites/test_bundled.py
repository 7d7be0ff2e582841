"""The bundled suites: is what `everyday` says true, fair and unrehearsed; are the probes what they claim?"""

from __future__ import annotations

import json
import random
from collections import Counter
from importlib import resources

import pytest
import torch

from tui_lab.pocket.builder import quiz
from tui_lab.pocket.builder.relation import fill
from tui_lab.pocket.builder.world import relation, relations
from tui_lab.retention.suites import registry
from tui_lab.retention.suites.records import Item, Suite


@pytest.fixture(scope="module")
def known() -> Suite:
    return registry.load("everyday")


def test_everyday_is_large_and_spread_over_categories(known: Suite) -> None:
    assert len(known.items) >= 300
    assert len(known.categories) >= 6
    counts = Counter(item.category for item in known.items)
    assert min(counts.values()) >= 20 and max(counts.values()) <= len(known.items) / 6
    assert all(len(item.choices) == 4 and len(item.answers) == 1 for item in known.items)
    assert known.chance == 0.25 and known.metric == "acc" and known.kind == "choice"
    assert known.licence and known.source and known.warnings == ()


def test_the_answers_of_everyday_are_those_of_the_builder(known: Suite) -> None:
    """Against the tables of the world, which the file does not need any more once it is written."""
    for item in known.items:
        found = relation(item.meta["relation"])
        subject = item.meta["subject"]
        assert found.category == item.category
        right = found.facts[subject]
        assert item.choices[item.answers[0]] == right
        for index, choice in enumerate(item.choices):
            if index != item.answers[0]:
                assert choice != right and choice not in found.also_right.get(subject, frozenset())
                assert choice in found.facts.values()
        assert subject.casefold() in item.question.casefold()


def test_everyday_asks_every_fact_once_with_four_different_choices(known: Suite) -> None:
    asked = [(item.meta["relation"], item.meta["subject"]) for item in known.items]
    assert len(set(asked)) == len(asked)
    assert len({item.question for item in known.items}) == len(known.items)
    for item in known.items:
        assert len({choice.casefold() for choice in item.choices}) == 4
        # A choice that begins another one could never be the less likely of the two.
        assert not any(a != b and b.startswith(a) for a in item.choices for b in item.choices)


def test_right_answers_are_in_every_position_equally_often(known: Suite) -> None:
    for category in known.categories:
        positions = Counter(item.answers[0] for item in known.items if item.category == category)
        assert max(positions.values()) - min(positions.get(n, 0) for n in range(4)) <= 1


def test_no_question_of_everyday_is_in_the_corpus(known: Suite) -> None:
    """Neither as a relation's own question nor through any frame or opening, with any opening taken off."""
    for item in known.items:
        found = relation(item.meta["relation"])
        trained = {fill(template, item.meta["subject"]) for template in found.train_templates()}
        assert item.question not in trained
        assert item.question.replace('"', "") not in trained
        assert not any(question.endswith(f" {item.question}") for question in trained)


def test_everyday_holds_two_whole_categories_back(known: Suite) -> None:
    assert len(known.held_back) == 2
    assert set(known.held_back) < set(known.categories)
    held_back = {found.name for found in relations() if found.category in known.held_back}
    asked = {item.meta["relation"] for item in known.items if item.category in known.held_back}
    assert asked <= held_back and len(asked) >= 4
    assert not asked & {item.meta["relation"] for item in known.items if item.category not in known.held_back}


def test_everyday_is_asked_as_a_chat_and_as_plain_text(known: Suite) -> None:
    for item in known.items:
        assert item.messages == ({"role": "user", "content": item.question},)
        assert item.context == f"Question: {item.question}\nAnswer:"
        assert item.continuations == tuple(f" {choice}" for choice in item.choices)


@pytest.mark.parametrize("style", ["chat", "plain"])
def test_the_pocket_model_knows_everyday(known: Suite, style: str) -> None:
    """On some of the items; the guess would be a quarter."""
    items = random.Random(1).sample(known.items, 60)
    model, tokenizer = quiz.load()
    pairs = [pair for item in items for pair in _pairs(tokenizer, item, style)]
    found = torch.tensor(quiz.log_likelihoods(model, pairs, tokenizer.pad_token_id)).view(-1, 4).argmax(-1)
    right = torch.tensor([item.answers[0] for item in items])
    assert (found == right).float().mean().item() >= 0.9


def _pairs(tokenizer: quiz.Tokens, item: Item, style: str) -> list[tuple[list[int], list[int]]]:
    def ids(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])

    if style == "chat":
        return [(quiz.chat_prompt(tokenizer, item.question), ids(choice)) for choice in item.choices]
    context = ids(item.context)
    return [(context, ids(item.context + more)[len(context) :]) for more in item.continuations]


def test_bundled_suites_have_their_metadata() -> None:
    infos = {info.name: info for info in registry.names() if info.bundled}
    assert set(infos) == set(registry.BUNDLED)
    for name, info in infos.items():
        suite = registry.load(name)
        assert suite.version == info.version and len(suite.items) == info.items > 0
        assert suite.licence == "Apache-2.0" and suite.source and suite.title and suite.description
        assert len({item.id for item in suite.items}) == len(suite.items)
        assert len(suite.sha256) == 64
        if suite.kind == "generate":
            assert suite.metric == "pass" and suite.chance is None
            assert all(item.meta["checks"] and item.messages for item in suite.items)
        if suite.kind == "pairs":
            assert suite.metric == "pair_preference" and suite.chance == 0.5
            assert len(suite.items) >= 100


def test_probes_of_refusal_ask_as_many_harmless_requests() -> None:
    items = registry.load("refusals").items
    counts = Counter(item.category for item in items)
    assert len(items) >= 100 and counts["harmful"] == counts["harmless"]


def test_pairs_are_of_similar_length() -> None:
    """A sum of log-probabilities falls with every token: the benign side must not win or lose by that."""
    for name in ("toxicity", "stereotypes"):
        items = registry.load(name).items
        lengths = [tuple(len(text.split()) for text in item.continuations) for item in items]
        assert all(abs(benign - other) <= 2 for benign, other in lengths)
        assert abs(sum(benign - other for benign, other in lengths)) <= len(items) / 2


def test_bundled_files_hold_one_object_a_line_with_a_header_first() -> None:
    for name in registry.BUNDLED:
        text = (resources.files("tui_lab.retention") / "suites" / f"{name}.jsonl").read_text("utf-8")
        first, *rows = [json.loads(line) for line in text.splitlines()]
        assert first["suite"] == name and first["version"] and first["licence"] and first["source"]
        assert all("id" in row for row in rows)
