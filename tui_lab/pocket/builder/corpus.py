"""The corpus of the pocket model, as an endless stream of documents made from a seed.

Most documents ask for facts of the world: as chats of one to many turns and as plain "Question: … Answer:
…" text, always from memory, each time in another of the relation's phrasings (never in a held-out one).
The rest are statements, a catalogue of invented goods, passages with questions about what was just said,
stories, small talk, instructions, a little JSON, and long documents that fill a context. A document is a
list of pieces with a loss weight, so that the model spends its few parameters on answers rather than on
guessing the next question.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Generic, TypeVar

from tui_lab.pocket.builder import catalogue, talk
from tui_lab.pocket.builder.relation import Relation, sentence
from tui_lab.pocket.builder.stories import ANIMALS, NAMES, story
from tui_lab.pocket.builder.world import all_facts, relation, relations

# Loss weights: questions are read, not produced; answers are what is wanted.
READ, WRITE, ANSWER = 0.15, 0.6, 1.0
# The corpus's own invented goods; `support` draws others, from goods the corpus never names.
CATALOGUE_SEED = 11
CARELESS = 0.2  # share of questions with words lost, changed or added


@dataclass(frozen=True)
class Piece:
    """Text with its weight in the loss; if `special`, the name of a control token ("user", "end" …)."""

    text: str
    weight: float
    special: bool = False


Document = list[Piece]
Message = tuple[str, str]  # role, text


def chat(messages: list[Message], answer_weight: float = ANSWER) -> Document:
    """A conversation in the model's template: a role token, the text, the end-of-turn token."""
    pieces: Document = []
    for role, text in messages:
        weight = answer_weight if role == "assistant" else READ
        pieces.append(Piece(role, 0.0 if role != "user" else READ, special=True))
        pieces.append(Piece(text, weight))
        pieces.append(Piece("end", weight, special=True))
    return pieces


def plain(*parts: tuple[str, float]) -> Document:
    """Plain text that ends with the end token."""
    return [Piece(text, weight) for text, weight in parts] + [Piece("end", WRITE, special=True)]


Entry = TypeVar("Entry")


class Deck(Generic[Entry]):
    """Draws from a list so that every entry comes equally often: shuffled decks, one after another."""

    def __init__(self, entries: Sequence[Entry], rng: random.Random) -> None:
        self._entries, self._rng = list(entries), rng
        self._left: list[Entry] = []

    def draw(self) -> Entry:
        if not self._left:
            self._left = list(self._entries)
            self._rng.shuffle(self._left)
        return self._left.pop()


@cache
def invented_catalogue() -> tuple[Relation, ...]:
    """The corpus's own shop: facts that are fiction, kept in memory like all others."""
    rng = random.Random(CATALOGUE_SEED)
    goods = rng.sample(catalogue.goods_of_the_corpus(), 40)
    return tuple(catalogue.make_catalogue(goods, rng))


SYSTEM = (
    "You are a helpful assistant.",
    "Answer the question.",
    "You answer questions about the world.",
    "Give short answers.",
    "You are a friendly helper who knows many things.",
)
FULL_SENTENCE = ("Answer in a full sentence.", "Use a full sentence.", "Please answer with a whole sentence.")

# The answer inside another sentence: who can say a thing in one manner should be able to say it in another.
MANNERS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "Be polite.",
        ("It is {a}, if I may say so.", "I believe it is {a}, my friend.", "The answer is {a}, dear friend."),
    ),
    ("Answer like a teacher.", ("Listen well: it is {a}.", "The right answer is {a}. Learn it by heart.")),
    ("Say it with joy.", ("Hurray, it is {a}!", "Oh yes, that is {a}!", "Wonderful! The answer is {a}!")),
    ("Start with the words my answer.", ("My answer is {a}.", "My answer: {a}.")),
    ("Tell it to a child.", ("Well, little one, that is {a}.", "You see, it is {a}, little one.")),
    ("Be short and friendly.", ("It is {a}, friend!", "That is {a}!", "Sure, {a}!")),
    (
        "Answer like a king.",
        ("We say it is {a}, and so it is.", "By my crown, it is {a}!", "Know that it is {a}!"),
    ),
)


