"""Numbers, units and bars as text, the same on the command line, in the panes and in reports."""

from __future__ import annotations

import math

UNKNOWN = "–"
JOULES_PER_KWH = 3.6e6

_EIGHTHS = " ▏▎▍▌▋▊▉"

#: A run's phases in words.
PHASES = {
    "downloading": "downloading",
    "preparing_data": "preparing the data",
    "self_distillation": "rewriting the answers by the base",
    "loading_model": "loading the model",
    "training": "training",
    "evaluating": "measuring on held-out rows",
    "probing": "measuring retention",
    "scoring": "answering held-out rows",
    "saving": "saving",
}
#: The memory readings of a step in words.
MEMORY_NAMES = {
    "cuda_allocated": "CUDA allocated",
    "cuda_reserved": "CUDA reserved",
    "cuda_peak": "CUDA peak",
    "cuda_peak_outside": "CUDA peak outside steps",
    "gpu_used": "GPU used",
    "resident": "resident memory",
}
#: What acquisition is measured by, in words.
METRIC_NAMES = {
    "exact": "exact match",
    "token_f1": "token F1",
    "rouge_l": "ROUGE-L",
    "bleu": "BLEU",
    "chrf": "chrF",
    "manner": "style",
    "schema": "JSON schema",
}


def finite(value: object) -> float | None:
    """A finite number as a float; None for anything else, since a log may hold any value."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:  # an integer of hundreds of digits
        return None


def as_float(value: object) -> float:
    """A number as a float, infinities included; NaN for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.nan


def _special(number: float) -> str:
    """NaN as a dash, infinities as such; "" for a finite number."""
    if math.isnan(number):
        return UNKNOWN
    return ("∞" if number > 0 else "−∞") if math.isinf(number) else ""


def decimal(value: object, places: int = 3) -> str:
    """A fixed number of decimals: 0.930; a dash for what is no number."""
    number = as_float(value)
    return _special(number) or f"{number:z.{places}f}"


def significant(value: object, digits: int = 4) -> str:
    """Significant digits: 0.00123, 1.5e+07; a dash for what is no number."""
    number = as_float(value)
    return _special(number) or f"{number:.{digits}g}"


def compact(value: object, places: int = 3) -> str:
    """Fixed decimals while they fit a narrow column, else one digit and an exponent: 0.229, 5e-5."""
    number = as_float(value)
    if math.isfinite(number) and number and (abs(number) < 10**-places or abs(number) >= 1e4):
        return f"{number:.0e}".replace("e-0", "e-").replace("e+0", "e")
    return decimal(number, places)


def percent(share: float) -> str:
    """A share of 1 in at most six cells. Only 0 is shown as 0%, and only 1 as 100%."""
    if math.isnan(share):
        return UNKNOWN
    if 0 < share < 1e-4:
        return "<.01%"
    if 0.9995 <= share < 1:
        return ">99.9%"
    return (
        f"{share:.2%}" if 0 < share < 0.01 else "0%" if not share else f"{share:.1%}" if share < 1 else "100%"
    )


def interval(value: object, low: object, high: object, places: int = 2) -> str:
    """A value with its interval: 0.93 (0.88 to 0.97)."""
    return f"{decimal(value, places)} ({decimal(low, places)} to {decimal(high, places)})"


def plural(count: float, noun: str) -> str:
    """1 step, 2 steps, 1,000 steps."""
    return f"{count:,.0f} {noun}{'' if round(count) == 1 else 's'}"


def and_more(count: int) -> str:
    """What follows the first items of a list: " and 3 more"; "" for no more."""
    return f" and {count:,} more" if count > 0 else ""


