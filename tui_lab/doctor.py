"""What this machine can do: the checks behind ``tui-lab doctor``. Each check says what was found and, where
something is missing, what to do about it. torch and bitsandbytes are asked in a short child process, so
that a broken installation of either is a line of the report and not a crash of it. Nothing is sent
anywhere, unless the hub is asked for with ``--online``; a token is never shown, only that there is one.
"""

from __future__ import annotations

import json
import locale
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from tui_lab import catalog, doctor_logout, gpu
from tui_lab.safe_text import visible

State = Literal["ok", "warn", "fail"]

#: Importing torch from a cold disk takes tens of seconds; longer than this is a hang.
CHILD_TIMEOUT_S = 180
HUB_TIMEOUT_S = 30
#: Walking a large cache is cut off here; the size then reads "over".
WALK_LIMIT_S = 3.0
#: A run of the bundled model leaves a few megabytes, checkpoints of a 3 B adapter a few hundred.
LITTLE_FREE_BYTES = 2_000_000_000
NO_FREE_BYTES = 100_000_000
#: The weights of the catalog's larger models take about 5 GB in bfloat16.
LITTLE_CACHE_BYTES = 10_000_000_000
SMALLEST_TERMINAL = (80, 24)

#: Without these no run can start; bitsandbytes is needed only for NF4 and the 8-bit optimisers.
NEEDED = ("torch", "transformers", "trl", "peft", "accelerate", "datasets")
WANTED = ("bitsandbytes", "textual", "plotext", "nvidia-ml-py", "psutil", "pydantic")


@dataclass(frozen=True)
class Check:
    """One finding. ``advice`` is what to do; empty when there is nothing to do."""

    name: str
    state: State
    found: str
    advice: str = ""


def _gb(size: float) -> str:
    if size >= 1e9:
        return f"{size / 1e9:.1f} GB"
    return f"{size / 1e6:.0f} MB"


# --------------------------------------------------------------------------------------------------
# Python and packages


def check_python(version: tuple[int, ...] = sys.version_info[:3]) -> Check:
    text = f"{'.'.join(map(str, version))} on {platform.system()} {platform.machine()}"
    if version < (3, 11):
        return Check("Python", "fail", text, "install Python 3.11 or later")
    return Check("Python", "ok", text)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _bounds() -> dict[str, str]:
    """Package → the versions that this installation of tui-lab asks for; empty in a bare checkout."""
    try:
        lines = metadata.requires("tui-lab") or []
    except metadata.PackageNotFoundError:
        return {}
    found = {}
    for line in lines:
        match = re.match(r"([A-Za-z0-9_.-]+)\s*([^;]*)", line)
        if match and "extra ==" not in line:
            found[match[1].lower()] = match[2].strip()
    return found


def check_packages() -> Check:
    """Versions of the libraries that do the work, against those that this release was made for."""
    versions = {name: _version(name) for name in (*NEEDED, *WANTED)}
    found = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    missing = [name for name in NEEDED if not versions[name]]
    if missing:
        return Check(
            "packages",
            "fail",
            f"{', '.join(missing)} missing; {found}",
            "install tui-lab again: `make setup`",
        )
    from packaging.specifiers import SpecifierSet

    bounds = _bounds()
    odd = [
        f"{name} {version} (made for {bounds[name]})"
        for name, version in versions.items()
        if version and bounds.get(name) and not SpecifierSet(bounds[name]).contains(version, prereleases=True)
    ]
    absent = [name for name in WANTED if not versions[name]]
    if odd or absent:
        what = [*odd, *(f"{name} missing" for name in absent)]
        return Check(
            "packages", "warn", f"{', '.join(what)}; {found}", "install the versions of constraints.txt"
        )
    return Check("packages", "ok", found)


# --------------------------------------------------------------------------------------------------
# machine


def check_cpu() -> Check:
    import psutil

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    free = psutil.virtual_memory().available
    text = f"{cores} cores, {_gb(free)} memory free"
    if free < 1_500_000_000:
        return Check(
            "CPU", "warn", text, "close other programs: a run of the bundled model needs about 1.5 GB"
        )
    return Check("CPU", "ok", text)


