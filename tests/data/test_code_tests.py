"""Tests of code: rows of HumanEval, MBPP and with a column tests; answers as base and chat models write them;
pass@k against a simulation of its definition."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from tui_lab.core.errors import LabError
from tui_lab.data import code_tests, scoring
from tui_lab.data.formats import open_data, read
from tui_lab.data.rows import CodeTests

HUMANEVAL = {
    "task_id": "HumanEval/0",
    "prompt": 'from typing import List\n\n\ndef double(x: List[int]):\n    """ Doubles.\n    """\n',
    "entry_point": "double",
    "canonical_solution": "    return [2 * each for each in x]\n",
    "test": "METADATA = {}\n\n\ndef check(candidate):\n    assert candidate([1, 2]) == [2, 4]\n",
}
MBPP = {
    "task_id": 2,
    "text": "Write a function to add two numbers.",
    "code": "def add(a, b):\r\n  return a + b",
    "test_list": ["assert add(1, 2) == 3", "assert add(0, PI) == PI"],
    "test_setup_code": "PI = 3",
    "challenge_test_list": [],
}
PLAIN = {
    "question": "Write a function f that returns 7.",
    "answer": "def f(): return 7",
    "tests": "assert f() == 7",
}


def written(tmp_path: Path, *rows: dict[str, Any]) -> str:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.mark.parametrize("row", [HUMANEVAL, MBPP, PLAIN], ids=["humaneval", "mbpp", "plain"])
def test_the_reference_passes_its_tests_and_another_answer_does_not(
    tmp_path: Path, row: dict[str, Any]
) -> None:
    found = read(written(tmp_path, row))
    assert found.scorer == "pass_at_1"
    (example,) = found.rows
    wrong = "def double(x): return x\ndef add(a, b): return a\ndef f(): return 8"
    chats = [example.as_chat()] * 3
    assert scoring.scores("pass_at_1", [example.expected, wrong, ""], chats) == [1.0, 0.0, 0.0]


def test_humaneval_is_continued_and_mbpp_is_asked_with_its_tests(tmp_path: Path) -> None:
    (example,) = read(written(tmp_path, HUMANEVAL)).rows
    assert example.prompt == HUMANEVAL["prompt"] and example.completion == HUMANEVAL["canonical_solution"]
    (example,) = read(written(tmp_path, MBPP)).rows
    assert str(example.generation_prompt[0]["content"]).endswith(
        "assert add(1, 2) == 3\nassert add(0, PI) == PI"
    )  # type: ignore[index]


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ("return 7", "    return 7"),  # the indentation went with the blanks around the answer
        ("x = 7\n    return x", "    x = 7\n    return x"),
        ("    return 7\n\nprint(f())\ndef g():\n    pass", "    return 7\n"),
        (
            "Here it is:\n```python\ndef f():\n    return 7\n```\nand so on\n```\nf()\n```",
            "def f():\n    return 7\n",
        ),
        ("```py\ndef f():\n    return 7", "def f():\n    return 7"),  # cut off by the limit of tokens
        ("def f():\n    return 7", "def f():\n    return 7"),
    ],
)
def test_the_code_of_an_answer(answer: str, code: str) -> None:
    tests = CodeTests("assert f() == 7", "def f():\n    '''7'''\n", "f")
    assert code_tests.program(answer, tests) == f"{tests.before.rstrip()}\n{code}\n{tests.after}\n"
    assert code_tests.passed([answer], [tests]) == [True]


def test_a_row_without_tests_is_left_out_and_columns_that_test_nothing_are_not_tests(tmp_path: Path) -> None:
    opened = open_data(written(tmp_path, PLAIN, {**PLAIN, "tests": ""}))
    assert len(list(opened.train)) == 1 and "it has no tests" in opened.warnings()[0]
    found = read(written(tmp_path, {"question": "q", "answer": "a", "test": "fold 1"}))
    assert found.scorer == "exact" and found.rows[0].tests is None and "test" in found.unused


def test_pass_at_k_is_the_share_of_all_draws_that_hold_a_right_answer() -> None:
    for samples, right, k in [(5, 2, 1), (5, 2, 3), (6, 0, 2), (6, 6, 4), (7, 1, 7), (10, 3, 5)]:
        draws = list(itertools.combinations([1] * right + [0] * (samples - right), k))
        assert code_tests.pass_at_k(samples, right, k) == pytest.approx(sum(map(any, draws)) / len(draws))

    assert code_tests.pass_at_each_k(1, 1) == {}
    assert code_tests.pass_at_each_k(6, 6) == {"pass_at_5": 1.0, "pass_at_6": 1.0}


def test_what_guards_is_said_where_it_is_not_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tui_lab.core.sandbox.guard", lambda: "kernel")
    assert code_tests.note() == ""
    monkeypatch.setattr("tui_lab.core.sandbox.guard", lambda: "hook")
    assert "audit hook" in code_tests.note()

    def refuse() -> None:
        raise LabError("answers cannot be run on this machine: x")

    monkeypatch.setattr("tui_lab.core.sandbox.guard", refuse)
    with pytest.raises(LabError, match="cannot be run"):
        code_tests.passed(["x"], [CodeTests("")])
