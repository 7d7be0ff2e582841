"""Cards by the names that people and drivers give them; a sibling is never taken for the card itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tui_lab.core.errors import LabError
from tui_lab.hardware import gpu_specs


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("RTX 4090", "RTX 4090"),
        ("4090", "RTX 4090"),
        ("rtx4090", "RTX 4090"),
        ("NVIDIA GeForce RTX 4090", "RTX 4090"),
        ("GeForce RTX\u2122 3090", "RTX 3090"),
        ("Tesla T4", "T4"),
        ("NVIDIA A10G", "A10G"),
        ("NVIDIA L4", "L4"),
        ("NVIDIA A100-SXM4-40GB", "A100 40 GB SXM"),
        ("NVIDIA A100-PCIE-40GB", "A100 40 GB PCIe"),
        ("NVIDIA A100 80GB PCIe", "A100 80 GB PCIe"),
        ("a100 80 GiB sxm", "A100 80 GB SXM"),
        ("NVIDIA H100 80GB HBM3", "H100 SXM"),
        ("NVIDIA H100 PCIe", "H100 PCIe"),
        ("NVIDIA H200", "H200 SXM"),
        ("NVIDIA GeForce RTX 5090", "RTX 5090"),
        ("NVIDIA GeForce RTX 5080", "RTX 5080"),
        ("NVIDIA GeForce RTX 4080 SUPER", "RTX 4080 SUPER"),
        ("NVIDIA GeForce RTX 3080", "RTX 3080 10 GB"),
        ("NVIDIA GeForce RTX 2080 Ti", "RTX 2080 Ti"),
        ("NVIDIA RTX A6000", "RTX A6000"),
        ("NVIDIA RTX 6000 Ada Generation", "RTX 6000 Ada"),
        ("NVIDIA A10", "A10"),
        ("NVIDIA L40S", "L40S"),
        ("Tesla V100-SXM2-16GB", "V100 SXM 16 GB"),
        ("NVIDIA B200", "B200"),
        ("NVIDIA GH200 480GB", "GH200 96 GB"),
        ("NVIDIA GB10", "GB10"),
    ],
)
def test_names_of_people_and_drivers(text: str, name: str) -> None:
    assert gpu_specs.find(text).name == name


@pytest.mark.parametrize(
    "text",
    [
        "NVIDIA GeForce RTX 4090 Laptop GPU",
        "NVIDIA GeForce RTX 4090 D",
        "NVIDIA GeForce RTX 4070 Ti SUPER",
        "NVIDIA GeForce RTX 4060 Ti",
        "NVIDIA GeForce RTX 3060 Laptop GPU",
        "GeForce RTX 3060 Max-Q",
        "NVIDIA A100-SXM4-40GB MIG 1g.5gb",
        "NVIDIA A10M",
        "NVIDIA L20",
        "GRID T4-8Q",
        "NVIDIA H100 80GB HBM3 MIG 3g.40gb",
    ],
)
def test_a_sibling_is_not_the_card(text: str) -> None:
    assert gpu_specs.lookup(text) is None
    with pytest.raises(LabError) as error:
        gpu_specs.find(text)
    assert text.split()[-1] in str(error.value)


def test_what_is_refused_names_what_is_near() -> None:
    for text, near in (
        ("NVIDIA GeForce RTX 4090 Laptop GPU", "RTX 4090"),
        ("4070 Ti", "RTX 4070"),
        ("H100", "H100 PCIe, H100 SXM"),
        ("banana", "T4, RTX 3060"),
        ("4081", "RTX 40"),
    ):
        with pytest.raises(LabError, match=near):
            gpu_specs.find(text)


def test_memory_tells_variants_of_a_name_apart() -> None:
    """There is an RTX 3060 of 8 GiB, with less bandwidth, under the same name."""
    assert gpu_specs.find("NVIDIA GeForce RTX 3060", 12288 << 20).name == "RTX 3060"
    with pytest.raises(LabError, match="another variant"):
        gpu_specs.find("NVIDIA GeForce RTX 3060", 8192 << 20)


def test_every_card_is_found_by_each_of_its_names_and_by_no_other() -> None:
    for card in gpu_specs.all_cards():
        assert {gpu_specs.find(name).name for name in (card.name, *card.names)} == {card.name}


def test_figures_are_in_proportion() -> None:
    """What is true of every card, so that a slip of a digit or a rate with sparsity shows."""
    for card in gpu_specs.all_cards():
        assert card.source, card.name
        assert 0.9 <= card.usable_bytes / card.memory_bytes <= 1.0
        assert 1e9 * 10 < card.bandwidth_bytes_s < 1e13
        assert 50 <= card.tdp_w <= 1000
        tensor = card.fp16_flops / card.fp32_flops
        assert 1.9 < tensor <= 30
        if card.name in ("RTX A6000", "RTX 6000 Ada", "RTX 2080 Ti"):  # workstation cards, and Turing
            assert tensor == pytest.approx(4.0, rel=0.02)
        elif card.name.startswith("RTX"):  # sums in float32 go at half the rate: twice plain float32
            assert tensor == pytest.approx(2.0, rel=0.02)
        assert card.bf16_flops in (None, card.fp16_flops)
        assert (card.bf16_flops is None) is card.name.startswith(("T4", "V100", "RTX 20"))
        assert 5 < card.fp16_flops / card.tdp_w / 1e10 < 300  # FLOP a joule
        assert set(card.unverified) <= {"usable_mib", "bf16", "fp16", "fp32", "bandwidth_gb_s", "tdp_w"}


def test_the_cards_of_the_brief_are_here() -> None:
    for name in ("T4", "3060", "3090", "4060", "4070", "4090", "5090", "A10G", "L4", "H100 PCIe", "H200"):
        gpu_specs.find(name)
    assert gpu_specs.find("RTX 4090").rate_flops("bfloat16") == 165.2e12
    assert gpu_specs.find("T4").rate_flops("bfloat16") == gpu_specs.find("T4").fp32_flops
    assert gpu_specs.find("T4").device_facts().bf16 is False
    facts = gpu_specs.find("4090").device_facts()
    assert (facts.type, facts.memory_bytes, facts.bf16) == ("cuda", 24564 << 20, True)


@given(text=st.text(max_size=300))
def test_any_text_is_a_card_or_a_sentence(text: str) -> None:
    try:
        assert gpu_specs.find(text) in gpu_specs.all_cards()
    except LabError as error:
        assert "\x1b" not in str(error) and len(str(error)) < 600
