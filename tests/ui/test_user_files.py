"""Faults in the user's own files are named, one by one."""

from pathlib import Path

import pytest

from tui_lab.core.settings import FIELDS
from tui_lab.ui import user_files


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TUI_LAB_CONFIG_DIR", str(tmp_path))
    for each in FIELDS.values():
        monkeypatch.delenv(each.metadata["env"] or "TUI_LAB", raising=False)
    return tmp_path


def test_without_files_there_is_nothing_to_do(config: Path) -> None:
    found = [user_files.check_settings(), user_files.check_themes(), user_files.check_presets()]
    assert [(check.state, check.advice) for check in found] == [("ok", "")] * 3
    assert "does not exist" in found[0].found and "lab-dark" in found[1].found


def test_settings_and_keys(config: Path) -> None:
    (config / "settings.toml").write_text('colour = 1\nplots = "block"\n[keys]\n"train.stopp" = "g"\n')
    check = user_files.check_settings()
    assert (
        check.state == "warn" and "'colour' is not a setting" in check.found and "(and 1 more)" in check.found
    )
    assert str(config / "settings.toml") in check.advice
    (config / "settings.toml").write_text("plots = ")
    assert "cannot be read" in user_files.check_settings().found


def test_themes(config: Path) -> None:
    (config / "themes").mkdir()
    (config / "themes" / "mine.toml").write_text("[colors]\nprimary = 'no colour'\n")
    check = user_files.check_themes()
    assert check.state == "warn" and "mine.toml" in check.found and str(config / "themes") in check.advice
    (config / "themes" / "mine.toml").unlink()
    (config / "settings.toml").write_text('theme = "gone"')
    assert "'gone'" in user_files.check_themes().found


def test_presets(config: Path) -> None:
    (config / "presets").mkdir()
    (config / "presets" / "mine.toml").write_text('title = "x"\nlora_r = -1\n')
    check = user_files.check_presets()
    assert check.state == "warn" and "mine.toml" in check.found and "lora_r" in check.found
    (config / "presets" / "mine.toml").write_text("title = ")
    assert "mine" in user_files.check_presets().found and user_files.check_presets().state == "warn"


def test_a_folder_that_is_shut_is_named_and_the_rest_is_looked_at(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TUI_LAB_CONFIG_DIR", str(tmp_path / ("x" * 300)))  # no disk takes that name
    check = user_files.check_settings()
    assert check.state == "warn" and "cannot be read: File name too long" in check.found
    assert [user_files.check_themes().state, user_files.check_presets().state] == ["ok", "ok"]
