"""What the login manager's files say of runs at logout, with systemd's own rules for which file counts."""

from __future__ import annotations

from pathlib import Path

import pytest

from tui_lab.doctor import logout

SESSION = "0::/user.slice/user-1000.slice/session-3.scope\n"
MANAGER = "0::/user.slice/user-1000.slice/user@1000.service/app.slice/run-r1.scope\n"
SERVICE = "0::/system.slice/cron.service\n"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for name in ("etc", "usr", "linger"):
        (tmp_path / name).mkdir()
    return tmp_path


def look(place: Path, cgroup: str = SESSION, user: str = "ann") -> str:
    (place / "cgroup").write_text(cgroup)
    configs = (place / "etc" / "logind.conf", place / "usr" / "logind.conf")
    check = logout.check_logout(configs, place / "linger", place / "cgroup", user)
    assert check.found and bool(check.advice) == (check.state == "warn")
    return check.state


def write(place: Path, name: str, text: str) -> None:
    path = place / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"[Login]\n{text}\n")


def test_without_a_login_manager_or_by_default_nothing_is_killed(place: Path) -> None:
    assert look(place) == "ok"
    write(place, "etc/logind.conf", "#KillUserProcesses=yes")
    assert look(place) == "ok"
    write(place, "etc/logind.conf", "KillUserProcesses=no")
    assert look(place) == "ok"


@pytest.mark.parametrize("word", ["yes", "true", "1", "on", "YES"])
def test_killing_warns_and_says_what_to_do(place: Path, word: str) -> None:
    write(place, "etc/logind.conf", f"KillUserProcesses = {word}")
    assert look(place) == "warn"


@pytest.mark.parametrize(
    ("cgroup", "lingers", "state"),
    [
        (SESSION, False, "warn"),
        (SESSION, True, "warn"),  # lingering keeps the manager, not what lies in the session's scope
        (MANAGER, False, "warn"),
        (MANAGER, True, "ok"),
        (SERVICE, False, "ok"),
    ],
)
def test_what_counts_is_where_processes_are_started(
    place: Path, cgroup: str, lingers: bool, state: str
) -> None:
    write(place, "etc/logind.conf", "KillUserProcesses=yes")
    if lingers:
        (place / "linger" / "ann").touch()
    assert look(place, cgroup) == state


def test_users_that_are_named_and_root(place: Path) -> None:
    write(place, "etc/logind.conf", "KillUserProcesses=yes")
    assert look(place, user="root") == "ok"
    write(place, "etc/logind.conf", "KillUserProcesses=yes\nKillExcludeUsers=bob ann")
    assert look(place) == "ok" and look(place, user="root") == "warn"
    write(place, "etc/logind.conf", "KillUserProcesses=yes\nKillOnlyUsers=bob")
    assert look(place) == "ok" and look(place, user="bob") == "warn"


def test_drop_ins_win_by_name_and_a_name_hides_its_like(place: Path) -> None:
    write(place, "usr/logind.conf", "KillUserProcesses=no")
    write(place, "usr/logind.conf.d/50-kill.conf", "KillUserProcesses=yes")
    assert look(place) == "warn"
    write(place, "etc/logind.conf.d/50-kill.conf", "")  # hides the vendor's
    assert look(place) == "ok"
    write(place, "etc/logind.conf.d/60-kill.conf", "KillUserProcesses=yes")
    assert look(place) == "warn"
