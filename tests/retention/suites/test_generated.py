"""GSM8K and IFEval: prompts and scores by hand, and by lm-evaluation-harness itself where it is installed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.paths import SHARED
from tui_lab.core.errors import LabError
from tui_lab.retention.suites import ifeval, registry
from tui_lab.retention.suites.checks import final_number, followed, passed
from tui_lab.retention.suites.ifeval import follows

GSM8K = SHARED / "data" / "gsm8k"
needs_data = pytest.mark.skipif(not GSM8K.is_dir(), reason="the shared data are not here")

#: instruction → arguments, answers that follow it, answers that do not
CASES: dict[str, list[tuple[dict[str, Any], list[str], list[str]]]] = {
    "keywords:existence": [
        ({"keywords": ["river", "boat"]}, ["A Boat on the river."], ["A river.", "boats? no"]),
    ],
    "keywords:frequency": [
        ({"keyword": "sea", "frequency": 2, "relation": "at least"}, ["sea and Sea"], ["one sea"]),
        ({"keyword": "sea", "frequency": 2, "relation": "less than"}, ["one sea", "none"], ["sea, sea"]),
    ],
    "keywords:forbidden_words": [
        ({"forbidden_words": ["bad", "ill"]}, ["a badge, a pill"], ["Bad luck", "he is ill."]),
    ],
    "keywords:letter_frequency": [
        ({"letter": "z", "let_frequency": 2, "let_relation": "at least"}, ["Zigzag"], ["a zoo"]),
        ({"letter": "e", "let_frequency": 1, "let_relation": "less than"}, ["a cow"], ["the cow"]),
    ],
    "length_constraints:number_sentences": [
        ({"num_sentences": 3, "relation": "at least"}, ["One. Two! Three?", "One. Two. 3"], ["One. Two."]),
        ({"num_sentences": 2, "relation": "less than"}, ["Only one", "Just 3.5 of it."], ["One. Two."]),
    ],
    "length_constraints:number_paragraphs": [
        ({"num_paragraphs": 2}, ["One.\n***\nTwo.", "***\nOne.\n***\nTwo.\n***"], ["One.", "a***b***c"]),
    ],
    "length_constraints:number_words": [
        ({"num_words": 4, "relation": "at least"}, ["one two three four", "it's a dog"], ["one two three"]),
        ({"num_words": 4, "relation": "less than"}, ["one two three"], ["one two three four"]),
    ],
    "length_constraints:nth_paragraph_first_word": [
        (
            {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "then"},
            ["First.\n\nThen, second.", 'First.\n\n"Then" it was.'],
            ["First.\n\nNow.", "Then.", "First.\n\nThen.\n\nThird."],
        ),
    ],
    "detectable_content:number_placeholders": [
        ({"num_placeholders": 2}, ["[name], [address]"], ["[name]", "none"]),
    ],
    "detectable_content:postscript": [
        ({"postscript_marker": "P.S."}, ["Bye.\nP.S. More.", "p. s. more"], ["Bye.", "PS: more"]),
        ({"postscript_marker": "P.P.S"}, ["Bye.\nP.P.S more"], ["P.S. more"]),
    ],
    "detectable_format:number_bullet_lists": [
        ({"num_bullets": 2}, ["* a\n* b", "- a\n  - b"], ["* a", "* a\n* b\n* c", "**bold**\n* a"]),
    ],
    "detectable_format:constrained_response": [({}, ["Well: My answer is yes."], ["Yes."])],
    "detectable_format:number_highlighted_sections": [
        ({"num_highlights": 2}, ["*one* and *two*", "**a** *b*"], ["*one*", "* * and *b*"]),
    ],
    "detectable_format:multiple_sections": [
        ({"section_spliter": "Section", "num_sections": 2}, ["Section 1\na\nSection 2\nb"], ["Section 1\na"]),
    ],
    "detectable_format:json_format": [({}, ['{"a": 1}', '```json\n[1]\n```'], ["a: 1", "{'a': 1}"])],
    "detectable_format:title": [({}, ["<<A day>>\nIt rained."], ["<A day>", "<<>>"])],
    "combination:two_responses": [
        ({}, ["One.\n******\nTwo.", "******\nOne.\n******\nTwo."], ["One.", "a******a", "a******b******c"]),
    ],
    "combination:repeat_prompt": [
        ({"prompt_to_repeat": "Name a bird. "}, ["name a bird. An owl."], ["An owl.", "So: Name a bird."]),
    ],
    "startend:end_checker": [({"end_phrase": "That is all."}, ['"Yes. That is ALL."'], ["That is all. Bye"])],
    "startend:quotation": [({}, ['"Yes."', ' "a" '], ["Yes.", '"', '"a" b'])],
    "change_case:capital_word_frequency": [
        ({"capital_frequency": 2, "capital_relation": "at least"}, ["NASA and the EU"], ["NASA and Eu"]),
        ({"capital_frequency": 2, "capital_relation": "less than"}, ["I am here"], ["I AM here"]),
    ],
    "change_case:english_capital": [
        ({}, ["THE DOG IS IN THE HOUSE AND THE CAT IS ON THE ROOF."], ["The dog is in the house."]),
    ],
    "change_case:english_lowercase": [
        ({}, ["the dog is in the house and the cat is on the roof."], ["The dog is in the house."]),
    ],
    "punctuation:no_comma": [({}, ["One and two."], ["One, two."])],
    "language:response_language": [
        (
            {"language": "de"},
            ["Der Hund ist nicht im Haus, und die Katze sitzt auf dem Dach mit einer Maus."],
            ["The dog is not in the house, and the cat is on the roof with a mouse."],
        ),
        ({"language": "ru"},
         ["Собака живёт в доме, а кошка сидит на крыше и ждёт."], ["The dog is in the house."]),
        ({"language": "ja"}, ["犬は家にいて、猫は屋根にいます。"], ["狗在家里，猫在屋顶上。", "Inu desu."]),
        ({"language": "hi"}, ["कुत्ता घर में है और बिल्ली छत पर है।"], ["The dog is in the house."]),
        (
            {"language": "vi"},
            ["Con chó ở trong nhà và con mèo là của tôi, nó không có trong vườn."],
            ["El perro está en la casa y el gato es de la mujer."],
        ),
    ],
}  # fmt: skip


def lines(path: Path, *rows: Any) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def test_every_instruction_has_hand_worked_cases() -> None:
    assert set(CASES) == set(ifeval.RULES) and len(ifeval.RULES) == 25


@pytest.mark.parametrize("rule", list(CASES))
def test_an_instruction_by_hand(rule: str) -> None:
    for arguments, right, wrong in CASES[rule]:
        assert ifeval.problem_of(rule, arguments) is None
        for text in right:
            assert follows(text, rule, arguments), (arguments, text)
        for text in [*wrong, "", " \n"]:
            assert not follows(text, rule, arguments), (arguments, text)


@given(st.text(max_size=60), st.sampled_from(sorted(CASES)))
def test_no_answer_raises(text: str, rule: str) -> None:
    for arguments, _, _ in CASES[rule]:
        assert follows(text, rule, arguments) in (True, False)


def test_the_installed_harness_decides_the_same() -> None:
    """Where lm-evaluation-harness is installed: its own classes on the same answers. Sentences and capital
    words are counted by NLTK there, whose data a test does not download."""
    pytest.importorskip("lm_eval")
    pytest.importorskip("langdetect")
    pytest.importorskip("immutabledict")
    pytest.importorskip("nltk")
    from lm_eval.tasks.ifeval.instructions_registry import INSTRUCTION_DICT

    assert set(INSTRUCTION_DICT) == set(ifeval.RULES)
    for rule in set(CASES) - {"length_constraints:number_sentences", "change_case:capital_word_frequency"}:
        for arguments, right, wrong in CASES[rule]:
            theirs = INSTRUCTION_DICT[rule](rule)
            theirs.build_description(**arguments)
            for text in [*right, *wrong]:
                if (
                    rule != "language:response_language" or len(text) > 30
                ):  # langdetect guesses at short texts
                    assert theirs.check_following(text) is (text in right), (rule, arguments, text)


def test_ifeval_prompts_and_scores(tmp_path: Path) -> None:
    nothing = dict.fromkeys(("keywords", "relation", "num_words", "language"))
    rows = [
        {"key": 7, "prompt": "Write about a boat without a comma.", "instruction_id_list":
            ["punctuation:no_comma", "keywords:existence"],
         "kwargs": [nothing, {**nothing, "keywords": ["boat"]}]},
        {"key": 9, "prompt": "In JSON, please.", "instruction_id_list": ["detectable_format:json_format"],
         "kwargs": [{}]},
    ]  # fmt: skip
    suite = registry.load(lines(tmp_path / "rows.jsonl", *rows))  # recognised by its columns
    assert suite.name == "ifeval" and [item.id for item in suite.items] == ["ifeval-7", "ifeval-9"]
    first = suite.items[0]
    assert first.context == rows[0]["prompt"] and first.meta["max_new_tokens"] == 1280
    assert first.messages == ({"role": "user", "content": rows[0]["prompt"]},)
    assert suite.categories == ("several kinds", "detectable_format")
    answers = ["A red boat, a sail.", "[1]"]
    assert passed(suite.items, answers) == [False, True]
    assert followed(suite.items, answers) == [False, True, True]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"instruction_id_list": ["keywords:poem"]}, "no instruction"),
        ({"kwargs": []}, "equal length"),
        ({"kwargs": [{"num_words": 5, "relation": "about"}]}, "less than or at least"),
        ({"kwargs": [{"num_words": None, "relation": "at least"}]}, "needs num_words as int"),
        ({"kwargs": ["x"]}, "not an object"),
        ({"instruction_id_list": ["language:response_language"], "kwargs": [{"language": "xx"}]}, "none of"),
        ({"instruction_id_list": ["keywords:existence"], "kwargs": [{"keywords": [3]}]}, "list of texts"),
    ],
)
def test_a_wrong_instruction_is_named(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    row = {"key": 1, "prompt": "Go.", "instruction_id_list": ["length_constraints:number_words"],
           "kwargs": [{"num_words": 5, "relation": "at least"}]}  # fmt: skip
    with pytest.raises(LabError, match=said):
        registry.load(f"ifeval:{lines(tmp_path / 'x.jsonl', row | change)}")


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("So 3 + 4 = 7.\n#### 7", "7"),
        ("It costs $1,250.", "1250"),
        ("The answer is -12", "-12"),
        ("about 3.50 dollars", "3.50"),
        ("no number", None),
    ],
)
def test_the_last_number(text: str, number: str | None) -> None:
    assert final_number(text) == number


@needs_data
def test_gsm8k_by_hand() -> None:
    suite = registry.load(f"gsm8k@2:{GSM8K}", 20)
    rows = [json.loads(line) for line in (GSM8K / "train.jsonl").read_text("utf-8").splitlines()[:2]]
    item = suite.items[0]
    shown = "".join(f"Question: {row['question']}\nAnswer: {row['answer']}\n\n" for row in rows)
    assert item.context == f"{shown}Question: {item.question}\nAnswer:"
    assert suite.kind == "generate" and suite.chance is None and suite.name == "gsm8k@2"
    (check,) = item.meta["checks"]
    assert passed([item], [f"It is {check['text']}."]) == [True]
    assert passed([item], [f"It is {check['text']}1."]) == [False]
    assert registry.load(str(GSM8K / "test.jsonl"), 1).name == "gsm8k"
