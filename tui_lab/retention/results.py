"""The result of a suite: every item's scores before and after, and the comparison as a whole and by category.

``tui-lab retention --json`` prints it and a run's folder stores it as ``retention/<suite>.json``. This
module builds the record from scores and reads it back. JSON has no NaN and no infinities: files have them as
strings. No torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import msgspec

from tui_lab.core import input_files
from tui_lab.core.errors import LabError
from tui_lab.core.records import from_plain
from tui_lab.core.sanitize import sanitize
from tui_lab.retention import statistics
from tui_lab.retention.scoring import metrics
from tui_lab.retention.scoring.metrics import ItemScore, Metric
from tui_lab.retention.statistics import Interval, Paired
from tui_lab.retention.suites import records
from tui_lab.retention.suites.records import Suite
from tui_lab.retention.verdict import THRESHOLD, Verdict, deciding, judge_interval, judge_paired

VERSION = 1
#: The largest file that is read; a whole benchmark takes a few tens of MB.
MAX_BYTES = 1 << 28


class AnswerScore(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One model's score on one item; see :class:`~tui_lab.retention.scoring.metrics.ItemScore`."""

    loglikelihoods: list[float]
    predicted: int
    predicted_norm: int
    correct: bool | None
    tokens: list[int]
    text: str = ""
    words: int = 0
    bytes: int = 0
    cut: int = 0


class ItemResult(msgspec.Struct, kw_only=True):
    """One item of a suite with its scores before and after."""

    id: str
    category: str = ""
    question: str = ""
    choices: list[str] = []
    answer: list[int] = []
    base: AnswerScore
    tuned: AnswerScore | None = None

    @property
    def is_lost(self) -> bool:
        """Whether it was right before and is wrong now."""
        return self.tuned is not None and self.base.correct is True and self.tuned.correct is False

    @property
    def is_gained(self) -> bool:
        """Whether it was wrong before and is right now."""
        return self.tuned is not None and self.base.correct is False and self.tuned.correct is True


class SuiteComparison(msgspec.Struct):
    """Before and after on the same items.

    ``a``, ``b``, ``c``, ``d`` count items that stayed right, were lost, were gained and stayed wrong; ``n``
    is their sum. ``difference`` is post − pre, for perplexity the difference of cross-entropies in nats a
    token."""

    metric: str
    threshold: float
    pre: float
    post: float
    a: int
    b: int
    c: int
    d: int
    n: int
    retention: Interval
    above_chance: Interval | None
    difference: Interval
    mcnemar_p: float
    verdict: str
    sentence: str

    @property
    def headline(self) -> Interval:
        """The retention that decides; see :func:`~tui_lab.retention.verdict.deciding`."""
        return deciding(self.verdict, self.retention, self.above_chance)

    @property
    def counts(self) -> Paired:
        """The paired counts."""
        return Paired(self.n, self.a, self.b, self.c, self.d)


class HeldBackResult(msgspec.Struct):
    """The comparison on the categories that replay never rehearses."""

    categories: list[str]
    comparison: SuiteComparison | None


class SuiteResult(msgspec.Struct, kw_only=True):
    """The result of one suite; ``tuned`` and ``comparison`` are None for a model by itself."""

    v: int
    suite: str
    title: str = ""
    version: str
    sha256: str = ""
    kind: str
    metric: str
    chance: float | None = None
    n: int
    model: str
    revision: str = ""
    quantization: str = "none"
    dtype: str = ""
    adapter: str | None = None
    versions: dict[str, str] = {}
    seconds: float = 0.0
    base: dict[str, Metric]
    tuned: dict[str, Metric] | None = None
    items: list[ItemResult]
    comparison: SuiteComparison | None = None
    categories: dict[str, SuiteComparison] = {}
    held_back: HeldBackResult | None = None
    warnings: list[str]


@dataclass(frozen=True)
class MeasurementInfo:
    """What was measured, and how; ``adapter`` is None for a model by itself."""

    model: str
    revision: str = ""
    quantization: str = "none"
    dtype: str = "float32"
    adapter: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0


