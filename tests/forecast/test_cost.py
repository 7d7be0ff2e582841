"""Time, money and energy against figures worked out by hand, and silence where nothing is known."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from tui_lab.core.errors import LabError
from tui_lab.core.format import carbon, energy, money
from tui_lab.forecast import calibration, cost
from tui_lab.forecast.calibration import Calibration
from tui_lab.forecast.estimate import tokens_text
from tui_lab.hardware import gpu_specs
from tui_lab.hardware.device import DeviceFacts
from tui_lab.models import catalog
from tui_lab.models.shapes import Shape
from tui_lab.recipes.recipe import Recipe
from tui_lab.recipes.resolve import ResolvedValues, unresolved

CPU = DeviceFacts("cpu", "the CPU", 8 << 30, False, 2)
CARD = DeviceFacts("cuda", "a card", 8 << 30, True, 2)
FREE = cost.Prices()


def shape_of(name: str) -> Shape:
    shape = catalog.find(name).shape
    assert shape is not None
    return shape


QWEN = shape_of("Qwen/Qwen2.5-0.5B")


def recipe(**values: Any) -> Recipe:
    return Recipe.model_validate({"model": "Qwen/Qwen2.5-0.5B", "probe_share": 0.0, **values})


def measured(**values: Any) -> Calibration:
    plain = {
        "device": "a card", "tok_per_s": 1000.0, "model_flops_s": 2e12, "hardware_flops_s": 2.4e12,
        "power_w": 200.0, "cuda": True, "steps": 8, "length": 1024, "date": "2026-11-21",
    }  # fmt: skip
    return Calibration(**{**plain, **values})


def test_figures_that_were_not_read_in_the_source_say_so() -> None:
    def texts(card: str) -> str:
        found = cost.estimate(QWEN, recipe(compute_dtype="bfloat16"), None, card, 1e9, tariff=FREE)
        return "; ".join((found.basis, *found.notes))

    assert "165.2 TFLOP/s bfloat16)" in texts("RTX 4090") and "not verified" not in texts("RTX 4090")
    assert "70 TFLOP/s bfloat16, not verified)" in texts("A10G")
    assert "limit of 300 W (not verified)" in texts("A10G")
    # bfloat16 is computed as float32 on a card without it
    assert "8.1 TFLOP/s bfloat16)" in texts("T4")


def test_hours_from_a_data_sheet() -> None:
    """Long rows in large batches: operations rule, and the arithmetic is one division."""
    asked = recipe(max_length=1024, per_device_train_batch_size=64, compute_dtype="bfloat16")
    found = cost.estimate(QWEN, asked, None, "RTX 4090", 1e9, tariff=FREE)
    seconds = 1e9 * found.operations.hardware / (165.2e12 * cost.ASSUMED_SHARE.value)
    assert found.hours is not None and found.mfu is not None and found.assumed
    assert found.hours.value == pytest.approx(seconds / 3600)
    assert found.hours.low < found.hours.value < found.hours.high
    # the tiles of the output layer are computed twice, so less of the rate is the model's own work
    assert 0.8 * cost.ASSUMED_SHARE.value < found.mfu.value < cost.ASSUMED_SHARE.value
    assert "RTX 4090" in found.basis and "assumed" in found.basis
    assert found.money is None


def test_small_batches_on_a_large_card_wait_for_python() -> None:
    """At 1 × 32 tokens the H200's rate is no matter: each block of each batch takes its milliseconds."""
    asked = recipe(max_length=32, per_device_train_batch_size=1, compute_dtype="bfloat16")
    found = cost.estimate(QWEN, asked, None, "H200", 32_000, tariff=FREE)
    assert found.hours is not None
    assert found.hours.value == pytest.approx(1000 * 24 * 2.5e-3 / 3600)
    assert found.hours.value > 10 * 32_000 * found.operations.hardware / 989e12 / 3600


