"""The formats of data sets: Alpaca, OpenAI/ChatML messages, ShareGPT, prompt–completion, question–answer,
raw text.

The format is detected from the columns, with a reason, or checked when it is given. Every row becomes an
``Example``: messages, or a prompt with its completion, or plain text. Rows that cannot be used are counted
and named with their place and cause; the set is refused only when no row is left."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from tui_lab.core.errors import LabError
from tui_lab.core.format import plural
from tui_lab.core.sanitize import sanitize
from tui_lab.data.files import RAGGED_CELLS, FileRecord, RawData, read_raw
from tui_lab.data.rows import ChatMessage, ChatRow, RawRow

FORMATS = ("alpaca", "messages", "sharegpt", "prompt_completion", "question_answer", "text")
LABELS = {
    "alpaca": "Alpaca",
    "messages": "messages (OpenAI, ChatML)",
    "sharegpt": "ShareGPT",
    "prompt_completion": "prompt–completion",
    "question_answer": "question–answer",
    "text": "raw text",
}
ROLES = {
    "system": "system", "developer": "system",
    "user": "user", "human": "user",
    "assistant": "assistant", "gpt": "assistant", "model": "assistant", "bot": "assistant",
    "chatgpt": "assistant",
}  # fmt: skip
MESSAGE_COLUMNS = ("messages", "conversations", "conversation")
QUESTION_COLUMNS = ("question", "query", "problem")
ANSWER_COLUMNS = ("answer", "response", "solution")
TEXT_COLUMNS = ("text", "story", "content", "document")
ACCEPTED = (
    "instruction + output [+ input] (Alpaca), messages with role + content (OpenAI), conversations with "
    "from + value (ShareGPT), prompt + completion, question + answer, or text"
)
TASK_CHARS = 40  # the longest name of a task, from a column "task"
PROMPT_WORDS = 8  # words of a raw text that an answer is generated from
NAMED_ROWS = 5  # bad rows that a message names; the others are counted
SNIFFED_ROWS = 200  # rows whose columns are used for detection


@dataclass(frozen=True)
class Example:
    """One row, in one of three shapes: ``messages`` (chat), ``prompt`` + ``completion``, or ``text``.

    A message is {"role": system|user|assistant, "content": str}; "weight": 0 on an assistant's message keeps
    it out of the training. ``place`` names the row in messages ("line 17"); ``task`` is the name in its
    column "task", "" without one.
    """

    messages: tuple[ChatMessage, ...] | None = None
    text: str | None = None
    prompt: str | None = None
    completion: str | None = None
    place: str = "a row"
    task: str = ""

    @property
    def last_answer(self) -> int:
        """The index of the last assistant turn. Raises ValueError for a row that is no chat."""
        return max(i for i, message in enumerate(self.messages or ()) if message["role"] == "assistant")

    @property
    def generation_prompt(self) -> list[ChatMessage] | str:
        """What an answer is generated from: the turns before the last assistant turn, the prompt of a
        completion, or the first words of a text."""
        if self.messages is not None:
            return list(self.messages[: self.last_answer])
        return self.prompt if self.prompt is not None else " ".join((self.text or "").split()[:PROMPT_WORDS])

    @property
    def expected(self) -> str:
        """The expected answer: the last assistant turn, the completion, or the text itself."""
        if self.messages is not None:
            return self.messages[self.last_answer]["content"]
        return self.completion if self.completion is not None else self.text or ""

    def as_chat(self) -> ChatRow:
        """The row as a chat, for the scorers."""
        if self.messages is not None:
            return {"messages": list(self.messages)}
        question: ChatMessage = {"role": "user", "content": self.prompt or ""}
        return {"messages": [question, {"role": "assistant", "content": self.expected}]}


@dataclass
class DataSource:
    """A data set as read: ``rows``, and ``validation`` where the source brings its own.

    ``reason`` says how the format was found; ``scorer`` names the score that fits, if any (see
    :mod:`tui_lab.data.scoring`). ``rows_read`` counts all rows, ``rows_empty`` and ``rows_bad`` those that
    were left out."""

    name: str
    rows: list[Example]
    validation: list[Example] | None
    format: str
    reason: str
    rows_read: int
    rows_empty: int = 0
    rows_bad: int = 0
    warnings: list[str] = field(default_factory=list)
    scorer: str | None = None
    description: str = ""


class BadRow(Exception):
    """Why one row cannot be used; ``empty`` rows are counted apart from wrong ones."""

    def __init__(self, reason: str, empty: bool = False) -> None:
        super().__init__(sanitize(reason))  # it quotes the data
        self.empty = empty


# --- one row --------------------------------------------------------------------------------------


def _string(value: object, what: str) -> str:
    """``value`` as text: a string, a number, or OpenAI's list of text parts."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")  # lone surrogates break every tokenizer
    if isinstance(value, bool) or value is None:
        raise BadRow(
            f"{what} is {value if value is None else type(value).__name__}, not text", empty=value is None
        )
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, list) and value and all(isinstance(part, dict) for part in value):
        kinds = {str(part.get("type")) for part in value}
        if kinds == {"text"}:
            return "".join(_string(part.get("text"), f"a text part of {what}") for part in value)
        raise BadRow(
            f"{what} holds parts of type {', '.join(sorted(kinds - {'text'}))}; only text can be trained"
        )
    raise BadRow(f"{what} is {type(value).__name__}, not text")


