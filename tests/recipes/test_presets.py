"""Presets: each of the lab's is valid, explained key by key and without unmeant warnings; a user's own go
over them, and a bad file never hides the others."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from tui_lab.core.errors import LabError
from tui_lab.core.paths import resource_dir
from tui_lab.recipes.presets import DEFAULT_PRESET, list_presets, load_preset, make_recipe
from tui_lab.recipes.recipe import FIELDS, RecipeError, build
from tui_lab.recipes.rules import warnings_for

SHIPPED = sorted(resource_dir("presets").glob("*.toml"))
EXPECTED = {
    "dpo", "kto", "orpo", "simpo",
    "adalora", "dora", "full", "ia3", "keeper", "minute", "mixture", "multi-task", "naive", "osf", "pissa",
    "premium", "production", "prompt", "reasoning", "sdft", "starter", "style",
}  # fmt: skip
#: The warnings that a preset is meant to bring, by a word of each, on a model of real size.
MEANT = {
    "minute": ["learning_rate"],  # it is made for the bundled model
    "naive": ["learning_rate"],  # this is its point
    "pissa": ["changes the base weights"],
}


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's own preset folder, empty."""
    monkeypatch.setenv("TUI_LAB_CONFIG_DIR", str(tmp_path))
    folder = tmp_path / "presets"
    folder.mkdir()
    return folder


