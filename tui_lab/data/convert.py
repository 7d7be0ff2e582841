"""From the columns of one row to an example, one function for each format."""

from __future__ import annotations

from collections.abc import Callable

from tui_lab.data import code_tests, preferences
from tui_lab.data.cells import answers_in, clean, is_missing, structure_of, text_of, texts_of
from tui_lab.data.column_plan import Row, choices_of, whole_number
from tui_lab.data.column_roles import canonical
from tui_lab.data.examples import Example
from tui_lab.data.rows import BadRow, ChatMessage, Tool
from tui_lab.data.turns import are_parts, calls_of, has_calls, history_of, tools_of, turns_of


def _chat(messages: list[ChatMessage], tools: tuple[Tool, ...] = ()) -> Example:
    """The example of a chat, which must have an assistant turn with text or a call."""
    answers = [message for message in messages if message["role"] == "assistant"]
    if not answers:
        raise BadRow("no assistant turn, so nothing to learn from it")
    if not any(message["content"].strip() or message.get("tool_calls") for message in answers):
        raise BadRow("the assistant's turns are empty", empty=True)
    kept = tuple(m for m in messages if m["role"] != "system" or m["content"].strip())
    return Example(messages=kept, tools=tools)


def _required(row: Row, role: str) -> str:
    column = row.column(role)
    if column is None:
        raise BadRow(f"no column {role if role != 'key' else 'answer'}")
    return text_of(row.values[column], column)


def _optional(row: Row, role: str) -> str:
    """The text of a role, "" for an empty cell or no column."""
    value = row.value(role)
    return "" if value is None else text_of(value, row.column(role) or role)


def _context(row: Row) -> str:
    """The text that a question is about: one text, or several in a list, with their titles or without."""
    column, value = row.column("context"), structure_of(row.value("context"))
    if value is None or column is None:
        return ""
    return value if isinstance(value, str) else "\n\n".join(_passages(value, column))


PASSAGE_FIELDS = (
    "contexts", "sentences", "text", "content", "passage", "snippet", "body", "paragraph", "document",
    "page_content",
)  # fmt: skip


def _passages(value: object, column: str) -> list[str]:
    if isinstance(value, list):
        return [text for part in value if not is_missing(part) for text in _passages(part, column)]
    if isinstance(value, dict):
        inner = next((key for key in PASSAGE_FIELDS if key in value), None)
        if inner is not None:
            title = value.get("title")
            heading = [title] if isinstance(title, str) and title.strip() else []
            return ["\n".join([*heading, "\n\n".join(_passages(value[inner], column))])]
    return [text_of(value, column)]


def _tools(row: Row) -> tuple[Tool, ...]:
    return tools_of(row.value("tools"), row.column("tools") or "tools")


def _before(row: Row) -> list[ChatMessage]:
    """The system turn and the earlier turns of a row."""
    messages: list[ChatMessage] = []
    given = structure_of(row.value("system"))
    system = "" if given is None else "\n".join(texts_of(given, row.column("system") or "system"))
    if system.strip():
        messages.append({"role": "system", "content": system})
    return messages + history_of(row.value("history"), row.column("history") or "history")


def _messages(row: Row) -> Example:
    column = row.column("messages")
    if column is None:
        raise BadRow("no column messages or conversations")
    turns = turns_of(row.values[column], column)
    _apply_mask(row, turns)
    first = turns[0]["role"] if turns else ""
    return _chat(
        [*([] if first == "system" and not row.value("system") else _before(row)), *turns], _tools(row)
    )


def _apply_mask(row: Row, turns: list[ChatMessage]) -> None:
    """A row's list that says which turns are trained: an entry for each turn,
    or for each of the assistant."""
    mask = structure_of(row.value("mask"))
    if not isinstance(mask, list):
        return
    answers = [turn for turn in turns if turn["role"] == "assistant"]
    marked = turns if len(mask) == len(turns) else answers
    if len(mask) != len(marked):
        raise BadRow(f"{row.column('mask')} has {len(mask)} entries for {len(turns)} turns")
    for turn, wanted in zip(marked, mask, strict=True):
        if not wanted and turn["role"] == "assistant":
            turn["weight"] = 0


