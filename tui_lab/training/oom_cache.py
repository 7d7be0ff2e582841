"""What the out-of-memory ladder remembers between runs: ``ladder.json`` in the user's state folder.

One entry for each recipe and card, by everything of the recipe that decides how much memory a step takes; a
recipe that differs in any of it starts afresh. A run that asks for less than an entry of the same model and
card (a smaller batch, shorter rows, checkpointing, 4 bits) takes that entry away: there is another way now.
Deleting the file, or an entry in it, forgets as well."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tui_lab.core.files import write_atomically
from tui_lab.core.paths import state_dir
from tui_lab.hardware.device import DeviceFacts
from tui_lab.recipes.recipe import Recipe

VERSION = 1
#: Entries kept, the newest first.
KEPT = 200
#: Fields of a recipe that decide what is held in memory, beside those that are asked for in amounts.
_FIELDS = (
    "model", "revision", "data", "packing", "method", "lora_r", "target_modules", "use_dora",
    "init_r", "num_virtual_tokens", "double_quantization", "kl_weight", "label_smoothing_factor",
    "ewc_lambda", "l2_to_start", "uncertainty_weighting", "frozen_layers", "gradual_unfreezing",
)  # fmt: skip
#: Weights of terms: that they are there takes memory, not how much they count.
_ONLY_WHETHER = ("kl_weight", "label_smoothing_factor", "ewc_lambda", "l2_to_start")


@dataclass(frozen=True)
class Key:
    """A recipe on a card: what it is (``family``), and the amounts that it asks for (more takes more)."""

    family: str
    amounts: Mapping[str, int]

    @property
    def text(self) -> str:
        return f"{self.family} " + " ".join(f"{name}={value}" for name, value in sorted(self.amounts.items()))


def key_of(recipe: Recipe, values: Mapping[str, Any], device: DeviceFacts, limit_bytes: int = 0) -> Key:
    """The key of a recipe with its resolved ``values`` on a card; ``limit_bytes``: one set for testing."""
    facts: dict[str, Any] = {name: getattr(recipe, name) for name in _FIELDS}
    facts.update({name: bool(facts[name]) for name in _ONLY_WHETHER})
    facts.update({name: str(values.get(name)) for name in ("compute_dtype", "attn_implementation")})
    facts.update(card=device.name, card_bytes=device.memory_bytes, limit_bytes=limit_bytes)
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:16]
    optimizer = str(values.get("optim", recipe.optim))
    return Key(
        digest,
        {
            "batch": recipe.per_device_train_batch_size,
            "max_length": int(values.get("max_length", recipe.max_length)),
            "activations_kept": int(not recipe.gradient_checkpointing),
            "bits": 4 if recipe.quantization == "nf4" else 16,
            # paged states leave the card when it is full
            "optimizer_bits": 0 if optimizer.startswith("paged_") else 8 if "8bit" in optimizer else 32,
        },
    )


class LadderMemory:
    """See the module's docstring. A file that cannot be read or written is no memory, and no error."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or state_dir() / "ladder.json"

    def recall(self, key: Key) -> dict[str, Any] | None:
        """What is remembered for ``key``; entries that it asks less than are forgotten."""
        entries = self._read()
        kept = {text: entry for text, entry in entries.items() if not _asks_less(key, entry)}
        if len(kept) < len(entries):
            self._write(kept)
        found = kept.get(key.text, {}).get("settings")
        return found if isinstance(found, dict) else None

    def remember(self, key: Key, model: str, settings: Mapping[str, Any]) -> None:
        """``model`` is for people who look into the file."""
        entries = self._read()
        entries[key.text] = {
            "model": model,
            "family": key.family,
            "amounts": dict(key.amounts),
            "settings": dict(settings),
            "t": round(time.time()),
        }
        newest = sorted(entries.items(), key=lambda item: -_time(item[1]))[:KEPT]
        self._write(dict(newest))

    def _read(self) -> dict[str, dict[str, Any]]:
        try:
            record = json.loads(self.path.read_text("utf-8"))
            entries = record["entries"] if record["v"] == VERSION else {}
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return {}
        if not isinstance(entries, dict):
            return {}
        return {text: entry for text, entry in entries.items() if isinstance(entry, dict)}

    def _write(self, entries: Mapping[str, Any]) -> None:
        """Whole or not at all."""
        with contextlib.suppress(OSError):
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            text = json.dumps({"v": VERSION, "entries": entries}, indent=1, sort_keys=True)
            write_atomically(self.path, text)


def _time(entry: Mapping[str, Any]) -> float:
    value = entry.get("t")
    return float(value) if isinstance(value, int | float) else 0.0


def _asks_less(key: Key, entry: Mapping[str, Any]) -> bool:
    """Whether ``key`` is of the entry's family, asks for less of something and for more of nothing."""
    before = entry.get("amounts")
    if entry.get("family") != key.family or not isinstance(before, dict):
        return False
    try:
        differences = [value - int(before[name]) for name, value in key.amounts.items()]
    except (KeyError, TypeError, ValueError):
        return False
    return min(differences) < 0 and max(differences) <= 0
