"""Types of rows: chat messages, chats, and token rows for the trainer; why a row cannot be used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NotRequired, TypeAlias, TypedDict

from tui_lab.core.sanitize import sanitize

#: A fast tokenizer of transformers, and a causal language model of transformers or a PeftModel: the
#: annotations of these libraries do not fit their own classes.
Tokenizer: TypeAlias = Any
Model: TypeAlias = Any
#: A row as it was read, before its columns are checked.
RawRow: TypeAlias = Mapping[str, Any]
#: The definition of a tool or a call of one, as OpenAI's interface and chat templates take them.
Tool: TypeAlias = Mapping[str, Any]


class ChatMessage(TypedDict):
    """One turn, as chat templates take it. ``weight`` 0 keeps a turn out of the loss; ``reasoning_content``
    is what the assistant thought before its answer."""

    role: str
    content: str
    weight: NotRequired[int]
    reasoning_content: NotRequired[str]
    tool_calls: NotRequired[list[Tool]]
    name: NotRequired[str]
    tool_call_id: NotRequired[str]


@dataclass(frozen=True)
class CodeTests:
    """Tests of an answer that is code: ``before`` and ``after`` are the code around it. ``entry_point``: the
    function that the answer completes, "" where it is a program of its own."""

    after: str
    before: str = ""
    entry_point: str = ""


class ChatRow(TypedDict):
    """A chat whose last assistant turn is the expected answer; ``tests`` of an answer that is code."""

    messages: list[ChatMessage]
    tests: NotRequired[CodeTests]


class TokenRow(TypedDict):
    """Token ids and labels of equal length; a label of −100 gives no loss. ``task`` names a row's task."""

    input_ids: list[int]
    labels: list[int]
    task: NotRequired[str]


class BadRow(Exception):
    """Why one row cannot be used; ``empty`` rows are counted apart from wrong ones."""

    def __init__(self, reason: str, empty: bool = False) -> None:
        super().__init__(sanitize(reason))  # it quotes the data
        self.empty = empty
