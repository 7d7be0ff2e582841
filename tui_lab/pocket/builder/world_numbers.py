"""Facts about numbers, time and measures: small sums, the calendar, units, shapes."""

from __future__ import annotations

from tui_lab.pocket.builder.relation import Relation, lines, pairs

_MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]
_DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
_WORDS = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
    "twenty",
]
_ORDINALS = [
    "first",
    "second",
    "third",
    "fourth",
    "fifth",
    "sixth",
    "seventh",
    "eighth",
    "ninth",
    "tenth",
    "eleventh",
    "twelfth",
]

_LENGTHS = (
    dict.fromkeys(_MONTHS, "31")
    | {"February": "28"}
    | dict.fromkeys(("April", "June", "September", "November"), "30")
)

# "7 + 5" is asked as "7 plus 5" too: the frames below take the words.
_SUMS = {f"{a} plus {b}": str(a + b) for a in range(1, 11) for b in range(a, 11)}
_PRODUCTS = {f"{a} times {b}": str(a * b) for a in range(2, 11) for b in range(a, 11)}
_DIFFERENCES = {f"{a} minus {b}": str(a - b) for a in range(3, 11) for b in range(1, a, 2)}

_CALCULATION_PHRASES = lines("""
    {s}
    the result of {s}
    the answer to {s}
    the value of {s}""")
_CALCULATION_QUESTIONS = lines("""
    How much is {s}?
    {s} is how much?
    What do you get for {s}?
    What does {s} make?
    {s} equals what?
    Calculate {s}.
    Work out {s}.
    How much do you get if you work out {s}?
    Please calculate {s}.
    Which number do you get for {s}?
    What number is {s}?
    Do you know how much {s} is?
    {s} gives which number?
    Which number is {s}?
    I have to calculate {s}. What is it?
    {s} =""")
_CALCULATION_HELD_OUT = lines("""
    Which number is equal to {s}?
    What number comes out of {s}?
    Can you do this sum in your head: {s}?""")
_CALCULATION_STATEMENTS = lines("""
    {s} is {a}.
    {s} = {a}.
    {s} makes {a}.
    The result of {s} is {a}.""")


def _calculation(name: str, facts: dict[str, str]) -> Relation:
    return Relation(
        name,
        "numbers",
        facts,
        _CALCULATION_PHRASES,
        _CALCULATION_QUESTIONS,
        _CALCULATION_HELD_OUT,
        _CALCULATION_STATEMENTS,
    )


def _neighbour(name: str, cycle: list[str], step: int, unit: str, word: str, other: str) -> Relation:
    """'after' and 'before' for days and months."""
    facts = {item: cycle[(index + step) % len(cycle)] for index, item in enumerate(cycle)}
    direction = "next" if step > 0 else "previous"
    return Relation(
        name,
        "calendar",
        facts,
        lines(f"""
            the {unit} {word} {{s}}
            the {unit} that comes {word} {{s}}
            the {unit} right {word} {{s}}"""),
        lines(f"""
            Which {unit} comes {word} {{s}}?
            What {unit} is {word} {{s}}?
            Which {unit} is right {word} {{s}}?
            {{s}} comes {other} which {unit}?
            Which {unit} comes directly {word} {{s}}?
            Now it is {{s}}. Which {unit} is {word} it?
            In the calendar, what stands {word} {{s}}?"""),
        lines(f"""
            If this {unit} is {{s}}, what is the {direction} one?
            Look at the calendar: which {unit} stands {word} {{s}}?
            What is the name of the {unit} {word} {{s}}?"""),
        lines(f"""
            The {unit} {word} {{s}} is {{a}}.
            {{a}} comes {word} {{s}}.
            {{s}} comes {other} {{a}}.
            Right {word} {{s}} comes {{a}}."""),
    )


