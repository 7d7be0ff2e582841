"""Columns and turns as public data sets and exports write them: each is read, and what is not used is named.

Each case is one row (or several) and what it means: the turns, or a text. Most say "Hi?" and "Hello."; a case
of None has to be refused with one sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tui_lab.core.errors import LabError
from tui_lab.data import formats

U, A = ("user", "Hi?"), ("assistant", "Hello.")
QA = [U, A]
MSGS = [{"role": "user", "content": "Hi?"}, {"role": "assistant", "content": "Hello."}]
GPT = [{"from": "human", "value": "Hi?"}, {"from": "gpt", "value": "Hello."}]
SYS = ("system", "Be kind.")
TWICE = [U, A, ("user", "More?"), ("assistant", "No.")]
Turns = list[tuple[str, str]]


def chat(first: str, second: str, role: str = "role", content: str = "content") -> list[dict[str, str]]:
    return [{role: first, content: "Hi?"}, {role: second, content: "Hello."}]


#: Names of a question and of its answer.
PAIRS = [
    ("q", "a"), ("Q", "A"), ("Question", "Answer"), ("questions", "answers"), ("query", "reply"),
    ("query", "response"), ("question", "output"), ("question", "target"), ("question", "completion"),
    ("prompt", "output"), ("prompt", "answer"), ("prompt", "reply"), ("prompt", "target"),
    ("prompt", "canonical_solution"), ("input", "target"), ("input", "response"), ("input", "completion"),
    ("instruction", "response"), ("instruction", "completion"), ("instruction", "answer"),
    ("instruction", "target"), ("request", "response"), ("message", "reply"), ("message", "response"),
    ("source", "target"), ("src", "tgt"), ("source_text", "target_text"), ("input_text", "target_text"),
    ("inputs", "targets"), ("inputs_pretokenized", "targets_pretokenized"), ("user", "bot"),
    ("user", "chatbot"), ("human", "ai"), ("Human", "Assistant"), ("user_message", "assistant_message"),
    ("user_input", "model_output"), ("user_prompt", "model_response"), ("user_query", "bot_reply"),
    ("question_en", "answer_en"), ("ques", "ans"), ("problem", "generated_solution"),
    ("problem_statement", "solution"), ("text", "summary"), ("text", "code"), ("text", "output"),
    ("article", "abstract"), ("report", "summary"), ("post", "response"), ("message_1", "message_2"),
    ("sql_prompt", "sql"), ("questionText", "answerText"), ("Full Question", "Best Answer"),
    ("question", "best_answer"), ("nl", "code"), ("docstring", "code"),
]  # fmt: skip
#: Rows, what they mean, and the columns that are not used.
ROWS: dict[str, tuple[dict[str, Any], Turns, list[str]]] = {
    # nesting
    "messages in an object": ({"conversation": {"messages": MSGS}}, QA, []),
    "messages in an object with an id": ({"id": 7, "data": {"id": "x", "messages": MSGS}}, QA, ["id",
    "data.id"]),
    "conversations in an object": ({"chat": {"conversations": GPT}}, QA, []),
    "a row in an object": ({"row_idx": 0, "row": {"question": "Hi?", "answer": "Hello."}}, QA, ["row_idx"]),
    "question and answer in two objects": ({"input": {"question": "Hi?"}, "output": {"answer": "Hello."}},
    QA, []),
    "the answer in an object": ({"question": "Hi?", "result": {"answer": "Hello."}}, QA, []),
    "an object as text": ({"row": json.dumps({"question": "Hi?", "answer": "Hello."})}, QA, []),
    "one instance in a list": (
        {"instruction": "Hi?", "instances": [{"input": "", "output": "Hello."}]}, QA, []
    ),
    "a question with its tokens": (
        {"question": {"text": "Hi?", "tokens": ["Hi", "?"]}, "answer": "Hello."}, QA, []
    ),
    "prompt and completion with text": ({"prompt": {"text": "Hi?"}, "response": {"text": "Hello."}}, QA, []),
    # names of roles and texts
    **{
        f"roles {first} and {second}": ({"messages": chat(first, second)}, QA, [])
        for first, second in (
            ("user", "bot"), ("User", "Chatbot"), ("USER", "ASSISTANT"), ("human", "ai"), ("Human", "Claude"),
            ("client", "agent"), ("user", "llm"), ("human", "chatgpt"), ("Q", "A"), ("question", "answer"),
            ("input", "output"), ("prompt", "completion"), ("instruction", "response"), ("user", "model"),
        )
    },
    **{
        f"turns with {role} and {content}": ({"conversations": chat("human", "gpt", role, content)}, QA, [])
        for role, content in (
            ("from", "content"), ("role", "value"), ("speaker", "text"), ("author", "message"), ("type",
            "content"),
            ("sender", "body"), ("from", "text"), ("role", "text"), ("speaker", "utterance"), ("role",
            "message"),
            ("role", "parts"),
        )
    },
    "LangChain": (
        {"messages": [{"type": "human", "data": {"content": "Hi?"}}, {"type": "ai",
        "data": {"content": "Hello."}}]},
        QA, [],
    ),
    "authors as objects": (
        {"messages": [
            {"author": {"role": "user"}, "content": {"content_type": "text", "parts": ["Hi?"]}},
            {"author": {"role": "assistant"}, "content": {"content_type": "text", "parts": ["Hello."]}},
        ]},
        QA, [],
    ),
    "Gemini": (
        {
            "systemInstruction": {"role": "system", "parts": [{"text": "Be kind."}]},
            "contents": [{"role": "user", "parts": [{"text": "Hi?"}]}, {"role": "model",
            "parts": [{"text": "Hello."}]}],
        },
        [SYS, *QA], [],
    ),
    "Bedrock": (
        {
            "system": [{"text": "Be kind."}],
            "messages": [
                {"role": "user", "content": [{"text": "Hi?"}]}, {"role": "assistant",
                "content": [{"text": "Hello."}]},
            ],
        },
        [SYS, *QA], [],
    ),
    "OpenAI's responses": (
        {"messages": [
            {"role": "user", "content": [{"type": "input_text", "text": "Hi?"}]},
            {"role": "assistant", "content": [{"type": "output_text", "text": "Hello."}]},
        ]},
        QA, [],
    ),
    "texts in a list": ({"messages": [{"role": "user", "content": ["Hi?"]}, MSGS[1]]}, QA, []),
    "a role as key": ({"conversation": [{"user": "Hi?"}, {"assistant": "Hello."}]}, QA, []),
    "a system turn as key": (
        {"messages": [{"system": "Be kind."}, {"human": "Hi?"}, {"gpt": "Hello."}]}, [SYS, *QA], []
    ),
    "three roles in an object": (
        {"messages": [{"system": "Be kind.", "user": "Hi?", "assistant": "Hello."}]}, [SYS, *QA], []
    ),
    "one object of a chat": ({"messages": {"user": "Hi?", "assistant": "Hello."}}, QA, []),
    "prompts and completions as turns": (
        {"turns": [{"prompt": "Hi?", "completion": "Hello."}, {"prompt": "More?", "completion": "No."}]},
        TWICE, []
    ),
    "inputs and outputs as turns": ({"conversation": [{"input": "Hi?", "output": "Hello."}]}, QA, []),
    "pairs of role and text": ({"conversations": [["human", "Hi?"], ["gpt", "Hello."]]}, QA, []),
    "a list of pairs": ({"chat": [["Hi?", "Hello."], ["More?", "No."]]}, TWICE, []),
    "a list of texts": ({"turns": ["Hi?", "Hello.", "More?", "No."]}, TWICE, []),
    "a list of texts, other columns": ({"dialog": ["Hi?", "Hello."], "act": [1, 2]}, QA, ["act"]),
    **{
        f"a chat called {name}": ({name: MSGS, "id": 1}, QA, ["id"])
        for name in ("dialogs", "chat_messages", "thread", "convo", "exchanges", "utterances", "content",
        "example")
    },
    "a transcript": ({"conversation": "User: Hi?\nAssistant: Hello."}, QA, []),
    "a transcript of two exchanges": (
        {"chat": "USER: Hi?\n\n\nASSISTANT: Hello.\n\nUSER: More?\nASSISTANT: No."}, TWICE, []
    ),
    "a transcript with marks": ({"dialogue": "### Human: Hi?\n### Assistant: Hello."}, QA, []),
    "a transcript in ChatML": (
        {"conversation": "<|im_start|>user\nHi?<|im_end|>\n<|im_start|>assistant\nHello.<|im_end|>\n"}, QA, []
    ),
    "a system turn in a column": ({"conversations": GPT, "system": "Be kind.", "id": "7"}, [SYS, *QA],
    ["id"]),
    "a developer turn": ({"messages": [{"role": "developer", "content": "Be kind."}, *MSGS]}, [SYS, *QA], []),
    # empty cells and several answers
    "an input that is null": ({"instruction": "Hi?", "input": None, "output": "Hello."}, QA, []),
    "an instruction that is null": ({"instruction": None, "input": "Hi?", "output": "Hello."}, QA, []),
    "an instruction that is empty": ({"instruction": "", "input": "Hi?", "output": "Hello."}, QA, []),
    "several answers": ({"question": "Hi?", "answers": ["Hello.", "Hey."]}, QA, []),
    "several answers as text": ({"question": "Hi?", "answers": "['Hello.', 'Hey.']"}, QA, []),
    "answers with their places": (
        {"question": "Hi?", "answers": [{"text": "Hello.", "answer_start": 3}, {"text": "Hey.",
        "answer_start": 9}]},
        QA, [],
    ),
    "an answer with aliases": ({"question": "Hi?", "answer": {"value": "Hello.", "aliases": ["Hey."]}}, QA,
    []),
    "answers of TruthfulQA": (
        {"question": "Hi?", "best_answer": "Hello.", "correct_answers": ["Hello."],
        "incorrect_answers": ["No."]},
        QA, ["correct_answers", "incorrect_answers"],
    ),
    "spans": ({"question": "Hi?", "answers_spans": {"spans": ["Hello."], "types": ["span"]}}, QA, []),
    "several outputs": ({"input": "Hi?", "output": ["Hello."]}, QA, []),
    "several completions": ({"prompt": "Hi?", "completions": ["Hello."]}, QA, []),
    "questions and answers in lists": ({"questions": ["Hi?", "More?"], "answers": ["Hello.", "No."]}, TWICE,
    []),
    "coqa": (
        {"story": "S.", "questions": ["Hi?", "More?"], "answers": {"input_text": ["Hello.", "No."],
        "start": [1, 2]}},
        [("user", "S.\n\nHi?"), A, *TWICE[2:]], [],
    ),
    "sciq": (
        {"question": "Hi?", "support": "S.", "correct_answer": "Hello.", "distractor1": "x",
        "distractor2": "y"},
        [("user", "S.\n\nHi?"), A], ["distractor1", "distractor2"],
    ),
    "an answer that is a number": ({"question": "Hi?", "answer": 4.5}, [U, ("assistant", "4.5")], []),
    "choices a to d": (
        {"question": "Q?", "a": "x", "b": "y", "c": "z", "d": "w", "answer": "b"},
        [("user", "Q?\nA. x\nB. y\nC. z\nD. w"), ("assistant", "B. y")], [],
    ),
    # several parts
    "a definition with its input": (
        {"definition": "Greet.", "inputs": "Hi?", "targets": "Hello."}, [("user", "Greet.\n\nHi?"), A], []
    ),
    "alpaca with the whole text": (
        {"instruction": "Hi?", "input": "", "output": "Hello.", "text": "### Hi? Hello."}, QA, ["text"]
    ),
    "a question with a label": ({"question": "Hi?", "answer": "Hello.", "label": 1}, QA, ["label"]),
    "a question with its source": ({"question": "Hi?", "answer": "Hello.", "source": "web"}, QA, ["source"]),
    "the generated solution": (
        {"problem": "Hi?", "generated_solution": "Hello.", "expected_answer": "5"}, QA, ["expected_answer"]
    ),
    "a prompt beside messages": ({"prompt": "Hi?", "prompt_id": "7", "messages": MSGS}, QA, ["prompt",
    "prompt_id"]),
    "null columns beside messages": ({"messages": MSGS, "tools": None, "metadata": None}, QA, ["metadata"]),
}  # fmt: skip
TEXTS: dict[str, dict[str, Any]] = {
    name: {name: "A story."}
    for name in ("text", "content", "body", "raw_content", "article", "passage", "abstract", "code",
    "page_content",
                 "poem", "lyrics", "Text", "markdown", "anything")
} | {
    "a text with its address": {"url": "x", "text": "A story.", "date": "2020"},
    "a text with a label": {"text": "A story.", "label": 1},
    "a text in an object": {"id": 1, "json": {"text": "A story."}},
    "a title with an abstract": {"title": "T", "abstract": "A story."},
    "a text that holds the response": {"text": "A story.", "response": "story."},
}  # fmt: skip
REFUSED: dict[str, dict[str, Any]] = {
    "two languages": {"translation": {"en": "Hi?", "de": "Hallo?"}},
    "two answers": {"question": "Hi?", "human_answers": ["a"], "chatgpt_answers": ["b"]},
    "premise and hypothesis": {"premise": "a", "hypothesis": "b", "label": 1},
    "tokens": {"input_ids": [1, 2], "labels": [1, 2]},
    "two chats": {"conversation_a": MSGS, "conversation_b": MSGS, "winner": "model_a"},
    "numbers": {"x": 1, "y": 2},
    "intents without answers": {"tag": "hello", "patterns": ["Hi?", "Hey?"]},
    "identifiers": {"user_id": "a", "answer_id": "b"},
}


def read(folder: Path, *rows: Any) -> formats.DataSource:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return formats.read(str(path))


def turns(source: formats.DataSource) -> Turns:
    [row] = source.rows
    if row.messages is None:
        return [("user", str(row.prompt)), ("assistant", str(row.completion))]
    return [(message["role"], message["content"]) for message in row.messages]


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_names_of_question_and_answer(tmp_path: Path, pair: tuple[str, str]) -> None:
    question, answer = pair
    source = read(tmp_path, {question: "Hi?", answer: "Hello."})
    assert turns(source) == QA and not source.warnings
    assert set(source.columns) == {question, answer}


@pytest.mark.parametrize("name", ROWS)
def test_rows(tmp_path: Path, name: str) -> None:
    row, expected, unused = ROWS[name]
    source = read(tmp_path, row)
    assert turns(source) == expected
    assert source.unused == unused


@pytest.mark.parametrize("name", TEXTS)
def test_texts(tmp_path: Path, name: str) -> None:
    source = read(tmp_path, TEXTS[name])
    assert source.format == "text" and [row.text for row in source.rows] == ["A story."]


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_clear_is_refused_with_the_columns(tmp_path: Path, name: str) -> None:
    with pytest.raises(LabError, match="that is no format known here") as caught:
        read(tmp_path, REFUSED[name])
    assert all(column.split("_")[0] in str(caught.value) for column in REFUSED[name])


@pytest.mark.parametrize("mask", [[0, 0, 0, 1], [False, True], "[0, 1]"])
def test_a_list_says_which_turns_are_trained(tmp_path: Path, mask: object) -> None:
    source = read(tmp_path, {"messages": [*MSGS, *MSGS], "loss_mask": mask})
    assert [message.get("weight") for message in source.rows[0].messages or ()] == [None, 0, None, None]
    assert not source.unused
    with pytest.raises(LabError, match="loss_mask has 3 entries for 4 turns"):
        read(tmp_path, {"messages": [*MSGS, *MSGS], "loss_mask": [1, 0, 1]})


def test_calls_of_tools_as_the_answer(tmp_path: Path) -> None:
    call = {"name": "lookup", "arguments": {"q": "bees"}}
    tools = [{"name": "lookup", "parameters": {"q": {"type": "str"}}}]
    source = read(tmp_path, {"query": "Hi?", "answers": json.dumps([call]), "tools": json.dumps(tools)})
    [example] = source.rows
    assert [found["function"] for found in (example.messages or ())[1].get("tool_calls", [])] == [call]
    assert example.tools[0]["function"] == tools[0]


def test_a_mapping_names_fields_of_objects(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"translation": {"en": "Hi?", "de": "Hallo?"}}))
    with pytest.raises(LabError, match=r"has the columns translation\.en, translation\.de; .*--columns"):
        formats.read(str(path))
    source = formats.read(str(path), columns="question=translation.en,answer=translation.de")
    assert turns(source) == [U, ("assistant", "Hallo?")] and not source.unused


def test_rows_of_one_set_may_nest_differently(tmp_path: Path) -> None:
    """A row without the object of the others is left out and named."""
    source = read(tmp_path, {"conversation": {"messages": MSGS}}, {"conversation": {"note": "x"}})
    assert turns(source) == QA and source.rows_bad == 1
    assert "line 2: no column messages" in source.warnings[0]


def test_parts_of_anthropic(tmp_path: Path) -> None:
    turns_given = [
        MSGS[0],
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "Hm."},
                {"type": "text", "text": "I look."},
                {"type": "tool_use", "id": "t1", "name": "lookup", "input": {"q": "bees"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "Honey."}]},
                {"type": "text", "text": "More?"},
            ],
        },
        MSGS[1],
    ]
    source = read(tmp_path, {"messages": turns_given})
    assert turns(source) == [U, ("assistant", "I look."), ("tool", "Honey."), ("user", "More?"), A]
    called = (source.rows[0].messages or ())[1]
    assert called["reasoning_content"] == "Hm."
    assert [call["function"] for call in called["tool_calls"]] == [
        {"name": "lookup", "arguments": {"q": "bees"}}
    ]
    assert not source.warnings


def test_fields_of_turns_that_are_not_used_are_named(tmp_path: Path) -> None:
    row = {"messages": [{**MSGS[0], "images": ["a.png"], "id": None}, {**MSGS[1], "weight": 1, "model": "x"}]}
    [warning] = read(tmp_path, row).warnings
    assert warning == "not used: the fields images, model of the turns."
    row = {"messages": [MSGS[0], {**MSGS[1], "weight": 0.5, "thoughts": ["Hm.", "So."]}]}
    source = read(tmp_path, row)
    assert source.warnings == ["not used: the fields weight (below 1 counts as 1) of the turns."]
    assert (source.rows[0].messages or ())[1]["reasoning_content"] == "Hm.\n\nSo."


def test_a_column_of_a_known_role_is_not_taken_for_a_chat(tmp_path: Path) -> None:
    """Rows that cannot be read say why; nothing else is made of them."""
    source = read(tmp_path, {"system": ["Be", "kind."], "question": "Hi?", "answer": "Hello."})
    assert turns(source) == [("system", "Be\nkind."), *QA]
    with pytest.raises(LabError, match="question is list, not text"):
        read(tmp_path, {"question": ["Hi?", 4], "answer": "Hello.", "notes": ["a", "b"]})
    source = read(
        tmp_path, {"documents": [{"title": "T", "snippet": "S."}], "question": "Hi?", "answer": "Hello."}
    )
    assert turns(source) == [("user", "T\nS.\n\nHi?"), A]


def test_validation_rows_may_have_columns_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    held = [{"prompt": "Hi?", "completion": "Hello."}]
    path.write_text(json.dumps({"train": [{"question": "Hi?", "answer": "Hello."}], "validation": held}))
    source = formats.read(str(path))
    assert turns(source) == QA
    assert [(row.prompt, row.completion) for row in source.validation or []] == [("Hi?", "Hello.")]
