"""Recipes: every mistake at once, each with key, value, range and the nearest; what is written reads back."""

from __future__ import annotations

import math
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tui_lab.core.errors import LabError
from tui_lab.recipes.recipe import (
    FIELDS,
    KEY_ALIASES,
    Recipe,
    RecipeError,
    build,
    check_values,
    parse_value,
    read_recipe,
)
from tui_lab.recipes.rules import REFUSALS, warnings_for

# --------------------------------------------------------------------------------------------------
# strategies


def values_of(name: str) -> st.SearchStrategy[Any]:
    """Valid values of a field, drawn from its limits alone."""
    info = FIELDS[name]
    match info.kind:
        case "bool":
            return st.booleans()
        case "choice":
            return st.sampled_from(info.choices)
        case "text":
            text = st.text(st.characters(exclude_categories=("Cs",)), min_size=1 if info.minimum else 0)
            return text.filter(lambda value: not info.minimum or bool(value))
        case "int":
            low = int(info.minimum or 0) + (1 if info.exclusive_minimum else 0)
            high = int(info.maximum) if info.maximum is not None else 2**40
            return st.integers(low, high - 1 if info.exclusive_maximum else high)
        case _:
            return st.floats(
                info.minimum,
                info.maximum if info.maximum is not None else 1e6,
                exclude_min=info.exclusive_minimum,
                exclude_max=info.exclusive_maximum,
                allow_nan=False,
            )


recipes = (
    st.fixed_dictionaries({}, optional={name: values_of(name) for name in FIELDS})
    .filter(lambda values: not check_values(values))
    .map(build)
)


# --------------------------------------------------------------------------------------------------
# round trips


@given(recipes)
def test_what_is_written_reads_back(recipe: Recipe) -> None:
    assert build(tomllib.loads(recipe.to_toml())) == recipe


def test_a_recipe_file_reads_back(tmp_path: Path) -> None:
    recipe = build({"model": "a/b c", "learning_rate": 1e-4, "sample_prompt": 'Say "hi"\nnow'})
    (tmp_path / "recipe.toml").write_text(recipe.to_toml(), encoding="utf-8")
    assert read_recipe(tmp_path / "recipe.toml") == recipe


@given(st.data())
def test_a_setting_typed_as_text_is_the_value(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from([n for n, info in FIELDS.items() if info.kind != "text"]))
    value = data.draw(values_of(name))
    typed = str(value).lower() if isinstance(value, bool) else str(value)
    parsed = parse_value(name, f" {typed} ")
    assert parsed == value
    assert type(parsed) is type(value)
    assert not [p for p in check_values({name: parsed}) if "must be" in p.message]


@given(st.sampled_from(sorted(FIELDS)), st.text())
def test_any_typed_value_is_checked_without_a_crash(key: str, raw: str) -> None:
    for problem in check_values({key: parse_value(key, raw)}):
        assert problem.key in FIELDS
        assert problem.message


@pytest.mark.parametrize(
    ("typed", "value"),
    [
        ("lora_r=8", 8),
        ("lora_r=1e2", 100),
        ("learning_rate=1e-4", 1e-4),
        ("packing=yes", True),
        ("packing=Off", False),
        ("quantization='nf4'", "nf4"),
        ("data=a=b.jsonl", "a=b.jsonl"),
    ],
)
def test_settings_are_read_as_people_write_them(typed: str, value: Any) -> None:
    parsed = parse_value(*typed.split("=", 1))
    assert parsed == value
    assert type(parsed) is type(value)


def test_numbers_that_are_none_are_left_for_the_check_to_name() -> None:
    for key, raw in (("lora_r", "1.5"), ("lora_r", "nan"), ("lora_r", "inf"), ("learning_rate", "fast")):
        value = parse_value(key, raw)
        problems = check_values({key: value})
        assert len(problems) == 1
        assert raw in problems[0].message
    # a float field takes what Python takes, but neither nan nor inf
    assert math.isnan(parse_value("learning_rate", "nan"))
    assert check_values({"learning_rate": math.nan})
    assert check_values({"lora_alpha": math.inf})


# --------------------------------------------------------------------------------------------------
# mistakes


def test_all_mistakes_come_at_once_with_key_value_and_range() -> None:
    with pytest.raises(RecipeError) as caught:
        build({"learning_rat": 1e-4, "lora_r": 0, "packing": "maybe", "method": "lorra"}, where="mine.toml")
    text = str(caught.value)
    assert text.startswith("mine.toml: 4 mistakes")
    assert "learning_rat is not a recipe key; did you mean learning_rate?" in text
    assert "lora_r = 0: must be a whole number from 1 to 1024" in text
    assert "packing = 'maybe': must be true or false" in text
    assert "method = 'lorra'" in text and "did you mean 'lora'?" in text
    assert {problem.key for problem in caught.value.problems} == {
        "learning_rat",
        "lora_r",
        "packing",
        "method",
    }


