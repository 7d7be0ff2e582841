"""Rows that are no chats yet, and values that a mapping names: each set is read, or refused in a sentence."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tui_lab.core.errors import LabError
from tui_lab.data import formats
from tui_lab.data.files import RawData, Stream
from tui_lab.data.formats import DataSource
from tui_lab.data.streams import FileRecord

U, A = ("user", "Hi?"), ("assistant", "Hello.")
MORE = [("user", "More?"), ("assistant", "No.")]
Turns = list[tuple[str, str]]


def node(name: str, parent: str | None, said: tuple[str, Any] | None, children: str = "") -> dict[str, Any]:
    """A node as ChatGPT exports it."""
    message = said and {
        "author": {"role": said[0]},
        "content": {"content_type": "text", "parts": [said[1]]},
        "recipient": "all",
    }
    return {"id": name, "parent": parent, "children": list(children), "message": message}


CHATGPT: dict[str, Any] = {
    "title": "Greetings",
    "mapping": {
        "r": node("r", None, None, "s"),
        "s": node("s", "r", ("system", ""), "u"),
        "u": node("u", "s", U, "ab"),
        "a": node("a", "u", ("assistant", "An older answer.")),
        "b": node("b", "u", A, "t"),
        "t": {**node("t", "b", ("tool", "found"), "m")},
        "m": node("m", "t", MORE[0], "n"),
        "n": node("n", "m", MORE[1]),
    },
    "current_node": "n",
}


def message(name: int, parent: int | None, role: str, text: str, **others: Any) -> dict[str, Any]:
    return {
        "message_id": f"m{name}",
        "parent_id": parent and f"m{parent}",
        "role": role,
        "text": text,
    } | others


OASST = [
    message(1, None, "prompter", "Hi?", lang="en", rank=None),
    message(2, 1, "assistant", "Worse.", lang="en", rank=1),
    message(3, 1, "assistant", "Hello.", lang="en", rank=0),
    message(4, 3, "prompter", "More?", lang="en", rank=None),
    message(5, 4, "assistant", "No.", lang="en", rank=0),
    message(6, 3, "prompter", "Again?", lang="en", rank=None),
    message(7, 6, "assistant", "Yes.", lang="en", rank=None),
    message(8, None, "prompter", "Nobody?", lang="en", rank=None),
    message(9, 99, "assistant", "Lost.", lang="en", rank=0),
]


def flat(chat: object, turn: int, role: str, text: str) -> dict[str, Any]:
    return {"conversation_id": chat, "turn": turn, "role": role, "content": text, "topic": "x"}


FLAT = [flat(1, 2, *A), flat(1, 1, *U), flat(2, 1, *MORE[0]), flat(2, 2, *MORE[1])]
REPLY = {"text": "Hello.", "role": "assistant", "rank": 0, "replies": []}
TREE = {
    "prompt": {"text": "Hi?", "role": "prompter", "replies": [{**REPLY, "text": "Bad.", "rank": 2}, REPLY]}
}
INTENTS = {
    "intents": [
        {"tag": "hello", "patterns": ["Hi?", "Hey?", "Ho?"], "responses": ["Hello.", "Hey."]},
        {"tag": "fallback", "patterns": [], "responses": ["What?"]},
    ]
}
INNER = [{"role": "user", "content": "Hi?"}, {"role": "assistant", "content": "Hello."}]
CHATS: dict[str, tuple[str, Any, list[Turns]]] = {
    "ChatGPT's export": ("a.json", [CHATGPT, CHATGPT], [[U, A, *MORE]] * 2),
    "one conversation of ChatGPT": ("a.json", CHATGPT, [[U, A, *MORE]]),
    "ChatGPT's conversations, a line each": ("a.jsonl", [CHATGPT], [[U, A, *MORE]]),
    "without the branch that was shown": (
        "a.jsonl", [{key: each for key, each in CHATGPT.items() if key != "current_node"}], [[U, A, *MORE]]
    ),
    "OASST's messages": (
        "a.jsonl", OASST, [[U, A, *MORE], [U, A, ("user", "Again?"), ("assistant", "Yes.")]]
    ),
    "OASST's trees": ("a.jsonl", [TREE], [[U, A]]),
    "messages by their conversation": ("a.jsonl", FLAT, [[U, A], MORE]),
    "intents": (
        "a.json", INTENTS, [[U, A], [("user", "Hey?"), ("assistant", "Hey.")], [("user", "Ho?"), A]]
    ),
    "a phrase as an object": (
        "a.json", {"intents": [{"patterns": ["Hi?"], "responses": [{"text": "Hello."}]}]}, [[U, A]]
    ),
    "an intent a line": ("a.jsonl", [{"utterances": ["Hi?"], "responses": "Hello."}], [[U, A]]),
    "three levels": ("a.jsonl", [{"id": 1, "data": {"chat": {"messages": INNER}}}], [[U, A]]),
    "question and answer three levels deep": (
        "a.jsonl", [{"payload": {"body": {"question": "Hi?", "answer": "Hello."}, "n": 1}}], [[U, A]]
    ),
}  # fmt: skip


def write(folder: Path, name: str, content: Any) -> str:
    path = folder / name
    if name.endswith(".jsonl"):
        path.write_text("".join(json.dumps(row) + "\n" for row in content))
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def chats(source: DataSource) -> list[Turns]:
    return [
        [(turn["role"], turn["content"]) for turn in row.messages]
        if row.messages
        else [("user", str(row.prompt)), ("assistant", str(row.completion))]
        for row in source.rows
    ]


@pytest.mark.parametrize("name", CHATS)
def test_what_is_gathered_into_chats(tmp_path: Path, name: str) -> None:
    file, content, expected = CHATS[name]
    assert chats(formats.read(write(tmp_path, file, content))) == expected


def test_threads_train_each_answer_once_and_name_what_they_leave_out(tmp_path: Path) -> None:
    source = formats.read(write(tmp_path, "a.jsonl", OASST))
    assert [[turn.get("weight") for turn in row.messages or ()] for row in source.rows] == [
        [None, None, None, None],
        [None, 0, None, None],
    ]
    assert source.rows_bad == 2 and "threads by parent_id" in source.reason
    assert "line 9: it has a parent that is not among the rows" in source.warnings[0]
    assert "line 8: it has no answer among the rows" in source.warnings[0]
    assert source.unused == ["lang"]


def test_messages_are_of_the_conversation_that_they_name(tmp_path: Path) -> None:
    """1, 1.0 and "1" are one conversation, and two long numbers are two; a message without one is named."""
    ids = [(1, 1.0), ("1", None), (2**60, 2**60 + 1), (math.nan, "")]
    rows = [flat(each, 0, *turn) for pair in ids for each, turn in zip(pair, (U, A), strict=True)]
    assert chats(formats.read(write(tmp_path, "a.jsonl", [rows[0], rows[1]]))) == [[U, A]]
    rows += [flat(2**60, 0, *A), flat(2**60 + 1, 0, *U), flat(2**60 + 1, 0, *A)]
    source = formats.read(write(tmp_path, "b.jsonl", rows))
    assert chats(source) == [[U, A, U], [U, A], [A, U, A]]
    assert (
        source.rows_bad == 3
        and "line 4, line 7, line 8: it has no id of a conversation" in source.warnings[0]
    )


def test_messages_without_an_id_of_their_own_are_named(tmp_path: Path) -> None:
    again = message(2, 3, "assistant", "Another.", rank=0)
    nameless = {**message(0, 4, "assistant", "Nameless."), "message_id": None}
    source = formats.read(write(tmp_path, "a.jsonl", [*OASST[:5], again, nameless]))
    assert chats(source) == [[U, A, *MORE]] and source.rows_bad == 2
    assert "line 6: it has the id of an earlier row" in source.warnings[0]
    assert "line 7: it has no id" in source.warnings[0]


def test_chats_after_many_rows_that_are_left_out_are_found(tmp_path: Path) -> None:
    lost = [message(n, 999, "assistant" if n % 2 else "prompter", f"t{n}", rank=None) for n in range(10, 310)]
    source = formats.read(write(tmp_path, "a.jsonl", [*lost, *OASST[:5]]))
    assert chats(source) == [[U, A, *MORE]] and source.rows_bad == 300


@pytest.mark.parametrize("columns", ["text=text", "question=text,answer=lang", "task=role"])
def test_a_mapping_of_its_columns_leaves_the_rows_as_they_are(tmp_path: Path, columns: str) -> None:
    source = formats.read(write(tmp_path, "a.jsonl", OASST), columns=columns)
    assert source.rows_read == len(OASST) and source.format in ("text", "question_answer")


def test_deep_trees_and_circles_end(tmp_path: Path) -> None:
    many = [message(n, n - 1 or None, "assistant" if n % 2 == 0 else "user", f"t{n}") for n in range(1, 3000)]
    source = formats.read(write(tmp_path, "a.jsonl", many))
    assert [len(row.messages or ()) for row in source.rows] == [200]
    assert "it has 200 turns before it: later ones are left out" in source.warnings[0]
    circle = [message(1, 2, *U), message(2, 1, *A), message(3, None, *U), message(4, 3, *A)]
    assert chats(formats.read(write(tmp_path, "b.jsonl", circle))) == [[U, A]]
    nodes = {"a": node("a", "b", U, "b"), "b": node("b", "a", A, "a")}
    looped = {"mapping": nodes, "current_node": "b"}
    assert chats(formats.read(write(tmp_path, "c.jsonl", [looped]))) == [[U, A]]


def test_an_image_in_an_export_is_named(tmp_path: Path) -> None:
    nodes = {"u": node("u", None, U, "a"), "a": node("a", "u", A)}
    picture = {"content_type": "image_asset_pointer", "asset_pointer": "file://x"}
    nodes["u"]["message"]["content"] = {"content_type": "multimodal_text", "parts": [picture, "Hi?"]}
    with pytest.raises(LabError, match="parts of type image_asset_pointer; only text can be trained"):
        formats.read(write(tmp_path, "a.jsonl", [{"mapping": nodes, "current_node": "a"}]))


@pytest.mark.parametrize(
    ("ids", "parents"),
    [
        ((1, 2), (-1, 1)),
        ((1, 2), (0, 1)),
        (("a", "b"), ("a", "a")),
        ((1.0, 2.0), (None, 1)),
        ((1, 2), ("", "1.0")),
    ],
)
def test_ways_to_name_no_parent_and_the_same_id(tmp_path: Path, ids: Any, parents: Any) -> None:
    rows = [
        {"id": name, "parent": parent, "author": role, "message": text}
        for name, parent, (role, text) in zip(ids, parents, (U, A), strict=True)
    ]
    assert chats(formats.read(write(tmp_path, "a.jsonl", rows))) == [[U, A]]


REFUSED: dict[str, tuple[list[Any], str]] = {
    "messages without a conversation": (
        [dict(zip(("role", "content"), turn, strict=True)) for turn in (U, A)],
        r"single messages \(role, content\), and no column says to which conversation each belongs",
    ),
    "messages by unknown speakers": (
        [{"dialogue_id": 1, "speaker": name, "utterance": "x"} for name in ("Ann", "Ben", "Ann")],
        "Column speaker: unknown speakers Ann, Ben: --columns Ann=user,Ben=assistant says",
    ),
    "an answer to a message that was deleted": (
        [message(1, None, "prompter", "Hi?", deleted=True), message(2, 1, "assistant", "Hello.")],
        "holds no chat: its messages have a parent that is not among the rows",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_messages_that_make_no_chat_are_refused(tmp_path: Path, name: str) -> None:
    rows, sentence = REFUSED[name]
    with pytest.raises(LabError, match=sentence):
        formats.read(write(tmp_path, "a.jsonl", rows))


# --- speakers -----------------------------------------------------------------------------------------

SPEAKERS: dict[str, Any] = {
    "a speaker and a text": [{"speaker": "Alice", "text": "Hi?"}, {"speaker": "Bob", "text": "Hello."}],
    "a role and a content": [{"role": "ALICE", "content": "Hi?"}, {"role": "bob ", "content": "Hello."}],
    "a name as key": [{"Alice": "Hi?"}, {"Bob": "Hello."}],
    "pairs of name and text": [["Alice", "Hi?"], ["Bob", "Hello."]],
    "a transcript": "Alice: Hi?\nBob: Hello.",
}


@pytest.mark.parametrize("mapping", ["Alice=user,Bob=assistant", "user=Alice,assistant=Bob"])
@pytest.mark.parametrize("name", SPEAKERS)
def test_a_mapping_says_who_speaks(tmp_path: Path, name: str, mapping: str) -> None:
    path = write(tmp_path, "a.jsonl", [{"dialog": SPEAKERS[name]}] * 3)
    source = formats.read(path, columns=mapping)
    assert chats(source) == [[U, A]] * 3
    assert "alice is user, bob is assistant" in source.reason


@pytest.mark.parametrize("name", [name for name in SPEAKERS if name != "a transcript"])
def test_unknown_speakers_are_named_with_a_mapping_that_works(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, "a.jsonl", [{"dialog": SPEAKERS[name]}] * 3)
    with pytest.raises(LabError, match=r"unknown speakers (Alice|ALICE), (Bob|bob)") as caught:
        formats.read(path)
    mapping = str(caught.value).partition("--columns ")[2].split(" says")[0]
    assert chats(formats.read(path, columns=mapping)) == [[U, A]] * 3


def test_speakers_of_messages_that_lie_in_rows_of_their_own(tmp_path: Path) -> None:
    rows = [{**row, "role": {"user": "Ann", "assistant": "Ben"}[row["role"]]} for row in FLAT]
    path = write(tmp_path, "a.jsonl", rows)
    assert chats(formats.read(path, columns="Ann=user,Ben=assistant")) == [[U, A], MORE]


@pytest.mark.parametrize(
    ("second", "sentence"),
    [
        ({"Ben": "Hello."}, "unknown speaker Ann: --columns Ann=user says who is who"),
        ({"speaker": 7, "text": "Hello."}, "unknown speaker Ann"),
        ({"speaker": None, "text": "Hello."}, "unknown speaker Ann"),
    ],
)
def test_turns_of_mixed_shapes_are_refused_in_a_sentence(tmp_path: Path, second: Any, sentence: str) -> None:
    for turns in ([{"speaker": "Ann", "text": "Hi?"}, second], [second, {"speaker": "Ann", "text": "Hi?"}]):
        with pytest.raises(LabError) as refused:
            formats.read(write(tmp_path, "a.jsonl", [{"dialog": turns}] * 30))
        assert len(str(refused.value)) < 500
        assert turns[0] is second or sentence in str(refused.value)


def test_a_speaker_of_no_turn_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "a.jsonl", [{"dialog": SPEAKERS["a speaker and a text"]}])
    with pytest.raises(LabError, match="columns: no turn in the first rows is by zoe"):
        formats.read(path, columns="Zoe=user")


def test_a_history_that_is_no_pairs_is_refused(tmp_path: Path) -> None:
    row = {"instruction": "Hi?", "output": "Hello.", "history": ["a", "b", "c"]}
    with pytest.raises(LabError, match="history has 3 texts, which are no pairs of question and answer"):
        formats.read(write(tmp_path, "a.jsonl", [row]))


# --- labels -------------------------------------------------------------------------------------------

LABELLED = "text,label\nWell done,1\nOh no,0\nGreat,1\nBad,0\n"
NAMED = [("user", "Well done"), ("assistant", "good")]


def test_labels_that_are_not_trained_are_named_with_a_mapping_that_works(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", LABELLED)
    source = formats.read(path)
    assert source.format == "text"
    assert source.warnings[0].startswith("label holds 2 labels (0, 1), which are not trained: --columns ")
    mapping = source.warnings[0].partition("--columns ")[2].split(" trains")[0]
    assert mapping == "question=text,answer=label,0=NAME,1=NAME"
    source = formats.read(path, columns="question=text,answer=label,0=bad,1=good")
    assert chats(source)[0] == NAMED and "the numbers of label: 0 is bad, 1 is good" in source.reason
    assert not source.warnings


def test_numbers_of_labels_without_names_are_pointed_out(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", LABELLED)
    source = formats.read(path, columns="question=text,answer=label")
    assert chats(source)[0][1] == ("assistant", "1")
    assert source.warnings[0].startswith(
        "the answers are the numbers 0 to 1 of label, whose names are not in"
    )
    with pytest.raises(LabError, match="label holds 1, for which no name is given: add 1=NAME"):
        formats.read(path, columns="question=text,answer=label,0=bad")
    below = write(tmp_path, "below.csv", LABELLED.replace(",0", ",-1"))
    assert chats(formats.read(below, columns="question=text,answer=label,-1=bad,1=good"))[1][1][1] == "bad"
    Path(below).unlink()
    (tmp_path / "labels.txt").write_text("bad\ngood\n")
    source = formats.read(path, columns="question=text,answer=label")
    assert chats(source)[0] == NAMED and not source.warnings
    assert formats.read(str(tmp_path), columns="question=text,answer=label").rows_read == 4
    with pytest.raises(LabError, match="names: 0 is a, but no column holds such numbers"):
        formats.read(write(tmp_path, "b.csv", "text,answer\na,b\n"), columns="0=a")


def test_names_of_labels_that_datasets_wrote_are_read(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["bad", "good"])}
    )
    table = datasets.Dataset.from_dict({"text": ["Well done", "Oh no"], "label": [1, 0]}, features=features)
    table.to_parquet(str(tmp_path / "a.parquet"))
    table.save_to_disk(str(tmp_path / "saved"))
    for path in (tmp_path / "a.parquet", tmp_path / "saved"):
        assert chats(formats.read(str(path), columns="question=text,answer=label"))[0] == NAMED


@pytest.mark.parametrize(
    ("row", "columns", "passes"),
    [({"question": "Hi?", "answer": "Hello."}, "", 1), ({"text": "Hi?", "answer": 1}, "1=good,0=bad", 2)],
)
def test_the_first_rows_are_read_once_and_again_only_where_they_change(
    row: dict[str, Any], columns: str, passes: int
) -> None:
    begun: list[int] = []

    def records() -> Iterator[FileRecord]:
        begun.append(1)
        yield from [("row 1", row)]

    columns = f"question=text,answer=answer,{columns}" if columns else ""
    opened = formats.open_raw(RawData("x", Stream(records)), columns=columns)
    assert len(begun) == passes and len(list(opened.train)) == 1