def _pair(row: Row, question: str, answer: str, calls: tuple[Tool, ...] = ()) -> Example:
    if not question.strip():
        raise BadRow("the question is empty", empty=True)
    messages = _before(row)
    messages.append({"role": "user", "content": question})
    messages.append({"role": "assistant", "content": answer})
    if reasoning := _optional(row, "reasoning").strip():
        messages[-1]["reasoning_content"] = reasoning
    if calls:
        messages[-1]["tool_calls"] = list(calls)
    elif not answer.strip():
        raise BadRow("the assistant's turns are empty", empty=True)
    return _chat(messages, _tools(row))


def _alpaca(row: Row) -> Example:
    parts = [_optional(row, "instruction"), _context(row), _optional(row, "input")]
    if not any(part.strip() for part in parts):
        _required(row, "instruction")
    return _pair(row, "\n\n".join(part for part in parts if part.strip()), *_answer(row))


def _answer(row: Row) -> tuple[str, tuple[Tool, ...]]:
    """The answer: a text, the first of several right ones, yes and no, or calls of tools."""
    column = row.column("answer") or row.column("key")
    if column is None:
        raise BadRow("no column answer")
    values = answers_in(row.values[column])
    if not values:
        raise BadRow(f"{column} holds no answer", empty=True)
    if has_calls(values):
        return "", tuple(calls_of(values, column))
    if isinstance(values[0], bool):
        return "yes" if values[0] else "no", ()
    return text_of(values[0], column), ()


def _exchanges(row: Row, questions: list[object]) -> Example:
    """Several questions, each with its answer."""
    column = row.column("answer")
    answers = [] if column is None else answers_in(row.values[column])
    if len(answers) != len(questions):
        raise BadRow(f"there are {len(questions)} questions and {len(answers)} answers")
    messages = _before(row)
    for asked, answer in zip(questions, answers, strict=True):
        messages.append({"role": "user", "content": text_of(asked, "a question")})
        messages.append({"role": "assistant", "content": text_of(answer, "an answer")})
    if (context := _context(row)).strip():
        first = next(message for message in messages if message["role"] == "user")
        first["content"] = f"{context}\n\n{first['content']}"
    return _chat(messages, _tools(row))


def _question_answer(row: Row) -> Example:
    questions = structure_of(row.value("question"))
    if isinstance(questions, list) and len(questions) > 1 and all(isinstance(q, str) for q in questions):
        return _exchanges(row, questions)
    question = questions[0] if isinstance(questions, list) and len(questions) == 1 else None
    question = question if isinstance(question, str) else _required(row, "question")
    if (context := _context(row)).strip():
        question = f"{context}\n\n{question}"
    listing = structure_of(row.value("choices"))
    if isinstance(listing, str) and listing.strip():
        raise BadRow("choices is text, not a list, so an answer that is its number means nothing")
    if (
        canonical(row.column("tests") or "") == "test_list"
    ):  # MBPP asks with its tests, which name the function
        question += f"\n\nYour code should pass these tests:\n\n{code_tests.code_of(row, 'tests')}"
    values, labels = choices_of(row)
    if not values:
        return _pair(row, question, *_answer(row))
    choices = [text_of(value, "a choice") for value in values]
    letters = [chr(ord("A") + index) for index in range(len(choices))]
    question += "".join(f"\n{letter}. {choice}" for letter, choice in zip(letters, choices, strict=True))
    right = _right_choice(row, choices, labels or letters, bool(labels))
    answer = _answer(row)[0] if right is None else f"{letters[right]}. {choices[right]}"
    return _pair(row, question, answer)