def build(
    suite: Suite,
    info: MeasurementInfo,
    base: Sequence[ItemScore],
    tuned: Sequence[ItemScore] | None = None,
    threshold: float = THRESHOLD,
    warnings: Sequence[str] = (),
) -> SuiteResult:
    """The result of a suite from the scores of its items, which are in the suite's order. ``threshold``: the
    share of retention that the verdict compares with. Raises ValueError for another number of scores."""
    base_scores = _answer_scores(suite, base)
    tuned_scores = _answer_scores(suite, tuned) if tuned is not None else [None] * len(base)
    return SuiteResult(
        v=VERSION,
        suite=suite.name,
        title=suite.title,
        version=suite.version,
        sha256=suite.sha256,
        kind=suite.kind,
        metric=suite.metric,
        chance=suite.chance,
        n=len(suite.items),
        **{**asdict(info), "versions": dict(info.versions)},
        base=metrics.metrics(suite, base),
        tuned=metrics.metrics(suite, tuned) if tuned is not None else None,
        items=[
            ItemResult(
                id=item.id,
                category=item.category,
                question=item.question,
                choices=list(item.choices or item.continuations) if suite.kind != "perplexity" else [],
                answer=list(item.answers),
                base=before,
                tuned=after,
            )
            for item, before, after in zip(suite.items, base_scores, tuned_scores, strict=True)
        ],
        comparison=compare(suite, base, tuned, threshold) if tuned is not None else None,
        categories=compare_categories(suite, base, tuned, threshold) if tuned is not None else {},
        held_back=compare_held_back(suite, base, tuned, threshold),
        warnings=[*suite.warnings, *warnings, *_warnings(suite, base)],
    )


def _answer_scores(suite: Suite, scores: Sequence[ItemScore]) -> list[AnswerScore]:
    right: Sequence[bool | None] = metrics.correct(suite, scores) or [None] * len(scores)
    return [
        AnswerScore(
            loglikelihoods=list(score.loglikelihoods),
            predicted=score.predicted,
            predicted_norm=score.predicted_norm,
            correct=is_right,
            tokens=list(score.tokens),
            text=score.extra.get("text", ""),
            words=score.extra.get("words", 0),
            bytes=score.extra.get("bytes", 0),
            cut=score.extra.get("cut", 0),
        )
        for score, is_right in zip(scores, right, strict=True)
    ]


def _warnings(suite: Suite, base: Sequence[ItemScore]) -> list[str]:
    cut = [score.id for score in base if score.extra.get("cut")]
    not_finite = [score.id for score in base if not all(map(math.isfinite, score.loglikelihoods))]
    found = []
    if cut:
        found.append(
            f"{len(cut):,} of {len(base):,} items of {suite.name} are longer than the model's context and "
            f"lost their beginning, as in lm-evaluation-harness (the first: {sanitize(cut[0])[:80]})"
        )
    if not_finite:
        found.append(
            f"on {len(not_finite):,} items of {suite.name} the base's log-likelihoods are not finite; they "
            "count as wrong"
        )
    return found


# --- comparisons --------------------------------------------------------------------------------------


def compare(
    suite: Suite, before: Sequence[ItemScore], after: Sequence[ItemScore], threshold: float = THRESHOLD
) -> SuiteComparison:
    """Before and after on the same items, by the suite's metric. Documents are not right or wrong: all their
    counts are 0. Raises ValueError where the scores are of different numbers of items."""
    pre, post = (metrics.metrics(suite, scores)[suite.metric] for scores in (before, after))
    right = (metrics.correct(suite, before), metrics.correct(suite, after))
    counts = statistics.paired(*right)
    change = statistics.difference(counts)
    retained: Interval | None = None
    if suite.metric == "perplexity":
        retained, change, verdict = _perplexity(before, after, pre.value, threshold)
    elif suite.metric in ("mc2", "answer_f1", *metrics.TABLE_METRICS):
        retained, change, verdict = _by_bootstrap(suite, before, after, pre, change, threshold)
    else:
        verdict = judge_paired(counts, suite.chance, threshold)
    return SuiteComparison(
        metric=suite.metric,
        threshold=threshold,
        pre=pre.value,
        post=post.value,
        a=counts.a,
        b=counts.b,
        c=counts.c,
        d=counts.d,
        n=len(before),
        retention=retained or verdict.retention,
        above_chance=verdict.above_chance,
        difference=change,
        mcnemar_p=verdict.mcnemar_p,
        verdict=verdict.colour,
        sentence=verdict.sentence,
    )


def _perplexity(
    before: Sequence[ItemScore], after: Sequence[ItemScore], pre: float, threshold: float
) -> tuple[Interval, Interval, Verdict]:
    was, now = ([-score.loglikelihoods[0] for score in scores] for scores in (before, after))
    retained = statistics.bootstrap_perplexity(was, now, [score.tokens[0] for score in before])
    change = Interval(*(-_log(value) for value in (retained.value, retained.high, retained.low)))
    return retained, change, judge_interval(retained, pre, 0.0, None, threshold, len(before))


