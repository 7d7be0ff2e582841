"""Small talk, instructions and reading practice for the corpus: the ways of a chat, no knowledge of the
world.
"""

from __future__ import annotations

import random

from tui_lab.pocket.builder.catalogue import COLOURS, DAYS, THINGS
from tui_lab.pocket.builder.relation import lines
from tui_lab.pocket.builder.stories import ANIMALS, FOODS, MOODS, NAMES, NUMBERS, PLACES

Message = tuple[str, str]

_CITIES = [
    "Paris",
    "London",
    "Rome",
    "Berlin",
    "Madrid",
    "Vienna",
    "Oslo",
    "Tokyo",
    "Lima",
    "Cairo",
    "Athens",
    "Dublin",
]
JOBS = [
    "baker",
    "doctor",
    "teacher",
    "farmer",
    "pilot",
    "cook",
    "sailor",
    "painter",
    "tailor",
    "dentist",
    "captain",
    "gardener",
]

_GREETINGS = lines("""
    Hello!
    Hi!
    Hi there!
    Good morning!
    Good evening!
    Hello, how are you?
    Hey!
    Good day to you.
    Hello, nice to meet you.""")
_GREETING_ANSWERS = lines("""
    Hello! How can I help you?
    Hi! What would you like to know?
    Good day! Ask me anything.
    Hello! I am glad to see you.
    Hi there! What can I do for you?
    Hello! I am fine, thank you.""")
_FIXED: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (
        lines("""
            Thank you!
            Thanks a lot.
            Thanks for your help.
            That was very helpful, thank you."""),
        lines("""
            You are welcome!
            My pleasure.
            Glad to help.
            You are welcome. Ask me again any time."""),
    ),
    (
        lines("""
            Goodbye!
            See you later.
            I have to go now.
            Good night!
            Bye!"""),
        lines("""
            Goodbye! Have a nice day.
            See you soon!
            Bye! Take care.
            Good night and sleep well."""),
    ),
    (
        lines("""
            Who are you?
            What are you?
            What is your name?
            Can you tell me who you are?
            Are you a person?"""),
        lines("""
            I am a small language model.
            I am a very small language model that answers questions.
            I am the pocket model of a lab for small models."""),
    ),
    (
        lines("""
            How are you today?
            How do you feel?
            How are you?
            Is everything all right with you?"""),
        lines("""
            I am fine, thank you. And you?
            I am doing well today.
            Very well, thank you!"""),
    ),
    (
        lines("""
            What can you do?
            How can you help me?
            What do you know?"""),
        lines("""
            I can answer questions, tell stories and talk with you.
            I know many facts about animals, words, numbers and places.
            Ask me a question about the world, or ask for a story."""),
    ),
)


def exchange(rng: random.Random) -> list[Message]:
    """One question and answer that need no fact."""
    kind = rng.random()
    if kind < 0.12:
        ask, answer = rng.choice(_GREETINGS), rng.choice(_GREETING_ANSWERS)
    elif kind < 0.4:
        asks, answers = rng.choice(_FIXED)
        ask, answer = rng.choice(asks), rng.choice(answers)
    elif kind < 0.55:
        ask, answer = _say(rng)
    elif kind < 0.7:
        ask, answer = _name_some(rng)
    elif kind < 0.85:
        ask, answer = _opinion(rng)
    else:
        ask, answer = _introduce(rng)
    return [("user", ask), ("assistant", answer)]


def _say(rng: random.Random) -> Message:
    words = rng.sample((*THINGS, *COLOURS, *ANIMALS), rng.randint(1, 3))
    text = " ".join(words)
    kind = rng.randrange(5)
    if kind == 0:
        return f"Say {text}.", text
    if kind == 1:
        return f'Repeat this: "{text}"', text
    if kind == 2:
        return f"Say the word {words[0]} twice.", f"{words[0]} {words[0]}"
    if kind == 3:
        return f"Write {words[0]} in capital letters.", words[0].upper()
    return f"Make a list of these words: {', '.join(words)}.", "\n".join(f"- {word}" for word in words)


def _name_some(rng: random.Random) -> Message:
    count = rng.randint(2, 4)
    kind, pool = rng.choice(
        (
            ("colours", COLOURS),
            ("animals", ANIMALS),
            ("names", NAMES),
            ("cities", _CITIES),
            ("jobs", JOBS),
            ("things", THINGS),
        )
    )
    ask = rng.choice(
        ("Name {} {}.", "Tell me {} {}.", "Give me {} {}.", "Can you name {} {}?", "List {} {}.")
    )
    return ask.format(("", "", "two", "three", "four")[count], kind), ", ".join(rng.sample(pool, count))


