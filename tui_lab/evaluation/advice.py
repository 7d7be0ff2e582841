"""Should a model be tuned at all? The same held-out rows are answered with different prompts and, once there
is one, by the tuned model; this module has the records and the verdict. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from tui_lab.core import format
from tui_lab.core.errors import LabError
from tui_lab.core.sanitize import sanitize
from tui_lab.evaluation.prediction_summary import compare
from tui_lab.evaluation.records import EvaluationRequest
from tui_lab.retention.statistics import Interval

TuningAction = Literal["keep_prompting", "few_shot", "retrieve", "tune", "tune_and_retrieve", "undecided"]
ZERO_SHOT, RETRIEVAL, TUNED, TUNED_RETRIEVAL = "zero-shot", "retrieval", "tuned", "tuned + retrieval"
DEFAULT_SHOTS, DEFAULT_ROWS, DEFAULT_GOAL = 3, 100, 0.9
MAX_SHOTS = 32
#: Fewer rows give intervals that decide little.
FEW_ROWS = 30


class AdviseRequest(msgspec.Struct, frozen=True):
    """What to compare. ``data``: "" for that of the run; ``shots``: fixed examples in a prompt;
    ``retrieved``: retrieved ones, 0 for as many; ``goal``: the score that is enough; ``max_new_tokens``: 0 as
    the recipe has it."""

    target: EvaluationRequest
    data: str = ""
    data_format: str = "auto"
    columns: str = ""
    shots: int = DEFAULT_SHOTS
    limit: int = DEFAULT_ROWS
    goal: float = DEFAULT_GOAL
    max_new_tokens: int = 0
    retrieved: int = 0

    def validated(self) -> AdviseRequest:
        """The request itself. Raises LabError for impossible values."""
        if not 1 <= self.shots <= MAX_SHOTS:
            raise LabError(f"--shots is 1 to {MAX_SHOTS} examples a prompt, not {self.shots}")
        if not 0 <= self.retrieved <= MAX_SHOTS:
            raise LabError(f"--retrieved is 1 to {MAX_SHOTS} examples a prompt, not {self.retrieved}")
        if self.max_new_tokens < 0:
            raise LabError(f"--max-new-tokens must be at least 1, not {self.max_new_tokens}")
        if self.limit < 2:
            raise LabError(f"--limit must be at least 2 rows, not {self.limit}: one row has no interval")
        if not 0 < self.goal <= 1:
            raise LabError(f"--goal is a score above 0 and at most 1, not {self.goal:g}")
        return self


#: The options as one line of text has them: the field of the request, and its type.
OPTIONS: dict[str, tuple[str, type[int] | type[float]]] = {
    "shots": ("shots", int),
    "retrieved": ("retrieved", int),
    "rows": ("limit", int),
    "tokens": ("max_new_tokens", int),
    "goal": ("goal", float),
}


def options_text(request: AdviseRequest) -> str:
    """The options of a request as one line: "shots=3 retrieved=0 rows=100 tokens=0 goal=0.9"."""
    return " ".join(f"{name}={getattr(request, field):g}" for name, (field, _) in OPTIONS.items())


def with_options(request: AdviseRequest, text: str) -> AdviseRequest:
    """The request with the options that a line of text names. Raises LabError."""
    for word in text.split():
        name, _, value = word.partition("=")
        if name not in OPTIONS:
            raise LabError(f"there is no option {sanitize(name)[:40]}; there are {', '.join(OPTIONS)}")
        field, kind = OPTIONS[name]
        try:
            request = msgspec.structs.replace(request, **{field: kind(value)})
        except (ValueError, OverflowError):
            raise LabError(f"{sanitize(word)[:40]}: {name} is a number") from None
    return request.validated()


class Method(msgspec.Struct, frozen=True, kw_only=True):
    """One way of answering. ``score``: the mean over ``rows``, 0 to 1, with its 95 % interval; ``gain``: that
    minus zero-shot over the same rows, null for zero-shot. ``prompt_tokens`` and ``answer_tokens``: means;
    ``seconds``: the median of some answers, one at a time; ``cost``: that at the price per hour of the
    settings, null without one. ``file``: the answers."""

    name: str
    score: Interval
    gain: Interval | None
    rows: int
    skipped: int
    prompt_tokens: float
    answer_tokens: float
    seconds: float | None
    cost: float | None
    file: str


class TuningVerdict(msgspec.Struct, frozen=True):
    """What to do, and why in sentences."""

    action: TuningAction
    text: str


class TuningAdvice(msgspec.Struct, frozen=True, kw_only=True):
    """The methods over the same held-out rows of a data set, and the verdict."""

    model: str
    tuned: str
    data: str
    metric: str
    rows: int
    shots: int
    goal: float
    currency: str
    methods: list[Method]
    verdict: TuningVerdict
    notes: list[str]


def few_shot(shots: int) -> str:
    """The name of the method with fixed examples."""
    return f"{shots}-shot"


# --- the verdict ----------------------------------------------------------------------------------------


def decide(scores: Mapping[str, Sequence[float]], shots: int, goal: float) -> TuningVerdict:
    """The verdict on scores by method, of the same rows in the same order. A score is enough where its whole
    95 % interval is at the goal or above; one method is better than another where the interval of their
    paired difference excludes 0."""
    means = {name: compare([(score,) for score in found]).base for name, found in scores.items()}
    prompting = [name for name in (ZERO_SHOT, few_shot(shots), RETRIEVAL) if name in scores]
    tuned = [name for name in (TUNED, TUNED_RETRIEVAL) if name in scores]
    enough = next((name for name in prompting if means[name].low >= goal), "")
    if tuned:
        return _with_tuned(scores, means, prompting, tuned, enough)
    if enough:
        return _solved(enough, means[enough])
    best = max(prompting, key=lambda name: means[name].value)
    if means[best].value >= goal:
        return TuningVerdict(
            "undecided",
            f"{best} may already solve it ({_shown(means[best])}, wanted {goal:g}): measure more rows "
            "(--limit) before you tune.",
        )
    return _unsolved(scores, means, prompting, goal)


def _solved(name: str, score: Interval) -> TuningVerdict:
    if name == ZERO_SHOT:
        return TuningVerdict(
            "keep_prompting", f"The model already solves it as it is ({_shown(score)}): do not tune."
        )
    if name == RETRIEVAL:
        return TuningVerdict(
            "retrieve",
            f"Retrieval already solves it ({_shown(score)}): do not tune. Facts that change stay in the "
            "rows, which are replaced without training.",
        )
    return TuningVerdict("few_shot", f"{name} already solves it ({_shown(score)}): do not tune.")


def _unsolved(
    scores: Mapping[str, Sequence[float]], means: Mapping[str, Interval], prompting: list[str], goal: float
) -> TuningVerdict:
    fixed = prompting[1]
    best = max(prompting, key=lambda name: means[name].value)
    reached = f"the best prompt reaches {_shown(means[best])} of the wanted {goal:g}"
    over_zero, over_fixed = (_gain(scores, RETRIEVAL, name) for name in (ZERO_SHOT, fixed))
    if over_zero.low > 0 and over_fixed.low > 0:
        return TuningVerdict(
            "tune_and_retrieve",
            f"Answers depend on the rows that are at hand: retrieval gains {_signed(over_fixed)} over "
            f"{fixed}, and {reached}. Facts that change: retrieve; tune for form and manner, then measure "
            "both together.",
        )
    gains = {name: _gain(scores, name, ZERO_SHOT) for name in prompting[1:]}
    helping = [name for name, gain in gains.items() if gain.low > 0]
    if helping:
        name = max(helping, key=lambda each: gains[each].value)
        return TuningVerdict(
            "tune",
            f"Examples help ({name}: {_signed(gains[name])}) and do not suffice: {reached}. Tune: what the "
            "examples show can be learned, and prompts get shorter.",
        )
    return TuningVerdict(
        "tune",
        f"Neither examples nor retrieval are shown to help: {reached}. Tune, or take a larger model.",
    )


def _with_tuned(
    scores: Mapping[str, Sequence[float]],
    means: Mapping[str, Interval],
    prompting: list[str],
    tuned: list[str],
    enough: str,
) -> TuningVerdict:
    name = tuned[0]
    if len(tuned) > 1 and _gain(scores, tuned[1], tuned[0]).low > 0:
        name = tuned[1]
    best = max(prompting, key=lambda each: means[each].value)
    gain = _gain(scores, name, best)
    solved = f" {enough} is enough without it ({_shown(means[enough])})." if enough else ""
    if gain.low > 0:
        action: TuningAction = "tune_and_retrieve" if name == TUNED_RETRIEVAL else "tune"
        return TuningVerdict(
            action, f"Tuning pays: {name} gains {_signed(gain)} over the best prompt ({best}).{solved}"
        )
    actions: dict[str, TuningAction] = {ZERO_SHOT: "keep_prompting", RETRIEVAL: "retrieve"}
    if gain.high < 0:
        return TuningVerdict(
            actions.get(best, "few_shot"),
            f"{best} is better than {name} by {_signed(Interval(-gain.value, -gain.high, -gain.low))}: do "
            "not use the tuned model for this.",
        )
    if enough:
        return TuningVerdict(
            actions.get(enough, "few_shot"), f"Tuning is not shown to gain anything.{solved}"
        )
    return TuningVerdict(
        "undecided",
        f"{name} is not shown to differ from {best} ({_signed(gain)}): decide by the tokens of a prompt and "
        "the time of an answer, or measure more rows (--limit).",
    )


def _gain(scores: Mapping[str, Sequence[float]], name: str, over: str) -> Interval:
    found = compare(list(zip(scores[over], scores[name], strict=True))).difference
    assert found is not None
    return found


def _shown(score: Interval) -> str:
    return format.interval(score.value, score.low, score.high)


def _signed(gain: Interval) -> str:
    return f"{gain.value:+.2f} ({gain.low:+.2f} to {gain.high:+.2f})"


# --- as text --------------------------------------------------------------------------------------------


def method_table(found: TuningAdvice) -> list[tuple[str, ...]]:
    """The methods as lines of a table, the first with the heads. Costs have a column where they are known."""
    heads = ("method", "score, 95% interval", "gain", "prompt tok", "answer tok", "s/answer", "cost/1,000")
    lines = [heads, *(_cells(method, found.currency) for method in found.methods)]
    has_cost = any(method.cost is not None for method in found.methods)
    return lines if has_cost else [line[:-1] for line in lines]


def _cells(method: Method, currency: str) -> tuple[str, ...]:
    return (
        method.name,
        _shown(method.score),
        "" if method.gain is None else _signed(method.gain),
        f"{method.prompt_tokens:,.0f}",
        f"{method.answer_tokens:,.0f}",
        "" if method.seconds is None else format.decimal(method.seconds, 2 if method.seconds < 10 else 0),
        "" if method.cost is None else format.money(method.cost * 1000, currency),
    )