def _right_choice(row: Row, choices: list[str], labels: list[str], own_labels: bool) -> int | None:
    """The index of the right choice; None where the answer is a text of its own. Raises BadRow."""
    column = row.column("answer")
    if column is None or is_missing(row.values[column]) or row.values[column] == "":
        column = row.column("key")
    value = None if column is None else structure_of(row.values[column])
    if is_missing(value) or isinstance(value, bool | dict | list):
        return None
    text = str(value).strip()
    if text in choices and (row.plan.counts_from is None or whole_number(value) is None):
        return choices.index(text)
    if own_labels:
        number = whole_number(value)  # "1" and 1.0 are the label 1
        for form in (text, text.upper(), str(number)):
            if form in labels:
                return labels.index(form)
    number = whole_number(value)
    if number is None:
        letter = text.upper().strip("().: ")
        return labels.index(letter) if letter in labels else None
    start = row.plan.counts_from or 0
    if not 0 <= number - start < len(choices):
        raise BadRow(f"{column} is {number}, but there are {len(choices)} choices (counted from {start})")
    return number - start


def _prompt_completion(row: Row) -> Example:
    prompt, column = structure_of(row.value("prompt")), row.column("completion")
    completion = None if column is None else structure_of(row.values[column])
    if isinstance(prompt, list) and are_parts(prompt):
        prompt = text_of(prompt, "prompt")
    if isinstance(prompt, list) or _are_turns(completion):  # trl's conversational shape
        earlier = turns_of(prompt if isinstance(prompt, list) else [_turn("user", prompt)], "prompt")
        if not isinstance(completion, list):
            completion = [_turn("assistant", completion)]
        for message in earlier:
            if message["role"] == "assistant":
                message["weight"] = 0
        return _chat([*_before(row), *earlier, *turns_of(completion, column or "completion")], _tools(row))
    if column is None:
        raise BadRow("no column completion")
    if row.value("wanted") is False:
        raise BadRow("its label is false: the completion is one that is not wanted")
    values = answers_in(completion)
    text, answer = _required(row, "prompt"), text_of(values[0], column) if values else ""
    if not answer.strip():
        raise BadRow(f"the {column} is empty", empty=True)
    before, context = _before(row), _context(row)
    if context.strip():
        text = f"{context}\n\n{text}"
    if (
        before or row.value("tools") is not None or row.value("reasoning")
    ):  # system turns and earlier turns need a chat
        return _pair(row, text, answer)
    return Example(prompt=text, completion=answer)


def _turn(role: str, content: object) -> dict[str, object]:
    return {"role": role, "content": content}


def _are_turns(value: object) -> bool:
    return isinstance(value, list) and any(isinstance(turn, dict) and "role" in turn for turn in value)


def _text(row: Row) -> Example:
    text = _required(row, "text")
    if not text.strip():
        raise BadRow("the text is empty", empty=True)
    return Example(text=text)


def _preference(row: Row) -> Example:
    prompt = structure_of(row.value("prompt"))
    if isinstance(prompt, list):  # trl's conversational shape
        return preferences.pair(row, [*_before(row), *turns_of(prompt, "prompt")], _tools(row), None)
    if row.value("messages") is not None:  # LLaMA-Factory's shape: the turns before the answer
        turns = turns_of(row.value("messages"), row.column("messages") or "messages")
        return preferences.pair(row, [*_before(row), *turns], _tools(row), None)
    text = ""
    for role in ("prompt", "instruction", "question"):
        if not text.strip():
            text = _optional(row, role)
    if (more := _optional(row, "input")).strip():
        text = f"{text}\n\n{more}" if text.strip() else more
    return preferences.pair(row, _before(row), _tools(row), text or None)


def _feedback(row: Row) -> Example:
    return preferences.verdict(_prompt_completion(row), row)


CONVERTERS: dict[str, Callable[[Row], Example]] = {
    "alpaca": _alpaca,
    "messages": _messages,
    "sharegpt": _messages,
    "prompt_completion": _prompt_completion,
    "question_answer": _question_answer,
    "text": _text,
    "preference": _preference,
    "feedback": _feedback,
}


def bare_example(value: object, data_format: str) -> Example | None:
    """The example of a row without columns: a text, or a list of turns."""
    if data_format == "text" and isinstance(value, str):
        if not value.strip():
            raise BadRow("the text is empty", empty=True)
        return Example(text=clean(value))
    if data_format in ("messages", "sharegpt") and isinstance(value, list):
        return _chat(turns_of(value, "the row"))
    return None