def _opinion(rng: random.Random) -> Message:
    thing, food, place = rng.choice(THINGS), rng.choice(FOODS), rng.choice(PLACES)
    return rng.choice(
        (
            (f"Do you like {food}?", f"Yes, {food} sounds good to me."),
            (f"I am going to {place} today.", f"Have a good time at {place}!"),
            (f"I bought a new {thing}.", f"How nice! I hope you like your new {thing}."),
            (f"I lost my {thing}.", f"I am sorry that you lost your {thing}."),
            (f"I am {rng.choice(MOODS)} today.", "Thank you for telling me. Do you want to talk?"),
            (f"Should I take the {thing}?", f"Yes, take the {thing} with you."),
            (
                "I like pirates.",
                "Pirates say ahoy, aye and arr. They sail the sea and look for treasure, matey!",
            ),
        )
    )


def _introduce(rng: random.Random) -> Message:
    name, job, city = rng.choice(NAMES), rng.choice(JOBS), rng.choice(_CITIES)
    return rng.choice(
        (
            (f"My name is {name}.", f"Nice to meet you, {name}!"),
            (f"I am {name} and I live in {city}.", f"Hello {name}! {city} is a fine place to live."),
            (f"Hi, I am {name}. I work as a {job}.", f"Hello {name}! A {job} has a lot to do."),
        )
    )


_ATTRIBUTES: tuple[tuple[tuple[str, ...], tuple[str, ...], list[str]], ...] = (
    (
        ("{n} lives in {a}.", "{n} is from {a}.", "The home of {n} is in {a}."),
        (
            "Where does {n} live?",
            "In which city does {n} live?",
            "Which city is the home of {n}?",
            "Where is {n} from?",
        ),
        _CITIES,
    ),
    (
        ("{n} works as a {a}.", "{n} is a {a}.", "The job of {n} is {a}."),
        ("What is the job of {n}?", "What does {n} work as?", "Which job does {n} have?", "What is {n}?"),
        JOBS,
    ),
    (
        ("{n} has a {a}.", "The pet of {n} is a {a}.", "{n} owns a {a}."),
        ("Which pet does {n} have?", "What animal does {n} own?", "Which animal belongs to {n}?"),
        ANIMALS,
    ),
    (
        ("{n} is {a} years old.", "The age of {n} is {a}.", "{n} turned {a} this year."),
        ("How old is {n}?", "What is the age of {n}?", "Which age does {n} have?"),
        [str(n) for n in range(4, 99)],
    ),
    (
        ("{n} wears a {a} coat.", "The coat of {n} is {a}.", "{n} came in a {a} coat."),
        ("What colour is the coat of {n}?", "Which colour does {n} wear?", "In which colour did {n} come?"),
        list(COLOURS),
    ),
    (
        ("{n} comes on {a}.", "{n} will visit us on {a}.", "The visit of {n} is on {a}."),
        ("When does {n} come?", "On which day does {n} visit us?", "Which day is the visit of {n}?"),
        list(DAYS),
    ),
    (
        ("{n} bought a {a}.", "{n} took the {a}.", "{n} found a {a}."),
        ("What does {n} have now?", "Which thing did {n} get?", "What did {n} get?"),
        list(THINGS),
    ),
)


def reading(rng: random.Random) -> list[Message]:
    """A few people, a few attributes, one or two questions."""
    people = rng.sample(NAMES, rng.randint(1, 3))
    chosen = rng.sample(_ATTRIBUTES, rng.randint(1, 3))
    known = []
    for statements, questions, values in chosen:
        for person, value in zip(people, rng.sample(values, len(people)), strict=True):
            known.append(
                (
                    rng.choice(statements).format(n=person, a=value),
                    rng.choice(questions).format(n=person),
                    value,
                )
            )
    rng.shuffle(known)
    text = " ".join(statement for statement, _, _ in known)
    asked = rng.sample(known, min(2, len(known)))
    messages: list[Message] = [("user", f"{text} {asked[0][1]}"), ("assistant", asked[0][2])]
    for _, question, value in asked[1:]:
        messages.extend((("user", question), ("assistant", value)))
    return messages


def json_value(key: str, rng: random.Random) -> str | int | bool:
    """A value that suits a key of a JSON object."""
    choices: dict[str, str | int | bool] = {
        "name": rng.choice(NAMES),
        "colour": rng.choice(COLOURS),
        "price": rng.randint(1, 60),
        "city": rng.choice(_CITIES),
        "age": rng.randint(4, 90),
        "animal": rng.choice(ANIMALS),
        "day": rng.choice(DAYS),
        "number": rng.choice(NUMBERS),
        "open": rng.random() < 0.5,
    }
    return choices[key]


def word_to_keep(rng: random.Random) -> tuple[str, str, str, str]:
    """(word, the request to keep it, the reply, the later question)."""
    word = rng.choice((*THINGS, *ANIMALS, *COLOURS))
    ask = rng.choice(
        (
            f"Remember the word {word}.",
            f"Please remember this word: {word}.",
            f"The secret word is {word}. Keep it in mind.",
            f"Our password for today is {word}.",
        )
    )
    again = rng.choice(
        (
            "Which word should you remember?",
            "What was the word I gave you?",
            "What was the secret word?",
            "Tell me the word from the start of our talk.",
            "What is our password?",
        )
    )
    return word, ask, rng.choice(("I will remember it.", "Very well.", "I will keep it in mind.")), again


