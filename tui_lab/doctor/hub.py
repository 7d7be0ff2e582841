"""The hub and its cache: where a token comes from (never the token), whether the hub answers when that is
asked for, how large the cache is."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path

from tui_lab.core.sanitize import sanitize
from tui_lab.doctor.check import Check, child, gb
from tui_lab.doctor.folders import existing
from tui_lab.models import catalog

HUB_TIMEOUT_S = 30
#: Walking a large cache is cut off here; the size then reads "over".
WALK_LIMIT_S = 3.0
#: The weights of the catalog's larger models take about 5 GB in bfloat16.
LITTLE_CACHE_BYTES = 10_000_000_000


def _token(environment: Mapping[str, str]) -> str | None:
    """Where a hub token comes from; never the token."""
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        if environment.get(name):
            return name
    path = environment.get("HF_TOKEN_PATH") or str(catalog.hub_cache_dir().parent / "token")
    try:
        return "a token file" if catalog.home(Path(path)).stat().st_size > 0 else None
    except OSError:
        return None


def _is_on(value: str | None) -> bool:
    return (value or "").upper() in ("1", "ON", "YES", "TRUE")


# asks for the facts of one small public model, as any download does first
_HUB_CHILD = """
import json
from huggingface_hub import HfApi
info = HfApi().model_info("Qwen/Qwen2.5-0.5B", timeout=15)
print(json.dumps({"ok": True, "sha": info.sha}))
"""


def check_hub(environment: Mapping[str, str], online: bool) -> Check:
    token = _token(environment)
    has = f"token from {token}" if token else "no token"
    gated = "" if token else "gated models (Llama, Gemma) need a token: `hf auth login`"
    if _is_on(environment.get("HF_HUB_OFFLINE")):
        advice = "unset HF_HUB_OFFLINE to download; cached and local models work"
        return Check("hub", "ok", f"switched off by HF_HUB_OFFLINE, {has}", advice)
    if not online:
        return Check("hub", "ok", f"not asked (--online asks it), {has}", gated)
    start = time.perf_counter()
    answer = child(_HUB_CHILD, HUB_TIMEOUT_S)
    if "error" in answer:
        advice = "look at the network and the proxy; cached, local and bundled models work without the hub"
        return Check("hub", "warn", f"no answer: {answer['error']}; {has}", advice)
    return Check("hub", "ok", f"answers in {time.perf_counter() - start:.1f} s, {has}", gated)


def folder_size(path: Path, limit_s: float = WALK_LIMIT_S) -> tuple[int, bool]:
    """Bytes under a folder, links not followed, and whether all of it was seen within the limit."""
    total, end = 0, time.monotonic() + limit_s
    waiting = [path]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if time.monotonic() > end:
                        return total, False
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(Path(entry.path))
                    elif entry.is_file(follow_symlinks=False):
                        total += entry.stat(follow_symlinks=False).st_size
        except OSError:
            continue
    return total, True


def check_cache(directory: Path) -> Check:
    """The hub cache: where it is, how large, and the room for more."""
    shown = sanitize(str(directory))
    free = shutil.disk_usage(existing(directory)).free
    if not directory.is_dir():
        text = f"{shown} (not there yet), {gb(free)} free"
    else:
        size, whole = folder_size(directory)
        text = f"{shown}, {'' if whole else 'over '}{gb(size)} used, {gb(free)} free"
    if free < LITTLE_CACHE_BYTES:
        advice = "models of real size take up to 6 GB each: free some, or point HF_HOME to another disk"
        return Check("hub cache", "warn", text, advice)
    return Check("hub cache", "ok", text)