def test_money_energy_and_carbon_follow_from_the_hours() -> None:
    tariff = cost.Prices(per_hour=2.0, currency="€", g_co2_per_kwh=100.0)
    found = cost.estimate(QWEN, recipe(), None, "T4", 1e6, measured=measured(), tariff=tariff)
    assert found.hours and found.money and found.kwh and found.co2_kg
    assert found.money.value == pytest.approx(found.hours.value * 2.0) and found.currency == "€"
    assert found.kwh.value == pytest.approx(found.hours.value * 0.2)
    assert found.co2_kg.value == pytest.approx(found.kwh.value * 0.1)
    assert not found.assumed and found.basis.startswith("measured on this card")


def test_a_measurement_gives_its_own_speed_back() -> None:
    asked = recipe(max_length=1024, packing=True)
    keys = asked.per_device_train_batch_size * 1024
    rate = cost.operations(QWEN, asked, 1024, keys=keys).hardware * 1000
    found = cost.estimate(
        QWEN, asked, None, CPU, 3.6e6, measured=measured(hardware_flops_s=rate), tariff=FREE
    )
    assert found.tok_per_s is not None and found.tok_per_s.value == pytest.approx(1000)
    assert found.parts["training"] == pytest.approx(1.0)
    low, high = 1 / (1 + cost.MEASURED_SPREAD), 1 / (1 - cost.MEASURED_SPREAD)
    assert found.hours and found.hours.low == pytest.approx(low) and found.hours.high == pytest.approx(high)


def test_a_processor_that_was_not_measured_has_no_hours_and_no_energy() -> None:
    found = cost.estimate(QWEN, recipe(), None, CPU, 1e6, tariff=cost.Prices(per_hour=1.0))
    assert (found.hours, found.money, found.kwh, found.co2_kg, found.mfu) == (None,) * 5
    assert "not known" in found.basis and any("energy is not known" in note for note in found.notes)
    assert found.flops_per_token > 4 * 494e6
    timed = cost.estimate(QWEN, recipe(), None, CPU, 1e6, measured=measured(power_w=None), tariff=FREE)
    assert timed.hours is not None and timed.kwh is None and timed.mfu is None


def test_a_card_that_is_not_known_says_so_and_one_by_name_is_refused() -> None:
    laptop = DeviceFacts("cuda", "NVIDIA GeForce RTX 4090 Laptop GPU", 16 << 30, True, 8)
    found = cost.estimate(QWEN, recipe(), None, laptop, 1e6, tariff=FREE)
    assert found.hours is None and any("laptop" in note for note in found.notes)
    with pytest.raises(LabError):
        cost.estimate(QWEN, recipe(), None, "RTX 9999", 1e6, tariff=FREE)


def test_tokens_of_a_run() -> None:
    plain = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4}
    epochs = recipe(**plain, num_train_epochs=2.0, replay_fraction=0.2, replay_data="x.jsonl")
    tokens, basis = cost.planned_tokens(epochs, 1024, rows=1000, mean_tokens=300)
    assert tokens == pytest.approx(1000 / 0.8 * 300 * 2) and "general rows" in basis
    steps = recipe(**plain, max_steps=10)
    assert cost.planned_tokens(steps, 1024, 1000, 300)[0] == 10 * 8 * 300
    most, basis = cost.planned_tokens(steps, 1024)
    assert most == 10 * 8 * 1024 and "at most" in basis
    packed, basis = cost.planned_tokens(recipe(**plain, max_steps=10, packing=True), 1024, 1000, 300)
    assert packed == 10 * 8 * 1024 and "at most" not in basis
    assert cost.planned_tokens(recipe(), 1024) == (1e6, "for each 1 M tokens: the data is not counted yet")


def test_tokens_that_are_not_counted_yet_are_at_most() -> None:
    counted = cost.DataFacts(rows=1000, mean_tokens=30)
    steps = recipe(max_steps=10, per_device_train_batch_size=2, gradient_accumulation_steps=1)
    assert tokens_text(cost.estimate(QWEN, steps, data=counted, device=CPU)) == "600 tokens"
    assert tokens_text(cost.estimate(QWEN, steps, device=CPU)).endswith(
        "tokens if every row has the greatest length"
    )