@pytest.mark.parametrize("name", FIELDS)
def test_a_wrong_type_names_the_key_and_what_is_allowed(name: str) -> None:
    wrong: Any = 3 if FIELDS[name].kind in ("text", "choice", "bool") else "three"
    problems = check_values({name: wrong})
    assert [problem.key for problem in problems] == [name]
    assert str(wrong) in problems[0].message
    assert FIELDS[name].allowed() in problems[0].message


@pytest.mark.parametrize("name", [n for n, i in FIELDS.items() if i.kind in ("int", "float")])
def test_numbers_are_refused_just_outside_their_range_and_taken_inside(name: str) -> None:
    info = FIELDS[name]
    step = 1 if info.kind == "int" else 1e-9
    for limit, exclusive, outward in (
        (info.minimum, info.exclusive_minimum, -1),
        (info.maximum, info.exclusive_maximum, 1),
    ):
        if limit is None:
            continue
        kind = int if info.kind == "int" else float
        outside = kind(limit) if exclusive else kind(limit + outward * step)
        refused = [p.key for p in check_values({name: outside})]
        assert name in refused, f"{name} = {outside}"
        inside = kind(limit - outward * step) if exclusive else kind(limit)
        assert "must be" not in " ".join(p.message for p in check_values({name: inside}))


def test_true_is_no_number_and_one_is_no_truth() -> None:
    assert check_values({"lora_r": True})
    assert check_values({"packing": 1})


def test_a_long_value_is_shortened_in_its_message() -> None:
    (problem,) = check_values({"method": "x" * 5_000})
    assert len(problem.message) < 250


def test_unknown_keys_without_a_neighbour_say_where_the_keys_are() -> None:
    (problem,) = check_values({"zzzzqqq": 1})
    assert "tui-lab presets --keys" in problem.message


def test_names_from_elsewhere_lead_to_ours() -> None:
    assert set(KEY_ALIASES.values()) <= set(FIELDS)
    assert not set(KEY_ALIASES) & set(FIELDS)
    (problem,) = check_values({"lr": 1e-4})
    assert "did you mean learning_rate?" in problem.message


def test_every_field_says_what_it_is() -> None:
    for name, info in FIELDS.items():
        assert info.label and len(info.help) > 10, name
        assert info.default == getattr(Recipe(), name)


# --------------------------------------------------------------------------------------------------
# refusals and advice

REFUSED: list[dict[str, Any]] = [
    {"pinned": "learning_rate"},
    {"frozen_rank": 4, "lora_dropout": 0.0},
    {"frozen_rank": 4, "lora_dropout": 0.0, "from_run": "earlier", "use_dora": True},
    {"frozen_rank": 4, "lora_dropout": 0.1, "from_run": "earlier"},
    {"frozen_rank": 4, "lora_dropout": 0.0, "from_run": "earlier", "accelerate_config": "fsdp.yaml"},
    {"preference_loss": "dpo", "packing": True},
    {"preference_loss": "simpo", "method": "prompt_tuning"},
    {"preference_loss": "dpo", "init_lora_weights": "pissa"},
    {"chosen_weight": 1.0},
    {"preference_loss": "kto", "per_device_train_batch_size": 1},
    {"preference_loss": "orpo", "focal_gamma": 2.0},
    {"method": "full", "quantization": "nf4"},
    {"init_lora_weights": "pissa", "quantization": "nf4"},
    {"init_lora_weights": "olora", "quantization": "nf4"},
    {"method": "loha", "quantization": "nf4"},
    {"method": "osf", "quantization": "nf4"},
    {"use_dora": True, "quantization": "fp8"},
    {"unquantized_budget": 5.0, "quantization": "none"},
    {"method": "prompt_tuning", "packing": True},
    {"method": "prefix", "gradient_checkpointing": True},
    {"early_stopping_patience": 2, "validation_fraction": 0.0},
    {"method": "ia3", "use_dora": True},
    {"method": "loha", "use_rslora": True},
    {"method": "adalora", "target_r": 12, "init_r": 12},
    {"early_stopping_patience": 2, "eval_steps": 10, "save_steps": 15},
    {"stop_on_retention": True, "probe_share": 0.0},
    {"model": "org/model", "replay_fraction": 0.1},
    {"model": "org/model", "ewc_lambda": 1.0},
    {"label_smoothing_factor": 0.1, "focal_gamma": 2.0},
    {"class_weights": "balanced", "packing": True},
    {"class_weights": "balanced", "uncertainty_weighting": True},
    {"self_distillation": True, "replay_fraction": 0.1},
    {"self_distillation": True, "preference_loss": "orpo"},
    {"self_distillation": True, "data": "a.jsonl:1 + b.jsonl:1"},
    {"self_distillation": True, "num_processes": 2},
    {"uncertainty_weighting": True, "packing": True},
    {"kl_weight": 0.1, "init_lora_weights": "pissa"},
    {"l2_to_start": 0.1, "use_dora": True},
    {"ewc_lambda": 1.0, "method": "ia3"},
    {"frozen_layers": 1, "method": "prompt_tuning"},
    {"layer_lr_decay": 0.9, "method": "prefix"},
    {"gradual_unfreezing": True, "method": "p_tuning"},
    {"gradual_unfreezing": True, "method": "adalora"},
    {"frozen_layers": 1, "method": "adalora"},
    {"report_to": "tensorboard,elsewhere"},
    {"gradual_unfreezing": True, "num_processes": 2},
    {"uncertainty_weighting": True, "num_processes": 2},
]


