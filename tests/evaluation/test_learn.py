"""Learn: the numbers of the pages against closed forms, torch and the library, and every page on the bundled
model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tui_lab.core.errors import LabError
from tui_lab.evaluation import learn
from tui_lab.evaluation import learn_numbers as numbers
from tui_lab.evaluation.learn_records import PAGES, LearnRequest, PageBars, PageTable, PageText, lines
from tui_lab.pocket import MODEL_DIR


def test_chinchilla_by_hand_and_its_optimum_is_one() -> None:
    # Chinchilla itself: 70 B parameters, 1.4 T tokens
    assert numbers.chinchilla_loss(70e9, 1.4e12) == pytest.approx(1.9366, abs=1e-3)
    compute = 5.76e23
    best_n, best_d = numbers.compute_optimal(compute)
    assert 6 * best_n * best_d == pytest.approx(compute, rel=1e-9)
    best = numbers.chinchilla_loss(best_n, best_d)
    for factor in (0.5, 0.9, 1.1, 2.0):
        assert numbers.chinchilla_loss(best_n * factor, compute / 6 / (best_n * factor)) > best


def test_kaplan_at_its_own_scales() -> None:
    assert numbers.kaplan_losses(8.8e13, 5.4e13, 3.1e8 * 1e15 * 86_400) == (1.0, 1.0, 1.0)


@given(st.floats(-60_000, 60_000, allow_nan=False, width=32))
def test_bits_are_the_value(value: float) -> None:
    for form in numbers.FLOATS[:3]:
        bits, stored = numbers.bits_of(value, form)
        sign, exponent, mantissa = bits.split()
        assert (len(sign), len(exponent), len(mantissa)) == (1, form.exponent, form.mantissa)
        bias, e = 2 ** (form.exponent - 1) - 1, int(exponent, 2)
        fraction = int(mantissa, 2) / 2**form.mantissa
        if e < 2**form.exponent - 1:
            size = (1 + fraction) * 2.0 ** (e - bias) if e else fraction * 2.0 ** (1 - bias)
            assert stored == (-1) ** int(sign) * size


def test_fp8_of_one_and_beyond_its_range() -> None:
    fp8 = numbers.FLOATS[3]
    assert numbers.bits_of(1.0, fp8) == ("0 0111 000", 1.0)
    assert numbers.bits_of(1000.0, fp8)[1] == 448.0  # its largest value: torch saturates


def test_nf4_is_that_of_bitsandbytes() -> None:
    functional = pytest.importorskip("bitsandbytes.functional")
    weights = torch.randn(48, 64, generator=torch.Generator().manual_seed(0))
    packed, state = functional.quantize_4bit(weights, blocksize=64, quant_type="nf4")
    theirs = functional.dequantize_4bit(packed, state)
    assert torch.allclose(numbers.rounded(weights)["NF4"], theirs, atol=1e-6)


def test_int8_errs_by_half_a_step_at_most() -> None:
    weights = torch.randn(8, 50, generator=torch.Generator().manual_seed(1))
    stored = numbers.rounded(weights)["int8"]
    assert ((weights - stored).abs() <= weights.abs().amax(1, keepdim=True) / 254 + 1e-7).all()
    assert numbers.relative_error(weights, weights) == 0.0
    assert sum(numbers.error_histogram(weights, stored, 0.01)) == pytest.approx(1.0)


def test_the_spectrum_is_that_of_the_product() -> None:
    generator = torch.Generator().manual_seed(2)
    a, b = torch.randn(4, 30, generator=generator), torch.randn(20, 4, generator=generator)
    expected = torch.linalg.svdvals(2.5 * (b @ a).double())[:4]
    assert numbers.spectrum(a, b, 2.5) == pytest.approx(expected.tolist(), rel=1e-6)


def test_used_directions_by_hand() -> None:
    assert numbers.used_directions([3.0, 1.0]) == 1  # 9 of 10
    assert numbers.used_directions([1.0] * 10) == 9
    assert numbers.used_directions([0.0, 0.0]) == 1


@pytest.mark.parametrize("page", [page.name for page in PAGES])
def test_every_page_on_the_bundled_model(page: str) -> None:
    values = {"new_tokens": 4.0} if page == "kv-cache" else {}
    answer = learn.compute(LearnRequest(page=page, values=values))
    assert answer.blocks
    for width in (60, 100):
        shown = lines(answer.blocks, width)
        assert shown and not any("\x1b" in line for line in shown)


def test_the_loss_of_the_page_is_the_model_s() -> None:
    from transformers import AutoModelForCausalLM

    lesson = learn.compute(LearnRequest(page="next-token", text="The sky is blue."))
    [table, sentence, bars] = lesson.blocks
    assert isinstance(table, PageTable) and isinstance(sentence, PageText) and isinstance(bars, PageBars)
    from transformers import AutoTokenizer

    ids = AutoTokenizer.from_pretrained(MODEL_DIR)("The sky is blue.", return_tensors="pt").input_ids
    model = AutoModelForCausalLM.from_pretrained(MODEL_DIR, dtype=torch.float32)
    loss = float(model(input_ids=ids, labels=ids).loss)
    assert f"{loss:.2f}" in sentence.text


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        (LearnRequest(page="x"), "there is no page 'x'; there are next-token"),
        (
            LearnRequest(page="scaling", values={"p": 1}),
            "scaling has no value 'p'; it has parameters",
        ),
        (LearnRequest(page="scaling", values={"tokens": -1}), "N and D are above 0"),
        (LearnRequest(page="lora", values={"rank": 0}), "rank is at least 1"),
        (LearnRequest(page="kv-cache", values={"new_tokens": 9999}), "new tokens are 1 to 256"),
    ],
)
def test_what_cannot_be_computed_is_one_sentence(request_: LearnRequest, sentence: str) -> None:
    with pytest.raises(LabError, match=sentence):
        learn.compute(request_)


def test_text_of_a_model_cannot_move_the_cursor() -> None:
    blocks = [
        PageBars("\x1b[2J", [("\x1b[31mred", 1.0, "\x07")]),
        PageTable("", ("a", "b"), [("\x1b]0;x", "\r")]),
    ]
    assert not any(ord(char) < 32 for line in lines(blocks, 60) for char in line)


def test_the_lab_reads_the_pages_without_torch() -> None:
    import subprocess
    import sys

    code = (
        "import sys; from tui_lab.evaluation import learn, learn_records as r; "
        "learn.compute(r.LearnRequest(page='scaling')); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