def check_gpu(cards: list[gpu.Gpu], driver: gpu.Driver | None) -> Check:
    if not cards:
        found = f"none (driver {driver.version})" if driver else "none found (no NVIDIA driver answers)"
        advice = "runs go on the CPU: enough for the bundled model; models of real size need an NVIDIA GPU"
        return Check("GPU", "warn", found, advice)
    parts = []
    for card in cards:
        memory = f", {_gb(card.memory_total_bytes)}" if card.memory_total_bytes else ""
        capability = ".".join(map(str, card.compute_capability)) if card.compute_capability else "unknown"
        bf16 = {True: "bf16", False: "no bf16", None: "bf16 unknown"}[card.bf16]
        parts.append(f"{card.name}{memory}, compute capability {capability}, {bf16}")
    text = "; ".join(parts) + (f"; driver {driver.version}" if driver and driver.version else "")
    if any(card.bf16 is False for card in cards):
        advice = (
            "compute in float32 or float16: bfloat16 needs compute capability 8.0 (the lab chooses by itself)"
        )
        return Check("GPU", "ok", text, advice)
    return Check("GPU", "ok", text)


# --------------------------------------------------------------------------------------------------
# torch and bitsandbytes, in a child

_TORCH_CHILD = """
import json, torch
cuda = torch.cuda.is_available()
print(json.dumps({"version": torch.__version__, "cuda_build": torch.version.cuda, "cuda": cuda,
    "devices": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if cuda else [],
    "bf16": bool(cuda and torch.cuda.is_bf16_supported()), "threads": torch.get_num_threads()}))
"""

# really 4-bit: quantise, look at the bytes, come back close
_BNB_CHILD = """
import json, torch
import bitsandbytes as bnb
from bitsandbytes.functional import dequantize_4bit, quantize_4bit
done = {"version": bnb.__version__}
for device in ["cpu"] + (["cuda"] if torch.cuda.is_available() else []):
    torch.manual_seed(0)
    weights = torch.randn(64, 64, device=device)
    packed, state = quantize_4bit(weights, quant_type="nf4", compress_statistics=True)
    error = (dequantize_4bit(packed, state) - weights).abs().mean().item()
    done[device] = packed.numel() * packed.element_size() == 64 * 64 // 2 and error < 0.15
print(json.dumps(done))
"""