def _required(row: RawRow, column: str) -> str:
    if column not in row:
        raise BadRow(f"no column {column}")
    return _string(row[column], column)


def _first(row: RawRow, columns: tuple[str, ...]) -> str | None:
    return next((column for column in columns if column in row), None)


def _chat(messages: list[ChatMessage]) -> Example:
    """The example of a chat, which must have an assistant turn with text."""
    if not any(message["role"] == "assistant" for message in messages):
        raise BadRow("no assistant turn, so nothing to learn from it")
    if not any(message["content"].strip() for message in messages if message["role"] == "assistant"):
        raise BadRow("the assistant's turns are empty", empty=True)
    return Example(messages=tuple(m for m in messages if m["role"] != "system" or m["content"].strip()))


def _turns(row: RawRow, role_key: str, content_key: str) -> Example:
    column = _first(row, MESSAGE_COLUMNS)
    if column is None:
        raise BadRow(f"no column {' or '.join(MESSAGE_COLUMNS)}")
    turns = row[column]
    if not isinstance(turns, list):
        raise BadRow(f"{column} is {type(turns).__name__}, not a list of turns", empty=turns is None)
    if not turns:
        raise BadRow(f"{column} is an empty list", empty=True)
    messages: list[ChatMessage] = []
    if isinstance(row.get("system"), str) and row["system"].strip():
        messages.append({"role": "system", "content": _string(row["system"], "system")})
    for number, turn in enumerate(turns, 1):
        if not isinstance(turn, dict):
            raise BadRow(
                f"turn {number} is {type(turn).__name__}, not an object with {role_key} and {content_key}"
            )
        if role_key not in turn:
            raise BadRow(
                f"turn {number} has no {role_key} (it has {', '.join(map(str, list(turn)[:6])) or 'nothing'})"
            )
        name = turn[role_key]
        role = ROLES.get(name.strip().lower()) if isinstance(name, str) else None
        if role is None:
            raise BadRow(f"turn {number} has the unknown role {str(name)[:40]!r} (known: {', '.join(ROLES)})")
        if turn.get("tool_calls"):
            raise BadRow(f"turn {number} calls tools, which are not trained here")
        if content_key not in turn:
            raise BadRow(f"turn {number} has no {content_key}")
        message: ChatMessage = {
            "role": role,
            "content": _string(turn[content_key], f"{content_key} of turn {number}"),
        }
        if role == "assistant" and turn.get("weight") == 0:
            message["weight"] = 0
        messages.append(message)
    return _chat(messages)


def _messages(row: RawRow) -> Example:
    return _turns(row, "role", "content")


