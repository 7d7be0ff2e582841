"""What this machine can do: the checks behind ``tui-lab doctor``. Each says what was found and, where
something is missing, what to do about it. Nothing is sent anywhere, unless the hub is asked for with
``--online``; a token is never shown, only that there is one. ``python -m tui_lab.doctor`` prints each
check as one line of JSON, which is how the lab asks."""

from __future__ import annotations

import json
import locale
import os
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from tui_lab.core.paths import cache_dir, config_dir, data_dir, state_dir
from tui_lab.core.sanitize import sanitize
from tui_lab.doctor import folders, hub, logout, machine, packages, terminal
from tui_lab.doctor.check import Check
from tui_lab.hardware import gpu
from tui_lab.models import catalog

__all__ = [
    "Check",
    "NamedCheck",
    "checks",
    "exit_code",
    "iter_checks",
    "line",
    "render",
    "run_checks",
    "summary",
    "to_do",
    "to_json",
]

#: A check that has not run yet: its name, and the function that makes it (None: it does not apply here).
NamedCheck = tuple[str, Callable[[], Check | None]]


#: Cells before what was found.
INDENT = 22


def iter_checks(
    online: bool = False, runs_directory: Path | None = None, more: Sequence[NamedCheck] = ()
) -> Iterator[Check]:
    """Every check, one by one, the slow ones (torch, bitsandbytes, the hub) when their turn comes.
    ``more``: the caller's own checks, made last (those of the user's files, which the interface reads)."""
    yield from terminal_checks()
    yield from machine_checks(online, runs_directory)
    yield from run_checks(more)


def run_checks(named: Sequence[NamedCheck]) -> Iterator[Check]:
    """Runs checks in order; one that raises becomes a finding."""
    for name, check in named:
        yield from guarded(name, check)


def terminal_checks(ask: bool = True) -> Iterator[Check]:
    """What concerns this terminal. ``ask``: measure how long it takes to answer, which whoever draws on it
    cannot have."""
    env = os.environ
    encoding = (sys.__stdout__ and sys.__stdout__.encoding) or locale.getpreferredencoding(False)
    yield from guarded("colours", lambda: terminal.check_colours(env, not ask or sys.stdout.isatty()))
    yield from guarded("glyphs", lambda: terminal.check_glyphs(env, encoding))
    yield from guarded("terminal size", lambda: terminal.check_size(*shutil.get_terminal_size()))
    yield from guarded("line", lambda: terminal.check_line(env, terminal.ask_terminal(env) if ask else None))
    yield from guarded("multiplexer", lambda: terminal.check_multiplexer(env, terminal.ask_tmux(env)))


def machine_checks(online: bool = False, runs_directory: Path | None = None) -> Iterator[Check]:
    """The machine and its software."""

    def runs() -> Check:
        from tui_lab.runs.folder import runs_dir

        return folders.check_runs(runs_directory or runs_dir())

    def own() -> Check:
        named = {"config": config_dir(), "data": data_dir(), "state": state_dir(), "cache": cache_dir()}
        return folders.check_own_folders(named)

    cards, driver = gpu.sample(), gpu.driver()
    for name, look in (
        ("Python", packages.check_python),
        ("packages", packages.check_packages),
        ("CPU", machine.check_cpu),
        ("GPU", lambda: machine.check_gpu(cards, driver)),
        ("torch", lambda: packages.check_torch(packages.ask_torch(), cards, driver)),
        ("bitsandbytes", lambda: packages.check_bitsandbytes(packages.ask_bitsandbytes())),
        ("hub", lambda: hub.check_hub(os.environ, online)),
        ("hub cache", lambda: hub.check_cache(catalog.hub_cache_dir())),
        ("runs folder", runs),
        ("own folders", own),
        ("logout", lambda: Check("logout", *logout.look())),
        ("bundled model", machine.check_pocket),
    ):
        yield from guarded(name, look)


def guarded(name: str, look: Callable[[], Check | None]) -> Iterator[Check]:
    """One check; whatever it raises (a missing library, a file system that is gone) is its finding."""
    try:
        found = look()
    except Exception as error:  # noqa: BLE001 (a check that fails in any way is a finding)
        what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        yield Check(
            name,
            "fail",
            f"cannot be looked at: {sanitize(what)[:200]}",
            "install tui-lab again: `make setup`",
        )
        return
    if found is not None:
        yield found


def checks(
    online: bool = False, runs_directory: Path | None = None, more: Sequence[NamedCheck] = ()
) -> list[Check]:
    """Every check at once."""
    return list(iter_checks(online, runs_directory, more))


def exit_code(found: list[Check]) -> int:
    """1 when something makes training impossible, else 0."""
    return int(any(check.state == "fail" for check in found))


def to_do(found: list[Check]) -> list[str]:
    """What to do, the worst first; mere hints of checks that are well are left out."""
    return [
        f"{c.name}: {c.advice}" for state in ("fail", "warn") for c in found if c.state == state and c.advice
    ]


def line(check: Check, width: int = 0) -> str:
    """One check as plain text, its advice under it, folded to ``width`` cells (0: not at all)."""
    texts = [f"{check.state:<4}  {check.name:<14}  {check.found}"]
    if check.advice:
        texts.append(f"{'':<22}→ {check.advice}")
    return "\n".join(folded for text in texts for folded in _fold(text, width, INDENT + 2 * (text[0] == " ")))


def _fold(text: str, width: int, indent: int) -> list[str]:
    if width <= indent + 20 or len(text) < width:
        return [text]
    begin = text[:indent]  # columns are wider than a blank: folding would squeeze them
    lines = textwrap.wrap(text[indent:], width - indent - 1, break_on_hyphens=False)
    return [begin + lines[0], *(" " * indent + rest for rest in lines[1:])]


def summary(found: list[Check], width: int = 0) -> str:
    """The end of the report: what to do."""
    things = to_do(found)
    if not things:
        return "Nothing to do: this machine is ready. `tui-lab` opens the lab."
    ready = "Training is not possible yet:" if exit_code(found) else "Training works; this would help:"
    lines = (_fold(f"{number}. {thing}", width, 3) for number, thing in enumerate(things, 1))
    return "\n".join([ready, *(line for folded in lines for line in folded)])


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
