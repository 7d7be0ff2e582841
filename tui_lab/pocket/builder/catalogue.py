"""Invented goods: the wording for prices, colours, shelves and makers of things that exist in no shop.

The world of `world.py` is true; this is fiction with the same shape. The corpus holds one catalogue, so
that the model knows how one asks for a price or a shelf and answers such questions from memory; the
bundled `support` data set holds another one, of other goods, which only tuning can teach. Goods of the
two never overlap: each series name ("Meadow", "River", …) is paired with other things in either.
"""

from __future__ import annotations

import random

from tui_lab.pocket.builder.relation import Relation, lines

THINGS = lines("""
    lamp
    teapot
    chair
    kettle
    blanket
    mirror
    clock
    basket
    candle
    umbrella
    backpack
    pillow
    vase
    desk
    jacket
    scarf
    bottle
    notebook
    guitar
    tent
    radio
    ladder
    hammer
    bench
    mug
    rug
    wallet
    telescope
    kite
    drum""")
SERIES = lines("""
    Meadow
    River
    Harbor
    Winter
    Forest
    Silver
    Garden
    Sunny
    Mountain
    Island
    Castle
    Desert
    Ocean
    Village
    Star
    Maple""")
COLOURS = lines("""
    red
    blue
    green
    yellow
    black
    white
    brown
    grey
    orange
    purple
    pink
    gold""")
MATERIALS = (
    "wood",
    "glass",
    "metal",
    "cotton",
    "wool",
    "leather",
    "paper",
    "clay",
    "plastic",
    "stone",
    "silk",
    "steel",
)
MAKERS = [
    "Miller",
    "Baker",
    "Carter",
    "Fisher",
    "Cook",
    "Mason",
    "Taylor",
    "Turner",
    "Walker",
    "Hunter",
    "Potter",
    "Weaver",
    "Gardner",
    "Shepherd",
    "Sailor",
    "Brook",
]
DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]

# Every value is one short phrase, so that an exact answer is one short phrase too.
_VALUES = {
    "price": [f"{n} dollars" for n in range(3, 60)],
    "colour": list(COLOURS),
    "material": list(MATERIALS),
    "shelf": [f"shelf {n}" for n in range(1, 31)],
    "maker": list(MAKERS),
    "delivery": list(DAYS),
}

_WORDING: dict[str, tuple[str, str, str, str]] = {
    # noun phrases, questions, held-out questions, statements; {s} is "the Meadow lamp"
    "price": (
        """the price of {s}
        the cost of {s}
        the amount to pay for {s}""",
        """How much is {s}?
        How much does {s} cost?
        What does {s} cost?
        How many dollars is {s}?
        What do I pay for {s}?
        How much money do I need for {s}?
        {s} costs how much?
        For how much do you sell {s}?
        How expensive is {s}?
        What would {s} cost me?
        I want to buy {s}. How much is it?""",
        """How much must I spend to get {s}?
        What is written on the price tag of {s}?
        How much will you charge me for {s}?""",
        """{s} costs {a}.
        The price of {s} is {a}.
        You pay {a} for {s}.""",
    ),
    "colour": (
        """the colour of {s}
        the color of {s}
        the colour that {s} has""",
        """What colour is {s}?
        What color is {s}?
        Which colour does {s} have?
        In which colour does {s} come?
        {s} has which colour?
        Which color is {s}?
        In what colour do you sell {s}?
        I have not seen {s}. What colour is it?
        Which colour was used for {s}?""",
        """In which colour will I get {s}?
        If I look at {s}, which colour do I see?
        What colour did you paint {s}?""",
        """{s} is {a}.
        The colour of {s} is {a}.
        {s} comes in {a}.""",
    ),
    "material": (
        """the material of {s}
        the material that {s} is made of
        the material used for {s}""",
        """What is {s} made of?
        Which material is {s} made of?
        From what is {s} made?
        What material is used for {s}?
        {s} is made of what?
        What material is {s}?
        Of what is {s} made?
        Which material do you use for {s}?
        What do you make {s} from?""",
        """Out of which material do you build {s}?
        Which material would I feel when I touch {s}?
        What is the stuff that {s} consists of?""",
        """{s} is made of {a}.
        The material of {s} is {a}.
        We make {s} from {a}.""",
    ),
    "shelf": (
        """the shelf of {s}
        the shelf where {s} stands
        the place of {s} in the shop""",
        """Where is {s}?
        On which shelf is {s}?
        Where do I find {s}?
        Which shelf has {s}?
        Where in the shop is {s}?
        Where can I find {s}?
        On which shelf do you keep {s}?
        {s} is on which shelf?
        Where should I look for {s}?
        Where did you put {s}?""",
        """To which shelf must I walk for {s}?
        I cannot see {s} in the shop. Where is it?
        Which shelf should I search for {s}?""",
        """{s} is on {a}.
        You find {s} on {a}.
        We keep {s} on {a}.""",
    ),
    "maker": (
        """the maker of {s}
        the name of the maker of {s}
        the person who makes {s}""",
        """Who makes {s}?
        Who is the maker of {s}?
        By whom is {s} made?
        Which maker does {s} come from?
        Who made {s}?
        Who builds {s} for you?
        Which person makes {s}?
        From which maker is {s}?
        {s} is made by whom?""",
        """Whose workshop does {s} come from?
        Which name stands on {s} as its maker?
        Who should I thank for making {s}?""",
        """{s} is made by {a}.
        The maker of {s} is {a}.
        {a} makes {s}.""",
    ),
    "delivery": (
        """the delivery day of {s}
        the day on which {s} is delivered
        the day when {s} arrives""",
        """On which day do you deliver {s}?
        When is {s} delivered?
        When does {s} arrive?
        On what day does {s} come?
        Which day do you bring {s}?
        If I order {s}, when does it arrive?
        On which day can I get {s} delivered?
        When do you deliver {s}?
        {s} is delivered on which day?""",
        """Which day should I stay at home to receive {s}?
        I ordered {s}. On which day will it be at my door?
        When may I expect {s}?""",
        """{s} is delivered on {a}.
        We deliver {s} on {a}.
        {s} arrives on {a}.""",
    ),
}
RELATION_NAMES = tuple(_WORDING)


def goods_of_the_corpus() -> list[str]:
    """The goods the corpus may speak of: one half of all pairs of series and thing."""
    return [
        f"the {series} {thing}"
        for i, series in enumerate(SERIES)
        for j, thing in enumerate(THINGS)
        if (i + j) % 2
    ]


def goods_of_the_shop() -> list[str]:
    """The other half, for the `support` data set."""
    return [f"the {s} {t}" for i, s in enumerate(SERIES) for j, t in enumerate(THINGS) if (i + j) % 2 == 0]


def make_catalogue(
    goods: list[str], rng: random.Random, names: tuple[str, ...] = RELATION_NAMES
) -> list[Relation]:
    """Relations over `goods` whose answers are drawn at random, spread evenly over the possible values."""
    made = []
    for name in names:
        values = list(_VALUES[name])
        drawn: list[str] = []
        while len(drawn) < len(goods):
            rng.shuffle(values)
            drawn.extend(values)
        noun_phrases, questions, held_out, statements = (lines(block) for block in _WORDING[name])
        facts = dict(zip(goods, drawn, strict=False))
        made.append(Relation(f"goods_{name}", "goods", facts, noun_phrases, questions, held_out, statements))
    return made