def test_validation_and_probes_are_part_of_it() -> None:
    asked = {"validation_fraction": 0.2, "max_length": 1024, "per_device_train_batch_size": 8}
    asked |= {"validation_rows": 2_500}
    with_probe = recipe(**asked, probe_share=0.05)
    found = cost.estimate(
        QWEN, with_probe, None, "A10G", None, data=cost.DataFacts(10_000, 500.0), tariff=FREE
    )
    # a quarter of what is trained on, nine times, forwards only
    checks = 9 * 0.25 * found.operations.forward / found.operations.hardware
    assert found.parts["validation"] / found.parts["training"] == pytest.approx(checks)
    assert found.hours and found.hours.value == pytest.approx(sum(found.parts.values()))
    assert found.hours.value == pytest.approx(found.parts["training"] * (1 + checks) * 1.05)
    # by itself nine validations take at most a tenth of the training
    fewer = cost.estimate(
        QWEN,
        recipe(**{**asked, "validation_rows": 0}),
        None,
        "A10G",
        None,
        data=cost.DataFacts(10_000, 500.0),
    )
    assert 0.06 < fewer.parts["validation"] / fewer.parts["training"] < 0.1
    unknown = cost.estimate(QWEN, with_probe, None, "A10G", 1e6, tariff=FREE)
    assert any("validation is not included" in note for note in unknown.notes)


def test_checkpointing_takes_longer_and_is_no_more_work() -> None:
    asked = {"max_length": 2048, "per_device_train_batch_size": 8}
    with_, without = (
        cost.estimate(QWEN, recipe(**asked, gradient_checkpointing=on), None, "A10G", 1e6, tariff=FREE)
        for on in (True, False)
    )
    assert with_.hours and without.hours and with_.mfu and without.mfu
    assert 1.15 < with_.hours.value / without.hours.value < 1.4
    assert with_.mfu.value < without.mfu.value
    assert with_.flops_per_token == without.flops_per_token
    assert "not counted as useful work" in with_.formula


def test_the_formula_is_stated_with_its_figures() -> None:
    found = cost.estimate(QWEN, recipe(max_length=1024, packing=True), None, "4090", 1e6, tariff=FREE)
    assert "4N + 6n + 3A" in found.formula and "N 494 M" in found.formula and "n 8.8 M" in found.formula
    assert "1,024 tokens" in found.formula and "full square" in found.formula


def test_what_is_computed_in() -> None:
    """A T4 has no bfloat16, and Gemma overflows its float16: float32 at an eighth of the rate."""
    asked = recipe(max_length=2048, per_device_train_batch_size=32)
    for shape, slower in ((QWEN, 1.0), (replace(QWEN, model_type="gemma"), 65 / 8.1)):
        auto, half = (
            cost.estimate(shape, asked, values, "T4", 1e6, tariff=FREE)
            for values in (None, structs.replace(unresolved(asked), compute_dtype="float16"))
        )
        assert auto.hours and half.hours
        assert auto.hours.value / half.hours.value == pytest.approx(slower, rel=0.01)


def test_mfu_of_a_measured_speed() -> None:
    assert cost.mfu(10_000, 2e9, 100e12) == pytest.approx(0.2)
    assert cost.mfu(10_000, 2e9, None) is None
    assert cost.mfu(float("nan"), 2e9, 1e12) is None
    assert cost.co2_kg(3.6e6 * 2, cost.Prices(g_co2_per_kwh=500)) == pytest.approx(1.0)


def test_settings_come_from_the_environment() -> None:
    assert cost.prices({}) == cost.Prices(None, "$", 445.0, cost.WORLD_SOURCE)
    said = {cost.PRICE: "0.85", cost.CURRENCY: "€", cost.GRID: "56"}
    found = cost.prices(said)
    assert (found.per_hour, found.currency, found.g_co2_per_kwh) == (0.85, "€", 56.0)
    assert found.grid_source == cost.GRID
    for bad in ("cheap", "-1", "nan", "inf"):
        with pytest.raises(LabError, match=cost.PRICE):
            cost.prices({cost.PRICE: bad})


def test_it_is_quick_enough_for_every_keystroke() -> None:
    asked = recipe(kl_weight=0.1)
    cost.estimate(QWEN, asked, None, "4090", data=cost.DataFacts(1000, 300), tariff=FREE)
    began = time.process_time()
    for _ in range(20):
        cost.estimate(QWEN, asked, None, "4090", data=cost.DataFacts(1000, 300), tariff=FREE)
    assert (time.process_time() - began) / 20 < 0.005


