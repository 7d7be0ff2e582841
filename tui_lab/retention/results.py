"""The one object that an evaluation gives, as `tui-lab retention --json` prints it and a run's folder keeps
it: what was measured with what, every item's scores before and after, and the comparison as a whole and by
category. Builds it from scores, and reads it back from files that anything may have happened to. No torch.

JSON has no infinities; they stand in files as strings and are numbers again once read."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from tui_lab.core.errors import LabError
from tui_lab.core.records import jsonable
from tui_lab.core.sanitize import sanitize
from tui_lab.retention import statistics
from tui_lab.retention.scoring import metrics
from tui_lab.retention.scoring.metrics import ItemScore
from tui_lab.retention.statistics import Interval, Paired
from tui_lab.retention.suites import records
from tui_lab.retention.suites.records import Suite
from tui_lab.retention.verdict import THRESHOLD, Verdict, judge, judge_interval

VERSION = 1
#: A whole benchmark is a few tens of MB; what is larger is none of ours.
MOST_BYTES = 1 << 28
_NO_NUMBERS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
#: Keys whose values are numbers.
_FIGURES = frozenset(("value", "low", "high", "se", "pre", "post", "mcnemar_p", "chance", "seconds"))
#: What every reader relies on.
_NEEDED = ("suite", "version", "kind", "metric", "n", "model", "base", "items", "warnings")


@dataclass(frozen=True)
class Facts:
    """What was measured, and how; `adapter` is None for a model by itself."""

    model: str
    revision: str = ""
    quantization: str = "none"
    dtype: str = "float32"
    adapter: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0


def build(
    suite: Suite,
    facts: Facts,
    base: Sequence[ItemScore],
    tuned: Sequence[ItemScore] | None = None,
    threshold: float = THRESHOLD,
    warnings: Sequence[str] = (),
) -> dict[str, Any]:
    """The result of one suite; scores are in the suite's order."""
    entries = (_entries(suite, base), _entries(suite, tuned) if tuned is not None else None)
    return {
        "v": VERSION,
        "suite": suite.name,
        "title": suite.title,
        "version": suite.version,
        "sha256": suite.sha256,
        "kind": suite.kind,
        "metric": suite.metric,
        "chance": suite.chance,
        "n": len(suite.items),
        **asdict(facts),
        "versions": dict(facts.versions),
        "base": _metrics(suite, base),
        "tuned": _metrics(suite, tuned) if tuned is not None else None,
        "items": [
            {
                "id": item.id,
                "category": item.category,
                "question": item.question,
                "choices": list(item.choices or item.continuations) if suite.kind != "perplexity" else [],
                "answer": list(item.answers),
                "base": entries[0][at],
                "tuned": entries[1][at] if entries[1] is not None else None,
            }
            for at, item in enumerate(suite.items)
        ],
        "comparison": comparison(suite, base, tuned, threshold) if tuned is not None else None,
        "categories": categories(suite, base, tuned, threshold) if tuned is not None else {},
        "held_back": held_back(suite, base, tuned, threshold),
        "warnings": [*suite.warnings, *warnings, *_warnings(suite, base)],
    }


def _metrics(suite: Suite, scores: Sequence[ItemScore]) -> dict[str, dict[str, float]]:
    return {name: asdict(metric) for name, metric in metrics.metrics(suite, scores).items()}


def _entries(suite: Suite, scores: Sequence[ItemScore]) -> list[dict[str, Any]]:
    right: Sequence[bool | None] = metrics.correct(suite, scores) or [None] * len(scores)
    return [
        {
            "loglikelihoods": list(score.loglikelihoods),
            "predicted": score.predicted,
            "predicted_norm": score.predicted_norm,
            "correct": is_right,
            "tokens": list(score.tokens),
            **{key: score.extra[key] for key in ("text", "words", "bytes", "cut") if key in score.extra},
        }
        for score, is_right in zip(scores, right, strict=True)
    ]


def _warnings(suite: Suite, base: Sequence[ItemScore]) -> list[str]:
    cut = [score.id for score in base if score.extra.get("cut")]
    lost = [score.id for score in base if not all(map(math.isfinite, score.loglikelihoods))]
    found = []
    if cut:
        found.append(
            f"{len(cut):,} of {len(base):,} items of {suite.name} are longer than the model's context and "
            f"lost their beginning, as in lm-evaluation-harness (the first: {sanitize(cut[0])[:80]})"
        )
    if lost:
        found.append(
            f"on {len(lost):,} items of {suite.name} the base's log-likelihoods are no numbers; they count "
            "as wrong"
        )
    return found


