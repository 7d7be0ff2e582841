"""The checks of ``tui-lab doctor``. Each reports what was found and, where something is missing, what to do.
The network is used only with ``--online``; a token is never shown, only that there is one."""

from __future__ import annotations

import locale
import os
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tui_lab.core.paths import cache_dir, config_dir, data_dir, state_dir
from tui_lab.core.sanitize import sanitize
from tui_lab.doctor import folders, hub, logout, machine, packages, terminal
from tui_lab.doctor.check import DoctorCheck
from tui_lab.hardware import cuda_support
from tui_lab.models import catalog
from tui_lab.runs.folder import runs_dir

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
]

#: A check that has not run yet: its name, and the function that makes it (None: it does not apply here).
NamedCheck = tuple[str, Callable[[], DoctorCheck | None]]


#: Columns before the finding.
INDENT = 22


def iter_checks(
    online: bool = False, runs_directory: Path | None = None, more: Sequence[NamedCheck] = ()
) -> Iterator[DoctorCheck]:
    """Runs every check in order. ``more``: further checks of the caller, such as those of the user's
    files."""
    yield from terminal_checks()
    yield from machine_checks(online, runs_directory)
    yield from run_checks(more)


def run_checks(named: Sequence[NamedCheck]) -> Iterator[DoctorCheck]:
    """Runs checks in order; one that raises becomes a finding."""
    for name, check in named:
        yield from guarded(name, check)


def terminal_checks(ask: bool = True) -> Iterator[DoctorCheck]:
    """The checks of this terminal. ``ask``: measure its response time, which disturbs a program that draws on
    it."""
    env = os.environ
    encoding = (sys.__stdout__ and sys.__stdout__.encoding) or locale.getpreferredencoding(False)
    yield from run_checks(
        (
            ("colours", lambda: terminal.check_colours(env, not ask or sys.stdout.isatty())),
            ("glyphs", lambda: terminal.check_glyphs(env, encoding)),
            ("terminal size", lambda: terminal.check_size(*shutil.get_terminal_size())),
            ("line", lambda: terminal.check_line(env, terminal.ask_terminal(env) if ask else None)),
            ("multiplexer", lambda: terminal.check_multiplexer(env, terminal.ask_tmux(env))),
        )
    )


def machine_checks(online: bool = False, runs_directory: Path | None = None) -> Iterator[DoctorCheck]:
    """The machine and its software."""

    def runs() -> DoctorCheck:
        return folders.check_runs(runs_directory or runs_dir())

    def own() -> DoctorCheck:
        named = {"config": config_dir(), "data": data_dir(), "state": state_dir(), "cache": cache_dir()}
        return folders.check_own_folders(named)

    seen = cuda_support.survey()
    yield from run_checks(
        (
            ("Python", packages.check_python),
            ("packages", packages.check_packages),
            ("CPU", machine.check_cpu),
            ("GPU", lambda: machine.check_gpu(seen)),
            ("torch", lambda: packages.check_torch(seen)),
            ("GPU trial", lambda: packages.check_gpu_trial(seen.cards)),
            ("bitsandbytes", packages.check_bitsandbytes),
            ("hub", lambda: hub.check_hub(os.environ, online)),
            ("hub cache", lambda: hub.check_cache(catalog.hub_cache_dir())),
            ("runs folder", runs),
            ("own folders", own),
            ("logout", logout.check_logout),
            ("bundled model", machine.check_pocket),
        )
    )


def guarded(name: str, check: Callable[[], DoctorCheck | None]) -> Iterator[DoctorCheck]:
    """Runs one check; an exception (a missing library, an unmounted file system) becomes its finding."""
    try:
        found = check()
    except Exception as error:  # noqa: BLE001 (a check that fails in any way is a finding)
        reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        yield DoctorCheck(
            name, "fail", f"the check failed: {sanitize(reason)[:200]}", "reinstall tui-lab: `make setup`"
        )
        return
    if found is not None:
        yield found


def checks(
    online: bool = False, runs_directory: Path | None = None, more: Sequence[NamedCheck] = ()
) -> list[DoctorCheck]:
    """Every check at once."""
    return list(iter_checks(online, runs_directory, more))


def exit_code(found: list[DoctorCheck]) -> int:
    """1 when something makes training impossible, else 0."""
    return int(any(check.state == "fail" for check in found))


def to_do(found: list[DoctorCheck]) -> list[str]:
    """What to do, failures first; the hints of passed checks are left out."""
    return [
        f"{c.name}: {c.advice}" for state in ("fail", "warn") for c in found if c.state == state and c.advice
    ]


def line(check: DoctorCheck, width: int = 0) -> str:
    """One check as plain text, its advice under it, folded to ``width`` cells (0: not at all)."""
    texts = [f"{check.state:<4}  {check.name:<14}  {check.found}"]
    if check.advice:
        texts.append(f"{'':<22}→ {check.advice}")
    return "\n".join(folded for text in texts for folded in _fold(text, width, INDENT + 2 * (text[0] == " ")))


def _fold(text: str, width: int, indent: int) -> list[str]:
    if width <= indent + 20 or len(text) < width:
        return [text]
    begin = text[:indent]  # folding would collapse the blanks of the columns
    lines = textwrap.wrap(text[indent:], width - indent - 1, break_on_hyphens=False)
    return [begin + lines[0], *(" " * indent + rest for rest in lines[1:])]


def summary(found: list[DoctorCheck], width: int = 0) -> str:
    """The end of the report: what to do."""
    tasks = to_do(found)
    if not tasks:
        return "Nothing to do: this machine is ready. `tui-lab` opens the lab."
    ready = "Training is not possible yet:" if exit_code(found) else "Training works; this would help:"
    lines = (_fold(f"{number}. {task}", width, 3) for number, task in enumerate(tasks, 1))
    return "\n".join([ready, *(line for folded in lines for line in folded)])


def render(found: list[DoctorCheck]) -> str:
    """The whole report as plain text."""
    return "\n".join([*(line(check) for check in found), "", summary(found)])