@given(
    method=st.sampled_from(("lora", "full", "ia3", "prefix", "prompt_tuning", "adalora", "loha")),
    name=st.sampled_from(("pocket", "Qwen/Qwen2.5-0.5B", "microsoft/phi-2", "google/gemma-2-2b")),
    card=st.sampled_from([card.name for card in gpu_specs.all_cards()]),
    length=st.integers(16, 8192),
    rows=st.integers(1, 10**7),
    mean=st.floats(1, 1e5),
    batch=st.integers(1, 512),
    kl=st.sampled_from((0.0, 0.1)),
)
def test_every_recipe_has_a_cost(
    method: str, name: str, card: str, length: int, rows: int, mean: float, batch: int, kl: float
) -> None:
    asked = Recipe.model_validate(
        {"method": method, "max_length": length, "per_device_train_batch_size": batch, "kl_weight": kl}
    )
    shape = shape_of(name)
    found = cost.estimate(shape, asked, None, card, data=cost.DataFacts(rows, mean), tariff=FREE)
    assert found.hours and found.kwh and found.co2_kg and found.mfu
    for figure in (found.hours, found.kwh, found.co2_kg, found.mfu):
        assert 0 < figure.low <= figure.value <= figure.high < float("inf")
    assert found.mfu.high <= 1


def test_money_and_energy_in_words() -> None:
    assert [energy(joules) for joules in (0.0, 36.0, 3.6e6, 7.2e7)] == ["0 Wh", "0.01 Wh", "1 kWh", "20 kWh"]
    assert [carbon(kg) for kg in (0.0124, 2.0)] == ["12.4 g CO₂", "2 kg CO₂"]
    assert [money(0.0, "$"), money(0.001, "$"), money(1234.5, "EUR")] == ["$0.00", "$<0.01", "1,234.50 EUR"]


def test_a_measured_forecast_by_hand() -> None:
    tariff = cost.Prices(per_hour=2.0)
    asked = recipe(max_length=1024, packing=True)
    keys = asked.per_device_train_batch_size * 1024
    rate = cost.operations(QWEN, asked, 1024, keys=keys).hardware * 1000
    work = measured(hardware_flops_s=rate, tok_per_s=1000.0)
    found = cost.estimate(QWEN, asked, None, "T4", 3.6e6, measured=work, tariff=tariff)
    assert found.hours and found.money and found.kwh and found.co2_kg and not found.assumed
    assert found.hours.value == pytest.approx(1.0) and found.money.value == pytest.approx(2.0)
    assert found.hours.low == pytest.approx(1 / 1.15) and found.hours.high == pytest.approx(1 / 0.85)
    assert found.co2_kg.value == pytest.approx(found.kwh.value * 0.445)
    free = cost.estimate(QWEN, asked, None, "T4", 3.6e6, tariff=FREE)
    assert free.money is None and free.assumed
    unknown = cost.estimate(QWEN, asked, None, CPU, 1e6, tariff=FREE)
    assert unknown.hours is None and unknown.kwh is None


# --------------------------------------------------------------------------------------------------
# what was measured is found again


VALUES = ResolvedValues(
    compute_dtype="bfloat16",
    optim="adamw_torch",
    attn_implementation="sdpa",
    max_length=512,
)


@pytest.mark.usefixtures("runs_dir")
def test_a_measurement_is_found_for_the_same_work_alone() -> None:
    asked, found = recipe(), measured()
    assert calibration.find(CARD, QWEN, asked, VALUES) is None
    calibration.store(found, CARD, QWEN, asked, VALUES)
    assert calibration.find(CARD, QWEN, asked, VALUES) == found
    # the rate, the data and the length of the run change nothing of a step's speed
    same = recipe(learning_rate=1e-5, data="json", max_steps=7, seed=1)
    assert calibration.find(CARD, QWEN, same, VALUES) == found
    for other in (
        (replace(CARD, name="another card"), QWEN, asked, VALUES),
        (CARD, shape_of("pocket"), asked, VALUES),
        (CARD, QWEN, recipe(per_device_train_batch_size=2), VALUES),
        (CARD, QWEN, recipe(quantization="nf4"), VALUES),
        (CARD, QWEN, asked, structs.replace(VALUES, max_length=1024)),
    ):
        assert calibration.find(*other) is None


