"""A relation of the pocket world: facts, and the sentences that state and ask them."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

FRAMES = (
    "What is {np}?",
    "What is {np}?",
    "What's {np}?",
    "Name {np}.",
    "Tell me {np}.",
    "Please tell me {np}.",
    "Can you tell me {np}?",
    "Do you know {np}?",
    "Give me {np}.",
    "I want to know {np}.",
    "I would like to know {np}.",
    "Could you name {np}?",
    "Please name {np}.",
    "{np}?",
    "{np} is what?",
    "I forgot {np}. What is it?",
    "So what is {np}?",
    "What would you call {np}?",
    "I need {np} for my homework.",
    "Think of {np}. What is it?",
    "What exactly is {np}?",
    "Could you please say {np}?",
    "Answer with {np}.",
    "My sister asked me for {np}.",
    "Find {np}.",
    "What was {np} again?",
    "Let me know {np}, please.",
    "State {np}.",
    "I wonder what {np} is.",
    "Please write {np}.",
    "Would you please name {np}?",
    "Help me to find {np}.",
    "I cannot remember {np}.",
    "Do you remember {np}?",
    "We want to know {np}.",
    "Can somebody tell me {np}?",
    "Which word or number is {np}?",
    "Guess {np}.",
    "Just give me {np}.",
    "Have you learned {np}?",
)


HELD_OUT_FRAMES = (
    "Would you mind telling me {np}?",
    "I am trying to remember {np}.",
    "Any idea what {np} is?",
    "My friend wants to know {np}.",
    "Could you remind me of {np}?",
    "Which answer is {np}?",
)


OPENINGS = (
    "{q}",
    "{q}",
    "{q}",
    "{q}",
    "Quick question: {q}",
    "Hello! {q}",
    "Please answer this: {q}",
    "Tell me: {q}",
    "I have a question. {q}",
    "{q} Please answer.",
    "{q} Thank you!",
    "Hi there. {q}",
    "Next question: {q}",
    "Help me. {q}",
    "Now this: {q}",
    "For the test: {q}",
    "{q} I would like to know.",
    "{q} I am curious.",
    "{q} Just the answer, please.",
    "One question. {q}",
    "And this one: {q}",
    "My turn: {q}",
    "{q} You surely know it.",
    "{q} Tell me, please.",
)


HELD_OUT_OPENINGS = (
    "{q}",
    "{q}",
    "{q}",
    "For ten points: {q}",
    "One more thing. {q}",
    "{q} I would be glad to hear it.",
)


_VOWELS = "aeiou"


def with_article(noun: str) -> str:
    """'dog' -> 'a dog', 'owl' -> 'an owl'."""
    consonant_sound = noun.startswith(("uni", "use", "eu", "one"))
    return ("an " if noun[0] in _VOWELS and not consonant_sound else "a ") + noun


def sentence(text: str) -> str:
    """First letter upper case; nothing else changes."""
    return text[:1].upper() + text[1:]


@dataclass(frozen=True)
class Fact:
    """One thing that is so: `relation` of `subject` is `answer`."""

    relation: str
    subject: str
    answer: str


@dataclass(frozen=True)
class Relation:
    """Facts of one kind and the wording to ask for them.

    Templates know {s} (the subject), {an} (the subject with its article) and, in statements, {a} (the answer)
    and {aa} (the answer with its article). `category` groups relations for suites; distractors never leave
    the relation. `also_right` names answers that would be right too and so are never distractors.
    """

    name: str
    category: str
    facts: dict[str, str]
    noun_phrases: tuple[str, ...]
    questions: tuple[str, ...]
    held_out: tuple[str, ...]
    statements: tuple[str, ...]
    also_right: dict[str, frozenset[str]] = field(default_factory=dict)

    def items(self) -> list[Fact]:
        return [Fact(self.name, subject, answer) for subject, answer in self.facts.items()]

    def train_templates(self) -> list[str]:
        """Every question template the corpus may use, with {s} / {an} still open."""
        return _compose(self.noun_phrases, FRAMES, self.questions, OPENINGS)

    def held_out_templates(self) -> list[str]:
        """Question templates that only the quiz uses."""
        composed = _compose(self.noun_phrases, HELD_OUT_FRAMES, self.held_out, HELD_OUT_OPENINGS)
        return sorted(set(composed) - set(self.train_templates()))

    def ask(self, subject: str, rng: random.Random, careless: float = 0.0) -> str:
        """One question of the corpus about `subject`, two in three in the relation's own words.

        With probability `careless` some words are lost, changed or added, never those that name the relation:
        a question is understood by its subject and its key words, not by its exact form.
        """
        if self.noun_phrases and rng.random() < 1 / 3:
            template = rng.choice(FRAMES).replace("{np}", rng.choice(self.noun_phrases))
        else:
            template = rng.choice(OPENINGS).replace("{q}", rng.choice(self.questions))
        if careless and rng.random() < careless:
            template = garble(template, self._key_words(), rng)
        return fill(template, subject)

    def _key_words(self) -> frozenset[str]:
        return frozenset(" ".join(self.noun_phrases).casefold().replace('"', "").split()) - _SMALL_WORDS

    def ask_held_out(self, subject: str, rng: random.Random) -> str:
        """One question that no document of the corpus contains; two in three in the relation's own words."""
        if self.noun_phrases and rng.random() < 1 / 3:
            template = rng.choice(HELD_OUT_FRAMES).replace("{np}", rng.choice(self.noun_phrases))
        else:
            template = rng.choice(HELD_OUT_OPENINGS).replace("{q}", rng.choice(self.held_out))
        return fill(template, subject)

    def state(self, subject: str, rng: random.Random) -> str:
        """One full sentence that says the fact."""
        return fill(rng.choice(self.statements), subject, self.facts[subject])

    def distractors(self, subject: str, rng: random.Random, count: int = 3) -> list[str]:
        """Wrong answers from the right answer's own category: other answers of the same relation."""
        right = {self.facts[subject]} | self.also_right.get(subject, frozenset())
        pool = sorted(set(self.facts.values()) - right - {subject})
        return rng.sample(pool, count)