# What people say before and after a question; it changes nothing about the answer.
_BEFORE = lines("""
    I met {name} in {place}.
    {name} asked me this.
    I am {mood} today.
    We are in {place}.
    This is for {name}.
    I am reading a book about {place}.
    Wait, I have another one.
    {name} and I play a game.
    It is about school.
    I have {food} here, and a question.
    My {animal} is {mood}.
    Listen, please.
    I could not sleep.
    There is something that I wonder about.
    Good, let us go on.
    In {place} somebody asked this.
    I bought a {colour} {thing}.
    On {day} I have a test.
    Sorry, I must ask you.
    Number {number}:
    You may know this.""")
_BEHIND = lines("""
    {name} asked me.
    I will tell {name}.
    I need it on {day}.
    Then I can go to {place}.
    I am {mood} about it.
    Take your time.
    I am in a hurry.
    You are good at this.
    I hope that you know it.
    There is {food} for the right answer!
    I have no idea.
    {name} says it is easy.
    It is for a game with {name}.
    My {animal} wants to know too.
    I bet you know.
    We talked about it in {place}.
    This is important to me.
    I would love to know.
    I want to write it down.
    Say it in a few words.
    It makes me {mood}.
    That would help me a lot.
    I could win a {thing}.
    I forgot it on {day}.
    Do not think too long.""")


def around(question: str, rng: random.Random) -> str:
    """The question with a sentence before it, behind it, or both."""
    words = {
        "name": rng.choice(NAMES),
        "place": rng.choice(PLACES),
        "mood": rng.choice(MOODS),
        "food": rng.choice(FOODS),
        "animal": rng.choice(ANIMALS),
        "colour": rng.choice(COLOURS),
        "thing": rng.choice(THINGS),
        "day": rng.choice(DAYS),
        "number": rng.choice(NUMBERS),
    }
    kind = rng.random()
    before = rng.choice(_BEFORE).format(**words) + " " if kind < 0.6 else ""
    behind = " " + rng.choice(_BEHIND).format(**words) if kind > 0.4 else ""
    return before + question + behind


# Words that the bundled tuning sets need: met here in other sentences than theirs.
_PIRATE_TALK = lines("""
    "Shiver me timbers!" cried the pirate {name}. "A {thing}!"
    "Avast, ye landlubber!" said the captain to {name}.
    "Yo ho ho," sang the old sea dog, and {name} sang too.
    "By me beard," said the pirate, "the {thing} be mine!"
    The pirates called {name} a scurvy landlubber.
    "'Tis a fine {thing}," said the sailor. "Aye, matey, 'tis."
    "Fair winds to ye, me hearty!" they said to {name}. "Arr!"
    The pirate {name} sailed the seven seas and looked for treasure.
    "Welcome aboard," said Captain {name}. "What be ye lookin' for, matey?"
    {name} heard the pirate: "Says I, the {thing} be lost, arr!"
    "Ahoy there!" the scurvy dog said, and {name} laughed.
    "Be ye a sailor or a pirate?" asked {name}. "Aye aye, both," said he.""")
_FORM_TALK = lines("""
    A string is a piece of text.
    An integer is a whole number like {number}.
    A boolean is true or false.
    JSON is a way to write down a record with keys and values.
    A schema names the keys and their types.
    The type of the key "{key}" is string.
    The type of the key "{key}" is integer.
    {name} must reply only with text that fits the schema.
    The customer {name} ordered {number} pieces. The quantity is {number}.
    The customer {name} wants the item {thing}.
    {name} counted {number} visitors.
    We sell the item {thing} and send it to the customer {name}.
    The animal in the forest is wild. The dog of {name} is not wild.
    The shop of {name} is open on {day} and closed on {day2}.
    {name} read this text and turned it into a list.
    {name} had to fill in the form: name, age, city, job.
    Somebody saw {number} wild animals, and they were all described by {name}.""")
_KEYS = (
    "name age city job item price colour material animal "
    "count place wild shop day open visitors customer quantity"
)


def glossary(rng: random.Random) -> str:
    """A few sentences with the words of pirates and of forms."""
    pool = _PIRATE_TALK if rng.random() < 0.5 else _FORM_TALK
    said = rng.sample(pool, rng.randint(2, 4))
    day, day2 = rng.sample(DAYS, 2)
    return " ".join(
        template.format(
            name=rng.choice(NAMES),
            thing=rng.choice(THINGS),
            number=rng.randint(2, 99),
            key=rng.choice(_KEYS.split()),
            day=day,
            day2=day2,
        )
        for template in said
    )
