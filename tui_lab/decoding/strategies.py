"""Decoding strategies as small frozen records: their parameters with ranges and meanings, one sentence each,
the text form (``top-p p=0.9 seed=1``) and presets of lanes. Imports no torch, so that the screens can use it;
the algorithms are in :mod:`~tui_lab.decoding.engine`."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Literal, get_args

from tui_lab.core.errors import LabError

EarlyStopping = bool | Literal["never"]
SampleName = Literal["sample", "temperature", "top-k", "top-p", "min-p"]
#: How a strategy is decoded: one row that picks a token per step, beam search, or contrastive search.
Algorithm = Literal["sampling", "beam", "contrastive"]

MAX_SEED = 2**63 - 1


@dataclass(frozen=True)
class Parameter:
    """A strategy parameter: its range, its meaning and its short names in the text form."""

    name: str
    meaning: str
    low: float
    high: float
    low_excluded: bool = False
    whole: bool = False
    aliases: tuple[str, ...] = ()

    def problem(self, value: object) -> str | None:
        """One sentence about an invalid value; None for a valid one."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            return f"{self.name} is a number, not {value!r}"
        if self.whole and value != int(value if math.isfinite(value) else 0):
            return f"{self.name} is a whole number, not {value}"
        over = self.low < value if self.low_excluded else self.low <= value
        if math.isfinite(value) and over and value <= self.high:
            return None
        return f"{self.name} is {self.allowed()}, not {value}"

    def allowed(self) -> str:
        """The range as text."""
        low = f"above {self.low:g}" if self.low_excluded else f"at least {self.low:g}"
        return f"{low} and at most {self.high:g}"


PARAMETERS: dict[str, Parameter] = {
    p.name: p
    for p in (
        Parameter(
            "temperature",
            "divides the logits: under 1 sharper, over 1 flatter, 0 always the most probable token",
            0,
            100,
            aliases=("t", "tau"),
        ),
        Parameter(
            "top_k", "only the k most probable tokens; 0 is off", 0, 1_000_000, whole=True, aliases=("k",)
        ),
        Parameter(
            "top_p",
            "only the smallest set of tokens that holds this share of the probability; 1 is off",
            0,
            1,
            low_excluded=True,
            aliases=("p",),
        ),
        Parameter(
            "min_p",
            "only tokens with at least this share of the most probable token's probability; 0 is off",
            0,
            1,
        ),
        Parameter(
            "repetition_penalty",
            "over 1 makes tokens of the prompt and of the answer so far less probable; 1 is off",
            0,
            100,
            low_excluded=True,
            aliases=("penalty",),
        ),
        Parameter(
            "num_beams", "the number of hypotheses in the search", 1, 64, whole=True, aliases=("beams", "n")
        ),
        Parameter(
            "length_penalty",
            "the score of a hypothesis is divided by its length to this power: above 0 favours long ones",
            -100,
            100,
        ),
        Parameter(
            "penalty_alpha",
            "weight of the similarity to earlier tokens against the probability; 0 is greedy",
            0,
            1,
            aliases=("alpha", "a"),
        ),
    )
}
_ALIASES = {alias: p.name for p in PARAMETERS.values() for alias in p.aliases}


def _check(strategy: Strategy) -> None:
    if found := problems(strategy):
        raise LabError(f"{strategy.name}: " + "; ".join(found))


@dataclass(frozen=True)
class Greedy:
    """Takes the most probable token at every step."""

    name = "greedy"
    rows = 1  # of the batch
    random = False
    algorithm: ClassVar[Algorithm] = "sampling"

    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        _check(self)

    @property
    def as_sample(self) -> Sample:
        """The equal sampling parameters."""
        return Sample(temperature=0.0, repetition_penalty=self.repetition_penalty)


@dataclass(frozen=True)
class Beam:
    """Beam search: extends several hypotheses and returns the best one by total log-probability."""

    name = "beam"
    random = False

    num_beams: int = 4
    length_penalty: float = 1.0
    early_stopping: EarlyStopping = False
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        _check(self)

    @property
    def rows(self) -> int:
        """Rows of the batch."""
        return self.num_beams

    @property
    def algorithm(self) -> Algorithm:
        """Beam search, or sampling with one beam, which is greedy."""
        return "beam" if self.num_beams > 1 else "sampling"

    @property
    def as_sample(self) -> Sample:
        """The equal sampling parameters of a search over one beam."""
        return Sample(temperature=0.0, repetition_penalty=self.repetition_penalty)


@dataclass(frozen=True)
class Sample:
    """Samples after temperature, top-k, top-p and min-p, applied in this order.

    ``name`` is the family that the user chose; all families take the same parameters."""

    rows = 1
    random = True
    algorithm: ClassVar[Algorithm] = "sampling"

    name: SampleName = "sample"
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        _check(self)

    @property
    def as_sample(self) -> Sample:
        """The parameters themselves."""
        return self


