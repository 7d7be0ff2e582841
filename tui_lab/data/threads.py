"""Rows that are no chats yet: a message a row, trees of messages, and intents with several answers.

A message that names the one it answers (``parent_id``) or its conversation is put together with these. Of
several ranked answers the best is taken; every answer is trained once, in the first thread that has it.
ChatGPT's exports give the branch that was shown last. Each pattern of an intent is asked once, and its
answers take turns. Other rows pass as they are."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tui_lab.core.errors import LabError
from tui_lab.core.sanitize import sanitize
from tui_lab.data.cells import is_missing, structure_of, text_of
from tui_lab.data.column_roles import ANSWERS, QUESTIONS, canonical
from tui_lab.data.files import RAGGED_CELLS, RawData, Stream
from tui_lab.data.json_files import is_export
from tui_lab.data.rows import BadRow
from tui_lab.data.streams import FileRecord, Records
from tui_lab.data.turns import CONTENT_KEYS, ROLE_KEYS, ROLES, unknown_speakers

MAX_MESSAGES = 2_000_000  # of a set with a message a row: all are in memory
MOST_SPEAKERS = 6  # who are not known, of rows that are messages
MAX_TURNS = 200  # of one thread
_IDS = ("message_id", "msg_id", "id", "uuid", "node_id")
_PARENTS = ("parent_id", "parent_message_id", "parent", "reply_to", "in_reply_to")
_CHATS = (
    "conversation_id", "conv_id", "dialogue_id", "dialog_id", "chat_id", "thread_id", "session_id",
    "conversation", "dialogue", "dialog", "session", "thread",
)  # fmt: skip
_TURNS = ("turn", "turn_id", "turn_idx", "turn_index", "turn_number", "position", "order", "seq", "step")
_PATTERNS = ("patterns", "utterances", "examples", "training_phrases", "user_says", "phrases")
_INTENT_ANSWERS = ("responses", "response", "answers", "answer", "replies")
_WHOLE = re.compile(r"(?<=\d)\.0+$")


@dataclass
class _Message:
    """A message of a tree: ``rank`` is that among the answers to one message, 0 the best."""

    parent: str | None
    role: str
    text: str
    rank: float | None
    place: str
    others: Mapping[str, object] = field(default_factory=dict)


def gathered(raw: RawData, first: Sequence[FileRecord], taken: frozenset[str] = frozenset()) -> RawData:
    """The data with its messages put together into chats; unchanged where its rows are chats. ``first``: its
    first rows; ``taken``: columns that the user has given a role, whose rows stay as they are."""
    rows = [value for _, value in first if isinstance(value, dict)]
    if not rows or len(rows) < len(first):
        return raw
    way = _way(rows, taken)
    if way is None:
        return raw
    note, read = way
    validation = raw.validation
    return replace(
        raw,
        train=Stream(lambda: read(raw.train)),
        validation=None if validation is None else Stream(lambda: read(validation)),
        notes=[*raw.notes, note],
        count=0,
    )


def _way(rows: Sequence[Mapping[str, Any]], taken: frozenset[str]) -> Any:
    """What is to be said about the rows and how they are read; None for rows that are chats."""
    if columns := _message_columns(rows, taken):
        if columns.parent is not None:
            return (
                "a message a row, put together into threads by "
                f"{columns.parent}; of several ranked answers the best",
                lambda records: _by_parent(records, columns),
            )
        return (
            f"a message a row, put together into chats by {columns.chat}",
            lambda records: _by_chat(records, columns),
        )
    for column in dict.fromkeys(key for row in rows for key in row if key not in taken):
        cells = [structure_of(row[column]) for row in rows if not is_missing(row.get(column))]
        if cells and all(map(is_export, cells)):
            note = (
                f"{column}: of each conversation the branch that was shown last, without tools and thoughts"
            )
            return note, lambda records, column=column: _exported(records, column)
        if cells and all(map(_is_tree, cells)) and any("replies" in cell for cell in cells):
            note = f"{column}: trees of messages, read as threads; of several ranked answers the best"
            return note, lambda records, column=column: _trees(records, column)
    names = {canonical(key): key for row in rows for key in row}
    patterns = next((names[each] for each in _PATTERNS if each in names), None)
    answers = next((names[each] for each in _INTENT_ANSWERS if each in names), None)
    asked = any(name in names for name in (*QUESTIONS, "prompt", "instruction"))
    if not patterns or not answers or asked or {patterns, answers} & taken:
        return None
    cells = [(structure_of(row.get(patterns)), _phrases(row.get(answers))) for row in rows]
    if all(
        isinstance(many, list) and _phrases(many) is not None and said is not None for many, said in cells
    ):
        note = f"each of {patterns} is asked once, and {answers} take turns as the answer"
        return note, lambda records: _intents(records, patterns, answers)
    return None


# --- a message a row ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Columns:
    role: str
    text: str
    id: str | None = None
    parent: str | None = None
    chat: str | None = None
    turn: str | None = None
    rank: str | None = None

    @property
    def all(self) -> frozenset[str]:
        return frozenset(
            filter(None, (self.role, self.text, self.id, self.parent, self.chat, self.turn, self.rank))
        )


def _message_columns(rows: Sequence[Mapping[str, Any]], taken: frozenset[str]) -> _Columns | None:
    """The columns of rows that are one message each, which names its parent or its conversation."""
    names: dict[str, str] = {}
    for row in rows:
        for key in row:
            names.setdefault(canonical(str(key)), str(key))

    def one(known: Sequence[str]) -> str | None:
        return next((names[each] for each in known if each in names), None)

    ids, parent, chat = one(_IDS), one(_PARENTS), one(_CHATS)
    role = next((names[key] for key in ROLE_KEYS if key in names and _speak(rows, names[key])), None)
    text = next(
        (names[key] for key in CONTENT_KEYS if key in names and names[key] not in (role, parent)), None
    )
    if text is None or not all(_is_text(row.get(text)) for row in rows):
        return None
    if role is None:
        _check_speakers(rows, names, chat or parent)
        return None
    if chat is None and (parent is None or ids is None) and not {role, text} & taken:
        if any(key in names for key in (*QUESTIONS, *ANSWERS, "output", "completion")):
            return None
        raise LabError(
            f"The rows are single messages ({sanitize(role)[:40]}, {sanitize(text)[:40]}), and no column "
            "says to which conversation each belongs. Add conversation_id, or write a chat a row; --columns "
            f"text={sanitize(text)[:40]} trains on each text alone."
        )
    found = _Columns(role, text, ids, parent, None, None, one(("rank",)))
    if ids is None or parent is None:
        found = _Columns(role, text, chat=chat, turn=one(_TURNS))
    if (found.parent is None and found.chat is None) or {role, text, parent, chat} & taken:
        return None
    return found


def _speak(rows: Sequence[Mapping[str, Any]], column: str) -> bool:
    """Whether a column names the role of each row, a user's and an assistant's among them."""
    return {"user", "assistant"} <= {str(_role(row.get(column))) for row in rows} and all(
        _role(row.get(column)) is not None for row in rows
    )


def _check_speakers(rows: Sequence[Mapping[str, Any]], names: Mapping[str, str], chat: str | None) -> None:
    """Raises LabError where rows of conversations are by a few speakers who are no roles."""
    for key in ("speaker", "role", "from", "sender"):
        found = [row.get(names[key]) for row in rows] if key in names and chat is not None else []
        known = dict.fromkeys(each for each in found if isinstance(each, str) and each.strip())
        if 1 < len(known) <= MOST_SPEAKERS and len(known) < len(found) and None not in found:
            raise LabError(f"Column {names[key]}: {unknown_speakers(known)}.")


def _role(value: object) -> str | None:
    role = ROLES.get(value.strip().lower()) if isinstance(value, str) else None
    return role if role != "call" else None


def _is_text(value: object) -> bool:
    return isinstance(value, str) or is_missing(value)


def _key(value: object) -> str | None:
    """An id as text: 1, 1.0 and "1" are the same. None for none."""
    if is_missing(value):
        return None
    is_integer = isinstance(value, float) and value.is_integer()
    text = f"{value:.0f}" if is_integer else str(value).strip()
    return _WHOLE.sub("", text) or None


def _number(value: object) -> float | None:
    try:
        return None if is_missing(value) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None


def _bounded(records: Records) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, (place, value) in enumerate(records, 1):
        if number > MAX_MESSAGES:
            raise LabError(
                f"There are more than {MAX_MESSAGES:,} messages, one a row, to put together in memory. "
                "Write a chat a row, or set max_rows."
            )
        if isinstance(value, dict):
            yield place, value


def _by_chat(records: Records, columns: _Columns) -> Iterator[FileRecord]:
    assert columns.chat is not None
    chats: dict[str, list[tuple[float, int, str, dict[str, Any]]]] = {}
    left_out: list[FileRecord] = []
    for number, (place, row) in enumerate(_bounded(records)):
        if (name := _key(row.get(columns.chat))) is None:
            left_out.append((place, {RAGGED_CELLS: "no id of a conversation"}))
            continue
        at = _number(row.get(columns.turn)) if columns.turn else None
        chats.setdefault(name, []).append((float(number) if at is None else at, number, place, row))
    for found in chats.values():
        found.sort(key=lambda each: each[:2])
        others = {k: v for k, v in found[0][3].items() if k not in columns.all}
        turns = [{"role": row.get(columns.role), "content": row.get(columns.text)} for _, _, _, row in found]
        yield found[0][2], {**others, "messages": turns}
    yield from left_out


def _by_parent(records: Records, columns: _Columns) -> Iterator[FileRecord]:
    assert columns.id is not None and columns.parent is not None
    messages: dict[str, _Message] = {}
    left_out: list[FileRecord] = []
    for place, row in _bounded(records):
        if row.get("deleted") is True or row.get("review_result") is False:
            continue
        name, parent = _key(row.get(columns.id)), _key(row.get(columns.parent))
        if name is None or name in messages:
            reason = "no id" if name is None else "the id of an earlier row"
            left_out.append((place, {RAGGED_CELLS: reason}))
            continue
        others = {} if parent else row
        messages[name] = _Message(
            None if parent == name else parent,
            _role(row.get(columns.role)) or str(row.get(columns.role)),
            str(row.get(columns.text) or ""),
            _number(row.get(columns.rank)) if columns.rank else None,
            place,
            {k: v for k, v in others.items() if k not in columns.all},
        )
    yield from _threads(messages)
    yield from left_out


def _threads(messages: Mapping[str, _Message]) -> Iterator[FileRecord]:
    """The threads of trees of messages, by id; one without its parent, or without an answer, is named."""
    children: dict[str, list[str]] = {}
    roots: list[str] = []
    for name, message in messages.items():
        if message.parent is None:
            roots.append(name)
        elif message.parent in messages:
            children.setdefault(message.parent, []).append(name)
        elif message.parent in ("0", "-1"):
            roots.append(name)
        else:
            yield message.place, {RAGGED_CELLS: "a parent that is not among the rows"}
    trained: set[str] = set()
    for root in roots:
        before = len(trained)
        for path in _paths(root, children, messages):
            if len(path) > MAX_TURNS and path[-1] in children:
                yield (
                    messages[path[-1]].place,
                    {RAGGED_CELLS: f"{MAX_TURNS} turns before it: later ones are left out"},
                )
            while path and messages[path[-1]].role != "assistant":
                path.pop()
            if not path or path[-1] in trained:
                continue
            turns: list[dict[str, object]] = []
            for name in path:
                turns.append({"role": messages[name].role, "content": messages[name].text})
                if name in trained:
                    turns[-1]["weight"] = 0
            trained.update(name for name in path if messages[name].role == "assistant")
            yield messages[path[-1]].place, {**messages[root].others, "messages": turns}
        if len(trained) == before:
            yield messages[root].place, {RAGGED_CELLS: "no answer among the rows"}


def _paths(
    root: str, children: Mapping[str, Sequence[str]], messages: Mapping[str, _Message]
) -> Iterator[list[str]]:
    """The paths from a root to its leaves, the best of several ranked answers at each message."""
    path: list[str] = []
    waiting = [(root, 0)]
    while waiting:
        name, depth = waiting.pop()
        del path[depth:]
        path.append(name)
        replies = list(children.get(name, ())) if depth < MAX_TURNS else []
        ranked = [(messages[each].rank, each) for each in replies]
        known = [(rank, each) for rank, each in ranked if rank is not None]
        if known and messages[name].role != "assistant":
            replies = [min(known, key=lambda pair: pair[0])[1]]
        if not replies:
            yield list(path)
        waiting += [(each, depth + 1) for each in reversed(replies)]


# --- trees in a cell ----------------------------------------------------------------------------------


def _exported(records: Records, column: str) -> Iterator[FileRecord]:
    for place, value in records:
        cell = structure_of(value.get(column)) if isinstance(value, dict) else None
        if not isinstance(value, dict) or not isinstance(cell, dict) or not is_export(cell):
            yield place, value
            continue
        others = {key: each for key, each in value.items() if key not in (column, "current_node")}
        yield place, {**others, "messages": _shown_branch(cell, value.get("current_node"))}


def _shown_branch(nodes: dict[str, Any], current: object) -> list[dict[str, object]]:
    lists = {name: node["children"] for name, node in nodes.items() if isinstance(node.get("children"), list)}
    parents = {child: name for name, found in lists.items() for child in found if isinstance(child, str)}
    leaves = (name for name in reversed(nodes) if not nodes[name].get("children"))
    at = current if isinstance(current, str) and current in nodes else next(leaves, None)
    found: list[dict[str, object]] = []
    seen: set[object] = set()
    while isinstance(at, str) and at in nodes and at not in seen:
        seen.add(at)
        if (turn := _exported_turn(nodes[at]["message"])) is not None:
            found.append(turn)
        at = nodes[at].get("parent", parents.get(at))
    return found[::-1]


def _exported_turn(message: Any) -> dict[str, object] | None:
    """A turn of a node; None for an empty one, and for what ChatGPT's own tools are asked and answer."""
    author = message.get("author") if isinstance(message, dict) else None
    role = author.get("role") if isinstance(author, dict) else None
    content = message.get("content") if isinstance(message, dict) else None
    if role == "tool" or not isinstance(content, dict) or message.get("recipient", "all") != "all":
        return None
    parts = content.get("parts", content.get("text"))
    if content.get("content_type") not in ("text", "multimodal_text", None) or not parts or parts == [""]:
        return None
    if isinstance(parts, list) and any(not isinstance(part, str) for part in parts):
        kinds = {str(part.get("content_type")) for part in parts if isinstance(part, dict)}
        parts = [{"type": kind} for kind in sorted(kinds)] or parts  # images: the row is left out, and named
    turn: dict[str, object] = {"role": role, "content": parts}
    return turn