def _sharegpt(row: RawRow) -> Example:
    return _turns(row, "from", "value")


def _pair(question: str, answer: str, system: object = None) -> Example:
    if not question.strip():
        raise BadRow("the question is empty", empty=True)
    messages: list[ChatMessage] = [
        {"role": "user", "content": question},
        {"role": "assistant", "content": answer},
    ]
    if isinstance(system, str) and system.strip():
        messages.insert(0, {"role": "system", "content": system})
    return _chat(messages)


def _alpaca(row: RawRow) -> Example:
    instruction = _required(row, "instruction")
    extra = row.get("input")
    if extra is not None and str(extra).strip():
        given = _string(extra, "input")
        instruction = f"{instruction}\n\n{given}" if instruction.strip() else given
    return _pair(instruction, _required(row, "output"), row.get("system"))


def _question_answer(row: RawRow) -> Example:
    question_column, answer_column = _first(row, QUESTION_COLUMNS), _first(row, ANSWER_COLUMNS)
    if question_column is None or answer_column is None:
        raise BadRow(f"no column {'question' if question_column is None else 'answer'}")
    question, answer = _required(row, question_column), row[answer_column]
    choices = row.get("choices")
    if choices is None:  # a table spreads them over columns
        choices = [row[f"choice{n}"] for n in range(len(row)) if isinstance(row.get(f"choice{n}"), str)]
    if isinstance(choices, str) and choices.strip():
        raise BadRow("choices is text, not a list, so an answer that is its number means nothing")
    if isinstance(choices, list) and choices and all(isinstance(choice, str) for choice in choices):
        letters = [chr(ord("A") + index) for index in range(len(choices))]
        question += "".join(f"\n{letter}. {choice}" for letter, choice in zip(letters, choices, strict=True))
        number = int(answer) if isinstance(answer, str) and answer.strip().isdecimal() else answer
        if isinstance(number, int) and not isinstance(number, bool):
            if not 0 <= number < len(choices):
                raise BadRow(
                    f"{answer_column} is {number}, but there are {len(choices)} choices (counted from 0)"
                )
            answer = f"{letters[number]}. {choices[number]}"
    return _pair(question, _string(answer, answer_column), row.get("system"))


def _prompt_completion(row: RawRow) -> Example:
    column = "completion" if "completion" in row else "response"
    prompt, completion = row.get("prompt"), row.get(column)
    if isinstance(prompt, list) and isinstance(completion, list):  # trl's conversational shape
        context = [{**turn, "weight": 0} if isinstance(turn, dict) else turn for turn in prompt]
        return _messages({"messages": context + completion})
    if column not in row:
        raise BadRow("no column completion")
    text, answer = _required(row, "prompt"), _string(completion, column)
    if not answer.strip():
        raise BadRow(f"the {column} is empty", empty=True)
    return Example(prompt=text, completion=answer)


def _text(row: RawRow | str) -> Example:
    if isinstance(row, str):
        text = _string(row, "text")
    else:
        column = _first(row, TEXT_COLUMNS)
        if column is None:
            raise BadRow("no column text")
        text = _required(row, column)
    if not text.strip():
        raise BadRow("the text is empty", empty=True)
    return Example(text=text)


CONVERTERS: dict[str, Callable[[Any], Example]] = {
    "alpaca": _alpaca,
    "messages": _messages,
    "sharegpt": _sharegpt,
    "prompt_completion": _prompt_completion,
    "question_answer": _question_answer,
    "text": _text,
}


# --- detection ------------------------------------------------------------------------------------


def columns_of(records: list[FileRecord]) -> list[str]:
    """The column names of the first rows, in the order in which they appear."""
    seen: dict[str, None] = {}
    for _, value in records[:SNIFFED_ROWS]:
        if isinstance(value, dict):
            seen.update(dict.fromkeys(str(key) for key in value if key != RAGGED_CELLS))
    return list(seen)


