"""The text of a mixture: what is a weight and what is part of a name, and one sentence for each mistake."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tui_lab.core.errors import LabError
from tui_lab.recipes import mixture
from tui_lab.recipes.mixture import Part, from_options, joined, parts_of, short_name
from tui_lab.recipes.recipe import RecipeError, build


@pytest.mark.parametrize(
    ("options", "data"),
    [
        (["rows.jsonl"], "rows.jsonl"),
        (["rows.jsonl:0.5"], "rows.jsonl:0.5"),  # one set has no weight: that is its name
        (["a.jsonl:0.75", "b.jsonl:0.25"], "a.jsonl:0.75 + b.jsonl:0.25"),
        (["a.jsonl", "b.jsonl:3"], "a.jsonl:1 + b.jsonl:3"),
        (["owner/name:config", "pirate"], "owner/name:config:1 + pirate:1"),
        (["owner/name:config:2", "c:/x.csv"], "owner/name:config:2 + c:/x.csv:1"),
        (["a.jsonl:0.5 + b.jsonl"], "a.jsonl:0.5 + b.jsonl"),
        (["a.jsonl:1e-3", " b.jsonl : 2 "], "a.jsonl:0.001 + b.jsonl:2"),
    ],
)
def test_options_become_a_text_that_reads_back(options: list[str], data: str) -> None:
    assert from_options(options) == data
    assert joined(parts_of(data)) == data or len(options) == 1


def test_weights_and_names() -> None:
    assert parts_of("owner/name:config") == (Part("owner/name:config"),)
    assert parts_of("a:b:0.5 + c") == (Part("a:b", 0.5), Part("c", 1.0))
    assert short_name("/x/y/a.jsonl:0.75 + ~/b.jsonl:0.25") == "a.jsonl:0.75 + b.jsonl:0.25"
    assert short_name("/x/y/a.jsonl") == "a.jsonl" and short_name("pirate") == "pirate"


names = st.text("abc./-_", min_size=1).filter(lambda name: name.strip() == name)
weights = st.floats(1e-3, 1e6).map(lambda weight: float(f"{weight:.10g}"))


@given(st.lists(st.builds(Part, names, weights), min_size=2, unique_by=lambda part: part.name))
def test_any_mixture_reads_back(parts: list[Part]) -> None:
    assert parts_of(joined(parts)) == tuple(parts)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ("a:0 + b", "the weight of a is 0; it must be a number above 0"),
        ("a:-2 + b", "the weight of a is -2"),
        ("a:nan + b", "the weight of a is nan"),
        ("a + b:inf", "the weight of b is inf"),
        ("a +  + b", "a part without a name"),
        ("a + :3", "a part without a name"),
        ("a:1 + a:2", "names a twice"),
    ],
)
def test_a_mistake_is_one_sentence(data: str, sentence: str) -> None:
    with pytest.raises(RecipeError) as found:
        build({"data": data})
    assert sentence in str(found.value) and "\n" not in str(found.value)
    assert [problem.key for problem in found.value.problems] == ["data"]


def test_a_file_whose_name_looks_like_a_mixture_is_one_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a + b:0").write_text("")
    assert not mixture.is_mixture("a + b:0") and parts_of("a + b:0") == (Part("a + b:0"),)
    assert from_options(["a + b:0"]) == "a + b:0"
    with pytest.raises(LabError, match="cannot be part of a mixture"):
        from_options(["a + b:0", "c"])
