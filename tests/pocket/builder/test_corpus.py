"""The corpus: reproducible, even over the facts, with the words of the tuning sets but not their facts."""

from __future__ import annotations

import re
from collections import Counter
from itertools import islice, pairwise

from tui_lab.data import bundled
from tui_lab.pocket.builder import catalogue
from tui_lab.pocket.builder.corpus import ANSWER, Corpus, Deck, Document, invented_catalogue
from tui_lab.pocket.builder.stories import story

_WORD = re.compile(r"[A-Za-z]+")


def _text(document: Document) -> str:
    return " ".join(piece.text for piece in document if not piece.special)


def _documents(seed: int, count: int) -> list[Document]:
    return list(islice(Corpus(seed).documents(), count))


def test_the_seed_decides() -> None:
    assert _documents(3, 200) == _documents(3, 200)
    assert _documents(3, 200) != _documents(4, 200)


def test_a_deck_deals_evenly() -> None:
    import random

    deck = Deck(list("abcde"), random.Random(0))
    assert set(Counter(deck.draw() for _ in range(50)).values()) == {10}


def test_documents_end_and_answers_weigh_most() -> None:
    for document in _documents(1, 2000):
        assert document[-1].special and document[-1].text == "end"
        assert max(piece.weight for piece in document) <= ANSWER
        for role, said in pairwise(document):
            if role.special and role.text == "user":
                assert said.weight < 0.5


def test_most_answers_come_from_memory() -> None:
    """In one-question chats the answer does not stand in the question, save where the two words are one."""
    seen = copied = 0
    for document in _documents(2, 5000):
        if len(document) == 6 and document[0].text == "user" and len(document[1].text) < 60:
            seen += 1
            copied += f" {document[4].text} " in f" {document[1].text} "
    assert seen > 500 and copied / seen < 0.2


def test_long_documents_fill_a_context() -> None:
    long = [_text(document) for document in islice(Corpus(1).long_documents(), 30)]
    assert sorted(len(text.split()) for text in long)[15] > 400


def test_relations_can_be_left_out() -> None:
    from tui_lab.pocket.builder.world import relation

    capitals = set(relation("capital").facts.values()) - {"Paris", "London", "Rome"}
    texts = [_text(d) for d in islice(Corpus(1, without=frozenset({"capital"})).documents(), 3000)]
    assert not any(re.search(r"capital (city )?of", text) for text in texts)
    assert capitals


def test_stories_vary() -> None:
    import random

    rng = random.Random(0)
    assert len({story(rng) for _ in range(500)}) == 500


def test_the_words_of_the_tuning_sets_occur_but_not_their_facts() -> None:
    documents = _documents(6, 40_000)
    corpus_words = Counter(
        word.casefold() for document in documents for word in _WORD.findall(_text(document))
    )
    allowed_strangers = 0.02
    for name in bundled.NAMES:
        rows = bundled.load(name).train + bundled.load(name).validation
        words = Counter(
            word.casefold()
            for row in rows
            for turn in row["messages"]
            for word in _WORD.findall(turn["content"])
        )
        strange = sum(count for word, count in words.items() if word not in corpus_words)
        assert strange / sum(words.values()) < allowed_strangers, name
    goods = {
        " ".join(match)
        for row in bundled.load("support").train
        for match in re.findall(r"the ([A-Z]\w+) (\w+)", row["messages"][0]["content"])
    } & {good.removeprefix("the ") for good in catalogue.goods_of_the_shop()}
    assert len(goods) >= 10
    everything = "\n".join(map(_text, documents))
    assert not any(good in everything for good in goods)


def test_the_two_catalogues_share_no_goods() -> None:
    ours = {subject for relation in invented_catalogue() for subject in relation.facts}
    assert not ours & set(catalogue.goods_of_the_shop())
    assert not set(catalogue.goods_of_the_corpus()) & set(catalogue.goods_of_the_shop())
