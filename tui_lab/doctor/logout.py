"""Whether runs outlive a logout. systemd's login manager can be told to end everything that was started in a
session once that is closed (``KillUserProcesses=yes``); a process session of its own and an ignored hang-up
do not help against that, a scope of the user's own manager does. Only files are read: nothing is asked of
the system.
"""

from __future__ import annotations

import getpass
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

#: Later files win; a file of the same name in an earlier folder hides one in a later folder.
CONFIGS = (
    Path("/etc/systemd/logind.conf"),
    Path("/run/systemd/logind.conf"),
    Path("/usr/local/lib/systemd/logind.conf"),
    Path("/usr/lib/systemd/logind.conf"),
)
#: What is started in a session belongs to its control group.
CGROUP = Path("/proc/self/cgroup")
LINGER = Path("/var/lib/systemd/linger")
_SETTING = re.compile(r"^\s*(KillUserProcesses|KillOnlyUsers|KillExcludeUsers)\s*=\s*(.*?)\s*$")
_YES = ("1", "yes", "y", "true", "t", "on")


def files_of(configs: Sequence[Path]) -> list[Path]:
    """The files that count, in the order in which they are read: the first main file there is, then the
    drop-ins of all by name."""
    main = next(([path] for path in configs if path.is_file()), [])
    drop_ins: dict[str, Path] = {}
    for path in configs:
        for drop_in in sorted(path.with_name(path.name + ".d").glob("*.conf")):
            drop_ins.setdefault(drop_in.name, drop_in)
    return main + [drop_ins[name] for name in sorted(drop_ins)]


def settings(files: Sequence[Path]) -> dict[str, str]:
    """What the files say of killing, the last word counting; a file that cannot be read says nothing."""
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


def is_killed(found: dict[str, str], user: str) -> bool:
    """Whether logging out ends what ``user`` has started (root is spared unless it is named)."""
    if found.get("KillUserProcesses", "no").lower() not in _YES:
        return False
    only = found.get("KillOnlyUsers", "").split()
    if user in found.get("KillExcludeUsers", "root").split():
        return False
    return not only or user in only


def dies_with_the_session(cgroup: str, lingers: bool) -> bool:
    """Whether what is started from here is ended, where logging out ends processes: those in the session's
    own scope are, whether or not the user lingers; those of the user's manager are once that goes, which
    lingering keeps; what is outside of both (a service, a container) is not."""
    if re.search(r"/session-[^/]*\.scope", cgroup):
        return True
    return "/user@" in cgroup and not lingers


def look(
    configs: Sequence[Path] = CONFIGS,
    linger: Path = LINGER,
    cgroup: Path = CGROUP,
    user: str | None = None,
) -> tuple[Literal["ok", "warn"], str, str]:
    """State, what was found and what to do, as a check of the doctor has them."""
    if user is None:
        try:
            user = getpass.getuser()
        except (KeyError, OSError):
            user = str(os.getuid())
    files = files_of(configs)
    if not files:
        return "ok", "no systemd login manager: nothing ends a run at logout", ""
    if not is_killed(settings(files), user):
        return "ok", "the login manager lets runs go on after a logout", ""
    try:
        place = cgroup.read_text(encoding="utf-8", errors="replace")
    except OSError:
        place = "/session-unknown.scope"
    if not dies_with_the_session(place, (linger / user).exists()):
        return "ok", "the login manager ends a session's processes at logout, but runs started here go on", ""
    return (
        "warn",
        "the login manager ends a session's processes at logout (KillUserProcesses=yes): runs die with it",
        "`loginctl enable-linger`, then `systemd-run --user --scope tui-lab`: runs of such a lab go on",
    )
