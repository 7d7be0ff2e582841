"""One row of a data set, in one of three shapes: a chat, a prompt with its completion, or a text."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tui_lab.data import chats
from tui_lab.data.rows import ChatMessage, ChatRow, CodeTests, Tool

PROMPT_WORDS = 8  # words of a raw text that an answer is generated from


#: Longest row in characters, as a tokenizer takes hundreds of bytes for each token of a text; no model of the
#: catalog has a longer context. Longer raw texts are split into pieces, other rows are left out.
MAX_ROW_CHARS, PIECE_CHARS = 1_000_000, 100_000


@dataclass(frozen=True)
class Example:
    """One row, in one of three shapes: ``messages`` (chat), ``prompt`` + ``completion``, or ``text``.

    A message is {"role": system|user|assistant|tool, "content": str}; "weight": 0 on an assistant's message
    keeps it out of the training, "reasoning_content" is what it thought. ``tools`` are the definitions of
    tools that a chat may call. ``place`` names the row in messages ("line 17"); ``task`` is the name in its
    column "task", "" without one. ``rejected`` is a worse answer to the same prompt: an assistant turn in a
    chat, a completion otherwise. ``tests`` are those of an answer that is code.
    """

    messages: tuple[ChatMessage, ...] | None = None
    text: str | None = None
    prompt: str | None = None
    completion: str | None = None
    tools: tuple[Tool, ...] = ()
    place: str = "a row"
    task: str = ""
    rejected: ChatMessage | str | None = None
    tests: CodeTests | None = None

    @property
    def with_rejected(self) -> Example | None:
        """The same row with the rejected answer in place of the last one; None for a row without one."""
        if self.rejected is None:
            return None
        if self.messages is not None and not isinstance(self.rejected, str):
            return replace(self, messages=(*self.messages[:-1], self.rejected), rejected=None)
        return replace(self, completion=str(self.rejected), rejected=None)

    @property
    def last_answer(self) -> int:
        """The index of the last trained assistant turn. Raises ValueError for a row that is no chat."""
        return chats.last_answer(self.messages or ())

    @property
    def generation_messages(self) -> list[ChatMessage]:
        """The turns before the last trained assistant turn of a chat."""
        return list((self.messages or ())[: self.last_answer])

    @property
    def generation_prompt(self) -> list[ChatMessage] | str:
        """What an answer is generated from: the turns before the last trained assistant turn, the prompt of
        a completion, or the first words of a text."""
        if self.messages is not None:
            return self.generation_messages
        return self.prompt if self.prompt is not None else " ".join((self.text or "").split()[:PROMPT_WORDS])

    @property
    def expected(self) -> str:
        """The expected answer: the last trained assistant turn without its reasoning, the completion, or the
        text itself."""
        if self.messages is not None:
            return chats.split_reasoning(self.messages[self.last_answer])[1]
        return self.completion if self.completion is not None else self.text or ""

    def as_chat(self) -> ChatRow:
        """The row as a chat, for the scorers."""
        if self.messages is not None:
            turns = [chats.without_reasoning(m) for m in self.messages[: self.last_answer + 1]]
        else:
            question: ChatMessage = {"role": "user", "content": self.prompt or ""}
            turns = [question, {"role": "assistant", "content": self.expected}]
        return {"messages": turns} if self.tests is None else {"messages": turns, "tests": self.tests}