# --- comparisons --------------------------------------------------------------------------------------


def comparison(
    suite: Suite, before: Sequence[ItemScore], after: Sequence[ItemScore], threshold: float = THRESHOLD
) -> dict[str, Any]:
    """Before and after on the same items, judged by the suite's metric. Of documents, which are not right or
    wrong, the flips are 0 and the difference is that of the cross-entropies, in nats a token."""
    pre, post = (metrics.metrics(suite, scores)[suite.metric] for scores in (before, after))
    right = (metrics.correct(suite, before), metrics.correct(suite, after))
    counts = statistics.paired(*right)
    change = statistics.difference(counts)
    kept: Interval | None = None
    if suite.metric == "perplexity":
        kept, change, verdict = _perplexity(before, after, pre.value, threshold)
    elif suite.metric in ("mc2", "mcc", "f1"):
        kept, verdict = _by_bootstrap(suite, before, after, pre.value, pre.se, threshold)
        change = Interval(post.value - pre.value, change.low, change.high)
        if suite.metric != "mc2":  # a correlation's change is no share of flips
            change = Interval(change.value, -math.inf, math.inf)
    else:
        verdict = judge(counts, suite.chance, threshold)
    return {
        "metric": suite.metric,
        "threshold": threshold,
        "pre": pre.value,
        "post": post.value,
        **{name: getattr(counts, name) for name in "abcd"},
        "n": len(before),
        "retention": asdict(kept or verdict.retention),
        "above_chance": asdict(verdict.above_chance) if verdict.above_chance is not None else None,
        "difference": asdict(change),
        "mcnemar_p": verdict.mcnemar_p,
        "verdict": verdict.colour,
        "sentence": verdict.sentence,
    }


def _perplexity(
    before: Sequence[ItemScore], after: Sequence[ItemScore], pre: float, threshold: float
) -> tuple[Interval, Interval, Verdict]:
    was, now = ([-score.loglikelihoods[0] for score in scores] for scores in (before, after))
    kept = statistics.bootstrap_perplexity(was, now, [score.tokens[0] for score in before])
    change = Interval(*(-_log(value) for value in (kept.value, kept.high, kept.low)))
    return kept, change, judge_interval(kept, pre, 0.0, None, threshold, len(before))


def _by_bootstrap(
    suite: Suite,
    before: Sequence[ItemScore],
    after: Sequence[ItemScore],
    pre: float,
    pre_se: float,
    threshold: float,
) -> tuple[Interval, Verdict]:
    if suite.metric == "mc2":
        shares = [metrics.true_shares(suite, scores) for scores in (before, after)]
        kept = statistics.bootstrap_ratio(shares[0], shares[1])
        above = statistics.bootstrap_ratio(shares[0], shares[1], suite.chance or 0.0)
        return kept, judge_interval(above, pre, pre_se, suite.chance, threshold, len(before))
    measure = metrics.mcc if suite.metric == "mcc" else metrics.f1
    truth = [item.answers[0] for item in suite.items]
    guesses = [[score.predicted for score in scores] for scores in (before, after)]
    kept = statistics.bootstrap_tables(truth, guesses[0], guesses[1], measure)
    # guessing has an MCC of 0; F1 has no level of chance of its own
    chance = 0.0 if suite.metric == "mcc" else None
    return kept, judge_interval(kept, pre, pre_se, chance, threshold, len(before))


def _log(value: float) -> float:
    if math.isnan(value):
        return math.nan
    return math.inf if value == math.inf else math.log(value) if value > 0 else -math.inf


def categories(
    suite: Suite, before: Sequence[ItemScore], after: Sequence[ItemScore], threshold: float = THRESHOLD
) -> dict[str, dict[str, Any]]:
    """The same comparison of each category by itself; none where there is only one."""
    if len(suite.categories) < 2:
        return {}
    return {name: _part({name}, suite, before, after, threshold) for name in suite.categories}