def _child(code: str, timeout_s: float, environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """What a Python child prints as JSON on its last line; ``{"error": sentence}`` otherwise."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=timeout_s,
            env={**os.environ, **(environment or {})},
        )
    except subprocess.TimeoutExpired:
        return {"error": f"no answer within {timeout_s:g} s"}
    except OSError as error:
        return {"error": f"cannot start Python ({error.strerror})"}
    lines = done.stdout.decode("utf-8", "replace").strip().splitlines()
    try:
        if done.returncode == 0:
            answer = json.loads(lines[-1])
            if isinstance(answer, dict):
                return answer
    except (IndexError, ValueError):
        pass
    if done.returncode < 0:
        return {"error": f"it crashed (signal {-done.returncode})"}
    words = done.stderr.decode("utf-8", "replace").strip().splitlines()
    return {"error": visible(words[-1])[:300] if words else "it ended without a word"}


def ask_torch() -> dict[str, Any]:
    """Version, CUDA build, devices; in a child, since importing torch takes seconds and can crash."""
    return _child(_TORCH_CHILD, CHILD_TIMEOUT_S)


def ask_bitsandbytes() -> dict[str, Any]:
    """Whether NF4 really packs and unpacks, on the CPU and on the GPU."""
    return _child(_BNB_CHILD, CHILD_TIMEOUT_S)


def check_torch(answer: Mapping[str, Any], cards: list[gpu.Gpu], driver: gpu.Driver | None) -> Check:
    """torch's CUDA build against the driver."""
    if "error" in answer:
        return Check(
            "torch", "fail", f"cannot be used: {answer['error']}", "install tui-lab again: `make setup`"
        )
    build = answer.get("cuda_build")
    text = f"{answer.get('version')}, " + (f"built for CUDA {build}" if build else "built without CUDA")
    if answer.get("cuda"):
        devices = ", ".join(visible(str(name)) for name in answer.get("devices", []))
        bf16 = "bf16" if answer.get("bf16") else "no bf16"
        return Check("torch", "ok", f"{text}, uses {devices} ({bf16})")
    text += f", on the CPU with {answer.get('threads')} threads"
    if not cards:
        return Check("torch", "ok", text)
    if not build:
        return Check(
            "torch", "warn", text, "there is a GPU that this torch cannot use: install a CUDA build of torch"
        )
    # within one major version newer builds run on older drivers
    if driver and driver.cuda and int(str(build).partition(".")[0]) > driver.cuda[0]:
        runs = f"{driver.cuda[0]}.{driver.cuda[1]}"
        advice = (
            f"the driver runs CUDA up to {runs}, torch was built for {build}: "
            f"update the driver, or install torch built for CUDA {runs} or older"
        )
        return Check("torch", "warn", f"{text}; driver for CUDA {runs}", advice)
    advice = "torch does not see the GPU: look at CUDA_VISIBLE_DEVICES and at the container's rights"
    return Check("torch", "warn", text, advice)


def check_bitsandbytes(answer: Mapping[str, Any]) -> Check:
    without = "use quantization = 'none' and a plain optimiser, or install it again"
    if "error" in answer:
        return Check("bitsandbytes", "warn", f"cannot be used: {answer['error']}", without)
    devices = [name for name in ("cpu", "cuda") if name in answer]
    bad = [name for name in devices if not answer[name]]
    if bad or not devices:
        return Check(
            "bitsandbytes", "warn", f"{answer.get('version')}, NF4 is wrong on {', '.join(bad)}", without
        )
    return Check("bitsandbytes", "ok", f"{answer.get('version')}, NF4 works on {' and '.join(devices)}")


# --------------------------------------------------------------------------------------------------
# terminal


def check_colours(environment: Mapping[str, str], is_terminal: bool) -> Check:
    term = environment.get("TERM", "")
    where = "" if is_terminal else " (the output is not a terminal now)"
    if environment.get("NO_COLOR"):
        return Check("colours", "ok", f"switched off by NO_COLOR{where}", "unset NO_COLOR to see colours")
    if term in ("", "dumb", "unknown"):
        state: State = "warn" if is_terminal else "ok"
        return Check(
            "colours", state, f"TERM={term or '(unset)'}{where}", "set TERM, such as TERM=xterm-256color"
        )
    if environment.get("COLORTERM", "").lower() in ("truecolor", "24bit") or "direct" in term:
        return Check("colours", "ok", f"16.7 million (TERM={term}){where}")
    if "256color" in term or term in ("xterm-kitty", "alacritty", "xterm-ghostty"):
        advice = "if the terminal has true colour, set COLORTERM=truecolor"
        if term.startswith(("screen", "tmux")):
            advice += " (in tmux also: set -as terminal-features ',*:RGB')"
        return Check("colours", "ok", f"256 (TERM={term}){where}", advice)
    advice = "set TERM=xterm-256color if the terminal has more colours"
    return Check("colours", "warn", f"8 or 16 (TERM={visible(term)}){where}", advice)


def check_glyphs(environment: Mapping[str, str], encoding: str) -> Check:
    """Whether the text that charts are drawn with can be shown: braille dots and block elements."""
    if encoding.replace("-", "").lower() not in ("utf8", "utf16", "utf32"):
        return Check(
            "glyphs", "warn", f"encoding {encoding}", "charts need UTF-8: set LANG=C.UTF-8 (or en_US.UTF-8)"
        )
    if environment.get("TERM") == "linux":
        advice = "the text console has no braille: charts look poor here; use a terminal emulator or SSH"
        return Check("glyphs", "warn", "UTF-8, on the Linux console", advice)
    advice = "if ⡇⣿⠿ show as boxes or blanks, choose a font with braille, such as DejaVu Sans Mono"
    return Check("glyphs", "ok", "UTF-8; charts use ⡇⣿⠿ and █▄░", advice)


def check_size(columns: int, lines: int) -> Check:
    text = f"{columns} × {lines}"
    if columns < SMALLEST_TERMINAL[0] or lines < SMALLEST_TERMINAL[1]:
        return Check("terminal size", "warn", text, "enlarge the window to 80 × 24 or more")
    return Check("terminal size", "ok", text)


# --------------------------------------------------------------------------------------------------
# hub


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
    answer = _child(_HUB_CHILD, HUB_TIMEOUT_S)
    if "error" in answer:
        advice = "look at the network and the proxy; cached, local and bundled models work without the hub"
        return Check("hub", "warn", f"no answer: {answer['error']}; {has}", advice)
    return Check("hub", "ok", f"answers in {time.perf_counter() - start:.1f} s, {has}", gated)


# --------------------------------------------------------------------------------------------------
# disk


def _existing(path: Path) -> Path:
    """The path, or the nearest folder above it that exists."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


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
    shown = visible(str(directory))
    free = shutil.disk_usage(_existing(directory)).free
    if not directory.is_dir():
        text = f"{shown} (not there yet), {_gb(free)} free"
    else:
        size, whole = folder_size(directory)
        text = f"{shown}, {'' if whole else 'over '}{_gb(size)} used, {_gb(free)} free"
    if free < LITTLE_CACHE_BYTES:
        advice = "models of real size take up to 6 GB each: free some, or point HF_HOME to another disk"
        return Check("hub cache", "warn", text, advice)
    return Check("hub cache", "ok", text)


def _cannot_write(directory: Path) -> str | None:
    """Why files cannot be made there; None when they can."""
    if not directory.exists():
        parent = _existing(directory)
        if parent.is_dir() and os.access(parent, os.W_OK | os.X_OK):
            return None
        return f"{visible(str(parent))} cannot be written"
    try:
        with tempfile.TemporaryFile(dir=directory):
            return None
    except OSError as error:
        return error.strerror or str(error)


def check_runs(directory: Path) -> Check:
    """Whether a run's folder can be made, and the room for it."""
    shown = visible(str(directory))
    if reason := _cannot_write(directory):
        advice = "name another folder with --runs-dir or TUI_LAB_RUNS_DIR"
        return Check("runs folder", "fail", f"{shown}: {reason}", advice)
    free = shutil.disk_usage(_existing(directory)).free
    text = f"{shown}, {_gb(free)} free"
    if free < NO_FREE_BYTES:
        return Check("runs folder", "fail", text, "free some disk: a run needs at least 100 MB")
    if free < LITTLE_FREE_BYTES:
        return Check("runs folder", "warn", text, "free some disk: checkpoints of larger models fill it")
    return Check("runs folder", "ok", text)


def check_pocket() -> Check:
    entry = catalog.pocket()
    if entry.refused:
        return Check("bundled model", "warn", "missing or damaged", entry.refused)
    return Check(
        "bundled model", "ok", f"{(entry.parameters or 0) / 1e6:.2f} M parameters, {entry.context} tokens"
    )


# --------------------------------------------------------------------------------------------------
# all of it


def iter_checks(online: bool = False, runs_directory: Path | None = None) -> Iterator[Check]:
    """Every check, one by one, the slow ones (torch, bitsandbytes, the hub) when their turn comes."""
    from tui_lab.runs.folder import runs_dir

    cards, driver = gpu.sample(), gpu.driver()
    yield check_python()
    yield check_packages()
    yield check_cpu()
    yield check_gpu(cards, driver)
    yield check_torch(ask_torch(), cards, driver)
    yield check_bitsandbytes(ask_bitsandbytes())
    yield check_colours(os.environ, sys.stdout.isatty())
    yield check_glyphs(os.environ, sys.stdout.encoding or locale.getpreferredencoding(False))
    yield check_size(*shutil.get_terminal_size())
    yield check_hub(os.environ, online)
    yield check_cache(catalog.hub_cache_dir())
    yield check_runs(runs_directory or runs_dir())
    yield Check("logout", *doctor_logout.look())
    yield check_pocket()


def checks(online: bool = False, runs_directory: Path | None = None) -> list[Check]:
    """Every check at once."""
    return list(iter_checks(online, runs_directory))


def exit_code(found: list[Check]) -> int:
    """1 when something makes training impossible, else 0."""
    return int(any(check.state == "fail" for check in found))


def to_do(found: list[Check]) -> list[str]:
    """What to do, the worst first; mere hints of checks that are well are left out."""
    return [
        f"{c.name}: {c.advice}" for state in ("fail", "warn") for c in found if c.state == state and c.advice
    ]


def line(check: Check) -> str:
    """One check as a line of plain text, its advice under it."""
    text = f"{check.state:<4}  {check.name:<14}  {check.found}"
    return f"{text}\n{'':<22}→ {check.advice}" if check.advice else text


def summary(found: list[Check]) -> str:
    """The end of the report: what to do."""
    things = to_do(found)
    if not things:
        return "Nothing to do: this machine is ready."
    ready = "Training is not possible yet." if exit_code(found) else "Training works; this would help:"
    return "\n".join([ready, *(f"{number}. {thing}" for number, thing in enumerate(things, 1))])


def render(found: list[Check]) -> str:
    """The whole report as plain text."""
    return "\n".join([*(line(check) for check in found), "", summary(found)])


def to_json(found: list[Check]) -> str:
    """The whole report for scripts."""
    return json.dumps(
        {
            "v": 1,
            "checks": [asdict(check) for check in found],
            "to_do": to_do(found),
            "exit_code": exit_code(found),
        },
        ensure_ascii=False,
    )