def _is_tree(cell: object) -> bool:
    return (
        isinstance(cell, dict)
        and isinstance(cell.get("replies", []), list)
        and _role(cell.get("role")) is not None
        and isinstance(cell.get("text"), str)
    )


def _trees(records: Records, column: str) -> Iterator[FileRecord]:
    for place, value in records:
        cell = structure_of(value.get(column)) if isinstance(value, dict) else None
        if not isinstance(value, dict) or not _is_tree(cell):
            yield place, value
            continue
        messages: dict[str, _Message] = {}
        others = {key: each for key, each in value.items() if key != column}
        waiting: list[tuple[Any, str | None]] = [(cell, None)]
        for node, parent in waiting:
            name = str(len(messages))
            messages[name] = _Message(
                parent,
                _role(node.get("role")) or "",
                str(node["text"]),
                _number(node.get("rank")),
                place,
                others,
            )
            replies = node.get("replies")
            waiting += (
                [(each, name) for each in replies if _is_tree(each)] if isinstance(replies, list) else []
            )
        yield from _threads(messages)


# --- intents ------------------------------------------------------------------------------------------


def _phrases(cell: object) -> list[str] | None:
    """The texts of a list, or the one of a cell; None for anything else."""
    value = structure_of(cell)
    try:
        texts = [text_of(each, "a phrase") for each in (value if isinstance(value, list) else [value])]
    except BadRow:
        return None
    return [text for text in texts if text.strip()]


def _intents(records: Records, patterns: str, answers: str) -> Iterator[FileRecord]:
    for place, value in records:
        asked = _phrases(value.get(patterns)) if isinstance(value, dict) else None
        said = _phrases(value.get(answers)) if isinstance(value, dict) else None
        if not isinstance(value, dict) or not asked or not said:
            yield place, {RAGGED_CELLS: f"no texts in {patterns} or in {answers}"}
            continue
        others = {key: each for key, each in value.items() if key not in (patterns, answers)}
        for number, pattern in enumerate(asked):
            yield place, {**others, "question": pattern, "answer": said[number % len(said)]}
