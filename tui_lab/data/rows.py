"""The shapes in which rows of data travel: chat messages, chats, and token rows for the trainer."""

from __future__ import annotations

from typing import NotRequired, TypedDict


class ChatMessage(TypedDict):
    """One turn, as ``tokenizer.apply_chat_template`` takes it. ``weight`` 0 keeps a turn out of the loss."""

    role: str
    content: str
    weight: NotRequired[int]


class ChatRow(TypedDict):
    """A chat of a bundled set: the last assistant turn is the expected answer."""

    messages: list[ChatMessage]


class TokenRow(TypedDict):
    """Token ids and labels of equal length; a label of −100 gives no loss. ``task`` names a row's task."""

    input_ids: list[int]
    labels: list[int]
    task: NotRequired[str]
