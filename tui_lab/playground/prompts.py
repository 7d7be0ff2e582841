"""From what a person typed to the tokens that a model reads, and the tokens that end its answer."""

from __future__ import annotations

from typing import Any

from tui_lab.core.errors import LabError
from tui_lab.data import templates
from tui_lab.models.loading import stop_ids

#: Stands where the middle of a prompt was left out.
GAP = " … "
#: Of a context, the least share that a cut prompt leaves for the answer.
_ROOM_FOR_ANSWER = 0.25


def encode(
    model: Any, tokenizer: Any, prompt: str, *, system: str = "", raw: bool = False
) -> tuple[list[int], frozenset[int]]:
    """Prompt tokens and the tokens that end an answer. A tokenizer without a chat template gets a plain one.
    Raises LabError."""
    if not prompt.strip():
        raise LabError("the prompt is empty: type at least one word")
    if raw:
        if system:
            raise LabError("a system prompt needs the chat template, which is off: drop one of the two")
        return templates.prompt_ids(tokenizer, prompt), stop_ids(model)
    if not tokenizer.chat_template:
        templates.set_template(tokenizer)
    messages = [{"role": "system", "content": system}] if system else []
    ids = templates.prompt_ids(tokenizer, [*messages, {"role": "user", "content": prompt}])
    return ids, frozenset(templates.stop_ids(tokenizer, model))


def shortened(
    model: Any, tokenizer: Any, prompt: str, context: int, max_new_tokens: int, **how: Any
) -> tuple[list[int], frozenset[int]]:
    """The prompt without its middle, so that it and the answer fit ``context`` tokens."""
    room = context - min(max_new_tokens, max(1, int(context * _ROOM_FOR_ANSWER)))
    body = list(tokenizer(prompt, add_special_tokens=False, verbose=False)["input_ids"])
    keep = min(len(body), room)
    while keep >= 2:
        half = keep // 2
        ends = (body[: keep - half], body[len(body) - half :])
        text = GAP.join(tokenizer.decode(part, skip_special_tokens=False) for part in ends)
        ids, stops = encode(model, tokenizer, text, **how)
        if len(ids) <= room:
            return ids, stops
        keep -= max(1, len(ids) - room)
    raise LabError(f"the prompt does not fit the model's context of {context} tokens even when it is cut")
