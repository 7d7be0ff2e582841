"""Saved comparisons: figures, fenced Markdown, JSON, prompt history."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.ui.helpers import lane_done
from tui_lab.core.errors import LabError
from tui_lab.decoding.records import TokenRecord
from tui_lab.playground.messages import GenerateRequest, LaneDone, PlaygroundStatus
from tui_lab.ui.views.saved_comparison import (
    MAX_PROMPTS,
    STATISTICS,
    History,
    as_json,
    as_markdown,
    figures,
    save,
)

STATUS = PlaygroundStatus("ready", model="pocket", dtype="float32", device="cpu", names=("base",))


def lane(text: str = "A cat.", number: int = 0, description: str = "greedy") -> LaneDone:
    return lane_done(
        number, description, text, token_ids=(5, 6, 7), prompt_token_ids=(1, 2),
        tokens=(TokenRecord(number, 0, 5, text, -0.5, 1, 1.25),), first_token_s=0.125, seconds=0.5,
        tok_per_s=6.0, mean_logprob=-0.5, perplexity_base=math.nan, rep_4=0.25,
    )  # fmt: skip


def test_figures_have_names_and_no_nan() -> None:
    told = figures(lane())
    assert told.keys() == STATISTICS.keys()
    assert told["ppl base"] == "–"
    assert (told["tokens"], told["tok/s"], told["rep-4"]) == ("3", "6", "0.25")


@given(st.lists(st.text(), min_size=1, max_size=3), st.text())
def test_model_text_stays_in_its_code_block(texts: list[str], prompt: str) -> None:
    page = as_markdown(
        GenerateRequest(prompt, ("greedy",)), STATUS, [lane(t, n) for n, t in enumerate(texts)]
    )
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f\u202a-\u202e]", page)
    outside, fence = [], ""
    for line in page.split("\n"):
        opened = re.match(r"(`{3,})text$", line)
        if not fence and opened:
            fence = opened[1]
        elif fence and line == fence:
            fence = ""
        elif not fence:
            outside.append(line)
    assert not fence
    headings = [line for line in outside if line.startswith("#")]
    assert len(headings) == 2 + len(texts), "the title, the prompt, one a lane"


def test_json_has_the_exact_values() -> None:
    hostile = "\x1b[2J[red]`|\u202eabc"
    whole = json.loads(as_json(GenerateRequest(hostile, ("greedy",), raw=True), STATUS, [lane(hostile)]))
    assert whole["ask"]["prompt"] == hostile
    assert whole["lanes"][0]["text"] == hostile
    assert whole["lanes"][0]["token_ids"] == [5, 6, 7]
    assert whole["lanes"][0]["tokens"][0]["logprob"] == -0.5
    assert whole["model"] == "pocket"


def test_two_comparisons_in_one_second_are_two_files(tmp_path: Path) -> None:
    ask = GenerateRequest("hello", ("greedy",))
    paths = {save(ask, STATUS, [lane()], tmp_path) for _ in range(3)}
    assert len(paths) == 3
    assert all(path.exists() and path.with_suffix(".json").exists() for path in paths)


def test_an_unwritable_folder_raises_a_lab_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LabError, match="cannot be saved"):
        save(GenerateRequest("hello", ("greedy",)), STATUS, [lane()], tmp_path / "file")


def test_history_has_each_prompt_once(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    history = History(path)
    for prompt in ("a", "b\n\x1b", "a"):
        history.add(prompt)
    assert History(path).prompts == ["b\n\x1b", "a"]
    for number in range(MAX_PROMPTS + 5):
        history.add(str(number))
    assert len(History(path).prompts) == MAX_PROMPTS
    assert History(path).prompts[-1] == str(MAX_PROMPTS + 4)


@pytest.mark.parametrize("content", [b"\xff\xfe", b'{"no": "text"}\n3\n"kept"\nbroken', b""])
def test_a_damaged_history_is_read_up_to_the_damage(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_bytes(content)
    assert History(path).prompts == (["kept"] if b"kept" in content else [])