@pytest.mark.usefixtures("runs_dir")
def test_a_processor_is_known_by_whatever_name() -> None:
    """The run asks the system for it, the lab does not."""
    calibration.store(measured(cuda=False), CPU, QWEN, recipe(), VALUES)
    other = replace(CPU, name="x86_64", threads=1)
    assert calibration.find(other, QWEN, recipe(), VALUES) == measured(cuda=False)


@pytest.mark.usefixtures("runs_dir")
@pytest.mark.parametrize(
    "text", ["", "[1]", "{", '{"%s": 3}', '{"%s": {"tok_per_s": "fast"}}', '{"%s": {"tok_per_s": -1}}']
)
def test_a_damaged_cache_is_as_none(text: str) -> None:
    asked = recipe()
    calibration.store(measured(), CARD, QWEN, asked, VALUES)
    key = calibration.key_of(CARD, QWEN, asked, VALUES)
    calibration._path().write_text(text.replace("%s", key))
    assert calibration.find(CARD, QWEN, asked, VALUES) is None
    calibration.store(measured(), CARD, QWEN, asked, VALUES)
    assert calibration.find(CARD, QWEN, asked, VALUES) == measured()


@pytest.mark.usefixtures("runs_dir")
def test_old_measurements_make_room() -> None:
    for rank in range(1, calibration.MOST_CALIBRATIONS + 3):
        calibration.store(measured(), CARD, QWEN, recipe(lora_r=rank), VALUES)
    assert calibration.find(CARD, QWEN, recipe(lora_r=1), VALUES) is None
    assert calibration.find(CARD, QWEN, recipe(lora_r=calibration.MOST_CALIBRATIONS + 2), VALUES) is not None


def test_packed_rows_cost_what_attention_computes() -> None:
    asked = recipe(max_length=1024, packing=True, per_device_train_batch_size=4)
    values = unresolved(asked)
    assert cost.attended_tokens(asked, values) == (1024, 4096)
    # of a token: documents of 100 and 300 tokens have (100² + 300²) / 400 on average
    assert cost.attended_tokens(asked, values, 200, [100, 300]) == (250, 4096)
    values.packed_attention = "varlen"
    assert cost.attended_tokens(asked, values, 200, [100, 300]) == (250, 250)
    assert cost.attended_tokens(asked.changed(packing=False), values, 200, [100, 300]) == (200, 200)
    data = cost.DataFacts(rows=1000, mean_tokens=200, lengths=(100, 300))
    without = cost.estimate(QWEN, asked, values, "A100 80GB", data=data, tariff=FREE)
    values.packed_attention = "mask"
    masked = cost.estimate(QWEN, asked, values, "A100 80GB", data=data, tariff=FREE)
    assert masked.tokens == without.tokens and masked.operations.model == without.operations.model
    # 4·q·K FLOPs a layer, forward and twice backward
    extra = 3 * 4 * QWEN.layers * QWEN.heads * QWEN.head_dim * (4096 - 250)
    assert masked.operations.hardware - without.operations.hardware == pytest.approx(extra)
    assert masked.hours and without.hours and masked.hours.value > without.hours.value


def test_steps_are_counted_as_the_trainer_counts_them() -> None:
    # 1,000 rows, 4 a batch, 3 batches a step: 250 batches, 84 steps with the last one short; two and a half
    # times
    recipe = Recipe(per_device_train_batch_size=4, gradient_accumulation_steps=3, num_train_epochs=2.5)
    assert cost.planned_steps(recipe, 1000) == 210
    assert cost.planned_steps(recipe.changed(max_steps=7), 1000) == 7
    assert (
        cost.planned_steps(recipe, None) is None
        and cost.planned_steps(recipe.changed(packing=True), 1000) is None
    )
    # a fifth of general rows: 1,250 rows, 313 batches, 105 steps
    mixed = recipe.changed(replay_fraction=0.2, replay_data="rows.jsonl", num_train_epochs=1.0)
    assert cost.planned_steps(mixed, 1000) == 105
