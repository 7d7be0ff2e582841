"""The preview of a mixture: each data set as by itself, and what the run takes of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from tui_lab.data import mixture
from tui_lab.data.preview_records import MOST_LENGTHS, PreviewAnswer, PreviewFacts, PreviewRequest
from tui_lab.data.source_counts import SourceCounts
from tui_lab.recipes.mixture import Part

_SUMS = (
    "rows", "rows_read", "rows_bad", "rows_empty", "sampled_rows", "longer_than_max_length",
    "refused_by_template", "system_folded", "held_out_rows", "removed", "cut", "windowed", "too_long",
    "fully_masked",
)  # fmt: skip


def combined(
    request: PreviewRequest, parts: Sequence[Part], answers: Sequence[PreviewAnswer]
) -> PreviewAnswer:
    """The answer for a mixture, from those for its sets."""
    names = [Path(part.name).name for part in parts]
    facts = [answer.facts for answer in answers]
    weights = [part.weight for part in parts]
    amounts = [each.train_rows if request.mixture_by == "rows" else each.trained_tokens for each in facts]
    usable = all(amounts)
    targets = mixture.targets(amounts, weights, request.mixture_sampling) if usable else amounts
    shares = [target / amount if amount else 0.0 for target, amount in zip(targets, amounts, strict=True)]
    sources = [
        SourceCounts(
            name=part.name,
            weight=part.weight / sum(weights),
            format=answer.format,
            rows_read=answer.facts.rows_read,
            rows_usable=answer.facts.train_rows,
            train_rows=round(answer.facts.train_rows * share),
            train_trained_tokens=round(answer.facts.trained_tokens * share),
            validation_rows=answer.facts.held_out_rows,
        )
        for part, answer, share in zip(parts, answers, shares, strict=True)
    ]
    how = f"a mixture by {request.mixture_by}, sampled {request.mixture_sampling}"
    named = list(zip(names, answers, strict=True))
    return PreviewAnswer(
        data=request.data,
        format=" + ".join(dict.fromkeys(answer.format for answer in answers)),
        reason=f"{how}: " + "; ".join(f"{name} ({answer.reason})" for name, answer in named),
        facts=_facts(facts, sources, shares),
        warnings=[f"{name}: {text}" for name, answer in named for text in answer.warnings],
        start=request.start,
        rows=[
            msgspec.structs.replace(row, place=f"{name}, {row.place}")
            for name, answer in named
            for row in answer.rows
        ],
        columns={
            f"{name}: {column}": use for name, answer in named for column, use in answer.columns.items()
        },
        unused=[f"{name}: {column}" for name, answer in named for column in answer.unused],
        sources=sources,
    )


def _facts(
    facts: Sequence[PreviewFacts], sources: Sequence[SourceCounts], shares: Sequence[float]
) -> PreviewFacts:
    """The counts of the mixture, from those of its sets and the share that is taken of each."""
    rows = sum(source.train_rows for source in sources)
    trained = sum(source.train_trained_tokens for source in sources)
    tokens = round(sum(each.train_tokens * share for each, share in zip(facts, shares, strict=True)))
    lengths: list[int] = []
    for each, source in zip(facts, sources, strict=True):
        count = min(len(each.lengths), max(1, MOST_LENGTHS * source.train_rows // max(1, rows)))
        lengths += [each.lengths[at * len(each.lengths) // count] for at in range(count)]
    scorers = {each.scorer for each in facts}
    held_out = [each.validation_rows for each in facts if each.validation_rows is not None]
    sums = {key: sum(int(getattr(each, key)) for each in facts) for key in _SUMS}
    return msgspec.structs.replace(
        facts[0],
        **sums,
        validation_rows=sum(held_out) if held_out else None,
        mean_tokens=round(tokens / rows, 1) if rows else 0.0,
        longest_tokens=max(each.longest_tokens for each in facts),
        lengths=sorted(lengths),
        trained_share=round(trained / max(1, tokens), 4),
        mask_methods=sorted({method for each in facts for method in each.mask_methods}),
        scorer=scorers.pop() if len(scorers) == 1 else None,
        description="; ".join(each.description for each in facts if each.description),
        estimated=any(each.estimated for each in facts),
        train_rows=rows,
        train_tokens=tokens,
        trained_tokens=trained,
        suggested_length=max(each.suggested_length for each in facts),
    )
