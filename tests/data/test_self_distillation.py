"""Prompts of self-distillation, and which answers may take the place of their reference."""

from __future__ import annotations

import pytest

from tui_lab.data import self_distillation
from tui_lab.data.examples import Example


def chat(*turns: tuple[str, str]) -> Example:
    return Example(messages=tuple({"role": role, "content": content} for role, content in turns))


@pytest.mark.parametrize(
    ("answer", "reference", "lost"),
    [
        ("The capital of France is Paris.", "Paris", ""),
        ("I do not know.", "Paris", "words missing"),
        ("", "Paris", "empty"),
        ("It opens at 9:30, on Mondays.", "Monday, 9:30", "words missing"),
        ("Mondays: it opens at 9:30 each Monday.", "Monday, 9:30", ""),
        ("It opens at 10.", "It opens at 9:30.", "numbers missing"),
        ("First 2 + 2 is 4.\n#### 4", "2 and 2 make 4\n#### 4", ""),
        ("First 2 + 2 is 5. 4\n#### 5", "2 and 2 make 4\n#### 4", "another result"),
        ('{"b": [1], "a": 2}', '{"a": 2, "b": [1]}', ""),
        ('{"a": 3}', '{"a": 2}', "other JSON"),
        ("### Reference Answer:\nParis", "Paris", "repeats the prompt"),
        # five of the nine different words of a long reference are enough, four are not
        ("one two three four", "one two three four five six seven eight nine", "words missing"),
        ("one two three four five", "one two three four five six seven eight nine", ""),
    ],
)
def test_what_an_answer_loses(answer: str, reference: str, lost: str) -> None:
    assert self_distillation.lost(answer, reference) == lost


def test_the_last_question_is_asked_with_its_reference() -> None:
    before = ("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello")
    row = chat(*before, ("user", "2+2?"), ("assistant", "4"))
    prompt = self_distillation.rewriting_prompt(row)
    assert [turn["content"] for turn in prompt[:-1]] == ["Be brief.", "Hi", "Hello"]
    assert prompt[-1]["role"] == "user"
    assert prompt[-1]["content"] == self_distillation.TEMPLATE.format(instruction="2+2?", reference="4")
    new = self_distillation.with_answer(row, "It is 4.")
    assert new.messages[:-1] == row.messages[:-1] and new.expected == "It is 4."


def test_a_completion_keeps_what_separates_it_from_its_prompt() -> None:
    row = Example(prompt="Q: 2+2?\nA:", completion=" 4")
    assert self_distillation.rewriting_prompt(row).count("Q: 2+2?") == 1
    new = self_distillation.with_answer(row, "It is 4.")
    assert (new.prompt, new.completion) == (row.prompt, " It is 4.")


def test_reasoning_stays_and_calls_of_tools_are_not_rewritten() -> None:
    thought: dict = {"role": "assistant", "content": "4", "reasoning_content": "2 and 2"}
    row = Example(messages=({"role": "user", "content": "2+2?"}, thought))
    new = self_distillation.with_answer(row, "It is 4.").messages[-1]
    assert new == {"role": "assistant", "content": "It is 4.", "reasoning_content": "2 and 2"}
    call: dict = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "add"}}]}
    assert not self_distillation.can_be_rewritten(Example(messages=(row.messages[0], call)))
    assert self_distillation.can_be_rewritten(row)
    assert not self_distillation.can_be_rewritten(Example(text="plain"))
