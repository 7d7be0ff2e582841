"""The Hugging Face hub and its cache: the source of the token (never the token), whether the hub answers (on
request), the size of the cache."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec

from tui_lab.core.format import size
from tui_lab.core.paths import expanded
from tui_lab.core.sanitize import sanitize
from tui_lab.doctor.check import ChildFailed, DoctorCheck, run_child
from tui_lab.doctor.folders import existing
from tui_lab.models import catalog

HUB_TIMEOUT_S = 30
#: Measuring the size of a large cache stops here; the size then reads "over".
WALK_LIMIT_S = 3.0
#: The weights of the catalog's larger models take about 5 GB in bfloat16.
LOW_CACHE_BYTES = 10_000_000_000


def _token(environment: Mapping[str, str]) -> str | None:
    """The source of the hub token; never the token."""
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        if environment.get(name):
            return name
    path = environment.get("HF_TOKEN_PATH") or str(catalog.hub_cache_dir().parent / "token")
    try:
        return "a token file" if expanded(Path(path)).stat().st_size > 0 else None
    except OSError:
        return None


def _is_on(value: str | None) -> bool:
    return (value or "").upper() in ("1", "ON", "YES", "TRUE")


# requests the metadata of a small public model, as any download does first
_HUB_CHILD = """
import json
from huggingface_hub import HfApi
info = HfApi().model_info("Qwen/Qwen2.5-0.5B", timeout=15)
print(json.dumps({"sha": info.sha}))
"""


class HubAnswer(msgspec.Struct):
    """The current commit of the model that was requested."""

    sha: str | None = None


def check_hub(environment: Mapping[str, str], online: bool) -> DoctorCheck:
    token = _token(environment)
    token_text = f"token from {token}" if token else "no token"
    gated = "" if token else "gated models (Llama, Gemma) need a token: `hf auth login`"
    if _is_on(environment.get("HF_HUB_OFFLINE")):
        advice = "unset HF_HUB_OFFLINE to download; cached and local models work"
        return DoctorCheck("hub", "ok", f"switched off by HF_HUB_OFFLINE, {token_text}", advice)
    if not online:
        return DoctorCheck("hub", "ok", f"not checked (--online checks it), {token_text}", gated)
    start = time.perf_counter()
    try:
        run_child(_HUB_CHILD, HubAnswer, HUB_TIMEOUT_S)
    except ChildFailed as error:
        advice = "check the network and the proxy; cached, local and bundled models work without the hub"
        return DoctorCheck("hub", "warn", f"no answer: {error}; {token_text}", advice)
    return DoctorCheck("hub", "ok", f"answers in {time.perf_counter() - start:.1f} s, {token_text}", gated)


def folder_size(path: Path, limit_s: float = WALK_LIMIT_S) -> tuple[int, bool]:
    """Bytes in a folder, links not followed, and whether all of it was measured within the limit."""
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


def check_cache(directory: Path) -> DoctorCheck:
    """The hub cache: its path, its size and the free space."""
    path = sanitize(str(directory))
    free = shutil.disk_usage(existing(directory)).free
    if not directory.is_dir():
        text = f"{path} (does not exist yet), {size(free)} free"
    else:
        used, complete = folder_size(directory)
        text = f"{path}, {'' if complete else 'over '}{size(used)} used, {size(free)} free"
    if free < LOW_CACHE_BYTES:
        advice = "large models take up to 6 GB each: free some space, or set HF_HOME to another disk"
        return DoctorCheck("hub cache", "warn", text, advice)
    return DoctorCheck("hub cache", "ok", text)
