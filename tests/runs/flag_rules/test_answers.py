"""Each red flag on a made-up log that must raise it, and on its nearest harmless relative that must not."""

from typing import Any

from tests.runs.flag_rules.events import answers, found, score

LIVELY = "the crew of the old ship went ashore at dawn to look for water and found none on that island"
LOOP = "the sea the sea " * 6


def test_mode_collapse() -> None:
    collapsed = score("end", 0.2, 200, examples=answers("Arr", "arr", " Arr "))
    assert found([collapsed])["mode_collapse"].severity == "red"
    assert found([score("end", 0.2, 200, examples=answers("Arr", "arr", "Ahoy"))]) == {}
    # where the same answer is expected, it is right
    same = [{**example, "expected": "yes"} for example in answers("yes", "yes", "yes")]
    assert found([score("end", 0.2, 200, examples=same)]) == {}


def test_repetitive_answers_are_flagged() -> None:
    def shown(*texts: str, expected: str = LIVELY) -> dict[str, Any]:
        return score("end", 0.9, 200, examples=[{**one, "expected": expected} for one in answers(*texts)])

    flag = found([shown(LOOP, LOOP + "!")])["mode_collapse"]
    assert flag.severity == "amber" and "word pairs are distinct" in flag.sentence
    assert found([shown(LIVELY, LIVELY.upper())]) == {}
    assert found([shown(LOOP, LOOP + "!", expected=LOOP)]) == {}, "the data repeats itself too"
    assert found([shown("the sea the sea", "the sea")]) == {}, "too short to say"
    assert found([{**shown(LOOP, LOOP + "!"), "when": "start"}]) == {}, "that is the base"


def test_repetitive_samples_are_flagged() -> None:
    def sample(step: int, text: str, prompt: str = "Go on") -> dict[str, Any]:
        return {"kind": "sample", "step": step, "prompt": prompt, "text": text}

    assert found([sample(0, LIVELY), sample(100, LOOP)])["mode_collapse"].step == 100
    assert found([sample(0, LOOP), sample(100, LOOP)]) == {}, "so did the base"
    assert found([sample(0, LIVELY), sample(100, LOOP), sample(200, LIVELY)]) == {}, "it recovered"
    assert found([sample(0, LIVELY), sample(100, LOOP, "Another")]) == {}