def test_the_presets_that_are_promised_are_there(own: Path) -> None:
    presets, messages = list_presets()
    assert {preset.name for preset in presets} == EXPECTED
    assert not messages
    assert presets[0].name == DEFAULT_PRESET


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_key_has_its_trade_off_above_it(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    comments = []
    for number, line in enumerate(lines):
        if found := re.match(r"(\w+) = ", line):
            above = lines[number - 1]
            assert above.startswith("# ") and not above.startswith("# ---"), f"{path.name}: {found[1]}"
            comments.append(above)
            if found[1] in FIELDS:
                assert above[2:] != FIELDS[found[1]].help, f"{path.name}: {found[1]} repeats the help text"
    values = tomllib.loads("\n".join(lines))
    assert len(comments) == len(values) - ("pocket" in values) + len(values.get("pocket", {}))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_keys_stand_in_the_groups_of_the_schema(path: Path) -> None:
    keys = [key for key in tomllib.loads(path.read_text(encoding="utf-8")) if key in FIELDS]
    groups = list(dict.fromkeys(info.group for info in FIELDS.values()))
    found = [groups.index(FIELDS[key].group) for key in keys]
    assert found == sorted(found)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_preset_is_valid_described_and_warns_only_as_meant(path: Path) -> None:
    preset = load_preset(path.stem)
    assert not preset.problems
    assert preset.title and preset.card and len(preset.description) > 30
    recipe = build({**preset.values, "model": "org/model"})
    found = warnings_for(recipe, 500_000_000)
    meant = MEANT.get(path.stem, [])
    assert len(found) == len(meant)
    for word, text in zip(meant, found, strict=True):
        assert word in text
    # on the model that is there without a network, none warns of what is right there
    assert not [text for text in warnings_for(make_recipe(path.stem)) if "learning_rate" in text]


def test_a_table_holds_what_is_otherwise_for_the_bundled_model(own: Path) -> None:
    (own / "two.toml").write_text("lora_r = 4\nlearning_rate = 1e-4\n[pocket]\nlearning_rate = 1e-2\n")
    assert make_recipe("two").learning_rate == 1e-2
    assert make_recipe("two", model="pocket").lora_r == 4
    assert make_recipe("two", model="org/model").learning_rate == 1e-4
    assert make_recipe("two", learning_rate=3e-3).learning_rate == 3e-3
    (own / "one.toml").write_text("pocket = 3\n")
    (own / "three.toml").write_text("[pocket]\nlora_q = 1\n")
    (own / "four.toml").write_text("replay_fraction = 0.1\n[pocket]\nlora_r = 2\n")
    presets = {preset.name: preset for preset in list_presets()[0]}
    assert [problem.key for problem in presets["one"].problems] == ["pocket"]
    assert [problem.key for problem in presets["three"].problems] == ["lora_q"]
    # what the bundled model could replay, another could not
    assert [problem.key for problem in presets["four"].problems] == ["replay_fraction"]


def test_the_presets_of_the_demonstration() -> None:
    """What forgets and what keeps, on the bundled model and on others."""
    naive, keeper = make_recipe("naive"), make_recipe("keeper")
    assert naive.method == keeper.method == "full"
    assert naive.replay_fraction == naive.kl_weight == 0 and keeper.replay_fraction > 0
    other = make_recipe("keeper", model="org/model")
    assert other.method == "lora" and other.kl_weight > 0
    assert make_recipe("full", model="org/model").gradual_unfreezing


def test_the_table_of_the_three_cards() -> None:
    """The figures that the three main presets are known by."""
    starter, production, premium = (make_recipe(name) for name in ("starter", "production", "premium"))
    assert [r.quantization for r in (starter, production, premium)] == ["nf4", "nf4", "none"]
    assert [(r.lora_r, r.lora_alpha) for r in (starter, production, premium)] == [
        (16, 32),
        (32, 64),
        (64, 128),
    ]
    assert [r.effective_batch_size for r in (starter, production, premium)] == [4, 8, 8]
    assert [r.max_length for r in (starter, production, premium)] == [2048, 4096, 8192]
    assert [r.packing for r in (starter, production, premium)] == [False, True, True]
    assert {r.lora_dropout for r in (starter, production, premium)} == {0.05}
    assert {r.target_modules for r in (starter, production, premium)} == {"all"}
    assert (make_recipe("style").lora_r, make_recipe("reasoning").lora_r) == (8, 64)
    several = make_recipe("multi-task")
    assert (several.lora_r, several.use_rslora) == (128, True)


def test_the_default_is_qlora_on_the_bundled_model() -> None:
    recipe = make_recipe()
    assert (recipe.preset, recipe.model, recipe.data) == (DEFAULT_PRESET, "pocket", "pirate")
    assert (recipe.method, recipe.quantization) == ("lora", "nf4")


def test_ones_own_preset_takes_the_place_of_the_labs(own: Path) -> None:
    (own / "starter.toml").write_text("title = 'Mine'\nlora_r = 4\n")
    (own / "other.toml").write_text("lora_r = 2\n")
    assert make_recipe("starter").lora_r == 4
    assert load_preset("starter").own and load_preset("starter").title == "Mine"
    assert make_recipe("other").lora_r == 2
    presets, messages = list_presets()
    assert {preset.name for preset in presets} == EXPECTED | {"other"}
    assert not messages


def test_a_bad_file_never_hides_the_others(own: Path) -> None:
    (own / "broken.toml").write_text("lora_r = = 3\n")
    (own / "binary.toml").write_bytes(b"\x00\xff\xfe")
    (own / "folder.toml").mkdir()
    (own / "wrong.toml").write_text("lora_r = 0\nlora_alfa = 3\ntitle = 7\n")
    presets, messages = list_presets()
    names = {preset.name: preset for preset in presets}
    assert set(names) == EXPECTED | {"wrong"}
    assert len(messages) == 3
    assert all(any(name in text for text in messages) for name in ("broken", "binary", "folder"))
    assert {problem.key for problem in names["wrong"].problems} == {"lora_r", "lora_alfa", "title"}


def test_a_mistake_names_the_file_and_all_its_keys(own: Path) -> None:
    (own / "wrong.toml").write_text("lora_r = 0\nlora_alfa = 3\n")
    with pytest.raises(RecipeError) as caught:
        make_recipe("wrong")
    text = str(caught.value)
    assert str(own / "wrong.toml") in text
    assert "lora_r = 0: must be a whole number from 1 to 1024" in text
    assert "did you mean lora_alpha?" in text


def test_unknown_presets_name_the_nearest(own: Path) -> None:
    with pytest.raises(LabError, match="did you mean starter"):
        load_preset("startr")
    with pytest.raises(LabError, match="there are minute"):
        load_preset("qqqqqq")


def test_a_preset_by_path(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("lora_r = 2\n")
    recipe = make_recipe(str(tmp_path / "mine.toml"), lora_alpha=4)
    assert (recipe.preset, recipe.lora_r, recipe.lora_alpha) == ("mine", 2, 4)


def test_overrides_and_their_mistakes_come_together(own: Path) -> None:
    assert make_recipe("starter", lora_r=8).lora_r == 8
    with pytest.raises(RecipeError) as caught:
        make_recipe("starter", lora_q=8, learning_rat=1.0, lora_r=0)
    assert {problem.key for problem in caught.value.problems} == {"lora_q", "learning_rat", "lora_r"}