_SMALL_WORDS = frozenset(
    [
        "the",
        "a",
        "an",
        "of",
        "to",
        "in",
        "for",
        "is",
        "are",
        "that",
        "you",
        "we",
        "it",
        "this",
        "with",
        "and",
        "where",
        "who",
    ]
)


_STRAY_WORDS = [
    "really",
    "please",
    "maybe",
    "just",
    "now",
    "then",
    "again",
    "today",
    "tell",
    "show",
    "say",
    "know",
    "think",
    "want",
    "need",
    "find",
    "give",
    "take",
    "look",
    "see",
    "here",
    "there",
    "please",
    "really",
    "other",
    "same",
    "kind",
    "sort",
    "thing",
    "word",
    "name",
    "people",
    "person",
    "friend",
    "place",
    "time",
    "day",
    "year",
    "world",
    "book",
    "page",
    "list",
    "good",
    "right",
    "exact",
    "usual",
    "common",
    "simple",
    "proper",
    "normal",
    "main",
    "real",
    "full",
    "short",
    "long",
    "big",
    "small",
    "first",
    "last",
    "always",
    "often",
    "never",
    "only",
    "also",
    "still",
    "very",
    "much",
    "many",
    "some",
    "any",
    "each",
    "every",
    "all",
    "both",
    "my",
    "your",
    "his",
    "her",
    "our",
    "their",
    "me",
    "us",
    "him",
    "them",
    "would",
    "could",
    "should",
    "may",
    "might",
    "must",
    "will",
    "can",
    "do",
    "does",
    "did",
    "have",
    "has",
    "had",
    "be",
    "was",
    "were",
    "been",
    "get",
    "got",
    "make",
    "made",
    "let",
    "put",
    "call",
    "called",
    "use",
    "used",
    "ask",
    "asked",
    "answer",
    "question",
    "guess",
    "learn",
    "learned",
    "remember",
    "forgot",
    "mean",
    "means",
    "meant",
    "about",
    "by",
    "from",
    "at",
    "on",
    "as",
    "than",
    "if",
    "when",
    "how",
    "why",
    "which",
    "what",
    "whose",
    "while",
    "because",
    "so",
    "but",
    "or",
    "not",
    "no",
    "yes",
    "well",
    "oh",
]


def garble(template: str, keep: frozenset[str], rng: random.Random) -> str:
    """A template as a careless person would type it; places for the subject and words in `keep` stay."""
    typed: list[str] = []
    for word in template.split(" "):
        kind = rng.random()
        if "{" in word or word.casefold().strip(".,?!:") in keep or kind > 0.3:
            typed.append(word)
        elif kind > 0.18:
            typed.append(rng.choice(_STRAY_WORDS))
        elif kind > 0.12:
            typed.extend((word, rng.choice(_STRAY_WORDS)))
    return " ".join(typed)


def _compose(
    nouns: tuple[str, ...], frames: tuple[str, ...], questions: tuple[str, ...], openings: tuple[str, ...]
) -> list[str]:
    framed = {frame.replace("{np}", np) for frame in frames for np in nouns}
    opened = {opening.replace("{q}", question) for opening in openings for question in questions}
    return sorted(framed | opened)


def fill(template: str, subject: str, answer: str = "") -> str:
    """A template with its subject (and answer) put in, the first letter upper case."""
    text = template.replace("{an}", with_article(subject)).replace("{s}", subject)
    if answer:
        text = text.replace("{aa}", with_article(answer)).replace("{a}", answer)
    return sentence(text)


def lines(text: str) -> tuple[str, ...]:
    """Non-empty lines of a block of text: how the tables below are written."""
    return tuple(line.strip() for line in text.strip().splitlines() if line.strip())


def pairs(text: str) -> dict[str, str]:
    """'France=Paris; Spain=Madrid' as a dictionary; a subject given twice is a mistake in the table."""
    table: dict[str, str] = {}
    for part in text.replace("\n", " ").split(";"):
        if part.strip():
            subject, answer = (side.strip() for side in part.split("="))
            if subject in table:
                raise ValueError(f"the subject {subject!r} stands twice in a table of facts")
            table[subject] = answer
    return table


def alternatives(text: str) -> dict[str, frozenset[str]]:
    """'fish=sea, pond' as the answers that are right too and so must not be distractors."""
    return {
        subject: frozenset(part.strip() for part in more.split(",")) for subject, more in pairs(text).items()
    }