def _by_bootstrap(
    suite: Suite,
    before: Sequence[ItemScore],
    after: Sequence[ItemScore],
    pre: Metric,
    flips: Interval,
    threshold: float,
) -> tuple[Interval, Interval, Verdict]:
    """Retention, difference and verdict by a metric that is no share of right answers; ``flips`` is the
    difference by flips, which has a width where no value changed."""
    if suite.metric in metrics.TABLE_METRICS:
        truth = [item.answers[0] for item in suite.items]
        guesses = [[score.predicted for score in scores] for scores in (before, after)]
        measure, classes = metrics.TABLE_METRICS[suite.metric], metrics.classes_of(suite)
        retained, change = statistics.bootstrap_tables(truth, guesses[0], guesses[1], measure, classes)
        # guessing has an MCC of 0; F1 has no level of chance of its own
        chance = 0.0 if suite.metric == "mcc" else None
        verdict = judge_interval(retained, pre.value, pre.se, chance, threshold, len(before))
        return retained, change, verdict
    was, now = (metrics.item_values(suite, scores) for scores in (before, after))
    changes = [new - old for old, new in zip(was, now, strict=True)]
    change = statistics.mean_interval(changes) if any(changes) else flips
    above = statistics.bootstrap_ratio(was, now, suite.chance or 0.0)
    verdict = judge_interval(above, pre.value, pre.se, suite.chance, threshold, len(before))
    return statistics.bootstrap_ratio(was, now), change, verdict


def _log(value: float) -> float:
    if math.isnan(value):
        return math.nan
    return math.inf if value == math.inf else math.log(value) if value > 0 else -math.inf


def compare_categories(
    suite: Suite, before: Sequence[ItemScore], after: Sequence[ItemScore], threshold: float = THRESHOLD
) -> dict[str, SuiteComparison]:
    """The comparison of each category by itself; empty where there is only one."""
    if len(suite.categories) < 2:
        return {}
    return {name: _compare_part({name}, suite, before, after, threshold) for name in suite.categories}


def compare_held_back(
    suite: Suite, before: Sequence[ItemScore], after: Sequence[ItemScore] | None, threshold: float = THRESHOLD
) -> HeldBackResult | None:
    """The comparison on the categories that replay never rehearses; None for a suite without such."""
    names = {item.category for item in suite.items} & set(suite.held_back)
    if not names:
        return None
    compared = _compare_part(names, suite, before, after, threshold) if after is not None else None
    return HeldBackResult(sorted(names), compared)


def _compare_part(
    names: set[str],
    suite: Suite,
    before: Sequence[ItemScore],
    after: Sequence[ItemScore],
    threshold: float,
) -> SuiteComparison:
    at = [n for n, item in enumerate(suite.items) if item.category in names]
    items = tuple(suite.items[n] for n in at)
    has_choices = suite.kind == "choice" and suite.metric in ("acc", "acc_norm", "mc2", "answer_f1")
    chance = records.chance_of(items) if has_choices else suite.chance
    part = replace(suite, items=items, chance=chance)
    return compare(part, [before[n] for n in at], [after[n] for n in at], threshold)


# --- scores of items, line by line --------------------------------------------------------------------


def score_record(score: ItemScore) -> dict[str, object]:
    """A score as one JSON object, for a file that grows during an evaluation."""
    return asdict(score)


def score_of(value: object) -> ItemScore | None:
    """The score in such an object; None where it is damaged."""
    try:
        return msgspec.convert(value, ItemScore, strict=False)
    except msgspec.ValidationError:
        return None


def valid_scores(suite: Suite, scores: Mapping[str, ItemScore]) -> dict[str, ItemScore]:
    """The scores, by item id, that have the shape that the suite's items need."""
    found = {}
    for item in suite.items:
        score = scores.get(item.id)
        if score is None:
            continue
        wanted = 0 if suite.kind == "generate" else len(item.continuations)
        complete = {"generate": {"text"}, "perplexity": {"words", "bytes"}}.get(suite.kind, set())
        if len(score.loglikelihoods) == wanted == len(score.tokens) and complete <= set(score.extra):
            found[item.id] = score
    return found


# --- files --------------------------------------------------------------------------------------------


def read_object(path: Path) -> dict[str, object]:
    """The JSON object in a result file of at most MAX_BYTES. Raises LabError with one sentence."""
    shown = sanitize(str(path))
    try:
        if path.stat().st_size > MAX_BYTES:
            raise LabError(f"{shown} is too large to be a retention result; measure again")
        value = input_files.read_json(path, MAX_BYTES)
    except OSError as error:
        raise LabError(f"{shown} cannot be read ({error.strerror}); measure again") from None
    except ValueError:
        raise LabError(f"{shown} is damaged: it is not valid JSON; measure again") from None
    if not isinstance(value, dict):
        raise LabError(f"{shown} is no retention result of this version of the lab; measure again")
    return value


def read(path: Path) -> SuiteResult:
    """The result of a suite from its file. Raises LabError with one sentence."""
    shown, value = sanitize(str(path)), read_object(path)
    if value.get("v") != VERSION:
        raise LabError(f"{shown} is no retention result of this version of the lab; measure again")
    try:
        return from_plain(value, SuiteResult, f"{shown} is damaged")
    except LabError as error:
        raise LabError(f"{error}; measure again") from None
