"""Rows of preference data: a chosen and a rejected answer to one prompt, or one answer with a verdict.

Both sides of a pair share the prompt; it may be a column of its own, or the beginning that both have in
common (as in Anthropic's hh-rlhf and UltraFeedback)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from tui_lab.core.errors import LabError
from tui_lab.data.cells import is_missing, structure_of, text_of
from tui_lab.data.column_plan import Row
from tui_lab.data.column_roles import LABELS
from tui_lab.data.examples import Example
from tui_lab.data.rows import BadRow, ChatMessage, Tool
from tui_lab.data.turns import turns_of

#: The task of a row with a verdict (:attr:`.examples.Example.task`).
DESIRABLE, UNDESIRABLE = "desirable", "undesirable"
_YES = ("true", "yes", "1", "good", "like", "liked", "up", "desirable", "positive", "thumbs_up", "accept")
_NO = ("false", "no", "0", "-1", "bad", "dislike", "disliked", "down", "undesirable", "negative",
       "thumbs_down", "reject")  # fmt: skip
_HH_TURN = re.compile(r"(?:^|\n\n)(Human|Assistant): ?")


def check_form(form: str, name: str, loss: str) -> None:
    """Raises LabError where data of a format does not have what a preference loss needs."""
    wanted = {"none": form, "kto": "feedback"}.get(loss, "preference")
    if form == wanted:
        return
    columns = (
        "chosen and rejected" if wanted == "preference" else "prompt, completion and a label of true or false"
    )
    raise LabError(
        f"preference_loss = {loss!r} needs the columns {columns}; {Path(name).name} has rows in the form of "
        f"{LABELS[form]}. Use other data, or preference_loss = 'none'."
    )


def check_verdicts(tasks: Iterable[str | None]) -> None:
    """Raises LabError where all answers have the same verdict."""
    found = set(tasks)
    if len(found) == 1:
        (only,) = found
        raise LabError(
            f"every answer is {only}: preference_loss = 'kto' needs desirable and undesirable ones."
        )


def pair(row: Row, before: list[ChatMessage], tools: tuple[Tool, ...], prompt: str | None) -> Example:
    """The example of a row with a chosen and a rejected answer. ``before``: system and earlier turns;
    ``prompt``: the text of a column for it, None without one. Raises BadRow."""
    chosen, rejected = _side(row, "chosen"), _side(row, "rejected")
    if isinstance(chosen, str) and isinstance(rejected, str) and not prompt and not before:
        chosen, rejected = _hh(chosen), _hh(rejected)
    if isinstance(chosen, str) != isinstance(rejected, str):
        raise BadRow("chosen and rejected have different shapes")
    if isinstance(chosen, str) and isinstance(rejected, str):
        return _texts(chosen, rejected, before, tools, prompt)
    assert not isinstance(chosen, str) and not isinstance(rejected, str)
    asked, good, bad = _split_turns(chosen, rejected)
    if prompt and not asked:
        asked = [{"role": "user", "content": prompt}]
    turns = asked if asked and asked[0]["role"] == "system" else [*before, *asked]
    if not turns or turns[-1]["role"] not in ("user", "tool"):
        raise BadRow("there is no user turn that chosen and rejected answer")
    example = Example(messages=(*_untrained(turns), good), rejected=bad, tools=tools)
    return _checked(example, good["content"], bad["content"])


def verdict(example: Example, row: Row) -> Example:
    """An example of one answer with its verdict, as its task. Raises BadRow."""
    value = structure_of(row.value("label"))
    text = str(value).strip().lower()
    if isinstance(value, float) and value.is_integer():
        text = str(int(value))
    if is_missing(value) or text not in (*_YES, *_NO):
        raise BadRow(f"the label is {str(value)[:40]!r}, neither true nor false", empty=is_missing(value))
    return replace(example, task=DESIRABLE if text in _YES else UNDESIRABLE)


def _side(row: Row, role: str) -> str | list[ChatMessage]:
    column = row.column(role)
    value = None if column is None else structure_of(row.values[column])
    if is_missing(value):
        raise BadRow(f"no {role} answer", empty=True)
    if isinstance(value, str | int | float):
        return text_of(value, column or role)
    return turns_of(value, column or role)


def _texts(
    chosen: str, rejected: str, before: list[ChatMessage], tools: tuple[Tool, ...], prompt: str | None
) -> Example:
    if not prompt:
        pairs = zip(chosen, rejected, strict=False)
        same = next(
            (at for at, (one, other) in enumerate(pairs) if one != other), min(len(chosen), len(rejected))
        )
        common = chosen[:same]
        at = max(common.rfind(" "), common.rfind("\n")) + 1
        prompt, chosen, rejected = common[:at], chosen[at:], rejected[at:]
        if not prompt.strip():
            raise BadRow("there is no prompt, and chosen and rejected begin differently")
        example = Example(prompt=prompt, completion=chosen, rejected=rejected)
    elif chosen.startswith(prompt) and rejected.startswith(prompt):
        chosen, rejected = chosen[len(prompt) :], rejected[len(prompt) :]
        example = Example(prompt=prompt, completion=chosen, rejected=rejected)
    else:
        turn: ChatMessage = {"role": "user", "content": prompt}
        good: ChatMessage = {"role": "assistant", "content": chosen}
        example = Example(
            messages=(*_untrained([*before, turn]), good),
            rejected={"role": "assistant", "content": rejected},
            tools=tools,
        )
    return _checked(example, chosen, rejected)


def _split_turns(
    chosen: list[ChatMessage], rejected: list[ChatMessage]
) -> tuple[list[ChatMessage], ChatMessage, ChatMessage]:
    """The turns before the answer, and the two answers. Raises BadRow."""
    for side, turns in (("chosen", chosen), ("rejected", rejected)):
        if turns[-1]["role"] != "assistant":
            raise BadRow(f"{side} does not end with an assistant turn")
    if [_plain(turn) for turn in chosen[:-1]] != [_plain(turn) for turn in rejected[:-1]]:
        raise BadRow("chosen and rejected answer different prompts")
    return chosen[:-1], chosen[-1], rejected[-1]


def _plain(turn: ChatMessage) -> tuple[str, str]:
    return turn["role"], turn["content"].strip()


def _untrained(turns: list[ChatMessage]) -> list[ChatMessage]:
    """The turns before the answer: both sides have them, so they are not trained."""
    kept: list[ChatMessage] = []
    for turn in turns:
        if turn["role"] == "assistant":
            turn = {**turn, "weight": 0}
        if turn["role"] != "system" or turn["content"].strip():
            kept.append(turn)
    return kept


def _hh(text: str) -> str | list[ChatMessage]:
    """The turns of a text in the form of hh-rlhf ("\\n\\nHuman: … \\n\\nAssistant: …"); other texts as they
    are."""
    parts = _HH_TURN.split(text)
    if len(parts) < 5 or parts[0].strip():
        return text
    turns: list[ChatMessage] = [
        {"role": "user" if who == "Human" else "assistant", "content": said.strip()}
        for who, said in zip(parts[1::2], parts[2::2], strict=True)
    ]
    return turns if turns[-1]["role"] == "assistant" else text


def _checked(example: Example, chosen: str, rejected: str) -> Example:
    if not chosen.strip() and not rejected.strip():
        raise BadRow("chosen and rejected are empty", empty=True)
    for side, text in (("chosen", chosen), ("rejected", rejected)):
        if not text.strip():
            raise BadRow(f"the {side} answer is empty", empty=True)
    if chosen.strip() == rejected.strip():
        raise BadRow("chosen and rejected are the same")
    return example