@dataclass(frozen=True)
class Contrastive:
    """Contrastive search: of the k most probable tokens it takes one that is probable and unlike the text so
    far."""

    name = "contrastive"
    random = False

    penalty_alpha: float = 0.6
    top_k: int = 4

    def __post_init__(self) -> None:
        _check(self)

    @property
    def rows(self) -> int:
        """Rows of the batch: one for each candidate, or one if the search is greedy."""
        return 1 if self.greedy else self.top_k

    @property
    def greedy(self) -> bool:
        """Whether the parameters make the search equal to greedy decoding."""
        return self.penalty_alpha == 0 or self.top_k == 1

    @property
    def algorithm(self) -> Algorithm:
        """Contrastive search, or sampling where it is greedy."""
        return "sampling" if self.greedy else "contrastive"

    @property
    def as_sample(self) -> Sample:
        """The equal sampling parameters of a greedy search."""
        return Sample(temperature=0.0)


Strategy = Greedy | Beam | Sample | Contrastive


def problems(strategy: Strategy) -> list[str]:
    """All invalid parameters, one sentence each."""
    found = []
    for item in fields(strategy):
        value = getattr(strategy, item.name)
        if item.name == "early_stopping":
            if not (isinstance(value, bool) or value == "never"):
                found.append(f"early_stopping is true, false or never, not {value!r}")
        elif item.name == "name":
            if value not in get_args(SampleName):
                found.append(f"the name is one of {', '.join(get_args(SampleName))}, not {value!r}")
        elif problem := PARAMETERS[item.name].problem(value):
            found.append(problem)
        elif isinstance(strategy, Contrastive) and item.name == "top_k" and not 1 <= value <= 64:
            found.append(f"top_k of contrastive search is at least 1 and at most 64, not {value}")
    return found


@dataclass(frozen=True)
class Family:
    """A strategy name that users can choose."""

    name: str
    meaning: str
    start: Strategy  # with default parameters

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of its parameters."""
        return tuple(f.name for f in fields(self.start) if f.name != "name")


FAMILIES: dict[str, Family] = {
    f.name: f
    for f in (
        Family("greedy", "Takes the most probable token at every step.", Greedy()),
        Family(
            "beam",
            "Extends several continuations at once and returns the most probable one.",
            Beam(),
        ),
        Family("sample", "Samples every token from the model's probabilities.", Sample()),
        Family(
            "temperature",
            "Samples after sharpening (under 1) or flattening (over 1) the probabilities.",
            Sample("temperature", temperature=0.7),
        ),
        Family("top-k", "Samples from the k most probable tokens.", Sample("top-k", top_k=50)),
        Family(
            "top-p",
            "Samples from the smallest set of tokens that holds the share p of the probability.",
            Sample("top-p", top_p=0.9),
        ),
        Family(
            "min-p",
            "Samples from the tokens that have at least a given share of the best token's probability.",
            Sample("min-p", min_p=0.1),
        ),
        Family(
            "contrastive",
            "Takes, among the k most probable, a token whose hidden state is unlike the text so far.",
            Contrastive(),
        ),
    )
}


def meaning(strategy: Strategy) -> str:
    """One sentence about the strategy."""
    return FAMILIES[strategy.name].meaning


@dataclass(frozen=True)
class Lane:
    """One answer to the prompt: a strategy, its random seed, and the model that it runs on.

    ``seed`` is None if the strategy is deterministic or no seed is set yet (:func:`with_seeds` sets one).
    ``on`` is empty for the caller's default, ``base`` for the base model, or the name of an adapter."""

    strategy: Strategy = field(default_factory=Greedy)
    seed: int | None = None
    on: str = ""

    def __post_init__(self) -> None:
        if self.seed is not None and not 0 <= self.seed <= MAX_SEED:
            raise LabError(f"seed is at least 0 and at most {MAX_SEED}, not {self.seed}")

    @property
    def text(self) -> str:
        """The text form that :func:`parse` reads; parameters with their default value are omitted."""
        start = FAMILIES[self.strategy.name].start
        parts = [self.strategy.name]
        for name, value in parameters(self.strategy).items():
            if value != getattr(start, name) or name in _MAIN.get(self.strategy.name, ()):
                shown = str(value).lower() if isinstance(value, bool) else format(value)
                parts.append(f"{name}={shown}")
        parts += [] if self.seed is None else [f"seed={self.seed}"]
        parts += [f"on={self.on}"] if self.on else []
        return " ".join(parts)


#: The defining parameters of a family are always written.
_MAIN = {
    "temperature": ("temperature",),
    "top-k": ("top_k",),
    "top-p": ("top_p",),
    "min-p": ("min_p",),
    "beam": ("num_beams",),
    "contrastive": ("penalty_alpha", "top_k"),
}