def _turn_keys(records: list[FileRecord], column: str) -> set[str]:
    keys: set[str] = set()
    for _, value in records[:SNIFFED_ROWS]:
        turns = value.get(column) if isinstance(value, dict) else None
        if isinstance(turns, list):
            keys.update(str(key) for turn in turns if isinstance(turn, dict) for key in turn)
    return keys


def matches(records: list[FileRecord]) -> dict[str, str]:
    """Every format that the columns allow, best first, each with the reason."""
    found: dict[str, str] = {}
    columns = columns_of(records)
    if not columns:
        if any(isinstance(value, str) for _, value in records):
            found["text"] = "the rows are plain strings"
        return found
    have = set(columns)
    for column in MESSAGE_COLUMNS:
        if column in have:
            keys = _turn_keys(records, column)
            if {"role", "content"} <= keys:
                found.setdefault("messages", f"column {column} with role and content")
            if {"from", "value"} <= keys:
                found.setdefault("sharegpt", f"column {column} with from and value")
    if {"instruction", "output"} <= have:
        found["alpaca"] = f"columns instruction, {'input, ' if 'input' in have else ''}output"
    completion = next((column for column in ("completion", "response") if column in have), None)
    if "prompt" in have and completion:
        found["prompt_completion"] = f"columns prompt, {completion}"
    question = next((column for column in QUESTION_COLUMNS if column in have), None)
    answer = next((column for column in ANSWER_COLUMNS if column in have), None)
    if question and answer:
        found["question_answer"] = f"columns {question}, {answer}{', choices' if 'choices' in have else ''}"
    text = next((column for column in TEXT_COLUMNS if column in have), None)
    if text:
        found["text"] = f"column {text}"
    return found


def _listed(names: list[str]) -> str:
    if not names:
        return "no named columns"
    shown = sanitize(", ".join(name[:40] or "(unnamed)" for name in names[:12]))
    return f"the columns {shown}" + (f" and {len(names) - 12} more" if len(names) > 12 else "")


def detect(name: str, records: list[FileRecord], data_format: str = "auto") -> tuple[str, str]:
    """The format and why it was chosen. Raises LabError that names the columns of the data and those of each
    format."""
    found = matches(records)
    columns = columns_of(records)
    if data_format != "auto":
        if data_format not in FORMATS:
            raise LabError(f"There is no data format {data_format!r}. Known: auto, {', '.join(FORMATS)}.")
        if data_format in found:
            return data_format, f"{found[data_format]} → {LABELS[data_format]}, as asked"
        other = f" They look like {LABELS[next(iter(found))]}." if found else ""
        raise LabError(
            f"{name} has {_listed(columns)}, which do not fit the format {data_format}.{other} "
            f"Accepted: {ACCEPTED}."
        )
    if not found:
        hint = ""
        if name.lower().endswith((".csv", ".tsv")):
            hint = " The first line of a table must name its columns."
        raise LabError(
            f"{name} has {_listed(columns)}; that is no format known here. Accepted: {ACCEPTED}.{hint}"
        )
    best, *others = found
    reason = f"{found[best]} → {LABELS[best]}"
    if others:
        reason += f" (it would also pass as {', '.join(LABELS[other] for other in others)})"
    return best, reason


# --- the whole set --------------------------------------------------------------------------------


def _convert(records: list[FileRecord], data_format: str) -> tuple[list[Example], list[tuple[str, BadRow]]]:
    rows: list[Example] = []
    bad: list[tuple[str, BadRow]] = []
    convert = CONVERTERS[data_format]
    for place, value in records:
        try:
            if not isinstance(value, dict) and not (data_format == "text" and isinstance(value, str)):
                raise BadRow(f"it is {type(value).__name__}, not an object with columns", empty=value is None)
            if isinstance(value, dict) and RAGGED_CELLS in value:
                raise BadRow(f"it has {value[RAGGED_CELLS]}")
            example = convert(value)
        except BadRow as error:
            bad.append((place, error))
            continue
        task = value.get("task") if isinstance(value, dict) else None
        name = sanitize(str(task).strip())[:TASK_CHARS] if isinstance(task, str | int) else ""
        rows.append(replace(example, place=place, task=name))
    return rows, bad


