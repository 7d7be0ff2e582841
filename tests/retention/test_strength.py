"""Strength against peft itself: a model turned or saved at λ is the base plus λ times what peft merges into
its weights; and what is refused is indeed not proportional."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft.helpers import rescale_adapter_scale
from safetensors.torch import load_file, save_file

from tests.decoding.conftest import VOCABULARY, tiny
from tests.decoding.test_adapters import adapter_folder, config_of
from tui_lab.core.errors import LabError
from tui_lab.retention.strength import AdapterScale, interpolate, scale_adapter, scale_tensor
from tui_lab.retention.strength_grid import PointSummary, check_strength, recommend, strength_refusal

STRENGTHS = (0.0, 0.35, 1.0, 1.5)
EXACT = [
    ("lora", "llama"),
    ("rslora", "phi"),  # with patterns of rank and alpha, and a bias on B
    ("adalora", "llama"),
    ("loha", "llama"),
    ("ia3", "llama"),
    ("lora", "gpt2"),  # transposed weights
    ("ia3", "phi"),  # biases, which IA3 scales too
]
IDS = torch.randint(3, VOCABULARY, (2, 12), generator=torch.Generator().manual_seed(5))


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=IDS).logits
    return found


def peft_model(base: Any, folder: Path) -> Any:
    return peft.PeftModel.from_pretrained(copy.deepcopy(base), str(folder)).eval()


def moved(base: Any, folder: Path, strength: float) -> Any:
    """The base plus a part of what peft's merging adds to its weights."""
    merged = peft_model(base, folder).merge_and_unload().state_dict()
    model = copy.deepcopy(base)
    start = base.state_dict()
    model.load_state_dict({k: start[k] + strength * (merged[k] - start[k]) for k in start})
    return model


def near(one: torch.Tensor, other: torch.Tensor) -> bool:
    return torch.allclose(one, other, rtol=1e-4, atol=1e-4 * float(other.abs().max()))


@pytest.fixture(scope="module", params=EXACT, ids="-".join)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    method, kind = request.param
    base = tiny(kind, sharpness=2.0)
    folder = tmp_path_factory.mktemp("adapters") / f"{method}-{kind}"
    return base, adapter_folder(base, config_of(method, kind), folder)


def at(folder: Path, strength: float, place: Path) -> Path:
    """The adapter saved at a strength, as a folder for plain peft: its configuration and one file."""
    place.mkdir()
    config = (folder / "adapter_config.json").read_text()
    (place / "adapter_config.json").write_text(config)
    save_file(
        scale_adapter(load_file(folder / "adapter_model.safetensors"), strength),
        place / "adapter_model.safetensors",
    )
    return place


def test_a_scaled_and_a_saved_adapter_add_the_same_share_of_the_change(
    made: tuple[Any, Path], tmp_path: Path
) -> None:
    base, folder = made
    assert strength_refusal(json.loads((folder / "adapter_config.json").read_text())) == ""
    turned = peft_model(base, folder)
    scale = AdapterScale(turned)
    assert not near(logits(turned), logits(base))  # else nothing below could fail
    for strength in STRENGTHS:
        wanted = logits(moved(base, folder, strength))
        scale.set(strength)
        assert near(logits(turned), wanted)
        saved = peft_model(base, at(folder, strength, tmp_path / f"{strength}"))
        assert near(logits(saved), wanted)
        assert near(logits(saved), logits(turned))


def test_strengths_0_and_1_are_exact_after_repeated_changes(made: tuple[Any, Path]) -> None:
    base, folder = made
    turned = peft_model(base, folder)
    whole, scale = logits(turned), AdapterScale(turned)
    for strength in (0.1, 1.9, 0.7):
        scale.set(strength)
    scale.set(1.0)
    assert torch.equal(logits(turned), whole)
    scale.set(0.0)
    assert torch.equal(logits(turned), logits(base))


@pytest.mark.parametrize("method", ["lora", "rslora"])
def test_lora_strength_equals_pefts_scaling(method: str, tmp_path: Path) -> None:
    base = tiny("llama", sharpness=2.0)
    config = config_of(method, "llama")
    config.lora_bias = False  # peft's scaling leaves the bias on B out of its sum
    folder = adapter_folder(base, config, tmp_path / "adapter")
    turned, plain = peft_model(base, folder), peft_model(base, folder)
    scale = AdapterScale(turned)
    for strength in STRENGTHS:
        scale.set(strength)
        with rescale_adapter_scale(plain, strength):
            assert near(logits(turned), logits(plain))
        for layer in plain.modules():
            if isinstance(layer, peft.tuners.lora.LoraLayer):
                layer.set_scale("default", strength)
        assert near(logits(turned), logits(plain))
        for layer in plain.modules():
            if isinstance(layer, peft.tuners.lora.LoraLayer):
                layer.set_scale("default", 1.0)