def bar(share: float, width: int, *, ascii_only: bool = False, empty: str = " ") -> str:
    """A bar of ``width`` cells of which ``share`` (0 to 1) is filled, in eighths of a cell where blocks can
    be drawn. A share above 0 fills at least the smallest part; NaN fills nothing."""
    if width <= 0:
        return ""
    share = 0.0 if math.isnan(share) else min(1.0, max(0.0, share))
    if ascii_only:
        text = "#" * max(round(share * width), int(share > 0))
    else:
        full, rest = divmod(max(round(share * width * 8), int(share > 0)), 8)
        text = "█" * full + (_EIGHTHS[rest] if rest else "")
    return text.ljust(width, empty)


def _scaled(value: float, steps: tuple[tuple[float, str], ...]) -> str:
    for limit, unit in steps:
        # three digits round up to the next unit from here on: 999.6 M is 1 B, not 1e+03 M
        if abs(value) >= 0.9995 * limit:
            scaled = value / limit
            return f"{scaled:.3g} {unit}" if abs(scaled) < 999.5 else f"{scaled:.0f} {unit}"
    return f"{value:.0f}"


def count(value: object) -> str:
    """Parameters or tokens: 2.71 M."""
    number = finite(value)
    return UNKNOWN if number is None else _scaled(number, ((1e9, "B"), (1e6, "M"), (1e3, "k")))


def size(size_bytes: object) -> str:
    """Bytes in binary units, as drivers and systems report memory: 512 MiB."""
    number = finite(size_bytes)
    if number is None:
        return UNKNOWN
    text = _scaled(number, ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")))
    return text if text[-1] == "B" else f"{text} B"


def transfer(done_bytes: float, total_bytes: float, bytes_per_s: float) -> str:
    """A download: 120 MiB of 942 MiB, 12.1 MiB/s, 1:08 to go. Total (0), speed and time only where they are
    known."""
    text = f"{size(done_bytes)} of {size(total_bytes)}" if total_bytes else size(done_bytes)
    if not (finite(bytes_per_s) or 0) > 0:
        return text
    rest = max(0, total_bytes - done_bytes) / bytes_per_s
    return f"{text}, {size(bytes_per_s)}/s" + (f", {duration(rest)} to go" if rest else "")


def duration(seconds: object) -> str:
    """1:05, 2:03:04; a dash while unknown."""
    number = finite(seconds)
    if number is None or number < 0:
        return UNKNOWN
    hours, rest = divmod(round(number), 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"


def energy(joules: float) -> str:
    """0.42 Wh, 35 Wh, 1.2 kWh."""
    kwh = joules / JOULES_PER_KWH
    return f"{kwh:.3g} kWh" if kwh >= 0.9995 else f"{kwh * 1000:.3g} Wh"


def carbon(kilograms: float) -> str:
    """190 g, 1.2 kg, of CO₂."""
    return f"{kilograms:.3g} kg CO₂" if kilograms >= 0.9995 else f"{kilograms * 1000:.3g} g CO₂"


def money(amount: float, currency: str) -> str:
    """$0.31; below a cent "<0.01"; a currency code goes behind: 0.31 EUR."""
    text = f"{amount:,.2f}" if amount >= 0.01 or not amount else "<0.01"
    return f"{text} {currency}" if currency.isalpha() and len(currency) > 1 else f"{currency}{text}"


def phase(name: str, detail: str = "") -> str:
    """What a run is doing. ``detail`` comes from a log: callers sanitize it."""
    text = PHASES.get(name, name.replace("_", " "))
    return f"{text}: {detail}" if detail else text


def memory_name(label: str) -> str:
    """The name of a memory reading in words."""
    return MEMORY_NAMES.get(label, label.replace("_", " "))


def metric_name(name: str) -> str:
    """The name of what acquisition is measured by, in words. One from a log is sanitized by callers."""
    return METRIC_NAMES.get(name, name.replace("pass_at_", "pass@").replace("_", " "))


def decision(value: object, reason: object) -> str:
    """A resolved value with its reason. Reasons that begin with "because" do not name the value, so it goes
    before them."""
    text = str(reason)
    needs_value = isinstance(value, str | int | float) and text.startswith("because ")
    return f"{value} {text}" if needs_value else text
