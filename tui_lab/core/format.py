"""Numbers and names of a run in people's words, the same on the command line and in the panes."""

from __future__ import annotations

import math
from typing import Any

UNKNOWN = "–"
JOULES_A_KWH = 3.6e6

#: A run's phases as people say them.
PHASES = {
    "preparing_data": "preparing the data",
    "loading_model": "loading the model",
    "training": "training",
    "evaluating": "measuring on held-out rows",
    "scoring": "answering held-out rows",
    "saving": "saving",
}
#: What each memory figure of a step is.
MEMORY_NAMES = {
    "cuda_allocated": "CUDA allocated",
    "cuda_reserved": "CUDA reserved",
    "cuda_peak": "CUDA peak",
    "gpu_used": "GPU used",
    "resident": "resident memory",
}


def finite(value: Any) -> float | None:
    """A measured number; None for what is none (from a log, anything may come)."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:  # a whole number of hundreds of digits
        return None


def _scaled(value: float, steps: tuple[tuple[float, str], ...]) -> str:
    for limit, unit in steps:
        # from where three digits round up to the next unit: 999.6 M is 1 B, not 1e+03 M
        if abs(value) >= 0.9995 * limit:
            shown = value / limit
            return f"{shown:.3g} {unit}" if abs(shown) < 999.5 else f"{shown:.0f} {unit}"
    return f"{value:.0f}"


def count(value: Any) -> str:
    """Parameters or tokens: 2.71 M."""
    number = finite(value)
    return UNKNOWN if number is None else _scaled(number, ((1e9, "B"), (1e6, "M"), (1e3, "k")))


def size(size_bytes: Any) -> str:
    """Bytes in binary units, as drivers and systems report memory: 512 MiB."""
    number = finite(size_bytes)
    if number is None:
        return UNKNOWN
    text = _scaled(number, ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")))
    return text if text[-1] == "B" else f"{text} B"


def duration(seconds: Any) -> str:
    """1:05, 2:03:04; a dash while unknown."""
    number = finite(seconds)
    if number is None or number < 0:
        return UNKNOWN
    hours, rest = divmod(round(number), 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"


def energy(joules: float) -> str:
    """0.42 Wh, 35 Wh, 1.2 kWh."""
    kwh = joules / JOULES_A_KWH
    return f"{kwh:.3g} kWh" if kwh >= 0.9995 else f"{kwh * 1000:.3g} Wh"


def carbon(kilograms: float) -> str:
    """190 g, 1.2 kg, of CO₂."""
    return f"{kilograms:.3g} kg CO₂" if kilograms >= 0.9995 else f"{kilograms * 1000:.3g} g CO₂"


def money(amount: float, currency: str) -> str:
    """$0.31; a cent is the least that is told apart from nothing, and a word goes behind: 0.31 EUR."""
    figure = f"{amount:,.2f}" if amount >= 0.01 or not amount else "<0.01"
    return f"{figure} {currency}" if currency.isalpha() and len(currency) > 1 else f"{currency}{figure}"


def phase(name: str, detail: str = "") -> str:
    """What a run is doing. The detail comes from a log: whoever shows it makes it safe."""
    words = PHASES.get(name, name.replace("_", " "))
    return f"{words}: {detail}" if detail else words


def memory_name(label: str) -> str:
    """What a memory figure is."""
    return MEMORY_NAMES.get(label, label.replace("_", " "))


def decision(value: Any, reason: Any) -> str:
    """What was decided for people, with its reason: most reasons name what was decided, "because asked" alone
    does not."""
    text = str(reason)
    named = isinstance(value, str | int | float) and text.startswith("because ")
    return f"{value} {text}" if named else text