def held_back(
    suite: Suite, before: Sequence[ItemScore], after: Sequence[ItemScore] | None, threshold: float = THRESHOLD
) -> dict[str, Any] | None:
    """The comparison on those categories together that replay never rehearses; None for suites without."""
    names = {item.category for item in suite.items} & set(suite.held_back)
    if not names:
        return None
    compared = _part(names, suite, before, after, threshold) if after is not None else None
    return {"categories": sorted(names), "comparison": compared}


def _part(
    names: set[str],
    suite: Suite,
    before: Sequence[ItemScore],
    after: Sequence[ItemScore],
    threshold: float,
) -> dict[str, Any]:
    at = [n for n, item in enumerate(suite.items) if item.category in names]
    items = tuple(suite.items[n] for n in at)
    by_guessing = suite.kind == "choice" and suite.metric in ("acc", "acc_norm", "mc2")
    chance = records.chance_of(items) if by_guessing else suite.chance
    part = replace(suite, items=items, chance=chance)
    return comparison(part, [before[n] for n in at], [after[n] for n in at], threshold)


def counts(compared: Mapping[str, Any]) -> Paired:
    """The paired counts of a comparison that was read."""
    return Paired(*(int(compared[name]) for name in ("n", "a", "b", "c", "d")))


# --- scores of items, line by line --------------------------------------------------------------------


def record(score: ItemScore) -> dict[str, Any]:
    """A score as one JSON object, so that an evaluation can be written while it goes on."""
    return asdict(replace(score, extra=dict(score.extra)))


def score_of(value: Any) -> ItemScore | None:
    """The score that such an object holds; None where it is damaged."""
    try:
        return ItemScore(
            id=str(value["id"]),
            loglikelihoods=tuple(map(float, value["loglikelihoods"])),
            predicted=int(value["predicted"]),
            predicted_norm=int(value["predicted_norm"]),
            tokens=tuple(map(int, value["tokens"])),
            extra=dict(value["extra"]),
        )
    except (TypeError, KeyError, ValueError, OverflowError):
        return None


def fits(suite: Suite, scores: Mapping[str, ItemScore]) -> dict[str, ItemScore]:
    """Those scores that can be of this suite's items: what a damaged file brings in besides is left out."""
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


def text_of(result: Mapping[str, Any]) -> str:
    """A result as it is written: strict JSON on one line."""
    return json.dumps(jsonable(result), ensure_ascii=True, allow_nan=False) + "\n"


def read(path: Path) -> dict[str, Any]:
    """A result that was written. Raises LabError in one sentence for whatever else the file may hold."""
    shown = sanitize(str(path))
    try:
        if path.stat().st_size > MOST_BYTES:
            raise LabError(f"{shown} is too large to be a retention result; measure again")
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise LabError(f"{shown} cannot be read ({error.strerror}); measure again") from None
    except (ValueError, RecursionError):
        raise LabError(f"{shown} is damaged: it is not valid JSON; measure again") from None
    if not isinstance(value, dict) or value.get("v") != VERSION:
        raise LabError(f"{shown} is no retention result of this version of the lab; measure again")
    missing = [key for key in _NEEDED if key not in value]
    if missing:
        raise LabError(f"{shown} is damaged: it has no {', '.join(missing)}; measure again")
    if not isinstance(value["items"], list) or not all(isinstance(item, dict) for item in value["items"]):
        raise LabError(f"{shown} is damaged: its items are no list of objects; measure again")
    if not isinstance(value["base"], dict):
        raise LabError(f"{shown} is damaged: its base has no metrics; measure again")
    return {key: item if key == "items" else _numbers(item) for key, item in value.items()} | {
        "items": [_item_numbers(item) for item in value["items"]]
    }


def _numbers(value: Any) -> Any:
    """Figures (value, low, high, se …) that stand as strings are numbers again; other strings stay."""
    if isinstance(value, dict):
        return {
            key: _NO_NUMBERS.get(item, item) if isinstance(item, str) and key in _FIGURES else _numbers(item)
            for key, item in value.items()
        }
    return value


def _item_numbers(item: dict[str, Any]) -> dict[str, Any]:
    for side in ("base", "tuned"):
        entry = item.get(side)
        if isinstance(entry, dict) and isinstance(entry.get("loglikelihoods"), list):
            values = [_NO_NUMBERS.get(v, v) if isinstance(v, str) else v for v in entry["loglikelihoods"]]
            item = {**item, side: {**entry, "loglikelihoods": values}}
    return item