def test_the_change_of_dora_is_not_proportional(tmp_path: Path) -> None:
    base = tiny("llama", sharpness=2.0)
    folder = adapter_folder(base, config_of("dora", "llama"), tmp_path / "adapter")
    turned = peft_model(base, folder)
    AdapterScale(turned).set(0.5)
    assert not near(logits(turned), logits(moved(base, folder, 0.5)))


# --- whole weights ------------------------------------------------------------------------------------


def test_full_weights_are_interpolated() -> None:
    base, tuned = tiny("llama", seed=1), tiny("llama", seed=2)
    whole, start = logits(tuned), dict(base.named_parameters())
    middle = copy.deepcopy(base)
    ends = (base.state_dict(), tuned.state_dict())
    middle.load_state_dict({k: 0.25 * ends[0][k] + 0.75 * ends[1][k] for k in ends[0]})
    scale = AdapterScale(tuned, start)
    scale.set(0.75)
    assert near(logits(tuned), logits(middle))
    scale.set(0.0)
    assert torch.equal(logits(tuned), logits(base))
    scale.set(1.0)
    assert torch.equal(logits(tuned), whole)


def test_weights_of_another_model_are_refused() -> None:
    other = dict(tiny("llama", hidden_size=64, intermediate_size=32).named_parameters())
    with pytest.raises(LabError, match="differs in shape or name"):
        AdapterScale(tiny("llama"), other)