def test_every_refusal_has_its_case() -> None:
    covered = set()
    for values in REFUSED:
        with pytest.raises(RecipeError):
            build(values)
        bare = Recipe.model_construct(**{**Recipe().model_dump(), **values})
        covered |= {index for index, (applies, _, _) in enumerate(REFUSALS) if applies(bare)}
    assert covered == set(range(len(REFUSALS)))


@pytest.mark.parametrize("values", REFUSED)
def test_a_refusal_names_an_alternative_that_is_accepted(values: dict[str, Any]) -> None:
    (problem,) = check_values(values)
    assert problem.key in values
    assert any(word in problem.message for word in ("use ", "needs ", "must be ", "set "))


def test_early_stopping_needs_checkpoints_where_it_validates() -> None:
    assert check_values({"early_stopping_patience": 3, "save_steps": 7})  # validations chosen by the lab
    assert not check_values({"early_stopping_patience": 3, "save_steps": 20, "eval_steps": 10})
    assert not check_values({"early_stopping_patience": 3, "eval_steps": 10})


def test_advice_depends_on_the_size_of_the_model() -> None:
    high = build({"model": "Qwen/Qwen2.5-0.5B", "learning_rate": 5e-3})
    assert any("learning_rate" in text for text in warnings_for(high, 494_000_000))
    assert not warnings_for(high, 3_000_000)
    assert not warnings_for(build({"model": "pocket", "learning_rate": 5e-3}))


@pytest.mark.parametrize(
    "values",
    [
        {"learning_rate": 1e-2},
        {"learning_rate": 1e-6},
        {"learning_rate": 1e-4, "method": "full"},
        {"weight_decay": 0.2},
        {"num_train_epochs": 10.0},
        {"lora_r": 128},
        {"lora_r": 4, "lora_alpha": 64.0},
        {"compute_dtype": "float16"},
        {"per_device_train_batch_size": 128},
        {"validation_fraction": 0.4},
        {"init_lora_weights": "pissa"},
    ],
)
def test_values_outside_their_usual_range_warn_and_run(values: dict[str, Any]) -> None:
    recipe = build({"model": "org/model", **values})
    key = next(iter(values))
    assert any(word in " ".join(warnings_for(recipe, 500_000_000)) for word in (key, "effective batch"))


def test_a_plain_recipe_has_nothing_to_warn_of() -> None:
    assert warnings_for(Recipe(model="org/model"), 500_000_000) == []


# --------------------------------------------------------------------------------------------------
# files


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"learning_rate = = 2\n", "line 1"),
        (b"\xff\xfe\x00", "cannot be read"),
        (b"lora_r = 'x'\n", "lora_r = 'x'"),
        (b"[model]\nname = 1\n", "model"),
        (b"a = " + b"[" * 100_000, "not valid TOML"),
    ],
)
def test_a_damaged_file_is_named_with_what_is_wrong(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "recipe.toml"
    path.write_bytes(content)
    with pytest.raises(LabError) as caught:
        read_recipe(path)
    assert str(path) in str(caught.value)
    assert said in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="there is no such file"):
        read_recipe(tmp_path / "no.toml")


@pytest.mark.parametrize("name", ["bottleneck", "Houlsby", "adapter"])
def test_bottleneck_adapters_are_refused_with_the_alternative(name: str) -> None:
    with pytest.raises(RecipeError, match=r"no bottleneck adapters.* use method = 'lora'"):
        build({"method": name})
