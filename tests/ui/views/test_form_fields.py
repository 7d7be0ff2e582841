"""The fields of the form as plain data."""

from __future__ import annotations

from itertools import groupby

from tui_lab.recipes.recipe import FIELDS
from tui_lab.ui.views.form_fields import ELSEWHERE, in_order, matching, set_in, unused


def test_every_field_has_one_place() -> None:
    names = in_order()
    assert sorted(names) == sorted(FIELDS.keys() - ELSEWHERE)
    groups = [FIELDS[name].group for name in names]
    assert [group for group, _ in groupby(groups)] == list(dict.fromkeys(groups)), groups


def test_the_filter_finds_names_before_explanations() -> None:
    assert matching("learning") == {"learning_rate"} and "lora_r" in matching("rank")
    assert matching("catastrophe") == frozenset() and "gradient_checkpointing" in matching("recomputes")


def test_fields_that_are_set_or_have_no_effect() -> None:
    assert set_in(("loss",), {"focal_gamma": 2.0, "lora_r": 8, "label_smoothing_factor": 0.0}) == [
        "focal_gamma"
    ]
    assert unused("lora_r", {"method": "full"}) == "not used by full"
    assert unused("lora_r", {"method": "loha"}) == ""
    assert unused("num_train_epochs", {"max_steps": 10}) == "not used: max steps decides"
    assert unused("double_quantization", {"quantization": "none"}) == "not used without nf4"
