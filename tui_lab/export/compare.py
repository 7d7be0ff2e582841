"""Judges an export: :mod:`.check` loads it in a process of its own, and what it computes there is compared
with what the run itself computes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec

from tui_lab.core.errors import LabError
from tui_lab.core.sanitize import sanitize
from tui_lab.core.subprocesses import child_environment
from tui_lab.data import row_tokens, templates
from tui_lab.data.masks import template_variables
from tui_lab.export import check, records
from tui_lab.export.check import CheckAnswer, CheckSpec, Tokenizer
from tui_lab.export.records import Divergence, ExportCheck
from tui_lab.export.source import CONVERSATIONS, TEXTS

#: The largest accepted difference from the run's unrounded weights: root mean square over the standard
#: deviation of the logits, and mean KL in nats per token. The bundled model in bfloat16 has 3e-3 and 3e-5.
TOLERANCE = {"float32": (1e-3, 1e-5), "bfloat16": (0.1, 0.02), "float16": (0.1, 0.02)}


@dataclass(frozen=True)
class Expected:
    """What the export must reproduce. ``answers`` are the run's greedy token ids; ``rows`` counts the texts
    that were read, validation rows if ``held_out``; ``dtype`` is the coarser of the computed and the saved
    one; ``separate_base``: the export stands on a base model that is loaded from elsewhere."""

    tokenizer: Tokenizer
    rows: int
    held_out: bool
    answers: Sequence[Sequence[int]]
    dtype: str
    separate_base: bool
    tied: bool


def template_settings(tokenizer: Tokenizer) -> dict[str, bool]:
    """The run's thinking setting, by the names that chat templates read."""
    thinking = templates.settings_of(tokenizer).thinking
    return {name: bool(value) for name, value in template_variables(thinking, None).items()}


def run_check(spec: CheckSpec, work: Path) -> CheckAnswer:
    """Runs :mod:`.check` as a program of its own. Raises LabError."""
    place = work / "spec.json"
    place.write_text(json.dumps(asdict(spec)), encoding="utf-8")
    # -P keeps the program's own folder, which holds modules of the lab, off the import path
    done = subprocess.run(
        [sys.executable, "-P", check.__file__, str(place)],
        capture_output=True,
        text=True,
        env=child_environment({"HF_HUB_DISABLE_PROGRESS_BARS": "1"}),
    )
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        sys.stderr.write(done.stderr)
        errors = done.stderr.strip().splitlines()
        reason = errors[-1] if errors else f"its check ended with exit status {done.returncode}"
        raise LabError(f"the export could not be loaded again, so it was discarded: {sanitize(reason)[:300]}")
    # the standard library writes and reads NaN, which msgspec's JSON refuses
    return msgspec.convert(json.loads(lines[-1]), CheckAnswer)


def divergence(distance: check.Distance) -> Divergence:
    """The record of a distance that :mod:`.check` measured."""
    return Divergence(**asdict(distance))


def checks(answer: CheckAnswer, expected: Expected) -> Iterator[ExportCheck]:
    """Every check of an export, in the order in which they are reported."""
    yield _loads_alone(answer, expected)
    yield _logits(answer, expected)
    yield _greedy(answer, expected)
    yield _template(answer, expected.tokenizer)
    yield _tokens(answer, expected.tokenizer)
    yield _end_of_turn(answer, expected.tokenizer)
    if answer.tied != expected.tied:
        yield ExportCheck("tied", False, "its output layer is no longer tied to its embeddings")


def _loads_alone(answer: CheckAnswer, expected: Expected) -> ExportCheck:
    complete = not answer.missing and (expected.separate_base or not answer.unexpected)
    if answer.imported:
        return ExportCheck("alone", False, "its check loaded more than transformers and peft")
    if not complete:
        names = sanitize(", ".join([*answer.missing, *answer.unexpected]))[:200]
        return ExportCheck("alone", False, f"weights are missing or unexpected: {names}")
    return ExportCheck("alone", True, "it loads completely in a process with only transformers and peft")


def _logits(answer: CheckAnswer, expected: Expected) -> ExportCheck:
    found = divergence(answer.faithful)
    relative, kl = TOLERANCE[expected.dtype]
    rows = "held-out rows" if expected.held_out else "plain prompts"
    subject = f"against the run's own weights on {expected.rows} {rows}, in {expected.dtype}"
    return ExportCheck(
        "logits",
        found.relative <= relative and found.mean_kl <= kl,
        f"{found.sentence(subject)} (allowed: {relative:g} of their standard deviation, measured "
        f"{records.short_number(found.relative)})",
        **msgspec.structs.asdict(found),
        tolerance_relative=relative,
        tolerance_kl=kl,
    )


def _greedy(answer: CheckAnswer, expected: Expected) -> ExportCheck:
    same = sum(list(a) == list(b) for a, b in zip(answer.answers, expected.answers, strict=True))
    ended = sum(bool(tokens) and tokens[-1] in answer.stop_ids for tokens in answer.answers)
    text = (
        f"greedy answers: {same} of {len(expected.answers)} equal the run's, token for token; {ended} ended "
        "with a stop token"
    )
    return ExportCheck("greedy", True, text, same=same, of=len(expected.answers), ended=ended)


def _template(answer: CheckAnswer, tokenizer: Tokenizer) -> ExportCheck:
    ours = check.render(tokenizer, CONVERSATIONS, template_settings(tokenizer))
    equal = ours == answer.rendered
    return ExportCheck(
        "template",
        equal and any(text is not None for text in ours),
        f"its chat template renders {len(CONVERSATIONS)} conversations as the run's does, with and without "
        "the prompt for an answer, byte for byte"
        if equal
        else "its chat template renders conversations differently",
        renderings=len(ours),
    )


def _tokens(answer: CheckAnswer, tokenizer: Tokenizer) -> ExportCheck:
    tokens = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in TEXTS]
    equal = tokens == answer.tokens
    return ExportCheck("tokens", equal, f"its tokenizer splits text {'as' if equal else 'unlike'} the run's")


def _end_of_turn(answer: CheckAnswer, tokenizer: Tokenizer) -> ExportCheck:
    names = [sanitize(str(tokenizer.convert_ids_to_tokens(stop))) for stop in answer.stop_ids]
    stops = all(length == check.FORCED_AT for length in answer.forced.values())
    complete = set(row_tokens.stop_ids(tokenizer)) <= set(answer.stop_ids)
    return ExportCheck(
        "end_of_turn",
        stops and complete,
        f"{' or '.join(names) or 'nothing'} ends an answer"
        if stops and complete
        else "the end of a turn does not end an answer",
        stop_ids=answer.stop_ids,
    )
