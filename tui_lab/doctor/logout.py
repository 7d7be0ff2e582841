"""Whether runs survive a logout. systemd's login manager can be configured to end every process of a session
when it is closed (``KillUserProcesses=yes``). A process session of its own and ignoring SIGHUP do not prevent
that; a scope of the user's own manager does. The check only reads files."""

from __future__ import annotations

import getpass
import os
import re
from collections.abc import Sequence
from pathlib import Path

from tui_lab.doctor.check import DoctorCheck

#: A drop-in hides one of the same name in a later folder; of the others later names override earlier ones.
CONFIGS = (
    Path("/etc/systemd/logind.conf"),
    Path("/run/systemd/logind.conf"),
    Path("/usr/local/lib/systemd/logind.conf"),
    Path("/usr/lib/systemd/logind.conf"),
)
#: The control group of this process, which its children inherit.
CGROUP = Path("/proc/self/cgroup")
LINGER = Path("/var/lib/systemd/linger")
_SETTING = re.compile(r"^\s*(KillUserProcesses|KillOnlyUsers|KillExcludeUsers)\s*=\s*(.*?)\s*$")
_YES = ("1", "yes", "y", "true", "t", "on")


def config_files(configs: Sequence[Path]) -> list[Path]:
    """The files that apply, in reading order: the first main file that exists, then all drop-ins by name."""
    main = next(([path] for path in configs if path.is_file()), [])
    drop_ins: dict[str, Path] = {}
    for path in configs:
        for drop_in in sorted(path.with_name(path.name + ".d").glob("*.conf")):
            drop_ins.setdefault(drop_in.name, drop_in)
    return main + [drop_ins[name] for name in sorted(drop_ins)]


def kill_settings(files: Sequence[Path]) -> dict[str, str]:
    """The settings about killing processes; later files override earlier ones, unreadable ones are
    skipped."""
    found: dict[str, str] = {}
    for path in files:
        try:
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            continue
        for line in lines:
            if match := _SETTING.match(line):
                found[match[1]] = match[2]
    return found


def ends_processes(found: dict[str, str], user: str) -> bool:
    """Whether a logout ends the processes of ``user`` (root is excluded by default)."""
    if found.get("KillUserProcesses", "no").lower() not in _YES:
        return False
    only = found.get("KillOnlyUsers", "").split()
    if user in found.get("KillExcludeUsers", "root").split():
        return False
    return not only or user in only


def ends_with_session(cgroup: str, lingers: bool) -> bool:
    """Whether a child of this process ends at logout, where logouts end processes. Processes in the scope of
    the session do, even when the user lingers; processes of the user's manager do unless the user lingers;
    processes outside of both (a service, a container) do not."""
    if re.search(r"/session-[^/]*\.scope", cgroup):
        return True
    return "/user@" in cgroup and not lingers


def check_logout(
    configs: Sequence[Path] = CONFIGS, linger: Path = LINGER, cgroup: Path = CGROUP, user: str | None = None
) -> DoctorCheck:
    """Whether runs that are started from here survive a logout."""
    if user is None:
        try:
            user = getpass.getuser()
        except (KeyError, OSError):
            user = str(os.getuid())
    files = config_files(configs)
    if not files:
        return DoctorCheck("logout", "ok", "no systemd login manager: a logout ends no run")
    if not ends_processes(kill_settings(files), user):
        return DoctorCheck("logout", "ok", "runs continue after a logout")
    try:
        group = cgroup.read_text(encoding="utf-8", errors="replace")
    except OSError:
        group = "/session-unknown.scope"
    if not ends_with_session(group, (linger / user).exists()):
        return DoctorCheck(
            "logout", "ok", "a logout ends the processes of a session, but not runs that are started here"
        )
    return DoctorCheck(
        "logout",
        "warn",
        "a logout ends all processes of a session, runs too (KillUserProcesses=yes)",
        "`loginctl enable-linger`, then `systemd-run --user --scope tui-lab`: runs of that lab continue",
    )
