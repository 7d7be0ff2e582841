"""What the check of an export comes to: an export is loaded in a process that has only transformers and peft
(:mod:`.export_check`), and what it answers there is judged against what the run itself answers."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tui_lab.core.errors import LabError
from tui_lab.core.sanitize import sanitize
from tui_lab.core.subprocesses import child_environment
from tui_lab.data import templates
from tui_lab.data.masks import TEMPLATE_SETTINGS
from tui_lab.export import check, request
from tui_lab.export.source import CONVERSATIONS, TEXTS

#: What an export may differ from the run's own unrounded weights: root mean square over the spread of the
#: logits, and mean KL in nats a token. The bundled model in bfloat16 differs by 3e-3 and 3e-5.
TOLERANCE = {"float32": (1e-3, 1e-5), "bfloat16": (0.1, 0.02), "float16": (0.1, 0.02)}


@dataclass(frozen=True)
class Check:
    """One check: its sentence says what was found, whether it passed or not."""

    name: str
    passed: bool
    text: str
    figures: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Expected:
    """What the export is held to. ``answers`` are the run's greedy ones (token ids), ``rows`` how many texts
    of the run's (``held_out``) or plain ones were read, ``dtype`` the coarser of what was computed and what
    was saved, ``beside``: the export stands on a base that lies elsewhere."""

    tokenizer: Any
    rows: int
    held_out: bool
    answers: Sequence[Sequence[int]]
    dtype: str
    beside: bool
    tied: bool


def run_check(spec: dict[str, Any], work: Path) -> dict[str, Any]:
    """Carries :mod:`.export_check` out as a program of its own; its answer. Raises LabError."""
    place = work / "spec.json"
    place.write_text(json.dumps(spec), encoding="utf-8")
    # its own folder is not put on the path: modules of the lab lie there
    done = subprocess.run(
        [sys.executable, "-P", check.__file__, str(place)],
        capture_output=True,
        text=True,
        env=child_environment({"HF_HUB_DISABLE_PROGRESS_BARS": "1"}),
    )
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        sys.stderr.write(done.stderr)
        said = done.stderr.strip().splitlines()
        raise LabError(
            "the export could not be loaded again, so it is not kept: "
            + sanitize(said[-1] if said else f"its check ended with exit status {done.returncode}")[:300]
        )
    answer = json.loads(lines[-1])
    assert isinstance(answer, dict)
    return answer


def checks(found: dict[str, Any], expected: Expected) -> Iterator[Check]:
    """Every check of what :func:`run_check` answered, in the order in which they are told."""
    yield _alone(found, expected)
    yield _logits(found, expected)
    same = sum(list(a) == list(b) for a, b in zip(found["answers"], expected.answers, strict=True))
    ended = sum(bool(answer) and answer[-1] in found["stop_ids"] for answer in found["answers"])
    yield Check(
        "greedy",
        True,
        f"greedy answers: {same} of {len(expected.answers)} are the run's, token for token; {ended} ended "
        "themselves",
        {"same": same, "of": len(expected.answers), "ended": ended},
    )
    yield from _text(found, expected.tokenizer)
    if found["tied"] != expected.tied:
        yield Check("tied", False, "its output layer is no longer tied to its embeddings")


def _alone(found: dict[str, Any], expected: Expected) -> Check:
    alone = not found["imported"]
    return Check(
        "alone",
        alone and not found["missing"] and (expected.beside or not found["unexpected"]),
        "it loads whole in a process with only transformers and peft"
        if alone
        else "its check loaded more than transformers and peft",
    )


def _logits(found: dict[str, Any], expected: Expected) -> Check:
    near = found["faithful"]
    where = "held-out rows" if expected.held_out else "plain prompts"
    relative, kl = TOLERANCE[expected.dtype]
    against = f"against the run's own weights on {expected.rows} {where}, in {expected.dtype}"
    return Check(
        "logits",
        near["relative"] <= relative and near["mean_kl"] <= kl,
        f"{request.gap_words(near, against)} (allowed: {relative:g} of their spread, measured "
        f"{request.figure(near['relative'])})",
        {**near, "tolerance_relative": relative, "tolerance_kl": kl},
    )


def _text(found: dict[str, Any], tokenizer: Any) -> Iterator[Check]:
    ours = check.rendered(tokenizer, CONVERSATIONS, TEMPLATE_SETTINGS)
    yield Check(
        "template",
        ours == found["rendered"] and any(text is not None for text in ours),
        f"{len(CONVERSATIONS)} conversations are rendered by its chat template as by the run's, with and "
        "without the prompt to answer, byte for byte"
        if ours == found["rendered"]
        else "its chat template renders conversations differently",
        {"renderings": len(ours)},
    )
    tokens = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in TEXTS]
    yield Check("tokens", tokens == found["tokens"], "its tokenizer splits text as the run's does")
    names = [sanitize(str(tokenizer.convert_ids_to_tokens(stop))) for stop in found["stop_ids"]]
    stops = all(length == check.FORCED_AT for length in found["forced"].values())
    complete = set(templates.stop_ids(tokenizer)) <= set(found["stop_ids"])
    yield Check(
        "end_of_turn",
        stops and complete,
        f"{' or '.join(names) or 'nothing'} ends an answer"
        if stops and complete
        else "the end of a turn does not end an answer",
        {"stop_ids": found["stop_ids"]},
    )
