"""Short invented stories: the part of the corpus with entropy, so that sampling differs from greedy
decoding.

A story is a cast, a place, a wish, a few turns of events and an ending, all drawn from word lists.
Nothing in it claims to be a fact. Long stories chain many scenes, which gives the model documents that
fill a context.
"""

from __future__ import annotations

import random

from tui_lab.pocket.builder.catalogue import COLOURS, THINGS
from tui_lab.pocket.builder.relation import with_article

NAMES = [
    "Anna",
    "Ben",
    "Clara",
    "David",
    "Emma",
    "Felix",
    "Grace",
    "Henry",
    "Ida",
    "Jack",
    "Kate",
    "Leo",
    "Mia",
    "Noah",
    "Olive",
    "Paul",
    "Rosa",
    "Sam",
    "Tina",
    "Victor",
    "Lily",
    "Max",
    "Nora",
    "Oscar",
    "Ella",
    "Tom",
    "Lucy",
    "Peter",
    "Maria",
    "Hugo",
]
ANIMALS = [
    "dog",
    "cat",
    "horse",
    "rabbit",
    "fox",
    "bear",
    "duck",
    "owl",
    "mouse",
    "goat",
    "frog",
    "pig",
    "lion",
    "monkey",
    "parrot",
    "turtle",
    "sheep",
    "hen",
]
PLACES = [
    "the forest",
    "the garden",
    "the market",
    "the harbor",
    "the old castle",
    "the school",
    "the river",
    "a small village",
    "the beach",
    "the farm",
    "the kitchen",
    "the library",
    "the mountain",
    "the station",
    "a quiet street",
    "the park",
    "the island",
    "the shop on the corner",
]
MOODS = [
    "happy",
    "sad",
    "tired",
    "brave",
    "curious",
    "angry",
    "hungry",
    "lonely",
    "proud",
    "quiet",
    "busy",
    "lazy",
    "clever",
    "shy",
    "cheerful",
]
SIZES = [
    "big",
    "small",
    "old",
    "new",
    "strange",
    "little",
    "heavy",
    "tiny",
    "shiny",
    "broken",
    "beautiful",
    "dusty",
]
FOODS = [
    "bread",
    "soup",
    "an apple",
    "a cake",
    "cheese",
    "rice",
    "a pear",
    "some berries",
    "hot tea",
    "a bowl of milk",
    "fish",
    "pancakes",
    "honey",
    "a carrot",
]
WEATHER = [
    "the sun was shining",
    "it was raining",
    "snow was falling",
    "the wind was strong",
    "it was very hot",
    "there was thick fog",
    "the sky was grey",
    "a storm was coming",
    "the night was dark",
    "the moon was bright",
]
TIMES = [
    "One day",
    "One morning",
    "Last summer",
    "On a cold evening",
    "Once upon a time",
    "Yesterday",
    "In winter",
    "On Monday",
    "Late at night",
    "A long time ago",
    "On her way home",
    "Early on Sunday",
    "In the spring",
]
WISHES = [
    "wanted to find {thing}",
    "was looking for a friend",
    "wanted to see the sea",
    "hoped to win a prize",
    "needed some help",
    "wanted to bake a cake",
    "had lost {thing}",
    "wanted to learn to swim",
    "wanted to buy {thing}",
    "dreamed of a long trip",
    "had to bring {thing} to {place}",
    "wished for a quiet day",
    "wanted to build a boat",
    "was waiting for a letter",
]
EVENTS = [
    'Suddenly {name2} came and asked, "What are you doing?"',
    "Then {name} saw {an_animal} behind {a_thing}.",
    "{name} found {a_thing} under a tree.",
    "A {mood} {animal} ran across the road.",
    "{name2} laughed and shared {food}.",
    "They walked together to {place}.",
    "It started to rain, so they went inside.",
    '"Can you help me?" asked {name}.',
    "The {animal} was {mood} and did not move.",
    "{name2} gave {name} {a_thing}.",
    "{name} sat down and ate {food}.",
    "There was {a_thing} on the table, and it was {colour}.",
    '"I have an idea," said {name2}.',
    "They heard a loud noise from {place}.",
    "{name} opened the door and looked outside.",
    "The {animal} took the {thing} and ran away.",
    "{name2} was {mood}, but {name} was {mood2}.",
    "They counted to {number} and jumped.",
    '"Look at that {thing}!" cried {name}.',
    "{name} wrote a letter to {name2}.",
    "An old sailor told them about {place} and a {colour} {thing}.",
    'A pirate with a {colour} hat said, "Arr, matey, give me yer {thing}!"',
    '"Ahoy, me hearty!" said the captain. "Aye, the treasure be in {place}."',
    "They bought {a_thing} in the shop for {number} dollars.",
    "{name2} painted the {thing} {colour}.",
    "For {number} hours nothing happened.",
    "{name} sang a song about {an_animal}.",
]
ENDINGS = [
    "In the end everybody was {mood}.",
    "So {name} went home and slept well.",
    "They were friends from that day on.",
    "{name} never forgot that day.",
    "And {name2} kept the {thing} for many years.",
    "That evening they ate {food} together.",
    '"Thank you," said {name}.',
    "The {animal} came back and stayed with {name}.",
    "After that, {name} was no longer {mood}.",
    "Nobody ever found the {thing} again.",
    '"What a day!" said {name2} and laughed.',
    "The next day they met again.",
]
NUMBERS = ["two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "twelve", "twenty"]


class _Cast:
    """The words of one story: names and animal stay, the rest is drawn anew at each use."""

    def __init__(self, rng: random.Random, hero: str = "", animal: str = "") -> None:
        self.rng = rng
        self.name, self.name2 = rng.sample(NAMES, 2)
        self.name = hero or self.name
        self.animal = animal or rng.choice(ANIMALS)
        self.thing = rng.choice(THINGS)

    def fill(self, template: str) -> str:
        rng = self.rng
        described = with_article(
            f"{rng.choice(SIZES)} {self.thing if rng.random() < 0.5 else rng.choice(THINGS)}"
        )
        return template.format(
            name=self.name,
            name2=self.name2,
            animal=self.animal,
            an_animal=with_article(self.animal),
            thing=self.thing,
            a_thing=described,
            place=rng.choice(PLACES),
            mood=rng.choice(MOODS),
            mood2=rng.choice(MOODS),
            food=rng.choice(FOODS),
            colour=rng.choice(COLOURS),
            number=rng.choice(NUMBERS),
        )


def story(rng: random.Random, scenes: int = 1, hero: str = "", animal: str = "") -> str:
    """One story of about 60 to 120 words a scene."""
    cast = _Cast(rng, hero, animal)
    opening = rng.choice(
        (
            "{time} {name} was in {place}, and {weather}.",
            "{time} there was {a_mood} {animal} who lived near {place}. {name} knew it well.",
            "{time} {name} and {name2} went to {place}, and {weather}.",
            "{time}, when {weather}, {name} met {name2} in {place}.",
        )
    )
    opening = opening.replace("{a_mood}", with_article(rng.choice(MOODS)))
    opening = opening.replace("{time}", rng.choice(TIMES)).replace("{weather}", rng.choice(WEATHER))
    wish = rng.choice(WISHES).replace("{thing}", "the {thing}")
    parts = [cast.fill(opening), cast.fill("{name} was {mood} and " + wish + ".")]
    for scene in range(scenes):
        if scene:
            parts.append(
                cast.fill(f"\n\n{rng.choice(TIMES)} they went to {{place}}, and {rng.choice(WEATHER)}.")
            )
        parts.extend(cast.fill(event) for event in rng.sample(EVENTS, rng.randint(2, 5)))
    parts.append(cast.fill(rng.choice(ENDINGS)))
    return " ".join(parts).replace(" \n\n", "\n\n")