def parameters(strategy: Strategy) -> dict[str, Any]:
    """All parameters by name."""
    return {f.name: getattr(strategy, f.name) for f in fields(strategy) if f.name != "name"}


def build(name: str, values: Mapping[str, object]) -> Strategy:
    """The strategy of a family with some parameters set. Raises LabError that lists all mistakes."""
    if name not in FAMILIES:
        near = difflib.get_close_matches(name, FAMILIES, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(FAMILIES)}"
        raise LabError(f"strategy {name!r} is unknown; {hint}")
    family = FAMILIES[name]
    found = []
    changes: dict[str, Any] = {}
    for key, value in values.items():
        full = _full_name(key)
        if full not in family.parameters:
            found.append(f"{key!r} is no parameter; it takes {', '.join(family.parameters)}")
        elif full in changes:
            found.append(f"{full} is given twice")
        else:
            changes[full] = _as_int(full, value)
    # an unchecked instance, so that all ranges are checked at once
    draft = object.__new__(type(family.start))
    for item in fields(family.start):
        object.__setattr__(draft, item.name, changes.get(item.name, getattr(family.start, item.name)))
    found += problems(draft)
    if found:
        raise LabError(f"{name}: " + "; ".join(found))
    return replace(family.start, **changes)


def _full_name(key: str) -> str:
    key = key.lower().replace("-", "_")
    return _ALIASES.get(key, key)


def _as_int(name: str, value: object) -> object:
    """Converts 4.0 to 4 for integer parameters."""
    integer = name in PARAMETERS and PARAMETERS[name].whole
    return int(value) if integer and isinstance(value, float) and value.is_integer() else value


def _value(name: str, text: str) -> object:
    if name == "early_stopping":
        values = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
        return values.get(text.lower(), text.lower())
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        return text


def parse(text: str) -> Lane:
    """Reads the text form of a lane: ``greedy``, ``beam num_beams=4``, ``top-p p=0.9 seed=1``,
    ``contrastive alpha=0.6 k=4 on=base``. Raises LabError that lists all mistakes."""
    tokens = text.replace(",", " ").split()
    if not tokens:
        raise LabError(f"a lane is empty; name a strategy: {', '.join(FAMILIES)}")
    name = tokens[0].lower().replace("_", "-")
    values: dict[str, object] = {}
    seed: int | None = None
    on = ""
    found = []
    for token in tokens[1:]:
        key, equals, value = token.partition("=")
        if not equals or not key or not value:
            found.append(f"{token!r} is not of the form name=value")
        elif key in values:
            found.append(f"{key} is given twice")
        elif key == "seed":
            if value.isascii() and value.isdigit() and int(value) <= MAX_SEED:
                seed = int(value)
            else:
                found.append(f"seed is a whole number from 0 to {MAX_SEED}, not {value!r}")
        elif key == "on":
            on = value
        else:
            values[key] = _value(_ALIASES.get(key, key), value)
    try:
        strategy = build(name, values)
    except LabError as error:
        found.append(str(error))
    if found:
        raise LabError(f"lane {text.strip()!r}: " + "; ".join(found))
    return Lane(strategy, seed, on)


def parse_all(texts: Iterable[str]) -> tuple[Lane, ...]:
    """Reads several lanes. Raises LabError that lists the mistakes of all of them."""
    found, problems = [], []
    for text in texts:
        try:
            found.append(parse(text))
        except LabError as error:
            problems.append(str(error))
    if problems:
        raise LabError("; ".join(problems))
    return tuple(found)


def with_seeds(lanes: tuple[Lane, ...], first: int) -> tuple[Lane, ...]:
    """The lanes with a seed for each random lane that has none: ``first``, ``first + 1``, …"""
    return tuple(
        replace(lane, seed=(first + index) % MAX_SEED) if lane.strategy.random and lane.seed is None else lane
        for index, lane in enumerate(lanes)
    )


#: Predefined sets of lanes.
PRESETS: dict[str, tuple[Lane, ...]] = {
    "six classics": tuple(
        Lane(FAMILIES[name].start, 1 if FAMILIES[name].start.random else None)
        for name in ("greedy", "beam", "top-k", "top-p", "temperature", "contrastive")
    ),
    "temperature ladder": tuple(
        Lane(Sample("temperature", temperature=t), 1) for t in (0.2, 0.5, 0.7, 1.0, 1.2, 1.5)
    ),
    "contrastive ladder": tuple(Lane(Contrastive(penalty_alpha=a)) for a in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)),
    "top-p ladder": tuple(Lane(Sample("top-p", top_p=p), 1) for p in (0.1, 0.3, 0.5, 0.7, 0.9, 0.99)),
}
