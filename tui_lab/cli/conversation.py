"""What ``tui-lab generate`` asks: one prompt, or the turns of a chat from standard input or a JSON file."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tui_lab.core import input_files
from tui_lab.core.errors import LabError
from tui_lab.core.paths import expanded
from tui_lab.core.sanitize import sanitize
from tui_lab.playground.messages import ChatTurn

#: The longest prompt that is read, and the most turns of a chat.
MOST_PROMPT_CHARACTERS = 10_000_000
MOST_TURNS = 1_000


@dataclass(frozen=True)
class Conversation:
    """``turns`` came before; ``asked`` are asked one after the other, each after the answers to those before
    it. ``asked`` is empty: lines of standard input."""

    asked: tuple[str, ...]
    turns: tuple[ChatTurn, ...] = ()
    system: str = ""
    continues: bool = False  # answers become turns

    @classmethod
    def of(cls, args: argparse.Namespace) -> Conversation:
        """What the arguments of the command say. Raises LabError."""
        system = valid_text(args.system or "", "--system")
        if args.chat is None:
            return cls((_prompt(args),), system=system)
        if args.prompt is not None:
            raise LabError("--chat and --prompt both say what to ask: use one of them")
        if args.raw:
            raise LabError("--chat needs the chat template, which --raw omits: use one of them")
        if args.chat == "-":
            return cls((), system=system, continues=True)
        return _read(args.chat, system)

    def prompts(self) -> Iterator[str]:
        """The prompts in order. Raises LabError for one that is no text."""
        if self.asked:
            yield from self.asked
            return
        found = False
        for _ in range(MOST_TURNS):
            if sys.stdin.isatty():
                print("› ", end="", file=sys.stderr, flush=True)
            line = _stdin(lambda: sys.stdin.readline(MOST_PROMPT_CHARACTERS + 1))
            if not line:
                break
            if line.strip():
                found = True
                yield valid_text(line.rstrip("\n"), "the line")
        if not found:
            raise LabError("no question on standard input: write one a line")


def _read(source: str, system: str) -> Conversation:
    """The chat in a JSON file. Raises LabError."""
    shown = sanitize(source)
    try:
        value = input_files.read_json(expanded(Path(source)))
    except (OSError, UnicodeDecodeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise LabError(f"--chat {shown} cannot be read as JSON: {sanitize(str(reason))}") from None
    if not isinstance(value, list) or not value or len(value) > MOST_TURNS:
        raise LabError(f"--chat {shown} must be a JSON list of 1 to {MOST_TURNS:,} questions or messages")
    if all(isinstance(each, str) and each.strip() for each in value):
        return Conversation(tuple(valid_text(each, "a question") for each in value), (), system, True)
    messages = [_message(each, shown) for each in value]
    if messages[0][0] == "system":
        system = system or messages[0][1]
        messages = messages[1:]
    turns = []
    while len(messages) >= 2 and [role for role, _ in messages[:2]] == ["user", "assistant"]:
        turns.append(ChatTurn(messages[0][1], messages[1][1]))
        messages = messages[2:]
    if not messages or any(role != "user" for role, _ in messages):
        raise LabError(
            f"--chat {shown}: messages of user and assistant take turns, and the last one is of the user"
        )
    return Conversation(tuple(text for _, text in messages), tuple(turns), system, True)


def _message(value: object, shown: str) -> tuple[str, str]:
    role = value.get("role") if isinstance(value, dict) else None
    content = value.get("content") if isinstance(value, dict) else None
    if role not in ("system", "user", "assistant") or not isinstance(content, str) or not content.strip():
        raise LabError(
            f"--chat {shown}: each message has a role (system, user or assistant) and a content, or all are "
            "texts"
        )
    return str(role), valid_text(content, "a message")


def _prompt(args: argparse.Namespace) -> str:
    text = args.prompt
    if text is None and sys.stdin.isatty():
        raise LabError('no prompt: give one with --prompt "…" or through a pipe')
    if text is None or text == "-":
        text = _stdin(lambda: sys.stdin.read(MOST_PROMPT_CHARACTERS + 1)).removesuffix("\n")
    if not text.strip():
        raise LabError("the prompt is empty: type at least one word")
    return valid_text(text, "the prompt")


def _stdin(read: Callable[[], str]) -> str:
    try:
        return read()
    except UnicodeDecodeError as error:
        place = f"byte {error.start + 1}"
        raise LabError(f"the prompt on stdin is not UTF-8 text ({place}): convert it to UTF-8") from None


def valid_text(text: str, what: str) -> str:
    """A text of the command line. Raises LabError for bytes that are not UTF-8, which no tokenizer takes."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        place = f"character {error.start + 1}"
        raise LabError(f"{what} is not UTF-8 text ({place}): save or type it as UTF-8") from None
    if len(text) > MOST_PROMPT_CHARACTERS:
        raise LabError(
            f"{what} is longer than {MOST_PROMPT_CHARACTERS:,} characters; no model here reads that"
        )
    return text
