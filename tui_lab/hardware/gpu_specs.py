"""The graphics cards of ``gpu_specs.toml`` with memory and FLOP rates, found by the name that a user or the
driver gives. A name that differs in a significant word (a laptop card, a "Ti", a slice of a card) is another
card: it is refused with a list of similar cards. No torch."""

from __future__ import annotations

import difflib
import re
import tomllib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import msgspec

from tui_lab.core.errors import LabError
from tui_lab.core.sanitize import sanitize
from tui_lab.hardware.device import DeviceFacts

_FILE = Path(__file__).with_name("gpu_specs.toml")
#: Words of a name that distinguish no cards. "Laptop" and "mobile" do.
_INSIGNIFICANT = frozenset(
    {"nvidia", "geforce", "rtx", "tesla", "gpu", "graphics", "card", "tensor", "core", "gb"}
)
#: Words that mark a slower laptop card.
_LAPTOP = frozenset({"laptop", "mobile", "notebook", "maxq"})
#: Reported memory outside these shares of the entry's means another variant of the name.
_MIN_MEMORY, _MAX_MEMORY = 0.85, 1.1


@dataclass(frozen=True)
class GpuSpec:
    """A card. Rates are dense FLOP/s with float32 accumulation; ``bf16_flops`` is None without bfloat16."""

    name: str
    memory_bytes: int
    usable_bytes: int  # what the driver reports as total
    bf16_flops: float | None
    fp16_flops: float
    fp32_flops: float
    bandwidth_bytes_s: float
    tdp_w: float
    source: str
    names: tuple[str, ...] = ()
    unverified: tuple[str, ...] = ()

    def rate_flops(self, compute_dtype: str) -> float:
        """Peak FLOP/s in a type. bfloat16 on a card without it is emulated, at best as fast as float32."""
        return self._rate_of(compute_dtype)[1]

    def rate_is_verified(self, compute_dtype: str) -> bool:
        """Whether the rate in a type was read in the source of the card's figures."""
        return self._rate_of(compute_dtype)[0] not in self.unverified

    def _rate_of(self, compute_dtype: str) -> tuple[str, float]:
        """The name in the file and the value of the rate in a type."""
        if compute_dtype == "bfloat16" and self.bf16_flops:
            return "bf16", self.bf16_flops
        return ("fp16", self.fp16_flops) if compute_dtype == "float16" else ("fp32", self.fp32_flops)

    def device_facts(self, threads: int = 1) -> DeviceFacts:
        """The card as a device that a recipe can be resolved for."""
        return DeviceFacts("cuda", self.name, self.usable_bytes, self.bf16_flops is not None, threads)


class _Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A card as the file has it: rates in TFLOP/s, bandwidth in GB/s."""

    name: str
    names: tuple[str, ...]
    memory_gib: int
    usable_mib: int
    fp16: float
    fp32: float
    bandwidth_gb_s: float
    tdp_w: float
    source: str
    bf16: float | None = None
    unverified: tuple[str, ...] = ()


@lru_cache(maxsize=1)
def all_cards() -> tuple[GpuSpec, ...]:
    """Every card of the file, in its order."""
    rows = msgspec.convert(tomllib.loads(_FILE.read_text(encoding="utf-8"))["card"], list[_Row])
    return tuple(
        GpuSpec(
            name=row.name,
            memory_bytes=row.memory_gib << 30,
            usable_bytes=row.usable_mib << 20,
            bf16_flops=None if row.bf16 is None else row.bf16 * 1e12,
            fp16_flops=row.fp16 * 1e12,
            fp32_flops=row.fp32 * 1e12,
            bandwidth_bytes_s=row.bandwidth_gb_s * 1e9,
            tdp_w=row.tdp_w,
            source=row.source,
            names=row.names,
            unverified=row.unverified,
        )
        for row in rows
    )


def _words(text: str) -> frozenset[str]:
    """The significant words of a name: ``NVIDIA A100-SXM4-40GB`` has a100, sxm4 and 40gb."""
    plain = re.sub(r"\(.*?\)|[®™]", " ", text.lower())
    plain = re.sub(r"\bmax-q\b", "maxq", re.sub(r"(\d+)\s*gi?b\b", r"\1gb", plain))
    plain = re.sub(r"\b(rtx|geforce|nvidia|tesla)(?=\d)", r"\1 ", plain)  # rtx4090
    return frozenset(word for word in re.findall(r"[a-z0-9]+", plain) if word not in _INSIGNIFICANT)


@lru_cache(maxsize=1)
def _by_words() -> dict[frozenset[str], GpuSpec]:
    found: dict[frozenset[str], GpuSpec] = {}
    for card in all_cards():
        for name in (card.name, *card.names):
            found.setdefault(_words(name), card)
    return found


def find(text: str, memory_bytes: int | None = None) -> GpuSpec:
    """The card that ``text`` names, in any usual spelling. ``memory_bytes``, as the driver reports it,
    distinguishes variants of one name. Raises LabError with similar cards."""
    words = _words(text[:200])
    card = _by_words().get(words)
    if card is None:
        raise LabError(_unknown(text, words))
    if memory_bytes and not _MIN_MEMORY <= memory_bytes / card.usable_bytes <= _MAX_MEMORY:
        raise LabError(
            f"{card.name} is listed with {card.memory_bytes >> 30} GiB, but this one has "
            f"{memory_bytes / 2**30:.1f}: another variant, whose rates are unknown"
        )
    return card


def lookup(text: str, memory_bytes: int | None = None) -> GpuSpec | None:
    """The card that ``text`` names, as :func:`find` finds it; None for an unknown one."""
    try:
        return find(text, memory_bytes)
    except LabError:
        return None


def similar(text: str) -> list[GpuSpec]:
    """Cards whose names share a word with ``text``, else those with the most similar spelling; at most
    five."""
    words = _words(text[:200])
    shared = [card for card in all_cards() if words & _words(card.name)]
    if not shared:
        spelled = {" ".join(sorted(key)): card for key, card in _by_words().items()}
        matches = difflib.get_close_matches(" ".join(sorted(words)), spelled, n=5, cutoff=0.5)
        shared = list(dict.fromkeys(spelled[match] for match in matches))
    return shared[:5]


def _unknown(text: str, words: frozenset[str]) -> str:
    name = sanitize(text.strip())[:80]
    names = ", ".join(card.name for card in similar(text))
    if words & _LAPTOP:
        instead = f" (the desktop card {names} is faster)" if names else ""
        return f"the rates of the laptop card {name!r} are unknown{instead}; measure it with a calibration"
    if not names:
        names = ", ".join(card.name for card in all_cards())
        return f"unknown card {name!r}; known are {names}"
    exact = [card for card in similar(text) if words and words < _words(card.name)]
    if exact:
        return f"{name!r} is ambiguous: choose one of {', '.join(card.name for card in exact)}"
    return f"unknown card {name!r}; similar cards are {names}"