def name_some(places: list[str]) -> str:
    """ "line 3, line 9 and 4 more": the first few places, the others counted."""
    shown = ", ".join(places[:NAMED_ROWS])
    return shown + (f" and {len(places) - NAMED_ROWS} more" if len(places) > NAMED_ROWS else "")


def _complaints(bad: list[tuple[str, BadRow]]) -> list[str]:
    """One sentence a cause, the most frequent first."""
    causes: dict[str, list[str]] = {}
    for place, error in bad:
        causes.setdefault(str(error), []).append(place)
    ranked = sorted(causes.items(), key=lambda item: -len(item[1]))
    lines = [f"{name_some(places)}: {reason}" for reason, places in ranked[:NAMED_ROWS]]
    if len(ranked) > NAMED_ROWS:
        lines.append(f"and {sum(len(places) for _, places in ranked[NAMED_ROWS:])} rows of other causes")
    return lines


def from_raw(raw: RawData, data_format: str = "auto") -> DataSource:
    """The examples of raw records. Raises LabError when no row can be used."""
    if not raw.train:
        raise LabError(f"{raw.name} holds no training rows: there is nothing to train on.")
    chosen, reason = detect(raw.name, raw.train, data_format)
    rows, bad = _convert(raw.train, chosen)
    if not rows:
        raise LabError(
            f"{raw.name}: none of its {len(raw.train)} rows can be used as {LABELS[chosen]}; "
            f"{'; '.join(_complaints(bad)[:3])}."
        )
    warnings = [f"{plural(len(bad), 'row')} left out: " + "; ".join(_complaints(bad))] if bad else []
    validation: list[Example] | None = None
    bad_validation: list[tuple[str, BadRow]] = []
    if raw.validation is not None:
        validation, bad_validation = _convert(raw.validation, chosen)
        if bad_validation:
            warnings.append(
                f"{plural(len(bad_validation), 'validation row')} left out: "
                + "; ".join(_complaints(bad_validation))
            )
        validation = validation or None
    empty = sum(error.empty for _, error in bad + bad_validation)
    return DataSource(
        name=raw.name,
        rows=rows,
        validation=validation,
        format=chosen,
        reason="; ".join([reason, *raw.notes]),
        rows_read=len(raw.train) + len(raw.validation or []),
        rows_empty=empty,
        rows_bad=len(bad) + len(bad_validation) - empty,
        warnings=warnings,
        # Questions with one right answer can be scored by it; the other formats have no score of their own.
        scorer="exact" if chosen == "question_answer" else None,
    )


def read(path_or_name: str, data_format: str = "auto", max_rows: int = 0) -> DataSource:
    """Reads a data set.

    Args:
        path_or_name: a file, a folder, a bundled set or a name on the hub.
        data_format: one of FORMATS; auto detects it from the columns.
        max_rows: > 0 reads no more than that many rows of each split.

    Raises:
        LabError: there is no such set, it cannot be read, or none of its rows can be used.
    """
    from tui_lab.data import bundled

    name = str(path_or_name).strip()
    if not name:
        raise LabError(
            f"No data set was given. Name a file, a folder, a hub set or one of {', '.join(bundled.NAMES)}."
        )
    if "\0" in name:
        raise LabError("The name of the data set holds a zero byte; no file is called so.")
    if name not in bundled.NAMES:
        return from_raw(read_raw(name, max_rows, bundled.NAMES), data_format)
    if data_format not in ("auto", "messages"):
        raise LabError(f"The bundled set {name} is made of messages; leave the data format at auto.")
    loaded = bundled.load(name)
    train: list[FileRecord] = [(f"row {n}", row) for n, row in enumerate(loaded.train[: max_rows or None], 1)]
    held_out: list[FileRecord] = [(f"validation row {n}", row) for n, row in enumerate(loaded.validation, 1)]
    source = from_raw(RawData(name, train, held_out), "messages")
    source.reason = f"bundled set {name} → messages"
    source.scorer, source.description = loaded.scorer, loaded.description
    return source