class Corpus:
    """The document stream. `documents()` never ends; the same seed gives the same documents."""

    def __init__(self, seed: int, without: frozenset[str] = frozenset()) -> None:
        """`without` names relations that are left out (for experiments on forgetting)."""
        self.rng = random.Random(seed)
        facts = [fact for fact in all_facts() if fact.relation not in without]
        self._facts = Deck([(relation(f.relation), f.subject) for f in facts], self.rng)
        self._statements = Deck([(relation(f.relation), f.subject) for f in facts], self.rng)
        goods = [(found, subject) for found in invented_catalogue() for subject in found.facts]
        self._goods = Deck(goods, self.rng)
        self._kinds: list[tuple[float, Callable[[], Document]]] = [
            (0.24, self.one_question),
            (0.17, self.conversation),
            (0.13, self.plain_question),
            (0.04, self.statement_text),
            (0.09, self.goods_question),
            (0.06, self.passage),
            (0.08, self.pairs_to_read),
            (0.03, self.story_text),
            (0.015, self.glossary_text),
            (0.035, self.talk),
            (0.015, self.told_story),
            (0.02, self.json_text),
            (0.015, self.sentence_answer),
            (0.07, self.manner_answer),
            (0.04, self.remember),
        ]

    def documents(self) -> Iterator[Document]:
        weights = [weight for weight, _ in self._kinds]
        makers = [maker for _, maker in self._kinds]
        while True:
            yield self.rng.choices(makers, weights)[0]()

    def long_documents(self) -> Iterator[Document]:
        """Documents of one to two thousand tokens: long stories, long chats, far recall."""
        while True:
            kind = self.rng.random()
            if kind < 0.3:
                yield plain((story(self.rng, scenes=self.rng.randint(10, 24)), WRITE))
            elif kind < 0.75:
                yield self.conversation(turns=self.rng.randint(35, 80))
            else:
                yield self.remember(fillers=self.rng.randint(8, 30))

    # --- facts

    def _question(self) -> Message:
        found, subject = self._facts.draw()
        return self._typed(found.ask(subject, self.rng, CARELESS)), found.facts[subject]

    def _typed(self, question: str) -> str:
        """The question as people type it: among other sentences, without last mark or capital letter."""
        if self.rng.random() < 0.3:
            question = talk.around(question, self.rng)
        kind = self.rng.random()
        if kind < 0.05:
            return question[:-1] if question[-1] in ".?" else question
        if kind < 0.1:
            return question[0].lower() + question[1:]
        return question

    def _system(self) -> list[Message]:
        return [("system", self.rng.choice(SYSTEM))] if self.rng.random() < 0.15 else []

    def one_question(self) -> Document:
        question, answer = self._question()
        return chat([*self._system(), ("user", question), ("assistant", answer)])

    def conversation(self, turns: int = 0) -> Document:
        messages = self._system()
        for _ in range(turns or self.rng.randint(2, 5)):
            if self.rng.random() < 0.1:
                messages.extend(talk.exchange(self.rng))
                continue
            question, answer = self._question() if self.rng.random() < 0.85 else self._goods_pair()
            messages.extend((("user", question), ("assistant", answer)))
        return chat(messages)

    def plain_question(self) -> Document:
        style = self.rng.choice(("Question: {}\nAnswer:", "Question: {}\nAnswer:", "Q: {}\nA:", "{}"))
        parts: list[tuple[str, float]] = []
        for index in range(self.rng.choice((1, 1, 1, 2, 3))):
            question, answer = self._question()
            gap = "" if not index else "\n" if style == "{}" else "\n\n"
            parts.extend(((gap + style.format(question), READ), (" " + answer, ANSWER)))
        return plain(*parts)

    def statement_text(self) -> Document:
        sentences = []
        for _ in range(self.rng.randint(1, 5)):
            found, subject = self._statements.draw()
            sentences.append(found.state(subject, self.rng))
        return plain((" ".join(sentences), WRITE))

    def sentence_answer(self) -> Document:
        found, subject = self._facts.draw()
        question, wish = found.ask(subject, self.rng), self.rng.choice(FULL_SENTENCE)
        answer = found.state(subject, self.rng)
        if self.rng.random() < 0.5:
            return chat([("system", wish), ("user", question), ("assistant", answer)])
        return chat([("user", f"{question} {wish}"), ("assistant", answer)])

    def manner_answer(self) -> Document:
        wish, sentences = self.rng.choice(MANNERS)
        in_system = self.rng.random() < 0.5
        messages: list[Message] = [("system", wish)] if in_system else []
        for _ in range(self.rng.choice((1, 1, 2))):
            question, answer = self._question()
            asked = question if in_system else f"{question} {wish}"
            messages.extend((("user", asked), ("assistant", self.rng.choice(sentences).format(a=answer))))
        return chat(messages)

    # --- fiction

    def _goods_pair(self) -> Message:
        found, subject = self._goods.draw()
        return self._typed(found.ask(subject, self.rng, CARELESS)), found.facts[subject]

    def goods_question(self) -> Document:
        if self.rng.random() < 0.1:
            found, subject = self._goods.draw()
            return plain((found.state(subject, self.rng), WRITE))
        messages: list[Message] = []
        for _ in range(self.rng.choice((1, 1, 2))):
            question, answer = self._goods_pair()
            messages.extend((("user", question), ("assistant", answer)))
        return chat(messages)

    def passage(self) -> Document:
        """New goods with new facts, and questions that only the passage answers."""
        rng = self.rng
        goods = rng.sample(catalogue.goods_of_the_corpus(), rng.randint(1, 3))
        names = tuple(rng.sample(catalogue.RELATION_NAMES, rng.randint(2, 3)))
        made = catalogue.make_catalogue(goods, rng, names)
        facts = [(found, subject) for found in made for subject in goods]
        rng.shuffle(facts)
        text = " ".join(found.state(subject, rng) for found, subject in facts)
        asked = rng.sample(facts, min(len(facts), 3))
        questions = [(found.ask(subject, rng), found.facts[subject]) for found, subject in asked]
        if rng.random() < 0.7:
            messages: list[Message] = [("user", f"{text} {questions[0][0]}"), ("assistant", questions[0][1])]
            for question, answer in questions[1:]:
                messages.extend((("user", question), ("assistant", answer)))
            return chat(messages)
        parts = [(text, READ)]
        for question, answer in questions:
            parts.extend(((f"\nQuestion: {question}\nAnswer:", READ), (" " + answer, ANSWER)))
        return plain(*parts)

    def pairs_to_read(self) -> Document:
        """People with attributes; copy the right one. Practice in reading: names are bound anew each time."""
        return chat(talk.reading(self.rng))

    def json_text(self) -> Document:
        """Objects as JSON, so that the signs of the format are known; the `json` set asks otherwise."""
        rng = self.rng
        keys = rng.sample(
            ("name", "colour", "price", "city", "age", "animal", "day", "number", "open"), rng.randint(1, 4)
        )
        record = {key: talk.json_value(key, rng) for key in keys}
        if rng.random() < 0.5:
            listed = ", ".join(f"{key} {json.dumps(value)}" for key, value in record.items())
            return chat([("user", f"Write a JSON object with {listed}."), ("assistant", json.dumps(record))])
        return plain((json.dumps(record if rng.random() < 0.7 else [record]), WRITE))

    def story_text(self) -> Document:
        return plain((story(self.rng, scenes=self.rng.choice((1, 1, 2))), WRITE))

    def glossary_text(self) -> Document:
        return plain((talk.glossary(self.rng), WRITE))

    def told_story(self) -> Document:
        rng = self.rng
        who, animal = rng.choice(NAMES), rng.choice(ANIMALS)
        ask = rng.choice(
            (
                f"Tell me a story about {who}.",
                f"Write a short story about {who} and a {animal}.",
                f"Can you tell me a story with a {animal}?",
                "Tell me a story.",
                f"I want to hear a story about a {animal}.",
            )
        )
        told = story(rng, hero=who if who in ask else "", animal=animal if animal in ask else "")
        return chat([("user", ask), ("assistant", told)], WRITE)

    def talk(self) -> Document:
        messages = self._system()
        for _ in range(self.rng.choice((1, 1, 2, 3))):
            messages.extend(talk.exchange(self.rng))
        return chat(messages, WRITE)

    def remember(self, fillers: int = -1) -> Document:
        """A word given at the start and asked for at the end, with other turns between."""
        rng = self.rng
        word, ask, acknowledge, again = talk.word_to_keep(rng)
        messages: list[Message] = [("user", ask), ("assistant", acknowledge)]
        for _ in range(rng.randint(0, 4) if fillers < 0 else fillers):
            question, answer = self._question()
            messages.extend((("user", question), ("assistant", answer)))
        messages.extend((("user", again), ("assistant", word)))
        return chat(messages)


def every_template() -> set[str]:
    """All question templates the corpus can use: what a held-out template must not be."""
    return {sentence(t) for found in (*relations(), *invented_catalogue()) for t in found.train_templates()}