@given(st.floats(0, 2), st.integers(0, 5))
def test_half_precision_is_exact_at_strengths_0_and_1(strength: float, seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    base, tuned = (torch.randn(8, generator=random).bfloat16() for _ in range(2))
    found = interpolate(base, tuned, strength)
    exact = base.double() + strength * (tuned.double() - base.double())
    assert found.dtype == torch.bfloat16
    assert torch.allclose(found.double(), exact, rtol=2**-7, atol=2**-7)
    assert torch.equal(interpolate(base, tuned, 0.0), base)
    assert torch.equal(interpolate(base, tuned, 1.0), tuned)


# --- what is refused ----------------------------------------------------------------------------------

LORA = {"peft_type": "LORA", "init_lora_weights": True, "bias": "none", "lora_alpha": 8}


@pytest.mark.parametrize(
    ("config", "word"),
    [
        ({**LORA, "use_dora": True}, "DoRA"),
        ({**LORA, "init_lora_weights": "pissa"}, "pissa"),
        ({**LORA, "init_lora_weights": "pissa_niter_16"}, "pissa_niter_16"),
        ({**LORA, "init_lora_weights": "olora"}, "olora"),
        ({**LORA, "init_lora_weights": "loftq"}, "loftq"),
        ({**LORA, "init_lora_weights": "corda"}, "corda"),
        ({**LORA, "init_lora_weights": "lora_ga"}, "lora_ga"),
        ({**LORA, "init_lora_weights": "a\x1b[31m new one"}, "initialisation"),
        ({**LORA, "modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({**LORA, "trainable_token_indices": [1]}, "trainable_token_indices"),
        ({**LORA, "bias": "all"}, "biases"),
        ({**LORA, "use_qalora": True}, "use_qalora"),
        ({**LORA, "alora_invocation_tokens": [1]}, "alora_invocation_tokens"),
        ({"peft_type": "PREFIX_TUNING"}, "virtual tokens"),
        ({"peft_type": "P_TUNING"}, "virtual tokens"),
        ({"peft_type": "PROMPT_TUNING"}, "virtual tokens"),
        ({"peft_type": "OFT"}, "OFT"),
        ({}, "None"),
    ],
)
def test_adapters_that_cannot_be_scaled_are_refused_with_the_reason(
    config: dict[str, Any], word: str
) -> None:
    reason = strength_refusal(config)
    assert word in reason and "\x1b" not in reason and "\n" not in reason


@pytest.mark.parametrize("init", [None, True, False, "gaussian", "eva", "orthogonal"])
def test_initialisations_that_do_not_change_the_base_are_accepted(init: Any) -> None:
    assert strength_refusal({**LORA, "init_lora_weights": init, "use_rslora": True}) == ""


def test_pefts_initialisations_that_change_the_base_are_known() -> None:
    """The list of those that leave the base alone, against peft."""
    for init in (True, False, "gaussian", "orthogonal", "pissa", "olora"):
        base = tiny("llama")
        before = base.model.layers[0].self_attn.q_proj.weight.detach().clone()
        config = peft.LoraConfig(r=4, target_modules=["q_proj"], init_lora_weights=init)
        wrapped = peft.get_peft_model(base, config)
        after = wrapped.base_model.model.model.layers[0].self_attn.q_proj.base_layer.weight
        kept = torch.equal(before, after)
        assert kept == (strength_refusal({**LORA, "init_lora_weights": init}) == ""), init


def test_a_file_that_replaces_weights_is_refused() -> None:
    adapter = {"model.q_proj.lora_A.weight": torch.ones(2, 3), "model.q_proj.lora_B.weight": torch.ones(3, 2)}
    assert torch.equal(scale_adapter(adapter, 0.5)["model.q_proj.lora_B.weight"], torch.full((3, 2), 0.5))
    with pytest.raises(LabError, match=r"lm_head\.weight replaces"):
        scale_adapter({**adapter, "model.lm_head.weight": torch.ones(2)}, 0.5)
    with pytest.raises(LabError, match="none of its tensors"):
        scale_adapter({"model.q_proj.weight": torch.ones(2)}, 0.5)
    with pytest.raises(LabError, match="no part of it to scale"):
        AdapterScale(tiny("llama"))


@pytest.mark.parametrize("value", [-0.1, 2.1, math.nan, math.inf])
def test_invalid_strengths_are_refused(value: float) -> None:
    with pytest.raises(LabError, match="lies between 0"):
        check_strength(value)


def test_only_the_proportional_part_is_scaled() -> None:
    for name in ("x.lora_A.weight", "x.lora_E", "x.hada_w1_a", "x.lora_magnitude_vector", "x.lora_Bits"):
        assert torch.equal(scale_tensor(name, torch.ones(2), 0.5), torch.ones(2))
    assert torch.equal(scale_tensor("x.ia3_l", torch.full((2,), 3.0), 0.5), torch.full((2,), 2.0))


# --- recommending -------------------------------------------------------------------------------------


def point(strength: float, acquisition: float, retention: float, verdict: str = "green") -> PointSummary:
    return PointSummary(strength, acquisition, retention, verdict)


CURVE = [point(0, 0.1, 1.0), point(0.5, 0.6, 0.97), point(0.8, 0.7, 0.94, "amber"), point(1, 0.8, 0.6, "red")]


def test_the_best_gain_with_enough_retention_is_recommended() -> None:
    strength, reason = recommend(CURVE, 0.95)
    assert strength == 0.5 and "0.600" in reason and "97.0%" in reason and "0.800 at 1" in reason
    assert "between 0.5 and 0.8 there may be a better one" in reason
    assert "there may be" not in recommend([*CURVE, point(0.55, 0.65, 0.94)], 0.95)[1]
    assert recommend(CURVE, 0.9)[0] == 0.8
    assert recommend(CURVE, 0.5)[0] == 1


def test_equal_gains_are_decided_by_retention_and_then_by_strength() -> None:
    assert recommend([point(0.6, 0.8, 0.96), point(0.8, 0.8, 0.98)], 0.95)[0] == 0.8
    assert recommend([point(0.8, 0.8, 0.98), point(0.6, 0.8, 0.98)], 0.95)[0] == 0.6


def test_without_enough_retention_the_highest_is_recommended() -> None:
    strength, reason = recommend(CURVE[1:], 0.99)
    assert strength == 0.5 and "the highest" in reason and "no measured strength" in reason
    # of the base alone it is said that nothing above it does
    strength, reason = recommend([CURVE[0], CURVE[3]], 0.95)
    assert strength == 0 and "no strength above 0" in reason


def test_without_measurements_nothing_is_recommended() -> None:
    assert recommend([])[0] is None
    strength, reason = recommend([point(0, 0.1, 1.0, "cannot_tell"), point(1, 0.9, 0.5, "cannot_tell")])
    assert strength is None and "guessing" in reason
    assert recommend([point(0, 0.1, math.nan), point(1, 0.9, math.nan)])[0] is None


def test_without_acquisition_the_greatest_strength_is_recommended() -> None:
    strength, reason = recommend([point(0, math.nan, 1), point(0.5, math.nan, 0.96), point(1, math.nan, 0.5)])
    assert strength == 0.5 and "not measured" in reason