RELATIONS = (
    _calculation("sum", _SUMS),
    _calculation("product_of", _PRODUCTS),
    _calculation("difference", _DIFFERENCES),
    _neighbour("day_after", _DAYS, 1, "day", "after", "before"),
    _neighbour("day_before", _DAYS, -1, "day", "before", "after"),
    _neighbour("month_after", _MONTHS, 1, "month", "after", "before"),
    _neighbour("month_before", _MONTHS, -1, "month", "before", "after"),
    Relation(
        "month_place",
        "calendar",
        dict(zip(_ORDINALS, _MONTHS, strict=True)),
        lines("""
            the {s} month of the year
            the {s} month
            the name of the {s} month"""),
        lines("""
            Which month is the {s} of the year?
            Which month comes {s} in the year?
            What is the {s} month called?
            The {s} month has which name?
            Which month has the {s} place in the calendar?"""),
        lines("""
            Of the twelve months, which is the {s}?
            In a year, which month is the {s}?
            Count the months: which one is the {s}?"""),
        lines("""
            The {s} month of the year is {a}.
            {a} is the {s} month.
            In the calendar, {a} is the {s} month of the year."""),
    ),
    Relation(
        "month_days",
        "calendar",
        _LENGTHS | {"a leap year": "366", "a normal year": "365", "a week": "7"},
        lines("""
            the number of days in {s}
            the days in {s}, as a number
            the length of {s} in days"""),
        lines("""
            How many days are in {s}?
            How many days does {s} have?
            How many days are there in {s}?
            {s} has how many days?
            How long is {s}, in days?
            In {s}, how many days are there?"""),
        lines("""
            After how many days is {s} over?
            How many days must I wait until {s} is over, from its first day on?
            How many sheets of a day calendar do you need for {s}?"""),
        lines("""
            {s} has {a} days.
            There are {a} days in {s}.
            The number of days in {s} is {a}."""),
    ),
    Relation(
        "festival",
        "calendar",
        pairs("""
            Christmas=December; New Year's Day=January; Halloween=October; Valentine's Day=February;
            April Fools' Day=April; Saint Patrick's Day=March; the American Independence Day=July;
            Labour Day in Europe=May; Saint Nicholas Day=December; the American Thanksgiving=November;
            Bastille Day=July"""),
        lines("""
            the month of {s}
            the month in which {s} falls
            the month with {s}"""),
        lines("""
            In which month is {s}?
            When is {s}, in which month?
            Which month has {s} in it?
            {s} is in which month?
            In what month do people celebrate {s}?
            Which month should I wait for if I like {s}?"""),
        lines("""
            During which month does {s} take place?
            In the calendar, {s} stands in which month?
            Which month brings {s}?"""),
        lines("""
            {s} is in {a}.
            {s} falls in the month of {a}.
            People celebrate {s} in {a}.
            The month of {s} is {a}."""),
    ),
    Relation(
        "digit",
        "numbers",
        {word: str(number) for number, word in enumerate(_WORDS)}
        | {
            "thirty": "30",
            "forty": "40",
            "fifty": "50",
            "one hundred": "100",
            "a dozen": "12",
            "one thousand": "1000",
        },
        lines("""
            the number {s} in digits
            the digits for {s}
            the number {s} written with digits"""),
        lines("""
            How do you write {s} in digits?
            How do you write the number {s} with digits?
            Write {s} as a number.
            Write {s} in digits.
            Which digits stand for {s}?
            Turn {s} into digits.
            Put the word {s} into figures.
            Which number is meant by {s}, in digits?
            What is {s} as a figure?"""),
        lines("""
            Which figure stands for the word {s}?
            How would a calculator show {s}?
            Change the word {s} into digits."""),
        lines("""
            The number {s} in digits is {a}.
            {s} is written {a}.
            You write {s} as {a}."""),
    ),
    Relation(
        "next_number",
        "numbers",
        {_WORDS[n]: _WORDS[n + 1] for n in range(20)},
        lines("""
            the number after {s}
            the next number after {s}
            the number that follows {s}"""),
        lines("""
            Which number comes after {s}?
            What comes after {s} when you count?
            When I count, what do I say after {s}?
            You count and say {s}. What is next?
            Which number is one more than {s}?
            Which number stands after {s}?
            A child counts: {s}, and then?
            Count on from {s}. Which number is it?
            {s} and one more is which number?"""),
        lines("""
            Add one to {s}. Which number is it?
            Somebody counts and has just said {s}. What will he say now?
            Which number stands directly behind {s}?"""),
        lines("""
            After {s} comes {a}.
            The number after {s} is {a}.
            When you count, {a} follows {s}.
            One more than {s} is {a}."""),
    ),
    Relation(
        "unit",
        "numbers",
        pairs("""
            minutes in an hour=60; seconds in a minute=60; hours in a day=24; days in a week=7;
            months in a year=12; years in a century=100; years in a decade=10; weeks in a year=52;
            centimetres in a metre=100; metres in a kilometre=1000; grams in a kilogram=1000;
            things in a dozen=12; players in a football team=11; cents in a dollar=100;
            letters in the alphabet=26; wheels on a car=4; wheels on a bicycle=2; fingers on one hand=5;
            strings on a violin=4; strings on a guitar=6; seasons in a year=4; planets around the sun=8;
            sides of a coin=2; squares on a chess board=64; cards in a deck=52;
            minutes in half an hour=30; millimetres in a centimetre=10; legs on a chair=4;
            letters in the word cat=3; letters in the word horse=5; zeros in one million=6;
            teeth of a grown person=32"""),
        lines("""
            the number of {s}
            the correct number of {s}
            the count of {s}"""),
        lines("""
            How many {s} are there?
            How many {s}?
            How many {s} can you count?
            Tell me how many {s} there are.
            There are how many {s}?
            What number of {s} is there?"""),
        lines("""
            Do you happen to know how many {s} there are?
            How large is the number of {s}?
            Count them: how many {s} do we have?"""),
        lines("""
            The number of {s} is {a}.
            There are {a} {s}.
            You can count {a} {s}.
            {s}: {a}."""),
    ),
    Relation(
        "sides",
        "numbers",
        pairs("""
            triangle=three; square=four; rectangle=four; pentagon=five; hexagon=six; octagon=eight;
            stop sign=eight; heptagon=seven; decagon=ten; cube=six"""),
        lines("""
            the number of sides of a {s}
            the number of sides that a {s} has
            the side count of a {s}"""),
        lines("""
            How many sides does a {s} have?
            A {s} has how many sides?
            How many sides are there on a {s}?
            If I draw a {s}, how many sides do I need?
            How many sides has a {s}?"""),
        lines("""
            Count the sides of a {s}. How many are there?
            How many sides belong to a {s}?
            With how many sides is a {s} made?"""),
        lines("""
            A {s} has {a} sides.
            The number of sides of a {s} is {a}.
            Count the sides of a {s}: {a}."""),
    ),
)
